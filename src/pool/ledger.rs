//! The books of a pool: each slot's generation, which slots are free, and what was counted.
//!
//! Four bytes (generation) and one bit (free or not) a slot, apart from the values, so that a value's own size decides
//! how it lies in cache lines. Free slots are found lowest first through a bitmap over the pages and one over the
//! slots of a page: after a wave the low pages fill up again and the high ones stay empty, to be given back.

use std::iter::Sum;

use serde::{Deserialize, Serialize};

use super::Key;

/// Slots in one page: at 112 bytes a value, 56 KiB.
pub(super) const PAGE: usize = 512;
const WORDS: usize = PAGE / 64;

/// What a pool holds and has done, or several pools together (by [`Sum`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStats {
    /// Slots that hold a value now.
    pub in_use: u64,
    /// Slots that exist and are free now.
    pub available: u64,
    /// Acquisitions so far that found a free slot (a preallocated one too).
    pub reused: u64,
    /// Acquisitions so far that had to make a slot.
    pub created: u64,
    /// Acquisitions so far that were refused because the pool was full.
    pub refused: u64,
}

impl PoolStats {
    /// `reused / (reused + created)`, 0.0 to 1.0; 1.0 while nothing has been acquired.
    #[must_use]
    pub fn reuse_ratio(&self) -> f64 {
        match self.reused + self.created {
            0 => 1.0,
            acquired => self.reused as f64 / acquired as f64,
        }
    }
}

impl Sum for PoolStats {
    fn sum<I: Iterator<Item = Self>>(pools: I) -> Self {
        pools.fold(Self::default(), |sum, one| Self {
            in_use: sum.in_use + one.in_use,
            available: sum.available + one.available,
            reused: sum.reused + one.reused,
            created: sum.created + one.created,
            refused: sum.refused + one.refused,
        })
    }
}

/// The books; slots are named by their index, page after page.
#[derive(Default)]
pub(super) struct Ledger {
    #[allow(clippy::vec_box)]
    // Boxed, so that growth by one page moves a pointer and not all the books.
    sheets: Vec<Box<Sheet>>,
    /// One bit a page: it has a free slot.
    pages_open: Vec<u64>,
    pub(super) stats: PoolStats,
}

/// The books of one page. Kept when the page's values are given back, so that old keys stay stale.
struct Sheet {
    generations: [u32; PAGE],
    /// One bit a slot: it exists and is free.
    free: [u64; WORDS],
}

impl Ledger {
    /// Opens the books of one more page; none of its slots exists yet.
    pub(super) fn add_page(&mut self) {
        self.sheets.push(Box::new(Sheet { generations: [0; PAGE], free: [0; WORDS] }));
        self.pages_open.resize(self.sheets.len().div_ceil(64), 0);
    }

    /// Takes the lowest free slot, if there is one, and marks it used.
    pub(super) fn take_lowest(&mut self) -> Option<u32> {
        let page = lowest_bit(&self.pages_open)?;
        let free = &mut self.sheets[page].free;
        let slot = lowest_bit(free)?;
        clear(free, slot);
        if lowest_bit(free).is_none() {
            clear(&mut self.pages_open, page);
        }
        self.stats.in_use += 1;
        self.stats.available -= 1;
        self.stats.reused += 1;
        Some(index_of(page, slot))
    }

    /// Books a slot that was made for a value.
    pub(super) fn add_used(&mut self) {
        self.stats.in_use += 1;
        self.stats.created += 1;
    }

    /// Books a slot that was made ahead of need.
    pub(super) fn add_free(&mut self, index: u32) {
        self.mark_free(index);
        self.stats.available += 1;
    }

    /// Books that the value of a slot is gone: its keys are stale from here on.
    pub(super) fn release(&mut self, index: u32) {
        let (page, slot) = place_of(index);
        let generation = &mut self.sheets[page].generations[slot];
        *generation = generation.wrapping_add(1);
        self.mark_free(index);
        self.stats.in_use -= 1;
        self.stats.available += 1;
    }

