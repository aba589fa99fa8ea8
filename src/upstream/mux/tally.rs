//! What each tool is used for, counted where it is free of locks and handed over now and then.

use std::collections::HashMap;
use std::time::Duration;

/// Most names that are told apart; what comes later counts as [`OTHER`].
pub const NAMES_MAX: usize = 256;
/// Longest name that is told apart, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// All that is not told apart.
pub const OTHER: &str = "other";

/// What was counted of one tool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    /// Calls that have ended.
    pub calls: u64,
    /// Those that failed.
    pub errors: u64,
    /// How long they took in all, in microseconds.
    pub micros: u64,
}

/// Uses by name, bounded.
#[derive(Debug, Clone, Default)]
pub struct Uses(HashMap<Box<str>, Use>);

impl Uses {
    /// Counts one call, under its own name if that `is_known`: asked where it was not counted before.
    pub fn count(&mut self, name: &str, took: Duration, failed: bool, is_known: impl FnOnce() -> bool) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.add(name, Use { calls: 1, errors: u64::from(failed), micros }, is_known);
    }

    /// Adds what another has counted, and empties it; the names stay there, to be found again for nothing.
    pub fn take_over(&mut self, other: &mut Self) {
        for (name, uses) in other.0.iter_mut().filter(|(_, uses)| uses.calls > 0) {
            self.add(name, std::mem::take(uses), || true);
        }
    }

    /// Each name with what was counted of it, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Use)> {
        self.0.iter().map(|(name, uses)| (&**name, uses))
    }

    /// Adds what was counted elsewhere, as [`Self::count`] does.
    pub fn add(&mut self, name: &str, uses: Use, is_known: impl FnOnce() -> bool) {
        if let Some(known) = self.0.get_mut(name) {
            return known.add(uses);
        }
        let room = self.0.len() < NAMES_MAX && name.len() <= NAME_BYTES_MAX && is_known();
        self.0.entry(if room { name } else { OTHER }.into()).or_default().add(uses);
    }
}

impl Use {
    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.micros = self.micros.saturating_add(other.micros);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_end_are_counted_as_other() {
        let (mut local, mut all) = (Uses::default(), Uses::default());
        for number in 0..1_000 {
            local.count(&number.to_string(), Duration::from_micros(3), number % 2 == 0, || true);
            all.take_over(&mut local);
        }
        assert!(all.iter().count() <= NAMES_MAX + 1);
        assert_eq!(all.iter().map(|(_, uses)| uses.calls).sum::<u64>(), 1_000);
        assert_eq!(all.iter().map(|(_, uses)| uses.errors).sum::<u64>(), 500);
        assert!(all.iter().any(|(name, uses)| name == OTHER && uses.micros > 1_000));
    }
}
