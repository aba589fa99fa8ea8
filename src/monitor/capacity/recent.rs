//! How long the calls at one upstream took lately, in as little memory as that can be told from.

use std::time::Duration;

use super::window::Lately;
use crate::meter::LagCounts;

/// Two copies of an upstream's histogram, 1.6 KB each, whatever the window: it is between half and all of its span long.
pub(super) struct Recent {
    older: (Duration, LagCounts),
    newer: (Duration, LagCounts),
}

impl Recent {
    /// What was counted before `now` is history.
    pub(super) fn new(now: Duration, counts: &LagCounts) -> Self {
        Self { older: (now, counts.clone()), newer: (now, counts.clone()) }
    }

    /// Takes in what was counted until `now`: how long 95 of 100 calls took at most, if there were enough to say.
    ///
    /// Counts that have become less are of another server than before: the window begins anew.
    pub(super) fn slide(&mut self, now: Duration, counts: &LagCounts, span: Duration) -> Option<Duration> {
        let Some(lately) = counts.checked_since(&self.older.1) else {
            *self = Self::new(now, counts);
            return None;
        };
        if now >= self.newer.0 + span / 2 {
            self.older = std::mem::replace(&mut self.newer, (now, counts.clone()));
        }
        Lately::p95(&lately)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::Lag;

    const SPAN: Duration = Duration::from_secs(10);

    #[test]
    fn what_is_older_than_the_span_is_forgotten_and_half_of_it_is_not() {
        let lag = Lag::new();
        lag.record_n(Duration::from_secs(9), 100);
        let mut recent = Recent::new(Duration::ZERO, &lag.counts());
        let mut slide = |second: u64, lag: &Lag| recent.slide(Duration::from_secs(second), &lag.counts(), SPAN);
        assert_eq!((1..30).find_map(|second| slide(second, &lag)), None, "it was before the first look");
        lag.record_n(Duration::from_millis(100), 19);
        assert_eq!(slide(30, &lag), None, "19 say nothing");
        lag.record_n(Duration::from_millis(100), 1);
        let told: Vec<bool> = (31..45).map(|second| slide(second, &lag).is_some()).collect();
        let last = told.iter().rposition(|told| *told).expect("it was told") + 1;
        assert!((5..=10).contains(&last) && told[..last].iter().all(|told| *told), "{told:?}");
    }

    #[test]
    fn another_servers_counts_begin_anew() {
        let (one, other) = (Lag::new(), Lag::new());
        one.record_n(Duration::from_secs(2), 1);
        let mut recent = Recent::new(Duration::ZERO, &one.counts());
        one.record_n(Duration::from_secs(2), 50);
        let slow = recent.slide(Duration::from_secs(1), &one.counts(), SPAN);
        assert!(slow.is_some_and(|p95| p95 >= Duration::from_secs(2)));
        other.record_n(Duration::from_millis(1), 40);
        assert_eq!(recent.slide(Duration::from_secs(2), &other.counts(), SPAN), None);
        other.record_n(Duration::from_millis(1), 20);
        let quick = recent.slide(Duration::from_secs(3), &other.counts(), SPAN);
        assert!(quick.is_some_and(|p95| p95 < Duration::from_millis(2)));
    }
}
