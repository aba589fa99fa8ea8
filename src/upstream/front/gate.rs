//! Joins the machine in front of an upstream to tickets, counters and the log.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::same::Same;
use super::{Ending, Front, Knobs, Next, Offered, Refusal, Shed, Who};
use crate::mcp::{List, Method, Offer, Parcel, bridge};
use crate::meter::Named;
use crate::upstream::handle::{Errand, Task, Upstream};
use crate::upstream::record;
use crate::upstream::trouble::{Trouble, TroubleKind};
use crate::wire::json;

/// The bit of a ticket's slot that says that its call waits here; no mux uses it.
const QUEUED: u64 = 1 << 63;

/// When who was kept in vain may come again: a link may be there by then.
const RETRY_KEPT: Duration = Duration::from_secs(1);

/// Whether a call under this slot waits in front of an upstream, and is not with it yet.
pub(in crate::upstream) const fn is_queued(slot: u64) -> bool {
    slot & QUEUED != 0
}

/// A call that may be sent.
pub(in crate::upstream) struct Go {
    pub(in crate::upstream) task: Box<Task>,
    /// When it came.
    pub(in crate::upstream) arrived: Instant,
    /// How often it was sent.
    pub(in crate::upstream) attempts: u8,
}

/// What stands in front of one upstream, or nothing, in front of a client's own session.
pub(in crate::upstream) struct Gate {
    front: Front<Box<Task>>,
    upstream: Arc<Upstream>,
    queue_max: usize,
    /// In front of a client's own session: all that comes has passed the upstream's gate.
    is_open: bool,
    /// Tools that may be called twice.
    repeatable: HashSet<Box<str>>,
    same: Same,
    /// Calls of which no byte was sent when their link ended, for the next one.
    kept: Vec<Go>,
    /// From arrival to answer; zero: for ever.
    deadline: Duration,
    /// Whether that is from the arrival at the first upstream that was asked.
    is_whole: bool,
    has_news: bool,
}

/// A place at an upstream whose clients have sessions of their own: dropping it gives the place back, wherever the call
/// was then.
pub struct Permit {
    upstream: Arc<Upstream>,
    seen: Option<(Ending, Instant)>,
}

impl Permit {
    /// Of a call that has passed the gate.
    pub(in crate::upstream) const fn new(upstream: Arc<Upstream>) -> Self {
        Self { upstream, seen: None }
    }

    /// How the call that it is for has ended, and when it was sent.
    pub(in crate::upstream) const fn saw(&mut self, ending: Ending, sent: Instant) {
        self.seen = Some((ending, sent));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.upstream.post(Errand::Served { seen: self.seen });
    }
}

impl Gate {
    pub(in crate::upstream) fn new(upstream: Arc<Upstream>, in_flight_max: usize, knobs: Knobs, now: Instant) -> Self {
        let mut seed = [0; 8];
        // Without randomness there is no jitter, and no harm.
        let _ = getrandom::fill(&mut seed);
        let front = Front::new(in_flight_max, knobs, u64::from_le_bytes(seed), now);
        let gate = Self {
            front,
            upstream,
            queue_max: knobs.queue_max,
            is_open: false,
            repeatable: HashSet::new(),
            same: Same::default(),
            kept: Vec::new(),
            deadline: knobs.deadline,
            is_whole: knobs.is_whole,
            has_news: false,
        };
        gate.count();
        gate
    }

    /// One that everything passes.
    pub(in crate::upstream) fn open(upstream: Arc<Upstream>, now: Instant) -> Self {
        let knobs = Knobs { queue_max: 0, breaker_ratio_percent: 0, retry_percent: 0, ..Knobs::default() };
        let front = Front::new(usize::MAX, knobs, 0, now);
        Self {
            front,
            upstream,
            queue_max: 0,
            is_open: true,
            repeatable: HashSet::new(),
            same: Same::default(),
            kept: Vec::new(),
            deadline: knobs.deadline,
            is_whole: true,
            has_news: false,
        }
    }

