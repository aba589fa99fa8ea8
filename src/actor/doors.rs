//! The doors of a shard: the listening sockets that its newcomers come from.

use std::io;
use std::net::{Shutdown, SocketAddr};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

/// Sockets accepted of those who wait when the doors are shut, at most: more than the longest queue the kernel keeps.
const WAITING_MAX: usize = 128 << 10;

/// The doors as a shard gets them: closed, until [`super::Order::Open`].
pub struct Doors {
    listeners: Vec<TcpListener>,
    /// Other shards take newcomers from the same ones: who has no room leaves them to those.
    shared: bool,
    open: bool,
}

impl Doors {
    /// These listeners, which may be `shared` with other shards, and `open` from the start. Each belongs to the shard
    /// alone as a descriptor: the same socket under another number may be with others.
    #[must_use]
    pub const fn new(listeners: Vec<TcpListener>, shared: bool, open: bool) -> Self {
        Self { listeners, shared, open }
    }
}

/// One of its own, open from the start.
impl From<TcpListener> for Doors {
    fn from(listener: TcpListener) -> Self {
        Self::new(vec![listener], false, true)
    }
}

/// The doors as a shard's loop has them: watched while they are open.
pub(super) struct Porch<'r> {
    registry: &'r Registry,
    doors: Doors,
    /// Where the next newcomer is looked for: each door in its turn.
    at: usize,
}

impl<'r> Porch<'r> {
    /// # Errors
    /// When the kernel does not watch a listener.
    pub(super) fn new(registry: &'r Registry, doors: Doors, token: Token) -> io::Result<Self> {
        let open = doors.open;
        let mut porch = Self { registry, doors: Doors { open: false, ..doors }, at: 0 };
        if open {
            porch.open(token)?;
        }
        Ok(porch)
    }

    /// Takes newcomers from now on.
    ///
    /// # Errors
    /// When the kernel does not watch a listener.
    pub(super) fn open(&mut self, token: Token) -> io::Result<()> {
        if !std::mem::replace(&mut self.doors.open, true) {
            for listener in &mut self.doors.listeners {
                self.registry.register(listener, token, Interest::READABLE)?;
            }
        }
        Ok(())
    }

    /// Whether others take newcomers from the same listeners.
    pub(super) const fn is_shared(&self) -> bool {
        self.doors.shared
    }

    /// The next newcomer; nothing if none waits.
    pub(super) fn accept(&mut self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        if !self.doors.open {
            return None;
        }
        for _ in 0..self.doors.listeners.len() {
            self.at = (self.at + 1) % self.doors.listeners.len();
            match self.doors.listeners[self.at].accept() {
                // Invalid: another shard has shut it.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::InvalidInput) => {}
                newcomer => return Some(newcomer),
            }
        }
        None
    }

    /// Leaves the doors to others who have them too: whoever waits, waits for those.
    pub(super) fn leave(&mut self) {
        for mut listener in self.doors.listeners.drain(..) {
            // A socket that others have as well is not forgotten by the poll when this descriptor is closed.
            let _ = self.registry.deregister(&mut listener);
        }
    }

    /// Takes all who wait and then shuts the sockets, whoever else has them: who connects from now on is refused. (The
    /// kernel resets those who wait at a socket that is shut, so nobody may.)
    pub(super) fn shut(&mut self, mut welcome: impl FnMut(io::Result<(TcpStream, SocketAddr)>)) {
        for _ in 0..WAITING_MAX {
            match self.accept() {
                Some(newcomer) => welcome(newcomer),
                None => break,
            }
        }
        for listener in &self.doors.listeners {
            // Another shard may have been quicker.
            let _ = SockRef::from(listener).shutdown(Shutdown::Read);
        }
        self.leave();
    }
}

/// Also while a panic unwinds: or the poll, which outlives the shard, would tell its next life of sockets that are not
/// its own.
impl Drop for Porch<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
