//! What a calibration measured: processor time and memory by dialect and path, kept as `calibration.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::cli::simulate::Came;

/// The file in a folder of results that holds one.
pub const FILE: &str = "calibration.json";
/// What [`Calibration::build`] says of a build whose figures are to keep.
pub const OPTIMIZED: &str = "optimized build";
/// What the folder of one ends with, before a number.
pub const FOLDER: &str = "-calibration";

/// One calibration run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The version of lakh that was measured.
    pub lakh: String,
    /// `optimized build`, or what else it was.
    pub build: String,
    /// UTC, as YYYY-MM-DD.
    pub date: String,
    /// As `2core-24gib-linux6.18`.
    pub machine: String,
    /// The processor, as `/proc/cpuinfo` calls it.
    pub processor: String,
    /// Cores that gateway, clients and what is behind the gateway shared.
    pub cores: usize,
    /// Bytes of resident memory that one more shard takes.
    pub bytes_per_shard: f64,
    /// By dialect: `tcp`, `ws`, `http`, `listen`.
    pub dialects: BTreeMap<String, Measured>,
}

/// What was measured with clients of one dialect. Every item of a path is one client's: clients hold one connection each,
/// ask one thing at a time, and take turns, so that each finds its own state and the kernel's out of the caches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Shards of the gateway.
    pub shards: usize,
    /// Few clients, and many.
    pub few: Held,
    pub many: Held,
    /// Kernel memory per client of one end, in bytes.
    pub kernel_bytes_per_client: f64,
    /// Connected, handshaken, one call answered.
    pub handshake: Cost,
    /// `ping`.
    pub ping: Cost,
    /// A call that lakh's own server answers.
    pub own: Cost,
    /// The same through lakh, answered by another lakh over TCP, whose time is not in it.
    pub upstream: Cost,
    /// A call that lakh refuses.
    pub refused: Cost,
    /// One change, told to one client on its own stream.
    pub told: Cost,
    /// Further microseconds for each KiB of an answer: of lakh's own, and of one that passes through.
    pub own_us_per_kib: f64,
    pub upstream_us_per_kib: f64,
}

/// The gateway's whole resident memory with so many clients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Held {
    pub clients: u32,
    pub rss_bytes: u64,
}

/// What one item cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Items a second, with both ends on the same cores.
    pub per_second: f64,
    /// Microseconds of processor time of the gateway.
    pub gateway_us: f64,
    /// And of the load generator, which a real deployment has elsewhere.
    pub clients_us: f64,
}

/// Why there is no calibration to read.
#[derive(Debug, thiserror::Error)]
pub enum Uncalibrated {
    #[error(
        "no {FILE} in {}: make one with `lakh plan --calibrate` (a minute or two on a quiet machine, release build); nothing is guessed",
        .0.display()
    )]
    None(PathBuf),
    #[error("{}: {}; make another with `lakh plan --calibrate`", .0.display(), .1)]
    Unreadable(PathBuf, String),
}

impl From<Came> for Cost {
    fn from(came: Came) -> Self {
        let each = |seconds: f64| seconds * 1e6 / (came.clients.max(1) as f64);
        Self {
            per_second: kept(came.clients as f64 / came.seconds.max(1e-9)),
            gateway_us: kept(each(came.gateway_cpu)),
            clients_us: kept(each(came.clients_cpu)),
        }
    }
}

/// A figure as it is kept: three decimals, which are read back to the last bit.
pub(super) fn kept(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}

impl Measured {
    /// What each further client takes, in bytes; never less than nothing.
    pub fn bytes_per_client(&self) -> f64 {
        let more = f64::from(self.many.clients.saturating_sub(self.few.clients)).max(1.0);
        ((self.many.rss_bytes as f64 - self.few.rss_bytes as f64) / more).max(0.0)
    }

    fn costs(&self) -> [(&'static str, Cost); 6] {
        [
            ("handshake", self.handshake),
            ("ping", self.ping),
            ("own", self.own),
            ("upstream", self.upstream),
            ("refused", self.refused),
            ("told", self.told),
        ]
    }
}

impl Calibration {
    /// The newest one below `results`, and its file.
    ///
    /// # Errors
    /// When there is none, or it holds what no measurement gives.
    pub fn newest(results: &Path) -> Result<(Self, PathBuf), Uncalibrated> {
        let names = folders(results).map_err(|_| Uncalibrated::None(results.to_owned()))?;
        let of_one = |name: &String| {
            let end = name.rfind(FOLDER)? + FOLDER.len();
            let rest = name.get(end..)?;
            let number = if rest.is_empty() { 1 } else { rest.strip_prefix('-')?.parse::<u32>().ok()? };
            Some((name.get(..10)?.to_owned(), number, name.clone()))
        };
        let newest = names.iter().filter_map(of_one).max().ok_or_else(|| Uncalibrated::None(results.to_owned()))?;
        let file = results.join(newest.2).join(FILE);
        let wrong = |why: String| Uncalibrated::Unreadable(file.clone(), why);
        let text = fs::read_to_string(&file).map_err(|error| wrong(error.to_string()))?;
        let calibration: Self = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        calibration.check().map_err(wrong)?;
        Ok((calibration, file))
    }

