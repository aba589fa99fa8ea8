//! The object pool: a slab of pages that never move, generational keys, an enforced maximum, and leases.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::ledger::{Ledger, PAGE, index_of, place_of};
use super::{Config, Key, PoolStats};

/// A slab of values of one type, found by [`Key`].
///
/// A slot is made only when none is free, the lowest free one is taken first, and a slot costs [`Self::SLOT_BYTES`]
/// and an eighth. Pages are reserved whole but touched slot by slot. A slot given back is reused; whole pages that are
/// empty go back to the allocator by [`Self::shrink`] only.
pub struct Pool<T> {
    /// Slots exist up to each page's length; its capacity is reserved, exactly, with its first slot.
    pages: Vec<Vec<Option<T>>>,
    ledger: Ledger,
    /// No page below this one has room for one more slot.
    growing: usize,
    config: Config,
}

/// The right to one value in a pool: dropping it gives the slot back and drops the value, also while unwinding.
///
/// Running an actor is `pool.lease(key)`, work, [`Lease::keep`]: if the work returns early or panics, the slot is free.
/// It borrows the pool, so no value is leased twice or released twice:
///
/// ```compile_fail,E0499
/// # use lakh::pool::{Config, Pool};
/// let mut pool = Pool::new(Config::default());
/// let lease = pool.acquire("a state").ok().unwrap();
/// pool.release(lease.key());
/// lease.release();
/// ```
#[must_use = "dropping a lease frees the slot; keep() leaves the value in the pool"]
pub struct Lease<'p, T> {
    /// Always `Some` until the lease ends.
    slot: &'p mut Option<T>,
    ledger: &'p mut Ledger,
    key: Key,
}

/// The pool holds its maximum; the value that found no slot comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> Pool<T> {
    /// Bytes that one slot takes: the value with its mark of absence (none if `T` has a niche), and its generation.
    pub const SLOT_BYTES: usize = size_of::<Option<T>>() + size_of::<u32>();

    /// A pool with `preallocated` free slots. A maximum over 2^32 - 1 is taken as that.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let maximum = config.maximum.min(u32::MAX as usize);
        let preallocated = config.preallocated.min(maximum);
        let config = Config { preallocated, maximum };
        let mut pool = Self { pages: Vec::new(), ledger: Ledger::default(), growing: 0, config };
        for _ in 0..preallocated {
            let index = pool.add_slot(None);
            pool.ledger.add_free(index);
        }
        pool
    }

    /// Puts a value into the lowest free slot, or into a new one.
    ///
    /// # Errors
    /// [`Full`] with the value when the pool holds its maximum; counted as refused.
    pub fn acquire(&mut self, value: T) -> Result<Lease<'_, T>, Full<T>> {
        if self.len() >= self.config.maximum {
            self.ledger.stats.refused += 1;
            return Err(Full(value));
        }
        let index = if let Some(index) = self.ledger.take_lowest() {
            let (page, slot) = place_of(index);
            self.pages[page][slot] = Some(value);
            index
        } else {
            let index = self.add_slot(Some(value));
            self.ledger.add_used();
            index
        };
        let (page, slot) = place_of(index);
        let key = self.ledger.key(index);
        Ok(Lease { slot: &mut self.pages[page][slot], ledger: &mut self.ledger, key })
    }

    /// Leases a value that is in the pool; nothing for a stale key.
    pub fn lease(&mut self, key: Key) -> Option<Lease<'_, T>> {
        let slot = slot_of(&mut self.pages, &self.ledger, key)?;
        // Not `then_some`: a lease made in vain would, when dropped, free a slot that is free.
        slot.is_some().then(|| Lease { slot, ledger: &mut self.ledger, key })
    }

    /// The value of this key; nothing for a stale key.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        let (page, slot) = place_of(key.index());
        self.ledger.is_current(key).then(|| self.pages.get(page)?.get(slot)?.as_ref())?
    }

    /// The value of this key, to change; nothing for a stale key.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        slot_of(&mut self.pages, &self.ledger, key)?.as_mut()
    }

    /// Takes the value out and frees its slot; nothing for a stale key.
    pub fn release(&mut self, key: Key) -> Option<T> {
        self.lease(key).map(Lease::release)
    }

    /// Values in the pool.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ledger.stats.in_use as usize
    }

    /// Whether the pool holds no value.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is in use, free, and was counted since the pool was made.
    #[must_use]
    pub const fn stats(&self) -> PoolStats {
        self.ledger.stats
    }

    /// Bytes asked of the allocator for slots and books, without what the values own elsewhere. Of these, the unmade
    /// slots of the last page (less than one page) are reserved but untouched.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let slots: usize = self.pages.iter().map(Vec::capacity).sum();
        slots * size_of::<Option<T>>() + self.pages.capacity() * size_of::<Vec<Option<T>>>() + self.ledger.bytes()
    }

    /// All values with their keys, lowest slot first.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.pages.iter().enumerate().flat_map(move |(page, slots)| {
            slots
                .iter()
                .enumerate()
                .filter_map(move |(slot, value)| Some((self.ledger.key(index_of(page, slot)), value.as_ref()?)))
        })
    }

    /// All keys, lowest slot first.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.iter().map(|(key, _)| key)
    }

    /// The key of the next value in a higher slot than this key's, or of the first value: a walk over all values that
    /// may release, or acquire, on its way and copies no list of keys.
    #[must_use]
    pub fn next_key(&self, after: Option<Key>) -> Option<Key> {
        let (first_page, first_slot) = after.map_or((0, 0), |key| place_of(key.index().saturating_add(1)));
        (first_page..self.pages.len()).find_map(|page| {
            let from = if page == first_page { first_slot } else { 0 };
            let slot = self.pages[page].iter().skip(from).position(Option::is_some)? + from;
            Some(self.ledger.key(index_of(page, slot)))
        })
    }

    /// Gives the memory of empty pages back to the allocator, but for the preallocated number of slots; returns the
    /// bytes. For calm times: it looks at every page, and slots made again count as created.
    pub fn shrink(&mut self) -> usize {
        let mut existing: usize = self.pages.iter().map(Vec::len).sum();
        let mut bytes = 0;
        for page in (0..self.pages.len()).rev() {
            let slots = &mut self.pages[page];
            let empty = slots.len() == self.ledger.free_in(page);
            if slots.is_empty() || !empty || existing - slots.len() < self.config.preallocated {
                continue;
            }
            existing -= slots.len();
            bytes += slots.capacity() * size_of::<Option<T>>();
            *slots = Vec::new();
            self.ledger.remove_slots(page);
            self.growing = self.growing.min(page);
        }
        bytes
    }

    /// Makes one more slot in the lowest page with room.
    fn add_slot(&mut self, value: Option<T>) -> u32 {
        while self.pages.get(self.growing).is_some_and(|page| page.len() == PAGE) {
            self.growing += 1;
        }
        if self.growing == self.pages.len() {
            self.pages.push(Vec::new());
            self.ledger.add_page();
        }
        let page = &mut self.pages[self.growing];
        if page.capacity() == 0 {
            page.reserve_exact(PAGE.min(self.config.maximum - self.growing * PAGE));
        }
        page.push(value);
        index_of(self.growing, page.len() - 1)
    }
}

