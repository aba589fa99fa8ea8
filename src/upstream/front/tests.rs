//! The machine in front of an upstream, rule by rule, and whatever comes.

use proptest::prelude::*;

use super::*;
use crate::guard::{Share, Tenant};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) struct Stage {
    pub(super) front: Front<u32>,
    pub(super) now: Instant,
    next: u32,
}

pub(super) fn who(tenant: u16) -> Who {
    Who { tenant: Tenant(tenant), share: Share::default(), client: u128::from(tenant) }
}

impl Stage {
    pub(super) fn new(in_flight_max: usize, knobs: Knobs) -> Self {
        let now = Instant::now();
        Self { front: Front::new(in_flight_max, knobs, 1, now), now, next: 0 }
    }

    pub(super) fn of(in_flight_max: usize, queue_max: usize) -> Self {
        Self::new(in_flight_max, Knobs { queue_max, ..Knobs::default() })
    }

    pub(super) fn offer(&mut self) -> Offered<u32> {
        self.offer_of(0)
    }

    pub(super) fn offer_of(&mut self, tenant: u16) -> Offered<u32> {
        self.next += 1;
        self.front.offer(self.next, who(tenant), self.now, self.now)
    }

    #[track_caller]
    pub(super) fn goes(&mut self) {
        let offered = self.offer();
        assert!(matches!(offered, Offered::Go(_)), "{offered:?}");
    }

    #[track_caller]
    pub(super) fn waits(&mut self) -> u64 {
        match self.offer() {
            Offered::Waits(number) => number,
            offered => panic!("{offered:?}"),
        }
    }

    #[track_caller]
    pub(super) fn refused(&mut self) -> Refusal {
        match self.offer() {
            Offered::Refused(_, refusal) => refusal,
            offered => panic!("{offered:?}"),
        }
    }

    /// A call that was sent a second ago ends.
    pub(super) fn ends(&mut self, ending: Ending) {
        self.front.left();
        self.front.saw(ending, self.now - SECOND, self.now);
    }

    pub(super) fn answers(&mut self) {
        self.ends(Ending::Answered(Some(SECOND)));
    }

    /// A call is sent and answered, a second each.
    pub(super) fn serves(&mut self, calls: usize) {
        for _ in 0..calls {
            self.goes();
            self.answers();
        }
    }

    pub(super) fn sent(&mut self) -> Option<u32> {
        match self.front.next(self.now) {
            Some(Next::Send(waiting)) => Some(waiting.call),
            Some(next) => panic!("{next:?}"),
            None => None,
        }
    }

    pub(super) fn shed(&mut self) -> Option<Shed> {
        match self.front.next(self.now) {
            Some(Next::Refuse(_, refusal)) => Some(refusal.why),
            Some(next) => panic!("{next:?}"),
            None => None,
        }
    }
}

#[test]
fn places_are_given_to_the_last_one_then_calls_wait_then_they_are_refused() {
    let mut stage = Stage::of(3, 2);
    (0..3).for_each(|_| stage.goes());
    (0..2).for_each(|_| _ = stage.waits());
    assert_eq!(stage.refused().why, Shed::QueueFull);
    assert_eq!(stage.sent(), None, "no place is free");
    stage.answers();
    assert_eq!((stage.sent(), stage.sent()), (Some(4), None));
    stage.waits();
    assert_eq!(stage.refused().why, Shed::QueueFull);
    assert_eq!((stage.front.in_flight(), stage.front.queued()), (3, 2));
}

#[test]
fn without_a_queue_nobody_waits() {
    let mut stage = Stage::of(1, 0);
    stage.goes();
    assert_eq!(stage.refused().why, Shed::QueueFull);
}

#[test]
fn who_comes_while_others_wait_waits_behind_them() {
    let mut stage = Stage::of(1, 9);
    stage.goes();
    stage.waits();
    stage.answers();
    stage.waits();
    assert_eq!(stage.sent(), Some(2));
}

#[test]
fn what_cannot_be_served_in_time_is_refused_at_once() {
    let mut stage = Stage::new(2, Knobs { deadline: SECOND * 11, ..Knobs::default() });
    stage.serves(50);
    (0..2).for_each(|_| stage.goes());
    // Half a second for each, and the target is nine tenths of ten seconds, half of which are let in.
    (0..9).for_each(|_| _ = stage.waits());
    let refusal = stage.refused();
    assert_eq!(refusal.why, Shed::TooLate);
    assert_eq!(refusal.retry_after, SECOND, "half a second until it may wait, and the place itself");
    let later = stage.refused().retry_after;
    assert_eq!(later, SECOND + SECOND / 2, "the next one is told the next place");
}

