//! The levels at which a vital figure is an alarm, and which of them are raised.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::vitals::{Vital, Vitals, millis};
use super::zone::{Patience, Switch};
use crate::meter::Named;

/// The knobs of the alarms, `[alarms]`. Each list is of levels, the least bad first; an empty one is no alarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlarmsConfig {
    /// Processor time, in percent of what is allowed.
    pub cpu_percent: Vec<u64>,
    /// Memory, in percent of what is allowed.
    pub memory_percent: Vec<u64>,
    /// What 95 of 100 calls at an upstream took at most, in milliseconds; of each upstream for itself.
    pub upstream_p95_ms: Vec<u64>,
    /// What 99 of 100 messages took here at most, in milliseconds.
    pub own_p99_ms: Vec<u64>,
    /// Calls to upstreams that failed, of 1,000.
    pub errors_per_mille: Vec<u64>,
    /// Calls that wait for a place at an upstream, over all of them.
    pub queued: Vec<u64>,
    /// Below so many of the lists and of the reads that may share an answer (`resources/read`, tools that are read-only and
    /// idempotent), those that cost no call of their own, in percent; judged from 1,000 of them within the window on. Answers are not
    /// cached yet: reads that are all different share none, and where that is as it should be, `[]` is no alarm of them.
    pub cache_hits_percent: Vec<u64>,
    /// How far on the good side of its level a figure must be to clear it, in percent of the level.
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
            cache_hits_percent: vec![70],
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

/// How one of them stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VitalState {
    /// Which.
    pub vital: Vital,
    /// At which upstream, where each has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Arc<str>>,
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
    /// In the order of the vitals, those of upstreams as they are read.
    each: Vec<Watch>,
    config: AlarmsConfig,
}

struct Watch {
    state: VitalState,
    switches: Vec<Switch>,
}

impl AlarmsConfig {
    /// The levels of one figure, and what they are counted in, in the unit of the figure.
    fn levels(&self, of: Vital) -> (&[u64], f64) {
        match of {
            Vital::Cpu => (&self.cpu_percent, 1.0),
            Vital::Memory => (&self.memory_percent, 1.0),
            Vital::UpstreamP95 => (&self.upstream_p95_ms, 1.0),
            Vital::OwnP99 => (&self.own_p99_ms, 1.0),
            Vital::Errors => (&self.errors_per_mille, 0.1),
            Vital::Queue => (&self.queued, 1.0),
            Vital::CacheHits => (&self.cache_hits_percent, 1.0),
        }
    }
}

impl VitalState {
    /// The figure, and its upstream behind it.
    pub(super) fn name(&self) -> String {
        match &self.upstream {
            Some(upstream) => format!("{} of {upstream}", self.vital.name()),
            None => self.vital.name().to_owned(),
        }
    }
}

impl Watches {
    pub(super) fn new(config: &AlarmsConfig) -> Self {
        let once = Vital::ALL.iter().filter(|vital| **vital != Vital::UpstreamP95);
        Self { each: once.map(|&vital| Watch::new(vital, None, config)).collect(), config: config.clone() }
    }

    /// Other levels are in force. What is raised stays so as far as there is such a level, and as it is over it.
    pub(super) fn follow(&mut self, config: &AlarmsConfig) {
        self.config = config.clone();
        self.each.iter_mut().for_each(|watch| watch.follow(config));
    }

    /// Looks at the figures of `now`, and at what 95 of 100 calls took at each upstream. Upstreams that are gone are
    /// forgotten.
    pub(super) fn look(&mut self, now: Duration, vitals: &Vitals, p95s: &[(Arc<str>, Option<Duration>)]) {
        let is_there = |upstream: &Arc<str>| p95s.iter().any(|(name, _)| name == upstream);
        self.each.retain(|watch| watch.state.upstream.as_ref().is_none_or(is_there));
        for (upstream, _) in p95s {
            if !self.each.iter().any(|watch| watch.state.upstream.as_ref() == Some(upstream)) {
                let at = self.each.partition_point(|watch| watch.state.vital <= Vital::UpstreamP95);
                self.each.insert(at, Watch::new(Vital::UpstreamP95, Some(Arc::clone(upstream)), &self.config));
            }
        }
        let margin = self.config.clear_margin_percent.min(100) as f64 / 100.0;
        // One second over a level raises nothing: the next reading must agree.
        let (on_after, off_after) = (Duration::from_secs(1), Duration::from_secs(self.config.calm_s));
        for watch in &mut self.each {
            let p95 =
                p95s.iter().find(|(name, _)| watch.state.upstream.as_ref() == Some(name)).and_then(|(_, p95)| *p95);
            watch.look(now, vitals, p95, margin, Patience { on_after, off_after });
        }
    }

    pub(super) fn states(&self) -> impl Iterator<Item = &VitalState> {
        self.each.iter().map(|watch| &watch.state)
    }
}

impl Watch {
    fn new(vital: Vital, upstream: Option<Arc<str>>, config: &AlarmsConfig) -> Self {
        let state = VitalState { vital, upstream, value: None, level: 0, levels: Vec::new(), times: 0 };
        let mut watch = Self { state, switches: Vec::new() };
        watch.follow(config);
        watch
    }

    fn follow(&mut self, config: &AlarmsConfig) {
        let (levels, unit) = config.levels(self.state.vital);
        self.state.levels = levels.iter().map(|&level| level as f64 * unit).collect();
        self.switches.resize(levels.len(), Switch::default());
    }

