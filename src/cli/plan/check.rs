//! `lakh plan --check`: the forecast, then `lakh simulate`, and both beside each other.

use std::io;
use std::path::Path;

use clap::Parser;
use serde::Serialize;

use super::calibration::Spread;
use super::coefficients::Measurements;
use super::forecast::{Simulated, simulated};
use super::machine::Machine;
use super::report::{columns, mib};
use crate::cli::simulate::{self, Dialect, Step, thousands};

/// How far memory and calls a second may lie from the forecast, as a share of it.
const MEMORY_WITHIN: f64 = 0.10;
const CALLS_WITHIN: f64 = 0.25;
/// Where it is looked at, as far as the load goes.
const STEPS: [u32; 3] = [10_000, 50_000, 100_000];
/// Runs, each with processes of its own, whose median counts: where the threads of gateway and clients come to stand on the
/// cores that they share makes a rate a third higher or lower, for as long as they live.
const RUNS: usize = 3;

/// One figure, forecast and seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Checked {
    pub clients: u32,
    pub what: What,
    pub forecast: f64,
    /// The least and the most that was measured when it was calibrated; of memory there is one figure.
    pub calibrated: Option<(f64, f64)>,
    /// The median of the runs.
    pub seen: f64,
    /// `seen` over `forecast`, less one.
    pub off: f64,
    pub within: f64,
    pub holds: bool,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The gateway's whole resident memory, in bytes.
    Rss,
    /// Clients that come a second, each with a handshake and a call.
    ConnectsPerSecond,
    /// Pings answered a second.
    PingsPerSecond,
}

/// Where the clients of the run's arguments come from.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: simulate::Args,
}

/// Forecasts, then runs `lakh simulate` some times up to `clients` of `dialect`; its results go below `results`.
///
/// # Errors
/// When the run cannot be done, or a client died in it.
pub fn check(
    measurements: &Measurements,
    machine: &Machine,
    (dialect, clients): (Dialect, u32),
    (exe, results): (&Path, &Path),
) -> Result<Vec<Checked>, simulate::Error> {
    let all: Vec<u32> = STEPS.into_iter().filter(|step| *step < clients).chain([clients]).collect();
    let steps = all.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let (most, results) = (clients.to_string(), results.display().to_string());
    let words =
        ["simulate", "--dialect", dialect.name(), "--connections", &most, "--steps", &steps, "--results", &results];
    let args = Line::try_parse_from(words).map_err(|error| simulate::Error::Usage(error.to_string()))?.args;
    let mut seen = Vec::new();
    for _ in 0..RUNS {
        let outcome = simulate::run(&args, exe)?;
        if outcome.deaths.count() > 0 {
            let dead = format!("{} clients are dead: {}", outcome.deaths.count(), outcome.deaths);
            return Err(simulate::Error::Clients(io::Error::other(dead)));
        }
        seen.extend(outcome.steps);
    }
    let told = all.into_iter().filter_map(|step| simulated(measurements, machine, dialect, (step, clients)));
    Ok(told.flat_map(|told| compared(&told, &seen)).collect())
}

/// What was forecast for so many clients beside what the steps of all runs with as many have shown.
fn compared(told: &Simulated, steps: &[Step]) -> Vec<Checked> {
    let seen = |of: fn(&Step) -> Option<f64>| {
        let seen: Vec<f64> = steps.iter().filter(|step| step.connections == told.clients).filter_map(of).collect();
        (!seen.is_empty()).then(|| Spread::of(seen).median)
    };
    let rate = |what, forecast: Spread, of| {
        let calibrated = Some((forecast.least, forecast.most));
        Some(Checked { calibrated, ..compare(told.clients, what, forecast.median, seen(of)?, CALLS_WITHIN) })
    };
    let rss = seen(|step| step.rss.map(|rss| rss as f64));
    let rss = rss.map(|rss| compare(told.clients, What::Rss, told.rss_bytes, rss, MEMORY_WITHIN));
    let connects = rate(What::ConnectsPerSecond, told.connects_per_second, |step| step.connect_rate);
    let pings = rate(What::PingsPerSecond, told.pings_per_second, |step| step.ping_rate);
    rss.into_iter().chain(connects).chain(pings).collect()
}

fn compare(clients: u32, what: What, forecast: f64, seen: f64, within: f64) -> Checked {
    let off = seen / forecast - 1.0;
    Checked { clients, what, forecast, calibrated: None, seen, off, within, holds: off.abs() <= within }
}

/// Both columns, for people.
pub fn table(all: &[Checked]) -> String {
    let heads = ["what", "clients", "forecast", "calibrated", "seen", "off", "may be", ""].map(String::from).to_vec();
    let row = |one: &Checked| {
        let (what, figure): (&str, fn(f64) -> String) = match one.what {
            What::Rss => ("gateway RSS", mib),
            What::ConnectsPerSecond => ("clients/s, each with a call", whole),
            What::PingsPerSecond => ("pings/s", whole),
        };
        vec![
            what.to_owned(),
            thousands(i64::from(one.clients)),
            figure(one.forecast),
            one.calibrated.map_or_else(String::new, |(least, most)| format!("{} to {}", figure(least), figure(most))),
            figure(one.seen),
            format!("{:+.1} %", one.off * 100.0),
            format!("{:.0} %", one.within * 100.0),
            if one.holds { "holds" } else { "MISSED" }.to_owned(),
        ]
    };
    let rows: Vec<_> = std::iter::once(heads).chain(all.iter().map(row)).collect();
    columns(&rows)
}

fn whole(value: f64) -> String {
    thousands(value.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_by_more_than_it_may_be_is_missed() {
        let holds = |forecast, seen| compare(1, What::Rss, forecast, seen, 0.10).holds;
        assert_eq!(
            [holds(100.0, 109.9), holds(100.0, 90.1), holds(100.0, 111.0), holds(100.0, 89.0), holds(100.0, f64::NAN)],
            [true, true, false, false, false]
        );
        let told = table(&[compare(10_000, What::PingsPerSecond, 100_000.0, 60_000.0, 0.25)]);
        assert!(told.contains("10,000") && told.contains("-40.0 %") && told.contains("MISSED"), "{told}");
    }

    #[test]
    fn the_middle_run_counts() {
        let spread = Spread { median: 100.0, least: 80.0, most: 120.0 };
        let told = Simulated { clients: 10, rss_bytes: 1_000.0, connects_per_second: spread, pings_per_second: spread };
        let step =
            |connections, rss, rate| Step { connections, rss: Some(rss), ping_rate: Some(rate), ..Step::default() };
        let steps = [step(10, 1_050, 40.0), step(20, 9, 9.0), step(10, 2_000, 95.0), step(10, 1_040, 90.0)];
        let seen: Vec<_> = compared(&told, &steps).iter().map(|one| (one.what, one.seen, one.calibrated)).collect();
        assert_eq!(seen, [(What::Rss, 1_050.0, None), (What::PingsPerSecond, 90.0, Some((80.0, 120.0)))]);
    }
}
