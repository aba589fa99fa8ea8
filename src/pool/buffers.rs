//! Message buffers, reused by size class within a bound of bytes.

use serde::{Deserialize, Serialize};

/// Capacities of the size classes in bytes; a power of four apart, so that a buffer is at most four times too large.
const CLASSES: [usize; 5] = [512, 2 << 10, 8 << 10, 32 << 10, 128 << 10];

/// The knobs of one [`Buffers`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuffersConfig {
    /// Free buffers kept in each of the five size classes (512 B to 128 KiB), in buffers.
    pub kept_per_class: usize,
    /// Free buffers kept in all, in bytes; a fifth for each class, so that a few large ones don't crowd out the small.
    pub kept_bytes: usize,
}

impl Default for BuffersConfig {
    fn default() -> Self {
        Self {
            // As many as a shard's busy clients leave unfinished in one turn of its loop.
            kept_per_class: 128,
            // Three buffers of the largest class; little beside the 36 MiB that 100,000 clients may take.
            kept_bytes: 2 << 20,
        }
    }
}

/// Free buffers to take from and give back to. A buffer is a plain `Vec<u8>`: whoever drops it instead has freed it,
/// and it stays counted as in use.
pub struct Buffers {
    /// Free buffers by class, last given first taken: it is the one still in the cache of the processor.
    shelves: [Shelf; CLASSES.len()],
    stats: BufferStats,
    config: BuffersConfig,
}

#[derive(Default)]
struct Shelf {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// What the buffers hold and have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferStats {
    /// Buffers taken and not given back.
    pub in_use: u64,
    /// Free buffers kept now.
    pub available: u64,
    /// Bytes of the free buffers kept now.
    pub bytes_kept: u64,
    /// Takes so far that found a free buffer.
    pub reused: u64,
    /// Takes so far that allocated.
    pub created: u64,
    /// Of those created, the ones larger than the largest class: never kept.
    pub oversize: u64,
    /// Buffers given back so far and freed, because they fit no class or their class was full.
    pub freed: u64,
}

impl BufferStats {
    /// `reused / (reused + created)`, 0.0 to 1.0; 1.0 while nothing has been taken.
    #[must_use]
    pub fn reuse_ratio(&self) -> f64 {
        match self.reused + self.created {
            0 => 1.0,
            taken => self.reused as f64 / taken as f64,
        }
    }
}

impl Buffers {
    /// No buffer is made before it is asked for.
    #[must_use]
    pub fn new(config: BuffersConfig) -> Self {
        Self { shelves: Default::default(), stats: BufferStats::default(), config }
    }

    /// An empty buffer with room for at least so many bytes.
    #[must_use = "give it back"]
    pub fn take(&mut self, min_bytes: usize) -> Vec<u8> {
        self.stats.in_use += 1;
        let class = CLASSES.iter().position(|&bytes| bytes >= min_bytes);
        if let Some(buffer) = class.and_then(|class| self.shelves[class].buffers.pop()) {
            let class = class.unwrap_or_default();
            self.shelves[class].bytes -= buffer.capacity();
            self.stats.reused += 1;
            return buffer;
        }
        self.stats.created += 1;
        self.stats.oversize += u64::from(class.is_none());
        Vec::with_capacity(class.map_or(min_bytes, |class| CLASSES[class]))
    }

    /// Appends `bytes` to `buffer`. Where they do not fit, its content moves to a buffer that is at least twice as large,
    /// so that a message that comes in small pieces is not copied for each of them.
    pub fn append(&mut self, buffer: &mut Vec<u8>, bytes: &[u8]) {
        if buffer.capacity() - buffer.len() < bytes.len() {
            let mut larger = self.take(buffer.len() + bytes.len().max(buffer.len()));
            larger.extend_from_slice(buffer);
            self.give(std::mem::replace(buffer, larger));
        }
        buffer.extend_from_slice(bytes);
    }

