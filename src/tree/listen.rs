//! Ports: had once for the life of the house, whether bound here or inherited; each shard takes newcomers from its doors.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::Unstarted;
use super::inherit::Inherited;
use crate::actor::Doors;
use crate::config::Config;
use crate::meter::Plan;

/// Dead peers of the raw TCP dialect are found by the kernel: first probe after a minute of silence, then each 15 s.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);
/// Operators that may wait to be let in.
const ADMIN_BACKLOG: i32 = 128;

/// The listening sockets of the house. They are made before any shard has left the process's first descriptor table, so
/// each table has them, and who waits at one is not lost with the shard that takes newcomers from it.
pub(super) struct Ports {
    /// One for each shard (`SO_REUSEPORT`), or as many as were inherited.
    clients: Vec<Socket>,
    pub(super) admin: TcpListener,
    addr: SocketAddr,
    backlog: i32,
    /// Somebody outside holds them too, and for longer than this house lives.
    pub(super) kept: bool,
}

impl Ports {
    /// Binds what was not inherited. Nobody can connect before [`Self::open`], but to an inherited socket.
    ///
    /// # Errors
    /// When an address cannot be had, or a socket was inherited that is of no use.
    pub(super) fn new(config: &Config, plan: &Plan, inherited: Option<&mut Inherited>) -> Result<Self, Unstarted> {
        let (clients, admin, kept) = inherited.map_or_else(Default::default, |inherited| {
            (std::mem::take(&mut inherited.clients), inherited.admin.take(), inherited.kept)
        });
        let port = |knob, addr| move |error| Unstarted::Port { knob, addr, error };
        let (listen, admin_listen) = (config.listen, config.admin.listen);
        let clients = match clients.is_empty() {
            true => bind(listen, plan.shards).map_err(port("listen", listen))?,
            false => clients,
        };
        let admin = match admin {
            Some(admin) => admin,
            None => bind_admin(admin_listen).map_err(port("admin.listen", admin_listen))?,
        };
        let addr =
            clients[0].local_addr()?.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        for (knob, wanted, is) in [("listen", listen, addr), ("admin.listen", admin_listen, admin.local_addr()?)] {
            if wanted.port() != 0 && wanted != is {
                tracing::warn!(%wanted, %is, "the inherited socket stays where it is, whatever `{knob}` says");
            }
        }
        Ok(Self { clients, admin, addr, backlog: i32::try_from(plan.backlog()).unwrap_or(i32::MAX), kept })
    }

    /// Where clients connect, with the port that was chosen where 0 was asked for.
    pub(super) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Lets clients connect. What is accepted inherits the options that are set here.
    ///
    /// # Errors
    /// When somebody else has begun to listen there meanwhile.
    pub(super) fn open(&self) -> io::Result<()> {
        for socket in &self.clients {
            // Answers leave in one write per turn already: waiting for more to send would only delay them.
            socket.set_tcp_nodelay(true)?;
            socket.set_tcp_keepalive(&KEEPALIVE)?;
            socket.set_nonblocking(true)?;
            // For one that listens already: the length of its queue.
            socket.listen(self.backlog)?;
        }
        Ok(())
    }

    /// The doors of one shard of so many; to be called by that shard, in whose descriptor table they are its own.
    ///
    /// Where the sockets go round evenly each has its own: the kernel spreads clients over them by a hash. Where they do not
    /// (another number of shards, or a single socket of systemd's) all shards take newcomers from all.
    ///
    /// # Errors
    /// When there is no descriptor for them.
    pub(super) fn doors(&self, shard: usize, shards: usize, open: bool) -> io::Result<Doors> {
        let shared = self.kept || !self.clients.len().is_multiple_of(shards);
        let own = |at: &usize| shared || at % shards == shard;
        let listener = |at: usize| Ok(mio::net::TcpListener::from_std(self.clients[at].try_clone()?.into()));
        let listeners = (0..self.clients.len()).filter(own).map(listener).collect::<io::Result<_>>()?;
        Ok(Doors::new(listeners, shared, open))
    }

    /// The sockets that clients connect to, for who takes over.
    pub(super) fn clients(&self) -> &[Socket] {
        &self.clients
    }
}

/// # Errors
/// When somebody else has the port. `SO_REUSEPORT` alone would let a second gateway of the same user share it, and each
/// would get half of the other's clients; so it is asked for without, first.
fn bind(addr: SocketAddr, shards: usize) -> io::Result<Vec<Socket>> {
    let probe = socket(addr)?;
    probe.bind(&addr.into())?;
    probe.listen(1)?;
    drop(probe);
    let mut addr = addr;
    let mut sockets = Vec::new();
    for _ in 0..shards {
        let socket = socket(addr)?;
        socket.set_reuse_port(true)?;
        socket.bind(&addr.into())?;
        addr = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

fn bind_admin(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(addr)?;
    socket.bind(&addr.into())?;
    socket.listen(ADMIN_BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether this is a socket at which TCP clients can arrive.
pub(super) fn is_door(socket: &Socket) -> bool {
    let socket = SockRef::from(socket);
    let internet = socket.domain().is_ok_and(|domain| [Domain::IPV4, Domain::IPV6].contains(&domain));
    internet && socket.r#type().is_ok_and(|kind| kind == Type::STREAM) && socket.is_listener().unwrap_or(false)
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
