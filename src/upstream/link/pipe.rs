//! Newline-delimited JSON over two byte streams: a TCP connection, or the stdin and stdout of a child.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::gossip::Gossip;
use super::lines::{Found, Lines};
use super::outbox::Outbox;
use super::{Arrived, What};
use crate::upstream::trouble::{Trouble, TroubleKind};

/// Both directions of a byte link.
pub(super) struct Pipe<R, W> {
    reader: R,
    writer: W,
    lines: Lines,
    outbox: Outbox,
    gossip: Gossip,
    /// Why nothing can be sent any more; what has been said before may still be read.
    deaf: Option<Trouble>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Pipe<R, W> {
    pub(super) fn new(reader: R, writer: W, line_bytes_max: usize, gossip: Gossip) -> Self {
        let lines = Lines::new(line_bytes_max);
        Self { reader, writer, lines, outbox: Outbox::default(), gossip, deaf: None }
    }

    pub(super) fn put(&mut self, text: &[u8]) {
        if self.deaf.is_none() {
            self.outbox.put_line(text);
        }
    }

    pub(super) fn unsent(&self) -> usize {
        self.outbox.unsent()
    }

    pub(super) fn taken(&self) -> u64 {
        self.outbox.taken()
    }

    pub(super) async fn flush(&mut self) -> Result<(), Trouble> {
        poll_fn(|cx| self.outbox.poll_send(Pin::new(&mut self.writer), cx)).await.map_err(|error| lost(&error))
    }

    /// Sends what waits, and returns when something has come or all that was stuck is sent.
    pub(super) async fn fill(&mut self) -> Result<(), Trouble> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Trouble>> {
        let was_stuck = self.outbox.is_stuck();
        if let Poll::Ready(Err(error)) = self.outbox.poll_send(Pin::new(&mut self.writer), cx) {
            self.outbox.clear();
            self.deaf = Some(lost(&error));
        }
        match pin!(self.reader.read_buf(self.lines.room())).poll(cx) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(Trouble::new(TroubleKind::Lost, "closed by the upstream"))),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(lost(&error))),
            Poll::Pending => match &self.deaf {
                Some(trouble) => Poll::Ready(Err(trouble.clone())),
                None if was_stuck && !self.outbox.is_stuck() => Poll::Ready(Ok(())),
                None => Poll::Pending,
            },
        }
    }

    pub(super) fn next(&mut self) -> Option<Arrived<'_>> {
        while let Some(found) = self.lines.next() {
            match found {
                Found::Line(line) if matches!(self.lines.at(line.clone()).trim_ascii_start(), [b'{' | b'[', ..]) => {
                    return Some(Arrived { on: None, what: What::Message(self.lines.at(line)) });
                }
                Found::Line(line) => self.gossip.complain("wrote a line that is no message", self.lines.at(line)),
                Found::TooLong(on) => {
                    self.gossip.complain("wrote a line over message_bytes_max, which was skipped", b"");
                    // Whoever waits for an answer whose id could not be read waits until its deadline.
                    if on.is_some() {
                        return Some(Arrived { on, what: What::Failed(Trouble::new(TroubleKind::TooLong, "")) });
                    }
                }
            }
        }
        None
    }

    pub(super) fn into_parts(self) -> (R, W) {
        (self.reader, self.writer)
    }
}

/// How a connection broke.
pub(super) fn lost(error: &io::Error) -> Trouble {
    Trouble::new(TroubleKind::Lost, error.to_string())
}
