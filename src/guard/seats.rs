//! Seats: a number of them, one for each who is in, held to the end, free again when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Address, Refusal, Tenant};
use crate::meter::Tally;

/// Counts what is taken of a limit. Shared by all shards.
pub struct Seats {
    max: AtomicUsize,
    taken: AtomicUsize,
    /// Bytes that those in the seats hold, as they say themselves.
    held: AtomicUsize,
    /// Why one more is refused.
    full: Refusal,
    /// Whoever sits here sits in each of these too.
    above: Box<[Arc<Self>]>,
    /// Whose they are, where that is told apart.
    pub(super) whose: Whose,
    /// Refusals by reason.
    pub refusals: Tally<Refusal>,
}

/// Who shares seats: everybody, or those from one address, of one tenant, or both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Whose {
    pub(super) address: Option<Address>,
    pub(super) tenant: Option<Tenant>,
}

impl Seats {
    /// A house with `max` seats, all free.
    pub fn new(max: usize) -> Arc<Self> {
        Self::within(max, Refusal::HouseFull, [])
    }

    /// `max` seats of which each also takes one of each of `above`; beyond them, it is `full`.
    pub fn within(max: usize, full: Refusal, above: impl Into<Box<[Arc<Self>]>>) -> Arc<Self> {
        Self::shared_by(Whose::default(), max, full, above)
    }

    pub(super) fn shared_by(whose: Whose, max: usize, full: Refusal, above: impl Into<Box<[Arc<Self>]>>) -> Arc<Self> {
        let [max, taken, held] = [max, 0, 0].map(AtomicUsize::new);
        Arc::new(Self { max, taken, held, full, above: above.into(), whose, refusals: Tally::new() })
    }

    /// Takes a seat, if one is free.
    pub fn take(self: &Arc<Self>) -> Option<Seat> {
        self.try_take().ok()
    }

    /// Takes a seat.
    ///
    /// # Errors
    /// What is full: these seats, or the first above them that is. Nothing is taken then.
    pub fn try_take(self: &Arc<Self>) -> Result<Seat, Refusal> {
        self.enter()?;
        Ok(Seat { seats: Arc::clone(self) })
    }

    /// Takes a seat that [`Self::leave`] frees.
    pub(crate) fn enter(&self) -> Result<(), Refusal> {
        let max = self.max();
        let one_more = |taken| (taken < max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).map_err(|_| self.full)?;
        for (at, above) in self.above.iter().enumerate() {
            if let Err(full) = above.enter() {
                self.above[..at].iter().for_each(|above| above.leave());
                self.taken.fetch_sub(1, Ordering::AcqRel);
                return Err(full);
            }
        }
        Ok(())
    }

    /// Frees a seat that was taken by [`Self::enter`].
    pub(crate) fn leave(&self) {
        self.above.iter().for_each(|above| above.leave());
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }

    /// Seats in use.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Bytes held by those in the seats, of those kinds whose holders say it ([`Seat::hold`]).
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Seats in all.
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// There are so many from now on. Whoever sits stays: where they are more, nobody else comes in until they are fewer.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }
}

/// A taken seat; dropping it frees it.
pub struct Seat {
    pub(super) seats: Arc<Seats>,
}

impl Seat {
    /// Moves to another seat. What both are within stays taken.
    ///
    /// # Errors
    /// What is full; then nothing has changed.
    pub(super) fn move_to(&mut self, to: Arc<Seats>) -> Result<(), Refusal> {
        let is_new = |seats: &&Arc<Seats>| !self.seats.above.iter().any(|other| Arc::ptr_eq(seats, other));
        let new: Vec<&Arc<Seats>> = to.above.iter().filter(is_new).collect();
        for (at, above) in new.iter().enumerate() {
            if let Err(full) = above.enter() {
                new[..at].iter().for_each(|above| above.leave());
                return Err(full);
            }
        }
        to.taken.fetch_add(1, Ordering::AcqRel);
        let from = std::mem::replace(&mut self.seats, to);
        from.taken.fetch_sub(1, Ordering::AcqRel);
        let is_old = |seats: &&Arc<Seats>| !self.seats.above.iter().any(|other| Arc::ptr_eq(seats, other));
        from.above.iter().filter(is_old).for_each(|above| above.leave());
        Ok(())
    }

    /// Where the one who sits there comes from, if addresses are told apart.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        self.seats.whose.address
    }

    /// Who has it says that it holds so many bytes more; to be taken back by [`Self::let_go`] before the seat is dropped.
    pub fn hold(&self, bytes: usize) {
        self.seats.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It holds so many bytes less.
    pub fn let_go(&self, bytes: usize) {
        self.seats.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_seat_is_given_and_one_more_is_not() {
        for n in [1, 2, 100] {
            let seats = Seats::new(n);
            let held: Vec<_> = (0..n).map_while(|_| seats.take()).collect();
            assert_eq!(held.len(), n);
            assert!(seats.take().is_none(), "seat {n} + 1");
            assert_eq!(seats.taken(), n, "a refusal holds nothing");
        }
    }

    #[test]
    fn a_dropped_seat_is_free_again() {
        let seats = Seats::new(1);
        drop(seats.take());
        assert!(seats.take().is_some());
    }

    #[test]
    fn with_fewer_seats_whoever_sits_stays_and_one_comes_in_when_there_is_room() {
        let seats = Seats::new(3);
        let mut held: Vec<_> = (0..3).map_while(|_| seats.take()).collect();
        seats.set_max(2);
        assert_eq!((seats.taken(), seats.max(), seats.take().is_some()), (3, 2, false));
        held.pop();
        assert!(seats.take().is_none(), "two of two");
        held.pop();
        assert!(seats.take().is_some());
        seats.set_max(3);
        held.extend((0..2).map_while(|_| seats.take()));
        assert_eq!((held.len(), seats.take().is_some()), (3, false));
    }

    #[test]
    fn a_seat_is_taken_in_all_that_it_is_in_or_in_none() {
        let (house, part) = (Seats::new(3), Seats::within(9, Refusal::AddressFull, []));
        let both = Seats::within(2, Refusal::TenantFull, [Arc::clone(&part), Arc::clone(&house)]);
        let mut held: Vec<Seat> = (0..2).map(|_| both.take().expect("room")).collect();
        assert_eq!(both.try_take().err(), Some(Refusal::TenantFull));
        assert_eq!((house.taken(), part.taken(), both.taken()), (2, 2, 2));
        held.pop();
        let _others = [house.take(), house.take()];
        assert_eq!(both.try_take().err(), Some(Refusal::HouseFull));
        assert_eq!((house.taken(), part.taken(), both.taken()), (3, 1, 1), "a refusal holds nothing, anywhere");
        drop(held);
        assert_eq!((house.taken(), part.taken(), both.taken()), (2, 0, 0));
    }
}
