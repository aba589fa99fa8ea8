//! What a profile asks of the clients, and what they note while they do it: counts and waits by the second, refusals by
//! reason.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::order::{Deaths, new_histogram};

/// Reasons of refusals that are told apart; the others are one together.
const REASONS_MAX: usize = 32;
/// What the rest of the reasons are called.
const OTHER_REASONS: &str = "other reasons";

/// How long some waited, as `(microseconds, count)`.
pub(super) type Waits = Vec<(u64, u64)>;

/// Load for a time, by a schedule that no answer moves. The rates are over all client processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Drive {
    /// How long calls and departures go on to begin, in milliseconds.
    pub(super) ms: u64,
    /// Calls a second, over all clients but those of a greedy tenant.
    pub(super) calls_per_s: f64,
    /// Calls a second of the greedy tenant, which is number 0.
    pub(super) greedy_per_s: f64,
    /// Clients a second that take leave and come again at once.
    pub(super) turnover_per_s: f64,
    /// Client numbers below this want to be in; who is refused tries again when it was told to.
    pub(super) total: u32,
    /// All connections are cut first, and everybody comes back at once.
    pub(super) cut: bool,
    /// At the end of the time, who is not in stays out. Otherwise it is waited for, as long as a client's patience.
    pub(super) give_up: bool,
    /// An answer later than this is too late, in milliseconds; 0: none is.
    pub(super) deadline_ms: u64,
}

/// What was seen during a [`Drive`].
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Drove {
    /// By the second since its begin.
    pub(super) seconds: Vec<Second>,
    /// Refusals of clients and of calls, by reason.
    pub(super) refusals: BTreeMap<String, Refused>,
    /// Calls that failed, by cause.
    pub(super) failed: Deaths,
    /// From the connect of each client that came in to its first call answered, in the attempt that succeeded.
    pub(super) handshakes: Waits,
    /// From the begin until each client that came was in.
    pub(super) back: Waits,
    /// How late calls were sent, by the schedule.
    pub(super) late: Waits,
    /// Calls by tenant; empty without tenants.
    pub(super) tenants: BTreeMap<u32, Calls>,
    /// Clients that wanted in and were not at the end.
    pub(super) outside: u64,
}

/// What happened in one second.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Second {
    #[serde(flatten)]
    pub(super) calls: Calls,
    /// Calls and clients that were refused.
    pub(super) refused: u64,
    /// Calls that failed, or were not answered.
    pub(super) failed: u64,
    /// Clients that came in.
    pub(super) came: u64,
    /// Clients that took leave.
    pub(super) left: u64,
    /// How long the calls waited that were answered.
    pub(super) waits: Waits,
}

/// Calls by what became of them. An answer counts where it came, not where it was asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Calls {
    pub(super) asked: u64,
    pub(super) answered: u64,
    /// Answered within the deadline.
    pub(super) in_time: u64,
}

/// The refusals of one reason.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refused {
    pub(super) count: u64,
    /// Those that said when to come again.
    pub(super) hinted: u64,
    /// Those that said nothing at all: the connection was closed.
    pub(super) silent: u64,
    /// From the request, or the connect, to the refusal.
    pub(super) waits: Waits,
}

impl Drove {
    pub(super) fn merge(&mut self, other: Self) {
        if self.seconds.len() < other.seconds.len() {
            self.seconds.resize(other.seconds.len(), Second::default());
        }
        for (second, more) in self.seconds.iter_mut().zip(other.seconds) {
            second.merge(more);
        }
        for (reason, more) in other.refusals {
            let refused = self.refusals.entry(self.place_for(reason)).or_default();
            refused.count += more.count;
            refused.hinted += more.hinted;
            refused.silent += more.silent;
            refused.waits.extend(more.waits);
        }
        for (tenant, more) in other.tenants {
            self.tenants.entry(tenant).or_default().add(more);
        }
        self.failed.merge(other.failed);
        self.handshakes.extend(other.handshakes);
        self.back.extend(other.back);
        self.late.extend(other.late);
        self.outside += other.outside;
    }

