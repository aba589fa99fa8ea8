//! What a calibration measured: processor time and memory by dialect and path, kept as `calibration.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::cli::simulate::{BLOB_BYTES, Came};

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

/// What was measured with clients of one dialect. They hold one connection each, ask one thing at a time, and take turns, so
/// that each finds its own state and the kernel's out of the caches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Shards of the gateway.
    pub shards: usize,
    /// Few clients, and many.
    pub few: Held,
    pub many: Held,
    /// Kernel memory per client of one end, in bytes.
    pub kernel_bytes_per_client: f64,
    pub costs: Items<Cost>,
}

/// The gateway's whole resident memory with so many clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Held {
    pub clients: u32,
    pub rss_bytes: u64,
}

/// Something for each kind of thing that is measured; every item is one client's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Items<T> {
    /// Connected, handshaken, one call answered.
    pub handshake: T,
    /// `ping` while there are few clients.
    pub ping_of_few: T,
    /// `ping` of many, and so the paths that follow.
    pub ping: T,
    /// A call that lakh's own server answers.
    pub own: T,
    /// The same with an answer of 16 KiB.
    pub own_large: T,
    /// As `own`, through lakh, answered by another lakh over TCP, whose time is not in it.
    pub upstream: T,
    pub upstream_large: T,
    /// A call that lakh refuses.
    pub refused: T,
    /// One change, told to one client on its own stream.
    pub told: T,
}

/// What one item cost, over some bursts at different times: a machine that others use, too, is now faster and now slower.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    pub bursts: usize,
    /// Items a second, with both ends on the same cores.
    pub per_second: Spread,
    /// Microseconds of processor time of the gateway.
    pub gateway_us: Spread,
    /// And of the load generator, which a real deployment has elsewhere.
    pub clients_us: Spread,
}

/// A figure as its bursts had it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
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

/// A figure as it is kept: three decimals, which are read back to the last bit.
pub(super) fn kept(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}

impl<T> Items<T> {
    /// The same of each.
    pub fn map<U>(&self, of: impl Fn(&T) -> U) -> Items<U> {
        Items {
            handshake: of(&self.handshake),
            ping_of_few: of(&self.ping_of_few),
            ping: of(&self.ping),
            own: of(&self.own),
            own_large: of(&self.own_large),
            upstream: of(&self.upstream),
            upstream_large: of(&self.upstream_large),
            refused: of(&self.refused),
            told: of(&self.told),
        }
    }

    /// Each with its name.
    pub const fn each(&self) -> [(&'static str, &T); 9] {
        [
            ("handshake", &self.handshake),
            ("ping_of_few", &self.ping_of_few),
            ("ping", &self.ping),
            ("own", &self.own),
            ("own_large", &self.own_large),
            ("upstream", &self.upstream),
            ("upstream_large", &self.upstream_large),
            ("refused", &self.refused),
            ("told", &self.told),
        ]
    }
}

impl Items<Cost> {
    /// What a further KiB of an answer takes, in microseconds: of lakh's own, and of one that passes through.
    pub fn us_per_kib(&self) -> (f64, f64) {
        let further = |small: Cost, large: Cost| {
            (large.gateway_us.median - small.gateway_us.median).max(0.0) / (BLOB_BYTES as f64 / 1024.0)
        };
        (further(self.own, self.own_large), further(self.upstream, self.upstream_large))
    }
}

impl Cost {
    /// Of some bursts; none of them cost nothing, which no calibration may say.
    pub fn of(bursts: &[Came]) -> Self {
        let spread = |figure: fn(&Came, f64) -> f64| {
            Spread::of(bursts.iter().map(|came| figure(came, came.clients.max(1) as f64)).collect())
        };
        Self {
            bursts: bursts.len(),
            per_second: spread(|came, items| items / came.seconds.max(1e-9)),
            gateway_us: spread(|came, items| came.gateway_cpu * 1e6 / items),
            clients_us: spread(|came, items| came.clients_cpu * 1e6 / items),
        }
    }
}

impl Spread {
    /// The median (of an even number the middle of the two middle ones), the least and the most.
    pub fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().unwrap_or(0.0);
        let last = figures.len().saturating_sub(1);
        let median = f64::midpoint(at(last / 2), at(last.div_ceil(2)));
        Self { median: kept(median), least: kept(at(0)), most: kept(at(last)) }
    }

    /// One whose three figures `figure` makes, each from the same figure of others.
    pub fn each(figure: impl Fn(fn(&Self) -> f64) -> f64) -> Self {
        Self { median: figure(|of| of.median), least: figure(|of| of.least), most: figure(|of| of.most) }
    }

    /// Whether a measurement gives this: numbers in order, none below 0.
    fn is_measured(&self) -> bool {
        0.0 <= self.least && self.least <= self.median && self.median <= self.most && self.most.is_finite()
    }
}

