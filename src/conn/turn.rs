//! One message's life: envelope -> session -> upstream -> answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::calls::{Pending, Work};
use super::service::{Caller, Message, Service, Talk};
use super::{House, Parting, last_words};
use crate::actor::{Answer, Letter, Ticket};
use crate::guard::Refusal;
use crate::mcp::{self, Call, Catalogue, Fault, Profiles, Session, Verdict, answer};
use crate::upstream::embedded::{Embedded, Run};
use crate::wire::envelope::{self, Batch, Envelope, Id, Incoming, Kind, Malformed};
use crate::wire::ws;

/// MCP as a shard's service.
pub struct Mcp {
    house: Arc<House>,
    catalogue: Arc<Catalogue>,
    upstream: Embedded,
    profiles: Profiles,
    /// The number of the next ticket; never used twice, not even by the shard that takes this one's place.
    next_call: u64,
    next_batch: u32,
}

impl Mcp {
    /// `incarnation` counts the lives of this shard: a ticket of an earlier one must not be taken for this one's.
    pub fn new(house: Arc<House>, upstream: Embedded, config: &mcp::Config, incarnation: u32) -> Self {
        Self {
            house,
            catalogue: Arc::clone(upstream.catalogue()),
            upstream,
            profiles: Profiles::new(config.profiles_max),
            next_call: u64::from(incarnation) << 40,
            next_batch: 0,
        }
    }

    /// One message: its answer is appended to `out`, unless it comes later or there is none. `batch` is the batch it
    /// came in. Gives the answers of an earlier batch that it ended: a message of their own.
    #[inline]
    fn turn(
        &mut self,
        caller: &mut Caller<'_, Session>,
        message: &Envelope<'_>,
        batch: Option<u32>,
        out: &mut Vec<u8>,
    ) -> Option<Vec<u8>> {
        if let Kind::Request { id, .. } = &message.kind
            && caller.active.as_ref().is_some_and(|active| active.calls.has(*id))
        {
            self.fault(out, Some(*id), Fault::DuplicateId);
            return None;
        }
        let from = out.len();
        match caller.session.handle_message(message, &self.catalogue, &mut self.profiles, out) {
            Verdict::Answered | Verdict::Nothing => {}
            Verdict::Call(call) => self.call(caller, &call, batch, out),
            // Its acknowledgement is a notification, which has no place among the answers of a batch.
            Verdict::Listen(id) if batch.is_some() => {
                out.truncate(from);
                self.fault(out, Some(id), Fault::BatchNotAllowed);
            }
            Verdict::Listen(id) => self.listen(caller, id, from, out),
            Verdict::Cancel(id) => return Self::cancel(caller, id),
            Verdict::Ignored(ignored) => self.house.ledger.ignored.add(ignored),
            Verdict::Faulted(fault) => self.house.ledger.faults.add(fault),
        }
        None
    }

    fn call(&mut self, caller: &mut Caller<'_, Session>, call: &Call<'_>, batch: Option<u32>, out: &mut Vec<u8>) {
        match self.upstream.call(call, out) {
            Run::Done => {}
            Run::Refused(refusal) => self.house.ledger.faults.add(refusal.fault),
            Run::Later(_) if self.house.draining.load(Ordering::Relaxed) => {
                self.house.ledger.faults.add(Fault::Draining);
                let wait = Duration::from_millis(self.house.retry_after_ms);
                Fault::Draining.retry_after(wait).write(out, Some(call.id));
            }
            Run::Later(job) => {
                if caller.calls().len() >= self.house.config.in_flight_max {
                    return self.fault(out, Some(call.id), Fault::TooManyInFlight);
                }
                let Some(place) = self.house.in_flight.take() else {
                    self.house.seats.refusals.add(Refusal::InFlightFull);
                    self.house.ledger.faults.add(Fault::Busy);
                    return last_words::busy(Refusal::InFlightFull, self.house.retry_after_ms)
                        .write(out, Some(call.id));
                };
                let number = self.number();
                let (ticket, cancel) = Ticket::new(Arc::clone(caller.inbox), caller.key, number);
                let work = Work::Call { cancel, progress_token: call.progress_token.map(Into::into) };
                caller.calls().push(Pending { number, id: call.id.raw().into(), batch, work });
                self.upstream.serve(job, ticket, place);
            }
        }
    }

    /// Keeps a subscription's id in use. Nothing the embedded server offers ever changes, so nothing is ever sent.
    /// Its acknowledgement is in `out`, after `from`.
    fn listen(&mut self, caller: &mut Caller<'_, Session>, id: Id<'_>, from: usize, out: &mut Vec<u8>) {
        if caller.calls().len() >= self.house.config.in_flight_max {
            out.truncate(from);
            return self.fault(out, Some(id), Fault::TooManyInFlight);
        }
        let number = self.number();
        caller.calls().push(Pending { number, id: id.raw().into(), batch: None, work: Work::Listen });
    }

    /// Cancelled requests are not answered (spec 2025-11-25 basic/utilities/cancellation), but a batch must still end.
    fn cancel(caller: &mut Caller<'_, Session>, id: Id<'_>) -> Option<Vec<u8>> {
        let calls = &mut caller.active.as_mut()?.calls;
        let number = calls.take_id(id)?.batch?;
        calls.settle_batched(number, |_| {})
    }

