//! What stands in front of one upstream: how many calls are in flight, who waits, who is refused at once, what is retried.
//!
//! A pure machine: calls and news go in, calls to be sent and refusals come out, and the time is an argument. `gate.rs`
//! joins it to tickets and counters.
//!
//! The rules, with S for how long a call takes and C for how many are in flight at most:
//! - C is lowered by a tenth when the server says that it has no room (429, 503) or does not answer in time (then to 16 at
//!   least), and raised by one a round while it is needed. A `Retry-After` stops all sending until then.
//! - A call waits if it may expect to be served in time: place x S / C + S before its deadline, and not over half of the
//!   target wait. All others are refused at once, with the time when there will be room. Its place is that among its own
//!   tenant's calls, which go at the pace that the others leave to that, as much as they ask for just now (`demand.rs`).
//! - Before any call was answered, S is taken for five seconds, or a quarter of the deadline if that is less; or for as long
//!   as those in flight have lasted already. So a cold flood is let in up to a small multiple of C.
//!   Where all in flight last longer than any should, S is taken for four times as long as that, up to those five seconds.
//! - Who waits and can no longer be served in time, because others came or the server got slower, is refused when that is
//!   seen, not at its deadline.
//! - The target is `queue_target_ms`; by itself nine tenths of what the deadline leaves beside S. Never below 2 S / C:
//!   with less the places would stand empty between two calls. When a tenant's oldest call has waited longer than that, the
//!   upstream is overloaded: it got slower than it was when the call was let in. Then the tenant's newest go first, and no
//!   more are let in until the old ones are gone: else they would stand there for ever and be refused one after another.
//! - When the queue is full, whoever has taken more than its share of it makes room.

#[cfg(test)]
mod bounds_tests;
mod breaker;
mod budget;
mod demand;
mod estimate;
mod gate;
mod limit;
mod pace;
mod queue;
mod same;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use breaker::{Breaker, May, Seen, When};
use budget::{ATTEMPTS_MAX, Budget};
use demand::Demand;
use estimate::CROWD_MAX;
use limit::Limit;
use pace::Pace;
use queue::{Queue, Waiting, Who};

pub use breaker::BreakerState;
pub use gate::Permit;
pub(super) use gate::{Gate, Go, is_queued};
pub use same::Lead;

/// Longest pause that a server's `Retry-After` makes: a server that says a day may be well in an hour.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Longest pause of the server that a call waits for here to be tried again: beyond that its client is told, and may come
/// back itself.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What an operator may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knobs {
    /// Calls that may wait.
    pub queue_max: usize,
    /// From arrival to answer; zero: for ever.
    pub deadline: Duration,
    /// Whether that counts from the arrival at the first upstream that was asked, not at this one.
    pub is_whole: bool,
    /// How long a call should wait at most; zero: what the deadline makes of it.
    pub target: Duration,
    /// Failures among a hundred calls that open the breaker; 0: none do.
    pub breaker_ratio_percent: u32,
    /// Calls within ten seconds before it opens.
    pub breaker_calls_min: u32,
    /// How long it stays open at first.
    pub breaker_open: Duration,
    /// Retries for a hundred calls; 0: none.
    pub retry_percent: u32,
}

crate::named! {
    /// Why a call was not sent.
    pub enum Shed {
        /// As many wait as may (`queue_max`).
        QueueFull = "queue_full",
        /// It could not be served before its deadline.
        TooLate = "too_late",
        /// It made room for others: its tenant, or its client, had more than its share of the queue.
        OverShare = "over_share",
        /// It has waited in vain until its deadline.
        Expired = "expired",
        /// The upstream mostly fails, and is left alone for a while.
        BreakerOpen = "breaker_open",
    }
}

/// Why a call is refused, and when it may come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal {
    why: Shed,
    retry_after: Duration,
}

/// What became of a call that was offered.
#[derive(Debug)]
enum Offered<T> {
    /// It is to be sent.
    Go(T),
    /// It waits, under this number.
    Waits(u64),
    Refused(T, Refusal),
}

/// What is to be done with one that has waited.
#[derive(Debug)]
enum Next<T> {
    Send(Waiting<T>),
    Refuse(T, Refusal),
}

