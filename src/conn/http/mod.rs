//! Streamable HTTP, and the HTTP+SSE of 2024-11-05: requests, sessions and event streams on a connection.
//!
//! ```text
//! request.rs   a whole request: route, then post.rs, stream.rs or old.rs
//! post.rs      one message: era (modern.rs has the newest one's rules), session, then a turn like everybody's
//! exchange.rs  what a turn has said becomes an answer: JSON if it is there at once, else an event stream
//! stream.rs    the stream that a GET opens; a lost stream read on
//! session.rs   what the connections of one client share; sessions.rs finds it, replay.rs keeps its last events
//! missed.rs    what has changed while a session had no stream
//! ```
//!
//! A connection serves one request at a time; the next one waits in its buffer. Everything that a service says on HTTP
//! goes through [`Bench::talk`]: as lines, like on raw TCP, which are put into answers and events behind it.

mod config;
mod exchange;
mod missed;
mod modern;
mod old;
mod post;
mod replay;
mod request;
mod session;
mod sessions;
mod stream;

use std::sync::Arc;

use super::Parting;
use super::calls::Calls;
use super::config::Limits;
use super::connection::{Connection, Due, Stage};
use super::service::Service;
use crate::actor::{News, Tick};
use crate::wire::http;

pub use config::Config;
pub(in crate::conn) use exchange::Exchange;
pub(in crate::conn) use sessions::Sessions;

use session::HttpSession;

/// Bytes of later requests taken in while one is answered; what is more waits in the socket.
const PIPELINED_MAX: usize = 64 << 10;

/// What a connection does that speaks HTTP.
pub(in crate::conn) enum Http {
    /// Reads a request, or waits for one.
    Reading(http::Reader),
    /// Answers one.
    Answering(Box<Exchange>),
    /// Has nothing open but subscriptions of 2026-07-28, which are here as long as nothing is told.
    Listening(Box<Listening>),
    /// Is an event stream of a session.
    Streaming(Standing),
}

/// The stream of a `subscriptions/listen`, at rest.
pub(in crate::conn) struct Listening {
    calls: Calls,
    keep: bool,
    chunked: bool,
}

/// An event stream that stands by; dropping it tells its session.
pub(in crate::conn) struct Standing {
    session: Arc<HttpSession>,
    /// By which the session knows whether it is still the one.
    serial: u32,
    /// A POST's stream is read on here.
    resumed: bool,
    keep: bool,
    chunked: bool,
    /// It carries all answers (2024-11-05); the session ends with it.
    old: bool,
}

impl Standing {
    /// Whether no other connection has taken its place.
    fn is_current(&self) -> bool {
        let state = self.session.state();
        state.is_newest(self.serial) || state.has_reader(self.serial)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let mut state = self.session.state();
        state.let_go(self.serial);
        if state.is_newest(self.serial) {
            state.close_stream();
            state.forget_posted();
        }
        state.ended |= self.old;
    }
}

impl Http {
    /// Before the first request, and between two.
    pub(in crate::conn) fn waiting() -> Self {
        Self::Reading(http::Reader::default())
    }

    /// The session that is served.
    fn session(&self) -> Option<&Arc<HttpSession>> {
        match self {
            Self::Answering(exchange) => exchange.session.as_ref(),
            Self::Streaming(standing) => Some(&standing.session),
            Self::Reading(_) | Self::Listening(_) => None,
        }
    }

    /// What identifies what it serves to other connections of the same client; 0: nothing that they know of.
    const fn serial(&self) -> u32 {
        match self {
            Self::Answering(exchange) => exchange.serial,
            Self::Streaming(standing) => standing.serial,
            Self::Reading(_) | Self::Listening(_) => 0,
        }
    }

