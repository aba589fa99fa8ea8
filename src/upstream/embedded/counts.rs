//! What is counted of the embedded server's calls: by each shard for itself, so that none of them waits for another.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::meter::{Gauge, Named};
use crate::upstream::mux::tally::{Use, Uses};

crate::named! {
    /// What calls are told apart by.
    pub(super) enum Tool {
        Echo = "echo",
        Add = "add",
        Sleep = "sleep",
        Blob = "blob",
        Stats = "stats",
        /// Whatever else was called.
        Other = "other",
    }
}

/// The counts of all shards.
#[derive(Debug)]
pub(super) struct Counts {
    shards: Box<[Shard]>,
    /// What has taken its time, of one tool; counted on the upstreams' threads.
    slow: AtomicU64,
    slow_micros: AtomicU64,
    in_flight: AtomicU64,
}

/// Only its own thread writes it; it starts on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard {
    calls: [Gauge; Tool::ALL.len()],
    errors: [Gauge; Tool::ALL.len()],
}

impl Tool {
    fn of(name: &str) -> Self {
        Self::ALL.iter().copied().find(|tool| tool.name() == name).unwrap_or(Self::Other)
    }
}

impl Counts {
    pub(super) fn new(shards: usize) -> Self {
        let shards = (0..shards).map(|_| Shard::default()).collect();
        Self { shards, slow: AtomicU64::new(0), slow_micros: AtomicU64::new(0), in_flight: AtomicU64::new(0) }
    }

    /// A call that was answered at once on this shard, in too short a time to look at the clock for it.
    #[inline]
    pub(super) fn count(&self, shard: usize, name: &str, failed: bool) {
        let Some(shard) = self.shards.get(shard) else { return };
        let tool = Tool::of(name).index();
        shard.calls[tool].add(1);
        if failed {
            shard.errors[tool].add(1);
        }
    }

    /// A call that takes its time has begun.
    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// It has ended.
    pub(super) fn end(&self, took: Duration) {
        self.in_flight.fetch_sub(1, Relaxed);
        self.slow.fetch_add(1, Relaxed);
        self.slow_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Calls that have not ended.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// What each tool was called for, as far as it was.
    pub(super) fn uses(&self) -> Uses {
        let mut uses = Uses::default();
        for &tool in Tool::ALL {
            let sum = |of: fn(&Shard) -> &[Gauge]| self.shards.iter().map(|shard| of(shard)[tool.index()].get()).sum();
            let mut all = Use { calls: sum(|shard| &shard.calls), errors: sum(|shard| &shard.errors), micros: 0 };
            if tool == Tool::Sleep {
                all.calls += self.slow.load(Relaxed);
                all.micros = self.slow_micros.load(Relaxed);
            }
            if all.calls > 0 {
                uses.add(tool.name(), all, || true);
            }
        }
        uses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::embedded::definitions::{Config, offer};

    #[test]
    fn each_tool_is_counted_by_its_own_name_and_the_rest_together() {
        let offer = offer(&Config::default());
        let tools: Vec<&str> = offer.lists[0].iter().map(|tool| &*tool.key).collect();
        assert_eq!(tools, Tool::ALL[..Tool::Other.index()].iter().map(|tool| tool.name()).collect::<Vec<_>>());
        let counts = Counts::new(2);
        tools.iter().for_each(|name| counts.count(0, name, false));
        counts.count(1, "echo", true);
        counts.count(1, "nobody's", true);
        counts.begin();
        assert_eq!(counts.in_flight(), 1);
        counts.end(Duration::from_millis(3));
        let uses = counts.uses();
        let of = |name: &str| uses.iter().find(|it| it.0 == name).map(|it| (it.1.calls, it.1.errors, it.1.micros));
        assert_eq!((of("echo"), of("add"), of("other")), (Some((2, 1, 0)), Some((1, 0, 0)), Some((1, 1, 0))));
        assert_eq!((of("sleep"), counts.in_flight()), (Some((2, 0, 3_000)), 0));
    }
}
