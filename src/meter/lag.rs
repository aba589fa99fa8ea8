//! A small lock-free histogram of durations: one thread records, any thread reads.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// log2 of the buckets per octave: 8 of them, so a bucket is at most 1/8 of its value wide.
const STEP_BITS: u32 = 3;
const STEPS: usize = 1 << STEP_BITS;
/// Buckets: 0 to 7 microseconds one by one, then 24 octaves, up to 134 seconds.
const BUCKETS: usize = STEPS * 25;

/// How long things took, by log-linear buckets of whole microseconds.
///
/// Percentiles come out as the upper edge of their bucket: at most 1/8 too large, never too small. What is longer than 134
/// seconds is counted in the last bucket; the maximum is exact. Recording is a few plain loads and stores, so it is for one
/// writer: with two, counts may be lost, nothing worse.
pub struct Lag {
    counts: [AtomicU64; BUCKETS],
    max_micros: AtomicU64,
}

impl Default for Lag {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BUCKETS], max_micros: AtomicU64::new(0) }
    }
}

impl Lag {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one duration.
    #[inline]
    pub fn record(&self, duration: Duration) {
        self.record_n(duration, 1);
    }

    /// Counts one duration `n` times.
    #[inline]
    pub fn record_n(&self, duration: Duration, n: u64) {
        let micros = whole_micros(duration);
        let count = &self.counts[bucket_of(micros)];
        count.store(count.load(Relaxed).wrapping_add(n), Relaxed);
        if micros > self.max_micros.load(Relaxed) {
            self.max_micros.store(micros, Relaxed);
        }
    }

    /// A copy of the counts since the start, to merge with those of other shards or to subtract an earlier copy from.
    #[must_use]
    pub fn counts(&self) -> LagCounts {
        LagCounts {
            counts: self.counts.each_ref().map(|count| count.load(Relaxed)),
            max_micros: self.max_micros.load(Relaxed),
        }
    }

    /// The figures since the start.
    #[must_use]
    pub fn snapshot(&self) -> LagSnapshot {
        self.counts().summary()
    }
}

impl fmt::Debug for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// A copy of a [`Lag`]'s counts at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct LagCounts {
    counts: [u64; BUCKETS],
    max_micros: u64,
}

impl Default for LagCounts {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], max_micros: 0 }
    }
}

impl LagCounts {
    /// Adds the counts of another histogram, as of another shard.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.wrapping_add(*theirs);
        }
        self.max_micros = self.max_micros.max(other.max_micros);
    }

    /// What was recorded after `earlier`, a copy of the same histogram: the window between two readings. Readers reset
    /// nothing, so any number of them can have windows of their own. The window's maximum is the upper edge of its
    /// highest bucket, or the maximum since the start where that is less.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut window = self.clone();
        for (now, before) in window.counts.iter_mut().zip(&earlier.counts) {
            *now = now.wrapping_sub(*before);
        }
        if self.max_micros == earlier.max_micros {
            let highest = window.counts.iter().rposition(|&count| count > 0);
            window.max_micros = highest.map_or(0, upper_edge).min(self.max_micros);
        }
        window
    }

    /// The same, or nothing if it is no earlier copy: any count is less than it was then.
    #[must_use]
    pub fn checked_since(&self, earlier: &Self) -> Option<Self> {
        let grew = self.counts.iter().zip(&earlier.counts).all(|(now, before)| now >= before);
        grew.then(|| self.since(earlier))
    }

    /// The usual figures.
    #[must_use]
    pub fn summary(&self) -> LagSnapshot {
        let count = self.counts.iter().sum();
        LagSnapshot {
            count,
            p50: self.percentile(count, 50),
            p95: self.percentile(count, 95),
            p99: self.percentile(count, 99),
            max: Duration::from_micros(self.max_micros),
        }
    }

    /// The least bucket edge that `percent` of all `count` durations do not exceed.
    fn percentile(&self, count: u64, percent: u64) -> Duration {
        let rank = (u128::from(count) * u128::from(percent)).div_ceil(100);
        let mut seen = 0_u128;
        let at = self.counts.iter().position(|&count| {
            seen += u128::from(count);
            seen >= rank && count > 0
        });
        Duration::from_micros(at.map_or(0, upper_edge).min(self.max_micros))
    }
}

