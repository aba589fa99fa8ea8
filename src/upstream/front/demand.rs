//! How much each tenant asks for, and what that leaves to one that wants more: a queue is shared with those to come, too.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::queue::{PASSED_MAX, Who};
use crate::guard::Tenant;

/// What is asked is counted over one to two of these: long enough to see a tenant that asks once a second.
const WINDOW: Duration = Duration::from_secs(5);
/// A rate is never taken from less: one call just now is no flood.
const LEAST: Duration = Duration::from_millis(100);
/// How often the tenants are put in order anew.
const FRESH: Duration = Duration::from_millis(50);

/// Calls that came while there was little room, by tenant.
#[derive(Debug)]
pub(super) struct Demand {
    asked: HashMap<(u8, Tenant), Asked>,
    /// When the current window began, and when the one before it did.
    began: Instant,
    before: Instant,
    /// By priority, those that ask least for their weight first; as of `fresh`.
    classes: BTreeMap<Reverse<u8>, Vec<Rate>>,
    fresh: Option<Instant>,
    /// There is room enough: what was asked before says nothing of what comes.
    is_calm: bool,
}

#[derive(Debug, Default)]
struct Asked {
    weight: u16,
    now: u32,
    before: u32,
}

/// What one tenant asks for.
#[derive(Debug, Clone, Copy)]
struct Rate {
    tenant: Tenant,
    weight: f64,
    /// Calls a second.
    rate: f64,
}

impl Demand {
    pub(super) fn new(now: Instant) -> Self {
        let (asked, classes) = (HashMap::new(), BTreeMap::new());
        Self { asked, began: now, before: now, classes, fresh: None, is_calm: true }
    }

    /// A call has come while there was room for many more: who asks how much does not matter.
    #[inline]
    pub(super) const fn calm(&mut self) {
        self.is_calm = true;
    }

    /// A call has come, whatever becomes of it.
    pub(super) fn asked(&mut self, who: &Who, now: Instant) {
        if std::mem::take(&mut self.is_calm) {
            self.asked.clear();
            (self.began, self.before, self.fresh) = (now, now, None);
        }
        self.roll(now);
        let asked = self.asked.entry((who.share.priority, who.tenant)).or_default();
        asked.weight = who.share.weight.max(1);
        asked.now = asked.now.saturating_add(1);
    }

