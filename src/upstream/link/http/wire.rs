//! One HTTP/1.1 connection to a server: dialled when it is needed, kept while it is good, one request at a time on it.
//!
//! Our own in place of hyper's: a call is one write and one read here, and what hyper does around them, its channel to a task
//! and its header maps, was an eighth of all that a call costs lakh.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{io, mem};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use super::Endpoint;
use super::body::{Body, Step};
use super::head::{self, Head, no_http};
use super::order::Order;
use crate::upstream::link::address::Stream;
use crate::upstream::trouble::{Trouble, TroubleKind};

/// A connection that was not used for this long is not used again: servers commonly close after five seconds, and a request
/// that crosses the close is lost.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// Bytes of a body that are taken in one turn, or a few more: who pours without end lets others have theirs in between, whose
/// sockets and clocks are looked at only when nobody goes on at once.
const TURN_BYTES: usize = 64 << 10;
/// Interim answers (1xx) before an answer: more are no server's that means well.
const INTERIM_MAX: u8 = 16;
/// Room for one read, in bytes.
const READ_BYTES: usize = 8 << 10;

/// The connection, if there is one.
pub(super) struct Wire {
    endpoint: Arc<Endpoint>,
    open: Option<Open>,
    used: Instant,
    /// Bytes that were taken in this turn.
    taken: usize,
}

/// A connection, and how far the last answer on it was read.
struct Open {
    stream: Stream,
    /// What of the request was not sent yet.
    to_send: Bytes,
    came: BytesMut,
    /// Bytes at the front of `came` that [`Wire::more`] gave away.
    given: usize,
    /// None while the head of an answer is waited for.
    body: Option<Body>,
    interims: u8,
    keeps_alive: bool,
}

impl Wire {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, open: None, used: Instant::now(), taken: 0 }
    }

    /// Sends `order` and waits for the head of the answer.
    ///
    /// A kept connection may be closed by the server at the moment it is used. What surely was not processed then, and what
    /// does no harm twice, is sent once more on a new one.
    pub(super) async fn ask(&mut self, order: &Order) -> Result<Head, Trouble> {
        let is_kept = self.used.elapsed() < IDLE_MAX && poll_fn(|cx| Poll::Ready(self.is_good(cx))).await;
        if !is_kept {
            self.hang_up();
        }
        let mut outcome = self.exchange(order).await;
        if is_kept && outcome.as_ref().is_err_and(|(_, is_unsent)| *is_unsent || order.is_repeatable) {
            self.hang_up();
            outcome = self.exchange(order).await;
        }
        self.used = Instant::now();
        outcome.map_err(|(trouble, is_unsent)| {
            self.hang_up();
            if is_unsent { trouble.unsent() } else { trouble }
        })
    }

    /// The trouble, and whether no byte was sent.
    async fn exchange(&mut self, order: &Order) -> Result<Head, (Trouble, bool)> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.dial().await.map_err(|trouble| (trouble, true))?,
        };
        let open = self.open.insert(open);
        open.begin(order);
        let came = poll_fn(|cx| open.poll_head(cx)).await;
        came.map_err(|trouble| (trouble, open.to_send.len() == order.text.len()))
    }

    /// The next piece of the answer's body; none at its end.
    pub(super) async fn more(&mut self) -> Result<Option<&[u8]>, Trouble> {
        if self.taken >= TURN_BYTES {
            self.taken = 0;
            yield_now().await;
        }
        let open = self.open.as_mut().ok_or_else(|| lost("the connection was given up"))?;
        let is_more = poll_fn(|cx| open.poll_more(cx)).await?;
        self.taken += open.given;
        Ok(is_more.then(|| &open.came[..open.given]))
    }

    /// Waits for `next`, and notices meanwhile when the server closes the connection.
    pub(super) async fn idle<T>(&mut self, next: impl Future<Output = T>) -> T {
        let mut next = pin!(next);
        poll_fn(|cx| {
            let next = next.as_mut().poll(cx);
            if next.is_pending() && self.open.is_some() && !self.is_good(cx) {
                self.hang_up();
            }
            next
        })
        .await
    }

    /// Path and query of the MCP endpoint.
    pub(super) fn target(&self) -> &str {
        &self.endpoint.target
    }

    /// What is unfinished on it cannot be finished.
    pub(super) fn hang_up(&mut self) {
        self.open = None;
    }

    /// Whether there is a connection on which another request can be sent.
    fn is_good(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(open) = &mut self.open else { return false };
        let is_over = open.body == Some(Body::Over) && open.to_send.is_empty() && open.came.len() == open.given;
        // Whatever comes unasked, be it the end, nothing good can follow.
        is_over && open.keeps_alive && open.poll_read(cx).is_pending()
    }

    async fn dial(&self) -> Result<Open, Trouble> {
        let connect = self.endpoint.connect;
        let late = || Trouble::new(TroubleKind::Refused, format!("no connection within {connect:?}"));
        let stream = timeout(connect, self.endpoint.address.connect()).await.unwrap_or_else(|_| Err(late()))?;
        let (to_send, came) = (Bytes::new(), BytesMut::new());
        Ok(Open { stream, to_send, came, given: 0, body: None, interims: 0, keeps_alive: false })
    }
}

impl Open {
    fn begin(&mut self, order: &Order) {
        self.to_send = order.text.clone();
        self.came.advance(mem::take(&mut self.given));
        (self.body, self.interims) = (None, 0);
    }

    /// Sends the request, and reads meanwhile: a server may refuse before it has heard all.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Trouble>> {
        let unsendable = match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Some(error),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        };
        loop {
            if let Some(read) = head::read(&self.came)? {
                self.came.advance(read.bytes);
                match read.head.status {
                    101 => return Poll::Ready(Err(no_http("a protocol that was not asked for"))),
                    100..=199 if self.interims < INTERIM_MAX => {
                        self.interims += 1;
                        continue;
                    }
                    100..=199 => return Poll::Ready(Err(no_http("interim answers without an end"))),
                    _ => {}
                }
                self.keeps_alive = read.keeps_alive;
                self.body = Some(read.body);
                return Poll::Ready(Ok(read.head));
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(lost("the connection was closed before an answer"))),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(broken(&error))),
                Poll::Pending => return unsendable.map_or(Poll::Pending, |error| Poll::Ready(Err(broken(&error)))),
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.to_send.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.to_send))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.to_send.advance(written),
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Whether there is another piece of the body: `given` bytes at the front of `came`.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Trouble>> {
        self.came.advance(mem::take(&mut self.given));
        // It may wait for the rest of the request before it goes on; if that cannot be sent, reading tells.
        let _ = self.poll_send(cx);
        loop {
            let Some(body) = &mut self.body else { return Poll::Ready(Err(lost("the answer has no head"))) };
            match body.step(&mut self.came)? {
                Step::Over => return Poll::Ready(Ok(false)),
                Step::Data(bytes) => {
                    self.given = bytes;
                    return Poll::Ready(Ok(true));
                }
                Step::More => {}
            }
            let is_whole_when_closed = *body == Body::UntilClose;
            match ready!(self.poll_read(cx)) {
                Ok(0) if is_whole_when_closed => self.body = Some(Body::Over),
                Ok(0) => return Poll::Ready(Err(lost("the connection was closed within an answer"))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(broken(&error))),
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.came.reserve(READ_BYTES);
        pin!(self.stream.read_buf(&mut self.came)).poll(cx)
    }
}

fn lost(how: &str) -> Trouble {
    Trouble::new(TroubleKind::Lost, how)
}

fn broken(error: &io::Error) -> Trouble {
    lost(&error.to_string())
}
