//! What each profile must show, and what it has shown.

use serde::Serialize;

use super::acts::{Play, Slow};
use super::slope::Slope;
use super::{Profile, Scene};
use crate::cli::simulate::behind::SlowCounts;
use crate::cli::simulate::drive::{Refused, Waits, histogram_of, quantile};
use crate::cli::simulate::order::Deaths;
use crate::cli::simulate::{Args, heap};

/// Readings of memory are in pages.
const PAGE: f64 = 4096.0;
/// The first part of a load, in which pools fill.
const WARM_UP: f64 = 0.2;
/// A call refused later than this was taken first: it waited, and was given up.
const AT_ONCE_MICROS: u64 = 100_000;

/// A figure, and whether it is what it must be.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub what: String,
    /// In the unit that `shown` has.
    pub value: f64,
    /// The value in words.
    pub shown: String,
    /// What it must be, in words; none: it is only told.
    pub asked: Option<String>,
    /// Whether it is; none where it is not judged: speed and memory of a debug build, or of another gateway.
    pub kept: Option<bool>,
}

/// Where a figure must lie.
#[derive(Debug, Clone, Copy)]
enum Must {
    Told,
    AtMost(f64),
    AtLeast(f64),
}

/// The figures of a run in the making.
struct Verdict {
    /// Whether speed and memory are judged.
    timed: bool,
    figures: Vec<Figure>,
    missed: Vec<String>,
}

/// Judges what `scenes` have shown: the figures, and what was missed.
pub(super) fn judge(
    args: &Args,
    profile: Profile,
    play: &Play,
    scenes: &[Scene],
    deaths: &Deaths,
    served: Option<SlowCounts>,
) -> (Vec<Figure>, Vec<String>) {
    let timed = args.target.is_none() && !cfg!(debug_assertions) && !heap::PROFILED;
    let mut verdict = Verdict { timed, figures: Vec::new(), missed: Vec::new() };
    if deaths.count() > 0 {
        verdict.missed.push(format!("{} clients are lost: {deaths}", deaths.count()));
    }
    if scenes.len() < play.acts.len() {
        verdict.missed.push(format!("only {} of {} parts were played", scenes.len(), play.acts.len()));
    }
    match profile {
        Profile::Ramp => {}
        Profile::Burst => verdict.burst(play, scenes),
        Profile::Churn | Profile::Soak => verdict.turnover(play, scenes),
        Profile::Storm => verdict.storm(play, scenes),
        Profile::Overload => {
            if let Some((slow, scene)) = play.slow.zip(scenes.first()) {
                verdict.overload(slow, scene, served.unwrap_or_default(), play.tenants < 2);
                verdict.shares(slow, play, scene);
            }
        }
    }
    if profile != Profile::Overload {
        verdict.calls(scenes);
    }
    verdict.refusals(scenes);
    verdict.memory(scenes, args.rss_max);
    (verdict.figures, verdict.missed)
}

impl Verdict {
    fn note(&mut self, what: &str, value: f64, unit: &str, must: Must, judged: bool) {
        let words = |value: f64| {
            let number =
                if value.fract() == 0.0 || value.abs() >= 1e4 { format!("{value:.0}") } else { format!("{value:.2}") };
            format!("{number}{unit}")
        };
        let (asked, kept) = match must {
            Must::Told => (None, None),
            Must::AtMost(most) => (Some(format!("at most {}", words(most))), Some(value <= most)),
            Must::AtLeast(least) => (Some(format!("at least {}", words(least))), Some(value >= least)),
        };
        let kept = kept.filter(|_| judged);
        let shown = words(value);
        if kept == Some(false) {
            self.missed.push(format!("{what}: {shown}, {} it must be", asked.as_deref().unwrap_or_default()));
        }
        self.figures.push(Figure { what: what.into(), value, shown, asked, kept });
    }

    /// Judged in every build: it has nothing to do with speed.
    fn count(&mut self, what: &str, value: u64, must: Must) {
        self.note(what, value as f64, "", must, true);
    }

    fn timed(&mut self, what: &str, value: Option<f64>, unit: &str, must: Must) {
        match value {
            Some(value) => self.note(what, value, unit, must, self.timed),
            None if matches!(must, Must::Told) => {}
            None => self.missed.push(format!("{what}: nothing was measured")),
        }
    }

