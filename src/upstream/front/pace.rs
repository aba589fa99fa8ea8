//! How fast an upstream serves: the time that a call takes there, as a moving mean with its mean deviation.

use std::time::Duration;

/// Calls that the mean remembers, about: enough to be steady, few enough to see within seconds that a server turns slow.
const MEMORY: u32 = 64;

/// So many answers in a row that took twice as long as any should, and the server is another one: what was is forgotten.
const SURPRISES: u32 = 4;

/// The service time S. Only calls that the server answered itself count: what it refuses takes no time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// In seconds.
    mean: f64,
    deviation: f64,
    seen: u32,
    surprises: u32,
}

impl Pace {
    /// A call was answered after this time.
    pub(super) fn saw(&mut self, took: Duration) {
        let is_surprise = self.seen >= SURPRISES && took > self.long() * 2;
        self.surprises = if is_surprise { self.surprises + 1 } else { 0 };
        if self.surprises >= SURPRISES {
            *self = Self::default();
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_before_a_call_was_answered() {
        let mut pace = Pace::default();
        assert_eq!(pace.mean(), None);
        pace.saw(Duration::from_secs(2));
        assert_eq!(pace.mean(), Some(Duration::from_secs(2)));
        assert_eq!(pace.long(), Duration::from_secs(2), "one call does not deviate");
    }

    #[test]
    fn a_server_that_turns_slow_or_fast_is_seen_within_a_few_calls_and_a_single_slow_one_is_none() {
        let mut pace = Pace::default();
        let mut see = |calls: u32, ms: u64| {
            (0..calls).for_each(|_| pace.saw(Duration::from_millis(ms)));
            pace.mean().unwrap().as_secs_f64()
        };
        see(1_000, 100);
        let one = see(1, 5_000);
        assert!((0.1..0.2).contains(&one), "{one}");
        see(1_000, 100);
        assert!(see(3, 1_000) < 0.2);
        let slow = see(1, 1_000);
        assert!((0.9..=1.0).contains(&slow), "{slow}");
        assert!(see(4, 100) < 0.4, "what is known since shortly is corrected shortly");
        see(1_000, 1_000);
        let fast = see(300, 10);
        assert!((0.01..0.03).contains(&fast), "{fast}");
    }
}
