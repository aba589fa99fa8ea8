//! Requests that are refused by name, and what a browser is told.

use lakh::conn::Parting;
use lakh::wire::http::Refusal;
use serde_json::json;

use crate::peer::http::Http;
use crate::peer::{Gateway, request};

/// A whole POST, but for what a test changes.
const POST: &str = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n\
                    Content-Type: application/json\r\nContent-Length: 40\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";

#[test]
fn what_cannot_be_served_is_told_and_the_connection_lives_on() {
    let gateway = Gateway::start(|_| {});
    let mut client = Http::connect(gateway.clients());
    for (from, to, status, refusal) in [
        ("/mcp", "/elsewhere", 404, Refusal::NotFound),
        ("POST /mcp", "POST /sse", 405, Refusal::MethodOfOldStream),
        ("POST /mcp", "DELETE /messages", 405, Refusal::MethodOfOldMessage),
        ("application/json, text/event-stream", "application/json", 406, Refusal::NotAcceptable),
        ("application/json, text/event-stream", "text/event-stream", 406, Refusal::NotAcceptable),
        ("application/json, text/event-stream", "text/html", 406, Refusal::NotAcceptable),
        ("Content-Type: application/json", "Content-Type: text/plain", 415, Refusal::ContentType),
        ("Content-Type: application/json", "X: y", 415, Refusal::ContentType),
        ("POST", "GET", 406, Refusal::NotAcceptable),
        ("", "", 400, Refusal::SessionMissing),
    ] {
        let accept = if to == "GET" { POST.replace("application/json, text/event-stream", "*/*") } else { POST.into() };
        client.send(accept.replacen(from, to, 1).as_bytes());
        let answer = client.answer();
        assert_eq!(answer.status, status, "{to}: {answer:?}");
        let allowed = match refusal {
            Refusal::MethodOfOldStream => Some("GET, OPTIONS"),
            Refusal::MethodOfOldMessage => Some("POST, OPTIONS"),
            _ => None,
        };
        assert_eq!(answer.line("allow"), allowed);
        assert!(gateway.house().ledger.http_refusals.get(refusal) > 0, "{refusal:?}");
    }
    assert_eq!(gateway.house().ledger.partings.total(), 0);
}

#[test]
fn what_two_parsers_could_read_as_two_requests_ends_the_connection() {
    let gateway = Gateway::start(|_| {});
    let smuggled = "GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (count, (from, to, status)) in (1..).zip([
        ("Content-Length: 40", "Content-Length: 40\r\nContent-Length: 0", 400),
        ("Content-Length: 40", "Content-Length: 40\r\nTransfer-Encoding: chunked", 400),
        ("Content-Length: 40", "Transfer-Encoding: chunked, identity", 400),
        ("Content-Length: 40", "Content-Length : 40", 400),
        ("Content-Length: 40", "X: y\r\n Content-Length: 40", 400),
        ("Content-Length: 40", "Content-Length: 4\u{1}0", 400),
        ("Content-Length: 40\r\n", "Content-Length: 40\n", 400),
        ("Content-Length: 40\r\n", "Content-Length: 40\rX: y\r\n", 400),
        ("Content-Length: 40", "Transfer-Encoding: chunked\r\n\r\nzz", 400),
        ("Content-Length: 40", "Content-Length: 5000000", 413),
        ("Host: localhost", "Host: evil.example.com", 403),
        ("Host: localhost", "Host: localhost\r\nOrigin: http://evil.example.com", 403),
        ("Host: localhost", "Expect: all\r\nHost: localhost", 417),
    ]) {
        let mut client = Http::connect(gateway.clients());
        client.send((POST.replacen(from, to, 1) + smuggled).as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status, answer.line("connection")), (status, Some("close")), "{to}: {answer:?}");
        assert!(client.is_closed(), "{to}");
        drop(client);
        assert!(gateway.parted(Parting::HttpRefused, count), "{to}");
    }
}

#[test]
fn a_body_that_is_asked_about_first_is_welcomed_or_not() {
    let gateway = Gateway::start(|_| {});
    let mut client = Http::connect(gateway.clients());
    let (head, body) = POST.split_once("\r\n\r\n").expect("a body");
    client.send(format!("{head}\r\nExpect: 100-continue\r\n\r\n").as_bytes());
    assert_eq!(client.answer().status, 100);
    client.send(body.as_bytes());
    assert_eq!(client.answer().status, 400, "it has no session");
    client.send(format!("{}\r\nExpect: 100-continue\r\n\r\n", head.replace("/mcp", "/elsewhere")).as_bytes());
    assert_eq!(client.answer().status, 404);
    assert!(client.is_closed());
}

