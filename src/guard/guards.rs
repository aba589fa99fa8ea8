//! All guards of one house, and what they know.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::door::Door;
use super::rate::Noted;
use super::tenant::{Roster, TooManyTenants};
use super::{Accounts, Config, Debtor, Debts, Hold, Lapse, Pressure, Rate, Refusal, Rules, Seat, Seats, Tenant, Zone};
use crate::meter::Tally;

/// Shared by all shards.
pub struct Guards {
    /// Who has used up which rate.
    pub debts: Debts,
    /// Sessions over HTTP.
    pub sessions: Arc<Seats>,
    /// Why somebody passed unchecked.
    pub lapses: Tally<Lapse>,
    door: Door,
    rules: ArcSwap<Rules>,
    /// Whether any plan limits bytes: most do not, and each message asks.
    pub(super) weighs: AtomicBool,
    outbox_bytes: AtomicUsize,
    /// The house's places for calls that wait.
    in_flight: Arc<Seats>,
    began: Instant,
}

impl Guards {
    /// `seats` are the house's for connections, `in_flight` those for calls that wait.
    #[must_use]
    pub fn new(config: &Config, roster: Roster, seats: &Arc<Seats>, in_flight: &Arc<Seats>) -> Self {
        let rules = Rules::new(config, Accounts::new(roster, in_flight));
        Self {
            weighs: AtomicBool::new(rules.accounts.weigh()),
            rules: ArcSwap::from_pointee(rules),
            debts: Debts::new(config.debtors_max),
            sessions: Seats::within(config.sessions_max, Refusal::SessionsFull, []),
            lapses: Tally::new(),
            door: Door::new(config, seats),
            outbox_bytes: AtomicUsize::new(0),
            in_flight: Arc::clone(in_flight),
            began: Instant::now(),
        }
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> arc_swap::Guard<Arc<Rules>> {
        self.rules.load()
    }

    /// Puts other limits and other tenants in force, from the next arrival, message and call on. Whoever is in stays in,
    /// also where there are more than there may be now. `guard.debtors_max` stays as it was. Not to be called by two at once.
    ///
    /// Returns the tenants that are no more: for those of their clients who are in, the plan of everybody holds.
    ///
    /// # Errors
    /// When more tenants have been there than have a number. Nothing is changed then.
    pub fn follow(&self, config: &Config, roster: Roster) -> Result<Vec<String>, TooManyTenants> {
        let (accounts, gone) = self.rules().accounts.follow(roster, &self.in_flight)?;
        self.weighs.store(accounts.weigh(), Ordering::Relaxed);
        self.sessions.set_max(config.sessions_max);
        self.door.follow(config);
        self.rules.store(Arc::new(Rules::new(config, accounts)));
        Ok(gone)
    }

    /// What an arrival meets, in this order: the zone of the house, seats in all, seats for its address, the rate of
    /// arrivals.
    ///
    /// # Errors
    /// The first that is in the way.
    pub fn admit(&self, from: IpAddr, pressure: &Pressure) -> Result<Seat, Refusal> {
        self.admit_at(from, pressure, || self.now())
    }

    fn admit_at(&self, from: IpAddr, pressure: &Pressure, now: impl FnOnce() -> Duration) -> Result<Seat, Refusal> {
        if pressure.house() >= Zone::Critical {
            return Err(Refusal::Critical);
        }
        let seat = self.door.admit(from)?;
        match self.rules().arrivals {
            Some(rate) if self.note(Debtor::Arrivals, rate, 1, now()).is_err() => Err(Refusal::TooManyArrivals),
            _ => Ok(seat),
        }
    }

    /// It is known now on whose account the one in that seat is here; until the next time this is said.
    ///
    /// # Errors
    /// When that tenant has no seat left.
    pub fn tell_tenant(&self, seat: &mut Seat, tenant: Tenant) -> Result<(), Refusal> {
        self.door.tell_tenant(seat, tenant, self.rules().accounts.of(tenant))
    }

    /// What a session that is to be opened meets: the zone of the house, seats in all, seats for its tenant. What it takes
    /// is freed by [`Self::end_session`].
    ///
    /// # Errors
    /// The first that is in the way.
    pub fn open_session(&self, tenant: Tenant, pressure: &Pressure) -> Result<(), Refusal> {
        if pressure.house() >= Zone::Critical {
            return Err(Refusal::Critical);
        }
        self.sessions.enter()?;
        self.rules().accounts.of(tenant).sessions.enter().inspect_err(|_| self.sessions.leave())
    }

    /// Whether a session could be opened now.
    ///
    /// # Errors
    /// What is in the way.
    pub fn has_room_for_session(&self, tenant: Tenant, pressure: &Pressure) -> Result<(), Refusal> {
        self.open_session(tenant, pressure).map(|()| self.end_session(tenant))
    }

    /// A session has ended.
    pub fn end_session(&self, tenant: Tenant) {
        self.sessions.leave();
        self.rules().accounts.of(tenant).sessions.leave();
    }

    /// What any new work meets before it is looked at: the zone of the house, and the memory that answers wait in. Of
    /// that, `unread` bytes are the client's own: one who reads is not to suffer from those who do not.
    ///
    /// # Errors
    /// The first that is in the way.
    pub fn take_work(&self, pressure: &Pressure, unread: usize) -> Result<(), Refusal> {
        if pressure.house() >= Zone::Emergency {
            return Err(Refusal::Emergency);
        }
        if unread > 0 && self.outbox_bytes() > self.outbox_bytes_max() { Err(Refusal::OutboxesFull) } else { Ok(()) }
    }

    /// Bytes that wait for clients to read them.
    #[must_use]
    pub fn outbox_bytes(&self) -> usize {
        self.outbox_bytes.load(Ordering::Relaxed)
    }

    /// How many may.
    #[must_use]
    pub fn outbox_bytes_max(&self) -> usize {
        self.rules().outbox_bytes_max
    }

    /// What waits for one client has changed.
    pub fn rebook_outbox(&self, before: usize, after: usize) {
        if after > before {
            self.outbox_bytes.fetch_add(after - before, Ordering::Relaxed);
        } else if after < before {
            self.outbox_bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// To be called now and then: forgets who is in debt no more.
    pub fn tidy(&self) {
        self.debts.sweep(self.now());
    }

    /// The clock that debts are paid by.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn note(&self, debtor: Debtor, rate: Rate, cost: u64, now: Duration) -> Result<(), Hold> {
        if self.debts.charge(debtor, rate, cost, now)? == Noted::NoRoom {
            self.lapses.add(Lapse::DebtorsFull);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "guards_tests.rs"]
mod tests;
