//! An echo on real shards: the gateway's own connections and framing, with each message sent back in place of MCP.
//!
//! Prints its address and runs until it is ended. `tests/autobahn.sh` drives it.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use lakh::actor::{self, Berth, Letter};
use lakh::conn::{Config, Connections, House, Message, Parting, Service, Talk};
use lakh::{guard, wire};

/// Clients at once.
const SEATS: usize = 64;
/// The longest message of the Autobahn cases (9.1.6, 9.2.6), in bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

struct Echo;

impl Service for Echo {
    type Session = ();

    fn message(&mut self, talk: &mut Talk<'_, ()>, message: Message<'_>) -> Result<(), Parting> {
        talk.repeat(message);
        Ok(())
    }

    fn letter(&mut self, _talk: &mut Talk<'_, ()>, _letter: Letter) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let shards = std::thread::available_parallelism()?.get() as u16;
    let house = Arc::new(house(shards.into()));
    let berths = (0..shards).map(Berth::new).collect::<io::Result<Vec<_>>>()?;
    let first = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let addr = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..shards {
        listeners.push(listen(addr)?);
    }
    println!("{addr}");
    std::thread::scope(|scope| {
        for (berth, listener) in berths.iter().zip(listeners) {
            let house = Arc::clone(&house);
            scope.spawn(move || actor::run(berth, listener, SEATS, &mut Connections::new(house, SEATS, Echo)));
        }
    });
    Err("a shard has ended".into())
}

/// The gateway's own knobs, but for room for the largest cases: what is asked of an echo comes back at once.
fn house(shards: usize) -> House {
    let config = Config { outbox_bytes_max: 2 * MESSAGE_BYTES_MAX, ..Config::default() };
    let wire = wire::Config {
        message_bytes_max: MESSAGE_BYTES_MAX,
        frame_bytes_max: MESSAGE_BYTES_MAX,
        ..wire::Config::default()
    };
    let guard = guard::Config { connections_max: SEATS, ..guard::Config::default() };
    House::new(config, wire, &guard, shards)
}

/// One shard's listener; several share the port.
fn listen(addr: SocketAddr) -> io::Result<mio::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(128)?;
    Ok(mio::net::TcpListener::from_std(socket.into()))
}
