//! What a run notes of the machine and the program before it begins.

use std::fmt::Write;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::clients::{Brief, PINGS, handshakes};
use super::{Args, Behind, Profile, heap};
use crate::meter::Host;

/// What is known about the machine and the program, read before the run.
pub(super) struct Setup {
    /// UTC, as YYYY-MM-DD.
    pub(super) date: String,
    /// As `2core-24gib-linux6.18`.
    pub(super) machine: String,
    /// All of it, as Markdown.
    pub(super) text: String,
}

impl Setup {
    pub(super) fn read(args: &Args, brief: &Brief, host: &Host) -> Self {
        let date = date_of(SystemTime::now());
        let machine = machine_of(host);
        let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        let mut text = format!("# Setup of this run\n\nCommand: `lakh {command}`\n\n| what | value |\n|---|---|\n");
        let run = [("date", format!("{date} (UTC)"))].into_iter().chain(program(args, brief, host));
        for (what, value) in run.chain(limits(host)) {
            let _ = writeln!(text, "| {what} | {value} |");
        }
        Self { date, machine, text }
    }
}

/// The machine in a word, for the name of a folder: `2core-24gib-linux6.18`.
pub(in crate::cli) fn machine_of(host: &Host) -> String {
    let kernel = host.kernel.as_deref().unwrap_or("unknown");
    let short_kernel = kernel.split('.').take(2).collect::<Vec<_>>().join(".");
    let memory = host.memory_total.unwrap_or(0).div_ceil(1 << 30);
    format!("{}core-{memory}gib-linux{short_kernel}", host.cores)
}

fn program(args: &Args, brief: &Brief, host: &Host) -> [(&'static str, String); 8] {
    let (tables, per_process) = brief.tables();
    let build = match (heap::PROFILED, cfg!(debug_assertions)) {
        (true, _) => "heap profile: no figures of time and resident memory to keep",
        (false, true) => "debug build: no figures to keep",
        (false, false) => "optimized build",
    };
    let gateway =
        args.target.map_or_else(|| "a process of its own on the same cores".into(), |target| format!("at {target}"));
    let behind = match (args.fanout, args.upstream, args.target) {
        _ if args.profile == Some(Profile::Overload) => {
            "a server that takes its time, in the process of simulate, over TCP".into()
        }
        (true, ..) => "a server of one tool that can change its list, in the process of simulate, over TCP".into(),
        (_, _, Some(_)) => "whatever it has".into(),
        (_, Behind::Embedded, _) => "its own embedded server".into(),
        (_, Behind::Tcp, _) => "another lakh with its embedded server, over TCP".into(),
        (_, Behind::At(address), _) => format!("a server at {address}, over TCP"),
    };
    let processes = tables.div_ceil(per_process);
    [
        ("lakh", format!("{} ({build})", env!("CARGO_PKG_VERSION"))),
        ("rustc", said_by("rustc", &["--version"])),
        ("git commit", said_by("git", &["describe", "--always", "--dirty"])),
        ("gateway", gateway),
        ("behind it", behind),
        ("clients", format!("{} speaking {}, {} wave(s)", brief.connections, brief.dialect.title(), args.waves)),
        ("client processes", format!("{processes}, with {tables} threads and descriptor tables")),
        ("under way at once", format!("{} handshakes, {PINGS} pings, over all clients", handshakes(host))),
    ]
}

fn limits(host: &Host) -> [(&'static str, String); 9] {
    let told = |value: Option<u64>| value.map_or_else(|| "not readable".into(), |value| value.to_string());
    let memory = host.memory_total.unwrap_or(0) as f64 / f64::from(1 << 30);
    [
        ("machine", format!("{} cores, {memory:.1} GiB", host.cores)),
        ("kernel", host.kernel.clone().unwrap_or_else(|| told(None))),
        ("RLIMIT_NOFILE, hard", told(host.nofile_hard)),
        ("own descriptor tables", if host.own_tables { "permitted" } else { "refused" }.into()),
        ("fs.file-max", told(host.file_max)),
        ("net.core.somaxconn", told(host.somaxconn)),
        ("net.ipv4.tcp_mem (pages)", format!("{:?}", host.tcp_mem.unwrap_or_default())),
        ("ports per source address", told(host.ports_per_source())),
        ("transparent huge pages", host.huge_pages.clone().unwrap_or_else(|| told(None))),
    ]
}

/// The first line a program prints, or `unknown`.
fn said_by(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success());
    let said = output.and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    said.lines().next().filter(|line| !line.is_empty()).unwrap_or("unknown").to_owned()
}

/// The UTC date as YYYY-MM-DD (days to civil date after Howard Hinnant).
pub(in crate::cli) fn date_of(time: SystemTime) -> String {
    let days = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let date = |seconds| date_of(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_798_675_200), "2026-12-31");
    }
}
