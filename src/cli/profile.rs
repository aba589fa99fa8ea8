//! `lakh profile`: where the memory of a running gateway is, as text, JSON or a chart.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::chart::{Axis, Chart, Panel, Scale, Series, Shape, Unit};
use super::fetch::{Admin, Unfetched};
use crate::meter::Named;
use crate::monitor::Snapshot;

const WATCH_EVERY: Duration = Duration::from_secs(2);
/// So few snapshots are shown as dots too.
const DOTTED_UP_TO: usize = 30;
/// Clears a terminal and goes to its upper left corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Shows where the memory of a running gateway is, its trend and its alarms.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Admin address of the gateway
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7625")]
    pub admin: String,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Write a chart of the gateway's life so far to this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Show it again every 2 seconds, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum Unprofiled {
    #[error(transparent)]
    Unfetched(#[from] Unfetched),
    #[error("the gateway's history can't be read ({0}): is it of the same version as this lakh?")]
    History(#[from] serde_json::Error),
    #[error("can't write {0}: {1}")]
    File(PathBuf, io::Error),
    #[error("can't write the profile: {0}")]
    Output(#[from] io::Error),
}

/// Fetches the profile and writes it to `out`; with `watch`, again and again.
///
/// # Errors
/// When the gateway doesn't answer, or something can't be written. A closed `out` (`| head`) is no error.
pub fn run(args: &Args, out: &mut impl Write) -> Result<(), Unprofiled> {
    let admin = Admin::parse(&args.admin)?;
    loop {
        match show(args, &admin, out) {
            Err(Unprofiled::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            outcome => outcome?,
        }
        if !args.watch {
            return Ok(());
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

fn show(args: &Args, admin: &Admin, out: &mut impl Write) -> Result<(), Unprofiled> {
    if let Some(file) = &args.svg {
        draw(admin, file)?;
    }
    if args.json {
        writeln!(out, "{}", admin.get("/profile?format=json")?)?;
    } else {
        let report = admin.get("/profile?format=text")?;
        let clear = if args.watch && io::stdout().is_terminal() { CLEAR } else { "" };
        writeln!(out, "{clear}{}", report.trim_end())?;
        if let Some(file) = &args.svg {
            writeln!(out, "\nchart: {}", file.display())?;
        }
    }
    out.flush()?;
    Ok(())
}

fn draw(admin: &Admin, file: &Path) -> Result<(), Unprofiled> {
    let snapshots: Vec<Snapshot> = serde_json::from_str(&admin.get("/profile/history")?)?;
    std::fs::write(file, chart(&snapshots).to_svg()).map_err(|error| Unprofiled::File(file.to_owned(), error))
}

/// Memory by part, connections and lag over the life of the gateway.
fn chart(snapshots: &[Snapshot]) -> Chart {
    let (seconds, (label, scale)) = snapshots.last().map_or((0.0, time_axis(0.0)), |last| {
        let seconds = last.uptime_ms as f64 / 1e3;
        (seconds, time_axis(seconds))
    });
    // One snapshot alone makes no line.
    let shape = if snapshots.len() <= DOTTED_UP_TO { Shape::Dots } else { Shape::Line };
    let line = |name: &str, figure: &dyn Fn(&Snapshot) -> f64| Series {
        name: name.to_owned(),
        shape,
        points: snapshots.iter().map(|one| (one.uptime_ms as f64 / 1e3 / scale, figure(one))).collect(),
    };
    let known = |one: &Snapshot| one.parts.iter().map(|(_, bytes)| bytes as f64).sum();
    let panel = |heading: &str, label: &str, unit, series| Panel {
        heading: heading.into(),
        y: Axis { label: label.into(), unit, scale: Scale::Linear },
        series,
        limits: Vec::new(),
    };
    let memory = vec![
        line("whole RSS", &|one| one.memory.rss as f64),
        line("connections' parts", &known),
        line("everything else", &|one| one.everything_else as f64),
    ];
    let mut parts = Vec::new();
    for part in crate::meter::Part::ALL {
        parts.push(line(part.name(), &|one| one.parts.get(*part) as f64));
    }
    let lag = vec![line("p99", &|one| one.lag.p99_us as f64 / 1e6), line("max", &|one| one.lag.max_us as f64 / 1e6)];
    Chart {
        title: "lakh profile".into(),
        subtitle: format!(
            "{} snapshot{} over {:.1} {label}",
            snapshots.len(),
            if snapshots.len() == 1 { "" } else { "s" },
            seconds / scale
        ),
        x: Axis { label: format!("{label} since the start"), unit: Unit::Count, scale: Scale::Linear },
        panels: vec![
            panel("Memory", "bytes", Unit::Bytes, memory),
            panel("Memory of the connections by part", "bytes", Unit::Bytes, parts),
            panel("Connections", "open", Unit::Count, vec![line("open", &|one| one.connections as f64)]),
            panel("Event-loop lag", "time", Unit::Seconds, lag),
        ],
    }
}

/// The unit of time in which an axis this long is read best, and its seconds.
fn time_axis(seconds: f64) -> (&'static str, f64) {
    match seconds {
        s if s < 600.0 => ("seconds", 1.0),
        s if s < 36_000.0 => ("minutes", 60.0),
        _ => ("hours", 3_600.0),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A test's peers are bare threads, gone with the test.
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    /// A gateway's admin face with a canned answer for each request in turn.
    fn gateway(answers: Vec<(&'static str, String)>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for (target, body) in answers {
                let (mut socket, _) = listener.accept().expect("a client");
                let mut request = [0; 512];
                let length = socket.read(&mut request).expect("a request");
                let expected = format!("GET {target} HTTP/1.0\r\n");
                let right = request[..length].starts_with(expected.as_bytes());
                let status = if right { "200 OK" } else { "404 Not Found" };
                write!(socket, "HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).expect("sent");
            }
        });
        format!("http://{address}")
    }

    fn args(admin: String) -> Args {
        Args { admin, json: false, svg: None, watch: false }
    }

    fn shown(args: &Args) -> String {
        let mut out = Vec::new();
        run(args, &mut out).expect("shown");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn text_and_json_are_passed_on() {
        let text = gateway(vec![("/profile?format=text", "12 connections\n".into())]);
        assert_eq!(shown(&args(text)), "12 connections\n");
        let json = gateway(vec![("/profile?format=json", "{\"now\":{}}".into())]);
        assert_eq!(shown(&Args { json: true, ..args(json) }), "{\"now\":{}}\n");
    }

    #[test]
    fn the_chart_shows_the_history() {
        let snapshots = [10, 20, 30].map(|connections| Snapshot {
            uptime_ms: connections * 1_000,
            connections,
            ..Snapshot::default()
        });
        let history = serde_json::to_string(&snapshots).expect("serializes");
        let admin = gateway(vec![("/profile/history", history), ("/profile?format=text", "text".into())]);
        let file = std::env::temp_dir().join(format!("lakh-profile-{}.svg", std::process::id()));
        let text = shown(&Args { svg: Some(file.clone()), ..args(admin) });
        let svg = std::fs::read_to_string(&file).expect("written");
        std::fs::remove_file(&file).expect("there");
        assert!(text.starts_with("text\n\nchart: "), "{text}");
        for words in ["3 snapshots over 30.0 seconds", "outboxes", "Event-loop lag", "whole RSS"] {
            assert!(svg.contains(words), "{words}: {svg}");
        }
    }

    #[test]
    fn a_history_of_another_kind_and_an_unwritable_file_are_named() {
        let file = Some(PathBuf::from("/nonexistent/profile.svg"));
        let odd = gateway(vec![("/profile/history", "[{\"uptime\":1}]".into())]);
        let error = run(&Args { svg: file.clone(), ..args(odd) }, &mut io::sink()).expect_err("odd");
        assert!(matches!(error, Unprofiled::History(_)), "{error}");
        let good = gateway(vec![("/profile/history", "[]".into())]);
        let error = run(&Args { svg: file, ..args(good) }, &mut io::sink()).expect_err("unwritable");
        assert!(error.to_string().starts_with("can't write /nonexistent/profile.svg"), "{error}");
    }

    #[test]
    fn a_reader_that_leaves_is_no_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let admin = gateway(vec![("/profile?format=text", "text".into())]);
        run(&args(admin), &mut Closed).expect("fine");
    }
}
