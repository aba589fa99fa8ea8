//! Alarms: raised when a figure passes its limit, cleared when it has stayed well on the good side for a while.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Config, Growth, PoolFigures, Snapshot, Verdict};
use crate::meter::Named;

/// Acquisitions from which a reuse ratio is judged: fewer say nothing about it.
const ACQUISITIONS_MIN: u64 = 1_000;

crate::named! {
    /// What can be wrong with the memory or the loops of a gateway.
    #[derive(PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Alarm {
        /// The whole RSS, shared out among the connections, is too much for each.
        BytesPerConnection = "bytes_per_connection",
        /// Too many connection slots are made anew though as many were there before.
        SlotReuse = "slot_reuse",
        /// Too many message buffers are made anew though as many were there before.
        BufferReuse = "buffer_reuse",
        /// Something ready waited too long for its event loop.
        LoopLag = "loop_lag",
        /// Memory grows faster than connections explain; it may yet be a sawtooth.
        MemoryGrowth = "memory_growth",
        /// Memory leaks.
        MemoryLeak = "memory_leak",
    }
}

/// An alarm that was raised or cleared just now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlarmChange {
    /// Which.
    pub alarm: Alarm,
    /// Raised, or cleared.
    pub raised: bool,
    /// The figure that was judged, in the unit of its knob. Nothing if it can't be judged any more.
    pub value: Option<f64>,
    /// Its limit.
    pub limit: f64,
}

/// How an alarm stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlarmState {
    /// Which.
    pub alarm: Alarm,
    /// Raised and not yet cleared since, in milliseconds since the start of the process.
    pub raised_at_ms: Option<u64>,
    /// How often it was raised since the start.
    pub times: u64,
    /// The figure as last judged, in the unit of its knob; nothing while it can't be judged.
    pub value: Option<f64>,
    /// Its limit.
    pub limit: f64,
}

/// All alarms.
pub struct Alarms {
    states: [Watch; Alarm::ALL.len()],
    slots: ReuseWindow,
    buffers: ReuseWindow,
    config: Config,
}

#[derive(Clone, Copy, Default)]
struct Watch {
    raised_at: Option<Duration>,
    calm_since: Option<Duration>,
    times: u64,
    value: Option<f64>,
}

impl Alarms {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            states: Default::default(),
            slots: ReuseWindow::default(),
            buffers: ReuseWindow::default(),
            config: config.clone(),
        }
    }

    /// Other limits are in force; what is raised is judged by them from the next readings on.
    pub(super) fn follow(&mut self, config: &Config) {
        self.config = config.clone();
    }

    /// Judges the figures of now; returns what was raised or cleared by them.
    pub(super) fn judge(&mut self, now: Duration, snapshot: &Snapshot, growth: &Growth) -> Vec<AlarmChange> {
        let crowded = snapshot.connections >= self.config.bytes_per_connection_from;
        let leak = match growth.verdict {
            Verdict::Leak { mb_per_hour } => Some(mb_per_hour),
            Verdict::No | Verdict::Watching => None,
        };
        let values = [
            (Alarm::BytesPerConnection, snapshot.bytes_per_connection.filter(|_| crowded).map(|bytes| bytes as f64)),
            (Alarm::SlotReuse, self.slots.ratio(snapshot.slots)),
            (Alarm::BufferReuse, self.buffers.ratio(snapshot.buffers)),
            (Alarm::LoopLag, Some(snapshot.lag.max_us as f64 / 1_000.0)),
            (Alarm::MemoryGrowth, growth.mb_per_hour),
            (Alarm::MemoryLeak, leak),
        ];
        values.into_iter().filter_map(|(alarm, value)| self.judge_one(now, alarm, value)).collect()
    }

    /// A figure that can't be judged raises nothing and is as good as calm.
    fn judge_one(&mut self, now: Duration, alarm: Alarm, value: Option<f64>) -> Option<AlarmChange> {
        let limit = self.limit(alarm);
        let margin = limit.value * self.config.clear_margin;
        let calm_for = Duration::from_secs(self.config.calm_s);
        let watch = &mut self.states[alarm.index()];
        watch.value = value;
        let raised = if watch.raised_at.is_none() {
            if !value.is_some_and(|value| limit.is_passed(value, 0.0)) {
                return None;
            }
            watch.raised_at = Some(now);
            watch.calm_since = None;
            watch.times += 1;
            true
        } else {
            if value.is_some_and(|value| limit.is_passed(value, margin)) {
                watch.calm_since = None;
                return None;
            }
            if now < *watch.calm_since.get_or_insert(now) + calm_for {
                return None;
            }
            watch.raised_at = None;
            false
        };
        Some(AlarmChange { alarm, raised, value, limit: limit.value })
    }

    fn limit(&self, alarm: Alarm) -> Limit {
        let config = &self.config;
        let (value, low_is_bad) = match alarm {
            Alarm::BytesPerConnection => (config.bytes_per_connection_max as f64, false),
            Alarm::SlotReuse | Alarm::BufferReuse => (config.reuse_ratio_min, true),
            Alarm::LoopLag => (config.lag_max_ms as f64, false),
            Alarm::MemoryGrowth | Alarm::MemoryLeak => (config.growth_max_mb_per_hour, false),
        };
        Limit { value, low_is_bad }
    }

    /// How each alarm stands.
    pub fn states(&self) -> impl Iterator<Item = AlarmState> {
        Alarm::ALL.iter().map(|&alarm| {
            let Watch { raised_at, times, value, .. } = self.states[alarm.index()];
            let raised_at_ms = raised_at.map(|at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
            AlarmState { alarm, raised_at_ms, times, value, limit: self.limit(alarm).value }
        })
    }
}

