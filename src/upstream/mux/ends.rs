//! How requests end without an answer of the server: by silence, with their link, or for a reason of their own.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::pending::{Later, Pending, Work};
use super::{CANCELLED_MAX, HAUNTS, Heard, Knobs, Mux, Own, Sink, speech};
use crate::mcp::{Era, Parcel};
use crate::upstream::front::{Ending, Go};
use crate::upstream::handle::Task;
use crate::upstream::link::{Outgoing, Purpose};
use crate::upstream::record;
use crate::upstream::trouble::{Trouble, TroubleKind};

/// How an error is called that says that a call's time was over while it was with its server.
const DEADLINE: &str = "deadline";

impl Mux {
    /// What time brings: requests that have waited too long, and figures to be handed over.
    pub(in crate::upstream) fn check(&mut self, now: Instant, sink: &mut impl Sink) {
        if now < self.next_check {
            return;
        }
        if std::mem::take(&mut self.counted) {
            self.upstream.counts.add_uses(&mut self.uses);
        }
        let Knobs { call, call_max, input, deadline, .. } = self.knobs;
        let mut next = now + Duration::from_secs(1);
        // Where a person is asked, nobody knows how long that takes.
        let has_deadline = |pending: &Pending| !deadline.is_zero() && !pending.waited && pending.rounds == 0;
        let deadline_of = |pending: &Pending| has_deadline(pending).then(|| pending.arrived + deadline);
        let late = self.pending.numbers(|pending| {
            let after = |from: Instant, limit: Duration| (!limit.is_zero()).then(|| from + limit);
            let due = match &pending.work {
                Work::Own(_, wait) => after(pending.heard, *wait),
                Work::Parked(parked) => Some(parked.until),
                // Its server waits for a person.
                Work::Call(_) if pending.asked > 0 => after(pending.heard, input),
                Work::Call(_) => {
                    let call = [after(pending.heard, call), after(pending.since, call_max), deadline_of(pending)];
                    call.into_iter().flatten().min()
                }
            };
            let Some(due) = due else { return false };
            next = next.min(due.max(now));
            due <= now
        });
        for number in late {
            if self.overlook(number, now) {
                continue;
            }
            let waited = self.pending.get(number).map_or(Duration::ZERO, |pending| now - pending.since);
            let work = self.pending.get(number).map(|pending| &pending.work);
            let own = matches!(work, Some(Work::Own(..)));
            let is_over = |pending: &Pending| !own && deadline_of(pending).is_some_and(|due| due <= now);
            let trouble = if self.pending.get(number).is_some_and(is_over) {
                let what = format!("none within the {} ms that it may take (deadline_ms)", deadline.as_millis());
                Trouble::new(TroubleKind::Mute, what).named(DEADLINE)
            } else {
                Trouble::new(TroubleKind::Mute, format!("nothing for {} ms", waited.as_millis()))
            };
            self.fail(number, &trouble, now);
            self.forget(number, if own { now } else { now + HAUNTS });
            // Over HTTP that gives its connection back.
            self.tell_cancelled(number, sink);
        }
        self.end_waiting(now);
        self.calm_down(now, sink);
        if let Some(late) = self.end_asking(now) {
            next = next.min(late);
        }
        // Not more often than every 10 ms, however many wait.
        self.next_check = next.max(now + Duration::from_millis(10));
    }

    /// A probe without an answer waits on, and whoever asked is told so far: a handshake must not be cancelled (spec
    /// 2025-11-25 basic/utilities/cancellation), and a slow server may answer yet. False: it is another request.
    fn overlook(&mut self, number: u64, now: Instant) -> bool {
        let Some(pending) = self.pending.get_mut(number) else { return false };
        let Work::Own(own @ Own::Probe, wait) = &mut pending.work else { return false };
        (*own, *wait) = (Own::LateProbe, Duration::ZERO);
        let waited = now - pending.since;
        let trouble = Trouble::new(TroubleKind::Mute, format!("nothing for {} ms", waited.as_millis()));
        self.heard.push((Own::Probe, Heard::Failed(trouble)));
        true
    }

