//! The forecast: what fills first and when, tiers of machines, nodes with one to spare, what they cost, and what
//! `lakh simulate` would show. Pure: no file, no clock.

use serde::Serialize;

use super::assumed::{Assumed, assumed, assumptions, unlimited};
use super::calibration::{Measured, Spread};
use super::coefficients::Measurements;
use super::load::{Dialects, Load, ServiceOn};
use super::machine::Machine;
use super::model::{Kind, MARKS, Model};
use crate::cli::simulate::Dialect;
use crate::meter::Named;

/// Numbers of clients that nodes are told for.
pub const FLEETS: [u64; 9] = [1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 10_000_000];
/// Nodes that are there beside those needed, so that one may fail.
pub const SPARE: u64 = 1;
/// Numbers of clients that `lakh simulate` is forecast for, and those of the load.
const SIMULATED: [u32; 3] = [10_000, 50_000, 100_000];

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    pub load: Load,
    /// Calls a second of all clients.
    pub calls_per_second: f64,
    /// Mean seconds that a call keeps what serves it busy, and calls a second of one such server: time-weighted.
    pub service_seconds: f64,
    pub calls_per_server: Option<f64>,
    /// Calls at once at all upstreams (Little's law).
    pub upstream_calls_at_once: f64,
    /// The machine that is looked at in detail, the first of `tiers`.
    pub timeline: Vec<Resource>,
    /// Each kind of machine.
    pub tiers: Vec<Tier>,
    /// What `lakh simulate` would show on this host.
    pub simulate: Option<Vec<Simulated>>,
    /// What it rests on, each with its source.
    pub assumptions: Vec<String>,
    /// The figures that nobody measured or gave, and where to set one's own.
    pub assumed: Vec<Assumed>,
}

/// One resource of the machine in detail.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resource {
    pub kind: Kind,
    /// In bytes, cores, bytes a second, clients or calls; `None`: not limited.
    pub limit: Option<f64>,
    /// What the load's clients would take, all on one machine.
    pub used: f64,
    /// Up to which share it is planned, and the clients that reach it.
    pub planned: f64,
    pub planned_at: Option<u64>,
    /// Clients at 75, 85, 95 and 100 %; `None`: never.
    pub marks: [Option<u64>; 4],
}

/// One kind of machine under the load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tier {
    pub machine: Machine,
    /// Clients that one such machine is planned with; `None`: as many as come.
    pub clients: Option<u64>,
    pub fills_first: Option<Kind>,
    /// Calls a second of so many clients.
    pub calls_per_second: Option<f64>,
    /// Seconds until so many clients are back after all were parted at once, all cores at work.
    pub reconnect_seconds: Option<f64>,
    /// For the load itself, then for each of [`FLEETS`].
    pub for_load: Fleet,
    pub fleets: Vec<Fleet>,
}

/// How many machines hold so many clients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fleet {
    pub clients: u64,
    /// With one to spare; `None`: one machine holds not a single client.
    pub nodes: Option<u64>,
    /// Dollars; `None`: no price, or no nodes.
    pub cost_month: Option<f64>,
}

/// A run of `lakh simulate`, whose clients are on the same cores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Simulated {
    pub clients: u32,
    /// The gateway's whole resident memory.
    pub rss_bytes: f64,
    /// Clients that come a second, each with its handshake and a call.
    pub connects_per_second: Spread,
    /// Pings answered a second, 256 at once.
    pub pings_per_second: Spread,
}

/// Forecasts `load` on `machines`, the first of them in detail; `here` is where `lakh simulate` would run.
pub fn forecast(measurements: &Measurements, load: &Load, machines: &[Machine], here: &Machine) -> Forecast {
    let mut assumptions = assumptions(measurements, load);
    let models = machines.iter().map(|machine| (machine, Model::new(measurements, load, machine)));
    let mut timeline = Vec::new();
    let mut tiers = Vec::new();
    for (position, (machine, model)) in models.enumerate() {
        if position == 0 {
            timeline = resources(&model, load.clients);
            assumptions.extend(unlimited(machine));
        }
        tiers.push(tier(&model, machine, measurements, load));
    }
    let busy = load.service_on == ServiceOn::Upstream;
    Forecast {
        load: load.clone(),
        calls_per_second: load.calls(),
        service_seconds: load.service_seconds(),
        calls_per_server: load.calls_per_server(),
        upstream_calls_at_once: if busy { load.calls() * load.service_seconds() } else { 0.0 },
        timeline,
        tiers,
        simulate: load.dialects.simulated().and_then(|dialect| {
            let clients = u32::try_from(load.clients).ok().filter(|clients| *clients <= 10_000_000);
            let mut all: Vec<u32> = SIMULATED.into_iter().chain(clients).collect();
            all.sort_unstable();
            all.dedup();
            let most = all.last().copied()?;
            all.into_iter().map(|clients| simulated(measurements, here, dialect, (clients, most))).collect()
        }),
        assumptions,
        assumed: assumed(load, machines),
    }
}

