//! Whether more gateways should run beside this one, or fewer: out if any reason says so, in if all do, with hysteresis.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::vitals::{Vital, Vitals};
use super::zone::{Patience, Switch};

/// The knobs of the advice, `[capacity.advice]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdviceConfig {
    /// Out: over so much of the processor time allowed, in percent.
    pub out_cpu_percent: u64,
    /// Out: over so much of the memory allowed, in percent.
    pub out_memory_percent: u64,
    /// Out: 99 of 100 messages took longer here, in milliseconds.
    pub out_p99_ms: u64,
    /// Out: more calls to upstreams failed, of 1,000.
    pub out_errors_per_mille: u64,
    /// Out: more calls wait for places at upstreams.
    pub out_queued: u64,
    /// Out: over so much of any of the house's own limits (seats, sessions, calls, watches, buffers, descriptors), in
    /// percent.
    pub out_full_percent: u64,
    /// In: under so much of the processor time, in percent.
    pub in_cpu_percent: u64,
    /// In: under so much of the memory, in percent.
    pub in_memory_percent: u64,
    /// In: 99 of 100 messages took less here, in milliseconds.
    pub in_p99_ms: u64,
    /// In: under so much of each of the house's own limits, in percent: those who are here must have a seat elsewhere.
    pub in_full_percent: u64,
    /// For how long there must be a reason to go out, in seconds; and for how long none, until that is taken back.
    pub out_after_s: u64,
    /// For how long all must say in, in seconds.
    pub in_after_s: u64,
    /// The most that the ratio asks for at once, in percent of the replicas that run.
    pub ratio_percent_max: u64,
}

impl Default for AdviceConfig {
    fn default() -> Self {
        Self {
            // Those of the published plans.
            out_cpu_percent: 70,
            out_memory_percent: 80,
            out_p99_ms: 50,
            out_errors_per_mille: 1,
            out_queued: 1_000,
            in_cpu_percent: 20,
            in_memory_percent: 30,
            in_p99_ms: 10,
            // Before the last seat is taken, and so that two that are joined hold everybody twice.
            out_full_percent: 85,
            in_full_percent: 25,
            // Longer than a burst; the second is what Kubernetes itself waits before it takes a replica away.
            out_after_s: 15,
            in_after_s: 300,
            // Twice as many in a step, as Kubernetes itself does at most.
            ratio_percent_max: 200,
        }
    }
}

crate::named! {
    /// What to do with the number of replicas.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Scale {
        /// Fewer would do.
        In = "in",
        /// As many as there are.
        #[default]
        Stay = "stay",
        /// More are needed.
        Out = "out",
    }
}

impl Scale {
    /// -1, 0 or 1.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::In => -1,
            Self::Stay => 0,
            Self::Out => 1,
        }
    }
}

/// What is advised, and why.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Advice {
    /// What to do.
    pub scale: Scale,
    /// The replicas that this one finds right, for each that runs: 1.0 while it advises to stay. An autoscaler multiplies
    /// its number by the mean of all.
    pub replicas_ratio: f64,
    /// What asks for more now, whether it has for long enough or not.
    pub reasons_out: Vec<&'static str>,
    /// What is in the way of fewer now.
    pub reasons_to_stay: Vec<&'static str>,
}

/// Remembers for how long which advice would have been right.
pub(super) struct Advisor {
    config: AdviceConfig,
    out: Switch,
    fewer: Switch,
    advice: Advice,
}

/// One thing that is looked at: its name, how much of the limit for "out" it is, whether that is passed, and whether it
/// would let a replica go.
struct Reason {
    name: &'static str,
    load: f64,
    is_out: bool,
    is_in: bool,
}

impl Advisor {
    pub(super) fn new(config: AdviceConfig) -> Self {
        let advice = Advice { replicas_ratio: 1.0, ..Advice::default() };
        Self { config, out: Switch::default(), fewer: Switch::default(), advice }
    }

    /// Other knobs are in force from the next look on.
    pub(super) fn follow(&mut self, config: AdviceConfig) {
        self.config = config;
    }

