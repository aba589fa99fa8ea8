//! Identical reads at the same time are one call: the first is sent, the others wait for its answer.
//!
//! Who waits holds no place at the upstream and none in its queue. What changed meanwhile is seen: once a call that may
//! change something is answered, or the server says that something changed, nobody joins a read that was there before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::actor::{Answer, Serves, Ticket};
use crate::guard::{Seat, Tenant};
use crate::mcp::{Level, List, Method, Offer, Parcel, Profile, Revision};
use crate::upstream::handle::{Client, Errand, Task, Upstream};
use crate::wire::json;

/// Most that wait for one call: each gets a copy of its answer, at the same time.
const WAITING_MAX: usize = 255;
/// Longest parameters that are compared, in bytes: those of reads are short.
const PARAMS_BYTES_MAX: usize = 4_096;
/// Reads that are remembered before those that are over are looked for.
const PURGE_MIN: usize = 64;

/// What makes two calls the same.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    method: Method,
    name: Box<str>,
    params: Box<str>,
    meta: Box<str>,
    level: Option<Level>,
    revision: Revision,
    tenant: Tenant,
    profile: Option<Arc<Profile>>,
    can_be_asked: bool,
}

/// The reads that are on their way to one server.
#[derive(Default)]
pub(super) struct Same {
    /// Tools that their server calls read-only and idempotent.
    tools: HashSet<Box<str>>,
    reads: HashMap<Key, (u64, Weak<Crowd>)>,
    purge_at: usize,
    /// Counts what may have changed something.
    age: u64,
}

/// All who wait for one call, but for the first.
#[derive(Default)]
struct Crowd {
    /// Locked for moments only.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    is_over: bool,
}

/// One who waits.
struct Waiting {
    ticket: Ticket,
    place: Seat,
    client: Client,
}

/// The duty of a call to answer others, too. Dropped with one that is not answered, it tells them that it was abandoned.
pub struct Lead(Arc<Crowd>);

impl Same {
    pub(super) fn offered(&mut self, offer: &Offer) {
        let is_true = |annotations: &str| {
            let hints = json::pick(annotations, ["readOnlyHint", "idempotentHint"]).unwrap_or_default();
            hints == [Some("true"); 2]
        };
        let tools = offer.lists[List::Tools.index()].iter();
        let annotations = |text| json::pick(text, ["annotations"]).ok().and_then(|[annotations]| annotations);
        self.tools =
            tools.filter(|tool| annotations(&tool.text).is_some_and(is_true)).map(|tool| tool.key.clone()).collect();
        self.changed();
    }

    /// Something may be another from now on.
    pub(super) const fn changed(&mut self) {
        self.age += 1;
    }

    /// Whether a call changes nothing and is the same for all who may make it.
    #[inline]
    pub(super) fn is_read(&self, call: &Parcel) -> bool {
        match call.method {
            Method::ReadResource => true,
            Method::CallTool => !self.tools.is_empty() && self.tools.contains(&call.name),
            Method::GetPrompt | Method::Complete => false,
        }
    }

    /// Whether a read is like no other: its answer is for one.
    pub(super) fn is_own(task: &Task) -> bool {
        let call = &task.parcel;
        call.progress
            || task.lead.is_some()
            || task.is_alone
            || call.params.len() + call.meta.len() > PARAMS_BYTES_MAX
            // What was answered to a question is for one.
            || ["\"inputResponses\"", "\"requestState\""].iter().any(|member| call.params.contains(member))
    }

    /// Lets a read wait for the same one, if that is on its way; else others may wait for it, and it is given back. Not for
    /// one that [is like no other](Self::is_own).
    pub(super) fn join(&mut self, mut task: Box<Task>) -> Option<Box<Task>> {
        let key = Key::of(&task);
        if let Some((age, crowd)) = self.reads.get(&key)
            && *age == self.age
            && let Some(crowd) = crowd.upgrade()
        {
            return crowd.join(task);
        }
        if self.reads.len() >= self.purge_at.max(PURGE_MIN) {
            self.reads.retain(|_, (_, crowd)| crowd.strong_count() > 0);
            self.purge_at = self.reads.len() * 2;
        }
        let crowd = Arc::new(Crowd::default());
        self.reads.insert(key, (self.age, Arc::downgrade(&crowd)));
        task.lead = Some(Lead(crowd));
        Some(task)
    }
}

