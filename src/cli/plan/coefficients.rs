//! What a client and a call cost, and where each figure comes from: the newest results of `lakh simulate`, and a calibration.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::calibration::{Calibration, Measured, OPTIMIZED, Uncalibrated, folders};
use crate::cli::simulate::Dialect;

/// What clients of one dialect cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Coefficients {
    /// Resident memory without clients, as a line through the measured steps has it, in bytes; with as many shards as were
    /// measured.
    pub base_bytes: f64,
    pub bytes_per_client: f64,
    /// Where these two come from, and the kernel's memory.
    pub memory_from: String,
    /// The calibration; kernel memory is that of a run of `lakh simulate`, where there is one.
    #[serde(flatten)]
    pub measured: Measured,
}

/// Those of all dialects.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurements {
    /// By dialect: `tcp`, `ws`, `http`, `listen`; all four are there.
    pub dialects: BTreeMap<String, Coefficients>,
    pub bytes_per_shard: f64,
    /// Cores of the machine that was measured, and its name.
    pub cores: usize,
    pub machine: String,
    /// Whether the lakh that was measured was an optimized build.
    pub optimized: bool,
    /// The file of the calibration.
    pub calibration: String,
    /// Whose figures of processor time these are.
    pub measured_on: String,
}

/// One run of `lakh simulate`, as its folder tells.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    folder: String,
    /// Clients and resident bytes at the first step of 10,000 or more (else the first), and at the last.
    from: (f64, f64),
    to: (f64, f64),
    kernel: Option<f64>,
}

impl Measurements {
    /// Reads the newest calibration below `results`, and for each dialect the newest run of `lakh simulate` there; of several
    /// of one day the one that held about `clients`.
    ///
    /// # Errors
    /// When there is no calibration: what a call costs is known from nothing else.
    pub fn read(results: &Path, clients: u64) -> Result<Self, Uncalibrated> {
        let (calibration, file) = Calibration::newest(results)?;
        let dialects = calibration.dialects.iter().map(|(name, measured)| {
            let coefficients = newest_run(results, name, clients).map_or_else(
                || from_calibration(measured, &file.display().to_string()),
                |run| from_run(&run, measured),
            );
            (name.clone(), coefficients)
        });
        Ok(Self {
            dialects: dialects.collect(),
            bytes_per_shard: calibration.bytes_per_shard,
            cores: calibration.cores,
            machine: calibration.machine.clone(),
            optimized: calibration.build == OPTIMIZED,
            calibration: file.display().to_string(),
            measured_on: format!(
                "lakh {} ({}) on {}, {}, {}",
                calibration.lakh, calibration.build, calibration.machine, calibration.processor, calibration.date
            ),
        })
    }

    /// The coefficients of one dialect that is not a mix.
    pub fn of(&self, dialect: Dialect) -> Option<&Coefficients> {
        self.dialects.get(dialect.name())
    }
}

fn from_calibration(measured: &Measured, file: &str) -> Coefficients {
    let slope = measured.bytes_per_client();
    let (few, many) = (measured.few, measured.many);
    Coefficients {
        base_bytes: (many.rss_bytes as f64 - slope * f64::from(many.clients)).max(0.0),
        bytes_per_client: slope,
        memory_from: format!("calibration, {} and {} clients: {file}", few.clients, many.clients),
        measured: measured.clone(),
    }
}

/// Bytes for each further client from the run, which held more of them; the base from the calibration, which is of the lakh
/// that is here now, with as many clients as it had. Times of the calibration, which has medians.
fn from_run(run: &Run, measured: &Measured) -> Coefficients {
    let slope = ((run.to.1 - run.from.1) / (run.to.0 - run.from.0)).max(0.0);
    let many = measured.many;
    Coefficients {
        base_bytes: (many.rss_bytes as f64 - slope * f64::from(many.clients)).max(0.0),
        bytes_per_client: slope,
        memory_from: format!(
            "further clients: `lakh simulate`, {:.0} to {:.0}, {}; the rest: calibration, {} clients",
            run.from.0, run.to.0, run.folder, many.clients
        ),
        measured: Measured {
            kernel_bytes_per_client: run.kernel.unwrap_or(measured.kernel_bytes_per_client),
            ..measured.clone()
        },
    }
}

