//! The stream of a session, the stream of a call that was lost, and what is sent again.

use std::time::Duration;

use lakh::conn::Parting;
use serde_json::json;

use crate::peer::http::Http;
use crate::peer::{Gateway, Peer, eventually, request};

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

#[test]
fn a_last_event_id_that_is_forged_or_of_another_session_shows_nothing() {
    let gateway = Gateway::start(|_| {});
    let mut owner = Http::open(gateway.clients(), "2025-11-25");
    let params =
        json!({"name": "sleep", "arguments": {"ms": 250, "progressEvery": 100}, "_meta": {"progressToken": 1}});
    owner.say(&request(1, "tools/call", &params));
    assert!(owner.answer().is_stream());
    while owner.event().is_some() {}
    let other = Http::open(gateway.clients(), "2025-11-25");
    for forged in ["1-0", "1-2", "4294967295-0"] {
        let mut reader = other.sibling();
        assert!(reader.get(&format!("Last-Event-ID: {forged}\r\n")).is_stream(), "{forged}");
        assert_eq!(reader.event(), None, "{forged} is no stream of this session");
    }
    for forged in ["0-9", "99999999999-0", "-1-0", "x", ""] {
        let mut reader = other.sibling();
        assert!(reader.get(&format!("Last-Event-ID: {forged}\r\n")).is_stream(), "{forged}");
        assert_eq!(reader.event().and_then(|event| event.data).as_deref(), Some(""), "{forged}: a priming event");
        assert!(reader.hears_nothing(Duration::from_millis(50)), "{forged}");
    }
    assert!(owner.get("Last-Event-ID: 1-0\r\n").is_stream());
    assert_eq!(owner.event_message()["params"]["progress"], 100, "it is there for who it belongs to");
}

#[test]
fn a_thousand_streams_of_one_session_are_one_at_a_time() {
    let gateway = Gateway::start(|_| {});
    let client = Http::open(gateway.clients(), "2025-11-25");
    let mut streams = [client.sibling(), client.sibling()];
    for turn in 0..1_000 {
        let [now, before] = &mut streams;
        assert!(now.get("").is_stream() && now.event().is_some());
        if turn > 0 {
            while before.event().is_some() {}
        }
        streams.swap(0, 1);
    }
    assert_eq!((gateway.house().http_sessions(), gateway.house().seats.taken()), (1, 3));
}

#[test]
fn of_a_thousand_subscriptions_of_one_client_as_many_are_opened_as_it_may_have_calls() {
    let gateway = Gateway::start(|_| {});
    let mut peer = Peer::connect(gateway.clients());
    let params = json!({"notifications": {"toolsListChanged": true}, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}});
    let answers: Vec<_> = (0..1_000).map(|id| peer.ask(&request(id, "subscriptions/listen", &params))).collect();
    assert_eq!(answers.iter().filter(|answer| answer["error"]["code"] == 429).count(), 1_000 - 64);
    assert!(answers[63]["method"].is_string() && answers[64]["error"].is_object());
    assert!(gateway.neighbour().is_answered(1));
}
