//! A socket of the event loop, and what is incomplete on it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};

use mio::event::Event;
use mio::net::TcpStream;
use nix::errno::Errno;
use socket2::{Domain, Type};

use super::script::Who;
use super::sources;
use crate::cli::simulate::order::Death;

/// 16 bytes, and the boxed rest only while a message or a write is incomplete.
#[derive(Default)]
pub(super) struct Socket {
    pub(super) stream: Option<TcpStream>,
    rest: Option<Box<Rest>>,
}

#[derive(Default)]
struct Rest {
    heard: Vec<u8>,
    unsaid: Vec<u8>,
}

/// What the event loop saw of a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) writable: bool,
    pub(super) readable: bool,
    /// The other side has closed: only a read of nothing ends the reading.
    pub(super) closed: bool,
}

impl From<&Event> for Seen {
    fn from(event: &Event) -> Self {
        let closed = event.is_read_closed() || event.is_error();
        Self { writable: event.is_writable(), readable: event.is_readable() || closed, closed }
    }
}

/// How reading went.
#[derive(Debug)]
pub(super) enum Heard {
    /// All that was there has been heard.
    All,
    /// The other side has closed, in form or by this error.
    Closed(Option<io::Error>),
}

impl Socket {
    /// Starts to connect; on loopback from an address of this client's own block.
    pub(super) fn open(who: Who, wave: u32, seed: u64) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = socket2::Socket::new(Domain::for_address(who.target), kind, None)?;
        if let IpAddr::V4(address) = who.target.ip()
            && address.is_loopback()
        {
            let source = SocketAddr::from((sources::of(who.number, wave, seed), 0));
            socket.bind(&source.into())?;
        }
        match socket.connect(&who.target.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
            _ => Ok(Self { stream: Some(TcpStream::from_std(socket.into())), rest: None }),
        }
    }

    /// Reads all that is there; `hear` says how much of what it is given it is done with. A read that did not fill the
    /// buffer was the last, unless the end is still to be read: the loop is told of an end only once.
    pub(super) fn listen(
        &mut self,
        closed: bool,
        scratch: &mut [u8],
        mut hear: impl FnMut(&mut [u8]) -> Result<usize, Death>,
    ) -> Result<Heard, Death> {
        while let Some(stream) = &mut self.stream {
            let count = match stream.read(scratch) {
                Ok(0) => return Ok(Heard::Closed(None)),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Heard::Closed(Some(error))),
            };
            let new = scratch.get_mut(..count).unwrap_or_default();
            self.hear(new, &mut hear)?;
            if count < scratch.len() && !closed {
                break;
            }
        }
        Ok(Heard::All)
    }

    /// Hears what is new behind what was incomplete.
    fn hear(&mut self, new: &mut [u8], hear: &mut impl FnMut(&mut [u8]) -> Result<usize, Death>) -> Result<(), Death> {
        match self.rest.as_mut().map(|rest| std::mem::take(&mut rest.heard)) {
            Some(mut heard) if !heard.is_empty() => {
                heard.extend_from_slice(new);
                let done = hear(&mut heard)?;
                heard.drain(..done);
                self.keep(|rest| &mut rest.heard, heard);
            }
            _ => {
                let done = hear(new)?;
                if let Some(left @ [_, ..]) = new.get(done..) {
                    self.keep(|rest| &mut rest.heard, left.to_vec());
                }
            }
        }
        Ok(())
    }

    /// Whether something waits for the next time that the socket is writable.
    pub(super) fn has_unsaid(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| !rest.unsaid.is_empty())
    }

    /// Writes; what the socket does not take, because it does not yet stand for instance, waits until it is writable.
    pub(super) fn say(&mut self, out: &[u8]) -> io::Result<()> {
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
                Err(error) => return Err(error),
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
