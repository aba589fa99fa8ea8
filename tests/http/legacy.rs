//! Sessions of 2025-03-26 to 2025-11-25: how they begin and end, and how a POST is answered.

use std::time::Duration;

use lakh::mcp::Ignored;
use lakh::wire::http::Refusal;
use serde_json::json;

use crate::peer::http::Http;
use crate::peer::{Gateway, call, eventually, request};

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

#[test]
fn a_session_begins_with_initialize_and_ends_with_delete() {
    let gateway = Gateway::start(|_| {});
    for revision in REVISIONS {
        let mut client = Http::open(gateway.clients(), revision);
        assert_eq!(gateway.house().http_sessions(), 1);
        let answer = client.post(&call(1, "echo", &json!({"text": "hi"})));
        assert_eq!((answer.status, answer.line("content-type")), (200, Some("application/json")));
        assert_eq!(answer.json()["result"]["content"][0]["text"], "hi");
        assert_eq!(answer.line("mcp-session-id"), None, "only initialize gives one");
        assert_eq!(client.post(&request(2, "ping", &json!({}))).json(), json!({"jsonrpc":"2.0","id":2,"result":{}}));
        assert_eq!(client.ask("DELETE /mcp", "").status, 204);
        assert_eq!(client.post(&request(3, "ping", &json!({}))).status, 404);
        assert_eq!(client.ask("DELETE /mcp", "").status, 404);
        assert_eq!(gateway.house().http_sessions(), 0);
    }
}

#[test]
fn a_session_is_the_same_on_all_its_connections_and_on_no_other() {
    let gateway = Gateway::start(|config| config.shards = 2);
    let mut first = Http::open(gateway.clients(), "2025-11-25");
    for _ in 0..8 {
        assert_eq!(first.sibling().post(&request(1, "tools/list", &json!({}))).status, 200);
    }
    first.session = Some("0".repeat(32));
    assert_eq!(first.post(&request(1, "ping", &json!({}))).status, 404);
    first.session = None;
    assert_eq!(first.post(&request(1, "ping", &json!({}))).status, 400);
    let ledger = &gateway.house().ledger.http_refusals;
    assert_eq!((ledger.get(Refusal::SessionUnknown), ledger.get(Refusal::SessionMissing)), (1, 1));
}

#[test]
fn two_keep_apart_though_they_use_the_same_ids() {
    let gateway = Gateway::start(|_| {});
    let mut clients: Vec<Http> = (0..20).map(|_| Http::open(gateway.clients(), "2025-06-18")).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.say(&call(7, "sleep", &json!({"ms": 100 + at % 3 * 50})));
    }
    for (at, client) in clients.iter_mut().enumerate() {
        let answer = client.answer();
        assert_eq!(answer.json()["result"]["structuredContent"]["sleptMs"], 100 + at % 3 * 50);
    }
}

#[test]
fn a_version_that_is_none_is_refused_and_none_is_fine() {
    let gateway = Gateway::start(|_| {});
    let mut client = Http::open(gateway.clients(), "2025-06-18");
    client.version = None;
    assert_eq!(client.post(&request(1, "ping", &json!({}))).status, 200);
    client.version = Some("1999-01-01".into());
    assert_eq!(client.post(&request(2, "ping", &json!({}))).status, 400);
    assert_eq!(client.get("").status, 400);
    assert_eq!(gateway.house().ledger.http_refusals.get(Refusal::ProtocolVersion), 2);
}

#[test]
fn an_error_in_initialize_opens_no_session() {
    let gateway = Gateway::start(|_| {});
    let mut client = Http::connect(gateway.clients());
    let answer = client.post(&request(1, "initialize", &json!({})));
    assert_eq!(answer.error(), (400, -32602));
    assert_eq!((answer.line("mcp-session-id"), gateway.house().http_sessions()), (None, 0));
    assert_eq!(client.post(&json!([1, 2])).status, 400);
    client.say_nonsense();
    assert_eq!(client.answer().error(), (400, -32700));
}

#[test]
fn one_session_more_than_there_may_be_is_refused() {
    let gateway = Gateway::start(|config| config.guard.sessions_max = 1);
    let client = Http::open(gateway.clients(), "2025-11-25");
    let mut late = Http::connect(gateway.clients());
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "l", "version": "1"}});
    let answer = late.post(&request(0, "initialize", &params));
    assert_eq!((answer.status, answer.line("retry-after")), (503, Some("5")));
    assert_eq!(client.sibling().ask("DELETE /mcp", "").status, 204);
    assert_eq!(late.post(&request(0, "initialize", &params)).status, 200);
}

#[test]
fn a_session_that_nobody_uses_is_forgotten() {
    let gateway = Gateway::start(|config| config.conn.http.session_idle_ms = 1_000);
    let mut client = Http::open(gateway.clients(), "2025-11-25");
    let streaming = Http::open(gateway.clients(), "2025-11-25");
    let mut stream = streaming.sibling();
    assert_eq!(stream.get("").status, 200);
    assert!(eventually(|| gateway.house().http_sessions() == 1), "the one with a stream stays");
    assert_eq!(client.post(&request(1, "ping", &json!({}))).status, 404);
    assert_eq!(streaming.sibling().post(&request(1, "ping", &json!({}))).status, 200);
}

