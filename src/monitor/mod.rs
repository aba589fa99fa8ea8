//! How are we: the profiler turns readings of this process into snapshots, a trend, alarms and a report; [`capacity`] tells
//! how full the house is.
//!
//! A pure machine: readings in, changes of alarms out, time an argument. [`Readings::take`] is the one place that reads
//! the process; a test hands in readings of its own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod alarm;
pub mod capacity;
mod history;
mod readings;
mod report;
mod snapshot;
mod trend;

pub use alarm::{Alarm, AlarmChange, AlarmState, Alarms};
pub use history::{History, Mark};
pub use readings::{LagWindow, Readings};
pub use report::{Point, Report};
pub use snapshot::{AllocatorFigures, KernelFigures, LagFigures, MemoryFigures, PartFigures, PoolFigures, Snapshot};
pub use trend::{Growth, Trend, Verdict};

/// The knobs of the profiler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How often readings are taken and a snapshot is kept, in milliseconds.
    pub interval_ms: u64,
    /// Snapshots kept. When there are so many, every second one goes, and the next are taken half as often.
    pub snapshots_kept: usize,
    /// Numbers of connections; the snapshot at which each was first reached is kept for good.
    pub marks: Vec<u64>,
    /// How far back the trend looks, in seconds. A sawtooth with a period under two thirds of this is never a leak.
    pub trend_window_s: u64,
    /// Bytes per connection, the whole RSS shared out, above which an alarm is raised.
    pub bytes_per_connection_max: u64,
    /// Connections below which bytes per connection are not judged: the program itself would be shared out among few.
    pub bytes_per_connection_from: u64,
    /// Share of the acquisitions of slots, and of buffers, that must be reused, 0.0 to 1.0. What was made because more
    /// is in use than ever before is growth and not counted against it.
    pub reuse_ratio_min: f64,
    /// The longest that something ready may wait for its event loop, in milliseconds.
    pub lag_max_ms: u64,
    /// Growth of RSS that connections do not explain, in MB (10^6 bytes) per hour, above which alarms are raised.
    pub growth_max_mb_per_hour: f64,
    /// How far on the good side of its limit a figure must be for its alarm to clear, as a share of the limit.
    pub clear_margin: f64,
    /// For how long it must be there, in seconds.
    pub calm_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Short enough to see a burst, long enough to cost nothing (a reading takes about a millisecond).
            interval_ms: 10_000,
            // Three hours at the interval, a day at 80 seconds; about half a megabyte when full.
            snapshots_kept: 1_080,
            // Where the figures of the project are published.
            marks: vec![1_000, 10_000, 50_000, 100_000],
            // A leak of 5 MB/h stands out from the allocator's noise of a few hundred KB.
            trend_window_s: 3_600,
            // The published figure of the original design, 2.03 KB; ours is far below.
            bytes_per_connection_max: 2_048,
            bytes_per_connection_from: 10_000,
            reuse_ratio_min: 0.70,
            // A ping answered this late is what a person begins to feel.
            lag_max_ms: 100,
            growth_max_mb_per_hour: 5.0,
            clear_margin: 0.1,
            // Six readings.
            calm_s: 60,
        }
    }
}

impl Config {
    /// This with the other's limits of alarms: the knobs that a running profiler can follow.
    #[must_use]
    pub fn following(&self, other: &Self) -> Self {
        Self {
            interval_ms: self.interval_ms,
            snapshots_kept: self.snapshots_kept,
            marks: self.marks.clone(),
            trend_window_s: self.trend_window_s,
            ..other.clone()
        }
    }
}

/// The memory profiler of a gateway: give it readings at the configured interval, ask it for the report.
pub struct Profiler {
    config: Config,
    history: History,
    trend: Trend,
    alarms: Alarms,
    latest: Option<Snapshot>,
}

impl Profiler {
    /// A profiler that has seen nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            history: History::new(&config),
            trend: Trend::new(&config),
            alarms: Alarms::new(&config),
            latest: None,
            config,
        }
    }

    /// Other limits of the alarms are in force. How often readings are kept, how many, and how far back the trend looks, is
    /// not changed: see [`Config::following`].
    pub fn follow(&mut self, config: &Config) {
        self.config = self.config.following(config);
        self.trend.follow(&self.config);
        self.alarms.follow(&self.config);
    }

    /// Takes in what was read `now` (since the start of the process, never going back), and tells what it changed.
    pub fn handle_readings(&mut self, now: Duration, readings: &Readings) -> Vec<AlarmChange> {
        let snapshot = Snapshot::new(now, readings);
        self.history.record(now, snapshot);
        self.trend.record(now, snapshot.memory.rss, snapshot.connections);
        self.latest = Some(snapshot);
        self.alarms.judge(now, &snapshot, &self.trend.growth())
    }

    /// All that is known, by the readings last taken in; empty before the first.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::new(self.latest.unwrap_or_default(), self.trend.growth(), &self.alarms, &self.history)
    }

    /// The readings last taken in.
    #[must_use]
    pub const fn latest(&self) -> Option<&Snapshot> {
        self.latest.as_ref()
    }

    /// The snapshots kept.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// How each alarm stands.
    pub fn alarms(&self) -> impl Iterator<Item = AlarmState> {
        self.alarms.states()
    }

    /// How often it wants readings.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        Duration::from_millis(if self.config.interval_ms == 0 { 1 } else { self.config.interval_ms })
    }
}

#[cfg(test)]
mod tests;
