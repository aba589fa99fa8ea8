//! A snapshot: where the memory is at one moment, ready to be kept, sent and printed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Readings;
use crate::meter::{AllocatorMemory, KernelMemory, LagSnapshot, Named, Part, PoolReading, ProcessMemory};

/// The kernel counts buffers of TCP in pages of this size on the machines that lakh runs on.
const PAGE_BYTES: u64 = 4_096;

/// All figures of one moment. Bytes, unless a name says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// When, in milliseconds since the start of the process.
    pub uptime_ms: u64,
    /// Connections open.
    pub connections: u64,
    /// The whole process.
    pub memory: MemoryFigures,
    /// `memory.rss` over the connections: all in, the program itself too. Nothing without connections.
    pub bytes_per_connection: Option<u64>,
    /// What we know of it, by part.
    pub parts: PartFigures,
    /// The rest of `memory.rss`: program, stacks, what is shared by all, what the allocator keeps.
    pub everything_else: u64,
    /// What the allocator says.
    pub allocator: Option<AllocatorFigures>,
    /// Beside the process: never part of the figures above.
    pub kernel: Option<KernelFigures>,
    /// Lag of the event loops since the snapshot before.
    pub lag: LagFigures,
    /// The pools of connection slots.
    pub slots: PoolFigures,
    /// The pools of message buffers.
    pub buffers: PoolFigures,
}

impl Snapshot {
    /// The figures that follow from these readings.
    #[must_use]
    pub fn new(uptime: Duration, readings: &Readings) -> Self {
        let rss = readings.process.rss;
        let known: u64 = readings.parts.iter().sum();
        Self {
            at_unix_ms: readings.at_unix_ms,
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
            connections: readings.connections,
            memory: readings.process.into(),
            bytes_per_connection: rss.checked_div(readings.connections),
            parts: PartFigures(readings.parts),
            everything_else: rss.saturating_sub(known),
            allocator: readings.allocator.map(Into::into),
            kernel: readings.kernel.map(Into::into),
            lag: readings.lag.into(),
            slots: readings.slots.into(),
            buffers: readings.buffers.into(),
        }
    }
}

/// Memory of the process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryFigures {
    /// Resident, all in.
    pub rss: u64,
    /// The most that was ever resident.
    pub rss_peak: u64,
    /// Resident and its own: without pages of files.
    pub anonymous: u64,
    /// Address space reserved; no measure of use.
    pub virt: u64,
    /// Page tables, held by the kernel and not in `rss`.
    pub page_tables: u64,
}

impl From<ProcessMemory> for MemoryFigures {
    fn from(process: ProcessMemory) -> Self {
        let ProcessMemory { rss, rss_peak, anonymous, virt, page_tables, threads: _ } = process;
        Self { rss, rss_peak, anonymous, virt, page_tables }
    }
}

/// What the allocator says of itself, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocatorFigures {
    /// Taken from the system: in use, or kept for the next allocation. Not all of it is resident.
    pub committed: u64,
    /// The most that was ever committed.
    pub committed_peak: u64,
}

impl From<AllocatorMemory> for AllocatorFigures {
    fn from(memory: AllocatorMemory) -> Self {
        Self { committed: memory.committed, committed_peak: memory.committed_peak }
    }
}

/// What the kernel holds for sockets, of the whole machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelFigures {
    /// Bytes in slabs (sockets, files, epoll entries, and what else the machine does).
    pub slab: u64,
    /// Bytes in buffers of TCP.
    pub tcp: u64,
    /// Sockets of any kind.
    pub sockets: u64,
    /// Sockets of TCP.
    pub tcp_sockets: u64,
    /// Sockets of TCP that no process holds any more.
    pub tcp_orphans: u64,
}

impl From<KernelMemory> for KernelFigures {
    fn from(kernel: KernelMemory) -> Self {
        Self {
            slab: kernel.slab,
            tcp: kernel.tcp_pages * PAGE_BYTES,
            sockets: kernel.sockets,
            tcp_sockets: kernel.tcp_sockets,
            tcp_orphans: kernel.tcp_orphans,
        }
    }
}

