//! One upstream's whole life: connect, probe, gather, serve; when that fails, say so to all who wait, pause, and again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use super::attend::{at, attend, ended, refuse, release, route};
use super::door::Door;
use super::front::Gate;
use super::handle::{Client, Errand, State, Upstream};
use super::link::{Kind, Link, Target};
use super::lists::Lists;
use super::mux::{Mux, Own, Terms};
use super::offers::Standing;
use super::probe::{Agreed, Finding, Question, judge, late};
use super::sessions::Sessions;
use super::shared::{Knobs, Shared};
use super::trouble::{Trouble, TroubleKind};
use super::turn::{LONG_BYTES, LONG_CALLS, Turns, apart};
use crate::actor::News;
use crate::mcp::param_headers::ParamHeaders;
use crate::mcp::{Era, Features, Offer, Revision, Topics, bridge};

/// Bytes that may wait to be sent before no more errands are taken: what waits in the queue can still be cancelled.
const UNSENT_HIGH: usize = 1 << 20;
/// How long calls wait while a lost connection is opened anew, before they are refused.
const HOLD: Duration = Duration::from_millis(1_500);
/// How long, once it is known that a session is lost, the other calls of it may be told so themselves: then they may be
/// repeated, too.
const FAREWELL: Duration = Duration::from_millis(250);
/// How often changes of resources are told: each telling asks all clients whether they care.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// A link that has served this long was a good one: the pauses begin anew.
const GOOD: Duration = Duration::from_secs(10);
/// Longest wait for a page of a list, and for the answer to `initialize`.
pub(super) const OWN_WAIT: Duration = Duration::from_secs(30);

/// Lives until `stop` says so.
pub async fn live(
    upstream: Arc<Upstream>,
    target: Target,
    knobs: Knobs,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let mut pauses = Pauses::new(&knobs);
    let mut life = Life::new(upstream, target, knobs, shared, None, (0, 0));
    let mut hold = Duration::ZERO;
    loop {
        let trouble = match life.once(hold, &mut stop).await {
            Ok(()) => break,
            Err(trouble) => trouble,
        };
        let served = life.serving.map(|since| since.elapsed());
        let pause = pauses.after(served, &trouble);
        life.down(&trouble, pause);
        // Not beyond the deadlines of those who come.
        let deadline = Some(life.knobs.front.deadline).filter(|deadline| !deadline.is_zero());
        hold = if served.is_some() { deadline.map_or(HOLD, |deadline| HOLD.min(deadline)) } else { Duration::ZERO };
        tokio::select! {
            () = stopped(&mut stop) => break,
            () = life.refuse_for(&trouble, pause) => {}
        }
    }
    life.end().await;
}

/// Until all is to stop, or nobody is there who could say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// What of an upstream outlives its links. Also of a session of a single client, which has no catalogue.
pub(super) struct Life {
    pub(super) upstream: Arc<Upstream>,
    target: Target,
    pub(super) knobs: Knobs,
    pub(super) shared: Arc<Shared>,
    pub(super) mux: Mux,
    /// The client's own door, where it has a session of its own.
    door: Option<Arc<Door>>,
    /// What was taken in there while there was no link, and needs one.
    first: Option<Errand>,
    /// What is offered to a legacy server.
    capabilities: String,
    pub(super) last: Option<(Arc<Offer>, ParamHeaders)>,
    /// Where each client has a session of its own.
    sessions: Option<Sessions>,
    /// Since when the last link has served, if it came so far.
    pub(super) serving: Option<Instant>,
}

impl Life {
    fn new(
        upstream: Arc<Upstream>,
        target: Target,
        knobs: Knobs,
        shared: Arc<Shared>,
        client: Option<Client>,
        (tag, floor): (u64, u32),
    ) -> Self {
        let capabilities = bridge::offered(client.as_ref().and_then(|client| client.profile.as_deref())).to_owned();
        let terms = Terms { revision: Revision::NEWEST, features: Features::NONE, http: false, private: client };
        let mux =
            Mux::new(Arc::clone(&upstream), Arc::clone(&shared), knobs.clone(), terms, tag, floor, Instant::now());
        let sessions = (upstream.per_session && tag == 0)
            .then(|| Sessions::new(Arc::clone(&upstream), target.clone(), knobs.clone(), Arc::clone(&shared)));
        let (door, first, last, serving) = (None, None, None, None);
        Self { upstream, target, knobs, shared, mux, door, first, capabilities, last, sessions, serving }
    }

