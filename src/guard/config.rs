//! The knobs of the guards that hold for everybody; what differs between tenants is in their plans.

use serde::{Deserialize, Serialize};

/// 0 is no limit where the text says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Clients that may be connected at once, over all shards.
    pub connections_max: usize,
    /// Clients that may be connected from one address (of IPv6: from one /64); 0: any number.
    pub connections_per_address_max: usize,
    /// Clients that may come in a second; 0: any number.
    pub accepts_per_s: u64,
    /// Sessions over HTTP (revisions up to 2025-11-25) that may be there at once.
    pub sessions_max: usize,
    /// Calls a minute in all; 0: any number.
    pub calls_per_minute: u64,
    /// Calls a minute from one address (of IPv6: from one /64); 0: any number.
    pub calls_per_minute_per_address: u64,
    /// Calls that may wait for an upstream's answer at once, over all clients.
    pub in_flight_max: usize,
    /// Resources that may be watched for changes at once, over all clients; each client counts.
    pub watches_max: usize,
    /// Bytes of answers that may wait for clients to read them; beyond that, who has any to read may not call for more.
    pub outbox_bytes_max: usize,
    /// While memory is short, clients are told to go that were idle for so long, in milliseconds: longest first.
    pub idle_ms_min: u64,
    /// Clients, addresses and tenants in debt to a rate that are remembered; one more passes unchecked, and is counted.
    pub debtors_max: usize,
    /// The header line with a tenant's key; `Authorization: Bearer` and the subprotocol `mcp.auth.` are read too.
    pub api_key_header: String,
    /// What a refused client is told to wait where nothing says how long, in milliseconds.
    pub retry_after_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // What the name says.
            connections_max: 100_000,
            // Behind a proxy or a NAT, one address is everybody.
            connections_per_address_max: 0,
            // Whom the loops cannot take yet waits in the listen queues; a storm of those who come back is no attack.
            accepts_per_s: 0,
            // Twice as many as most houses see; 200 bytes each.
            sessions_max: 50_000,
            calls_per_minute: 0,
            calls_per_minute_per_address: 0,
            // A few hundred bytes each: 10,000 waiting calls are a few MiB.
            in_flight_max: 10_000,
            // A few hundred bytes each, and the URI.
            watches_max: 100_000,
            // Half of what all buffers may hold (`conn.buffered_bytes_max`), beyond which clients are parted.
            outbox_bytes_max: 128 << 20,
            // Whoever has just come should be served first.
            idle_ms_min: 10_000,
            // Everybody of a full house twice; about 50 bytes each, as long as the debt lasts.
            debtors_max: 200_000,
            api_key_header: "X-API-Key".into(),
            // Long enough not to hammer a full house, short enough for a person to wait.
            retry_after_ms: 5_000,
        }
    }
}
