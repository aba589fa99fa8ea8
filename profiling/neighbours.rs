//! What a sick server costs its neighbours: p99 of calls to one that is well, while another is well, slow, dead, well again.
//!
//! `cargo bench --bench neighbours [-- --rounds N --seconds S]`: one gateway, alone on its core, in front of both servers.
//! Calls of both come by a schedule (an open loop), in all phases alike; S is the time of one phase, and the whole takes
//! N + 1 times 5 times S (the first round is not counted), and until the breaker has closed each time. Fails if a call of the
//! well one does, or the breaker never opened.

#[expect(dead_code, reason = "its load is a closed loop")]
mod load;
mod moody;
mod paced;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lakh::cli::fetch::Admin;
use load::{LOAD_CORE, Result, SERVER_CORE, Server, option};
use moody::{Mood, Moody};
use nix::time::{ClockId, clock_gettime};
use paced::{Paced, Stream, Tally};
use serde::Deserialize;

/// By their places in `STREAMS`.
const WELL: usize = 0;
const SICK: usize = 1;
const STREAMS: [Stream; 2] =
    [Stream { tool: "well_echo", clients: 50, per_s: 2_000 }, Stream { tool: "sick_echo", clients: 20, per_s: 500 }];
/// What differs between the first two is chance: so much may be chance in the others, too.
const PHASES: [(&str, Mood); 5] = [
    ("before", Mood::Well),
    ("unchanged", Mood::Well),
    ("slow", Mood::Slow),
    ("dead", Mood::Dead),
    ("well again", Mood::Well),
];
/// The first one in which it is not well.
const SICK_FROM: usize = 2;
/// So many that its coming back is work.
const SICK_TOOLS: usize = 2_000;
/// Times the p99 of before.
const ASKED: f64 = 1.2;
/// So that it opens, and is tried, within a phase of seconds: of a server that is silent the limit lets few calls through,
/// and within ten seconds many were answered before.
const KNOBS: &str = "call_ms = 200\nin_flight_max = 64\nqueue_max = 64\nrestart_ms_max = 500\n\
                     breaker_ratio_percent = 1\nbreaker_open_ms = 50\n";
/// How often the gateway is asked how the sick one is: often enough to see it tried, seldom enough to cost nothing.
const LOOK: Duration = Duration::from_millis(200);
/// How long it may take until the gateway trusts it again: longer than the breaker stays open with these knobs.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let (rounds, seconds) = (option("--rounds", 7)?, option("--seconds", 2)?);
    let time = Duration::from_secs(seconds);
    let shielded = shield();
    load::pin(LOAD_CORE)?;
    let (well, sick) = (Moody::start(1)?, Moody::start(SICK_TOOLS)?);
    let config = Config::write(&well, &sick)?;
    let mut gateway = Server::lakh(SERVER_CORE, &["--config", &config.0.display().to_string()])?;
    let watch = Watch::start(Admin::parse(&gateway.address_after("admin")?.to_string())?)?;
    watch.wait_until_ready()?;
    drop(config);
    let mut load = Paced::new(gateway.addr, &STREAMS)?;
    println!(
        "{} calls a second to the well one, {} to the sick one; {rounds} rounds of {} phases of {seconds} s\n",
        STREAMS[WELL].per_s,
        STREAMS[SICK].per_s,
        PHASES.len()
    );
    let mut all: [Vec<Seen>; PHASES.len()] = Default::default();
    if !shielded {
        println!("not shielded: chrt(1) may not put this in front of other programs, and their work is in every p99\n");
    }
    // What is done for the first time is not counted.
    for round in 0..=rounds {
        for ((name, mood), seen) in PHASES.iter().zip(&mut all) {
            sick.turn(*mood);
            watch.take();
            let began = [gateway.worked()?, own_work()?];
            let part = load.run(time)?;
            let states = watch.take();
            let [gateway, own] = [gateway.worked()? - began[0], own_work()? - began[1]]
                .map(|worked| worked.as_secs_f64() / time.as_secs_f64() * 100.0);
            println!(
                "round {round}, {name}: p99 {:.0} us; the sick one was {}",
                us(&load.tally(WELL, part).waits, 0.99),
                shares(&states)
            );
            if round > 0 {
                seen.push(Seen { part, states, gateway, load: own });
            }
        }
        let since = Instant::now();
        while !watch.now().is_well() {
            if since.elapsed() > PATIENCE {
                return Err(format!("the sick one was not trusted again: {:?}", watch.now()).into());
            }
            load.run(LOOK)?;
        }
        // Answers to what was called last, and time to be as before.
        load.run(Duration::from_secs(1))?;
        println!("round {round}: trusted again {:.1} s after the last phase\n", since.elapsed().as_secs_f64() - 1.0);
    }
    report(&load, &all)
}