    /// Under which name a refusal is counted: its own, while there is room for another.
    pub(super) fn place_for(&self, reason: String) -> String {
        let has_room = self.refusals.len() < REASONS_MAX || self.refusals.contains_key(&reason);
        if has_room { reason } else { OTHER_REASONS.to_owned() }
    }

    /// All seconds together.
    pub(super) fn whole(&self) -> Second {
        let mut whole = Second::default();
        for second in &self.seconds {
            whole.merge(second.clone());
        }
        whole.waits = waits_of(&histogram_of(&whole.waits));
        whole
    }
}

impl Second {
    pub(super) fn merge(&mut self, other: Self) {
        self.calls.add(other.calls);
        self.refused += other.refused;
        self.failed += other.failed;
        self.came += other.came;
        self.left += other.left;
        self.waits.extend(other.waits);
    }
}

impl Calls {
    pub(super) fn add(&mut self, more: Self) {
        self.asked += more.asked;
        self.answered += more.answered;
        self.in_time += more.in_time;
    }
}

/// What was recorded, without the places where nothing was.
pub(super) fn waits_of(histogram: &Histogram<u64>) -> Waits {
    histogram.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
}

/// The wait in seconds that this share of all did not exceed.
pub(super) fn quantile(waits: &Waits, share: f64) -> Option<f64> {
    let histogram = histogram_of(waits);
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(share) as f64 / 1e6)
}

/// Waits as they can be asked for their parts, in microseconds.
pub(super) fn histogram_of(waits: &Waits) -> Histogram<u64> {
    let mut merged = new_histogram();
    for &(micros, count) in waits {
        merged.saturating_record_n(micros, count);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(count: u64) -> Refused {
        Refused { count, hinted: count, silent: 0, waits: vec![(10, count)] }
    }

    #[test]
    fn what_two_processes_saw_adds_up_second_by_second() {
        let second = |answered, wait| Second {
            calls: Calls { asked: 5, answered, in_time: answered },
            waits: vec![(wait, answered)],
            ..Second::default()
        };
        let mut one = Drove { seconds: vec![second(3, 100)], ..Drove::default() };
        one.refusals.insert("full".into(), refused(2));
        let mut two = Drove { seconds: vec![second(1, 900), second(4, 900)], outside: 1, ..Drove::default() };
        two.refusals.insert("full".into(), refused(1));
        two.tenants.insert(3, Calls { asked: 9, answered: 8, in_time: 7 });
        one.merge(two);
        let counts: Vec<_> = one.seconds.iter().map(|second| (second.calls.asked, second.calls.answered)).collect();
        assert_eq!(counts, [(10, 4), (5, 4)]);
        assert_eq!(one.whole().calls, Calls { asked: 15, answered: 8, in_time: 8 });
        assert_eq!((one.refusals["full"].count, one.tenants[&3].in_time, one.outside), (3, 7, 1));
        assert!(quantile(&one.whole().waits, 0.25).is_some_and(|wait| wait < 2e-4));
        assert!(quantile(&one.whole().waits, 0.99).is_some_and(|wait| (8.9e-4..9.1e-4).contains(&wait)));
        assert_eq!(quantile(&Waits::new(), 0.5), None);
    }

    #[test]
    fn a_gateway_with_ever_new_reasons_fills_no_memory() {
        let mut drove = Drove::default();
        for number in 0..1_000 {
            let mut other = Drove::default();
            other.refusals.insert(format!("reason {number}"), refused(1));
            drove.merge(other);
        }
        assert_eq!(drove.refusals.len(), REASONS_MAX + 1);
        assert_eq!(drove.refusals[OTHER_REASONS].count, 1_000 - REASONS_MAX as u64);
    }

    #[test]
    fn it_survives_the_pipe() {
        let mut drove = Drove { seconds: vec![Second::default()], back: vec![(1, 2)], ..Drove::default() };
        drove.refusals.insert("full \"now\"".into(), refused(1));
        let line = serde_json::to_string(&drove).expect("JSON");
        assert_eq!(serde_json::from_str::<Drove>(&line).expect("back"), drove);
    }
}