    /// Takes a call that has come: it is given back to be sent now, or waits, or is refused.
    #[inline]
    pub(in crate::upstream) fn take(&mut self, task: Box<Task>, now: Instant) -> Option<Go> {
        let mut task = if self.same.is_read(&task.parcel) { self.join(task)? } else { task };
        let came = *task.arrived.get_or_insert(now);
        let arrived = if self.is_whole { came } else { now };
        // It has come from another upstream, and too late.
        if arrived < now && !self.is_open && !self.deadline.is_zero() && now >= arrived + self.deadline {
            self.refuse(task, Refusal { why: Shed::Expired, retry_after: RETRY_KEPT });
            return None;
        }
        let who = who(&task);
        match self.front.offer(task, who, arrived, now) {
            Offered::Go(task) => Some(Go { task, arrived, attempts: 0 }),
            Offered::Waits(number) => {
                self.wait(number);
                None
            }
            Offered::Refused(task, refusal) => {
                self.refuse(task, refusal);
                None
            }
        }
    }

    /// A read waits for the same one where that is on its way already; not where clients have sessions of their own, which
    /// may see different things.
    fn join(&mut self, task: Box<Task>) -> Option<Box<Task>> {
        if self.is_open || self.upstream.per_session || Same::is_own(&task) {
            return Some(task);
        }
        let told = record::is_logged().then(|| task.parcel.clone());
        self.upstream.counts.reads.fetch_add(1, Relaxed);
        let task = self.same.join(task);
        if task.is_none() {
            self.upstream.counts.joined.fetch_add(1, Relaxed);
            if let Some(parcel) = told {
                self.upstream.log(&parcel, Duration::ZERO, 0, 0, "joined");
            }
        }
        task
    }

    /// A call was answered, or failed when it had been sent: what it may have changed, reads from now on are to see.
    #[inline]
    pub(in crate::upstream) fn ended(&mut self, call: &Parcel) {
        if call.method == Method::CallTool && !self.same.is_read(call) {
            self.same.changed();
        }
    }

    /// The server says that something has changed.
    pub(in crate::upstream) const fn changed(&mut self) {
        self.same.changed();
    }

    /// What has waited and is to be sent now; to be asked until there is nothing.
    #[inline]
    pub(in crate::upstream) fn next(&mut self, now: Instant) -> Option<Go> {
        if self.front.is_idle() {
            if self.has_news || self.front.has_turned() {
                self.show();
            }
            return None;
        }
        while let Some(next) = self.front.next(now) {
            self.has_news = true;
            match next {
                Next::Send(waiting) => {
                    let waited = now.saturating_duration_since(waiting.entered);
                    self.upstream.counts.waited(waited);
                    return Some(Go { task: waiting.call, arrived: waiting.arrived, attempts: waiting.attempts });
                }
                Next::Refuse(task, refusal) => self.refuse(task, refusal),
            }
        }
        self.show();
        None
    }

    /// Refuses those whose time is over, whether there is a link or not.
    pub(in crate::upstream) fn lapse(&mut self, now: Instant) {
        while let Some(Next::Refuse(task, refusal)) = self.front.lapse(now) {
            self.refuse(task, refusal);
        }
        let is_over = |go: &mut Go| !self.deadline.is_zero() && now >= go.arrived + self.deadline;
        for Go { task, .. } in self.kept.extract_if(.., is_over).collect::<Vec<_>>() {
            self.refuse(task, Refusal { why: Shed::Expired, retry_after: RETRY_KEPT });
        }
        if self.has_news {
            self.show();
        }
    }

    /// When [`Self::lapse`] has something to do.
    pub(in crate::upstream) fn lapses(&self) -> Option<Instant> {
        let kept = self.kept.iter().map(|go| go.arrived + self.deadline).min().filter(|_| !self.deadline.is_zero());
        [self.front.lapses(), kept].into_iter().flatten().min()
    }

    /// Keeps a call for the next link.
    pub(in crate::upstream) fn keep(&mut self, go: Go) {
        self.kept.push(go);
    }

    /// What was kept: in flight no longer.
    pub(in crate::upstream) fn take_kept(&mut self) -> Vec<Go> {
        std::mem::take(&mut self.kept)
    }

    /// The link carries so many calls at once.
    pub(in crate::upstream) fn carry(&mut self, most: usize) {
        if !self.is_open {
            self.front.limit.carry(most);
            self.count();
        }
    }

