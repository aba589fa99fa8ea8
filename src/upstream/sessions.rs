//! Sessions of single clients at one upstream: a link each, made on first use, gone with the client or when idle; made anew
//! if it breaks while the client watches something there.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::timeout;

use super::attend::refuse;
use super::door::Door;
use super::front::{Gate, Go, Permit, is_queued};
use super::handle::{Client, Errand, Task, Upstream};
use super::life::{Life, Pauses};
use super::link::Target;
use super::mux::NUMBER_BITS;
use super::shared::{Knobs, Shared};
use super::trouble::{Trouble, TroubleKind};
use crate::mcp::bridge;
use crate::wire::json;

/// Numbers that tell the links of one upstream apart: as many as the bits above a mux's own numbers allow, but for the
/// highest, which says that a call waits at the gate.
const TAGS_MAX: u64 = (1 << (63 - NUMBER_BITS)) - 1;
/// Begins the ids of those who come for a single call; no connection's begins so, and no session's, but by a chance of one
/// in 2^64.
const GUESTS: u128 = (u64::MAX as u128) << 64;
/// How long all of them may take to end.
const END: Duration = Duration::from_secs(3);

/// All of one upstream where each client has one.
pub(super) struct Sessions {
    upstream: Arc<Upstream>,
    target: Target,
    knobs: Knobs,
    shared: Arc<Shared>,
    by_client: HashMap<u128, Visit>,
    by_tag: HashMap<u64, Arc<Door>>,
    next_tag: u64,
    /// Calls so far that came without a session.
    guests: u64,
    /// No number below it is used again.
    floor: u32,
    tasks: JoinSet<Ended>,
    /// Whose they are: the client, and its tag.
    running: HashMap<Id, (u128, u64)>,
    stop: watch::Sender<bool>,
}

struct Visit {
    tag: u64,
    door: Arc<Door>,
}

/// A session that is over.
struct Ended {
    ceiling: u32,
    /// None: in form, as it was idle or its client has left.
    why: Option<Trouble>,
}

impl Sessions {
    pub(super) fn new(upstream: Arc<Upstream>, target: Target, knobs: Knobs, shared: Arc<Shared>) -> Self {
        Self {
            upstream,
            target,
            knobs,
            shared,
            by_client: HashMap::new(),
            by_tag: HashMap::new(),
            next_tag: 0,
            guests: 0,
            floor: 0,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            stop: watch::channel(false).0,
        }
    }

    /// The same, past the gate of the upstream: in flight and in its queue are the calls of all sessions together.
    pub(super) fn route_past(&mut self, gate: &mut Gate, errand: Errand, now: Instant) -> Option<Errand> {
        match errand {
            Errand::Call(task) => {
                if let Some(go) = gate.take(task, now) {
                    self.send(go);
                }
                None
            }
            Errand::Cancel { slot } if is_queued(slot) => {
                gate.cancel(slot);
                None
            }
            Errand::Served { seen } => {
                gate.served(seen, now);
                None
            }
            errand => self.route(errand),
        }
    }

    /// Sends what has waited long enough.
    pub(super) fn release(&mut self, gate: &mut Gate, now: Instant) {
        while let Some(go) = gate.next(now) {
            self.send(go);
        }
    }

    fn send(&mut self, Go { mut task, .. }: Go) {
        task.permit = Some(Permit::new(Arc::clone(&self.upstream)));
        // A call is never for the shared session.
        self.route(Errand::Call(task));
    }

    /// Takes an errand to the session that it belongs to; gives it back if that is the shared one.
    fn route(&mut self, errand: Errand) -> Option<Errand> {
        let id = match &errand {
            Errand::Call(task) => task.client.id,
            Errand::Watch { client, .. } => client.id,
            Errand::Unwatch { client, .. } | Errand::RootsChanged { client } | Errand::Leave { client } => *client,
            Errand::Served { .. } => return Some(errand),
            Errand::Cancel { slot } | Errand::Reply { slot, .. } | Errand::Step { slot, .. } => {
                let tag = slot >> NUMBER_BITS;
                if tag == 0 {
                    return Some(errand);
                }
                // Of a session that is over: nobody waits.
                if let Some(door) = self.by_tag.get(&tag) {
                    door.post(errand);
                }
                return None;
            }
            Errand::Level(level) => {
                for visit in self.by_client.values() {
                    visit.door.post(Errand::Level(*level));
                }
                return Some(errand);
            }
        };
        if let Errand::Call(task) = &errand
            && let Some(door) = self.parked(task)
        {
            door.post(errand);
        } else if let Some(visit) = self.by_client.get(&id) {
            visit.door.post(errand);
        } else if let Some(client) = self.comes(&errand) {
            match self.open(client) {
                Some(door) => door.post(errand),
                None => refuse(&self.upstream, errand, &self.full(), None),
            }
        }
        None
    }