impl fmt::Debug for LagCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary().fmt(f)
    }
}

/// The figures of a [`Lag`]: how many durations, and how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LagSnapshot {
    /// Durations recorded.
    pub count: u64,
    /// Half of them took at most this long.
    pub p50: Duration,
    /// 95 of 100 took at most this long.
    pub p95: Duration,
    /// 99 of 100 took at most this long.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

#[inline]
fn whole_micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()))
}

#[inline]
fn bucket_of(micros: u64) -> usize {
    if micros < STEPS as u64 {
        return micros as usize;
    }
    let octave = micros.ilog2() - STEP_BITS;
    let step = (micros >> octave) as usize; // STEPS..2*STEPS
    (octave as usize * STEPS + step).min(BUCKETS - 1)
}

/// The largest number of microseconds that falls into this bucket (the last one has no edge: the maximum bounds it).
fn upper_edge(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    if bucket == BUCKETS - 1 {
        return u64::MAX;
    }
    let octave = bucket / STEPS - 1;
    let step = (STEPS + bucket % STEPS) as u64;
    ((step + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(micros: impl IntoIterator<Item = u64>) -> Lag {
        let lag = Lag::new();
        micros.into_iter().for_each(|m| lag.record(Duration::from_micros(m)));
        lag
    }

    #[test]
    fn buckets_are_contiguous_and_edges_are_tight() {
        for bucket in 0..BUCKETS - 1 {
            let edge = upper_edge(bucket);
            assert_eq!(bucket_of(edge), bucket);
            assert_eq!(bucket_of(edge + 1), bucket + 1);
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_at_most_an_eighth_too_large() {
        let figures = recorded(1..=100_000).snapshot();
        assert_eq!(figures.count, 100_000);
        assert!((50_000..56_250).contains(&figures.p50.as_micros()), "{figures:?}");
        assert!((99_000..=100_000).contains(&figures.p99.as_micros()), "{figures:?}");
        assert_eq!(figures.max.as_micros(), 100_000);
    }

    #[test]
    fn one_slow_turn_in_a_thousand_is_the_maximum_and_not_the_p99() {
        let figures = recorded((0..999).map(|_| 3).chain([250_000])).snapshot();
        assert_eq!(figures.p99, Duration::from_micros(3));
        assert_eq!(figures.max, Duration::from_millis(250));
    }

    #[test]
    fn an_empty_histogram_is_all_zero() {
        assert_eq!(Lag::new().snapshot(), LagSnapshot::default());
    }

    #[test]
    fn hours_saturate_the_last_bucket_and_keep_their_maximum() {
        let lag = Lag::new();
        lag.record(Duration::from_hours(3));
        lag.record(Duration::MAX);
        assert_eq!(lag.snapshot().count, 2);
        assert_eq!(lag.snapshot().max, Duration::from_micros(u64::MAX));
    }

    #[test]
    fn merging_equals_recording_in_one() {
        let mut left = recorded(0..500).counts();
        left.merge(&recorded(500..1_000).counts());
        assert!(left == recorded(0..1_000).counts());
    }

    #[test]
    fn a_window_forgets_what_was_before() {
        let lag = recorded([900_000, 900_000]);
        let before = lag.counts();
        (0..10).for_each(|_| lag.record(Duration::from_micros(5)));
        let window = lag.counts().since(&before).summary();
        assert_eq!((window.count, window.max), (10, Duration::from_micros(5)));
        lag.record(Duration::from_secs(2));
        assert_eq!(lag.counts().since(&before).summary().max, Duration::from_secs(2));
        assert_eq!(lag.counts().since(&lag.counts()).summary(), LagSnapshot::default());
        assert!(before.checked_since(&lag.counts()).is_none(), "the later one");
        assert!(lag.counts().checked_since(&before).is_some());
    }

    #[test]
    fn it_fits_sixty_times_into_a_few_pages() {
        assert!(std::mem::size_of::<Lag>() <= 2048);
    }
}
