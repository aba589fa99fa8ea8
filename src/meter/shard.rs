//! What one shard publishes about itself for other threads to read.

use super::lag::Lag;
use super::tally::Named;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A figure that its one writer sets, and anyone reads somewhat later.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Publishes `value`.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Adds `n`. Only for the one thread that writes this gauge: a plain load and store, with no locked instruction.
    #[inline]
    pub fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    /// The figure as last published.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

crate::named! {
    /// Where the bytes of a shard are; what is in none of these is "everything else" of the process.
    pub enum Part {
        /// Connection slots in use, the connections' compact states.
        Slots = "slots",
        /// Incomplete messages waiting for their rest.
        Buffers = "buffers",
        /// Bytes written by us that the peer has not taken yet.
        Outboxes = "outboxes",
        /// Boxed parts that exist only while something is unfinished.
        Active = "active",
        /// Resources that clients watch; the first shard tells of those of all shards.
        Watches = "watches",
        /// Mail waiting in the shard's inbox.
        Inbox = "inbox",
        /// Free slots and buffers kept for the next one.
        Pools = "pools",
    }
}

/// Bytes per [`Part`].
#[derive(Debug, Default)]
pub struct PartGauges([Gauge; Part::ALL.len()]);

impl PartGauges {
    /// Publishes that `part` takes `bytes`.
    pub fn set(&self, part: Part, bytes: u64) {
        self.0[part.index()].set(bytes);
    }

    /// The bytes of `part`.
    #[must_use]
    pub fn get(&self, part: Part) -> u64 {
        self.0[part.index()].get()
    }

    /// Every part with its bytes.
    pub fn iter(&self) -> impl Iterator<Item = (Part, u64)> + '_ {
        Part::ALL.iter().map(|&part| (part, self.get(part)))
    }

    /// The bytes of all parts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// One reading of a pool: how well reuse works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolReading {
    /// Lent out now.
    pub in_use: u64,
    /// Free and ready to lend now.
    pub available: u64,
    /// Lendings served from what was there before.
    pub reused: u64,
    /// Lendings that had to make one.
    pub created: u64,
    /// Lendings refused because the maximum was reached.
    pub refused: u64,
}

impl PoolReading {
    /// `reused / (reused + created)`; 1.0 before the first lending, so that an unused pool alarms nobody.
    #[must_use]
    pub fn reuse_ratio(&self) -> f64 {
        match self.reused + self.created {
            0 => 1.0,
            lent => self.reused as f64 / lent as f64,
        }
    }

    /// The sum of two pools, as of two shards.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            in_use: self.in_use + other.in_use,
            available: self.available + other.available,
            reused: self.reused + other.reused,
            created: self.created + other.created,
            refused: self.refused + other.refused,
        }
    }
}

/// A pool's figures as its shard last published them.
#[derive(Debug, Default)]
pub struct PoolGauges {
    in_use: Gauge,
    available: Gauge,
    reused: Gauge,
    created: Gauge,
    refused: Gauge,
}

impl PoolGauges {
    /// Publishes one reading.
    pub fn publish(&self, reading: PoolReading) {
        self.in_use.set(reading.in_use);
        self.available.set(reading.available);
        self.reused.set(reading.reused);
        self.created.set(reading.created);
        self.refused.set(reading.refused);
    }

    /// The reading last published; its figures may come from two publications in a row.
    #[must_use]
    pub fn read(&self) -> PoolReading {
        PoolReading {
            in_use: self.in_use.get(),
            available: self.available.get(),
            reused: self.reused.get(),
            created: self.created.get(),
            refused: self.refused.get(),
        }
    }
}

/// All that a shard tells about itself. Only that shard's thread writes it; it starts on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ShardMeter {
    /// Connections open now.
    pub open: Gauge,
    /// Connections accepted since the start.
    pub accepted: Gauge,
    /// Messages read since the start.
    pub messages_in: Gauge,
    /// Messages written since the start.
    pub messages_out: Gauge,
    /// Bytes read from clients since the start.
    pub bytes_in: Gauge,
    /// Bytes written to clients since the start.
    pub bytes_out: Gauge,
    /// Where this shard's bytes are now.
    pub parts: PartGauges,
    /// The pool of connection slots.
    pub pool: PoolGauges,
    /// The pool of message buffers.
    pub buffers: PoolGauges,
    /// How long something ready waited for the loop to come round.
    pub lag: Lag,
    /// How long messages took here: of each the whole turn in which it was read, at whose end all answers that need
    /// nobody else were written. An upper bound that costs no look at the clock for each message.
    pub answered: Lag,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_kept_apart_and_summed() {
        let parts = PartGauges::default();
        for (place, &part) in Part::ALL.iter().enumerate() {
            parts.set(part, 10_u64.pow(place as u32));
        }
        parts.set(Part::Slots, 7);
        assert_eq!(parts.get(Part::Slots), 7);
        assert_eq!(parts.total(), 1_111_117);
    }

    #[test]
    fn a_pool_reading_survives_publication() {
        let reading = PoolReading { in_use: 1, available: 2, reused: 30, created: 10, refused: 5 };
        let gauges = PoolGauges::default();
        gauges.publish(reading);
        assert_eq!(gauges.read(), reading);
        assert!((reading.reuse_ratio() - 0.75).abs() < 1e-9);
        assert_eq!(reading.plus(reading).refused, 10);
    }

    #[test]
    fn an_unused_pool_reuses_perfectly() {
        assert!((PoolReading::default().reuse_ratio() - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn sixty_shards_meter_themselves_in_little_memory() {
        assert!(std::mem::size_of::<ShardMeter>() <= 4096);
    }
}
