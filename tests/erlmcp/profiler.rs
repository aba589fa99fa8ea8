//! The profiler: lag of the loops and growth of memory.

use std::sync::Arc;
use std::time::Duration;

use lakh::actor::Letter;
use lakh::conn::{Connections, Message, Parting, Service, Talk};
use lakh::monitor::{Alarm, Config, Growth, LagWindow, Profiler, Readings, Verdict};
use serde_json::json;

use crate::peer::{Peer, Shard, house};

/// Blocks the loop of its shard when it is told to, as no service may.
struct Blocking;

const BLOCKED: Duration = Duration::from_millis(150);

impl Service for Blocking {
    type Session = ();

    fn message(&mut self, talk: &mut Talk<'_, ()>, message: Message<'_>) -> Result<(), Parting> {
        let Message::Unchecked(text) = message else { return Err(Parting::BinaryMessage) };
        if text.starts_with(b"{\"block") {
            std::thread::sleep(BLOCKED);
        }
        talk.say(|_, out| out.extend_from_slice(text));
        Ok(())
    }

    fn letter(&mut self, _: &mut Talk<'_, ()>, _: Letter) {}
}

#[test]
fn loop_lag_monitoring() {
    let home = house(10);
    let shard = Shard::run(move || Connections::new(Arc::clone(&home), 10, Blocking));
    let mut client = Peer::connect(shard.clients);
    let (mut window, mut profiler) =
        (LagWindow::default(), Profiler::new(Config { lag_max_ms: 120, ..Config::default() }));
    let mut read = |seconds| {
        let readings = Readings::take([&*shard.berth.meter], &mut window).expect("own figures");
        let changes = profiler.handle_readings(Duration::from_secs(seconds), &readings);
        (readings.lag, changes.iter().map(|change| (change.alarm, change.raised)).collect::<Vec<_>>())
    };
    for _ in 0..100 {
        client.ask(&json!({"quick": 1}));
    }
    let (lag, changes) = read(10);
    assert!(lag.count >= 100 && lag.p50 < Duration::from_millis(20), "{lag:?}");
    assert!(!changes.contains(&(Alarm::LoopLag, true)) || lag.max > Duration::from_millis(120), "{changes:?}");

    client.ask(&json!({"block": 1}));
    client.ask(&json!({"quick": 1}));
    let (lag, _) = read(20);
    assert!(lag.max >= BLOCKED, "{lag:?}");
    assert!(profiler.report().alarms.iter().any(|state| state.alarm == Alarm::LoopLag && state.times == 1));
    assert!(profiler.report().to_string().contains("loop_lag"), "the report names it");
}

/// What a profiler makes of the RSS of so many hours, read each ten seconds at steady connections: its growth, and how
/// often each alarm was raised.
fn watch(hours: u64, rss: impl Fn(u64) -> f64) -> (Growth, Vec<Alarm>) {
    let mut profiler = Profiler::new(Config::default());
    let mut raised = Vec::new();
    for second in (0..hours * 3_600).step_by(10) {
        let mut readings = Readings { connections: 100_000, ..Readings::default() };
        readings.process.rss = rss(second) as u64;
        let changes = profiler.handle_readings(Duration::from_secs(second), &readings);
        raised.extend(changes.into_iter().filter(|change| change.raised).map(|change| change.alarm));
    }
    (profiler.report().growth, raised)
}

/// 36 MB, and 300 KB up or down with each reading.
fn noisy(second: u64) -> f64 {
    36e6 + if (second / 10).is_multiple_of(2) { 3e5 } else { -3e5 }
}

fn per_hour(mb: f64, second: u64) -> f64 {
    mb * 1e6 * second as f64 / 3_600.0
}

#[test]
fn memory_growth_rate() {
    for rate in [0.0, 3.0, 9.0] {
        let (growth, raised) = watch(2, |second| noisy(second) + per_hour(rate, second));
        let told = growth.mb_per_hour.expect("two hours are enough");
        assert!((told - rate).abs() < 0.5, "{rate} MB/h told as {told}");
        assert_eq!(raised.contains(&Alarm::MemoryGrowth), rate > 5.0, "at {rate} MB/h");
    }
}

#[test]
fn leak_detection() {
    let (growth, raised) = watch(3, |second| noisy(second) + per_hour(8.0, second));
    assert!(matches!(growth.verdict, Verdict::Leak { mb_per_hour } if (7.0..9.0).contains(&mb_per_hour)), "{growth:?}");
    assert_eq!(raised.iter().filter(|&&alarm| alarm == Alarm::MemoryLeak).count(), 1, "told once");

    let sawtooth = |second: u64| noisy(second) + 20e6 * (second % 1_200) as f64 / 1_200.0;
    let one_sample = |second| noisy(second) + if second == 7_200 { 500e6 } else { 0.0 };
    for (name, (growth, raised)) in [("sawtooth", watch(3, sawtooth)), ("one sample", watch(3, one_sample))] {
        assert!(!raised.contains(&Alarm::MemoryLeak), "{name}: {growth:?}");
    }
}