/// What `lakh simulate` would show on this machine with so many clients, in a run up to `most`. Gateway and load generator
/// share the cores, so a rate is what the cores do of both ends' work together, as busy as they were in the calibration.
pub fn simulated(
    measurements: &Measurements,
    machine: &Machine,
    dialect: Dialect,
    (clients, most): (u32, u32),
) -> Option<Simulated> {
    let dialects = match dialect {
        Dialect::Mixed => Dialects { tcp: 0.5, ws: 0.5, ..Dialects::default() },
        Dialect::Tcp => Dialects { tcp: 1.0, ..Dialects::default() },
        Dialect::Ws => Dialects { ws: 1.0, ..Dialects::default() },
        Dialect::Http => Dialects { http: 1.0, ..Dialects::default() },
        Dialect::Listen => Dialects { listen: 1.0, ..Dialects::default() },
    };
    let many = u64::from(clients);
    let load = Load { clients: many, dialects, ..Load::default() };
    let shares = dialects.each().into_iter().filter(|(_, share)| *share > 0.0);
    let spoken: Vec<&Measured> = shares.map(|(one, _)| Some(&measurements.of(one)?.measured)).collect::<Option<_>>()?;
    let faster = machine.cores / measurements.cores as f64;
    // Of a mix as many of each: the mean time of one.
    let mixed = |rate: &dyn Fn(&Measured) -> Spread| {
        let rates: Vec<Spread> = spoken.iter().map(|one| rate(one)).collect();
        Spread::each(|of| faster * rates.len() as f64 / rates.iter().map(|rate| 1.0 / of(rate)).sum::<f64>())
    };
    Some(Simulated {
        clients,
        rss_bytes: Model::new(measurements, &load, machine).rss_of(many, u64::from(most)),
        connects_per_second: mixed(&|one| one.costs.handshake.per_second),
        pings_per_second: mixed(&|one| {
            let (with_few, with_many) = (&one.costs.ping_of_few.per_second, &one.costs.ping.per_second);
            Spread::each(|of| one.between(many, of(with_few), of(with_many)))
        }),
    })
}

fn resources(model: &Model<'_>, clients: u64) -> Vec<Resource> {
    let mut all: Vec<Resource> = Kind::ALL
        .iter()
        .map(|&kind| Resource {
            kind,
            limit: model.limit(kind),
            used: model.used(kind, clients),
            planned: kind.planned(),
            planned_at: model.clients_at(kind, kind.planned()),
            marks: MARKS.map(|mark| model.clients_at(kind, mark)),
        })
        .collect();
    all.sort_by_key(|resource| resource.planned_at.unwrap_or(u64::MAX));
    all
}

fn tier(model: &Model<'_>, machine: &Machine, measurements: &Measurements, load: &Load) -> Tier {
    let capacity = model.capacity();
    let clients = capacity.map(|(clients, _)| clients);
    let handshake_us: f64 = load
        .dialects
        .each()
        .into_iter()
        .filter_map(|(dialect, share)| {
            Some(share * measurements.of(dialect)?.measured.costs.handshake.gateway_us.median)
        })
        .sum();
    let fleet = |clients| fleet(clients, capacity.map(|(each, _)| each), machine.price_month);
    Tier {
        machine: machine.clone(),
        clients,
        fills_first: capacity.map(|(_, kind)| kind),
        calls_per_second: clients.map(|clients| clients as f64 * load.calls_per_second),
        reconnect_seconds: clients.map(|clients| clients as f64 * handshake_us / 1e6 / machine.cores),
        for_load: fleet(load.clients),
        fleets: FLEETS.into_iter().map(fleet).collect(),
    }
}

