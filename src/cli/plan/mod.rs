//! `lakh plan`: how many clients a machine will hold, from measured coefficients and a description of the load.

pub mod assumed;
pub mod calibrate;
pub mod calibration;
pub mod check;
pub mod coefficients;
pub mod draw;
pub mod forecast;
pub mod load;
pub mod machine;
pub mod model;
pub mod presets;
pub mod report;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::calibration::Uncalibrated;
use self::coefficients::Measurements;
use self::forecast::{Forecast, forecast};
use self::load::{BadLoad, Dialects, Load, Paths, ServiceOn};
use self::machine::{BadMachine, Machine, tiers};
use self::presets::Preset;
use crate::cli::chart::Undrawn;
use crate::cli::simulate;
use crate::meter::Host;

/// Forecasts from measured figures how many clients a machine holds, what fills first, and what it costs.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Measure what clients and calls cost on this machine, a minute or two, and keep it for later plans
    #[arg(long, conflicts_with_all = ["check", "preset", "load", "json", "svg"])]
    pub calibrate: bool,
    /// Run `lakh simulate` up to the load's clients, and show forecast and reality beside each other
    #[arg(long, conflicts_with = "svg")]
    pub check: bool,
    /// The load of a published plan, and its claims beside what they come to
    #[arg(long, value_enum, value_name = "NAME", conflicts_with = "load")]
    pub preset: Option<presets::Name>,
    /// A TOML file with the load, and with [[machines]] in place of the table; flags go before it
    #[arg(long, value_name = "FILE")]
    pub load: Option<PathBuf>,
    /// Clients connected at once [default: 100000]
    #[arg(long, value_name = "N")]
    pub clients: Option<u64>,
    /// What they speak, as shares: tcp, ws, http, listen [default: http=1]
    #[arg(long, value_name = "LIST")]
    pub dialects: Option<Dialects>,
    /// Calls of one client a second [default: 0.1]
    #[arg(long, value_name = "RATE")]
    pub calls: Option<f64>,
    /// Where calls are answered, as shares: cache, own, upstream, refused [default: own=0.1,upstream=0.9]
    #[arg(long, value_name = "LIST")]
    pub shares: Option<Paths>,
    /// Milliseconds that such a call takes there [default: upstream=1000]
    #[arg(long, value_name = "LIST")]
    pub service_ms: Option<Paths>,
    /// What that time keeps busy: an upstream elsewhere, or a core of this machine [default: upstream]
    #[arg(long, value_enum)]
    pub service_on: Option<ServiceOn>,
    /// Calls that all upstreams together serve at once; 0: as many as come [default: 0]
    #[arg(long, value_name = "N")]
    pub upstream_slots: Option<u64>,
    /// Bytes of a request, headers included [default: 600]
    #[arg(long, value_name = "BYTES")]
    pub request_bytes: Option<f64>,
    /// Bytes of an answer [default: 2000]
    #[arg(long, value_name = "BYTES")]
    pub response_bytes: Option<f64>,
    /// Clients that connect a second, all together [default: 100]
    #[arg(long, value_name = "RATE")]
    pub connects: Option<f64>,
    /// Changes a second that every client is told of [default: 0]
    #[arg(long, value_name = "RATE")]
    pub changes: Option<f64>,
    /// TLS ends in a proxy on the same machine
    #[arg(long)]
    pub tls: bool,
    /// Folder with the results of `lakh simulate` and of calibrations
    #[arg(long, value_name = "DIR", default_value = "profiling/results")]
    pub results: PathBuf,
    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,
    /// Write a chart to this file, and the same as PNG beside it
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum Unplanned {
    #[error(transparent)]
    Load(#[from] BadLoad),
    #[error(transparent)]
    Machine(#[from] BadMachine),
    #[error(transparent)]
    Uncalibrated(#[from] Uncalibrated),
    #[error("{}: {}", .0.display(), .1)]
    File(PathBuf, io::Error),
    #[error(
        "--check needs a load that `lakh simulate` has: all clients tcp, ws, http or listen, or half tcp, half ws; at most 10,000,000"
    )]
    Mix,
    #[error(transparent)]
    Simulate(#[from] simulate::Error),
    #[error("the calibration: {0}")]
    Calibrating(io::Error),
    #[error("can't draw {}: {}", .0.display(), .1)]
    Drawing(PathBuf, Undrawn),
    #[error("can't write the plan: {0}")]
    Output(#[from] io::Error),
}

impl Unplanned {
    /// Whether something was begun that failed, and not only asked for what cannot be.
    pub const fn is_failure(&self) -> bool {
        matches!(self, Self::Calibrating(_) | Self::Output(_) | Self::Drawing(..))
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Whole<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<&'a Preset>,
    #[serde(flatten)]
    forecast: &'a Forecast,
    coefficients: &'a Measurements,
}

/// Plans, calibrates or checks, as `args` say, and writes to `out`; `exe` is the `lakh` that is measured. False: the plan did
/// not hold.
///
/// # Errors
/// When there is nothing to plan from or with, or something cannot be run or written.
pub fn run(args: &Args, exe: &Path, out: &mut impl Write) -> Result<bool, Unplanned> {
    let host = Host::read();
    if args.calibrate {
        let (calibration, file) = calibrate::calibrate(exe, &host, &args.results, calibrate::Sizes::default())
            .map_err(Unplanned::Calibrating)?;
        write!(out, "{}", report::calibration(&calibration))?;
        writeln!(out, "kept in {}; `lakh plan` reads it", file.display())?;
        return Ok(true);
    }
    let preset = args.preset.map(presets::Name::preset);
    let (load, machines) = args.load_and_machines(preset.as_ref(), &host)?;
    let measurements = Measurements::read(&args.results, load.clients)?;
    if args.check {
        return check_it(args, &measurements, &load, (exe, &host), out);
    }
    let mut forecast = forecast(&measurements, &load, &machines, &Machine::this_host(&host));
    let here = simulate::machine_of(&host);
    if here != measurements.machine {
        forecast.assumptions.insert(0, format!("Measured on {}, not on this host, {here}.", measurements.machine));
    }
    if let Some(file) = &args.svg {
        draw_to(file, &measurements, &forecast)?;
    }
    if args.json {
        let whole = Whole { preset: preset.as_ref(), forecast: &forecast, coefficients: &measurements };
        writeln!(out, "{}", serde_json::to_string_pretty(&whole).map_err(io::Error::from)?)?;
    } else {
        write!(out, "{}", report::text(&forecast, preset.as_ref()))?;
    }
    Ok(true)
}

fn check_it(
    args: &Args,
    measurements: &Measurements,
    load: &Load,
    (exe, host): (&Path, &Host),
    out: &mut impl Write,
) -> Result<bool, Unplanned> {
    let clients = u32::try_from(load.clients).ok().filter(|clients| *clients <= 10_000_000);
    let what = load.dialects.simulated().zip(clients).ok_or(Unplanned::Mix)?;
    let checked = check::check(measurements, &Machine::this_host(host), what, (exe, &args.results))?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&checked).map_err(io::Error::from)?)?;
    } else {
        writeln!(out, "Forecast from {} ({}).\n", measurements.calibration, measurements.measured_on)?;
        write!(out, "{}", check::table(&checked))?;
    }
    Ok(!checked.is_empty() && checked.iter().all(|one| one.holds))
}

fn draw_to(file: &Path, measurements: &Measurements, forecast: &Forecast) -> Result<(), Unplanned> {
    let chart = draw::chart(measurements, forecast);
    let write =
        |file: &Path, bytes: &[u8]| fs::write(file, bytes).map_err(|error| Unplanned::File(file.to_owned(), error));
    write(file, chart.to_svg().as_bytes())?;
    let png = chart.to_png().map_err(|error| Unplanned::Drawing(file.to_owned(), error))?;
    write(&file.with_extension("png"), &png)
}

impl Args {
    /// The load: that of the preset, or the usual one, or of the file, with what the flags say otherwise; and the machines,
    /// the one in detail first.
    fn load_and_machines(&self, preset: Option<&Preset>, host: &Host) -> Result<(Load, Vec<Machine>), Unplanned> {
        let mut load = preset.map_or_else(Load::default, |preset| preset.load.clone());
        let mut machines = tiers();
        let mut first = preset.and_then(|preset| preset.machine.clone());
        if let Some(file) = &self.load {
            let text = fs::read_to_string(file).map_err(|error| Unplanned::File(file.clone(), error))?;
            let (told, kinds) =
                read_file(&text).map_err(|error| BadLoad::File(format!("{}: {error}", file.display())))?;
            load = told;
            if !kinds.is_empty() {
                machines = kinds.into_iter().map(Machine::checked).collect::<Result<_, _>>()?;
                first = Some(machines.remove(0));
            }
        }
        let first = match first {
            Some(first) => first,
            None => Machine::this_host(host).checked()?,
        };
        machines.insert(0, first);
        Ok((self.over(load).checked()?, machines))
    }

    /// What was typed, over a load.
    fn over(&self, load: Load) -> Load {
        Load {
            clients: self.clients.unwrap_or(load.clients),
            calls_per_second: self.calls.unwrap_or(load.calls_per_second),
            connects_per_second: self.connects.unwrap_or(load.connects_per_second),
            changes_per_second: self.changes.unwrap_or(load.changes_per_second),
            request_bytes: self.request_bytes.unwrap_or(load.request_bytes),
            response_bytes: self.response_bytes.unwrap_or(load.response_bytes),
            tls: self.tls || load.tls,
            service_on: self.service_on.unwrap_or(load.service_on),
            upstream_slots: self.upstream_slots.unwrap_or(load.upstream_slots),
            dialects: self.dialects.unwrap_or(load.dialects),
            shares: self.shares.unwrap_or(load.shares),
            service_ms: self.service_ms.unwrap_or(load.service_ms),
        }
    }
}

/// A load and the kinds of machines of one file.
fn read_file(text: &str) -> Result<(Load, Vec<Machine>), String> {
    let mut table: toml::Table = toml::from_str(text).map_err(|error| error.to_string())?;
    let machines =
        table.remove("machines").map_or(Ok(Vec::new()), toml::Value::try_into).map_err(|error| error.to_string())?;
    let load = Load::from_toml(&table.to_string()).map_err(|error| error.to_string())?;
    Ok((load, machines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::typed;

    fn args(line: &str) -> Args {
        typed(line)
    }

    fn planned(line: &str) -> Result<String, Unplanned> {
        let results = calibration::tests::Results::new(
            &format!("plan-{}", line.len()),
            &[(
                "2026-11-21-2core-24gib-linux6.18-calibration/calibration.json",
                &serde_json::to_string(&calibration::tests::example()).expect("serializes"),
            )],
        );
        let args = Args { results: results.0.clone(), ..args(line) };
        let mut out = Vec::new();
        run(&args, Path::new("unused"), &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn flags_go_before_the_file_and_the_file_before_the_defaults() {
        let file = std::env::temp_dir().join(format!("lakh-load-{}.toml", std::process::id()));
        let text =
            "clients = 7000\ncalls_per_second = 2.0\n[[machines]]\nname = \"a box\"\ncores = 4\nmemory_gib = 8\n";
        fs::write(&file, text).expect("written");
        let typed = format!("--load {} --calls 3", file.display());
        let (load, machines) = args(&typed).load_and_machines(None, &Host::read()).expect("a load");
        fs::remove_file(&file).expect("there");
        assert_eq!((load.clients, load.calls_per_second, load.response_bytes), (7_000, 3.0, 2_000.0));
        assert_eq!(machines.iter().map(|machine| machine.name.as_str()).collect::<Vec<_>>(), ["a box"]);
        let error = read_file("clients = 1\ncores = 2\n").expect_err("unknown");
        assert!(error.contains("cores"), "{error}");
    }

    #[test]
    fn a_plan_is_told_as_text_and_as_json() {
        let text = planned("--clients 50000 --dialects tcp=1").expect("planned");
        assert!(text.starts_with("# 50,000 clients (100 % tcp)"), "{text}");
        let json: serde_json::Value =
            serde_json::from_str(&planned("--preset erlmcp --json").expect("planned")).expect("JSON");
        assert_eq!(json["preset"]["claims"][1]["adds_up"], false);
        assert_eq!(json["load"]["clients"], 100_000);
        assert_eq!(json["tiers"][0]["fleets"].as_array().map(Vec::len), Some(forecast::FLEETS.len()));
        assert!(json["coefficients"]["dialects"]["http"]["costs"]["own"]["gateway_us"]["median"].is_number());
        assert_eq!(json["tiers"][1]["machine"]["from"], "table");
        assert!(
            json["assumed"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["figure"] == "price_month: 2 cores, 8 GiB"))
        );
    }

    #[test]
    fn what_cannot_be_planned_is_refused_by_name() {
        for (line, word) in [
            ("--clients 0", "clients"),
            ("--calls NaN", "calls_per_second"),
            ("--shares own=0.5", "shares"),
            ("--load /nonexistent/load.toml", "/nonexistent/load.toml"),
            ("--check --dialects tcp=0.9,http=0.1", "--check"),
        ] {
            let error = planned(line).expect_err(line);
            assert!(error.to_string().contains(word) && !error.is_failure(), "{line}: {error}");
        }
        let nowhere =
            run(&args("--results /nonexistent"), Path::new("unused"), &mut io::sink()).expect_err("no results");
        assert!(nowhere.to_string().contains("--calibrate"), "{nowhere}");
    }

    #[test]
    fn a_chart_is_written_twice() {
        let file = std::env::temp_dir().join(format!("lakh-plan-chart-{}.svg", std::process::id()));
        planned(&format!("--svg {}", file.display())).expect("planned");
        let png = file.with_extension("png");
        assert!(fs::read_to_string(&file).expect("written").starts_with("<svg"));
        assert!(fs::read(&png).expect("written").starts_with(b"\x89PNG"));
        fs::remove_file(&file).expect("there");
        fs::remove_file(&png).expect("there");
    }
}
