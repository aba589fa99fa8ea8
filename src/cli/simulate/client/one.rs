//! One client at its socket: it connects, reads, writes, and keeps what is incomplete.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};

use mio::event::Event;
use mio::net::TcpStream;
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

use super::life::{Life, Phase};
use super::script::Who;
use super::sources;
use crate::cli::simulate::order::{Cause, Death};

/// One client: 24 bytes, and the boxed rest only while a message or a write is incomplete.
pub(super) struct Client {
    pub(super) stream: Option<TcpStream>,
    pub(super) life: Life,
    /// Microseconds from the start of the order to the last request.
    pub(super) since: u32,
    rest: Option<Box<Rest>>,
}

// In a debug build mio keeps more beside the socket.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Client>() <= 24);

#[derive(Default)]
struct Rest {
    heard: Vec<u8>,
    unsaid: Vec<u8>,
}

/// What the event loop saw of a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    writable: bool,
    readable: bool,
    /// The other side has closed: only a read of nothing ends the reading.
    closed: bool,
}

impl From<&Event> for Seen {
    fn from(event: &Event) -> Self {
        let closed = event.is_read_closed() || event.is_error();
        Self { writable: event.is_writable(), readable: event.is_readable() || closed, closed }
    }
}

/// Starts to connect; on loopback from an address of this client's own block.
pub(super) fn open(who: Who, wave: u32, seed: u64) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(who.target), kind, None)?;
    if let IpAddr::V4(address) = who.target.ip()
        && address.is_loopback()
    {
        let source = SocketAddr::from((sources::of(who.number, wave, seed), 0));
        socket.bind(&source.into())?;
    }
    match socket.connect(&who.target.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

impl Client {
    pub(super) fn new(ws: bool, since: u32) -> Self {
        Self { stream: None, life: Life::new(ws), since, rest: None }
    }

    /// Closes, and forgets what is incomplete.
    pub(super) fn end(&mut self) {
        self.life.phase = Phase::Gone;
        self.stream = None;
        self.rest = None;
    }

    /// Does what the socket is ready for. `scratch` is read into, `out` is where answers are written; both are shared.
    pub(super) fn turn(&mut self, who: Who, seen: Seen, scratch: &mut [u8], out: &mut Vec<u8>) -> Result<(), Death> {
        let Some(stream) = &mut self.stream else {
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
            self.listen(who, seen.closed, scratch, out)?;
        }
        let unsaid = self.rest.as_ref().is_some_and(|rest| !rest.unsaid.is_empty());
        if !out.is_empty() || (unsaid && seen.writable) { self.say(out) } else { Ok(()) }
    }

    /// Reads all that is there. A read that did not fill the buffer was the last, unless the end is still to be read:
    /// the loop is told of an end only once.
    fn listen(&mut self, who: Who, closed: bool, scratch: &mut [u8], out: &mut Vec<u8>) -> Result<(), Death> {
        while let Some(stream) = &mut self.stream {
            let count = match stream.read(scratch) {
                Ok(0) => return self.life.closed(),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let with_error = |death: Death| Death::new(death.cause, format!("{error}, {}", death.detail));
                    return self.life.closed().map_err(with_error);
                }
            };
            let new = scratch.get_mut(..count).unwrap_or_default();
            self.hear(who, new, out)?;
            if self.life.phase == Phase::Gone || (count < scratch.len() && !closed) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Hears what is new behind what was incomplete.
    fn hear(&mut self, who: Who, new: &mut [u8], out: &mut Vec<u8>) -> Result<(), Death> {
        match self.rest.as_mut().map(|rest| std::mem::take(&mut rest.heard)) {
            Some(mut heard) if !heard.is_empty() => {
                heard.extend_from_slice(new);
                let done = self.life.hear(&mut heard, who, out)?;
                heard.drain(..done);
                self.keep(|rest| &mut rest.heard, heard);
            }
            _ => {
                let done = self.life.hear(new, who, out)?;
                if let Some(left @ [_, ..]) = new.get(done..) {
                    self.keep(|rest| &mut rest.heard, left.to_vec());
                }
            }
        }
        Ok(())
    }

    /// Writes; what the socket does not take waits for the next time that it is writable.
    pub(super) fn say(&mut self, out: &[u8]) -> Result<(), Death> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let mut unsaid = self.rest.as_mut().map(|rest| std::mem::take(&mut rest.unsaid)).unwrap_or_default();
        let queued = !unsaid.is_empty();
        if queued {
            unsaid.extend_from_slice(out);
        }
        let bytes = if queued { &unsaid[..] } else { out };
        let mut written = 0;
        while let Some(left @ [_, ..]) = bytes.get(written..) {
            match stream.write(left) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Death::new(Cause::Closed, format!("{error} while {:?}", self.life.phase)));
                }
            }
        }
        let left = bytes.get(written..).unwrap_or_default().to_vec();
        self.keep(|rest| &mut rest.unsaid, left);
        Ok(())
    }

    /// Puts something incomplete away, and the box with it when nothing is incomplete any more.
    fn keep(&mut self, place: fn(&mut Rest) -> &mut Vec<u8>, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            *place(self.rest.get_or_insert_default()) = bytes;
        } else if self.rest.as_ref().is_some_and(|rest| rest.heard.is_empty() && rest.unsaid.is_empty()) {
            self.rest = None;
        }
    }
}
