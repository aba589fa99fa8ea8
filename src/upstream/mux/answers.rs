//! What a server says: each answer to whose call it is, in the form that its client knows; the rest to whom it concerns.

use std::time::Instant;

use super::pending::{Later, Pending, Work};
use super::{Heard, Mux, Own, speech};
use crate::actor::{Answer, Word};
use crate::mcp::param_headers::ParamHeaders;
use crate::mcp::{Era, Level, Method, Topics, bridge, progress};
use crate::upstream::front::Ending;
use crate::upstream::handle::Task;
use crate::upstream::record;
use crate::upstream::trouble::{Trouble, TroubleKind};
use crate::wire::json;

/// The server's header check failed (spec 2026-07-28 basic/transports/streamable-http#server-validation).
const HEADER_MISMATCH: i64 = -32020;

impl Mux {
    /// An answer, to `number` by its id, on the response stream of `on`.
    pub(super) fn answered(&mut self, on: Option<u64>, number: Option<u64>, answer: Result<&str, &str>, now: Instant) {
        let number = match (number, on) {
            (Some(number), None) => number,
            (Some(number), Some(on)) if number == on => number,
            // Refused before its id was read.
            (_, Some(on)) if answer.is_err() => on,
            // What comes on its stream now is another's: there will be no answer.
            (_, Some(on)) => {
                self.fail(on, &Trouble::new(TroubleKind::Garbage, "answered under another id"), now);
                return self.stray();
            }
            _ => return self.stray(),
        };
        match self.pending.get_mut(number) {
            Some(Pending { work: Work::Call(_), .. }) => self.answer_call(number, answer, now),
            Some(Pending { work: Work::Own(..), .. }) => {
                if let Some(Pending { work: Work::Own(own, _), .. }) = self.remove(number) {
                    let heard = answer.map_or_else(|error| Heard::Error(error.into()), |it| Heard::Result(it.into()));
                    self.own_ended(number, own, heard, now);
                }
            }
            Some(Pending { work: Work::Parked(parked), .. }) => {
                parked.answer = Some(for_client(&parked.parcel, Era::Legacy, answer));
            }
            None => match self.cancelled.iter().position(|&(cancelled, _)| cancelled == number) {
                Some(at) => drop(self.cancelled.remove(at)),
                None => self.stray(),
            },
        }
    }

    fn answer_call(&mut self, number: u64, answer: Result<&str, &str>, now: Instant) {
        let Some(Pending { work: Work::Call(task), repeated, .. }) = self.pending.get_mut(number) else { return };
        // What asks its client is no answer for others.
        if let (Some(lead), Ok(result)) = (&task.lead, answer)
            && !matches!(bridge::input_required(result), Ok(None))
        {
            lead.part(&task.parcel, &self.upstream);
        }
        let server = self.terms.revision.era();
        let (method, client) = (task.parcel.method, task.parcel.revision.era());
        let mismatch = |error: &str| bridge::code(error) == Some(HEADER_MISMATCH);
        match answer {
            Err(error) if self.terms.http && method == Method::CallTool && !*repeated && mismatch(error) => {
                // The tool's schema is another by now: list the tools anew, then try once more.
                *repeated = true;
                self.behind.push(number);
                self.changed = Topics(self.changed.0 | Topics::TOOLS.0);
                return;
            }
            Ok(result) if server != client && client == Era::Legacy && self.require_input(number, result, now) => {
                return;
            }
            _ => {}
        }
        let Some(Pending { work: Work::Call(mut task), since, bytes, rounds, waited, .. }) = self.remove(number) else {
            return;
        };
        let took = || (rounds == 0 && !waited).then(|| now.saturating_duration_since(since));
        let ending = match answer {
            Ok(_) => Ending::Answered(took()),
            Err(error) => Ending::of_error(error).unwrap_or(Ending::Answered(None)),
        };
        self.gate.saw(&mut task, ending, since, now);
        self.upstream.succeeded(since, now);
        let got = answer.map_or_else(str::len, str::len);
        let outcome = answer.map_or("error", record::outcome);
        let Task { parcel, ticket, place, lead, .. } = *task;
        let answer = for_client(&parcel, server, answer);
        self.ended(&parcel, since, now, bytes, got, outcome);
        self.gate.ended(&parcel);
        if let Some(lead) = lead {
            lead.settle(&answer);
        }
        ticket.settle_quietly(answer, &mut self.bells);
        drop(place);
    }

