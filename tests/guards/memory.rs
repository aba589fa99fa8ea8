//! Memory: answers that nobody reads, and who goes first when it is short.

use lakh::conn::Parting;
use lakh::guard::{Refusal, Zone};
use serde_json::json;

use crate::peer::http::Http;
use crate::peer::{Gateway, Heard, Peer, call, eventually, request};
use crate::{agrees, echo, refused, sleep, told};

#[test]
fn while_answers_wait_for_those_who_do_not_read_no_call_is_taken() {
    let gateway = Gateway::start(|config| config.guard.outbox_bytes_max = 0);
    let (mut peer, mut mute) = (gateway.neighbour(), gateway.neighbour());
    let mut http = Http::open(gateway.clients(), "2025-11-25");
    assert!(peer.ask(&echo(1))["result"].is_object(), "nothing waits");
    // More than any socket takes; the answers come one after another.
    for id in 0..20 {
        mute.say(&call(id, "blob", &json!({"bytes": 1_000_000})));
    }
    assert!(eventually(|| gateway.house().guards.outbox_bytes() > 0));
    assert_eq!(told(&peer.ask(&echo(2))), (503, 5_000));
    let answer = http.post(&echo(3));
    assert!(answer.status == 503 && agrees(&answer), "{answer:?}");
    assert!(peer.is_answered(4), "what needs no memory is answered");
    assert!(gateway.house().seats.refusals.get(Refusal::OutboxesFull) >= 2);
    drop(mute);
    assert!(eventually(|| gateway.house().guards.outbox_bytes() == 0));
    assert!(peer.ask(&echo(5))["result"].is_object());
}

#[test]
fn when_memory_is_short_those_go_first_who_have_nothing_to_do() {
    let gateway = Gateway::start(|config| {
        config.monitor.interval_ms = 3_600_000;
        config.guard.idle_ms_min = 1_000;
    });
    let (mut line, mut websocket) = (gateway.neighbour(), Peer::websocket(gateway.clients()));
    let mut busy = gateway.neighbour();
    busy.say(&sleep(1));
    assert!(busy.is_answered(2));
    let idle = Http::open(gateway.clients(), "2025-11-25");
    let streaming = Http::open(gateway.clients(), "2025-11-25");
    let mut stream = streaming.sibling();
    assert_eq!(stream.get("").status, 200);
    gateway.house().pressure.set(Zone::Critical, Zone::Critical);

    let error = line.hear_message();
    assert_eq!(told(&error), (503, 5_000));
    assert!(error["error"]["message"].as_str().is_some_and(|message| message.contains("memory")), "{error}");
    assert_eq!((line.hear(), websocket.hear()), (Heard::End, Heard::Close(1013)));
    assert!(eventually(|| gateway.house().http_sessions() == 1), "the one with a stream stays");
    // Two lines of HTTP besides, which are told nothing: between two requests there is nothing to answer.
    assert!(gateway.parted(Parting::MemoryShort, 4) && gateway.holds(2));
    assert_eq!(crate::metric(&gateway, "lakh_partings_total{reason=\"memory_short\"}"), 4);
    assert!(busy.is_answered(3) && gateway.house().in_flight.taken() == 1, "its call goes on");
    gateway.house().pressure.set(Zone::Safe, Zone::Safe);
    let mut back = idle.sibling();
    assert_eq!(back.post(&request(1, "ping", &json!({}))).status, 404, "it is to initialize again");
    assert_eq!(streaming.sibling().post(&echo(1)).status, 200);
    assert!(refused(&gateway, Refusal::Critical, 0));
}
