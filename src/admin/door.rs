//! The door of the admin face: so many connections at once, and each only for as long as it asks and listens.
//!
//! axum's own `serve` sets no time limits; so they are set here, below HTTP: from one piece of an answer to the next, a
//! connection may take so long and send so much, whatever it sends.

use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use super::Config;

/// The longest request, in bytes: a GET has no body, and browsers send less than 2 KiB of headers.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// Lets connections in, while there are places.
pub(super) struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Door {
    pub(super) fn new(listener: TcpListener, config: &Config) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(config.connections_max.clamp(1, Semaphore::MAX_PERMITS))),
            patience: Duration::from_millis(config.patience_ms.max(1)),
        }
    }
}

impl Listener for Door {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            // Only a closed semaphore refuses, and nobody closes this one.
            return pending().await;
        };
        // Out of descriptors, this rests for a second and tries again.
        let (socket, from) = Listener::accept(&mut self.listener).await;
        let deadline = Box::pin(sleep(self.patience));
        (Visitor { socket, patience: self.patience, deadline, unanswered: 0, _place: place }, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with its deadline and its place.
pub(super) struct Visitor {
    socket: TcpStream,
    patience: Duration,
    /// Moved on by each piece of an answer that is taken.
    deadline: Pin<Box<Sleep>>,
    /// Bytes read since the last piece of an answer was taken.
    unanswered: usize,
    _place: OwnedSemaphorePermit,
}

impl Visitor {
    /// What to say instead of "not yet".
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn taken(&mut self, outcome: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Pending => self.wait(cx),
            Poll::Ready(outcome) => {
                self.deadline.as_mut().reset(Instant::now() + self.patience);
                self.unanswered = 0;
                Poll::Ready(outcome)
            }
        }
    }
}

impl AsyncRead for Visitor {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let Poll::Ready(outcome) = Pin::new(&mut self.socket).poll_read(cx, buf) else {
            return self.wait(cx);
        };
        self.unanswered += buf.filled().len() - before;
        if self.unanswered > REQUEST_BYTES_MAX {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Poll::Ready(outcome)
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.taken(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.taken(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
