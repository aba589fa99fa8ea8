//! What a run leaves behind: a folder with setup, raw figures, summary and plot.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::setup::Setup;
use super::step::{Outcome, Step};
use super::summary::{short, table};
use super::{Args, Error, heap};
use crate::cli::chart::{Axis, Chart, Panel, Scale, Series, Shape, Unit};

/// Writes setup.md, raw.csv, summary.md, plot.svg and plot.png into a new folder below `root`, and notes it in `outcome`.
/// With a heap profile, its page too, and the file it was read from moves there.
pub(super) fn write(
    root: &Path,
    args: &Args,
    setup: &Setup,
    heap_file: &Path,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let name = format!("{}-{}-{}-{}", setup.date, setup.machine, args.dialect.name(), short(u64::from(args.clients())));
    let chart = chart(args, setup, outcome);
    let summary = format!("# {}\n\n{}", chart.title, table(outcome));
    let files = [("setup.md", setup.text.as_str()), ("raw.csv", &csv(&outcome.steps)), ("summary.md", &summary)];
    let folder = leave(root, &name, &files, &chart)?;
    let failed = |error| Error::Results { folder: folder.clone(), error };
    if let Some(heap) = &outcome.heap {
        fs::write(folder.join("heap.md"), heap::page(heap)).map_err(failed)?;
        fs::copy(heap_file, folder.join("dhat-heap.json")).map_err(failed)?;
        fs::remove_file(heap_file).map_err(failed)?;
    }
    outcome.results = Some(folder);
    Ok(())
}

/// Writes texts and a chart into a new folder below `root`; returns where that is.
pub(super) fn leave(root: &Path, name: &str, texts: &[(&str, &str)], chart: &Chart) -> Result<PathBuf, Error> {
    let folder = new_folder(root, name).map_err(|error| Error::Results { folder: root.join(name), error })?;
    let failed = |error| Error::Results { folder: folder.clone(), error };
    let png = chart.to_png().map_err(|error| failed(io::Error::other(error)))?;
    for (name, text) in texts {
        fs::write(folder.join(name), text).map_err(failed)?;
    }
    fs::write(folder.join("plot.svg"), chart.to_svg()).map_err(failed)?;
    fs::write(folder.join("plot.png"), png).map_err(failed)?;
    Ok(folder)
}

/// `root/name`, or `root/name-2` and so on: no run overwrites another.
pub(in crate::cli) fn new_folder(root: &Path, name: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(root)?;
    let mut folder = root.join(name);
    for number in 2.. {
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 10_000 => {
                folder = root.join(format!("{name}-{number}"))
            }
            other => return other.map(|()| folder),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn csv(steps: &[Step]) -> String {
    let mut text = String::from(
        "wave,connections,live,dead,rss_bytes,bytes_per_connection_all_in,kernel_bytes_per_connection,clients_per_second,ping_p50_s,ping_p99_s,ping_max_s,pings_per_second\n",
    );
    for step in steps {
        let cell = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{},{},{},{}",
            step.wave,
            step.connections,
            step.live,
            step.dead,
            step.rss.map(|rss| rss.to_string()).unwrap_or_default(),
            cell(step.bytes_all_in()),
            cell(step.kernel_per_connection),
            cell(step.connect_rate),
            cell(step.ping_p50),
            cell(step.ping_p99),
            cell(step.ping_max),
            cell(step.ping_rate),
        );
    }
    text
}

/// Memory, a colour per wave, and ping latency of the first wave, over connections.
fn chart(args: &Args, setup: &Setup, outcome: &Outcome) -> Chart {
    let series = |name: String, wave, of: fn(&Step) -> Option<f64>| {
        let steps = outcome.steps.iter().filter(|step| step.wave == wave || (step.wave == 0 && wave == 1));
        let points = steps.filter_map(|step| Some((f64::from(step.connections), of(step)?))).collect();
        Series { name, shape: Shape::Dots, points }
    };
    let memory =
        (1..=args.waves.min(6)).map(|wave| series(format!("wave {wave}"), wave, |step| step.rss.map(|rss| rss as f64)));
    let pings = vec![
        series("p50".into(), 1, |step| step.ping_p50),
        series("p99".into(), 1, |step| step.ping_p99),
        series("max".into(), 1, |step| step.ping_max),
    ];
    let axis = |label: &str, unit, scale| Axis { label: label.into(), unit, scale };
    let panel = |heading: &str, y, series| Panel { heading: heading.into(), y, series, limits: Vec::new() };
    let limit = args.budget().rss_max.map(|max| (format!("at most {} MiB", max >> 20), max as f64));
    let whose = if args.target.is_some() { "gateway" } else { "lakh" };
    let (date, machine) = (&setup.date, &setup.machine);
    Chart {
        title: format!("{whose}: {} {} clients", short(args.clients().into()).to_uppercase(), args.dialect.title()),
        subtitle: format!("{date}, {machine}; real sockets, each client handshaken and one tool call answered"),
        x: axis("connections", Unit::Count, Scale::Linear),
        panels: vec![
            Panel {
                limits: limit.into_iter().collect(),
                ..panel(
                    "Memory of the gateway",
                    axis("whole resident set", Unit::Bytes, Scale::Linear),
                    memory.collect(),
                )
            },
            panel("Ping latency", axis("every client pings once", Unit::Seconds, Scale::Log), pings),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_gets_a_folder_of_its_own() {
        let root = std::env::temp_dir().join(format!("lakh-results-{}", std::process::id()));
        let one = new_folder(&root, "run").expect("first");
        let two = new_folder(&root, "run").expect("second");
        assert!(one != two && one.is_dir() && two.is_dir());
        fs::remove_dir_all(&root).expect("clean");
    }
}
