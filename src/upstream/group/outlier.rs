//! Which replicas get no new calls because they fail where others serve.

use std::time::{Duration, Instant};

/// How often the time that one is out doubles at most: from five seconds to about five minutes.
const DOUBLINGS_MAX: u32 = 6;

/// When a replica is taken out, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Calls that fail in a row; 0: never.
    pub after: u32,
    /// For how long at first.
    pub first: Duration,
}

/// How one replica stands.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// Calls that failed, with none between that did not.
    row: u32,
    /// Until when it is out, or was last.
    until: Option<Instant>,
    /// How long it was, then.
    length: Duration,
    /// How often in succession.
    times: u32,
}

/// All replicas of one group.
#[derive(Debug)]
pub(super) struct Outliers {
    all: Box<[(Rule, Standing)]>,
}

impl Outliers {
    pub(super) fn new(rules: impl Iterator<Item = Rule>) -> Self {
        Self { all: rules.map(|rule| (rule, Standing::default())).collect() }
    }

    /// How long it is out yet, if it is.
    pub(super) fn left(&self, at: usize, now: Instant) -> Option<Duration> {
        let until = self.all.get(at)?.1.until?;
        Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// Whether any may be out.
    pub(super) fn any(&self) -> bool {
        self.all.iter().any(|(_, standing)| standing.until.is_some())
    }

    /// A call that was sent then was answered. True if nothing is held against the replica any more.
    pub(super) fn succeeded(&mut self, at: usize, sent: Instant, now: Instant) -> bool {
        let Some((_, standing)) = self.all.get_mut(at) else { return true };
        // What was sent before it was taken out says nothing of how it is now.
        if standing.until.is_none_or(|until| sent >= until) {
            standing.row = 0;
            // It was well for twice as long as it was out: all is forgotten.
            if standing.until.is_some_and(|until| now >= until + standing.length * 2) {
                *standing = Standing::default();
            }
        }
        standing.row == 0 && standing.until.is_none()
    }

    /// A call that was sent then failed. True if the replica is taken out for that. `dice` is between 0 and 1.
    pub(super) fn failed(&mut self, at: usize, sent: Instant, now: Instant, dice: f64) -> bool {
        let out = (0..self.all.len()).filter(|&at| self.left(at, now).is_some()).count();
        let most = self.all.len() / 2;
        let Some((rule, standing)) = self.all.get_mut(at) else { return false };
        if rule.after == 0 || standing.until.is_some_and(|until| sent < until) {
            return false;
        }
        standing.row = standing.row.saturating_add(1);
        // One that comes back and fails at once was let in too early.
        let enough = if standing.times > 0 { 1 } else { rule.after };
        if standing.row < enough || out >= most {
            return false;
        }
        standing.length = rule.first * 2_u32.pow(standing.times.min(DOUBLINGS_MAX));
        // Up to a quarter more, so that several gateways do not come at once.
        standing.until = Some(now + standing.length + standing.length.mul_f64(dice / 4.0));
        standing.times += 1;
        standing.row = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { after: 3, first: Duration::from_secs(5) };
    const SECOND: Duration = Duration::from_secs(1);

    fn outliers(count: usize) -> (Outliers, Instant) {
        (Outliers::new((0..count).map(|_| RULE)), Instant::now())
    }

    fn fail(outliers: &mut Outliers, at: usize, now: Instant) -> bool {
        outliers.failed(at, now, now, 0.0)
    }

    #[test]
    fn as_many_failures_in_a_row_as_the_rule_says_take_it_out() {
        let (mut outliers, now) = outliers(2);
        assert_eq!([(); 2].map(|()| fail(&mut outliers, 0, now)), [false, false]);
        outliers.succeeded(0, now, now);
        assert_eq!([(); 3].map(|()| fail(&mut outliers, 0, now)), [false, false, true]);
        assert_eq!(outliers.left(0, now), Some(5 * SECOND));
        assert_eq!(outliers.left(0, now + 5 * SECOND), None);
        assert_eq!(outliers.left(1, now), None);
    }

    #[test]
    fn never_more_than_half_are_out() {
        for (count, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
            let (mut outliers, now) = outliers(count);
            (0..9 * count).for_each(|at| _ = fail(&mut outliers, at / 9, now));
            let out = (0..count).filter(|&at| outliers.left(at, now).is_some()).count();
            assert_eq!(out, most, "of {count}");
        }
    }

    #[test]
    fn each_vain_return_doubles_the_time_and_a_good_while_forgets_it() {
        let (mut outliers, mut now) = outliers(2);
        (0..3).for_each(|_| _ = fail(&mut outliers, 0, now));
        for seconds in [5, 10, 20, 40, 80, 160, 320, 320] {
            assert_eq!(outliers.left(0, now), Some(seconds * SECOND));
            let before = now;
            now += seconds * SECOND;
            assert!(!outliers.failed(0, before, now, 0.0), "sent while it was out");
            assert!(fail(&mut outliers, 0, now), "the first call that it gets again");
        }
        now += 320 * SECOND;
        outliers.succeeded(0, now, now);
        assert!(fail(&mut outliers, 0, now + SECOND), "it was not well for long");
        now += 5_000 * SECOND;
        outliers.succeeded(0, now, now);
        assert!(!outliers.any());
        assert_eq!([(); 3].map(|()| fail(&mut outliers, 0, now)), [false, false, true]);
        assert_eq!(outliers.left(0, now), Some(5 * SECOND));
    }

    #[test]
    fn the_time_is_jittered_and_none_is_never() {
        let (mut outliers, now) = outliers(2);
        (0..3).for_each(|_| _ = outliers.failed(0, now, now, 1.0));
        assert_eq!(outliers.left(0, now), Some(SECOND.mul_f64(6.25)));
        let mut never = Outliers::new([Rule { after: 0, ..RULE }; 2].into_iter());
        assert!((0..100).all(|_| !fail(&mut never, 0, now)));
    }
}
