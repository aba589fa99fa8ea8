//! All guards of one house, and what they know.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::door::Door;
use super::rate::Noted;
use super::tenant::Roster;
use super::{Accounts, Config, Debtor, Debts, Hold, Lapse, Pressure, Rate, Refusal, Seat, Seats, Tenant, Zone};
use crate::meter::Tally;

/// Shared by all shards.
pub struct Guards {
    /// Who the tenants are, and what they have left.
    pub accounts: Accounts,
    /// Who has used up which rate.
    pub debts: Debts,
    /// Sessions over HTTP.
    pub sessions: Arc<Seats>,
    /// Why somebody passed unchecked.
    pub lapses: Tally<Lapse>,
    door: Door,
    pub(super) arrivals: Option<Rate>,
    pub(super) in_all: Option<Rate>,
    pub(super) per_address: Option<Rate>,
    outbox_bytes: AtomicUsize,
    outbox_bytes_max: usize,
    began: Instant,
}

impl Guards {
    /// `seats` are the house's for connections, `in_flight` those for calls that wait.
    #[must_use]
    pub fn new(config: &Config, roster: Roster, seats: &Arc<Seats>, in_flight: &Arc<Seats>) -> Self {
        Self {
            accounts: Accounts::new(roster, in_flight),
            debts: Debts::new(config.debtors_max),
            sessions: Seats::within(config.sessions_max, Refusal::SessionsFull, []),
            lapses: Tally::new(),
            door: Door::new(config, seats),
            arrivals: Rate::new(config.accepts_per_s, Duration::from_secs(1)),
            in_all: Rate::per_minute(config.calls_per_minute),
            per_address: Rate::per_minute(config.calls_per_minute_per_address),
            outbox_bytes: AtomicUsize::new(0),
            outbox_bytes_max: config.outbox_bytes_max,
            began: Instant::now(),
        }
    }

    /// What an arrival meets, in this order: the zone of the house, seats in all, seats for its address, the rate of
    /// arrivals.
    ///
    /// # Errors
    /// The first that is in the way.
    pub fn admit(&self, from: IpAddr, pressure: &Pressure) -> Result<Seat, Refusal> {
        self.admit_at(from, pressure, || self.now())
    }

    fn admit_at(&self, from: IpAddr, pressure: &Pressure, now: impl FnOnce() -> Duration) -> Result<Seat, Refusal> {
        if pressure.house() >= Zone::Critical {
            return Err(Refusal::Critical);
        }
        let seat = self.door.admit(from)?;
        match self.arrivals {
            Some(rate) if self.note(Debtor::Arrivals, rate, 1, now()).is_err() => Err(Refusal::TooManyArrivals),
            _ => Ok(seat),
        }
    }

    /// It is known now on whose account the one in that seat is here; until the next time this is said.
    ///
    /// # Errors
    /// When that tenant has no seat left.
    pub fn tell_tenant(&self, seat: &mut Seat, tenant: Tenant) -> Result<(), Refusal> {
        if !self.accounts.counts_connections() {
            return Ok(());
        }
        self.door.tell_tenant(seat, tenant, self.accounts.of(tenant))
    }

    /// What a session that is to be opened meets: the zone of the house, seats in all, seats for its tenant. What it takes
    /// is freed by [`Self::end_session`].
    ///
    /// # Errors
    /// The first that is in the way.
    pub fn open_session(&self, tenant: Tenant, pressure: &Pressure) -> Result<(), Refusal> {
        if pressure.house() >= Zone::Critical {
            return Err(Refusal::Critical);
        }
        self.sessions.enter()?;
        let tenants = self.accounts.of(tenant).sessions.as_ref();
        tenants.map_or(Ok(()), |seats| seats.enter()).inspect_err(|_| self.sessions.leave())
    }

    /// Whether a session could be opened now.
    ///
    /// # Errors
    /// What is in the way.
    pub fn has_room_for_session(&self, tenant: Tenant, pressure: &Pressure) -> Result<(), Refusal> {
        self.open_session(tenant, pressure).map(|()| self.end_session(tenant))
    }

    /// A session has ended.
    pub fn end_session(&self, tenant: Tenant) {
        self.sessions.leave();
        if let Some(seats) = &self.accounts.of(tenant).sessions {
            seats.leave();
        }
    }

    /// What any new work meets before it is looked at: the zone of the house, and the memory that answers wait in. Of
    /// that, `unread` bytes are the client's own: one who reads is not to suffer from those who do not.
    ///
    /// # Errors
    /// The first that is in the way.
    pub fn take_work(&self, pressure: &Pressure, unread: usize) -> Result<(), Refusal> {
        if pressure.house() >= Zone::Emergency {
            return Err(Refusal::Emergency);
        }
        if unread > 0 && self.outbox_bytes() > self.outbox_bytes_max { Err(Refusal::OutboxesFull) } else { Ok(()) }
    }

    /// Bytes that wait for clients to read them.
    #[must_use]
    pub fn outbox_bytes(&self) -> usize {
        self.outbox_bytes.load(Ordering::Relaxed)
    }

    /// How many may.
    #[must_use]
    pub const fn outbox_bytes_max(&self) -> usize {
        self.outbox_bytes_max
    }

    /// What waits for one client has changed.
    pub fn rebook_outbox(&self, before: usize, after: usize) {
        if after > before {
            self.outbox_bytes.fetch_add(after - before, Ordering::Relaxed);
        } else if after < before {
            self.outbox_bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// To be called now and then: forgets who is in debt no more.
    pub fn tidy(&self) {
        self.debts.sweep(self.now());
    }

    /// The clock that debts are paid by.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn note(&self, debtor: Debtor, rate: Rate, cost: u64, now: Duration) -> Result<(), Hold> {
        if self.debts.charge(debtor, rate, cost, now)? == Noted::NoRoom {
            self.lapses.add(Lapse::DebtorsFull);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "guards_tests.rs"]
mod tests;
