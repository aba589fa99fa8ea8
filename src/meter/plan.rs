//! Pure arithmetic: what a number of connections needs of a host.

use super::host::Host;
use super::shortfall::Shortfall;

/// User memory per idle connection, in bytes: the ceiling our own load test holds us to (slope between 10K and 100K).
pub const USER_BYTES_PER_CONNECTION: u64 = 320;
/// User memory of the process before its first connection, in bytes: binary, runtime, admin, scratch buffers.
pub const USER_BYTES_BASE: u64 = 12 << 20;
/// Kernel memory per idle TCP socket, in bytes. Measured on Linux 6.18: tcp_sock 2,368, inode 832, file 192, dentry 192,
/// epoll entry 208, and what the slabs round up.
pub const KERNEL_BYTES_PER_SOCKET: u64 = 3_900;
/// Descriptors of each table that are no connections: standard streams, log, admin, upstreams. Every table starts as a
/// copy of the process' first one, so each pays for all of these.
pub const DESCRIPTORS_RESERVED: u64 = 128;
/// Descriptors that one more shard adds to every table: its listener, its poll and its waker, one to spare.
pub const DESCRIPTORS_PER_SHARD: u64 = 4;
/// Open files of the machine left for everybody else.
pub const FILES_RESERVED: u64 = 1_024;
/// Threads besides the shards: main, signals, admin, a tokio pool with its blocking threads.
pub const THREADS_RESERVED: u64 = 64;
/// More shards than this are not planned unless asked for: threads on few cores that only wait for their turn. A larger
/// `RLIMIT_NOFILE` serves better.
pub const SHARDS_MOST: usize = 256;
/// `SO_REUSEPORT` spreads by a hash of the addresses, so the counts of the shards are binomial. The fullest of 256 shards
/// stays below the mean plus this many standard deviations in all but one of 10,000 fillings.
pub const IMBALANCE_SIGMAS: f64 = 5.0;
/// Ports per source address where the host does not say: the range 32768-60999 that Linux comes with.
const PORTS_PER_SOURCE: u64 = 28_232;

/// What a number of connections needs on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Connections to hold.
    pub connections: u64,
    /// Event loops, one thread each.
    pub shards: usize,
    /// Whether each shard has a descriptor table of its own; else all share one.
    pub own_tables: bool,
    /// Connections that the fullest shard must be able to hold, hash imbalance included.
    pub connections_per_shard: u64,
    /// Descriptors that a table must hold, everything included: the `RLIMIT_NOFILE` to have.
    pub descriptors_per_table: u64,
    /// Open files that the machine must allow: ours, those open now, and a reserve.
    pub files: u64,
    /// Threads of this process.
    pub threads: u64,
    /// User memory in bytes.
    pub user_bytes: u64,
    /// Kernel memory in bytes, for our end of each connection.
    pub kernel_bytes: u64,
    /// Source addresses that a load generator needs to open as many connections to one of our addresses.
    pub source_addresses: u64,
}

impl Plan {
    /// Plans `connections` on this host, with as many `shards` as asked for, or else one per core and more where the
    /// descriptors need more tables.
    ///
    /// # Errors
    /// Every limit of the host that is too small. What the host does not tell limits nothing.
    pub fn new(connections: u64, shards: Option<usize>, host: &Host) -> Result<Self, Vec<Shortfall>> {
        let plan = Self::sketch(connections, shards, host);
        let shortfalls = plan.shortfalls(shards, host);
        if shortfalls.is_empty() { Ok(plan) } else { Err(shortfalls) }
    }

    /// The needs alone, whether the host has them or not.
    #[must_use]
    pub fn sketch(connections: u64, shards: Option<usize>, host: &Host) -> Self {
        let cores = host.cores.max(1);
        let shards = match shards {
            Some(shards) => shards.max(1),
            None if host.own_tables => shards_that_fit(connections, host).unwrap_or(cores),
            None => cores,
        };
        let connections_per_shard = fullest_shard(connections, shards);
        let per_table = if host.own_tables { connections_per_shard } else { connections };
        Self {
            connections,
            shards,
            own_tables: host.own_tables,
            connections_per_shard,
            descriptors_per_table: per_table.saturating_add(reserved(shards)),
            files: connections
                .saturating_add(reserved(shards) + FILES_RESERVED)
                .saturating_add(host.files_open.unwrap_or(0)),
            threads: shards as u64 + THREADS_RESERVED,
            user_bytes: USER_BYTES_BASE.saturating_add(connections.saturating_mul(USER_BYTES_PER_CONNECTION)),
            kernel_bytes: connections.saturating_mul(KERNEL_BYTES_PER_SOCKET),
            source_addresses: connections.div_ceil(host.ports_per_source().unwrap_or(PORTS_PER_SOURCE)).max(1),
        }
    }

    /// All TCP buffer pages when every connection holds one page each way at once: the `tcp_mem` to have.
    #[must_use]
    pub const fn tcp_pages(&self) -> u64 {
        self.connections.saturating_mul(2)
    }

