//! The knobs of a connection's life.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::http;
use crate::actor::{TICK, Tick};
use crate::pool::BuffersConfig;

/// Times are in milliseconds and kept to a quarter of a second; 0 switches a time limit off where the text says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// From the socket's arrival to the first byte of a message, or to the end of the WebSocket upgrade.
    pub handshake_ms: u64,
    /// Without any byte from the client, it is parted; 0: never.
    pub idle_ms: u64,
    /// A silent WebSocket client is pinged this often; 0: never. TCP clients have the kernel's keep-alive instead.
    pub keepalive_ms: u64,
    /// Pings in a row that may stay without any sign of life.
    pub keepalive_missed_max: u8,
    /// From the first byte of a message to its last.
    pub message_ms: u64,
    /// A client that takes none of what waits for it is parted after this time.
    pub slow_reader_ms: u64,
    /// How long a client that has been told why it must go may take to read it.
    pub linger_ms: u64,
    /// Above this many unsent bytes no more of the client's messages are handled, until it has read.
    pub outbox_bytes_high: usize,
    /// Below this many unsent bytes its messages are handled again.
    pub outbox_bytes_low: usize,
    /// More unsent bytes than this part the client.
    pub outbox_bytes_max: usize,
    /// Unfinished messages and unsent answers of all clients together, in bytes.
    pub buffered_bytes_max: usize,
    /// Calls and subscriptions of one client that may be open.
    pub in_flight_max: usize,
    /// Messages of one batch (2025-03-26); a longer one is refused.
    pub batch_messages_max: usize,
    /// Clients beyond the last seat that are told so in their own dialect; the next are closed at once.
    pub lobby_max: usize,
    /// Slots of the connection pool made at start, in all shards together.
    pub preallocated: usize,
    /// The HTTP path that MCP is served at; `/` is served too.
    pub path: String,
    /// The message buffers of one shard.
    pub buffers: BuffersConfig,
    /// Streamable HTTP.
    pub http: http::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            handshake_ms: 10_000,
            // An idle agent is the normal case, and keep-alive finds the dead ones.
            idle_ms: 0,
            // Proxies commonly cut at 60 s.
            keepalive_ms: 30_000,
            keepalive_missed_max: 2,
            message_ms: 30_000,
            slow_reader_ms: 30_000,
            linger_ms: 2_000,
            outbox_bytes_high: 256 << 10,
            outbox_bytes_low: 64 << 10,
            // Two of the largest answers behind a full high mark.
            outbox_bytes_max: 8 << 20,
            buffered_bytes_max: 256 << 20,
            in_flight_max: 64,
            // Far more than clients send; each of them may cost an answer, and `[1,1,1,..]` two bytes.
            batch_messages_max: 1_000,
            lobby_max: 64,
            preallocated: 1_000,
            path: "/mcp".into(),
            buffers: BuffersConfig::default(),
            http: http::Config::default(),
        }
    }
}

/// The time limits in ticks, as the loop uses them; `None` where switched off.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) handshake: Tick,
    pub(super) idle: Option<Tick>,
    pub(super) keepalive: Option<Tick>,
    pub(super) keepalive_missed_max: u8,
    pub(super) message: Tick,
    pub(super) slow_reader: Tick,
    pub(super) linger: Tick,
    pub(super) http_idle: Option<Tick>,
    pub(super) http_sse_after: Tick,
    pub(super) http_detached: Tick,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        let some = |ms: u64| (ms > 0).then(|| ticks(ms));
        Self {
            handshake: ticks(config.handshake_ms),
            idle: some(config.idle_ms),
            keepalive: some(config.keepalive_ms),
            keepalive_missed_max: config.keepalive_missed_max,
            message: ticks(config.message_ms),
            slow_reader: ticks(config.slow_reader_ms),
            linger: ticks(config.linger_ms),
            http_idle: some(config.http.idle_ms),
            http_sse_after: ticks(config.http.sse_after_ms),
            http_detached: ticks(config.http.detached_ms),
        }
    }
}

/// Rounded up, so that no limit is shorter than it says; capped far below where sums of ticks would wrap.
pub(super) fn ticks(ms: u64) -> Tick {
    let ticks = Duration::from_millis(ms).as_millis().div_ceil(TICK.as_millis());
    Tick::try_from(ticks).unwrap_or(Tick::MAX).min(Tick::MAX / 1024)
}