    /// How it is called in reports.
    pub(in crate::conn) const fn name(&self) -> &'static str {
        match self {
            Self::Reading(_) => "http",
            Self::Answering(_) => "http_answering",
            Self::Listening(_) => "http_listening",
            Self::Streaming(_) => "http_stream",
        }
    }

    /// Bytes held on the heap besides the active part.
    pub(in crate::conn) fn bytes(&self) -> usize {
        match self {
            Self::Reading(_) | Self::Streaming(_) => 0,
            Self::Answering(_) => size_of::<Exchange>(),
            Self::Listening(listening) => size_of::<Listening>() + listening.calls.bytes(),
        }
    }

    /// Until when nothing needs to be done, and what then; what concerns every dialect left out.
    pub(in crate::conn) fn deadline(&self, heard: Tick, limits: &Limits) -> Option<(Tick, Due)> {
        match self {
            Self::Reading(_) => limits.http_idle.map(|idle| (heard + idle, Due::Part(Parting::IdleTimeout))),
            Self::Answering(exchange) => exchange.deadline(heard, limits),
            Self::Listening(_) | Self::Streaming(_) => limits.keepalive.map(|every| (heard + every, Due::Ping)),
        }
    }
}

impl Stage {
    /// What identifies the client to servers where it has a session with several connections.
    pub(in crate::conn) fn session_number(&self) -> Option<u128> {
        match self {
            Self::Http(http) => http.session().map(|session| session.number()),
            _ => None,
        }
    }
}

impl<T: Default> Connection<T> {
    /// Whether it is to be told the news: by what its session remembers, where it is a stream of one.
    pub(in crate::conn) fn is_told<S: Service<Session = T>>(&self, news: &News) -> bool {
        let calls = self.active.as_ref().map(|active| &active.calls);
        match &self.stage {
            Stage::Http(Http::Streaming(standing)) => {
                let (mut session, mut state) = (T::default(), standing.session.state());
                let mut swap = |session: &mut T| {
                    if let Some(guest) = S::guest(session) {
                        std::mem::swap(guest, &mut state.guest);
                    }
                };
                swap(&mut session);
                let told = !standing.resumed && S::is_told(&session, calls, news);
                swap(&mut session);
                told
            }
            Stage::Http(Http::Listening(listening)) => S::is_told(&self.session, Some(&listening.calls), news),
            _ => S::is_told(&self.session, calls, news),
        }
    }
}

impl<T> Connection<T> {
    /// Whether a request is being answered, so that the next one must wait.
    pub(in crate::conn) fn is_answering(&self) -> bool {
        matches!(&self.stage, Stage::Http(http) if !matches!(http, Http::Reading(_)))
    }

    /// Whether its client says nothing on it, ever, and only reads: an event stream that carries no answers.
    pub(in crate::conn) fn only_tells(&self) -> bool {
        match &self.stage {
            Stage::Http(Http::Listening(_)) => true,
            Stage::Http(Http::Streaming(standing)) => !standing.old,
            _ => false,
        }
    }

    /// Whether so many bytes of later requests wait that no more are taken in.
    pub(in crate::conn) fn has_pipelined_enough(&self) -> bool {
        self.is_answering() && self.active.as_ref().is_some_and(|active| active.inbound.len() >= PIPELINED_MAX)
    }

    /// Whether requests came while one was answered, and none is now.
    pub(in crate::conn) fn has_more_requests(&self) -> bool {
        matches!(self.stage, Stage::Http(Http::Reading(_)))
            && self.active.as_ref().is_some_and(|active| !active.inbound.is_empty())
    }

    /// Its subscriptions are needed: they are among its calls as long as it is not at rest.
    fn stir(&mut self) {
        if let Stage::Http(Http::Listening(listening)) = &mut self.stage {
            let calls = std::mem::take(&mut listening.calls);
            self.active().calls = calls;
        }
    }

    /// Puts subscriptions where they need no active part.
    pub(in crate::conn) fn settle_down(&mut self) {
        let Stage::Http(Http::Listening(listening)) = &mut self.stage else { return };
        if let Some(active) = &mut self.active
            && active.calls.has_pending()
        {
            active.calls.shrink();
            listening.calls = std::mem::take(&mut active.calls);
        }
    }
}