/// Nodes for so many clients where one holds `each` (`None`: all there are): as many as are needed, and one to spare.
pub fn fleet(clients: u64, each: Option<u64>, price_month: f64) -> Fleet {
    let needed = match each {
        None => Some(1),
        Some(0) => None,
        Some(each) => Some(clients.div_ceil(each).max(1)),
    };
    let nodes = needed.map(|needed| needed + SPARE);
    let cost_month = nodes.filter(|_| price_month > 0.0).map(|nodes| nodes as f64 * price_month);
    Fleet { clients, nodes, cost_month }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::coefficients::tests::measurements;
    use super::super::machine::tiers;
    use super::*;

    #[test]
    fn one_to_spare_is_added_and_what_holds_nobody_has_no_nodes() {
        let nodes = |clients, each| fleet(clients, each, 50.0).nodes;
        assert_eq!((nodes(1_000, Some(1_000)), nodes(1_001, Some(1_000))), (Some(2), Some(3)));
        assert_eq!((nodes(1, None), nodes(1, Some(0))), (Some(2), None));
        assert_eq!(fleet(2_500, Some(1_000), 50.0).cost_month, Some(200.0));
        assert_eq!(fleet(2_500, Some(1_000), 0.0).cost_month, None);
    }

    #[test]
    fn simulate_is_forecast_as_it_was_calibrated() {
        let measurements = measurements();
        let machine = Machine { cores: 2.0, descriptors: 20_000, ..tiers().swap_remove(0) };
        let seen = |dialect, clients| simulated(&measurements, &machine, dialect, (clients, 20_000)).expect("measured");
        let ws = seen(Dialect::Ws, 20_000);
        let rates = |of: Spread| [of.least, of.median, of.most].map(f64::round);
        assert_eq!(rates(ws.connects_per_second), [22_500.0, 25_000.0, 30_000.0]);
        assert_eq!(rates(ws.pings_per_second), [135_000.0, 150_000.0, 180_000.0]);
        assert!((ws.rss_bytes - (f64::from(10 << 20) + 20_000.0 * 104.0)).abs() < 1.0);
        let fewer = seen(Dialect::Ws, 10_000).pings_per_second.median;
        assert_eq!(fewer.round(), (150_000.0 * 200_000.0_f64).sqrt().round(), "half way between 5,000 and 20,000");
        let twice = Machine { cores: 4.0, ..machine };
        let twice = simulated(&measurements, &twice, Dialect::Mixed, (20_000, 20_000)).expect("measured");
        assert_eq!(twice.pings_per_second.median.round(), 300_000.0);
    }

    #[test]
    fn a_run_to_many_clients_has_its_shards_from_the_beginning() {
        let measurements = measurements();
        let machine = Machine { cores: 2.0, descriptors: 20_000, ..tiers().swap_remove(0) };
        let rss = |most| simulated(&measurements, &machine, Dialect::Tcp, (10_000, most)).expect("measured").rss_bytes;
        assert!((rss(100_000) - rss(10_000) - 4.0 * 110_000.0).abs() < 1.0, "6 shards and 2");
    }

    #[test]
    fn the_first_to_fill_leads_the_timeline_and_every_source_is_named() {
        let measurements = measurements();
        let load = Load {
            clients: 100_000,
            dialects: Dialects { tcp: 1.0, ..Dialects::default() },
            tls: true,
            ..Load::default()
        };
        let told = forecast(&measurements, &load, &tiers(), &tiers()[0]);
        let tier = &told.tiers[0];
        assert_eq!(told.timeline[0].planned_at, tier.clients);
        assert_eq!(Some(told.timeline[0].kind), tier.fills_first);
        assert!(
            told.timeline
                .windows(2)
                .all(|pair| pair[0].planned_at.unwrap_or(u64::MAX) <= pair[1].planned_at.unwrap_or(u64::MAX))
        );
        let all = told.assumptions.join("\n");
        for words in ["/proc/PID/stat", "loopback", "calibration.json", "TLS ends in a proxy", "5.4 to 7.2"] {
            assert!(all.contains(words), "{words} in\n{all}");
        }
        assert!(told.assumed.iter().any(|one| one.because.contains("tokio-rustls")));
        assert_eq!(told.simulate.as_ref().map(Vec::len), Some(3), "10K, 50K, 100K");
        let http = Load { dialects: Dialects { tcp: 0.2, http: 0.8, ..Dialects::default() }, ..load };
        assert!(
            forecast(&measurements, &http, &tiers(), &tiers()[0]).simulate.is_none(),
            "a mix that simulate does not have"
        );
    }

    proptest! {
        #[test]
        fn more_clients_never_need_fewer_nodes(few in 0..1_000_000_000_u64, more in 0..1_000_000_000_u64, each in 1..10_000_000_u64) {
            prop_assert!(fleet(few + more, Some(each), 1.0).nodes >= fleet(few, Some(each), 1.0).nodes);
            let nodes = fleet(few, Some(each), 1.0).nodes.expect("some");
            prop_assert!((nodes - SPARE) * each >= few, "without the spare one all are held");
        }
    }
}
