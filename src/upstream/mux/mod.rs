//! One server's side of the multiplexing: many clients' requests under our own numbers, and each answer to whose it is.
//!
//! Pure: errands and messages in, tickets settled and texts out; no socket, and the time is an argument.

mod answers;
mod ask;
mod ends;
mod input;
mod listen;
mod pending;
mod slots;
mod speech;
pub mod tally;
mod voice;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::front::{Gate, Go, is_queued};
use super::handle::{Client, Errand, Upstream};
use super::link::{Arrived, Link, Outgoing, Purpose, What};
use super::shared::{Knobs, Shared};
use super::trouble::{Trouble, TroubleKind};
use crate::actor::{Bells, Unread};
use crate::mcp::param_headers::ParamHeaders;
use crate::mcp::{Era, Features, Level, Method, Revision, Topics};
use crate::wire::envelope::{self, Envelope, Incoming, Kind};
use listen::Watches;
pub(super) use pending::Own;
use pending::{Asked, Later, Pending, Work};
pub(super) use slots::NUMBER_BITS;
use slots::Slots;
use tally::Uses;
use voice::Voice;

/// Where the texts go: a link, or a test.
pub(super) trait Sink {
    /// Takes a message for sending.
    fn put(&mut self, outgoing: Outgoing<'_>);
    /// Bytes put and not taken by the server yet, what the transport says besides included.
    fn unsent(&self) -> usize;
    /// Bytes that the server has taken so far, of the same kind.
    fn taken(&self) -> u64;
}

impl Sink for Link {
    fn put(&mut self, outgoing: Outgoing<'_>) {
        Self::put(self, outgoing);
    }

    fn unsent(&self) -> usize {
        Self::unsent(self)
    }

    fn taken(&self) -> u64 {
        Self::taken(self)
    }
}

/// What was agreed on with the server.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// The revision that it is spoken to in.
    pub(super) revision: Revision,
    /// What it can do.
    pub(super) features: Features,
    /// Whether its link is HTTP.
    pub(super) http: bool,
    /// The one client behind it, where that has a session of its own.
    pub(super) private: Option<Client>,
}

/// What became of a request of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// The raw JSON of `result`.
    Result(Vec<u8>),
    /// The raw JSON of `error`.
    Error(Vec<u8>),
    /// No answer.
    Failed(Trouble),
}

/// The multiplexer of one link.
pub(super) struct Mux {
    upstream: Arc<Upstream>,
    shared: Arc<Shared>,
    knobs: Knobs,
    terms: Terms,
    /// What stands in front of our numbers outside, to tell the links of one upstream apart.
    tag: u64,
    /// What stands in front of it.
    pub(super) gate: Gate,
    /// Which headers a tool's arguments become.
    params: ParamHeaders,
    pending: Slots<Pending>,
    /// Shards with answers that are not rung for yet.
    pub(super) bells: Bells,
    /// How many of them are calls of clients.
    calls: usize,
    asked: Slots<Asked>,
    watches: Watches,
    /// How talkative a legacy server is to be; nothing if it has never been told.
    level: Option<Level>,
    voice: Voice,
    /// The numbers that were cancelled last: their late answers are nobody's fault. With until when the server may still
    /// be at work on them, and ask and tell things that are meant for their clients.
    cancelled: VecDeque<(u64, Instant)>,
    /// The same of those that are not remembered any more.
    haunted_until: Instant,
    later: Vec<Later>,
    /// What the one client behind the server was told outside of its calls and has not read.
    unread: Unread,
    /// What clients were told is taken back, and have not read.
    taken_back: Unread,
    /// Bytes of answers to the server's own requests since it has last taken what waits.
    unheard: usize,
    /// The text that is being written.
    text: Vec<u8>,
    uses: Uses,
    /// Whether there are any to be handed over.
    counted: bool,
    /// When [`Self::check`] has something to do.
    next_check: Instant,
    /// How many of the calls are parked.
    parked: usize,
    /// Calls that wait for the tools to be listed anew.
    behind: Vec<u64>,
    /// Answers to our own requests, for whoever made them.
    pub(super) heard: Vec<(Own, Heard)>,
    /// Lists that have changed.
    pub(super) changed: Topics,
    /// Resources that have changed.
    pub(super) updated: Vec<Box<str>>,
    /// Why the link is of no use any more.
    pub(super) lost: Option<Trouble>,
}