struct Limit {
    value: f64,
    low_is_bad: bool,
}

impl Limit {
    /// Whether a figure is on the bad side, or within `margin` of it.
    fn is_passed(&self, figure: f64, margin: f64) -> bool {
        if self.low_is_bad { figure < self.value + margin } else { figure > self.value - margin }
    }
}

/// The reuse of a pool since it was last judged, by at least [`ACQUISITIONS_MIN`] acquisitions.
///
/// What was made is held against the pool only as far as it did not enlarge it: 100,000 clients that come once make
/// 100,000 slots, and that is growth. Slots or buffers made, freed and made again are waste.
#[derive(Clone, Copy, Default)]
struct ReuseWindow {
    start: PoolFigures,
    last: Option<f64>,
}

impl ReuseWindow {
    fn ratio(&mut self, now: PoolFigures) -> Option<f64> {
        let reused = now.reused.saturating_sub(self.start.reused);
        let created = now.created.saturating_sub(self.start.created);
        let enlarged = (now.in_use + now.available).saturating_sub(self.start.in_use + self.start.available);
        if reused + created >= ACQUISITIONS_MIN {
            let wasted = created.saturating_sub(enlarged);
            self.last = Some(1.0 - wasted as f64 / (reused + created) as f64);
            self.start = now;
        } else if reused + created == 0 {
            self.last = None; // Nobody uses it: the old figure is history.
        }
        self.last
    }
}

impl fmt::Display for AlarmChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.raised { "raised" } else { "cleared" };
        write!(f, "alarm {} {what}", self.alarm.name())?;
        match self.value {
            Some(value) => write!(f, " at {value:.2} (limit {:.2})", self.limit),
            None => write!(f, " (limit {:.2})", self.limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::LagFigures;

    /// Judges one figure each 10 seconds; returns the readings at which an alarm was raised (`true`) or cleared.
    fn changes(figures: impl IntoIterator<Item = Snapshot>) -> Vec<(usize, Alarm, bool)> {
        let mut alarms = Alarms::new(&Config::default());
        let mut seen = Vec::new();
        for (reading, snapshot) in figures.into_iter().enumerate() {
            let now = Duration::from_secs(10 * reading as u64);
            for change in alarms.judge(now, &snapshot, &Growth::default()) {
                seen.push((reading, change.alarm, change.raised));
            }
        }
        seen
    }

    fn lag(millis: u64) -> Snapshot {
        Snapshot { lag: LagFigures { max_us: millis * 1_000, ..LagFigures::default() }, ..Snapshot::default() }
    }

    fn reuse(reused: u64, created: u64, existing: u64) -> Snapshot {
        let slots = PoolFigures { reused, created, available: existing, ..PoolFigures::default() };
        Snapshot { slots, ..Snapshot::default() }
    }

    #[test]
    fn raised_over_the_limit_cleared_below_the_margin_after_calm() {
        // Not at the limit; kept up by 95 (within the margin); the calm of 60 seconds starts again after it.
        let millis = [100, 101, 50, 50, 95, 50, 50, 50, 50, 50, 50, 50, 50, 99, 101];
        assert_eq!(
            changes(millis.map(lag)),
            [(1, Alarm::LoopLag, true), (11, Alarm::LoopLag, false), (14, Alarm::LoopLag, true)]
        );
    }

    #[test]
    fn bytes_per_connection_are_not_judged_among_few() {
        let with = |connections, bytes| Snapshot { connections, bytes_per_connection: Some(bytes), ..lag(0) };
        assert_eq!(changes([with(9_999, 5_000), with(10_000, 2_048)]), []);
        assert_eq!(changes([with(10_000, 2_049)]), [(0, Alarm::BytesPerConnection, true)]);
    }

    #[test]
    fn a_pool_that_grows_wastes_nothing_and_one_that_makes_again_does() {
        assert_eq!(changes([reuse(1_000, 0, 1_000), reuse(1_000, 99_000, 100_000)]), []);
        let wasted = [reuse(0, 1_000, 1_000), reuse(600, 1_400, 1_000), reuse(1_400, 1_600, 1_000)];
        assert_eq!(changes(wasted), [(1, Alarm::SlotReuse, true)]);
        // Too few to judge.
        assert_eq!(changes([reuse(0, 1_000, 1_000), reuse(0, 1_999, 1_000)]), []);
    }

    #[test]
    fn a_leak_raises_both_alarms_of_growth_and_each_is_counted() {
        let mut alarms = Alarms::new(&Config::default());
        let growth =
            Growth { mb_per_hour: Some(9.0), verdict: Verdict::Leak { mb_per_hour: 9.0 }, ..Growth::default() };
        for minute in 0..20_u64 {
            let growth = if minute % 10 < 5 { growth } else { Growth::default() };
            alarms.judge(Duration::from_secs(60 * minute), &Snapshot::default(), &growth);
        }
        let times: Vec<_> = alarms.states().filter(|state| state.times > 0).map(|s| (s.alarm, s.times)).collect();
        assert_eq!(times, [(Alarm::MemoryGrowth, 2), (Alarm::MemoryLeak, 2)]);
    }
}