    /// Whether calls wait for the tools to be listed anew.
    pub(in crate::upstream) const fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// The tools are listed anew, as far as they can be: those who wait for that are tried once more.
    pub(in crate::upstream) fn listed(&mut self, params: ParamHeaders) {
        self.params = params;
        for number in std::mem::take(&mut self.behind) {
            if let Some(number) = self.pending.renumber(number) {
                if let Some(pending) = self.pending.get_mut(number) {
                    pending.bytes = 0;
                }
                self.later.push(Later::Resend(number));
            }
        }
    }

    /// A request failed without an answer.
    pub(super) fn failed(&mut self, on: Option<u64>, trouble: &Trouble, now: Instant) {
        let Some(number) = on else {
            // A line that was skipped concerns nobody who could be told; a session that is lost, everybody.
            if trouble.kind != TroubleKind::TooLong {
                self.lost.get_or_insert_with(|| trouble.clone());
            }
            return self.stray();
        };
        match self.pending.get(number) {
            Some(Pending { work: Work::Call(_), repeated: false, rounds: 0, .. })
                if trouble.kind == TroubleKind::SessionLost =>
            {
                self.keep(number);
            }
            Some(pending) => {
                // Its connection broke: that does not stop the server.
                if !pending.is_own() && trouble.kind == TroubleKind::Lost && !trouble.is_safe_to_repeat() {
                    self.haunt(number, now);
                }
                self.fail(number, trouble, now);
            }
            None => {}
        }
        // One connection that is refused says little while others serve: a server may take only so many.
        let refused = trouble.kind == TroubleKind::Refused && self.calls == 0;
        if refused || trouble.kind == TroubleKind::SessionLost {
            self.lost.get_or_insert_with(|| trouble.clone());
        }
    }

    pub(super) fn own_ended(&mut self, number: u64, own: Own, heard: Heard, now: Instant) {
        match own {
            Own::Probe | Own::LateProbe | Own::Page(_) => self.heard.push((own, heard)),
            Own::Subscribe(uri) => self.subscribe_ended(&uri, &heard, now),
            Own::Unsubscribe(uri) => self.unsubscribe_ended(&uri, now),
            Own::Listen => self.listen_ended(number, &heard, now),
            Own::SetLevel => self.voice.heard(),
        }
    }

    pub(super) fn handle_notification(
        &mut self,
        on: Option<u64>,
        method: &str,
        params: Option<&str>,
        bytes: &[u8],
        now: Instant,
    ) {
        let params = params.unwrap_or("{}");
        let picked = |name| json::pick(params, [name]).ok().and_then(|[value]| value);
        if method.ends_with("changed") || method == "notifications/resources/updated" {
            self.gate.changed();
        }
        match method {
            "notifications/progress" => self.progress(params, now),
            "notifications/message" => {
                let level = picked("level").and_then(json::string).and_then(|name| Level::parse(&name));
                self.log(on, level, bytes, now);
            }
            "notifications/tools/list_changed" => self.changed = Topics(self.changed.0 | Topics::TOOLS.0),
            "notifications/prompts/list_changed" => self.changed = Topics(self.changed.0 | Topics::PROMPTS.0),
            "notifications/resources/list_changed" => self.changed = Topics(self.changed.0 | Topics::RESOURCES.0),
            "notifications/resources/updated" => {
                let uri = picked("uri").and_then(json::string);
                if let Some(uri) = uri.filter(|uri| self.watches.concern(uri)) {
                    self.note_updated(&uri);
                }
            }
            "notifications/cancelled" => {
                if let Some(id) = picked("requestId") {
                    let reason = picked("reason").filter(|reason| json::string(reason).is_some());
                    self.server_gave_up(id, reason, now);
                }
            }
            "notifications/subscriptions/acknowledged" => self.acknowledged(params),
            _ => match self.owner(on, now).map(|owner| self.pending.get(owner)) {
                Some(Some(Pending { work: Work::Call(task), .. })) => task.ticket.notice(bytes.into()),
                Some(_) => {}
                None if self.say(bytes, None) => {}
                None => self.stray(),
            },
        }
    }

