//! Loads that change: each profile is a row of acts, driven by a schedule, watched from outside, and judged.

mod acts;
mod judge;
mod report;
mod sample;
mod slope;

use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;

use self::acts::Act;
pub use self::judge::Figure;
use self::sample::{Sample, Track};
use super::drive::Drove;
use super::order::Order;
use super::run::Stage;
use super::setup::Setup;
use super::step::Outcome;
use super::{Args, Error, heap};

pub(super) use self::acts::{Play, Slow, play};
pub(super) use self::report::table;
pub use self::report::{RefusalRow, Row};
pub(super) use self::sample::Queue;

/// How often the gateway is looked at while it is under load, at most.
const LOOK: Duration = Duration::from_millis(250);
/// Looks that are kept of a whole run, about: a long one is looked at less often.
const LOOKS_MAX: u32 = 20_000;
/// Runs longer than this are kept by the act, not by the second: a week is some 10,000 lines then.
const BY_THE_SECOND: Duration = Duration::from_secs(2 * 3_600);
/// Rows that a table has at most.
const ROWS_MAX: usize = 12;

/// A load that changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// 100 to 4,000 active users, each calling once a second
    Ramp,
    /// Twice as many clients as there are seats, for 2 minutes
    Burst,
    /// 1,000 of 30,000 clients a second leave and come again, for 5 minutes
    Churn,
    /// 10,000 clients with calls and comings for --hours, and the slope of memory
    Soak,
    /// 100,000 clients are cut off, and all come back at once
    Storm,
    /// Five times the calls that a slow server behind the gateway can take, for 1 minute
    Overload,
}

/// What a profile has shown.
#[derive(Debug, Clone, Serialize)]
pub struct Performance {
    pub profile: Profile,
    /// A row for each act.
    pub rows: Vec<Row>,
    /// Refusals of all acts by reason.
    pub refusals: Vec<RefusalRow>,
    /// What is judged, and what is only told.
    pub figures: Vec<Figure>,
    /// Second by second: for the raw data and the plot.
    #[serde(skip)]
    track: Track,
}

/// One act as it went.
#[derive(Clone)]
struct Scene {
    act: Act,
    /// Seconds from the begin of the play to that of the act.
    begun: f64,
    seconds: f64,
    drove: Drove,
    samples: Vec<Sample>,
    /// Clients that were in at its end.
    live: u64,
}

/// Plays `args.profile` on a stage that stands, and writes the results.
///
/// # Errors
/// When a process fails, or results can't be written.
pub(super) fn run(
    args: &Args,
    profile: Profile,
    play: &Play,
    mut stage: Stage,
    setup: &Setup,
) -> Result<Outcome, Error> {
    let scenes = perform(play, &mut stage).map_err(Error::Clients)?;
    let served = stage.server.slow_counts();
    let deaths = std::mem::take(&mut stage.deaths);
    let notes = std::mem::take(&mut stage.notes);
    // What is behind it and what is before it end first: writing takes a while.
    drop(stage);
    if heap::PROFILED {
        // Nobody reads it: what is live at the end of a load says little.
        let _ = std::fs::remove_file(heap::place());
    }
    let (figures, mut missed) = judge::judge(args, profile, play, &scenes, &deaths, served);
    missed.extend(notes);
    let performance = Performance {
        profile,
        rows: in_rows(&scenes).iter().map(report::row).collect(),
        refusals: report::refusals(&scenes),
        figures,
        track: Track::new(&scenes),
    };
    let mut outcome = Outcome::of_profile(performance, deaths, missed);
    report::write(args, profile, setup, play, &mut outcome)?;
    Ok(outcome)
}

