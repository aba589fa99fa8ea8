//! Bytes that one client sends a minute.

use lakh::guard::Refusal;
use serde_json::{Value, json};

use crate::peer::http::Http;
use crate::peer::{Gateway, Peer, call};
use crate::{is_told_inside, refused, told};

/// Messages of 4,096 bytes at most, and not two of them in a minute.
fn gateway() -> Gateway {
    Gateway::start(|config| {
        (config.wire.message_bytes_max, config.wire.frame_bytes_max) = (4_096, 4_096);
        config.plans.entry("default".into()).or_default().bytes_per_minute = 4_096;
    })
}

fn large(id: u64) -> Value {
    call(id, "echo", &json!({"text": "x".repeat(3_600)}))
}

#[test]
fn what_is_too_much_is_refused_and_what_is_not_is_served() {
    let gateway = gateway();
    for mut peer in [gateway.neighbour(), Peer::websocket(gateway.clients())] {
        assert!(peer.ask(&large(1))["result"].is_object());
        let refusal = peer.ask(&large(2));
        let (code, wait) = told(&refusal);
        assert_eq!((code, &refusal["id"]), (429, &json!(2)));
        assert!((30_000..60_000).contains(&wait), "{wait}");
        peer.say(&json!({"jsonrpc": "2.0", "method": "notifications/none", "params": {"x": "x".repeat(3_600)}}));
        assert!(peer.is_answered(3), "a notification has no answer, and what is small still fits");
    }
    let mut http = Http::open(gateway.clients(), "2025-11-25");
    assert_eq!(http.post(&large(1)).status, 200);
    let answer = http.sibling().post(&large(2));
    assert!(is_told_inside(&answer, 429), "one session, whatever connection: {answer:?}");
    let notification = json!({"jsonrpc": "2.0", "method": "notifications/none", "params": {"x": "x".repeat(3_600)}});
    assert_eq!(http.post(&notification).status, 429);
    assert_eq!(http.post(&crate::echo(3)).status, 200);
    assert!(refused(&gateway, Refusal::BytesRate, 6));
    assert!(gateway.neighbour().ask(&large(1))["result"].is_object(), "another client has its own");
}

#[test]
fn a_limit_below_one_message_is_no_configuration() {
    let mut config = lakh::config::Config::default();
    config.plans.entry("default".into()).or_default().bytes_per_minute = 1_000;
    let told = config.plan(&lakh::meter::Host::read()).expect_err("no message would fit").to_string();
    assert!(told.contains("`plans.default.bytes_per_minute` is below `wire.message_bytes_max`"), "{told}");
}
