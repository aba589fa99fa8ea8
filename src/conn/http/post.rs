//! A posted message: its era, its session, and the connection where it belongs.

use std::borrow::Cow;

use super::request::Stop;
use super::session::HttpSession;
use super::{Exchange, Http, modern};
use crate::actor::{Desk, Sibling};
use crate::conn::connection::{Connection, Stage};
use crate::conn::service::{Message, Service};
use crate::conn::{Bench, House, last_words};
use crate::guard::{self, Tenant};
use crate::mcp::{self, Era, Fault, Ignored, Revision};
use crate::pool::Key;
use crate::wire::envelope::{self, Envelope, Id, Incoming, Kind};
use crate::wire::http::{Refusal, Request};
use crate::wire::json;

impl<S: Service> Bench<S> {
    pub(super) fn post(
        &mut self,
        conn: &mut Connection<S::Session>,
        request: &Request<'_>,
        body: &[u8],
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<(), Stop> {
        let incoming = match envelope::parse(body) {
            Ok(incoming) => incoming,
            Err(_) => {
                let mut exchange = Exchange::new(request, None, desk.now);
                exchange.malformed = true;
                return self.turn(conn, exchange, body, desk, key);
            }
        };
        let meta = match &incoming {
            Incoming::One(message) => modern::Meta::read(message.params),
            Incoming::Batch(_) => modern::Meta::default(),
        };
        match (modern::era(request, &meta)?, &incoming) {
            (Era::Modern, Incoming::One(message)) => self.post_modern(conn, request, (message, &meta), body, desk, key),
            // The turn refuses it.
            (Era::Modern, Incoming::Batch(_)) => {
                let mut exchange = Exchange::new(request, None, desk.now);
                exchange.malformed = true;
                self.turn(conn, exchange, body, desk, key)
            }
            (Era::Legacy, _) => self.post_legacy(conn, request, incoming, body, desk, key),
        }
    }

    fn post_modern(
        &mut self,
        conn: &mut Connection<S::Session>,
        request: &Request<'_>,
        (message, meta): (&Envelope<'_>, &modern::Meta<'_>),
        body: &[u8],
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<(), Stop> {
        let (id, method) = match &message.kind {
            Kind::Request { id, method } => (*id, method),
            // None means anything (spec 2026-07-28 basic/transports/streamable-http#sending-messages).
            Kind::Notification { .. } => return self.answer_empty(conn, request, 202),
            Kind::Response { .. } => {
                self.house.ledger.ignored.add(Ignored::UnaskedReply);
                return Err(Refusal::ReplyUnasked.into());
            }
        };
        let mut exchange = Exchange::new(request, None, desk.now);
        exchange.revision = Some(Revision::V2026_07_28);
        let params = message.params.unwrap_or("{}");
        let expected = |service: &mut S| match (&**method, meta.tool()) {
            ("tools/call", Some(tool)) => service.param_headers(&tool, params),
            _ => Vec::new(),
        };
        let checked = modern::check(request, method, meta)
            .and_then(|()| modern::check_params(request, &expected(&mut self.service)));
        if let Err(refusal) = checked {
            exchange.malformed = true;
            self.house.ledger.faults.add(refusal.fault);
            return self.fail(conn, exchange, desk, key, |out| refusal.write(out, Some(id)));
        }
        self.turn(conn, exchange, body, desk, key)
    }

    fn post_legacy(
        &mut self,
        conn: &mut Connection<S::Session>,
        request: &Request<'_>,
        incoming: Incoming<'_>,
        body: &[u8],
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<(), Stop> {
        let opens = matches!(&incoming, Incoming::One(Envelope { kind: Kind::Request { method, .. }, .. }) if method == "initialize");
        let session = match request.session {
            None if opens => None,
            None => return Err(Refusal::SessionMissing.into()),
            Some(name) => Some(self.house.sessions.find(name).ok_or(Refusal::SessionUnknown)?),
        };
        let opens = opens && session.is_none();
        let mut exchange = Exchange::new(request, session, desk.now);
        exchange.opens = opens;
        if opens {
            // Before it is answered as if there were room.
            let room = self.house.guards.has_room_for_session(conn.tenant, &self.house.pressure);
            room.map_err(|refusal| self.house.turned_down(refusal))?;
        }
        let Some(session) = exchange.session.clone() else { return self.turn(conn, exchange, body, desk, key) };
        exchange.revision = session.state().guest.revision();
        let (mut is_for_others, most) = (true, self.house.config.http.posted_max);
        if let Some((refusal, id)) = self.too_much(&session, conn.tenant, &incoming) {
            self.house.ledger.faults.add(refusal.fault);
            return self.fail(conn, exchange, desk, key, |out| refusal.write(out, Some(id)));
        }
        match incoming {
            Incoming::One(message) => {
                // What cannot be accepted is an error (spec 2025-11-25 basic/transports#sending-messages-to-the-server).
                // A response that only comes late is none: its client could not know.
                if let Kind::Response { id: Some(id), .. } = message.kind
                    && !is_of_a_question(id)
                {
                    self.house.ledger.ignored.add(Ignored::UnaskedReply);
                    return Err(Refusal::ReplyUnasked.into());
                }
                is_for_others = self.house.hand_on(&session, &message, most)?;
            }
            Incoming::Batch(batch) => {
                for message in batch {
                    is_for_others &= match message {
                        Ok(message) => self.house.hand_on(&session, &message, most)?,
                        Err(_) => false,
                    };
                }
            }
        }
        if is_for_others {
            return self.answer_empty(conn, request, 202);
        }
        self.turn(conn, exchange, body, desk, key)
    }

    /// Why a session may not make one more request, and the one that is too much. A batch is refused for one of its.
    fn too_much<'m>(
        &self,
        session: &HttpSession,
        tenant: Tenant,
        incoming: &Incoming<'m>,
    ) -> Option<(mcp::Refusal<'static>, Id<'m>)> {
        let state = session.state();
        let most = self.house.client_in_flight_max(tenant);
        let check = |message: &Envelope<'m>| match message.kind {
            Kind::Request { id, .. } if state.has(id) => Some((Fault::DuplicateId.into(), id)),
            Kind::Request { id, .. } if state.waiting() >= most => {
                self.house.seats.refusals.add(guard::Refusal::ClientInFlight);
                Some((last_words::error(guard::Refusal::ClientInFlight, self.house.retry_after()), id))
            }
            _ => None,
        };
        match incoming {
            Incoming::One(message) => check(message),
            Incoming::Batch(batch) => batch.clone().flatten().find_map(|message| check(&message)),
        }
    }

    /// The message's turn; its answer, or the beginning of one, is in `out`.
    fn turn(
        &mut self,
        conn: &mut Connection<S::Session>,
        mut exchange: Exchange,
        body: &[u8],
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<(), Stop> {
        exchange.keep &= !self.is_to_go(key);
        conn.stage = Stage::Http(Http::Answering(Box::new(exchange)));
        Ok(self.message(conn, Message::Unchecked(body), desk, key)?)
    }

    /// An error in place of the message's turn.
    fn fail(
        &mut self,
        conn: &mut Connection<S::Session>,
        exchange: Exchange,
        desk: &mut Desk<'_>,
        key: Key,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Stop> {
        conn.stage = Stage::Http(Http::Answering(Box::new(exchange)));
        Ok(self.talk(conn, desk, key, |_, talk| talk.say(|_, out| write(out)))?)
    }
}

impl House {
    /// Hands a cancellation, a reply or a step towards one to the connection where the call or the question is. False for any
    /// other message.
    fn hand_on(&self, session: &HttpSession, message: &Envelope<'_>, most: u16) -> Result<bool, Refusal> {
        let mut state = session.state();
        let (place, late) = match &message.kind {
            Kind::Notification { method } if method == "notifications/cancelled" => {
                let id = message.params.and_then(|params| json::pick(params, ["requestId"]).ok()).and_then(|[id]| id);
                match id.and_then(|id| Id::from_raw(id).ok()) {
                    Some(id) => (state.who_waits_for(id), Ignored::LateCancel),
                    None => (None, Ignored::MalformedCancel),
                }
            }
            Kind::Notification { method } if method == "notifications/progress" => {
                let token = message.params.and_then(|params| json::pick(params, ["progressToken"]).ok()?[0]);
                match token.and_then(|token| Id::from_raw(token).ok()) {
                    Some(token) => (state.who_asked(token), Ignored::UnaskedProgress),
                    None => (None, Ignored::MalformedProgress),
                }
            }
            Kind::Response { id: Some(id), .. } => (state.who_asked(*id), Ignored::UnaskedReply),
            Kind::Response { id: None, .. } => (None, Ignored::NamelessError),
            _ => return Ok(false),
        };
        let Some(place) = place else {
            self.ledger.ignored.add(late);
            return Ok(true);
        };
        if !state.post(most) {
            return Err(Refusal::StreamBusy);
        }
        place.tell(Sibling::Message(written(message).into()));
        Ok(true)
    }
}

/// Whether a question could have this id: they are numbers.
fn is_of_a_question(id: Id<'_>) -> bool {
    id.raw().parse::<u64>().is_ok()
}

/// The message as text again: within a batch it has none of its own.
fn written(message: &Envelope<'_>) -> String {
    let member = |name: &str, raw: Option<&str>| raw.map(|raw| format!(r#","{name}":{raw}"#)).unwrap_or_default();
    match &message.kind {
        Kind::Notification { method } => {
            let method = serde_json::Value::from(Cow::as_ref(method));
            format!(r#"{{"jsonrpc":"2.0","method":{method}{}}}"#, member("params", message.params))
        }
        Kind::Response { id, result, error } => format!(
            r#"{{"jsonrpc":"2.0"{}{}{}}}"#,
            member("id", id.as_ref().map(|id| id.raw())),
            member("result", *result),
            member("error", *error)
        ),
        Kind::Request { .. } => String::new(),
    }
}
