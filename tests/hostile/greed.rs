//! Peers that would take all the memory: what is held for them stays bounded, in a process of its own.

use std::time::{Duration, Instant};

use lakh::conn::Parting;
use serde_json::json;

use crate::peer::{Gateway, Heard, Peer, Process, call, frame};

const MIB: u64 = 1 << 20;

#[test]
fn monologue_without_a_line_end() {
    let gateway = Gateway::start(|config| {
        config.wire.message_bytes_max = 64 << 10;
        config.wire.frame_bytes_max = 64 << 10;
    });
    let mut neighbour = gateway.neighbour();
    let mut talker = gateway.neighbour();
    talker.send(b"{\"jsonrpc\":\"");
    let until = Instant::now() + Duration::from_millis(1_500);
    std::thread::scope(|scope| {
        let talking = scope.spawn(|| {
            let words = vec![b'x'; 64 << 10];
            while Instant::now() < until && talker.try_send(&words).is_ok() {}
            talker
        });
        for id in 1.. {
            let asked = Instant::now();
            assert!(neighbour.is_answered(id));
            assert!(asked.elapsed() < Duration::from_millis(500), "the neighbour waited {:?}", asked.elapsed());
            if Instant::now() > until {
                break;
            }
        }
        let mut talker = talking.join().expect("no panic");
        assert_eq!(talker.hear_error().0, -32600);
        assert_eq!(talker.hear(), Heard::End);
    });
    assert!(gateway.holds(1) && neighbour.is_answered(1));
    assert!(gateway.parted(Parting::LineTooLong, 1));
}

#[test]
fn fifty_monologues_take_no_more_than_the_limit() {
    let process = Process::start(&[("LAKH_CONN_BUFFERED_BYTES_MAX", "8388608")]);
    let mut neighbour = Peer::line(process.clients);
    let before = process.rss();
    let words = vec![b' '; 3 << 20];
    let talkers: Vec<Peer> = (0..50)
        .map(|number| {
            let mut talker = Peer::connect(process.clients);
            // Under the limit of one message, far over what all may hold together.
            let _ = talker.try_send(b"{").and_then(|()| talker.try_send(&words));
            assert!(neighbour.is_answered(number));
            talker
        })
        .collect();
    let grown = process.rss().saturating_sub(before);
    assert!(grown < 64 * MIB, "grown by {grown} bytes");
    assert!(neighbour.is_answered(100));
    drop(talkers);
}

#[test]
fn slow_reader_is_paused_and_then_parted() {
    let gateway = Gateway::start(|config| config.conn.slow_reader_ms = 700);
    let mut neighbour = gateway.neighbour();
    for (count, connect) in (1..).zip([Peer::line, Peer::websocket]) {
        let mut reader = connect(gateway.clients());
        for id in 0..200 {
            reader.say(&call(id, "blob", &json!({"bytes": MIB})));
        }
        assert!(neighbour.is_answered(count));
        assert!(gateway.holds(1), "it never reads");
        assert!(gateway.parted(Parting::SlowReader, count));
    }
    assert!(neighbour.is_answered(9));
}

#[test]
fn a_reader_that_comes_back_gets_every_answer() {
    let gateway = Gateway::start(|_| {});
    let mut reader = gateway.neighbour();
    for id in 0..40 {
        reader.say(&call(id, "blob", &json!({"bytes": MIB})));
    }
    std::thread::sleep(Duration::from_millis(300));
    for id in 0..40 {
        assert_eq!(reader.hear_message()["id"], id);
    }
    assert!(reader.is_answered(41));
}

#[test]
fn thirty_slow_readers_take_no_more_than_the_marks() {
    let process = Process::start(&[]);
    let mut neighbour = Peer::line(process.clients);
    let before = process.rss();
    let mut readers: Vec<Peer> = (0..30).map(|_| Peer::line(process.clients)).collect();
    for reader in &mut readers {
        for id in 0..100 {
            reader.say(&call(id, "blob", &json!({"bytes": MIB})));
        }
        assert!(neighbour.is_answered(1));
    }
    let grown = process.rss().saturating_sub(before);
    // One answer each, with the high mark, in a buffer that may be twice as large; asked for were 3,000 MiB.
    assert!(grown < 30 * 3 * MIB, "grown by {grown} bytes");
    assert!(neighbour.is_answered(2));
}

#[test]
fn a_batch_that_asks_for_everything_is_bounded() {
    let process = Process::start(&[]);
    let mut neighbour = Peer::line(process.clients);
    let mut glutton = Peer::line_in(process.clients, "2025-03-26");
    let before = process.rss();
    let batch: Vec<_> = (0..1_000).map(|id| call(id, "blob", &json!({"bytes": MIB}))).collect();
    glutton.say(&json!(batch));
    assert!(neighbour.is_answered(1));
    let grown = process.rss().saturating_sub(before);
    assert!(grown < 64 * MIB, "grown by {grown} bytes");
    let answers = glutton.hear_message();
    let answers = answers.as_array().expect("one array");
    let refused = answers.iter().filter(|answer| answer["error"]["code"] == 429).count();
    assert_eq!((answers.len(), refused), (1_000, 999), "each is answered, and what does not fit is refused");
    assert!(neighbour.is_answered(2));
}

#[test]
fn fragments_without_end_are_bounded() {
    let gateway = Gateway::start(|config| config.wire.message_bytes_max = 4 << 20);
    let mut neighbour = gateway.neighbour();
    let mut peer = Peer::websocket(gateway.clients());
    peer.send(&frame(0x01, b"\""));
    let piece = frame(0x00, &vec![b'x'; 256 << 10]);
    while peer.try_send(&piece).is_ok() {
        if gateway.house().ledger.partings.total() > 0 {
            break;
        }
        assert!(neighbour.is_answered(1));
    }
    assert_eq!(peer.hear(), Heard::Close(1009));
    drop(peer);
    assert!(gateway.holds(1) && neighbour.is_answered(2));
}
