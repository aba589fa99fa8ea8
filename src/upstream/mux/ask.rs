//! What a legacy server asks its client: handed to whoever's call it is, or refused with the reason.

use std::sync::Arc;
use std::time::Instant;

use super::pending::{Asked, By, Later, Pending, Work, respond};
use super::{Mux, Sink};
use crate::actor::{Answer, Asks, Question, QuestionName, Reply, Word};
use crate::mcp::fault::{INTERNAL_ERROR, METHOD_NOT_FOUND, MISSING_CAPABILITY};
use crate::mcp::{Capability, Era, answer, bridge, progress};
use crate::meter::Named;
use crate::upstream::link::{Outgoing, Purpose};
use crate::upstream::trouble::{Trouble, TroubleKind};
use crate::wire::envelope::Id;

/// Questions of one server that may wait for replies, and of one call.
const ASKED_MAX: usize = 256;
const ASKED_BY_CALL_MAX: u8 = 8;
/// Bytes of answers to a server's own requests that may be put behind as many that it has not taken.
pub(super) const UNHEARD_BYTES_MAX: usize = 1 << 20;

/// Why a question is refused: a JSON-RPC code, and what the server reads.
type Why = (i32, String);

impl Mux {
    /// A request of the server.
    pub(super) fn asked_by_server(
        &mut self,
        on: Option<u64>,
        id: Id<'_>,
        method: &str,
        params: Option<&str>,
        now: Instant,
    ) {
        if method == "ping" {
            return self.respond_later(id.raw(), &Reply::Result(b"{}".to_vec()));
        }
        if let Err((code, message)) = self.hand_on(on, id, method, params, now) {
            let mut error = Vec::new();
            answer::error_object(&mut error, code, &message, None);
            self.respond_later(id.raw(), &Reply::Error(error));
        }
    }

    fn hand_on(
        &mut self,
        on: Option<u64>,
        id: Id<'_>,
        method: &str,
        params: Option<&str>,
        now: Instant,
    ) -> Result<(), Why> {
        let needed = bridge::needed_for(method).filter(|_| self.terms.revision.era() == Era::Legacy);
        let needed = needed.ok_or_else(|| {
            let method = crate::mcp::fault::excerpt(method);
            (METHOD_NOT_FOUND, format!("Method not found: {method}; no client of this gateway has it in this revision"))
        })?;
        // What is taken back makes room for the next question before anybody has read either.
        if self.asked.len() >= ASKED_MAX || self.taken_back.mark().is_none() {
            return Err(full());
        }
        let Some(owner) = self.owner(on, now) else { return self.ask_client(id, method, params, needed, now) };
        let pending = self.pending.get_mut(owner).filter(|pending| pending.asked < ASKED_BY_CALL_MAX);
        let pending = pending.ok_or_else(full)?;
        if let Err(why) = can_be_asked(pending, needed) {
            self.give_up_unable(owner, needed, now);
            return Err(why);
        }
        let by = By::Request { id: id.raw().into(), method: method.into(), params: params.map(Into::into) };
        let number = self.asked.insert(Asked { call: Some(owner), since: now, by }).map_err(|_| full())?;
        self.part(owner);
        if let Some(pending) = self.pending.get_mut(owner) {
            pending.asked += 1;
            pending.heard = now;
            pending.waited = true;
        }
        match &self.pending.get(owner).map(|pending| &pending.work) {
            Some(Work::Call(task)) if task.parcel.revision.era() == Era::Legacy => {
                let question = self.question(number, method, params);
                if let Some(Pending { work: Work::Call(task), .. }) = self.pending.get(owner) {
                    task.ticket.ask(question);
                }
                Ok(())
            }
            Some(Work::Call(_)) => self.park(owner, now).map_err(|()| {
                self.asked.remove(number);
                if let Some(pending) = self.pending.get_mut(owner) {
                    pending.asked -= 1;
                }
                full()
            }),
            // Told when the client comes back with what was asked before.
            _ => Ok(()),
        }
    }