/// The newest run that can be read: of the last day, the one that held about as many clients, and of several such the last.
fn newest_run(results: &Path, dialect: &str, clients: u64) -> Option<Run> {
    let names = folders(results).ok()?.into_iter();
    let mut runs: Vec<_> = names
        .filter_map(|name| {
            let key = key(&name, dialect)?;
            Some((key, read_run(&results.join(&name))?))
        })
        .collect();
    let day = runs.iter().map(|((day, ..), _)| day.clone()).max()?;
    runs.retain(|((of, ..), _)| *of == day);
    let far = |held: u64| (held.max(1) as f64 / clients.max(1) as f64).ln().abs();
    let nearest = |one: &((String, u32, u64), Run), other: &((String, u32, u64), Run)| {
        far(one.0.2).total_cmp(&far(other.0.2)).then(other.0.1.cmp(&one.0.1))
    };
    runs.into_iter().min_by(nearest).map(|(_, run)| run)
}

/// Orders `2026-11-21-2core-24gib-linux6.18-tcp-100k-2`: date, number of the run, clients. `None`: another dialect's.
fn key(folder: &str, dialect: &str) -> Option<(String, u32, u64)> {
    let (head, tail) = folder.rsplit_once(&format!("-{dialect}-"))?;
    let (clients, number) =
        tail.split_once('-').map_or((tail, Some(1)), |(clients, number)| (clients, number.parse().ok()));
    let (digits, unit) = match clients.strip_suffix('k') {
        Some(digits) => (digits, 1_000),
        None => clients.strip_suffix('m').map_or((clients, 1), |digits| (digits, 1_000_000)),
    };
    Some((head.get(..10)?.to_owned(), number?, digits.parse::<u64>().ok()? * unit))
}

fn read_run(folder: &Path) -> Option<Run> {
    let setup = fs::read_to_string(folder.join("setup.md")).ok()?;
    let csv = fs::read_to_string(folder.join("raw.csv")).ok()?;
    let told =
        |what: &str| setup.lines().find_map(|line| line.strip_prefix(&format!("| {what} | "))?.strip_suffix(" |"));
    // No figures of a debug build or of another gateway.
    if !told("lakh")?.contains("optimized build") || !told("gateway")?.starts_with("a process of its own") {
        return None;
    }
    let steps = steps(&csv)?;
    let from = steps.iter().find(|step| step.clients >= 10_000.0).or_else(|| steps.first())?;
    let to = steps.last().filter(|to| to.clients > from.clients)?;
    Some(Run {
        folder: folder.display().to_string(),
        from: (from.clients, from.rss),
        to: (to.clients, to.rss),
        kernel: to.kernel,
    })
}

struct Step {
    clients: f64,
    rss: f64,
    kernel: Option<f64>,
}

