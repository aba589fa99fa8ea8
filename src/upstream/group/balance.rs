//! Whose turn it is among replicas: each by its weight, evenly mixed, and without those that are out.

/// Smooth weighted round robin, as nginx has it (commit 52327e0, 2012): weights 3 and 1 are taken as `a a b a`, not
/// `a a a b`. It counts calls, not those in flight: a replica that fails each call at once has none in flight, and would be
/// given all of them. One that is slow refuses by its own queue what it cannot serve in time, and that is passed on.
#[derive(Debug)]
pub(super) struct Balance {
    weights: Box<[u32]>,
    credits: Box<[i64]>,
}

impl Balance {
    /// Each weight at least 1.
    pub(super) fn new(weights: Box<[u32]>) -> Self {
        let credits = vec![0; weights.len()].into();
        Self { weights, credits }
    }

    /// The place of the next one among those that fit.
    pub(super) fn pick(&mut self, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let (mut best, mut total) = (None, 0);
        for at in (0..self.weights.len()).filter(|&at| fits(at)) {
            let weight = i64::from(self.weights[at]);
            self.credits[at] += weight;
            total += weight;
            if best.is_none_or(|best: usize| self.credits[at] > self.credits[best]) {
                best = Some(at);
            }
        }
        self.credits[best?] -= total;
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(balance: &mut Balance, calls: usize, fits: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..calls).map(|_| balance.pick(&fits).expect("one of them")).collect()
    }

    #[test]
    fn each_gets_its_weight_and_they_are_mixed() {
        let mut balance = Balance::new([3, 1].into());
        assert_eq!(picked(&mut balance, 8, |_| true), [0, 0, 1, 0, 0, 0, 1, 0]);
        let mut balance = Balance::new([5, 1, 2].into());
        let all = picked(&mut balance, 800, |_| true);
        assert_eq!([0, 1, 2].map(|at| all.iter().filter(|&&it| it == at).count()), [500, 100, 200]);
    }

    #[test]
    fn those_that_are_out_get_nothing_and_nothing_is_made_up_for() {
        let mut balance = Balance::new([1, 1, 1].into());
        let without = picked(&mut balance, 100, |at| at != 1);
        assert_eq!([0, 1, 2].map(|at| without.iter().filter(|&&it| it == at).count()), [50, 0, 50]);
        let again = picked(&mut balance, 30, |_| true);
        assert!(again.iter().filter(|&&it| it == 1).count() <= 11, "{again:?}");
        assert_eq!(balance.pick(|_| false), None);
    }
}
