//! One session of Streamable HTTP (2025-03-26 to 2025-11-25): what its connections share, whatever shards they are on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Config;
use super::replay::Replay;
use crate::actor::{Inbox, Letter, Mail, Sibling};
use crate::conn::Guest;
use crate::guard::Tenant;
use crate::pool::Key;
use crate::wire::envelope::Id;
use crate::wire::http::event::EventId;

/// The id that a client names its session by: 128 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::conn) struct SessionId(pub(super) [u8; 16]);

/// Shared by the directory and by each connection that serves something for it.
pub(in crate::conn) struct HttpSession {
    pub(super) id: SessionId,
    state: Mutex<State>,
}

/// 100,000 of them are held: what a session needs while something is going on is in [`Busy`].
const _: () = assert!(size_of::<HttpSession>() <= 96);

/// What is known of a session at one moment.
pub(super) struct State {
    /// What the service remembers of the client; with a connection while that works for it.
    pub(super) guest: Guest,
    stream: Stream,
    /// When it was last used, in seconds of the house.
    pub(super) used: u32,
    /// The number that the last stream got.
    numbered: u32,
    /// The number of the last event on the stream that a GET opens.
    pub(super) told: u32,
    pub(super) ended: bool,
    /// Nothing was asked in it yet.
    pub(super) fresh: bool,
    /// On whose account it was opened, and is counted.
    pub(super) tenant: Tenant,
    busy: Option<Box<Busy>>,
}

/// The stream that a GET opens.
pub(super) enum Stream {
    There(Place),
    /// There was none since then.
    Away(Instant),
}

/// What a session has only while calls wait, or events are kept.
#[derive(Default)]
struct Busy {
    waiting: Vec<Waiting>,
    replay: Option<Replay>,
    /// Messages that came in on one connection and are not handled yet by the one where they belong.
    posted: u16,
}

/// A POST whose calls wait for their answers.
struct Waiting {
    /// The number of its stream.
    stream: u32,
    place: Place,
    ids: Vec<Box<str>>,
    /// The questions that wait there for the client's reply.
    asked: Vec<u64>,
    /// Where its events are read on by a client that lost them.
    reader: Option<Place>,
}

/// Where a connection is, and for what.
#[derive(Clone)]
pub(in crate::conn) struct Place {
    pub(super) inbox: Arc<Inbox>,
    pub(super) key: Key,
    /// Of what the connection serves; no other of the house has it.
    pub(super) serial: u32,
}

impl Place {
    pub(super) fn tell(&self, sibling: Sibling) {
        self.inbox.post(Mail::Letter(self.key, Letter::Sibling { to: self.serial, sibling }));
    }
}

impl Waiting {
    fn is_for(&self, id: Id<'_>) -> bool {
        self.ids.iter().any(|own| Id::from_raw(own).is_ok_and(|own| own == id))
    }
}

impl SessionId {
    /// As it stands in `Mcp-Session-Id`.
    pub(super) fn text(self) -> String {
        format!("{:032x}", self.number())
    }

    /// The session that a client names, if it could be one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let plain = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        plain.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(|number| Self(number.to_be_bytes()))
    }

    pub(super) const fn number(self) -> u128 {
        u128::from_be_bytes(self.0)
    }
}

impl HttpSession {
    pub(super) fn new(id: SessionId, guest: Guest, tenant: Tenant, used: u32) -> Self {
        let (numbered, told) = (0, 0);
        let stream = Stream::Away(Instant::now());
        let state = State { guest, stream, used, numbered, told, ended: false, fresh: true, tenant, busy: None };
        Self { id, state: Mutex::new(state) }
    }

    /// The state, for as long as a message takes to be handled. A panic of another connection left it usable.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What identifies the client to servers.
    pub(super) const fn number(&self) -> u128 {
        self.id.number()
    }

