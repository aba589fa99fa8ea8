//! One upstream as everybody else sees it: its name, its door, and what it says of itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::door::Door;
use super::front::{BreakerState, Ending, Lead, Permit, Shed};
use super::group::{Passed, Served, Ways};
use super::mux::tally::Uses;
use super::trouble::{Trouble, TroubleKind};
use crate::actor::{Answer, Asks, Reply, Serves, Ticket, Unread};
use crate::guard::{Seat, Share, Tenant};
use crate::mcp::{Level, Offer, Parcel, Profile, Revision};
use crate::meter::{Lag, Named, Tally};

/// The handle of one upstream; shared by all who send it something. Its task takes errands out one batch a wake-up.
pub struct Upstream {
    /// Its name in the configuration, the logs and the errors.
    pub name: Box<str>,
    /// Whether each client has a session of its own there.
    pub per_session: bool,
    /// What of it is rationed.
    pub rationing: Rationing,
    /// What it has counted.
    pub counts: Counts,
    view: Mutex<View>,
    door: Door,
    /// Who serves in its place once it has ended.
    successor: OnceLock<Arc<Self>>,
    /// Held while what comes after its end is passed on: two who do so at once would mix up the order.
    passing: Mutex<()>,
    /// Where calls may go that it does not serve.
    ways: ArcSwapOption<Ways>,
    /// What it has offered last.
    served: ArcSwapOption<Served>,
    /// Whether it is there now.
    there: AtomicBool,
    /// Whether its replicas hold something against it.
    suspect: AtomicBool,
}

/// Which calls of an upstream count against the rates of a client's plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rationing {
    /// All of them: it takes its time.
    pub slow: bool,
    /// Those of these tools, by the names that the server has for them.
    pub sensitive: Box<[Box<str>]>,
}

impl Rationing {
    /// Whether calls of this tool count; what is no tool never does.
    #[must_use]
    pub fn is_sensitive(&self, tool: Option<&str>) -> bool {
        tool.is_some_and(|tool| self.sensitive.iter().any(|name| **name == *tool))
    }
}

/// How an upstream is, for people.
#[derive(Debug, Clone)]
pub struct View {
    /// What it is doing.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// Why it is down, or was last.
    pub why: Option<Trouble>,
    /// The revision that it is spoken to in, from the first agreement on.
    pub revision: Option<Revision>,
    /// The raw JSON of what it calls itself.
    pub server_info: Option<Box<str>>,
    /// How many tools, prompts, resources and templates it offers.
    pub entries: usize,
    /// When it is tried again, while it is down.
    pub again: Option<Instant>,
}

crate::named! {
    /// What an upstream is doing.
    pub enum State {
        /// It is being started, or connected to.
        Starting = "starting",
        /// It is asked what it speaks and what it offers.
        Probing = "probing",
        /// It serves.
        Ready = "ready",
        /// It failed, and is tried again later.
        Down = "down",
    }
}

/// Something an upstream is to do. The queue needs no bound of its own: calls hold a place of `guard.in_flight_max`, what is
/// watched one of `guard.watches_max` until its end is heard, of levels and roots the last word alone waits, and every
/// other errand is the echo of something that is bounded (a call, a question, a session).
pub enum Errand {
    /// Ask the server, and settle the ticket.
    Call(Box<Task>),
    /// Nobody waits any more for what is served under this slot.
    Cancel { slot: u64 },
    /// The client's reply to the question under this slot.
    Reply { slot: u64, reply: Reply },
    /// A step of the client towards it: the members of `params` of a progress notification, without the token.
    Step { slot: u64, fragment: String, unread: Unread },
    /// A client wants to be told when a resource changes. With a ticket: it waits for the server's word; if another
    /// client watches it already, that is there.
    Watch { uri: Box<str>, task: Option<(Ticket, Seat)>, client: Box<Client> },
    /// It wants that no longer, or has left; and the place that it had among all who watch.
    Unwatch { uri: Box<str>, client: u128, place: Option<Seat> },
    /// The least level of log messages that any client wants is now this.
    Level(Level),
    /// A client's roots have changed; matters where it has a session of its own.
    RootsChanged { client: u128 },
    /// A client has left; matters where it has a session of its own.
    Leave { client: u128 },
    /// A call of a client's own session is over: how it ended and when it was sent, if it was.
    Served { seen: Option<(Ending, Instant)> },
}

/// A call on its way.
pub struct Task {
    /// What is asked.
    pub parcel: Parcel,
    /// The right to answer it.
    pub ticket: Ticket,
    /// Held until it has ended.
    pub place: Seat,
    /// Who asks.
    pub client: Client,
    /// Where clients have sessions of their own: the place that it has at the upstream.
    pub permit: Option<Permit>,
    /// When it came to the first upstream that was asked.
    pub arrived: Option<Instant>,
    /// Who has not served it so far.
    pub passed: Option<Box<Passed>>,
    /// Who else gets its answer.
    pub lead: Option<Lead>,
    /// Whether it waits for no other call, nor others for it: it did before, and that was in vain.
    pub is_alone: bool,
}