    /// It is known who is there, or that nobody is: what else was asked for that is of no interest any more.
    pub(in crate::upstream) fn end_probes(&mut self, now: Instant) {
        let is_probe = |pending: &mut Pending| matches!(pending.work, Work::Own(Own::Probe | Own::LateProbe, _));
        for number in self.pending.numbers(is_probe) {
            self.remove(number);
            self.forget(number, now);
            // A handshake must not be cancelled; but a modern server has none, and over HTTP this only closes a connection.
            if self.terms.http && self.terms.revision.era() == Era::Modern {
                self.later.push(Later::Cancelled(number));
            }
        }
        self.heard.clear();
    }

    /// The link is at its end: every call fails by name, but those of which no byte was sent are kept, once.
    pub(in crate::upstream) fn end(&mut self, trouble: &Trouble, now: Instant, sink: &impl Sink) {
        // What it ended by is about another request: of those that were sent nobody knows.
        let others = Trouble::new(TroubleKind::Lost, trouble.to_string());
        let trouble = if trouble.is_safe_to_repeat() { &others } else { trouble };
        let sent = sink.taken();
        for number in self.pending.numbers(|_| true) {
            let Some(pending) = self.pending.get(number) else { continue };
            // Over HTTP each request fails by itself, and says whether it was sent.
            let unsent = !self.terms.http && pending.offset >= sent;
            match &pending.work {
                Work::Call(_) if unsent && !pending.repeated && pending.rounds == 0 => self.keep(number),
                _ if unsent => self.fail_quietly(number, &trouble.clone().unsent(), now),
                _ => self.fail_quietly(number, trouble, now),
            }
        }
        self.upstream.counts.add_uses(&mut self.uses);
        // What belongs to no call ends with the link, too.
        for number in self.asked.numbers(|_| true) {
            self.tell_taken_back(number, Some("\"The server is gone\""));
            self.asked.remove(number);
        }
        self.fail_watches(trouble);
        // With the link goes whatever went on behind it.
        self.cancelled.iter_mut().for_each(|(_, until)| *until = now);
        self.haunted_until = now;
        self.later.clear();
        self.unheard = 0;
        self.heard.clear();
        self.behind.clear();
        self.lost = None;
    }

    /// Its client does not wait any more; somebody else may, for the same.
    pub(super) fn left(&mut self, number: u64, now: Instant, sink: &mut impl Sink) {
        let slot = self.tag | number;
        if let Some(Pending { work: Work::Call(task), .. }) = self.pending.get_mut(number)
            && (task.is_inherited() || task.inherit(&self.upstream, slot))
        {
            return;
        }
        self.cancel(number, now, sink);
    }

    /// The answer of this call will be its client's alone: who waits for the same asks for itself.
    pub(super) fn part(&mut self, number: u64) {
        if let Some(Pending { work: Work::Call(task), .. }) = self.pending.get_mut(number)
            && let Some(lead) = task.lead.take()
        {
            lead.part(&task.parcel, &self.upstream);
        }
    }

    /// Nobody waits any more.
    pub(super) fn cancel(&mut self, number: u64, now: Instant, sink: &mut impl Sink) {
        let Some(pending) = self.pending.get(number) else { return };
        // A parked call waits for its client's second try, whatever became of the first.
        if !matches!(pending.work, Work::Call(_)) {
            return;
        }
        let Some(pending) = self.remove(number) else { return };
        let since = pending.since;
        // What was not sent, or is answered and waits for its client, needs no word.
        if pending.bytes > 0 {
            self.haunt(number, now);
            self.tell_cancelled(number, sink);
        }
        if let Work::Call(task) = pending.work {
            self.ended(&task.parcel, since, now, pending.bytes, 0, "cancelled");
            task.ticket.discard();
        }
    }

    /// Tells the server that nobody waits for this number.
    pub(super) fn tell_cancelled(&mut self, number: u64, sink: &mut impl Sink) {
        self.text.clear();
        speech::cancelled(&mut self.text, number);
        let purpose = Purpose::Cancel { number, revision: self.terms.revision };
        sink.put(Outgoing { text: &self.text, purpose });
    }

    /// Late answers to this number are to be expected; the server may be at work on it until then.
    pub(super) fn forget(&mut self, number: u64, until: Instant) {
        if self.cancelled.len() == CANCELLED_MAX
            && let Some((_, until)) = self.cancelled.pop_front()
        {
            self.haunted_until = self.haunted_until.max(until);
        }
        self.cancelled.push_back((number, until));
    }

    /// Nobody waits for this call any more, but its server may go on with it.
    pub(super) fn haunt(&mut self, number: u64, now: Instant) {
        self.forget(number, now + HAUNTS);
    }

