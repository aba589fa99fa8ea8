//! The door: seats in all, from one address and of one tenant.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::seats::Whose;
use super::{Account, Address, Config, Refusal, Seat, Seats, Tenant};

/// Groups that nobody is in any more are forgotten when there are twice as many as after the last time, and not before
/// there are so many.
const GROUPS_KEPT: usize = 1_024;

/// Gives connections their seats.
pub(super) struct Door {
    house: Arc<Seats>,
    /// Those of whom nothing more is told apart.
    everybody: Arc<Seats>,
    tells_addresses: AtomicBool,
    groups: Mutex<Groups>,
}

/// As many as there are connections, at most, and what is not forgotten yet.
#[derive(Default)]
struct Groups {
    addresses: HashMap<Address, Arc<Seats>>,
    groups: HashMap<Whose, Arc<Seats>>,
    forget_at: usize,
    per_address_max: usize,
}

impl Door {
    pub(super) fn new(config: &Config, house: &Arc<Seats>) -> Self {
        let door = Self {
            house: Arc::clone(house),
            everybody: Seats::within(usize::MAX, Refusal::HouseFull, [Arc::clone(house)]),
            tells_addresses: AtomicBool::new(false),
            groups: Mutex::default(),
        };
        door.follow(config);
        door
    }

    /// Other limits are in force. Whoever came while addresses were not told apart is of no address as long as it stays.
    pub(super) fn follow(&self, config: &Config) {
        let mut groups = self.groups();
        groups.per_address_max = if_limited(config.connections_per_address_max);
        groups.addresses.values().for_each(|seats| seats.set_max(groups.per_address_max));
        let tells = config.connections_per_address_max > 0 || config.calls_per_minute_per_address > 0;
        self.tells_addresses.store(tells, Ordering::Relaxed);
    }

    /// A seat for one who has just come from there, and of whom nothing more is known.
    pub(super) fn admit(&self, from: IpAddr) -> Result<Seat, Refusal> {
        if self.tells_addresses.load(Ordering::Relaxed) {
            self.group(Whose { address: Some(from.into()), tenant: None }, None).try_take()
        } else {
            self.everybody.try_take()
        }
    }

    /// It is known now on whose account the one in that seat is here.
    pub(super) fn tell_tenant(&self, seat: &mut Seat, tenant: Tenant, account: &Account) -> Result<(), Refusal> {
        let whose = Whose { address: seat.address(), tenant: Some(tenant) };
        if whose == seat.seats.whose { Ok(()) } else { seat.move_to(self.group(whose, Some(&account.connections))) }
    }

    fn group(&self, whose: Whose, tenant: Option<&Arc<Seats>>) -> Arc<Seats> {
        let mut groups = self.groups();
        if let Some(group) = groups.groups.get(&whose) {
            return Arc::clone(group);
        }
        groups.forget();
        let per_address_max = groups.per_address_max;
        let address = whose.address.map(|address| {
            let new = || Seats::within(per_address_max, Refusal::AddressFull, []);
            Arc::clone(groups.addresses.entry(address).or_insert_with(new))
        });
        let above: Vec<_> = [Some(Arc::clone(&self.house)), address, tenant.cloned()].into_iter().flatten().collect();
        let group = Seats::shared_by(whose, usize::MAX, Refusal::HouseFull, above);
        groups.groups.insert(whose, Arc::clone(&group));
        group
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most that a knob says, for which 0 is no limit.
pub(super) const fn if_limited(most: usize) -> usize {
    if most == 0 { usize::MAX } else { most }
}

impl Groups {
    fn forget(&mut self) {
        fn is_known(seats: &Arc<Seats>) -> bool {
            seats.taken() > 0 || Arc::strong_count(seats) > 1
        }
        if self.groups.len() >= self.forget_at.max(GROUPS_KEPT) {
            retain(&mut self.groups, is_known);
            retain(&mut self.addresses, is_known);
            self.forget_at = 2 * self.groups.len();
        }
    }
}

fn retain<K: Eq + Hash>(map: &mut HashMap<K, Arc<Seats>>, keep: fn(&Arc<Seats>) -> bool) {
    map.retain(|_, seats| keep(seats));
    map.shrink_to(2 * map.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Plan;

    fn door(seats: usize, per_address: usize) -> (Door, Arc<Seats>) {
        let house = Seats::new(seats);
        let config = Config { connections_per_address_max: per_address, ..Config::default() };
        (Door::new(&config, &house), house)
    }

    fn from(host: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + host).into()
    }

    #[test]
    fn one_address_has_so_many_seats_and_the_others_theirs() {
        for n in [1, 2, 50] {
            let (door, house) = door(1_000, n);
            let mut held: Vec<Seat> = (0..n).map_while(|_| door.admit(from(1)).ok()).collect();
            assert_eq!(held.len(), n);
            assert_eq!(door.admit(from(1)).err(), Some(Refusal::AddressFull), "seat {n} + 1");
            assert!(door.admit(from(2)).is_ok());
            assert_eq!(house.taken(), n, "a refusal holds nothing");
            held.pop();
            assert!(door.admit(from(1)).is_ok(), "a seat that was freed is a seat");
        }
    }

    #[test]
    fn one_tenant_has_so_many_seats_also_when_the_house_is_full() {
        let (door, house) = door(4, 0);
        let plan = Plan { tenant_connections_max: 2, ..Plan::default() };
        let account = Account::new("gold", &plan, &Seats::new(9), None);
        let anybody = Account::new("", &Plan::default(), &Seats::new(9), None);
        let mut seats: Vec<Seat> = (0..4).map(|_| door.admit(from(1)).expect("room")).collect();
        let told = seats.iter_mut().map(|seat| door.tell_tenant(seat, Tenant(1), &account));
        assert_eq!(told.collect::<Vec<_>>(), [Ok(()), Ok(()), Err(Refusal::TenantFull), Err(Refusal::TenantFull)]);
        assert_eq!(door.tell_tenant(&mut seats[0], Tenant(1), &account), Ok(()), "it is counted once");
        assert_eq!(house.taken(), 4);
        door.tell_tenant(&mut seats[0], Tenant(0), &anybody).expect("it is another's now");
        door.tell_tenant(&mut seats[2], Tenant(1), &account).expect("the seat is free");
        drop(seats);
        assert_eq!((house.taken(), account.connections.taken()), (0, 0));
    }

    #[test]
    fn addresses_that_nobody_comes_from_any_more_are_forgotten() {
        let (door, _) = door(10_000, 1);
        let stays = door.admit(from(0)).expect("room");
        for host in 1..20 * GROUPS_KEPT as u32 {
            drop(door.admit(from(host)).expect("room"));
        }
        let groups = door.groups.lock().expect("nobody panicked");
        assert!(groups.groups.len() <= GROUPS_KEPT && groups.addresses.len() <= GROUPS_KEPT);
        drop(groups);
        assert_eq!(door.admit(from(0)).err(), Some(Refusal::AddressFull), "one that is in is known");
        drop(stays);
    }
}
