//! Where errands wait for the one task that runs them; what has one last word waits once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, PoisonError};

use crossbeam_queue::SegQueue;
use tokio::sync::Notify;

use super::handle::Errand;
use crate::mcp::Level;

/// No level waits.
const SAID: usize = usize::MAX;

/// Where errands wait for the one task that runs them.
pub(super) struct Door {
    errands: SegQueue<Errand>,
    /// The last of [`Errand::Level`], by its place among all levels, and [`SAID`] if it was taken.
    level: AtomicUsize,
    /// Whose roots have changed, and whether there are any.
    roots: Mutex<BTreeSet<u128>>,
    rooted: AtomicBool,
    /// True from the first errand after a collection until the next collection.
    rung: AtomicBool,
    bell: Notify,
    /// Nobody will collect any more.
    closed: AtomicBool,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            errands: SegQueue::new(),
            level: AtomicUsize::new(SAID),
            roots: Mutex::default(),
            rooted: AtomicBool::new(false),
            rung: AtomicBool::new(false),
            bell: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }
}

impl Door {
    pub(super) fn post(&self, errand: Errand) {
        self.push(errand);
        self.ring();
    }

    pub(super) fn push(&self, errand: Errand) {
        match errand {
            Errand::Level(level) => self.level.store(level as usize, Ordering::SeqCst),
            Errand::RootsChanged { client } => {
                let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
                roots.insert(client);
                self.rooted.store(true, Ordering::SeqCst);
            }
            errand => self.errands.push(errand),
        }
    }

    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            self.bell.notify_one();
        }
    }

    /// Nobody will collect any more but who calls this, and whoever finds it closed behind a [`Self::push`].
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Whether it was closed when the last errand was pushed: either this sees that, or who has closed it the errand.
    pub(super) fn is_closed(&self) -> bool {
        fence(Ordering::SeqCst);
        self.closed.load(Ordering::Relaxed)
    }

    /// Waits until there may be errands. For the one task behind it; cancel-safe.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// To be called before [`Self::collect`]: errands posted from here on ring again.
    pub(super) fn quiet(&self) {
        self.rung.store(false, Ordering::SeqCst);
    }

    /// The next errand: what has one last word first, so that no call overtakes it.
    pub(super) fn collect(&self) -> Option<Errand> {
        self.level().or_else(|| self.roots_changed()).or_else(|| self.errands.pop())
    }

    fn level(&self) -> Option<Errand> {
        if self.level.load(Ordering::SeqCst) == SAID {
            return None;
        }
        Level::ALL.get(self.level.swap(SAID, Ordering::SeqCst)).map(|&level| Errand::Level(level))
    }

    fn roots_changed(&self) -> Option<Errand> {
        if !self.rooted.load(Ordering::SeqCst) {
            return None;
        }
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        let client = roots.pop_first();
        self.rooted.store(!roots.is_empty(), Ordering::SeqCst);
        client.map(|client| Errand::RootsChanged { client })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_levels_and_roots_the_last_word_waits_and_no_call_overtakes_it() {
        let door = Door::default();
        door.post(Errand::Cancel { slot: 1 });
        for _ in 0..1_000 {
            door.post(Errand::Level(Level::Error));
            door.post(Errand::Level(Level::Debug));
            door.post(Errand::RootsChanged { client: 7 });
            door.post(Errand::RootsChanged { client: 8 });
        }
        assert!(matches!(door.collect(), Some(Errand::Level(Level::Debug))));
        assert!(matches!(door.collect(), Some(Errand::RootsChanged { client: 7 })));
        assert!(matches!(door.collect(), Some(Errand::RootsChanged { client: 8 })));
        assert!(matches!(door.collect(), Some(Errand::Cancel { slot: 1 })));
        assert!(door.collect().is_none());
    }
}
