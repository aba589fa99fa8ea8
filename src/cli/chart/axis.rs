//! An axis: which numbers get a mark, how they are written, and where they lie on the picture.

/// What an axis measures.
#[derive(Debug, Clone)]
pub struct Axis {
    pub label: String,
    pub unit: Unit,
    pub scale: Scale,
}

/// How numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// 1.5K, 2M.
    Count,
    /// Binary multiples: 48 MiB.
    Bytes,
    /// 20 µs, 3 ms, 1 s.
    Seconds,
}

/// How numbers are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From zero.
    Linear,
    /// By decades; zero and less have no place.
    Log,
}

/// An axis with its range and its place on the picture.
pub(super) struct Mapped {
    unit: Unit,
    scale: Scale,
    low: f64,
    high: f64,
    step: f64,
    place: (f64, f64),
}

impl Mapped {
    pub(super) fn new(axis: &Axis, values: impl Iterator<Item = f64>, place: (f64, f64)) -> Self {
        let usable = |value: &f64| value.is_finite() && (axis.scale == Scale::Linear || *value > 0.0);
        let (min, max) =
            values.filter(usable).fold((f64::INFINITY, 0.0_f64), |(min, max), value| (min.min(value), max.max(value)));
        let max = if max > 0.0 { max } else { 1.0 };
        let (low, high, step) = match axis.scale {
            Scale::Linear => {
                let step = round_step(max / 5.0, axis.unit);
                (0.0, (max / step - 1e-9).ceil() * step, step)
            }
            Scale::Log => {
                let low = 10_f64.powf(min.min(max).log10().floor());
                let high = 10_f64.powf(max.log10().ceil());
                (low, if high > low { high } else { low * 10.0 }, 10.0)
            }
        };
        Self { unit: axis.unit, scale: axis.scale, low, high, step, place }
    }

    pub(super) fn holds(&self, value: f64) -> bool {
        value.is_finite() && (self.scale == Scale::Linear || value > 0.0)
    }

    /// Where `value` lies.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).log10() / (self.high / self.low).log10(),
        };
        self.place.0 + share * (self.place.1 - self.place.0)
    }

    /// The marked numbers with their words.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let mut ticks = Vec::new();
        let mut value = self.low;
        while value <= self.high * (1.0 + 1e-9) && ticks.len() < 24 {
            ticks.push((value, words(value, self.unit)));
            value = if self.scale == Scale::Linear { value + self.step } else { value * self.step };
        }
        ticks
    }
}

/// The next of 1, 2, 5, 10 times a power that is not below `rough`; powers of two for bytes.
fn round_step(rough: f64, unit: Unit) -> f64 {
    if unit == Unit::Bytes {
        return 2_f64.powf(rough.max(1.0).log2().ceil());
    }
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|times| times * power)
        .find(|step| *step >= rough * (1.0 - 1e-9))
        .unwrap_or(rough)
}

/// A number with its unit, as short as it can be said.
fn words(value: f64, unit: Unit) -> String {
    let steps: &[(f64, &str)] = match unit {
        Unit::Count => &[(1e9, "G"), (1e6, "M"), (1e3, "K"), (1.0, "")],
        Unit::Bytes => &[(1_073_741_824.0, " GiB"), (1_048_576.0, " MiB"), (1024.0, " KiB"), (1.0, " B")],
        Unit::Seconds => &[(1.0, " s"), (1e-3, " ms"), (1e-6, " µs")],
    };
    if value == 0.0 {
        return "0".into();
    }
    let (size, name) = steps.iter().copied().find(|(size, _)| value >= size * (1.0 - 1e-9)).unwrap_or((1.0, ""));
    let rounded = format!("{:.2}", value / size);
    format!("{}{name}", rounded.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(unit: Unit, scale: Scale, values: &[f64]) -> Vec<String> {
        let axis = Axis { label: String::new(), unit, scale };
        Mapped::new(&axis, values.iter().copied(), (0.0, 100.0)).ticks().into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn marks_are_round_and_reach_over_the_largest_value() {
        assert_eq!(marks(Unit::Count, Scale::Linear, &[1e3, 1e5]), ["0", "20K", "40K", "60K", "80K", "100K"]);
        assert_eq!(marks(Unit::Bytes, Scale::Linear, &[45e6]), ["0", "16 MiB", "32 MiB", "48 MiB"]);
        assert_eq!(marks(Unit::Seconds, Scale::Log, &[2e-4, 3e-2]), ["100 µs", "1 ms", "10 ms", "100 ms"]);
    }

    #[test]
    fn a_value_lies_where_its_share_is() {
        let axis = Axis { label: String::new(), unit: Unit::Count, scale: Scale::Linear };
        let mapped = Mapped::new(&axis, [10.0].into_iter(), (100.0, 0.0));
        assert_eq!((mapped.at(0.0), mapped.at(5.0), mapped.at(10.0)), (100.0, 50.0, 0.0));
    }
}
