//! How talkative the servers must be: as the most curious client wants it, whoever comes and goes.

use std::sync::{Arc, Mutex, PoisonError};

use super::directory::Directories;
use super::handle::Errand;
use crate::mcp::Level;

/// How many clients want log messages from each level on.
pub struct Loudness {
    wanted: Mutex<[u32; Level::ALL.len()]>,
    directories: Arc<Directories>,
}

/// One client's wish; dropping it takes it back.
pub struct Loud {
    level: Level,
    loudness: Arc<Loudness>,
}

impl Loudness {
    /// Nobody wants anything yet.
    #[must_use]
    pub fn new(directories: Arc<Directories>) -> Self {
        Self { wanted: Mutex::default(), directories }
    }

    /// Counts a wish, and raises the servers' voice if nobody has wanted that much.
    #[must_use]
    pub fn want(self: &Arc<Self>, level: Level) -> Loud {
        self.change(level, 1);
        Loud { level, loudness: Arc::clone(self) }
    }

    /// The least level that anybody wants.
    #[must_use]
    pub fn least(&self) -> Option<Level> {
        least(&self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, level: Level, by: i32) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = least(&wanted);
        let count = &mut wanted[level as usize];
        *count = count.saturating_add_signed(by);
        let after = least(&wanted);
        if after != before {
            let level = after.unwrap_or(Level::UNSAID);
            for upstream in self.directories.load().upstreams() {
                upstream.post(Errand::Level(level));
            }
        }
    }
}

fn least(wanted: &[u32; Level::ALL.len()]) -> Option<Level> {
    wanted.iter().position(|&count| count > 0).map(|at| Level::ALL[at])
}

impl Drop for Loud {
    fn drop(&mut self) {
        self.loudness.change(self.level, -1);
    }
}
