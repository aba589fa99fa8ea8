//! How the house does, in the seven figures that plans watch.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::window::Lately;

/// Failures from which their share is judged however few calls there were.
const FAILURES_MIN: u64 = 5;
/// Requests within the window from which their hits are judged: fewer are a few clients that have just come.
const HITS_OF_MIN: u64 = 1_000;

crate::named! {
    /// What is watched.
    #[derive(PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Vital {
        /// Percent of the processor time allowed.
        Cpu = "cpu",
        /// Percent of the memory allowed.
        Memory = "memory",
        /// Milliseconds that 95 of 100 calls at an upstream took at most; each upstream has its own.
        UpstreamP95 = "upstream_p95",
        /// Milliseconds that 99 of 100 messages took here at most: all that lakh answers itself.
        OwnP99 = "own_p99",
        /// Percent of the calls to upstreams that failed.
        Errors = "errors",
        /// Calls that wait for a place at an upstream.
        Queue = "queue",
        /// Percent of the requests that can do without a call of their own (lists, and reads that may join the same one)
        /// which did without. Few are bad.
        CacheHits = "cache_hits",
    }
}

/// The figures of one moment; each is nothing while too little happened to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Vitals {
    /// Percent.
    pub cpu_percent: Option<f64>,
    /// Percent.
    pub memory_percent: Option<f64>,
    /// Milliseconds, at the slowest upstream.
    pub upstream_p95_ms: Option<f64>,
    /// Milliseconds.
    pub own_p99_ms: Option<f64>,
    /// Percent.
    pub errors_percent: Option<f64>,
    /// Calls that were looked at for it.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// Calls.
    pub queued: u64,
    /// Percent.
    pub cache_hits_percent: Option<f64>,
    /// Requests that were looked at for it.
    pub cache_requests: u64,
}

impl Vitals {
    /// Of processor time and memory the shares in use, of upstreams the slowest's time.
    pub(super) fn new(
        lately: &Lately,
        cpu: Option<f64>,
        memory: Option<f64>,
        queued: u64,
        upstream_p95: Option<Duration>,
    ) -> Self {
        let totals = &lately.totals;
        // What was refused unsent is among the errors, not among the calls.
        let calls = totals.calls.max(totals.errors);
        // There is no cache of answers yet. What does without a call: lists, which the catalogue answers, and reads that get
        // the answer of the same one on its way. All else cannot do without, and is not counted.
        let (hits, cache_requests) = (totals.lists + totals.joined, totals.lists + totals.reads);
        Self {
            cpu_percent: cpu.map(|share| 100.0 * share),
            memory_percent: memory.map(|share| 100.0 * share),
            upstream_p95_ms: upstream_p95.map(millis),
            own_p99_ms: Lately::p99(&totals.answered).map(millis),
            errors_percent: (calls > 0).then(|| 100.0 * totals.errors as f64 / calls as f64),
            calls,
            failed: totals.errors,
            queued,
            cache_hits_percent: (cache_requests >= HITS_OF_MIN).then(|| 100.0 * hits as f64 / cache_requests as f64),
            cache_requests,
        }
    }

    pub(super) fn of(&self, vital: Vital) -> Option<f64> {
        match vital {
            Vital::Cpu => self.cpu_percent,
            Vital::Memory => self.memory_percent,
            Vital::UpstreamP95 => self.upstream_p95_ms,
            Vital::OwnP99 => self.own_p99_ms,
            Vital::Errors => self.errors_percent,
            Vital::Queue => Some(self.queued as f64),
            Vital::CacheHits => self.cache_hits_percent,
        }
    }

    /// Whether the figure is over this limit. Failed calls are only judged against a limit that one failure alone does not
    /// break, or where they are several.
    pub(super) fn is_over(&self, vital: Vital, limit: f64) -> bool {
        let says_something = self.failed >= FAILURES_MIN || self.calls as f64 * limit >= 100.0;
        let is_judged = vital != Vital::Errors || says_something;
        is_judged && self.of(vital).is_some_and(|value| value > limit)
    }
}

/// As vital figures are told.
pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
