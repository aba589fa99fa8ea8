//! Streamable HTTP, all revisions: each message a POST on a connection of a small pool, answers as JSON or event streams.

mod answer;
mod body;
mod former;
mod head;
mod lane;
mod order;
mod standing;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::address::Address;
use super::gossip::Gossip;
use super::{Arrived, Limits, Outgoing, Purpose, What};
use crate::mcp::{Era, Revision};
use crate::upstream::trouble::{Trouble, TroubleKind};
use lane::{Job, JobKind, Lane};
use order::{Common, Order};
use wire::Wire;

/// Deliveries that wait to be taken: lanes that have more wait themselves.
const NEWS_MAX: usize = 64;
/// Lanes that may be busy with words that have no answer, beside those with requests: where all of these wait for answers,
/// and the server for our reply to what it asks, both would wait for each other; and a server that is slow to accept
/// words must not keep requests waiting.
const SPEAKING_MAX: usize = 8;
/// A lane that had nothing to do for this long is closed.
const LANE_IDLE_MAX: Duration = Duration::from_secs(30);
/// How long the end of a session may take.
const DELETE_MAX: Duration = Duration::from_secs(1);

/// Where and how: the same for all lanes.
struct Endpoint {
    address: Address,
    /// Path and query.
    target: Arc<str>,
    connect: Duration,
    message_bytes_max: usize,
}

/// What a lane has to say.
struct Delivery {
    lane: u64,
    /// The lane is free again.
    is_done: bool,
    news: News,
}

enum News {
    Nothing,
    Message(Option<u64>, Bytes),
    Failed(Option<u64>, Trouble),
    /// `initialize` has brought a session.
    Session(HeaderValue),
    /// The server is of 2024-11-05 and takes messages there.
    FormerEndpoint(Arc<str>),
    /// Its stream ended, and the link with it.
    Over(Trouble),
    /// A message that has no answer was accepted, or not.
    Sent {
        is_initialized: bool,
        outcome: Result<(), Trouble>,
    },
}

/// One connection of the pool, seen from the link.
struct LaneHandle {
    jobs: mpsc::Sender<Box<Job>>,
    task: AbortHandle,
    /// The request whose answer it waits for.
    on: Option<u64>,
    /// It is busy with a word that has no answer.
    is_speaking: bool,
}

/// The link to one HTTP server.
pub(super) struct HttpLink {
    endpoint: Arc<Endpoint>,
    base: Common,
    /// The same with what was agreed on.
    common: Arc<Common>,
    session: Option<HeaderValue>,
    agreed: Option<Revision>,
    tasks: JoinSet<()>,
    lanes: HashMap<u64, LaneHandle>,
    lanes_made: u64,
    lanes_max: usize,
    /// Used last: last. So the first one is the first to be closed.
    idle: VecDeque<(u64, Instant)>,
    on: HashMap<u64, u64>,
    waiting: VecDeque<Box<Job>>,
    /// Words that have no answer, and wait for a lane: in order among themselves.
    words: VecDeque<Box<Job>>,
    /// Lanes that are busy with such.
    speaking: usize,
    /// Bytes of all that waits.
    waiting_bytes: usize,
    /// `notifications/initialized` is among what waits.
    initialized_waits: bool,
    /// `notifications/initialized` is on its way: what comes behind it must not overtake it.
    is_initializing: bool,
    standing: Option<AbortHandle>,
    /// The last `initialize`, as long as it may have to be sent in another way.
    initialize: Option<(u64, Bytes)>,
    /// The same, while a server of 2024-11-05 is asked where it takes messages.
    former_initialize: Option<(u64, Bytes)>,
    /// Where a server of 2024-11-05 takes messages.
    former: Option<Arc<str>>,
    over: Option<Trouble>,
    tell: mpsc::Sender<Delivery>,
    news: mpsc::Receiver<Delivery>,
    batch: Vec<Delivery>,
    arrived: VecDeque<(Option<u64>, Result<Bytes, Trouble>)>,
    current: Bytes,
    gossip: Gossip,
}

