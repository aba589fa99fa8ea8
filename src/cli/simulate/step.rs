//! What is measured at each step, and the judgement over all of them.

use serde::{Deserialize, Serialize};

use super::heap::Heap;
use super::order::Deaths;
use super::profile::Performance;

/// The figures of one step of one wave. Memory is in bytes, time in seconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Step {
    /// From 1; 0 for the idle gateway before anyone came.
    pub wave: u32,
    /// Clients that should be there.
    pub connections: u32,
    /// Clients that are: handshaken, echo checked, ping answered.
    pub live: u64,
    /// Clients that died in this wave so far.
    pub dead: u64,
    /// The gateway's whole resident memory, the larger of before and after the pings.
    pub rss: Option<u64>,
    /// Kernel memory per connection for one end: what the slabs grew by since the idle gateway, halved where both ends are
    /// on this machine. Other work on the machine is in it.
    pub kernel_per_connection: Option<f64>,
    /// Clients per second that came in this step, each with its handshake and its tool call.
    pub connect_rate: Option<f64>,
    /// Pings answered a second while every client pings, in turns, 256 at once.
    pub ping_rate: Option<f64>,
    pub ping_p50: Option<f64>,
    pub ping_p99: Option<f64>,
    pub ping_max: Option<f64>,
}

impl Step {
    /// The gateway's whole resident memory over its connections: the honest figure, and harsh to small numbers.
    pub fn bytes_all_in(&self) -> Option<f64> {
        (self.connections > 0).then_some(self.rss? as f64 / f64::from(self.connections))
    }

    /// What each further connection cost since `earlier`.
    pub fn slope_since(&self, earlier: &Self) -> Option<f64> {
        let more = self.connections.checked_sub(earlier.connections).filter(|more| *more > 0)?;
        Some((self.rss? as f64 - earlier.rss? as f64) / f64::from(more))
    }
}

impl Step {
    /// What is not as it must be at any step, whatever the budget.
    fn lacks(&self, memory_seen: bool) -> Vec<String> {
        let lacks = [
            (self.live != u64::from(self.connections), format!("only {} are there", self.live)),
            (memory_seen && self.rss.is_none(), "the gateway's memory could not be read".into()),
            (self.ping_max.is_none() && self.wave > 0, "no ping was measured".into()),
        ];
        let named = |what: String| format!("wave {}, {} clients: {what}", self.wave, self.connections);
        lacks.into_iter().filter(|(lacks, _)| *lacks).map(|(_, what)| named(what)).collect()
    }
}

/// What a run must show. `None`: not judged.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Budget {
    /// The gateway's whole resident memory at any step, in bytes.
    pub rss_max: Option<u64>,
    /// Bytes per further connection between the first step of at least 10,000 and the last.
    pub slope_max: Option<f64>,
    /// Clients per second over all steps of the first wave.
    pub rate_min: Option<f64>,
    /// Seconds from a change behind the gateway until the last client has been told of it.
    pub fanout_max: Option<f64>,
    /// How much the peak of a later wave may lie above that of the first, in percent.
    pub wave_growth_max: Option<f64>,
}

/// How a change behind the gateway spread to all clients. Times are in seconds since the change was made.
#[derive(Debug, Clone, Serialize)]
pub struct Fanout {
    /// Clients that were there.
    pub clients: u64,
    /// Those of them that were told.
    pub told: u64,
    pub first: f64,
    pub p50: f64,
    pub p99: f64,
    pub last: f64,
}

/// A whole run: figures, the dead, and what was missed.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub steps: Vec<Step>,
    pub deaths: Deaths,
    /// Bytes per further connection from the first step of at least 10,000 (else the first step) to the last.
    pub slope: Option<f64>,
    /// Clients per second over all steps of the first wave.
    pub connect_rate: Option<f64>,
    /// The peak of the last wave over that of the first, in percent; only with several waves.
    pub wave_growth: Option<f64>,
    /// How one change reached all clients; only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fanout: Option<Fanout>,
    /// What a profile has shown; there are no steps then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Performance>,
    /// Everything that was promised and not shown, in words. Empty: the run has passed.
    pub missed: Vec<String>,
    /// Where the gateway's heap bytes were allocated; only from a build with `dhat-heap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heap: Option<Heap>,
    /// Where the results were written.
    pub results: Option<std::path::PathBuf>,
}

