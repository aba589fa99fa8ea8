//! The loop against tenants of a few lines.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use super::*;
use crate::pool::{Config, Pool};
use mio::net::TcpListener;

/// Tenants that read a few bytes a turn, and trust a short read as the connections do.
struct Readers {
    pool: Pool<TcpStream>,
    ends: usize,
    drained: bool,
    again_most: usize,
    /// Publications until the test gives up: two a second.
    patience: usize,
    /// Whether to ask for another turn for ever.
    greedy: bool,
}

impl Readers {
    fn new() -> Self {
        let pool = Pool::new(Config::default());
        Self { pool, ends: 0, drained: false, again_most: 0, patience: 6, greedy: false }
    }
}

impl Tenants for Readers {
    fn arrive(&mut self, desk: &mut Desk<'_>, socket: TcpStream, _from: SocketAddr) {
        let mut lease = self.pool.acquire(socket).expect("room");
        let key = lease.key();
        desk.watch(&mut lease, key).expect("watched");
        lease.keep();
    }

    fn accept_failed(&mut self, error: &io::Error) {
        panic!("{error}");
    }

    fn ready(&mut self, desk: &mut Desk<'_>, key: Key, readiness: Readiness) {
        let Some(socket) = self.pool.get_mut(key) else { return };
        let mut scratch = [0; 4];
        match socket.read(&mut scratch) {
            Ok(0) => self.ends += 1,
            Ok(n) if n == scratch.len() || readiness.read_closed || self.greedy => desk.again(key),
            Ok(_) | Err(_) if self.greedy => desk.again(key),
            Ok(_) | Err(_) => {}
        }
        self.again_most = self.again_most.max(desk.again.len());
    }

    fn letters(&mut self, _desk: &mut Desk<'_>, _key: Key, _letters: impl Iterator<Item = Letter>) {}

    fn deadline(&mut self, _desk: &mut Desk<'_>, _key: Key) {}

    fn order(&mut self, _desk: &mut Desk<'_>, order: Order) {
        self.drained |= matches!(order, Order::Drain { .. });
    }

    fn publish(&mut self, _desk: &Desk<'_>) {
        self.patience = self.patience.saturating_sub(1);
    }

    fn finished(&self) -> bool {
        self.ends > 0 || self.drained || self.patience == 0
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let addr = listener.local_addr().expect("its address");
    (listener, addr)
}

/// The one event that told of the end also told of more bytes than one turn reads.
#[test]
fn an_end_is_seen_by_whoever_asked_for_another_turn() {
    let (listener, addr) = listener();
    let mut client = std::net::TcpStream::connect(addr).expect("connected");
    client.write_all(b"123456").expect("sent");
    drop(client);
    let mut readers = Readers::new();
    run(&Berth::new(0).expect("a berth"), listener, 10, &mut readers).expect("a loop");
    assert_eq!(readers.ends, 1);
}

#[test]
fn whoever_asks_often_for_another_turn_gets_one() {
    let (listener, addr) = listener();
    let sender = thread::spawn(move || {
        let mut client = std::net::TcpStream::connect(addr).expect("connected");
        client.set_nodelay(true).expect("at once");
        // Each segment is an event of its own.
        while client.write_all(b"x").is_ok() {
            thread::yield_now();
        }
    });
    let mut readers = Readers { greedy: true, patience: 2, ..Readers::new() };
    run(&Berth::new(0).expect("a berth"), listener, 10, &mut readers).expect("a loop");
    let most = readers.again_most;
    drop(readers);
    sender.join().expect("the sender ends with its connection");
    assert!(most <= 2, "{most} turns were asked for at once");
}

#[test]
fn mail_that_a_panic_left_behind_is_read_by_the_next_life() {
    let berth = Berth::new(0).expect("a berth");
    berth.inbox.post(Mail::Order(Order::Panic));
    berth.inbox.post(Mail::Order(Order::Drain { per_mille: 1_000, gently: false }));
    let life = || {
        let mut readers = Readers::new();
        run(&berth, listener().0, 10, &mut readers).map(|()| readers.drained)
    };
    assert!(catch_unwind(AssertUnwindSafe(life)).is_err(), "the first life panics");
    assert!(life().expect("a loop"), "the second one drains");
}
