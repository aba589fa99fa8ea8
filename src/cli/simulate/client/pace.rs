//! Things that begin at a steady rate, whatever becomes of them: an open loop does not wait for answers.

/// When the next is due, in microseconds since the begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Microseconds from one to the next; none: nothing ever begins.
    every: Option<f64>,
    /// The part of `every` that the first waits, so that several tables do not begin all at the same moment.
    offset: f64,
    /// How many have begun.
    begun: u64,
}

impl Pace {
    /// This table's part of `per_s` things a second: table `index` of `all`.
    pub(super) fn new(per_s: f64, index: u32, all: u32) -> Self {
        let own = per_s / f64::from(all);
        let every = (own.is_finite() && own > 0.0).then_some(1e6 / own);
        Self { every, offset: f64::from(index) / f64::from(all), begun: 0 }
    }

    /// When the next should begin.
    pub(super) fn next(&self) -> Option<u64> {
        self.every.map(|every| ((self.begun as f64 + self.offset) * every) as u64)
    }

    /// Lets the next begin if it is time; returns when it should have.
    pub(super) fn take(&mut self, now: u64) -> Option<u64> {
        let due = self.next().filter(|due| *due <= now)?;
        self.begun += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(pace: &mut Pace, now: u64) -> usize {
        std::iter::from_fn(|| pace.take(now)).count()
    }

    #[test]
    fn a_late_look_makes_up_for_what_was_due() {
        let mut pace = Pace::new(1_000.0, 0, 1);
        assert_eq!(begun(&mut pace, 0), 1);
        assert_eq!(begun(&mut pace, 999), 0);
        assert_eq!(begun(&mut pace, 10_000), 10, "due at 1 ms to 10 ms");
        assert_eq!(pace.next(), Some(11_000));
    }

    #[test]
    fn tables_share_a_rate_and_take_turns() {
        let mut tables: Vec<Pace> = (0..3).map(|index| Pace::new(30.0, index, 3)).collect();
        let firsts: Vec<_> = tables.iter().filter_map(Pace::next).collect();
        assert_eq!(firsts, [0, 33_333, 66_666]);
        let all: usize = tables.iter_mut().map(|pace| begun(pace, 9_999_999)).sum();
        assert_eq!(all, 300, "30 a second for 10 s");
    }

    #[test]
    fn no_rate_is_no_beginning() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Pace::new(rate, 0, 2).next(), None, "{rate}");
        }
    }
}