    /// The server takes back what it has asked, or ends a stream of changes.
    fn server_gave_up(&mut self, id: &str, reason: Option<&str>, now: Instant) {
        self.take_back(id, reason, now);
        let listening = speech::number(id).filter(|&number| {
            matches!(self.pending.get(number), Some(Pending { work: Work::Own(Own::Listen, _), .. }))
        });
        if let Some(number) = listening {
            self.remove(number);
            self.listen_ended(number, &Heard::Result(Vec::new()), now);
        }
    }

    /// A step of a call, to its client, if that wants to know; under its own token again, which its side puts in.
    fn progress(&mut self, params: &str, now: Instant) {
        let step = progress::step(params).and_then(|(token, step)| Some((speech::number(token)?, step)));
        let Some((number, fragment)) = step else { return self.stray() };
        match self.pending.get_mut(number) {
            Some(pending) => {
                pending.heard = now;
                if let Work::Call(task) = &pending.work
                    && task.parcel.progress
                {
                    task.ticket.progress(fragment);
                    pending.told = true;
                }
            }
            None if self.cancelled.iter().any(|known| known.0 == number) => {}
            None => self.stray(),
        }
    }

    /// What belongs to no call: on a session of its own only the one client can be meant. False: nobody is known, or it is
    /// one that hears nothing outside of its calls (spec 2026-07-28 basic/index#statelessness).
    fn say(&self, bytes: &[u8], level: Option<Level>) -> bool {
        let client = self.terms.private.as_ref().filter(|client| client.can_be_asked && !bytes.is_empty());
        let Some(client) = client else { return false };
        if let Some(unread) = self.unread.mark() {
            let level = level.map(|level| level as u8);
            (self.shared.say)(client.id, Word::Notice { message: bytes.into(), level, unread });
        }
        true
    }

    /// A log message, to the client of the call that it belongs to, if that is known, and as loud as it wants.
    fn log(&self, on: Option<u64>, level: Option<Level>, bytes: &[u8], now: Instant) {
        let Some(owner) = self.owner(on, now) else {
            self.say(bytes, level);
            return;
        };
        let Some(Pending { work: Work::Call(task), .. }) = self.pending.get(owner) else { return };
        let wanted = match task.parcel.level {
            Some(least) => level.is_none_or(|level| level >= least),
            // A legacy server chooses itself until it is told (spec 2025-11-25 server/utilities/logging); a modern client
            // hears nothing it has not asked for (spec 2026-07-28 server/utilities/logging).
            // What another has asked for besides is too much.
            None => {
                task.parcel.revision.era() == Era::Legacy
                    && (self.level.is_none() || level.is_none_or(|level| level >= Level::Info))
            }
        };
        if wanted && !bytes.is_empty() {
            task.ticket.notice(bytes.into());
        }
    }

    /// Whose call it is that a server speaks of without saying so: the one on whose stream it speaks; or the only one,
    /// if the server is at work on no other; or any, where all are one client's.
    pub(super) fn owner(&self, on: Option<u64>, now: Instant) -> Option<u64> {
        if let Some(on) = on {
            return self.pending.get(on).filter(|pending| !pending.is_own()).map(|_| on);
        }
        let alone =
            || self.calls == 1 && self.haunted_until <= now && self.cancelled.iter().all(|&(_, until)| until <= now);
        (self.calls > 0 && (self.terms.private.is_some() || alone()))
            .then(|| self.pending.iter().filter(|(_, pending)| !pending.is_own()).map(|(number, _)| number).last())?
    }
}

/// An answer of a server in the form that the client of the call knows.
pub(super) fn for_client(parcel: &crate::mcp::Parcel, server: Era, answer: Result<&str, &str>) -> Answer {
    let client = parcel.revision;
    match answer {
        Ok(result) if server == Era::Legacy && client.era() == Era::Modern => {
            Answer::Result(bridge::result_for_modern(result, parcel.method))
        }
        Ok(result) => Answer::Result(result.into()),
        Err(error) if server != client.era() => {
            Answer::Error(bridge::error_for(error, parcel.method, client).unwrap_or_else(|| error.into()))
        }
        Err(error) => Answer::Error(error.into()),
    }
}
