//! The compact state of one connection, and the part that exists only while something is unfinished.

use mio::net::TcpStream;

use super::Parting;
use super::admit::Admitted;
use super::calls::Calls;
use super::config::Limits;
use super::http::Http;
use super::service::{Service, number_of};
use crate::actor::{Breakdown, Desk, Tick};
use crate::guard::{Refusal, Seat, Tenant};
use crate::pool::{Buffers, Key};
use crate::wire::{line, ws};

/// One client. 100,000 of these are there at once: what an idle one does not need is in [`Active`].
pub(super) struct Connection<T> {
    pub(super) socket: TcpStream,
    pub(super) stage: Stage,
    pub(super) seat: Seat,
    /// What the service remembers of the client.
    pub(super) session: T,
    pub(super) active: Option<Box<Active>>,
    pub(super) admitted: Tick,
    /// When bytes last came.
    pub(super) heard: Tick,
    pub(super) messages_in: u32,
    /// The deadline that is set, or [`Tick::MAX`].
    pub(super) armed: Tick,
    /// Keep-alive pings since it was heard.
    pub(super) pinged: u8,
    /// On whose account it is here, as far as it has said; over HTTP each request says it anew.
    pub(super) tenant: Tenant,
    /// In the lobby: why it may not come in. It will be told.
    pub(super) refused: Option<Refusal>,
}

/// Where in its life a connection is, with what that stage must remember.
pub(super) enum Stage {
    /// The first bytes have not told yet what the client speaks.
    Opening,
    /// Newline-delimited messages.
    Line(line::Lines),
    /// WebSocket frames.
    WebSocket(ws::Decoder),
    /// HTTP requests.
    Http(Http),
    /// It has been told why it must go; what it still sends is not heard.
    Leaving { parting: Parting, since: Tick },
}

/// What a connection needs only while something is unfinished.
#[derive(Default)]
pub(super) struct Active {
    /// Received and not handled: an incomplete message, or all that came while `paused`.
    pub(super) inbound: Vec<u8>,
    /// The fragments of a WebSocket message.
    pub(super) assembly: Vec<u8>,
    /// Written and not taken by the client.
    pub(super) outbox: Vec<u8>,
    /// How much of `outbox` was taken.
    pub(super) sent: usize,
    pub(super) calls: Calls,
    /// Messages are not handled until the outbox is below its low mark.
    pub(super) paused: bool,
    /// When the incomplete message began.
    pub(super) incomplete_since: Option<Tick>,
    /// Since when the client has taken nothing of the outbox.
    pub(super) stuck_since: Option<Tick>,
}

/// What is to be done when a deadline comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Part(Parting),
    Ping,
}

impl Active {
    pub(super) fn unsent(&self) -> usize {
        self.outbox.len() - self.sent
    }

    /// Nothing but the last words matters any more. Calls in flight are cancelled.
    pub(super) fn forget_all_but_outbox(&mut self, buffers: &mut Buffers) {
        buffers.give(std::mem::take(&mut self.inbound));
        buffers.give(std::mem::take(&mut self.assembly));
        self.calls = Calls::default();
        self.paused = false;
    }

    /// Nothing is read and written any more, but calls go on.
    pub(super) fn drop_bytes(&mut self, buffers: &mut Buffers) {
        for bytes in [&mut self.inbound, &mut self.assembly, &mut self.outbox] {
            buffers.give(std::mem::take(bytes));
        }
        self.sent = 0;
        self.stuck_since = None;
        self.incomplete_since = None;
        self.paused = false;
    }

    fn is_finished(&self) -> bool {
        self.inbound.is_empty() && self.assembly.is_empty() && self.outbox.is_empty() && self.calls.is_empty()
    }
}

impl<T: Default> Connection<T> {
    pub(super) fn new(admitted: Admitted, now: Tick) -> Self {
        Self {
            socket: admitted.socket,
            stage: Stage::Opening,
            seat: admitted.seat,
            session: T::default(),
            active: None,
            admitted: now,
            heard: now,
            messages_in: 0,
            armed: Tick::MAX,
            pinged: 0,
            tenant: Tenant::default(),
            refused: admitted.refused,
        }
    }
}

impl<T> Connection<T> {
    pub(super) fn active(&mut self) -> &mut Active {
        self.active.get_or_insert_default()
    }

    /// Tells the client from all others that live: by its connection, or by its session where it may have several.
    pub(super) fn client(&self, desk: &Desk<'_>, key: Key) -> u128 {
        self.stage.session_number().unwrap_or_else(|| number_of(desk.number, key))
    }