    /// A question that belongs to no call: in a session of its own only the one client can be meant.
    fn ask_client(
        &mut self,
        id: Id<'_>,
        method: &str,
        params: Option<&str>,
        needed: Capability,
        now: Instant,
    ) -> Result<(), Why> {
        let Some(client) = &self.terms.private else { return Err(self.no_owner()) };
        if !client.can_be_asked || !client.profile.as_ref().is_some_and(|profile| profile.can(needed)) {
            let needed = needed.name();
            return Err((METHOD_NOT_FOUND, format!("The client of this session cannot be asked, or not for {needed}")));
        }
        let client = client.id;
        if self.asked.iter().filter(|(_, asked)| asked.call.is_none()).count() >= usize::from(ASKED_BY_CALL_MAX) {
            return Err(full());
        }
        let by = By::Request { id: id.raw().into(), method: method.into(), params: params.map(Into::into) };
        let number = self.asked.insert(Asked { call: None, since: now, by }).map_err(|_| full())?;
        self.next_check = self.next_check.min(now + self.knobs.input);
        (self.shared.say)(client, Word::Ask(self.question(number, method, params).into()));
        Ok(())
    }

    /// Questions that belong to no call, and were not replied to in time. When the next one will be late.
    pub(super) fn end_asking(&mut self, now: Instant) -> Option<Instant> {
        let wait = self.knobs.input;
        for number in self.asked.numbers(|asked| asked.call.is_none() && asked.since + wait <= now) {
            self.tell_taken_back(number, Some("\"No reply in time\""));
            if let Some(Asked { by: By::Request { id, .. }, .. }) = self.asked.remove(number) {
                let mut error = Vec::new();
                let message = format!("The client has not replied for {} ms", wait.as_millis());
                answer::error_object(&mut error, INTERNAL_ERROR, &message, None);
                self.respond_later(&id, &Reply::Error(error));
            }
        }
        self.asked.iter().filter(|(_, asked)| asked.call.is_none()).map(|(_, asked)| asked.since + wait).min()
    }

