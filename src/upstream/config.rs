//! The knobs of one upstream, as `[upstreams.NAME]` has them.
//!
//! [`Config::resolve`] makes of them what its actor works with: every reference to the environment replaced, every word
//! checked.

mod kin;
mod name;
mod one;
mod reference;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use kin::check_kin;
pub use name::{NAME_CHARS_MAX, from_command, from_url, is_name, to_name};
pub use one::{One, Unusable};
pub use reference::expanded;

/// Where a server is, and how it is treated. Exactly one of `command`, `http`, `tcp` and `ws` is set; the texts up to
/// `headers` may hold `${VARIABLE}` and `${VARIABLE:-default}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A child process that speaks MCP on its stdin and stdout: its program and arguments as a shell takes them, or a list
    /// of them.
    pub command: String,
    /// Where the child works; empty: where lakh does.
    pub cwd: String,
    /// The URL of a server that speaks Streamable HTTP, or HTTP+SSE.
    pub http: String,
    /// `host:port` of a server that speaks newline-delimited JSON over TCP.
    pub tcp: String,
    /// The URL of a server that speaks over a WebSocket.
    pub ws: String,
    /// For `https://` and `wss://`: a PEM file with the certificates of the authorities that are trusted, instead of those
    /// that the host trusts (its package of certificates, or what SSL_CERT_FILE names); empty: the host's.
    pub ca_file: String,
    /// Whether clients share one session with it, or have one each.
    pub sharing: Sharing,
    /// Which era of MCP it is spoken to in.
    pub era: Speaks,
    /// How long a connection may take to be there, in milliseconds.
    pub connect_ms: u64,
    /// A call fails when no answer and no progress has come for this time, in milliseconds; 0: never.
    pub call_ms: u64,
    /// A call fails after this time however much progress it reports, in milliseconds; 0: never.
    pub call_max_ms: u64,
    /// A server that has not answered the first question for this time is taken for a legacy one, in milliseconds.
    pub probe_ms: u64,
    /// How long a client may take to reply to what a server asks during its call, in milliseconds.
    pub input_ms: u64,
    /// The first pause before it is connected anew, in milliseconds. It doubles from failure to failure.
    pub restart_ms_min: u64,
    /// The longest pause, in milliseconds.
    pub restart_ms_max: u64,
    /// Calls in flight at it at most; the next ones wait. Fewer while it says 429 or 503, or does not answer in time.
    pub in_flight_max: usize,
    /// Calls that may wait for a place; the next ones are refused. Shared between tenants and clients as the places are.
    pub queue_max: usize,
    /// How long a call may take from its arrival to its answer, in milliseconds: what cannot be served by then is refused
    /// at once, and what is not answered by then is cut, and its server told, unless a person is asked meanwhile. 0: calls
    /// are refused by `call_ms`, and none is cut by its age.
    pub deadline_ms: u64,
    /// How long a call should wait at most, in milliseconds: nobody is let in who must expect to wait half of it, and once
    /// somebody has waited longer the newest go first. 0: nine tenths of what the deadline leaves.
    pub queue_target_ms: u64,
    /// Failed calls among a hundred that open the breaker: then it is left alone for a while, and tried with three calls.
    /// Of the last ten seconds, or of the last `breaker_calls_min` calls where those are fewer. Silence, lost connections
    /// and HTTP 5xx are failures; errors in answers are not. Silence in as many calls in a row as there are places opens
    /// it, too: three at least, `breaker_calls_min` at most. 0: never.
    pub breaker_ratio_percent: u32,
    /// Calls before the ratio counts.
    pub breaker_calls_min: u32,
    /// How long the breaker stays open at first, in milliseconds. It doubles with each vain try, up to 64 times.
    pub breaker_open_ms: u64,
    /// Calls among a hundred that may be sent once more because they failed: those that surely were not processed, reads,
    /// and tools that their server calls read-only or idempotent. 0: none.
    pub retry_budget_percent: u32,
    /// Whether its calls count against `slow_calls_per_minute` of a client's plan: models, and what else takes its time.
    pub slow: bool,
    /// Tools, by their own names, whose calls count against `sensitive_calls_per_minute` of a client's plan.
    pub sensitive: Vec<String>,
    /// The upstream that this is a replica of: one more server with the same catalogue, whose calls are shared by weight
    /// between those that are there. Empty: of none. Both are `shared`; who has replicas names the fallbacks of all.
    pub replica_of: String,
    /// With replicas: its part of their calls, against the others' weights.
    pub weight: u32,
    /// Upstreams that are asked in this order when this one is down, or refuses a call that was not sent or may be sent
    /// twice, as far as they have what it is for by the same name.
    pub fallback: Vec<String>,
    /// With replicas: calls that fail in a row before it gets no new ones for a while, as long as that leaves at least half
    /// of them. 0: never.
    pub eject_after: u32,
    /// For how long at first, in milliseconds. It doubles each time that it fails again, up to 64 times.
    pub eject_ms: u64,
    /// Connections to a server over HTTP that wait for answers: never more calls are in flight, whatever `in_flight_max`
    /// says; and one less where a modern server's stream of changes has one. Up to 8 more send what has no answer.
    pub http_connections_max: usize,
    /// With `sharing = "per-session"`: sessions at once.
    pub sessions_max: usize,
    /// With `sharing = "per-session"`: how long a session may be idle before it is ended, in milliseconds.
    pub session_idle_ms: u64,
    /// Tools, prompts, resources and templates that are taken from it, of each kind.
    pub entries_max: usize,
    /// What is added to the child's environment.
    pub env: Secrets,
    /// What is sent with each HTTP request, or with the WebSocket's upgrade.
    pub headers: Secrets,
}

