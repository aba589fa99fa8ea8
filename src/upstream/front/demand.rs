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
/// How often the tenants are put in order anew; with many of them a little more seldom, as it takes longer.
const FRESH: Duration = Duration::from_millis(50);
const FRESH_EACH: Duration = Duration::from_micros(20);

/// Calls that came while there was little room, by tenant.
#[derive(Debug)]
pub(super) struct Demand {
    asked: HashMap<(u8, Tenant), Asked>,
    /// When the current window began, and when the one before it did.
    began: Instant,
    before: Instant,
    /// By priority, as of `fresh`.
    classes: BTreeMap<Reverse<u8>, Class>,
    fresh: Option<Instant>,
    /// There is room enough: what was asked before says nothing of what comes.
    is_calm: bool,
}

#[derive(Debug, Default)]
struct Asked {
    weight: u16,
    now: u32,
    before: u32,
    /// Its place in its class, as of `fresh`; none if it was not there.
    rank: Option<usize>,
}

/// The tenants of one priority, those that ask least for their weight first.
#[derive(Debug, Default)]
struct Class {
    rates: Vec<Rate>,
    /// What all ask for.
    all: Sum,
}

/// What one tenant asks for.
#[derive(Debug, Clone, Copy)]
struct Rate {
    tenant: Tenant,
    own: Sum,
    /// Of those that ask less for their weight.
    less: Sum,
}

/// What some tenants ask for together.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    /// Calls a second.
    rate: f64,
    weight: f64,
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
        self.fresh = None;
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
        let many = u32::try_from(self.asked.len()).unwrap_or(u32::MAX);
        let often = FRESH.max(FRESH_EACH.saturating_mul(many));
        if self.fresh.is_none_or(|fresh| now.saturating_duration_since(fresh) >= often) {
            self.refresh(now);
        }
        let higher: f64 = self.classes.range(..Reverse(priority)).map(|(_, class)| class.all.rate).sum();
        let is_last = self.classes.range(Reverse(priority)..).all(|(&of, _)| of == Reverse(priority));
        let passed = f64::from(PASSED_MAX);
        let mut left = (served - higher).max(served / (passed + 1.0));
        if !is_last {
            left *= passed / (passed + 1.0);
        }
        let left = Sum { rate: left, weight: f64::from(weight.max(1)) };
        let Some(class) = self.classes.get(&Reverse(priority)) else { return left.level() };
        class.leaves(left, self.asked.get(&(priority, tenant)).and_then(|asked| asked.rank))
    }

    fn refresh(&mut self, now: Instant) {
        self.roll(now);
        self.classes.clear();
        let since = now.saturating_duration_since(self.before).max(LEAST).as_secs_f64();
        for (&(priority, tenant), asked) in &self.asked {
            let rate = f64::from(asked.now.saturating_add(asked.before)) / since;
            let own = Sum { rate, weight: f64::from(asked.weight) };
            let rates = &mut self.classes.entry(Reverse(priority)).or_default().rates;
            rates.push(Rate { tenant, own, less: Sum::default() });
        }
        for (&Reverse(priority), class) in &mut self.classes {
            class.rates.sort_by(|one, other| one.own.level().total_cmp(&other.own.level()));
            for (rank, rate) in class.rates.iter_mut().enumerate() {
                rate.less = class.all;
                class.all = class.all.and(rate.own);
                if let Some(asked) = self.asked.get_mut(&(priority, rate.tenant)) {
                    asked.rank = Some(rank);
                }
            }
        }
        self.fresh = Some(now);
    }
}

impl Class {
    /// Calls a second for each unit of weight that are left of `left`, where `weight` is that of the one that takes it, which
    /// is at `rank` itself: each of the others that asks for less than that level gets what it asks for.
    fn leaves(&self, left: Sum, rank: Option<usize>) -> f64 {
        let own = rank.and_then(|rank| self.rates.get(rank)).map_or(Sum::default(), |rate| rate.own);
        let level = |less: Sum| {
            let weight = left.weight + self.all.weight - own.weight - less.weight;
            Sum { rate: left.rate - less.rate, weight }.level()
        };
        // The others, by their place among themselves; and what those ask for that are before it.
        let skips = |at: usize| rank.is_some_and(|rank| at >= rank);
        let less = |at: usize| {
            let sum = self.rates.get(at + usize::from(skips(at))).map_or(self.all, |rate| rate.less);
            if skips(at) { sum.without(own) } else { sum }
        };
        let (mut low, mut high) = (0, self.rates.len() - usize::from(rank.is_some()));
        while low < high {
            let middle = usize::midpoint(low, high);
            let asks = self.rates.get(middle + usize::from(skips(middle))).map_or(0.0, |rate| rate.own.level());
            // From the first one on that asks for as much, all do.
            if asks >= level(less(middle)) { high = middle } else { low = middle + 1 }
        }
        level(less(low))
    }
}

impl Sum {
    fn level(self) -> f64 {
        self.rate / self.weight
    }

    fn and(self, other: Self) -> Self {
        Self { rate: self.rate + other.rate, weight: self.weight + other.weight }
    }

    fn without(self, other: Self) -> Self {
        Self { rate: self.rate - other.rate, weight: self.weight - other.weight }
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

    #[test]
    fn the_level_is_found_as_if_one_after_another_were_asked() {
        for round in 0..200_u16 {
            let some = |tenant: u16, most: u32| (u32::from(tenant) * 37 + u32::from(round) * 11) * 7_919 % most;
            let mut demand = Demand::new(Instant::now());
            let now = demand.began + Duration::from_secs(1);
            let count = round % 9;
            for tenant in 0..count {
                let share = Share { weight: 1 + some(tenant, 3) as u16, priority: 0 };
                let who = Who { tenant: Tenant(tenant), share, client: 0 };
                (0..=some(tenant, 60)).for_each(|_| demand.asked(&who, now - Duration::from_millis(500)));
            }
            for tenant in 0..=count {
                let weight = 1 + some(tenant, 3) as u16;
                let got = left(&mut demand, (0, tenant, weight), now);
                let mut others: Vec<_> = demand.classes.values().flat_map(|class| &class.rates).collect();
                others.retain(|other| other.tenant != Tenant(tenant));
                let weights = others.iter().map(|other| other.own.weight).sum::<f64>();
                let (mut rate, mut weights) = (100.0, f64::from(weight) + weights);
                for Rate { own, .. } in others {
                    if own.level() < rate / weights {
                        (rate, weights) = (rate - own.rate, weights - own.weight);
                    }
                }
                assert!((got - rate / weights).abs() < 1e-6, "{got}, not {}, of {tenant} in {round}", rate / weights);
            }
        }
    }
}
