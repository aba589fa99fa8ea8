//! What `simulate` and its client processes say to each other: one JSON text per line on stdin and stdout.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::Dialect;
use super::drive::{Drive, Drove, Waits, histogram_of};

/// What one client process is made for; given to it as its one argument.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Posting {
    /// Where the gateway listens.
    pub(super) target: SocketAddr,
    pub(super) dialect: Dialect,
    /// The first of this process's tables, counted over all processes.
    pub(super) first_table: u32,
    /// Threads of this process, each with a descriptor table and an event loop of its own.
    pub(super) tables: u32,
    /// Tables of all processes: client number `n` lives in table `n % all_tables`.
    pub(super) all_tables: u32,
    /// Whether each thread takes a descriptor table of its own by `unshare(CLONE_FILES)`.
    pub(super) own_tables: bool,
    /// Makes the echoed contents and the source addresses of this run different from those of another.
    pub(super) seed: u64,
    /// How long a client may wait for an answer.
    pub(super) patience_ms: u64,
    /// Tenants that the clients are spread over, each with a key of its own; 0: they have none.
    pub(super) tenants: u32,
    /// Clients are in when they have shaken hands, without a first call: what is behind the gateway is not to be asked yet.
    pub(super) quiet: bool,
}

/// What the parent asks for. Each order is answered by [`Report::Progress`] lines and one [`Report::Done`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Connect until all client numbers below `total` (over all processes) had their turn.
    Connect { total: u32, wave: u32, in_flight: u32 },
    /// Ping every living client once.
    Ping { in_flight: u32 },
    /// Ask every living client's question once.
    Ask { question: Question, in_flight: u32 },
    /// Wait until every living client has been told of a change that was made at `since`, in microseconds of
    /// [`monotonic_micros`].
    Hear { since: u64 },
    /// Take leave: WebSocket by its close handshake, a session by DELETE, the others by closing.
    Leave { in_flight: u32 },
    /// Load by a schedule.
    Drive(Drive),
}

/// What every client asks once, one at a time: the paths that a message can take through a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Question {
    /// `ping`, where there is one, else as [`Call`](Self::Call): the gateway answers it by itself.
    Ping,
    /// A call of `echo`: answered by whoever offers it.
    Call,
    /// A call of `blob` for 16 KiB: what further bytes of an answer cost.
    Large,
    /// A call of a tool that nobody offers: the gateway refuses it by itself.
    Refused,
}

/// What a client process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// Its threads and tables stand.
    Ready,
    /// It can't do its work at all.
    Failed {
        why: String,
    },
    /// About four times a second while an order is under way.
    Progress {
        live: u64,
        dead: u64,
        /// Of the order's clients, those that need not wait any more.
        waits: u64,
    },
    Done(Muster),
}

/// The state of some clients after an order.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Muster {
    /// Clients that are connected, handshaken, had their echo checked, and idle.
    pub(super) live: u64,
    pub(super) deaths: Deaths,
    /// How long the clients waited, as `(microseconds, count)`, only after [`Order::Ping`] and [`Order::Hear`].
    pub(super) waits: Waits,
    /// What was seen during [`Order::Drive`], and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) drove: Option<Box<Drove>>,
}

impl Muster {
    pub(super) fn merge(&mut self, other: Self) {
        self.live += other.live;
        self.deaths.merge(other.deaths);
        self.waits.extend(other.waits);
        match (&mut self.drove, other.drove) {
            (Some(drove), Some(more)) => drove.merge(*more),
            (drove, more) => *drove = drove.take().or(more),
        }
    }

    /// All waits, in microseconds.
    pub(super) fn histogram(&self) -> Histogram<u64> {
        histogram_of(&self.waits)
    }
}

/// Microseconds from 1 to a little over ten minutes, 3 digits.
#[allow(clippy::missing_panics_doc, reason = "the bounds are constants that the crate accepts; a test makes one")]
pub(super) fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, Duration::from_secs(600).as_micros() as u64, 3).expect("constant bounds are valid")
}

