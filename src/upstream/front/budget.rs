//! How many retries there may be: a tenth of the calls, so that a server that fails is not asked twice as much for it.

use std::time::Duration;

/// What one retry costs: each call brings a hundredth of it for each percent.
const RETRY: u32 = 100;
/// Most retries that are saved up: a burst of failures after a quiet hour is not answered with a burst of retries.
const SAVED_MAX: u32 = 10 * RETRY;
/// Times that a call is sent at most.
pub(super) const ATTEMPTS_MAX: u8 = 3;
/// The pause before the first retry; it doubles.
const PAUSE: Duration = Duration::from_millis(50);

/// Retries that are left, in hundredths.
#[derive(Debug)]
pub(super) struct Budget {
    percent: u32,
    left: u32,
}

impl Budget {
    /// With one retry in it, so that a call of a quiet upstream may have one; without any if `percent` is 0.
    pub(super) const fn new(percent: u32) -> Self {
        Self { percent, left: if percent > 0 { RETRY } else { 0 } }
    }

    /// A call came.
    #[inline]
    pub(super) const fn earn(&mut self) {
        let left = self.left.saturating_add(self.percent);
        self.left = if left < SAVED_MAX { left } else { SAVED_MAX };
    }

    /// Takes one retry out, if there is one.
    pub(super) const fn spend(&mut self) -> bool {
        if self.left < RETRY {
            return false;
        }
        self.left -= RETRY;
        true
    }
}

/// The pause before the next attempt, after so many; between half and the whole of it, so that many do not come at once.
pub(super) fn pause(attempts: u8, dice: f64) -> Duration {
    let whole = PAUSE * 2_u32.pow(u32::from(attempts.clamp(1, ATTEMPTS_MAX)) - 1);
    whole.mul_f64(0.5 + dice / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_ten_is_retried_and_no_hoard_is_kept() {
        let mut budget = Budget::new(10);
        let retries = (0..1_000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        assert_eq!(retries.count(), 101, "a tenth, and the first");
        (0..100_000).for_each(|_| budget.earn());
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 10);
    }

    #[test]
    fn none_percent_is_none() {
        let mut budget = Budget::new(0);
        (0..1_000).for_each(|_| budget.earn());
        assert!(!budget.spend());
    }

    #[test]
    fn pauses_double_and_differ() {
        assert_eq!((pause(1, 1.0), pause(2, 1.0)), (PAUSE, PAUSE * 2));
        assert_eq!(pause(1, 0.0), PAUSE / 2);
    }
}
