//! The forecast in words and columns.

use std::fmt::Write;

use super::assumed::Assumed;
use super::calibration::{Calibration, Measured, Spread};
use super::forecast::{FLEETS, Fleet, Forecast, Resource, Simulated, Tier};
use super::model::Kind;
use super::presets::{Claim, Preset};
use crate::cli::simulate::thousands;
use crate::meter::Named;

/// What was planned, for people (Markdown).
pub fn text(forecast: &Forecast, preset: Option<&Preset>) -> String {
    let mut text = String::new();
    if let Some(preset) = preset {
        text.push_str(&claims(preset));
    }
    text.push_str(&head(forecast));
    let machine = forecast.tiers.first().map_or("", |tier| &tier.machine.name);
    let _ = writeln!(text, "## What fills first: {machine}\n");
    text.push_str(&timeline(&forecast.timeline));
    text.push_str("## Tiers of machines\n\n");
    text.push_str(&tiers(&forecast.tiers));
    text.push_str("## Nodes needed, one to spare, and dollars a month\n\n");
    text.push_str(&nodes(&forecast.tiers));
    if let Some(simulated) = &forecast.simulate {
        text.push_str("## What `lakh simulate` would show on this host, its clients on the same cores\n\n");
        text.push_str(&simulate(simulated));
    }
    text.push_str("## Assumptions\n\n");
    for assumption in &forecast.assumptions {
        let _ = writeln!(text, "- {assumption}");
    }
    text.push_str("\n## Figures that are assumed, neither measured nor given\n\n");
    text.push_str(&assumed(&forecast.assumed));
    text
}

fn head(forecast: &Forecast) -> String {
    let load = &forecast.load;
    let percents = |parts: Vec<(&str, f64)>| {
        let some = parts.into_iter().filter(|(_, share)| *share > 0.0);
        some.map(|(name, share)| format!("{} % {name}", figure(share * 100.0))).collect::<Vec<_>>().join(", ")
    };
    let spoken = percents(load.dialects.each().map(|(dialect, share)| (dialect.name(), share)).to_vec());
    let mut text = format!(
        "# {} clients ({spoken})\n\n- {} calls a second ({}), {} connects a second, requests of {} B, answers of {} B{}.\n",
        thousands(load.clients as i64),
        figure(forecast.calls_per_second),
        percents(load.shares.each().to_vec()),
        figure(load.connects_per_second),
        figure(load.request_bytes),
        figure(load.response_bytes),
        if load.tls { ", over TLS" } else { "" },
    );
    if let Some(calls) = forecast.calls_per_server {
        let _ = writeln!(
            text,
            "- A call is served in {} ms on average, weighted by time: {} calls a second for one server of them.",
            figure(forecast.service_seconds * 1e3),
            figure(calls),
        );
    }
    if forecast.upstream_calls_at_once > 0.0 {
        let _ = writeln!(text, "- {} calls are at the upstreams at once.", figure(forecast.upstream_calls_at_once));
    }
    text + "\n"
}

fn claims(preset: &Preset) -> String {
    let mut text = format!("# {}\n\nSource: {}.\n\n", preset.title, preset.source);
    if preset.claims.is_empty() {
        return text;
    }
    let range = |(from, to): (f64, f64), unit: &str| {
        let both =
            if (to - from).abs() < f64::EPSILON { figure(from) } else { format!("{} to {}", figure(from), figure(to)) };
        if unit.starts_with('/') { format!("{both}{unit}") } else { format!("{both} {unit}").trim_end().to_owned() }
    };
    let row = |claim: &Claim| {
        vec![
            claim.what.to_owned(),
            range(claim.claimed, claim.unit),
            range(claim.computed, claim.unit),
            if claim.adds_up { "yes" } else { "NO" }.to_owned(),
            claim.because.to_owned(),
        ]
    };
    let heads = ["what", "claimed", "computed from its own figures", "adds up", "because"].map(String::from).to_vec();
    let rows: Vec<_> = std::iter::once(heads).chain(preset.claims.iter().map(row)).collect();
    text.push_str(&columns(&rows));
    text
}

