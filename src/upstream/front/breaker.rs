//! The breaker: an upstream that mostly fails is left alone for a while, then tried with a few calls, then trusted again.

use std::time::{Duration, Instant};

/// Seconds that the sliding window covers: long enough for a verdict, short enough to be about now.
const WINDOW_S: u64 = 10;
/// Calls that are let through at once while it is tried, and that must succeed.
const PROBES: u32 = 3;
/// How often the time that it stays open doubles at most: from one second to about a minute.
const DOUBLINGS_MAX: u32 = 6;

crate::named! {
    /// How a breaker stands.
    #[derive(Default)]
    pub enum BreakerState {
        /// All calls pass.
        #[default]
        Closed = "closed",
        /// None does: the upstream mostly failed.
        Open = "open",
        /// A few do, to see whether it is well again.
        HalfOpen = "half_open",
    }
}

/// When it opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct When {
    /// Failures among a hundred calls; 0: never.
    pub(super) percent: u32,
    /// Calls within the window, before which it does not.
    pub(super) calls_min: u32,
    /// For how long at first. It doubles each time that it is tried in vain.
    pub(super) open: Duration,
}

/// Whether a call may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum May {
    Pass,
    /// Not before this time.
    Not(Instant),
}

/// Calls and failures of one second.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    at: u64,
    calls: u32,
    failures: u32,
}

#[derive(Debug)]
pub(super) struct Breaker {
    when: When,
    began: Instant,
    window: [Second; WINDOW_S as usize],
    state: BreakerState,
    /// When it came into this state.
    since: Instant,
    /// While it is open: until when. While it is tried: when another probe may go though none came back.
    until: Instant,
    /// Probes that were let through, and those that succeeded.
    probes: u32,
    successes: u32,
    /// How often it was tried in vain.
    vain: u32,
    has_changed: bool,
}

impl Breaker {
    pub(super) fn new(when: When, now: Instant) -> Self {
        Self {
            when,
            began: now,
            window: [Second::default(); WINDOW_S as usize],
            state: BreakerState::Closed,
            since: now,
            until: now,
            probes: 0,
            successes: 0,
            vain: 0,
            has_changed: false,
        }
    }

    pub(super) const fn state(&self) -> BreakerState {
        self.state
    }

