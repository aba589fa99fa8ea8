//! The stream of a session, the stream of a call that was lost, and what is sent again.

use lakh::conn::Parting;
use serde_json::json;

use crate::peer::http::Http;
use crate::peer::{Gateway, eventually, request};

#[test]
fn a_stream_opens_with_a_priming_event_where_the_revision_has_one_and_is_kept_alive() {
    let gateway = Gateway::start(|config| config.conn.keepalive_ms = 250);
    for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let client = Http::open(gateway.clients(), revision);
        let mut stream = client.sibling();
        let answer = stream.get("");
        assert!(answer.is_stream() && answer.line("x-accel-buffering") == Some("no"), "{answer:?}");
        let first = stream.event().expect("something");
        if revision == "2025-11-25" {
            assert_eq!((first.id.as_deref(), first.data.as_deref(), first.retry), (Some("0-0"), Some(""), Some(1_000)));
        } else {
            assert!(first.comment);
        }
        assert!(stream.event().expect("a comment").comment);
    }
}

#[test]
fn a_new_stream_takes_the_place_of_the_one_before() {
    let gateway = Gateway::start(|config| config.shards = 2);
    let client = Http::open(gateway.clients(), "2025-11-25");
    let mut streams: Vec<Http> = Vec::new();
    for _ in 0..5 {
        let mut stream = client.sibling();
        assert!(stream.get("").is_stream());
        assert!(stream.event().expect("a priming event").id.is_some());
        if let Some(before) = streams.last_mut() {
            assert_eq!(before.event(), None, "it ends in form");
            assert_eq!(before.post(&request(1, "ping", &json!({}))).status, 200, "its connection can be used again");
        }
        streams.push(stream);
    }
}

#[test]
fn a_call_outlives_its_stream_and_is_read_on() {
    let gateway = Gateway::start(|config| config.shards = 2);
    for _ in 0..6 {
        let client = Http::open(gateway.clients(), "2025-11-25");
        let mut caller = client.sibling();
        let params =
            json!({"name": "sleep", "arguments": {"ms": 600, "progressEvery": 100}, "_meta": {"progressToken": 1}});
        caller.say(&request(5, "tools/call", &params));
        assert!(caller.answer().is_stream());
        let priming = caller.event().and_then(|event| event.id).expect("a priming event");
        assert_eq!(caller.event_message()["params"]["progress"], 100);
        drop(caller);
        let mut reader = client.sibling();
        assert!(reader.get(&format!("Last-Event-ID: {priming}\r\n")).is_stream());
        for step in 1..=5 {
            assert_eq!(reader.event_message()["params"]["progress"], 100 * step);
        }
        let answer = reader.event_message();
        assert_eq!((&answer["id"], &answer["result"]["structuredContent"]["sleptMs"]), (&json!(5), &json!(600)));
        assert_eq!(reader.event(), None);
        let mut again = client.sibling();
        assert!(again.get("Last-Event-ID: 1-5\r\n").is_stream());
        assert_eq!(again.event_message(), answer, "what is over is sent again");
        assert_eq!(again.event(), None);
    }
}

#[test]
fn a_call_that_nobody_can_read_on_is_cancelled_when_its_client_leaves() {
    let gateway = Gateway::start(|_| {});
    let client = Http::open(gateway.clients(), "2025-11-25");
    let mut caller = client.sibling();
    caller.say(&crate::peer::call(1, "sleep", &json!({"ms": 60_000})));
    assert!(eventually(|| gateway.house().in_flight.taken() == 1));
    drop(caller);
    assert!(eventually(|| gateway.house().in_flight.taken() == 0));
}

#[test]
fn a_call_that_nobody_reads_on_ends_after_its_time() {
    let gateway = Gateway::start(|config| config.conn.http.detached_ms = 500);
    let mut client = Http::open(gateway.clients(), "2025-11-25");
    let params =
        json!({"name": "sleep", "arguments": {"ms": 60_000, "progressEvery": 100}, "_meta": {"progressToken": 1}});
    client.say(&request(1, "tools/call", &params));
    assert!(client.answer().is_stream());
    assert_eq!(client.event_message()["params"]["progress"], 100);
    let mut late = client.sibling();
    drop(client);
    assert_eq!(gateway.house().in_flight.taken(), 1);
    assert!(eventually(|| gateway.house().in_flight.taken() == 0));
    assert!(gateway.parted(Parting::PeerVanished, 1));
    assert!(late.get("Last-Event-ID: 1-1\r\n").is_stream());
    let messages = std::iter::repeat_with(|| late.event_message()).find(|message| message["id"] == 1);
    assert_eq!(messages.expect("an end")["error"]["code"], -32603, "who comes too late does not wait for ever");
    assert_eq!(late.event(), None);
}

#[test]
fn a_call_that_is_read_on_lives_until_nobody_reads_it() {
    let gateway = Gateway::start(|config| config.conn.http.detached_ms = 500);
    for leaves in [false, true] {
        let mut client = Http::open(gateway.clients(), "2025-11-25");
        let arguments = json!({"ms": if leaves { 60_000 } else { 2_000 }, "progressEvery": 100});
        let params = json!({"name": "sleep", "arguments": arguments, "_meta": {"progressToken": 1}});
        client.say(&request(1, "tools/call", &params));
        assert!(client.answer().is_stream());
        let priming = client.event().and_then(|event| event.id).expect("a priming event");
        let mut reader = client.sibling();
        assert!(reader.get(&format!("Last-Event-ID: {priming}\r\n")).is_stream());
        drop(client);
        for step in 1..=15 {
            assert_eq!(reader.event_message()["params"]["progress"], 100 * step);
        }
        if leaves {
            drop(reader);
            assert!(eventually(|| gateway.house().in_flight.taken() == 0));
        } else {
            let mut messages = std::iter::repeat_with(|| reader.event_message());
            let answer = messages.find(|message| message["id"] == 1).expect("an answer");
            assert_eq!(answer["result"]["structuredContent"]["sleptMs"], 2_000);
        }
    }
}

#[test]
fn what_is_kept_for_those_who_come_back_is_let_go() {
    let gateway = Gateway::start(|config| config.conn.http.replay_ms = 500);
    let mut client = Http::open(gateway.clients(), "2025-06-18");
    assert_eq!(gateway.house().http_replayed(), 0);
    let params =
        json!({"name": "sleep", "arguments": {"ms": 250, "progressEvery": 100}, "_meta": {"progressToken": 1}});
    client.say(&request(1, "tools/call", &params));
    assert!(client.answer().is_stream());
    while client.event().is_some() {}
    assert!(gateway.house().http_replayed() > 0);
    assert!(eventually(|| gateway.house().http_replayed() == 0));
}
