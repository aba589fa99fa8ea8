//! How the house does, in the six figures that plans watch, and the levels at which each is an alarm.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::window::Lately;
use super::zone::{Patience, Switch};

/// Failures from which their share is judged however few calls there were.
const FAILURES_MIN: u64 = 5;

crate::named! {
    /// What is watched.
    #[derive(PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Vital {
        /// Percent of the processor time allowed.
        Cpu = "cpu",
        /// Percent of the memory allowed.
        Memory = "memory",
        /// Milliseconds that 95 of 100 calls at upstreams took at most.
        UpstreamP95 = "upstream_p95",
        /// Milliseconds that 99 of 100 messages took here at most: all that lakh answers itself.
        OwnP99 = "own_p99",
        /// Percent of the calls to upstreams that failed.
        Errors = "errors",
        /// Calls that wait for a place at an upstream.
        Queue = "queue",
    }
}

/// The knobs of the alarms, `[alarms]`. Each list is of levels, the lowest first; an empty one is no alarm. (The hit ratio
/// of a cache would be one more; there is no cache yet.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlarmsConfig {
    /// Processor time, in percent of what is allowed.
    pub cpu_percent: Vec<u64>,
    /// Memory, in percent of what is allowed.
    pub memory_percent: Vec<u64>,
    /// What 95 of 100 calls at upstreams took at most, in milliseconds.
    pub upstream_p95_ms: Vec<u64>,
    /// What 99 of 100 messages took here at most, in milliseconds.
    pub own_p99_ms: Vec<u64>,
    /// Calls to upstreams that failed, of 1,000.
    pub errors_per_mille: Vec<u64>,
    /// Calls that wait for a place at an upstream, over all of them.
    pub queued: Vec<u64>,
    /// How far below its level a figure must be to clear it, in percent of the level.
    pub clear_margin_percent: u64,
    /// For how long it must be there, in seconds.
    pub calm_s: u64,
    /// An alarm that has been told is not told again within this time, in seconds, unless it has become worse.
    pub cooldown_s: u64,
    /// Where alarms are posted as JSON, one each: `http://` or `https://`; empty: nowhere. `${NAME}` is taken from the
    /// environment, so that a secret in it need not be in a file.
    pub webhook: String,
    /// How often one alarm is posted until it is given up.
    pub webhook_tries: u32,
}

impl Default for AlarmsConfig {
    fn default() -> Self {
        Self {
            // Those of the published plans.
            cpu_percent: vec![70, 80],
            memory_percent: vec![80],
            upstream_p95_ms: vec![500, 1_000],
            own_p99_ms: vec![50],
            errors_per_mille: vec![1, 10, 50],
            queued: vec![100, 1_000],
            clear_margin_percent: 10,
            // As the profiler's.
            calm_s: 60,
            // Often enough to be reminded, seldom enough not to be muted.
            cooldown_s: 300,
            webhook: String::new(),
            // About half a minute: a receiver that restarts is back by then.
            webhook_tries: 6,
        }
    }
}

/// The figures of one moment; each is nothing while too little happened to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Vitals {
    /// Percent.
    pub cpu_percent: Option<f64>,
    /// Percent.
    pub memory_percent: Option<f64>,
    /// Milliseconds.
    pub upstream_p95_ms: Option<f64>,
    /// Milliseconds.
    pub own_p99_ms: Option<f64>,
    /// Percent.
    pub errors_percent: Option<f64>,
    /// Calls that were looked at for it.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// Calls.
    pub queued: u64,
}

/// How one of them stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VitalState {
    /// Which.
    pub vital: Vital,
    /// The figure.
    pub value: Option<f64>,
    /// How many of its levels are raised.
    pub level: usize,
    /// All of them, in the unit of the figure.
    pub levels: Vec<f64>,
    /// How often any was raised.
    pub times: u64,
}

/// The levels of all of them.
pub(super) struct Watches {
    each: Vec<Watch>,
    margin: f64,
    patience: Patience,
}

struct Watch {
    state: VitalState,
    switches: Vec<Switch>,
}

impl Vitals {
    pub(super) fn new(lately: &Lately, cpu: Option<f64>, memory: Option<f64>, queued: u64) -> Self {
        let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
        let totals = &lately.totals;
        // What was refused unsent is among the errors, not among the calls.
        let calls = totals.calls.max(totals.errors);
        Self {
            cpu_percent: cpu.map(|share| 100.0 * share),
            memory_percent: memory.map(|share| 100.0 * share),
            upstream_p95_ms: Lately::p95(&totals.took).map(millis),
            own_p99_ms: Lately::p99(&totals.answered).map(millis),
            errors_percent: (calls > 0).then(|| 100.0 * totals.errors as f64 / calls as f64),
            calls,
            failed: totals.errors,
            queued,
        }
    }

    pub(super) fn of(&self, vital: Vital) -> Option<f64> {
        match vital {
            Vital::Cpu => self.cpu_percent,
            Vital::Memory => self.memory_percent,
            Vital::UpstreamP95 => self.upstream_p95_ms,
            Vital::OwnP99 => self.own_p99_ms,
            Vital::Errors => self.errors_percent,
            Vital::Queue => Some(self.queued as f64),
        }
    }

