//! Tests of the snapshot: what was written comes back, and nothing else is taken for one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::actor::Letter;
use crate::conn::admit::Admitted;
use crate::conn::service::{Message, Talk};
use crate::conn::{House, Parting};
use crate::guard::{EVERYBODY, Keys, Plan, Pressure, Roster, Seats, TenantConfig};
use crate::mcp::{Phase, Profile, Revision};
use crate::wire::ws::{Opcode, Role, Rules, write_masked};
use proptest::prelude::*;

const RULES: Rules = Rules { role: Role::Server, frame_bytes_max: 1 << 20, message_bytes_max: 1 << 20 };

/// A decoder that has been given the beginning of a text message, cut at any byte.
fn decoder(text: &str, cut: usize) -> (ws::Decoder, Vec<u8>) {
    let mut decoder = ws::Decoder::default();
    let piece = &text.as_bytes()[..cut.min(text.len())];
    if !piece.is_empty() {
        let mut frame = Vec::new();
        write_masked(&mut frame, Opcode::Text, false, piece, [1, 2, 3, 4]);
        decoder.decode(&mut frame, &RULES).expect("a right fragment");
    }
    (decoder, piece.to_vec())
}

fn places() -> impl Strategy<Value = (Place, Vec<u8>, Vec<u8>)> {
    let inbound = || proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        inbound().prop_map(|inbound| (Place::Opening, inbound, Vec::new())),
        (inbound(), 0..40_u32).prop_map(|(inbound, searched)| {
            let lines = line::Lines::resumed(searched.min(inbound.len() as u32));
            (Place::Line(lines), inbound, Vec::new())
        }),
        (inbound(), "[a-zé€😀]{0,9}", 0..30_usize).prop_map(|(inbound, text, cut)| {
            let (decoder, assembly) = decoder(&text, cut);
            (Place::WebSocket(decoder.to_bytes()), inbound, assembly)
        }),
    ]
}

fn sessions() -> impl Strategy<Value = Session> {
    (0..4_usize, any::<bool>(), "[a-z]{0,8}").prop_map(|(revision, ready, name)| {
        let revision = Revision::ALL[revision];
        let profile = Profile { name: name.into(), version: "1".into(), capabilities: 3, declared: "".into() };
        let phase = if ready { Phase::Ready(revision) } else { Phase::Agreed(revision) };
        Session::resumed(phase, Some(profile.into()), None)
    })
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    let wait = || proptest::option::of(0..Tick::MAX);
    let counts = (any::<u32>(), any::<u8>(), any::<bool>());
    let outbox = proptest::collection::vec(any::<u8>(), 0..40);
    (places(), ("[a-z0-9_-]{0,32}", sessions()), any::<[Tick; 2]>(), [wait(), wait()], counts, outbox).prop_map(
        |((place, inbound, assembly), (tenant, session), ages, waits, (messages_in, pinged, paused), outbox)| {
            Snapshot {
                place,
                tenant: tenant.into(),
                session,
                ages,
                waits,
                messages_in,
                pinged,
                paused,
                inbound,
                assembly,
                outbox,
            }
        },
    )
}

fn encoded(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = Vec::new();
    snapshot.encode(&mut bytes);
    bytes
}

fn connection() -> Connection<Guest> {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let socket = mio::net::TcpStream::connect(port.local_addr().unwrap()).unwrap();
    Connection::new(Admitted { socket, seat: Seats::new(1).take().unwrap(), refused: None }, 100)
}

