//! One open connection to an MCP server, whatever carries it: messages in and out, many per read and per write.

mod address;
mod child;
mod gossip;
mod http;
mod lines;
mod outbox;
mod pipe;
mod post;
mod tls;
mod ws;

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::mcp::Revision;
use crate::upstream::trouble::{Trouble, TroubleKind};
use address::Address;
use child::ChildLink;
pub use gossip::Gossip;
use http::HttpLink;
use pipe::Pipe;
pub use post::Destination;
use ws::WsLink;

/// So often a link may be filled at once before others have their turn, whose sockets and clocks are looked at only when nobody
/// goes on: a server that pours without end, 64 KiB each time, would keep them waiting for half a second.
const AT_ONCE_MAX: u32 = 2;

/// Where a server is and how to get there. Shown without its secrets (`upstream/config/one.rs`).
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// A child process that speaks on its stdin and stdout.
    Child {
        /// The program, looked for in `PATH` as a shell does.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// What is added to our own environment.
        env: Vec<(String, String)>,
        /// Its working directory; ours if none is given.
        cwd: Option<PathBuf>,
    },
    /// Newline-delimited JSON on a TCP connection to `host:port`.
    Tcp(String),
    /// A WebSocket with one message per text frame.
    WebSocket {
        /// `ws://` or `wss://`.
        url: String,
        /// Sent with the upgrade.
        headers: Vec<(String, String)>,
        /// With TLS: whom to trust, in PEM; none: as the host does.
        ca_file: Option<PathBuf>,
    },
    /// Streamable HTTP of any revision.
    Http {
        /// The MCP endpoint, `http://` or `https://`.
        url: String,
        /// Sent with every request.
        headers: Vec<(String, String)>,
        /// With TLS: whom to trust, in PEM; none: as the host does.
        ca_file: Option<PathBuf>,
    },
}

/// What a link may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest message, in bytes; a longer one is skipped, and fails its request if it can be told which.
    pub message_bytes_max: usize,
    /// How long a connection may take to be there.
    pub connect: Duration,
    /// Connections to an HTTP server: requests that wait for an answer at once, streams included. More wait their turn. What
    /// has no answer goes over a few others.
    pub http_connections_max: usize,
}

/// What carries a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A child's stdin and stdout.
    Stdio,
    /// Newline-delimited JSON over TCP.
    Tcp,
    /// A WebSocket.
    WebSocket,
    /// Streamable HTTP.
    Http,
}

/// One message to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// One JSON-RPC message.
    pub text: &'a [u8],
    /// What it is for.
    pub purpose: Purpose<'a>,
}

/// What a message is for: some transports say it beside the message, too.
#[derive(Debug, Clone, Copy)]
pub enum Purpose<'a> {
    /// A request.
    Request {
        /// The id in the text.
        number: u64,
        /// The method in the text.
        method: &'a str,
        /// `params.name` or `params.uri`, where the method has it: `Mcp-Name` of 2026-07-28.
        name: Option<&'a str>,
        /// Names behind `Mcp-Param-` and their values, unencoded (spec 2026-07-28
        /// basic/transports/streamable-http#custom-headers-from-tool-parameters).
        params: &'a [(String, String)],
        /// The revision that it is written in.
        revision: Revision,
    },
    /// A notification.
    Notification {
        /// The method in the text.
        method: &'a str,
        /// The revision that it is written in.
        revision: Revision,
    },
    /// An answer to a request of the server.
    Response,
    /// Nobody waits for `number` any more. Where the transport has no other way to say that, `text`, a
    /// `notifications/cancelled`, is sent.
    Cancel {
        /// The id of the request.
        number: u64,
        /// The revision that it was written in.
        revision: Revision,
    },
}

/// Something that has come.
#[derive(Debug)]
pub struct Arrived<'a> {
    /// The request on whose own response it came, or that failed. An error response that comes so is the answer to that
    /// request whatever its id says: it may have been refused before its id was read.
    pub on: Option<u64>,
    /// What it is.
    pub what: What<'a>,
}

/// What has come.
#[derive(Debug)]
pub enum What<'a> {
    /// A message that looks like JSON; nobody has checked more.
    Message(&'a [u8]),
    /// The request gets no (further) answer. Without a request: something that concerns all of them, such as a session
    /// that is lost.
    Failed(Trouble),
}

impl Arrived<'_> {
    /// How long it is.
    pub(super) const fn bytes(&self) -> usize {
        match &self.what {
            What::Message(bytes) => bytes.len(),
            What::Failed(_) => 0,
        }
    }
}

/// An open connection.
///
/// Its user puts, fills and takes in turn, all in one task:
/// ```text
/// loop { select! { fill => while let Some(arrived) = next() { .. }, more to do => put .. } }
/// ```
/// [`fill`](Self::fill) sends what waits while it waits itself, so that two peers with full buffers never wait for each
/// other. All that waits is cancel-safe. A `fill` that fails is the end of the link.
pub struct Link {
    inner: Inner,
    /// Fills one after another that did not have to wait.
    at_once: u32,
}

#[allow(clippy::large_enum_variant)] // There is one per upstream.
enum Inner {
    Child(ChildLink),
    Tcp(Pipe<OwnedReadHalf, OwnedWriteHalf>),
    WebSocket(WsLink),
    Http(HttpLink),
}

