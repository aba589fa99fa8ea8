//! What the last seconds brought: the difference of two totals.

use std::collections::VecDeque;
use std::time::Duration;

use crate::meter::LagCounts;

/// Readings that a window holds at most: a histogram takes 1.6 KB, and there are two in each.
const READINGS_MAX: usize = 64;

/// What was counted since the start of the process.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Processor time.
    pub cpu: Duration,
    /// Turns of the event loops.
    pub lag: LagCounts,
    /// Messages of clients, as far as they were served here.
    pub answered: LagCounts,
    /// Calls sent to upstreams.
    pub calls: u64,
    /// Those that failed or were answered with an error, and those refused before they were sent.
    pub errors: u64,
    /// Lists answered from the catalogue: a server behind us has heard nothing of them.
    pub lists: u64,
    /// Reads that may have the answer of the same one on its way: `resources/read`, and tools that are read-only and
    /// idempotent.
    pub reads: u64,
    /// Those that had it.
    pub joined: u64,
}

/// Totals, oldest first.
#[derive(Default)]
pub(super) struct Window {
    kept: VecDeque<(Duration, Totals)>,
}

/// What came within the window.
#[derive(Debug, Clone, Default)]
pub(super) struct Lately {
    pub(super) time: Duration,
    pub(super) totals: Totals,
}

impl Window {
    /// Takes in the totals of `now`; what came in the last `span`, or since there are any.
    ///
    /// Totals that have become less are of others than before (an upstream is gone): the window begins anew.
    pub(super) fn slide(&mut self, now: Duration, totals: Totals, span: Duration) -> Lately {
        // One at or beyond the far edge stays: it is where the window begins.
        while self.kept.len() > 1 && self.kept[1].0 + span <= now || self.kept.len() >= READINGS_MAX {
            self.kept.pop_front();
        }
        let lately = self
            .kept
            .front()
            .and_then(|(from, before)| Some(Lately { time: now.saturating_sub(*from), totals: totals.since(before)? }));
        if lately.is_none() {
            self.kept.clear();
        }
        self.kept.push_back((now, totals));
        lately.unwrap_or_default()
    }
}

impl Totals {
    fn since(&self, before: &Self) -> Option<Self> {
        Some(Self {
            cpu: self.cpu.checked_sub(before.cpu)?,
            lag: self.lag.checked_since(&before.lag)?,
            answered: self.answered.checked_since(&before.answered)?,
            calls: self.calls.checked_sub(before.calls)?,
            errors: self.errors.checked_sub(before.errors)?,
            lists: self.lists.checked_sub(before.lists)?,
            reads: self.reads.checked_sub(before.reads)?,
            joined: self.joined.checked_sub(before.joined)?,
        })
    }
}

impl Lately {
    /// Thousandths of a core that were used.
    pub(super) fn millicores(&self) -> Option<u64> {
        (!self.time.is_zero()).then(|| (self.totals.cpu.as_secs_f64() / self.time.as_secs_f64() * 1_000.0) as u64)
    }

    /// How long 99 of 100 took at most; nothing below 100 of them.
    pub(super) fn p99(of: &LagCounts) -> Option<Duration> {
        let figures = of.summary();
        (figures.count >= 100).then_some(figures.p99)
    }

    /// How long 95 of 100 took at most; nothing below 20 of them.
    pub(super) fn p95(of: &LagCounts) -> Option<Duration> {
        let figures = of.summary();
        (figures.count >= 20).then_some(figures.p95)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(10);

    fn totals(calls: u64) -> Totals {
        Totals { calls, cpu: Duration::from_millis(500 * calls), ..Totals::default() }
    }

    #[test]
    fn a_window_is_as_long_as_asked_for_and_shorter_at_the_start() {
        let mut window = Window::default();
        let seen: Vec<_> = (0..30)
            .map(|second| window.slide(Duration::from_secs(second), totals(second), SPAN))
            .map(|lately| (lately.time.as_secs(), lately.totals.calls, lately.millicores()))
            .collect();
        assert_eq!(seen[0], (0, 0, None));
        assert_eq!((seen[3], seen[10], seen[29]), ((3, 3, Some(500)), (10, 10, Some(500)), (10, 10, Some(500))));
    }

    #[test]
    fn totals_that_shrink_begin_anew() {
        let mut window = Window::default();
        for (second, calls, expected) in [(0, 100, 0), (1, 150, 50), (2, 20, 0), (3, 25, 5)] {
            assert_eq!(window.slide(Duration::from_secs(second), totals(calls), SPAN).totals.calls, expected);
        }
    }

    #[test]
    fn readings_without_pause_do_not_pile_up() {
        let mut window = Window::default();
        (0..10_000).for_each(|_| _ = window.slide(Duration::ZERO, totals(1), SPAN));
        assert!(window.kept.len() <= READINGS_MAX);
    }
}
