//! 2026-07-28: no sessions; header lines that say what the body says; subscriptions as event streams.

use lakh::conn::Parting;
use lakh::mcp::{Fault, Ignored};
use serde_json::{Value, json};

use crate::peer::http::Http;
use crate::peer::{Gateway, eventually, request};

#[test]
fn a_request_needs_no_session() {
    let gateway = Gateway::start(|_| {});
    let mut client = Http::connect(gateway.clients());
    let answer = client.post_modern(1, "server/discover", &json!({}));
    assert_eq!((answer.status, &answer.json()["result"]["supportedVersions"]), (200, &json!(["2026-07-28"])));
    assert_eq!(answer.line("mcp-session-id"), None);
    let answer = client.post_modern(2, "tools/call", &json!({"name": "echo", "arguments": {"text": "hi"}}));
    assert_eq!((answer.status, &answer.json()["result"]["resultType"]), (200, &json!("complete")));
    client.session = Some("anything".into());
    assert_eq!(client.post_modern(3, "tools/list", &json!({})).status, 200, "a session id is not looked at");
    assert_eq!(gateway.house().http_sessions(), 0);
}

#[test]
fn errors_have_the_status_that_goes_with_them() {
    let gateway = Gateway::start(|_| {});
    let mut client = Http::connect(gateway.clients());
    for method in ["initialize", "ping", "logging/setLevel", "unknown/method"] {
        let answer = client.post_modern(1, method, &json!({}));
        assert_eq!((answer.error(), &answer.json()["id"]), ((404, -32601), &json!(1)), "{method}");
    }
    for first in ["GET /mcp", "DELETE /mcp"] {
        let answer = client.ask(first, "Accept: text/event-stream\r\n");
        assert_eq!((answer.status, answer.line("allow")), (405, Some("POST, OPTIONS")));
    }
    let meta = |value: Value| json!({"_meta": value});
    client.version = Some("2026-07-28".into());
    client.lines = "Mcp-Method: tools/list\r\n".into();
    let version = "io.modelcontextprotocol/protocolVersion";
    for params in [json!({}), meta(json!({})), meta(json!({version: "2026-07-28"}))] {
        let answer = client.post(&request(7, "tools/list", &params));
        assert_eq!((answer.error(), &answer.json()["id"]), ((400, -32602), &json!(7)), "{params}");
    }
    client.version = Some("v999.0.0".into());
    let answer = client.post(&request(8, "tools/list", &meta(json!({version: "v999.0.0"}))));
    assert_eq!(answer.error(), (400, -32022));
    assert_eq!(answer.json()["error"]["data"], json!({"supported": ["2026-07-28"], "requested": "v999.0.0"}));
}

#[test]
fn header_lines_that_say_something_else_than_the_body_are_refused() {
    let gateway = Gateway::start(|_| {});
    let mut client = Http::connect(gateway.clients());
    let params = json!({"name": "echo", "arguments": {"text": "hi"}, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}});
    let call = request(3, "tools/call", &params);
    let version = Some("2026-07-28".to_owned());
    let wrong = [
        (None, "Mcp-Method: tools/call\r\nMcp-Name: echo\r\n"),
        (Some("2025-11-25".to_owned()), "Mcp-Method: tools/call\r\nMcp-Name: echo\r\n"),
        (version.clone(), "Mcp-Name: echo\r\n"),
        (version.clone(), "Mcp-Method: Tools/Call\r\nMcp-Name: echo\r\n"),
        (version.clone(), "Mcp-Method: tools/call\r\n"),
        (version.clone(), "Mcp-Method: tools/call\r\nMcp-Name: add\r\n"),
        (version.clone(), "Mcp-Method: tools/call\r\nMcp-Name: =?base64?ZWNobw?=\r\n"),
    ];
    for (version, lines) in &wrong {
        (client.version, client.lines) = (version.clone(), (*lines).to_owned());
        let answer = client.post(&call);
        assert_eq!((answer.error(), &answer.json()["id"]), ((400, -32020), &json!(3)), "{version:?} {lines}");
    }
    assert_eq!(gateway.house().ledger.faults.get(Fault::HeaderMismatch), wrong.len() as u64);
    for lines in [
        "mcp-METHOD:  tools/call \r\nMCP-Name:\techo\r\n",
        "Mcp-Method: tools/call\r\nMcp-Name: =?base64?ZWNobw==?=\r\n",
    ] {
        (client.version, client.lines) = (version.clone(), lines.to_owned());
        assert_eq!(client.post(&call).status, 200, "{lines}");
    }
}

#[test]
fn a_response_is_refused_with_words() {
    let gateway = Gateway::start(|_| {});
    let mut client = Http::connect(gateway.clients());
    client.version = Some("2026-07-28".into());
    let answer = client.post(&json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    assert!(answer.status == 400 && answer.body.contains("nothing that was asked"), "{answer:?}");
    assert_eq!(gateway.house().ledger.ignored.get(Ignored::UnaskedReply), 1);
}

#[test]
fn a_client_that_closes_cancels_its_call() {
    let gateway = Gateway::start(|_| {});
    let mut client = Http::connect(gateway.clients());
    client.say_modern(1, "tools/call", &json!({"name": "sleep", "arguments": {"ms": 60_000}}));
    assert!(eventually(|| gateway.house().in_flight.taken() == 1));
    drop(client);
    assert!(eventually(|| gateway.house().in_flight.taken() == 0));
    let mut client = Http::connect(gateway.clients());
    let params =
        json!({"name": "sleep", "arguments": {"ms": 60_000, "progressEvery": 100}, "_meta": {"progressToken": 1}});
    client.say_modern(1, "tools/call", &params);
    assert!(client.answer().is_stream());
    assert_eq!(client.event_message()["method"], "notifications/progress");
    drop(client);
    assert!(eventually(|| gateway.house().in_flight.taken() == 0));
    assert!(gateway.parted(Parting::PeerVanished, 2));
}

#[test]
fn a_subscription_is_acknowledged_kept_alive_and_ended_in_form() {
    let gateway = Gateway::start(|config| config.conn.keepalive_ms = 250);
    let mut client = Http::connect(gateway.clients());
    client.say_modern(4, "subscriptions/listen", &json!({"notifications": {"toolsListChanged": true}}));
    assert!(client.answer().is_stream());
    let first = client.event().expect("the acknowledgement");
    assert_eq!((first.id, first.retry), (None, None), "streams cannot be resumed");
    let message: Value = serde_json::from_str(&first.data.expect("a message")).expect("JSON");
    assert_eq!(message["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 4);
    assert!(client.event().expect("a comment").comment);
    gateway.drain();
    let last = client.event_message();
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!(4), &json!("complete")));
    while client.event().is_some() {}
}
