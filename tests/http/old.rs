//! HTTP+SSE of 2024-11-05.

use serde_json::json;

use crate::peer::http::Http;
use crate::peer::{Gateway, call, eventually, request};

#[test]
fn messages_are_posted_and_answered_on_the_stream() {
    let gateway = Gateway::start(|config| config.shards = 2);
    for _ in 0..6 {
        let mut stream = Http::connect(gateway.clients());
        assert!(stream.ask("GET /sse", "Accept: text/event-stream\r\n").is_stream());
        let endpoint = stream.event().expect("the endpoint");
        assert_eq!(endpoint.name.as_deref(), Some("endpoint"));
        let path = endpoint.data.expect("a path");
        let mut poster = Http::connect(gateway.clients());
        let params =
            json!({"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}});
        assert_eq!(poster.post_to(&path, &request(0, "initialize", &params)).status, 202);
        assert_eq!(stream.event_message()["result"]["protocolVersion"], "2024-11-05");
        poster.post_to(&path, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        poster.post_to(&path, &call(1, "sleep", &json!({"ms": 60_000})));
        poster.post_to(&path, &call(2, "echo", &json!({"text": "hi"})));
        assert_eq!(stream.event_message()["result"]["content"][0]["text"], "hi");
        assert_eq!(gateway.house().in_flight.taken(), 1);
        poster.send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n").as_bytes());
        poster.send(b"Content-Type: application/json\r\nContent-Length: 1\r\n\r\n\xff");
        let answer = poster.answer();
        assert!(answer.status == 400 && answer.body.contains("UTF-8"), "{answer:?}");
        drop(stream);
        assert!(eventually(|| gateway.house().in_flight.taken() == 0), "it leaves, and its calls end");
        assert_eq!(poster.post_to(&path, &call(3, "echo", &json!({"text": "hi"}))).status, 404);
        assert!(eventually(|| gateway.house().http_sessions() == 0));
    }
}