    /// Takes a buffer back, emptied: keeps it if its class has room, frees it otherwise. It may have grown meanwhile,
    /// or come from elsewhere.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 {
            return; // Never taken: what an owner that needs none holds.
        }
        self.stats.in_use = self.stats.in_use.saturating_sub(1);
        let capacity = buffer.capacity();
        let share = self.config.kept_bytes / CLASSES.len();
        // The largest class that the buffer can serve.
        let class = CLASSES.iter().rposition(|&bytes| bytes <= capacity);
        match class.map(|class| &mut self.shelves[class]) {
            Some(shelf)
                if capacity <= CLASSES[CLASSES.len() - 1]
                    && shelf.buffers.len() < self.config.kept_per_class
                    && shelf.bytes + capacity <= share =>
            {
                buffer.clear();
                shelf.bytes += capacity;
                shelf.buffers.push(buffer);
            }
            _ => self.stats.freed += 1,
        }
    }

    /// Frees every kept buffer; returns the bytes. For calm times.
    pub fn shrink(&mut self) -> usize {
        let bytes = self.bytes();
        self.stats.freed += self.stats().available;
        self.shelves = Default::default();
        bytes
    }

    /// Bytes asked of the allocator for the buffers kept; those in use are their owners' to count.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shelves.iter().map(|shelf| shelf.bytes + shelf.buffers.capacity() * size_of::<Vec<u8>>()).sum()
    }

    /// What is in use, kept, and was counted since the start.
    #[must_use]
    pub fn stats(&self) -> BufferStats {
        BufferStats {
            available: self.shelves.iter().map(|shelf| shelf.buffers.len() as u64).sum(),
            bytes_kept: self.shelves.iter().map(|shelf| shelf.bytes as u64).sum(),
            ..self.stats
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn buffers(kept_per_class: usize, kept_bytes: usize) -> Buffers {
        Buffers::new(BuffersConfig { kept_per_class, kept_bytes })
    }

    #[test]
    fn a_buffer_given_back_is_taken_again_and_shows_nothing_of_its_last_use() {
        let mut buffers = Buffers::new(BuffersConfig::default());
        let mut first = buffers.take(600);
        assert_eq!(first.capacity(), 2048);
        first.extend_from_slice(b"a secret");
        let place = first.as_ptr();
        buffers.give(first);
        let second = buffers.take(2048);
        assert_eq!((second.as_ptr(), second.len()), (place, 0));
        let stats = buffers.stats();
        assert_eq!((stats.in_use, stats.available, stats.reused, stats.created), (1, 0, 1, 1));
    }

    #[test]
    fn a_class_keeps_its_number_and_frees_the_next() {
        let mut buffers = buffers(2, 1 << 20);
        let taken: Vec<_> = (0..3).map(|_| buffers.take(1)).collect();
        for buffer in taken {
            buffers.give(buffer);
        }
        assert_eq!((buffers.stats().available, buffers.stats().freed), (2, 1));
    }

    #[test]
    fn oversize_is_served_and_never_kept() {
        let mut buffers = buffers(100, 100 << 20);
        let large = buffers.take(200_000);
        assert!(large.capacity() >= 200_000);
        buffers.give(large);
        let stats = buffers.stats();
        assert_eq!((stats.available, stats.oversize, stats.freed, stats.bytes_kept), (0, 1, 1, 0));
    }

    #[test]
    fn an_empty_vector_was_never_taken_and_counts_for_nothing() {
        let mut buffers = buffers(100, 1 << 20);
        let taken = buffers.take(1);
        buffers.give(Vec::new());
        assert_eq!((buffers.stats().in_use, buffers.stats().freed), (1, 0));
        buffers.give(taken);
        assert_eq!(buffers.stats().in_use, 0);
    }

    #[test]
    fn a_buffer_too_small_for_any_class_is_freed() {
        let mut buffers = buffers(100, 1 << 20);
        buffers.give(Vec::with_capacity(100));
        assert_eq!((buffers.stats().available, buffers.stats().freed), (0, 1));
    }

    #[test]
    fn large_buffers_leave_room_for_small_ones() {
        let mut buffers = buffers(100, 700 << 10);
        let taken: Vec<_> = (0..10).map(|_| buffers.take(128 << 10)).collect();
        taken.into_iter().for_each(|buffer| buffers.give(buffer));
        assert_eq!(buffers.stats().available, 1); // 140 KiB a class: one of 128 KiB.
        let small = buffers.take(10);
        buffers.give(small);
        assert_eq!(buffers.stats().available, 2);
    }

    #[test]
    fn shrink_frees_all() {
        let mut buffers = Buffers::new(BuffersConfig::default());
        let taken = buffers.take(8 << 10);
        buffers.give(taken);
        assert!(buffers.shrink() >= 8 << 10);
        assert_eq!((buffers.bytes(), buffers.stats().available), (0, 0));
    }

    proptest! {
        #[test]
        fn kept_within_bounds_and_large_enough_whatever_is_asked(
            asks in prop::collection::vec((0_usize..300_000, 0_usize..3_000, any::<bool>()), 1..200),
        ) {
            let mut buffers = buffers(4, 256 << 10);
            let mut held = Vec::new();
            for (bytes, grow, give_back) in asks {
                let mut buffer = buffers.take(bytes);
                prop_assert!(buffer.is_empty() && buffer.capacity() >= bytes);
                buffer.push(b'x');
                buffer.reserve(bytes + grow);
                held.push(buffer);
                if give_back {
                    held.drain(..).for_each(|buffer| buffers.give(buffer));
                }
                let stats = buffers.stats();
                prop_assert_eq!(stats.in_use, held.len() as u64);
                prop_assert!(stats.bytes_kept <= 256 << 10 && stats.available <= 4 * 5);
                prop_assert_eq!(stats.in_use + stats.available + stats.freed, stats.created);
            }
        }
    }
}