    /// The listen backlog to have: everyone reconnects within ten seconds of a restart, and a loop that is late by its
    /// alarm threshold of 100 ms must not drop them: connections / 100. A power of two, as the kernel rounds it.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        (self.connections / 100).next_power_of_two().clamp(1_024, 65_536)
    }
}

/// The least number of shards, one per core or more, whose fullest one still fits into a table of its own.
pub(super) fn shards_that_fit(connections: u64, host: &Host) -> Option<usize> {
    let limit = host.nofile_hard.unwrap_or(u64::MAX);
    let fits = |shards| fullest_shard(connections, shards).saturating_add(reserved(shards)) <= limit;
    let cores = host.cores.max(1);
    (cores..=SHARDS_MOST.max(cores)).find(|&shards| fits(shards))
}

/// The mean of a binomial distribution plus [`IMBALANCE_SIGMAS`] standard deviations.
fn fullest_shard(connections: u64, shards: usize) -> u64 {
    let share = 1.0 / shards as f64;
    let mean = connections as f64 * share;
    let sigma = (mean * (1.0 - share)).sqrt();
    ((mean + IMBALANCE_SIGMAS * sigma).ceil() as u64).min(connections)
}

const fn reserved(shards: usize) -> u64 {
    DESCRIPTORS_RESERVED + DESCRIPTORS_PER_SHARD * shards as u64
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::host::Usage;
    use super::super::shortfall::Limit;
    use super::*;

    /// Two cores, 24 GiB, 20,000 descriptors per table: where the design was measured.
    pub(in super::super) fn measured_host() -> Host {
        Host {
            cores: 2,
            memory_available: Some(24 << 30),
            nofile_hard: Some(20_000),
            own_tables: true,
            nr_open: Some(1 << 20),
            file_max: Some(2_466_170),
            files_open: Some(487),
            threads_max: Some(192_730),
            pid_max: Some(32_768),
            port_range: Some([32_768, 60_999]),
            conntrack: Usage { limit: Some(262_144), used: Some(0) },
            ..Host::default()
        }
    }

    pub(in super::super) fn limits(result: Result<Plan, Vec<Shortfall>>) -> Vec<Limit> {
        result.expect_err("too small").into_iter().map(|shortfall| shortfall.limit).collect()
    }

    #[test]
    fn shards_grow_with_the_tables_needed_and_never_below_the_cores() {
        let host = measured_host();
        let shards = |connections| Plan::new(connections, None, &host).map(|plan| plan.shards);
        assert_eq!(shards(1_000), Ok(2));
        assert_eq!(shards(100_000), Ok(6));
        assert_eq!(shards(1_000_000), Ok(53));
    }

    #[test]
    fn the_fullest_shard_of_a_real_hash_fits() {
        // 100 fillings of 53 shards with a multiplicative hash: none may exceed what was planned.
        let planned = fullest_shard(100_000, 53);
        for filling in 0..100_u64 {
            let mut counts = [0_u64; 53];
            for connection in 0..100_000_u64 {
                let mixed = (connection + (filling << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let hash = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32;
                counts[((hash * 53) >> 32) as usize] += 1;
            }
            assert!(counts.iter().all(|&count| count <= planned), "{filling}: {counts:?} > {planned}");
        }
        assert_eq!(fullest_shard(100, 1), 100);
    }

    #[test]
    fn one_shared_table_must_hold_everyone() {
        let host = Host { own_tables: false, ..measured_host() };
        assert_eq!(Plan::new(19_000, None, &host).map(|plan| plan.shards), Ok(2));
        let shortfalls = Plan::new(100_000, None, &host).expect_err("20,000 descriptors");
        assert_eq!((shortfalls[0].limit, shortfalls[0].is, shortfalls[0].needs), (Limit::Descriptors, 20_000, 100_136));
        assert!(shortfalls[0].remedy.contains("LimitNOFILE=100136") && shortfalls[0].remedy.contains("unshare"));
    }

    #[test]
    fn obeying_the_remedy_mends_it() {
        let host = measured_host();
        let shortfall = &Plan::new(100_000, Some(2), &host).expect_err("two tables")[0];
        assert_eq!((shortfall.limit, shortfall.is, shortfall.needs), (Limit::Shards, 2, 6));
        assert!(Plan::new(100_000, Some(shortfall.needs as usize), &host).is_ok());
        let shared = Host { own_tables: false, ..measured_host() };
        let needs = Plan::new(100_000, None, &shared).expect_err("one table")[0].needs;
        assert!(Plan::new(100_000, None, &Host { nofile_hard: Some(needs), ..shared }).is_ok());
    }

    #[test]
    fn a_host_that_says_nothing_limits_nothing() {
        let plan = Plan::new(100_000, None, &Host::default()).expect("no limits");
        assert_eq!((plan.shards, plan.source_addresses), (1, 4));
    }

    #[test]
    fn absurd_numbers_neither_panic_nor_pass() {
        let host = measured_host();
        assert!(limits(Plan::new(u64::MAX, None, &host)).contains(&Limit::Memory));
        assert!(Plan::new(0, Some(0), &host).is_ok());
        assert!(limits(Plan::new(1, None, &Host { nofile_hard: Some(100), ..host })).contains(&Limit::Descriptors));
    }
}