/// How long something ready waited for its event loop, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagFigures {
    /// Turns of the loops that were measured.
    pub turns: u64,
    /// Half of them waited at most so long.
    pub p50_us: u64,
    /// 99 of 100 waited at most so long.
    pub p99_us: u64,
    /// The longest wait.
    pub max_us: u64,
}

impl LagFigures {
    /// The worse of two windows, figure by figure, over the turns of both.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        Self {
            turns: self.turns + other.turns,
            p50_us: self.p50_us.max(other.p50_us),
            p99_us: self.p99_us.max(other.p99_us),
            max_us: self.max_us.max(other.max_us),
        }
    }
}

impl From<LagSnapshot> for LagFigures {
    fn from(lag: LagSnapshot) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self { turns: lag.count, p50_us: micros(lag.p50), p99_us: micros(lag.p99), max_us: micros(lag.max) }
    }
}

/// What a kind of pool holds and has done, over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolFigures {
    /// In use now.
    pub in_use: u64,
    /// Free now.
    pub available: u64,
    /// Acquisitions so far that found a free one.
    pub reused: u64,
    /// Acquisitions so far that had to make one.
    pub created: u64,
    /// Acquisitions so far that were refused.
    pub refused: u64,
    /// `reused / (reused + created)`.
    pub reuse_ratio: f64,
}

impl From<PoolReading> for PoolFigures {
    fn from(pool: PoolReading) -> Self {
        let PoolReading { in_use, available, reused, created, refused } = pool;
        Self { in_use, available, reused, created, refused, reuse_ratio: pool.reuse_ratio() }
    }
}

/// Bytes by [`Part`]; as JSON, an object of the parts' names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartFigures([u64; Part::ALL.len()]);

impl PartFigures {
    /// The bytes of one part.
    #[must_use]
    pub fn get(&self, part: Part) -> u64 {
        self.0[part.index()]
    }

    /// Every part with its bytes.
    pub fn iter(&self) -> impl Iterator<Item = (Part, u64)> {
        Part::ALL.iter().map(|&part| (part, self.get(part)))
    }
}

impl Serialize for PartFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(part, bytes)| (part.name(), bytes)))
    }
}

impl<'de> Deserialize<'de> for PartFigures {
    /// A part that this version doesn't know is skipped: the report may come from a newer gateway.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = BTreeMap::<String, u64>::deserialize(deserializer)?;
        let mut figures = Self::default();
        for part in Part::ALL {
            figures.0[part.index()] = bytes.get(part.name()).copied().unwrap_or(0);
        }
        Ok(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(rss: u64, connections: u64) -> Readings {
        let mut readings = Readings { connections, ..Readings::default() };
        readings.process.rss = rss;
        readings.parts[Part::Slots.index()] = 600;
        readings.parts[Part::Pools.index()] = 100;
        readings
    }

    #[test]
    fn what_no_part_explains_is_everything_else() {
        let snapshot = Snapshot::new(Duration::from_secs(3), &readings(1_000, 4));
        assert_eq!((snapshot.everything_else, snapshot.bytes_per_connection), (300, Some(250)));
        let known: u64 = snapshot.parts.iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(known + snapshot.everything_else, snapshot.memory.rss);
    }

    #[test]
    fn no_connections_and_parts_over_rss_are_no_fault() {
        let snapshot = Snapshot::new(Duration::ZERO, &readings(500, 0));
        assert_eq!((snapshot.everything_else, snapshot.bytes_per_connection), (0, None));
    }

    #[test]
    fn json_gives_back_the_snapshot_and_names_the_parts() {
        let snapshot = Snapshot::new(Duration::from_secs(3), &readings(1_000, 4));
        let json = serde_json::to_string(&snapshot).expect("serializes");
        assert!(json.contains(r#""parts":{"slots":600,"buffers":0,"#), "{json}");
        assert_eq!(serde_json::from_str::<Snapshot>(&json).expect("parses"), snapshot);
    }
}
