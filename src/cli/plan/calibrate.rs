//! `lakh plan --calibrate`: a minute or two of real clients, which tells what each of them and each call costs.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, thread};

use super::calibration::{Calibration, Cost, FILE, FOLDER, Held, Items, Measured, OPTIMIZED, Spread, kept};
use crate::cli::simulate::{Behind, Bench, Came, Dialect, Question, Setting, date_of, machine_of, new_folder};
use crate::meter::{Host, Plan};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Clients that memory and a ping are read with, and then everything is asked of. As usual: enough that neither lakh's
    /// state nor the kernel's is in a cache, and so few that they come in a second.
    pub few: u32,
    pub many: u32,
    /// Clients that call through an upstream.
    pub fewer: u32,
    /// Times that everything is begun anew, one dialect after the other. Where the threads of both ends come to stand on the
    /// cores that they share makes a rate a third higher or lower, for as long as they live: the median of several has not.
    pub rounds: usize,
    /// How long each burst asks at least: processor time comes in steps of 10 ms.
    pub asking: Duration,
    /// Rest before memory is read; that of `lakh simulate` is 2 s.
    pub rest: Duration,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            few: 5_000,
            many: 20_000,
            fewer: 5_000,
            rounds: 4,
            asking: Duration::from_millis(200),
            rest: Duration::from_millis(1_500),
        }
    }
}

/// Changes that all are told of.
const CHANGES: usize = 3;
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
    let mut all = [Dialect::Tcp, Dialect::Ws, Dialect::Http, Dialect::Listen].map(|one| (one, Gathered::default()));
    for round in 1..=sizes.rounds {
        for (dialect, gathered) in &mut all {
            say(&format!("round {round} of {}: {}", sizes.rounds, dialect.name()));
            stage.round(*dialect, gathered)?;
        }
    }
    // A socket costs the kernel the same whatever is spoken over it, and what else the machine does is in each figure.
    let kernel = Spread::of(all.iter().flat_map(|(_, one)| one.kernel.clone()).collect()).median;
    let dialects = all.map(|(dialect, one)| (dialect.name().to_owned(), stage.measured(&one, kernel)));
    let calibration = Calibration {
        lakh: env!("CARGO_PKG_VERSION").to_owned(),
        build: if cfg!(debug_assertions) { "debug build" } else { OPTIMIZED }.to_owned(),
        date: date_of(SystemTime::now()),
        machine: machine_of(host),
        processor: processor(),
        cores: host.cores,
        bytes_per_shard,
        dialects: dialects.into(),
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

/// What all rounds of one dialect have found so far.
#[derive(Default)]
struct Gathered {
    /// Memory with few clients and with many, of the first round.
    held: Option<(Held, Held)>,
    /// Kernel bytes per client.
    kernel: Vec<f64>,
    bursts: Items<Vec<Came>>,
}

impl Stage<'_> {
    /// Bytes of one more shard, from two gateways that nobody came to.
    fn shard(&self) -> io::Result<f64> {
        say("idle gateways: what a shard takes");
        let idle = |shards| Bench::start(&Setting { shards: Some(shards), ..self.setting(Dialect::Tcp, 1) });
        let (few, many) = (idle(SHARDS.0)?, idle(SHARDS.1)?);
        thread::sleep(self.sizes.rest);
        let (few, many) = (few.rss()?, many.rss()?);
        Ok(kept((many as f64 - few as f64).max(0.0) / f64::from(SHARDS.1 - SHARDS.0)))
    }

    /// A gateway and clients of their own for each part. What takes long and is no time is done in the first round only.
    fn round(&self, dialect: Dialect, gathered: &mut Gathered) -> io::Result<()> {
        let (Sizes { few, many, fewer, .. }, bursts) = (self.sizes, &mut gathered.bursts);
        let is_first = gathered.held.is_none();
        let mut bench = Bench::start(&self.setting(dialect, many))?;
        let few = self.hold(&mut bench, few, is_first, (&mut bursts.handshake, &mut bursts.ping_of_few))?;
        let many = self.hold(&mut bench, many, is_first, (&mut bursts.handshake, &mut bursts.ping))?;
        gathered.held.get_or_insert((few, many));
        gathered.kernel.push(bench.kernel() as f64 / f64::from(many.clients));
        bursts.own.push(self.ask(&mut bench, Question::Call)?);
        bursts.refused.push(self.ask(&mut bench, Question::Refused)?);
        bursts.own_large.push(self.ask(&mut bench, Question::Large)?);
        drop(bench);
        let mut bench = Bench::start(&Setting { behind: Behind::Tcp, ..self.setting(dialect, fewer) })?;
        bench.connect(fewer)?;
        bursts.upstream.push(self.ask(&mut bench, Question::Call)?);
        bursts.upstream_large.push(self.ask(&mut bench, Question::Large)?);
        drop(bench);
        if is_first {
            bursts.told = self.told(dialect)?;
        }
        Ok(())
    }

    /// Lets clients come and ping, with a rest before, and reads memory as `lakh simulate` does: the larger of before and
    /// after they ping.
    fn hold(
        &self,
        bench: &mut Bench,
        clients: u32,
        rests: bool,
        (handshakes, pings): (&mut Vec<Came>, &mut Vec<Came>),
    ) -> io::Result<Held> {
        handshakes.push(bench.connect(clients)?);
        if rests {
            thread::sleep(self.sizes.rest);
        }
        let before = bench.rss()?;
        pings.push(self.ask(bench, Question::Ping)?);
        Ok(Held { clients, rss_bytes: before.max(bench.rss()?) })
    }

    /// What it costs that all are told of a change.
    fn told(&self, dialect: Dialect) -> io::Result<Vec<Came>> {
        let clients = self.sizes.many;
        let mut bench = Bench::start(&Setting { changes: true, ..self.setting(dialect, clients) })?;
        bench.connect(clients)?;
        let change = |_| {
            thread::sleep(BETWEEN_CHANGES);
            bench.change()
        };
        (0..CHANGES).map(change).collect()
    }

    fn ask(&self, bench: &mut Bench, question: Question) -> io::Result<Came> {
        bench.ask(question, self.sizes.asking)
    }

    fn measured(&self, gathered: &Gathered, kernel_bytes_per_client: f64) -> Measured {
        let (few, many) = gathered.held.unwrap_or_default();
        Measured {
            shards: Plan::sketch(u64::from(many.clients), None, self.host).shards,
            few,
            many,
            kernel_bytes_per_client,
            costs: gathered.bursts.map(|bursts| Cost::of(bursts)),
        }
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
    fn a_small_host_measures_with_fewer_clients() {
        let host = Host { cores: 2, nofile_hard: Some(8_000), own_tables: false, ..Host::default() };
        let sizes = Sizes::default().fitting(&host);
        assert_eq!((sizes.few, sizes.many, sizes.fewer), (1_250, 5_000, 5_000));
        let large = Sizes::default().fitting(&Host { own_tables: true, ..host });
        assert_eq!((large.few, large.many, large.fewer), (5_000, 20_000, 5_000));
    }
}
