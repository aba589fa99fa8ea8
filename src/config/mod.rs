//! Every room's knobs gathered and layered (default < file < environment < flag), then checked against each other and
//! against the host before a port is bound.

mod check;
mod difference;
mod gather;
mod layers;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{admin, conn, guard, mcp, monitor, upstream, wire};

pub use check::Unfit;
pub use gather::{Gathered, gather};
pub use layers::{Layers, Rejected};

/// All knobs. A knob's meaning and the reason of its default stand beside the code that obeys it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Event loops; 0: one per core, and more where the connections need more descriptor tables.
    pub shards: usize,
    /// From the first SIGTERM, or from the moment when a successor serves, to the end, in milliseconds: calls in flight may
    /// take so long to be answered.
    pub drain_ms: u64,
    /// How long of that new clients are still served while `/ready` says 503, in milliseconds: longer than two looks of the
    /// load balancer that asks there.
    pub drain_notice_ms: u64,
    /// Over how long of that the clients of a full house (`guard.connections_max`) are told to go, in milliseconds; fewer take
    /// less in proportion. Half of `drain_ms` at most.
    pub drain_spread_ms: u64,
    /// A Unix socket where the running gateway hands its listening sockets over to `lakh serve --take-over`, for an upgrade
    /// without a refused connect. Only for its own user and root; empty: none.
    pub upgrade_socket: PathBuf,
    /// How long the start waits for upstreams to be ready, in milliseconds; it goes on without those that are not.
    pub upstreams_start_ms: u64,
    /// What is logged: a level, or directives as `tracing-subscriber`'s `EnvFilter` has them.
    pub log: String,
    /// Who may come in.
    pub guard: guard::Config,
    /// What is accepted on the wire.
    pub wire: wire::Config,
    /// A connection's life.
    pub conn: conn::Config,
    /// The protocol.
    pub mcp: mcp::Config,
    /// How what several servers offer becomes one.
    pub catalogue: mcp::CatalogueConfig,
    /// The embedded MCP server.
    pub embedded: upstream::embedded::Config,
    /// The profiler and its alarms.
    pub monitor: monitor::Config,
    /// How full the house may be, and what is done then.
    pub capacity: monitor::capacity::Config,
    /// When people are told, and where.
    pub alarms: monitor::capacity::AlarmsConfig,
    /// The operator's port.
    pub admin: admin::Config,
    /// What tenants may, by the names of plans; `default` is for everybody who is not known.
    pub plans: BTreeMap<String, guard::Plan>,
    /// Who is known, by name.
    pub tenants: BTreeMap<String, guard::TenantConfig>,
    /// The servers behind the gateway, by name.
    pub upstreams: BTreeMap<String, upstream::config::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 7624).into(),
            shards: 0,
            // What Kubernetes and systemd users expect.
            drain_ms: 30_000,
            // Most have nobody in front that asks: a Ctrl-C is not to wait, and Kubernetes takes an ending pod out by itself.
            drain_notice_ms: 0,
            // 10,000 a second of 100,000: less than half of what another gateway takes in.
            drain_spread_ms: 10_000,
            upgrade_socket: PathBuf::new(),
            // A package that is already there starts in two or three seconds; one that has to be fetched comes later.
            upstreams_start_ms: 10_000,
            // bastion tells every step of its own start.
            log: "info,bastion=warn".into(),
            guard: guard::Config::default(),
            wire: wire::Config::default(),
            conn: conn::Config::default(),
            mcp: mcp::Config::default(),
            catalogue: mcp::CatalogueConfig::default(),
            embedded: upstream::embedded::Config::default(),
            monitor: monitor::Config::default(),
            capacity: monitor::capacity::Config::default(),
            alarms: monitor::capacity::AlarmsConfig::default(),
            admin: admin::Config::default(),
            plans: BTreeMap::from([(guard::EVERYBODY.to_owned(), guard::Plan::default())]),
            tenants: BTreeMap::new(),
            upstreams: BTreeMap::new(),
        }
    }
}

impl Config {
    /// The configuration as a file that [`Layers::file`] reads back.
    ///
    /// # Panics
    /// Never: every knob has a TOML form, which a test holds.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }
}
