//! What a call meets before it is made: the guards, in their order, and what is said if one is in the way.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::last_words;
use super::service::Caller;
use super::turn::{Guest, Mcp};
use crate::guard::{Asker, Refusal, Seat, Toll};
use crate::mcp::Fault;
use crate::upstream::Upstream;
use crate::wire::envelope::Id;

impl Mcp {
    /// First, for every call: the zone of the house, the memory that answers wait in, the rates. `server` is the upstream,
    /// and the tool by its own name. What the call costs; nothing if it is refused, which is told in `out`.
    pub(super) fn admit(
        &self,
        caller: &Caller<'_, Guest>,
        id: Id<'_>,
        server: Option<(&Upstream, Option<&str>)>,
        out: &mut Vec<u8>,
    ) -> Option<Toll> {
        let guards = &self.house.guards;
        if let Err(refusal) = guards.take_work(&self.house.pressure, caller.unread()) {
            self.refuse(id, refusal, None, out);
            return None;
        }
        let asker = Asker {
            client: caller.client,
            tenant: caller.tenant,
            address: caller.seat.address(),
            slow: server.is_some_and(|(upstream, _)| upstream.rationing.slow),
            sensitive: server.is_some_and(|(upstream, tool)| upstream.rationing.is_sensitive(tool)),
        };
        match guards.charge(&asker) {
            Ok(toll) => Some(toll),
            Err((refusal, wait)) => {
                self.refuse(id, refusal, Some(wait), out);
                None
            }
        }
    }

    /// Then, for those that wait for an answer: a drain, the client's calls in flight, its tenant's, all. The toll is paid
    /// back to one that is refused.
    pub(super) fn place(
        &self,
        caller: &mut Caller<'_, Guest>,
        id: Id<'_>,
        toll: Toll,
        out: &mut Vec<u8>,
    ) -> Option<Seat> {
        let house = &self.house;
        let rules = house.guards.rules();
        let account = rules.accounts.of(caller.tenant);
        let refusal = if house.closing.load(Ordering::Relaxed) {
            house.ledger.faults.add(Fault::Draining);
            Fault::Draining.retry_after(house.retry_after()).write(out, Some(id));
            None
        } else if caller.calls().len() >= account.client_in_flight_max(house.config.in_flight_max) {
            Some(Refusal::ClientInFlight)
        } else {
            match account.in_flight.try_take() {
                Ok(place) => return Some(place),
                Err(refusal) => Some(refusal),
            }
        };
        house.guards.refund(toll);
        if let Some(refusal) = refusal {
            self.refuse(id, refusal, None, out);
        }
        None
    }

    /// Counts a refusal and says it. Without a time, the one that is configured is told.
    pub(super) fn refuse(&self, id: Id<'_>, refusal: Refusal, wait: Option<Duration>, out: &mut Vec<u8>) {
        self.house.seats.refusals.add(refusal);
        let error = last_words::error(refusal, wait.unwrap_or_else(|| self.house.retry_after()));
        self.house.ledger.faults.add(error.fault);
        error.write(out, Some(id));
    }
}
