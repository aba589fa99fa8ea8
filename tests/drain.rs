//! SIGTERM to a gateway in a process of its own: what is in flight is answered, then everybody is told to go.

mod peer;

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGINT, SIGTERM};
use serde_json::json;

use peer::http::Http;
use peer::{Heard, PATIENCE, Peer, Process, call, eventually};

#[test]
fn what_is_in_flight_is_answered_and_then_all_end() {
    let mut process = Process::start(&[]);
    let (mut idle, mut busy) = (Peer::line(process.clients), Peer::line(process.clients));
    let (mut websocket, mut busy_websocket) = (Peer::websocket(process.clients), Peer::websocket(process.clients));
    for peer in [&mut busy, &mut busy_websocket] {
        peer.say(&call(7, "sleep", &json!({"ms": 4_000})));
        assert!(peer.is_answered(1));
    }
    let asked = Instant::now();
    process.signal(SIGTERM);
    assert_eq!(idle.hear(), Heard::End);
    assert_eq!(websocket.hear(), Heard::Close(1001));
    assert!(asked.elapsed() < Duration::from_millis(3_900), "those who wait for nothing go at once");
    assert!(
        eventually(|| TcpStream::connect_timeout(&process.clients, PATIENCE).is_err()),
        "no new clients while others are still served"
    );
    assert!(process.ended_within(Duration::ZERO).is_none(), "it ended with answers owed");
    for (peer, end) in [(&mut busy, Heard::End), (&mut busy_websocket, Heard::Close(1001))] {
        let answer = peer.hear_message();
        assert_eq!((&answer["id"], &answer["result"]["structuredContent"]["sleptMs"]), (&json!(7), &json!(4_000)));
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

/// A client that has nothing in flight, of each kind; `ends` waits until it is told to go, in the words of its dialect.
enum Idle {
    Line(Peer),
    WebSocket(Peer),
    Stream(Http),
    Listen(Http, usize),
}

impl Idle {
    fn of_each(process: &Process, number: usize) -> [Self; 4] {
        let mut stream = Http::open(process.clients, "2025-06-18");
        assert!(stream.get("").is_stream());
        let mut listen = Http::connect(process.clients);
        let topics = json!({"notifications": {"toolsListChanged": true}});
        listen.say_modern(number as u64, "subscriptions/listen", &topics);
        assert!(listen.answer().is_stream());
        assert_eq!(listen.event_message()["method"], "notifications/subscriptions/acknowledged");
        let (line, websocket) = (Peer::line(process.clients), Peer::websocket(process.clients));
        [Self::Line(line), Self::WebSocket(websocket), Self::Stream(stream), Self::Listen(listen, number)]
    }

    fn ends(&mut self) {
        match self {
            Self::Line(peer) => assert_eq!(peer.hear(), Heard::End),
            Self::WebSocket(peer) => {
                assert_eq!(peer.hear(), Heard::Close(1001));
                assert_eq!(peer.hear(), Heard::End);
            }
            Self::Stream(client) => {
                assert_eq!(client.event(), None, "the stream ends in form");
                assert!(client.is_closed());
            }
            Self::Listen(client, number) => {
                let result = json!({
                    "resultType": "complete",
                    "_meta": {"io.modelcontextprotocol/subscriptionId": *number}
                });
                let last = client.event_message();
                assert_eq!((&last["id"], &last["result"]), (&json!(*number), &result));
                assert_eq!(client.event(), None);
                assert!(client.is_closed());
            }
        }
    }
}

#[test]
fn those_who_are_in_are_told_to_go_over_a_time_each_in_its_dialect() {
    const EACH: usize = 60;
    let knobs = [("LAKH_GUARD_CONNECTIONS_MAX", "240"), ("LAKH_DRAIN_SPREAD_MS", "4000"), ("LAKH_SHARDS", "2")];
    let mut process = Process::start(&knobs);
    let mut idle: Vec<Idle> = (0..EACH).flat_map(|number| Idle::of_each(&process, number)).collect();
    let asked = Instant::now();
    process.signal(SIGTERM);
    let mut ended: Vec<Duration> = thread::scope(|scope| {
        let waiting: Vec<_> = idle
            .iter_mut()
            .map(|client| {
                scope.spawn(move || {
                    client.ends();
                    asked.elapsed()
                })
            })
            .collect();
        waiting.into_iter().map(|waiting| waiting.join().expect("it is told to go")).collect()
    });
    ended.sort_unstable();
    // A quarter of them after a quarter of the time. A busy machine is late, never early.
    for (share, at_least) in [(EACH, 700), (2 * EACH, 1_700), (3 * EACH, 2_700), (4 * EACH - 1, 3_700)] {
        let at = ended[share].as_millis();
        assert!(at >= at_least, "{share} clients were gone after {at} ms");
    }
    assert_eq!(process.ended_within(Duration::from_secs(10)).and_then(|status| status.code()), Some(0));
}

#[test]
fn who_talks_is_served_until_it_pauses_and_then_told_to_go() {
    let mut process = Process::start(&[("LAKH_DRAIN_SPREAD_MS", "1")]);
    let mut talker = Peer::line(process.clients);
    let mut http = Http::connect(process.clients);
    assert_eq!(http.post_modern(1, "tools/list", &json!({})).line("connection"), None);
    process.signal(SIGTERM);
    assert!(eventually(|| TcpStream::connect_timeout(&process.clients, PATIENCE).is_err()));
    let last = http.post_modern(2, "tools/call", &json!({"name": "echo", "arguments": {"text": "x"}}));
    assert_eq!((last.status, last.line("connection")), (200, Some("close")));
    // Each call begins when the one before is answered, as an agent's do.
    let (mut served, mut refused) = (0, 0);
    for id in 1.. {
        talker.say(&call(id, "sleep", &json!({"ms": 50})));
        match talker.hear() {
            Heard::Message(answer) if answer["result"]["structuredContent"]["sleptMs"] == 50 => served += 1,
            Heard::Message(answer) => {
                assert_eq!(answer["error"]["code"], 503, "{answer}");
                assert!(answer["error"]["data"]["retryAfterMs"].is_u64(), "{answer}");
                refused += 1;
                break;
            }
            other => panic!("{other:?} in place of the answer to call {id}"),
        }
    }
    assert!(served > 0 && refused == 1, "{served} calls served");
    assert_eq!(talker.hear(), Heard::End, "and now it has the time to go");
    assert_eq!(process.ended_within(Duration::from_secs(10)).and_then(|status| status.code()), Some(0));
}

#[test]
fn a_notice_is_for_load_balancers_and_new_clients_are_served_meanwhile() {
    let mut process = Process::start(&[("LAKH_DRAIN_NOTICE_MS", "1500")]);
    let ready = |process: &Process| Http::connect(process.admin).ask("GET /ready", "").status;
    assert_eq!(ready(&process), 200);
    process.signal(SIGTERM);
    assert!(eventually(|| ready(&process) == 503));
    let mut late = Peer::line(process.clients);
    assert!(late.is_answered(1), "who comes meanwhile is served");
    assert!(eventually(|| TcpStream::connect_timeout(&process.clients, PATIENCE).is_err()));
    assert_eq!(late.hear(), Heard::End);
    assert_eq!(process.ended_within(Duration::from_secs(10)).and_then(|status| status.code()), Some(0));
}