/// Whose session is whose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// All clients share one: a child, a session.
    #[default]
    Shared,
    /// Each client has one of its own, for servers that keep what a client has told them, or ask clients things.
    PerSession,
}

/// In which era a server is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speaks {
    /// It is found out.
    #[default]
    Auto,
    /// With `initialize`: 2024-11-05 to 2025-11-25.
    Legacy,
    /// 2026-07-28.
    Modern,
}

/// Values by name that nobody else is to see: a configuration file has them, no log and no page of ours.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(pub BTreeMap<String, String>);

impl Default for Config {
    fn default() -> Self {
        Self {
            command: String::new(),
            cwd: String::new(),
            http: String::new(),
            tcp: String::new(),
            ws: String::new(),
            ca_file: String::new(),
            sharing: Sharing::default(),
            era: Speaks::default(),
            // A TCP handshake with two lost packets, and a child that a cold machine starts.
            connect_ms: 10_000,
            // Model calls take minutes; what is longer should say that it lives.
            call_ms: 300_000,
            call_max_ms: 3_600_000,
            // Most legacy servers answer at once that they have no such method.
            probe_ms: 3_000,
            // A person is asked.
            input_ms: 600_000,
            // A server that was only restarted is missed for a moment.
            restart_ms_min: 200,
            // One that is away for the night is not worth more than this.
            restart_ms_max: 30_000,
            // As many as the whole house takes (`guard.in_flight_max`).
            in_flight_max: 10_000,
            // A minute's work of a server with 16 places of a second each.
            queue_max: 1_000,
            deadline_ms: 0,
            queue_target_ms: 0,
            // A server that fails every second call helps nobody.
            breaker_ratio_percent: 50,
            // Fewer are no ratio.
            breaker_calls_min: 20,
            // A server that was only restarted is back by then.
            breaker_open_ms: 1_000,
            // What Finagle and others take: a failing server gets a tenth more work, not three times as much.
            retry_budget_percent: 10,
            slow: false,
            sensitive: Vec::new(),
            replica_of: String::new(),
            weight: 1,
            fallback: Vec::new(),
            // What Envoy takes.
            eject_after: 5,
            // A server that was only restarted is back by then; Envoy's half a minute is long where there are two.
            eject_ms: 5_000,
            // More would be a load test of a server that somebody uses.
            http_connections_max: 256,
            // A child process each, where it is one.
            sessions_max: 64,
            // A lunch.
            session_idle_ms: 1_800_000,
            // The largest catalogues known have a few thousand; 10,000 tools of 1 KiB are 10 MiB.
            entries_max: 10_000,
            env: Secrets::default(),
            headers: Secrets::default(),
        }
    }
}

impl Config {
    /// The knobs that say where it is, with what they say: exactly one is set in a good configuration.
    #[must_use]
    pub fn transports(&self) -> Vec<(&'static str, &str)> {
        [("command", &self.command), ("http", &self.http), ("tcp", &self.tcp), ("ws", &self.ws)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(knob, value)| (knob, value.as_str()))
            .collect()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|name| (name, format_args!("<hidden>")))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_not_shown() {
        let secrets = Secrets(BTreeMap::from([("TOKEN".to_owned(), "abc".to_owned())]));
        assert_eq!(format!("{secrets:?}"), "{\"TOKEN\": <hidden>}");
        assert_eq!(toml::to_string(&secrets).unwrap(), "TOKEN = \"abc\"\n", "a file is read back as it was");
    }
}
