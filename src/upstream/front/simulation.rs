//! A minute of overload in virtual time: a server with 16 places of a second each, asked five times as much.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::*;
use crate::guard::{Share, Tenant};

const SLOTS: usize = 16;
const SERVICE: Duration = Duration::from_secs(1);
const RUN: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(10);
/// How long the gateway was there before.
const QUIET: Duration = Duration::from_secs(3);

/// One call of the simulation.
#[derive(Debug, Clone, Copy)]
struct Call {
    tenant: u16,
    arrived: Instant,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival { tenant: u16, client: u128 },
    Answer { number: usize },
}

/// How the server is.
#[derive(Clone, Copy, PartialEq)]
enum Server {
    /// It takes what it gets; the gateway knows its size.
    Known,
    /// It answers 429 to what it has no place for, and the gateway knows nothing.
    Refuses,
    /// Known, and three times as slow from the 20th to the 40th second.
    Slows,
}

#[derive(Debug, Default)]
struct Outcome {
    deadline: Duration,
    answered: Vec<(u16, Duration)>,
    refused_at_once: usize,
    refused_later: usize,
    overloads: usize,
    queued_most: usize,
    promises: Vec<Duration>,
}

struct Simulation {
    front: Front<Call>,
    server: Server,
    start: Instant,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, usize, Event)>>,
    order: usize,
    sent: Vec<Option<(Call, Instant, bool)>>,
    busy: usize,
    random: u64,
    /// Everybody in a rhythm, and each call as long as the others.
    regular: bool,
    outcome: Outcome,
}

impl Simulation {
    /// `rates`: how many calls a second each tenant makes.
    fn new(server: Server, rates: &[f64]) -> Self {
        Self::seeded(server, rates, DEADLINE, 7, false)
    }

    fn seeded(server: Server, rates: &[f64], deadline: Duration, seed: u64, regular: bool) -> Self {
        let start = Instant::now();
        let most = if server == Server::Refuses { 10_000 } else { SLOTS };
        let knobs = Knobs { deadline, ..Knobs::default() };
        let mut simulation = Self {
            front: Front::new(most, knobs, 1, start - QUIET),
            server,
            start,
            now: start,
            events: BinaryHeap::new(),
            order: 0,
            sent: Vec::new(),
            busy: 0,
            random: seed,
            regular,
            outcome: Outcome { deadline, ..Outcome::default() },
        };
        if simulation.regular {
            // What it was asked before took no time, or as long as now.
            let before = if seed.is_multiple_of(4) { Duration::from_micros(200) } else { SERVICE };
            (0..1_000).for_each(|_| simulation.front.pace.saw(before));
            simulation.plan_regularly(rates);
            return simulation;
        }
        for (tenant, &rate) in rates.iter().enumerate() {
            // Without a rhythm, as people ask.
            let mut at = 0.0;
            loop {
                at -= dice(&mut simulation.random).max(1e-9).ln() / rate;
                if at >= RUN.as_secs_f64() {
                    break;
                }
                let client = (dice(&mut simulation.random) * 40.0) as u128;
                simulation.plan(start + Duration::from_secs_f64(at), Event::Arrival { tenant: tenant as u16, client });
            }
        }
        simulation
    }

    /// As `lakh simulate` does: the first one asks all the time, and of the others anybody.
    fn plan_regularly(&mut self, rates: &[f64]) {
        let others: f64 = rates[1..].iter().sum();
        for (rate, is_greedy) in [(rates[0], true), (others, false)] {
            for call in 0..(rate * RUN.as_secs_f64()) as u32 {
                let other = 1 + (dice(&mut self.random) * (rates.len() - 1) as f64) as u16;
                let client = (dice(&mut self.random) * 100.0) as u128;
                let tenant = if is_greedy { 0 } else { other };
                let at = self.start + Duration::from_secs_f64(f64::from(call) / rate);
                self.plan(at, Event::Arrival { tenant, client });
            }
        }
    }