impl HttpLink {
    pub(super) fn new(
        address: Address,
        configured: &[(String, String)],
        limits: &Limits,
        gossip: Gossip,
    ) -> Result<Self, Trouble> {
        let target = address.target.as_str().into();
        let base = Common::new(&address.host, configured)?;
        let (tell, news) = mpsc::channel(NEWS_MAX);
        Ok(Self {
            endpoint: Arc::new(Endpoint {
                address,
                target,
                connect: limits.connect,
                message_bytes_max: limits.message_bytes_max,
            }),
            common: Arc::new(base.clone()),
            base,
            session: None,
            agreed: None,
            tasks: JoinSet::new(),
            lanes: HashMap::new(),
            lanes_made: 0,
            lanes_max: limits.http_connections_max.max(1),
            idle: VecDeque::new(),
            on: HashMap::new(),
            waiting: VecDeque::new(),
            words: VecDeque::new(),
            speaking: 0,
            waiting_bytes: 0,
            initialized_waits: false,
            is_initializing: false,
            standing: None,
            initialize: None,
            former_initialize: None,
            former: None,
            over: None,
            tell,
            news,
            batch: Vec::new(),
            arrived: VecDeque::new(),
            current: Bytes::new(),
            gossip,
        })
    }

    pub(super) fn put(&mut self, outgoing: Outgoing<'_>) {
        let kind = match outgoing.purpose {
            Purpose::Request { number, method, revision, .. } => {
                let is_initialize = method == "initialize";
                if is_initialize {
                    self.forget_session();
                }
                match self.former {
                    Some(_) => JobKind::OneWay { is_initialized: false, request: Some(number) },
                    None => JobKind::Request { number, is_legacy: revision.era() == Era::Legacy, is_initialize },
                }
            }
            Purpose::Notification { method, .. } => {
                JobKind::OneWay { is_initialized: method == "notifications/initialized", request: None }
            }
            Purpose::Response => JobKind::OneWay { is_initialized: false, request: None },
            Purpose::Cancel { number, revision } => {
                // Modern: closing the response stream is the cancellation (spec 2026-07-28
                // basic/transports/streamable-http#cancellation). Legacy: the notification is; nobody reads on either.
                let was_sent = self.stop(number);
                if (!was_sent && self.former.is_none()) || revision.era() == Era::Modern {
                    return;
                }
                JobKind::OneWay { is_initialized: false, request: None }
            }
        };
        if let JobKind::Request { number, is_initialize: true, .. } = kind {
            self.initialize = Some((number, Bytes::copy_from_slice(outgoing.text)));
        }
        let target = self.former.as_ref().unwrap_or(&self.endpoint.target);
        let order = self.common.post(target, &outgoing.purpose, outgoing.text);
        self.queue(order, kind);
    }

    fn queue(&mut self, order: Order, kind: JobKind) {
        self.waiting_bytes += order.text.len();
        let job = Box::new(Job { order, kind, common: Arc::clone(&self.common) });
        if job.is_word() {
            self.words.push_back(job);
        } else {
            self.initialized_waits |= job.is_initialized();
            self.waiting.push_back(job);
        }
        self.hand_out();
    }

    /// Bytes that no lane has taken yet.
    pub(super) fn unsent(&self) -> usize {
        self.waiting_bytes
    }

    /// Waits for something that [`Self::next`] gives, or for a free lane where messages wait for one.
    pub(super) async fn fill(&mut self) -> Result<(), Trouble> {
        let waited = self.backlog();
        while self.arrived.is_empty() && (waited == 0 || self.backlog() >= waited) {
            if let Some(trouble) = &self.over {
                return Err(trouble.clone());
            }
            // Never none: the link itself holds a sender.
            self.news.recv_many(&mut self.batch, NEWS_MAX).await;
            self.take_batch();
        }
        Ok(())
    }

