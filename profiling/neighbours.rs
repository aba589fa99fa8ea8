//! What a sick server costs its neighbours: p99 of calls to one that is well, while another is well, slow, dead, well again.
//!
//! `cargo bench --bench neighbours [-- --rounds N --seconds S]`: one gateway, alone on its core, in front of both servers.
//! Calls of both come by a schedule (an open loop), in all phases the same; S is the time of one phase, and the whole takes
//! N times 4 times S, and until the breaker has closed. Fails if a call of the well one does, or the breaker never opened.

#[expect(dead_code, reason = "its load is a closed loop")]
mod load;
mod moody;
mod paced;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lakh::cli::fetch::Admin;
use load::{LOAD_CORE, Result, SERVER_CORE, Server, option};
use moody::{Mood, Moody};
use paced::{Paced, Stream, Tally};
use serde::Deserialize;

/// By their places in `STREAMS`.
const WELL: usize = 0;
const SICK: usize = 1;
const STREAMS: [Stream; 2] =
    [Stream { tool: "well_echo", clients: 50, per_s: 2_000 }, Stream { tool: "sick_echo", clients: 20, per_s: 500 }];
const PHASES: [(&str, Mood); 4] =
    [("before", Mood::Well), ("slow", Mood::Slow), ("dead", Mood::Dead), ("well again", Mood::Well)];
/// Times the p99 of before.
const ASKED: f64 = 1.2;
/// So that it opens, and is tried, within a phase of seconds: of a server that is silent the limit lets few calls through,
/// and within ten seconds many were answered before.
const KNOBS: &str = "call_ms = 200\nin_flight_max = 64\nqueue_max = 64\nrestart_ms_max = 500\n\
                     breaker_ratio_percent = 1\nbreaker_open_ms = 50\n";
/// How often the gateway is asked how the sick one is: often enough to see it tried, seldom enough to cost nothing.
const LOOK: Duration = Duration::from_millis(50);
/// How long it may take until the gateway trusts it again: longer than the breaker stays open with these knobs.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let (rounds, seconds) = (option("--rounds", 4)?, option("--seconds", 4)?);
    let time = Duration::from_secs(seconds);
    load::pin(LOAD_CORE)?;
    let (well, sick) = (Moody::start()?, Moody::start()?);
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
    // What is done for the first time is no phase.
    load.run(Duration::from_secs(1))?;
    let mut all: [Vec<Seen>; PHASES.len()] = Default::default();
    for round in 1..=rounds {
        for ((name, mood), seen) in PHASES.iter().zip(&mut all) {
            sick.turn(*mood);
            watch.take();
            let part = load.run(time)?;
            let states = watch.take();
            println!("round {round}, {name}: the sick one was {}", shares(&states));
            seen.push(Seen { part, states });
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

/// One phase of one round.
struct Seen {
    part: usize,
    states: Vec<State>,
}

/// The table, and whether the run was what it should be.
fn report(load: &Paced, all: &[Vec<Seen>; PHASES.len()]) -> Result<()> {
    println!(
        "{:<11} {:>8} {:>8} {:>8}  {:>5} {:>7}   {:>8}  {:>8} {:>8}   the sick one was",
        "well one in", "p50 us", "p99 us", "max us", "ratio", "highest", "late p99", "sick ok", "refused"
    );
    let first = p99s(load, &all[0]);
    let before = load::median(first.clone());
    let mut highest = 0.0_f64;
    for ((name, _), seen) in PHASES.iter().zip(all) {
        let well: Vec<&Tally> = seen.iter().map(|it| load.tally(WELL, it.part)).collect();
        if let Some(bad) = well.iter().find(|tally| tally.answered < tally.sent) {
            let (failed, sent) = (bad.sent - bad.answered, bad.sent);
            return Err(format!("{name}: {failed} of {sent} calls of the well one failed: {:?}", bad.failure).into());
        }
        let each = p99s(load, seen);
        let worst = each.iter().zip(&first).map(|(now, before)| now / before).fold(0.0, f64::max);
        let (p99, p50) = (load::median(each), load::median(well.iter().map(|it| us(&it.waits, 0.5)).collect()));
        let late = load::median(well.iter().map(|it| us(&it.lateness, 0.99)).collect());
        let max = well.iter().map(|it| us(&it.waits, 1.0)).fold(0.0, f64::max);
        let sick = seen.iter().map(|it| load.tally(SICK, it.part));
        let (answered, failed) = sick.fold((0, 0), |(ok, no), it| (ok + it.answered, no + it.failed));
        let states: Vec<State> = seen.iter().flat_map(|it| it.states.iter().cloned()).collect();
        let ratio = p99 / before;
        highest = highest.max(ratio);
        println!(
            "{name:<11} {p50:>8.0} {p99:>8.0} {max:>8.0}  {ratio:>5.2} {worst:>7.2}   {late:>8.0}  {answered:>8} {failed:>8}   {}",
            shares(&states)
        );
    }
    println!("\np50, p99, late: medians of the rounds; highest: of one round, to the before of that round");
    let met = if highest <= ASKED { "met" } else { "missed" };
    println!("p99 of the well one, at most {highest:.2} times before; asked: at most {ASKED}: {met}");
    let opened = |seen: &[Seen]| seen.iter().all(|it| it.states.iter().any(|state| state.breaker != "closed"));
    if opened(&all[1]) && !opened(&all[0]) { Ok(()) } else { Err("the breaker did not open where it should".into()) }
}

fn p99s(load: &Paced, seen: &[Seen]) -> Vec<f64> {
    seen.iter().map(|it| us(&load.tally(WELL, it.part).waits, 0.99)).collect()
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
            "[catalogue]\nprefix = \"always\"\n[upstreams.well]\ntcp = \"{well}\"\n[upstreams.sick]\ntcp = \"{sick}\"\n{KNOBS}"
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
