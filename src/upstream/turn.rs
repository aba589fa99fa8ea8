//! How the work of one upstream lets the others go on, which are served by the same thread: many errands in turns, and what
//! takes long apart.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{block_in_place, yield_now};

/// Errands that are run in one go: some hundred microseconds, and a turn costs less than one.
const ERRANDS: u32 = 128;
/// Bytes of a message, and calls that end together, from which on their work takes about as long as it takes to move the
/// others to another thread.
pub(super) const LONG_BYTES: usize = 128 << 10;
pub(super) const LONG_CALLS: usize = 256;

/// Counts errands.
#[derive(Default)]
pub(super) struct Turns(u32);

impl Turns {
    /// One more has been run; once in a while others have their turn, and then it is true: they may have brought as many
    /// errands, and whoever runs those first comes to nothing else. Cancel-safe.
    #[must_use]
    pub(super) async fn pass(&mut self) -> bool {
        self.0 = (self.0 + 1) % ERRANDS;
        let is_over = self.0 == 0;
        if is_over {
            yield_now().await;
        }
        is_over
    }
}

/// Does work that may be long; if it `is_long`, the other tasks of this thread go on on another one meanwhile.
pub(super) fn apart<T>(is_long: bool, work: impl FnOnce() -> T) -> T {
    let can_move = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if is_long && can_move() { block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, mpsc};

    use super::*;

    #[tokio::test]
    #[allow(clippy::disallowed_methods)] // A test's task ends with its runtime.
    async fn others_have_their_turn_between_many_errands() {
        let turns = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&turns);
        tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        });
        let mut mine = Turns::default();
        let mut over = 0;
        for _ in 0..ERRANDS * 10 {
            over += u32::from(mine.pass().await);
        }
        assert_eq!(over, 10);
        assert_eq!(turns.load(Ordering::Relaxed), 10);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    #[allow(clippy::disallowed_methods)] // A test's task ends with its runtime.
    async fn another_task_runs_while_one_is_long_at_work() {
        let (done, other) = mpsc::channel();
        tokio::spawn(async move { done.send(()) });
        // Would wait for ever if they shared the only thread.
        let heard = tokio::spawn(async move { apart(true, || other.recv()) });
        assert_eq!(heard.await.expect("no panic"), Ok(()));
    }

    #[tokio::test]
    async fn where_there_is_no_other_thread_long_work_is_done_here() {
        assert_eq!(apart(true, || 7), 7);
    }
}
