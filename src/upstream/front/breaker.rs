//! The breaker: an upstream that mostly fails is left alone for a while, then tried with a few calls, then trusted again.
//!
//! Two things open it. The ratio: of the calls that ended within the last ten seconds, or of the last `calls_min` within a
//! minute where those are fewer, so many failed. And silence: as many calls in a row as there are places got no answer in time (three at
//! least, `calls_min` at most), because few calls are tried where each takes its whole time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Seconds that the sliding window covers: long enough for a verdict, short enough to be about now.
const WINDOW_S: u64 = 10;
/// Seconds that it covers at most, where it has too few calls for a verdict: a restart some minutes ago says nothing.
const WINDOW_S_MAX: u64 = 60;
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
    /// Calls before which the ratio does not count.
    pub(super) calls_min: u32,
    /// For how long at first. It doubles each time that it is tried in vain.
    pub(super) open: Duration,
}

/// What the end of a call says of its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is there.
    Answer,
    Failure,
    /// A failure, as nothing came in time.
    Silence,
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
    /// Seconds in which calls ended, and the sums of them.
    window: VecDeque<Second>,
    calls: u64,
    failures: u64,
    /// Calls in a row that got no answer in time.
    silent: u32,
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
            window: VecDeque::new(),
            calls: 0,
            failures: 0,
            silent: 0,
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

    /// Whether a call may go now.
    #[inline]
    pub(super) fn look(&self, now: Instant) -> May {
        match self.state {
            BreakerState::Closed => May::Pass,
            BreakerState::HalfOpen if self.probes < PROBES => May::Pass,
            // Probes that were cancelled, or that hang, do not keep it shut for ever.
            BreakerState::Open | BreakerState::HalfOpen if now >= self.until => May::Pass,
            BreakerState::Open | BreakerState::HalfOpen => May::Not(self.until),
        }
    }

    /// A call goes that may: while the upstream is tried, it is one of the probes.
    #[inline]
    pub(super) fn pass(&mut self, now: Instant) {
        if self.is_closed() {
            return;
        }
        if matches!(self.state, BreakerState::Open) {
            self.turn(BreakerState::HalfOpen, now);
            (self.probes, self.successes) = (0, 0);
        }
        self.probes += 1;
        self.until = now + self.when.open;
    }

    /// A call that was sent then has ended, when there were so many `places`. `dice` is between 0 and 1.
    #[inline]
    pub(super) fn record(
        &mut self,
        seen: Seen,
        places: usize,
        sent: Instant,
        now: Instant,
        dice: impl FnOnce() -> f64,
    ) {
        let failed = seen != Seen::Answer;
        match self.state {
            BreakerState::Closed => {
                self.count(failed, now);
                match seen {
                    Seen::Answer => self.silent = 0,
                    Seen::Failure => {}
                    Seen::Silence => self.silent = self.silent.saturating_add(1),
                }
                if failed && (self.is_bad() || self.is_silent(places)) {
                    self.open(now, dice());
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
                    (self.vain, self.silent, self.calls, self.failures) = (0, 0, 0, 0);
                    self.window.clear();
                    self.turn(BreakerState::Closed, now);
                }
            }
        }
    }

    #[inline]
    fn count(&mut self, failed: bool, now: Instant) {
        let at = now.saturating_duration_since(self.began).as_secs();
        if self.window.back().is_none_or(|second| second.at != at) {
            self.window.push_back(Second { at, ..Second::default() });
        }
        // Also where the last one is the first: what is old goes before a verdict.
        while let Some(first) = self.window.front()
            && first.at + WINDOW_S <= at
            && (first.at + WINDOW_S_MAX <= at || self.calls - u64::from(first.calls) >= u64::from(self.when.calls_min))
        {
            (self.calls, self.failures) =
                (self.calls - u64::from(first.calls), self.failures - u64::from(first.failures));
            self.window.pop_front();
        }
        self.calls += 1;
        self.failures += u64::from(failed);
        if let Some(second) = self.window.back_mut() {
            second.calls += 1;
            second.failures += u32::from(failed);
        }
    }

    fn is_bad(&self) -> bool {
        self.when.percent > 0
            && self.calls >= u64::from(self.when.calls_min)
            && self.failures * 100 >= self.calls * u64::from(self.when.percent)
    }

    fn is_silent(&self, places: usize) -> bool {
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        self.when.percent > 0 && self.silent >= places.max(PROBES).min(self.when.calls_min)
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

    fn ask(breaker: &mut Breaker, now: Instant) -> May {
        let may = breaker.look(now);
        if may == May::Pass {
            breaker.pass(now);
        }
        may
    }

    fn record(breaker: &mut Breaker, failed: bool, now: Instant) {
        let seen = if failed { Seen::Failure } else { Seen::Answer };
        breaker.record(seen, 1, now, now, || 0.0);
    }

    #[test]
    fn it_opens_at_the_ratio_and_the_least_number_exactly() {
        let (mut breaker, now) = breaker();
        (0..19).for_each(|_| record(&mut breaker, true, now));
        assert!(breaker.is_closed(), "19 calls say nothing");
        record(&mut breaker, true, now);
        assert_eq!((breaker.state(), ask(&mut breaker, now)), (BreakerState::Open, May::Not(now + SECOND)));
        let (mut breaker, now) = self::breaker();
        (0..30).for_each(|_| record(&mut breaker, false, now));
        (0..29).for_each(|_| record(&mut breaker, true, now));
        assert!(breaker.is_closed(), "29 of 59");
        record(&mut breaker, true, now);
        assert!(!breaker.is_closed(), "30 of 60");
    }

    #[test]
    fn what_is_long_ago_counts_only_where_there_is_too_little_since() {
        // Few calls, one in a second: the last twenty count.
        let (mut breaker, now) = breaker();
        (0..20).for_each(|at| record(&mut breaker, at % 2 == 1, now + SECOND * at));
        assert!(!breaker.is_closed(), "10 of 20");
        // Enough since: what was before does not.
        let (mut breaker, now) = self::breaker();
        (0..19).for_each(|_| record(&mut breaker, true, now));
        let later = now + SECOND * 10;
        (0..20).for_each(|_| record(&mut breaker, false, later));
        (0..19).for_each(|_| record(&mut breaker, true, later));
        assert!(breaker.is_closed(), "19 of 39");
        record(&mut breaker, true, later);
        assert!(!breaker.is_closed(), "20 of 40");
        // Too long ago for anything.
        let (mut breaker, now) = self::breaker();
        (0..19).for_each(|_| record(&mut breaker, true, now));
        record(&mut breaker, true, now + SECOND * 60);
        assert!(breaker.is_closed() && breaker.window.len() == 1);
        record(&mut breaker, true, now + SECOND * 5_000);
        assert_eq!((breaker.calls, breaker.window.len()), (1, 1));
        // A restart, then all is well for minutes, then one fails.
        let (mut breaker, now) = self::breaker();
        (0..10).for_each(|_| record(&mut breaker, true, now));
        (1..10).for_each(|minute| record(&mut breaker, false, now + SECOND * 60 * minute));
        record(&mut breaker, true, now + SECOND * 595);
        assert!(breaker.is_closed(), "11 of 20, of which 10 are long ago");
    }

    #[test]
    fn silence_opens_it_once_it_was_in_all_places_however_long_that_took() {
        for (places, enough) in [(1, 3), (2, 3), (3, 3), (4, 4), (16, 16), (19, 19), (20, 20), (21, 20), (10_000, 20)] {
            let (mut breaker, now) = breaker();
            let mut hours = 0;
            let mut fail = |breaker: &mut Breaker| {
                hours += 1;
                let now = now + SECOND * 3_600 * hours;
                breaker.record(Seen::Silence, places, now, now, || 0.0);
            };
            (1..enough).for_each(|_| fail(&mut breaker));
            assert!(breaker.is_closed(), "{} with {places}", enough - 1);
            // An answer in between: it is not silent.
            breaker.record(Seen::Answer, places, now, now, || 0.0);
            (1..enough).for_each(|_| fail(&mut breaker));
            assert!(breaker.is_closed(), "{} with {places}", enough - 1);
            fail(&mut breaker);
            assert!(!breaker.is_closed(), "{enough} with {places}");
        }
    }

    #[test]
    fn as_many_probes_as_there_are_go_and_must_be_answered() {
        for answers in [PROBES - 1, PROBES] {
            let (mut breaker, now) = breaker();
            (0..20).for_each(|_| record(&mut breaker, true, now));
            let later = now + SECOND;
            for probe in 1..=PROBES + 1 {
                assert_eq!(ask(&mut breaker, later) == May::Pass, probe <= PROBES, "probe {probe}");
            }
            (0..answers).for_each(|_| record(&mut breaker, false, later));
            assert_eq!(breaker.is_closed(), answers == PROBES, "{answers} answers");
        }
    }

    #[test]
    fn a_few_probes_close_it_again() {
        let (mut breaker, now) = breaker();
        (0..20).for_each(|_| record(&mut breaker, true, now));
        assert!(breaker.has_changed());
        breaker.told();
        assert!(!breaker.has_changed());
        let later = now + SECOND;
        assert_eq!([(); 4].map(|()| ask(&mut breaker, later) == May::Pass), [true, true, true, false]);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        record(&mut breaker, false, now);
        assert_eq!(breaker.successes, 0, "sent before it was tried");
        (0..3).for_each(|_| record(&mut breaker, false, later));
        assert_eq!((breaker.state(), ask(&mut breaker, later)), (BreakerState::Closed, May::Pass));
        record(&mut breaker, true, later);
        assert!(breaker.is_closed(), "what was before is forgotten");
    }

    #[test]
    fn each_vain_try_doubles_the_time_up_to_a_minute() {
        let (mut breaker, mut now) = breaker();
        (0..20).for_each(|_| record(&mut breaker, true, now));
        for seconds in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert!(matches!(ask(&mut breaker, now), May::Not(until) if until == now + SECOND * seconds));
            now += SECOND * seconds;
            assert_eq!(ask(&mut breaker, now), May::Pass);
            record(&mut breaker, true, now);
        }
    }

    #[test]
    fn probes_that_do_not_come_back_do_not_keep_it_shut() {
        let (mut breaker, now) = breaker();
        (0..20).for_each(|_| record(&mut breaker, true, now));
        let later = now + SECOND;
        (0..3).for_each(|_| assert_eq!(ask(&mut breaker, later), May::Pass));
        assert_eq!(ask(&mut breaker, later), May::Not(later + SECOND));
        assert_eq!(ask(&mut breaker, later + SECOND), May::Pass);
    }

    #[test]
    fn none_percent_is_never() {
        let now = Instant::now();
        let mut breaker = Breaker::new(When { percent: 0, ..WHEN }, now);
        (0..1_000).for_each(|_| breaker.record(Seen::Silence, 1, now, now, || 0.0));
        assert!(breaker.is_closed());
    }
}
