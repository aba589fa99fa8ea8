//! The forecast as a picture: how full one machine gets, and how many machines there have to be.

use super::coefficients::Measurements;
use super::forecast::{FLEETS, Forecast, Tier, fleet};
use super::load::Load;
use super::machine::Machine;
use super::model::{Kind, Model};
use crate::cli::chart::{Axis, Chart, Panel, Scale, Series, Shape, Unit};
use crate::cli::simulate::thousands;
use crate::meter::Named;

/// Points of a line, evenly spread over the decades of clients.
const POINTS: u32 = 60;
/// Percent that a line is drawn up to: beyond full nothing is to be seen.
const MOST: f64 = 120.0;
/// As many names of machines have room beside the heading.
const TIERS_MOST: usize = 4;

/// Draws `forecast`, whose first machine is shown in detail.
pub fn chart(measurements: &Measurements, forecast: &Forecast) -> Chart {
    let load = &forecast.load;
    let name = forecast.tiers.first().map_or("", |tier| tier.machine.name.as_str());
    let spoken: Vec<&str> =
        load.dialects.each().iter().filter(|(_, share)| *share > 0.0).map(|(dialect, _)| dialect.name()).collect();
    let axis = |label: &str, scale| Axis { label: label.into(), unit: Unit::Count, scale };
    let full = forecast.tiers.first().map_or_else(Vec::new, |tier| filling(measurements, load, &tier.machine));
    let nodes = spread(&forecast.tiers).map(|tier| Series {
        name: tier.machine.name.clone(),
        shape: Shape::Line,
        points: clients()
            .filter_map(|clients| {
                let nodes = fleet(clients, tier.fills_first.and(tier.clients), 0.0).nodes?;
                Some((clients as f64, nodes as f64))
            })
            .collect(),
    });
    Chart {
        title: format!("lakh plan: {} clients", thousands(load.clients as i64)),
        subtitle: format!(
            "{}; {} calls a second of each; coefficients of {}",
            spoken.join(", "),
            load.calls_per_second,
            measurements.measured_on
        ),
        x: axis("clients", Scale::Log),
        panels: vec![
            Panel {
                heading: format!("How full it is: {name}"),
                y: axis("percent of what there is", Scale::Linear),
                series: full,
                limits: vec![("75 %: warning".into(), 75.0), ("95 %: emergency".into(), 95.0)],
            },
            Panel {
                heading: "Nodes, one to spare".into(),
                y: axis("nodes", Scale::Log),
                series: nodes.collect(),
                limits: Vec::new(),
            },
        ],
    }
}

/// A line for each resource that has a limit.
fn filling(measurements: &Measurements, load: &Load, machine: &Machine) -> Vec<Series> {
    let model = Model::new(measurements, load, machine);
    let line = |kind: &Kind| {
        let limit = model.limit(*kind)?;
        let percent = |clients: u64| model.used(*kind, clients) / limit * 100.0;
        let points = clients().map(|clients| (clients as f64, percent(clients))).filter(|point| point.1 <= MOST);
        Some(Series { name: kind.name().into(), shape: Shape::Line, points: points.collect() })
    };
    Kind::ALL.iter().filter_map(line).collect()
}

/// The first, the last, and some evenly between them.
fn spread(tiers: &[Tier]) -> impl Iterator<Item = &Tier> {
    let shown = tiers.len().min(TIERS_MOST);
    let last = tiers.len().saturating_sub(1);
    (0..shown).filter_map(move |at| tiers.get((at * last).div_ceil(shown.saturating_sub(1).max(1))))
}

/// From the least fleet to the largest.
fn clients() -> impl Iterator<Item = u64> {
    let (least, most) = (FLEETS[0] as f64, FLEETS[FLEETS.len() - 1] as f64);
    (0..=POINTS).map(move |at| (least * (most / least).powf(f64::from(at) / f64::from(POINTS))) as u64)
}

#[cfg(test)]
mod tests {
    use super::super::coefficients::tests::measurements;
    use super::super::forecast::forecast;
    use super::super::machine::tiers;
    use super::*;

    #[test]
    fn the_picture_shows_resources_and_machines() {
        let measurements = measurements();
        let load = Load { upstream_slots: 100_000, ..Load::default() };
        let chart = chart(&measurements, &forecast(&measurements, &load, &tiers(), &tiers()[0]));
        let svg = chart.to_svg();
        for words in
            ["100,000 clients", "memory", "cpu", "upstream slots", "Nodes, one to spare", "64 cores, 256 GiB", "75 %"]
        {
            assert!(svg.contains(words), "{words}");
        }
        assert!(chart.panels.iter().all(|panel| panel.series.iter().all(|series| series.points.len() > 10)));
    }
}
