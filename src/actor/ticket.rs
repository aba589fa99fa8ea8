//! The right to answer one call, exactly once.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Answer, Inbox, Letter, Mail, Question, QuestionName, Unread, Word};
use crate::pool::Key;

/// Moved to whoever serves a call. [`Self::settle`] consumes it; dropping it answers [`Answer::Abandoned`], so that no
/// client waits for an answer nobody will give.
#[must_use = "dropping a ticket tells the client that its call was abandoned"]
pub struct Ticket {
    inbox: Arc<Inbox>,
    to: Key,
    call: u64,
    shared: Arc<Shared>,
    settled: bool,
}

/// The caller's end of a [`Ticket`]: dropping it, or the connection that holds it, cancels the call.
pub struct CancelHandle {
    shared: Arc<Shared>,
}

/// Whoever serves calls, as those who wait for them see it.
pub trait Serves: Send + Sync {
    /// Nobody waits any more for what is served under `slot`. May come after its end, and must be cheap.
    fn cancel(&self, slot: u64);
}

/// A task that serves one call waits for this beside its work.
impl Serves for tokio::sync::Notify {
    fn cancel(&self, _slot: u64) {
        self.notify_one();
    }
}

/// What both ends of a call know.
struct Shared {
    unread: AtomicU32,
    cancelled: AtomicBool,
    /// Where it is served, or [`UNSERVED`].
    slot: AtomicU64,
    /// By whom. Locked only when a call changes hands or is cancelled.
    server: Mutex<Arc<dyn Serves>>,
}

/// Not served yet, or not any more.
const UNSERVED: u64 = u64::MAX;

impl CancelHandle {
    /// What it shares with its ticket on the heap, in bytes: measured, and held by `tests/erlmcp_allocator.rs`.
    pub const BYTES: usize = size_of::<Shared>() + 2 * size_of::<usize>();

