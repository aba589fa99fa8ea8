//! The key of a pooled value: which slot, and the how-manieth tenant of it.

/// Names one value in a [`Pool`](super::Pool) for as long as the value lives; afterwards it finds nothing.
///
/// The generation grows by one each time the slot is given back and wraps after 2^32 tenants: a key kept that long
/// would find a stranger. Keys wait in an inbox or an event list, for seconds; the same slot changing tenants 10,000
/// times a second wraps after five days.
///
/// As [bits](Self::to_bits) it is an event token. The index `u32::MAX` is never handed out, so all tokens whose lower
/// half is `u32::MAX` are free for other uses (a listener, a waker).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    pub(super) const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// The slot's number: dense, below the pool's maximum, reused by later tenants.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Which tenant of the slot is meant.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// The key as one word: generation in the upper half, index in the lower.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The key whose bits these are. Bits that never were a key make a key that finds nothing.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_give_back_the_key(index: u32, generation: u32) {
            let key = Key::new(index, generation);
            prop_assert_eq!(Key::from_bits(key.to_bits()), key);
        }
    }
}