    fn plan(&mut self, at: Instant, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, event)));
    }

    fn run(mut self) -> Outcome {
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            // What is due meanwhile.
            while let Some(due) = self.front.due().filter(|&due| due < at) {
                self.now = self.now.max(due);
                self.release();
                assert!(self.front.due().is_none_or(|again| again > due), "it is due for ever");
            }
            self.now = at;
            match event {
                Event::Arrival { tenant, client } => self.arrive(tenant, client),
                Event::Answer { number } => self.answer(number),
            }
            self.release();
            assert!(self.front.queued() <= 1_000 && self.front.in_flight() <= self.front.limit().max(SLOTS * 10));
            self.outcome.queued_most = self.outcome.queued_most.max(self.front.queued());
        }
        assert_eq!((self.front.queued(), self.front.in_flight()), (0, 0), "all are settled");
        self.outcome
    }

    fn arrive(&mut self, tenant: u16, client: u128) {
        let share = Share { weight: 1, priority: 0 };
        let call = Call { tenant, arrived: self.now };
        match self.front.offer(call, Who { tenant: Tenant(tenant), share, client }, self.now, self.now) {
            Offered::Go(call) => self.send(call),
            Offered::Waits(_) => {}
            Offered::Refused(_, refusal) => {
                self.outcome.refused_at_once += 1;
                self.outcome.promises.push(refusal.retry_after);
            }
        }
    }

    fn release(&mut self) {
        while let Some(next) = self.front.next(self.now) {
            match next {
                Next::Send(waiting) => self.send(waiting.call),
                Next::Refuse(..) => self.outcome.refused_later += 1,
            }
        }
    }

    fn send(&mut self, call: Call) {
        let refuses = self.server == Server::Refuses && self.busy >= SLOTS;
        let elapsed = self.now - self.start;
        let slow = self.server == Server::Slows && (20..40).contains(&elapsed.as_secs());
        // Somewhat different each time.
        let differs = if self.regular { 0.5 } else { dice(&mut self.random) };
        let took = SERVICE.mul_f64(0.9 + 0.2 * differs) * if slow { 3 } else { 1 };
        let took = if refuses { Duration::from_millis(2) } else { took };
        self.busy += usize::from(!refuses);
        self.sent.push(Some((call, self.now, refuses)));
        self.plan(self.now + took, Event::Answer { number: self.sent.len() - 1 });
    }

    fn answer(&mut self, number: usize) {
        let (call, sent, refused) = self.sent[number].take().expect("answered once");
        self.front.left();
        if refused {
            self.outcome.overloads += 1;
            self.front.saw(Ending::Overloaded(None), sent, self.now);
        } else {
            self.busy -= 1;
            self.front.saw(Ending::Answered(Some(self.now - sent)), sent, self.now);
            self.outcome.answered.push((call.tenant, self.now - call.arrived));
        }
    }
}

impl Outcome {
    fn in_time(&self) -> usize {
        self.answered.iter().filter(|(_, took)| *took <= self.deadline).count()
    }

    fn of(&self, tenant: u16) -> usize {
        self.answered.iter().filter(|(of, took)| *of == tenant && *took <= self.deadline).count()
    }
}

/// What the server could have served, from the first second to the last.
const CAPACITY: usize = SLOTS * 60;

#[test]
fn under_five_times_the_load_the_server_is_kept_busy_and_what_is_admitted_is_served_in_time() {
    let outcome = Simulation::new(Server::Known, &[80.0]).run();
    let admitted = outcome.answered.len() + outcome.refused_later;
    assert!(outcome.in_time() * 10 >= CAPACITY * 9, "{} of {CAPACITY}", outcome.in_time());
    assert!(outcome.in_time() * 100 >= admitted * 99, "{} of {admitted} admitted", outcome.in_time());
    assert!(outcome.refused_at_once > 3_000 && outcome.queued_most <= 144, "{}", outcome.queued_most);
    let longest = outcome.promises.iter().max().unwrap();
    assert!(*longest <= CROWD_MAX + DEADLINE, "{longest:?}");
    assert!(outcome.promises.iter().all(|promise| !promise.is_zero()));
}

