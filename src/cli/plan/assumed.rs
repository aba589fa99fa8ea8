//! What a forecast rests on: its sources in words, and each figure that nobody measured, with where to set one's own.

use serde::Serialize;

use super::calibration::Cost;
use super::coefficients::{Coefficients, Measurements};
use super::forecast::SPARE;
use super::load::{Load, ServiceOn};
use super::machine::{Machine, Origin};
use super::model::{KEEPALIVE_SECONDS, Kind, TLS_CONNECTION_BYTES};
use super::report::spread;
use crate::meter::Named;

/// A figure that was taken to be so.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assumed {
    /// What it is, and of which machine.
    pub figure: String,
    pub value: f64,
    pub unit: &'static str,
    /// Why it is taken to be that.
    pub because: &'static str,
    /// What to write instead, and where.
    pub set: &'static str,
}

const IN_FILE: &str = "`[[machines]]` in the file of `--load`";
const FIXED: &str = "cannot be set";

/// Every figure of these machines and this load that is not measured and not given.
pub fn assumed(load: &Load, machines: &[Machine]) -> Vec<Assumed> {
    let mut all = Vec::new();
    for machine in machines.iter().filter(|machine| machine.from == Origin::Table) {
        let of = |what: &str| format!("{what}: {}", machine.name);
        let taken = |figure, value, unit, because| Assumed { figure, value, unit, because, set: IN_FILE };
        all.push(taken(of("price_month"), machine.price_month, "$", "AWS m7i, list price on demand, us-east-1, 730 h"));
        all.push(taken(of("nic_gbit"), machine.nic_gbit, "Gbit/s", "AWS m7i, at any time, not \"up to\""));
        all.push(taken(of("descriptors"), machine.descriptors as f64, "", "`fs.nr_open` as Linux comes with it"));
    }
    for kind in Kind::ALL {
        all.push(Assumed {
            figure: format!("planned up to: {}", kind.name()),
            value: kind.planned() * 100.0,
            unit: "%",
            because: match kind {
                Kind::Cpu | Kind::Memory => "scale-out threshold of the published plans",
                _ => "the zone `warning` begins",
            },
            set: FIXED,
        });
    }
    all.push(Assumed {
        figure: "nodes to spare".to_owned(),
        value: SPARE as f64,
        unit: "",
        because: "one may fail",
        set: FIXED,
    });
    if load.dialects.tcp < 1.0 {
        all.push(Assumed {
            figure: "a silent client is kept alive every".to_owned(),
            value: KEEPALIVE_SECONDS,
            unit: "s",
            because: "the default of `conn.keepalive_ms`",
            set: FIXED,
        });
    }
    if load.tls {
        all.push(Assumed {
            figure: "memory of a TLS connection in the proxy".to_owned(),
            value: TLS_CONNECTION_BYTES,
            unit: "B",
            because: "tokio-rustls, measured elsewhere (design.md section 4)",
            set: FIXED,
        });
    }
    all
}

