//! What waits to be sent on a byte link: appended message by message, written together.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// A buffer that has grown beyond this, in bytes, is given back once it is empty.
const KEPT_BYTES: usize = 1 << 20;

/// Bytes to send, in order.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// Bytes taken by the peer since the beginning.
    taken: u64,
    stuck: bool,
    unflushed: bool,
}

impl Outbox {
    /// Appends a message as one line. JSON may have line breaks between its tokens, nowhere else: they become blanks.
    pub(super) fn put_line(&mut self, text: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        if memchr::memchr2(b'\n', b'\r', text).is_some() {
            for byte in &mut self.bytes[start..] {
                *byte = if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
            }
        }
        self.bytes.push(b'\n');
    }

    /// What is appended here is sent as it is.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn unsent(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Bytes that the peer has taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether the peer did not take all when it was last tried.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }

    pub(super) fn clear(&mut self) {
        *self = Self { taken: self.taken, ..Self::default() };
    }

    /// Sends until nothing waits.
    pub(super) fn poll_send(
        &mut self,
        mut writer: Pin<&mut (impl AsyncWrite + ?Sized)>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.stuck = true;
        while self.unsent() > 0 {
            match writer.as_mut().poll_write(cx, &self.bytes[self.sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(taken) => {
                    self.sent += taken;
                    self.taken += taken as u64;
                }
                Poll::Pending => {
                    if self.sent > KEPT_BYTES {
                        self.bytes.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Poll::Pending;
                }
            }
            self.unflushed = true;
        }
        self.sent = 0;
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
        if self.unflushed {
            // TLS keeps bytes of its own; pipes and sockets have nothing to flush.
            ready!(writer.poll_flush(cx))?;
            self.unflushed = false;
        }
        self.stuck = false;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_between_tokens_become_blanks() {
        let mut outbox = Outbox::default();
        outbox.put_line(b"{\r\n \"id\": 1\n}");
        outbox.put_line(b"{}");
        assert_eq!(outbox.bytes, b"{   \"id\": 1 }\n{}\n");
    }
}
