//! The queue, rule by rule.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn who(tenant: u16, weight: u16, priority: u8, client: u128) -> Who {
    Who { tenant: Tenant(tenant), share: Share { weight, priority }, client }
}

struct Line {
    queue: Queue<u64>,
    start: Instant,
}

impl Line {
    fn new() -> Self {
        Self { queue: Queue::new(), start: Instant::now() }
    }

    fn push(&mut self, who: Who) -> u64 {
        let number = self.queue.number();
        let entered = self.start + Duration::from_millis(number);
        let deadline = Some(entered + Duration::from_secs(1));
        let waiting = Waiting { call: number, who, arrived: entered, entered, deadline, attempts: 0 };
        self.queue.push(number, waiting);
        number
    }

    fn pop(&mut self) -> Option<Waiting<u64>> {
        self.pop_at(false)
    }

    fn pop_at(&mut self, late: bool) -> Option<Waiting<u64>> {
        self.queue.pop(|_| late)
    }

    /// Whose calls the next ones are.
    fn served(&mut self, calls: usize) -> Vec<u16> {
        (0..calls).filter_map(|_| self.pop()).map(|waiting| waiting.who.tenant.0).collect()
    }
}

fn count<T: PartialEq>(all: &[T], one: &T) -> usize {
    all.iter().filter(|other| *other == one).count()
}

#[test]
fn one_clients_calls_go_in_the_order_in_which_they_came_or_the_newest_first() {
    let mut line = Line::new();
    let who = who(0, 1, 0, 7);
    let numbers: Vec<u64> = (0..6).map(|_| line.push(who)).collect();
    let first: Vec<u64> = (0..3).filter_map(|_| line.pop()).map(|waiting| waiting.call).collect();
    assert_eq!(first, numbers[..3]);
    let newest: Vec<u64> = std::iter::from_fn(|| line.pop_at(true)).map(|waiting| waiting.call).collect();
    assert_eq!(newest, [numbers[5], numbers[4], numbers[3]]);
    assert!(line.queue.is_empty() && line.queue.classes.is_empty());
}

#[test]
fn many_clients_of_one_call_each_go_in_order_or_the_newest_first() {
    let mut line = Line::new();
    let numbers: Vec<u64> = (0..6).map(|client| line.push(who(0, 1, 0, client))).collect();
    assert_eq!(line.pop().unwrap().call, numbers[0]);
    assert_eq!(line.pop_at(true).unwrap().call, numbers[5]);
    assert_eq!(line.pop_at(true).unwrap().call, numbers[4]);
    assert_eq!(line.pop().unwrap().call, numbers[1]);
}

#[test]
fn clients_of_one_tenant_take_turns() {
    let mut line = Line::new();
    (0..50).for_each(|_| _ = line.push(who(0, 1, 0, 1)));
    (0..3).for_each(|_| _ = line.push(who(0, 1, 0, 2)));
    let clients: Vec<u128> = (0..6).filter_map(|_| line.pop()).map(|waiting| waiting.who.client).collect();
    assert_eq!(clients, [1, 2, 1, 2, 1, 2]);
}

#[test]
fn tenants_share_by_weight_and_who_was_away_has_saved_nothing_up() {
    let mut line = Line::new();
    for _ in 0..300 {
        line.push(who(1, 1, 0, 1));
        line.push(who(2, 3, 0, 2));
    }
    let served = line.served(100);
    assert_eq!((count(&served, &1), count(&served, &2)), (25, 75));
    (0..100).for_each(|_| _ = line.push(who(3, 1, 0, 3)));
    let served = line.served(100);
    assert!((19..=21).contains(&count(&served, &3)), "{served:?}");
}

#[test]
fn who_comes_and_goes_has_no_more_than_its_share() {
    let mut line = Line::new();
    let mut served = Vec::new();
    (0..2_000).for_each(|_| _ = line.push(who(1, 10, 0, 1)));
    for _ in 0..1_000 {
        if line.queue.classes[&Reverse(0)].accounts.get(&Tenant(2)).is_none_or(|account| account.len == 0) {
            line.push(who(2, 1, 0, 2));
        }
        served.extend(line.served(1));
    }
    assert!((80..=100).contains(&count(&served, &2)), "one in eleven: {}", count(&served, &2));
}

#[test]
fn a_higher_priority_goes_first_and_a_lower_one_has_a_ninth() {
    let mut line = Line::new();
    for _ in 0..500 {
        line.push(who(1, 1, 0, 1));
        line.push(who(2, 1, 5, 2));
        line.push(who(3, 1, 9, 3));
    }
    let served = line.served(100);
    assert_eq!(served[0], 3);
    let shares = [1, 2, 3].map(|tenant| count(&served, &tenant));
    assert_eq!(shares, [11, 11, 78], "the lower ones once for eight passes each");
}