    pub(super) fn is_paused(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.paused)
    }

    /// What has come of a message, or of a request, that is not there as a whole.
    pub(super) fn inbound(&self) -> &[u8] {
        self.active.as_ref().map_or(&[], |active| &active.inbound)
    }

    pub(super) fn unsent(&self) -> usize {
        self.active.as_ref().map_or(0, |active| active.unsent())
    }

    /// Whether nothing is owed: no call in flight, no answer unsent, no message half there.
    pub(super) fn is_idle(&self) -> bool {
        self.active.as_ref().is_none_or(|active| active.is_finished())
    }

    /// Whether it serves nothing now: between two messages, no stream, no handshake.
    pub(super) fn has_nothing_to_do(&self) -> bool {
        let rests = matches!(self.stage, Stage::Line(_) | Stage::WebSocket(_) | Stage::Http(Http::Reading(_)));
        rests && self.refused.is_none() && self.is_idle()
    }

    /// Whether it may be parted without anybody missing anything: only subscriptions may be open.
    pub(super) fn owes_nothing(&self) -> bool {
        let settled = self.active.as_ref().is_none_or(|active| {
            active.inbound.is_empty()
                && active.assembly.is_empty()
                && active.outbox.is_empty()
                && active.calls.are_settled()
        });
        settled && !matches!(self.stage, Stage::Leaving { .. })
    }

    /// Whether bytes wait in its socket: what a client has sent before it could know of a drain is still served.
    pub(super) fn has_sent_more(&self) -> bool {
        self.socket.peek(&mut [0]).is_ok_and(|bytes| bytes > 0)
    }

    /// It is over: what was taken from the pool goes back to it.
    pub(super) fn give_back_buffers(&mut self, buffers: &mut Buffers) {
        if let Some(mut active) = self.active.take() {
            active.forget_all_but_outbox(buffers);
            buffers.give(std::mem::take(&mut active.outbox));
        }
    }

    /// Lets go of the active part once nothing is unfinished.
    pub(super) fn rest(&mut self) {
        self.settle_down();
        if self.active.as_ref().is_some_and(|active| active.is_finished()) {
            self.active = None;
        }
    }

    /// Until when nothing needs to be done, and what then.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<(Tick, Due)> {
        let part = |parting| move |tick| (tick, Due::Part(parting));
        match &self.stage {
            Stage::Opening => return Some((self.admitted + limits.handshake, Due::Part(Parting::HandshakeTimeout))),
            Stage::Leaving { parting, since } => return Some((since + limits.linger, Due::Part(*parting))),
            Stage::Line(_) | Stage::WebSocket(_) | Stage::Http(_) => {}
        }
        let active = self.active.as_ref();
        let reader = active.and_then(|active| active.stuck_since).map(|since| since + limits.slow_reader);
        let reader = reader.map(part(Parting::SlowReader));
        if self.is_paused() {
            // It is not read, so only what it takes shows that it lives.
            return reader;
        }
        // Who reads a stream, or waits for an answer, has nothing to say.
        let idle = limits.idle.filter(|_| !self.is_answering());
        let idle = idle.map(|idle| self.heard + idle).map(part(Parting::IdleTimeout));
        let keepalive = match &self.stage {
            Stage::WebSocket(_) => limits.keepalive.map(|every| {
                let due = self.heard + every * (Tick::from(self.pinged) + 1);
                let dead = self.pinged >= limits.keepalive_missed_max;
                (due, if dead { Due::Part(Parting::KeepAliveTimeout) } else { Due::Ping })
            }),
            // Of a request that has begun the end is waited for.
            Stage::Http(Http::Reading(_)) if active.is_some_and(|active| active.incomplete_since.is_some()) => None,
            Stage::Http(http) => http.deadline(self.heard, limits),
            _ => None,
        };
        let message = active.and_then(|active| active.incomplete_since).map(|since| since + limits.message);
        [idle, keepalive, message.map(part(Parting::MessageTimeout)), reader]
            .into_iter()
            .flatten()
            .min_by_key(|(tick, _)| *tick)
    }

    /// Sets its deadline, if it is earlier than the one that is set: a later one is looked at when that comes.
    pub(super) fn arm(&mut self, limits: &Limits, desk: &mut Desk<'_>, key: Key) {
        if let Some((due, _)) = self.deadline(limits)
            && due < self.armed
        {
            self.armed = due;
            desk.wheel.set(key, due);
        }
    }

    /// How its dialect is called in reports.
    pub(super) fn dialect(&self) -> &'static str {
        match &self.stage {
            Stage::Opening => "opening",
            Stage::Http(http) => http.name(),
            Stage::Line(_) => "line",
            Stage::WebSocket(_) => "websocket",
            Stage::Leaving { .. } => "leaving",
        }
    }

    /// The user memory it takes, in bytes, by part. What is shared with others is not in it.
    pub(super) fn breakdown<S: Service<Session = T>>(&self, slot: usize) -> Breakdown {
        let http = if let Stage::Http(http) = &self.stage { http.bytes() } else { 0 };
        let interests = S::session_bytes(&self.session);
        let Some(active) = &self.active else {
            return Breakdown { slot, active: http, interests, ..Breakdown::default() };
        };
        Breakdown {
            interests,
            slot,
            active: size_of::<Active>() + http,
            inbound: active.inbound.capacity(),
            assembly: active.assembly.capacity(),
            outbox: active.outbox.capacity(),
            in_flight: active.calls.bytes(),
        }
    }
}

/// A slot's size is what 100,000 idle clients cost: look twice before raising this.
const _: () = assert!(size_of::<Connection<super::Guest>>() <= SLOT_BYTES_MAX);

/// mio's sockets are larger where assertions are on.
const SLOT_BYTES_MAX: usize = if cfg!(debug_assertions) { 96 } else { 80 };
