//! Tests of the guards together: their order, and that a refusal costs nobody anything.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::guard::{Asker, Keys, Plan, TenantConfig};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A house where the key `gold` belongs to the first tenant, which has this plan.
fn guards(config: &Config, plan: Plan) -> Guards {
    let plans = BTreeMap::from([("default".to_owned(), Plan::default()), ("gold".to_owned(), plan)]);
    let tenant = TenantConfig { plan: "gold".into(), keys: Keys(vec!["gold".into()]) };
    let tenants = BTreeMap::from([("gold".to_owned(), tenant)]);
    let roster = Roster::read(&plans, &tenants, &|key| Ok(key.to_owned())).expect("a roster");
    let seats = Seats::new(config.connections_max);
    Guards::new(config, roster, &seats, &Seats::within(config.in_flight_max, Refusal::InFlightFull, []))
}

fn asker(tenant: u16) -> Asker {
    Asker { client: 7, tenant: Tenant(tenant), address: Some(HERE.into()), slow: true, sensitive: true }
}

fn in_zone(house: Zone) -> Pressure {
    let pressure = Pressure::default();
    pressure.set(house, Zone::Safe);
    pressure
}

#[test]
fn arrivals_are_so_many_a_second() {
    let guards = guards(&Config { accepts_per_s: 3, connections_max: 10, ..Config::default() }, Plan::default());
    let safe = in_zone(Zone::Safe);
    let admitted: Vec<_> = (0..4).map(|_| guards.admit_at(HERE, &safe, Duration::default)).collect();
    assert_eq!(admitted.iter().filter(|seat| seat.is_ok()).count(), 3);
    assert_eq!(admitted[3].as_ref().err(), Some(&Refusal::TooManyArrivals));
    let seats: Vec<Seat> = (0..7).map_while(|_| guards.door.admit(HERE).ok()).collect();
    assert_eq!(seats.len(), 7, "whoever was refused sits nowhere");
    drop(seats);
    let late = || Duration::from_nanos(333_333_334);
    assert!(guards.admit_at(HERE, &safe, late).is_ok());
    assert_eq!(guards.admit_at(HERE, &safe, late).err(), Some(Refusal::TooManyArrivals));
}

#[test]
fn nobody_comes_in_from_critical_on_and_no_work_is_taken_in_emergency() {
    let guards = guards(&Config::default(), Plan::default());
    for (zone, refused_in, refused_work) in [
        (Zone::Safe, None, None),
        (Zone::Warning, None, None),
        (Zone::Critical, Some(Refusal::Critical), None),
        (Zone::Emergency, Some(Refusal::Critical), Some(Refusal::Emergency)),
    ] {
        let pressure = in_zone(zone);
        assert_eq!(guards.admit(HERE, &pressure).err(), refused_in, "{zone:?}");
        assert_eq!(guards.open_session(Tenant(0), &pressure).err(), refused_in, "{zone:?}");
        assert_eq!(guards.take_work(&pressure, 0).err(), refused_work, "{zone:?}");
    }
    assert_eq!(guards.sessions.taken(), 2);
}

#[test]
fn sessions_are_so_many_in_all_and_of_one_tenant() {
    let plan = Plan { tenant_sessions_max: 2, ..Plan::default() };
    let guards = guards(&Config { sessions_max: 3, ..Config::default() }, plan);
    let open = |tenant| guards.open_session(Tenant(tenant), &in_zone(Zone::Safe)).err();
    assert_eq!([open(1), open(1), open(1)], [None, None, Some(Refusal::TenantSessionsFull)]);
    assert_eq!([open(0), open(0)], [None, Some(Refusal::SessionsFull)]);
    guards.end_session(Tenant(1));
    assert_eq!([open(1), open(1)], [None, Some(Refusal::SessionsFull)]);
    assert_eq!(guards.sessions.taken(), 3);
}