#[test]
fn whoever_has_most_of_the_room_makes_room() {
    let mut line = Line::new();
    assert_eq!(line.queue.victim(&who(1, 1, 0, 1), |_| false), None, "there is nobody");
    let heavy: Vec<u64> = (0..10).map(|_| line.push(who(1, 1, 0, 1))).collect();
    assert_eq!(line.queue.victim(&who(1, 1, 0, 1), |_| false), None, "its own newest is the newcomer");
    assert_eq!(line.queue.victim(&who(1, 1, 0, 1), |_| true), Some(heavy[0]));
    assert_eq!(line.queue.victim(&who(2, 1, 0, 2), |_| false), Some(heavy[9]));
    assert_eq!(line.queue.victim(&who(2, 1, 9, 2), |_| true), Some(heavy[0]));
    assert_eq!(line.queue.victim(&who(1, 1, 0, 2), |_| false), Some(heavy[9]), "another client of the same tenant");
    (0..9).for_each(|_| _ = line.push(who(2, 1, 0, 2)));
    assert_eq!(line.queue.victim(&who(2, 1, 0, 2), |_| false), None, "one more would be as many");
    assert_eq!(line.queue.victim(&who(2, 2, 0, 2), |_| false), Some(heavy[9]), "it is entitled to twice as many");
}

#[test]
fn a_place_counts_those_who_go_before() {
    let mut line = Line::new();
    assert_eq!(line.queue.place(&who(1, 1, 0, 1), false), 1);
    (0..90).for_each(|_| _ = line.push(who(1, 1, 0, 1)));
    assert_eq!(line.queue.place(&who(1, 1, 0, 1), false), 91);
    assert_eq!(line.queue.place(&who(1, 1, 0, 2), false), 2, "another client of the same tenant takes turns with it");
    assert_eq!(line.queue.place(&who(2, 1, 0, 3), false), 2, "so does another tenant");
    assert_eq!(line.queue.place(&who(2, 9, 0, 3), false), 1);
    assert_eq!(line.queue.place(&who(2, 1, 1, 3), false), 1, "no higher one waits");
    assert_eq!(line.queue.place(&who(1, 1, 0, 2), true), 2, "one round of two clients");
    line.push(who(1, 1, 0, 2));
    assert_eq!(line.queue.place(&who(1, 1, 0, 2), true), 4, "its second one: two rounds, as both come again");
    assert_eq!(line.queue.place(&who(2, 1, 0, 3), true), 2);
    line.push(who(2, 1, 1, 3));
    assert_eq!(line.queue.place(&who(1, 1, 0, 1), false), 93);
}

#[test]
fn what_goes_before_a_call_are_those_of_its_tenant_and_what_that_has_had_too_much() {
    let mut line = Line::new();
    assert_eq!(line.queue.ahead(&who(1, 1, 0, 1), false), 0.0);
    (0..8).for_each(|_| _ = line.push(who(1, 4, 0, 1)));
    line.push(who(2, 1, 0, 2));
    assert_eq!(line.queue.ahead(&who(1, 4, 0, 1), false), 2.0, "eight, of a weight of four");
    assert_eq!(line.queue.ahead(&who(1, 4, 0, 5), false), 0.25, "clients take turns");
    assert_eq!(line.queue.ahead(&who(2, 1, 0, 2), false), 1.0);
    assert_eq!(line.queue.ahead(&who(3, 1, 0, 3), false), 0.0);
    line.pop();
    assert_eq!(line.queue.ahead(&who(1, 4, 0, 1), false), 2.0, "one less waits, and one more it has had");
}

#[test]
fn all_are_looked_at_in_the_order_in_which_they_are_served() {
    for late in [false, true] {
        let mut line = Line::new();
        for client in [1, 1, 2, 1, 3, 2] {
            line.push(who(1, 1, 0, client));
        }
        line.push(who(2, 1, 0, 9));
        let queue = &line.queue;
        let seen = std::cell::RefCell::new(Vec::new());
        let look = |tenant: &u16, ahead: f64, waiting: &Waiting<u64>| {
            seen.borrow_mut().push((*tenant, ahead, waiting.call));
            ahead >= 4.0
        };
        let mut found = queue.hopeless(|_| late, |who| who.tenant.0, look);
        let mut seen = seen.into_inner();
        seen.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
        assert_eq!(seen.pop(), Some((2, 0.0, 7)));
        let served: Vec<u64> =
            std::iter::from_fn(|| line.pop_at(late)).map(|it| it.call).filter(|&it| it != 7).collect();
        let looked: Vec<u64> = seen.iter().map(|seen| seen.2).collect();
        found.sort_unstable();
        let (mut first, mut last) = (looked.clone(), served[4..].to_vec());
        first.sort_unstable();
        last.sort_unstable();
        assert_eq!(first, [1, 2, 3, 4, 5, 6]);
        if late {
            assert_eq!(found.len(), 2);
        } else {
            assert_eq!((looked, found), (served, last));
        }
    }
}