    /// One letter on the way to the answer has been read: its place is free again.
    pub fn letter_read(&self) {
        self.shared.unread.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for CancelHandle {
    fn drop(&mut self) {
        self.shared.cancelled.store(true, Ordering::SeqCst);
        if self.shared.slot.load(Ordering::SeqCst) == UNSERVED {
            return;
        }
        // Once more, with the lock: a slot is one of this server's, or of nobody's.
        let serves = self.shared.server.lock().unwrap_or_else(PoisonError::into_inner);
        let (slot, server) = (self.shared.slot.load(Ordering::SeqCst), Arc::clone(&serves));
        drop(serves);
        if slot != UNSERVED {
            server.cancel(slot);
        }
    }
}

impl Ticket {
    /// How many letters of one call may wait unread besides its answer. More are dropped: of progress the next one says
    /// the same, later; of notices they are the ones that a slow reader would lose anyway.
    pub const UNREAD_MAX: u32 = 64;

    /// `call` must not be used again by any actor behind `inbox`, not even after a restart of its shard. `server` is told
    /// when nobody waits any more.
    pub fn new(inbox: Arc<Inbox>, to: Key, call: u64, server: Arc<dyn Serves>) -> (Self, CancelHandle) {
        let shared = Arc::new(Shared {
            unread: AtomicU32::new(0),
            cancelled: AtomicBool::new(false),
            slot: AtomicU64::new(UNSERVED),
            server: Mutex::new(server),
        });
        let handle = CancelHandle { shared: Arc::clone(&shared) };
        (Self { inbox, to, call, shared, settled: false }, handle)
    }

    /// From now on the call is served under `slot`, by which a cancellation will name it. False if it is cancelled
    /// already: then nothing will be told, and the ticket is to be discarded.
    #[must_use]
    pub fn serve_as(&self, slot: u64) -> bool {
        self.shared.slot.store(slot, Ordering::SeqCst);
        !self.is_cancelled()
    }

    /// Another one serves the call from now on, as soon as it has a slot for it. If it is cancelled by now, nobody will be
    /// told.
    pub fn pass_to(&self, server: Arc<dyn Serves>) {
        let mut serves = self.shared.server.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.slot.store(UNSERVED, Ordering::SeqCst);
        *serves = server;
    }

    /// Whether nobody waits any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::SeqCst)
    }

    /// Answers the call.
    pub fn settle(mut self, answer: Answer) {
        self.push(answer);
        self.inbox.ring();
    }

    /// Answers the call, and leaves it to `bells` to tell the shard: for whoever has more to say at once.
    pub fn settle_quietly(mut self, answer: Answer, bells: &mut Bells) {
        self.push(answer);
        bells.add(&self.inbox);
    }

    /// The call was cancelled: it ends without an answer, as the protocol wants it.
    pub fn discard(mut self) {
        self.settled = true;
        self.shared.slot.store(UNSERVED, Ordering::SeqCst);
    }

    /// Reports a step: `fragment` is the inside of the progress notification's `params` without the token, such as
    /// `"progress":1,"total":10`.
    pub fn progress(&self, fragment: String) {
        self.post_on_the_way(Letter::Progress { call: self.call, fragment });
    }

    /// Sends a notification that belongs to the call, a whole JSON-RPC text.
    pub fn notice(&self, message: Vec<u8>) {
        self.post_on_the_way(Letter::Notice { call: self.call, message });
    }

    /// Asks the client something while it waits; whoever asks bounds how often.
    pub fn ask(&self, question: Question) {
        self.inbox.post(Mail::Letter(self.to, Letter::Ask { call: self.call, question: question.into() }));
    }

    /// Takes back what was asked; `reason` is a raw JSON string. `unread` is dropped when that is read: whoever asks does
    /// not ask anew while too many are not.
    pub fn take_back(&self, question: QuestionName, reason: Option<Box<str>>, unread: Unread) {
        self.inbox.post(Mail::Letter(self.to, Letter::Word(Word::TakeBack { question, reason, unread })));
    }

    fn post_on_the_way(&self, letter: Letter) {
        if self.shared.unread.fetch_add(1, Ordering::Relaxed) >= Self::UNREAD_MAX {
            self.shared.unread.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.inbox.post(Mail::Letter(self.to, letter));
    }

    fn push(&mut self, answer: Answer) {
        self.settled = true;
        // Before the answer is there: whoever reads it lets go of the handle, which must not cancel what is over.
        self.shared.slot.store(UNSERVED, Ordering::SeqCst);
        self.inbox.push(Mail::Letter(self.to, Letter::Answer { call: self.call, answer }));
    }
}

/// Shards that have mail and are not rung for yet. A shard that is woken for each answer reads, writes and sleeps for each.
#[derive(Default)]
pub struct Bells(Vec<Arc<Inbox>>);

impl Bells {
    fn add(&mut self, inbox: &Arc<Inbox>) {
        if !self.0.iter().any(|known| Arc::ptr_eq(known, inbox)) {
            self.0.push(Arc::clone(inbox));
        }
    }

    /// Wakes them all.
    pub fn ring(&mut self) {
        for inbox in self.0.drain(..) {
            inbox.ring();
        }
    }
}

/// Nobody's mail is forgotten.
impl Drop for Bells {
    fn drop(&mut self) {
        self.ring();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled {
            self.push(Answer::Abandoned);
            self.inbox.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn inbox() -> (mio::Poll, Arc<Inbox>) {
        let poll = mio::Poll::new().expect("a poll");
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).expect("a waker");
        (poll, Arc::new(Inbox::new(waker)))
    }

    #[derive(Default)]
    struct Cancelled(Mutex<Vec<u64>>);

    impl Serves for Cancelled {
        fn cancel(&self, slot: u64) {
            self.0.lock().unwrap().push(slot);
        }
    }

    impl Cancelled {
        fn slots(&self) -> Vec<u64> {
            self.0.lock().unwrap().clone()
        }
    }

    fn ticket(inbox: &Arc<Inbox>) -> (Ticket, CancelHandle, Arc<Cancelled>) {
        let server = Arc::new(Cancelled::default());
        let (ticket, handle) =
            Ticket::new(Arc::clone(inbox), Key::from_bits(1), 7, Arc::clone(&server) as Arc<dyn Serves>);
        (ticket, handle, server)
    }

    fn answers(inbox: &Inbox) -> Vec<(u64, Answer)> {
        std::iter::from_fn(|| inbox.collect())
            .filter_map(|mail| match mail {
                Mail::Letter(_, Letter::Answer { call, answer }) => Some((call, answer)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_settled_ticket_answers_once() {
        let (_poll, inbox) = inbox();
        let (ticket, _handle, _) = ticket(&inbox);
        ticket.settle(Answer::Result(b"{}".to_vec()));
        assert_eq!(answers(&inbox), [(7, Answer::Result(b"{}".to_vec()))]);
    }

    #[test]
    fn a_dropped_ticket_answers_abandoned() {
        let (_poll, inbox) = inbox();
        let (ticket, _handle, _) = ticket(&inbox);
        drop(ticket);
        assert_eq!(answers(&inbox), [(7, Answer::Abandoned)]);
    }

    #[test]
    fn a_cancellation_finds_where_the_call_is_served_before_and_after_it_is() {
        let (_poll, inbox) = inbox();
        let (ticket_early, handle, server) = ticket(&inbox);
        drop(handle);
        assert!(!ticket_early.serve_as(3), "cancelled before it was served");
        ticket_early.discard();
        assert!(server.slots().is_empty());
        let (ticket, handle, server) = ticket(&inbox);
        assert!(ticket.serve_as(4));
        drop(handle);
        assert_eq!(server.slots(), [4]);
        ticket.discard();
        assert_eq!(answers(&inbox), [], "cancelled calls are not answered");
    }

    #[test]
    fn a_call_that_changes_hands_is_cancelled_where_it_is() {
        let (_poll, inbox) = inbox();
        let (ticket, handle, first) = ticket(&inbox);
        assert!(ticket.serve_as(4));
        let second = Arc::new(Cancelled::default());
        ticket.pass_to(Arc::clone(&second) as Arc<dyn Serves>);
        assert!(ticket.serve_as(4), "the same number means another call there");
        drop(handle);
        assert_eq!((first.slots(), second.slots()), (vec![], vec![4]));
        ticket.discard();
        let (ticket, handle, first) = self::ticket(&inbox);
        assert!(ticket.serve_as(5));
        ticket.pass_to(Arc::clone(&second) as Arc<dyn Serves>);
        drop(handle);
        assert!(first.slots().is_empty() && ticket.is_cancelled(), "nobody has it: who takes it sees that");
        assert!(!ticket.serve_as(6));
        ticket.discard();
        assert_eq!(second.slots(), [4]);
    }

    #[test]
    fn what_is_answered_is_not_cancelled() {
        let (_poll, inbox) = inbox();
        let (ticket, handle, server) = ticket(&inbox);
        assert!(ticket.serve_as(4));
        ticket.settle(Answer::Result(Vec::new()));
        drop(handle);
        assert!(server.slots().is_empty());
    }

    #[test]
    fn unread_letters_are_bounded_and_reading_makes_room() {
        let (_poll, inbox) = inbox();
        let (ticket, handle, _) = ticket(&inbox);
        for step in 0..100 {
            ticket.progress(format!("\"progress\":{step}"));
        }
        assert_eq!(inbox.waiting(), Ticket::UNREAD_MAX as usize);
        handle.letter_read();
        ticket.notice(b"{}".to_vec());
        ticket.notice(b"{}".to_vec());
        assert_eq!(inbox.waiting(), Ticket::UNREAD_MAX as usize + 1);
        ticket.settle(Answer::Result(Vec::new()));
    }
}
