//! Ports: reserved once for the life of the house, listened on by each shard for itself.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Dead peers of the raw TCP dialect are found by the kernel: first probe after a minute of silence, then each 15 s.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);

/// A bound socket that never listens: it holds the port (also one chosen by the kernel) while shards come and go.
pub(super) struct Reservation {
    _socket: Socket,
    addr: SocketAddr,
}

impl Reservation {
    /// # Errors
    /// When somebody else has the port. `SO_REUSEPORT` alone would let a second gateway of the same user share it, and
    /// each would get half of the other's clients; so it is asked for without, first.
    pub(super) fn new(addr: SocketAddr) -> io::Result<Self> {
        let probe = socket(addr)?;
        probe.bind(&addr.into())?;
        probe.listen(1)?;
        drop(probe);
        let socket = socket(addr)?;
        socket.set_reuse_port(true)?;
        socket.bind(&addr.into())?;
        let addr = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { _socket: socket, addr })
    }

    /// The address, with the port that was chosen where 0 was asked for.
    pub(super) const fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// One shard's own listener. What it accepts inherits its options.
pub(super) fn clients(addr: SocketAddr, backlog: u64) -> io::Result<mio::net::TcpListener> {
    let socket = socket(addr)?;
    socket.set_reuse_port(true)?;
    // Answers leave in one write per turn already: waiting for more to send would only delay them.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok(mio::net::TcpListener::from_std(socket.into()))
}

/// The admin's listener.
pub(super) fn admin(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(addr)?;
    socket.bind(&addr.into())?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// What to do when an address cannot be had.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "is another lakh running? Stop it, or name another port, or port 0 for any free one"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this host has no such address: name one of its own, or 0.0.0.0 for all of them"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 are privileged: name a higher one, or grant CAP_NET_BIND_SERVICE"
        }
        _ => "name another address",
    }
}

/// As many descriptors as may be had: the soft limit is a default for programs that use `select`.
pub(super) fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, hard, "the soft limit of descriptors stays as it is");
    }
}

fn socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}
