//! How a family of metrics is written: its name and meaning, then a line for each of its samples.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::meter::Named;

/// The text of one scrape. Names get their unit and `_total` behind them.
pub(super) struct Sheet<'e>(pub(super) DescriptorEncoder<'e>);

/// The labels of one sample.
pub(super) type Labels = Vec<(&'static str, String)>;

impl Sheet<'_> {
    /// Writes what only grows.
    pub(super) fn counters(
        &mut self,
        name: &str,
        unit: Option<Unit>,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                metric.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
            } else {
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&value, None)?;
            }
        }
        Ok(())
    }

    /// Writes what goes up and down.
    pub(super) fn gauges(
        &mut self,
        name: &str,
        unit: Option<Unit>,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, impl EncodeGaugeValue)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                metric.encode_gauge(&value)?;
            } else {
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// Writes facts that never change, as labels.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: &Labels) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }
}

/// One sample without labels.
pub(super) fn alone<V>(value: V) -> [(Labels, V); 1] {
    [(Labels::new(), value)]
}

/// A sample for each value of one label.
pub(super) fn by<L: ToString, V>(
    label: &'static str,
    samples: impl IntoIterator<Item = (L, V)>,
) -> impl Iterator<Item = (Labels, V)> {
    samples.into_iter().map(move |(of, value)| (vec![(label, of.to_string())], value))
}

/// A sample for each variant of a closed set.
pub(super) fn named<K: Named, V>(
    label: &'static str,
    samples: impl IntoIterator<Item = (K, V)>,
) -> impl Iterator<Item = (Labels, V)> {
    by(label, samples.into_iter().map(|(of, value)| (of.name(), value)))
}
