//! The model: what a number of clients takes of each resource of a machine. Pure arithmetic on measured coefficients.

use serde::Serialize;

use super::calibration::{Cost, Items, Measured};
use super::coefficients::{Coefficients, Measurements};
use super::load::{CLIENTS_MAX, Load, ServiceOn};
use super::machine::Machine;
use crate::cli::simulate::Dialect;
use crate::meter::Named;
use crate::meter::plan::SHARDS_MOST;

crate::named! {
    /// What can fill. All but [`Slots`](Self::Slots) are of one machine.
    pub enum Kind {
        /// Memory: lakh's whole resident set, the kernel's sockets, and of a TLS proxy beside it.
        Memory = "memory",
        /// Cores.
        Cpu = "cpu",
        /// The network, whichever way has more to carry.
        Network = "network",
        /// Descriptors of all tables.
        Descriptors = "descriptors",
        /// Calls that all upstreams together serve at once; more gateways are no help.
        Slots = "upstream slots",
    }
}

/// The zones that are told of (design.md section 7), and full.
pub const MARKS: [f64; 4] = [0.75, 0.85, 0.95, 1.0];
/// A silent WebSocket or stream is sent something this often (seconds): the default of `conn.keepalive_ms`.
pub const KEEPALIVE_SECONDS: f64 = 30.0;
/// Bytes of a message on the wire beside its own, for each packet: Ethernet with preamble and gap 38, IPv4 20, TCP with
/// timestamps 32.
const PACKET_BYTES: f64 = 90.0;
/// Bytes of a message in one packet, behind those headers in an Ethernet frame of 1,500.
const SEGMENT_BYTES: f64 = 1_448.0;
/// What a record of TLS 1.3 adds to what is in it, in bytes: header 5, type 1, tag 16 (RFC 8446 section 5.2).
const TLS_RECORD_BYTES: f64 = 22.0;
/// Memory of a TLS connection in a Rust proxy, in bytes: tokio-rustls, measured (design.md section 4).
pub const TLS_CONNECTION_BYTES: f64 = 9_300.0;