    fn look(&mut self, now: Duration, vitals: &Vitals, p95: Option<Duration>, margin: f64, patience: Patience) {
        let Self { state, switches } = self;
        let few_are_bad = state.vital == Vital::CacheHits;
        state.value = if state.upstream.is_some() { p95.map(millis) } else { vitals.of(state.vital) };
        let is_bad = |limit: f64| match state.value {
            Some(value) if few_are_bad => value < limit,
            Some(value) if state.upstream.is_some() => value > limit,
            Some(_) => vitals.is_over(state.vital, limit),
            None => false,
        };
        for (switch, &limit) in switches.iter_mut().zip(&state.levels) {
            let good = if few_are_bad { (limit * (1.0 + margin)).min(100.0) } else { limit * (1.0 - margin) };
            switch.look(now, is_bad(limit), !is_bad(good), patience);
        }
        let level = switches.iter().rposition(|switch| switch.is_on()).map_or(0, |at| at + 1);
        state.times += u64::from(level > state.level);
        state.level = level;
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
            let p95s = [(Arc::from("slow"), vitals.upstream_p95_ms.map(|ms| Duration::from_secs_f64(ms / 1_000.0)))];
            watches.look(Duration::from_secs(second as u64), &vitals, &p95s);
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
            cache_hits_percent: Some(69.9),
            cache_requests: 1_000,
        };
        for (vital, most) in [
            (Vital::Cpu, 2),
            (Vital::Memory, 1),
            (Vital::UpstreamP95, 2),
            (Vital::OwnP99, 1),
            (Vital::Errors, 3),
            (Vital::Queue, 2),
            (Vital::CacheHits, 1),
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

    #[test]
    fn each_upstream_is_judged_for_itself_and_forgotten_when_it_is_gone() {
        let mut watches = Watches::new(&AlarmsConfig::default());
        let names: [Arc<str>; 2] = ["slow".into(), "quick".into()];
        let mut look = |second, millis: &[u64]| {
            let each = names.iter().zip(millis);
            let p95s: Vec<_> = each.map(|(name, &ms)| (Arc::clone(name), Some(Duration::from_millis(ms)))).collect();
            watches.look(Duration::from_secs(second), &Vitals::default(), &p95s);
            let of_upstreams = watches.states().filter(|state| state.upstream.is_some());
            of_upstreams.map(|state| (state.name(), state.level)).collect::<Vec<_>>()
        };
        let both =
            |slow, quick| vec![("upstream_p95 of slow".to_owned(), slow), ("upstream_p95 of quick".to_owned(), quick)];
        assert_eq!(look(1, &[501, 500]), both(0, 0));
        assert_eq!(look(2, &[1_001, 500]), both(1, 0));
        assert_eq!(look(3, &[1_001, 500]), both(2, 0));
        assert_eq!(look(4, &[501]), both(2, 0)[..1]);
        assert_eq!(look(5, &[501, 501]), both(2, 0), "one that comes back begins anew");
    }

    #[test]
    fn hits_are_judged_from_many_requests_on_and_cleared_well_above() {
        let hits = |lists, reads, joined| {
            let totals = super::super::Totals { lists, reads, joined, ..Default::default() };
            let lately = super::super::window::Lately { time: Duration::from_secs(10), totals };
            Vitals::new(&lately, None, None, 0, None)
        };
        let none = [hits(0, 0, 0), hits(0, 999, 0), hits(1_000, 0, 0), hits(0, 1_000, 700), hits(699, 301, 1)];
        for vitals in none {
            assert_eq!(levels(Vital::CacheHits, [vitals; 3]), [0; 3], "{vitals:?}");
        }
        let bad = hits(400, 600, 299);
        assert_eq!((bad.cache_hits_percent, bad.cache_requests), (Some(69.9), 1_000));
        // 77 clears, 76 does not; a single bad reading raises nothing, and silence is as good as well.
        let [near, well, quiet] = [hits(0, 1_000, 769), hits(0, 1_000, 770), hits(0, 10, 0)];
        let seen = levels(Vital::CacheHits, [bad, near, bad, bad].into_iter().chain([near; 7]).chain([well; 6]));
        assert_eq!((seen[2], seen[3], seen[10], seen[15], seen[16]), (0, 1, 1, 1, 0));
        assert_eq!(levels(Vital::CacheHits, [bad; 2].into_iter().chain([quiet; 6])).last(), Some(&0));
    }

    #[test]
    fn other_levels_are_judged_at_the_next_look() {
        let mut watches = Watches::new(&AlarmsConfig::default());
        let vitals = Vitals { cpu_percent: Some(75.0), ..Vitals::default() };
        let mut level = |config: Option<AlarmsConfig>, seconds: std::ops::Range<u64>| {
            config.iter().for_each(|config| watches.follow(config));
            seconds.for_each(|second| watches.look(Duration::from_secs(second), &vitals, &[]));
            watches.states().next().map(|state| (state.level, state.times))
        };
        assert_eq!(level(None, 0..2), Some((1, 1)));
        let lower = AlarmsConfig { cpu_percent: vec![50, 60, 70], calm_s: 5, ..AlarmsConfig::default() };
        assert_eq!(level(Some(lower.clone()), 2..4), Some((3, 2)));
        assert_eq!(
            level(Some(AlarmsConfig { cpu_percent: vec![90], ..lower.clone() }), 4..9),
            Some((1, 2)),
            "calm first"
        );
        assert_eq!(level(None, 9..11), Some((0, 2)));
        assert_eq!(level(Some(AlarmsConfig { cpu_percent: vec![], ..lower }), 11..12), Some((0, 2)));
    }
}