    /// A modern client is told what it would have to declare, and its call ends (spec 2026-07-28
    /// basic/index#error-codes); the server of a legacy one may go on without.
    fn give_up_unable(&mut self, number: u64, needed: Capability, now: Instant) {
        let modern =
            |pending: &Pending| matches!(&pending.work, Work::Call(task) if task.parcel.revision.era() == Era::Modern);
        if !self.pending.get(number).is_some_and(modern) {
            return;
        }
        let Some(Pending { work: Work::Call(task), since, bytes, .. }) = self.remove(number) else { return };
        let (mut error, needed) = (Vec::new(), needed.name());
        let data = format!(r#"{{"requiredCapabilities":{{"{needed}":{{}}}}}}"#);
        let message = format!("Missing capability: the server asks for {needed}; declare it in clientCapabilities");
        answer::error_object(&mut error, MISSING_CAPABILITY, &message, Some(&data));
        self.ended(&task.parcel, since, now, bytes, 0, "missing_capability");
        task.ticket.settle(Answer::Error(error));
        self.haunt(number, now);
        self.later.push(Later::Cancelled(number));
    }

    fn no_owner(&self) -> Why {
        let upstream = &self.upstream.name;
        let why = match self.calls {
            0 => "Nobody can be asked: no call is in flight whose client this could be for".to_owned(),
            calls => format!(
                "Nobody can be asked: {calls} calls are in flight or some were just given up, and nothing says whose \
                 question this is; set sharing = \
                 \"per-session\" for upstream {upstream} in the gateway's configuration"
            ),
        };
        (INTERNAL_ERROR, why)
    }

    /// A question whose reply comes back as an errand.
    pub(super) fn question(&self, number: u64, method: &str, params: Option<&str>) -> Question {
        Question::new(method, params.map(Into::into), self.question_name(number))
    }

    fn question_name(&self, number: u64) -> QuestionName {
        QuestionName::new(Arc::clone(&self.upstream) as Arc<dyn Asks>, self.tag | number)
    }

    /// The server takes back what it has asked under this id; `reason` is a raw JSON string. A call that is parked stays so
    /// until its client comes back, which then waits for the answer alone.
    pub(super) fn take_back(&mut self, id: &str, reason: Option<&str>, now: Instant) {
        let given_up = self.asked.numbers(|asked| match &asked.by {
            By::Request { id: own, .. } => {
                **own == *id || Id::from_raw(own).is_ok_and(|own| Id::from_raw(id) == Ok(own))
            }
            By::Result(_) => false,
        });
        for number in given_up {
            self.tell_taken_back(number, reason);
            if let Some(asked) = self.asked.remove(number)
                && let Some(pending) = asked.call.and_then(|call| self.pending.get_mut(call))
            {
                pending.asked -= 1;
                pending.heard = now;
            }
        }
    }

    /// Tells a legacy client that it need not reply any more.
    pub(super) fn tell_taken_back(&self, number: u64, reason: Option<&str>) {
        let (question, reason, unread) = (self.question_name(number), reason.map(Into::into), self.taken_back.clone());
        match self.asked.get(number).map(|asked| asked.call) {
            Some(Some(call)) => {
                if let Some(Pending { work: Work::Call(task), .. }) = self.pending.get(call) {
                    task.ticket.take_back(question, reason, unread);
                }
            }
            Some(None) => {
                if let Some(client) = &self.terms.private {
                    (self.shared.say)(client.id, Word::TakeBack { question, reason, unread });
                }
            }
            None => {}
        }
    }

    /// A step of a client towards its reply, to the server that asked, under the token of that. Not if it takes nothing, or
    /// has not asked for steps.
    pub(super) fn stepped(&mut self, number: u64, fragment: &str, sink: &mut impl Sink) {
        let Some(Asked { by: By::Request { params: Some(params), .. }, .. }) = self.asked.get(number) else { return };
        let Some(token) = progress::token(params).filter(|_| sink.unsent() < UNHEARD_BYTES_MAX) else { return };
        self.text.clear();
        answer::progress(&mut self.text, token, fragment);
        let (method, revision) = ("notifications/progress", self.terms.revision);
        sink.put(Outgoing { text: &self.text, purpose: Purpose::Notification { method, revision } });
    }

    /// A client's reply.
    pub(super) fn replied(&mut self, number: u64, reply: Reply, now: Instant, sink: &mut impl Sink) {
        let Some(asked) = self.asked.remove(number) else { return };
        if let Some(pending) = asked.call.and_then(|call| self.pending.get_mut(call)) {
            pending.asked -= 1;
            pending.heard = now;
        }
        match asked.by {
            By::Request { id, .. } => {
                self.text.clear();
                respond(&mut self.text, &id, &reply);
                sink.put(Outgoing { text: &self.text, purpose: Purpose::Response });
            }
            By::Result(at) => {
                if let Some(call) = asked.call {
                    self.input_came(call, at, reply, now, sink);
                }
            }
        }
    }

    /// The call is over: whatever its server has asked is void.
    pub(super) fn unask(&mut self, call: u64) {
        for number in self.asked.numbers(|asked| asked.call == Some(call)) {
            if let Some(Asked { by: By::Request { id, .. }, .. }) = self.asked.remove(number) {
                self.respond_later(&id, &Reply::Gone);
            }
        }
    }

    /// The answer to a request of the server: if it asks on and on and takes no answer, that ends the link.
    pub(super) fn respond(&mut self, text: &[u8], sink: &mut impl Sink) {
        self.unheard = if sink.unsent() < UNHEARD_BYTES_MAX { 0 } else { self.unheard + text.len() };
        if self.unheard <= UNHEARD_BYTES_MAX {
            sink.put(Outgoing { text, purpose: Purpose::Response });
        } else {
            let deaf = || Trouble::new(TroubleKind::Lost, "it asks without end and does not read the answers");
            self.lost.get_or_insert_with(deaf);
        }
    }

    fn respond_later(&mut self, id: &str, reply: &Reply) {
        let mut text = Vec::new();
        respond(&mut text, id, reply);
        self.later.push(Later::Respond(text));
    }
}

fn full() -> Why {
    (INTERNAL_ERROR, "Too many questions wait for replies; ask again later".to_owned())
}

/// Whether the client of a call has said that it can be asked this.
fn can_be_asked(pending: &Pending, needed: Capability) -> Result<(), Why> {
    let (Some(parcel), Some(client)) = (pending.parcel(), pending.client()) else { return Ok(()) };
    let can = match parcel.revision.era() {
        Era::Legacy => client.can_be_asked && client.profile.as_ref().is_some_and(|profile| profile.can(needed)),
        Era::Modern => parcel.method.may_require_input() && bridge::meta_declares(&parcel.meta, needed),
    };
    let needed = needed.name();
    can.then_some(()).ok_or_else(|| (METHOD_NOT_FOUND, format!("The client of this call has not declared {needed}")))
}