    /// Whose session an errand opens, if it is one that does.
    fn comes(&mut self, errand: &Errand) -> Option<Client> {
        match errand {
            // A session for this one call: whoever asked has none that the next one could be told by.
            Errand::Call(task) if task.client.id == 0 => {
                self.guests += 1;
                Some(Client { id: GUESTS | u128::from(self.guests), ..Client::default() })
            }
            Errand::Call(task) => Some(task.client.clone()),
            Errand::Watch { client, .. } => Some((**client).clone()),
            _ => None,
        }
    }

    /// Where the call is parked that this one resumes, if it is a retry of such.
    fn parked(&self, task: &Task) -> Option<&Arc<Door>> {
        let state = json::string(bridge::retry(&task.parcel.params)?.state)?;
        let now = Instant::now().saturating_duration_since(self.shared.began);
        let claim = self.shared.secret.open(&self.upstream.name, &state, now).ok()?;
        self.by_tag.get(&(claim.number >> NUMBER_BITS))
    }

    fn full(&self) -> Trouble {
        let most = self.knobs.sessions_max;
        let what = format!("{most} clients have a session of their own (sessions_max)");
        Trouble::new(TroubleKind::Overloaded, what).with_retry_after(Some(Duration::from_secs(5))).unsent()
    }

    fn open(&mut self, client: Client) -> Option<Arc<Door>> {
        let most = self.knobs.sessions_max.min(TAGS_MAX as usize);
        if self.by_client.len() >= most {
            return None;
        }
        let tag = loop {
            self.next_tag = self.next_tag % TAGS_MAX + 1;
            if !self.by_tag.contains_key(&self.next_tag) {
                break self.next_tag;
            }
        };
        let door = Arc::new(Door::default());
        let mut knobs = self.knobs.clone();
        let id = client.id;
        if id & GUESTS == GUESTS {
            // It is over with its call.
            knobs.session_idle = Duration::ZERO;
        }
        let life = Life::private(
            Arc::clone(&self.upstream),
            self.target.clone(),
            knobs,
            Arc::clone(&self.shared),
            client,
            (tag, self.floor),
            Arc::clone(&door),
        );
        let task = self.tasks.spawn(session(life, self.stop.subscribe()));
        self.running.insert(task.id(), (id, tag));
        self.by_tag.insert(tag, Arc::clone(&door));
        self.by_client.insert(id, Visit { tag, door: Arc::clone(&door) });
        self.upstream.counts.sessions.fetch_add(1, Relaxed);
        Some(door)
    }

    /// Waits for sessions to end, and cleans up behind them. Cancel-safe.
    pub(super) async fn ended(&mut self) {
        let (id, ended) = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ended))) => (id, ended),
            // A task that panicked took its calls' tickets with it: their clients know.
            Some(Err(error)) => (error.id(), Ended { ceiling: 0, why: Some(left()) }),
            None => return pending().await,
        };
        self.floor = self.floor.max(ended.ceiling);
        let Some((client, tag)) = self.running.remove(&id) else { return };
        self.upstream.counts.sessions.fetch_sub(1, Relaxed);
        if self.by_client.get(&client).is_some_and(|visit| visit.tag == tag) {
            self.by_client.remove(&client);
        }
        let Some(door) = self.by_tag.remove(&tag) else { return };
        while let Some(errand) = door.collect() {
            match &ended.why {
                Some(why) => refuse(&self.upstream, errand, why, None),
                // It came too late to be seen: another session serves it.
                None => drop(self.route(errand)),
            }
        }
    }

    /// Ends them all, in form.
    pub(super) async fn end(&mut self) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(END, all).await.is_err() {
            self.tasks.abort_all();
        }
    }
}

/// Why those are refused who came too late.
fn left() -> Trouble {
    Trouble::new(TroubleKind::Lost, "the client's own session has ended").unsent()
}

/// One session's life. Boxed, as it is part of a life that may have sessions.
fn session(mut life: Life, mut stop: watch::Receiver<bool>) -> Pin<Box<dyn Future<Output = Ended> + Send>> {
    Box::pin(async move {
        let (mut pauses, mut is_told) = (Pauses::new(&life.knobs), false);
        let why = loop {
            let why = life.once(Duration::ZERO, &mut stop).await.err();
            life.mux.drop_kept(&why.clone().unwrap_or_else(left));
            let Some(why) = why else { break None };
            if why.kind != TroubleKind::Lost {
                let name = &*life.upstream.name;
                // While the server is away, each retry of each client fails.
                if std::mem::replace(&mut is_told, true) && life.serving.is_none() {
                    tracing::debug!(upstream = name, why = %why, "a client's own session has failed again");
                } else {
                    tracing::warn!(upstream = name, why = %why, "a client's own session has failed");
                }
            }
            if !life.rest(&mut pauses, &why, &mut stop).await {
                break Some(why);
            }
        };
        if *stop.borrow() {
            life.hand_over();
        }
        Ended { ceiling: life.mux.ceiling(), why }
    })
}
