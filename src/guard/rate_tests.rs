//! Tests of the rates: exact at their limits, and against a naive model.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn passes(debts: &Debts, debtor: Debtor, rate: Rate, now: Duration) -> bool {
    debts.charge(debtor, rate, 1, now).is_ok()
}

#[test]
fn so_many_pass_at_once_and_one_more_does_not() {
    for n in [1, 2, 7, 20, 100, 1_000_003] {
        let (debts, rate) = (Debts::new(10), Rate::per_minute(n).expect("a limit"));
        debts.charge(Debtor::House, rate, n - 1, seconds(5)).expect("n - 1");
        assert!(passes(&debts, Debtor::House, rate, seconds(5)), "{n}");
        let hold = debts.charge(Debtor::House, rate, 1, seconds(5)).expect_err("n + 1");
        assert!(matches!(hold, Hold::Wait(wait) if wait > Duration::ZERO && wait <= MINUTE), "{n}: {hold:?}");
        assert!(passes(&debts, Debtor::Slow(1), rate, seconds(5)), "another one has its own");
    }
    assert_eq!(Rate::per_minute(0), None);
}

#[test]
fn who_waits_as_long_as_it_was_told_passes_and_a_moment_earlier_does_not() {
    for (n, wait) in [(100, Duration::from_millis(600)), (20, seconds(3)), (7, Duration::from_nanos(8_571_428_572))] {
        let (debts, rate) = (Debts::new(10), Rate::per_minute(n).expect("a limit"));
        debts.charge(Debtor::House, rate, n, Duration::ZERO).expect("n");
        assert_eq!(debts.charge(Debtor::House, rate, 1, Duration::ZERO), Err(Hold::Wait(wait)));
        assert!(!passes(&debts, Debtor::House, rate, wait - Duration::from_nanos(1)));
        assert!(passes(&debts, Debtor::House, rate, wait));
        assert!(!passes(&debts, Debtor::House, rate, wait), "and one only");
    }
}

#[test]
fn what_is_more_than_a_period_allows_is_told_apart() {
    let (debts, rate) = (Debts::new(10), Rate::per_minute(5).expect("a limit"));
    assert_eq!(debts.charge(Debtor::House, rate, 6, seconds(1)), Err(Hold::Never));
    assert_eq!(debts.charge(Debtor::House, rate, 5, seconds(1)), Ok(Noted::Yes));
}

#[test]
fn a_refund_makes_it_as_it_was() {
    let (debts, rate) = (Debts::new(10), Rate::per_minute(2).expect("a limit"));
    for _ in 0..5 {
        assert!(passes(&debts, Debtor::House, rate, seconds(1)));
        debts.refund(Debtor::House, rate, 1);
    }
    assert!(passes(&debts, Debtor::House, rate, seconds(1)) && passes(&debts, Debtor::House, rate, seconds(1)));
    assert!(!passes(&debts, Debtor::House, rate, seconds(1)));
    debts.refund(Debtor::Slow(4), rate, 1);
    assert_eq!(debts.len(), 1, "who owes nothing gets nothing");
}

#[test]
fn who_has_paid_is_forgotten() {
    let (debts, rate) = (Debts::new(200_000), Rate::per_minute(60).expect("a limit"));
    for client in 0..10_000 {
        assert!(passes(&debts, Debtor::Slow(client), rate, seconds(1)));
    }
    let sweep = |now| (0..PARTS / SWEPT_AT_ONCE).map(|_| debts.sweep(now)).sum::<usize>();
    assert_eq!(sweep(Duration::from_millis(1_999)), 10_000, "a second each");
    assert_eq!(sweep(seconds(2)), 0);
    assert!(debts.is_empty());
    assert!(debts.parts.iter().all(|part| part.lock().is_ok_and(|part| part.due.capacity() < 16)));
}

#[test]
fn with_all_its_places_taken_it_lets_new_ones_pass_and_says_so() {
    for max in [1, 3, 4_000] {
        let (debts, rate) = (Debts::new(max), Rate::per_minute(1).expect("a limit"));
        let charge = |client: usize, now| debts.charge(Debtor::Slow(client as u128), rate, 1, now);
        for client in 0..max {
            assert_eq!(charge(client, seconds(1)), Ok(Noted::Yes), "{client} of {max}");
        }
        assert_eq!(charge(max, seconds(1)), Ok(Noted::NoRoom));
        assert_eq!(charge(max, seconds(1)), Ok(Noted::NoRoom), "again and again");
        assert!(charge(0, seconds(1)).is_err(), "who is known is held to it");
        assert_eq!(charge(max, seconds(61)), Ok(Noted::Yes), "others have paid meanwhile");
    }
}

/// The same as a queue at a counter that serves one each period over `most`, and has room for `most`.
struct Counter {
    each: Duration,
    most: usize,
    /// When each of those in it will be done.
    queue: VecDeque<Duration>,
}

impl Counter {
    fn passes(&mut self, now: Duration) -> bool {
        while self.queue.front().is_some_and(|done| *done <= now) {
            self.queue.pop_front();
        }
        // The one who is being served frees its place bit by bit, not at its end.
        let rest = self.queue.back().map_or(Duration::ZERO, |last| *last - now);
        let may = rest + self.each <= self.each * self.most as u32;
        if may {
            self.queue.push_back(self.queue.back().map_or(now, |last| (*last).max(now)) + self.each);
        }
        may
    }
}

proptest! {
    #[test]
    fn passes_whom_a_counter_has_room_for(
        most in prop::sample::select(vec![1_u64, 2, 3, 6, 10, 60]),
        pauses in prop::collection::vec(prop_oneof![Just(0), 0_u64..30_000, 0_u64..500_000], 1..300),
    ) {
        let (debts, rate) = (Debts::new(10), Rate::per_minute(most).expect("a limit"));
        let mut counter = Counter { each: MINUTE / most as u32, most: most as usize, queue: VecDeque::new() };
        let (mut now, mut passed) = (Duration::ZERO, Vec::new());
        for pause in pauses {
            now += Duration::from_millis(pause);
            let may = counter.passes(now);
            let charged = debts.charge(Debtor::House, rate, 1, now);
            prop_assert_eq!(charged.is_ok(), may);
            match charged {
                Ok(_) => passed.push(now),
                Err(Hold::Wait(wait)) => prop_assert!(wait > Duration::ZERO && wait <= MINUTE),
                Err(Hold::Never) => prop_assert!(false, "one is never too much"),
            }
        }
        // In no minute more than what it lets in at once and what is paid meanwhile.
        for (at, first) in passed.iter().enumerate() {
            let within = passed[at..].iter().filter(|it| **it < *first + MINUTE).count();
            prop_assert!(within as u64 <= 2 * most, "{} in a minute, of {}", within, most);
        }
    }
}
