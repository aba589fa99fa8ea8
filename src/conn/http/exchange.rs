//! What a turn has said becomes an answer: JSON if it is all there, an event stream if something comes before it.

use std::net::Shutdown;
use std::sync::Arc;

use super::session::HttpSession;
use super::{Http, Listening};
use crate::actor::{Desk, Tick};
use crate::conn::config::Limits;
use crate::conn::connection::{Connection, Due, Stage};
use crate::conn::service::{Service, Talk};
use crate::conn::{Bench, Parting};
use crate::mcp::fault::{TOO_MANY, UNAVAILABLE};
use crate::mcp::{Fault, Revision};
use crate::pool::Key;
use crate::wire::envelope::{self, Id, Incoming, Kind};
use crate::wire::http::event::{self, EventId};
use crate::wire::http::{self, Manner, Refusal, Request};
use crate::wire::json;

/// What is said where the answer would be.
const UNFETCHED: &str = "Internal error: the call was given up, as its client was away for too long \
                         (conn.http.detached_ms); it may have had effects";

/// A POST that is being answered. It is there only as long as that takes.
pub(in crate::conn) struct Exchange {
    pub(super) session: Option<Arc<HttpSession>>,
    /// The revision it is answered in; nothing before `initialize`.
    pub(super) revision: Option<Revision>,
    /// The page that may read the answer.
    origin: Option<Box<str>>,
    pub(super) keep: bool,
    chunked: bool,
    /// Opens a session, if it goes well.
    pub(super) opens: bool,
    /// The body was no message at all.
    pub(super) malformed: bool,
    /// The event stream has begun.
    began: bool,
    /// The client has lost the stream and may come back for it.
    gone: bool,
    since: Tick,
    /// By which its letters find it, once it waits.
    pub(super) serial: u32,
    /// The number of its stream, once it has one.
    stream: u32,
    /// The number of its last event.
    number: u32,
}

impl Exchange {
    pub(super) fn new(request: &Request<'_>, session: Option<Arc<HttpSession>>, now: Tick) -> Self {
        Self {
            session,
            revision: None,
            origin: request.origin.map(Into::into),
            keep: request.keeps_alive,
            chunked: !request.is_old,
            opens: false,
            malformed: false,
            began: false,
            gone: false,
            since: now,
            serial: 0,
            stream: 0,
            number: 0,
        }
    }

    fn manner(&self) -> Manner<'_> {
        Manner { keep: self.keep, chunked: self.chunked, origin: self.origin.as_deref() }
    }

    pub(super) fn deadline(&self, heard: Tick, limits: &Limits) -> Option<(Tick, Due)> {
        match self {
            Self { gone: true, since, .. } => Some((since + limits.http_detached, Due::Part(Parting::PeerVanished))),
            Self { began: false, since, .. } => Some((since + limits.http_sse_after, Due::Ping)),
            Self { began: true, .. } => limits.keepalive.map(|every| (heard + every, Due::Ping)),
        }
    }

    /// Its client has lost the stream now.
    pub(super) const fn wait_from(&mut self, now: Tick) {
        self.since = now;
    }

    /// Whether the client reads its events on another connection.
    pub(super) fn is_read_elsewhere(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.state().is_read_on(self.stream))
    }

    /// Whether its events have ids, so that a client that has lost it can read on.
    fn is_resumable(&self) -> bool {
        self.session.is_some() && self.began
    }
}

/// Whoever parts stops waiting.
impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(session) = self.session.as_ref().filter(|_| self.stream > 0) {
            session.state().done(self.stream);
        }
    }
}

