//! One client at its socket: it connects, hears and says what its life wants.

use std::io;

use super::life::{Life, Phase};
use super::script::Who;
use super::socket::{Heard, Seen, Socket};
use crate::cli::simulate::Dialect;
use crate::cli::simulate::order::{Cause, Death};

/// One client: 48 bytes, and a session's id where it has one.
pub(super) struct Client {
    pub(super) socket: Socket,
    pub(super) life: Life,
    /// Microseconds from the start of the order to the last request.
    pub(super) since: u32,
    /// How often it has come anew, by [`Order::Drive`](crate::cli::simulate::order::Order::Drive).
    pub(super) round: u16,
    /// Numbered calls of it that are in flight.
    pub(super) owed: u16,
}

// In a debug build mio keeps more beside the socket.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Client>() <= 48);

impl Client {
    pub(super) fn new(dialect: Dialect, quiet: bool, since: u32) -> Self {
        Self { socket: Socket::default(), life: Life::new(dialect, quiet), since, round: 0, owed: 0 }
    }

    /// Closes, and forgets what is incomplete.
    pub(super) fn end(&mut self) {
        self.life.phase = Phase::Gone;
        self.socket = Socket::default();
    }

    /// Does what the socket is ready for. `scratch` is read into, `out` is where answers are written; both are shared.
    pub(super) fn turn(&mut self, who: Who, seen: Seen, scratch: &mut [u8], out: &mut Vec<u8>) -> Result<(), Death> {
        let Some(stream) = &self.socket.stream else {
            return Ok(());
        };
        out.clear();
        if self.life.phase == Phase::Connecting {
            if seen.closed
                && let Ok(Some(error)) | Err(error) = stream.take_error()
            {
                return Err(Death::new(Cause::ConnectFailed, error.to_string()));
            }
            if !seen.writable {
                return Ok(());
            }
            self.life.connected(who, out);
        }
        if seen.readable {
            let life = &mut self.life;
            let heard = self.socket.listen(seen.closed, scratch, |bytes| life.hear(bytes, who, out))?;
            if let Heard::Closed(error) = heard {
                self.life.closed().map_err(|death| with(error, death))?;
            }
        }
        if !out.is_empty() || (self.socket.has_unsaid() && seen.writable) { self.say(out) } else { Ok(()) }
    }

    /// Writes; what the socket does not take waits for the next time that it is writable.
    pub(super) fn say(&mut self, out: &[u8]) -> Result<(), Death> {
        let died = |error| Death::new(Cause::Closed, format!("{error} while {:?}", self.life.phase));
        self.socket.say(out).map_err(died)
    }
}

/// The death, and the error that was seen of it.
pub(super) fn with(error: Option<io::Error>, death: Death) -> Death {
    match error {
        Some(error) => Death::new(death.cause, format!("{error}, {}", death.detail)),
        None => death,
    }
}
