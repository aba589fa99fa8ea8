//! A profile's results for people: a table, the raw data second by second, and a plot.

use std::fmt::Write;

use serde::Serialize;

use super::acts::{Play, Slow};
use super::sample::{Line, cores};
use super::{Performance, Profile, Scene};
use crate::cli::chart::{Axis, Chart, Panel, Scale, Series, Shape, Unit};
use crate::cli::simulate::drive::{Drove, Refused, quantile};
use crate::cli::simulate::setup::Setup;
use crate::cli::simulate::step::Outcome;
use crate::cli::simulate::summary::{align, mib, short, thousands};
use crate::cli::simulate::{Args, Error, results};

/// One act. Times are in seconds, memory in bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: String,
    pub seconds: f64,
    /// Clients that were in at its end.
    pub clients: u64,
    pub calls_per_s: f64,
    /// Clients that came in, each with its handshake and first call.
    pub came_per_s: f64,
    /// Of calls; where none were made, from a client's connect to its first call answered.
    pub p50: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    pub failed: u64,
    pub refused: u64,
    /// Cores that the gateway used, on average.
    pub cores: Option<f64>,
    /// The most resident memory of the gateway.
    pub rss: Option<u64>,
}

/// The refusals of one reason.
#[derive(Debug, Clone, Serialize)]
pub struct RefusalRow {
    pub reason: String,
    pub count: u64,
    /// Those of them that said when to come again.
    pub hinted: u64,
    /// Seconds until the refusal was there.
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

pub(super) fn row(scene: &Scene) -> Row {
    let whole = scene.drove.whole();
    let waits = if whole.calls.asked > 0 { &whole.waits } else { &scene.drove.handshakes };
    let ends = scene.samples.first().zip(scene.samples.last());
    let per_s = |count: u64| if scene.seconds > 0.0 { count as f64 / scene.seconds } else { 0.0 };
    Row {
        name: scene.act.name.clone(),
        seconds: scene.seconds,
        clients: scene.live,
        calls_per_s: per_s(whole.calls.answered),
        came_per_s: per_s(whole.came),
        p50: quantile(waits, 0.5),
        p95: quantile(waits, 0.95),
        p99: quantile(waits, 0.99),
        failed: whole.failed,
        refused: whole.refused,
        cores: ends.and_then(|(first, last)| cores(first, last)),
        rss: scene.samples.iter().filter_map(|sample| sample.rss).max(),
    }
}

pub(super) fn refusals(scenes: &[Scene]) -> Vec<RefusalRow> {
    let mut all = Drove::default();
    scenes.iter().for_each(|scene| all.merge(scene.drove.clone()));
    let row = |(reason, refused): (String, Refused)| RefusalRow {
        reason,
        count: refused.count,
        hinted: refused.hinted,
        p50: quantile(&refused.waits, 0.5),
        p99: quantile(&refused.waits, 0.99),
    };
    all.refusals.into_iter().map(row).collect()
}

/// The outcome for people (Markdown).
pub(in crate::cli::simulate) fn table(performance: &Performance, missed: &[String]) -> String {
    let time = |value: Option<f64>| value.map_or_else(|| "-".into(), |seconds| format!("{:.2} ms", seconds * 1e3));
    let mut rows = vec![
        ["part", "s", "clients", "calls/s", "came/s", "p50", "p95", "p99", "failed", "refused", "CPU", "RSS"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(performance.rows.iter().map(|row| {
        vec![
            row.name.clone(),
            format!("{:.1}", row.seconds),
            thousands(row.clients as i64),
            thousands(row.calls_per_s.round() as i64),
            thousands(row.came_per_s.round() as i64),
            time(row.p50),
            time(row.p95),
            time(row.p99),
            thousands(row.failed as i64),
            thousands(row.refused as i64),
            row.cores.map_or_else(|| "-".into(), |cores| format!("{:.1} %", cores * 100.0)),
            row.rss.map_or_else(|| "-".into(), mib),
        ]
    }));
    let mut text = align(&rows);
    if !performance.refusals.is_empty() {
        let mut rows =
            vec![["refused because", "count", "with the time to come again", "p50", "p99"].map(String::from).to_vec()];
        rows.extend(performance.refusals.iter().map(|row| {
            let counts = [row.count, row.hinted].map(|count| thousands(count as i64));
            let [count, hinted] = counts;
            vec![row.reason.clone(), count, hinted, time(row.p50), time(row.p99)]
        }));
        let _ = write!(text, "\n{}", align(&rows));
    }
    let mut rows = vec![["figure", "value", "must be", "kept"].map(String::from).to_vec()];
    rows.extend(performance.figures.iter().map(|figure| {
        let kept = match (figure.kept, &figure.asked) {
            (Some(true), _) => "yes",
            (Some(false), _) => "**no**",
            (None, Some(_)) => "not judged",
            (None, None) => "",
        };
        vec![figure.what.clone(), figure.shown.clone(), figure.asked.clone().unwrap_or_default(), kept.into()]
    }));
    let _ = write!(text, "\n{}\n", align(&rows));
    text.push_str(
        "- p50, p95, p99: of calls, from the write to the answer; where no calls are made, from a client's connect to its first \
         call answered.\n- CPU is that of the gateway in percent of one core; RSS its whole resident memory.\n",
    );
    if missed.is_empty() {
        text.push_str("- Passed.\n");
    }
    for missed in missed {
        let _ = writeln!(text, "- **Failed**: {missed}");
    }
    text
}

/// The folder's last words.
fn name(profile: Profile, play: &Play) -> String {
    let tenants = if play.tenants > 0 { "-tenants" } else { "" };
    let (dialect, clients) = (play.dialect.name(), short(u64::from(play.clients)));
    format!("{}{tenants}-{dialect}-{clients}", word(profile))
}

fn word(profile: Profile) -> &'static str {
    match profile {
        Profile::Ramp => "ramp",
        Profile::Burst => "burst",
        Profile::Churn => "churn",
        Profile::Soak => "soak",
        Profile::Storm => "storm",
        Profile::Overload => "overload",
    }
}

/// Writes a folder as a run without a profile does, and notes it in `outcome`.
pub(super) fn write(
    args: &Args,
    profile: Profile,
    setup: &Setup,
    play: &Play,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let Some(performance) = &outcome.profile else { return Ok(()) };
    let name = name(profile, play);
    let chart = chart(performance, setup, play);
    let folder = format!("{}-{}-{name}", setup.date, setup.machine);
    let (raw, summary) = (csv(&performance.track.lines), table(performance, &outcome.missed));
    let summary = format!("# {}\n\n{summary}", chart.title);
    let files = [("setup.md", setup.text.as_str()), ("raw.csv", &raw), ("summary.md", &summary)];
    outcome.results = Some(results::leave(&args.results, &folder, &files, &chart)?);
    Ok(())
}

fn csv(lines: &[Line]) -> String {
    let mut text = String::from(
        "t_s,part,clients,asked,answered,in_time,failed,refused,came,left,p50_s,p95_s,p99_s,rss_bytes,cores,in_flight,queued\n",
    );
    let cell = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let whole = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    for Line { at, act, second, sample, cores } in lines {
        let calls = second.calls;
        let queue = sample.queue;
        let _ = writeln!(
            text,
            "{at:.1},{act},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
            sample.live,
            calls.asked,
            calls.answered,
            calls.in_time,
            second.failed,
            second.refused,
            second.came,
            second.left,
            cell(quantile(&second.waits, 0.5)),
            cell(quantile(&second.waits, 0.95)),
            cell(quantile(&second.waits, 0.99)),
            whole(sample.rss),
            cell(cores.map(|cores| (cores * 1e3).round() / 1e3)),
            whole(queue.map(|queue| queue.in_flight)),
            whole(queue.and_then(|queue| queue.queued)),
        );
    }
    text
}

fn chart(performance: &Performance, setup: &Setup, play: &Play) -> Chart {
    let lines = &performance.track.lines;
    let series = |name: &str, of: &dyn Fn(&Line) -> Option<f64>| Series {
        name: name.into(),
        shape: Shape::Line,
        points: lines.iter().filter_map(|line| Some((line.at, of(line)?))).collect(),
    };
    let waits = |share: f64| move |line: &Line| quantile(&line.second.waits, share);
    let axis = |label: &str, unit, scale| Axis { label: label.into(), unit, scale };
    let panel = |heading: &str, y, series: Vec<Series>| {
        // What never happened needs no line.
        let happened = |series: &Series| series.points.iter().any(|point| point.1 > 0.0);
        Panel { heading: heading.into(), y, series: series.into_iter().filter(happened).collect(), limits: Vec::new() }
    };
    let count = |of: fn(&Line) -> u64| move |line: &Line| Some(of(line) as f64);
    let limit =
        |name: &str, of: fn(Slow) -> f64| play.slow.map(|slow| (name.to_owned(), of(slow))).into_iter().collect();
    let is_steady = lines.windows(2).all(|two| two[0].sample.live == two[1].sample.live);
    let mut panels = vec![
        panel(
            "Response time",
            axis("of calls answered in that second", Unit::Seconds, Scale::Log),
            vec![series("p50", &waits(0.5)), series("p95", &waits(0.95)), series("p99", &waits(0.99))],
        ),
        panel(
            "Each second",
            axis("calls and clients", Unit::Count, Scale::Linear),
            vec![
                series("asked", &count(|line| line.second.calls.asked)),
                series("answered", &count(|line| line.second.calls.answered)),
                series("refused", &count(|line| line.second.refused)),
                series("failed", &count(|line| line.second.failed)),
                series("came in", &count(|line| line.second.came)),
                series("in the queue", &|line| Some(line.sample.queue?.queued? as f64)),
            ],
        ),
        panel(
            "Memory of the gateway",
            axis("whole resident set", Unit::Bytes, Scale::Linear),
            vec![series("RSS", &|line| line.sample.rss.map(|rss| rss as f64))],
        ),
        panel(
            "CPU of the gateway",
            axis("cores", Unit::Count, Scale::Linear),
            vec![series("cores", &|line| line.cores)],
        ),
    ];
    if let [response, counts, ..] = &mut panels[..] {
        response.limits = limit("deadline", |slow| slow.deadline().as_secs_f64());
        counts.limits = limit("what the server can answer", Slow::capacity);
    }
    if !is_steady {
        let clients = vec![series("clients", &count(|line| line.sample.live))];
        panels.push(panel("Clients", axis("in", Unit::Count, Scale::Linear), clients));
    }
    let greedy = if play.tenants > 0 { ", one tenant greedy" } else { "" };
    let clients = short(u64::from(play.clients)).to_uppercase();
    Chart {
        title: format!("lakh: {}{greedy}, {clients} {} clients", word(performance.profile), play.dialect.title()),
        subtitle: format!(
            "{}, {}; real sockets, the load follows a schedule, not the answers",
            setup.date, setup.machine
        ),
        x: axis("seconds", Unit::Count, Scale::Linear),
        panels: panels.into_iter().filter(|panel| !panel.series.is_empty()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_time_that_was_not_measured_is_a_dash() {
        let row = Row {
            name: "storm".into(),
            seconds: 3.0,
            clients: 1_000,
            calls_per_s: 0.0,
            came_per_s: 333.3,
            p50: None,
            p95: None,
            p99: Some(0.25),
            failed: 0,
            refused: 7,
            cores: Some(0.5),
            rss: None,
        };
        let refusal = RefusalRow { reason: "full".into(), count: 7, hinted: 6, p50: None, p99: Some(0.001) };
        let performance = Performance {
            profile: Profile::Storm,
            rows: vec![row],
            refusals: vec![refusal],
            figures: Vec::new(),
            track: super::super::Track::default(),
        };
        let text = table(&performance, &["something".into()]);
        for wanted in ["| storm |", "250.00 ms", "50.0 %", "full", "**Failed**: something"] {
            assert!(text.contains(wanted), "{wanted}:\n{text}");
        }
        assert!(!text.contains("Passed"));
    }
}
