//! SIGTERM to a gateway in a process of its own: what is in flight is answered, then everybody is told to go.

mod peer;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGINT, SIGTERM};
use serde_json::json;

use peer::{Heard, PATIENCE, Peer, Process, call, eventually};

#[test]
fn what_is_in_flight_is_answered_and_then_all_end() {
    let mut process = Process::start(&[]);
    let (mut idle, mut busy) = (Peer::line(process.clients), Peer::line(process.clients));
    let (mut websocket, mut busy_websocket) = (Peer::websocket(process.clients), Peer::websocket(process.clients));
    for peer in [&mut busy, &mut busy_websocket] {
        peer.say(&call(7, "sleep", &json!({"ms": 1_500})));
        assert!(peer.is_answered(1));
    }
    let asked = Instant::now();
    process.signal(SIGTERM);
    assert_eq!(idle.hear(), Heard::End);
    assert_eq!(websocket.hear(), Heard::Close(1001));
    assert!(asked.elapsed() < Duration::from_millis(1_400), "those who wait for nothing go at once");
    assert!(
        eventually(|| TcpStream::connect_timeout(&process.clients, PATIENCE).is_err()),
        "no new clients while others are still served"
    );
    assert!(process.ended_within(Duration::ZERO).is_none(), "it ended with answers owed");
    for (peer, end) in [(&mut busy, Heard::End), (&mut busy_websocket, Heard::Close(1001))] {
        let answer = peer.hear_message();
        assert_eq!((&answer["id"], &answer["result"]["structuredContent"]["sleptMs"]), (&json!(7), &json!(1_500)));
        assert_eq!(peer.hear(), end);
    }
    let status = process.ended_within(Duration::from_secs(10)).expect("it ends long before its 30 s");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut process = Process::start(&[]);
    let mut busy = Peer::line(process.clients);
    busy.say(&call(7, "sleep", &json!({"ms": 60_000})));
    assert!(busy.is_answered(1));
    process.signal(SIGINT);
    assert!(process.ended_within(Duration::from_millis(500)).is_none(), "the first signal waits for answers");
    process.signal(SIGTERM);
    let status = process.ended_within(Duration::from_secs(5)).expect("the second does not");
    assert_eq!(status.code(), Some(1));
    assert_eq!(busy.hear(), Heard::End);
}

#[test]
fn the_time_to_drain_has_an_end() {
    let mut process = Process::start(&[("LAKH_DRAIN_MS", "700")]);
    let mut busy = Peer::line(process.clients);
    busy.say(&call(7, "sleep", &json!({"ms": 60_000})));
    assert!(busy.is_answered(1));
    process.signal(SIGTERM);
    assert!(process.ended_within(Duration::from_millis(500)).is_none(), "it may take its time");
    let status = process.ended_within(Duration::from_secs(10)).expect("but not for ever");
    assert_eq!(status.code(), Some(0));
    assert_eq!(busy.hear(), Heard::End);
}