/// What every forecast rests on, in words.
pub fn assumptions(measurements: &Measurements, load: &Load) -> Vec<String> {
    let mut all = vec![
        format!("Processor time: {} ({}).", measurements.calibration, measurements.measured_on),
        "It is the gateway process' own user and system time (/proc/PID/stat), not wall time; the load generator's is not in \
         it. Work of the network card's interrupts is not either: it was measured over loopback, which has no card."
            .to_owned(),
        "A core of each machine is taken to be as fast as one of the machine that was measured.".to_owned(),
        "All times are medians of bursts of several gateways, with the least and the most of them in parentheses: where the \
         kernel puts the threads of gateway and load generator on the cores that both share makes so much difference."
            .to_owned(),
    ];
    if !measurements.optimized {
        all.push("THAT WAS A DEBUG BUILD: its figures are some times too high, and none to keep.".to_owned());
    }
    for (dialect, share) in load.dialects.each() {
        let Some(one) = measurements.of(dialect).filter(|_| share > 0.0) else { continue };
        all.push(format!("{}: {}", dialect.name(), coefficients(one)));
    }
    all.push(
        "Each client asks one thing at a time, so nothing is batched: clients that pipeline cost less. Memory of calls under \
         way and of slow readers' outboxes is not in it."
            .to_owned(),
    );
    if load.shares.cache > 0.0 {
        all.push("A hit in a cache is taken to cost lakh what an own answer costs: no cache was measured.".to_owned());
    }
    if load.service_on == ServiceOn::Core {
        all.push(
            "Service times keep cores of this machine busy, whole: each path's time counts by its share of the calls."
                .to_owned(),
        );
    }
    if load.tls {
        all.push(format!(
            "TLS ends in a proxy on the same machine (lakh has none): {TLS_CONNECTION_BYTES:.0} B of memory per connection, \
             two further sockets, 22 B per message on the wire. Its CPU is not in the forecast: nothing here measured it."
        ));
    }
    all.push("What the operating system and others use has to fit into what is not planned with.".to_owned());
    all
}

fn coefficients(one: &Coefficients) -> String {
    let (measured, costs) = (&one.measured, &one.measured.costs);
    let us = |cost: Cost| spread(cost.gateway_us);
    let (own_kib, upstream_kib) = costs.us_per_kib();
    format!(
        "{:.0} B per client beside {:.1} MiB, {:.0} B of the kernel's ({}); microseconds of CPU: handshake with a call {}, own \
         answer {}, through an upstream {}, refused {}, told of a change {}; a further KiB {own_kib:.2} own, {upstream_kib:.2} \
         through. A ping takes {} with {} clients in turn and {} with {}: calls are taken to grow alike between these, by the \
         logarithm, and not beyond.",
        one.bytes_per_client,
        one.base_bytes / f64::from(1 << 20),
        measured.kernel_bytes_per_client,
        one.memory_from,
        us(costs.handshake),
        us(costs.own),
        us(costs.upstream),
        us(costs.refused),
        us(costs.told),
        us(costs.ping_of_few),
        measured.few.clients,
        us(costs.ping),
        measured.many.clients,
    )
}

/// What of this machine limits nothing, because nobody said.
pub fn unlimited(machine: &Machine) -> Option<String> {
    let nothing = [("network", machine.nic_gbit == 0.0), ("descriptors", machine.descriptors == 0)];
    let named: Vec<&str> = nothing.into_iter().filter(|(_, unknown)| *unknown).map(|(name, _)| name).collect();
    let told = |named: &[&str]| {
        format!("{}: {} not known, so not limited; set in {IN_FILE}.", machine.name, named.join(" and "))
    };
    (!named.is_empty()).then(|| told(&named))
}

#[cfg(test)]
mod tests {
    use super::super::machine::tiers;
    use super::*;

    #[test]
    fn each_price_and_network_of_the_table_is_named_and_none_that_was_given() {
        let all = assumed(&Load::default(), &tiers());
        for tier in tiers() {
            for what in ["price_month", "nic_gbit", "descriptors"] {
                let one = all.iter().find(|one| one.figure == format!("{what}: {}", tier.name)).expect(what);
                assert!(one.value > 0.0 && one.set.contains("[[machines]]"), "{one:?}");
            }
        }
        let given = Machine { from: Origin::Given, ..tiers().swap_remove(0) };
        assert!(!assumed(&Load::default(), &[given]).iter().any(|one| one.figure.contains("price")));
    }

    #[test]
    fn what_is_not_known_is_said_with_where_to_say_it() {
        let unknown = Machine { nic_gbit: 0.0, ..tiers().swap_remove(0) };
        let told = unlimited(&unknown).expect("no network");
        assert!(told.contains("network not known") && told.contains("[[machines]]"), "{told}");
        assert_eq!(unlimited(&tiers()[0]), None);
    }
}
