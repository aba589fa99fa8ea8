//! Listening sockets that were there before this process: from systemd, or from the gateway that runs already.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use listenfd::ListenFd;
use socket2::Socket;

use super::handover::{self, ADMIN, ALL, CLIENTS, KEPT, LEFT, READY, VERSION};
use super::listen::is_door;

/// What a socket of systemd's is called (`FileDescriptorName=` of a socket unit) that operators connect to. All others are
/// for clients.
const ADMIN_NAME: &str = "admin";
/// How long the running gateway may take to give what it has, or to stop taking newcomers.
const PATIENCE: Duration = Duration::from_secs(10);
/// Sockets that may be taken over: as many as a gateway has shards.
const SOCKETS_MAX: usize = u16::MAX as usize;

/// Listening sockets to serve at, in place of the addresses that the knobs name.
pub struct Inherited {
    /// For clients.
    pub(super) clients: Vec<Socket>,
    /// For operators.
    pub(super) admin: Option<TcpListener>,
    /// systemd holds those for clients too: they outlive us, and are never to be shut.
    pub(super) kept: bool,
    /// Who had them before, and waits to hear that we take newcomers.
    pub(super) predecessor: Option<Predecessor>,
}

/// The gateway that runs until this one takes over.
pub(super) struct Predecessor(pub(super) UnixStream);

/// Why nothing could be inherited.
#[derive(Debug, thiserror::Error)]
pub enum Disinherited {
    /// What systemd passes is of no use.
    #[error(
        "socket {number} (`{name}`) of LISTEN_FDS cannot be used: {why}; pass TCP sockets that listen (ListenStream=)"
    )]
    Unusable { number: usize, name: String, why: String },
    /// There is no address of a gateway to take over from.
    #[error("--take-over needs `upgrade_socket`, the address where the running gateway offers its sockets")]
    Nowhere,
    /// No gateway offers its sockets there.
    #[error("cannot take over from the gateway at {}: {error}; is one running, with the same `upgrade_socket`?", path.display())]
    NobodyThere { path: PathBuf, error: io::Error },
    /// Whoever offers them is another user.
    #[error("cannot take over from the gateway at {}: it belongs to another user; start as that one, or as root", path.display())]
    Stranger { path: PathBuf },
    /// It does not say what we understand.
    #[error("cannot take over from the gateway at {}: it hands over in another way; stop it and start this one", path.display())]
    Foreign { path: PathBuf },
}

impl Inherited {
    /// What systemd has passed to this process (sd_listen_fds(3)), if anything. To be called once, before there are threads.
    ///
    /// # Errors
    /// When one of the sockets is no listening TCP socket.
    pub fn from_systemd() -> Result<Option<Self>, Disinherited> {
        // Before it is read: reading takes the variables away, so that no child takes them for its own.
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut passed = ListenFd::from_env();
        let mut names = names.split(':');
        let (mut clients, mut admin) = (Vec::new(), None);
        for number in 0..passed.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let unusable = |why: String| Disinherited::Unusable { number, name: name.clone(), why };
            let socket = passed.take_tcp_listener(number).map_err(|error| unusable(error.to_string()))?;
            let Some(socket) = socket.map(Socket::from) else { continue };
            if !is_door(&socket) {
                return Err(unusable("it does not listen".into()));
            }
            match name.as_str() {
                ADMIN_NAME if admin.is_some() => return Err(unusable("there is one of that name already".into())),
                ADMIN_NAME => admin = Some(socket.into()),
                _ => clients.push(socket),
            }
        }
        let kept = !clients.is_empty();
        Ok((kept || admin.is_some()).then_some(Self { clients, admin, kept, predecessor: None }))
    }

    /// The sockets of the gateway that offers them at `path`. It serves on until [`Predecessor::say_ready`], and for good if
    /// this process ends before.
    ///
    /// # Errors
    /// When there is none, or none of ours.
    pub fn take_over(path: &Path) -> Result<Self, Disinherited> {
        if path.as_os_str().is_empty() {
            return Err(Disinherited::Nowhere);
        }
        let nobody = |error| Disinherited::NobodyThere { path: path.into(), error };
        let foreign = || Disinherited::Foreign { path: path.into() };
        let stream = UnixStream::connect(path).map_err(nobody)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(nobody)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(nobody)?;
        if !handover::is_one_of_us(&stream).map_err(nobody)? {
            return Err(Disinherited::Stranger { path: path.into() });
        }
        if !matches!(handover::receive(&stream).map_err(nobody)?, (VERSION, None)) {
            return Err(foreign());
        }
        let (mut clients, mut admin, mut kept) = (Vec::new(), None, false);
        loop {
            let (word, socket) = handover::receive(&stream).map_err(nobody)?;
            let socket = socket.map(Socket::from).filter(is_door);
            match (word, socket) {
                (CLIENTS | KEPT, Some(socket)) if clients.len() < SOCKETS_MAX => {
                    kept |= word == KEPT;
                    clients.push(socket);
                }
                (ADMIN, Some(socket)) => admin = Some(socket.into()),
                (ALL, None) if !clients.is_empty() => break,
                _ => return Err(foreign()),
            }
        }
        Ok(Self { clients, admin, kept, predecessor: Some(Predecessor(stream)) })
    }
}

impl Predecessor {
    /// Tells it that we take newcomers; it has stopped doing so when this returns.
    ///
    /// # Errors
    /// When it is gone: then nobody else takes them either.
    pub(super) fn say_ready(self) -> io::Result<()> {
        handover::send(&self.0, READY, None)?;
        match handover::receive(&self.0)? {
            (LEFT, _) => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
