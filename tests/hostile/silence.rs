//! Clients that say nothing: pinged, and parted when they give no sign of life; or parted when they may not be idle.

use std::thread;
use std::time::Duration;

use lakh::conn::Parting;

use crate::peer::{Gateway, Heard, Peer};

#[test]
fn a_silent_websocket_is_pinged_and_parted_unless_it_answers() {
    let gateway = Gateway::start(|config| {
        config.conn.keepalive_ms = 500;
        config.conn.keepalive_missed_max = 1;
    });
    let mut mute = Peer::websocket(gateway.clients());
    let mut alive = Peer::websocket(gateway.clients());
    // Answers each ping for as long as the gateway is there.
    let alive = thread::Builder::new().spawn(move || alive.hear()).expect("a thread");
    assert!(gateway.parted(Parting::KeepAliveTimeout, 1));
    // An empty ping frame is 0x89 and 0, which is no text.
    assert_eq!(mute.rest(), "\u{fffd}\0", "it was pinged once, and told nothing more");
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(gateway.house().seats.taken(), 1, "the one that answers stays");
    assert_eq!(gateway.house().ledger.partings.get(Parting::KeepAliveTimeout), 1);
    drop(gateway);
    assert_eq!(alive.join().expect("no panic"), Heard::End);
}

#[test]
fn an_idle_client_is_parted_where_that_is_asked_for_and_a_busy_one_is_not() {
    let gateway = Gateway::start(|config| config.conn.idle_ms = 700);
    let mut busy = Peer::line(gateway.clients());
    let mut idle = Peer::line(gateway.clients());
    for id in 0..15 {
        assert!(busy.is_answered(id));
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(idle.hear(), Heard::End);
    assert!(busy.is_answered(15));
    drop(idle);
    assert!(gateway.parted(Parting::IdleTimeout, 1));
}
