//! The end of a house, stage by stage: not ready any more, nobody new, those who are in told to go over a time.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{LOOK_AGAIN, Tree};
use crate::actor::Order;
use crate::config::Config;

/// How often more clients are told to go.
const STEP: Duration = Duration::from_millis(100);
/// How often it is told how many are left.
const TELL: Duration = Duration::from_secs(1);
/// How long clients that talk all the time are served after everybody was told to go, for them to end what they do.
const TALK_ON: Duration = Duration::from_secs(2);
/// How long their calls are refused after that, so that each hears it, before they are parted as they talk.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// The times of a drain, from its begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    /// So long it is only not ready: new clients are served.
    notice: Duration,
    /// Over so long those who are in are told to go, after that.
    spread: Duration,
    /// So long all who talk are served, after that.
    talk_on: Duration,
    /// So long they are refused.
    last_calls: Duration,
    /// At the end of this all is over.
    within: Duration,
}

/// How far those who are in are told to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    per_mille: u16,
    /// Calls are refused.
    closing: bool,
    /// Who talks is not parted.
    gently: bool,
}

impl Times {
    /// `clients` of `seats` are in: fewer are told to go in less time, at the same rate. Half of the time at least is left for
    /// what they wait for.
    fn new(config: &Config, clients: usize, seats: usize) -> Self {
        let ms = Duration::from_millis;
        let within = ms(config.drain_ms);
        let notice = ms(config.drain_notice_ms).min(within);
        let share = clients.min(seats) as f64 / seats.max(1) as f64;
        let spread = ms(config.drain_spread_ms).mul_f64(share).min((within - notice) / 2);
        let rest = within - notice - spread;
        Self { notice, spread, talk_on: TALK_ON.min(rest / 2), last_calls: LAST_CALLS.min(rest / 4), within }
    }

    /// The same with a successor there: nobody has to look away first.
    const fn at_once(self) -> Self {
        Self { notice: Duration::ZERO, ..self }
    }

    /// So long after the notice.
    fn step(&self, since: Duration) -> Step {
        let told = if since < self.spread { since.as_secs_f64() / self.spread.as_secs_f64() } else { 1.0 };
        let closing = self.spread + self.talk_on;
        Step {
            per_mille: (told * 1_000.0) as u16,
            closing: since >= closing,
            gently: since < closing + self.last_calls,
        }
    }
}

impl Tree {
    /// Ends: not ready at once, no new clients after a notice, and those who are in are told to go over a time, when what is
    /// in flight for them is answered. True when the last one has gone; false at the end of `drain_ms`.
    pub fn drain(&self) -> bool {
        let began = Instant::now();
        let succeeded = self.was_handed_over();
        let seats = &self.house.seats;
        let times = Times::new(&self.config, seats.taken(), seats.max());
        let times = if succeeded { times.at_once() } else { times };
        self.ready.store(false, Ordering::Release);
        tracing::info!(
            clients = seats.taken(),
            notice_ms = times.notice.as_millis() as u64,
            spread_ms = times.spread.as_millis() as u64,
            within_ms = times.within.as_millis() as u64,
            "draining; a second signal ends at once"
        );
        std::thread::sleep(times.notice);
        // Whoever serves calls in flight is still restarted; a shard that fails from now on has nobody left to serve.
        self.house.draining.store(true, Ordering::Release);
        // What others hold too is not ours to shut: who waits there, waits for them.
        let is_left = succeeded || self.ports.kept || self.services.succeeding.load(Ordering::Acquire);
        self.order(|| if is_left { Order::Leave } else { Order::Shut });
        self.tell_to_go(began, &times);
        seats.taken() == 0
    }

    fn tell_to_go(&self, began: Instant, times: &Times) {
        let (mut stepped, mut told) = (None, Instant::now());
        while began.elapsed() < times.within && !self.shards_have_ended() {
            let since = began.elapsed().saturating_sub(times.notice);
            if stepped.is_none_or(|at: Instant| at.elapsed() >= STEP) {
                stepped = Some(Instant::now());
                let Step { per_mille, closing, gently } = times.step(since);
                self.house.closing.store(closing, Ordering::Release);
                self.order(|| Order::Drain { per_mille, gently });
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                tracing::info!(clients = self.house.seats.taken(), calls = self.house.in_flight.taken(), "left");
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn shards_have_ended(&self) -> bool {
        let tree = self.supervisor.view();
        let mut shards = tree.children().filter(|(group, _)| *group == "shards");
        shards.all(|(_, shard)| matches!(shard.state, "ended" | "given up"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(change: impl FnOnce(&mut Config), clients: usize) -> Times {
        let mut config = Config::default();
        change(&mut config);
        Times::new(&config, clients, 100_000)
    }

    #[test]
    fn a_full_house_is_told_over_the_whole_time_and_a_smaller_one_at_the_same_rate() {
        let seconds = Duration::from_secs;
        let none = |_: &mut Config| {};
        assert_eq!(times(none, 100_000).spread, seconds(10));
        assert_eq!(times(none, 50_000).spread, seconds(5));
        assert_eq!(times(none, 0).spread, Duration::ZERO);
        assert_eq!(
            times(|config| config.drain_ms = 6_000, 100_000).spread,
            seconds(3),
            "half of the time is for answers"
        );
        let noticed = times(|config| (config.drain_notice_ms, config.drain_ms) = (4_000, 10_000), 100_000);
        assert_eq!((noticed.notice, noticed.spread), (seconds(4), seconds(3)));
        assert_eq!(noticed.at_once().notice, Duration::ZERO);
    }

    #[test]
    fn each_step_tells_its_share_and_only_the_last_ones_interrupt() {
        let times = times(|_| {}, 100_000);
        let at = |ms| {
            let Step { per_mille, closing, gently } = times.step(Duration::from_millis(ms));
            (per_mille, closing, gently)
        };
        assert_eq!(at(0), (0, false, true));
        assert_eq!(at(2_500), (250, false, true));
        assert_eq!(at(9_999), (999, false, true));
        assert_eq!(at(10_000), (1_000, false, true));
        assert_eq!(at(12_000), (1_000, true, true));
        assert_eq!(at(13_000), (1_000, true, false));
        let steps: Vec<u16> = (0..=1_000).map(|step| at(step * 10).0).collect();
        assert!(steps.is_sorted() && steps.windows(2).all(|two| two[1] - two[0] <= 2), "no step is a rush");
        assert_eq!(super::Times { spread: Duration::ZERO, ..times }.step(Duration::ZERO).per_mille, 1_000);
    }
}