    /// When [`Self::next`] has something to do though nothing happens.
    pub(in crate::upstream) fn due(&self) -> Option<Instant> {
        self.front.due()
    }

    /// Nobody waits any more for the call under this slot.
    pub(in crate::upstream) fn cancel(&mut self, slot: u64) {
        let number = slot & !QUEUED;
        if let Some(task) = self.front.get_mut(number)
            && (task.is_inherited() || task.inherit(&self.upstream, slot))
        {
            return;
        }
        if let Some(task) = self.front.cancel(number) {
            self.upstream.log(&task.parcel, Duration::ZERO, 0, 0, "cancelled");
            task.ticket.discard();
            self.has_news = true;
        }
    }

    /// All that wait are refused: the upstream is away.
    pub(in crate::upstream) fn refuse_all(&mut self, trouble: &Trouble) {
        while let Some(task) = self.front.drain() {
            self.upstream.turn_down(task, trouble, None);
        }
        self.show();
    }

    /// A call is in flight again that was so before.
    pub(in crate::upstream) fn enter(&mut self, now: Instant) {
        self.front.enter(now);
    }

    /// A call is in flight no longer.
    #[inline]
    pub(in crate::upstream) const fn left(&mut self) {
        self.front.left();
    }

    /// How a call has ended that has just left, and when it was sent.
    #[inline]
    pub(in crate::upstream) fn saw(&mut self, task: &mut Task, ending: Ending, sent: Instant, now: Instant) {
        match &mut task.permit {
            Some(permit) => permit.saw(ending, sent),
            None => self.heard(ending, sent, now),
        }
    }

    /// The same, of a call of a client's own session; and its place is free.
    pub(in crate::upstream) fn served(&mut self, seen: Option<(Ending, Instant)>, now: Instant) {
        self.front.left();
        if let Some((ending, sent)) = seen {
            self.heard(ending, sent, now);
        }
    }

    #[inline]
    fn heard(&mut self, ending: Ending, sent: Instant, now: Instant) {
        if self.is_open {
            return;
        }
        if self.front.saw(ending, sent, now) || !matches!(ending, Ending::Answered(_)) {
            self.has_news = true;
        }
    }

    /// What the server offers now: some of it may be called twice.
    pub(in crate::upstream) fn offered(&mut self, offer: &Offer) {
        self.repeatable = repeatable(offer);
        self.same.offered(offer);
    }

    /// Takes a call that has failed if it is to be tried again: surely it was not processed, or it changes nothing; it was
    /// sent `attempts` times.
    ///
    /// # Errors
    /// The call, if it is not.
    pub(in crate::upstream) fn again(
        &mut self,
        task: Box<Task>,
        trouble: &Trouble,
        (arrived, attempts): (Instant, u8),
        now: Instant,
    ) -> Result<(), Box<Task>> {
        if self.is_open || !trouble.may_pass() || !(trouble.is_safe_to_repeat() || self.changes_nothing(&task)) {
            return Err(task);
        }
        // What was answered to a question holds for one try.
        if bridge::retry(&task.parcel.params).is_some() || task.parcel.params.contains("\"inputResponses\"") {
            return Err(task);
        }
        let who = who(&task);
        let number = self.front.retry(task, who, (arrived, attempts), now)?;
        self.upstream.counts.retries.fetch_add(1, Relaxed);
        self.wait(number);
        Ok(())
    }

    /// Whether a call may be made twice.
    pub(in crate::upstream) fn changes_nothing(&self, task: &Task) -> bool {
        match task.parcel.method {
            Method::ReadResource | Method::GetPrompt | Method::Complete => true,
            Method::CallTool => self.repeatable.contains(&task.parcel.name),
        }
    }

    /// From now on a cancellation finds the call here.
    fn wait(&mut self, number: u64) {
        self.has_news = true;
        let slot = QUEUED | number;
        if self.front.get(number).is_some_and(|task| !task.ticket.serve_as(slot)) {
            self.cancel(slot);
        }
    }

