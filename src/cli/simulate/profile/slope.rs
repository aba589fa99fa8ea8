//! A straight line through readings by least squares, and how far chance alone may tilt it.

/// Readings below which no line is drawn.
const POINTS_MIN: usize = 8;
/// Standard errors to either side that hold the true slope in 99 of 100 cases; of eight pieces, 3.5 (Student).
const SURE: f64 = 2.58;
const SURE_OF_PIECES: f64 = 3.5;
/// Pieces whose growth is compared.
const PIECES: usize = 8;
/// Neighbouring readings of memory resemble each other; more than this and they are one reading.
const LIKENESS_MAX: f64 = 0.98;

/// How something grew, and the noise of that figure; both by the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Slope {
    pub(super) per_s: f64,
    /// The true slope lies this far from `per_s` at most, 99 times of 100.
    pub(super) noise: f64,
}

impl Slope {
    /// Through `(seconds, value)`; `grain` is the least step in which the value can change.
    ///
    /// The errors of readings that follow each other are alike (memory is a staircase, not a cloud), so they count as fewer
    /// readings than they are: by (1 - r) / (1 + r), where r is the likeness of neighbours. And what grows, grows in each
    /// piece of the time: how much the pieces differ is noise too, so that a few single steps are no growth.
    pub(super) fn through(points: &[(f64, f64)], grain: f64) -> Option<Self> {
        let count = points.len() as f64;
        if points.len() < POINTS_MIN {
            return None;
        }
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|point| (point.0 - x_mean).powi(2)).sum();
        if spread <= 0.0 {
            return None;
        }
        let together: f64 = points.iter().map(|point| (point.0 - x_mean) * (point.1 - y_mean)).sum();
        let per_s = together / spread;
        let errors: Vec<f64> = points.iter().map(|point| point.1 - y_mean - per_s * (point.0 - x_mean)).collect();
        let squares: f64 = errors.iter().map(|error| error * error).sum();
        let neighbours: f64 = errors.windows(2).map(|two| two.iter().product::<f64>()).sum();
        let likeness = if squares > 0.0 { (neighbours / squares).clamp(0.0, LIKENESS_MAX) } else { 0.0 };
        // What is read in steps is uncertain by a step's root mean square, even if all readings are the same.
        let variance = squares / (count - 2.0) + grain * grain / 12.0;
        let error = (variance / spread * (1.0 + likeness) / (1.0 - likeness)).sqrt();
        Some(Self { per_s, noise: (SURE * error).max(SURE_OF_PIECES * error_of_pieces(points)) })
    }

    /// Whether it grows by more than chance explains.
    pub(super) fn grows(&self) -> bool {
        self.per_s > self.noise
    }
}

/// The standard error of the growth from piece to piece, by their medians; 0 where there are too few readings for it.
fn error_of_pieces(points: &[(f64, f64)]) -> f64 {
    let length = points.len() / (PIECES + 1);
    let median = |of: fn(&(f64, f64)) -> f64, piece: &[(f64, f64)]| {
        let mut values: Vec<f64> = piece.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    if length < 2 {
        return 0.0;
    }
    let middles: Vec<(f64, f64)> = points
        .chunks_exact(length)
        .map(|piece| (median(|point| point.0, piece), median(|point| point.1, piece)))
        .collect();
    let slopes: Vec<f64> = middles
        .windows(2)
        .filter_map(|two| match two {
            [one, other] if other.0 > one.0 => Some((other.1 - one.1) / (other.0 - one.0)),
            _ => None,
        })
        .collect();
    let count = slopes.len() as f64;
    if count < 2.0 {
        return 0.0;
    }
    let mean = slopes.iter().sum::<f64>() / count;
    let variance = slopes.iter().map(|slope| (slope - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (variance / count).sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(per_s: f64, jitter: impl Fn(u32) -> f64) -> Vec<(f64, f64)> {
        (0..240).map(|second| (f64::from(second), 3e7 + per_s * f64::from(second) + jitter(second))).collect()
    }

    /// Unrelated from one to the next, and the same in every run.
    fn noise(second: u32) -> f64 {
        f64::from(second.wrapping_mul(2_654_435_761) >> 16) / 65_536.0 - 0.5
    }

    #[test]
    fn a_leak_is_seen_through_noise_and_noise_is_no_leak() {
        let still = Slope::through(&line(0.0, |second| 200_000.0 * noise(second)), 4096.0).expect("a line");
        assert!(!still.grows(), "{still:?}");
        let leak = Slope::through(&line(2_000.0, |second| 200_000.0 * noise(second)), 4096.0).expect("a line");
        assert!(leak.grows() && (leak.per_s - 2_000.0).abs() <= leak.noise, "{leak:?}");
    }

    #[test]
    fn a_single_step_and_a_sawtooth_are_no_growth() {
        let step =
            Slope::through(&line(0.0, |second| if second < 120 { 0.0 } else { 65_536.0 }), 4096.0).expect("a line");
        assert!(!step.grows(), "{step:?}");
        let saw = Slope::through(&line(0.0, |second| f64::from(second % 60) * 10_000.0), 4096.0).expect("a line");
        assert!(!saw.grows(), "{saw:?}");
        // As seen: pages that are touched for the first time now and then.
        let stairs = |second: u32| [50, 90, 91, 180, 200].into_iter().filter(|step| second >= *step).count() as f64;
        let pages = Slope::through(&line(0.0, |second| 8192.0 * stairs(second)), 4096.0).expect("a line");
        assert!(!pages.grows(), "{pages:?}");
        let flat = Slope::through(&line(0.0, |_| 0.0), 4096.0).expect("a line");
        assert!(!flat.grows() && flat.noise > 0.0, "{flat:?}");
    }

    #[test]
    fn too_few_or_simultaneous_readings_give_no_line() {
        assert_eq!(Slope::through(&line(1.0, noise)[..POINTS_MIN - 1], 1.0), None);
        assert!(Slope::through(&line(1.0, noise)[..POINTS_MIN], 1.0).is_some());
        assert_eq!(Slope::through(&[(5.0, 1.0); 20], 1.0), None);
    }

    proptest! {
        #[test]
        fn the_slope_follows_a_line_whatever_its_height(per_s in -1e5..1e5_f64, height in 0.0..1e9_f64) {
            let points: Vec<_> = (0..50).map(|x| (f64::from(x), height + per_s * f64::from(x))).collect();
            let slope = Slope::through(&points, 1.0).expect("a line");
            prop_assert!((slope.per_s - per_s).abs() < 1.0, "{slope:?}");
        }
    }
}