    /// The life of a session of a single client, whose errands come through `door`.
    pub(super) fn private(
        upstream: Arc<Upstream>,
        target: Target,
        knobs: Knobs,
        shared: Arc<Shared>,
        client: Client,
        numbers: (u64, u32),
        door: Arc<Door>,
    ) -> Self {
        let life = Self::new(upstream, target, knobs, shared, Some(client), numbers);
        Self { door: Some(door), ..life }
    }

    pub(super) fn is_private(&self) -> bool {
        self.door.is_some()
    }

    /// One link, from its opening to its end.
    ///
    /// # Errors
    /// How it ended, if not by `stop`.
    pub(super) async fn once(&mut self, hold: Duration, stop: &mut watch::Receiver<bool>) -> Result<(), Trouble> {
        self.serving = None;
        self.show(State::Starting);
        let (upstream, door) = (Arc::clone(&self.upstream), self.door.clone());
        let mut aside = Vec::new();
        let mut sessions = self.sessions.take();
        let passes_all = Gate::open(Arc::clone(&self.upstream), Instant::now());
        let mut gate = std::mem::replace(&mut self.mux.gate, passes_all);
        let begun = tokio::select! {
            () = stopped(stop) => None,
            begun = self.begin() => Some(begun),
            // A session of a single client lets its calls wait.
            never = attend(&upstream, &mut sessions, &mut gate, hold, &mut aside), if door.is_none() => match never {},
        };
        (self.sessions, self.mux.gate) = (sessions, gate);
        for errand in aside {
            self.mux.note(errand);
        }
        self.mux.end_probes(Instant::now());
        let Some(begun) = begun else { return Ok(()) };
        let (mut link, agreed) = begun.inspect_err(|trouble| self.mux.drop_kept(trouble))?;
        self.serving = Some(Instant::now());
        let ended = self.serve(&mut link, &agreed, stop).await;
        let now = Instant::now();
        apart(self.mux.calls() >= LONG_CALLS, || match &ended {
            Err(trouble) => self.mux.end(trouble, now, &link),
            Ok(()) => {
                self.mux.end(&stopping(), now, &link);
                self.mux.drop_kept(&stopping());
            }
        });
        link.close().await;
        ended
    }

    /// Connects, and finds out who is there.
    async fn begin(&mut self) -> Result<(Link, Agreed), Trouble> {
        let mut link = Link::open(&self.target, &self.upstream.name, &self.knobs.limits).await?;
        self.show(State::Probing);
        let mut question = Question::first(self.knobs.era);
        loop {
            match self.ask(&mut link, question).await? {
                Finding::Ask(next) => question = next,
                Finding::Hopeless(trouble) => return Err(trouble),
                Finding::Agreed(agreed) => {
                    self.agree(&mut link, &agreed);
                    return Ok((link, *agreed));
                }
            }
        }
    }

    fn agree(&mut self, link: &mut Link, agreed: &Agreed) {
        let http = link.kind() == Kind::Http;
        self.mux.agreed(agreed.revision, agreed.features, http);
        link.agreed(agreed.revision);
        if agreed.revision.era() == Era::Legacy {
            self.mux.notify("notifications/initialized", link);
        }
        if !self.is_private() {
            self.upstream.look(|view| {
                view.revision = Some(agreed.revision);
                view.server_info.clone_from(&agreed.server_info);
            });
        }
        let version = agreed.revision.as_str();
        tracing::info!(upstream = &*self.upstream.name, revision = version, "connected");
    }

    /// One question, and what its answer says; or what a late answer to an earlier one does. What else comes meanwhile is
    /// handled.
    async fn ask(&mut self, link: &mut Link, question: Question) -> Result<Finding, Trouble> {
        let wait = if question.is_probe(self.knobs.era) { self.knobs.probe } else { OWN_WAIT };
        self.mux.speak_as(question.revision());
        let params = question.params(&self.capabilities);
        self.mux.ask(Own::Probe, question.method(), &params, wait, Instant::now(), link);
        loop {
            for (own, heard) in std::mem::take(&mut self.mux.heard) {
                let finding = match own {
                    Own::LateProbe => late(&heard, self.knobs.era),
                    _ => Some(judge(question, &heard, self.knobs.era)),
                };
                if let Some(finding) = finding {
                    self.mux.lost = None;
                    return Ok(finding);
                }
            }
            if let Some(trouble) = self.mux.lost.take() {
                return Err(trouble);
            }
            let deadline = self.mux.deadline().unwrap_or_else(|| Instant::now() + wait);
            tokio::select! {
                filled = link.fill() => filled?,
                () = sleep_until(deadline.into()) => {}
            }
            self.hear(link, Instant::now());
        }
    }

