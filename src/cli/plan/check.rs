//! `lakh plan --check`: the forecast, then `lakh simulate`, and both beside each other.

use std::path::Path;

use clap::Parser;
use serde::Serialize;

use super::coefficients::Measurements;
use super::forecast::simulated;
use super::machine::Machine;
use super::report::{columns, mib};
use crate::cli::simulate::{self, Dialect, thousands};

/// How far memory and calls a second may lie from the forecast, as a share of it.
const MEMORY_WITHIN: f64 = 0.10;
const CALLS_WITHIN: f64 = 0.25;
/// Where it is looked at, as far as the load goes.
const STEPS: [u32; 3] = [10_000, 50_000, 100_000];

/// One figure, forecast and seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Checked {
    pub clients: u32,
    pub what: What,
    pub forecast: f64,
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

/// Forecasts, then runs `lakh simulate` up to `clients` of `dialect`; its results go below `results`.
///
/// # Errors
/// When the run cannot be done.
pub fn check(
    measurements: &Measurements,
    machine: &Machine,
    (dialect, clients): (Dialect, u32),
    (exe, results): (&Path, &Path),
) -> Result<Vec<Checked>, simulate::Error> {
    let all = STEPS.into_iter().filter(|step| *step < clients).chain([clients]);
    let steps = all.map(|step| step.to_string()).collect::<Vec<_>>().join(",");
    let (clients, results) = (clients.to_string(), results.display().to_string());
    let words =
        ["simulate", "--dialect", dialect.name(), "--connections", &clients, "--steps", &steps, "--results", &results];
    let args = Line::try_parse_from(words).map_err(|error| simulate::Error::Usage(error.to_string()))?.args;
    let outcome = simulate::run(&args, exe)?;
    let mut all = Vec::new();
    for step in outcome.steps.iter().filter(|step| step.wave == 1) {
        let Some(told) = simulated(measurements, machine, dialect, step.connections) else { continue };
        let rss = step.rss.map(|rss| rss as f64);
        all.extend(compare(step.connections, What::Rss, told.rss_bytes, rss, MEMORY_WITHIN));
        all.extend(compare(
            step.connections,
            What::ConnectsPerSecond,
            told.connects_per_second,
            step.connect_rate,
            CALLS_WITHIN,
        ));
        all.extend(compare(
            step.connections,
            What::PingsPerSecond,
            told.pings_per_second,
            step.ping_rate,
            CALLS_WITHIN,
        ));
    }
    Ok(all)
}

fn compare(clients: u32, what: What, forecast: f64, seen: Option<f64>, within: f64) -> Option<Checked> {
    let seen = seen?;
    let off = seen / forecast - 1.0;
    Some(Checked { clients, what, forecast, seen, off, within, holds: off.abs() <= within })
}

/// Both columns, for people.
pub fn table(all: &[Checked]) -> String {
    let heads = ["what", "clients", "forecast", "seen", "off", "may be", ""].map(String::from).to_vec();
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
        let holds = |forecast, seen| compare(1, What::Rss, forecast, Some(seen), 0.10).map(|one| one.holds);
        assert_eq!(
            [holds(100.0, 109.9), holds(100.0, 90.1), holds(100.0, 111.0), holds(100.0, 89.0)],
            [Some(true), Some(true), Some(false), Some(false)]
        );
        assert_eq!(compare(1, What::Rss, 1.0, None, 0.1), None);
        let told = table(&[compare(10_000, What::PingsPerSecond, 100_000.0, Some(60_000.0), 0.25).expect("seen")]);
        assert!(told.contains("10,000") && told.contains("-40.0 %") && told.contains("MISSED"), "{told}");
    }
}
