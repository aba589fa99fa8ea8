//! The listening sockets offered to a successor at a Unix socket: for an upgrade that no client's connect notices.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{fs, process};

use super::handover::{self, ADMIN, ALL, CLIENTS, KEPT, LEFT, READY, VERSION};
use super::listen::Ports;
use super::services::Services;
use super::{Tree, Unstarted};

/// Only its own user, and root, may connect.
const MODE: u32 = 0o600;
/// How long a successor may take to start.
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(300);
/// How often the wait for it looks whether the house ends.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The place where a successor finds us.
pub(super) struct Offer {
    listener: UnixListener,
    /// Where it is bound, until it takes its place.
    bound: PathBuf,
    path: PathBuf,
    /// The file that is ours, by device and number.
    file: (u64, u64),
}

impl Offer {
    /// Binds it beside `path`; a successor finds it when it has taken its place there. `instead`: of the one that is there and
    /// alive, because it is taken over from.
    ///
    /// # Errors
    /// When another gateway offers its sockets there, or something is there that is no socket, or nothing may be.
    pub(super) fn prepare(path: &Path, instead: bool) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
            Ok(_) if !instead && UnixStream::connect(path).is_ok() => return Err(io::ErrorKind::AddrInUse.into()),
            // Of one that was killed, or of nobody.
            _ => {}
        }
        if !instead {
            sweep(path);
        }
        let mut bound = path.as_os_str().to_owned();
        bound.push(format!(".{}", process::id()));
        let bound = PathBuf::from(bound);
        let listener = UnixListener::bind(&bound)?;
        let made = fs::symlink_metadata(&bound)?;
        let offer = Self { listener, bound, path: path.into(), file: (made.dev(), made.ino()) };
        fs::set_permissions(&offer.bound, fs::Permissions::from_mode(MODE))?;
        offer.listener.set_nonblocking(true)?;
        Ok(offer)
    }

    /// Takes its place, in one step: at any moment a successor finds one or the other.
    ///
    /// # Errors
    /// When the folder does not allow it.
    pub(super) fn publish(&self) -> io::Result<()> {
        fs::rename(&self.bound, &self.path)
    }

    /// The socket itself.
    pub(super) const fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Leaves nothing behind; a successor may have put its own in our place.
    fn withdraw(&self) {
        for path in [&self.bound, &self.path] {
            if fs::symlink_metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == self.file) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl Tree {
    /// Waits for a successor and gives it the sockets; ends when one has taken over, or there is nothing to take.
    pub(super) fn start_offer(&self, offer: Arc<Offer>) -> Result<(), Unstarted> {
        let (services, ports, house) = (Arc::clone(&self.services), Arc::clone(&self.ports), Arc::clone(&self.house));
        let life = move |running: &dyn Fn()| {
            running();
            let is_over =
                || services.is_stopping() || services.was_handed_over() || house.draining.load(Ordering::Acquire);
            while !is_over() {
                services.panic_if_condemned("successor");
                match offer.listener().accept() {
                    Ok((successor, _)) => {
                        services.succeeding.store(true, Ordering::Release);
                        let outcome = give(&successor, &ports, &services);
                        // Whoever has not said that it serves has ended, or is taken for it.
                        services.succeeding.store(false, Ordering::Release);
                        match outcome {
                            Ok(()) => tracing::info!("a successor takes newcomers from now on"),
                            Err(error) => {
                                tracing::warn!(%error, "a successor did not take over; nothing is changed");
                                // One at a time binds there, and only after it has our sockets: this one, at most.
                                sweep(&offer.path);
                            }
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => services.sleep(LOOK_AGAIN),
                    Err(error) => return Err(format!("upgrade_socket: {error}")),
                }
            }
            // Whoever supervises this life holds it for as long as the process lives. A successor puts its own in this place,
            // at this very moment perhaps: then there is nothing to take away.
            if !services.was_handed_over() {
                offer.withdraw();
            }
            Ok(())
        };
        self.supervise("services", "successor", life)
    }
}

/// Takes away what successors have left beside `path` that were killed before they took its place: sockets with the number of
/// a process behind that name, at which nobody listens.
fn sweep(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else { return };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let number = file.to_str().and_then(|file| file.strip_prefix(name)?.strip_prefix('.'));
        let is_of_one = number.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()));
        if is_of_one
            && entry.file_type().is_ok_and(|kind| kind.is_socket())
            && UnixStream::connect(entry.path()).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Gives a successor all it needs, and waits until it serves.
///
/// # Errors
/// When it ends before, or takes too long.
fn give(successor: &UnixStream, ports: &Ports, services: &Services) -> io::Result<()> {
    successor.set_nonblocking(false)?;
    successor.set_write_timeout(Some(LOOK_AGAIN))?;
    successor.set_read_timeout(Some(LOOK_AGAIN))?;
    if !handover::is_one_of_us(successor)? {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    tracing::info!("a successor takes the listening sockets");
    handover::send(successor, VERSION, None)?;
    for socket in ports.clients() {
        handover::send(successor, if ports.kept { KEPT } else { CLIENTS }, Some(socket.as_fd()))?;
    }
    handover::send(successor, ADMIN, Some(ports.admin.as_fd()))?;
    handover::send(successor, ALL, None)?;
    let until = Instant::now() + SUCCESSOR_PATIENCE;
    while Instant::now() < until && !services.is_stopping() {
        match handover::receive(successor) {
            // To one that has been killed since, nothing goes: nobody else would take the newcomers.
            Ok((READY, _)) if handover::is_gone(successor) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((READY, _)) => {
                services.hand_over();
                // It may be gone again: its newcomers are its own.
                let _ = handover::send(successor, LEFT, None);
                return Ok(());
            }
            Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("lakh-offer-{name}-{}", process::id()))
    }

    #[test]
    fn the_next_one_takes_its_place_and_the_one_before_leaves_it_there() {
        let path = place("next");
        let one = Offer::prepare(&path, false).expect("a place");
        assert!(UnixStream::connect(&path).is_err(), "not yet");
        one.publish().expect("published");
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, MODE);
        let taken = Offer::prepare(&path, false).err().expect("somebody is there");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);

        // Its bound name would be the same in one process.
        drop(fs::remove_file(&one.bound));
        let next = Offer::prepare(&path, true).expect("a place");
        next.publish().expect("published");
        drop(one);
        assert!(UnixStream::connect(&path).is_ok(), "the next one's");
        drop(next);
        assert!(!path.exists());
    }

    #[test]
    fn what_successors_left_that_were_killed_is_swept_and_nothing_else() {
        let path = place("swept");
        let beside = |more: &str| PathBuf::from(format!("{}{more}", path.display()));
        let [dead, other, file] = [".123", ".123x", ".124"].map(beside);
        for socket in [&dead, &other] {
            drop(UnixListener::bind(socket).expect("a socket"));
        }
        fs::write(&file, "a file").expect("written");
        let lives = UnixListener::bind(beside(".125")).expect("a socket");
        let _offer = Offer::prepare(&path, true).expect("a place");
        assert!(dead.exists(), "whoever takes over leaves that to the one before it");
        sweep(&path);
        assert!(!dead.exists());
        for path in [&other, &file, &beside(".125")] {
            assert!(path.exists(), "{}", path.display());
            fs::remove_file(path).expect("it is there");
        }
        drop(lives);
    }

    #[test]
    fn what_a_killed_one_left_is_replaced_and_other_files_are_not() {
        let path = place("left");
        drop(UnixListener::bind(&path).expect("a socket"));
        assert!(path.exists(), "std does not remove it");
        Offer::prepare(&path, false).expect("a place").publish().expect("published");
        fs::write(&path, "a file").expect("written");
        assert!(Offer::prepare(&path, true).is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists));
        fs::remove_file(path).expect("it is there");
    }
}
