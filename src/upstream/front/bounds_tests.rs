//! The machine in front of an upstream, at its bounds: each exactly, and who is let in where little is known or many ask.

use super::tests::{SECOND, Stage, who};
use super::*;

#[test]
fn before_any_call_was_answered_a_small_multiple_of_the_places_may_wait() {
    // Five seconds a call: half of nine tenths of 295 seconds.
    let mut stage = Stage::of(1, 500);
    stage.goes();
    (0..26).for_each(|_| _ = stage.waits());
    assert_eq!(stage.refused().why, Shed::TooLate);
    // A quarter of the deadline a call: 0.45 of three quarters of it.
    let mut stage = Stage::new(100, Knobs { deadline: SECOND * 8, ..Knobs::default() });
    (0..100).for_each(|_| stage.goes());
    (0..135).for_each(|_| _ = stage.waits());
    assert_eq!(stage.refused().why, Shed::TooLate);
    // Those in flight have lasted for longer than that.
    stage.now += SECOND * 4;
    assert_eq!((stage.shed(), stage.front.queued()), (Some(Shed::TooLate), 101), "place 101 would be free in 4 s");
    assert_eq!(std::iter::from_fn(|| stage.shed()).count(), 33);
    assert_eq!(stage.refused().why, Shed::TooLate);
}

#[test]
fn who_has_no_deadline_is_not_refused_for_a_time_that_nobody_knows() {
    let mut stage = Stage::new(1, Knobs { queue_max: 500, deadline: Duration::ZERO, ..Knobs::default() });
    stage.goes();
    (0..500).for_each(|_| _ = stage.waits());
    stage.now += SECOND * 1_000;
    assert_eq!((stage.refused().why, stage.shed()), (Shed::QueueFull, None));
}

#[test]
fn a_tenant_waits_for_its_own_share_not_for_the_whole_of_the_places() {
    // Ten calls a second; nine others ask for one each.
    let mut stage = Stage::new(10, Knobs { deadline: SECOND * 11, ..Knobs::default() });
    stage.serves(50);
    (0..10).for_each(|_| stage.goes());
    for _ in 0..5 {
        (1..10).for_each(|tenant| _ = stage.offer_of(tenant));
        for _ in 0..9 {
            stage.now += SECOND / 9;
            stage.answers();
            stage.sent();
        }
    }
    // One a second is left: it may wait for four and a half.
    let waits = (0..90).filter(|_| matches!(stage.offer_of(0), Offered::Waits(_))).count();
    assert!((4..=8).contains(&waits), "{waits} of the greedy one wait");
    // One that asks for less than its share does not notice.
    assert!(matches!(stage.offer_of(1), Offered::Waits(_)));
}

#[test]
fn who_cannot_be_served_in_time_any_more_as_others_came_is_told_at_once() {
    let mut stage = Stage::new(10, Knobs { deadline: SECOND * 11, ..Knobs::default() });
    stage.serves(50);
    (0..10).for_each(|_| stage.goes());
    let waits = (0..90).filter(|_| matches!(stage.offer(), Offered::Waits(_))).count();
    assert!((40..=46).contains(&waits), "alone it has all the places: {waits}");
    // Now others come, ten calls a second of each.
    for _ in 0..10 {
        stage.now += SECOND / 10;
        (1..10).for_each(|tenant| _ = stage.offer_of(tenant));
    }
    let told: Vec<_> = std::iter::from_fn(|| stage.shed()).collect();
    assert!(told.iter().all(|why| *why == Shed::TooLate) && (30..=38).contains(&told.len()), "{}", told.len());
    assert_eq!(stage.front.breaker(), BreakerState::Closed);
}

#[test]
fn a_server_that_gives_no_place_for_long_is_expected_to_give_none_for_as_long_again() {
    let stage = |places: usize| {
        let mut stage = Stage::new(places, Knobs { deadline: SECOND * 11, ..Knobs::default() });
        stage.serves(50);
        (0..places).for_each(|_| stage.goes());
        stage
    };
    let mut few = stage(3);
    few.now += SECOND * 5;
    few.waits();
    few.now += SECOND;
    assert_eq!(few.refused().why, Shed::TooLate);
    // All of many calls at once: it got slower, and each place is expected as late.
    let mut many = stage(10);
    many.now += SECOND * 2;
    (0..5).for_each(|_| _ = many.waits());
    many.now += SECOND * 6;
    assert_eq!(many.refused().why, Shed::TooLate, "the sixth, in 0.8 s each");
}

#[test]
fn each_bound_is_exact() {
    for n in [1, 2, 7] {
        // Places.
        let mut stage = Stage::of(n, 0);
        (0..n).for_each(|_| stage.goes());
        assert_eq!(stage.refused().why, Shed::QueueFull, "{} in flight", n + 1);
        stage.answers();
        stage.goes();
        assert_eq!(stage.refused().why, Shed::QueueFull);
        // The queue.
        let mut stage = Stage::of(1, n);
        stage.goes();
        (0..n).for_each(|_| _ = stage.waits());
        assert_eq!(stage.refused().why, Shed::QueueFull, "{} wait", n + 1);
        // Calls that wait for their next try count.
        stage.answers();
        stage.sent();
        assert!(stage.front.retry(99, who(0), (stage.now, 1), stage.now).is_ok());
        assert_eq!((stage.front.queued(), stage.refused().why), (n, Shed::QueueFull));
        // Retries: the first, and one for each ten calls.
        let mut stage = Stage::of(100, 100);
        let mut retries = 0;
        for call in 1..=n * 10 {
            stage.goes();
            stage.ends(Ending::Failed);
            stage.front.breaker = Stage::of(1, 1).front.breaker;
            while stage.front.retry(1, who(0), (stage.now, 1), stage.now).is_ok() {
                retries += 1;
            }
            assert_eq!(retries, 1 + call / 10, "after {call} calls");
        }
        // Calls that a breaker needs.
        let mut stage = Stage::new(100, Knobs { breaker_calls_min: n as u32, ..Knobs::default() });
        for call in 1..=n {
            assert_eq!(stage.front.breaker(), BreakerState::Closed, "after {} calls", call - 1);
            stage.goes();
            stage.ends(Ending::Failed);
        }
        assert_eq!(stage.front.breaker(), BreakerState::Open);
    }
}

