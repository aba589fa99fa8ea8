//! The report: what `/capacity` answers, as data and as the text that a person reads.

use std::fmt;

use serde::Serialize;

use super::{Advice, Capacity, Fill, Gauge, Resource, Unit, VitalState, Vitals};
use crate::guard::Zone;
use crate::meter::Named;
use crate::monitor::report::grouped;

/// How full the house is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// When it was read, in milliseconds since 1970; 0 before the first reading.
    pub at_unix_ms: u64,
    /// The worst zone of the resources that drive: what the guards obey.
    pub house: Zone,
    /// The zone of memory.
    pub memory: Zone,
    /// Clients that are there.
    pub clients: u64,
    /// Each resource, in the order of their names' list, those of upstreams by upstream.
    pub resources: Vec<Row>,
    /// What is full first if more clients come that do as those who were there.
    pub first_to_fill: Filling,
    /// How it does.
    pub vitals: Vitals,
    /// The levels of these, and which are raised.
    pub alarms: Vec<VitalState>,
    /// Whether more gateways are needed.
    pub advice: Advice,
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Which.
    pub resource: Resource,
    /// At which upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// In what it is counted.
    pub unit: Unit,
    /// In use.
    pub used: u64,
    /// The most; nothing where there is no limit, or it can't be read.
    pub limit: Option<u64>,
    /// What is left.
    pub headroom: Option<u64>,
    /// The share in use.
    pub share: Option<f64>,
    /// Its zone.
    pub zone: Zone,
    /// Whether that can become the house's.
    pub drives: bool,
    /// What was measured of clients' part of it; nothing before enough of them came.
    pub fill: Option<Fill>,
}

/// What is full first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Filling {
    /// By what was measured.
    Measured {
        /// The resource.
        resource: Resource,
        /// At which upstream.
        #[serde(skip_serializing_if = "Option::is_none")]
        upstream: Option<String>,
        /// With how many clients it is full.
        at_clients: u64,
        /// From how many, more than at the fewest, that was measured.
        over_clients: u64,
    },
    /// It can't be judged yet.
    Unknown {
        /// Why.
        why: String,
    },
}

impl Default for Filling {
    fn default() -> Self {
        Self::Unknown { why: "nothing was read yet".into() }
    }
}

impl Report {
    pub(super) fn new(of: &Capacity) -> Self {
        let clients_min = of.slope_clients_min();
        let resources: Vec<Row> = of.gauges.iter().map(|gauge| Row::new(gauge, clients_min)).collect();
        Self {
            at_unix_ms: of.latest.at_unix_ms,
            house: of.zone(Resource::drives),
            memory: of.zone(Resource::is_memory),
            clients: of.latest.clients,
            first_to_fill: Filling::first(&resources, clients_min),
            resources,
            vitals: of.latest.vitals,
            alarms: of.watches.states().cloned().collect(),
            advice: of.advisor.advice().clone(),
        }
    }
}

impl Row {
    fn new(gauge: &Gauge, clients_min: u64) -> Self {
        let figure = &gauge.figure;
        let limit = (figure.limit > 0).then_some(figure.limit);
        let is_told = figure.resource.is_shared_out() && limit.is_some();
        Self {
            resource: figure.resource,
            upstream: figure.upstream.as_deref().map(Into::into),
            unit: figure.resource.unit(),
            used: figure.used,
            limit,
            headroom: limit.map(|limit| limit.saturating_sub(figure.used)),
            share: figure.share(),
            zone: gauge.dial.zone(),
            drives: figure.resource.drives(),
            fill: is_told.then(|| gauge.slope.fill(figure, clients_min)).flatten(),
        }
    }

    fn name(&self) -> String {
        match &self.upstream {
            Some(upstream) => format!("{} of {upstream}", self.resource.name()),
            None => self.resource.name().into(),
        }
    }
}

impl Filling {
    fn first(rows: &[Row], clients_min: u64) -> Self {
        let measured = rows.iter().filter_map(|row| Some((row, row.fill?)));
        let filled = measured.clone().filter_map(|(row, fill)| Some((fill.at_clients?, row, fill)));
        match filled.min_by_key(|(at_clients, ..)| *at_clients) {
            Some((at_clients, row, Fill { over_clients, .. })) => {
                Self::Measured { resource: row.resource, upstream: row.upstream.clone(), at_clients, over_clients }
            }
            None if rows.is_empty() => Self::default(),
            None if measured.count() == 0 => Self::Unknown {
                why: format!("{} clients more than at the fewest have not been there yet", grouped(clients_min)),
            },
            None => Self::Unknown { why: "clients have taken no measurable part of anything".into() },
        }
    }
}

impl Unit {
    /// The figure as a person reads it.
    pub(super) fn show(self, figure: u64) -> String {
        match self {
            Self::Count => grouped(figure),
            Self::Bytes => format!("{:.1} MiB", figure as f64 / f64::from(1 << 20)),
            Self::Microseconds => format!("{:.1} ms", figure as f64 / 1e3),
            Self::Millicores => format!("{:.2} cores", figure as f64 / 1e3),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (house, memory) = (self.house.name(), self.memory.name());
        writeln!(f, "{} clients; the house is {house}, its memory {memory}", grouped(self.clients))?;
        match &self.first_to_fill {
            Filling::Measured { resource, upstream, at_clients, over_clients } => {
                let of = upstream.as_ref().map_or_else(String::new, |name| format!(" of {name}"));
                let (at, over) = (grouped(*at_clients), grouped(*over_clients));
                writeln!(f, "first full: {}{of}, with {at} clients (as {over} more have shown)", resource.name())?;
            }
            Filling::Unknown { why } => writeln!(f, "first full: not known yet: {why}")?,
        }
        writeln!(f, "advice: {}, {:.2} times as many gateways", self.advice.scale.name(), self.advice.replicas_ratio)?;
        if !self.advice.reasons_out.is_empty() {
            writeln!(f, "reasons for more: {}", self.advice.reasons_out.join(", "))?;
        }
        let names: Vec<String> = self.resources.iter().map(Row::name).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("resource".len());
        let columns = ["in use", "of", "share", "zone", "full with"];
        let [used, limit, share, zone, full] = columns;
        writeln!(f, "\n{:<width$}{used:>15}{limit:>15}{share:>8}  {zone:<10}{full:>14}", "resource")?;
        for (row, name) in self.resources.iter().zip(names) {
            let used = row.unit.show(row.used);
            let limit = row.limit.map_or_else(|| "no limit".into(), |limit| row.unit.show(limit));
            let share = row.share.map_or_else(|| "-".into(), |share| format!("{:.1} %", 100.0 * share));
            let full = row.fill.and_then(|fill| fill.at_clients).map_or_else(|| "-".into(), grouped);
            writeln!(f, "{name:<width$}{used:>15}{limit:>15}{share:>8}  {:<10}{full:>14}", row.zone.name())?;
        }
        f.write_str("\n")?;
        let width = self.alarms.iter().map(|state| state.name().chars().count()).max().unwrap_or(0) + 2;
        for state in &self.alarms {
            let value = state.value.map_or_else(|| "too few to say".into(), |value| format!("{value:.2}"));
            let levels: Vec<String> = state.levels.iter().map(ToString::to_string).collect();
            let raised = if state.level > 0 { format!(", ALARM of level {}", state.level) } else { String::new() };
            writeln!(f, "{:<width$}{value} (levels {}){raised}", state.name(), levels.join(", "))?;
        }
        Ok(())
    }
}