    /// Tells all its connections that it is over.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        let stream = state.close_stream();
        let waiting = state.busy.take().into_iter().flat_map(|busy| busy.waiting);
        let waiting = waiting.flat_map(|waiting| [Some(waiting.place), waiting.reader]).flatten();
        stream.into_iter().chain(waiting).for_each(|place| place.tell(Sibling::Ended));
        // What it wanted to be told ends with it, also while a connection still knows it.
        let guest = std::mem::take(&mut state.guest);
        drop(state);
        drop(guest);
    }
}

impl State {
    /// Whether something is going on that keeps it.
    pub(super) fn is_in_use(&self) -> bool {
        self.stream().is_some() || self.busy.as_ref().is_some_and(|busy| !busy.waiting.is_empty())
    }

    /// The stream that a GET has opened.
    pub(super) const fn stream(&self) -> Option<&Place> {
        match &self.stream {
            Stream::There(place) => Some(place),
            Stream::Away(_) => None,
        }
    }

    /// It is there from now on; what was before.
    pub(super) const fn open_stream(&mut self, place: Place) -> Stream {
        std::mem::replace(&mut self.stream, Stream::There(place))
    }

    /// There is none any more; the one before.
    pub(super) fn close_stream(&mut self) -> Option<Place> {
        self.stream()?;
        match std::mem::replace(&mut self.stream, Stream::Away(Instant::now())) {
            Stream::There(before) => Some(before),
            Stream::Away(_) => None,
        }
    }

    /// A number for a new stream.
    pub(super) fn number_stream(&mut self) -> u32 {
        self.numbered += 1;
        self.numbered
    }