    fn burst(&mut self, play: &Play, scenes: &[Scene]) {
        for scene in scenes {
            let what = format!("{}: clients in at the end", scene.act.name);
            let seats = f64::from(play.seats);
            self.count(&what, scene.live, Must::AtLeast(seats));
        }
        let p99 = |scene: &Scene| quantile(&scene.drove.whole().waits, 0.99).map(|seconds| seconds * 1e3);
        for scene in scenes {
            self.timed(
                &format!("{}: response p99 of those who were in", scene.act.name),
                p99(scene),
                " ms",
                Must::Told,
            );
        }
    }

    fn turnover(&mut self, play: &Play, scenes: &[Scene]) {
        let live = scenes.last().map_or(0, |scene| scene.live);
        self.count("clients in at the end", live, Must::AtLeast(f64::from(play.clients)));
        let (mut left, mut wanted, mut handshakes) = (0, 0.0, Waits::new());
        for scene in scenes {
            left += scene.drove.whole().left;
            wanted += scene.act.drive.turnover_per_s * scene.act.drive.ms as f64 / 1e3;
            handshakes.extend(&scene.drove.handshakes);
        }
        self.note(
            "clients that left and came again",
            left as f64,
            "",
            Must::AtLeast((wanted * 0.95).floor()),
            self.timed,
        );
        self.handshakes(&handshakes);
    }

    fn storm(&mut self, play: &Play, scenes: &[Scene]) {
        let Some(scene) = scenes.first() else { return };
        let back = histogram_of(&scene.drove.back);
        let seconds = |share: f64| (!back.is_empty()).then(|| back.value_at_quantile(share) as f64 / 1e6);
        self.count("clients back", scene.live, Must::AtLeast(f64::from(play.clients)));
        self.timed("all back after", seconds(1.0), " s", Must::AtMost(20.0));
        self.timed("half back after", seconds(0.5), " s", Must::Told);
        self.timed("99 % back after", seconds(0.99), " s", Must::Told);
        self.handshakes(&scene.drove.handshakes);
    }