impl Key {
    fn of(task: &Task) -> Self {
        let Task { parcel, client, .. } = task;
        Self {
            method: parcel.method,
            name: parcel.name.clone(),
            params: parcel.params.clone(),
            meta: parcel.meta.clone(),
            level: parcel.level,
            revision: parcel.revision,
            tenant: client.tenant,
            profile: client.profile.clone(),
            can_be_asked: client.can_be_asked,
        }
    }
}

impl Crowd {
    /// Gives the call back if it is too late, or too many wait.
    fn join(self: &Arc<Self>, task: Box<Task>) -> Option<Box<Task>> {
        let mut state = self.state();
        if state.is_over || state.waiting.len() >= WAITING_MAX {
            return Some(task);
        }
        let Task { ticket, place, client, .. } = *task;
        let slot = state.next;
        ticket.pass_to(Arc::clone(self) as Arc<dyn Serves>);
        if ticket.serve_as(slot) {
            state.next += 1;
            state.waiting.insert(slot, Waiting { ticket, place, client });
        } else {
            ticket.discard();
        }
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those who wait leaves.
impl Serves for Crowd {
    fn cancel(&self, slot: u64) {
        let left = self.state().waiting.remove(&slot);
        left.into_iter().for_each(|left| left.ticket.discard());
    }
}

impl Lead {
    /// All who wait; nobody comes any more.
    fn end(&self) -> BTreeMap<u64, Waiting> {
        let mut state = self.0.state();
        state.is_over = true;
        std::mem::take(&mut state.waiting)
    }

    /// The one who has waited longest; if nobody has, nobody comes any more.
    fn first(&self) -> Option<Waiting> {
        let mut state = self.0.state();
        let first = state.waiting.pop_first();
        state.is_over |= first.is_none();
        first.map(|(_, waiting)| waiting)
    }

    /// The same answer for all.
    pub(in crate::upstream) fn settle(self, answer: &Answer) {
        for (_, Waiting { ticket, place, .. }) in self.end() {
            ticket.settle(answer.clone());
            drop(place);
        }
    }

    /// This answer is for the first alone: the others ask for themselves.
    pub(in crate::upstream) fn part(&self, parcel: &Parcel, upstream: &Arc<Upstream>) {
        for (_, Waiting { ticket, place, client }) in self.end() {
            ticket.pass_to(Arc::clone(upstream) as Arc<dyn Serves>);
            let task = Task { is_alone: true, ..Task::new(parcel.clone(), ticket, place, client) };
            upstream.post(Errand::Call(Box::new(task)));
        }
    }
}

/// Whoever waits for a call that was not answered is told so: each ticket does that itself.
impl Drop for Lead {
    fn drop(&mut self) {
        drop(self.end());
    }
}

impl Task {
    /// Its client has left: it goes on for one of those who wait for the same, served under `slot`. False if there are none.
    pub(in crate::upstream) fn inherit(&mut self, upstream: &Arc<Upstream>, slot: u64) -> bool {
        while let Some(Waiting { ticket, place, client }) = self.lead.as_ref().and_then(Lead::first) {
            ticket.pass_to(Arc::clone(upstream) as Arc<dyn Serves>);
            if ticket.serve_as(slot) {
                std::mem::replace(&mut self.ticket, ticket).discard();
                (self.place, self.client) = (place, client);
                return true;
            }
            ticket.discard();
        }
        false
    }

    /// Whether a cancellation is for the one who has left already, and another one waits now.
    pub(in crate::upstream) fn is_inherited(&self) -> bool {
        self.lead.is_some() && !self.ticket.is_cancelled()
    }
}