impl Task {
    /// A call that comes from its client.
    #[must_use]
    pub const fn new(parcel: Parcel, ticket: Ticket, place: Seat, client: Client) -> Self {
        Self { parcel, ticket, place, client, permit: None, arrived: None, passed: None, lead: None, is_alone: false }
    }

    /// Answers it, and all who wait for the same.
    pub(super) fn settle(mut self, answer: Answer) {
        if let Some(lead) = self.lead.take() {
            lead.settle(&answer);
        }
        self.ticket.settle(answer);
    }
}

/// Who asks, as far as a server may care.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// Unique among all clients that live; 0 for one that has no session.
    pub id: u128,
    /// What it says of itself.
    pub profile: Option<Arc<Profile>>,
    /// Whether it can be asked something while it waits: a legacy client can.
    pub can_be_asked: bool,
    /// On whose account.
    pub tenant: Tenant,
    /// What that is entitled to.
    pub share: Share,
}

/// What an upstream counts, from its start on.
#[derive(Debug, Default)]
pub struct Counts {
    /// Calls sent.
    pub calls: AtomicU64,
    /// Calls answered with an error by the server, or failed here.
    pub errors: AtomicU64,
    /// Requests of clients that got no answer of the server, by what went wrong.
    pub troubles: Tally<TroubleKind>,
    /// Calls in flight.
    pub in_flight: AtomicU64,
    /// How many may be, as of now.
    pub limit: AtomicU64,
    /// Calls that wait for a place there.
    pub queued: AtomicU64,
    /// How many may wait.
    pub queue_max: AtomicU64,
    /// Calls that have waited and were sent then.
    pub waited: AtomicU64,
    /// How long they did in all, in microseconds.
    pub waited_us: AtomicU64,
    /// The longest wait of one.
    pub waited_us_max: AtomicU64,
    /// Calls that were not sent.
    pub shed: Tally<Shed>,
    /// Calls that were sent again because they had failed.
    pub retries: AtomicU64,
    /// The place of its breaker's state among all states.
    pub breaker: AtomicU64,
    /// Reads that may have the answer of the same one on its way.
    pub reads: AtomicU64,
    /// Reads that were not sent, as the same one was on its way: they got its answer.
    pub joined: AtomicU64,
    /// Calls that it did not serve and that went to another upstream.
    pub passed_on: AtomicU64,
    /// Times that it got no new calls for a while, because it failed where its replicas served.
    pub ejections: AtomicU64,
    /// Times it was connected anew.
    pub restarts: AtomicU64,
    /// Answers to nobody, second answers, messages that are none.
    pub strays: AtomicU64,
    /// Retries with a `requestState` that was not ours, expired, or used.
    pub refused_states: AtomicU64,
    /// Sessions of single clients that are open.
    pub sessions: AtomicU64,
    /// How long calls took, from when they were sent until they ended; of one writer, the upstreams' thread.
    pub took: Lag,
    uses: Mutex<Uses>,
}

impl Counts {
    /// What each tool, prompt and resource was used for, by name; up to a second late.
    #[must_use]
    pub fn uses(&self) -> Uses {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How its breaker stands.
    #[must_use]
    pub fn breaker(&self) -> BreakerState {
        BreakerState::ALL[(self.breaker.load(Ordering::Relaxed) as usize).min(BreakerState::ALL.len() - 1)]
    }

    pub(super) fn waited(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.waited.fetch_add(1, Ordering::Relaxed);
        self.waited_us.fetch_add(micros, Ordering::Relaxed);
        self.waited_us_max.fetch_max(micros, Ordering::Relaxed);
    }

    /// A call that has failed before it was sent.
    pub(super) fn count_use(&self, name: &str, is_known: impl FnOnce() -> bool) {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner).count(name, Duration::ZERO, true, is_known);
    }

    pub(super) fn add_uses(&self, more: &mut Uses) {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner).take_over(more);
    }
}

impl Upstream {
    /// A handle with nothing behind it yet.
    #[must_use]
    pub fn new(name: impl Into<Box<str>>, per_session: bool) -> Self {
        Self {
            name: name.into(),
            per_session,
            rationing: Rationing::default(),
            counts: Counts::default(),
            view: Mutex::new(View {
                state: State::Starting,
                since: Instant::now(),
                why: None,
                revision: None,
                server_info: None,
                entries: 0,
                again: None,
            }),
            door: Door::default(),
            successor: OnceLock::new(),
            passing: Mutex::default(),
            ways: ArcSwapOption::empty(),
            served: ArcSwapOption::empty(),
            there: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
        }
    }