    /// `full_percent` is the fullest of the house's own limits.
    pub(super) fn look(&mut self, now: Duration, vitals: &Vitals, full_percent: f64) {
        let reasons = self.reasons(vitals, full_percent);
        let is_out = reasons.iter().any(|reason| reason.is_out);
        let is_in = reasons.iter().all(|reason| reason.is_in);
        let [out_after, in_after] = [self.config.out_after_s, self.config.in_after_s].map(Duration::from_secs);
        let out = self.out.look(now, is_out, !is_out, Patience { on_after: out_after, off_after: out_after });
        let fewer = self.fewer.look(now, is_in, !is_in, Patience { on_after: in_after, off_after: Duration::ZERO });
        let scale = match (out, fewer) {
            (true, _) => Scale::Out,
            (false, true) => Scale::In,
            (false, false) => Scale::Stay,
        };
        let load = reasons.iter().map(|reason| reason.load).fold(0.0, f64::max);
        let most = self.config.ratio_percent_max.max(100) as f64 / 100.0;
        let replicas_ratio = match scale {
            // At least what moves an autoscaler, which lets a tenth pass: a latency does not say how many more.
            Scale::Out => load.clamp(OUT_LEAST.min(most), most),
            Scale::Stay => 1.0,
            // Half as many at most in a step: what one has to say of those who come to it is not known before.
            Scale::In => load.clamp(0.5, IN_MOST),
        };
        let named = |keep: fn(&Reason) -> bool| reasons.iter().filter(|it| keep(it)).map(|it| it.name).collect();
        self.advice = Advice {
            scale,
            replicas_ratio,
            reasons_out: named(|reason| reason.is_out),
            reasons_to_stay: named(|reason| !reason.is_in),
        };
    }

    pub(super) const fn advice(&self) -> &Advice {
        &self.advice
    }

    fn reasons(&self, vitals: &Vitals, full_percent: f64) -> Vec<Reason> {
        let config = &self.config;
        let part = |value: Option<f64>, of: u64| value.unwrap_or(0.0) / (of as f64).max(1.0);
        // What nothing can be said of while nothing happens is no reason to keep a replica.
        let below = |vital, limit: u64| vitals.of(vital).is_none_or(|value| value < limit as f64);
        let of = |vital: Vital, load: f64, limit: f64, is_in: bool| Reason {
            name: crate::meter::Named::name(vital),
            load,
            is_out: vitals.is_over(vital, limit),
            is_in,
        };
        let errors = config.out_errors_per_mille as f64 / 10.0;
        let fails = vitals.is_over(Vital::Errors, errors);
        let queue = part(Some(vitals.queued as f64), config.out_queued);
        vec![
            of(
                Vital::Cpu,
                part(vitals.cpu_percent, config.out_cpu_percent),
                config.out_cpu_percent as f64,
                below(Vital::Cpu, config.in_cpu_percent),
            ),
            of(
                Vital::Memory,
                part(vitals.memory_percent, config.out_memory_percent),
                config.out_memory_percent as f64,
                below(Vital::Memory, config.in_memory_percent),
            ),
            of(Vital::OwnP99, 0.0, config.out_p99_ms as f64, below(Vital::OwnP99, config.in_p99_ms)),
            // Others that fail beside it are no help; but then it is no time to take one away.
            of(Vital::Errors, 0.0, errors, !fails),
            of(Vital::Queue, queue, config.out_queued as f64, queue < 0.1),
            Reason {
                name: "full",
                load: part(Some(full_percent), config.out_full_percent),
                is_out: full_percent > config.out_full_percent as f64,
                is_in: full_percent < config.in_full_percent as f64,
            },
        ]
    }
}

