//! What a tenant may: the limits that `[plans.NAME]` bundles.

use serde::{Deserialize, Serialize};

/// Limits of each client of a tenant, and of all of them together (`tenant_...`). 0 is no limit where the text says so.
/// `[plans.default]` is for everybody who is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Calls of one client a minute at upstreams marked `slow`; 0: any number.
    pub slow_calls_per_minute: u64,
    /// Calls of one client a minute of tools that their upstreams list as `sensitive`; 0: any number.
    pub sensitive_calls_per_minute: u64,
    /// Bytes of messages that one client sends a minute; 0: any number.
    pub bytes_per_minute: u64,
    /// Calls and subscriptions of one client that may be open; 0: `conn.in_flight_max`.
    pub in_flight_max: usize,
    /// Calls of all clients a minute; 0: any number.
    pub tenant_calls_per_minute: u64,
    /// Calls of all clients that may wait for answers; 0: any number.
    pub tenant_in_flight_max: usize,
    /// Clients that may be connected at once; 0: any number.
    pub tenant_connections_max: usize,
    /// Sessions over HTTP that may be there at once; 0: any number.
    pub tenant_sessions_max: usize,
    /// Its part of a server that is busy, against the weights of others.
    pub weight: u16,
    /// In front of a busy server, those of higher priority are served first.
    pub priority: u8,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            // A model that takes a second has 100 calls to do in a minute for somebody who never waits.
            slow_calls_per_minute: 100,
            // One in three seconds is more than people look at.
            sensitive_calls_per_minute: 20,
            // What an agent sends is small, and what is not should be seen before it is limited.
            bytes_per_minute: 0,
            in_flight_max: 0,
            tenant_calls_per_minute: 0,
            tenant_in_flight_max: 0,
            tenant_connections_max: 0,
            tenant_sessions_max: 0,
            weight: 1,
            priority: 0,
        }
    }
}
