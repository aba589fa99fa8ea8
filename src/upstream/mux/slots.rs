//! What waits for something under a number that is never used twice: a slab whose slots count their tenants.

use std::collections::VecDeque;

/// Bits of a number that say which slot: a million may wait at once.
const INDEX_BITS: u32 = 20;
/// Bits that count the tenants of a slot. Together they stay below 2^53, where JavaScript's integers end, for servers
/// that read an id as a double.
const GENERATION_BITS: u32 = 32;
/// Most that may wait at once.
pub(super) const SLOTS_MAX: usize = 1 << INDEX_BITS;
/// The first bit that no number uses.
pub(in crate::upstream) const NUMBER_BITS: u32 = INDEX_BITS + GENERATION_BITS;

/// Slots by number. A number of 0 is never given out.
pub(super) struct Slots<T> {
    floor: u32,
    slots: Vec<Slot<T>>,
    /// Those that are free, the longest first: a number comes back as late as can be.
    free: VecDeque<u32>,
    len: usize,
}

struct Slot<T> {
    generation: u32,
    tenant: Option<T>,
}

impl<T> Slots<T> {
    /// None taken; every number is of a later generation than `floor`.
    pub(super) const fn above(floor: u32) -> Self {
        Self { floor, slots: Vec::new(), free: VecDeque::new(), len: 0 }
    }

    /// The latest generation of all.
    pub(super) fn ceiling(&self) -> u32 {
        self.slots.iter().map(|slot| slot.generation).max().unwrap_or(self.floor)
    }

    /// How many are taken.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Puts a tenant into a free slot: its number. Back if none is free.
    pub(super) fn insert(&mut self, tenant: T) -> Result<u64, T> {
        let index = match self.free.pop_front() {
            Some(index) => index as usize,
            None if self.slots.len() < SLOTS_MAX => {
                self.slots.push(Slot { generation: self.floor, tenant: None });
                self.slots.len() - 1
            }
            None => return Err(tenant),
        };
        let slot = &mut self.slots[index];
        slot.generation = slot.generation.wrapping_add(1).max(1);
        slot.tenant = Some(tenant);
        self.len += 1;
        Ok(number(index, slot.generation))
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        self.slot(number)?.tenant.as_mut()
    }

    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let slot = self.slots.get(index(number))?;
        slot.tenant.as_ref().filter(|_| slot.generation == generation(number))
    }

    /// Frees a slot.
    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let tenant = self.slot(number)?.tenant.take()?;
        self.free.push_back(index(number) as u32);
        self.len -= 1;
        Some(tenant)
    }

    /// The same tenant under a new number: a request that is sent again needs a new id.
    pub(super) fn renumber(&mut self, old: u64) -> Option<u64> {
        let slot = self.slot(old).filter(|slot| slot.tenant.is_some())?;
        slot.generation = slot.generation.wrapping_add(1).max(1);
        Some(number(index(old), slot.generation))
    }

    /// All that wait, with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| slot.tenant.as_ref().map(|tenant| (number(index, slot.generation), tenant)))
    }

    /// All that wait, with their numbers.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(index, slot)| {
            let generation = slot.generation;
            slot.tenant.as_mut().map(|tenant| (number(index, generation), tenant))
        })
    }

    /// The numbers of those that are chosen.
    pub(super) fn numbers(&mut self, mut chosen: impl FnMut(&mut T) -> bool) -> Vec<u64> {
        self.iter_mut().filter_map(|(number, tenant)| chosen(tenant).then_some(number)).collect()
    }

    #[inline]
    fn slot(&mut self, number: u64) -> Option<&mut Slot<T>> {
        self.slots.get_mut(index(number)).filter(|slot| slot.generation == generation(number))
    }
}

#[inline]
const fn number(index: usize, generation: u32) -> u64 {
    (generation as u64) << INDEX_BITS | index as u64
}

#[inline]
const fn index(number: u64) -> usize {
    (number & ((1 << INDEX_BITS) - 1)) as usize
}

/// Numbers beyond [`NUMBER_BITS`] have a generation that no slot has.
#[inline]
const fn generation(number: u64) -> u32 {
    if number >> NUMBER_BITS == 0 { (number >> INDEX_BITS) as u32 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_finds_its_own_tenant_and_after_it_nobody() {
        let mut slots = Slots::above(0);
        let one = slots.insert("one").unwrap();
        assert!(one > 0 && one < 1 << 53);
        assert_eq!(slots.remove(one), Some("one"));
        let two = slots.insert("two").unwrap();
        assert_ne!(one, two);
        assert!(slots.get(one).is_none() && slots.remove(one).is_none());
        assert_eq!(slots.get_mut(two), Some(&mut "two"));
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn numbers_nobody_was_given_find_nobody() {
        let mut slots = Slots::above(0);
        slots.insert(()).unwrap();
        for number in [0, 1, 1 << 52, u64::MAX, (1 << 20) + 7, (1 << 52) + (1 << 20)] {
            assert!(slots.get(number).is_none() && slots.remove(number).is_none(), "{number}");
        }
    }

    #[test]
    fn the_next_slots_use_no_number_again() {
        let mut first = Slots::above(0);
        let old: Vec<u64> = (0..9).map(|_| first.insert(()).unwrap()).collect();
        let mut second = Slots::above(first.ceiling());
        for _ in 0..9 {
            assert!(!old.contains(&second.insert(()).unwrap()));
        }
    }

    #[test]
    fn a_new_number_moves_the_tenant_and_the_old_one_is_over() {
        let mut slots = Slots::above(0);
        let old = slots.insert(7).unwrap();
        let new = slots.renumber(old).unwrap();
        assert_eq!((slots.get(old), slots.get(new)), (None, Some(&7)));
        assert_eq!(slots.renumber(old), None);
        assert_eq!(slots.remove(new), Some(7));
        assert_eq!(slots.renumber(new), None, "it is free");
    }
}
