//! Connection seats: one for each client that is in, held to the end, free again when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::meter::Tally;
use crate::named;

/// The knobs of the house's door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Clients that may be connected at once, over all shards.
    pub connections_max: usize,
    /// Calls that may wait for an upstream's answer at once, over all clients.
    pub in_flight_max: usize,
    /// Resources that may be watched for changes at once, over all clients; each client counts.
    pub watches_max: usize,
    /// What a refused client is told to wait before it tries again, in milliseconds.
    pub retry_after_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // What the name says.
            connections_max: 100_000,
            // A few hundred bytes each: 10,000 waiting calls are a few MiB.
            in_flight_max: 10_000,
            // A few hundred bytes each, and the URI.
            watches_max: 100_000,
            // Long enough not to hammer a full house, short enough for a person to wait.
            retry_after_ms: 5_000,
        }
    }
}

named! {
    /// Why somebody, or a call, was not let in.
    pub enum Refusal {
        /// Every seat is taken (`guard.connections_max`).
        HouseFull = "house_full",
        /// This shard's descriptor table is full, though the house is not: more shards would help.
        ShardFull = "shard_full",
        /// The acceptor found no free descriptor and pauses.
        NoDescriptor = "no_descriptor",
        /// Too many calls wait for answers (`guard.in_flight_max`).
        InFlightFull = "in_flight_full",
        /// Too many resources are watched (`guard.watches_max`).
        WatchesFull = "watches_full",
    }
}

impl Refusal {
    /// What the refused one is told.
    pub fn message(self) -> &'static str {
        match self {
            Self::HouseFull => "the gateway is full; try again later",
            Self::ShardFull | Self::NoDescriptor => "this part of the gateway is full; try again now or later",
            Self::InFlightFull => "too many calls are waiting for answers; try again later",
            Self::WatchesFull => "too many resources are watched; unsubscribe from some, or try again later",
        }
    }
}

/// Counts what is taken of a limit. Shared by all shards.
pub struct Seats {
    max: usize,
    taken: AtomicUsize,
    /// Bytes that those in the seats hold, as they say themselves.
    held: AtomicUsize,
    /// Refusals by reason.
    pub refusals: Tally<Refusal>,
}

impl Seats {
    /// A house with `max` seats, all free.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: AtomicUsize::new(0), held: AtomicUsize::new(0), refusals: Tally::new() })
    }

    /// Takes a seat, if one is free.
    pub fn take(self: &Arc<Self>) -> Option<Seat> {
        let one_more = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).ok()?;
        Some(Seat { seats: Arc::clone(self) })
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
        self.max
    }
}

/// A taken seat; dropping it frees it.
pub struct Seat {
    seats: Arc<Seats>,
}

impl Seat {
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
        self.seats.taken.fetch_sub(1, Ordering::AcqRel);
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
}
