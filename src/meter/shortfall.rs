//! Whether a host has what a plan needs: each limit that is too small, by name and with its remedy.

use super::host::Host;
use super::plan::{KERNEL_BYTES_PER_SOCKET, Plan, USER_BYTES_BASE, USER_BYTES_PER_CONNECTION, shards_that_fit};
use super::tally::Named;
use std::fmt;

crate::named! {
    /// A limit of the host that a plan can fail on.
    pub enum Limit {
        /// Descriptors per table.
        Descriptors = "RLIMIT_NOFILE",
        /// Shards asked for are too few for the descriptors each can have.
        Shards = "shards",
        /// Open files of the machine.
        Files = "fs.file-max",
        /// Threads of the machine or of the cgroup.
        Threads = "threads",
        /// Memory of the machine or of the cgroup.
        Memory = "memory",
        /// Connections netfilter can track.
        Conntrack = "net.netfilter.nf_conntrack_max",
    }
}

/// One limit that is too small, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// Which limit.
    pub limit: Limit,
    /// What it is now: bytes for memory, else a count.
    pub is: u64,
    /// What the plan needs of it.
    pub needs: u64,
    /// The command or the knob that mends it.
    pub remedy: String,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, is, needs, remedy } = self;
        match limit {
            Limit::Memory => {
                write!(f, "{}: {} MiB left, {} MiB needed; {remedy}", limit.name(), is >> 20, needs.div_ceil(1 << 20))
            }
            _ => write!(f, "{}: is {is}, {needs} needed; {remedy}", limit.name()),
        }
    }
}

impl std::error::Error for Shortfall {}

impl Plan {
    /// The limits of `host` that this plan breaks; `asked` are the shards asked for, which decide the remedy.
    #[must_use]
    pub fn shortfalls(&self, asked: Option<usize>, host: &Host) -> Vec<Shortfall> {
        [
            self.lacks_descriptors(asked, host),
            self.lacks_files(host),
            self.lacks_threads(host),
            self.lacks_memory(host),
            self.lacks_conntrack(host),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn lacks_descriptors(&self, asked: Option<usize>, host: &Host) -> Option<Shortfall> {
        let (is, needs) = (host.nofile_hard?, self.descriptors_per_table);
        let more_shards = shards_that_fit(self.connections, host).filter(|_| self.own_tables && asked.is_some());
        if is >= needs {
            return None;
        }
        if let Some(enough) = more_shards {
            let remedy = format!("start with --shards {enough}, or raise LimitNOFILE to {needs}");
            return Some(Shortfall { limit: Limit::Shards, is: self.shards as u64, needs: enough as u64, remedy });
        }
        let first = match host.nr_open {
            Some(most) if most < needs => format!("sysctl -w fs.nr_open={needs}, then "),
            _ => String::new(),
        };
        let or_tables = if self.own_tables {
            ""
        } else {
            ", or allow unshare(CLONE_FILES) so that each shard has a table of its own"
        };
        let remedy = format!(
            "{first}`ulimit -Hn {needs}` as root before the start, or LimitNOFILE={needs} in lakh.service{or_tables}"
        );
        Some(Shortfall { limit: Limit::Descriptors, is, needs, remedy })
    }

    fn lacks_files(&self, host: &Host) -> Option<Shortfall> {
        let needs = self.files;
        let remedy = format!("sysctl -w fs.file-max={needs}");
        host.file_max.filter(|&is| is < needs).map(|is| Shortfall { limit: Limit::Files, is, needs, remedy })
    }

    fn lacks_threads(&self, host: &Host) -> Option<Shortfall> {
        let needs = self.threads;
        let limits = [
            (host.cgroup_pids.left(), format!("allow the cgroup more tasks: TasksMax={needs} or more in lakh.service")),
            (host.threads_max, format!("sysctl -w kernel.threads-max={needs} or more")),
            (host.pid_max, format!("sysctl -w kernel.pid_max={needs} or more")),
        ];
        let (is, remedy) = limits.into_iter().find_map(|(is, remedy)| Some((is.filter(|&is| is < needs)?, remedy)))?;
        Some(Shortfall { limit: Limit::Threads, is, needs, remedy })
    }

    fn lacks_memory(&self, host: &Host) -> Option<Shortfall> {
        let (is, needs) = (host.memory_left()?, self.user_bytes.saturating_add(self.kernel_bytes));
        let connections = is.saturating_sub(USER_BYTES_BASE) / (USER_BYTES_PER_CONNECTION + KERNEL_BYTES_PER_SOCKET);
        let owner = if host.memory_available.is_none_or(|machine| machine > is) {
            "the cgroup (MemoryMax=)"
        } else {
            "the machine"
        };
        let remedy = format!("give {owner} more memory, or plan for --connections-max {connections}");
        (is < needs).then_some(Shortfall { limit: Limit::Memory, is, needs, remedy })
    }

    /// Only where something is tracked now: a table that no rule fills limits nobody.
    fn lacks_conntrack(&self, host: &Host) -> Option<Shortfall> {
        let (is, used) = (host.conntrack.limit?, host.conntrack.used.filter(|&used| used > 0)?);
        let needs = self.connections.saturating_add(used);
        let remedy =
            format!("sysctl -w net.netfilter.nf_conntrack_max={needs}, or do not track the port (nft notrack)");
        (is < needs).then_some(Shortfall { limit: Limit::Conntrack, is, needs, remedy })
    }
}

#[cfg(test)]
mod tests {
    use super::super::host::Usage;
    use super::super::plan::tests::{limits, measured_host};
    use super::*;

    #[test]
    fn a_limit_above_nr_open_needs_that_raised_first() {
        let host = Host { own_tables: false, ..measured_host() };
        let shortfalls = Plan::new(2_000_000, None, &host).expect_err("one table");
        assert!(shortfalls[0].remedy.starts_with("sysctl -w fs.nr_open=2000136"), "{}", shortfalls[0]);
    }

    #[test]
    fn each_limit_fails_alone() {
        let host = measured_host();
        let plan = |host: Host| limits(Plan::new(100_000, None, &host));
        assert_eq!(plan(Host { file_max: Some(100_000), ..host.clone() }), [Limit::Files]);
        assert_eq!(plan(Host { threads_max: Some(10), ..host.clone() }), [Limit::Threads]);
        assert_eq!(
            plan(Host { cgroup_pids: Usage { limit: Some(64), used: Some(60) }, ..host.clone() }),
            [Limit::Threads]
        );
        assert_eq!(plan(Host { memory_available: Some(400 << 20), ..host.clone() }), [Limit::Memory]);
        let cgroup = Usage { limit: Some(500 << 20), used: Some(100 << 20) };
        assert_eq!(plan(Host { cgroup_memory: cgroup, ..host.clone() }), [Limit::Memory]);
        let tracked = Usage { limit: Some(65_536), used: Some(3) };
        assert_eq!(plan(Host { conntrack: tracked, ..host }), [Limit::Conntrack]);
    }

    #[test]
    fn a_shortfall_reads_as_a_sentence() {
        let host = Host { memory_available: Some(64 << 20), ..measured_host() };
        let shortfalls = Plan::new(100_000, None, &host).expect_err("64 MiB");
        assert_eq!(
            shortfalls[0].to_string(),
            "memory: 64 MiB left, 415 MiB needed; give the machine more memory, or plan for --connections-max 12920"
        );
    }
}