#[test]
fn a_call_that_has_waited_until_its_deadline_is_not_sent() {
    let mut stage = Stage::new(1, Knobs { deadline: SECOND * 5, ..Knobs::default() });
    stage.goes();
    stage.waits();
    assert_eq!(stage.front.due(), Some(stage.now + SECOND * 5));
    stage.now += SECOND * 5 - Duration::from_millis(1);
    assert_eq!(stage.shed(), None);
    stage.now += Duration::from_millis(1);
    assert_eq!((stage.shed(), stage.shed()), (Some(Shed::Expired), None));
    assert!(stage.front.is_idle() && stage.front.due().is_none());
}

#[test]
fn a_call_that_could_not_be_answered_in_time_any_more_is_not_sent() {
    let mut stage = Stage::new(1, Knobs { deadline: SECOND * 5, ..Knobs::default() });
    stage.serves(50);
    stage.goes();
    stage.waits();
    stage.now += SECOND * 4;
    assert_eq!(stage.shed(), None);
    stage.now += Duration::from_millis(50);
    stage.answers();
    assert_eq!(stage.shed(), Some(Shed::TooLate));
}

#[test]
fn once_the_oldest_has_waited_too_long_the_newest_go_first() {
    let mut stage = Stage::new(1, Knobs { target: SECOND * 30, ..Knobs::default() });
    stage.goes();
    (0..3).for_each(|_| _ = stage.waits());
    stage.now += SECOND * 30;
    stage.answers();
    assert_eq!(stage.sent(), Some(2), "not longer than the target");
    stage.now += SECOND;
    assert_eq!(stage.refused().why, Shed::TooLate, "no more are let in until the old ones are gone");
    stage.answers();
    assert_eq!(stage.sent(), Some(4));
}

#[test]
fn the_target_is_never_below_twice_the_time_between_two_places() {
    let mut stage = Stage::new(2, Knobs { target: Duration::from_millis(1), ..Knobs::default() });
    stage.serves(50);
    assert_eq!(stage.front.target(stage.now), Some(SECOND));
}

#[test]
fn a_server_without_room_gets_less_and_more_again() {
    let mut stage = Stage::of(100, 100);
    (0..20).for_each(|_| stage.goes());
    stage.ends(Ending::Overloaded(None));
    assert_eq!(stage.front.limit(), 18);
    stage.now += SECOND * 2;
    for _ in 0..18 {
        stage.answers();
        stage.offer();
        stage.sent();
    }
    assert_eq!(stage.front.limit(), 19);
}

#[test]
fn failures_and_slow_answers_do_not_move_the_limit() {
    let mut stage = Stage::of(100, 100);
    for _ in 0..1_000 {
        stage.goes();
        stage.ends(Ending::Answered(Some(SECOND * 100)));
    }
    stage.goes();
    stage.ends(Ending::Failed);
    assert_eq!(stage.front.limit(), 100);
    stage.goes();
    stage.ends(Ending::TimedOut);
    assert_eq!(stage.front.limit(), 16, "silence alone lowers it no further");
}

#[test]
fn retry_after_stops_all_sending_until_then() {
    let mut stage = Stage::of(10, 10);
    stage.goes();
    stage.ends(Ending::Overloaded(Some(SECOND * 7)));
    stage.waits();
    assert_eq!(stage.front.due(), Some(stage.now + SECOND * 7));
    stage.now += SECOND * 7 - Duration::from_millis(1);
    assert_eq!(stage.sent(), None);
    stage.now += Duration::from_millis(1);
    assert_eq!(stage.sent(), Some(2));
}

#[test]
fn a_pause_beyond_the_deadline_refuses_at_once_and_says_how_long() {
    let mut stage = Stage::new(10, Knobs { deadline: SECOND * 10, ..Knobs::default() });
    stage.goes();
    stage.ends(Ending::Overloaded(Some(SECOND * 86_400)));
    let refusal = stage.refused();
    assert_eq!(refusal.why, Shed::TooLate);
    assert!((290..305).contains(&refusal.retry_after.as_secs()), "a day is shortened: {refusal:?}");
    stage.now += PAUSE_MAX;
    stage.goes();
}

fn broken() -> Stage {
    let mut stage = Stage::of(10, 10);
    for _ in 0..20 {
        stage.goes();
        stage.ends(Ending::Failed);
    }
    stage
}