impl<S: Service> Bench<S> {
    /// Lets the service do something for a client: the one way for it to say anything, in any dialect.
    ///
    /// # Errors
    /// When what it said was the last on the connection.
    pub(in crate::conn) fn talk<R>(
        &mut self,
        conn: &mut Connection<S::Session>,
        desk: &Desk<'_>,
        key: Key,
        work: impl FnOnce(&mut S, &mut Talk<'_, S::Session>) -> R,
    ) -> Result<R, Parting> {
        if !matches!(conn.stage, Stage::Http(_)) {
            let mut talk = Talk::new(conn, &mut self.out, &mut self.counts.messages_out, desk, key);
            return Ok(work(&mut self.service, &mut talk));
        }
        conn.stir();
        let from = self.out.len();
        let done = self.on_session(conn, desk, key, work);
        self.reframe(conn, from, desk, key)?;
        Ok(done)
    }

    /// The same with what the client's session remembers in place of what the connection does.
    fn on_session<R>(
        &mut self,
        conn: &mut Connection<S::Session>,
        desk: &Desk<'_>,
        key: Key,
        work: impl FnOnce(&mut S, &mut Talk<'_, S::Session>) -> R,
    ) -> R {
        let Stage::Http(http) = &conn.stage else { unreachable!("only HTTP has sessions") };
        let session = http.session().cloned();
        let mut state = session.as_ref().map(|session| session.state());
        let mut swap = |conn: &mut Connection<S::Session>| {
            if let (Some(state), Some(guest)) = (&mut state, S::guest(&mut conn.session)) {
                std::mem::swap(&mut state.guest, guest);
            }
        };
        swap(conn);
        let mut talk = Talk::new(conn, &mut self.out, &mut self.counts.messages_out, desk, key);
        let done = work(&mut self.service, &mut talk);
        swap(conn);
        done
    }

    /// Puts the lines behind `from` into the answer or the stream that the connection has open.
    fn reframe(
        &mut self,
        conn: &mut Connection<S::Session>,
        from: usize,
        desk: &Desk<'_>,
        key: Key,
    ) -> Result<(), Parting> {
        let waits = conn.active.as_ref().is_some_and(|active| active.calls.has_pending());
        match &mut conn.stage {
            Stage::Http(Http::Answering(_)) if waits => self.go_on_answering(conn, from, desk, key),
            Stage::Http(Http::Answering(exchange)) => {
                let lines = memchr::memchr_iter(b'\n', &self.out[from..]).count();
                if !exchange.began && lines <= 1 { self.answer(conn, from) } else { self.end_answer(conn, from, desk) }
            }
            Stage::Http(Http::Listening(listening)) => {
                let (keep, chunked) = (listening.keep, listening.chunked);
                let lines = self.out.split_off(from);
                lines_of(&lines).for_each(|line| event::write_message(&mut self.out, chunked, None, line));
                if waits { Ok(()) } else { self.end_stream(conn, keep, chunked) }
            }
            Stage::Http(Http::Streaming(standing)) => {
                let lines = self.out.split_off(from);
                for line in lines_of(&lines) {
                    let id = (!standing.old).then(|| self.house.keep_told(standing, line));
                    event::write_message(&mut self.out, standing.chunked, id, line);
                }
                Ok(())
            }
            // Nobody asked for it.
            _ => {
                self.out.truncate(from);
                Ok(())
            }
        }
    }

    /// Something comes before the answer, or it is not there yet.
    fn go_on_answering(
        &mut self,
        conn: &mut Connection<S::Session>,
        from: usize,
        desk: &Desk<'_>,
        key: Key,
    ) -> Result<(), Parting> {
        let (Stage::Http(Http::Answering(exchange)), Some(active)) = (&mut conn.stage, &conn.active) else {
            return Ok(());
        };
        if let Some(session) = exchange.session.clone() {
            let mut state = session.state();
            if exchange.stream == 0 {
                exchange.stream = state.number_stream();
                let place = self.house.sessions.place(desk.inbox, key);
                exchange.serial = place.serial;
                state.wait(exchange.stream, place, active.calls.ids().map(Into::into).collect());
            }
            state.note_asked(exchange.stream, active.calls.asked_numbers().collect());
        }
        if self.out.len() == from {
            return Ok(());
        }
        let lines = self.out.split_off(from);
        self.begin_events(exchange, desk);
        lines_of(&lines).for_each(|line| self.event(exchange, line, false));
        if active.calls.are_settled() {
            let (keep, chunked) = (exchange.keep && exchange.chunked, exchange.chunked);
            let calls = super::Calls::default();
            conn.stage = Stage::Http(Http::Listening(Box::new(Listening { calls, keep, chunked })));
            conn.heard = desk.now;
        }
        Ok(())
    }

    /// The whole answer is what stands behind `from`; nothing, where there is nothing to answer.
    fn answer(&mut self, conn: &mut Connection<S::Session>, from: usize) -> Result<(), Parting> {
        let Stage::Http(Http::Answering(exchange)) = &mut conn.stage else { return Ok(()) };
        if self.out.last() == Some(&b'\n') && self.out.len() > from {
            self.out.pop();
        }
        let mut more = String::new();
        let mut refused = None;
        if exchange.opens
            && let Some(guest) = S::guest(&mut conn.session)
            && guest.is_open()
        {
            match self.house.sessions.open(std::mem::take(guest), conn.tenant, &self.house.pressure) {
                Ok(session) => more = format!("Mcp-Session-Id: {}\r\n", session.id.text()),
                Err(refusal) => refused = Some(self.house.turned_down(refusal)),
            }
        }
        let keep = exchange.keep;
        if let Some(refusal) = refused {
            self.out.truncate(from);
            self.write_refusal(refusal, exchange.manner());
        } else if self.out.len() == from {
            http::write_empty(&mut self.out, 202, exchange.manner(), &more);
        } else {
            let status = status(&self.out[from..], exchange);
            if matches!(status, 429 | 503) {
                let wait = retry_after_ms(&self.out[from..]).unwrap_or_else(|| self.house.retry_after_ms());
                more = format!("Retry-After: {}\r\n", wait.div_ceil(1000));
            }
            http::write_whole(&mut self.out, from, status, exchange.manner(), &more);
        }
        self.next_request(conn, keep)
    }

    /// The rest of the answer, as events.
    fn end_answer(&mut self, conn: &mut Connection<S::Session>, from: usize, desk: &Desk<'_>) -> Result<(), Parting> {
        let Stage::Http(Http::Answering(exchange)) = &mut conn.stage else { return Ok(()) };
        let lines = self.out.split_off(from);
        self.begin_events(exchange, desk);
        let mut lines = lines_of(&lines).peekable();
        while let Some(line) = lines.next() {
            let last = lines.peek().is_none();
            self.event(exchange, line, last);
        }
        if exchange.gone {
            return Err(Parting::PeerVanished);
        }
        let (keep, chunked) = (exchange.keep && exchange.chunked, exchange.chunked);
        self.end_stream(conn, keep, chunked)
    }

    /// Ends the event stream.
    pub(super) fn end_stream(
        &mut self,
        conn: &mut Connection<S::Session>,
        keep: bool,
        chunked: bool,
    ) -> Result<(), Parting> {
        event::write_end(&mut self.out, chunked);
        self.next_request(conn, keep)
    }

    /// An answer has been given.
    pub(super) fn next_request(&mut self, conn: &mut Connection<S::Session>, keep: bool) -> Result<(), Parting> {
        conn.stage = Stage::Http(Http::waiting());
        // Between two requests a connection belongs to nobody.
        conn.session = S::Session::default();
        if let Some(active) = &mut conn.active {
            active.calls = super::Calls::default();
        }
        if keep { Ok(()) } else { Err(Parting::HttpDone) }
    }

    /// Its session has ended, and the call with it.
    pub(super) fn end_with_session(&mut self, conn: &mut Connection<S::Session>) -> Result<(), Parting> {
        let Stage::Http(Http::Answering(exchange)) = &conn.stage else { return Ok(()) };
        let (keep, chunked) = (exchange.keep, exchange.chunked);
        if exchange.gone {
            return Err(Parting::PeerVanished);
        }
        if exchange.began {
            return self.end_stream(conn, keep && chunked, chunked);
        }
        let origin = exchange.origin.clone();
        self.write_refusal(Refusal::SessionUnknown, Manner { keep, chunked, origin: origin.as_deref() });
        self.next_request(conn, keep)
    }

    fn begin_events(&mut self, exchange: &mut Exchange, desk: &Desk<'_>) {
        if exchange.began {
            return;
        }
        exchange.began = true;
        exchange.since = desk.now;
        http::open_events(&mut self.out, exchange.manner(), "");
        let Some(session) = exchange.session.as_ref() else { return };
        if exchange.stream == 0 {
            exchange.stream = session.state().number_stream();
        }
        if exchange.revision.is_some_and(Revision::has_priming_events) {
            let id = EventId { stream: exchange.stream, number: 0 };
            event::write_priming(&mut self.out, exchange.chunked, id, self.house.config.http.retry_ms);
        }
    }

    fn event(&mut self, exchange: &mut Exchange, message: &[u8], last: bool) {
        let Some(session) = &exchange.session else {
            return event::write_message(&mut self.out, exchange.chunked, None, message);
        };
        exchange.number += 1;
        let id = EventId { stream: exchange.stream, number: exchange.number };
        if !exchange.gone {
            event::write_message(&mut self.out, exchange.chunked, Some(id), message);
        }
        let sessions = &self.house.sessions;
        let to = (&self.house.config.http, &sessions.replayed);
        session.state().keep(id, message, last, sessions.now_ms(), to);
    }

    /// Proxies must not take the connection for dead: begins the event stream, or says something in it.
    pub(in crate::conn) fn keep_alive(&mut self, conn: &mut Connection<S::Session>, desk: &Desk<'_>) {
        conn.heard = desk.now;
        match &mut conn.stage {
            Stage::Http(Http::Answering(exchange)) if !exchange.began => self.begin_events(exchange, desk),
            Stage::Http(Http::Answering(exchange)) => event::write_comment(&mut self.out, exchange.chunked),
            Stage::Http(Http::Listening(listening)) => event::write_comment(&mut self.out, listening.chunked),
            Stage::Http(Http::Streaming(standing)) => event::write_comment(&mut self.out, standing.chunked),
            _ => {}
        }
    }

    /// We end it: what is half there is told so, and a stream ends in form.
    pub(in crate::conn) fn end_http(&mut self, conn: &mut Connection<S::Session>, parting: Parting) {
        match &conn.stage {
            Stage::Http(Http::Reading(_)) if parting == Parting::MessageTimeout => {
                // It parts in any case.
                let _ = self.refuse_unread(Refusal::Timeout, conn.inbound());
            }
            Stage::Http(Http::Listening(listening)) => event::write_end(&mut self.out, listening.chunked),
            Stage::Http(Http::Streaming(standing)) => event::write_end(&mut self.out, standing.chunked),
            _ => {}
        }
    }

    /// Whether the client's call outlives its connection: one of a session whose events have ids. A lost connection is
    /// no cancellation (spec 2025-11-25 basic/transports#sending-messages-to-the-server), and the client can come back for the
    /// rest. A call without such a stream is cancelled: nobody could ever read its answer.
    pub(in crate::conn) fn outlives(
        &mut self,
        conn: &mut Connection<S::Session>,
        parting: Parting,
        desk: &Desk<'_>,
    ) -> bool {
        let lost = matches!(parting, Parting::PeerClosed | Parting::PeerVanished | Parting::PeerHalfClosed);
        let Stage::Http(Http::Answering(exchange)) = &conn.stage else { return false };
        let waits = conn.active.as_ref().is_some_and(|active| active.calls.has_pending());
        let may = lost && waits && exchange.is_resumable() && !exchange.gone && !self.house.is_draining();
        if may {
            self.detach(conn, desk);
        }
        may
    }

    /// Its client has not come back for the answers in time: it finds errors in their place if it still does.
    pub(in crate::conn) fn give_up(&mut self, conn: &mut Connection<S::Session>) {
        let (Stage::Http(Http::Answering(exchange)), Some(active)) = (&mut conn.stage, &conn.active) else { return };
        if !exchange.gone {
            return;
        }
        let mut text = Vec::new();
        for id in active.calls.ids().filter_map(|id| Id::from_raw(id).ok()) {
            self.house.ledger.faults.add(Fault::Abandoned);
            text.clear();
            Fault::Abandoned.because(UNFETCHED).write(&mut text, Some(id));
            self.event(exchange, &text, false);
        }
    }

    /// Nothing more is written and read: the client has lost the stream, or reads on elsewhere.
    pub(super) fn detach(&mut self, conn: &mut Connection<S::Session>, desk: &Desk<'_>) {
        let Stage::Http(Http::Answering(exchange)) = &mut conn.stage else { return };
        exchange.gone = true;
        exchange.since = desk.now;
        self.out.clear();
        if let Some(active) = &mut conn.active {
            active.drop_bytes(&mut self.buffers);
        }
        // It may be gone; what matters is that nothing more is heard of it.
        let _ = conn.socket.shutdown(Shutdown::Both);
    }
}

impl<T> Connection<T> {
    /// Whether only its calls are left of it.
    pub(in crate::conn) fn is_detached(&self) -> bool {
        matches!(&self.stage, Stage::Http(Http::Answering(exchange)) if exchange.gone)
    }

    /// Whether its client reads on elsewhere, so that it waits on; looked at when its time is over.
    pub(in crate::conn) fn is_read_on(&mut self, now: Tick) -> bool {
        let Stage::Http(Http::Answering(exchange)) = &mut self.stage else { return false };
        let read_on = exchange.gone && exchange.is_read_elsewhere();
        if read_on {
            exchange.since = now;
        }
        read_on
    }
}

fn lines_of(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// The status of an answer: of an error it follows from its code (spec 2026-07-28 basic/index#error-codes and
/// basic/transports/streamable-http). In a session the answer to a request is under 200, whatever the error: clients take
/// another status for the transport's failure (the Python SDK up to 1.x ends the session with it).
fn status(answer: &[u8], exchange: &Exchange) -> u16 {
    let modern = exchange.revision == Some(Revision::V2026_07_28);
    let Some((id, error)) = error(answer) else { return 200 };
    match error_code(error) {
        Some(UNAVAILABLE | TOO_MANY) if exchange.session.is_some() && id.is_some() => 200,
        Some(UNAVAILABLE) => 503,
        Some(TOO_MANY) => 429,
        Some(-32601) if modern => 404,
        Some(-32700 | -32600 | -32020..=-32020 | -32021 | -32022) if modern => 400,
        Some(_) if exchange.malformed => 400,
        // An initialize that went wrong has opened nothing.
        Some(_) if exchange.opens => 400,
        _ => 200,
    }
}

fn error_code(error: &str) -> Option<i32> {
    let [code] = json::pick(error, ["code"]).ok()?;
    code?.parse().ok()
}

/// When an error says that the same may go better.
fn retry_after_ms(answer: &[u8]) -> Option<u64> {
    let (_, error) = error(answer)?;
    let [data] = json::pick(error, ["data"]).ok()?;
    let [wait] = json::pick(data?, ["retryAfterMs"]).ok()?;
    wait?.parse().ok()
}

/// The id and the error of an answer that is one.
fn error(answer: &[u8]) -> Option<(Option<Id<'_>>, &str)> {
    // An id is 256 bytes at most, and the error stands behind it.
    let start = &answer[..answer.len().min(320)];
    memchr::memmem::find(start, b"\"error\"")?;
    let Ok(Incoming::One(message)) = envelope::parse(answer) else { return None };
    let Kind::Response { id, error, .. } = message.kind else { return None };
    Some((id, error?))
}
