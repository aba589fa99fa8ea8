//! The right to answer one call, exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::oneshot;

use super::{Answer, Inbox, Letter, Mail};
use crate::pool::Key;

/// Moved to whoever serves a call. [`Self::settle`] consumes it; dropping it answers [`Answer::Abandoned`], so that no
/// client waits for an answer nobody will give.
#[must_use = "dropping a ticket tells the client that its call was abandoned"]
pub struct Ticket {
    inbox: Arc<Inbox>,
    to: Key,
    call: u64,
    progress_unread: Arc<AtomicU32>,
    cancelled: oneshot::Receiver<()>,
    settled: bool,
}

/// The caller's end of a [`Ticket`]: dropping it, or the connection that holds it, cancels the call.
pub struct CancelHandle {
    _cancel_on_drop: oneshot::Sender<()>,
    progress_unread: Arc<AtomicU32>,
}

impl CancelHandle {
    /// What it shares with its ticket on the heap, in bytes: measured, and held by `tests/erlmcp_allocator.rs`.
    pub const BYTES: usize = 88;

    /// One progress letter has been read: its place is free again.
    pub fn progress_read(&self) {
        self.progress_unread.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ticket {
    /// How many progress letters of one call may wait unread. More are dropped: the next one says the same, later.
    pub const PROGRESS_UNREAD_MAX: u32 = 8;

    /// `call` must not be used again by any actor behind `inbox`, not even after a restart of its shard.
    pub fn new(inbox: Arc<Inbox>, to: Key, call: u64) -> (Self, CancelHandle) {
        let (cancel, cancelled) = oneshot::channel();
        let progress_unread = Arc::new(AtomicU32::new(0));
        let handle = CancelHandle { _cancel_on_drop: cancel, progress_unread: Arc::clone(&progress_unread) };
        (Self { inbox, to, call, progress_unread, cancelled, settled: false }, handle)
    }

    /// Answers the call.
    pub fn settle(mut self, answer: Answer) {
        self.post(answer);
    }

    /// Reports a step: `fragment` is the inside of the progress notification's `params` without the token, such as
    /// `"progress":1,"total":10`.
    pub fn progress(&self, fragment: String) {
        if self.progress_unread.fetch_add(1, Ordering::Relaxed) >= Self::PROGRESS_UNREAD_MAX {
            self.progress_unread.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.inbox.post(Mail::Letter(self.to, Letter::Progress { call: self.call, fragment }));
    }

    /// Resolves when the client cancels the call or leaves.
    pub async fn cancelled(&mut self) {
        // Nothing is ever sent: the other end's drop is the message.
        let _ = (&mut self.cancelled).await;
    }

    fn post(&mut self, answer: Answer) {
        self.settled = true;
        self.inbox.post(Mail::Letter(self.to, Letter::Answer { call: self.call, answer }));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled {
            self.post(Answer::Abandoned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox() -> (mio::Poll, Arc<Inbox>) {
        let poll = mio::Poll::new().expect("a poll");
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).expect("a waker");
        (poll, Arc::new(Inbox::new(waker)))
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
        let (ticket, _handle) = Ticket::new(Arc::clone(&inbox), Key::from_bits(1), 7);
        ticket.settle(Answer::Result(b"{}".to_vec()));
        assert_eq!(answers(&inbox), [(7, Answer::Result(b"{}".to_vec()))]);
    }

    #[test]
    fn a_dropped_ticket_answers_abandoned() {
        let (_poll, inbox) = inbox();
        let (ticket, _handle) = Ticket::new(Arc::clone(&inbox), Key::from_bits(1), 7);
        drop(ticket);
        assert_eq!(answers(&inbox), [(7, Answer::Abandoned)]);
    }

    #[test]
    fn unread_progress_is_bounded_and_reading_makes_room() {
        let (_poll, inbox) = inbox();
        let (ticket, handle) = Ticket::new(Arc::clone(&inbox), Key::from_bits(1), 7);
        for step in 0..100 {
            ticket.progress(format!("\"progress\":{step}"));
        }
        assert_eq!(inbox.waiting(), Ticket::PROGRESS_UNREAD_MAX as usize);
        handle.progress_read();
        ticket.progress("\"progress\":100".into());
        ticket.progress("\"progress\":101".into());
        assert_eq!(inbox.waiting(), Ticket::PROGRESS_UNREAD_MAX as usize + 1);
        ticket.settle(Answer::Result(Vec::new()));
    }
}
