//! Peers that do not get as far as a message: other protocols, other HTTP, and those who fall silent.

use std::time::Duration;

use lakh::conn::Parting;
use lakh::mcp::Fault;
use lakh::wire::dialect::Stranger;
use lakh::wire::http::Refusal;
use serde_json::{Value, json};

use crate::peer::{Gateway, Heard, Peer, call, frame, upgrade};

#[test]
fn stranger_is_told_what_is_spoken_here() {
    let gateway = Gateway::start(|_| {});
    let mut neighbour = gateway.neighbour();
    let strangers: [(&[u8], Stranger, &str); 6] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Stranger::Tls, "TLS"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Stranger::Ssh, "SSH"),
        (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", Stranger::ProxyHeader, "PROXY"),
        (b"Content-Length: 40\r\n\r\n", Stranger::ContentLength, "newline"),
        (b"hello\n", Stranger::Text, "JSON-RPC"),
        (b"\x00\x9f\x01\xff garbage", Stranger::Binary, "JSON-RPC"),
    ];
    for (count, (bytes, stranger, advice)) in (1..).zip(strangers) {
        let mut peer = Peer::connect(gateway.clients());
        peer.send(bytes);
        let answer = peer.hear_message();
        assert_eq!(answer["error"]["code"], -32700, "{stranger:?}");
        assert!(answer["error"]["message"].to_string().contains(advice), "{answer}");
        assert_eq!(peer.hear(), Heard::End, "{stranger:?}");
        drop(peer);
        assert!(neighbour.is_answered(count) && gateway.holds(1), "{stranger:?}");
        assert_eq!(gateway.house().ledger.strangers.get(stranger), 1, "{stranger:?}");
        assert!(gateway.parted(Parting::UnknownDialect, count));
    }
}

#[test]
fn http_that_is_not_served_is_told_why() {
    let gateway = Gateway::start(|_| {});
    let good = upgrade(gateway.clients());
    let host = format!("Host: {}", gateway.clients());
    let requests = [
        (good.replace("Connection: Upgrade", "Connection: close"), 426, Refusal::NoUpgrade),
        (good.replace("GET", "POST"), 405, Refusal::Method),
        (good.replace("/mcp", "/elsewhere"), 404, Refusal::NotFound),
        (good.replace(&host, "Host: rebound.example"), 403, Refusal::HostForbidden),
        (good.replace(&format!("{host}\r\n"), ""), 400, Refusal::HostMissing),
        (good.replace(&host, &format!("{host}\r\nOrigin: https://evil.example")), 403, Refusal::OriginForbidden),
        (good.replace(&host, &format!("{host}\r\nOrigin: null")), 403, Refusal::OriginForbidden),
        (good.replace("Version: 13", "Version: 8"), 426, Refusal::WebSocketVersion),
        (good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400, Refusal::Key),
        (good.replace("HTTP/1.1", "HTTP/1.0"), 505, Refusal::HttpVersion),
        (good.replace("\r\n", "\n"), 400, Refusal::HeadInvalid),
        (good.replace(&host, &format!("{host}\r\nX: {}", "y".repeat(20_000))), 431, Refusal::HeadTooLong),
        (good.replace(&host, &format!("{host}{}", "\r\nX: y".repeat(80))), 431, Refusal::TooManyHeaders),
    ];
    let mut neighbour = gateway.neighbour();
    for (count, (text, status, refusal)) in (1..).zip(requests) {
        let before = gateway.house().ledger.http_refusals.get(refusal);
        let mut peer = Peer::connect(gateway.clients());
        peer.send(text.as_bytes());
        let answer = peer.rest();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{refusal:?}: {answer}");
        drop(peer);
        assert!(neighbour.is_answered(count) && gateway.holds(1), "{refusal:?}");
        assert_eq!(gateway.house().ledger.http_refusals.get(refusal), before + 1, "{refusal:?}");
        assert!(gateway.parted(Parting::HttpRefused, count));
    }
}

#[test]
fn two_hundred_that_begin_and_fall_silent() {
    let gateway = Gateway::start(|config| {
        config.conn.handshake_ms = 700;
        config.conn.message_ms = 700;
    });
    let mut neighbour = gateway.neighbour();
    let mut websocket = Peer::websocket(gateway.clients());
    let head = upgrade(gateway.clients());
    let beginnings: [&[u8]; 4] = [b"", &head.as_bytes()[..60], br#"{"jsonrpc":"2.0","#, b"GE"];
    let mut mutes: Vec<Peer> = (0..200).map(|_| Peer::connect(gateway.clients())).collect();
    for (mute, beginning) in mutes.iter_mut().zip(beginnings.iter().cycle()) {
        mute.send(beginning);
    }
    // A frame and a message that are never finished, on a connection that was well so far.
    websocket.send(&frame(0x01, br#"{"jsonrpc":"#));
    assert!(gateway.holds(202) && neighbour.is_answered(1));
    for (mute, beginning) in mutes.iter_mut().zip(beginnings.iter().cycle()) {
        if beginning.starts_with(b"GE") {
            let answer = mute.rest();
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        } else {
            assert_eq!(mute.hear_error(), (-32600, Value::Null));
            assert_eq!(mute.hear(), Heard::End);
        }
    }
    assert_eq!(websocket.hear(), Heard::Close(1008));
    drop((mutes, websocket));
    assert!(gateway.holds(1) && neighbour.is_answered(2));
    let ledger = &gateway.house().ledger;
    assert!(gateway.parted(Parting::HandshakeTimeout, 150));
    assert!(gateway.parted(Parting::MessageTimeout, 51));
    assert_eq!(ledger.faults.get(Fault::TooSlow), 100, "those who were told in JSON");
}

#[test]
fn dribbler_of_single_bytes_is_served() {
    let gateway = Gateway::start(|_| {});
    let mut neighbour = gateway.neighbour();
    let ping = r#"{"jsonrpc":"2.0","id":"é","method":"ping"}"#;
    let mut line = Peer::connect(gateway.clients());
    line.dribble(format!("\r\n{ping}\r\n{ping}\n").as_bytes());
    assert_eq!((&line.hear_message()["id"], &line.hear_message()["id"]), (&json!("é"), &json!("é")));
    let mut websocket = Peer::dribbling_upgrade(gateway.clients());
    websocket.dribble(&frame(0x81, ping.as_bytes()));
    assert_eq!(websocket.hear_message()["id"], "é");
    websocket.dribble(&[frame(0x01, &ping.as_bytes()[..25]), frame(0x80, &ping.as_bytes()[25..])].concat());
    assert_eq!(websocket.hear_message()["id"], "é", "cut within a character");
    assert!(neighbour.is_answered(1));
    assert_eq!(gateway.house().ledger.partings.total(), 0);
}

#[test]
fn one_that_leaves_in_the_middle() {
    let gateway = Gateway::start(|_| {});
    let mut neighbour = gateway.neighbour();
    let mut quitter = gateway.neighbour();
    quitter.say(&call(1, "sleep", &json!({"ms": 60_000})));
    assert!(quitter.is_answered(2));
    drop(quitter);
    let mut breaker = gateway.neighbour();
    breaker.send(br#"{"jsonrpc":"#);
    std::thread::sleep(Duration::from_millis(50));
    drop(breaker);
    drop(gateway.neighbour());
    assert!(gateway.holds(1) && neighbour.is_answered(1));
    assert_eq!(gateway.house().in_flight.taken(), 0, "its call is cancelled");
    assert!(gateway.parted(Parting::PeerVanished, 2));
    assert!(gateway.parted(Parting::PeerClosed, 1));
}
