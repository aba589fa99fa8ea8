//! `lakh plan --calibrate`: a minute or two of real clients, which tells what each of them and each call costs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, thread};

use super::calibration::{Calibration, Cost, FILE, FOLDER, Held, Measured};
use crate::cli::simulate::{
    BLOB_BYTES, Behind, Bench, Came, Dialect, Question, Setting, date_of, machine_of, new_folder,
};
use crate::meter::Host;

/// Clients that memory is read with, and that everything is asked of. Enough that neither lakh's state nor the kernel's is in a
/// cache, and few enough that a dialect takes some seconds.
const FEW: u32 = 5_000;
const MANY: u32 = 25_000;
/// Clients of the two shorter parts: through an upstream, and told of a change.
const FEWER: u32 = 10_000;
/// How long each path is asked for: processor time comes in steps of 10 ms.
const ASKING: Duration = Duration::from_millis(1_200);
/// Rest before memory is read, as in `lakh simulate`.
const REST: Duration = Duration::from_secs(2);
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
pub fn calibrate(exe: &Path, host: &Host, results: &Path) -> io::Result<(Calibration, PathBuf)> {
    let bytes_per_shard = shard(exe, host)?;
    let mut dialects = BTreeMap::new();
    for dialect in [Dialect::Tcp, Dialect::Ws, Dialect::Http, Dialect::Listen] {
        dialects.insert(dialect.name().to_owned(), measure(exe, host, dialect)?);
    }
    let calibration = Calibration {
        lakh: env!("CARGO_PKG_VERSION").to_owned(),
        build: if cfg!(debug_assertions) { "debug build" } else { "optimized build" }.to_owned(),
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

/// Bytes of one more shard, from two gateways that nobody came to.
fn shard(exe: &Path, host: &Host) -> io::Result<f64> {
    say("idle gateways: what a shard takes");
    let idle = |shards| {
        let setting = Setting { shards: Some(shards), ..setting(exe, host, Dialect::Tcp, 1) };
        let bench = Bench::start(&setting)?;
        thread::sleep(REST);
        bench.rss()
    };
    let (few, many) = (idle(SHARDS.0)?, idle(SHARDS.1)?);
    Ok((many as f64 - few as f64).max(0.0) / f64::from(SHARDS.1 - SHARDS.0))
}

fn measure(exe: &Path, host: &Host, dialect: Dialect) -> io::Result<Measured> {
    let name = dialect.name();
    say(&format!("{name}: {MANY} clients come, hold and ask"));
    let mut bench = Bench::start(&setting(exe, host, dialect, MANY))?;
    let held = |bench: &mut Bench, clients| -> io::Result<(Came, Held)> {
        let came = bench.connect(clients)?;
        thread::sleep(REST);
        let before = bench.rss()?;
        bench.ask(Question::Ping, Duration::from_millis(1))?;
        Ok((came, Held { clients, rss_bytes: before.max(bench.rss()?) }))
    };
    let (_, few) = held(&mut bench, FEW)?;
    let (came, many) = held(&mut bench, MANY)?;
    let kernel_bytes_per_client = bench.kernel() as f64 / f64::from(MANY);
    let ping = ask(&mut bench, Question::Ping)?;
    let own = ask(&mut bench, Question::Call)?;
    let own_large = ask(&mut bench, Question::Large)?;
    let refused = ask(&mut bench, Question::Refused)?;
    drop(bench);
    say(&format!("{name}: {FEWER} clients call through another lakh"));
    let mut bench = Bench::start(&Setting { behind: Behind::Tcp, ..setting(exe, host, dialect, FEWER) })?;
    bench.connect(FEWER)?;
    let upstream = ask(&mut bench, Question::Call)?;
    let upstream_large = ask(&mut bench, Question::Large)?;
    drop(bench);
    Ok(Measured {
        shards: shards(host, MANY),
        few,
        many,
        kernel_bytes_per_client,
        handshake: came.into(),
        ping,
        own,
        upstream,
        refused,
        told: told(exe, host, dialect)?,
        own_us_per_kib: per_kib(own, own_large),
        upstream_us_per_kib: per_kib(upstream, upstream_large),
    })
}

/// What one client costs that is told of a change.
fn told(exe: &Path, host: &Host, dialect: Dialect) -> io::Result<Cost> {
    say(&format!("{}: {FEWER} clients are told of {CHANGES} changes", dialect.name()));
    let mut bench = Bench::start(&Setting { changes: true, ..setting(exe, host, dialect, FEWER) })?;
    bench.connect(FEWER)?;
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

fn ask(bench: &mut Bench, question: Question) -> io::Result<Cost> {
    bench.ask(question, ASKING).map(Cost::from)
}

/// What a further KiB of an answer takes.
fn per_kib(small: Cost, large: Cost) -> f64 {
    (large.gateway_us - small.gateway_us).max(0.0) / (BLOB_BYTES as f64 / 1024.0)
}

fn setting<'a>(exe: &'a Path, host: &'a Host, dialect: Dialect, connections: u32) -> Setting<'a> {
    Setting { exe, host, dialect, connections, shards: None, behind: Behind::Embedded, changes: false }
}

/// Shards that a gateway chooses for so many clients.
fn shards(host: &Host, clients: u32) -> usize {
    crate::meter::Plan::sketch(u64::from(clients), None, host).shards
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