impl Measured {
    /// What each further client takes, in bytes; never less than nothing.
    pub fn bytes_per_client(&self) -> f64 {
        let more = f64::from(self.many.clients.saturating_sub(self.few.clients)).max(1.0);
        ((self.many.rss_bytes as f64 - self.few.rss_bytes as f64) / more).max(0.0)
    }

    /// A figure for any number of clients from those measured with few and with many: between them it changes with the
    /// logarithm of their number. Fewer are taken to be as few, and more as many: once no client's state is in a cache,
    /// there is nothing more to be lost.
    pub fn between(&self, clients: u64, few: f64, many: f64) -> f64 {
        let (from, to) = (f64::from(self.few.clients.max(1)), f64::from(self.many.clients.max(1)));
        let way = ((clients.max(1) as f64 / from).ln() / (to / from).ln()).clamp(0.0, 1.0);
        few.powf(1.0 - way) * many.powf(way)
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
        let least = |figure: f64| figure.is_finite() && figure >= 0.0;
        if !least(self.bytes_per_shard) || self.cores == 0 {
            return Err("`bytes_per_shard` and `cores` must be measured".to_owned());
        }
        for (dialect, measured) in &self.dialects {
            for (name, cost) in measured.costs.each() {
                // A change that few are told of may take less than a step of the clock that counts processor time.
                let some = cost.gateway_us.median > 0.0 && cost.per_second.least > 0.0;
                if !some || [cost.per_second, cost.gateway_us, cost.clients_us].iter().any(|one| !one.is_measured()) {
                    return Err(format!("`{name}` of {dialect} must be measured: it is {cost:?}"));
                }
            }
            if measured.few.clients >= measured.many.clients || !least(measured.kernel_bytes_per_client) {
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
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn cost(per_second: f64, gateway_us: f64) -> Cost {
        let spread = |median: f64| Spread { median, least: median * 0.9, most: median * 1.2 };
        Cost {
            bursts: 3,
            per_second: spread(per_second),
            gateway_us: spread(gateway_us),
            clients_us: spread(gateway_us),
        }
    }

    /// Round figures near those of lakh on two cores.
    pub(in super::super) fn example() -> Calibration {
        let measured = |base: u64, slope: u64, factor: f64| Measured {
            shards: 2,
            few: Held { clients: 5_000, rss_bytes: base + 5_000 * slope },
            many: Held { clients: 20_000, rss_bytes: base + 20_000 * slope },
            kernel_bytes_per_client: 4_000.0,
            costs: Items {
                handshake: cost(25_000.0, 40.0 * factor),
                ping_of_few: cost(200_000.0, 4.5 * factor),
                ping: cost(150_000.0, 6.0 * factor),
                own: cost(130_000.0, 7.0 * factor),
                own_large: cost(90_000.0, 10.2 * factor),
                upstream: cost(80_000.0, 12.0 * factor),
                upstream_large: cost(50_000.0, 20.0 * factor),
                refused: cost(140_000.0, 6.5 * factor),
                told: cost(100_000.0, 4.0 * factor),
            },
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
            // Several tests of one process may want the same at once.
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let root = std::env::temp_dir().join(format!("lakh-plan-{name}-{process}-{count}"));
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
    fn of_several_bursts_the_middle_counts_and_the_outer_ones_are_told() {
        let burst = |seconds, gateway_cpu| Came { clients: 1_000, seconds, gateway_cpu, clients_cpu: 0.01 };
        let cost = Cost::of(&[burst(0.02, 0.02), burst(0.01, 0.01), burst(0.5, 0.03)]);
        assert_eq!(cost.per_second, Spread { median: 50_000.0, least: 2_000.0, most: 100_000.0 });
        assert_eq!(cost.gateway_us, Spread { median: 20.0, least: 10.0, most: 30.0 });
        assert_eq!((cost.bursts, Cost::of(&[]).per_second.median), (3, 0.0));
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 9.0]).median, 3.0, "between the two in the middle");
    }

    #[test]
    fn a_figure_lies_between_few_and_many_and_goes_no_further() {
        let calibration = example();
        let tcp = &calibration.dialects["tcp"];
        let at = |clients| tcp.between(clients, 4.0, 9.0);
        assert_eq!((at(0), at(5_000), at(20_000), at(10_000_000)), (4.0, 4.0, 9.0, 9.0));
        assert!((at(10_000) - 6.0).abs() < 1e-9, "half way on a scale of logarithms: {}", at(10_000));
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
        assert!(spoiled(|tcp| tcp.costs.upstream.gateway_us.median = 0.0).contains("`upstream` of tcp"));
        assert!(spoiled(|tcp| tcp.costs.told.per_second.most = f64::NAN).contains("`told` of tcp"));
        assert!(spoiled(|tcp| tcp.few.clients = 20_000).contains("memory of tcp"));
        let mut lacking = example();
        lacking.dialects.remove("listen");
        assert!(lacking.check().expect_err("lacks").contains("listen"));
        assert_eq!(example().check(), Ok(()));
    }
}
