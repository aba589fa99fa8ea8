//! Between a server that asks and a client of the other era: calls that are parked, and results that are not yet answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pending::{Asked, By, Input, Later, Parked, Pending, Work, respond};
use super::{Mux, NUMBER_BITS, Sink};
use crate::actor::{Answer, Reply, Serves, Ticket};
use crate::mcp::fault::{INTERNAL_ERROR, INVALID_PARAMS};
use crate::mcp::request_state::Claim;
use crate::mcp::{Era, answer, bridge};
use crate::upstream::handle::{Errand, Task, Upstream};
use crate::upstream::link::{Outgoing, Purpose};
use crate::upstream::trouble::{Trouble, TroubleKind};
use crate::wire::json;

/// Calls of one server that may wait for their clients to come back.
const PARKED_MAX: usize = 1_024;
/// How often a modern server may ask for input for one call.
const ROUNDS_MAX: u8 = 16;

impl Mux {
    /// Tells a modern client what its legacy server asks, and keeps the call until it tries again with the responses.
    pub(super) fn park(&mut self, number: u64, now: Instant) -> Result<(), ()> {
        let until = now + self.knobs.input;
        if self.parked >= PARKED_MAX || !matches!(self.pending.get(number), Some(Pending { work: Work::Call(_), .. })) {
            return Err(());
        }
        let mut result = Vec::new();
        self.write_questions(number, until, &mut result);
        let Some(pending) = self.pending.get_mut(number) else { return Err(()) };
        let placeholder = Work::Own(super::Own::Probe, Duration::ZERO);
        let Work::Call(task) = std::mem::replace(&mut pending.work, placeholder) else { return Err(()) };
        let Task { parcel, ticket, client, .. } = *task;
        let (since, bytes) = (pending.since, pending.bytes);
        self.ended(&parcel, since, now, bytes, 0, "input_required");
        let Some(pending) = self.pending.get_mut(number) else { return Err(()) };
        pending.work = Work::Parked(Box::new(Parked { parcel, client, until, answer: None }));
        pending.heard = now;
        self.parked += 1;
        ticket.settle(Answer::Result(result));
        Ok(())
    }

    /// The result that asks all that the server waits for.
    fn write_questions(&mut self, call: u64, until: Instant, out: &mut Vec<u8>) {
        let expires = until.saturating_duration_since(self.shared.began);
        let state = self.shared.secret.seal(&self.upstream.name, Claim { number: self.tag | call, expires });
        let questions =
            self.asked.iter().filter(|(_, asked)| asked.call == Some(call)).filter_map(|(number, asked)| {
                let By::Request { method, params, .. } = &asked.by else { return None };
                Some((key(number), &**method, params.as_deref()))
            });
        bridge::write_input_required(out, questions, &state);
    }

    /// Gives the call back if it is to be sent: not if it is a retry, which resumes one that is parked.
    pub(super) fn resumed(&mut self, task: Box<Task>, now: Instant, sink: &mut impl Sink) -> Option<Box<Task>> {
        let bridged = self.terms.revision.era() == Era::Legacy && task.parcel.revision.era() == Era::Modern;
        let Some(retry) = bridge::retry(&task.parcel.params).filter(|_| bridged) else { return Some(task) };
        let state = json::string(retry.state);
        let clock = now.saturating_duration_since(self.shared.began);
        if let Some(replica) = state.as_deref().and_then(|state| self.parked_at(state, clock)) {
            task.ticket.pass_to(Arc::clone(&replica) as Arc<dyn Serves>);
            replica.post(Errand::Call(task));
            return None;
        }
        let found = state.ok_or("requestState must be a string").and_then(|state| {
            let claim = self.shared.secret.open(&self.upstream.name, &state, clock);
            let claim = claim.map_err(|why| match why {
                crate::mcp::request_state::Unacceptable::Forged => {
                    "this requestState was not made here; call again without it"
                }
                crate::mcp::request_state::Unacceptable::Expired => "this requestState has expired; call again",
            })?;
            self.find_parked(claim, &task)
        });
        match found {
            Ok(number) => {
                let responses = retry.responses.map(str::to_owned);
                self.resume(number, responses.as_deref(), task, now, sink);
            }
            Err(why) => {
                self.upstream.counts.refused_states.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let message = format!("Invalid params: {why}");
                self.upstream.log(&task.parcel, Duration::ZERO, 0, 0, "refused_state");
                settle_with_error(task.ticket, INVALID_PARAMS, &message, None);
            }
        }
        None
    }