/// Cancelled numbers that are remembered.
const CANCELLED_MAX: usize = 256;
/// How long a server may be at work on a call after it was cancelled: until then, what it says without saying about
/// which call might be about that one.
const HAUNTS: Duration = Duration::from_secs(30);

impl Mux {
    /// `tag` tells the links of one upstream apart, below 2,048; no number is used twice if each next one's `floor` is
    /// the [`Self::ceiling`] of all before.
    pub(super) fn new(
        upstream: Arc<Upstream>,
        shared: Arc<Shared>,
        knobs: Knobs,
        terms: Terms,
        tag: u64,
        floor: u32,
        now: Instant,
    ) -> Self {
        let gate = if terms.private.is_some() {
            Gate::open(Arc::clone(&upstream), now)
        } else {
            Gate::new(Arc::clone(&upstream), knobs.in_flight_max, knobs.front, now)
        };
        Self {
            gate,
            upstream,
            shared,
            knobs,
            terms,
            tag: tag << NUMBER_BITS,
            params: ParamHeaders::default(),
            pending: Slots::above(floor),
            bells: Bells::default(),
            calls: 0,
            asked: Slots::above(floor),
            watches: Watches::default(),
            level: None,
            voice: Voice::default(),
            cancelled: VecDeque::new(),
            haunted_until: now,
            later: Vec::new(),
            unread: Unread::default(),
            taken_back: Unread::default(),
            unheard: 0,
            text: Vec::new(),
            uses: Uses::default(),
            counted: false,
            next_check: now,
            parked: 0,
            behind: Vec::new(),
            heard: Vec::new(),
            changed: Topics::default(),
            updated: Vec::new(),
            lost: None,
        }
    }

    /// What was agreed on, as far as it was.
    pub(super) const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Speaks in this revision from now on.
    pub(super) const fn speak_as(&mut self, revision: Revision) {
        self.terms.revision = revision;
    }

    /// What the server can do, and how it is spoken to.
    pub(super) const fn agreed(&mut self, revision: Revision, features: Features, http: bool) {
        self.terms.revision = revision;
        self.terms.features = features;
        self.terms.http = http;
    }

    /// The link serves from now on: what was watched and kept on the last one goes on.
    pub(super) fn reopen(&mut self, level: Option<Level>, now: Instant, sink: &mut impl Sink) {
        // Where clients have sessions of their own, each has its own connections.
        if !self.upstream.per_session {
            let connections = self.knobs.limits.http_connections_max;
            // A modern server's stream of changes takes one.
            let streams = usize::from(self.terms.revision.era() == Era::Modern);
            self.gate.carry(if self.terms.http { connections.saturating_sub(streams) } else { usize::MAX });
        }
        self.level = None;
        if let Some(level) = level {
            self.set_level(level, now, sink);
        }
        self.watch_again(now, sink);
        for go in self.gate.take_kept() {
            self.gate.enter(now);
            self.begin(go, true, now, sink);
        }
    }

    /// See [`Self::new`].
    pub(super) fn ceiling(&self) -> u32 {
        self.pending.ceiling().max(self.asked.ceiling())
    }

    /// Whether any call of a client waits for an answer.
    pub(super) const fn has_calls(&self) -> bool {
        self.calls > 0
    }

    /// How many do.
    pub(super) const fn calls(&self) -> usize {
        self.calls
    }

    /// How much [`Self::heard`] holds.
    pub(super) fn heard_bytes(&self) -> usize {
        let bytes = |(_, heard): &(Own, Heard)| match heard {
            Heard::Result(bytes) | Heard::Error(bytes) => bytes.len(),
            Heard::Failed(_) => 0,
        };
        self.heard.iter().map(bytes).sum()
    }

