//! Counters with names: an enum says what can happen, a tally counts how often each of it did.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A closed set of things to count, as written by [`named!`](crate::named).
pub trait Named: Copy + 'static {
    /// Every variant, in the order of [`Named::index`].
    const ALL: &'static [Self];

    /// The place of this variant in [`Named::ALL`].
    fn index(self) -> usize;

    /// The name of this variant in metrics, logs and reports: `snake_case`, never changed once published.
    fn name(self) -> &'static str;
}

/// Writes an enum whose variants carry their published names, and its [`Named`](crate::meter::Named).
///
/// Attributes and doc comments stay where they are; `Debug`, `Clone`, `Copy`, `PartialEq`, `Eq` and `Hash` are derived.
///
/// ```
/// use lakh::meter::Named;
///
/// lakh::named! {
///     /// How a visit ended.
///     pub enum Ending {
///         /// They left.
///         PeerClosed = "peer_closed",
///         /// We closed.
///         Drained = "drained",
///     }
/// }
/// assert_eq!(Ending::Drained.name(), "drained");
/// assert_eq!(Ending::ALL.len(), 2);
/// ```
#[macro_export]
macro_rules! named {
    (
        $(#[$outer:meta])*
        $visibility:vis enum $name:ident {
            $( $(#[$inner:meta])* $variant:ident = $text:literal ),+ $(,)?
        }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $visibility enum $name {
            $( $(#[$inner])* $variant ),+
        }

        impl $crate::meter::Named for $name {
            const ALL: &'static [Self] = &[$( Self::$variant ),+];

            #[inline]
            fn index(self) -> usize {
                self as usize
            }

            fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => $text ),+
                }
            }
        }
    };
}

const COUNTS_PER_LINE: usize = 8;

/// Eight counters that fill one cache line, so that tallies of two threads never share a line.
#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU64; COUNTS_PER_LINE]);

/// One counter per variant of `K`, counted and read through `&self` from any thread.
///
/// Counts only grow (they wrap after 2^64). Orderings are relaxed: a reader sees each count somewhat late, and two counts
/// not at the same instant.
pub struct Tally<K: Named> {
    lines: Box<[Line]>,
    of: PhantomData<fn(K)>,
}

impl<K: Named> Tally<K> {
    /// A tally with every count at zero.
    #[must_use]
    pub fn new() -> Self {
        let lines = K::ALL.len().div_ceil(COUNTS_PER_LINE);
        Self { lines: (0..lines).map(|_| Line::default()).collect(), of: PhantomData }
    }

    /// Counts `what` once.
    #[inline]
    pub fn add(&self, what: K) {
        self.add_n(what, 1);
    }

    /// Counts `what` `n` times.
    #[inline]
    pub fn add_n(&self, what: K, n: u64) {
        self.count(what).fetch_add(n, Relaxed);
    }

    /// How often `what` was counted.
    #[must_use]
    pub fn get(&self, what: K) -> u64 {
        self.count(what).load(Relaxed)
    }

    /// Every variant with its count, in the order of the enum.
    pub fn iter(&self) -> impl Iterator<Item = (K, u64)> + '_ {
        K::ALL.iter().map(|&what| (what, self.get(what)))
    }

    /// The sum over all variants.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }

    #[inline]
    fn count(&self, what: K) -> &AtomicU64 {
        let index = what.index();
        &self.lines[index / COUNTS_PER_LINE].0[index % COUNTS_PER_LINE]
    }
}

impl<K: Named> Default for Tally<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Named> fmt::Debug for Tally<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(what, count)| (what.name(), count))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::named! {
        /// More than one cache line of them.
        #[allow(missing_docs)]
        enum Letter {
            A = "a", B = "b", C = "c", D = "d", E = "e", F = "f", G = "g", H = "h", /// the ninth
            I = "i",
        }
    }

    #[test]
    fn index_is_the_place_in_all() {
        for (place, letter) in Letter::ALL.iter().enumerate() {
            assert_eq!(letter.index(), place);
        }
        assert_eq!(Letter::I.name(), "i");
    }

    #[test]
    fn each_variant_has_a_count_of_its_own() {
        let tally = Tally::new();
        for (place, &letter) in Letter::ALL.iter().enumerate() {
            tally.add_n(letter, place as u64);
        }
        tally.add(Letter::A);
        let counts: Vec<u64> = tally.iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(tally.total(), 37);
    }

    #[test]
    fn no_count_is_lost_between_threads() {
        let tally = Tally::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| tally.add(Letter::I)));
            }
        });
        assert_eq!(tally.get(Letter::I), 40_000);
        assert_eq!(tally.get(Letter::H), 0);
    }

    #[test]
    fn two_tallies_share_no_cache_line() {
        assert_eq!(std::mem::size_of::<Line>(), 64);
        assert_eq!(std::mem::align_of::<Line>(), 64);
    }
}