#[test]
fn a_breaker_refuses_at_once_tries_a_few_and_closes() {
    let mut stage = broken();
    assert_eq!((stage.front.breaker(), stage.front.has_turned()), (BreakerState::Open, true));
    let refusal = stage.refused();
    assert_eq!(refusal.why, Shed::BreakerOpen);
    assert!(refusal.retry_after >= SECOND && refusal.retry_after <= SECOND * 2, "{refusal:?}");
    stage.now += SECOND * 2;
    (0..3).for_each(|_| stage.goes());
    assert_eq!((stage.refused().why, stage.front.breaker()), (Shed::BreakerOpen, BreakerState::HalfOpen));
    stage.now += SECOND;
    (0..3).for_each(|_| stage.answers());
    assert_eq!(stage.front.breaker(), BreakerState::Closed);
    (0..10).for_each(|_| stage.goes());
}

#[test]
fn who_waits_when_the_breaker_opens_is_told_at_once() {
    let mut stage = Stage::of(30, 10);
    (0..30).for_each(|_| stage.goes());
    (0..5).for_each(|_| _ = stage.waits());
    (0..20).for_each(|_| stage.ends(Ending::Failed));
    let told: Vec<_> = std::iter::from_fn(|| stage.shed()).collect();
    assert_eq!(told, [Shed::BreakerOpen; 5]);
}

#[test]
fn a_server_that_refuses_even_one_call_at_a_time_is_broken() {
    let mut stage = Stage::of(10, 10);
    for _ in 0..19 {
        stage.goes();
        stage.ends(Ending::Overloaded(None));
        stage.now += SECOND * 2;
    }
    assert_eq!((stage.front.limit(), stage.front.breaker()), (1, BreakerState::Closed), "not twenty yet");
    stage.goes();
    stage.ends(Ending::Overloaded(None));
    assert_eq!(stage.front.breaker(), BreakerState::Open);
}

#[test]
fn a_tenant_with_more_than_its_share_of_the_queue_makes_room() {
    let mut stage = Stage::of(1, 4);
    stage.goes();
    (0..4).for_each(|_| _ = stage.waits());
    assert!(matches!(stage.offer_of(1), Offered::Waits(_)));
    let Some(Next::Refuse(call, refusal)) = stage.front.next(stage.now) else { panic!("somebody made room") };
    assert_eq!((call, refusal.why), (5, Shed::OverShare), "its newest");
    assert_eq!(stage.refused().why, Shed::QueueFull);
    assert_eq!(stage.front.queued(), 4);
}

#[test]
fn a_retry_waits_a_moment_and_has_its_place_again() {
    let mut stage = Stage::of(1, 10);
    stage.goes();
    stage.ends(Ending::Failed);
    let number = stage.front.retry(7, who(0), (stage.now, 1), stage.now).unwrap();
    assert_eq!((stage.sent(), stage.front.get(number)), (None, Some(&7)));
    stage.now = stage.front.due().unwrap();
    assert_eq!(stage.sent(), Some(7));
}

#[test]
fn retries_keep_to_their_number_their_deadline_and_their_budget() {
    let mut stage = Stage::new(1, Knobs { deadline: SECOND, ..Knobs::default() });
    let now = stage.now;
    assert_eq!(stage.front.retry(1, who(0), (now, 3), now), Err(1), "three times are enough");
    assert_eq!(stage.front.retry(1, who(0), (now - SECOND, 1), now), Err(1), "too late");
    assert!(stage.front.retry(1, who(0), (now, 1), now).is_ok());
    assert_eq!(stage.front.retry(1, who(0), (now, 1), now), Err(1), "nothing is left");
}

#[test]
fn a_call_waits_for_its_retry_only_as_long_as_its_client_would() {
    for (pause, waits) in [(RETRY_PAUSE_MAX, true), (RETRY_PAUSE_MAX + Duration::from_millis(1), false)] {
        let mut stage = Stage::of(10, 10);
        stage.goes();
        stage.ends(Ending::Overloaded(Some(pause)));
        assert_eq!(stage.front.retry(1, who(0), (stage.now, 1), stage.now).is_ok(), waits, "{pause:?}");
    }
}

#[test]
fn who_leaves_frees_its_place_wherever_it_waits() {
    let mut stage = Stage::of(1, 2);
    stage.goes();
    let (one, two) = (stage.waits(), stage.waits());
    assert_eq!(stage.refused().why, Shed::QueueFull);
    assert_eq!((stage.front.cancel(one), stage.front.cancel(one)), (Some(2), None));
    stage.waits();
    stage.front.cancel(two);
    let again = stage.front.retry(9, who(0), (stage.now, 1), stage.now).unwrap();
    assert_eq!((stage.front.cancel(again), stage.front.queued()), (Some(9), 1));
    assert_eq!(stage.front.drain(), Some(5));
    assert!(stage.front.is_idle());
}