#[test]
fn chunks_and_crumbs_are_put_together() {
    let gateway = Gateway::start(|_| {});
    let mut client = Http::open(gateway.clients(), "2025-11-25");
    let text = client.post_text(&request(1, "ping", &json!({})).to_string());
    let (head, body) = text.split_once("\r\n\r\n").expect("a body");
    let head = head.lines().filter(|line| !line.starts_with("Content-Length")).collect::<Vec<_>>().join("\r\n");
    let (left, right) = body.split_at(7);
    let chunks = format!("{:x}\r\n{left}\r\n{:X};x\r\n{right}\r\n0\r\n\r\n", left.len(), right.len());
    let text = format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    for byte in text.as_bytes() {
        client.send(&[*byte]);
    }
    assert_eq!(client.answer().json()["result"], json!({}));
    client.send(text.as_bytes());
    assert_eq!(client.answer().json()["result"], json!({}));
}

#[test]
fn http_1_0_and_close_end_behind_the_answer() {
    let gateway = Gateway::start(|_| {});
    let client = Http::open(gateway.clients(), "2025-11-25");
    let text = client.post_text(&request(1, "ping", &json!({})).to_string());
    for text in [text.replace("HTTP/1.1", "HTTP/1.0"), text.replace("Accept", "Connection: close\r\nAccept")] {
        let mut other = client.sibling();
        other.send(text.as_bytes());
        assert_eq!(other.answer().line("connection"), Some("close"));
        assert!(other.is_closed());
        drop(other);
    }
    assert!(gateway.parted(Parting::HttpDone, 2));
}

#[test]
fn a_page_is_told_what_it_may_read() {
    let gateway = Gateway::start(|config| config.wire.origins_allowed = vec!["https://app.example".into()]);
    let mut client = Http::connect(gateway.clients());
    client.lines = "Origin: https://app.example\r\n".into();
    let preflight =
        "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type, mcp-param-x\r\n";
    let answer = client.ask("OPTIONS /mcp", preflight);
    assert_eq!((answer.status, answer.line("access-control-allow-origin")), (204, Some("https://app.example")));
    assert_eq!(answer.line("access-control-allow-headers"), Some("content-type, mcp-param-x"));
    assert!(answer.line("access-control-allow-methods").is_some_and(|methods| methods.contains("DELETE")));
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "p", "version": "1"}});
    let answer = client.post(&request(0, "initialize", &params));
    assert!(answer.line("access-control-expose-headers").is_some_and(|names| names.contains("Mcp-Session-Id")));
    assert_eq!((answer.status, answer.line("vary")), (200, Some("Origin")));
    let answer = client.post(&request(1, "ping", &json!({})));
    assert_eq!((answer.status, answer.line("access-control-allow-origin")), (400, Some("https://app.example")));
    let with_origin = POST.replacen("Host", "Origin: https://app.example\r\nHost", 1);
    for (from, to, status) in [
        ("Content-Length: 40", "Content-Length: 5000000", 413),
        ("Content-Length: 40", &format!("X: {}", "y".repeat(20_000)), 431),
        ("Content-Length: 40", "Transfer-Encoding: chunked\r\n\r\nzz", 400),
    ] {
        let mut refused = Http::connect(gateway.clients());
        refused.send(with_origin.replacen(from, to, 1).as_bytes());
        let answer = refused.answer();
        assert_eq!((answer.status, answer.line("access-control-allow-origin")), (status, Some("https://app.example")));
    }
    client.lines = "Origin: https://evil.example\r\n".into();
    assert_eq!(client.ask("OPTIONS /mcp", preflight).status, 403);
}

#[test]
fn a_head_or_a_body_that_does_not_end_is_not_waited_for() {
    let gateway = Gateway::start(|config| {
        config.conn.handshake_ms = 500;
        config.conn.message_ms = 500;
        config.conn.http.idle_ms = 500;
    });
    let mut idle = Http::open(gateway.clients(), "2025-11-25");
    let mut half = Http::connect(gateway.clients());
    let of_page = POST.replacen("Host", "Origin: http://localhost\r\nHost", 1);
    half.send(&of_page.as_bytes()[..80]);
    let answer = half.answer();
    assert_eq!((answer.status, answer.line("access-control-allow-origin")), (408, Some("http://localhost")));
    let mut half = Http::connect(gateway.clients());
    half.send(&of_page.as_bytes()[..of_page.len() - 1]);
    let answer = half.answer();
    assert_eq!((answer.status, answer.line("access-control-allow-origin")), (408, Some("http://localhost")));
    assert!(idle.is_closed());
    drop((idle, half));
    assert!(gateway.parted(Parting::HandshakeTimeout, 1));
    assert!(gateway.parted(Parting::MessageTimeout, 1));
    assert!(gateway.parted(Parting::IdleTimeout, 1));
}
