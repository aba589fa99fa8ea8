//! The machines that are planned with: this host, or those of a table.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::meter::plan::SHARDS_MOST;
use crate::meter::{Host, Plan};

/// One kind of machine. What is 0 limits nothing, and is named among the assumptions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// How it is called in tables.
    pub name: String,
    /// Cores, each taken to be as fast as one of the machine that the coefficients were measured on.
    pub cores: f64,
    /// Memory in GiB.
    pub memory_gib: f64,
    /// Network in Gbit/s, each way, at any time.
    #[serde(default)]
    pub nic_gbit: f64,
    /// Descriptors of one table: the hard `RLIMIT_NOFILE`.
    #[serde(default = "usual_descriptors")]
    pub descriptors: u64,
    /// Whether each shard may have a table of its own (`unshare(CLONE_FILES)`).
    #[serde(default = "usual_tables")]
    pub own_tables: bool,
    /// Dollars a month.
    #[serde(default)]
    pub price_month: f64,
    /// Who says so.
    #[serde(skip_deserializing)]
    pub from: Origin,
}

/// Where the figures of a machine come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The file of the load, or a published plan.
    #[default]
    Given,
    /// Read from the host.
    Host,
    /// The table of common tiers: assumptions.
    Table,
}

/// The hard limit that systemd and container runtimes come with: `fs.nr_open` of Linux.
const fn usual_descriptors() -> u64 {
    1 << 20
}

const fn usual_tables() -> bool {
    true
}

/// What of a machine cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("machine {0:?}: `{1}` = {2} must be {3}")]
pub struct BadMachine(String, &'static str, f64, &'static str);

/// Vendors' usual sizes of general-purpose machines, four GiB to a core: AWS m7i, with the network that they have at any
/// time (not "up to") and list prices on demand in us-east-1, 730 hours a month, as known in 2026: an assumption, to be
/// replaced by `[[machines]]` in the file of the load.
const TIERS: [(&str, f64, f64, f64, f64); 6] = [
    ("2 cores, 8 GiB", 2.0, 8.0, 0.781, 73.6),
    ("4 cores, 16 GiB", 4.0, 16.0, 1.562, 147.2),
    ("8 cores, 32 GiB", 8.0, 32.0, 3.125, 294.3),
    ("16 cores, 64 GiB", 16.0, 64.0, 6.25, 588.7),
    ("32 cores, 128 GiB", 32.0, 128.0, 12.5, 1_177.3),
    ("64 cores, 256 GiB", 64.0, 256.0, 25.0, 2_354.7),
];

/// The table of common tiers.
pub fn tiers() -> Vec<Machine> {
    let tier = |&(name, cores, memory_gib, nic_gbit, price_month): &(&str, f64, f64, f64, f64)| Machine {
        name: name.to_owned(),
        cores,
        memory_gib,
        nic_gbit,
        descriptors: usual_descriptors(),
        own_tables: true,
        price_month,
        from: Origin::Table,
    };
    TIERS.iter().map(tier).collect()
}

impl Machine {
    /// The host this process runs on; without a price.
    pub fn this_host(host: &Host) -> Self {
        Self {
            name: "this host".to_owned(),
            cores: host.cores.max(1) as f64,
            memory_gib: host.cgroup_memory.limit.or(host.memory_total).unwrap_or(0) as f64 / f64::from(1 << 30),
            nic_gbit: fastest_nic(),
            descriptors: host.nofile_hard.unwrap_or(0),
            own_tables: host.own_tables,
            price_month: 0.0,
            from: Origin::Host,
        }
    }

