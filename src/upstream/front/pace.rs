//! How fast an upstream serves: the time that a call takes there, as a moving mean with its mean deviation.

use std::time::Duration;

/// Calls that the mean remembers, about: enough to be steady, few enough to see within seconds that a server turns slow.
const MEMORY: u32 = 64;

/// The service time S. Only calls that the server answered itself count: what it refuses takes no time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// In seconds.
    mean: f64,
    deviation: f64,
    seen: u32,
}

impl Pace {
    /// A call was answered after this time.
    pub(super) fn saw(&mut self, took: Duration) {
        if self.seen < MEMORY {
            self.seen += 1;
        }
        let (took, part) = (took.as_secs_f64(), 1.0 / f64::from(self.seen));
        let off = took - self.mean;
        self.mean += off * part;
        if self.seen > 1 {
            self.deviation += (off.abs() - self.deviation) * part;
        }
    }

    /// S, once a call was answered.
    pub(super) fn mean(self) -> Option<Duration> {
        (self.seen > 0).then(|| Duration::from_secs_f64(self.mean))
    }

    /// What few calls take longer than: S and twice its mean deviation.
    pub(super) fn long(self) -> Duration {
        Duration::from_secs_f64(self.mean + 2.0 * self.deviation)
    }

    /// S / C: how often one of `limit` places becomes free.
    pub(super) fn each(self, limit: usize) -> Option<Duration> {
        Some(self.mean()?.div_f64(limit.max(1) as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_before_a_call_was_answered() {
        let mut pace = Pace::default();
        assert_eq!((pace.mean(), pace.each(4)), (None, None));
        pace.saw(Duration::from_secs(2));
        assert_eq!((pace.mean(), pace.each(4)), (Some(Duration::from_secs(2)), Some(Duration::from_millis(500))));
        assert_eq!(pace.long(), Duration::from_secs(2), "one call does not deviate");
    }

    #[test]
    fn a_server_that_turns_slow_is_seen_within_a_few_hundred_calls() {
        let mut pace = Pace::default();
        for _ in 0..1_000 {
            pace.saw(Duration::from_millis(100));
        }
        for _ in 0..200 {
            pace.saw(Duration::from_secs(1));
        }
        let mean = pace.mean().unwrap().as_secs_f64();
        assert!((0.9..=1.0).contains(&mean), "{mean}");
    }
}