/// Microseconds of the one clock that all processes of a machine share.
pub(super) fn monotonic_micros() -> u64 {
    // Only a clock that does not exist is an error.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    now.as_micros() as u64
}

/// Why a client is dead. A client dies once; the first cause counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// No connection: refused, out of descriptors or ports, reset before the first byte.
    ConnectFailed,
    /// The gateway answered with an error, or a request of HTTP with another status than it should have.
    Refused,
    /// The gateway closed a connection that it should have kept.
    Closed,
    /// Bytes that are no message of the dialect, or no answer to what was asked.
    WrongAnswer,
    /// An answer with the id of another request or another client.
    WrongId,
    /// `echo` did not give back this client's own content.
    WrongEcho,
    /// No answer within the patience of a client.
    NoAnswer,
}

/// One client's end: the cause and what was seen.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) cause: Cause,
    pub(super) detail: String,
    /// What the gateway said, if it refused in so many words.
    pub(super) refusal: Option<Refusal>,
}

/// What a gateway says when it refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: String,
    /// After which time it may go better.
    pub(super) again: Option<Duration>,
}

impl Death {
    pub(super) fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into(), refusal: None }
    }

    pub(super) fn refused(refusal: Refusal, detail: impl Into<String>) -> Self {
        Self { cause: Cause::Refused, detail: detail.into(), refusal: Some(refusal) }
    }
}

/// The dead by cause, with one example of each.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deaths(BTreeMap<Cause, Toll>);

/// How many died of one cause, and what the first of them saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toll {
    pub count: u64,
    pub example: String,
}

impl Deaths {
    pub fn count(&self) -> u64 {
        self.0.values().map(|toll| toll.count).sum()
    }

    /// How many died of `cause`.
    pub fn of(&self, cause: Cause) -> u64 {
        self.0.get(&cause).map_or(0, |toll| toll.count)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Cause, &Toll)> {
        self.0.iter().map(|(cause, toll)| (*cause, toll))
    }

    pub(super) fn add(&mut self, death: Death) {
        self.0.entry(death.cause).or_insert(Toll { count: 0, example: death.detail }).count += 1;
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (cause, toll) in other.0 {
            self.0.entry(cause).or_insert(Toll { count: 0, example: toll.example }).count += toll.count;
        }
    }
}

impl std::fmt::Display for Deaths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, (cause, toll)) in self.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{} x {cause:?} ({})", toll.count, toll.example)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_of_two_processes_add_up_by_cause() {
        let mut one = Deaths::default();
        one.add(Death::new(Cause::Closed, "first"));
        let mut two = Deaths::default();
        two.add(Death::new(Cause::Closed, "second"));
        two.add(Death::new(Cause::NoAnswer, "third"));
        one.merge(two);
        assert_eq!((one.count(), one.of(Cause::Closed), one.of(Cause::NoAnswer)), (3, 2, 1));
        assert_eq!(one.to_string(), "2 x Closed (first); 1 x NoAnswer (third)");
    }

    #[test]
    fn pings_of_two_processes_make_one_distribution() {
        let mut all = Muster { waits: vec![(100, 98)], ..Muster::default() };
        all.merge(Muster { waits: vec![(5_000, 2)], ..Muster::default() });
        let merged = all.histogram();
        assert_eq!(merged.len(), 100);
        assert!(merged.value_at_quantile(0.5) <= 101 && merged.max() >= 5_000);
    }

    #[test]
    fn orders_and_reports_survive_the_pipe() {
        let mut deaths = Deaths::default();
        deaths.add(Death::new(Cause::WrongEcho, "said \"no\""));
        let report = Report::Done(Muster { live: 7, deaths, waits: vec![(3, 1)], drove: None });
        let line = serde_json::to_string(&report).expect("a report is JSON");
        assert!(!line.contains('\n'));
        let Report::Done(back) = serde_json::from_str(&line).expect("and comes back") else { panic!("another report") };
        assert_eq!((back.live, back.deaths.of(Cause::WrongEcho)), (7, 1));
    }
}
