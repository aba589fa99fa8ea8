//! The calls of one connection that wait for their answers.

use super::interests::Watch;
use crate::actor::{CancelHandle, News, Question, QuestionName};
use crate::mcp::Topics;
use crate::wire::envelope::Id;

/// One request that waits. Dropping it cancels the call.
pub(super) struct Pending {
    /// The number on its ticket.
    pub(super) number: u64,
    /// The client's id for it, as it was written.
    pub(super) id: Box<str>,
    /// The batch whose answer it is part of.
    pub(super) batch: Option<u32>,
    pub(super) work: Work,
}

/// What a waiting request waits for.
pub(super) enum Work {
    /// An upstream's answer.
    Call {
        cancel: CancelHandle,
        /// The client's progress token, as it was written.
        progress_token: Option<Box<str>>,
        /// The resource that it asks to be told of, from a server's agreement on.
        watch: Option<Watch>,
    },
    /// Changes, until the client cancels it or we end (spec 2026-07-28 basic/patterns/subscriptions).
    Listen { topics: Topics, watches: Vec<Watch> },
}

/// A question of a server that waits for the client's reply.
pub(super) struct Asked {
    /// Our id for it.
    pub(super) number: u64,
    /// The call that it belongs to.
    pub(super) call: Option<u64>,
    pub(super) question: Question,
}

impl Pending {
    /// Whether it has this id, by value and type: `"a"` may have been written as `"\u0061"`.
    fn is(&self, id: Id<'_>) -> bool {
        Id::from_raw(&self.id).is_ok_and(|own| own == id)
    }
}

/// A batch (2025-03-26) that is answered when the last of its calls is.
struct Batch {
    number: u32,
    waiting: usize,
    answers: Vec<u8>,
}

/// The requests that wait, in the order in which they came. Few: at most `conn.in_flight_max`.
#[derive(Default)]
pub struct Calls {
    pending: Vec<Pending>,
    batches: Vec<Batch>,
    asked: Vec<Asked>,
}