#[derive(Debug, Clone)]
enum Step {
    Offer(u16),
    /// A call in flight ends.
    End(Ending),
    /// The call at this place among those in flight is tried again.
    Retry,
    Cancel(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wait = prop::option::of((1..3_000_u64).prop_map(Duration::from_millis));
    let ending = prop_oneof![
        6 => (1..5_000_u64).prop_map(|ms| Ending::Answered(Some(Duration::from_millis(ms)))),
        1 => wait.prop_map(Ending::Overloaded),
        1 => Just(Ending::TimedOut),
        2 => Just(Ending::Failed),
    ];
    let step = prop_oneof![
        8 => (0..5_u16).prop_map(Step::Offer),
        6 => ending.prop_map(Step::End),
        1 => Just(Step::Retry),
        1 => any::<usize>().prop_map(Step::Cancel),
        3 => (0..2_000_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    /// Whatever happens: never over a bound, each call settled exactly once, and nothing is forgotten.
    #[test]
    fn each_call_is_settled_once_and_no_bound_is_passed(
        steps in steps(), most in 1..8_usize, queue_max in 0..12_usize, deadline in 0..20_u64,
    ) {
        let mut stage = Stage::new(most, Knobs { queue_max, deadline: SECOND * deadline as u32, ..Knobs::default() });
        // Calls that are nobody's yet, those in flight, and the numbers of those that waited once.
        let (mut open, mut flying, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        let settle = |open: &mut Vec<u32>, call: u32| {
            let at = open.iter().position(|&known| known == call);
            open.swap_remove(at.expect("not settled before"));
        };
        for step in steps {
            match step {
                Step::Offer(tenant) => {
                    open.push(stage.next + 1);
                    match stage.offer_of(tenant) {
                        Offered::Go(call) => flying.push((call, stage.now)),
                        Offered::Waits(number) => numbers.push(number),
                        Offered::Refused(call, refusal) => {
                            prop_assert!(!refusal.retry_after.is_zero());
                            settle(&mut open, call);
                        }
                    }
                }
                Step::End(ending) if !flying.is_empty() => {
                    let (call, sent) = flying.remove(0);
                    stage.front.left();
                    stage.front.saw(ending, sent, stage.now);
                    settle(&mut open, call);
                }
                Step::Retry if !flying.is_empty() => {
                    let (call, sent) = flying.remove(0);
                    stage.front.left();
                    stage.front.saw(Ending::Failed, sent, stage.now);
                    match stage.front.retry(call, who(0), (sent, 1), stage.now) {
                        Ok(number) => numbers.push(number),
                        Err(call) => settle(&mut open, call),
                    }
                }
                Step::Cancel(at) if !numbers.is_empty() => {
                    if let Some(call) = stage.front.cancel(numbers[at % numbers.len()]) {
                        settle(&mut open, call);
                    }
                }
                Step::Pass(ms) => stage.now += Duration::from_millis(ms),
                Step::End(_) | Step::Retry | Step::Cancel(_) => {}
            }
            while let Some(next) = stage.front.next(stage.now) {
                match next {
                    Next::Send(waiting) => {
                        prop_assert!(waiting.deadline.is_none_or(|deadline| stage.now <= deadline));
                        flying.push((waiting.call, stage.now));
                    }
                    Next::Refuse(call, _) => settle(&mut open, call),
                }
            }
            prop_assert!(stage.front.queued() <= queue_max);
            prop_assert!(stage.front.limit() >= 1 && stage.front.limit() <= most);
            prop_assert_eq!(stage.front.in_flight(), flying.len());
            prop_assert!(flying.len() <= most);
            prop_assert_eq!(open.len(), flying.len() + stage.front.queued());
            prop_assert!(stage.front.due().is_none_or(|due| due > stage.now), "it is due for ever");
        }
        // Left alone, with a server that is well, all come to an end.
        for _ in 0..10_000 {
            if open.is_empty() {
                break;
            }
            stage.now += SECOND / 10;
            for (call, sent) in std::mem::take(&mut flying) {
                stage.front.left();
                stage.front.saw(Ending::Answered(None), sent, stage.now);
                settle(&mut open, call);
            }
            while let Some(next) = stage.front.next(stage.now) {
                match next {
                    Next::Send(waiting) => flying.push((waiting.call, stage.now)),
                    Next::Refuse(call, _) => settle(&mut open, call),
                }
            }
        }
        prop_assert!(open.is_empty(), "{} are forgotten", open.len());
    }
}