/// How a call that was sent has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By an answer of the server, whatever it says; after this time, if nobody else had to be waited for.
    Answered(Option<Duration>),
    /// The server has no room: 429 or 503, and when it wants to be asked again.
    Overloaded(Option<Duration>),
    /// Nothing came in time.
    TimedOut,
    /// Its time from arrival to answer was over: a part of that it may have waited here, which says nothing of the server.
    Cut,
    /// The server failed otherwise.
    Failed,
}

/// The machine, for calls of any kind.
struct Front<T> {
    knobs: Knobs,
    in_flight: usize,
    limit: Limit,
    pace: Pace,
    breaker: Breaker,
    budget: Budget,
    queue: Queue<T>,
    demand: Demand,
    /// When the last call was sent, and when one was last answered.
    entered: Instant,
    answered: Instant,
    /// When those who wait were last looked through.
    swept: Instant,
    /// Those that are to be tried again later, and when.
    delayed: BTreeMap<u64, (Instant, Waiting<T>)>,
    delays: BTreeSet<(Instant, u64)>,
    /// Those that made room.
    evicted: VecDeque<(T, Refusal)>,
    /// The server wants to be left alone until then.
    paused: Option<Instant>,
    /// The last time that somebody was told to come again at: the next one is told a later one.
    promised: Instant,
    random: u64,
}

impl<T> Front<T> {
    /// `seed` is where its random numbers begin.
    fn new(in_flight_max: usize, knobs: Knobs, seed: u64, now: Instant) -> Self {
        let when =
            When { percent: knobs.breaker_ratio_percent, calls_min: knobs.breaker_calls_min, open: knobs.breaker_open };
        Self {
            knobs,
            in_flight: 0,
            limit: Limit::new(in_flight_max.max(1), now),
            pace: Pace::default(),
            breaker: Breaker::new(when, now),
            budget: Budget::new(knobs.retry_percent),
            queue: Queue::new(),
            demand: Demand::new(now),
            entered: now,
            answered: now,
            swept: now,
            delayed: BTreeMap::new(),
            delays: BTreeSet::new(),
            evicted: VecDeque::new(),
            paused: None,
            promised: now,
            random: seed,
        }
    }

    #[cfg(test)]
    const fn in_flight(&self) -> usize {
        self.in_flight
    }

    const fn limit(&self) -> usize {
        self.limit.get()
    }

    /// Calls that wait, for a place or for their next attempt.
    fn queued(&self) -> usize {
        self.queue.len() + self.delayed.len()
    }

    const fn breaker(&self) -> BreakerState {
        self.breaker.state()
    }

    /// Whether the breaker has changed since this was last told.
    #[inline]
    const fn has_turned(&self) -> bool {
        self.breaker.has_changed()
    }

    /// The change has been told.
    const fn told(&mut self) {
        self.breaker.told();
    }

