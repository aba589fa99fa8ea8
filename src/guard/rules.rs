//! The rules in force: all limits that a reload may change, replaced as a whole while clients stay.

use std::time::Duration;

use super::{Accounts, Config, Rate};

/// What is looked up anew with each arrival, message and call.
pub struct Rules {
    /// Who the tenants are, and what they have left.
    pub accounts: Accounts,
    /// What a refused client is told to wait where nothing says how long.
    pub retry_after: Duration,
    /// While memory is short, those who are idle for so long go first.
    pub idle_least: Duration,
    /// The header line with a tenant's key.
    pub api_key_header: Box<str>,
    pub(super) arrivals: Option<Rate>,
    pub(super) in_all: Option<Rate>,
    pub(super) per_address: Option<Rate>,
    pub(super) outbox_bytes_max: usize,
}

impl Rules {
    pub(super) fn new(config: &Config, accounts: Accounts) -> Self {
        Self {
            accounts,
            retry_after: Duration::from_millis(config.retry_after_ms),
            idle_least: Duration::from_millis(config.idle_ms_min),
            api_key_header: config.api_key_header.as_str().into(),
            arrivals: Rate::new(config.accepts_per_s, Duration::from_secs(1)),
            in_all: Rate::per_minute(config.calls_per_minute),
            per_address: Rate::per_minute(config.calls_per_minute_per_address),
            outbox_bytes_max: config.outbox_bytes_max,
        }
    }
}
