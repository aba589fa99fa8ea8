//! How long a call would wait, how long it may, and when who is refused is to come again.

use std::time::{Duration, Instant};

use super::{Front, Knobs, Refusal, Shed, Who};

/// What is added at most to the time when there is room, because others were told to come then.
pub(super) const CROWD_MAX: Duration = Duration::from_secs(60);
/// What a call is taken to last before any was answered, unless a quarter of the deadline is less: as long as the slower
/// models take. So a cold flood is let in up to a small multiple of the places, not up to the bound of the queue.
const UNKNOWN: Duration = Duration::from_secs(5);
/// With fewer places, one call that hangs may have all of them.
const FEW: usize = 4;
/// A known server that gives no place for longer than any call should take is expected to take so many times as long as
/// that, up to what an unknown one is taken for. With less, far too many are let in where it has turned slow.
const HICCUP: u32 = 4;
/// How often those who wait are looked through for such as cannot be served in time any more; for each of many a little
/// longer, so that it never takes more than a hundredth of the time.
const SWEEP: Duration = Duration::from_millis(50);
const SWEEP_EACH: Duration = Duration::from_micros(20);

impl<T> Front<T> {
    /// S, or what it is taken for where nobody knows: those in flight have lasted so long already. One that was known and
    /// gives no place has a hiccup, or is another one by now: the longer it lasts the more likely.
    fn service(&self, now: Instant) -> Duration {
        self.known(now).unwrap_or_else(|| {
            let (gap, unknown) = (self.gap(now), self.unknown());
            let guess = self.pace.mean().map_or(unknown, |mean| mean.max(unknown.min(gap * HICCUP)));
            guess.max(gap)
        })
    }

    fn unknown(&self) -> Duration {
        let deadline = self.knobs.deadline;
        if deadline.is_zero() { UNKNOWN } else { UNKNOWN.min(deadline / 4) }
    }

    /// S as it was so far; nothing before any call was answered, nor where all in flight last for twice as long as any
    /// should: then the server is another one.
    fn known(&self, now: Instant) -> Option<Duration> {
        let gap = self.gap(now);
        let is_stuck = self.limit.get() >= FEW && gap > self.unknown() / 16 && gap > self.pace.long().saturating_mul(2);
        self.pace.mean().filter(|_| !is_stuck)
    }

    /// Since when no place became free, while all are taken: each call in flight has lasted for so long at least.
    fn gap(&self, now: Instant) -> Duration {
        let is_full = self.in_flight >= self.limit.get();
        if is_full { now.saturating_duration_since(self.entered) } else { Duration::ZERO }
    }

    /// S / C: how often a place becomes free.
    pub(super) fn each(&self, now: Instant) -> Duration {
        self.service(now).div_f64(self.limit.get() as f64)
    }

    /// The target wait; none: any.
    pub(super) fn target(&self, now: Instant) -> Option<Duration> {
        let Knobs { target, deadline, .. } = self.knobs;
        let chosen = if !target.is_zero() {
            target
        } else if !deadline.is_zero() {
            deadline.saturating_sub(self.service(now)).mul_f64(0.9)
        } else {
            return None;
        };
        Some(chosen.max(self.each(now) * 2))
    }

    /// What a newcomer that has arrived then may expect to wait at most.
    pub(super) fn wait_max(&self, arrived: Instant, now: Instant) -> Duration {
        let target = self.target(now).map_or(Duration::MAX, |target| target / 2);
        match self.knobs.deadline {
            Duration::ZERO => target,
            deadline => {
                let left = deadline.saturating_sub(now.saturating_duration_since(arrived));
                target.min(left.saturating_sub(self.pace.long().max(self.service(now))))
            }
        }
    }

    /// Who has waited longer than the target.
    pub(super) fn lateness(&self, now: Instant) -> impl Fn(Instant) -> bool + use<T> {
        let target = self.target(now);
        move |since| target.is_some_and(|target| now.saturating_duration_since(since) > target)
    }

    /// How long a newcomer would wait for its turn: behind those who wait now; behind those of its own tenant at the pace
    /// that others, as much as they ask, leave to that; and for as long again as the server has given no place already.
    pub(super) fn wait(&mut self, who: &Who, now: Instant) -> Duration {
        // Those who were told to come later will be there.
        let crowded = self.promised > now;
        let each = self.each(now);
        let by_turns = each.saturating_mul(u32::try_from(self.queue.place(who, crowded)).unwrap_or(u32::MAX));
        let served = 1.0 / each.as_secs_f64().max(1e-9);
        let left = self.demand.left_to(who.share.priority, who.tenant, who.share.weight, served, now);
        let by_share = self.queue.ahead(who, crowded) / left;
        let stall = self.known(now).map_or(Duration::ZERO, |mean| self.gap(now).saturating_sub(mean));
        by_turns.max(seconds(by_share)).saturating_add(stall)
    }

    /// Refuses those who wait and cannot be served before their deadlines any more: more of others came since than was to
    /// be expected, or the server got slower. From time to time.
    pub(super) fn sweep(&mut self, now: Instant) {
        let many = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        let pause = self.pause(now);
        // What nobody knows, nobody is refused for.
        let service = self.known(now).unwrap_or_else(|| self.gap(now));
        let is_soon = now.saturating_duration_since(self.swept) < SWEEP.max(SWEEP_EACH.saturating_mul(many));
        if is_soon || self.knobs.deadline.is_zero() || service.is_zero() {
            return;
        }
        self.swept = now;
        let each = service.div_f64(self.limit.get() as f64);
        let (late, own) = (self.lateness(now), pause + self.pace.mean().unwrap_or_default());
        let served = 1.0 / each.as_secs_f64().max(1e-9);
        let demand = &mut self.demand;
        let hopeless = self.queue.hopeless(
            late,
            |who| demand.left_to(who.share.priority, who.tenant, who.share.weight, served, now),
            |speed, ahead, waiting| {
                let left = waiting.deadline.map(|deadline| deadline.saturating_duration_since(now));
                left.is_some_and(|left| seconds(ahead / speed).saturating_add(own) > left)
            },
        );
        for number in hopeless {
            if let Some(waiting) = self.queue.remove(number) {
                let retry_after = self.crowd(now + self.each(now), now);
                self.evicted.push_back((waiting.call, Refusal { why: Shed::TooLate, retry_after }));
            }
        }
    }

    /// When to come again if there is room from `at` on: each who is told so is told a time of its own, as far as a minute
    /// goes.
    pub(super) fn crowd(&mut self, at: Instant, now: Instant) -> Duration {
        let each = self.each(now);
        let last = at + CROWD_MAX;
        let turn = at.max(self.promised) + each;
        let turn = if turn > last { last + each.mul_f64(self.dice()) } else { turn };
        self.promised = turn.min(last);
        turn.saturating_duration_since(now).max(Duration::from_millis(1))
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
