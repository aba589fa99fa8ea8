//! One HTTP/1.1 connection: dialled when it is needed, kept while it is good, driven together with what is asked on it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};

use super::Endpoint;
use crate::upstream::link::address::Stream;
use crate::upstream::trouble::{Trouble, TroubleKind};

/// A connection that was not used for this long is not used again: servers commonly close after five seconds, and a request
/// that crosses the close is lost.
const IDLE_MAX: std::time::Duration = std::time::Duration::from_secs(4);

type Driver = Pin<Box<Connection<TokioIo<Stream>, Full<Bytes>>>>;

/// A request.
#[derive(Clone)]
pub(super) struct Order {
    pub(super) verb: Method,
    pub(super) target: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whether it may be sent twice without harm.
    pub(super) is_repeatable: bool,
}

/// The connection, if there is one.
pub(super) struct Wire {
    endpoint: Arc<Endpoint>,
    open: Option<(SendRequest<Full<Bytes>>, Driver)>,
    used: Instant,
}

impl Wire {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, open: None, used: Instant::now() }
    }

    /// Sends `order` and waits for the head of the answer.
    ///
    /// A kept connection may be closed by the server at the moment it is used. What surely was not processed then, and what
    /// does no harm twice, is sent once more on a new one.
    pub(super) async fn ask(&mut self, order: Order) -> Result<Response<Incoming>, Trouble> {
        let mut again = order.is_repeatable.then(|| order.clone());
        let mut request = order.request();
        let mut is_kept = self.open.is_some() && self.used.elapsed() < IDLE_MAX;
        if !is_kept {
            self.hang_up();
        }
        loop {
            let (mut sender, driver) = match self.open.take() {
                Some(open) => open,
                None => self.dial().await?,
            };
            let mut driver = Some(driver);
            let asking = async {
                // Ready at once, but for the end of the last answer.
                if let Err(error) = sender.ready().await {
                    return Err((error, Some(request)));
                }
                sender.try_send_request(request).await.map_err(|mut failed| {
                    let unsent = failed.take_message();
                    (failed.into_error(), unsent)
                })
            };
            match drive(&mut driver, asking).await {
                Ok(response) => {
                    self.open = driver.map(|driver| (sender, driver));
                    self.used = Instant::now();
                    return Ok(response);
                }
                Err((error, unsent)) => {
                    let was_unsent = unsent.is_some();
                    match unsent.or_else(|| again.take().map(Order::request)).filter(|_| is_kept) {
                        Some(once_more) => (request, is_kept) = (once_more, false),
                        None if was_unsent => return Err(broken(&error).unsent()),
                        None => return Err(broken(&error)),
                    }
                }
            }
        }
    }

    /// The next piece of an answer's body; none at its end.
    pub(super) async fn more(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, Trouble> {
        let (sender, driver) = match self.open.take() {
            Some((sender, driver)) => (Some(sender), Some(driver)),
            None => (None, None),
        };
        let mut held = Held { wire: self, sender, driver };
        loop {
            match drive(&mut held.driver, body.frame()).await {
                None => return Ok(None),
                Some(Err(error)) => return Err(broken(&error)),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Waits for `next`, and notices meanwhile when the server closes the connection.
    pub(super) async fn idle<T>(&mut self, next: impl Future<Output = T>) -> T {
        self.used = Instant::now();
        let Some((sender, driver)) = self.open.take() else { return next.await };
        let mut driver = Some(driver);
        let next = drive(&mut driver, next).await;
        self.open = driver.map(|driver| (sender, driver));
        next
    }

    /// Path and query of the MCP endpoint.
    pub(super) fn target(&self) -> Uri {
        self.endpoint.target.clone()
    }

    /// What is unfinished on it cannot be finished.
    pub(super) fn hang_up(&mut self) {
        self.open = None;
    }

    async fn dial(&self) -> Result<(SendRequest<Full<Bytes>>, Driver), Trouble> {
        let dialling = async {
            let stream = self.endpoint.address.connect().await?;
            // Messages are small: copied behind their head they cost less than a write of two pieces.
            let shaking = Builder::new().writev(false).handshake(TokioIo::new(stream));
            let (sender, driver) = shaking.await.map_err(|error| broken(&error).unsent())?;
            Ok((sender, Box::pin(driver)))
        };
        let late = || Trouble::new(TroubleKind::Refused, format!("no connection within {:?}", self.endpoint.connect));
        timeout(self.endpoint.connect, dialling).await.unwrap_or_else(|_| Err(late().unsent()))
    }
}

/// Puts the connection back however the wait for a piece ends.
struct Held<'w> {
    wire: &'w mut Wire,
    sender: Option<SendRequest<Full<Bytes>>>,
    driver: Option<Driver>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.wire.open = self.sender.take().zip(self.driver.take());
    }
}

impl Order {
    fn request(self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.verb;
        *request.uri_mut() = self.target;
        *request.headers_mut() = self.headers;
        request
    }
}

/// Polls the connection and what is asked on it together; a connection that has ended is gone from `driver`.
async fn drive<T>(driver: &mut Option<Driver>, asked: impl Future<Output = T>) -> T {
    let mut asked = pin!(asked);
    poll_fn(|cx| {
        if let Poll::Ready(done) = asked.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        match driver.as_mut().map(|driver| driver.as_mut().poll(cx)) {
            None | Some(Poll::Pending) => {}
            Some(Poll::Ready(_)) => *driver = None,
        }
        // What the connection has just brought, without waiting for another turn.
        asked.as_mut().poll(cx)
    })
    .await
}

fn broken(error: &hyper::Error) -> Trouble {
    let cause = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    Trouble::new(TroubleKind::Lost, format!("{error}{cause}"))
}