fn own_work() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

/// Puts this process, and all that it starts, before the other programs of the machine: those work for milliseconds at a time,
/// about a hundredth of the time in all, which is just where a p99 is. False if that is not allowed.
fn shield() -> bool {
    let mut chrt = Command::new("chrt");
    chrt.args(["--rr", "--pid", "1", &std::process::id().to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    chrt.status().is_ok_and(|status| status.success())
}

/// One phase of one round.
struct Seen {
    part: usize,
    states: Vec<State>,
    /// Shares of their cores, in percent: of the gateway, and of this process with its load and both servers.
    gateway: f64,
    load: f64,
}

/// One phase of all rounds, of the server that is well.
struct Phase {
    name: &'static str,
    waits: Histogram<u64>,
    lateness: Histogram<u64>,
    /// The p99 of each round, in microseconds.
    p99s: Vec<f64>,
}

impl Phase {
    fn new(load: &Paced, name: &'static str, seen: &[Seen]) -> Result<Self> {
        let (mut waits, mut lateness, mut p99s) = (Histogram::new(3)?, Histogram::new(3)?, Vec::new());
        for Seen { part, .. } in seen {
            let Tally { sent, answered, failure, waits: each, lateness: late, .. } = load.tally(WELL, *part);
            if answered < sent {
                let failed = sent - answered;
                return Err(format!("{name}: {failed} of {sent} calls of the well one failed: {failure:?}").into());
            }
            waits.add(each)?;
            lateness.add(late)?;
            p99s.push(us(each, 0.99));
        }
        Ok(Self { name, waits, lateness, p99s })
    }

    /// Its p99 to that of another phase: of all rounds together; and the quartiles of the rounds, each to its own.
    fn ratios(&self, before: &Self) -> (f64, [f64; 3]) {
        let mut each: Vec<f64> = self.p99s.iter().zip(&before.p99s).map(|(now, before)| now / before).collect();
        each.sort_by(f64::total_cmp);
        let quartiles = [1, 2, 3].map(|quarter| each[(each.len() - 1) * quarter / 4]);
        (us(&self.waits, 0.99) / us(&before.waits, 0.99), quartiles)
    }
}

/// The table, and whether the run was what it should be.
fn report(load: &Paced, all: &[Vec<Seen>; PHASES.len()]) -> Result<()> {
    println!(
        "{:<11} {:>6} {:>6} {:>7}  {:>5}  {:>15}  {:>8}  {:>7} {:>5}  {:>7} {:>7}  the sick one was",
        "well one in",
        "p50 us",
        "p99 us",
        "max us",
        "ratio",
        "of rounds",
        "late p99",
        "gateway",
        "load",
        "sick ok",
        "refused"
    );
    let phases: Vec<Phase> =
        PHASES.iter().zip(all).map(|((name, _), seen)| Phase::new(load, name, seen)).collect::<Result<_>>()?;
    let mut highest = 0.0_f64;
    for (at, (phase, seen)) in phases.iter().zip(all).enumerate() {
        let (ratio, [low, middle, high]) = phase.ratios(&phases[0]);
        if at >= SICK_FROM {
            highest = highest.max(middle);
        }
        let sick = seen.iter().map(|it| load.tally(SICK, it.part));
        let (answered, failed) = sick.fold((0, 0), |(ok, no), it| (ok + it.answered, no + it.failed));
        let states: Vec<State> = seen.iter().flat_map(|it| it.states.iter().cloned()).collect();
        let share = |of: fn(&Seen) -> f64| seen.iter().map(of).sum::<f64>() / seen.len() as f64;
        println!(
            "{:<11} {:>6.0} {:>6.0} {:>7.0}  {ratio:>5.2}  {middle:.2} ({low:.2}-{high:.2})  {:>8.0}  {:>5.1} % {:>3.1} %  {answered:>7} {failed:>7}  {}",
            phase.name,
            us(&phase.waits, 0.5),
            us(&phase.waits, 0.99),
            us(&phase.waits, 1.0),
            us(&phase.lateness, 0.99),
            share(|it| it.gateway),
            share(|it| it.load),
            shares(&states)
        );
    }
    println!(
        "\nratio: of all rounds together; of rounds: the middle one of the ratios of each round, and its quartiles"
    );
    let met = if highest <= ASKED { "met" } else { "missed" };
    println!(
        "p99 of the well one, in the middle round at most {highest:.2} times before; asked: at most {ASKED}: {met}"
    );
    let opened = |seen: &[Seen]| seen.iter().all(|it| it.states.iter().any(|state| state.breaker != "closed"));
    if opened(&all[SICK_FROM]) && !opened(&all[0]) {
        Ok(())
    } else {
        Err("the breaker did not open where it should".into())
    }
}

fn us(waits: &Histogram<u64>, quantile: f64) -> f64 {
    waits.value_at_quantile(quantile) as f64 / 1e3
}

/// How the gateway says that the sick server is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct State {
    name: String,
    state: String,
    breaker: String,
    tools: u64,
}

impl State {
    fn is_well(&self) -> bool {
        self.state == "ready" && self.breaker == "closed" && self.tools > 0
    }
}

/// `open 70 %, closed 30 %`, in the order in which they came.
fn shares(states: &[State]) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for State { state, breaker, .. } in states {
        let what = if state == "ready" { breaker.clone() } else { format!("{state} and {breaker}") };
        match counts.iter_mut().find(|(name, _)| *name == what) {
            Some((_, count)) => *count += 1,
            None => counts.push((what, 1)),
        }
    }
    let percent = |count: usize| count as f64 * 100.0 / states.len() as f64;
    let texts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {:.0} %", percent(*count))).collect();
    texts.join(", ")
}

