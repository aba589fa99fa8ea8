//! `lakh plan --calibrate`: a minute or two of real clients, which tells what each of them and each call costs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, thread};

use super::calibration::{Calibration, Cost, FILE, FOLDER, Held, Measured, OPTIMIZED, kept};
use crate::cli::simulate::{
    BLOB_BYTES, Behind, Bench, Came, Dialect, Question, Setting, date_of, machine_of, new_folder,
};
use crate::meter::{Host, Plan};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Clients that memory is read with, and then everything is asked of. As usual: enough that neither lakh's state nor the
    /// kernel's is in a cache, and so few that a dialect takes some seconds.
    pub few: u32,
    pub many: u32,
    /// Clients of the two shorter parts: through an upstream, and told of a change.
    pub fewer: u32,
    /// How long each path is asked for: processor time comes in steps of 10 ms.
    pub asking: Duration,
    /// Rest before memory is read, as in `lakh simulate`.
    pub rest: Duration,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            few: 5_000,
            many: 25_000,
            fewer: 10_000,
            asking: Duration::from_millis(1_200),
            rest: Duration::from_secs(2),
        }
    }
}

/// Changes that all are told of.
const CHANGES: u32 = 4;
/// A change may be told a while after it was made: changes that follow at once are told together.
const BETWEEN_CHANGES: Duration = Duration::from_millis(300);
/// Shards of the two idle gateways whose difference is a shard's.
const SHARDS: (u32, u32) = (2, 34);

/// Measures this `exe` on this host and writes what it found into a new folder below `results`. Progress goes to stderr.
///
/// # Errors
/// When a process does not start, a client dies, or nothing can be written.
pub fn calibrate(exe: &Path, host: &Host, results: &Path, sizes: Sizes) -> io::Result<(Calibration, PathBuf)> {
    let stage = Stage { exe, host, sizes: sizes.fitting(host) };
    let bytes_per_shard = stage.shard()?;
    let mut dialects = BTreeMap::new();
    for dialect in [Dialect::Tcp, Dialect::Ws, Dialect::Http, Dialect::Listen] {
        dialects.insert(dialect.name().to_owned(), stage.measure(dialect)?);
    }
    share_kernel(&mut dialects);
    let calibration = Calibration {
        lakh: env!("CARGO_PKG_VERSION").to_owned(),
        build: if cfg!(debug_assertions) { "debug build" } else { OPTIMIZED }.to_owned(),
        date: date_of(SystemTime::now()),
        machine: machine_of(host),
        processor: processor(),
        cores: host.cores,
        bytes_per_shard,
        dialects,
    };
    let folder = new_folder(results, &format!("{}-{}{FOLDER}", calibration.date, calibration.machine))?;
    let file = folder.join(FILE);
    fs::write(&file, serde_json::to_string_pretty(&calibration)? + "\n")?;
    Ok((calibration, file))
}

/// What every part of a calibration measures with.
struct Stage<'a> {
    exe: &'a Path,
    host: &'a Host,
    sizes: Sizes,
}