    /// Whether the figure is over this limit. Failed calls are only judged against a limit that one failure alone does not
    /// break, or where they are several.
    pub(super) fn is_over(&self, vital: Vital, limit: f64) -> bool {
        let says_something = self.failed >= FAILURES_MIN || self.calls as f64 * limit >= 100.0;
        let is_judged = vital != Vital::Errors || says_something;
        is_judged && self.of(vital).is_some_and(|value| value > limit)
    }
}

impl Watches {
    pub(super) fn new(config: &AlarmsConfig) -> Self {
        let watch = |vital, levels: &[u64], unit: f64| {
            let levels = levels.iter().map(|&level| level as f64 * unit).collect::<Vec<_>>();
            let switches = vec![Switch::default(); levels.len()];
            Watch { state: VitalState { vital, value: None, level: 0, levels, times: 0 }, switches }
        };
        let second = Duration::from_secs(1);
        Self {
            each: vec![
                watch(Vital::Cpu, &config.cpu_percent, 1.0),
                watch(Vital::Memory, &config.memory_percent, 1.0),
                watch(Vital::UpstreamP95, &config.upstream_p95_ms, 1.0),
                watch(Vital::OwnP99, &config.own_p99_ms, 1.0),
                watch(Vital::Errors, &config.errors_per_mille, 0.1),
                watch(Vital::Queue, &config.queued, 1.0),
            ],
            margin: 1.0 - config.clear_margin_percent.min(100) as f64 / 100.0,
            // One second over a level raises nothing: the next reading must agree.
            patience: Patience { on_after: second, off_after: Duration::from_secs(config.calm_s) },
        }
    }

    pub(super) fn look(&mut self, now: Duration, vitals: &Vitals) {
        for Watch { state, switches } in &mut self.each {
            state.value = vitals.of(state.vital);
            for (switch, &limit) in switches.iter_mut().zip(&state.levels) {
                let is_over = vitals.is_over(state.vital, limit);
                let is_good = !vitals.is_over(state.vital, limit * self.margin);
                switch.look(now, is_over, is_good, self.patience);
            }
            let level = switches.iter().rposition(|switch| switch.is_on()).map_or(0, |at| at + 1);
            state.times += u64::from(level > state.level);
            state.level = level;
        }
    }

    pub(super) fn states(&self) -> impl Iterator<Item = &VitalState> {
        self.each.iter().map(|watch| &watch.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The levels of one figure after each second.
    fn levels(vital: Vital, each: impl IntoIterator<Item = Vitals>) -> Vec<usize> {
        let mut watches = Watches::new(&AlarmsConfig { calm_s: 5, ..AlarmsConfig::default() });
        let mut seen = Vec::new();
        for (second, vitals) in each.into_iter().enumerate() {
            watches.look(Duration::from_secs(second as u64), &vitals);
            seen.extend(watches.states().find(|state| state.vital == vital).map(|state| state.level));
        }
        seen
    }

    #[test]
    fn each_level_is_raised_over_it_and_cleared_well_below() {
        let cpu = |percent: f64| Vitals { cpu_percent: Some(percent), ..Vitals::default() };
        // One reading over is not enough; 70 itself is not over; 64 is not a tenth below 70, 63 is.
        let seen = levels(Vital::Cpu, [70.0, 71.0, 70.0, 71.0, 71.0, 81.0, 81.0, 64.0, 64.0].map(cpu));
        assert_eq!(seen, [0, 0, 0, 0, 1, 1, 2, 2, 2]);
        let cleared = levels(Vital::Cpu, [90.0; 2].into_iter().chain([71.0; 6]).chain([63.0; 6]).map(cpu));
        assert_eq!((cleared[1], cleared[6], cleared[7], cleared[12], cleared[13]), (2, 2, 1, 1, 0));
    }

    #[test]
    fn every_figure_has_the_levels_of_the_plans() {
        let bad = Vitals {
            cpu_percent: Some(100.0),
            memory_percent: Some(100.0),
            upstream_p95_ms: Some(5_000.0),
            own_p99_ms: Some(51.0),
            errors_percent: Some(6.0),
            calls: 100_000,
            failed: 6_000,
            queued: 1_001,
        };
        for (vital, most) in [
            (Vital::Cpu, 2),
            (Vital::Memory, 1),
            (Vital::UpstreamP95, 2),
            (Vital::OwnP99, 1),
            (Vital::Errors, 3),
            (Vital::Queue, 2),
        ] {
            let there_and_back = [bad; 2].into_iter().chain([Vitals::default(); 6]);
            assert_eq!(levels(vital, there_and_back), [0, most, most, most, most, most, most, 0], "{vital:?}");
        }
    }

    #[test]
    fn one_failure_of_few_calls_is_judged_by_no_level_that_it_would_break_alone() {
        let errors = |errors: u64, calls: u64| Vitals {
            errors_percent: Some(100.0 * errors as f64 / calls as f64),
            calls,
            failed: errors,
            ..Vitals::default()
        };
        // A tenth of a percent of 999 is less than one; of 1,000 it is one.
        for (vitals, level) in [(errors(2, 999), 0), (errors(2, 1_000), 1), (errors(2, 100), 2), (errors(2, 20), 3)] {
            assert_eq!(levels(Vital::Errors, [vitals; 2])[1], level, "{vitals:?}");
        }
        assert_eq!(levels(Vital::Errors, [errors(4, 4); 2])[1], 0);
        assert_eq!(levels(Vital::Errors, [errors(5, 5); 2])[1], 3);
    }
}
