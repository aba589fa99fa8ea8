//! Upgrades that are taken, and each one that is refused.

use super::*;

/// The example of RFC 6455, section 1.2, with an allowed host and origin.
const SAMPLE: &str = "GET /chat?x=1 HTTP/1.1\r\n\
    Host: localhost:7700\r\n\
    Upgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Origin: http://localhost:3000\r\n\
    Sec-WebSocket-Protocol: chat, mcp.version.2025-06-18\r\n\
    Sec-WebSocket-Protocol: mcp , mcp.auth.c2VjcmV0\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

fn refused(head: &str) -> Refusal {
    read_upgrade(head.as_bytes(), &Config::default()).expect_err(head)
}

fn without(line: &str) -> String {
    SAMPLE.split_inclusive("\r\n").filter(|one| !one.starts_with(line)).collect()
}

#[test]
fn accepts_the_example_of_rfc_6455() {
    let bytes = [SAMPLE.as_bytes(), b"\x81\x80"].concat();
    let upgrade = read_upgrade(&bytes, &Config::default()).unwrap().unwrap();
    assert_eq!(upgrade.consumed, SAMPLE.len());
    assert_eq!((upgrade.target, upgrade.path(), upgrade.host), ("/chat?x=1", "/chat", "localhost:7700"));
    assert_eq!(upgrade.origin, Some("http://localhost:3000"));
    assert_eq!(upgrade.offers, Offers { mcp: true, version: Some("2025-06-18"), auth: Some("c2VjcmV0") });
    let mut out = Vec::new();
    write_switching(&mut out, &upgrade);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mcp\r\n\r\n"
    );
}

#[test]
fn selects_no_subprotocol_but_mcp() {
    for offer in ["", "Sec-WebSocket-Protocol: mcp.version.2025-06-18, MCP, chat\r\n"] {
        let head = without("Sec-WebSocket-Protocol")
            .replace("Sec-WebSocket-Version", &format!("{offer}Sec-WebSocket-Version"));
        let upgrade = read_upgrade(head.as_bytes(), &Config::default()).unwrap().unwrap();
        let mut out = Vec::new();
        write_switching(&mut out, &upgrade);
        assert!(!String::from_utf8(out).unwrap().contains("Protocol:"), "{offer}");
    }
}

#[test]
fn waits_for_the_whole_head() {
    for cut in 0..SAMPLE.len() {
        assert_eq!(read_upgrade(&SAMPLE.as_bytes()[..cut], &Config::default()), Ok(None), "{cut}");
    }
}

#[test]
fn every_fault_of_an_upgrade_is_named() {
    use Refusal::*;
    let swap = |from: &str, to: &str| SAMPLE.replace(from, to);
    for (head, refusal) in [
        (swap("GET", "POST"), Method),
        (swap("HTTP/1.1", "HTTP/1.0"), HttpVersion),
        (swap("HTTP/1.1", "HTTP/2.0"), HttpVersion),
        (without("Host"), HostMissing),
        (swap("localhost:7700", "evil.example"), HostForbidden),
        (swap("http://localhost:3000", "http://evil.example"), OriginForbidden),
        (swap("http://localhost:3000", "null"), OriginForbidden),
        (without("Upgrade"), NoUpgrade),
        (without("Connection"), NoUpgrade),
        (swap("websocket", "h2c"), NoUpgrade),
        (without("Sec-WebSocket-Version"), WebSocketVersion),
        (swap(": 13", ": 8"), WebSocketVersion),
        (without("Sec-WebSocket-Key"), Key),
        (swap("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"), Key),
        (swap("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="), Key),
        (swap("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZSEh"), Key),
        (swap("Upgrade: ", "Content-Length: 1\r\nUpgrade: "), Body),
        (swap("Upgrade: ", "Transfer-Encoding: chunked\r\nUpgrade: "), Body),
        (swap("Upgrade: ", "Transfer-Encoding: gzip\r\nUpgrade: "), TransferCoding),
        (swap("Upgrade: ", "Content-Length: 0\r\nContent-Length: 0\r\nUpgrade: "), LengthAmbiguous),
    ] {
        assert_eq!(refused(&head), refusal, "{head}");
    }
}

#[test]
fn a_head_that_two_parsers_may_read_differently_is_refused() {
    let swap = |from: &str, to: &str| SAMPLE.replace(from, to);
    for head in [
        swap("Host:", "Host :"),
        swap("Connection: keep-alive,", "Connection: keep-alive,\r\n "),
        swap("\r\nUpgrade", "\nUpgrade"),
        swap("keep-alive", "keep\ralive"),
        swap("keep-alive", "keep\0alive"),
        swap("keep-alive", "keep\u{1}alive"),
        swap("Upgrade: ", "Host: localhost\r\nUpgrade: "),
        swap("Upgrade: ", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUpgrade: "),
        swap("Upgrade: ", "Origin: http://localhost\r\nUpgrade: "),
        swap("Upgrade: ", ": x\r\nUpgrade: "),
        swap("Upgrade: ", "no colon\r\nUpgrade: "),
        swap("GET /", "GET  /"),
        swap("GET /", " GET /"),
        swap("/chat", "/ch\u{e9}t"),
        swap("/chat", "/ch\tt"),
        swap("GET /chat?x=1", "GET"),
        format!("\r\n{SAMPLE}"),
    ] {
        assert_eq!(refused(&head), Refusal::HeadInvalid, "{head:?}");
    }
}

#[test]
fn a_head_has_limits() {
    let config = Config { head_bytes_max: SAMPLE.len(), ..Config::default() };
    assert!(read_upgrade(SAMPLE.as_bytes(), &config).unwrap().is_some());
    let config = Config { head_bytes_max: SAMPLE.len() - 1, ..Config::default() };
    assert_eq!(read_upgrade(SAMPLE.as_bytes(), &config), Err(Refusal::HeadTooLong));
    assert_eq!(read_upgrade(&SAMPLE.as_bytes()[..SAMPLE.len() - 1], &config), Err(Refusal::HeadTooLong));
    let many = SAMPLE.replace("Upgrade: ", &("X: y\r\n".repeat(60) + "Upgrade: "));
    assert_eq!(refused(&many), Refusal::TooManyHeaders);
}

#[test]
fn every_refusal_is_a_whole_answer_that_ends_the_connection() {
    for &refusal in Refusal::ALL {
        let mut out = Vec::new();
        write_refusal(&mut out, refusal, Some(7), Manner::default());
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {} ", refusal.status())), "{head}");
        assert!(head.contains("\r\nConnection: close"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        assert_eq!(head.contains("Retry-After: 7"), matches!(refusal.status(), 429 | 503), "{head}");
        assert!(!head.contains(" \r\n") && body.ends_with(".\n"), "{text}");
    }
    let mut out = Vec::new();
    write_refusal(&mut out, Refusal::WebSocketVersion, None, Manner::default());
    assert!(String::from_utf8(out).unwrap().contains("\r\nSec-WebSocket-Version: 13\r\n"));
}