    /// Whether it is there now.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.there.load(Ordering::Relaxed)
    }

    pub(super) fn set_there(&self, there: bool) {
        self.there.store(there, Ordering::Relaxed);
    }

    /// What it offers from now on.
    pub(super) fn set_offer(&self, offer: &Arc<Offer>) {
        self.served.store(Some(Arc::new(Served::new(Arc::clone(offer)))));
    }

    /// Whether it has what a call by its own names is for.
    pub(super) fn serves(&self, call: &Parcel) -> bool {
        self.served.load().as_ref().is_some_and(|served| served.has(call))
    }

    /// Where calls may go that it does not serve; nothing if nowhere.
    #[must_use]
    pub fn ways(&self) -> Option<Arc<Ways>> {
        self.ways.load_full()
    }

    pub(super) fn set_ways(&self, ways: Option<Arc<Ways>>) {
        self.ways.store(ways);
    }

    /// A call that was sent then was answered.
    #[inline]
    pub(super) fn succeeded(&self, sent: Instant, now: Instant) {
        if self.suspect.load(Ordering::Relaxed) {
            let group = self.ways().and_then(|ways| ways.group.clone());
            if group.is_none_or(|group| group.succeeded(self, sent, now)) {
                self.suspect.store(false, Ordering::Relaxed);
            }
        }
    }

    /// A call that was sent then has failed for this reason: if that says something of its server, its replicas may have to
    /// do without it.
    pub(super) fn failed(&self, trouble: &Trouble, sent: Instant, now: Instant) {
        let Some(group) = self.ways().filter(|_| trouble.is_its_own()).and_then(|ways| ways.group.clone()) else {
            return;
        };
        self.suspect.store(true, Ordering::Relaxed);
        if let Some(length) = group.failed(self, sent, now) {
            self.counts.ejections.fetch_add(1, Ordering::Relaxed);
            let (upstream, out_ms) = (&*self.name, length.as_millis());
            tracing::warn!(upstream, out_ms, why = %trouble, "it fails: its replicas get its calls for a while");
        }
    }

    /// Says who serves in its place once it has ended: what clients watch, and take back later, goes there. Calls do not:
    /// they fail by its name. The first word counts.
    pub fn succeed(&self, successor: Arc<Self>) {
        // Whoever says it again says the same.
        let _ = self.successor.set(successor);
    }

    /// The same, with what of it is rationed.
    #[must_use]
    pub fn rationed(self, rationing: Rationing) -> Self {
        Self { rationing, ..self }
    }

    /// Queues an errand and wakes the task if nobody else has since it last looked.
    pub fn post(&self, errand: Errand) {
        self.push(errand);
        self.ring();
    }

    /// Wakes the task if nobody else has since it last looked.
    pub fn ring(&self) {
        self.door.ring();
    }

    /// Queues an errand for a task that is rung for later.
    pub fn push(&self, errand: Errand) {
        self.door.push(errand);
        if self.door.is_closed() {
            self.turn_away();
        }
    }

    /// Its task ends: these were watched. Comes before [`Self::close`], so that nobody takes back what is not there yet.
    pub(super) fn hand_over(&self, watched: impl Iterator<Item = Errand>) {
        if let Some(successor) = self.successor.get() {
            watched.for_each(|errand| successor.push(errand));
            successor.ring();
        }
    }

    /// Its task has ended for good: who posts something now has an older directory, and is refused like all who wait.
    pub fn close(&self) {
        self.door.close();
        self.turn_away();
        // They know it, too: nobody would be let go of.
        self.set_ways(None);
    }

    fn turn_away(&self) {
        let trouble = Trouble::new(TroubleKind::Lost, "the gateway has stopped it").unsent();
        let _in_order = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(errand) = self.door.collect() {
            match (errand, self.successor.get()) {
                (Errand::Call(task), _) => self.turn_down(task, &trouble, None),
                // Their slots are of its own counting; and of the level everybody is told who is there.
                (Errand::Cancel { .. } | Errand::Reply { .. } | Errand::Step { .. } | Errand::Level(_), _) => {}
                (errand, Some(successor)) => successor.post(errand),
                (Errand::Watch { task: Some((ticket, _)), .. }, None) => self.refuse(ticket, &trouble, None),
                (_, None) => {}
            }
        }
    }

    pub(super) const fn door(&self) -> &Door {
        &self.door
    }

    /// How it is.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn look(&self, change: impl FnOnce(&mut View)) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let before = view.state;
        change(&mut view);
        if view.state != before {
            view.since = Instant::now();
        }
    }

    /// Appends the JSON-RPC error object for one that waited for an answer in vain, and counts its kind.
    pub(super) fn blame(&self, out: &mut Vec<u8>, trouble: &Trouble, down_for: Option<Duration>) {
        self.counts.troubles.add(trouble.kind);
        trouble.write_object(out, &self.name, down_for);
    }

    /// Settles a ticket with what went wrong; `down_for` is set while the upstream is down.
    pub(super) fn refuse(&self, ticket: Ticket, trouble: &Trouble, down_for: Option<Duration>) {
        self.counts.errors.fetch_add(1, Ordering::Relaxed);
        let mut error = Vec::new();
        self.blame(&mut error, trouble, down_for);
        ticket.settle(Answer::Error(error));
    }
}

impl Serves for Upstream {
    fn cancel(&self, slot: u64) {
        self.post(Errand::Cancel { slot });
    }
}

impl Asks for Upstream {
    fn replied(&self, slot: u64, reply: Reply) {
        self.post(Errand::Reply { slot, reply });
    }

    fn progressed(&self, slot: u64, fragment: String, unread: Unread) {
        self.post(Errand::Step { slot, fragment, unread });
    }
}
