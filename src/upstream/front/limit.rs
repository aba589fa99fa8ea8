//! How many calls may be in flight: raised by one a round, lowered by a tenth, on a server's own word or its silence only.

use std::time::{Duration, Instant};

/// What is left of the limit when the server is overloaded: a tenth less is what Netflix's `concurrency-limits` and
/// others take, so that a server is never far from full.
const LEFT: f64 = 0.9;
/// Rounds of one more each, before the steps double.
const CAREFUL_ROUNDS: u32 = 8;
/// Silence alone lowers it no further: one call that hangs says little of how many more the server could serve, and must
/// not keep all others waiting behind the long ones.
const SILENT_MIN: usize = 16;
/// How long the most that was in flight is remembered, at least; twice that at most.
const PEAK: Duration = Duration::from_secs(5);

/// The limit, between 1 and the hard cap. Never moved by how long answers take: that follows from what is asked.
#[derive(Debug)]
pub(super) struct Limit {
    now: usize,
    max: usize,
    /// What `max` was at first.
    most: usize,
    /// Answers since it was last moved.
    answers: usize,
    /// How often it was raised since it was last lowered.
    rounds: u32,
    step: usize,
    /// Of calls sent before then, no more bad news count: they are the same news.
    lowered: Option<Instant>,
    /// The most in flight, lately and before.
    peaks: [usize; 2],
    peak_since: Instant,
}

impl Limit {
    /// At the hard cap: no server is assumed to be small.
    pub(super) const fn new(max: usize, now: Instant) -> Self {
        Self { now: max, max, most: max, answers: 0, rounds: 0, step: 1, lowered: None, peaks: [0; 2], peak_since: now }
    }

    pub(super) const fn get(&self) -> usize {
        self.now
    }

    /// No more can be in flight at all: no link carries more.
    pub(super) fn carry(&mut self, most: usize) {
        let is_full = self.now == self.max;
        self.max = self.most.min(most.max(1));
        self.now = if is_full { self.max } else { self.now.min(self.max) };
    }

    /// Whether it is as low as can be.
    pub(super) const fn is_least(&self) -> bool {
        self.now == 1
    }

    /// So many are in flight.
    #[inline]
    pub(super) fn entered(&mut self, in_flight: usize) {
        self.peaks[0] = self.peaks[0].max(in_flight);
    }

    /// A call was answered. `needed`: more would have been sent. True if the limit was raised.
    #[inline]
    pub(super) fn answered(&mut self, needed: bool, in_flight: usize, now: Instant) -> bool {
        if now.saturating_duration_since(self.peak_since) >= PEAK {
            self.peaks = [in_flight, self.peaks[0]];
            self.peak_since = now;
        }
        if self.now == self.max || !needed {
            return false;
        }
        self.answers += 1;
        if self.answers < self.now {
            return false;
        }
        self.answers = 0;
        self.rounds += 1;
        if self.rounds > CAREFUL_ROUNDS {
            self.step = (self.step * 2).min((self.now / 4).max(1));
        }
        self.now = self.now.saturating_add(self.step).min(self.max);
        true
    }

    /// The server has said of a call that it has no room. `in_flight` were, with this one. True if the limit was lowered.
    pub(super) fn refused(&mut self, in_flight: usize, sent: Instant, now: Instant) -> bool {
        self.lower(in_flight, 1, sent, now)
    }

    /// The server has not answered a call in time: it may have been at work on as many as were ever in flight meanwhile.
    pub(super) fn timed_out(&mut self, in_flight: usize, sent: Instant, now: Instant) -> bool {
        let least = SILENT_MIN.min(self.now);
        self.lower(in_flight.max(self.peaks[0]).max(self.peaks[1]), least, sent, now)
    }

    fn lower(&mut self, from: usize, least: usize, sent: Instant, now: Instant) -> bool {
        if self.lowered.is_some_and(|lowered| sent <= lowered) {
            return false;
        }
        self.now = ((from.min(self.now) as f64 * LEFT) as usize).max(least);
        (self.answers, self.rounds, self.step, self.lowered) = (0, 0, 1, Some(now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_server_of_sixteen_places_is_found_at_once_and_kept_nearly_full() {
        let mut now = Instant::now();
        let mut limit = Limit::new(10_000, now);
        let (mut sum, mut least) = (0, usize::MAX);
        for round in 0..200 {
            let (sent, in_flight) = (now, limit.get().min(60));
            now += SECOND;
            for left in (16..in_flight).rev() {
                limit.refused(left + 1, sent, now);
            }
            for _ in 0..in_flight.min(16) {
                limit.answered(true, 15, now);
            }
            if round >= 20 {
                sum += limit.get().min(16);
                least = least.min(limit.get());
            }
        }
        assert!(least >= 14 && sum >= 180 * 15, "least {least}, mean {}", sum as f64 / 180.0);
    }

    #[test]
    fn bad_news_of_one_round_count_once_and_the_floor_is_one() {
        let start = Instant::now();
        let mut limit = Limit::new(100, start);
        for _ in 0..50 {
            limit.refused(100, start, start + SECOND);
        }
        assert_eq!(limit.get(), 90);
        for round in 2..100 {
            limit.refused(100, start + SECOND * round, start + SECOND * round);
        }
        assert!(limit.is_least(), "{limit:?}");
    }

    #[test]
    fn a_limit_that_nobody_needs_is_not_raised_and_one_that_is_needed_comes_back() {
        let now = Instant::now();
        let mut limit = Limit::new(10_000, now);
        limit.refused(10, now, now);
        assert!(!(0..10_000).any(|_| limit.answered(false, 1, now)));
        assert_eq!(limit.get(), 9);
        let mut rounds = 0;
        while limit.get() < 10_000 {
            rounds += 1;
            for _ in 0..limit.get() {
                limit.answered(true, limit.get() - 1, now);
            }
        }
        assert!((20..60).contains(&rounds), "{rounds} rounds");
    }

    #[test]
    fn what_no_link_carries_is_never_in_flight() {
        let now = Instant::now();
        for (most, carried, limit) in [(10, 9, 9), (10, 10, 10), (10, 11, 10), (10, 0, 1), (1, 9, 1)] {
            let mut it = Limit::new(most, now);
            it.carry(carried);
            assert_eq!(it.get(), limit);
            (0..100).for_each(|_| _ = it.answered(true, limit, now));
            assert_eq!(it.get(), limit);
            it.carry(usize::MAX);
            assert_eq!(it.get(), most, "another link carries more");
        }
        let mut low = Limit::new(100, now);
        low.refused(20, now, now);
        low.carry(50);
        assert_eq!(low.get(), 18);
    }

    #[test]
    fn silence_counts_from_the_most_that_were_in_flight() {
        let start = Instant::now();
        let mut limit = Limit::new(10_000, start);
        limit.entered(500);
        limit.timed_out(1, start, start + SECOND);
        assert_eq!(limit.get(), 450);
        for round in 2..100 {
            limit.timed_out(1, start + SECOND * round, start + SECOND * round);
            limit.answered(false, 1, start + SECOND * round);
        }
        assert_eq!(limit.get(), SILENT_MIN);
        limit.refused(12, start + SECOND * 100, start + SECOND * 100);
        limit.timed_out(5, start + SECOND * 101, start + SECOND * 101);
        assert_eq!(limit.get(), 10, "lower still is its own word");
    }
}