    fn roll(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.began);
        if since < WINDOW {
            return;
        }
        // After a quiet time, what was before says nothing.
        let is_old = since >= WINDOW * 2;
        self.asked.retain(|_, asked| {
            asked.before = if is_old { 0 } else { asked.now };
            asked.now = 0;
            asked.before > 0
        });
        (self.before, self.began) = (if is_old { now } else { self.began }, now);
    }

    /// Calls a second that a tenant gets for each unit of its weight if it always has one waiting, where the server takes
    /// `served` a second in all: what is left when all others get what they ask for, or as much for theirs.
    pub(super) fn left_to(&mut self, priority: u8, tenant: Tenant, weight: u16, served: f64, now: Instant) -> f64 {
        if self.fresh.is_none_or(|fresh| now.saturating_duration_since(fresh) >= FRESH) {
            self.refresh(now);
        }
        let sum = |rates: &Vec<Rate>| rates.iter().map(|rate| rate.rate).sum::<f64>();
        let higher: f64 = self.classes.range(..Reverse(priority)).map(|(_, rates)| sum(rates)).sum();
        let is_last = self.classes.range(Reverse(priority)..).all(|(&of, _)| of == Reverse(priority));
        let passed = f64::from(PASSED_MAX);
        let mut left = (served - higher).max(served / (passed + 1.0));
        if !is_last {
            left *= passed / (passed + 1.0);
        }
        let others = self.classes.get(&Reverse(priority)).map_or(&[][..], |rates| rates);
        let others = || others.iter().filter(|other| other.tenant != tenant);
        let mut weights = f64::from(weight.max(1)) + others().map(|other| other.weight).sum::<f64>();
        for other in others() {
            if other.rate / other.weight >= left / weights {
                break;
            }
            left -= other.rate;
            weights -= other.weight;
        }
        left / weights
    }

    fn refresh(&mut self, now: Instant) {
        self.roll(now);
        self.classes.clear();
        let since = now.saturating_duration_since(self.before).max(LEAST).as_secs_f64();
        for (&(priority, tenant), asked) in &self.asked {
            let rate = f64::from(asked.now.saturating_add(asked.before)) / since;
            let weight = f64::from(asked.weight);
            self.classes.entry(Reverse(priority)).or_default().push(Rate { tenant, weight, rate });
        }
        for rates in self.classes.values_mut() {
            rates.sort_by(|one, other| (one.rate / one.weight).total_cmp(&(other.rate / other.weight)));
        }
        self.fresh = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Share;

    /// Each tenant with its weight, its priority and its calls a second, over `seconds`.
    fn demand(tenants: &[(u16, u8, u32)], seconds: u32) -> (Demand, Instant) {
        let start = Instant::now();
        let mut demand = Demand::new(start);
        for step in 0..seconds * 100 {
            let now = start + Duration::from_millis(10) * step;
            for (tenant, &(weight, priority, rate)) in tenants.iter().enumerate() {
                let who = Who { tenant: Tenant(tenant as u16), share: Share { weight, priority }, client: 0 };
                let due = |step: u32| step * rate / 100;
                (due(step)..due(step + 1)).for_each(|_| demand.asked(&who, now));
            }
        }
        (demand, start + Duration::from_secs(1) * seconds)
    }

    fn left(demand: &mut Demand, (priority, tenant, weight): (u8, u16, u16), now: Instant) -> f64 {
        demand.left_to(priority, Tenant(tenant), weight, 100.0, now)
    }

    #[track_caller]
    fn about(rate: f64, expected: f64) {
        assert!((rate - expected).abs() <= expected * 0.03 + 0.2, "{rate}, not {expected}");
    }

    #[test]
    fn who_asks_much_gets_what_the_others_leave_and_they_what_is_fair() {
        let (mut demand, now) = demand(&[(1, 0, 500), (1, 0, 10), (1, 0, 20)], 7);
        about(left(&mut demand, (0, 0, 1), now), 70.0);
        // If one of them asked for more, it would share with the greedy one.
        about(left(&mut demand, (0, 1, 1), now), 40.0);
        about(left(&mut demand, (0, 9, 1), now), 35.0);
        about(left(&mut demand, (0, 9, 3), now), 70.0 / 4.0);
    }

    #[test]
    fn alone_it_has_all_and_what_was_long_ago_is_forgotten() {
        let mut none = Demand::new(Instant::now());
        about(left(&mut none, (0, 0, 2), Instant::now()), 50.0);
        let (mut demand, now) = demand(&[(1, 0, 90), (1, 0, 500)], 7);
        about(left(&mut demand, (0, 0, 1), now), 50.0);
        about(left(&mut demand, (0, 0, 1), now + WINDOW * 3), 100.0);
        assert!(demand.asked.is_empty());
    }

    #[test]
    fn a_higher_priority_leaves_a_ninth_at_least_and_a_lower_one_takes_that() {
        let (mut demand, now) = demand(&[(1, 9, 60), (1, 5, 500), (1, 1, 500)], 7);
        about(left(&mut demand, (9, 0, 1), now), 100.0 * 8.0 / 9.0);
        about(left(&mut demand, (5, 1, 1), now), 40.0 * 8.0 / 9.0);
        about(left(&mut demand, (1, 2, 1), now), 100.0 / 9.0);
    }

    #[test]
    fn what_was_asked_while_there_was_room_says_nothing() {
        let (mut demand, now) = demand(&[(1, 0, 100)], 3);
        about(left(&mut demand, (0, 7, 1), now), 50.0);
        demand.calm();
        let later = now + Duration::from_millis(100);
        (0..5).for_each(|_| demand.asked(&Who { tenant: Tenant(3), ..Who::default() }, later));
        about(left(&mut demand, (0, 7, 1), later + Duration::from_millis(200)), 75.0);
    }

    #[test]
    fn the_first_moments_count_as_a_tenth_of_a_second() {
        let (mut demand, now) = demand(&[(1, 0, 100)], 0);
        demand.asked(&Who { tenant: Tenant(3), ..Who::default() }, now);
        about(left(&mut demand, (0, 0, 1), now), 90.0);
    }
}