    fn refuse(&mut self, task: Box<Task>, Refusal { why, retry_after }: Refusal) {
        self.has_news = true;
        self.upstream.counts.shed.add(why);
        let detail = match why {
            Shed::QueueFull => format!("{} calls wait for it already (queue_max)", self.queue_max),
            Shed::TooLate => "too many calls wait for it to serve this one in time".to_owned(),
            Shed::OverShare => "others made room who had less than their share of its queue".to_owned(),
            Shed::Expired => "no place became free in time".to_owned(),
            Shed::BreakerOpen => "it mostly failed lately, and is left alone for a while".to_owned(),
        };
        let trouble = Trouble::new(TroubleKind::Overloaded, detail).named(why.name());
        match why {
            // Nobody else would serve it in time either.
            Shed::Expired => self.upstream.give_up(*task, &trouble, Some(retry_after)),
            _ => self.upstream.turn_down(task, &trouble, Some(retry_after)),
        }
    }

    /// Tells the counters, and the log when the breaker has turned.
    fn show(&mut self) {
        self.has_news = false;
        if self.is_open {
            return;
        }
        self.count();
        if self.front.has_turned() {
            self.front.told();
            let (upstream, breaker) = (&*self.upstream.name, self.front.breaker().name());
            tracing::warn!(upstream, breaker, "the breaker has turned");
        }
    }

    fn count(&self) {
        let counts = &self.upstream.counts;
        counts.limit.store(self.front.limit() as u64, Relaxed);
        counts.queued.store(self.front.queued() as u64, Relaxed);
        counts.queue_max.store(self.queue_max as u64, Relaxed);
        counts.breaker.store(self.front.breaker().index() as u64, Relaxed);
    }
}

fn who(task: &Task) -> Who {
    let client = &task.client;
    Who { tenant: client.tenant, share: client.share, client: client.id }
}

/// What a gateway behind us tells its clients with an error.
fn retry_after(error: &str) -> Option<Duration> {
    let data = json::pick(error, ["data"]).ok()?[0]?;
    let wait = json::pick(data, ["retryAfterMs"]).ok()?[0]?;
    wait.parse().ok().map(Duration::from_millis)
}

/// The tools that their server calls read-only or idempotent.
fn repeatable(offer: &Offer) -> HashSet<Box<str>> {
    let is_true = |annotations: &str| {
        let hints = json::pick(annotations, ["readOnlyHint", "idempotentHint"]).unwrap_or_default();
        hints.contains(&Some("true"))
    };
    let tools = offer.lists[List::Tools.index()].iter();
    let annotations = |text| json::pick(text, ["annotations"]).ok().and_then(|[annotations]| annotations);
    tools.filter(|tool| annotations(&tool.text).is_some_and(is_true)).map(|tool| tool.key.clone()).collect()
}

impl Ending {
    /// What a trouble says of its server; nothing, if it is about this call alone.
    pub(in crate::upstream) fn of(trouble: &Trouble) -> Option<Self> {
        match trouble.kind {
            TroubleKind::Overloaded => Some(Self::Overloaded(trouble.retry_after)),
            TroubleKind::Mute => Some(Self::TimedOut),
            TroubleKind::HttpStatus if trouble.status.is_none_or(|status| status < 500) => None,
            TroubleKind::HttpStatus
            | TroubleKind::NotStarted
            | TroubleKind::Exited
            | TroubleKind::Refused
            | TroubleKind::Lost
            | TroubleKind::Handshake => Some(Self::Failed),
            TroubleKind::TooLong
            | TroubleKind::Garbage
            | TroubleKind::NotUtf8
            | TroubleKind::Redirected
            | TroubleKind::NotMcp
            | TroubleKind::SessionLost
            | TroubleKind::Untrusted
            | TroubleKind::Unauthorized => None,
        }
    }

    /// What an error of the server's own says: a gateway behind us refuses as we do.
    pub(in crate::upstream) fn of_error(error: &str) -> Option<Self> {
        let code = bridge::code(error).filter(|code| matches!(code, 429 | 503));
        code.and_then(|_| retry_after(error)).map(|wait| Self::Overloaded(Some(wait)))
    }
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            queue_max: 1_000,
            deadline: Duration::from_secs(300),
            is_whole: false,
            target: Duration::ZERO,
            breaker_ratio_percent: 50,
            breaker_calls_min: 20,
            breaker_open: Duration::from_secs(1),
            retry_percent: 10,
        }
    }
}