impl Kind {
    /// Up to which share a machine is planned: CPU and memory as the scale-out thresholds of the published plans (70 % and
    /// 80 %), everything else up to the warning zone.
    pub const fn planned(self) -> f64 {
        match self {
            Self::Cpu => 0.70,
            Self::Memory => 0.80,
            Self::Network | Self::Descriptors | Self::Slots => 0.75,
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A load on one kind of machine.
#[derive(Debug, Clone)]
pub struct Model<'a> {
    load: &'a Load,
    machine: &'a Machine,
    bytes_per_shard: f64,
    /// The coefficients of the load's dialects, with their shares.
    mix: Vec<(f64, &'a Coefficients, Dialect)>,
    /// Clients that its descriptor tables hold.
    descriptors_hold: Option<u64>,
}

impl<'a> Model<'a> {
    pub fn new(measurements: &'a Measurements, load: &'a Load, machine: &'a Machine) -> Self {
        let spoken = load.dialects.each().into_iter().filter(|(_, share)| *share > 0.0);
        Self {
            load,
            machine,
            bytes_per_shard: measurements.bytes_per_shard,
            mix: spoken.filter_map(|(dialect, share)| Some((share, measurements.of(dialect)?, dialect))).collect(),
            descriptors_hold: machine.descriptors_hold(),
        }
    }

    /// How much there is of it; `None`: no limit.
    pub fn limit(&self, kind: Kind) -> Option<f64> {
        match kind {
            Kind::Memory => Some(self.machine.memory_bytes()),
            Kind::Cpu => Some(self.machine.cores),
            Kind::Network => Some(self.machine.nic_gbit * 1e9 / 8.0).filter(|limit| *limit > 0.0),
            Kind::Descriptors => self.descriptors_hold.map(|clients| clients as f64),
            Kind::Slots => Some(self.load.upstream_slots as f64).filter(|limit| *limit > 0.0),
        }
    }

    /// What so many clients take of it: bytes, cores, bytes a second, clients, calls at once. Never falls as clients grow.
    pub fn used(&self, kind: Kind, clients: u64) -> f64 {
        let many = clients as f64;
        match kind {
            Kind::Memory => self.rss(clients) + many * (self.kernel_bytes() + self.tls_bytes()),
            Kind::Cpu => many * self.cores_per_client(clients),
            Kind::Network => many * self.wire_bytes_per_client(),
            Kind::Descriptors => many,
            Kind::Slots => match self.load.service_on {
                ServiceOn::Upstream => many * self.load.calls_per_second * self.load.service_seconds(),
                ServiceOn::Core => 0.0,
            },
        }
    }

    /// The most clients that take no more than this share of it; `None`: as many as come.
    pub fn clients_at(&self, kind: Kind, share: f64) -> Option<u64> {
        let limit = self.limit(kind)? * share;
        let fits = |clients| self.used(kind, clients) <= limit;
        if fits(CLIENTS_MAX) {
            return None;
        }
        let (mut low, mut high) = (0, CLIENTS_MAX);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(middle) { low = middle } else { high = middle }
        }
        Some(low)
    }

    /// The most clients that one such machine is planned with, and what fills first. `None`: nothing ever fills.
    pub fn capacity(&self) -> Option<(u64, Kind)> {
        let own = Kind::ALL.iter().filter(|kind| **kind != Kind::Slots);
        own.filter_map(|kind| Some((self.clients_at(*kind, kind.planned())?, *kind)))
            .min_by_key(|(clients, _)| *clients)
    }

    /// lakh's whole resident set with so many clients, in bytes, of a gateway that was started for them.
    pub fn rss(&self, clients: u64) -> f64 {
        self.rss_of(clients, clients)
    }

    /// The same of a gateway that was started for `planned` clients: what `lakh simulate` shows on its way there.
    pub fn rss_of(&self, clients: u64, planned: u64) -> f64 {
        let shards = self.shards(planned) as f64;
        let with_shards =
            |one: &Coefficients| one.base_bytes + (shards - one.measured.shards as f64) * self.bytes_per_shard;
        // A gateway of several dialects has one base: that of the one that takes most.
        let base = self.mix.iter().map(|(_, one, _)| with_shards(one)).fold(0.0, f64::max);
        base + clients as f64 * self.mix.iter().map(|(share, one, _)| share * one.bytes_per_client).sum::<f64>()
    }

    /// Cores that each of so many clients keeps busy.
    pub fn cores_per_client(&self, clients: u64) -> f64 {
        let load = self.load;
        let mut us = 0.0;
        for (share, one, dialect) in &self.mix {
            let costs = &one.measured.costs;
            let connects = load.connects_per_second / load.clients as f64 * costs.handshake.gateway_us.median;
            let changes = load.changes_per_second * costs.told.gateway_us.median;
            let calls = load.calls_per_second * self.call_us(&one.measured, clients);
            us += share * (calls + connects + changes + keepalive_us(costs, *dialect));
        }
        let service =
            if load.service_on == ServiceOn::Core { load.calls_per_second * load.service_seconds() } else { 0.0 };
        us / 1e6 + service
    }

    /// lakh's own microseconds for a mean call of one of so many clients of this dialect. A hit in a cache is taken to cost
    /// what an own answer costs, and each path to grow with the number of clients as a ping does.
    fn call_us(&self, one: &Measured, clients: u64) -> f64 {
        let (shares, costs) = (&self.load.shares, &one.costs);
        // Calls are measured with a few hundred bytes, which are in their own figure.
        let further_kib = (self.load.request_bytes + self.load.response_bytes - MEASURED_BYTES).max(0.0) / 1024.0;
        let (own_kib, upstream_kib) = costs.us_per_kib();
        let own = costs.own.gateway_us.median + further_kib * own_kib;
        let upstream = costs.upstream.gateway_us.median + further_kib * upstream_kib;
        let many = costs.ping.gateway_us.median;
        // Noise of the measurement lets nothing become cheaper.
        let grown = one.between(clients, costs.ping_of_few.gateway_us.median.min(many), many) / many;
        let mean = (shares.cache + shares.own) * own + shares.upstream * upstream;
        grown * (mean + shares.refused * costs.refused.gateway_us.median)
    }

    /// Bytes a second of one client on the wire, the way that has more.
    fn wire_bytes_per_client(&self) -> f64 {
        let load = self.load;
        let (request, response) = (self.on_wire(load.request_bytes), self.on_wire(load.response_bytes));
        let through = load.shares.upstream;
        let received = request + through * response;
        let sent = response + through * request;
        let told = load.changes_per_second * self.on_wire(TOLD_BYTES);
        let spoken = |dialect| if dialect == Dialect::Tcp { 0.0 } else { PACKET_BYTES / KEEPALIVE_SECONDS };
        let kept: f64 = self.mix.iter().map(|(share, _, dialect)| share * spoken(*dialect)).sum();
        (load.calls_per_second * received).max(load.calls_per_second * sent + told) + kept
    }

    /// A message in packets, and the packet without data that acknowledges it.
    fn on_wire(&self, bytes: f64) -> f64 {
        let bytes = bytes + if self.load.tls { TLS_RECORD_BYTES } else { 0.0 };
        bytes + ((bytes / SEGMENT_BYTES).ceil().max(1.0) + 1.0) * PACKET_BYTES
    }

    /// Kernel bytes of one client; with TLS ended beside lakh, of its three sockets.
    pub fn kernel_bytes(&self) -> f64 {
        let one: f64 = self.mix.iter().map(|(share, one, _)| share * one.measured.kernel_bytes_per_client).sum();
        if self.load.tls { 3.0 * one } else { one }
    }

    fn tls_bytes(&self) -> f64 {
        if self.load.tls { TLS_CONNECTION_BYTES } else { 0.0 }
    }

    /// More shards than a start would ever plan are not forecast.
    fn shards(&self, clients: u64) -> usize {
        match self.descriptors_hold {
            Some(held) if clients > held => SHARDS_MOST.max(self.machine.cores.ceil() as usize),
            _ => self.machine.shards(clients),
        }
    }
}

/// Bytes of a request and its answer in the calibration, about.
const MEASURED_BYTES: f64 = 400.0;
/// Bytes of `notifications/tools/list_changed` as an event, about.
const TOLD_BYTES: f64 = 200.0;

/// Microseconds a second that an idle client takes to be kept: a WebSocket is pinged and answers, a stream gets a comment,
/// which is written as an event is.
fn keepalive_us(costs: &Items<Cost>, dialect: Dialect) -> f64 {
    match dialect {
        Dialect::Tcp | Dialect::Mixed => 0.0,
        Dialect::Ws => costs.ping.gateway_us.median / KEEPALIVE_SECONDS,
        Dialect::Http | Dialect::Listen => costs.told.gateway_us.median / KEEPALIVE_SECONDS,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::coefficients::tests::measurements;
    use super::super::load::{Dialects, Paths};
    use super::super::machine::{Origin, tiers};
    use super::*;

    fn example() -> (Measurements, Load, Machine) {
        (measurements(), Load::default(), tiers().swap_remove(1))
    }

    #[test]
    fn memory_is_a_line_and_a_step_for_each_shard() {
        let (measurements, load, machine) = example();
        let tcp = Load { dialects: Dialects { tcp: 1.0, ..Dialects::default() }, ..load };
        let small = Machine { descriptors: 20_000, cores: 2.0, ..machine };
        let model = Model::new(&measurements, &tcp, &small);
        let base = f64::from(10 << 20);
        assert!((model.rss(10_000) - (base + 1e6)).abs() < 1.0, "2 shards, as measured");
        assert!((model.rss(100_000) - (base + 1e7 + 4.0 * 110_000.0)).abs() < 1.0, "6 shards: 20,000 descriptors each");
    }

    #[test]
    fn a_service_on_the_core_is_paid_in_its_whole_time() {
        let (measurements, load, machine) = example();
        let load = Load {
            calls_per_second: 1.0,
            connects_per_second: 0.0,
            service_on: ServiceOn::Core,
            shares: "cache=0.7,own=0.25,upstream=0.05".parse().expect("paths"),
            service_ms: "cache=2,own=15,upstream=40".parse().expect("paths"),
            ..load
        };
        let cores = Model::new(&measurements, &load, &machine).cores_per_client(100_000);
        assert!((0.00715..0.00719).contains(&cores), "7.15 ms and some microseconds of lakh's: {cores}");
        let behind = Load { service_on: ServiceOn::Upstream, ..load };
        let model = Model::new(&measurements, &behind, &machine);
        assert!(model.cores_per_client(100_000) < 0.00005);
        assert!((model.used(Kind::Slots, 1_000) - 7.15).abs() < 1e-9, "calls at once, by Little's law");
    }

    #[test]
    fn slots_are_of_all_gateways_together_and_no_machine_is_sized_by_them() {
        let (measurements, load, machine) = example();
        let load = Load { upstream_slots: 16, ..load };
        let model = Model::new(&measurements, &load, &machine);
        assert_eq!(model.clients_at(Kind::Slots, 1.0), Some(177), "16 slots / (0.1 calls x 0.9 s)");
        assert!(model.capacity().is_some_and(|(clients, kind)| clients > 10_000 && kind != Kind::Slots));
    }

    #[test]
    fn tls_takes_memory_and_bytes_on_the_wire() {
        let (measurements, load, machine) = example();
        let tls = Load { tls: true, ..load.clone() };
        let (without, with) = (Model::new(&measurements, &load, &machine), Model::new(&measurements, &tls, &machine));
        for kind in [Kind::Memory, Kind::Network] {
            assert!(with.used(kind, 1_000) > without.used(kind, 1_000));
        }
    }

    fn loads() -> impl Strategy<Value = Load> {
        let shares =
            (0.0..1.0_f64, 0.0..1.0_f64, 1..4_000_000_u64, 0.0..10.0_f64, any::<bool>(), 0.0..5_000.0_f64, 0..500_u64);
        shares.prop_map(|(one, two, clients, calls, tls, ms, slots)| Load {
            clients,
            calls_per_second: calls,
            tls,
            upstream_slots: slots,
            dialects: Dialects { tcp: one, http: 1.0 - one, ..Dialects::default() },
            shares: Paths { own: two, upstream: 1.0 - two, ..Paths::default() },
            service_ms: Paths { upstream: ms, ..Paths::default() },
            service_on: if slots % 2 == 0 { ServiceOn::Upstream } else { ServiceOn::Core },
            ..Load::default()
        })
    }

    fn machines() -> impl Strategy<Value = Machine> {
        (1.0..128.0_f64, 0.5..512.0_f64, 0.0..100.0_f64, 1_000..2_000_000_u64, any::<bool>()).prop_map(
            |(cores, memory_gib, nic_gbit, descriptors, own_tables)| Machine {
                name: "any".into(),
                cores,
                memory_gib,
                nic_gbit,
                descriptors,
                own_tables,
                price_month: 100.0,
                from: Origin::Given,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn more_clients_never_take_less(load in loads(), machine in machines(), few in 0..5_000_000_u64, more in 0..5_000_000_u64) {
            let measurements = measurements();
            let model = Model::new(&measurements, &load, &machine);
            for kind in Kind::ALL {
                prop_assert!(model.used(*kind, few + more) >= model.used(*kind, few), "{kind:?}");
            }
        }

        #[test]
        fn less_memory_descriptors_or_network_never_hold_more(load in loads(), machine in machines()) {
            let measurements = measurements();
            let held = |machine: &Machine| Model::new(&measurements, &load, machine).capacity().map_or(u64::MAX, |(clients, _)| clients);
            let whole = held(&machine);
            let lesser = [
                Machine { memory_gib: machine.memory_gib / 2.0, ..machine.clone() },
                Machine { descriptors: machine.descriptors / 2, ..machine.clone() },
                Machine { nic_gbit: machine.nic_gbit / 2.0, ..machine.clone() },
            ];
            for lesser in &lesser {
                prop_assert!(held(lesser) <= whole, "{lesser:?}");
            }
        }

        #[test]
        fn the_capacity_is_the_last_that_fits(load in loads(), machine in machines()) {
            let measurements = measurements();
            let model = Model::new(&measurements, &load, &machine);
            for kind in Kind::ALL {
                for mark in MARKS {
                    if let (Some(limit), Some(clients)) = (model.limit(*kind), model.clients_at(*kind, mark)) {
                        prop_assert!(clients == 0 || model.used(*kind, clients) <= limit * mark);
                        prop_assert!(model.used(*kind, clients + 1) > limit * mark);
                    }
                }
            }
        }
    }
}
