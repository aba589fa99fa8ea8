//! Rates, and who has used up which: the generic cell rate algorithm, with one number for each who is in debt.
//!
//! Whoever asks goes into debt by one call's worth of time, and time pays the debt. One more is let in as long as the
//! debt stays within the rate's period: so a rate of 100 a minute lets 100 in at once, and then one each 0.6 s. Who has
//! no debt is not remembered: a client that asks seldom costs nothing.
//!
//! Why not `governor`: its keyed limiter has one quota for all keys (issue 193 there), where each plan has its own here;
//! its store has no bound, so that made-up clients fill the memory until `retain_recent` is called; and what it needs
//! besides (a concurrent map, clocks, two kinds of locks) is more than the eighty lines that it would save.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Address, Tenant};

/// Parts of the book, each under a lock of its own, so that shards seldom meet.
const PARTS: usize = 64;
/// Parts gone through at once for debts that are paid: all within four seconds, at two turns a second.
const SWEPT_AT_ONCE: usize = 8;
/// A part that is full is gone through no more often than this, or each who comes then would pay for that.
const FULL_SWEEP: Duration = Duration::from_millis(100);
const PICOS: u64 = 1_000;

/// So much in a period, and so much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The time that pays for one, in picoseconds: of a gigabyte a minute, a byte's is no whole number of nanoseconds.
    each: u128,
    most: u64,
}

/// Whose debt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Debtor {
    /// One client, for its calls at slow upstreams.
    Slow(u128),
    /// One client, for its calls of sensitive tools.
    Sensitive(u128),
    /// One client, for the bytes that it sent.
    Bytes(u128),
    /// All from one address, for their calls.
    Address(Address),
    /// All of one tenant, for their calls.
    Tenant(Tenant),
    /// Everybody, for all calls.
    House,
    /// Everybody, for coming in.
    Arrivals,
}

/// Why something is not let in now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It may come in after this time.
    Wait(Duration),
    /// It is too much to come in ever.
    Never,
}

/// All debts of the house. Times are since the house was built.
pub struct Debts {
    parts: Box<[Mutex<Part>]>,
    hasher: RandomState,
    /// Debtors that one part keeps.
    part_max: usize,
    next: AtomicUsize,
}

/// When each debt will be paid, in picoseconds.
#[derive(Default)]
struct Part {
    due: HashMap<Debtor, u128>,
    full_sweep: Option<Duration>,
}

/// Whether a debt was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// It was.
    Yes,
    /// There is no room for one more debtor: this one passes unchecked.
    NoRoom,
}

impl Rate {
    /// `most` in each `period`; none for 0, which is no limit.
    #[must_use]
    pub fn new(most: u64, period: Duration) -> Option<Self> {
        // Rounded up, so that it is never more than it says.
        (most > 0).then(|| Self { each: picos(period).div_ceil(u128::from(most)), most })
    }

    /// `most` a minute; none for 0.
    #[must_use]
    pub fn per_minute(most: u64) -> Option<Self> {
        Self::new(most, Duration::from_secs(60))
    }

    /// When a debt that is due then is due after `cost` more.
    fn charge(self, due: u128, cost: u64, now: u128) -> Result<u128, Hold> {
        if cost > self.most {
            return Err(Hold::Never);
        }
        let due = due.max(now) + self.each * u128::from(cost);
        let over = due.saturating_sub(now + self.each * u128::from(self.most));
        // Rounded up: who waits so long finds it true.
        let wait = || Duration::from_nanos(u64::try_from(over.div_ceil(u128::from(PICOS))).unwrap_or(u64::MAX));
        if over == 0 { Ok(due) } else { Err(Hold::Wait(wait())) }
    }
}

impl Debts {
    /// For `debtors_max` at most.
    #[must_use]
    pub fn new(debtors_max: usize) -> Self {
        // Few enough are counted exactly.
        let parts = if debtors_max < PARTS * PARTS { 1 } else { PARTS };
        Self {
            parts: (0..parts).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            part_max: debtors_max / parts,
            next: AtomicUsize::new(0),
        }
    }

    /// Lets `debtor` go into debt by `cost`.
    ///
    /// # Errors
    /// When its debt would be more than the rate allows. It is as it was, then.
    pub fn charge(&self, debtor: Debtor, rate: Rate, cost: u64, now: Duration) -> Result<Noted, Hold> {
        let mut part = self.part(&debtor);
        let (then, is_full) = (picos(now), part.due.len() >= self.part_max);
        if is_full && !part.due.contains_key(&debtor) && !part.make_room(self.part_max, now) {
            return Ok(Noted::NoRoom);
        }
        match part.due.entry(debtor) {
            Entry::Occupied(mut due) => *due.get_mut() = rate.charge(*due.get(), cost, then)?,
            Entry::Vacant(none) => drop(none.insert(rate.charge(0, cost, then)?)),
        }
        Ok(Noted::Yes)
    }

    /// Takes back what [`Self::charge`] did: something else was in the way.
    pub fn refund(&self, debtor: Debtor, rate: Rate, cost: u64) {
        if let Some(due) = self.part(&debtor).due.get_mut(&debtor) {
            *due = due.saturating_sub(rate.each * u128::from(cost));
        }
    }

    /// Forgets who has paid, in some of the parts; how many are left there.
    pub fn sweep(&self, now: Duration) -> usize {
        let parts = (0..SWEPT_AT_ONCE.min(self.parts.len())).map(|_| {
            let at = self.next.fetch_add(1, Ordering::Relaxed) % self.parts.len();
            let mut part = lock(&self.parts[at]);
            part.forget(now);
            part.due.len()
        });
        parts.sum()
    }

    /// How many are in debt, or were until lately.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).due.len()).sum()
    }

    /// Whether nobody is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn part(&self, debtor: &Debtor) -> MutexGuard<'_, Part> {
        // The map takes other bits of it.
        let hash = self.hasher.hash_one(debtor) as usize;
        lock(&self.parts[hash % self.parts.len()])
    }
}

impl Part {
    fn forget(&mut self, now: Duration) {
        self.due.retain(|_, due| *due > picos(now));
        if self.due.capacity() > 8 * self.due.len() {
            self.due.shrink_to(2 * self.due.len());
        }
    }

    fn make_room(&mut self, max: usize, now: Duration) -> bool {
        if self.full_sweep.is_none_or(|last| now >= last + FULL_SWEEP) {
            self.full_sweep = Some(now);
            self.forget(now);
        }
        self.due.len() < max
    }
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

fn picos(time: Duration) -> u128 {
    time.as_nanos() * u128::from(PICOS)
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
