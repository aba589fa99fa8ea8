//! More clients than there is room for: seats, descriptors, and what each is told.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use lakh::conn::Parting;
use lakh::guard::Refusal;
use lakh::wire::http;
use serde_json::json;

use crate::peer::{Gateway, Heard, Peer, Process, eventually, request, upgrade};

#[test]
fn the_last_seat_is_given_and_the_next_is_refused_in_its_dialect() {
    let seats = 5;
    let gateway = Gateway::start(|config| {
        config.guard.connections_max = seats;
        config.guard.retry_after_ms = 1_500;
    });
    let mut guests: Vec<Peer> = (1..seats).map(|_| gateway.neighbour()).collect();
    assert!(gateway.holds(seats - 1));
    guests.push(Peer::websocket(gateway.clients()));
    assert_eq!(gateway.house().seats.taken(), seats, "the last one is in");
    assert_eq!(gateway.house().seats.refusals.total(), 0);

    let mut line = Peer::connect(gateway.clients());
    let refusal = line.ask(&request(77, "initialize", &json!({})));
    assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&json!(77), &json!(503)));
    assert_eq!(refusal["error"]["data"]["retryAfterMs"], 1_500);
    assert_eq!(line.hear(), Heard::End);

    let mut websocket = Peer::connect(gateway.clients());
    websocket.send(upgrade(gateway.clients()).as_bytes());
    let refusal = websocket.rest();
    assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.contains("\r\nRetry-After: 2\r\n"), "{refusal}");

    let house = gateway.house();
    assert_eq!(house.seats.refusals.get(Refusal::HouseFull), 2);
    assert_eq!(house.ledger.http_refusals.get(http::Refusal::Full), 1);
    drop((line, websocket));
    assert!(eventually(|| house.ledger.partings.get(Parting::Refused) == 2));
    assert!((1..).zip(&mut guests).all(|(id, guest)| guest.is_answered(id)), "those who are in notice nothing");
    assert_eq!(house.seats.taken(), seats);

    guests.pop();
    assert!(gateway.holds(seats - 1));
    assert!(gateway.neighbour().is_answered(1), "a seat that was freed is a seat");
    assert_eq!(house.seats.refusals.total(), 2);
}

#[test]
fn beyond_the_lobby_they_are_closed_at_once_with_a_line() {
    let gateway = Gateway::start(|config| {
        config.guard.connections_max = 1;
        config.conn.lobby_max = 3;
    });
    let mut guest = gateway.neighbour();
    let mutes: Vec<Peer> = (0..3).map(|_| Peer::connect(gateway.clients())).collect();
    assert!(eventually(|| gateway.house().lobby.taken() == 3));
    let mut late = Peer::connect(gateway.clients());
    let refusal = late.hear_message();
    assert_eq!(refusal["error"]["code"], 503);
    assert!(refusal["error"]["data"]["retryAfterMs"].is_u64(), "{refusal}");
    assert_eq!(late.hear(), Heard::End);
    assert_eq!(gateway.house().seats.refusals.get(Refusal::HouseFull), 4);
    drop(mutes);
    assert!(eventually(|| gateway.house().lobby.taken() == 0) && guest.is_answered(1));
}

#[test]
fn too_many_calls_in_flight_are_refused_one_by_one() {
    let gateway = Gateway::start(|config| {
        config.guard.in_flight_max = 3;
        config.conn.in_flight_max = 2;
    });
    let (mut one, mut other) = (gateway.neighbour(), gateway.neighbour());
    let sleep = |id| crate::peer::call(id, "sleep", &json!({"ms": 60_000}));
    one.say(&sleep(1));
    one.say(&sleep(2));
    assert_eq!(one.ask(&sleep(3))["error"]["code"], 429, "over what one client may have");
    other.say(&sleep(1));
    let refusal = other.ask(&sleep(2));
    assert_eq!(refusal["error"]["code"], 503, "over what all may have");
    assert!(refusal["error"]["data"]["retryAfterMs"].is_u64());
    assert_eq!(gateway.house().seats.refusals.get(Refusal::InFlightFull), 1);
    one.say(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}));
    assert!(one.is_answered(9));
    other.say(&sleep(3));
    assert!(other.is_answered(9), "and no refusal before");
    assert_eq!(gateway.house().in_flight.taken(), 3);
}

/// The plan is right when it is made; then somebody else eats descriptors: here the shell, before the program begins.
#[test]
fn out_of_descriptors_the_acceptor_rests_and_recovers() {
    let mut shell = Command::new("bash");
    let eat = r#"for ((n = 20; n < 200; n++)); do eval "exec $n</dev/null"; done; ulimit -n 240; exec "$0""#;
    shell.args(["-c", eat, env!("CARGO_BIN_EXE_lakh")]).stderr(Stdio::piped());
    let mut process = Process::start_as(shell, &[("LAKH_LOG", "warn")]);
    let warnings = BufReader::new(process.stderr()).lines().map_while(Result::ok);
    let reading = thread::Builder::new().spawn(move || warnings.filter(|line| line.contains("cannot accept")).count());

    let mut first = Peer::line(process.clients);
    let mut crowd: Vec<Peer> = (0..90).map(|_| Peer::connect(process.clients)).collect();
    thread::sleep(Duration::from_millis(500));
    let before = process.cpu();
    thread::sleep(Duration::from_millis(1_500));
    let spent = process.cpu() - before;
    assert!(spent < Duration::from_millis(300), "it spins: {spent:?} of processor time in 1.5 s");
    assert!(first.is_answered(1), "who is in is served");

    let mut last = crowd.pop().expect("the last one of the crowd");
    last.say(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}));
    assert!(last.hears_nothing(Duration::from_millis(300)), "there was room for all: nothing was tested");
    drop(crowd);
    assert_eq!(last.hear_message()["id"], 1, "it was waiting for a descriptor");
    assert!(Peer::line(process.clients).is_answered(1) && first.is_answered(2));
    drop(process);
    let warned = reading.expect("a thread").join().expect("no panic");
    assert!((1..200).contains(&warned), "warned {warned} times");
}