/// The whole steps of the first wave; `None` where a column is not there.
fn steps(csv: &str) -> Option<Vec<Step>> {
    let mut lines = csv.lines();
    let heads: Vec<&str> = lines.next()?.split(',').collect();
    let column = |name: &str| heads.iter().position(|head| *head == name);
    let (wave, clients, dead, rss) = (column("wave")?, column("connections")?, column("dead")?, column("rss_bytes")?);
    let kernel = column("kernel_bytes_per_connection");
    let step = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        let figure =
            |at: usize| cells.get(at)?.parse::<f64>().ok().filter(|figure| figure.is_finite() && *figure >= 0.0);
        (figure(wave)? == 1.0 && figure(dead)? == 0.0).then_some(())?;
        Some(Step { clients: figure(clients)?, rss: figure(rss)?, kernel: kernel.and_then(figure) })
    };
    Some(lines.filter_map(step).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::calibration::tests::{Results, example};
    use super::*;

    const SETUP: &str = "# Setup of this run\n\n| what | value |\n|---|---|\n| date | 2026-11-21 (UTC) |\n| lakh | 0.1.0 (optimized build) |\n| gateway | a process of its own on the same cores |\n| machine | 2 cores, 23.5 GiB |\n| RLIMIT_NOFILE, hard | 20000 |\n| own descriptor tables | permitted |\n";
    const RAW: &str = "wave,connections,live,dead,rss_bytes,bytes_per_connection_all_in,kernel_bytes_per_connection,clients_per_second,ping_p50_s\n0,0,0,0,10907648,,,,\n1,1000,1000,0,10900000,1,3000,20000,0.1\n1,10000,10000,0,11894784,1189.4784,3662.848,25117.0,0.001\n1,100000,100000,0,21123072,211.23072,3985.65376,25704.5,0.001\n2,100000,100000,0,99123072,211.23072,,25704.5,0.001\n";

    /// Those of the example calibration, without any run.
    pub(in super::super) fn measurements() -> Measurements {
        let results = Results::new(
            "measurements",
            &[("2026-11-21-2core-24gib-linux6.18-calibration/calibration.json", &calibration())],
        );
        Measurements::read(&results.0, 100_000).expect("calibrated")
    }

    fn calibration() -> String {
        serde_json::to_string(&example()).expect("serializes")
    }

    #[test]
    fn memory_is_that_of_the_newest_run_and_time_that_of_the_calibration() {
        let run = "2026-11-21-2core-24gib-linux6.18-tcp-100k";
        let results = Results::new(
            "runs",
            &[
                ("2026-11-21-2core-24gib-linux6.18-calibration/calibration.json", &calibration()),
                (&format!("{run}/setup.md"), SETUP),
                (&format!("{run}/raw.csv"), RAW),
                ("2026-11-22-2core-24gib-linux6.18-tcp-100k/setup.md", &SETUP.replace("optimized", "debug")),
                ("2026-11-22-2core-24gib-linux6.18-tcp-100k/raw.csv", RAW),
            ],
        );
        let measurements = Measurements::read(&results.0, 100_000).expect("calibrated");
        let tcp = measurements.of(Dialect::Tcp).expect("tcp");
        assert!(tcp.memory_from.contains(run), "a debug build's run does not count: {}", tcp.memory_from);
        assert!((tcp.bytes_per_client - 102.536).abs() < 0.01, "{}", tcp.bytes_per_client);
        let at_100k = tcp.base_bytes + 100_000.0 * tcp.bytes_per_client;
        let many = f64::from((10 << 20) + 20_000 * 100);
        assert!(
            (at_100k - many - 80_000.0 * tcp.bytes_per_client).abs() < 1.0,
            "the calibration's clients, and further ones"
        );
        assert_eq!((tcp.measured.shards, tcp.measured.kernel_bytes_per_client), (2, 3985.65376));
        assert_eq!(
            (tcp.measured.costs.handshake.per_second.median, tcp.measured.costs.own.gateway_us.median),
            (25_000.0, 7.0)
        );
        let http = measurements.of(Dialect::Http).expect("http");
        assert!(http.memory_from.starts_with("calibration") && (http.bytes_per_client - 256.0).abs() < 0.1);
        assert!(measurements.measured_on.contains("2core-24gib-linux6.18"));
    }

    #[test]
    fn of_one_day_the_run_with_about_as_many_clients_counts() {
        let raw = |slope: u64| RAW.replace("21123072", &(11_894_784 + 90_000 * slope).to_string());
        let (big, small) = (raw(200), raw(300));
        let results = Results::new(
            "nearest",
            &[
                ("2026-11-21-2core-24gib-linux6.18-tcp-1m/setup.md", SETUP),
                ("2026-11-21-2core-24gib-linux6.18-tcp-1m/raw.csv", &big),
                ("2026-11-21-2core-24gib-linux6.18-tcp-100k/setup.md", SETUP),
                ("2026-11-21-2core-24gib-linux6.18-tcp-100k/raw.csv", RAW),
                ("2026-11-21-2core-24gib-linux6.18-tcp-100k-2/setup.md", SETUP),
                ("2026-11-21-2core-24gib-linux6.18-tcp-100k-2/raw.csv", &small),
            ],
        );
        let slope = |clients| {
            newest_run(&results.0, "tcp", clients).map(|run| (run.to.1 - run.from.1) / (run.to.0 - run.from.0))
        };
        assert_eq!((slope(50_000), slope(900_000), slope(0)), (Some(300.0), Some(200.0), Some(300.0)));
        assert_eq!(newest_run(&results.0, "ws", 50_000), None);
    }

    #[test]
    fn runs_are_ordered_by_date_number_and_clients() {
        let key = |name: &str| key(name, "tcp").expect(name);
        let ascending = [
            "2026-11-20-2core-24gib-linux6.18-tcp-1m-9",
            "2026-11-21-2core-24gib-linux6.18-tcp-100k",
            "2026-11-21-2core-24gib-linux6.18-tcp-1m",
            "2026-11-21-2core-24gib-linux6.18-tcp-1500-2",
            "2026-11-21-2core-24gib-linux6.18-tcp-100k-10",
        ];
        assert!(ascending.windows(2).all(|pair| key(pair[0]) < key(pair[1])));
        assert_eq!(super::key("2026-11-21-2core-24gib-linux6.18-http-100k", "tcp"), None);
    }

    #[test]
    fn a_broken_file_is_no_run() {
        assert!(steps("").is_none());
        assert!(steps("wave,connections\n1,2\n").is_none());
        let odd = steps("wave,connections,dead,rss_bytes\n1,10,1,5\n1,x,0,5\n1,10,0,\n1,10,0,NaN\n").expect("columns");
        assert!(odd.is_empty(), "dead clients and what is no number are no step");
    }
}