    /// Handles all that has come, and says what is to be said about it.
    fn hear(&mut self, link: &mut Link, now: Instant) {
        while let Some(arrived) = link.next() {
            apart(arrived.bytes() >= LONG_BYTES, || self.mux.handle_arrived(&arrived, now));
        }
        self.mux.bells.ring();
        self.mux.check(now, link);
        self.mux.speak(now, link);
    }

    /// Serves until the link, or everything, ends.
    async fn serve(
        &mut self,
        link: &mut Link,
        agreed: &Agreed,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), Trouble> {
        let mut lists = Lists::new(!self.is_private());
        let upstream = Arc::clone(&self.upstream);
        let own_door = self.door.clone();
        let door: &Door = own_door.as_deref().unwrap_or_else(|| upstream.door());
        let mut now = Instant::now();
        self.mux.reopen(self.shared.loudness.least(), now, link);
        let (mut idle_since, mut tell_at, mut lost_until) = (now, now, None);
        let (mut alarm, mut turns) = (Box::pin(sleep(Duration::ZERO)), Turns::default());
        loop {
            // Once more even if nobody rang: what was left for the high mark.
            door.quiet();
            while lost_until.is_none()
                && link.unsent() < UNSENT_HIGH
                && let Some(errand) = self.first.take().or_else(|| door.collect())
            {
                if matches!(errand, Errand::Leave { .. }) && self.is_private() {
                    return Ok(());
                }
                if let Some(errand) = route(&mut self.sessions, &mut self.mux.gate, errand, now) {
                    self.mux.handle_errand(errand, now, link);
                }
                if turns.pass().await {
                    // The link is heard before what may have come meanwhile.
                    door.ring();
                    now = Instant::now();
                    break;
                }
            }
            release(&mut self.sessions, &mut self.mux.gate, now);
            self.hear(link, now);
            apart(self.mux.heard_bytes() >= LONG_BYTES, || self.keep_lists(&mut lists, agreed, now, link));
            if now >= tell_at && !self.mux.updated.is_empty() {
                tell_at = now + TELL_EVERY;
                let only = self.mux.terms().private.as_ref().map(|client| client.id);
                for uri in self.mux.updated.drain(..) {
                    (self.shared.spread)(News { topic: Topics::UPDATED.0, subject: Some(uri), only });
                }
            }
            if let Some(trouble) = &self.mux.lost {
                let until = *lost_until.get_or_insert(now + FAREWELL);
                if !self.mux.has_calls() || now >= until {
                    return Err(trouble.clone());
                }
            }
            if self.mux.is_busy() || !self.is_private() {
                idle_since = now;
            } else if now.saturating_duration_since(idle_since) >= self.knobs.session_idle {
                return Ok(());
            }
            let idle = self.is_private().then(|| idle_since + self.knobs.session_idle);
            let tell = (!self.mux.updated.is_empty()).then_some(tell_at);
            let due = [tell, self.mux.deadline(), lists.due, idle, lost_until].into_iter().flatten().min();
            let due = due.unwrap_or_else(|| now + Duration::from_secs(3_600)).max(now + Duration::from_millis(1));
            if alarm.deadline() != due.into() {
                alarm.as_mut().reset(due.into());
            }
            tokio::select! {
                filled = link.fill() => filled?,
                () = door.rung(), if lost_until.is_none() && link.unsent() < UNSENT_HIGH => {}
                () = &mut alarm => {}
                () = ended(&mut self.sessions) => {}
                () = stopped(stop) => return Ok(()),
            }
            now = Instant::now();
        }
    }

    pub(super) fn show(&self, state: State) {
        if !self.is_private() {
            self.upstream.look(|view| {
                view.state = state;
                view.again = None;
            });
        }
    }

    fn down(&mut self, trouble: &Trouble, pause: Duration) {
        self.upstream.counts.restarts.fetch_add(1, Relaxed);
        let name = &*self.upstream.name;
        tracing::warn!(upstream = name, why = %trouble, again_ms = pause.as_millis(), "an upstream is down");
        self.upstream.look(|view| {
            view.state = State::Down;
            view.why = Some(trouble.clone());
            view.again = Some(Instant::now() + pause);
        });
        if !pause.is_zero() {
            (self.shared.offers)(&self.upstream, Standing::Gone);
        }
    }