#[test]
fn outboxes_hold_so_many_bytes() {
    let guards = guards(&Config { outbox_bytes_max: 100, ..Config::default() }, Plan::default());
    for (bytes, refused) in [(99, None), (100, None), (101, Some(Refusal::OutboxesFull)), (100, None)] {
        guards.rebook_outbox(guards.outbox_bytes(), bytes);
        assert_eq!(guards.take_work(&in_zone(Zone::Safe), 1).err(), refused, "{bytes}");
        assert_eq!(guards.take_work(&in_zone(Zone::Safe), 0), Ok(()), "{bytes}: one who reads");
    }
}

#[test]
fn each_rate_is_held_to_and_who_is_refused_by_one_pays_no_other() {
    let plan = Plan { slow_calls_per_minute: 4, sensitive_calls_per_minute: 3, ..Plan::default() };
    let plan = Plan { tenant_calls_per_minute: 6, ..plan };
    let config = Config { calls_per_minute: 8, calls_per_minute_per_address: 7, ..Config::default() };
    let guards = guards(&config, plan);
    let charge = |asker: Asker| guards.charge(&asker).map(drop).err().map(|(refusal, _)| refusal);
    let quick = |client| Asker { client, sensitive: false, slow: false, ..asker(1) };
    let passed: Vec<_> = (0..4).map(|_| charge(asker(1))).collect();
    assert_eq!(passed, [None, None, None, Some(Refusal::SensitiveRate)]);
    // One slow call is left: the one that was refused was not charged for it.
    let slow = || charge(Asker { sensitive: false, ..asker(1) });
    assert_eq!([slow(), slow()], [None, Some(Refusal::SlowRate)]);
    let passed = [1, 2, 3].map(|client| charge(quick(client)));
    assert_eq!(passed, [None, None, Some(Refusal::TenantRate)], "the tenant's sixth was the last");
    let others = || charge(Asker { tenant: Tenant(0), ..quick(9) });
    assert_eq!([others(), others()], [None, Some(Refusal::AddressRate)]);
    let elsewhere = || charge(Asker { tenant: Tenant(0), address: None, ..quick(9) });
    assert_eq!([elsewhere(), elsewhere()], [None, Some(Refusal::HouseRate)]);
    let refunded = guards.charge(&quick(1)).map(drop).expect_err("full");
    assert!(refunded.1 > Duration::ZERO && refunded.1 <= Duration::from_secs(60));
}

#[test]
fn a_call_that_no_rate_concerns_leaves_no_trace() {
    let guards = guards(&Config::default(), Plan::default());
    for client in 0..100 {
        let toll = guards.charge(&Asker { client, slow: false, sensitive: false, ..asker(0) });
        guards.refund(toll.expect("no limit"));
    }
    assert!(guards.debts.is_empty());
}

#[test]
fn bytes_are_so_many_a_minute() {
    let guards = guards(&Config::default(), Plan { bytes_per_minute: 3, ..Plan::default() });
    let weigh = |tenant, bytes| guards.weigh(|| 7, Tenant(tenant), bytes).err().map(|(refusal, _)| refusal);
    assert_eq!([weigh(1, 2), weigh(1, 1), weigh(1, 1)], [None, None, Some(Refusal::BytesRate)]);
    assert_eq!(weigh(0, 1_000), None, "another plan has no limit");
}

#[test]
fn a_book_that_is_full_lets_pass_and_counts_it() {
    let plan = Plan { slow_calls_per_minute: 1, ..Plan::default() };
    let guards = guards(&Config { debtors_max: 2, ..Config::default() }, plan);
    let call = |client| guards.charge(&Asker { client, sensitive: false, ..asker(1) }).is_ok();
    assert!(call(1) && call(2) && !call(1));
    assert_eq!(guards.lapses.get(Lapse::DebtorsFull), 0);
    assert!(call(3) && call(3));
    assert_eq!(guards.lapses.get(Lapse::DebtorsFull), 2);
    assert!(!call(2), "those who are known are held to it");
}

