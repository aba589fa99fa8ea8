//! What a shard tells of its connections: gauges twice a second, and a census when asked.

use std::time::Duration;

use super::Connections;
use super::connection::Connection;
use super::service::Service;
use crate::actor::{Breakdown, Desk, Resident, TICK, Wheel};
use crate::meter::shard::{Part, PoolReading};
use crate::pool::Key;

impl<S: Service> Connections<S> {
    pub(super) fn publish_gauges(&self, desk: &Desk<'_>) {
        let meter = desk.meter;
        let counts = &self.bench.counts;
        meter.open.set(self.pool.len() as u64);
        meter.accepted.set(counts.accepted);
        meter.messages_in.set(counts.messages_in);
        meter.messages_out.set(counts.messages_out);
        meter.bytes_in.set(counts.bytes_in);
        meter.bytes_out.set(counts.bytes_out);
        let slots = self.pool.bytes();
        let stats = self.pool.stats();
        let slots_used = slots * self.pool.len() / (stats.in_use + stats.available).max(1) as usize;
        meter.parts.set(Part::Slots, (slots_used + desk.wheel.bytes()) as u64);
        meter.parts.set(Part::Buffers, (self.held.inbound + self.held.assembly) as u64);
        meter.parts.set(Part::Outboxes, self.held.outbox as u64);
        meter.parts.set(Part::Active, (self.held.active + self.held.in_flight) as u64);
        // A session of HTTP is on no shard: the first one tells of what all clients watch.
        meter.parts.set(Part::Watches, if desk.number == 0 { self.bench.house.watches.held() as u64 } else { 0 });
        meter.parts.set(Part::Inbox, (desk.inbox.waiting() * size_of::<crate::actor::Mail>()) as u64);
        let scratch = self.bench.scratch.capacity() + self.bench.out.capacity();
        meter.parts.set(Part::Pools, (slots - slots_used + self.bench.buffers.bytes() + scratch) as u64);
        meter.pool.publish(PoolReading {
            in_use: stats.in_use,
            available: stats.available,
            reused: stats.reused,
            created: stats.created,
            refused: stats.refused,
        });
        let buffers = self.bench.buffers.stats();
        meter.buffers.publish(PoolReading {
            in_use: buffers.in_use,
            available: buffers.available,
            reused: buffers.reused,
            created: buffers.created,
            refused: 0,
        });
    }

    /// The `most` largest and the `most` busiest connections, each once.
    pub(super) fn census(&self, desk: &Desk<'_>, most: usize) -> Vec<Resident> {
        let mut by_size: Vec<(usize, Key)> = Vec::new();
        let mut by_messages: Vec<(usize, Key)> = Vec::new();
        for (key, conn) in self.pool.iter() {
            keep_largest(&mut by_size, most, (conn.breakdown::<S>(0).total(), key));
            keep_largest(&mut by_messages, most, (conn.messages_in as usize, key));
        }
        let mut keys: Vec<Key> = by_size.into_iter().chain(by_messages).map(|(_, key)| key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().filter_map(|key| Some(self.pool.get(key)?.resident::<S>(desk, key))).collect()
    }
}

impl<T> Connection<T> {
    fn resident<S: Service<Session = T>>(&self, desk: &Desk<'_>, key: Key) -> Resident {
        let ticks = |from| TICK * desk.now.wrapping_sub(from);
        let age: Duration = ticks(self.admitted);
        Resident {
            shard: desk.number,
            key: key.to_bits(),
            peer: self.socket.peer_addr().ok().map(|peer| peer.to_string()),
            dialect: self.dialect(),
            age_s: age.as_secs(),
            messages_in: u64::from(self.messages_in),
            in_flight: self.active.as_ref().map_or(0, |active| active.calls.len()),
            bytes: self.breakdown::<S>(size_of::<Self>() + Wheel::BYTES_EACH),
        }
    }
}

/// Keeps the `most` largest in `kept`, unordered beyond need.
fn keep_largest(kept: &mut Vec<(usize, Key)>, most: usize, candidate: (usize, Key)) {
    if kept.len() < most {
        kept.push(candidate);
    } else if let Some(least) = kept.iter_mut().min()
        && *least < candidate
    {
        *least = candidate;
    }
}

impl Breakdown {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            slot: self.slot + other.slot,
            active: self.active + other.active,
            inbound: self.inbound + other.inbound,
            assembly: self.assembly + other.assembly,
            outbox: self.outbox + other.outbox,
            in_flight: self.in_flight + other.in_flight,
            interests: self.interests + other.interests,
        }
    }

    pub(super) fn less(self, other: Self) -> Self {
        Self {
            slot: self.slot - other.slot,
            active: self.active - other.active,
            inbound: self.inbound - other.inbound,
            assembly: self.assembly - other.assembly,
            outbox: self.outbox - other.outbox,
            in_flight: self.in_flight - other.in_flight,
            interests: self.interests - other.interests,
        }
    }
}
