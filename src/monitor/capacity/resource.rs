//! What a gateway can run out of, and one reading of all of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Totals;
use crate::meter::LagCounts;
use crate::monitor::AlarmState;

crate::named! {
    /// What a gateway can run out of.
    #[derive(PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Resource {
        /// Clients connected, against `guard.connections_max`.
        ConnectionSeats = "connection_seats",
        /// Sessions of Streamable HTTP, against `guard.sessions_max`.
        HttpSessions = "http_sessions",
        /// Calls that wait for an answer, against `guard.in_flight_max`.
        CallsWaiting = "calls_waiting",
        /// Resources watched, against `guard.watches_max`.
        Watches = "watches",
        /// Bytes in buffers and outboxes, against `conn.buffered_bytes_max`.
        BufferedBytes = "buffered_bytes",
        /// Answers that wait for clients to read them, against `guard.outbox_bytes_max`.
        OutboxBytes = "outbox_bytes",
        /// Bytes of events kept for clients that come back, against `conn.http.replay_bytes_total_max`.
        ReplayBytes = "replay_bytes",
        /// Descriptors in the fullest table, against `RLIMIT_NOFILE`.
        Descriptors = "descriptors",
        /// RSS of the process, against `capacity.memory_bytes_max`, or else what the machine has.
        Memory = "memory",
        /// What the machine cannot give any more, with the kernel's memory for our sockets, and what everybody else has.
        MachineMemory = "machine_memory",
        /// What the cgroup is charged and cannot drop, the kernel's memory for our sockets in it, against its limit.
        CgroupMemory = "cgroup_memory",
        /// Pages of the kernel's TCP buffers, in bytes, of the whole machine, against the last of `net.ipv4.tcp_mem`.
        TcpMemory = "tcp_memory",
        /// How long 99 of 100 turns of the event loops took at most, against `capacity.lag_max_ms`.
        LoopLag = "loop_lag",
        /// Processor time, against the cores allowed.
        Cpu = "cpu",
        /// Calls in flight at an upstream, against what it takes now.
        UpstreamInFlight = "upstream_in_flight",
        /// Calls that wait for a place at an upstream, against its `queue_max`.
        UpstreamQueue = "upstream_queue",
        /// Connections towards an upstream, one for each session of a client there, against the ports that one address
        /// has for it (`net.ipv4.ip_local_port_range`).
        UpstreamPorts = "upstream_ports",
    }
}

/// In what a resource is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// One by one.
    Count,
    /// Bytes.
    Bytes,
    /// Microseconds.
    Microseconds,
    /// Thousandths of a core.
    Millicores,
}

impl Resource {
    /// In what it is counted.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::BufferedBytes | Self::OutboxBytes | Self::ReplayBytes | Self::TcpMemory => Unit::Bytes,
            Self::Memory | Self::MachineMemory | Self::CgroupMemory => Unit::Bytes,
            Self::LoopLag => Unit::Microseconds,
            Self::Cpu => Unit::Millicores,
            _ => Unit::Count,
        }
    }

    /// Whether its zone becomes the house's, at which the guards refuse newcomers and then new work.
    ///
    /// Those do that run short for everybody at once and have no door of their own: memory, the kernel's TCP buffers, the
    /// event loops' time. All others only warn. What has a limit that is kept exactly (seats, sessions, calls, watches,
    /// buffers, descriptors, a queue) is refused by that limit, one by one and for itself: to refuse at 85 % of it would
    /// take from the operator what the limit grants, and one upstream's full queue says nothing of the others. The
    /// descriptor tables are planned to be nearly full (`meter/plan.rs`). What others have taken of the machine's memory
    /// would not come back if we refused our clients. A processor that is all in use serves as much as
    /// it can; when that is too little the loops lag, and that drives.
    #[must_use]
    pub const fn drives(self) -> bool {
        self.is_memory() || matches!(self, Self::TcpMemory | Self::LoopLag)
    }

    /// Whether it is memory of ours.
    #[must_use]
    pub const fn is_memory(self) -> bool {
        matches!(self, Self::Memory | Self::CgroupMemory)
    }

    /// Whether each client takes its part of it, so that it can be told at how many it is full. A lag does not grow in
    /// proportion to anything.
    #[must_use]
    pub const fn is_shared_out(self) -> bool {
        !matches!(self, Self::LoopLag)
    }

    /// Whether it is the house's own, counted against a limit of this process: more replicas bring more of it.
    #[must_use]
    pub const fn is_of_the_house(self) -> bool {
        matches!(
            self,
            Self::ConnectionSeats
                | Self::HttpSessions
                | Self::CallsWaiting
                | Self::Watches
                | Self::BufferedBytes
                | Self::OutboxBytes
                | Self::ReplayBytes
                | Self::Descriptors
        )
    }
}

/// How much of a resource is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// Of which.
    pub resource: Resource,
    /// At which upstream, where each has its own.
    pub upstream: Option<Arc<str>>,
    /// In use, in the resource's unit.
    pub used: u64,
    /// The most that can be. 0: there is no limit, or it can't be read, and the figure says nothing.
    pub limit: u64,
}

impl Figure {
    /// Of a resource that there is once.
    #[must_use]
    pub const fn new(resource: Resource, used: u64, limit: u64) -> Self {
        Self { resource, upstream: None, used, limit }
    }

    /// The share in use: 1.0 is all. Nothing where there is no limit.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        (self.limit > 0).then(|| self.used as f64 / self.limit as f64)
    }

    /// Whether it is of the same thing.
    pub(super) fn is_of(&self, resource: Resource, upstream: Option<&str>) -> bool {
        self.resource == resource && self.upstream.as_deref() == upstream
    }
}

/// All figures of one moment.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Clients that are there: connections, or sessions where these are more (a client over HTTP need not be connected).
    pub clients: u64,
    /// What is in use of each resource, but lag and processor time, which are told from the totals.
    pub figures: Vec<Figure>,
    /// What was counted since the start.
    pub totals: Totals,
    /// How long calls took at each upstream, since its start.
    pub took: Vec<(Arc<str>, LagCounts)>,
    /// Thousandths of a core that may be used.
    pub cpu_millicores: u64,
    /// How the profiler's alarms stand.
    pub alarms: Vec<AlarmState>,
}