#[test]
fn other_limits_hold_from_the_next_one_on_and_whoever_is_in_stays() {
    let config = Config { sessions_max: 9, calls_per_minute: 2, connections_per_address_max: 3, ..Config::default() };
    let guards = guards(&config, Plan { tenant_connections_max: 3, ..Plan::default() });
    let safe = in_zone(Zone::Safe);
    let mut seats: Vec<Seat> = (0..3).map(|_| guards.admit(HERE, &safe).expect("room")).collect();
    seats.iter_mut().for_each(|seat| guards.tell_tenant(seat, Tenant(1)).expect("room"));
    (0..3).for_each(|_| guards.open_session(Tenant(1), &safe).expect("room"));
    let call = |tenant| guards.charge(&Asker { slow: false, sensitive: false, ..asker(tenant) }).map(drop).err();
    assert_eq!([call(1), call(1)].map(|held| held.is_some()), [false, false]);
    assert_eq!(call(1).map(|held| held.0), Some(Refusal::HouseRate));

    // `gold` is gone, and one that sorts before it has come.
    let plan = Plan { tenant_sessions_max: 1, bytes_per_minute: 5, tenant_connections_max: 2, ..Plan::default() };
    let plans = BTreeMap::from([("default".to_owned(), plan), ("blue".to_owned(), Plan::default())]);
    let blue = TenantConfig { plan: "blue".into(), keys: Keys(vec!["gold".into()]) };
    let roster = |tenants| Roster::read(&plans, &tenants, &|key| Ok(key.to_owned())).expect("a roster");
    let next = Config { sessions_max: 4, calls_per_minute: 0, connections_per_address_max: 5, ..Config::default() };
    let gone = guards.follow(&next, roster(BTreeMap::from([("blue".to_owned(), blue.clone())])));
    assert_eq!(gone.expect("few tenants"), ["gold"]);
    assert_eq!(guards.rules().accounts.find("gold"), Some(Tenant(2)), "nobody gets a number that was another's");
    assert_eq!(call(1), None);
    assert!(guards.weigh(|| 7, Tenant(1), 6).is_err(), "the default plan's");
    let of = |tenant| {
        let (rules, tenant) = (guards.rules(), Tenant(tenant));
        let account = rules.accounts.of(tenant);
        [&account.connections, &account.sessions].map(|seats| (seats.taken(), seats.max()))
    };
    assert_eq!(of(1), [(3, 2), (3, 1)], "they are in, though they are more than may be now");
    assert_eq!(guards.open_session(Tenant(1), &safe), Err(Refusal::TenantSessionsFull));
    let mut late: Vec<Seat> = (0..2).map(|_| guards.admit(HERE, &safe).expect("room")).collect();
    assert_eq!(guards.admit(HERE, &safe).err(), Some(Refusal::AddressFull), "five, with those who were here before");
    assert_eq!(guards.tell_tenant(&mut late[0], Tenant(1)), Err(Refusal::TenantFull));
    assert_eq!(guards.tell_tenant(&mut late[1], Tenant(2)), Ok(()));
    assert_eq!(guards.open_session(Tenant(2), &safe), Ok(()));
    assert_eq!(guards.open_session(Tenant(2), &safe), Err(Refusal::SessionsFull));

    // It comes back: it is who it was.
    let plan = TenantConfig { plan: "blue".into(), keys: Keys::default() };
    let gone = guards.follow(&next, roster(BTreeMap::from([("blue".to_owned(), blue), ("gold".to_owned(), plan)])));
    assert_eq!(gone.expect("few tenants"), Vec::<String>::new());
    assert_eq!(of(1), [(3, usize::MAX); 2]);
    drop((seats, late));
    (0..3).for_each(|_| guards.end_session(Tenant(1)));
    assert_eq!((of(1), guards.sessions.taken()), ([(0, usize::MAX); 2], 1));
}
