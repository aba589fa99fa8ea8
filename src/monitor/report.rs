//! The report: the live state as data (JSON by serde) and as the text that a person reads.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{AlarmState, Alarms, Growth, History, Mark, PoolFigures, Snapshot, Verdict};
use crate::meter::Named;

/// What the profiler knows. Its `Display` is the text of `lakh profile`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The figures of now.
    pub now: Snapshot,
    /// Bytes of RSS that one more connection added, between the lowest and the highest mark reached.
    pub slope_bytes_per_connection: Option<u64>,
    /// The same of the kernel's memory, of the whole machine.
    pub kernel_slope_bytes_per_connection: Option<u64>,
    /// The trend of memory, and the verdict.
    pub growth: Growth,
    /// Every alarm, raised or not.
    pub alarms: Vec<AlarmState>,
    /// The snapshots at the marks reached.
    pub marks: Vec<Mark>,
    /// The whole life so far, to plot.
    pub history: Vec<Point>,
}

/// One moment of the history, as much as a plot needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// In milliseconds since the start of the process.
    pub uptime_ms: u64,
    /// Connections open.
    pub connections: u64,
    /// Resident memory of the whole process, in bytes.
    pub rss: u64,
    /// The longest lag of an event loop since the point before, in microseconds.
    pub lag_max_us: u64,
}

impl Report {
    pub(super) fn new(now: Snapshot, growth: Growth, alarms: &Alarms, history: &History) -> Self {
        let point = |snapshot: &Snapshot| Point {
            uptime_ms: snapshot.uptime_ms,
            connections: snapshot.connections,
            rss: snapshot.memory.rss,
            lag_max_us: snapshot.lag.max_us,
        };
        Self {
            now,
            slope_bytes_per_connection: history.slope_bytes_per_connection(),
            kernel_slope_bytes_per_connection: history.kernel_slope_bytes_per_connection(),
            growth,
            alarms: alarms.states().collect(),
            marks: history.marks().to_vec(),
            history: history.snapshots().iter().map(point).collect(),
        }
    }

    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = &self.now;
        let each = |bytes: u64| match bytes.checked_div(now.connections) {
            Some(each) => format!("{} B", grouped(each)),
            None => String::from("-"),
        };
        let mut row = |what: &str, bytes: u64| writeln!(f, "{what:<24}{:>14}{:>18}", mebibytes(bytes), each(bytes));
        row("whole RSS", now.memory.rss)?;
        for (part, bytes) in now.parts.iter() {
            row(&format!("  {}", part.name()), bytes)?;
        }
        row("  everything else", now.everything_else)?;
        if let Some(kernel) = now.kernel {
            row("kernel, beside: slab", kernel.slab)?;
            row("kernel, beside: tcp", kernel.tcp)?;
            writeln!(f, "  of the whole machine, with {} sockets of TCP", grouped(kernel.tcp_sockets))?;
        }
        write!(f, "RSS peak {}, virtual {}", mebibytes(now.memory.rss_peak), mebibytes(now.memory.virt))?;
        if let Some(allocator) = now.allocator {
            write!(f, ", allocator committed {}", mebibytes(allocator.committed))?;
        }
        if let Some(slope) = self.slope_bytes_per_connection {
            write!(f, "\none more connection added {} B, by slope between the marks", grouped(slope))?;
        }
        if let Some(slope) = self.kernel_slope_bytes_per_connection {
            write!(f, "\nand {} B to the kernel of the whole machine", grouped(slope))?;
        }
        f.write_str("\n")
    }

    fn write_marks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.marks.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n{:<24}{:>14}{:>18}", "mark", "RSS", "per connection")?;
        for Mark { snapshot, .. } in &self.marks {
            let each = snapshot.bytes_per_connection.unwrap_or_default();
            let connections = grouped(snapshot.connections);
            writeln!(f, "{connections:<24}{:>14}{:>16} B", mebibytes(snapshot.memory.rss), grouped(each))?;
        }
        Ok(())
    }

    fn write_growth(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let growth = &self.growth;
        let verdict = match growth.verdict {
            Verdict::No => String::from("no leak"),
            Verdict::Watching => String::from("watching"),
            Verdict::Leak { mb_per_hour } => format!("LEAK of {mb_per_hour:.1} MB/h"),
        };
        match growth.mb_per_hour {
            Some(rate) => writeln!(
                f,
                "growth    {rate:+.1} MB/h over {:.0} min at steady connections, {:.0} % of pairs rising: {verdict}",
                growth.stretch_s / 60.0,
                growth.confidence * 100.0
            ),
            None => writeln!(f, "growth    not known yet: connections steady for {:.0} min", growth.stretch_s / 60.0),
        }
    }

    fn write_alarms(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raised = self.alarms.iter().filter(|state| state.raised_at_ms.is_some());
        if raised.clone().next().is_none() {
            let times: u64 = self.alarms.iter().map(|state| state.times).sum();
            return writeln!(f, "alarms    none ({times} so far)");
        }
        raised.into_iter().try_for_each(|state| {
            let value = state.value.map_or_else(|| String::from("not judged now"), |value| format!("{value:.2}"));
            let raised_for = self.now.uptime_ms.saturating_sub(state.raised_at_ms.unwrap_or_default());
            let raised_for = duration(raised_for);
            writeln!(f, "ALARM     {} {value} (limit {:.2}), for {raised_for}", state.alarm.name(), state.limit)
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = &self.now;
        writeln!(f, "{} connections, up {}\n", grouped(now.connections), duration(now.uptime_ms))?;
        writeln!(f, "{:<24}{:>14}{:>18}", "memory", "bytes", "per connection")?;
        self.write_memory(f)?;
        self.write_marks(f)?;
        f.write_str("\n")?;
        let [p50, p99, max] = [now.lag.p50_us, now.lag.p99_us, now.lag.max_us].map(|us| us as f64 / 1_000.0);
        writeln!(f, "loop lag  p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms")?;
        self.write_growth(f)?;
        write_pool(f, "slots", &now.slots)?;
        write_pool(f, "buffers", &now.buffers)?;
        self.write_alarms(f)
    }
}

fn write_pool(f: &mut fmt::Formatter<'_>, name: &str, pool: &PoolFigures) -> fmt::Result {
    let [in_use, available, reused, created, refused] =
        [pool.in_use, pool.available, pool.reused, pool.created, pool.refused].map(grouped);
    writeln!(
        f,
        "{name:<10}{in_use} in use, {available} available, {reused} reused, {created} created ({:.1} % reuse), \
         {refused} refused",
        pool.reuse_ratio * 100.0
    )
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20))
}

/// `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The two largest units of a time.
fn duration(millis: u64) -> String {
    let seconds = millis / 1_000;
    let [days, hours, minutes] = [seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60];
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_times_spelt() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([5_000, 90_000].map(duration), ["5 s", "1 min 30 s"]);
        assert_eq!([3_600_000, 90_061_000].map(duration), ["1 h 0 min", "1 d 1 h"]);
    }

    #[test]
    fn an_empty_report_is_no_fault() {
        let text = Report::default().to_string();
        assert!(text.starts_with("0 connections, up 0 s\n"), "{text}");
        assert!(text.contains("everything else"), "{text}");
    }
}