    #[inline]
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.state, BreakerState::Closed)
    }

    /// Whether its state has changed since this was last told.
    #[inline]
    pub(super) const fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// The change has been told.
    pub(super) const fn told(&mut self) {
        self.has_changed = false;
    }

    /// Until when no call may go, if it is open.
    pub(super) fn open_until(&self, now: Instant) -> Option<Instant> {
        (self.state == BreakerState::Open && now < self.until).then_some(self.until)
    }

    /// When another call may go, if not all may.
    pub(super) const fn next_probe(&self) -> Option<Instant> {
        if self.is_closed() { None } else { Some(self.until) }
    }

    /// Whether a call may go now. If so it must be sent: while the upstream is tried, it is one of the probes.
    pub(super) fn ask(&mut self, now: Instant) -> May {
        if self.state == BreakerState::Open && now >= self.until {
            self.turn(BreakerState::HalfOpen, now);
            (self.probes, self.successes) = (0, 0);
        }
        match self.state {
            BreakerState::Closed => May::Pass,
            BreakerState::Open => May::Not(self.until),
            // Probes that were cancelled, or that hang, do not keep it shut for ever.
            BreakerState::HalfOpen if self.probes < PROBES || now >= self.until => {
                self.probes += 1;
                self.until = now + self.when.open;
                May::Pass
            }
            BreakerState::HalfOpen => May::Not(self.until),
        }
    }

    /// A call that was sent then has ended. `dice` is between 0 and 1.
    #[inline]
    pub(super) fn record(&mut self, failed: bool, sent: Instant, now: Instant, dice: impl FnOnce() -> f64) {
        match self.state {
            BreakerState::Closed => {
                let at = now.saturating_duration_since(self.began).as_secs();
                let second = &mut self.window[(at % WINDOW_S) as usize];
                if second.at != at {
                    *second = Second { at, ..Second::default() };
                }
                second.calls += 1;
                if failed {
                    second.failures += 1;
                    if self.is_bad(at) {
                        self.open(now, dice());
                    }
                }
            }
            // Of the time before: known.
            BreakerState::Open => {}
            BreakerState::HalfOpen if sent < self.since => {}
            BreakerState::HalfOpen if failed => {
                self.vain = (self.vain + 1).min(DOUBLINGS_MAX);
                self.open(now, dice());
            }
            BreakerState::HalfOpen => {
                self.successes += 1;
                if self.successes >= PROBES {
                    self.vain = 0;
                    self.window = [Second::default(); WINDOW_S as usize];
                    self.turn(BreakerState::Closed, now);
                }
            }
        }
    }

    fn is_bad(&self, at: u64) -> bool {
        let recent = self.window.iter().filter(|second| second.at + WINDOW_S > at);
        let (calls, failures) = recent.fold((0_u64, 0_u64), |(calls, failures), second| {
            (calls + u64::from(second.calls), failures + u64::from(second.failures))
        });
        self.when.percent > 0
            && calls >= u64::from(self.when.calls_min)
            && failures * 100 >= calls * u64::from(self.when.percent)
    }

    fn open(&mut self, now: Instant, dice: f64) {
        let whole = self.when.open * 2_u32.pow(self.vain);
        // Up to a quarter more, so that several gateways do not come at once.
        self.until = now + whole + whole.mul_f64(dice / 4.0);
        self.turn(BreakerState::Open, now);
    }

    const fn turn(&mut self, state: BreakerState, now: Instant) {
        (self.state, self.since, self.has_changed) = (state, now, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHEN: When = When { percent: 50, calls_min: 20, open: Duration::from_secs(1) };
    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> (Breaker, Instant) {
        let now = Instant::now();
        (Breaker::new(WHEN, now), now)
    }

    fn record(breaker: &mut Breaker, failed: bool, now: Instant) {
        breaker.record(failed, now, now, || 0.0);
    }

    #[test]
    fn it_opens_at_the_ratio_and_the_least_number_exactly() {
        let (mut breaker, now) = breaker();
        (0..19).for_each(|_| record(&mut breaker, true, now));
        assert!(breaker.is_closed(), "19 calls say nothing");
        record(&mut breaker, true, now);
        assert_eq!((breaker.state(), breaker.ask(now)), (BreakerState::Open, May::Not(now + SECOND)));
        let (mut breaker, now) = self::breaker();
        (0..30).for_each(|_| record(&mut breaker, false, now));
        (0..29).for_each(|_| record(&mut breaker, true, now));
        assert!(breaker.is_closed(), "29 of 59");
        record(&mut breaker, true, now);
        assert!(!breaker.is_closed(), "30 of 60");
    }

    #[test]
    fn what_is_long_ago_does_not_count() {
        let (mut breaker, now) = breaker();
        (0..19).for_each(|_| record(&mut breaker, true, now));
        record(&mut breaker, true, now + SECOND * 10);
        assert!(breaker.is_closed());
    }

    #[test]
    fn a_few_probes_close_it_again() {
        let (mut breaker, now) = breaker();
        (0..20).for_each(|_| record(&mut breaker, true, now));
        assert!(breaker.has_changed());
        breaker.told();
        assert!(!breaker.has_changed());
        let later = now + SECOND;
        assert_eq!([(); 4].map(|()| breaker.ask(later) == May::Pass), [true, true, true, false]);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        record(&mut breaker, false, now);
        assert_eq!(breaker.successes, 0, "sent before it was tried");
        (0..3).for_each(|_| record(&mut breaker, false, later));
        assert_eq!((breaker.state(), breaker.ask(later)), (BreakerState::Closed, May::Pass));
        record(&mut breaker, true, later);
        assert!(breaker.is_closed(), "what was before is forgotten");
    }

    #[test]
    fn each_vain_try_doubles_the_time_up_to_a_minute() {
        let (mut breaker, mut now) = breaker();
        (0..20).for_each(|_| record(&mut breaker, true, now));
        for seconds in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert!(matches!(breaker.ask(now), May::Not(until) if until == now + SECOND * seconds));
            now += SECOND * seconds;
            assert_eq!(breaker.ask(now), May::Pass);
            breaker.record(true, now, now, || 0.0);
        }
    }

    #[test]
    fn probes_that_do_not_come_back_do_not_keep_it_shut() {
        let (mut breaker, now) = breaker();
        (0..20).for_each(|_| record(&mut breaker, true, now));
        let later = now + SECOND;
        (0..3).for_each(|_| assert_eq!(breaker.ask(later), May::Pass));
        assert_eq!(breaker.ask(later), May::Not(later + SECOND));
        assert_eq!(breaker.ask(later + SECOND), May::Pass);
    }

    #[test]
    fn none_percent_is_never() {
        let now = Instant::now();
        let mut breaker = Breaker::new(When { percent: 0, ..WHEN }, now);
        (0..1_000).for_each(|_| record(&mut breaker, true, now));
        assert!(breaker.is_closed());
    }
}