#[test]
fn a_server_that_turns_slow_opens_the_breaker_though_few_calls_are_tried() {
    for places in [1, 2, 16, 1_000] {
        let mut stage = Stage::new(places, Knobs { deadline: SECOND * 30, ..Knobs::default() });
        stage.serves(100);
        let mut timeouts = 0;
        while stage.front.breaker() == BreakerState::Closed {
            assert!(timeouts < 60, "it never opens with {places} places");
            let mut sent = 0;
            while sent < places.min(20) && matches!(stage.offer(), Offered::Go(_)) {
                sent += 1;
            }
            stage.now += SECOND * 30;
            for _ in 0..sent {
                stage.front.left();
                stage.front.saw(Ending::TimedOut, stage.now - SECOND * 30, stage.now);
                timeouts += 1;
            }
            while stage.front.next(stage.now).is_some() {}
        }
        assert!(timeouts <= 40, "{timeouts} with {places} places");
    }
}

#[test]
fn a_cut_says_something_of_the_server_only_if_that_had_the_call_for_long() {
    // Calls of half a second to one and a half; two seconds from arrival to answer.
    let knobs = Knobs { deadline: SECOND * 2, ..Knobs::default() };
    let mut stage = Stage::new(100, knobs);
    let some = |call: u32| SECOND * (50 + call * 37 % 100) / 100;
    for call in 0..100 {
        stage.goes();
        stage.front.left();
        stage.front.saw(Ending::Answered(Some(some(call))), stage.now, stage.now);
    }
    let cut = |stage: &mut Stage, had: Duration| {
        stage.front.left();
        stage.front.saw(Ending::Cut, stage.now - had, stage.now);
    };
    // They had waited for their places: the server had them no longer than others.
    for call in 0..1_000 {
        stage.now += SECOND / 100;
        (0..2).for_each(|_| stage.goes());
        stage.answers();
        cut(&mut stage, some(call));
    }
    assert_eq!((stage.front.limit(), stage.front.breaker()), (100, BreakerState::Closed));
    // Longer than any should.
    stage.goes();
    cut(&mut stage, SECOND * 4);
    assert_eq!(stage.front.limit(), 16);
    // A server that answers nobody.
    let mut stage = Stage::new(100, knobs);
    stage.serves(50);
    (0..100).for_each(|_| stage.goes());
    stage.now += SECOND;
    (0..20).for_each(|_| cut(&mut stage, SECOND));
    assert_eq!((stage.front.limit(), stage.front.breaker()), (90, BreakerState::Open));
}

#[test]
fn a_hiccup_is_not_taken_for_a_server_that_nobody_knows() {
    let mut stage = Stage::new(8, Knobs { deadline: SECOND * 2, ..Knobs::default() });
    for _ in 0..50 {
        stage.goes();
        stage.ends(Ending::Answered(Some(SECOND / 50)));
    }
    (0..8).for_each(|_| stage.goes());
    stage.now += SECOND / 20;
    // A fifth of a second for each at worst: a place each 25 ms, and half of nine tenths of 1.8 s.
    (0..32).for_each(|_| _ = stage.waits());
    assert_eq!(stage.shed(), None);
}

#[test]
fn only_calls_that_are_sent_are_probes() {
    let mut stage = Stage::of(21, 10);
    // One hangs in each place but one.
    (0..21).for_each(|_| stage.goes());
    for _ in 0..20 {
        stage.ends(Ending::Failed);
        if stage.front.breaker() == BreakerState::Closed {
            stage.goes();
        }
    }
    assert_eq!((stage.front.breaker(), stage.front.in_flight()), (BreakerState::Open, 20));
    stage.front.limit.carry(20);
    stage.now += SECOND * 2;
    (0..4).for_each(|_| _ = stage.waits());
    assert_eq!((stage.front.breaker(), stage.sent()), (BreakerState::Open, None));
    // Places become free: they are tried.
    (0..4).for_each(|_| stage.answers());
    let sent: Vec<_> = std::iter::from_fn(|| stage.sent()).collect();
    assert_eq!((sent.len(), stage.front.breaker()), (3, BreakerState::HalfOpen));
}

#[test]
fn what_comes_late_from_elsewhere_may_wait_for_what_is_left_of_its_time() {
    let mut stage = Stage::new(1, Knobs { deadline: SECOND * 11, target: SECOND * 20, ..Knobs::default() });
    stage.serves(50);
    stage.goes();
    (0..3).for_each(|_| _ = stage.waits());
    let (now, since) = (stage.now, |seconds: u32| stage.now - SECOND * seconds);
    // A second of its own, behind four of others.
    assert!(matches!(stage.front.offer(98, who(0), since(7), now), Offered::Refused(98, _)));
    assert!(matches!(stage.front.offer(99, who(0), since(6), now), Offered::Waits(_)));
    stage.now += SECOND * 5;
    assert_eq!(stage.shed(), Some(Shed::Expired));
}
