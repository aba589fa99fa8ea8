//! Connections that carry what clients say whose own connection is taken by an open stream: few, and used in turns.

use mio::{Interest, Registry, Token};

use super::one::with;
use super::socket::{Heard, Seen, Socket};
use crate::cli::simulate::order::{Cause, Death};

/// The first token of a messenger; client indices are far below it, and the waker's is far above.
const FIRST: usize = 1 << 40;

/// They live as long as an order.
#[derive(Default)]
pub(super) struct Messengers {
    all: Vec<Messenger>,
}

#[derive(Default)]
struct Messenger {
    socket: Socket,
    /// The client whose request is under way.
    sender: Option<usize>,
}

impl Messengers {
    /// Which messenger a token is of.
    pub(super) fn number(token: Token) -> Option<usize> {
        token.0.checked_sub(FIRST)
    }

    /// The client whose answer this messenger waits for.
    pub(super) fn sender(&self, number: usize) -> Option<usize> {
        self.all.get(number)?.sender
    }

    /// Sends a request of client `sender` over a connection that is free, or a new one, which `open` opens.
    pub(super) fn send(
        &mut self,
        sender: usize,
        request: &[u8],
        registry: &Registry,
        open: impl FnOnce() -> std::io::Result<Socket>,
    ) -> Result<(), Death> {
        let free = self.all.iter().position(|messenger| messenger.sender.is_none());
        let number = free.unwrap_or_else(|| {
            self.all.push(Messenger::default());
            self.all.len() - 1
        });
        let Some(messenger) = self.all.get_mut(number) else { return Ok(()) };
        let failed = |error: std::io::Error| Death::new(Cause::ConnectFailed, format!("a second connection: {error}"));
        if messenger.socket.stream.is_none() {
            messenger.socket = open().map_err(failed)?;
            if let Some(stream) = &mut messenger.socket.stream {
                registry
                    .register(stream, Token(FIRST + number), Interest::READABLE | Interest::WRITABLE)
                    .map_err(failed)?;
            }
        }
        messenger.sender = Some(sender);
        messenger.socket.say(request).map_err(failed)
    }

    /// Does what a messenger's socket is ready for; `hear` is the sender's ear.
    pub(super) fn turn(
        &mut self,
        number: usize,
        seen: Seen,
        scratch: &mut [u8],
        mut hear: impl FnMut(&mut [u8]) -> Result<usize, Death>,
    ) -> Result<(), Death> {
        let Some(messenger) = self.all.get_mut(number) else { return Ok(()) };
        if seen.writable && !seen.closed && messenger.socket.has_unsaid() {
            let failed = |error: std::io::Error| Death::new(Cause::Closed, format!("a second connection: {error}"));
            messenger.socket.say(b"").map_err(failed)?;
        }
        if !seen.readable {
            return Ok(());
        }
        let mut answered = false;
        let heard = messenger.socket.listen(seen.closed, scratch, |bytes| {
            let done = hear(bytes)?;
            answered |= done > 0;
            Ok(done)
        })?;
        if answered {
            messenger.sender = None;
        }
        if let Heard::Closed(error) = heard {
            let waited = messenger.sender.is_some();
            *messenger = Messenger::default();
            if waited {
                return Err(with(error, Death::new(Cause::Closed, "a second connection was closed by the gateway")));
            }
        }
        Ok(())
    }

    /// A client is no more: its request is given up, and the connection with it.
    pub(super) fn recall(&mut self, sender: usize) {
        for messenger in self.all.iter_mut().filter(|messenger| messenger.sender == Some(sender)) {
            *messenger = Messenger::default();
        }
    }

    /// Closes all of them.
    pub(super) fn disband(&mut self) {
        self.all.clear();
    }
}
