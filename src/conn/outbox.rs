//! Writing: straight to the socket; what it does not take waits in a pooled buffer.

use std::io::{self, Write};

use mio::net::TcpStream;

use super::Parting;
use super::connection::Connection;
use crate::actor::Tick;
use crate::pool::Buffers;

/// Sends `bytes`, behind what waits already.
///
/// # Errors
/// When the client is gone, or more than `unsent_max` bytes would wait for it.
pub(super) fn send<T>(
    conn: &mut Connection<T>,
    mut bytes: &[u8],
    buffers: &mut Buffers,
    unsent_max: usize,
    now: Tick,
) -> Result<(), Parting> {
    if conn.unsent() == 0 {
        bytes = &bytes[write(&mut conn.socket, bytes)?..];
    }
    if bytes.is_empty() {
        return Ok(());
    }
    let active = conn.active();
    if active.unsent() + bytes.len() > unsent_max {
        return Err(Parting::SlowReader);
    }
    if active.outbox.capacity() - active.outbox.len() < bytes.len() {
        // Doubling, so that many small answers behind a large one do not copy it each time.
        let room = active.unsent() + bytes.len().max(active.unsent());
        let mut larger = buffers.take(room.min(unsent_max));
        larger.extend_from_slice(&active.outbox[active.sent..]);
        active.sent = 0;
        buffers.give(std::mem::replace(&mut active.outbox, larger));
    }
    active.outbox.extend_from_slice(bytes);
    active.stuck_since.get_or_insert(now);
    Ok(())
}

/// Sends what waits, as far as the socket takes it.
///
/// # Errors
/// When the client is gone.
pub(super) fn send_rest<T>(conn: &mut Connection<T>, buffers: &mut Buffers, now: Tick) -> Result<(), Parting> {
    let Some(active) = &mut conn.active else { return Ok(()) };
    let taken = write(&mut conn.socket, &active.outbox[active.sent..])?;
    active.sent += taken;
    if active.unsent() == 0 {
        active.sent = 0;
        active.stuck_since = None;
        buffers.give(std::mem::take(&mut active.outbox));
    } else if taken > 0 {
        active.stuck_since = Some(now);
    }
    Ok(())
}

/// Writes until the socket takes no more; how much it took.
fn write(socket: &mut TcpStream, bytes: &[u8]) -> Result<usize, Parting> {
    let mut taken = 0;
    while taken < bytes.len() {
        match socket.write(&bytes[taken..]) {
            Ok(n) => taken += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Parting::PeerVanished),
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;
    use crate::conn::admit::Admitted;
    use crate::guard::Seats;
    use crate::pool::BuffersConfig;

    /// A connection, and the client's end of it.
    fn connection() -> (Connection<()>, std::net::TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let client = std::net::TcpStream::connect(listener.local_addr().expect("its address")).expect("connected");
        let (socket, _) = listener.accept().expect("accepted");
        socket.set_nonblocking(true).expect("as mio wants it");
        let seat = Seats::new(1).take().expect("a seat");
        let socket = TcpStream::from_std(socket);
        (Connection::new(Admitted { socket, seat, refused: None }, 0), client)
    }

    #[test]
    fn many_small_answers_behind_a_large_one_are_not_copied_each_time() {
        let (mut conn, _client) = connection();
        let mut buffers = Buffers::new(BuffersConfig::default());
        send(&mut conn, &vec![b'x'; 12 << 20], &mut buffers, 64 << 20, 0).expect("kept");
        for _ in 0..10_000 {
            send(&mut conn, b"a small answer", &mut buffers, 64 << 20, 0).expect("kept");
        }
        let created = buffers.stats().created;
        assert!(created <= 3, "{created} buffers for one outbox");
    }

    #[test]
    fn every_buffer_comes_back_also_when_the_client_has_gone() {
        let (mut conn, client) = connection();
        let mut buffers = Buffers::new(BuffersConfig::default());
        send(&mut conn, &vec![b'x'; 12 << 20], &mut buffers, 64 << 20, 0).expect("kept");
        assert_eq!(buffers.stats().in_use, 1);
        // Closed with bytes unread: a reset.
        (&client).read_exact(&mut [0]).expect("a byte");
        drop(client);
        while send_rest(&mut conn, &mut buffers, 0).is_ok() {}
        conn.give_back_buffers(&mut buffers);
        assert_eq!(buffers.stats().in_use, 0);
    }
}