/// The slot of a key that is not stale. Apart from `Pool`, so that a lease borrows the slot and the books at once.
fn slot_of<'p, T>(pages: &'p mut [Vec<Option<T>>], ledger: &Ledger, key: Key) -> Option<&'p mut Option<T>> {
    let (page, slot) = place_of(key.index());
    ledger.is_current(key).then(|| pages.get_mut(page)?.get_mut(slot))?
}

impl<T> Lease<'_, T> {
    /// The key under which the value is, or was, in the pool.
    #[must_use]
    pub const fn key(&self) -> Key {
        self.key
    }

    /// Leaves the value in the pool.
    pub fn keep(self) -> Key {
        let key = self.key;
        std::mem::forget(self); // It owns nothing: two borrows and a key.
        key
    }

    /// Takes the value out and frees its slot.
    pub fn release(self) -> T {
        match self.slot.take() {
            Some(value) => value, // The drop of `self` frees the slot.
            None => unreachable!("a lease holds a value until it ends"),
        }
    }
}

impl<T> Drop for Lease<'_, T> {
    fn drop(&mut self) {
        self.ledger.release(self.key.index()); // First: the slot is free even if the value's own drop panics.
        *self.slot = None;
    }
}

impl<T> Deref for Lease<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &*self.slot {
            Some(value) => value,
            None => unreachable!("a lease holds a value until it ends"),
        }
    }
}

impl<T> DerefMut for Lease<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut *self.slot {
            Some(value) => value,
            None => unreachable!("a lease holds a value until it ends"),
        }
    }
}

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pool holds its maximum")
    }
}

impl<T> std::error::Error for Full<T> {}

#[cfg(test)]
mod tests;
