//! Zones with hysteresis: raised at a mark, cleared when a figure has stayed below a lower one for a calm time.

use std::time::Duration;

use super::Config;
use crate::guard::Zone;
use crate::meter::Named;

/// On while something is bad; off again only after it was good for a while.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Switch {
    is_on: bool,
    /// Since when the figure has been such that it changes the switch.
    since: Option<Duration>,
}

/// How long a figure must stay on one side until a switch believes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) on_after: Duration,
    pub(super) off_after: Duration,
}

impl Switch {
    /// Looks at a figure of `now`; what is neither bad nor good changes nothing. Whether the switch is on.
    pub(super) fn look(&mut self, now: Duration, is_bad: bool, is_good: bool, patience: Patience) -> bool {
        let (changes, after) = if self.is_on { (is_good, patience.off_after) } else { (is_bad, patience.on_after) };
        if !changes {
            self.since = None;
        } else if now >= *self.since.get_or_insert(now) + after {
            *self = Self { is_on: !self.is_on, since: None };
        }
        self.is_on
    }

    pub(super) const fn is_on(self) -> bool {
        self.is_on
    }
}

/// The shares at which the zones begin, and how they end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks {
    /// Of warning, critical and emergency.
    shares: [f64; 3],
    margin: f64,
    calm: Duration,
}

impl Marks {
    pub(super) fn new(config: &Config) -> Self {
        let percents = [config.warning_percent, config.critical_percent, config.emergency_percent];
        Self {
            shares: percents.map(|percent| percent as f64 / 100.0),
            margin: config.clear_margin_percent as f64 / 100.0,
            calm: Duration::from_secs(config.calm_s),
        }
    }

    /// The zone that a share is in, without memory.
    #[cfg(test)]
    pub(super) fn of(&self, share: f64) -> Zone {
        Zone::ALL[self.shares.iter().filter(|&&mark| share >= mark).count()]
    }
}

/// One figure's zone: a switch for each mark.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Dial([Switch; 3]);

impl Dial {
    /// Looks at the share of `now`. What can't be told is as good as calm. The zone.
    pub(super) fn look(&mut self, now: Duration, share: Option<f64>, marks: &Marks) -> Zone {
        let patience = Patience { on_after: Duration::ZERO, off_after: marks.calm };
        for (switch, &mark) in self.0.iter_mut().zip(&marks.shares) {
            let is_bad = share.is_some_and(|share| share >= mark);
            let is_good = share.is_none_or(|share| share < mark - marks.margin);
            switch.look(now, is_bad, is_good, patience);
        }
        self.zone()
    }

    pub(super) fn zone(&self) -> Zone {
        let highest = self.0.iter().rposition(|switch| switch.is_on());
        Zone::ALL[highest.map_or(0, |at| at + 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CALM_S: u64 = 10;

    /// The zone after each reading, one a second, in percent.
    fn zones(percents: impl IntoIterator<Item = f64>) -> Vec<Zone> {
        let (mut dial, marks) = (Dial::default(), Marks::new(&Config { calm_s: CALM_S, ..Config::default() }));
        let each = percents.into_iter().enumerate();
        each.map(|(at, percent)| dial.look(Duration::from_secs(at as u64), Some(percent / 100.0), &marks)).collect()
    }

    fn changes(zones: &[Zone]) -> usize {
        zones.windows(2).filter(|two| two[0] != two[1]).count()
    }

    #[test]
    fn raised_at_the_mark_and_cleared_below_the_lower_one_after_calm() {
        use Zone::{Critical, Emergency, Safe, Warning};
        assert_eq!(zones([74.9, 75.0, 84.9, 85.0, 94.9, 95.0, 200.0]), {
            [Safe, Warning, Warning, Critical, Critical, Emergency, Emergency]
        });
        // 90 is not below 90; from then on ten seconds below it.
        let falling = zones([95.0, 90.0].into_iter().chain([89.9; 12]));
        assert_eq!((falling[1], falling[11], falling[12], falling[13]), (Emergency, Emergency, Critical, Critical));
        // All at once where it falls to nothing; a second over the lower mark begins the calm anew.
        let gone = zones([95.0].into_iter().chain([0.0; 5]).chain([70.0]).chain([0.0; 11]));
        assert_eq!((gone[11], gone[16], gone[17]), (Warning, Warning, Safe));
    }

    #[test]
    fn what_cannot_be_told_is_calm() {
        let marks = Marks::new(&Config { calm_s: 1, ..Config::default() });
        let mut dial = Dial::default();
        assert_eq!(dial.look(Duration::ZERO, Some(0.99), &marks), Zone::Emergency);
        assert_eq!(dial.look(Duration::from_secs(1), None, &marks), Zone::Emergency);
        assert_eq!(dial.look(Duration::from_secs(2), None, &marks), Zone::Safe);
    }

    proptest! {
        /// Noise of less than the margin about any level moves the zone at most once from where it settles.
        #[test]
        fn a_noisy_reading_does_not_flap(level in 0.0..110.0_f64, noise in prop::collection::vec(-2.4..2.4_f64, 2..400)) {
            let zones = zones(noise.into_iter().map(|off| level + off));
            prop_assert!(changes(&zones) <= 1, "{zones:?}");
        }

        /// Whatever is read: no zone is lower than the reading of the moment, and each fall was calm for its time.
        #[test]
        fn no_zone_is_too_low_and_none_falls_early(percents in prop::collection::vec(0.0..110.0_f64, 1..400)) {
            let marks = Marks::new(&Config::default());
            let zones = zones(percents.clone());
            for (at, (&zone, &percent)) in zones.iter().zip(&percents).enumerate() {
                prop_assert!(zone >= marks.of(percent / 100.0));
                if at > 0 && zone < zones[at - 1] {
                    let mark = [75.0, 85.0, 95.0][zones[at - 1].index() - 1];
                    let calm = &percents[at - CALM_S as usize..=at];
                    prop_assert!(calm.iter().all(|&percent| percent < mark - 5.0), "{calm:?}");
                }
            }
            // A zone that has been left comes back at most once in a calm time.
            prop_assert!(changes(&zones) <= 4 + 6 * percents.len() / CALM_S as usize);
        }
    }
}
