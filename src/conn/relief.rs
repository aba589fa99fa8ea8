//! Relief while memory is short: those who have nothing to do, and had not for longest, are told to go first.

use std::cmp::Reverse;

use super::config::ticks;
use super::service::Service;
use super::{Connections, LOOKED_AT_A_TURN, Parting};
use crate::actor::{Desk, Tick};
use crate::pool::Key;

/// Clients told to go at once: some hundreds a second in all, for each of which a little memory is needed first.
const RELIEVED_A_TURN: usize = 128;

impl<S: Service> Connections<S> {
    /// Looks at some of the slots, on from where it was the last time.
    pub(super) fn relieve(&mut self, desk: &mut Desk<'_>) {
        let least = ticks(self.bench.house.guards.rules().idle_least.as_millis() as u64);
        let mut idle: Vec<(Tick, Key)> = Vec::new();
        for _ in 0..LOOKED_AT_A_TURN {
            self.relieved = self.pool.next_key(self.relieved);
            let Some(key) = self.relieved else { break };
            let resting = self.pool.get(key).filter(|conn| conn.has_nothing_to_do());
            let since = resting.map(|conn| desk.now.wrapping_sub(conn.heard));
            idle.extend(since.filter(|since| *since >= least).map(|since| (since, key)));
        }
        idle.sort_unstable_by_key(|(since, _)| Reverse(*since));
        for (_, key) in idle.into_iter().take(RELIEVED_A_TURN) {
            self.run(desk, key, |bench, conn, desk| {
                bench.say_last_words(conn, Parting::MemoryShort, desk, key);
                Err(Parting::MemoryShort)
            });
        }
    }
}