impl Calls {
    /// Whether no request waits.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.asked.is_empty()
    }

    /// Whether any request waits.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether no request waits for an upstream.
    pub(super) fn are_settled(&self) -> bool {
        self.pending.iter().all(|pending| matches!(pending.work, Work::Listen { .. }))
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Bytes held for them.
    pub(super) fn bytes(&self) -> usize {
        let held_by = |pending: &Pending| {
            let work = match &pending.work {
                Work::Call { progress_token, watch, .. } => {
                    let watch = watch.as_ref().map_or(0, |watch| watch.uri.len());
                    CancelHandle::BYTES + progress_token.as_ref().map_or(0, |token| token.len()) + watch
                }
                Work::Listen { watches, .. } => watches.iter().map(Watch::bytes).sum::<usize>(),
            };
            pending.id.len() + work
        };
        self.pending.capacity() * size_of::<Pending>()
            + self.pending.iter().map(held_by).sum::<usize>()
            + self.asked.capacity() * size_of::<Asked>()
            + self.batches.capacity() * size_of::<Batch>()
            + self.batches.iter().map(|batch| batch.answers.capacity()).sum::<usize>()
    }

    /// Whether a request with this id waits for its answer.
    pub(super) fn has(&self, id: Id<'_>) -> bool {
        self.pending.iter().any(|pending| pending.is(id))
    }

    pub(super) fn push(&mut self, pending: Pending) {
        self.pending.push(pending);
    }

    /// The call pushed last asks to be told of a resource.
    pub(super) fn watch_last(&mut self, asked: Watch) {
        if let Some(Pending { work: Work::Call { watch, .. }, .. }) = self.pending.last_mut() {
            *watch = Some(asked);
        }
    }

    pub(super) fn find(&self, number: u64) -> Option<&Work> {
        self.pending.iter().find(|pending| pending.number == number).map(|pending| &pending.work)
    }

    /// Takes out the call with this number, to answer it.
    pub(super) fn take(&mut self, number: u64) -> Option<Pending> {
        let at = self.pending.iter().position(|pending| pending.number == number)?;
        Some(self.pending.remove(at))
    }

    /// Takes out the request with this id, to cancel it.
    pub(super) fn take_id(&mut self, id: Id<'_>) -> Option<Pending> {
        let at = self.pending.iter().position(|pending| pending.is(id))?;
        Some(self.pending.remove(at))
    }

    /// The ids of all that wait.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.pending.iter().map(|pending| &*pending.id)
    }

    /// The numbers of the questions that wait for the client's reply.
    pub(super) fn asked_numbers(&self) -> impl Iterator<Item = u64> {
        self.asked.iter().map(|asked| asked.number)
    }

    /// Gives back room that is not used: only subscriptions are left, which stay long.
    pub(super) fn shrink(&mut self) {
        self.pending.shrink_to_fit();
        self.batches = Vec::new();
        self.asked.shrink_to_fit();
    }

    /// How many resources they watch, or ask to.
    pub(super) fn watches(&self) -> usize {
        let watched = |pending: &Pending| match &pending.work {
            Work::Call { watch, .. } => usize::from(watch.is_some()),
            Work::Listen { watches, .. } => watches.len(),
        };
        self.pending.iter().map(watched).sum()
    }

    /// Takes out all subscriptions; their ids.
    pub(super) fn take_listens(&mut self) -> Vec<Box<str>> {
        let listens = self.pending.extract_if(.., |pending| matches!(pending.work, Work::Listen { .. }));
        listens.map(|pending| pending.id).collect()
    }

    /// The subscriptions that are told of this: their ids.
    pub(super) fn listening(&self, news: &News) -> impl Iterator<Item = Id<'_>> {
        let (topic, uri) = (Topics(news.topic), news.subject.as_deref());
        self.pending.iter().filter_map(move |pending| match &pending.work {
            Work::Listen { topics, watches } => {
                let about = uri.is_none_or(|uri| watches.iter().any(|watch| watch.is_told(uri, news.only)));
                (topics.meets(topic) && about).then(|| Id::from_raw(&pending.id).ok())?
            }
            Work::Call { .. } => None,
        })
    }

    /// How many questions wait for the client's reply.
    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }

    /// Keeps a question until the client replies.
    pub(super) fn ask(&mut self, asked: Asked) {
        self.asked.push(asked);
    }

    /// Makes room for another question: no reply has come to this one for longest, and no call ends it. Its number; none if
    /// each is of a call.
    pub(super) fn forget_unowned(&mut self) -> Option<u64> {
        let unowned = self.asked.iter().filter(|asked| asked.call.is_none()).map(|asked| asked.number);
        let oldest = unowned.min()?;
        self.take_asked(oldest).map(|_| oldest)
    }

    /// The question with this number.
    pub(super) fn find_asked(&self, number: u64) -> Option<&Question> {
        self.asked.iter().find(|asked| asked.number == number).map(|asked| &asked.question)
    }

    /// Whoever asked does not want to know any more: the question's number, if it waits.
    pub(super) fn take_back(&mut self, name: &QuestionName) -> Option<u64> {
        let at = self.asked.iter().position(|asked| asked.question.is(name))?;
        let asked = self.asked.swap_remove(at);
        asked.question.forget();
        Some(asked.number)
    }

    /// Takes out the question with this number, to reply to it.
    pub(super) fn take_asked(&mut self, number: u64) -> Option<Question> {
        let at = self.asked.iter().position(|asked| asked.number == number)?;
        Some(self.asked.swap_remove(at).question)
    }

    /// The call is over: nobody needs a reply to what it asked. The numbers of that.
    pub(super) fn forget_asked(&mut self, call: u64) -> Vec<u64> {
        self.asked.extract_if(.., |asked| asked.call == Some(call)).map(|asked| asked.number).collect()
    }

    /// How many requests of a batch wait.
    pub(super) fn in_batch(&self, number: u32) -> usize {
        self.pending.iter().filter(|pending| pending.batch == Some(number)).count()
    }

    /// Keeps the answers that a batch has already, until its waiting requests have theirs.
    pub(super) fn hold_batch(&mut self, number: u32, answers: Vec<u8>) {
        let waiting = self.in_batch(number);
        self.batches.push(Batch { number, waiting, answers });
    }

    /// One request of the batch is over; `write` appends its answer, if it has one. After the last, gives the batch's.
    pub(super) fn settle_batched(&mut self, number: u32, write: impl FnOnce(&mut Vec<u8>)) -> Option<Vec<u8>> {
        let at = self.batches.iter().position(|batch| batch.number == number)?;
        let batch = &mut self.batches[at];
        let before = batch.answers.len();
        if before > 1 {
            batch.answers.push(b',');
        }
        let start = batch.answers.len();
        write(&mut batch.answers);
        if batch.answers.len() == start {
            batch.answers.truncate(before);
        }
        batch.waiting -= 1;
        if batch.waiting > 0 {
            return None;
        }
        let mut answers = self.batches.swap_remove(at).answers;
        if answers.len() == 1 {
            // JSON-RPC 2.0, section 6: nothing at all rather than an empty array.
            return None;
        }
        answers.push(b']');
        Some(answers)
    }
}
