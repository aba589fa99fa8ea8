//! Tests of the snapshot: what was written comes back, and nothing else is taken for one.

use super::*;
use crate::conn::Parting;
use crate::conn::admit::Admitted;
use crate::guard::Seats;
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
    (places(), sessions(), any::<[Tick; 2]>(), [wait(), wait()], counts, outbox).prop_map(
        |((place, inbound, assembly), session, ages, waits, (messages_in, pinged, paused), outbox)| Snapshot {
            place,
            session,
            ages,
            waits,
            messages_in,
            pinged,
            paused,
            inbound,
            assembly,
            outbox,
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
    let bytes = encoded(&Snapshot::of(&from, 200).unwrap());

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
    let bytes = encoded(&Snapshot::of(&from, 100).unwrap());
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
    assert_eq!([Snapshot::of(&leaving, 2), Snapshot::of(&refused, 2)], [None, None]);
}

#[test]
fn what_no_connection_can_be_is_refused_by_name() {
    let good = Snapshot {
        place: Place::Line(line::Lines::resumed(3)),
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
    assert_eq!(with(0, 2), Unreadable::Format(2));
    assert_eq!(with(1, 3), Unreadable::Field("stage"));
    assert_eq!(with(2, 4), Unreadable::Field("search position"));
    assert_eq!(with(27, 2), Unreadable::Field("pause mark"));
    let not_cut = [1, 2, 0, 0, 0, 1, b'a', 0, 0];
    let websocket = Snapshot { place: Place::WebSocket(not_cut), ..good.clone() };
    assert_eq!(refused(&encoded(&websocket)), Unreadable::Field("fragment state"));
    let fragments = Snapshot { assembly: b"x".to_vec(), ..good };
    assert_eq!(refused(&encoded(&fragments)), Unreadable::Field("fragments"));
}