impl Stage<'_> {
    /// Bytes of one more shard, from two gateways that nobody came to.
    fn shard(&self) -> io::Result<f64> {
        say("idle gateways: what a shard takes");
        let idle = |shards| {
            let bench = Bench::start(&Setting { shards: Some(shards), ..self.setting(Dialect::Tcp, 1) })?;
            thread::sleep(self.sizes.rest);
            bench.rss()
        };
        let (few, many) = (idle(SHARDS.0)?, idle(SHARDS.1)?);
        Ok(kept((many as f64 - few as f64).max(0.0) / f64::from(SHARDS.1 - SHARDS.0)))
    }

    fn measure(&self, dialect: Dialect) -> io::Result<Measured> {
        let (name, Sizes { few, many, fewer, .. }) = (dialect.name(), self.sizes);
        say(&format!("{name}: {many} clients come, hold and ask"));
        let mut bench = Bench::start(&self.setting(dialect, many))?;
        let (_, few) = self.hold(&mut bench, few)?;
        let (came, many) = self.hold(&mut bench, many)?;
        let kernel_bytes_per_client = kept(bench.kernel() as f64 / f64::from(many.clients));
        let ping = self.ask(&mut bench, Question::Ping)?;
        let own = self.ask(&mut bench, Question::Call)?;
        let own_large = self.ask(&mut bench, Question::Large)?;
        let refused = self.ask(&mut bench, Question::Refused)?;
        drop(bench);
        say(&format!("{name}: {fewer} clients call through another lakh"));
        let mut bench = Bench::start(&Setting { behind: Behind::Tcp, ..self.setting(dialect, fewer) })?;
        bench.connect(fewer)?;
        let upstream = self.ask(&mut bench, Question::Call)?;
        let upstream_large = self.ask(&mut bench, Question::Large)?;
        drop(bench);
        Ok(Measured {
            shards: Plan::sketch(u64::from(many.clients), None, self.host).shards,
            few,
            many,
            kernel_bytes_per_client,
            handshake: came.into(),
            ping,
            own,
            upstream,
            refused,
            told: self.told(dialect)?,
            own_us_per_kib: per_kib(own, own_large),
            upstream_us_per_kib: per_kib(upstream, upstream_large),
        })
    }

    /// Lets clients come, and reads memory as `lakh simulate` does: the larger of before and after a ping of each.
    fn hold(&self, bench: &mut Bench, clients: u32) -> io::Result<(Came, Held)> {
        let came = bench.connect(clients)?;
        thread::sleep(self.sizes.rest);
        let before = bench.rss()?;
        bench.ask(Question::Ping, Duration::from_millis(1))?;
        Ok((came, Held { clients, rss_bytes: before.max(bench.rss()?) }))
    }

    /// What one client costs that is told of a change.
    fn told(&self, dialect: Dialect) -> io::Result<Cost> {
        let clients = self.sizes.fewer;
        say(&format!("{}: {clients} clients are told of {CHANGES} changes", dialect.name()));
        let mut bench = Bench::start(&Setting { changes: true, ..self.setting(dialect, clients) })?;
        bench.connect(clients)?;
        let mut all = Came::default();
        for _ in 0..CHANGES {
            thread::sleep(BETWEEN_CHANGES);
            let one = bench.change()?;
            all.clients += one.clients;
            all.seconds += one.seconds;
            all.gateway_cpu += one.gateway_cpu;
            all.clients_cpu += one.clients_cpu;
        }
        Ok(all.into())
    }

    fn ask(&self, bench: &mut Bench, question: Question) -> io::Result<Cost> {
        bench.ask(question, self.sizes.asking).map(Cost::from)
    }

    fn setting(&self, dialect: Dialect, connections: u32) -> Setting<'_> {
        let (exe, host) = (self.exe, self.host);
        Setting { exe, host, dialect, connections, shards: None, behind: Behind::Embedded, changes: false }
    }
}

impl Sizes {
    /// As much of it as this host holds: half as many clients, and again, until they fit.
    fn fitting(mut self, host: &Host) -> Self {
        while self.many > 1_000 && Plan::new(u64::from(self.many), None, host).is_err() {
            self = Self { few: self.few / 2, many: self.many / 2, fewer: self.fewer.min(self.many / 2), ..self };
        }
        self
    }
}

/// What a further KiB of an answer takes.
fn per_kib(small: Cost, large: Cost) -> f64 {
    kept((large.gateway_us - small.gateway_us).max(0.0) / (BLOB_BYTES as f64 / 1024.0))
}

/// A socket costs the kernel the same whatever is spoken over it, and what else the machine does is in each figure: the median
/// is taken for all.
fn share_kernel(dialects: &mut BTreeMap<String, Measured>) {
    let mut all: Vec<f64> = dialects.values().map(|one| one.kernel_bytes_per_client).collect();
    all.sort_by(f64::total_cmp);
    let Some(median) = all.get(all.len() / 2).copied() else { return };
    for one in dialects.values_mut() {
        one.kernel_bytes_per_client = median;
    }
}

/// The first `model name` of `/proc/cpuinfo`; other architectures say nothing of the kind.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or("unknown", |(_, name)| name.trim()).to_owned()
}

fn say(words: &str) {
    // Progress that can't be shown is no reason to stop.
    let _ = writeln!(io::stderr(), "{words}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_noisy_figure_of_the_kernel_spoils_nothing() {
        let mut dialects = super::super::calibration::tests::example().dialects;
        let measured = [4_100.0, 0.0, 3_900.0, 4_000.0];
        for (one, kernel) in dialects.values_mut().zip(measured) {
            one.kernel_bytes_per_client = kernel;
        }
        share_kernel(&mut dialects);
        assert!(dialects.values().all(|one| (one.kernel_bytes_per_client - 4_000.0).abs() < 1e-9));
    }

    #[test]
    fn a_small_host_measures_with_fewer_clients() {
        let host = Host { cores: 2, nofile_hard: Some(8_000), own_tables: false, ..Host::default() };
        let sizes = Sizes::default().fitting(&host);
        assert_eq!((sizes.few, sizes.many, sizes.fewer), (1_250, 6_250, 6_250));
        let large = Sizes::default().fitting(&Host { own_tables: true, ..host });
        assert_eq!((large.few, large.many, large.fewer), (5_000, 25_000, 10_000));
    }
}