    /// What no measurement gives.
    fn check(&self) -> Result<(), String> {
        let positive = |figure: f64| figure.is_finite() && figure > 0.0;
        let least = |figure: f64| figure.is_finite() && figure >= 0.0;
        if !least(self.bytes_per_shard) || self.cores == 0 {
            return Err("`bytes_per_shard` and `cores` must be measured".to_owned());
        }
        for (dialect, measured) in &self.dialects {
            for (name, cost) in measured.costs() {
                if !(positive(cost.per_second) && positive(cost.gateway_us) && least(cost.clients_us)) {
                    return Err(format!("`{name}` of {dialect} must be measured: it is {cost:?}"));
                }
            }
            let rest = [measured.kernel_bytes_per_client, measured.own_us_per_kib, measured.upstream_us_per_kib];
            if measured.few.clients >= measured.many.clients || !rest.into_iter().all(least) {
                return Err(format!("the memory of {dialect} must be measured with few clients and with many"));
            }
        }
        match ["tcp", "ws", "http", "listen"].iter().find(|dialect| !self.dialects.contains_key(**dialect)) {
            Some(dialect) => Err(format!("`dialects` lacks {dialect}")),
            None => Ok(()),
        }
    }
}

/// The names of the folders in `results`.
pub(super) fn folders(results: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(results)?.flatten().filter(|entry| entry.path().is_dir());
    Ok(entries.filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn cost(per_second: f64, gateway_us: f64) -> Cost {
        Cost { per_second, gateway_us, clients_us: gateway_us }
    }

    /// Round figures near those of lakh on two cores.
    pub(in super::super) fn example() -> Calibration {
        let measured = |base: u64, slope: u64, factor: f64| Measured {
            shards: 2,
            few: Held { clients: 5_000, rss_bytes: base + 5_000 * slope },
            many: Held { clients: 20_000, rss_bytes: base + 20_000 * slope },
            kernel_bytes_per_client: 4_000.0,
            handshake: cost(25_000.0, 40.0 * factor),
            ping: cost(150_000.0, 6.0 * factor),
            own: cost(130_000.0, 7.0 * factor),
            upstream: cost(80_000.0, 12.0 * factor),
            refused: cost(140_000.0, 6.5 * factor),
            told: cost(100_000.0, 4.0 * factor),
            own_us_per_kib: 0.2,
            upstream_us_per_kib: 0.5,
        };
        Calibration {
            lakh: "0.1.0".into(),
            build: OPTIMIZED.into(),
            date: "2026-11-21".into(),
            machine: "2core-24gib-linux6.18".into(),
            processor: "a processor".into(),
            cores: 2,
            bytes_per_shard: 110_000.0,
            dialects: [
                ("tcp".to_owned(), measured(10 << 20, 100, 1.0)),
                ("ws".to_owned(), measured(10 << 20, 104, 1.1)),
                ("http".to_owned(), measured(10 << 20, 256, 2.0)),
                ("listen".to_owned(), measured(12 << 20, 344, 2.0)),
            ]
            .into(),
        }
    }

    /// A folder of results with these files, removed at the end of its test.
    pub(in super::super) struct Results(pub(in super::super) PathBuf);

    impl Results {
        pub(in super::super) fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("lakh-plan-{name}-{}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
                fs::write(path, text).expect("a writable folder");
            }
            Self(root)
        }
    }

    impl Drop for Results {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_newest_by_date_and_number_is_read() {
        let text = |processor: &str| {
            serde_json::to_string(&Calibration { processor: processor.into(), ..example() }).expect("serializes")
        };
        let results = Results::new(
            "newest",
            &[
                ("2026-11-20-x-calibration-11/calibration.json", &text("old")),
                ("2026-11-21-x-calibration-2/calibration.json", &text("second")),
                ("2026-11-21-x-calibration-10/calibration.json", &text("tenth")),
                ("2026-11-22-x-tcp-100k/raw.csv", "no calibration"),
            ],
        );
        let (newest, file) = Calibration::newest(&results.0).expect("there");
        assert_eq!(newest.processor, "tenth");
        assert!(file.ends_with("2026-11-21-x-calibration-10/calibration.json"));
    }

    #[test]
    fn without_one_nothing_is_guessed() {
        let empty = Results::new("none", &[("2026-11-22-x-tcp-100k/raw.csv", "")]);
        for place in [&empty.0, Path::new("/nonexistent/results")] {
            let told = Calibration::newest(place).expect_err("none").to_string();
            assert!(told.contains("lakh plan --calibrate") && told.contains("guessed"), "{told}");
        }
    }

    #[test]
    fn figures_that_no_measurement_gives_are_refused_by_name() {
        let spoiled = |spoil: fn(&mut Measured)| {
            let mut calibration = example();
            calibration.dialects.get_mut("tcp").map(spoil).expect("tcp");
            calibration.check().expect_err("spoiled")
        };
        assert!(spoiled(|tcp| tcp.upstream.gateway_us = 0.0).contains("`upstream` of tcp"));
        assert!(spoiled(|tcp| tcp.told.per_second = f64::NAN).contains("`told` of tcp"));
        assert!(spoiled(|tcp| tcp.few.clients = 20_000).contains("memory of tcp"));
        let mut lacking = example();
        lacking.dialects.remove("listen");
        assert!(lacking.check().expect_err("lacks").contains("listen"));
        assert_eq!(example().check(), Ok(()));
    }
}