impl Outcome {
    /// Judges `steps`. `wanted` are the waves' steps that should have been taken; `seconds` the connect time of wave 1.
    pub(super) fn judge(
        steps: Vec<Step>,
        deaths: Deaths,
        wanted: usize,
        seconds: f64,
        memory_seen: bool,
        budget: &Budget,
    ) -> Self {
        let (from, largest) = slope_ends(&steps).unzip();
        let slope = largest.zip(from).and_then(|(last, from)| last.slope_since(from));
        let connect_rate = largest.filter(|_| seconds > 0.0).map(|last| last.live as f64 / seconds);
        let peak = |wave| steps.iter().filter(|step| step.wave == wave).filter_map(|step| step.rss).max();
        let last_wave = steps.last().map_or(0, |step| step.wave);
        let wave_growth = (last_wave > 1)
            .then(|| peak(1).zip(peak(last_wave)))
            .flatten()
            .map(|(first, last)| (last as f64 / first as f64 - 1.0) * 100.0);
        let mut missed: Vec<String> = steps.iter().flat_map(|step| step.lacks(memory_seen)).collect();
        if deaths.count() > 0 {
            missed.push(format!("{} clients are dead: {deaths}", deaths.count()));
        }
        let taken = steps.iter().filter(|step| step.wave > 0).count();
        if taken < wanted {
            missed.push(format!("only {taken} of {wanted} steps were taken"));
        }
        let rss = steps.iter().filter_map(|step| step.rss).max().map(mib);
        let over = |what: &str, value: Option<f64>, max: Option<f64>| {
            let (value, max) = value.zip(max).filter(|(value, max)| value > max)?;
            Some(format!("{value:.1} {what}, at most {max:.1} may be"))
        };
        missed.extend(over("MiB of resident memory", rss, budget.rss_max.map(mib)));
        missed.extend(over("bytes per further connection", slope, budget.slope_max));
        missed.extend(over("percent more memory in the last wave", wave_growth, budget.wave_growth_max));
        let slow = connect_rate.zip(budget.rate_min).filter(|(rate, min)| rate < min);
        missed.extend(slow.map(|(rate, min)| format!("{rate:.0} clients a second came, at least {min:.0} must")));
        Self { steps, slope, connect_rate, wave_growth, ..Self::without_steps(deaths, missed) }
    }

    /// The outcome of a profile, which has judged itself.
    pub(super) fn of_profile(performance: Performance, deaths: Deaths, missed: Vec<String>) -> Self {
        Self { profile: Some(performance), ..Self::without_steps(deaths, missed) }
    }

    fn without_steps(deaths: Deaths, missed: Vec<String>) -> Self {
        Self {
            steps: Vec::new(),
            deaths,
            slope: None,
            connect_rate: None,
            wave_growth: None,
            fanout: None,
            profile: None,
            missed,
            heap: None,
            results: None,
        }
    }

    /// Judges how a change reached the clients; `None`: not one was told.
    pub(super) fn judge_fanout(&mut self, fanout: Option<Fanout>, budget: &Budget) {
        self.missed.extend(match &fanout {
            None => Some("no client was told of the change".to_owned()),
            Some(fanout) if fanout.told < fanout.clients => {
                Some(format!("only {} of {} clients were told of the change", fanout.told, fanout.clients))
            }
            Some(fanout) => budget.fanout_max.filter(|max| fanout.last > *max).map(|max| {
                format!("the last client was told of the change after {:.3} s, at most {max:.3} may be", fanout.last)
            }),
        });
        self.fanout = fanout;
    }

    /// The numbers of connections that [`slope`](Self::slope) lies between.
    pub fn slope_between(&self) -> Option<(u32, u32)> {
        slope_ends(&self.steps).map(|(from, to)| (from.connections, to.connections))
    }

    /// Whether every client was there, answered, and the budget was kept.
    pub fn passed(&self) -> bool {
        self.missed.is_empty()
    }

