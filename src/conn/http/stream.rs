//! The event stream that a GET opens; one that was lost, read on; and what connections of one session tell each other.

use std::sync::Arc;
use std::time::Instant;

use super::request::Stop;
use super::session::{HttpSession, Place, Stream};
use super::{Http, Standing};
use crate::actor::{Desk, Letter, Sibling};
use crate::conn::connection::{Connection, Stage};
use crate::conn::service::{Message, Service};
use crate::conn::{Bench, House, Parting};
use crate::mcp::{Phase, Revision, Topics, answer};
use crate::pool::Key;
use crate::wire::http::event::{self, EventId};
use crate::wire::http::{self, Manner, Refusal, Request};

impl<S: Service> Bench<S> {
    pub(super) fn open_stream(
        &mut self,
        conn: &mut Connection<S::Session>,
        request: &Request<'_>,
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<(), Stop> {
        let session = request.session.ok_or(Refusal::SessionMissing)?;
        let session = self.house.sessions.find(session).ok_or(Refusal::SessionUnknown)?;
        let place = self.house.sessions.place(desk.inbox, key);
        let manner = Manner::of(request);
        http::open_events(&mut self.out, manner, "");
        let mut standing = Standing {
            session: Arc::clone(&session),
            serial: place.serial,
            resumed: false,
            keep: manner.keep && manner.chunked,
            chunked: manner.chunked,
            old: false,
        };
        conn.heard = desk.now;
        match request.last_event.and_then(EventId::parse) {
            Some(after) if after.stream > 0 => {
                standing.resumed = true;
                let (keep, chunked) = (standing.keep, standing.chunked);
                conn.stage = Stage::Http(Http::Streaming(standing));
                if self.read_on(&session, place, after, chunked) {
                    self.end_stream(conn, keep, chunked)?;
                }
            }
            after => {
                if let Some(since) = self.take_over(&session, place, after, standing.chunked) {
                    self.tell_missed(&standing, since);
                }
                conn.stage = Stage::Http(Http::Streaming(standing));
            }
        }
        Ok(())
    }

    /// This is the session's stream from now on. The one before ends: a message is sent on one stream only (spec
    /// 2025-11-25 basic/transports#multiple-connections). Since when there was none, if there was none.
    fn take_over(
        &mut self,
        session: &HttpSession,
        place: Place,
        after: Option<EventId>,
        chunked: bool,
    ) -> Option<Instant> {
        let mut state = session.state();
        let away_since = match state.open_stream(place) {
            Stream::There(before) => {
                before.tell(Sibling::Replaced);
                None
            }
            Stream::Away(since) => Some(since),
        };
        if state.guest.revision().is_some_and(Revision::has_priming_events) {
            let id = after.unwrap_or(EventId { stream: 0, number: state.told });
            event::write_priming(&mut self.out, chunked, id, self.house.config.http.retry_ms);
        }
        for kept in after.into_iter().flat_map(|after| state.behind(after)) {
            event::write_message(&mut self.out, chunked, Some(kept.id), &kept.message);
        }
        away_since
    }

    /// Tells what has changed while the session had no stream, lists and resources that it watches: what was told then went to
    /// nobody, and is not kept.
    fn tell_missed(&mut self, standing: &Standing, since: Instant) {
        let (mut lists, mut watched) = (Vec::new(), Vec::new());
        {
            let (state, missed) = (standing.session.state(), self.house.sessions.missed());
            if matches!(state.guest.session.phase(), Phase::Ready(_)) {
                lists = missed.lists_since(since);
            }
            if let Some(interests) = state.guest.interests.as_ref().filter(|interests| interests.watching() > 0) {
                watched = missed.watched_since(since, interests);
            }
        }
        let lists = lists.into_iter().map(|list| (list, None));
        for (topic, uri) in lists.chain(watched.iter().map(|uri| (Topics::UPDATED, Some(&**uri)))) {
            let mut line = Vec::new();
            answer::changed(&mut line, topic, uri, None);
            let id = self.house.keep_told(standing, &line);
            event::write_message(&mut self.out, standing.chunked, Some(id), &line);
        }
    }

    /// Goes on with the stream of a POST; true if it is at its end.
    fn read_on(&mut self, session: &HttpSession, reader: Place, after: EventId, chunked: bool) -> bool {
        let mut state = session.state();
        // Under one lock: what comes from now on comes by letter, behind what is kept.
        let goes_on = state.read_on(after.stream, reader);
        for kept in state.behind(after) {
            event::write_message(&mut self.out, chunked, Some(kept.id), &kept.message);
        }
        !goes_on
    }

    /// A letter from another connection of the same session.
    pub(in crate::conn) fn sibling(
        &mut self,
        conn: &mut Connection<S::Session>,
        to: u32,
        sibling: Sibling,
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<(), Parting> {
        // A letter may come late, when the connection does something else already, maybe for another client.
        if !matches!(&conn.stage, Stage::Http(http) if http.serial() == to) {
            return Ok(());
        }
        match (sibling, &mut conn.stage) {
            (Sibling::Message(text), Stage::Http(http)) if let Some(session) = http.session() => {
                session.state().posted();
                self.message(conn, Message::Text(&text), desk, key)
            }
            (Sibling::Word(word), Stage::Http(_)) => {
                self.talk(conn, desk, key, |service, talk| service.letter(talk, Letter::Word(word)))
            }
            (Sibling::Replaced, Stage::Http(Http::Answering(exchange))) => {
                if exchange.is_read_elsewhere() {
                    self.detach(conn, desk);
                } else {
                    exchange.wait_from(desk.now);
                }
                Ok(())
            }
            (Sibling::Replaced, Stage::Http(Http::Streaming(standing))) if standing.is_current() => Ok(()),
            (Sibling::Event { stream, number, message, last }, Stage::Http(Http::Streaming(standing)))
                if standing.resumed =>
            {
                let id = EventId { stream, number };
                let (keep, chunked) = (standing.keep, standing.chunked);
                event::write_message(&mut self.out, chunked, Some(id), &message);
                if last { self.end_stream(conn, keep, chunked) } else { Ok(()) }
            }
            (Sibling::Replaced | Sibling::Ended, Stage::Http(Http::Streaming(standing))) => {
                let (keep, chunked) = (standing.keep, standing.chunked);
                self.end_stream(conn, keep, chunked)
            }
            (Sibling::Ended, Stage::Http(Http::Answering(_))) => {
                if let Some(active) = &mut conn.active {
                    active.calls = super::Calls::default();
                }
                self.end_with_session(conn)
            }
            _ => Ok(()),
        }
    }
}

impl House {
    /// Numbers and keeps an event of the stream that a GET has opened.
    pub(super) fn keep_told(&self, standing: &Standing, message: &[u8]) -> EventId {
        let mut state = standing.session.state();
        state.told += 1;
        let id = EventId { stream: 0, number: state.told };
        state.keep(id, message, false, self.sessions.now_ms(), (&self.config.http, &self.sessions.replayed));
        id
    }
}