    fn handshakes(&mut self, waits: &Waits) {
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            let what = format!("connect to first call answered, {name}");
            self.timed(&what, quantile(waits, share).map(|seconds| seconds * 1e3), " ms", Must::Told);
        }
    }

    fn overload(&mut self, slow: Slow, scene: &Scene, served: SlowCounts, alike: bool) {
        let whole = scene.drove.whole();
        let seconds = scene.act.drive.ms as f64 / 1e3;
        let schedule = scene.drove.seconds.iter().take(seconds as usize);
        let in_time: u64 = schedule.map(|second| second.calls.in_time).sum();
        // Nothing can be answered before the first service time is over.
        let able = slow.capacity() * (seconds.floor() - slow.service.as_secs_f64()).max(0.0);
        let percent = |part: f64, whole: f64| (whole > 0.0).then_some(part / whole * 100.0);
        self.timed("goodput, of what the server can take", percent(in_time as f64, able), " %", Must::AtLeast(90.0));
        // What becomes of a greedy tenant's calls is not judged: they are taken while the others are away, and wait when they
        // come.
        let must = |must| if alike { must } else { Must::Told };
        let given_up = late(scene.drove.refusals.values());
        let taken = whole.calls.answered + whole.failed + given_up;
        let kept = percent(whole.calls.in_time as f64, taken as f64);
        self.timed("calls taken that were answered within their deadline", kept, " %", must(Must::AtLeast(99.0)));
        let refusals: Waits = scene.drove.refusals.values().flat_map(|refused| refused.waits.clone()).collect();
        let p99 = quantile(&refusals, 0.99).map(|seconds| seconds * 1e3);
        self.timed("time to refuse, p99 (client and gateway share the cores)", p99, " ms", must(Must::AtMost(5.0)));
        self.count("calls at the server at once", served.most, Must::AtMost(f64::from(slow.slots)));
        let queue = scene.samples.iter().filter_map(|sample| sample.queue?.queued).max();
        match queue {
            Some(most) => self.count("calls in the queue", most, Must::AtMost(f64::from(slow.queue_max()))),
            None => self.missed.push("the gateway does not tell how long its queue is".into()),
        }
        self.count("calls asked", whole.calls.asked, Must::Told);
        self.count("calls answered", whole.calls.answered, Must::Told);
        self.count("calls that failed", whole.failed, Must::Told);
        let late = quantile(&scene.drove.late, 0.99).map(|seconds| seconds * 1e3);
        self.timed("calls sent later than planned, p99", late, " ms", Must::Told);
    }

    /// What the tenants got that are not greedy.
    fn shares(&mut self, slow: Slow, play: &Play, scene: &Scene) {
        if play.tenants < 2 {
            return;
        }
        let fair = slow.capacity() / f64::from(play.tenants) * scene.act.drive.ms as f64 / 1e3;
        let got = |tenant: u32| scene.drove.tenants.get(&tenant).map_or(0.0, |calls| calls.in_time as f64);
        let least = (1..play.tenants).map(got).fold(f64::INFINITY, f64::min);
        self.timed("the others' share, the least of them", Some(least / fair * 100.0), " %", Must::AtLeast(90.0));
        self.timed("the greedy tenant's share", Some(got(0) / fair * 100.0), " %", Must::Told);
    }

    fn calls(&mut self, scenes: &[Scene]) {
        let failed: u64 = scenes.iter().map(|scene| scene.drove.whole().failed).sum();
        self.count("calls that failed", failed, Must::AtMost(0.0));
        let mut causes = Deaths::default();
        scenes.iter().for_each(|scene| causes.merge(scene.drove.failed.clone()));
        if failed > 0 {
            self.missed.push(format!("failed calls: {causes}"));
        }
    }

    /// A refusal is honest if it says that it is one, and when to come again.
    fn refusals(&mut self, scenes: &[Scene]) {
        let all = || scenes.iter().flat_map(|scene| scene.drove.refusals.values());
        let (count, silent): (u64, u64) =
            all().fold((0, 0), |(count, silent), refused| (count + refused.count, silent + refused.silent));
        let hinted: u64 = all().map(|refused| refused.hinted).sum();
        self.count("refusals", count, Must::Told);
        self.count("refusals without the time to come again", count - silent - hinted, Must::AtMost(0.0));
        self.count("connections closed without a word", silent, Must::Told);
    }

    fn memory(&mut self, scenes: &[Scene], rss_max: Option<u64>) {
        let most = scenes.iter().flat_map(|scene| &scene.samples).filter_map(|sample| sample.rss).max();
        let must = rss_max.map_or(Must::Told, |mib| Must::AtMost(mib as f64));
        self.timed("memory of the gateway, most", most.map(|rss| rss as f64 / f64::from(1 << 20)), " MiB", must);
        // Over the steady part of the whole run, where the load is the same all the time.
        let same = scenes.windows(2).all(|two| two[0].act.drive.total == two[1].act.drive.total);
        let Some((first, last)) = scenes.first().zip(scenes.last()).filter(|(first, _)| same && !first.act.drive.cut)
        else {
            return;
        };
        let from = first.begun + (last.begun + last.seconds - first.begun) * WARM_UP;
        let points: Vec<(f64, f64)> = scenes
            .iter()
            .flat_map(|scene| &scene.samples)
            .filter(|sample| sample.at >= from)
            .filter_map(|sample| Some((sample.at, sample.rss? as f64)))
            .collect();
        if let Some(slope) = Slope::through(&points, PAGE) {
            let (per_s, noise) = (slope.per_s / 1024.0, slope.noise / 1024.0);
            let kept = self.timed.then_some(!slope.grows());
            let shown = format!("{per_s:+.3} KiB/s");
            let asked = format!("0 within its noise of {noise:.3} KiB/s");
            if kept == Some(false) {
                self.missed.push(format!("slope of memory: {shown}, {asked} it must be"));
            }
            self.figures.push(Figure { what: "slope of memory".into(), value: per_s, shown, asked: Some(asked), kept });
        }
    }
}