    /// How many POSTs wait.
    pub(super) fn waiting(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.waiting.len())
    }

    /// Whether a request with this id waits.
    pub(super) fn has(&self, id: Id<'_>) -> bool {
        self.busy.as_ref().is_some_and(|busy| busy.waiting.iter().any(|waiting| waiting.is_for(id)))
    }

    /// Notes that a POST waits.
    pub(super) fn wait(&mut self, stream: u32, place: Place, ids: Vec<Box<str>>) {
        self.busy().waiting.push(Waiting { stream, place, ids, asked: Vec::new(), reader: None });
    }

    /// The POST with this stream waits no longer.
    pub(super) fn done(&mut self, stream: u32) {
        if let Some(busy) = &mut self.busy {
            for over in busy.waiting.extract_if(.., |waiting| waiting.stream == stream) {
                // It ended without a last event.
                over.reader.into_iter().for_each(|reader| reader.tell(Sibling::Replaced));
            }
        }
        self.forget_posted();
    }

    /// Notes the questions that wait on this stream.
    pub(super) fn note_asked(&mut self, stream: u32, asked: Vec<u64>) {
        let waiting = self.busy.iter_mut().flat_map(|busy| &mut busy.waiting);
        if let Some(waiting) = waiting.into_iter().find(|waiting| waiting.stream == stream) {
            waiting.asked = asked;
        }
    }

    /// Where the request with this id waits.
    pub(super) fn who_waits_for(&self, id: Id<'_>) -> Option<Place> {
        let mut waiting = self.busy.iter().flat_map(|busy| &busy.waiting);
        waiting.find(|waiting| waiting.is_for(id)).map(|waiting| waiting.place.clone())
    }

    /// Where the question with this id was asked; where none was noted, the stream of the GET.
    pub(super) fn who_asked(&self, id: Id<'_>) -> Option<Place> {
        let number: Option<u64> = id.raw().parse().ok();
        let mut waiting = self.busy.iter().flat_map(|busy| &busy.waiting);
        let asker = waiting.find(|waiting| number.is_some_and(|number| waiting.asked.contains(&number)));
        asker.map(|waiting| &waiting.place).or(self.stream()).cloned()
    }

    /// The events of a POST's stream are read on there; false if it is over.
    pub(super) fn read_on(&mut self, stream: u32, reader: Place) -> bool {
        let mut waiting = self.busy.iter_mut().flat_map(|busy| &mut busy.waiting);
        let Some(waiting) = waiting.find(|waiting| waiting.stream == stream) else { return false };
        // Whoever read it before is not to hear the same.
        let before = waiting.reader.replace(reader).unwrap_or_else(|| waiting.place.clone());
        before.tell(Sibling::Replaced);
        true
    }

    /// Nobody reads the events of a POST's stream on there any more; the time to come back counts from now.
    pub(super) fn let_go(&mut self, reader: u32) {
        for waiting in self.busy.iter_mut().flat_map(|busy| &mut busy.waiting) {
            if waiting.reader.take_if(|place| place.serial == reader).is_some() {
                waiting.place.tell(Sibling::Replaced);
            }
        }
    }

    /// Whether the events of a POST's stream are read on somewhere.
    pub(super) fn is_read_on(&self, stream: u32) -> bool {
        let mut waiting = self.busy.iter().flat_map(|busy| &busy.waiting);
        waiting.any(|waiting| waiting.stream == stream && waiting.reader.is_some())
    }

    /// Whether that is where the events of a POST's stream are read on.
    pub(super) fn has_reader(&self, serial: u32) -> bool {
        let waiting = self.busy.iter().flat_map(|busy| &busy.waiting);
        waiting.filter_map(|waiting| waiting.reader.as_ref()).any(|reader| reader.serial == serial)
    }

    /// Whether the stream in that place is the one that a GET opened last.
    pub(super) fn is_newest(&self, serial: u32) -> bool {
        self.stream().is_some_and(|newest| newest.serial == serial)
    }

    /// Keeps an event for who comes back, and tells it who has.
    pub(super) fn keep(&mut self, id: EventId, message: &[u8], last: bool, now: u64, to: (&Config, &Arc<AtomicUsize>)) {
        let (config, total) = to;
        let mut waiting = self.busy.iter_mut().flat_map(|busy| &mut busy.waiting);
        if let Some(waiting) = waiting.find(|waiting| waiting.stream == id.stream) {
            let reader = if last { waiting.reader.take() } else { waiting.reader.clone() };
            let event = || Sibling::Event { stream: id.stream, number: id.number, message: message.into(), last };
            reader.into_iter().for_each(|reader| reader.tell(event()));
        }
        let replay = self.busy().replay.get_or_insert_with(|| Replay::new(Arc::clone(total)));
        replay.keep(id, message, now, config);
    }

    /// The events kept of this stream, behind this one.
    pub(super) fn behind(&self, after: EventId) -> impl Iterator<Item = &super::replay::Event> {
        let replay = self.busy.as_ref().and_then(|busy| busy.replay.as_ref());
        replay.into_iter().flat_map(move |replay| replay.behind(after))
    }

    /// Lets go of events sent before `then`.
    pub(super) fn forget_events_before(&mut self, then: u64) {
        if let Some(busy) = &mut self.busy
            && busy.replay.as_mut().is_some_and(|replay| replay.forget_before(then))
        {
            busy.replay = None;
        }
        self.tidy();
    }

    /// Counts a message for another connection; false if too many wait.
    pub(super) fn post(&mut self, most: u16) -> bool {
        let posted = &mut self.busy().posted;
        let may = *posted < most;
        *posted += u16::from(may);
        may
    }

    /// Such a message has been handled.
    pub(super) fn posted(&mut self) {
        let busy = self.busy();
        busy.posted = busy.posted.saturating_sub(1);
        self.tidy();
    }

    /// A connection has gone, and with it what waited for it; that others wait for is counted less for once.
    pub(super) fn forget_posted(&mut self) {
        if let Some(busy) = &mut self.busy {
            busy.posted = 0;
        }
        self.tidy();
    }

    fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    fn tidy(&mut self) {
        let idle = |busy: &Busy| busy.waiting.is_empty() && busy.replay.is_none() && busy.posted == 0;
        if self.busy.as_deref().is_some_and(idle) {
            self.busy = None;
        }
    }
}

/// Bytes that all sessions keep for those who come back.
pub(super) fn kept(total: &AtomicUsize) -> usize {
    total.load(Ordering::Relaxed)
}