    /// When [`Self::check`] is to be called, if anything waits.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waits = self.pending.len() > 0
            || self.asked.len() > 0
            || self.counted
            || self.watches.waits()
            || self.voice.is_raised();
        waits.then_some(self.next_check).into_iter().chain(self.gate.due()).min()
    }

    /// Something to do for a client.
    pub(super) fn handle_errand(&mut self, errand: Errand, now: Instant, sink: &mut impl Sink) {
        match errand {
            Errand::Call(task) => {
                let task = self.resumed(task, now, sink);
                if let Some(go) = task.and_then(|task| self.gate.take(task, now)) {
                    self.begin(go, false, now, sink);
                }
            }
            Errand::Cancel { slot } if is_queued(slot) => self.gate.cancel(slot),
            Errand::Cancel { slot } => self.left(slot & ((1 << NUMBER_BITS) - 1), now, sink),
            Errand::Reply { slot, reply } => self.replied(slot & ((1 << NUMBER_BITS) - 1), reply, now, sink),
            Errand::Step { slot, fragment, .. } => self.stepped(slot & ((1 << NUMBER_BITS) - 1), &fragment, sink),
            Errand::Watch { uri, task, client } => self.watch(uri, task, client.id, now, sink),
            Errand::Unwatch { uri, client, .. } => self.unwatch(&uri, client, now, sink),
            Errand::Level(level) => self.set_level(level, now, sink),
            Errand::RootsChanged { .. } => self.roots_changed(sink),
            Errand::Leave { .. } | Errand::Served { .. } => {}
        }
    }

    /// Sends a call that has passed the gate. `repeated`: it was sent before, and surely not processed.
    fn begin(&mut self, go: Go, repeated: bool, now: Instant, sink: &mut impl Sink) {
        let mut pending = Pending::new(Work::Call(go.task), now);
        (pending.repeated, pending.arrived, pending.attempts) = (repeated, go.arrived, go.attempts + 1);
        if !self.knobs.deadline.is_zero() {
            self.next_check = self.next_check.min(go.arrived + self.knobs.deadline);
        }
        let number = match self.pending.insert(pending) {
            Ok(number) => number,
            Err(pending) => {
                self.gate.left();
                if let Work::Call(task) = pending.work {
                    self.upstream.turn_down(task, &no_number(), None);
                }
                return;
            }
        };
        self.raise_voice(number, now, sink);
        self.calls += 1;
        self.upstream.counts.calls.fetch_add(1, Relaxed);
        self.upstream.counts.in_flight.fetch_add(1, Relaxed);
        self.send(number, now, sink);
    }

    /// Writes the call with this number to the link.
    fn send(&mut self, number: u64, now: Instant, sink: &mut impl Sink) {
        let Some(pending) = self.pending.get_mut(number) else { return };
        let Work::Call(task) = &mut pending.work else { return };
        let slot = self.tag | number;
        if !task.ticket.serve_as(slot) && !task.inherit(&self.upstream, slot) {
            return self.cancel(number, now, sink);
        }
        let parcel = &task.parcel;
        let revision = self.terms.revision;
        self.text.clear();
        let input = pending.input.take();
        speech::call(&mut self.text, number, parcel, task.client.profile.as_deref(), revision, input.as_deref());
        let headers = match parcel.method {
            Method::CallTool if self.terms.http && revision.era() == Era::Modern => {
                self.params.values(&parcel.name, &parcel.params)
            }
            _ => Vec::new(),
        };
        let name = (parcel.method != Method::Complete).then_some(&*parcel.name);
        let purpose = Purpose::Request { number, method: parcel.method.as_str(), name, params: &headers, revision };
        pending.offset = sink.taken() + sink.unsent() as u64;
        pending.bytes = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
        pending.heard = now;
        sink.put(Outgoing { text: &self.text, purpose });
    }

    /// Asks the server something for ourselves; `params` are raw members. The answer comes in [`Self::heard`].
    pub(super) fn ask(
        &mut self,
        own: Own,
        method: &str,
        params: &str,
        wait: Duration,
        now: Instant,
        sink: &mut impl Sink,
    ) -> Option<u64> {
        let number = self.pending.insert(Pending::new(Work::Own(own, wait), now)).ok()?;
        self.text.clear();
        let revision = self.terms.revision;
        // The handshake carries its revision itself.
        let legacy = method == "initialize";
        let meta = if legacy { Revision::NEWEST_LEGACY } else { revision };
        speech::own(&mut self.text, number, method, params, meta);
        let purpose = Purpose::Request { number, method, name: None, params: &[], revision };
        sink.put(Outgoing { text: &self.text, purpose });
        self.next_check = self.next_check.min(now + wait);
        Some(number)
    }

    /// Tells the server something; `params` are raw members.
    pub(super) fn notify(&mut self, method: &str, sink: &mut impl Sink) {
        let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#);
        let purpose = Purpose::Notification { method, revision: self.terms.revision };
        sink.put(Outgoing { text: text.as_bytes(), purpose });
    }

    /// Something that has come. What is to be said about it is said by [`Self::speak`].
    pub(super) fn handle_arrived(&mut self, arrived: &Arrived<'_>, now: Instant) {
        let on = arrived.on;
        match &arrived.what {
            What::Message(bytes) => match envelope::parse(bytes) {
                Ok(Incoming::One(message)) => self.handle_message(on, &message, bytes, now),
                Ok(Incoming::Batch(batch)) => {
                    for message in batch {
                        match message {
                            Ok(message) => self.handle_message(on, &message, &[], now),
                            Err(malformed) => {
                                self.malformed(on.or(malformed_number(&malformed)), malformed.what.message(), now)
                            }
                        }
                    }
                }
                Err(malformed) => self.malformed(on.or(malformed_number(&malformed)), malformed.what.message(), now),
            },
            What::Failed(trouble) => self.failed(on, trouble, now),
        }
    }

    fn handle_message(&mut self, on: Option<u64>, message: &Envelope<'_>, bytes: &[u8], now: Instant) {
        match &message.kind {
            Kind::Response { id, result, error } => {
                let number = id.and_then(|id| speech::number(id.raw()));
                self.answered(on, number, result.ok_or(error.unwrap_or("{}")), now);
            }
            Kind::Notification { method } => self.handle_notification(on, method, message.params, bytes, now),
            Kind::Request { id, method } => self.asked_by_server(on, *id, method, message.params, now),
        }
    }

    /// A message that is none: whoever it was meant for, as far as that can be told, is told so.
    fn malformed(&mut self, number: Option<u64>, what: &str, now: Instant) {
        self.stray();
        if let Some(number) = number.filter(|&number| self.pending.get(number).is_some()) {
            self.fail(number, &Trouble::new(TroubleKind::Garbage, what), now);
        }
    }

    fn stray(&self) {
        self.upstream.counts.strays.fetch_add(1, Relaxed);
    }

    /// Takes a request out, and all that hangs on it.
    fn remove(&mut self, number: u64) -> Option<Pending> {
        let pending = self.pending.remove(number)?;
        if !pending.is_own() {
            self.calls -= 1;
            self.gate.left();
            self.upstream.counts.in_flight.fetch_sub(1, Relaxed);
        }
        if matches!(pending.work, Work::Parked(_)) {
            self.parked -= 1;
        }
        if pending.asked > 0 {
            self.unask(number);
        }
        Some(pending)
    }

    /// What is to be said since messages have come.
    pub(super) fn speak(&mut self, now: Instant, sink: &mut impl Sink) {
        if !self.later.is_empty() {
            for later in std::mem::take(&mut self.later) {
                match later {
                    Later::Respond(text) => self.respond(&text, sink),
                    Later::Resend(number) => self.send(number, now, sink),
                    Later::Cancelled(number) => self.tell_cancelled(number, sink),
                }
            }
        }
        // Where clients have sessions of their own, their calls go there.
        while !self.upstream.per_session
            && self.lost.is_none()
            && let Some(go) = self.gate.next(now)
        {
            self.begin(go, false, now, sink);
        }
        self.keep_up(now, sink);
        self.listen_anew(now, sink);
    }
}

/// Why a call is refused that finds a million others.
fn no_number() -> Trouble {
    Trouble::new(TroubleKind::Overloaded, "it has no number left for this request")
        .with_retry_after(Some(Duration::from_secs(1)))
}

/// The request that a malformed answer was for.
fn malformed_number(malformed: &envelope::Malformed<'_>) -> Option<u64> {
    speech::number(malformed.id?.raw())
}

#[cfg(test)]
mod ask_tests;
#[cfg(test)]
mod era_tests;
#[cfg(test)]
mod front_tests;
#[cfg(test)]
pub(super) mod stage;
#[cfg(test)]
mod tests;