    /// The replica that keeps the call which this resumes, if that is another one.
    fn parked_at(&self, state: &str, now: Duration) -> Option<Arc<Upstream>> {
        let group = self.upstream.ways()?.group.clone()?;
        let others = group.members().iter().filter(|member| !Arc::ptr_eq(member, &self.upstream));
        others.into_iter().find(|member| self.shared.secret.open(&member.name, state, now).is_ok()).cloned()
    }

    fn find_parked(&self, claim: Claim, retry: &Task) -> Result<u64, &'static str> {
        let number = claim.number & ((1 << NUMBER_BITS) - 1);
        let used = "this requestState was used before, or its call is over; call again";
        let pending = self.pending.get(number).filter(|_| self.tag | number == claim.number).ok_or(used)?;
        let Work::Parked(parked) = &pending.work else { return Err(used) };
        let until = parked.until.saturating_duration_since(self.shared.began);
        if until.as_millis() != claim.expires.as_millis() {
            return Err(used);
        }
        let (first, again) = (&parked.parcel, &retry.parcel);
        let same = first.method == again.method
            && first.name == again.name
            && bridge::same_request(&first.params, &again.params);
        if same { Ok(number) } else { Err("this requestState is for another request; repeat the first one") }
    }

    fn resume(&mut self, number: u64, responses: Option<&str>, task: Box<Task>, now: Instant, sink: &mut impl Sink) {
        for (key_text, response) in responses.and_then(json::members).into_iter().flatten() {
            let asked = key_text.strip_prefix(KEY).and_then(super::speech::number);
            let asked = asked.filter(|&asked| self.asked.get(asked).is_some_and(|asked| asked.call == Some(number)));
            let Some(Asked { by: By::Request { id, .. }, .. }) = asked.and_then(|asked| self.asked.remove(asked))
            else {
                continue;
            };
            if let Some(pending) = self.pending.get_mut(number) {
                pending.asked -= 1;
            }
            self.text.clear();
            respond(&mut self.text, &id, &Reply::Result(response.into()));
            sink.put(Outgoing { text: &self.text, purpose: Purpose::Response });
        }
        let Some(pending) = self.pending.get_mut(number) else { return };
        let Work::Parked(parked) = &mut pending.work else { return };
        pending.heard = now;
        if let Some(answer) = parked.answer.take() {
            let (since, bytes) = (pending.since, pending.bytes);
            self.remove(number);
            let (outcome, got) = match &answer {
                Answer::Result(result) => ("result", result.len()),
                Answer::Error(error) => ("error", error.len()),
                Answer::Abandoned => ("error", 0),
            };
            self.ended(&task.parcel, since, now, bytes, got, outcome);
            return task.ticket.settle(answer);
        }
        let waits = pending.asked > 0;
        let served = task.ticket.serve_as(self.tag | number);
        pending.work = Work::Call(task);
        self.parked -= 1;
        if !served {
            self.cancel(number, now, sink);
        } else if waits && self.park(number, now).is_err() {
            self.fail(number, &Trouble::new(TroubleKind::Overloaded, "too many calls wait for their clients"), now);
        }
    }

    /// Whether a modern server's result is no answer yet: then the legacy client is asked what it needs.
    pub(super) fn require_input(&mut self, number: u64, result: &str, now: Instant) -> bool {
        let required = match bridge::input_required(result) {
            Ok(None) => return false,
            Ok(Some(required)) => required,
            Err(what) => {
                self.fail(number, &Trouble::new(TroubleKind::Garbage, what), now);
                return true;
            }
        };
        let Some(pending) = self.pending.get(number) else { return true };
        let client = pending.client().cloned().unwrap_or_default();
        let unable = required.questions.iter().find(|question| {
            let needed = bridge::needed_for(&question.method);
            !needed.is_some_and(|needed| client.profile.as_ref().is_some_and(|profile| profile.can(needed)))
                || !client.can_be_asked
        });
        if let Some(question) = unable {
            let what = crate::mcp::fault::excerpt(&question.method);
            self.give_up(
                number,
                "cannot_be_asked",
                &format!("it asks for {what}, which this client has not declared"),
                now,
            );
            return true;
        }
        if pending.rounds >= ROUNDS_MAX {
            self.give_up(number, "asks_too_often", &format!("it asked for input {ROUNDS_MAX} times"), now);
            return true;
        }
        // A retry is another request, with an id of its own (spec 2026-07-28 basic/patterns/mrtr).
        let Some(next) = self.pending.renumber(number) else { return true };
        let input = Input {
            missing: required.questions.len(),
            responses: required.questions.iter().map(|question| (question.key.as_ref().into(), None)).collect(),
            state: required.state.map(Into::into),
        };
        let asked: Vec<_> = (0..required.questions.len())
            .filter_map(|at| self.asked.insert(Asked { call: Some(next), since: now, by: By::Result(at) }).ok())
            .collect();
        let questions: Vec<_> = asked
            .iter()
            .zip(&required.questions)
            .map(|(&number, question)| self.question(number, &question.method, question.params))
            .collect();
        let Some(pending) = self.pending.get_mut(next) else { return true };
        pending.rounds += 1;
        pending.input = Some(Box::new(input));
        pending.asked = u8::try_from(asked.len()).unwrap_or(u8::MAX);
        pending.heard = now;
        pending.bytes = 0;
        let Work::Call(task) = &pending.work else { return true };
        if !task.ticket.serve_as(self.tag | next) || questions.is_empty() {
            self.later.push(Later::Resend(next));
            return true;
        }
        for question in questions {
            task.ticket.ask(question);
        }
        true
    }

    /// One of the responses that a modern server needs.
    pub(super) fn input_came(&mut self, call: u64, at: usize, reply: Reply, now: Instant, sink: &mut impl Sink) {
        let Some(input) = self.pending.get_mut(call).and_then(|pending| pending.input.as_mut()) else { return };
        match reply {
            Reply::Result(result) => {
                if let Some(response) = input.responses.get_mut(at) {
                    response.1 = String::from_utf8(result).ok().map(Into::into);
                    input.missing -= 1;
                }
                if input.missing == 0 {
                    self.send(call, now, sink);
                }
            }
            // A result has no place for an error (schema 2026-07-28 `InputResponse`).
            Reply::Error(error) => {
                let error = String::from_utf8_lossy(&error);
                let said = json::pick(&error, ["message"]).ok().and_then(|[message]| json::string(message?));
                let said = said.as_deref().map(crate::mcp::fault::excerpt).unwrap_or_default();
                self.give_up(call, "client_refused", &format!("the client replied to its question: {said}"), now);
            }
            Reply::Gone => self.give_up(call, "client_gone", "the client did not reply to its question", now),
        }
    }

    /// A call that cannot go on, through no fault of the link.
    fn give_up(&mut self, number: u64, reason: &'static str, why: &str, now: Instant) {
        let Some(Pending { work: Work::Call(task), since, bytes, .. }) = self.remove(number) else { return };
        let name = &self.upstream.name;
        let data = serde_json::json!({"upstream": &**name, "reason": reason, "retry": false}).to_string();
        let message = format!("Upstream {name}: the call cannot be finished: {why}");
        self.ended(&task.parcel, since, now, bytes, 0, reason);
        settle_with_error(task.ticket, INTERNAL_ERROR, &message, Some(&data));
    }
}

/// What our names for questions begin with.
const KEY: &str = "lakh-";

fn key(asked: u64) -> String {
    format!("{KEY}{asked}")
}

fn settle_with_error(ticket: Ticket, code: i32, message: &str, data: Option<&str>) {
    let mut error = Vec::new();
    answer::error_object(&mut error, code, message, data);
    ticket.settle(Answer::Error(error));
}