    /// Waits until every message has a lane; what comes meanwhile is kept.
    pub(super) async fn flush(&mut self) -> Result<(), Trouble> {
        while self.backlog() > 0 {
            self.news.recv_many(&mut self.batch, NEWS_MAX).await;
            self.take_batch();
        }
        Ok(())
    }

    /// Messages that no lane has taken yet.
    fn backlog(&self) -> usize {
        self.waiting.len() + self.words.len()
    }

    pub(super) fn next(&mut self) -> Option<Arrived<'_>> {
        let (on, came) = self.arrived.pop_front()?;
        Some(match came {
            Ok(text) => {
                self.current = text;
                Arrived { on, what: What::Message(&self.current) }
            }
            Err(trouble) => Arrived { on, what: What::Failed(trouble) },
        })
    }

    pub(super) fn agreed(&mut self, revision: Revision) {
        self.agreed = Some(revision);
        self.agree();
    }

    /// Ends the session (spec 2025-11-25 basic/transports#session-management).
    pub(super) async fn close(mut self) {
        self.tasks.abort_all();
        if self.session.is_none() {
            return;
        }
        let order = self.common.delete(&self.endpoint.target);
        // A server may have no such thing (405), or be gone.
        let _ = timeout(DELETE_MAX, Wire::new(self.endpoint).ask(&order)).await;
    }

    fn take_batch(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        for delivery in batch.drain(..) {
            if delivery.is_done {
                self.free(delivery.lane);
            }
            match delivery.news {
                News::Nothing => {}
                News::Failed(Some(number), trouble)
                    if former::may_be(&trouble) && self.initialize.as_ref().is_some_and(|it| it.0 == number) =>
                {
                    self.try_former(number, trouble);
                }
                News::Message(on, text) => self.arrived.push_back((on, Ok(text))),
                News::Failed(on, trouble) => self.arrived.push_back((on, Err(trouble))),
                News::Session(session) => {
                    self.session = Some(session);
                    self.agree();
                }
                News::FormerEndpoint(target) => {
                    if let Some((number, text)) = self.former_initialize.take() {
                        let order = self.common.post(&target, &Purpose::Response, &text);
                        self.queue(order, JobKind::OneWay { is_initialized: false, request: Some(number) });
                    }
                    self.former = Some(target);
                }
                News::Over(trouble) => self.over = Some(trouble),
                News::Sent { is_initialized, outcome } => self.sent(is_initialized, outcome),
            }
        }
        self.batch = batch;
        self.hand_out();
    }

    /// Tries the transport of 2024-11-05 after a refusal that a server of that time would give.
    fn try_former(&mut self, number: u64, refusal: Trouble) {
        // Once: the same refusal, given again, is the last word.
        self.former_initialize = self.initialize.take();
        let listening =
            former::listen(Arc::clone(&self.endpoint), self.base.clone(), number, refusal, self.tell.clone());
        self.tasks.spawn(listening);
    }

    fn sent(&mut self, is_initialized: bool, outcome: Result<(), Trouble>) {
        match outcome {
            // Whoever waits for anything in that session waits in vain.
            Err(trouble) if trouble.kind == TroubleKind::SessionLost => self.arrived.push_back((None, Err(trouble))),
            Err(trouble) => {
                self.gossip.complain("did not accept a message that has no answer", trouble.to_string().as_bytes());
            }
            Ok(()) => {}
        }
        if is_initialized {
            self.is_initializing = false;
            let is_legacy = self.agreed.is_some_and(|revision| revision.era() == Era::Legacy);
            if is_legacy && self.standing.is_none() && self.former.is_none() {
                let common = Arc::clone(&self.common);
                let listening = standing::listen(Arc::clone(&self.endpoint), common, self.tell.clone());
                self.standing = Some(self.tasks.spawn(listening));
            }
        }
    }

    /// From now on requests say what is agreed on.
    fn agree(&mut self) {
        self.common = Arc::new(self.base.with_agreed(self.session.as_ref(), self.agreed));
    }

    fn forget_session(&mut self) {
        (self.session, self.agreed, self.is_initializing) = (None, None, false);
        self.agree();
        if let Some(standing) = self.standing.take() {
            standing.abort();
        }
    }

    /// Gives waiting messages to lanes, as far as there are any.
    fn hand_out(&mut self) {
        while !self.is_initializing && !self.waiting.is_empty() {
            let Some(number) = self.free_lane(false) else { break };
            let Some(job) = self.waiting.pop_front() else { return };
            if let Err(job) = self.assign(number, job) {
                self.waiting.push_front(job);
            }
        }
        while !self.is_initializing && !self.initialized_waits && !self.words.is_empty() {
            let Some(number) = self.free_lane(true) else { return };
            let Some(job) = self.words.pop_front() else { return };
            if let Err(job) = self.assign(number, job) {
                self.words.push_front(job);
            }
        }
    }

    /// Gives a message to a free lane; back if that has panicked: another one will do.
    fn assign(&mut self, number: u64, job: Box<Job>) -> Result<(), Box<Job>> {
        let Some(lane) = self.lanes.get_mut(&number) else { return Err(job) };
        let (kind, bytes, is_word, is_initialized) =
            (job.kind, job.order.text.len(), job.is_word(), job.is_initialized());
        if let Err(refused) = lane.jobs.try_send(job) {
            self.remove(number);
            return Err(refused.into_inner());
        }
        lane.is_speaking = is_word;
        self.speaking += usize::from(is_word);
        self.waiting_bytes -= bytes;
        if is_initialized {
            (self.is_initializing, self.initialized_waits) = (true, false);
        }
        if let JobKind::Request { number: request, .. } = kind {
            lane.on = Some(request);
            self.on.insert(request, number);
        }
        Ok(())
    }

    /// The lane used last, whose connection is the likeliest to be good; or a new one.
    fn free_lane(&mut self, to_speak: bool) -> Option<u64> {
        let asking = self.lanes.len() - self.idle.len() - self.speaking;
        let has_room = if to_speak { self.speaking < SPEAKING_MAX } else { asking < self.lanes_max };
        if !has_room {
            return None;
        }
        if let Some((number, _)) = self.idle.pop_back() {
            return Some(number);
        }
        let number = self.lanes_made;
        self.lanes_made += 1;
        let (jobs, to_do) = mpsc::channel(1);
        let lane = Lane { number, endpoint: Arc::clone(&self.endpoint), news: self.tell.clone() };
        let task = self.tasks.spawn(lane.run(to_do));
        self.lanes.insert(number, LaneHandle { jobs, task, on: None, is_speaking: false });
        Some(number)
    }

    fn free(&mut self, number: u64) {
        // One that was stopped meanwhile is gone.
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        if let Some(request) = lane.on.take() {
            self.on.remove(&request);
        }
        self.speaking -= usize::from(std::mem::take(&mut lane.is_speaking));
        let now = Instant::now();
        self.idle.push_back((number, now));
        while let Some(&(first, since)) = self.idle.front() {
            if now.duration_since(since) < LANE_IDLE_MAX {
                break;
            }
            self.idle.pop_front();
            self.lanes.remove(&first);
        }
        // Lanes that have ended.
        while self.tasks.try_join_next().is_some() {}
    }

    /// Whether the request had been given to a lane, whose connection ends with it.
    fn stop(&mut self, request: u64) -> bool {
        let is_it = |job: &Job| matches!(job.kind, JobKind::Request { number, .. } if number == request);
        if let Some(at) = self.waiting.iter().position(|job| is_it(job)) {
            if let Some(job) = self.waiting.remove(at) {
                self.waiting_bytes -= job.order.text.len();
            }
            return false;
        }
        let Some(number) = self.on.get(&request).copied() else { return false };
        self.remove(number);
        true
    }

    fn remove(&mut self, number: u64) {
        if let Some(lane) = self.lanes.remove(&number) {
            lane.task.abort();
            self.speaking -= usize::from(lane.is_speaking);
            if let Some(request) = lane.on {
                self.on.remove(&request);
            }
        }
    }
}

#[cfg(test)]
mod tests;
