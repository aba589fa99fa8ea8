//! A connection as a few bytes: written for a hand-over, read back the same.
//!
//! Calls in flight are no part of it: their tickets live in this process, so they are answered before, or cancelled.
//!
//! Format 2, numbers little endian: `format 1 · stage 1`, then for lines `searched 4`, for a WebSocket
//! `decoder 9`; `admitted 4 · heard 4 · incomplete 4 · stuck 4` (ticks ago, [`Tick::MAX`] for never) ·
//! `messages 4 · pings 1 · paused 1 · tenant` (`length 1 · name`, none for everybody) `· session` (mcp/snapshot.rs) `· inbound ·
//! assembly · outbox` (each `length 4 · bytes`). A tenant is told by its name: its number is another elsewhere.

use super::connection::{Active, Connection, Stage};
use super::service::Service;
use super::{Connections, Guest, calls::Calls};
use crate::actor::Tick;
use crate::guard::Tenant;
use crate::mcp::snapshot::{self, Unreadable};
use crate::mcp::{Profiles, Session};
use crate::pool::Key;
use crate::wire::{line, ws};

const FORMAT: u8 = 2;

/// All that must be known to go on with a client elsewhere, but for its socket and its calls in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    place: Place,
    /// The name of the tenant on whose account it is here; empty for everybody.
    tenant: Box<str>,
    session: Session,
    /// Ticks since it was admitted, and since bytes came.
    ages: [Tick; 2],
    /// Ticks since the incomplete message began, and since the client took nothing of the outbox.
    waits: [Option<Tick>; 2],
    messages_in: u32,
    pinged: u8,
    paused: bool,
    inbound: Vec<u8>,
    assembly: Vec<u8>,
    /// What the client has not taken yet.
    outbox: Vec<u8>,
}

/// The stages that can be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Opening,
    Line(line::Lines),
    WebSocket([u8; ws::Decoder::BYTES]),
}

impl Snapshot {
    /// The connection as of `now`, of the tenant of that name; nothing for one that is told to go, or waits in the lobby to be
    /// told.
    pub(super) fn of(conn: &Connection<Guest>, tenant: &str, now: Tick) -> Option<Self> {
        let place = match &conn.stage {
            _ if conn.refused.is_some() => return None,
            // Its answers, streams and session live on in other ways: the client comes back for them.
            Stage::Leaving { .. } | Stage::Http(_) => return None,
            Stage::Opening => Place::Opening,
            Stage::Line(lines) => Place::Line(*lines),
            Stage::WebSocket(decoder) => Place::WebSocket(decoder.to_bytes()),
        };
        let active = conn.active.as_deref();
        let ago = |then: Tick| now.wrapping_sub(then);
        let copy = |part: fn(&Active) -> &[u8]| active.map_or_else(Vec::new, |active| part(active).to_vec());
        Some(Self {
            place,
            tenant: tenant.into(),
            session: conn.session.session.clone(),
            ages: [ago(conn.admitted), ago(conn.heard)],
            waits: active.map_or([None; 2], |active| [active.incomplete_since.map(ago), active.stuck_since.map(ago)]),
            messages_in: conn.messages_in,
            pinged: conn.pinged,
            paused: conn.is_paused(),
            inbound: copy(|active| &active.inbound),
            assembly: copy(|active| &active.assembly),
            outbox: copy(|active| &active.outbox[active.sent..]),
        })
    }

    /// Puts a connection that was just admitted where the one of the snapshot was; on whose account it is here is for the caller
    /// to say.
    pub(super) fn restore(self, conn: &mut Connection<Guest>, now: Tick) {
        let then = |ago: Tick| now.wrapping_sub(ago);
        conn.stage = match self.place {
            Place::Opening => Stage::Opening,
            Place::Line(lines) => Stage::Line(lines),
            // It was read by `decode`, or written by `to_bytes`: it can be read.
            Place::WebSocket(bytes) => Stage::WebSocket(ws::Decoder::from_bytes(bytes).unwrap_or_default()),
        };
        conn.session = Guest { session: self.session, interests: None };
        [conn.admitted, conn.heard] = self.ages.map(then);
        (conn.messages_in, conn.pinged) = (self.messages_in, self.pinged);
        let [incomplete_since, stuck_since] = self.waits.map(|wait| wait.map(then));
        let (inbound, assembly, outbox) = (self.inbound, self.assembly, self.outbox);
        let calls = Calls::default();
        let active =
            Active { inbound, assembly, outbox, sent: 0, calls, paused: self.paused, incomplete_since, stuck_since };
        conn.active = Some(Box::new(active));
        conn.rest();
    }

