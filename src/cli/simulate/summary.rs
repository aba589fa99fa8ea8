//! The outcome in words and columns.

use std::fmt::Write;

use super::step::{Outcome, Step};
use super::{heap, profile};

/// The outcome for people: a row per step, then what the run as a whole has shown (Markdown).
pub fn table(outcome: &Outcome) -> String {
    if let Some(performance) = &outcome.profile {
        return profile::table(performance, &outcome.missed);
    }
    let heads = [
        "wave",
        "connections",
        "gateway RSS",
        "B/conn all in",
        "B/conn slope",
        "kernel B/conn",
        "clients/s",
        "pings/s",
        "ping p50",
        "ping p99",
        "ping max",
        "dead",
    ];
    let mut rows = vec![heads.map(String::from)];
    let mut earlier: Option<&Step> = None;
    for step in &outcome.steps {
        let slope = earlier.and_then(|earlier| step.slope_since(earlier));
        let whole = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| thousands(value.round() as i64));
        let time = |value: Option<f64>| value.map_or_else(|| "-".into(), |seconds| format!("{:.2} ms", seconds * 1e3));
        rows.push([
            if step.wave == 0 { "idle".into() } else { step.wave.to_string() },
            thousands(i64::from(step.connections)),
            step.rss.map_or_else(|| "-".into(), mib),
            whole(step.bytes_all_in()),
            whole(slope),
            whole(step.kernel_per_connection),
            whole(step.connect_rate),
            whole(step.ping_rate),
            time(step.ping_p50),
            time(step.ping_p99),
            time(step.ping_max),
            step.dead.to_string(),
        ]);
        earlier = Some(step);
    }
    let mut text = align(&rows);
    text.push('\n');
    text.push_str(&verdict(outcome));
    if let Some(heap) = &outcome.heap {
        text.push('\n');
        text.push_str(&heap::table(heap));
    }
    text
}

/// Rows of cells as a Markdown table whose columns line up; the first row is the heads.
pub(super) fn align<R: AsRef<[String]>>(rows: &[R]) -> String {
    let columns = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.as_ref()) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for (position, row) in rows.iter().enumerate() {
        for (cell, width) in row.as_ref().iter().zip(&widths) {
            let _ = write!(text, "| {cell:>width$} ");
        }
        text.push_str("|\n");
        if position == 0 {
            for width in &widths {
                let _ = write!(text, "|{:->width$}:", "", width = width + 1);
            }
            text.push_str("|\n");
        }
    }
    text
}

fn verdict(outcome: &Outcome) -> String {
    let mut text = String::new();
    if let Some((slope, (from, to))) = outcome.slope.zip(outcome.slope_between()) {
        let (from, to) = (short(from.into()), short(to.into()));
        let _ = writeln!(text, "- Slope from {from} to {to} connections: {slope:.0} bytes per connection.");
    }
    if let Some(rate) = outcome.connect_rate {
        let _ = writeln!(
            text,
            "- Connected, handshaken and one tool call answered: {} clients a second.",
            thousands(rate as i64)
        );
    }
    if let Some(growth) = outcome.wave_growth {
        let _ = writeln!(text, "- The last wave's peak lies {growth:+.1} % over the first's.");
    }
    if let Some(fanout) = &outcome.fanout {
        let _ = writeln!(
            text,
            "- A change behind the gateway was told to {} clients: the first after {:.1} ms, half after {:.1} ms, 99 % after {:.1} ms, \
             the last after {:.1} ms.",
            thousands(fanout.told as i64),
            fanout.first * 1e3,
            fanout.p50 * 1e3,
            fanout.p99 * 1e3,
            fanout.last * 1e3
        );
    }
    text.push_str("- RSS is the gateway's whole resident memory, binary and all. Kernel bytes are one end's: what the slabs grew by, halved, both ends being on this machine.\n");
    if outcome.passed() {
        text.push_str("- Passed: every client was there, its echo and its pings right.\n");
    }
    for missed in &outcome.missed {
        let _ = writeln!(text, "- **Failed**: {missed}");
    }
    text
}

/// 100000 as `100k`, 1500 as `1500`.
pub(super) fn short(number: u64) -> String {
    match number {
        _ if number >= 1_000_000 && number.is_multiple_of(1_000_000) => {
            format!("{}m", number / 1_000_000)
        }
        _ if number >= 1_000 && number.is_multiple_of(1_000) => format!("{}k", number / 1_000),
        _ => number.to_string(),
    }
}

pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

pub(in crate::cli) fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = if number < 0 { String::from("-") } else { String::new() };
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::order::Deaths;
    use super::super::step::Budget;
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            (thousands(1_234_567), thousands(-1_000), thousands(12)),
            ("1,234,567".into(), "-1,000".into(), "12".into())
        );
        assert_eq!((short(100_000), short(1_000_000), short(1_500)), ("100k".into(), "1m".into(), "1500".into()));
    }

    #[test]
    fn the_table_shows_every_step_and_every_failure() {
        let step = |wave, connections, rss| Step {
            wave,
            connections,
            live: u64::from(connections),
            rss: Some(rss),
            ping_max: Some(0.02),
            ..Step::default()
        };
        let steps = vec![step(0, 0, 9 << 20), step(1, 1_000, 10 << 20), step(1, 10_000, 12 << 20)];
        let budget = Budget { rss_max: Some(11 << 20), ..Budget::default() };
        let outcome = Outcome::judge(steps, Deaths::default(), 2, 1.0, true, &budget);
        let text = table(&outcome);
        assert!(text.contains("12.0 MiB") && text.contains("20.00 ms") && text.contains("**Failed**"), "{text}");
        let lines: Vec<&str> = text.lines().take(5).collect();
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "columns line up:\n{text}");
    }
}