/// Kubernetes changes nothing while the ratio is within a tenth of 1.
const OUT_LEAST: f64 = 1.25;
const IN_MOST: f64 = 0.85;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn idle() -> Vitals {
        Vitals { cpu_percent: Some(1.0), memory_percent: Some(2.0), own_p99_ms: Some(0.1), ..Vitals::default() }
    }

    fn middling() -> Vitals {
        Vitals { cpu_percent: Some(45.0), ..idle() }
    }

    /// The advice after so many seconds of the same.
    fn after(advisor: &mut Advisor, from: &mut u64, seconds: u64, vitals: Vitals, full: f64) -> Advice {
        for _ in 0..seconds {
            *from += 1;
            advisor.look(Duration::from_secs(*from), &vitals, full);
        }
        advisor.advice().clone()
    }

    #[test]
    fn any_reason_is_enough_to_go_out_and_each_is_named() {
        for (name, vitals, full) in [
            ("cpu", Vitals { cpu_percent: Some(71.0), ..idle() }, 0.0),
            ("memory", Vitals { memory_percent: Some(81.0), ..idle() }, 0.0),
            ("own_p99", Vitals { own_p99_ms: Some(51.0), ..idle() }, 0.0),
            ("errors", Vitals { errors_percent: Some(0.11), calls: 1_000, ..idle() }, 0.0),
            ("queue", Vitals { queued: 1_001, ..idle() }, 0.0),
            ("full", idle(), 86.0),
        ] {
            let (mut advisor, mut now) = (Advisor::new(AdviceConfig::default()), 0);
            assert_eq!(after(&mut advisor, &mut now, 15, vitals, full).scale, Scale::Stay, "{name}: a burst");
            let advice = after(&mut advisor, &mut now, 1, vitals, full);
            assert_eq!((advice.scale, advice.reasons_out), (Scale::Out, vec![name]));
            assert!(advice.replicas_ratio > 1.1, "{name}: {}", advice.replicas_ratio);
            assert_eq!(after(&mut advisor, &mut now, 16, middling(), 50.0).scale, Scale::Stay, "{name} is over");
        }
    }

    #[test]
    fn in_needs_all_for_five_minutes_and_one_second_of_load_begins_anew() {
        let (mut advisor, mut now) = (Advisor::new(AdviceConfig::default()), 0);
        assert_eq!(after(&mut advisor, &mut now, 300, idle(), 0.0).scale, Scale::Stay);
        let advice = after(&mut advisor, &mut now, 1, idle(), 0.0);
        assert_eq!((advice.scale, advice.replicas_ratio), (Scale::In, 0.5));
        assert_eq!(after(&mut advisor, &mut now, 1, middling(), 0.0).scale, Scale::Stay);
        assert_eq!(after(&mut advisor, &mut now, 300, idle(), 0.0).scale, Scale::Stay);
        assert_eq!(after(&mut advisor, &mut now, 1, idle(), 0.0).scale, Scale::In);
        for (stays, full) in [
            (Vitals { cpu_percent: Some(20.0), ..idle() }, 0.0),
            (Vitals { memory_percent: Some(30.0), ..idle() }, 0.0),
            (Vitals { own_p99_ms: Some(10.0), ..idle() }, 0.0),
            (Vitals { queued: 100, ..idle() }, 0.0),
            // A house of quiet clients: nothing is busy, and nobody else could take them in.
            (idle(), 25.0),
        ] {
            let (mut advisor, mut now) = (Advisor::new(AdviceConfig::default()), 0);
            let advice = after(&mut advisor, &mut now, 400, stays, full);
            assert_eq!((advice.scale, advice.reasons_to_stay.len()), (Scale::Stay, 1), "{stays:?}");
        }
    }

    #[test]
    fn the_ratio_follows_the_load_within_bounds() {
        let ratio = |cpu: f64| {
            let (mut advisor, mut now) = (Advisor::new(AdviceConfig::default()), 0);
            let vitals = Vitals { cpu_percent: Some(cpu), ..idle() };
            after(&mut advisor, &mut now, 400, vitals, 0.0).replicas_ratio
        };
        assert_eq!((ratio(70.0), ratio(71.0), ratio(105.0), ratio(700.0)), (1.0, 1.25, 1.5, 2.0));
        assert_eq!((ratio(19.0), ratio(20.0)), (0.5, 1.0));
    }

    proptest! {
        /// Whatever is read, advice to go out and to go in never follow one another within the time that in needs.
        #[test]
        fn out_and_in_do_not_flutter(loads in prop::collection::vec((0.0..100.0_f64, 1..400_u64), 1..12)) {
            let (mut advisor, mut now) = (Advisor::new(AdviceConfig::default()), 0);
            let mut last_out = None;
            for (cpu, seconds) in loads {
                for _ in 0..seconds {
                    let vitals = Vitals { cpu_percent: Some(cpu), ..idle() };
                    match after(&mut advisor, &mut now, 1, vitals, 0.0).scale {
                        Scale::Out => last_out = Some(now),
                        Scale::In => prop_assert!(last_out.is_none_or(|out| now - out >= 285), "{last_out:?} {now}"),
                        Scale::Stay => {}
                    }
                }
            }
        }
    }
}