    /// The machine, if it can be.
    ///
    /// # Errors
    /// The first figure that cannot.
    pub fn checked(self) -> Result<Self, BadMachine> {
        let some = |figure: f64| (0.01..=1e6).contains(&figure);
        let any = |figure: f64| (0.0..=1e9).contains(&figure);
        let figures = [
            ("cores", self.cores, some(self.cores), "from 0.01 to a million"),
            ("memory_gib", self.memory_gib, some(self.memory_gib), "from 0.01 to a million"),
            ("nic_gbit", self.nic_gbit, any(self.nic_gbit), "0 (not limited) or more"),
            ("price_month", self.price_month, any(self.price_month), "0 (unknown) or more"),
        ];
        match figures.into_iter().find(|(_, _, right, _)| !right) {
            Some((name, figure, _, wanted)) => Err(BadMachine(self.name, name, figure, wanted)),
            None => Ok(self),
        }
    }

    /// Memory in bytes.
    pub fn memory_bytes(&self) -> f64 {
        self.memory_gib * f64::from(1 << 30)
    }

    /// How many shards lakh would have here for so many clients.
    pub fn shards(&self, clients: u64) -> usize {
        Plan::sketch(clients, None, &self.as_host()).shards
    }

    /// The most clients that its descriptor tables hold; `None`: as many as come.
    pub fn descriptors_hold(&self) -> Option<u64> {
        if self.descriptors == 0 {
            return None;
        }
        let (host, limit) = (self.as_host(), self.descriptors);
        let fits = |clients| Plan::sketch(clients, None, &host).descriptors_per_table <= limit;
        let tables = if self.own_tables { SHARDS_MOST.max(host.cores) as u64 } else { 1 };
        let (mut low, mut high) = (0, limit.saturating_mul(tables).saturating_add(1));
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(middle) { low = middle } else { high = middle }
        }
        Some(low)
    }

    fn as_host(&self) -> Host {
        Host {
            cores: (self.cores.ceil() as usize).max(1),
            nofile_hard: (self.descriptors > 0).then_some(self.descriptors),
            own_tables: self.own_tables,
            ..Host::default()
        }
    }
}

/// Gbit/s of the fastest network device that says so; loopback is none, and many virtual ones say nothing: 0.
fn fastest_nic() -> f64 {
    let Ok(devices) = fs::read_dir("/sys/class/net") else { return 0.0 };
    let speed = |folder: std::path::PathBuf| fs::read_to_string(folder.join("speed")).ok()?.trim().parse::<f64>().ok();
    let others = devices.flatten().filter(|device| device.file_name() != "lo");
    others.filter_map(|device| speed(device.path())).filter(|mbit| *mbit > 0.0).fold(0.0, f64::max) / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        tiers().swap_remove(0)
    }

    #[test]
    fn a_machine_that_cannot_be_is_refused_by_name() {
        for (name, odd) in [
            ("cores", Machine { cores: 0.0, ..machine() }),
            ("cores", Machine { cores: f64::NAN, ..machine() }),
            ("memory_gib", Machine { memory_gib: -1.0, ..machine() }),
            ("nic_gbit", Machine { nic_gbit: f64::NAN, ..machine() }),
            ("price_month", Machine { price_month: f64::INFINITY, ..machine() }),
        ] {
            assert!(odd.checked().expect_err(name).to_string().contains(name));
        }
        assert!(tiers().into_iter().all(|tier| tier.checked().is_ok()));
        assert!(Machine::this_host(&Host::read()).checked().is_ok());
    }

    #[test]
    fn descriptors_hold_what_the_plan_of_a_start_says() {
        let shared = Machine { descriptors: 20_000, own_tables: false, ..machine() };
        let held = shared.descriptors_hold().expect("a limit");
        assert!((19_000..20_000).contains(&held), "{held}");
        let own = Machine { own_tables: true, ..shared.clone() };
        assert!(own.descriptors_hold().expect("a limit") > 4_000_000, "a table for each of 256 shards");
        assert_eq!(Machine { descriptors: 0, ..shared }.descriptors_hold(), None);
        assert_eq!(Machine { descriptors: 10, ..own }.descriptors_hold(), Some(0));
    }
}