    /// Keeps a call for the next link.
    pub(super) fn keep(&mut self, number: u64) {
        if let Some(Pending { work: Work::Call(task), arrived, attempts, .. }) = self.remove(number) {
            // Somebody else need not wait for that link.
            let lost = Trouble::new(TroubleKind::Lost, "its link has ended").unsent();
            if let Err(task) = self.upstream.pass_on(task, &lost, None) {
                self.gate.keep(Go { task, arrived, attempts });
            }
        }
    }

    /// The request failed, without an answer of the server.
    pub(super) fn fail(&mut self, number: u64, trouble: &Trouble, now: Instant) {
        let sent = self.pending.get(number).map(|pending| pending.since);
        let Some(pending) = self.remove(number) else { return };
        self.failed_as(number, pending, trouble, sent, now);
    }

    /// The request failed with its link: what that says of the server is the link's matter.
    fn fail_quietly(&mut self, number: u64, trouble: &Trouble, now: Instant) {
        let Some(pending) = self.remove(number) else { return };
        self.failed_as(number, pending, trouble, None, now);
    }

    /// `news`: when it was sent, if its failure says something of the server.
    fn failed_as(&mut self, number: u64, pending: Pending, trouble: &Trouble, news: Option<Instant>, now: Instant) {
        let silent = !pending.told && !pending.waited && pending.rounds == 0 && !pending.repeated;
        let so_far = (pending.arrived, pending.attempts);
        // Nobody needs the answer any more, whoever gave it.
        let deadline = self.knobs.deadline;
        let silent = silent && (deadline.is_zero() || now < pending.arrived + deadline);
        match pending.work {
            Work::Call(mut task) => {
                if let (Some(sent), Some(ending)) = (news, Ending::of(trouble)) {
                    let ending = if trouble.name() == DEADLINE { Ending::Cut } else { ending };
                    self.gate.saw(&mut task, ending, sent, now);
                }
                self.upstream.failed(trouble, pending.since, now);
                let again = if silent { self.try_again(task, trouble, so_far, now) } else { Err(task) };
                let Err(task) = again else { return };
                self.gate.ended(&task.parcel);
                self.ended(&task.parcel, pending.since, now, pending.bytes, 0, trouble.name());
                self.upstream.settle_failed(*task, trouble, None);
            }
            // Its client was answered with what the server asks, and has not come back.
            Work::Parked(_) => {}
            Work::Own(own, _) => self.own_ended(number, own, Heard::Failed(trouble.clone()), now),
        }
    }

    /// A call has failed of which its client has heard nothing: somebody else gets it, or it is sent once more; if it surely
    /// was not processed, or changes nothing.
    ///
    /// # Errors
    /// The call, if it is not.
    fn try_again(
        &mut self,
        task: Box<Task>,
        trouble: &Trouble,
        so_far: (Instant, u8),
        now: Instant,
    ) -> Result<(), Box<Task>> {
        let is_safe = trouble.is_safe_to_repeat() || self.gate.changes_nothing(&task);
        let task = if is_safe { self.upstream.pass_on(task, trouble, None) } else { Err(task) };
        task.or_else(|task| self.gate.again(task, trouble, so_far, now))
    }

    /// A call is over: counted, and told at debug level.
    pub(super) fn ended(
        &mut self,
        parcel: &Parcel,
        since: Instant,
        now: Instant,
        sent: u32,
        got: usize,
        outcome: &'static str,
    ) {
        let took = now.saturating_duration_since(since);
        let failed = !matches!(outcome, "result" | "tool_error" | "cancelled" | "input_required");
        if failed {
            self.upstream.counts.errors.fetch_add(1, Relaxed);
        }
        self.upstream.counts.took.record(took);
        self.counted = true;
        self.uses.count(record::name(parcel), took, failed, || self.upstream.tells_apart(parcel));
        self.upstream.log(parcel, took, sent, got, outcome);
    }

    /// What is kept for the next link is refused: there is none soon.
    pub(in crate::upstream) fn drop_kept(&mut self, trouble: &Trouble) {
        for go in self.gate.take_kept() {
            self.upstream.turn_down(go.task, trouble, None);
        }
        // Where clients have sessions of their own, this link is not theirs.
        if !self.upstream.per_session {
            self.gate.refuse_all(trouble);
        }
    }
}
