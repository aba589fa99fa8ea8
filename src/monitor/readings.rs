//! What the profiler is given: one reading of the process, of the kernel and of all shards.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::meter::{
    AllocatorMemory, KernelMemory, LagCounts, LagSnapshot, Named, Part, PoolReading, ProcessMemory, ShardMeter,
};

/// All figures of one moment, over all shards.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readings {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Connections open.
    pub connections: u64,
    /// Memory of this process.
    pub process: ProcessMemory,
    /// The allocator's own figures, where it tells them.
    pub allocator: Option<AllocatorMemory>,
    /// The kernel's memory for sockets, where it can be read.
    pub kernel: Option<KernelMemory>,
    /// Bytes by [`Part`], by its index.
    pub parts: [u64; Part::ALL.len()],
    /// Lag of the event loops since the readings before.
    pub lag: LagSnapshot,
    /// The pools of connection slots.
    pub slots: PoolReading,
    /// The pools of message buffers.
    pub buffers: PoolReading,
}

/// Where the last window of lag ended. Who takes readings keeps one; several may, each with windows of its own.
#[derive(Default)]
pub struct LagWindow(LagCounts);

impl Readings {
    /// Reads the process, the kernel and the shards' meters. A shard that is restarted must keep its meter: counts that
    /// start again would make a window of nonsense.
    ///
    /// # Errors
    /// When the process can't read its own memory figures. The kernel's and the allocator's may be missing.
    pub fn take<'m>(shards: impl IntoIterator<Item = &'m ShardMeter>, window: &mut LagWindow) -> io::Result<Self> {
        let mut readings = Self {
            at_unix_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            process: ProcessMemory::read()?,
            allocator: AllocatorMemory::read(),
            kernel: KernelMemory::read().ok(),
            ..Self::default()
        };
        let mut lag = LagCounts::default();
        for shard in shards {
            readings.connections += shard.open.get();
            for (part, bytes) in shard.parts.iter() {
                readings.parts[part.index()] += bytes;
            }
            readings.slots = readings.slots.plus(shard.pool.read());
            readings.buffers = readings.buffers.plus(shard.buffers.read());
            lag.merge(&shard.lag.counts());
        }
        readings.lag = lag.since(&window.0).summary();
        window.0 = lag;
        Ok(readings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn shards_add_up_and_lag_is_of_the_window() {
        let shards = [ShardMeter::default(), ShardMeter::default()];
        for shard in &shards {
            shard.open.set(7);
            shard.parts.set(Part::Outboxes, 100);
            shard.pool.publish(PoolReading { in_use: 7, created: 3, ..PoolReading::default() });
            shard.lag.record(Duration::from_millis(300));
        }
        let mut window = LagWindow::default();
        let first = Readings::take(&shards, &mut window).expect("own figures");
        assert_eq!((first.connections, first.parts[Part::Outboxes.index()]), (14, 200));
        assert_eq!((first.slots.in_use, first.slots.created), (14, 6));
        assert_eq!((first.lag.count, first.lag.max), (2, Duration::from_millis(300)));
        assert!(first.process.rss > 0 && first.at_unix_ms > 1_600_000_000_000);

        shards[1].lag.record(Duration::from_millis(2));
        let second = Readings::take(&shards, &mut window).expect("own figures");
        assert_eq!(second.lag.count, 1);
        assert!(second.lag.max < Duration::from_millis(3), "{:?}", second.lag.max);
    }
}
