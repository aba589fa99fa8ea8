//! Tests of the trend, with planted leaks and with all that looks like one.

use super::*;
use proptest::prelude::*;

const MB: f64 = 1e6;
const HOUR: u64 = 3_600;

/// What a gateway shows in the given hours: RSS (bytes) and connections by the second, read each 10 seconds.
/// Returns the growth at the end, and whether it was ever called a leak.
fn watch(hours: u64, figures: impl Fn(u64) -> (f64, f64)) -> (Growth, bool) {
    let mut trend = Trend::new(&Config::default());
    let mut ever = false;
    for second in (0..hours * HOUR).step_by(10) {
        let (rss, connections) = figures(second);
        let now = Duration::from_secs(second);
        trend.record(now, rss as u64, connections as u64);
        ever |= matches!(trend.growth().verdict, Verdict::Leak { .. });
    }
    (trend.growth(), ever)
}

/// Noise of +-300 KB that repeats itself in no period of interest.
fn noise(second: u64) -> f64 {
    let mixed = (second + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    ((mixed >> 32) as f64 / f64::from(u32::MAX) - 0.5) * 0.6 * MB
}

fn per_hour(mb: f64, second: u64) -> f64 {
    mb * MB * second as f64 / HOUR as f64
}

#[test]
fn leak_detection() {
    // A planted leak, in noise, with a cache that is filled and emptied beside it: found, and its size told.
    let (growth, _) = watch(2, |s| (34.0 * MB + per_hour(12.0, s) + noise(s) + (s % 300) as f64 * 2_000.0, 1e5));
    let Verdict::Leak { mb_per_hour } = growth.verdict else { panic!("not found: {growth:?}") };
    assert!((11.0..13.0).contains(&mb_per_hour), "{growth:?}");

    // A sawtooth of any period under two thirds of the window: 20 MB up, and back.
    for period in [60, 450, 900, 1_200, 1_800, 2_270] {
        for phase in [0, period / 3, period / 2] {
            let (growth, ever) =
                watch(3, |s| (34.0 * MB + 20.0 * MB * ((s + phase) % period) as f64 / period as f64 + noise(s), 1e5));
            assert!(!ever, "period {period}: {growth:?}");
        }
    }
    // One sample, however far out; and growth that ends: a cache filled at once, or a warm-up of a quarter of an hour.
    let (growth, ever) = watch(3, |s| (34.0 * MB + noise(s) + if s == 5_010 { 500.0 * MB } else { 0.0 }, 1e5));
    assert!(!ever && growth.verdict == Verdict::No, "{growth:?}");
    for (from, taking) in [(600, 900), (4_500, 1), (4_500, 900)] {
        let filled = |s: u64| 20.0 * MB * (s.saturating_sub(from) as f64 / taking as f64).min(1.0);
        let (growth, ever) = watch(3, |s| (34.0 * MB + noise(s) + filled(s), 1e5));
        assert!(!ever && growth.verdict == Verdict::No, "{taking} s from {from}: {growth:?}");
    }
}

#[test]
fn memory_growth_rate() {
    for rate in [-8.0, 0.0, 2.0, 7.5, 40.0] {
        let (growth, _) = watch(2, |s| (80.0 * MB + per_hour(rate, s) + noise(s), 1e5));
        let measured = growth.mb_per_hour.expect("two hours are enough");
        assert!((measured - rate).abs() < 0.5, "{rate} MB/h measured as {measured}");
    }
    // Half of the window is needed, and less is not guessed from.
    let (growth, _) = watch(1, |s| (34.0 * MB + per_hour(12.0, s), if s < 2_000 { 10.0 } else { 1e5 }));
    assert_eq!((growth.mb_per_hour, growth.verdict), (None, Verdict::No));
}

#[test]
fn growth_that_connections_explain_is_no_leak() {
    let rss_of = |connections: f64| 9.0 * MB + 290.0 * connections;
    // A fast ramp, one over ten hours, one in steps of an hour, and a slow one at a million.
    type Ramp = fn(u64) -> f64;
    let ramps: [(&str, Ramp); 4] = [
        ("fast", |s| (s as f64 * 100.0).min(1e5)),
        ("slow", |s| s as f64 * 1e5 / 36_000.0),
        ("stairs", |s| (s / HOUR) as f64 * 2e4),
        ("million", |s| 9.9e5 + s as f64 * 4.0),
    ];
    for (name, ramp) in ramps {
        let (growth, ever) = watch(6, |s| (rss_of(ramp(s)) + noise(s), ramp(s)));
        assert!(!ever, "{name}: {growth:?}");
    }
    // A wave that leaves and comes back, with memory given back in between.
    let wave = |s: u64| 5e4 + 5e4 * (s as f64 / 2_000.0).sin();
    let (growth, ever) = watch(8, |s| (rss_of(wave(s)) + noise(s), wave(s)));
    assert!(!ever, "{growth:?}");
}

#[test]
fn a_leak_under_churning_connections_is_found() {
    let churn = |s: u64| 1e4 + noise(s) / 1_000.0;
    let (growth, _) = watch(2, |s| (34.0 * MB + per_hour(15.0, s) + noise(s + 7), churn(s)));
    assert!(matches!(growth.verdict, Verdict::Leak { .. }), "{growth:?}");
}

#[test]
fn a_leak_is_watched_before_it_is_called_one_and_forgotten_when_it_stops() {
    let mut trend = Trend::new(&Config::default());
    let mut seen = Vec::new();
    for second in (0..4 * HOUR).step_by(10) {
        let now = Duration::from_secs(second);
        trend.record(now, (34.0 * MB + per_hour(20.0, second.min(HOUR + HOUR / 2))) as u64, 1_000);
        let name = match trend.growth().verdict {
            Verdict::No => "no",
            Verdict::Watching => "watching",
            Verdict::Leak { .. } => "leak",
        };
        if seen.last() != Some(&name) {
            seen.push(name);
        }
    }
    assert_eq!(seen, ["no", "watching", "leak", "watching", "no"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn noise_alone_is_never_a_leak(heights in prop::collection::vec(0.0..20.0 * MB, 300)) {
        let (_, ever) = watch(2, |s| (34.0 * MB + heights[s as usize / 24 % 300], 1e5));
        prop_assert!(!ever);
    }
}