fn timeline(resources: &[Resource]) -> String {
    let heads = ["resource", "there is", "the load takes", "planned to", "at clients", "75 %", "85 %", "95 %", "full"];
    let mut rows = vec![heads.map(String::from).to_vec()];
    for resource in resources {
        let amount = |value: f64| amount(resource.kind, value);
        let mut row = vec![
            resource.kind.name().to_owned(),
            resource.limit.map_or_else(|| "no limit".to_owned(), amount),
            amount(resource.used),
            format!("{:.0} %", resource.planned * 100.0),
            clients(resource.planned_at),
        ];
        row.extend(resource.marks.map(clients));
        rows.push(row);
    }
    columns(&rows)
}

fn tiers(tiers: &[Tier]) -> String {
    let heads = ["machine", "clients", "fills first", "calls/s", "all back after", "nodes for this load", "$ a month"];
    let mut rows = vec![heads.map(String::from).to_vec()];
    for tier in tiers {
        rows.push(vec![
            tier.machine.name.clone(),
            clients(tier.clients),
            tier.fills_first.map_or("nothing", Named::name).to_owned(),
            tier.calls_per_second.map_or_else(|| "-".to_owned(), figure),
            tier.reconnect_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{} s", figure(seconds))),
            tier.for_load.nodes.map_or_else(|| "holds none".to_owned(), |nodes| thousands(nodes as i64)),
            dollars(tier.for_load),
        ]);
    }
    columns(&rows)
}

fn nodes(tiers: &[Tier]) -> String {
    let mut heads = vec!["clients".to_owned()];
    heads.extend(tiers.iter().map(|tier| tier.machine.name.clone()));
    let mut rows = vec![heads];
    for (position, clients) in FLEETS.into_iter().enumerate() {
        let mut row = vec![thousands(clients as i64)];
        row.extend(tiers.iter().map(|tier| match tier.fleets.get(position) {
            Some(fleet @ Fleet { nodes: Some(nodes), cost_month, .. }) => {
                let cost = cost_month.map_or_else(String::new, |_| format!(" (${})", dollars(*fleet)));
                format!("{}{cost}", thousands(*nodes as i64))
            }
            _ => "-".to_owned(),
        }));
        rows.push(row);
    }
    columns(&rows)
}

fn simulate(all: &[Simulated]) -> String {
    let heads = ["clients", "gateway RSS", "clients/s", "pings/s"];
    let mut rows = vec![heads.map(String::from).to_vec()];
    rows.extend(all.iter().map(|one| {
        vec![
            thousands(i64::from(one.clients)),
            mib(one.rss_bytes),
            spread(one.connects_per_second),
            spread(one.pings_per_second),
        ]
    }));
    columns(&rows)
}

fn assumed(all: &[Assumed]) -> String {
    let heads = ["figure", "taken to be", "because", "to set another"].map(String::from).to_vec();
    let row = |one: &Assumed| {
        let value = format!("{} {}", figure(one.value), one.unit).trim_end().to_owned();
        vec![one.figure.clone(), value, one.because.to_owned(), one.set.to_owned()]
    };
    columns(&std::iter::once(heads).chain(all.iter().map(row)).collect::<Vec<_>>())
}

/// What a calibration found: a row for each path, a column for each dialect.
pub fn calibration(calibration: &Calibration) -> String {
    let all: Vec<_> = calibration.dialects.iter().collect();
    let heads = std::iter::once("per client".to_owned()).chain(all.iter().map(|(dialect, _)| (*dialect).clone()));
    let mut rows = vec![heads.collect::<Vec<_>>()];
    let mut row = |name: &str, cell: &dyn Fn(&Measured) -> String| {
        rows.push(std::iter::once(name.to_owned()).chain(all.iter().map(|(_, one)| cell(one))).collect());
    };
    row("memory, B", &|one| figure(one.bytes_per_client()));
    row("kernel memory, B", &|one| figure(one.kernel_bytes_per_client));
    for (place, (name, _)) in all.first().map(|(_, one)| one.costs.each()).into_iter().flatten().enumerate() {
        let cost = |one: &Measured| one.costs.each().into_iter().nth(place).map(|(_, cost)| *cost);
        row(&format!("{name}, us"), &|one| cost(one).map_or_else(String::new, |cost| spread(cost.gateway_us)));
    }
    row("pings/s", &|one| spread(one.costs.ping.per_second));
    format!(
        "Microseconds of the gateway's processor time ({}, {}): medians of several bursts, in parentheses the least and the \
         most. Measured over loopback: no network card's work is in them.\n\n{}",
        calibration.build,
        calibration.machine,
        columns(&rows)
    )
}

