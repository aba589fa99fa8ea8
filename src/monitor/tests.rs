//! Tests of the profiler as a whole, with readings of our own.

use super::*;
use crate::meter::{AllocatorMemory, KernelMemory, LagSnapshot, Named, Part, PoolReading};

/// A gateway as measured: 9 MB and 290 bytes a connection.
fn readings(connections: u64, leaked: u64) -> Readings {
    let mut readings = Readings { connections, at_unix_ms: 1_790_000_000_000, ..Readings::default() };
    readings.process.rss = 9_000_000 + 290 * connections + leaked;
    readings.process.rss_peak = readings.process.rss;
    readings.process.virt = 1 << 30;
    readings.parts[Part::Slots.index()] = 120 * connections;
    readings.parts[Part::Pools.index()] = 50_000;
    readings.allocator = Some(AllocatorMemory { committed: 40 << 20, committed_peak: 41 << 20 });
    readings.kernel = Some(KernelMemory {
        slab: 10_000_000 + 3_900 * connections,
        tcp_sockets: connections,
        ..KernelMemory::default()
    });
    readings.lag = LagSnapshot {
        count: 1_000,
        p50: Duration::from_micros(40),
        p95: Duration::from_micros(300),
        p99: Duration::from_micros(900),
        max: Duration::from_millis(7),
    };
    readings.slots = PoolReading { in_use: connections, reused: 1_000, created: connections, ..PoolReading::default() };
    readings
}

/// Ten seconds between readings: a ramp to 100,000 within 100 of them, then a leak of so many bytes each.
fn run(profiler: &mut Profiler, count: u64, leak: u64) -> Vec<(u64, AlarmChange)> {
    let mut changes = Vec::new();
    for reading in 0..count {
        let connections = 100_000.min(1_000 * reading);
        let leaked = leak * reading.saturating_sub(100);
        let seen = profiler.handle_readings(Duration::from_secs(10 * reading), &readings(connections, leaked));
        changes.extend(seen.into_iter().map(|change| (reading, change)));
    }
    changes
}

#[test]
fn a_healthy_ramp_raises_nothing_and_its_report_adds_up() {
    let mut profiler = Profiler::new(Config::default());
    assert_eq!(run(&mut profiler, 720, 0), []);
    let report = profiler.report();
    assert_eq!(report.now.connections, 100_000);
    assert_eq!(report.now.bytes_per_connection, Some(380));
    assert_eq!(report.slope_bytes_per_connection, Some(290));
    assert_eq!(report.marks.iter().map(|mark| mark.connections).collect::<Vec<_>>(), [1_000, 10_000, 50_000, 100_000]);
    assert_eq!((report.history.len(), report.growth.verdict), (720, Verdict::No));
    let parts: u64 = report.now.parts.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(parts + report.now.everything_else, report.now.memory.rss);
}

#[test]
fn a_leak_is_told_once_and_the_report_shows_it() {
    let mut profiler = Profiler::new(Config::default());
    // 30 KB each 10 seconds: 10.8 MB/h.
    let changes = run(&mut profiler, 720, 30_000);
    let alarms: Vec<_> = changes.iter().map(|(_, change)| (change.alarm, change.raised)).collect();
    assert_eq!(alarms, [(Alarm::MemoryGrowth, true), (Alarm::MemoryLeak, true)]);
    let text = profiler.report().to_string();
    assert!(text.contains("LEAK of 10.8 MB/h") && text.contains("ALARM     memory_leak 10.80 (limit 5.00)"), "{text}");
}

#[test]
fn the_text_is_an_aligned_table() {
    let mut profiler = Profiler::new(Config::default());
    run(&mut profiler, 720, 0);
    let expected = "\
100,000 connections, up 1 h 59 min

memory                           bytes    per connection
whole RSS                    36.24 MiB             380 B
  slots                      11.44 MiB             120 B
  buffers                     0.00 MiB               0 B
  outboxes                    0.00 MiB               0 B
  active                      0.00 MiB               0 B
  watches                     0.00 MiB               0 B
  inbox                       0.00 MiB               0 B
  pools                       0.05 MiB               0 B
  everything else            24.75 MiB             259 B
kernel, beside: slab        381.47 MiB           4,000 B
kernel, beside: tcp           0.00 MiB               0 B
  of the whole machine, with 100,000 sockets of TCP
RSS peak 36.24 MiB, virtual 1024.00 MiB, allocator committed 40.00 MiB
one more connection added 290 B, by slope between the marks
and 3,900 B to the kernel of the whole machine

mark                               RSS    per connection
1,000                         8.86 MiB           9,290 B
10,000                       11.35 MiB           1,190 B
50,000                       22.41 MiB             470 B
100,000                      36.24 MiB             380 B

loop lag  p50 0.04 ms, p99 0.90 ms, max 7.00 ms
growth    +0.0 MB/h over 60 min at steady connections, 0 % of pairs rising: no leak
slots     100,000 in use, 0 available, 1,000 reused, 100,000 created (1.0 % reuse), 0 refused
buffers   0 in use, 0 available, 0 reused, 0 created (100.0 % reuse), 0 refused
alarms    none (0 so far)
";
    assert_eq!(profiler.report().to_string(), expected);
}

#[test]
fn json_gives_back_the_report() {
    let mut profiler = Profiler::new(Config::default());
    run(&mut profiler, 720, 30_000);
    let report = profiler.report();
    let json = serde_json::to_string(&report).expect("serializes");
    assert!(json.contains(r#""alarm":"memory_leak""#));
    // Ratios may differ in their last bit; the text and the plot don't show that.
    let again: Report = serde_json::from_str(&json).expect("parses");
    assert_eq!(again.to_string(), report.to_string());
    assert_eq!((again.history, again.marks.len()), (report.history, 4));
}

#[test]
fn a_profiler_without_readings_has_an_empty_report() {
    assert_eq!(Profiler::new(Config::default()).report().now, Snapshot::default());
}

#[test]
fn an_unknown_knob_is_an_error_that_names_it() {
    let error = toml::from_str::<Config>("lag_max = 3").expect_err("no such knob");
    assert!(error.to_string().contains("lag_max"), "{error}");
    assert_eq!(toml::from_str::<Config>("").expect("all have defaults"), Config::default());
}