    /// A session of a single client has lost its link: waits until it is to be opened anew, if that is needed for what its
    /// client watches, which is so after a pause, or as soon as the client asks for something. False: it is over.
    pub(super) async fn rest(
        &mut self,
        pauses: &mut Pauses,
        trouble: &Trouble,
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        let Some(door) = self.door.clone().filter(|_| self.mux.is_watched()) else {
            if let Some(errand) = self.first.take() {
                refuse(&self.upstream, errand, trouble, None);
            }
            return false;
        };
        let until = Instant::now() + pauses.after(self.serving.map(|since| since.elapsed()), trouble);
        // Those who came while it was connected to in vain.
        while let Some(errand) = self.first.take().or_else(|| door.collect()) {
            if matches!(errand, Errand::Leave { .. }) {
                return false;
            }
            if let Some(errand) = self.mux.note(errand) {
                refuse(&self.upstream, errand, trouble, None);
            }
        }
        while self.mux.is_watched() {
            tokio::select! {
                () = sleep_until(until.into()) => return true,
                () = stopped(stop) => return false,
                () = door.rung() => {}
            }
            door.quiet();
            while let Some(errand) = door.collect() {
                match errand {
                    Errand::Leave { .. } => return false,
                    Errand::Call(_) | Errand::Watch { task: Some(_), .. } => {
                        self.first = Some(errand);
                        return true;
                    }
                    errand => drop(self.mux.note(errand)),
                }
            }
        }
        false
    }

    async fn end(&mut self) {
        let trouble = stopping();
        if let Some(sessions) = &mut self.sessions {
            sessions.end().await;
        }
        self.mux.drop_kept(&trouble);
        self.mux.gate.refuse_all(&trouble);
        self.hand_over();
        self.upstream.close();
        (self.shared.offers)(&self.upstream, Standing::Gone);
    }

    /// It ends while its clients stay: what they watch here is watched at whoever serves in its place.
    pub(super) fn hand_over(&mut self) {
        let late =
            std::iter::from_fn(|| self.first.take().or_else(|| self.door.as_ref()?.collect())).collect::<Vec<_>>();
        for errand in late {
            if let Some(errand) = self.mux.note(errand) {
                refuse(&self.upstream, errand, &stopping(), None);
            }
        }
        self.upstream.hand_over(self.mux.take_watches());
    }

    /// Refuses what comes in the pause.
    async fn refuse_for(&mut self, trouble: &Trouble, pause: Duration) {
        let until = Instant::now() + pause;
        // What is kept waits no longer than a client would notice.
        if pause > HOLD {
            self.mux.drop_kept(trouble);
        }
        let mut turns = Turns::default();
        loop {
            let mut now = Instant::now();
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                return;
            }
            self.upstream.door().quiet();
            while let Some(errand) = self.upstream.door().collect() {
                if let Some(errand) = route(&mut self.sessions, &mut self.mux.gate, errand, now)
                    && let Some(errand) = self.mux.note(errand)
                {
                    refuse(&self.upstream, errand, trouble, Some(left));
                }
                if turns.pass().await {
                    self.upstream.ring();
                    now = Instant::now();
                    break;
                }
            }
            let due = release(&mut self.sessions, &mut self.mux.gate, now);
            tokio::select! {
                () = sleep(left) => return,
                () = at(due) => {}
                () = self.upstream.door().rung() => {}
                () = ended(&mut self.sessions) => {}
            }
        }
    }
}

/// Pauses that double.
pub(super) struct Pauses {
    min: Duration,
    max: Duration,
    next: Duration,
    /// Whether a session that is lost is replaced at once: not twice before a link was good, as a server may lose each.
    at_once: bool,
}

impl Pauses {
    pub(super) const fn new(knobs: &Knobs) -> Self {
        Self { min: knobs.restart_min, max: knobs.restart_max, next: knobs.restart_min, at_once: true }
    }

    /// The pause behind a link that ended so, and had served so long if it came so far.
    fn after(&mut self, served: Option<Duration>, trouble: &Trouble) -> Duration {
        if served.is_some_and(|served| served >= GOOD) {
            (self.next, self.at_once) = (self.min, true);
        }
        let is_lost = served.is_some() && trouble.kind == TroubleKind::SessionLost;
        if is_lost && std::mem::take(&mut self.at_once) { Duration::ZERO } else { self.next() }
    }

    fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.max);
        jittered(pause)
    }
}

/// Between the whole and five quarters of it, so that many do not come at once.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause + pause.mul_f64(dice() / 4.0)
}

/// Anything from 0 to 1.
pub(super) fn dice() -> f64 {
    let mut random = [0; 4];
    // Without randomness there is no jitter, and no harm.
    let _ = getrandom::fill(&mut random);
    f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX)
}

fn stopping() -> Trouble {
    Trouble::new(TroubleKind::Lost, "the gateway stops it")
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