/// The median, and the least and the most in parentheses.
pub(super) fn spread(of: Spread) -> String {
    format!("{} ({} to {})", figure(of.median), figure(of.least), figure(of.most))
}

/// Rows in columns, the first row being the heads, with a line below; columns that begin with a figure are set to the right.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let column = |at: usize| rows.iter().filter_map(move |row| row.get(at));
    let is_figure = |cell: &String| cell.starts_with(|first: char| first.is_ascii_digit() || "-+$".contains(first));
    let shapes: Vec<(usize, bool)> = (0..rows.first().map_or(0, Vec::len))
        .map(|at| {
            let width = column(at).map(|cell| cell.chars().count()).max().unwrap_or(0);
            (width, at > 0 && column(at).skip(1).any(is_figure) && !column(at).any(|cell| cell.len() > FIGURE_MOST))
        })
        .collect();
    let mut text = String::new();
    for (position, row) in rows.iter().enumerate() {
        for (cell, (width, right)) in row.iter().zip(&shapes) {
            let _ = if *right { write!(text, "| {cell:>width$} ") } else { write!(text, "| {cell:<width$} ") };
        }
        text.push_str("|\n");
        if position == 0 {
            for (width, right) in &shapes {
                let _ = write!(text, "|{:-<width$}{}", "", if *right { ":" } else { "-" }, width = width + 1);
            }
            text.push_str("|\n");
        }
    }
    text + "\n"
}

/// A longer cell is no figure (bytes).
const FIGURE_MOST: usize = 34;

/// A number of clients; `None`: it never comes to that.
fn clients(count: Option<u64>) -> String {
    count.map_or_else(|| "never".to_owned(), |count| thousands(count as i64))
}

fn dollars(fleet: Fleet) -> String {
    fleet.cost_month.map_or_else(|| "-".to_owned(), |dollars| thousands(dollars.round() as i64))
}

pub(super) fn mib(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}

fn amount(kind: Kind, value: f64) -> String {
    match kind {
        Kind::Memory if value >= f64::from(1 << 30) => format!("{:.1} GiB", value / f64::from(1 << 30)),
        Kind::Memory => mib(value),
        Kind::Cpu => format!("{} cores", figure(value)),
        Kind::Network => format!("{} Gbit/s", figure(value * 8.0 / 1e9)),
        Kind::Descriptors | Kind::Slots => figure(value),
    }
}

/// A figure with three digits that count, and thousands grouped.
pub(super) fn figure(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "-".to_owned(),
        size if size >= 100.0 => thousands(value.round() as i64),
        size if size >= 10.0 => trimmed(format!("{value:.1}")),
        size if size >= 1.0 => trimmed(format!("{value:.2}")),
        size if size >= 0.001 => trimmed(format!("{value:.4}")),
        0.0 => "0".to_owned(),
        _ => format!("{value:.1e}"),
    }
}

fn trimmed(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::coefficients::tests::measurements;
    use super::super::forecast::forecast;
    use super::super::machine::tiers;
    use super::super::presets::Name;
    use super::*;

    #[test]
    fn figures_are_short() {
        let written = [0.0, 12.345, 1_234_567.8, 0.012_34, 2.0, 139.86, 1e-9, f64::NAN].map(figure);
        assert_eq!(written, ["0", "12.3", "1,234,568", "0.0123", "2", "140", "1.0e-9", "-"]);
    }

    #[test]
    fn everything_is_told_and_columns_line_up() {
        let preset = Name::MemoryNexus.preset();
        let told = text(&forecast(&measurements(), &preset.load, &tiers(), &tiers()[0]), Some(&preset));
        for words in [
            "365/s",
            "140/s",
            "NO",
            "fills first",
            "10,000,000",
            "## Assumptions",
            "/proc/PID/stat",
            "gateway RSS",
            "price_month: 2 cores",
        ] {
            assert!(told.contains(words), "{words} in\n{told}");
        }
        for table in told.split("\n\n").filter(|part| part.starts_with('|')) {
            let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
            assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
        }
    }
}