/// Asks the gateway again and again; its thread ends with the process.
struct Watch {
    seen: Arc<Mutex<Vec<State>>>,
    admin: Admin,
}

impl Watch {
    fn start(admin: Admin) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (kept, asked) = (Arc::clone(&seen), admin.clone());
        Builder::new().name("watch".into()).spawn(move || {
            loop {
                std::thread::sleep(LOOK);
                let Ok(states) = upstreams(&asked) else { continue };
                let sick = states.into_iter().filter(|state| state.name == "sick");
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend(sick);
            }
        })?;
        Ok(Self { seen, admin })
    }

    /// What was seen since this was asked last.
    fn take(&self) -> Vec<State> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was seen last.
    fn now(&self) -> State {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).last().cloned().unwrap_or_default()
    }

    fn wait_until_ready(&self) -> Result<()> {
        let since = Instant::now();
        while !upstreams(&self.admin)?.iter().all(State::is_well) {
            if since.elapsed() > PATIENCE {
                return Err("the servers are not ready".into());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

fn upstreams(admin: &Admin) -> Result<Vec<State>> {
    Ok(serde_json::from_str(&admin.get("/upstreams")?)?)
}

/// The gateway's configuration, in a file that is there as long as this is.
struct Config(PathBuf);

impl Config {
    fn write(well: &Moody, sick: &Moody) -> Result<Self> {
        let file = std::env::temp_dir().join(format!("lakh-neighbours-{}.toml", std::process::id()));
        let (well, sick) = (well.address, sick.address);
        let text = format!(
            "[catalogue]\nprefix = \"always\"\n[upstreams.well]\ntcp = \"{well}\"\n[upstreams.sick]\ntcp = \"{sick}\"
{KNOBS}"
        );
        std::fs::write(&file, text)?;
        Ok(Self(file))
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
