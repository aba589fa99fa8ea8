//! The trend of memory: growth per hour by robust regression, and whether that is a leak.
//!
//! What is asked: does RSS grow though connections do not? So the samples looked at are the longest stretch up to now
//! in which connections never rose above those of its first sample, but by what comes and goes by chance. Growth is
//! the Theil-Sen slope, the median of the slopes between all pairs of samples (those at least a quarter of the stretch
//! apart, so that noise between neighbours does not count): no single sample can move it. It is a leak only if,
//! besides,
//! - the stretch fills the window (so a leak is not looked for while connections keep rising),
//! - the lowest sample of each third of the stretch lies above that of the third before, by half of what the limit
//!   would add. A sawtooth with a period under two thirds of the window comes down in one of the last two thirds, so
//!   it fails this;
//! - and all that has been so for a third of the window: growth that ends within that time (a cache that is filled, a
//!   warm-up) has left one of the thirds level before.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Config;

/// Samples in the window: the pairs among 120 of them are sorted in less than a millisecond.
const SAMPLES: u32 = 120;
/// Fewest samples in a stretch of which anything is said.
const SAMPLES_MIN: usize = 12;
/// The part of the window that a stretch must fill for its growth to be told.
const STRETCH_FOR_RATE: f64 = 0.5;
/// The part of the window that a stretch must fill for its growth to be called a leak: in a shorter one a long sawtooth
/// is not told from a leak.
const STRETCH_FOR_LEAK: f64 = 0.95;
const BYTES_PER_MB: f64 = 1e6;
const SECONDS_PER_HOUR: f64 = 3_600.0;

/// The samples of the window, and since when they look like a leak.
pub struct Trend {
    samples: VecDeque<Sample>,
    window: Duration,
    limit_mb_per_hour: f64,
    suspected_since: Option<Duration>,
    growth: Growth,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    /// Bytes.
    rss: f64,
    connections: f64,
}

/// How memory grew over the stretch that was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// MB (10^6 bytes) per hour that connections do not explain; nothing while the stretch is shorter than half the
    /// window, as it is while connections rise.
    pub mb_per_hour: Option<f64>,
    /// The share of pairs of samples that grew, 0.0 to 1.0: 0.5 is noise, 1.0 steady growth.
    pub confidence: f64,
    /// The stretch, in seconds.
    pub stretch_s: f64,
    /// Samples in it.
    pub samples: usize,
    /// What to make of it.
    pub verdict: Verdict,
}

/// Whether memory leaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No growth over the limit.
    #[default]
    No,
    /// Growth over the limit, but not (or not yet) one that nothing but a leak explains.
    Watching,
    /// Steady growth over the limit that connections do not explain.
    Leak {
        /// MB (10^6 bytes) per hour.
        mb_per_hour: f64,
    },
}

impl Trend {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            samples: VecDeque::new(),
            window: Duration::from_secs(config.trend_window_s.max(1)),
            limit_mb_per_hour: config.growth_max_mb_per_hour,
            suspected_since: None,
            growth: Growth::default(),
        }
    }

    /// Another limit is in force.
    pub(super) fn follow(&mut self, config: &Config) {
        self.limit_mb_per_hour = config.growth_max_mb_per_hour;
    }

    /// Takes in a sample; those that come closer together than the window needs are skipped.
    pub(super) fn record(&mut self, now: Duration, rss: u64, connections: u64) {
        let step = self.window / SAMPLES;
        if self.samples.back().is_some_and(|last| now < last.at + step * 9 / 10) {
            return;
        }
        while self.samples.front().is_some_and(|first| first.at + self.window < now) {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at: now, rss: rss as f64, connections: connections as f64 });
        let samples: Vec<_> = self.samples.iter().copied().collect();
        self.growth = self.judge(now, steady_stretch(&samples));
    }

    /// The growth as of the sample last taken in.
    #[must_use]
    pub const fn growth(&self) -> Growth {
        self.growth
    }

    fn judge(&mut self, now: Duration, stretch: &[Sample]) -> Growth {
        let window = self.window.as_secs_f64();
        let stretch_s = span(stretch);
        let mut growth = Growth { stretch_s, samples: stretch.len(), ..Growth::default() };
        if stretch_s >= window * STRETCH_FOR_RATE
            && stretch.len() >= SAMPLES_MIN
            && let Some((mb_per_hour, confidence)) = theil_sen(stretch)
        {
            let too_fast = mb_per_hour > self.limit_mb_per_hour;
            let suspected = too_fast && stretch_s >= window * STRETCH_FOR_LEAK && self.floors_rise(stretch);
            self.suspected_since = if suspected { self.suspected_since.or(Some(now)) } else { None };
            growth.mb_per_hour = Some(mb_per_hour);
            growth.confidence = confidence;
            growth.verdict = match self.suspected_since {
                Some(since) if now >= since + self.window / 3 => Verdict::Leak { mb_per_hour },
                _ if too_fast => Verdict::Watching,
                _ => Verdict::No,
            };
        } else {
            self.suspected_since = None;
        }
        growth
    }

    /// Whether the lowest sample of each third lies above that of the third before.
    fn floors_rise(&self, stretch: &[Sample]) -> bool {
        let Some(first) = stretch.first() else {
            return false;
        };
        let third = span(stretch) / 3.0;
        let mut floors = [f64::INFINITY; 3];
        for sample in stretch {
            let place = ((sample.at - first.at).as_secs_f64() / third) as usize;
            let floor = &mut floors[place.min(2)];
            *floor = floor.min(sample.rss);
        }
        let rise_min = self.limit_mb_per_hour * BYTES_PER_MB / SECONDS_PER_HOUR * third / 2.0;
        floors.windows(2).all(|two| two[1] - two[0] >= rise_min)
    }
}

/// The median slope between pairs of samples in MB per hour, and the share of the pairs that grew.
fn theil_sen(stretch: &[Sample]) -> Option<(f64, f64)> {
    let apart = span(stretch) / 4.0;
    let mut slopes = Vec::new();
    for (place, early) in stretch.iter().enumerate() {
        for late in &stretch[place + 1..] {
            let seconds = (late.at - early.at).as_secs_f64();
            if seconds >= apart && seconds > 0.0 {
                slopes.push((late.rss - early.rss) / seconds);
            }
        }
    }
    if slopes.is_empty() {
        return None;
    }
    let grew = slopes.iter().filter(|&&slope| slope > 0.0).count() as f64 / slopes.len() as f64;
    let middle = slopes.len() / 2;
    let (_, median, _) = slopes.select_nth_unstable_by(middle, f64::total_cmp);
    Some((*median * SECONDS_PER_HOUR / BYTES_PER_MB, grew))
}

/// The samples from the first one whose connections no later one tops by more than chance: where clients come and go
/// independently, `n` of them vary by the root of `n`, and three times that either way.
fn steady_stretch(samples: &[Sample]) -> &[Sample] {
    let mut most: f64 = 0.0;
    let mut start = samples.len();
    for (place, sample) in samples.iter().enumerate().rev() {
        most = most.max(sample.connections);
        if most <= sample.connections + 6.0 * most.sqrt() + 16.0 {
            start = place;
        }
    }
    &samples[start..]
}

fn span(stretch: &[Sample]) -> f64 {
    match stretch {
        [first, .., last] => (last.at - first.at).as_secs_f64(),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests;
