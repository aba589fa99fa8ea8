//! The house: what the connections of all shards share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::service::place_of;
use super::{Config, Ledger, http};
use crate::actor::{Breakdown, Inbox, Letter, Mail, Word};
use crate::guard::{self, Guards, Pressure, Refusal, Roster, Seats, Tenant, TooManyTenants};
use crate::wire;

/// What the connections of all shards share.
pub struct House {
    /// The knobs of a connection's life.
    pub config: Config,
    /// What is accepted on the wire.
    pub wire: wire::Config,
    /// The seats.
    pub seats: Arc<Seats>,
    /// Places for those beyond the last seat, to be told so in their own dialect.
    pub lobby: Arc<Seats>,
    /// Places for calls that wait for an answer.
    pub in_flight: Arc<Seats>,
    /// Places for resources that are watched.
    pub watches: Arc<Seats>,
    /// Whatever else is limited.
    pub guards: Arc<Guards>,
    /// How near the house is to its limits.
    pub pressure: Pressure,
    /// What was counted.
    pub ledger: Ledger,
    /// How many shards there are.
    pub shards: usize,
    /// The sessions of Streamable HTTP.
    pub(super) sessions: http::Sessions,
    /// Lists answered from the catalogue.
    pub lists: AtomicU64,
    /// Bytes that all connections hold in buffers.
    pub(super) buffered: AtomicUsize,
    /// Set when the gateway is going down: nobody new comes in.
    pub draining: AtomicBool,
    /// Set when all were told to go: what would be answered later is refused.
    pub closing: AtomicBool,
}

impl House {
    /// An empty house for `shards` shards, that knows no tenants.
    #[must_use]
    pub fn new(config: Config, wire: wire::Config, guard: &guard::Config, shards: usize) -> Self {
        Self::for_tenants(config, wire, guard, Roster::default(), shards)
    }

    /// An empty house for `shards` shards.
    #[must_use]
    pub fn for_tenants(
        config: Config,
        wire: wire::Config,
        guard: &guard::Config,
        tenants: Roster,
        shards: usize,
    ) -> Self {
        let seats = Seats::new(guard.connections_max);
        let in_flight = Seats::within(guard.in_flight_max, Refusal::InFlightFull, []);
        let guards = Arc::new(Guards::new(guard, tenants, &seats, &in_flight));
        Self {
            sessions: http::Sessions::new(config.http.clone(), Arc::clone(&guards)),
            guards,
            seats,
            in_flight,
            lobby: Seats::new(config.lobby_max),
            watches: Seats::within(guard.watches_max, Refusal::WatchesFull, []),
            pressure: Pressure::default(),
            ledger: Ledger::default(),
            lists: AtomicU64::new(0),
            buffered: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            config,
            wire,
            shards,
        }
    }

    /// Puts other limits and tenants in force while clients stay, as [`Guards::follow`] says; `guard.connections_max` stays as
    /// it was, for which shards and descriptors were planned.
    ///
    /// # Errors
    /// As there.
    pub fn follow(&self, guard: &guard::Config, tenants: Roster) -> Result<Vec<String>, TooManyTenants> {
        let gone = self.guards.follow(guard, tenants)?;
        self.in_flight.set_max(guard.in_flight_max);
        self.watches.set_max(guard.watches_max);
        Ok(gone)
    }

    /// Whether all connections together would hold more than they may if one of them went from `before` to `after`.
    pub(super) fn is_buffering_too_much(&self, before: Breakdown, after: Breakdown) -> bool {
        let held = self.buffered.load(Ordering::Relaxed);
        (held + after.total()).saturating_sub(before.total()) > self.config.buffered_bytes_max
    }

    /// Sessions of Streamable HTTP that are there.
    pub fn http_sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Bytes that all connections hold in buffers and outboxes, against `conn.buffered_bytes_max`.
    pub fn buffered(&self) -> usize {
        self.buffered.load(Ordering::Relaxed)
    }

    /// Bytes of events that sessions keep for clients that come back.
    pub fn http_replayed(&self) -> usize {
        self.sessions.replayed()
    }

    /// Tells a client something that belongs to none of its calls, by what upstreams know it by; `inboxes` are the shards'.
    /// One that has left, or has no stream open on which it could be told, hears nothing, and is gone for whoever asks.
    pub fn tell<'i>(&self, mut inboxes: impl Iterator<Item = &'i Arc<Inbox>>, client: u128, word: Word) {
        match place_of(client) {
            Some((shard, key)) if usize::from(shard) < self.shards => {
                if let Some(inbox) = inboxes.nth(shard.into()) {
                    inbox.post(Mail::Letter(key, Letter::Word(word)));
                }
            }
            _ => self.sessions.tell(client, word),
        }
    }

    /// Whether the gateway is going down.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Calls of one client that may wait for answers.
    pub(super) fn client_in_flight_max(&self, tenant: Tenant) -> usize {
        self.guards.rules().accounts.of(tenant).client_in_flight_max(self.config.in_flight_max)
    }

    /// What a refused client is told to wait where nothing says how long.
    pub(super) fn retry_after(&self) -> Duration {
        self.guards.rules().retry_after
    }

    /// The same, in milliseconds.
    pub(super) fn retry_after_ms(&self) -> u64 {
        u64::try_from(self.retry_after().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn rebook(&self, before: Breakdown, after: Breakdown) {
        self.guards.rebook_outbox(before.outbox, after.outbox);
        let (before, after) = (before.total(), after.total());
        if after > before {
            self.buffered.fetch_add(after - before, Ordering::Relaxed);
        } else if after < before {
            self.buffered.fetch_sub(before - after, Ordering::Relaxed);
        }
    }
}
