//! The knobs of Streamable HTTP.

use serde::{Deserialize, Serialize};

/// Times are in milliseconds, kept to a quarter of a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A session without a stream, a call or a request for this time is forgotten.
    pub session_idle_ms: u64,
    /// A connection without a request for this time is closed; 0: never.
    pub idle_ms: u64,
    /// A call that is not answered within this time gets an event stream, so that proxies do not take it for dead.
    pub sse_after_ms: u64,
    /// How long a client is told to wait before it opens a lost stream again.
    pub retry_ms: u64,
    /// A call whose client lost its stream, and may come back for the rest, goes on for this time.
    pub detached_ms: u64,
    /// Events of one session that are kept for a client that comes back with `Last-Event-ID`.
    pub replay_events_max: usize,
    /// The same in bytes. In place of an answer that is larger an error is kept.
    pub replay_bytes_max: usize,
    /// The same of all sessions together, in bytes; of the last eighth only such errors are kept.
    pub replay_bytes_total_max: usize,
    /// How long an event is kept.
    pub replay_ms: u64,
    /// Messages of one session (cancellations, replies; on a stream of 2024-11-05 all of them) that may wait for the
    /// connection where they belong.
    pub posted_max: u16,
    /// The path of the streams of 2024-11-05 (HTTP+SSE).
    pub sse_path: String,
    /// Where their messages are posted.
    pub messages_path: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Agents pause for minutes; clients re-initialize by themselves.
            session_idle_ms: 30 * 60_000,
            // Longer than HTTP clients keep idle connections, so that none meets a request on its way.
            idle_ms: 120_000,
            // Proxies commonly cut at 60 s, some at 30.
            sse_after_ms: 15_000,
            retry_ms: 1_000,
            // Long enough to come back several times.
            detached_ms: 60_000,
            replay_events_max: 64,
            replay_bytes_max: 256 << 10,
            replay_bytes_total_max: 64 << 20,
            replay_ms: 60_000,
            posted_max: 64,
            sse_path: "/sse".into(),
            messages_path: "/messages".into(),
        }
    }
}