#[test]
fn progress_makes_the_answer_an_event_stream() {
    let gateway = Gateway::start(|_| {});
    for revision in REVISIONS {
        let mut client = Http::open(gateway.clients(), revision);
        let params =
            json!({"name": "sleep", "arguments": {"ms": 250, "progressEvery": 100}, "_meta": {"progressToken": "p"}});
        let answer = client.post(&request(5, "tools/call", &params));
        assert!(answer.is_stream() && answer.status == 200, "{answer:?}");
        assert_eq!(
            (answer.line("x-accel-buffering"), answer.line("cache-control")),
            (Some("no"), Some("no-cache, no-transform"))
        );
        if revision == "2025-11-25" {
            let priming = client.event().expect("a priming event");
            assert_eq!(
                (priming.id.as_deref(), priming.data.as_deref(), priming.retry),
                (Some("1-0"), Some(""), Some(1_000))
            );
        }
        for step in 1..=2 {
            let event = client.event().expect("progress");
            assert_eq!(event.id, Some(format!("1-{step}")));
            let message: serde_json::Value = serde_json::from_str(&event.data.expect("a message")).expect("JSON");
            assert_eq!(
                (&message["params"]["progressToken"], &message["params"]["progress"]),
                (&json!("p"), &json!(100 * step))
            );
        }
        assert_eq!(client.event_message()["id"], 5);
        assert_eq!(client.event(), None, "the stream ends behind the answer");
        assert_eq!(client.post(&request(6, "ping", &json!({}))).status, 200, "and the connection lives on");
    }
}

#[test]
fn a_slow_answer_gets_a_stream_that_is_kept_alive() {
    let gateway = Gateway::start(|config| {
        config.conn.http.sse_after_ms = 250;
        config.conn.keepalive_ms = 250;
    });
    let mut client = Http::open(gateway.clients(), "2025-06-18");
    let answer = client.post(&call(1, "sleep", &json!({"ms": 1_500})));
    assert!(answer.is_stream());
    let comments = std::iter::from_fn(|| client.event()).take_while(|event| event.comment).count();
    assert!(comments >= 1, "{comments}");
}

#[test]
fn a_cancellation_on_another_connection_finds_its_call() {
    let gateway = Gateway::start(|config| config.shards = 2);
    let mut client = Http::open(gateway.clients(), "2025-11-25");
    for round in 0..6 {
        client.say(&call(9, "sleep", &json!({"ms": 60_000})));
        assert!(eventually(|| gateway.house().in_flight.taken() == 1));
        let mut other = client.sibling();
        let answer = other.post(&call(9, "sleep", &json!({"ms": 1})));
        assert_eq!(answer.error().1, -32600, "the id is in use: {answer:?}");
        let cancel = json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}});
        assert_eq!(other.post(&cancel).status, 202);
        assert_eq!((client.answer().status, round), (202, round), "no answer to what was cancelled");
        assert!(eventually(|| gateway.house().in_flight.taken() == 0));
        assert_eq!(other.post(&cancel).status, 202, "cancelling what is over is nothing");
        assert_eq!(gateway.house().ledger.ignored.get(Ignored::LateCancel), round + 1);
    }
}

#[test]
fn a_session_that_ends_ends_its_calls_and_streams() {
    let gateway = Gateway::start(|_| {});
    let mut client = Http::open(gateway.clients(), "2025-11-25");
    let (mut stream, mut other) = (client.sibling(), client.sibling());
    assert!(stream.get("").is_stream());
    client.say(&call(1, "sleep", &json!({"ms": 60_000})));
    assert!(eventually(|| gateway.house().in_flight.taken() == 1));
    assert_eq!(other.ask("DELETE /mcp", "").status, 204);
    assert_eq!(client.answer().status, 404);
    while stream.event().is_some() {}
    assert!(eventually(|| gateway.house().in_flight.taken() == 0));
}

#[test]
fn batches_are_for_2025_03_26_alone() {
    let gateway = Gateway::start(|_| {});
    let batch = json!([request(1, "ping", &json!({})), call(2, "sleep", &json!({"ms": 50})),
        {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}]);
    let mut client = Http::open(gateway.clients(), "2025-03-26");
    let answer = client.post(&batch).json();
    let mut ids: Vec<u64> = answer.as_array().expect("an array").iter().filter_map(|one| one["id"].as_u64()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
    let silent = json!([{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}},
        {"jsonrpc": "2.0", "id": 6, "result": {}}]);
    assert_eq!(client.post(&silent).status, 202);
    let mut client = Http::open(gateway.clients(), "2025-06-18");
    assert_eq!(client.post(&batch).json()["error"]["code"], -32600);
}

#[test]
fn a_batch_is_held_to_what_its_session_has_going_elsewhere() {
    let gateway = Gateway::start(|config| config.conn.in_flight_max = 1);
    let mut client = Http::open(gateway.clients(), "2025-03-26");
    client.say(&call(1, "sleep", &json!({"ms": 60_000})));
    assert!(eventually(|| gateway.house().in_flight.taken() == 1));
    for (id, code) in [(1, -32600), (2, 429)] {
        let answer = client.sibling().post(&json!([request(id, "ping", &json!({}))])).json();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(id), &json!(code)), "{answer}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let gateway = Gateway::start(|_| {});
    let mut client = Http::open(gateway.clients(), "2025-11-25");
    let mut text = String::new();
    for id in 1..=20 {
        let ms = if id % 5 == 0 { 60 } else { 0 };
        text += &client.post_text(&call(id, "sleep", &json!({"ms": ms})).to_string());
    }
    client.send(text.as_bytes());
    for id in 1..=20 {
        assert_eq!(client.answer().json()["id"], id);
    }
    assert!(client.hears_nothing(Duration::from_millis(50)));
}