    /// Books that the free slots of a page, all of which must be free, exist no more.
    pub(super) fn remove_slots(&mut self, page: usize) {
        let free = &mut self.sheets[page].free;
        self.stats.available -= u64::from(free.iter().map(|word| word.count_ones()).sum::<u32>());
        *free = [0; WORDS];
        clear(&mut self.pages_open, page);
    }

    /// How many slots of a page are free.
    pub(super) fn free_in(&self, page: usize) -> usize {
        self.sheets[page].free.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The key of a slot's present tenant (or of its next one, when it is free).
    pub(super) fn key(&self, index: u32) -> Key {
        let (page, slot) = place_of(index);
        Key::new(index, self.sheets[page].generations[slot])
    }

    /// Whether this key is of the slot's latest generation.
    pub(super) fn is_current(&self, key: Key) -> bool {
        let (page, slot) = place_of(key.index());
        self.sheets.get(page).is_some_and(|sheet| sheet.generations[slot] == key.generation())
    }

    /// Bytes asked of the allocator for the books.
    pub(super) fn bytes(&self) -> usize {
        self.sheets.len() * size_of::<Sheet>()
            + self.sheets.capacity() * size_of::<Box<Sheet>>()
            + self.pages_open.capacity() * size_of::<u64>()
    }

    fn mark_free(&mut self, index: u32) {
        let (page, slot) = place_of(index);
        set(&mut self.sheets[page].free, slot);
        set(&mut self.pages_open, page);
    }
}

/// Which page a slot lies in, and its place there.
pub(super) const fn place_of(index: u32) -> (usize, usize) {
    (index as usize / PAGE, index as usize % PAGE)
}

/// The index of a slot by its page and place. The pool's maximum keeps it within 32 bits.
pub(super) const fn index_of(page: usize, slot: usize) -> u32 {
    (page * PAGE + slot) as u32
}

fn lowest_bit(words: &[u64]) -> Option<usize> {
    let word = words.iter().position(|&word| word != 0)?;
    Some(word * 64 + words[word].trailing_zeros() as usize)
}

fn set(words: &mut [u64], bit: usize) {
    words[bit / 64] |= 1 << (bit % 64);
}

fn clear(words: &mut [u64], bit: usize) {
    words[bit / 64] &= !(1 << (bit % 64));
}

// Four bytes and one bit a slot: the 8 bytes a slot that the design allows are kept, if `Option<T>` is as small as `T`.
const _: () = assert!(size_of::<Sheet>() == PAGE * 4 + PAGE / 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_wraps_to_zero_and_the_old_key_is_stale() {
        let mut ledger = Ledger::default();
        ledger.add_page();
        ledger.add_used();
        ledger.sheets[0].generations[0] = u32::MAX;
        let last = ledger.key(0);
        assert!(ledger.is_current(last));
        ledger.release(0);
        assert!(!ledger.is_current(last));
        assert_eq!(ledger.key(0).generation(), 0);
    }

    #[test]
    fn the_lowest_free_slot_is_taken_first_over_many_pages() {
        let mut ledger = Ledger::default();
        (0..130).for_each(|_| ledger.add_page());
        let slots = [3, 64, 511, 512, 38_000, 129 * 512 + 511];
        slots.iter().rev().for_each(|&slot| ledger.add_free(slot));
        let taken: Vec<_> = std::iter::from_fn(|| ledger.take_lowest()).collect();
        assert_eq!(taken, slots);
        assert_eq!(ledger.stats, PoolStats { in_use: 6, reused: 6, ..PoolStats::default() });
    }

    #[test]
    fn the_ratio_of_several_pools_is_that_of_their_sum() {
        let one = PoolStats { reused: 1, created: 3, ..PoolStats::default() };
        let two = PoolStats { reused: 5, created: 1, ..PoolStats::default() };
        assert!((one.reuse_ratio() - 0.25).abs() < 1e-9);
        assert!(([one, two].into_iter().sum::<PoolStats>().reuse_ratio() - 0.6).abs() < 1e-9);
        assert!((PoolStats::default().reuse_ratio() - 1.0).abs() < 1e-9);
    }
}
