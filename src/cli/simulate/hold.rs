//! Before the first process starts: does this machine hold both ends of every connection?

use crate::meter::plan::KERNEL_BYTES_PER_SOCKET;
use crate::meter::{Host, Plan, Shortfall};

/// User memory of a simulated client, in bytes: 48 in its table, doubled by growth, a session's id, and its part of a
/// process.
const CLIENT_BYTES: u64 = 160;
/// User memory of a client process's thread, in bytes: its stack, scratch buffer and histogram.
const TABLE_BYTES: u64 = 512 << 10;

/// Where the gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// A child of ours, with our limits.
    Child,
    /// Another process of this machine, with limits of its own.
    Here,
    /// Another machine.
    Elsewhere,
}

/// What would not fit: the clients, and the gateway as far as it is here.
pub(super) fn shortfalls(
    connections: u32,
    shards: Option<u32>,
    tables: u32,
    gateway: Where,
    host: &Host,
) -> Vec<Shortfall> {
    let shards = shards.map(|shards| shards as usize);
    let connections = u64::from(connections);
    let mut plan = Plan::sketch(connections, shards, host);
    let clients_bytes = connections * CLIENT_BYTES + u64::from(tables) * TABLE_BYTES;
    if gateway == Where::Elsewhere {
        plan.user_bytes = clients_bytes;
    } else {
        plan.files += connections;
        plan.threads += u64::from(tables);
        plan.kernel_bytes += connections * KERNEL_BYTES_PER_SOCKET;
        plan.user_bytes += clients_bytes;
    }
    if gateway != Where::Child {
        // Each client table is within its limit by construction.
        plan.descriptors_per_table = 0;
    }
    plan.shortfalls(shards, host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            cores: 2,
            own_tables: true,
            nofile_hard: Some(20_000),
            memory_available: Some(16 << 30),
            file_max: Some(2_400_000),
            ..Host::default()
        }
    }

    #[test]
    fn both_ends_count() {
        assert!(shortfalls(1_000_000, None, 52, Where::Child, &host()).is_empty());
        let small = Host { memory_available: Some(6 << 30), ..host() };
        assert!(Plan::new(1_000_000, None, &small).is_ok(), "one end alone would fit");
        let lacks = shortfalls(1_000_000, None, 52, Where::Child, &small);
        assert_eq!(lacks.len(), 1);
        assert!(lacks[0].to_string().contains("memory"));
        let few_files = Host { file_max: Some(1_500_000), ..host() };
        let lacks = shortfalls(1_000_000, None, 52, Where::Child, &few_files);
        assert!(lacks[0].to_string().contains("file-max"), "the limit and the remedy are named");
    }

    #[test]
    fn a_table_too_small_matters_only_where_the_gateway_is_ours() {
        let shared = Host { own_tables: false, ..host() };
        assert!(!shortfalls(100_000, None, 6, Where::Child, &shared).is_empty());
        assert!(shortfalls(100_000, None, 6, Where::Here, &shared).is_empty());
    }
}