#[test]
fn a_server_that_says_when_it_is_full_is_found_out() {
    let outcome = Simulation::new(Server::Refuses, &[80.0]).run();
    let admitted = outcome.answered.len() + outcome.refused_later;
    assert!(outcome.in_time() * 10 >= CAPACITY * 9, "{} of {CAPACITY}", outcome.in_time());
    assert!(outcome.in_time() * 100 >= admitted * 99, "{} of {admitted} admitted", outcome.in_time());
    assert!(outcome.overloads * 20 <= CAPACITY, "{} were sent in vain", outcome.overloads);
}

#[test]
fn one_tenant_that_asks_fifty_times_its_share_leaves_the_others_theirs() {
    // Four others ask for their share exactly: a fifth of 16 calls a second.
    let share = SLOTS as f64 / 5.0;
    let outcome = Simulation::new(Server::Known, &[50.0 * share, share, share, share, share]).run();
    assert!(outcome.in_time() * 10 >= CAPACITY * 9, "{} of {CAPACITY}", outcome.in_time());
    let asked = (share * 60.0) as usize;
    for tenant in 1..5 {
        assert!(outcome.of(tenant) * 10 >= asked * 9, "tenant {tenant}: {} of {asked}", outcome.of(tenant));
    }
    let admitted = outcome.answered.len() + outcome.refused_later;
    assert!(outcome.in_time() * 100 >= admitted * 99, "{} of {admitted} admitted", outcome.in_time());
}

/// What the published test does: ten tenants, the last one alone asks five times what there is; deadlines of 5.5 seconds.
#[test]
fn what_is_admitted_of_a_greedy_tenant_is_served_in_time_too() {
    let fair = SLOTS as f64 / 10.0;
    let mut rates = vec![fair; 10];
    rates[0] = fair * 50.0;
    let (mut later, mut admitted) = (0, 0);
    for seed in 0..20 {
        let outcome = Simulation::seeded(Server::Known, &rates, SERVICE * 11 / 2, seed, seed.is_multiple_of(2)).run();
        assert!(outcome.in_time() * 10 >= CAPACITY * 9, "{} of {CAPACITY}", outcome.in_time());
        let asked = fair * 60.0;
        for tenant in 1..10 {
            let got = outcome.of(tenant) as f64;
            assert!(got >= asked * 0.9 - asked.sqrt() * 3.0, "tenant {tenant}: {got} of {asked}");
        }
        later += outcome.refused_later;
        admitted += outcome.answered.len() + outcome.refused_later;
        assert!(outcome.refused_later * 50 <= outcome.answered.len(), "{} had waited in vain", outcome.refused_later);
    }
    assert!(later * 100 <= admitted, "{later} of {admitted} had waited in vain");
}

#[test]
fn a_server_that_turns_slow_is_still_kept_busy_with_calls_that_somebody_waits_for() {
    let outcome = Simulation::new(Server::Slows, &[80.0]).run();
    // 40 seconds of 16 calls, and 20 of a third of them.
    let capacity = SLOTS * 40 + SLOTS * 20 / 3;
    assert!(outcome.in_time() * 10 >= capacity * 9, "{} of {capacity}", outcome.in_time());
    assert!(outcome.refused_later <= 150, "{} had waited in vain", outcome.refused_later);
}

#[test]
fn who_asks_less_than_there_is_never_notices() {
    let outcome = Simulation::new(Server::Known, &[8.0]).run();
    assert_eq!(outcome.refused_at_once + outcome.refused_later, 0);
    assert!(outcome.answered.iter().all(|(_, took)| *took < Duration::from_secs(4)));
}
