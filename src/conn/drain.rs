//! The end of the house, as the connections of one shard see it: they are told to go bit by bit, the quiet ones first.

use super::connection::{Connection, Stage};
use super::service::Service;
use super::{Bench, Connections};
use crate::actor::{Desk, Readiness, Tick};
use crate::pool::Key;

/// Who has neither said nor been told anything for so long is quiet: half a second at least, as ticks are counted. A client
/// that calls again as soon as it has its answer is not, and is not parted while its next call may be on the way.
const QUIET: Tick = 3;

/// How far a shard's drain has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draining {
    /// Slots that were in use when it began are below this.
    slots: u32,
    /// Clients in slots below this are to go.
    below: u32,
    /// Not while they are talking.
    gently: bool,
}

impl<S: Service> Connections<S> {
    /// The first `per_mille` of the slots are to go.
    pub(super) fn drain(&mut self, desk: &mut Desk<'_>, per_mille: u16, gently: bool) {
        let slots = match self.bench.draining {
            Some(draining) => draining.slots,
            None => self.pool.keys().last().map_or(0, |last| last.index() + 1),
        };
        let below = match per_mille {
            ..1_000 => (u64::from(slots) * u64::from(per_mille)).div_ceil(1_000) as u32,
            _ => u32::MAX,
        };
        let draining = Draining { slots, below, gently };
        self.bench.draining = Some(draining);
        let mut at = None;
        while let Some(key) = self.pool.next_key(at).filter(|key| key.index() < below) {
            at = Some(key);
            if self.pool.get(key).is_some_and(|conn| draining.lets_go(conn, key, desk.now)) {
                // What a client has sent before it could know is still served.
                let rest = Readiness { readable: true, ..Readiness::default() };
                self.run(desk, key, |bench, conn, desk| bench.ready(conn, desk, key, rest));
            }
        }
    }
}

impl Draining {
    /// Whether this client may go now: it is its turn, and nothing is owed to it.
    pub(super) fn lets_go<T>(&self, conn: &Connection<T>, key: Key, now: Tick) -> bool {
        let is_quiet = conn.only_tells() || now.saturating_sub(conn.heard) >= QUIET;
        key.index() < self.below && (is_quiet || !self.gently) && conn.owes_nothing()
    }
}

impl<S: Service> Bench<S> {
    /// Whether a client is to go, so that its answer is the last on its connection where the dialect knows such.
    pub(super) fn is_to_go(&self, key: Key) -> bool {
        self.draining.is_some_and(|draining| key.index() < draining.below)
    }

    /// A client that was just told something may have something to say to that.
    pub(super) fn note_told(&self, conn: &mut Connection<S::Session>, bytes_before: u64, desk: &Desk<'_>) {
        if self.draining.is_some()
            && self.counts.bytes_out > bytes_before
            && !matches!(conn.stage, Stage::Leaving { .. })
        {
            conn.heard = desk.now;
        }
    }
}
