//! Memory: answers that nobody reads, and who goes first when it is short.

use lakh::conn::Parting;
use lakh::guard::{Refusal, Zone};
use serde_json::json;

use crate::peer::http::Http;
use crate::peer::{Gateway, Heard, Peer, call, eventually, request};
use crate::{bare, echo, refused, sleep, told};

#[test]
fn while_too_many_answers_wait_those_who_do_not_read_may_not_call_for_more() {
    let gateway = Gateway::start(|config| {
        config.guard.outbox_bytes_max = 1;
        // Or it would not even be listened to.
        (config.conn.outbox_bytes_high, config.conn.outbox_bytes_max) = (100 << 20, 200 << 20);
    });
    let (mut peer, mut all) = (gateway.neighbour(), 0);
    for mut mute in [gateway.neighbour(), Peer::websocket(gateway.clients())] {
        // More than any socket takes.
        for id in 0..20 {
            mute.say(&call(id, "blob", &json!({"bytes": 1_000_000})));
        }
        assert!(eventually(|| gateway.house().guards.outbox_bytes() > 1));
        assert!(crate::metric(&gateway, "lakh_outboxes_bytes{bytes=\"waiting\"}") > 1);
        mute.say(&echo(99));
        assert!(peer.ask(&echo(1))["result"].is_object(), "one who reads notices nothing");
        // Those that were called for while some waited already are refused, too.
        let answers: Vec<_> = (0..21).map(|_| mute.hear_message()).collect();
        let refusals: Vec<_> = answers.iter().filter(|answer| answer["error"].is_object()).collect();
        assert!(refusals.iter().all(|refusal| told(refusal) == (503, 5_000)));
        assert_eq!((&answers[20]["id"], &answers[0]["id"]), (&json!(99), &json!(0)));
        assert!(answers[20]["error"].is_object() && answers[0]["result"].is_object());
        all += refusals.len() as u64;
        assert!(eventually(|| gateway.house().guards.outbox_bytes() == 0));
        assert!(mute.ask(&echo(100))["result"].is_object(), "now it has read");
    }
    assert!(refused(&gateway, Refusal::OutboxesFull, all));
}

#[test]
fn when_memory_is_short_those_go_first_who_have_nothing_to_do() {
    let (house, shard) = bare();
    let (mut line, mut websocket) = (Peer::line(shard.clients), Peer::websocket(shard.clients));
    let mut busy = Peer::line(shard.clients);
    busy.say(&sleep(1));
    assert!(busy.is_answered(2));
    let idle = Http::open(shard.clients, "2025-11-25");
    let streaming = Http::open(shard.clients, "2025-11-25");
    let mut stream = streaming.sibling();
    assert_eq!(stream.get("").status, 200);
    house.pressure.set(Zone::Critical, Zone::Critical);

    let error = line.hear_message();
    assert_eq!(told(&error), (503, 5_000));
    assert!(error["error"]["message"].as_str().is_some_and(|message| message.contains("memory")), "{error}");
    assert_eq!((line.hear(), websocket.hear()), (Heard::End, Heard::Close(1013)));
    assert!(eventually(|| house.http_sessions() == 1), "the one with a stream stays");
    // Two lines of HTTP besides, which are told nothing: between two requests there is nothing to answer. A client closes
    // its side when it sees the end.
    drop((line, websocket));
    assert!(eventually(|| house.ledger.partings.get(Parting::MemoryShort) == 4 && house.seats.taken() == 2));
    assert!(busy.is_answered(3) && house.in_flight.taken() == 1, "its call goes on");
    house.pressure.set(Zone::Safe, Zone::Safe);
    let mut back = idle.sibling();
    assert_eq!(back.post(&request(1, "ping", &json!({}))).status, 404, "it is to initialize again");
    assert_eq!(streaming.sibling().post(&echo(1)).status, 200);
}
