//! The knobs of the admin face.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Where the admin face listens, and whom it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Names, with or without port, by which it may be asked for besides the loopback ones; `*` allows every name.
    pub hosts_allowed: Vec<String>,
    /// Connections served at once; the next ones wait.
    pub connections_max: usize,
    /// A connection is cut when no whole request has come, or none of its answer was taken, for this time, in
    /// milliseconds.
    pub patience_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Loopback, because there are no passwords here.
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7625)),
            hosts_allowed: Vec::new(),
            // A few probes, scrapers and people.
            connections_max: 64,
            // Longer than the usual interval of a scraper that keeps its connection, 15 s.
            patience_ms: 30_000,
        }
    }
}