/// Refusals that were not given at once.
fn late<'a>(refusals: impl Iterator<Item = &'a Refused>) -> u64 {
    refusals.flat_map(|refused| &refused.waits).filter(|wait| wait.0 > AT_ONCE_MICROS).map(|wait| wait.1).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::acts::Act;
    use super::super::sample::{Queue, Sample};
    use super::*;
    use crate::cli::simulate::Dialect;
    use crate::cli::simulate::drive::{Calls, Drive, Drove, Second};
    use crate::cli::simulate::order::{Cause, Death};

    const SLOW: Slow = Slow { slots: 16, service: Duration::from_secs(1) };

    fn play(tenants: u32) -> Play {
        Play { acts: Vec::new(), clients: 10, seats: 10, tenants, dialect: Dialect::Ws, slow: Some(SLOW) }
    }

    /// Ten seconds at five times what the server takes, all of it as it should be.
    fn good() -> Scene {
        let second = |number: u64| {
            let answered = if number == 0 { 0 } else { 16 };
            Second {
                calls: Calls { asked: 80, answered, in_time: answered },
                refused: 64,
                waits: vec![(1_000_000, answered)],
                ..Second::default()
            }
        };
        let mut drove = Drove { seconds: (0..10).map(second).collect(), ..Drove::default() };
        drove.refusals.insert("full".into(), Refused { count: 640, hinted: 640, silent: 0, waits: vec![(1_000, 640)] });
        drove.tenants.extend((0..10).map(|tenant| (tenant, Calls { asked: 16, answered: 16, in_time: 16 })));
        let queue = Queue { in_flight: 16, queued: Some(64), queue_max: Some(64) };
        let sample =
            |at: u32| Sample { at: f64::from(at), rss: Some(9 << 20), queue: Some(queue), ..Sample::default() };
        let drive = Drive { ms: 10_000, ..Drive::default() };
        Scene {
            act: Act { name: "overload".into(), come: 10, drive },
            begun: 0.0,
            seconds: 10.0,
            drove,
            samples: (0..11).map(sample).collect(),
            live: 10,
        }
    }

    fn missed(scene: Scene, most: u64) -> Vec<String> {
        let mut verdict = Verdict { timed: true, figures: Vec::new(), missed: Vec::new() };
        verdict.overload(SLOW, &scene, SlowCounts { most, ..SlowCounts::default() }, true);
        verdict.shares(SLOW, &play(10), &scene);
        let scenes = [scene];
        verdict.refusals(&scenes);
        verdict.memory(&scenes, None);
        verdict.missed
    }

    #[test]
    fn an_overload_as_it_should_be_misses_nothing_and_each_promise_can_be_missed() {
        assert_eq!(missed(good(), 16), [""; 0]);
        type Spoil = fn(&mut Scene);
        let each: [(&str, Spoil); 8] = [
            ("goodput", |scene| scene.drove.seconds.iter_mut().skip(1).for_each(|second| second.calls.in_time = 14)),
            ("deadline", |scene| scene.drove.seconds[9].failed = 4),
            ("time to refuse", |scene| scene.drove.refusals.get_mut("full").expect("one").waits = vec![(9_000, 640)]),
            ("calls in the queue", |scene| scene.samples[3].queue.as_mut().expect("one").queued = Some(65)),
            ("does not tell", |scene| scene.samples.iter_mut().for_each(|sample| sample.queue = None)),
            ("the least of them", |scene| scene.drove.tenants.get_mut(&7).expect("one").in_time = 14),
            ("without the time", |scene| scene.drove.refusals.get_mut("full").expect("one").hinted = 639),
            ("slope of memory", |scene| {
                scene.samples.iter_mut().for_each(|sample| sample.rss = Some((9 << 20) + (sample.at * 1e5) as u64));
            }),
        ];
        for (word, spoil) in each {
            let mut scene = good();
            spoil(&mut scene);
            let missed = missed(scene, 16);
            assert!(missed.iter().any(|missed| missed.contains(word)), "{word}: {missed:?}");
        }
        assert!(missed(good(), 17)[0].contains("at the server at once"));
    }

    #[test]
    fn a_call_that_is_refused_late_was_taken() {
        let mut scene = good();
        scene.drove.refusals.get_mut("full").expect("one").waits = vec![(1_000, 630), (2_000_000, 10)];
        assert!(missed(scene, 16).iter().any(|missed| missed.contains("within their deadline")));
    }

    #[test]
    fn what_is_not_timed_is_told_and_not_judged_but_the_lost_are() {
        let mut verdict = Verdict { timed: false, figures: Vec::new(), missed: Vec::new() };
        verdict.timed("all back after", Some(99.0), " s", Must::AtMost(20.0));
        assert!(verdict.missed.is_empty() && verdict.figures[0].kept.is_none());
        let mut scene = good();
        scene.drove.failed.add(Death::new(Cause::WrongEcho, "x"));
        scene.drove.seconds[2].failed = 1;
        verdict.calls(&[scene]);
        assert!(verdict.missed.iter().any(|missed| missed.contains("WrongEcho")), "{:?}", verdict.missed);
    }
}
