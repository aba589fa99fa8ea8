//! The snapshots kept: evenly over the whole life of the process in bounded memory, and one for each mark.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Config, LagFigures, Snapshot};

/// Snapshots since the start, oldest first.
///
/// When they are as many as may be kept, every second one goes and the step between two doubles: 1,080 of them cover 3
/// hours at 10 seconds, a day at 80, a week at 640. The lag of what is skipped lives on in the next one kept.
pub struct History {
    kept: Vec<Snapshot>,
    capacity: usize,
    step: Duration,
    /// A timer that fires so much too early does not skip a step.
    early: Duration,
    next: Duration,
    /// The worst lag since the last snapshot kept.
    skipped: LagFigures,
    marks_ahead: Vec<u64>,
    marks: Vec<Mark>,
}

/// The snapshot at which a number of connections was first reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// The number to be reached.
    pub connections: u64,
    /// The first snapshot with so many.
    pub snapshot: Snapshot,
}

impl History {
    pub(super) fn new(config: &Config) -> Self {
        let mut marks_ahead = config.marks.clone();
        marks_ahead.sort_unstable_by(|one, other| other.cmp(one)); // The lowest last, to pop.
        let step = Duration::from_millis(config.interval_ms.max(1));
        Self {
            kept: Vec::new(),
            capacity: config.snapshots_kept.max(2).next_multiple_of(2),
            step,
            early: step / 20,
            next: Duration::ZERO,
            skipped: LagFigures::default(),
            marks_ahead,
            marks: Vec::new(),
        }
    }

    pub(super) fn record(&mut self, now: Duration, snapshot: Snapshot) {
        while let Some(connections) = self.marks_ahead.pop_if(|mark| *mark <= snapshot.connections) {
            self.marks.push(Mark { connections, snapshot });
        }
        let lag = self.skipped.worse(snapshot.lag);
        if now + self.early < self.next {
            self.skipped = lag;
            return;
        }
        self.skipped = LagFigures::default();
        if self.kept.len() == self.capacity {
            self.thin();
        }
        self.kept.push(Snapshot { lag, ..snapshot });
        self.next = now + self.step;
    }

    /// Keeps the first of every two.
    fn thin(&mut self) {
        for pair in 0..self.kept.len() / 2 {
            let (first, second) = (self.kept[2 * pair], self.kept[2 * pair + 1]);
            self.kept[pair] = Snapshot { lag: first.lag.worse(second.lag), ..first };
        }
        self.kept.truncate(self.kept.len() / 2);
        self.step *= 2;
    }

    /// The snapshots kept, oldest first.
    #[must_use]
    pub fn snapshots(&self) -> &[Snapshot] {
        &self.kept
    }

    /// The marks reached, lowest first.
    #[must_use]
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Bytes of RSS that each connection added between the lowest and the highest mark reached: the cost of one more,
    /// without the program itself. Nothing before two marks were reached at different numbers of connections.
    #[must_use]
    pub fn slope_bytes_per_connection(&self) -> Option<u64> {
        self.slope_of(|snapshot| Some(snapshot.memory.rss))
    }

    /// The same of the kernel's memory beside us. It is that of the whole machine: clients on it are in it too.
    #[must_use]
    pub fn kernel_slope_bytes_per_connection(&self) -> Option<u64> {
        self.slope_of(|snapshot| snapshot.kernel.map(|kernel| kernel.slab + kernel.tcp))
    }

    fn slope_of(&self, bytes: impl Fn(&Snapshot) -> Option<u64>) -> Option<u64> {
        let (low, high) = (&self.marks.first()?.snapshot, &self.marks.last()?.snapshot);
        let connections = high.connections.checked_sub(low.connections)?;
        bytes(high)?.saturating_sub(bytes(low)?).checked_div(connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::MemoryFigures;

    fn history(kept: usize) -> History {
        History::new(&Config { snapshots_kept: kept, ..Config::default() })
    }

    fn snapshot(second: u64, connections: u64) -> Snapshot {
        Snapshot { uptime_ms: second * 1_000, connections, ..Snapshot::default() }
    }

    #[test]
    fn a_day_fits_evenly_and_no_lag_is_lost() {
        let mut history = history(1_080);
        for second in (0..86_400).step_by(10) {
            // One that is thinned out later, and one that is skipped at once.
            let max_us = match second {
                10 => 300_000,
                43_210 => 250_000,
                _ => 5,
            };
            let lag = LagFigures { turns: 1, max_us, ..LagFigures::default() };
            history.record(Duration::from_secs(second), Snapshot { lag, ..snapshot(second, 0) });
        }
        let kept = history.snapshots();
        assert!((540..=1_080).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept[0].uptime_ms, 0);
        assert!(kept.windows(2).all(|two| two[1].uptime_ms - two[0].uptime_ms == 80_000));
        let high: Vec<_> = kept.iter().map(|snapshot| snapshot.lag.max_us).filter(|&us| us > 5).collect();
        assert_eq!(high, [300_000, 250_000]);
    }

    #[test]
    fn readings_more_often_than_the_interval_are_not_all_kept() {
        let mut history = history(100);
        (0..100).for_each(|second| history.record(Duration::from_secs(second), snapshot(second, 0)));
        assert_eq!(history.snapshots().len(), 10);
    }

    #[test]
    fn a_mark_keeps_the_first_snapshot_that_reaches_it() {
        let mut history = history(4);
        for (second, connections) in [999, 1_000, 1_500, 12_000, 800, 10_500, 60_000].into_iter().enumerate() {
            let memory = MemoryFigures { rss: 5_000_000 + 300 * connections, ..Default::default() };
            history.record(Duration::ZERO, Snapshot { memory, ..snapshot(second as u64, connections) });
        }
        let marks: Vec<_> = history.marks().iter().map(|mark| (mark.connections, mark.snapshot.connections)).collect();
        assert_eq!(marks, [(1_000, 1_000), (10_000, 12_000), (50_000, 60_000)]);
        assert_eq!(history.slope_bytes_per_connection(), Some(300));
    }

    #[test]
    fn a_jump_over_all_marks_has_no_slope() {
        let mut history = history(4);
        history.record(Duration::ZERO, snapshot(0, 200_000));
        assert_eq!(history.marks().len(), 4);
        assert_eq!(history.slope_bytes_per_connection(), None);
    }
}