fn perform(play: &Play, stage: &mut Stage) -> io::Result<Vec<Scene>> {
    let begun = Instant::now();
    let lasts = play.lasts();
    let look = LOOK.max(lasts / LOOKS_MAX);
    let mut scenes: Vec<Scene> = Vec::new();
    let mut there = 0;
    for act in &play.acts {
        if act.come > there {
            there = act.come;
            come(stage, there)?;
            stage.rest(&format!("before {}", act.name));
        }
        stage.server.begin_count();
        // Once somebody is lost, more load does not make it clearer.
        if stage.deaths.count() > 0 {
            break;
        }
        let mut scene = perform_one(act, stage, begun, look)?;
        if lasts > BY_THE_SECOND {
            scene.drove.seconds = vec![scene.drove.whole()];
        }
        scenes.push(scene);
    }
    stage.screen.clear();
    Ok(scenes)
}

/// Clients come gently, as many at once as an accept queue holds, until `total` are in.
fn come(stage: &mut Stage, total: u32) -> io::Result<()> {
    let order = Order::Connect { total, wave: 1, in_flight: stage.handshakes };
    let came = stage.carry_out(order, |progress| format!("{} of {total} clients are in", progress.live))?;
    stage.deaths.merge(came.deaths);
    Ok(())
}

fn perform_one(act: &Act, stage: &mut Stage, since: Instant, look: Duration) -> io::Result<Scene> {
    let begun = since.elapsed().as_secs_f64();
    let Stage { clients, gateway, server, screen, .. } = stage;
    let has_queue = server.slow_counts().is_some();
    let mut samples = vec![Sample::take(gateway, begun, u64::from(act.come), has_queue)];
    let mut shown = Instant::now();
    let done = clients.carry_out(Order::Drive(act.drive), look, |progress| {
        let now = since.elapsed().as_secs_f64();
        samples.push(Sample::take(gateway, now, progress.live, has_queue));
        if shown.elapsed() >= Duration::from_secs(1) {
            shown = Instant::now();
            let (live, dead) = (progress.live, progress.dead);
            screen.show(&format!("{}: {:.0} s, {live} clients in, {dead} dead", act.name, now - begun));
        }
    })?;
    let seconds = since.elapsed().as_secs_f64() - begun;
    samples.push(Sample::take(gateway, begun + seconds, done.live, has_queue));
    stage.deaths.merge(done.deaths);
    stage.notes.extend(stage.gateway.has_ended());
    let drove = *done.drove.unwrap_or_default();
    Ok(Scene { act: act.clone(), begun, seconds, drove, samples, live: done.live })
}

/// The scenes, so many together that a table of them can be read.
fn in_rows(scenes: &[Scene]) -> Vec<Scene> {
    let together = scenes.len().div_ceil(ROWS_MAX).max(1);
    scenes.chunks(together).filter_map(|scenes| scenes.iter().cloned().reduce(Scene::followed_by)).collect()
}

impl Scene {
    fn followed_by(mut self, next: Self) -> Self {
        self.seconds = next.begun + next.seconds - self.begun;
        self.drove.merge(next.drove);
        self.samples.extend(next.samples);
        self.live = next.live;
        self.act.name = format!("{} to {}", self.act.name.split(" to ").next().unwrap_or_default(), next.act.name);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::simulate::drive::{Drive, Second};

    #[test]
    fn a_long_run_is_told_in_few_rows_that_hold_all_of_it() {
        let scene = |number: u32| Scene {
            act: Act { name: format!("soak {number}"), come: 10, drive: Drive::default() },
            begun: f64::from(number) * 60.0,
            seconds: 60.0,
            drove: Drove { seconds: vec![Second { came: 1, ..Second::default() }], ..Drove::default() },
            samples: vec![Sample::default(); 2],
            live: u64::from(number),
        };
        let rows = in_rows(&(0..100).map(scene).collect::<Vec<_>>());
        assert_eq!(rows.len(), 12);
        assert_eq!((rows[0].act.name.as_str(), rows[0].seconds, rows[0].live), ("soak 0 to soak 8", 540.0, 8));
        assert_eq!(rows.iter().map(|row| row.drove.whole().came).sum::<u64>(), 100);
        assert_eq!(in_rows(&[scene(7)])[0].act.name, "soak 7");
        assert!(in_rows(&[]).is_empty());
    }
}
