//! How full the house is, in numbers for an autoscaler and for dashboards.

use std::fmt;

use prometheus_client::registry::Unit;

use super::sheet::{Labels, Sheet, alone, by, named};
use crate::admin::Fullness;
use crate::meter::Named;
use crate::monitor::capacity::{Filling, Row, VitalState};

/// As the monitor saw it last; resources are absent before it has.
pub(super) fn write(sheet: &mut Sheet<'_>, fullness: &Fullness) -> fmt::Result {
    let report = fullness.report.load();
    let labels = |row: &Row| -> Labels {
        let mut labels = vec![("resource", row.resource.name().to_owned())];
        labels.extend(row.upstream.clone().map(|upstream| ("upstream", upstream)));
        labels
    };
    let zones = [("house", report.house), ("memory", report.memory)].map(|(of, zone)| (of, zone.index() as u64));
    let help = "0 safe, 1 warning, 2 critical, 3 emergency: what the guards obey";
    sheet.gauges("lakh_zone", None, help, by("of", zones))?;
    let rows = &report.resources;
    let zones = rows.iter().map(|row| (labels(row), row.zone.index() as u64));
    sheet.gauges("lakh_capacity_zone", None, "The zone of a resource, as lakh_zone", zones)?;
    let used = rows.iter().map(|row| (labels(row), row.used));
    sheet.gauges("lakh_capacity_used", None, "In use of a resource, in its own unit (see /capacity)", used)?;
    let limits = rows.iter().filter_map(|row| Some((labels(row), row.limit?)));
    sheet.gauges("lakh_capacity_limit", None, "The most of a resource; absent without a limit", limits)?;
    let full = rows.iter().filter_map(|row| Some((labels(row), row.fill?.at_clients?)));
    let help = "Clients with which a resource is full, by what they took so far; absent while that is not known";
    sheet.gauges("lakh_capacity_full_at_clients", None, help, full)?;
    if let Filling::Measured { at_clients, .. } = report.first_to_fill {
        let help = "Clients with which the first resource is full";
        sheet.gauges("lakh_capacity_clients", None, help, alone(at_clients))?;
    }
    let labels = |state: &VitalState| -> Labels {
        let mut labels = vec![("vital", state.vital.name().to_owned())];
        labels.extend(state.upstream.as_ref().map(|upstream| ("upstream", upstream.to_string())));
        labels
    };
    let values = report.alarms.iter().filter_map(|state| Some((labels(state), state.value?)));
    sheet.gauges("lakh_vital", None, "A vital figure, in its own unit (see /capacity)", values)?;
    let levels = report.alarms.iter().map(|state| (labels(state), state.level as u64));
    let help = "How many levels of [alarms] a vital figure is beyond; 0 is well";
    sheet.gauges("lakh_vital_level", None, help, levels)?;
    let times = report.alarms.iter().map(|state| (labels(state), state.times));
    sheet.counters("lakh_vital_alarms", None, "How often a level was raised", times)?;
    let help = "What became of the posts to the webhook";
    sheet.counters("lakh_webhook_posts", None, help, named("outcome", fullness.postings.iter()))?;
    if report.at_unix_ms == 0 {
        return Ok(());
    }
    let help = "-1: fewer gateways would do, 0: as many as there are, 1: more are needed";
    sheet.gauges("lakh_scale_advice", None, help, alone(report.advice.scale.number()))?;
    let unit = Some(Unit::Other("ratio".into()));
    let help = "Replicas that this gateway finds right for each that runs; its mean times their number is what to run";
    sheet.gauges("lakh_desired_replicas", unit, help, alone(report.advice.replicas_ratio))
}