impl Link {
    /// Opens the connection to the upstream `name`, which is what the log calls it.
    ///
    /// # Errors
    /// When it is not there within `limits.connect`.
    pub async fn open(target: &Target, name: &str, limits: &Limits) -> Result<Self, Trouble> {
        let opening = async {
            let inner = match target {
                Target::Child { command, args, env, cwd } => {
                    Inner::Child(ChildLink::start(command, args, env, cwd.as_deref(), name, limits)?)
                }
                Target::Tcp(address) => {
                    let (reader, writer) = address::connect(address).await?.into_split();
                    Inner::Tcp(Pipe::new(reader, writer, limits.message_bytes_max, Gossip::new(name)))
                }
                Target::WebSocket { url, headers, ca_file } => {
                    let address = Address::parse(url, ["ws", "wss"], ca_file.as_deref())?;
                    Inner::WebSocket(WsLink::open(&address, headers, limits, Gossip::new(name)).await?)
                }
                // Connects when there is something to send.
                Target::Http { url, headers, ca_file } => {
                    let address = Address::parse(url, ["http", "https"], ca_file.as_deref())?;
                    Inner::Http(HttpLink::new(address, headers, limits, Gossip::new(name))?)
                }
            };
            Ok(Self { inner, at_once: 0 })
        };
        let late = || Trouble::new(TroubleKind::Refused, format!("no connection within {:?}", limits.connect));
        timeout(limits.connect, opening).await.unwrap_or_else(|_| Err(late().unsent()))
    }

    /// What carries it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match &self.inner {
            Inner::Child(_) => Kind::Stdio,
            Inner::Tcp(_) => Kind::Tcp,
            Inner::WebSocket(_) => Kind::WebSocket,
            Inner::Http(_) => Kind::Http,
        }
    }

    /// Takes a message for sending, with the next [`fill`](Self::fill) or [`flush`](Self::flush); never waits.
    pub fn put(&mut self, outgoing: Outgoing<'_>) {
        match &mut self.inner {
            Inner::Child(link) => link.pipe.put(outgoing.text),
            Inner::Tcp(pipe) => pipe.put(outgoing.text),
            Inner::WebSocket(link) => link.put(outgoing.text),
            Inner::Http(link) => link.put(outgoing),
        }
    }

    /// Bytes that were put and not taken by the peer yet: above a high mark, put no more.
    #[must_use]
    pub fn unsent(&self) -> usize {
        match &self.inner {
            Inner::Child(link) => link.pipe.unsent(),
            Inner::Tcp(pipe) => pipe.unsent(),
            Inner::WebSocket(link) => link.unsent(),
            Inner::Http(link) => link.unsent(),
        }
    }

    /// Bytes that the peer has taken since the link was opened, what the transport says besides included: a message was
    /// not sent if this is not more than it was, with [`unsent`](Self::unsent), when the message was put. Over HTTP, where
    /// each failure says itself whether its request was sent, always 0.
    #[must_use]
    pub fn taken(&self) -> u64 {
        match &self.inner {
            Inner::Child(link) => link.pipe.taken(),
            Inner::Tcp(pipe) => pipe.taken(),
            Inner::WebSocket(link) => link.taken(),
            Inner::Http(_) => 0,
        }
    }

    /// Sends all that was put; waits while the peer takes nothing.
    ///
    /// # Errors
    /// When the peer is gone; [`fill`](Self::fill) still gives what it has said before.
    pub async fn flush(&mut self) -> Result<(), Trouble> {
        match &mut self.inner {
            Inner::Child(link) => link.pipe.flush().await,
            Inner::Tcp(pipe) => pipe.flush().await,
            Inner::WebSocket(link) => link.flush().await,
            Inner::Http(link) => link.flush().await,
        }
    }

    /// Sends what was put, and waits until something has come, or until all is sent that was stuck.
    ///
    /// # Errors
    /// When the link is at its end: nothing more will come, and what waits for an answer has failed by this.
    pub async fn fill(&mut self) -> Result<(), Trouble> {
        if self.at_once >= AT_ONCE_MAX {
            self.at_once = 0;
            yield_now().await;
        }
        let mut is_at_once = true;
        let mut filling = pin!(async {
            match &mut self.inner {
                Inner::Child(link) => link.fill().await,
                Inner::Tcp(pipe) => pipe.fill().await,
                Inner::WebSocket(link) => link.fill().await,
                Inner::Http(link) => link.fill().await,
            }
        });
        let filled = poll_fn(|cx| {
            let filled = filling.as_mut().poll(cx);
            is_at_once &= filled.is_ready();
            filled
        });
        let filled = filled.await;
        self.at_once = if is_at_once { self.at_once + 1 } else { 0 };
        filled
    }

    /// The next thing that has come whole; none: [`fill`](Self::fill) again.
    #[allow(clippy::should_implement_trait)] // What it gives is borrowed from the link.
    pub fn next(&mut self) -> Option<Arrived<'_>> {
        match &mut self.inner {
            Inner::Child(link) => link.pipe.next(),
            Inner::Tcp(pipe) => pipe.next(),
            Inner::WebSocket(link) => link.next(),
            Inner::Http(link) => link.next(),
        }
    }

    /// Says which revision `initialize` has agreed on; to be called before `notifications/initialized` is put.
    pub fn agreed(&mut self, revision: Revision) {
        if let Inner::Http(link) = &mut self.inner {
            link.agreed(revision);
        }
    }

    /// Ends it in form, within about two seconds.
    pub async fn close(self) {
        match self.inner {
            Inner::Child(link) => link.end().await,
            Inner::Tcp(mut pipe) => {
                // What was put last may be a word to the server; more than a moment is not worth the wait.
                let _ = timeout(Duration::from_millis(500), pipe.flush()).await;
            }
            Inner::WebSocket(link) => link.end().await,
            Inner::Http(link) => link.close().await,
        }
    }
}

#[cfg(test)]
mod tests;