proptest! {
    #[test]
    fn a_snapshot_returns_as_it_was(snapshot in snapshots()) {
        let bytes = encoded(&snapshot);
        let mut profiles = Profiles::new(4);
        prop_assert_eq!(&Snapshot::decode(&bytes, &mut profiles).unwrap(), &snapshot);
        for short in 0..bytes.len() {
            prop_assert_eq!(Snapshot::decode(&bytes[..short], &mut profiles), Err(Unreadable::Short));
        }
        let longer = [&bytes[..], &[0]].concat();
        prop_assert_eq!(Snapshot::decode(&longer, &mut profiles), Err(Unreadable::Field("end")));
    }

    #[test]
    fn changed_bytes_are_read_back_the_same_or_refused(snapshot in snapshots(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = encoded(&snapshot);
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(read) = Snapshot::decode(&bytes, &mut Profiles::new(4)) {
            prop_assert_eq!(encoded(&read), bytes);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(0..4_u8, 0..80)) {
        if let Ok(read) = Snapshot::decode(&bytes, &mut Profiles::new(4)) {
            prop_assert_eq!(encoded(&read), bytes);
        }
    }
}

#[test]
fn a_connection_goes_on_where_it_was() {
    let (decoder, assembly) = decoder("\"é€", 4);
    let mut from = connection();
    from.stage = Stage::WebSocket(decoder);
    from.session = Guest { session: Session::resumed(Phase::Ready(Revision::ALL[2]), None, None), interests: None };
    (from.heard, from.messages_in, from.pinged) = (150, 7, 1);
    *from.active() = Active {
        inbound: b"half a frame".to_vec(),
        assembly,
        outbox: b"taken and not taken".to_vec(),
        sent: 9,
        incomplete_since: Some(140),
        stuck_since: Some(160),
        paused: true,
        ..Active::default()
    };
    let bytes = encoded(&Snapshot::of(&from, "acme", 200).unwrap());

    let mut to = connection();
    Snapshot::decode(&bytes, &mut Profiles::new(1)).unwrap().restore(&mut to, 1_000);
    assert_eq!((to.admitted, to.heard, to.messages_in, to.pinged), (900, 950, 7, 1));
    assert_eq!(to.session.session, from.session.session);
    let Stage::WebSocket(mut decoder) = to.stage else { panic!("a WebSocket") };
    let active = to.active.as_ref().unwrap();
    assert_eq!((&active.inbound[..], &active.outbox[..]), (&b"half a frame"[..], &b" not taken"[..]));
    assert_eq!((active.incomplete_since, active.stuck_since, active.paused), (Some(940), Some(960), true));
    // The rest of the character that was cut.
    let mut frame = Vec::new();
    write_masked(&mut frame, Opcode::Continuation, true, b"\x82\xac\"", [9; 4]);
    let step = decoder.decode(&mut frame, &RULES);
    assert!(matches!(step, Ok(ws::Step::Frame { frame: ws::Frame::Piece { last: true, .. }, .. })), "{step:?}");
}

#[test]
fn an_idle_client_is_few_bytes_and_gets_no_active_part() {
    let mut from = connection();
    from.stage = Stage::Line(line::Lines::default());
    let bytes = encoded(&Snapshot::of(&from, "", 100).unwrap());
    assert!(bytes.len() <= 48, "{} bytes", bytes.len());
    let mut to = connection();
    Snapshot::decode(&bytes, &mut Profiles::new(1)).unwrap().restore(&mut to, 100);
    assert!(to.active.is_none() && matches!(to.stage, Stage::Line(_)));
}

#[test]
fn who_is_told_to_go_is_not_handed_over() {
    let mut leaving = connection();
    leaving.stage = Stage::Leaving { parting: Parting::Drained, since: 1 };
    let mut refused = connection();
    refused.refused = Some(crate::guard::Refusal::HouseFull);
    assert_eq!([Snapshot::of(&leaving, "", 2), Snapshot::of(&refused, "", 2)], [None, None]);
}

#[test]
fn what_no_connection_can_be_is_refused_by_name() {
    let good = Snapshot {
        place: Place::Line(line::Lines::resumed(3)),
        tenant: "acme".into(),
        session: Session::default(),
        ages: [0; 2],
        waits: [None; 2],
        messages_in: 0,
        pinged: 0,
        paused: false,
        inbound: b"abc".to_vec(),
        assembly: Vec::new(),
        outbox: Vec::new(),
    };
    let refused = |bytes: &[u8]| Snapshot::decode(bytes, &mut Profiles::new(1)).unwrap_err();
    let with = |at: usize, byte: u8| {
        let mut bytes = encoded(&good);
        bytes[at] = byte;
        refused(&bytes)
    };
    assert_eq!(with(0, 1), Unreadable::Format(1));
    assert_eq!(with(1, 3), Unreadable::Field("stage"));
    assert_eq!(with(2, 4), Unreadable::Field("search position"));
    assert_eq!(with(27, 2), Unreadable::Field("pause mark"));
    assert_eq!(with(29, 0xff), Unreadable::Field("tenant"));
    let not_cut = [1, 2, 0, 0, 0, 1, b'a', 0, 0];
    let websocket = Snapshot { place: Place::WebSocket(not_cut), ..good.clone() };
    assert_eq!(refused(&encoded(&websocket)), Unreadable::Field("fragment state"));
    let fragments = Snapshot { assembly: b"x".to_vec(), ..good };
    assert_eq!(refused(&encoded(&fragments)), Unreadable::Field("fragments"));
}

/// Serves nobody anything.
struct Silent;

impl Service for Silent {
    type Session = Guest;

    fn message(&mut self, _: &mut Talk<'_, Guest>, _: Message<'_>) -> Result<(), Parting> {
        Ok(())
    }

    fn letter(&mut self, _: &mut Talk<'_, Guest>, _: Letter) {}
}

/// A shard's connections in a house where these have one seat each.
fn shard_for(tenants: &[&str]) -> Connections<Silent> {
    let plan = Plan { tenant_connections_max: 1, ..Plan::default() };
    let plans = BTreeMap::from([(EVERYBODY.to_owned(), Plan::default()), ("one".to_owned(), plan)]);
    let known = |name: &&str| ((*name).to_owned(), TenantConfig { plan: "one".into(), keys: Keys::default() });
    let roster = Roster::read(&plans, &tenants.iter().map(known).collect(), &|key| Ok(key.to_owned()));
    let (conn, wire, guard) = (Default::default(), Default::default(), Default::default());
    let house = House::for_tenants(conn, wire, &guard, roster.expect("a roster"), 1);
    Connections::new(Arc::new(house), 4, Silent)
}

/// One who has just come, and speaks in lines.
fn newcomer(shard: &mut Connections<Silent>) -> Key {
    let seat = shard.bench.house.guards.admit([127, 0, 0, 1].into(), &Pressure::default()).expect("a seat");
    let mut conn = Connection { seat, ..connection() };
    conn.stage = Stage::Line(line::Lines::default());
    let Ok(lease) = shard.pool.acquire(conn) else { panic!("no slot") };
    lease.keep()
}

fn seats_of(shard: &Connections<Silent>, name: &str) -> usize {
    let rules = shard.bench.house.guards.rules();
    let tenant = rules.accounts.named(name).expect("it is known");
    rules.accounts.of(tenant).connections.taken()
}

#[test]
fn a_client_keeps_its_tenant_also_where_that_has_another_number() {
    let (mut from, mut to) = (shard_for(&["acme"]), shard_for(&["aaaa", "acme"]));
    let (key, at) = (newcomer(&mut from), newcomer(&mut to));
    let acme = from.bench.house.guards.rules().accounts.named("acme").expect("it is known");
    from.bench.recognize(from.pool.get_mut(key).expect("it is there"), acme).expect("a seat");
    let bytes = encoded(&from.snapshot(key, 7).expect("it can be handed over"));
    let read = || Snapshot::decode(&bytes, &mut Profiles::new(1)).expect("a snapshot");
    assert!(to.restore(at, read(), 9));
    assert_eq!(to.pool.get(at).map(|conn| conn.tenant), Some(Tenant(2)));
    assert_eq!((acme, seats_of(&to, "acme"), seats_of(&to, "aaaa")), (Tenant(1), 1, 0));
    assert_eq!(to.snapshot(at, 9).map(|again| again.tenant), Some("acme".into()));
    // Its plan has one seat.
    let late = newcomer(&mut to);
    assert!(!to.restore(late, read(), 9));
    // Where nobody knows it, it is everybody, as one with a key that is nobody's.
    let mut strange = shard_for(&[]);
    let at = newcomer(&mut strange);
    assert!(strange.restore(at, read(), 9));
    assert_eq!(strange.pool.get(at).map(|conn| conn.tenant), Some(Tenant(0)));
}
