//! The gateway as it looks from outside, a few times a second; and the whole run second by second.

use std::time::Duration;

use super::Scene;
use crate::cli::simulate::drive::Second;
use crate::cli::simulate::gateway::Gateway;
use crate::meter::{ProcessMemory, cpu};

/// One look at the gateway.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    /// Seconds since the play began.
    pub(super) at: f64,
    pub(super) live: u64,
    /// Whole resident memory, in bytes.
    pub(super) rss: Option<u64>,
    /// CPU time since the process began.
    pub(super) cpu: Option<Duration>,
    pub(super) queue: Option<Queue>,
}

/// What stands before the slow server, as the gateway tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::cli::simulate) struct Queue {
    pub(in crate::cli::simulate) in_flight: u64,
    /// Calls that wait, and how many may; not every gateway says so.
    pub(in crate::cli::simulate) queued: Option<u64>,
    pub(in crate::cli::simulate) queue_max: Option<u64>,
}

impl Sample {
    /// Looks now; at a queue only where there is one.
    pub(super) fn take(gateway: &Gateway, at: f64, live: u64, has_queue: bool) -> Self {
        let (rss, cpu) = match gateway.pid {
            Some(pid) => (ProcessMemory::of(pid).ok().map(|memory| memory.rss), cpu::time_of(pid).ok()),
            None => (gateway.told_rss(), None),
        };
        Self { at, live, rss, cpu, queue: if has_queue { gateway.queue() } else { None } }
    }
}

/// The whole run, a line for each second of each act.
#[derive(Debug, Clone, Default)]
pub(super) struct Track {
    pub(super) lines: Vec<Line>,
}

/// One second of the run.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Seconds since the play began, at its end.
    pub(super) at: f64,
    pub(super) act: String,
    pub(super) second: Second,
    /// The last look in this second.
    pub(super) sample: Sample,
    /// Cores in use, on average.
    pub(super) cores: Option<f64>,
}

impl Track {
    pub(super) fn new(scenes: &[Scene]) -> Self {
        let mut lines = Vec::new();
        for scene in scenes {
            let mut before = scene.samples.first().copied().unwrap_or_default();
            // A long act is one line.
            let step = if scene.drove.seconds.len() == 1 { scene.seconds } else { 1.0 };
            for (number, second) in scene.drove.seconds.iter().enumerate() {
                let at = scene.begun + (number + 1) as f64 * step;
                // A second in which nobody looked shows what was seen last.
                let sample = scene.samples.iter().rev().find(|sample| sample.at <= at).copied().unwrap_or(before);
                let cores = cores(&before, &sample);
                lines.push(Line { at, act: scene.act.name.clone(), second: second.clone(), sample, cores });
                before = sample;
            }
        }
        Self { lines }
    }
}

/// Cores in use between two looks.
pub(super) fn cores(from: &Sample, to: &Sample) -> Option<f64> {
    let used = to.cpu?.checked_sub(from.cpu?)?;
    let seconds = to.at - from.at;
    (seconds > 0.1).then(|| used.as_secs_f64() / seconds)
}
