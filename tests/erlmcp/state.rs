//! The compact state of a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use lakh::actor::{Desk, Letter, Order, Readiness, Tenants};
use lakh::conn::{Connections, Mcp, Snapshot};
use lakh::mcp::Profiles;
use lakh::pool::Key;
use mio::net::TcpStream;
use serde_json::json;

use crate::peer::{Peer, Shard, call, frame, house, mcp, request};

/// Connections that are taken apart into bytes and put together again after each event.
struct Travellers {
    inner: Connections<Mcp>,
    profiles: Profiles,
    /// The length of each snapshot in bytes.
    lengths: Arc<Mutex<Vec<usize>>>,
}

impl Tenants for Travellers {
    fn ready(&mut self, desk: &mut Desk<'_>, key: Key, readiness: Readiness) {
        self.inner.ready(desk, key, readiness);
        let Some(snapshot) = self.inner.snapshot(key, desk.now) else { return };
        let mut bytes = Vec::new();
        snapshot.encode(&mut bytes);
        let read = Snapshot::decode(&bytes, &mut self.profiles).expect("a snapshot");
        assert_eq!(read, snapshot, "nothing is lost");
        assert!(self.inner.restore(key, read, desk.now));
        self.lengths.lock().expect("no panic before").push(bytes.len());
    }

    fn arrive(&mut self, desk: &mut Desk<'_>, socket: TcpStream, from: SocketAddr) {
        self.inner.arrive(desk, socket, from);
    }

    fn accept_failed(&mut self, error: &io::Error) {
        self.inner.accept_failed(error);
    }

    fn letters(&mut self, desk: &mut Desk<'_>, key: Key, letters: impl Iterator<Item = Letter>) {
        self.inner.letters(desk, key, letters);
    }

    fn turned(&mut self) -> u64 {
        self.inner.turned()
    }

    fn deadline(&mut self, desk: &mut Desk<'_>, key: Key) {
        self.inner.deadline(desk, key);
    }

    fn order(&mut self, desk: &mut Desk<'_>, order: Order) {
        self.inner.order(desk, order);
    }

    fn publish(&mut self, desk: &Desk<'_>) {
        self.inner.publish(desk);
    }

    fn finished(&self) -> bool {
        self.inner.finished()
    }
}

#[test]
fn state_compression() {
    let lengths = Arc::default();
    let house = house(100);
    let (seen, home) = (Arc::clone(&lengths), Arc::clone(&house));
    let shard = Shard::run(move || Travellers {
        inner: Connections::new(Arc::clone(&home), 100, mcp(&home)),
        profiles: Profiles::new(8),
        lengths: seen,
    });
    // A client that notices nothing, in each dialect, whatever is unfinished when it is taken apart.
    let mut line = Peer::line(shard.clients);
    line.dribble(format!("{}\n", call(1, "add", &json!({"a": 2, "b": 3}))).as_bytes());
    assert!(line.hear_message()["result"].to_string().contains('5'));
    let idle = *lengths.lock().expect("no panic").last().expect("a snapshot");
    assert!(idle <= 64, "an idle client is {idle} bytes");

    let mut websocket = Peer::websocket(shard.clients);
    let text = request(2, "tools/call", &json!({"name": "echo", "arguments": {"text": "é€😀".repeat(20)}})).to_string();
    let pieces: Vec<&[u8]> = text.as_bytes().chunks(7).collect();
    for (at, piece) in pieces.iter().enumerate() {
        let (first, last) = (u8::from(at == 0), u8::from(at + 1 == pieces.len()) << 7);
        websocket.dribble(&frame(first | last, piece));
    }
    assert!(websocket.hear_message()["result"].to_string().contains(&"é€😀".repeat(20)));

    let mut late = Peer::line(shard.clients);
    for id in 0..30 {
        late.say(&call(id, "blob", &json!({"bytes": 1 << 20})));
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    for id in 0..30 {
        assert_eq!(late.hear_message()["id"], id, "not one answer is lost");
    }
    let lengths = lengths.lock().expect("no panic");
    assert!(lengths.iter().any(|&length| length > 1 << 16), "an outbox was in one");
    assert!(lengths.len() > 100, "{} snapshots", lengths.len());
}