    /// Appends the snapshot: about 40 bytes for an idle client, and what waits for it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        match &self.place {
            Place::Opening => out.push(0),
            Place::Line(lines) => {
                out.push(1);
                out.extend_from_slice(&lines.searched().to_le_bytes());
            }
            Place::WebSocket(decoder) => {
                out.push(2);
                out.extend_from_slice(decoder);
            }
        }
        let waits = self.waits.map(|wait| wait.unwrap_or(Tick::MAX));
        for number in self.ages.into_iter().chain(waits).chain([self.messages_in]) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        debug_assert!(self.tenant.len() <= usize::from(u8::MAX), "config keeps names below 33 bytes");
        out.extend_from_slice(&[self.pinged, u8::from(self.paused), self.tenant.len() as u8]);
        out.extend_from_slice(self.tenant.as_bytes());
        snapshot::encode(&self.session, out);
        for part in [&self.inbound, &self.assembly, &self.outbox] {
            debug_assert!(u32::try_from(part.len()).is_ok(), "config keeps messages and outboxes below 4 GiB");
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
            out.extend_from_slice(part);
        }
    }

    /// Reads what [`Self::encode`] wrote; the client's profile is shared through `profiles`.
    ///
    /// # Errors
    /// What is wrong with the bytes, by the name of the field.
    pub fn decode(bytes: &[u8], profiles: &mut Profiles) -> Result<Self, Unreadable> {
        let mut rest = bytes;
        let [format, stage] = take(&mut rest)?;
        if format != FORMAT {
            return Err(Unreadable::Format(format));
        }
        let place = match stage {
            0 => Place::Opening,
            1 => Place::Line(line::Lines::resumed(number(&mut rest)?)),
            2 => Place::WebSocket(take(&mut rest)?),
            _ => return Err(Unreadable::Field("stage")),
        };
        let ages = [number(&mut rest)?, number(&mut rest)?];
        let waits = [number(&mut rest)?, number(&mut rest)?].map(|ticks| (ticks != Tick::MAX).then_some(ticks));
        let messages_in = number(&mut rest)?;
        let [pinged, paused, length] = take(&mut rest)?;
        let (tenant, rest) = rest.split_at_checked(length.into()).ok_or(Unreadable::Short)?;
        let tenant = std::str::from_utf8(tenant).map_err(|_| Unreadable::Field("tenant"))?.into();
        let (session, mut rest) = snapshot::decode(rest, profiles)?;
        let [inbound, assembly, outbox] = [part(&mut rest)?, part(&mut rest)?, part(&mut rest)?];
        let paused = match paused {
            0 => false,
            1 => true,
            _ => return Err(Unreadable::Field("pause mark")),
        };
        let read = Self { place, tenant, session, ages, waits, messages_in, pinged, paused, inbound, assembly, outbox };
        read.check(rest)
    }

    /// What no connection can be, though each field for itself is right.
    fn check(self, behind: &[u8]) -> Result<Self, Unreadable> {
        let assembled = match self.place {
            Place::Line(lines) if lines.searched() as usize > self.inbound.len() => {
                return Err(Unreadable::Field("search position"));
            }
            Place::WebSocket(bytes) => {
                ws::Decoder::from_bytes(bytes).ok_or(Unreadable::Field("fragment state"))?.assembled()
            }
            Place::Opening | Place::Line(_) => 0,
        };
        if assembled != self.assembly.len() {
            return Err(Unreadable::Field("fragments"));
        }
        if behind.is_empty() { Ok(self) } else { Err(Unreadable::Field("end")) }
    }
}

impl<S: Service<Session = Guest>> Connections<S> {
    /// The snapshot of one connection; nothing if it is gone or can't be handed over.
    #[must_use]
    pub fn snapshot(&self, key: Key, now: Tick) -> Option<Snapshot> {
        let (conn, rules) = (self.pool.get(key)?, self.bench.house.guards.rules());
        let is_everybody = conn.tenant == Tenant::default();
        let tenant = if is_everybody { "" } else { &*rules.accounts.of(conn.tenant).name };
        Snapshot::of(conn, tenant, now)
    }

    /// Puts a connection that was just admitted where the one of the snapshot was, on the account of the same tenant; false if
    /// it is gone, or there is no seat for that tenant. It is to be told of its socket's readiness once more: what was kept
    /// may hold whole messages.
    pub fn restore(&mut self, key: Key, snapshot: Snapshot, now: Tick) -> bool {
        let Some(conn) = self.pool.get_mut(key) else { return false };
        // Who is not known here is everybody.
        let tenant = self.bench.house.guards.rules().accounts.named(&snapshot.tenant).unwrap_or_default();
        // In its first bytes a client has not said who it is.
        if !matches!(snapshot.place, Place::Opening) && self.bench.recognize(conn, tenant).is_err() {
            return false;
        }
        let before = conn.breakdown::<S>(0);
        snapshot.restore(conn, now);
        self.held = self.held.less(before).plus(conn.breakdown::<S>(0));
        true
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Unreadable> {
    let (bytes, behind) = rest.split_first_chunk().ok_or(Unreadable::Short)?;
    *rest = behind;
    Ok(*bytes)
}

fn number(rest: &mut &[u8]) -> Result<u32, Unreadable> {
    take(rest).map(u32::from_le_bytes)
}

fn part(rest: &mut &[u8]) -> Result<Vec<u8>, Unreadable> {
    let length = number(rest)? as usize;
    let (bytes, behind) = rest.split_at_checked(length).ok_or(Unreadable::Short)?;
    *rest = behind;
    Ok(bytes.to_vec())
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