    fn number(&mut self) -> u64 {
        self.next_call += 1;
        self.next_call
    }

    fn fault(&self, out: &mut Vec<u8>, id: Option<Id<'_>>, fault: Fault) {
        self.house.ledger.faults.add(fault);
        fault.because(fault.message()).write(out, id);
    }

    fn malformed(&self, out: &mut Vec<u8>, malformed: &Malformed<'_>) {
        self.house.ledger.defects.add(malformed.what);
        let refusal = crate::mcp::Refusal::from(*malformed);
        self.house.ledger.faults.add(refusal.fault);
        refusal.write(out, malformed.id);
    }

    /// The messages of a batch, one after another. Their answers leave as one array, when the last is there.
    fn batch(&mut self, talk: &mut Talk<'_, Session>, batch: Batch<'_>) {
        if !talk.caller.session.accepts_batches() {
            return talk.say(|_, out| self.fault(out, None, Fault::BatchNotAllowed));
        }
        let House { config, .. } = &*self.house;
        let (most, bytes_most) = (config.batch_messages_max, config.outbox_bytes_high);
        if batch.len() > most {
            self.house.ledger.faults.add(Fault::TooLong);
            let message = format!("Invalid request: a batch of over {most} messages (conn.batch_messages_max)");
            return talk.say(|_, out| Fault::TooLong.because(message).write(out, None));
        }
        self.next_batch = self.next_batch.wrapping_add(1);
        let mut answers = vec![b'['];
        for message in batch {
            let before = answers.len();
            if before > 1 {
                answers.push(b',');
            }
            let start = answers.len();
            match message {
                // Between single messages a client that does not read is paused; here its answers cannot leave.
                Ok(Envelope { kind: Kind::Request { id, .. }, .. }) if start > bytes_most => {
                    self.fault(&mut answers, Some(id), Fault::TooManyInFlight);
                }
                Ok(message) => {
                    if let Some(ended) = self.turn(&mut talk.caller, &message, Some(self.next_batch), &mut answers) {
                        talk.say(|_, out| out.extend_from_slice(&ended));
                    }
                }
                Err(malformed) => self.malformed(&mut answers, &malformed),
            }
            if answers.len() == start {
                answers.truncate(before);
            }
        }
        if talk.caller.active.as_ref().is_some_and(|active| active.calls.in_batch(self.next_batch) > 0) {
            talk.caller.calls().hold_batch(self.next_batch, answers);
        } else if answers.len() > 1 {
            answers.push(b']');
            talk.say(|_, out| out.extend_from_slice(&answers));
        }
    }
}

impl Service for Mcp {
    type Session = Session;

    #[inline]
    fn message(&mut self, talk: &mut Talk<'_, Session>, message: Message<'_>) -> Result<(), Parting> {
        let incoming = match message {
            Message::Text(text) => envelope::parse_str(text),
            Message::Unchecked(bytes) => envelope::parse(bytes),
            Message::Binary(_) => {
                talk.close(ws::close::UNSUPPORTED, "send MCP as text messages");
                return Err(Parting::BinaryMessage);
            }
        };
        match incoming {
            Ok(Incoming::One(message)) => talk.say(|caller, out| {
                if let Some(ended) = self.turn(caller, &message, None, out) {
                    out.extend_from_slice(&ended);
                }
            }),
            Ok(Incoming::Batch(batch)) => self.batch(talk, batch),
            Err(malformed) => talk.say(|_, out| self.malformed(out, &malformed)),
        }
        Ok(())
    }

    fn letter(&mut self, talk: &mut Talk<'_, Session>, letter: Letter) {
        talk.say(|caller, out| {
            let Some(active) = caller.active else { return };
            match letter {
                Letter::Progress { call, fragment } => {
                    if let Some(Work::Call { cancel, progress_token, .. }) = active.calls.find(call) {
                        cancel.progress_read();
                        if let Some(token) = progress_token {
                            answer::progress(out, token, &fragment);
                        }
                    }
                }
                Letter::Answer { call, answer } => {
                    // Not there: cancelled meanwhile, and nobody waits for it any more.
                    let Some(pending) = active.calls.take(call) else { return };
                    let write = |out: &mut Vec<u8>| self.answer(out, &pending, &answer);
                    match pending.batch {
                        None => write(out),
                        Some(number) => {
                            if let Some(answers) = active.calls.settle_batched(number, write) {
                                out.extend_from_slice(&answers);
                            }
                        }
                    }
                }
            }
        });
    }

    fn last_words(&mut self, talk: &mut Talk<'_, Session>) {
        let Some(active) = talk.caller.active.as_mut() else { return };
        for id in active.calls.take_listens() {
            talk.say(|_, out| {
                if let Ok(id) = Id::from_raw(&id) {
                    answer::listen_closed(out, id);
                }
            });
        }
    }
}

impl Mcp {
    fn answer(&self, out: &mut Vec<u8>, pending: &Pending, answer: &Answer) {
        let Ok(id) = Id::from_raw(&pending.id) else { return };
        match answer {
            Answer::Result(result) => answer::result(out, id, result),
            Answer::Error(error) => answer::error_around(out, id, error),
            Answer::Abandoned => self.fault(out, Some(id), Fault::Abandoned),
        }
    }
}