    /// The step of the first wave with this many clients.
    pub fn at(&self, connections: u32) -> Option<&Step> {
        self.steps.iter().find(|step| step.wave == 1 && step.connections == connections)
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The first step of the first wave with at least 10,000 connections (else its first), and its last.
fn slope_ends(steps: &[Step]) -> Option<(&Step, &Step)> {
    let first = || steps.iter().filter(|step| step.wave == 1);
    let from = first().find(|step| step.connections >= 10_000).or_else(|| first().next());
    from.zip(first().next_back())
}

#[cfg(test)]
mod tests {
    use super::super::order::{Cause, Death};
    use super::*;

    fn step(wave: u32, connections: u32, rss: u64) -> Step {
        Step {
            wave,
            connections,
            live: u64::from(connections),
            rss: Some(rss),
            ping_max: Some(0.01),
            ..Step::default()
        }
    }

    fn judged(steps: Vec<Step>, budget: Budget) -> Outcome {
        let wanted = steps.iter().filter(|step| step.wave > 0).count();
        Outcome::judge(steps, Deaths::default(), wanted, 10.0, true, &budget)
    }

    #[test]
    fn slope_rate_and_growth_come_from_the_right_steps() {
        let steps = vec![
            step(0, 0, 9_000_000),
            step(1, 1_000, 10_000_000),
            step(1, 10_000, 12_000_000),
            step(1, 100_000, 39_000_000),
            step(2, 100_000, 40_000_000),
        ];
        let outcome = judged(steps, Budget::default());
        assert!(outcome.passed(), "{:?}", outcome.missed);
        assert_eq!(outcome.slope, Some(300.0));
        assert_eq!(outcome.connect_rate, Some(10_000.0));
        assert!((outcome.wave_growth.expect("two waves") - 2.564).abs() < 0.001);
        assert_eq!(outcome.at(100_000).and_then(Step::bytes_all_in), Some(390.0));
    }

    #[test]
    fn each_promise_can_be_missed() {
        let steps = || vec![step(1, 10_000, 12_000_000), step(1, 100_000, 39_000_000), step(2, 100_000, 45_000_000)];
        let each = [
            Budget { rss_max: Some(44_000_000), ..Budget::default() },
            Budget { slope_max: Some(299.0), ..Budget::default() },
            Budget { rate_min: Some(10_001.0), ..Budget::default() },
            Budget { wave_growth_max: Some(5.0), ..Budget::default() },
        ];
        for budget in each {
            assert_eq!(judged(steps(), budget).missed.len(), 1, "{budget:?}");
        }
    }

    #[test]
    fn a_change_must_reach_all_and_in_time() {
        let fanout = |told, last| Fanout { clients: 10, told, first: 0.1, p50: 0.2, p99: 0.3, last };
        let missed = |fanout| {
            let mut outcome = judged(vec![step(1, 10, 1)], Budget::default());
            outcome.judge_fanout(fanout, &Budget { fanout_max: Some(2.0), ..Budget::default() });
            outcome.missed
        };
        assert!(missed(Some(fanout(10, 2.0))).is_empty());
        assert!(missed(Some(fanout(10, 2.1)))[0].contains("2.100 s"));
        assert!(missed(Some(fanout(9, 1.0)))[0].contains("9 of 10"));
        assert!(missed(None)[0].contains("no client"));
    }

    #[test]
    fn a_missing_client_a_death_or_a_figure_not_read_fails_the_run() {
        let mut fewer = step(1, 1_000, 1);
        fewer.live = 999;
        assert!(!judged(vec![fewer], Budget::default()).passed());
        let mut blind = step(1, 1_000, 1);
        blind.rss = None;
        assert!(!judged(vec![blind], Budget::default()).passed());
        let mut deaths = Deaths::default();
        deaths.add(Death::new(Cause::Closed, "x"));
        assert!(!Outcome::judge(vec![step(1, 1_000, 1)], deaths, 1, 1.0, true, &Budget::default()).passed());
        assert!(!Outcome::judge(vec![step(1, 1_000, 1)], Deaths::default(), 2, 1.0, true, &Budget::default()).passed());
    }
}