    /// Whether there is nothing for [`Self::next`] to do, ever.
    #[inline]
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.delayed.is_empty() && self.evicted.is_empty()
    }

    /// When [`Self::next`] has something to do though nothing happens.
    fn due(&self) -> Option<Instant> {
        let waits = !self.queue.is_empty() && self.in_flight < self.limit.get();
        let paused = self.paused.filter(|_| waits);
        let tried = self.breaker.next_probe().filter(|_| waits);
        [paused.max(tried), self.lapses()].into_iter().flatten().min()
    }

    /// A call that comes; it `arrived` just now, or before, elsewhere.
    #[inline]
    fn offer(&mut self, call: T, who: Who, arrived: Instant, now: Instant) -> Offered<T> {
        self.budget.earn();
        let free = self.queue.is_empty() && self.in_flight < self.limit.get();
        if free && self.paused.is_none() && self.breaker.is_closed() {
            // Who asks how much matters only where places may run out.
            if self.in_flight < self.limit.get() / 2 {
                self.demand.calm();
            } else {
                self.demand.asked(&who, now);
            }
            self.enter(now);
            return Offered::Go(call);
        }
        self.offer_slowly(call, who, arrived, now)
    }

    fn offer_slowly(&mut self, call: T, who: Who, arrived: Instant, now: Instant) -> Offered<T> {
        self.demand.asked(&who, now);
        if let May::Not(until) = self.breaker.look(now) {
            let retry_after = self.crowd(until, now);
            return Offered::Refused(call, Refusal { why: Shed::BreakerOpen, retry_after });
        }
        let pause = self.pause(now);
        if pause.is_zero() && self.queue.is_empty() && self.in_flight < self.limit.get() {
            self.breaker.pass(now);
            self.enter(now);
            return Offered::Go(call);
        }
        let wait = self.wait(&who, now).saturating_add(pause);
        let is_late = self.queue.is_late(&who, self.lateness(now));
        let most = if is_late { Duration::ZERO } else { self.wait_max(arrived, now) };
        if wait > most {
            let retry_after = self.crowd(now + (wait - most).min(CROWD_MAX.max(pause)), now);
            return Offered::Refused(call, Refusal { why: Shed::TooLate, retry_after });
        }
        if self.queued() >= self.knobs.queue_max && !self.make_room(&who, now) {
            let retry_after = self.crowd(now + pause + self.each(now), now);
            return Offered::Refused(call, Refusal { why: Shed::QueueFull, retry_after });
        }
        let deadline = (!self.knobs.deadline.is_zero()).then(|| arrived + self.knobs.deadline);
        let number = self.queue.number();
        self.queue.push(number, Waiting { call, who, arrived, entered: now, deadline, attempts: 0 });
        Offered::Waits(number)
    }

    fn make_room(&mut self, who: &Who, now: Instant) -> bool {
        let victim = self.queue.victim(who, self.lateness(now)).and_then(|number| self.queue.remove(number));
        let Some(victim) = victim else { return false };
        let wait = self.wait(&victim.who, now).min(CROWD_MAX);
        let retry_after = self.crowd(now + wait, now);
        self.evicted.push_back((victim.call, Refusal { why: Shed::OverShare, retry_after }));
        true
    }

    /// What is to be done now; to be asked until there is nothing.
    fn next(&mut self, now: Instant) -> Option<Next<T>> {
        if let Some(refused) = self.lapse(now) {
            return Some(refused);
        }
        if self.queue.is_empty() {
            return None;
        }
        self.sweep(now);
        if let Some((call, refusal)) = self.evicted.pop_front() {
            return Some(Next::Refuse(call, refusal));
        }
        if let Some(until) = self.breaker.open_until(now) {
            let waiting = self.queue.pop(|_| false)?;
            let retry_after = self.crowd(until, now);
            return Some(Next::Refuse(waiting.call, Refusal { why: Shed::BreakerOpen, retry_after }));
        }
        if !self.pause(now).is_zero() || self.in_flight >= self.limit.get() {
            return None;
        }
        if self.breaker.look(now) != May::Pass {
            return None;
        }
        let is_late = self.lateness(now);
        let waiting = self.queue.pop(is_late)?;
        let served = now + self.pace.mean().unwrap_or_default();
        if waiting.deadline.is_some_and(|deadline| served > deadline) {
            return Some(self.expire(waiting, now));
        }
        self.breaker.pass(now);
        self.enter(now);
        Some(Next::Send(waiting))
    }

    /// Who is to be refused now whatever becomes of the server: who made room, or has waited until its deadline.
    fn lapse(&mut self, now: Instant) -> Option<Next<T>> {
        if let Some((call, refusal)) = self.evicted.pop_front() {
            return Some(Next::Refuse(call, refusal));
        }
        while let Some(&(due, number)) = self.delays.first().filter(|&&(due, _)| due <= now) {
            self.delays.remove(&(due, number));
            if let Some((_, waiting)) = self.delayed.remove(&number) {
                self.queue.push(number, waiting);
            }
        }
        let expired = self.queue.take_expired(now)?;
        Some(self.expire(expired, now))
    }

    /// When [`Self::lapse`] has something to do.
    fn lapses(&self) -> Option<Instant> {
        let delayed = self.delays.first().map(|&(due, _)| due);
        [delayed, self.queue.first_deadline()].into_iter().flatten().min()
    }

    fn expire(&mut self, waiting: Waiting<T>, now: Instant) -> Next<T> {
        let retry_after = self.crowd(now + self.each(now), now);
        Next::Refuse(waiting.call, Refusal { why: Shed::Expired, retry_after })
    }

    /// What waits under this number, if it still does.
    fn get(&self, number: u64) -> Option<&T> {
        let delayed = || self.delayed.get(&number).map(|(_, waiting)| waiting);
        self.queue.get(number).or_else(delayed).map(|waiting| &waiting.call)
    }

    /// The same, to change what is no matter of the queue.
    fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        match self.delayed.get_mut(&number) {
            Some((_, waiting)) => Some(&mut waiting.call),
            None => self.queue.get_mut(number).map(|waiting| &mut waiting.call),
        }
    }

    /// Nobody waits any more for what waits under this number.
    fn cancel(&mut self, number: u64) -> Option<T> {
        if let Some((due, waiting)) = self.delayed.remove(&number) {
            self.delays.remove(&(due, number));
            return Some(waiting.call);
        }
        self.queue.remove(number).map(|waiting| waiting.call)
    }

    /// One of those that wait, whoever goes first: all are to go.
    fn drain(&mut self) -> Option<T> {
        if let Some((call, _)) = self.evicted.pop_front() {
            return Some(call);
        }
        self.delays.clear();
        let delayed = self.delayed.pop_first().map(|(_, (_, waiting))| waiting);
        delayed.or_else(|| self.queue.take_first()).map(|waiting| waiting.call)
    }

    /// Takes a call that failed and may be repeated, if the budget and its deadline allow it; `attempts` it was sent. The
    /// number that it waits under.
    ///
    /// # Errors
    /// The call, if it is not to be tried again.
    fn retry(&mut self, call: T, who: Who, (arrived, attempts): (Instant, u8), now: Instant) -> Result<u64, T> {
        let pause = self.pause(now);
        let due = now + pause + budget::pause(attempts, self.dice());
        let deadline = (!self.knobs.deadline.is_zero()).then(|| arrived + self.knobs.deadline);
        let served = due + self.pace.mean().unwrap_or_default();
        let in_time = deadline.is_none_or(|deadline| served <= deadline);
        let room = self.queued() < self.knobs.queue_max && self.breaker.is_closed();
        let soon = pause <= RETRY_PAUSE_MAX;
        if attempts >= ATTEMPTS_MAX || !soon || !in_time || !room || !self.budget.spend() {
            return Err(call);
        }
        let number = self.queue.number();
        self.delayed.insert(number, (due, Waiting { call, who, arrived, entered: due, deadline, attempts }));
        self.delays.insert((due, number));
        Ok(number)
    }

    /// A call is in flight that did not come through [`Self::offer`] or [`Self::next`].
    #[inline]
    fn enter(&mut self, now: Instant) {
        self.in_flight += 1;
        self.entered = now;
        self.limit.entered(self.in_flight);
    }

    /// A call is in flight no longer; how it ended is for [`Self::saw`], after this.
    #[inline]
    const fn left(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// A call that was sent then has ended so, and has left. True if the limit was moved.
    #[inline]
    fn saw(&mut self, ending: Ending, sent: Instant, now: Instant) -> bool {
        let mut random = self.random;
        let (in_flight, places) = (self.in_flight + 1, self.limit.get());
        let (seen, moved) = match ending {
            Ending::Answered(took) => {
                self.answered = now;
                if let Some(took) = took {
                    self.pace.saw(took);
                }
                let needed = in_flight >= places || !self.queue.is_empty();
                (Seen::Answer, self.limit.answered(needed, in_flight, now))
            }
            Ending::Overloaded(wait) => {
                // With one call at a time it is no question of how many any more.
                let seen = if self.limit.is_least() { Seen::Failure } else { Seen::Answer };
                if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
                    let until = now + wait.min(PAUSE_MAX);
                    self.paused = Some(self.paused.map_or(until, |paused| paused.max(until)));
                }
                (seen, self.limit.refused(in_flight, sent, now))
            }
            Ending::Cut if !self.was_silent(sent, now) => return false,
            Ending::TimedOut | Ending::Cut => (Seen::Silence, self.limit.timed_out(in_flight, sent, now)),
            Ending::Failed => (Seen::Failure, false),
        };
        self.breaker.record(seen, places, sent, now, || dice(&mut random));
        self.random = random;
        moved
    }

    /// Whether the server itself took too long for a call that was sent then and is not answered: longer than any should,
    /// or it has answered nothing at all since.
    fn was_silent(&self, sent: Instant, now: Instant) -> bool {
        self.answered <= sent || now.saturating_duration_since(sent) > self.pace.long().saturating_mul(2)
    }

    /// How long nothing is sent because the server has asked for it.
    fn pause(&mut self, now: Instant) -> Duration {
        let left = self.paused.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        if left.is_zero() {
            self.paused = None;
        }
        left
    }

    fn dice(&mut self) -> f64 {
        dice(&mut self.random)
    }
}

/// A random number between 0 and 1 (splitmix64), good enough to spread retries.
fn dice(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