#[test]
fn deadlines_are_met_in_their_order() {
    let mut line = Line::new();
    let numbers: Vec<u64> = (0..3).map(|client| line.push(who(0, 1, 0, client))).collect();
    let first = line.queue.first_deadline().unwrap();
    assert!(line.queue.take_expired(first - Duration::from_nanos(1)).is_none());
    assert_eq!(line.queue.take_expired(first).unwrap().call, numbers[0]);
    assert!(line.queue.take_expired(first).is_none());
    line.queue.remove(numbers[1]);
    assert_eq!(line.queue.take_expired(first + Duration::from_secs(9)).unwrap().call, numbers[2]);
    assert_eq!(line.queue.first_deadline(), None);
}

#[test]
fn accounts_of_those_who_left_are_not_kept_for_ever() {
    let mut line = Line::new();
    line.push(who(0, 1, 0, 0));
    for tenant in 1..=5_000 {
        let number = line.push(who(tenant, 1, 0, 1));
        line.queue.remove(number);
    }
    assert!(line.queue.classes[&Reverse(0)].accounts.len() < 50);
}

#[derive(Debug, Clone)]
enum Step {
    Push(Who),
    Pop(bool),
    /// The call at this place among all that were put in.
    Remove(usize),
    Victim(Who, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let anyone = (0..4_u16, 0..4_u16, 0..3_u8, 0..3_u128).prop_map(|(tenant, weight, priority, client)| {
        let (tenant, weight, priority) = (tenant, weight.max(tenant % 2), priority.min(tenant as u8));
        who(tenant, weight, priority, client)
    });
    let step = prop_oneof![
        4 => anyone.clone().prop_map(Step::Push),
        2 => any::<bool>().prop_map(Step::Pop),
        1 => any::<usize>().prop_map(Step::Remove),
        1 => (anyone, any::<bool>()).prop_map(|(who, newest)| Step::Victim(who, newest)),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Whatever comes and goes, in whatever order: each call leaves once, and the counts are right.
    #[test]
    fn each_call_leaves_once(steps in steps()) {
        let (mut line, mut inside) = (Line::new(), Vec::new());
        for step in steps {
            match step {
                Step::Push(who) => inside.push(line.push(who)),
                Step::Pop(newest) => {
                    let call = line.pop_at(newest).map(|waiting| waiting.call);
                    prop_assert_eq!(call.is_some(), !inside.is_empty());
                    if let Some(call) = call {
                        let at = inside.iter().position(|&known| known == call);
                        inside.swap_remove(at.expect("it was inside"));
                    }
                }
                Step::Remove(at) if inside.is_empty() => prop_assert!(line.queue.remove(at as u64).is_none()),
                Step::Remove(at) => {
                    let number = inside.swap_remove(at % inside.len());
                    prop_assert!(line.queue.remove(number).is_some() && line.queue.remove(number).is_none());
                }
                Step::Victim(who, newest) => {
                    let place = line.queue.place(&who, false);
                    prop_assert!(place >= 1 && place <= (inside.len() + 1) * 2, "{} of {}", place, inside.len());
                    if let Some(victim) = line.queue.victim(&who, |_| newest) {
                        prop_assert!(inside.contains(&victim));
                    }
                }
            }
            prop_assert_eq!(line.queue.len(), inside.len());
            prop_assert_eq!(line.queue.classes.values().map(|class| class.len).sum::<usize>(), inside.len());
            let first = inside.iter().min().map(|&number| line.start + Duration::from_millis(number + 1_000));
            prop_assert_eq!(line.queue.first_deadline(), first);
        }
        let mut left: Vec<u64> = std::iter::from_fn(|| line.pop()).map(|waiting| waiting.call).collect();
        left.sort_unstable();
        inside.sort_unstable();
        prop_assert_eq!(left, inside);
        prop_assert!(line.queue.classes.is_empty() && line.queue.deadlines.is_empty());
    }

    /// While all wait all the time, each has its share of the places, within one.
    #[test]
    fn shares_are_as_the_weights(weights in prop::collection::vec(1..20_u16, 2..6)) {
        let mut line = Line::new();
        for (tenant, &weight) in weights.iter().enumerate() {
            (0..400).for_each(|_| _ = line.push(who(tenant as u16, weight, 0, 1)));
        }
        let served = line.served(400);
        let all: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        for (tenant, &weight) in weights.iter().enumerate() {
            let (got, share) = (count(&served, &(tenant as u16)) as f64, 400.0 * f64::from(weight) / all);
            prop_assert!((got - share).abs() <= weights.len() as f64, "tenant {} has {} of {}", tenant, got, share);
        }
    }
}
