//! Tests of the capacity monitor as a whole, with readings of our own.

use super::*;
use crate::meter::Lag;

/// A house that reads the same each second until it is told otherwise.
struct House {
    capacity: Capacity,
    second: u64,
    reading: Reading,
    lag: Lag,
}

impl House {
    fn new() -> Self {
        Self::with(Config::default(), &AlarmsConfig::default())
    }

    fn with(config: Config, alarms: &AlarmsConfig) -> Self {
        let reading = Reading { at_unix_ms: 1_790_000_000_000, cpu_millicores: 2_000, ..Reading::default() };
        Self { capacity: Capacity::new(config, alarms), second: 0, reading, lag: Lag::new() }
    }

    /// The resource is so full from now on.
    fn fill(&mut self, resource: Resource, upstream: Option<&str>, used: u64, limit: u64) {
        self.reading.figures.retain(|figure| !figure.is_of(resource, upstream));
        self.reading.figures.push(Figure { resource, upstream: upstream.map(Into::into), used, limit });
    }

    fn read(&mut self) -> Findings {
        self.second += 1;
        self.reading.totals.lag = self.lag.counts();
        self.capacity.handle_reading(Duration::from_secs(self.second), self.reading.clone())
    }

    /// The last findings of so many seconds, and all that was told in them.
    fn seconds(&mut self, seconds: u64) -> (Findings, Vec<String>) {
        let (mut last, mut told) = (Findings::default(), Vec::new());
        for _ in 0..seconds {
            last = self.read();
            told.extend(last.news.iter().map(|news| format!("{}:{}", news.name, news.level)));
        }
        (last, told)
    }

    fn row(&self, resource: Resource) -> Row {
        let report = self.capacity.report();
        report.resources.into_iter().find(|row| row.resource == resource).expect("it was read")
    }
}

/// One resource, read each second, by what it is read from: a figure, or totals that grow.
struct One {
    house: House,
    resource: Resource,
    upstream: Option<&'static str>,
}

impl One {
    fn new(resource: Resource) -> Self {
        use Resource::{UpstreamInFlight, UpstreamPorts, UpstreamQueue};
        // Totals are looked at second by second, and a lag of a millisecond is all.
        let house = House::with(Config { window_s: 1, lag_max_ms: 1, ..Config::default() }, &AlarmsConfig::default());
        let each_has_its_own = [UpstreamInFlight, UpstreamQueue, UpstreamPorts].contains(&resource);
        let mut one = Self { house, resource, upstream: each_has_its_own.then_some("slow") };
        one.second(0);
        one
    }

    /// A second with so much of a thousand in use.
    fn second(&mut self, used: u64) -> Findings {
        match self.resource {
            Resource::Cpu => self.house.reading.totals.cpu += Duration::from_millis(2 * used),
            Resource::LoopLag => self.house.lag.record_n(Duration::from_micros(used), 100),
            resource => self.house.fill(resource, self.upstream, used, 1_000),
        }
        self.house.read()
    }

    fn zone(&self) -> Zone {
        self.house.row(self.resource).zone
    }
}

/// What is in use, and the zone that makes.
type Rising = [(u64, Zone); 6];
/// What leaves the zone as it is, what does not, and the zone that makes.
type Falling = [(u64, u64, Zone); 3];

/// Just below and at each mark, and at and just below each lower one. Of a lag as near as its histogram tells.
const fn marks(of: Resource) -> (Rising, Falling) {
    use Zone::{Critical, Emergency, Safe, Warning};
    match of {
        Resource::LoopLag => (
            [(703, Safe), (767, Warning), (831, Warning), (895, Critical), (895, Critical), (959, Emergency)],
            [(959, 895, Critical), (831, 767, Warning), (703, 639, Safe)],
        ),
        _ => (
            [(749, Safe), (750, Warning), (849, Warning), (850, Critical), (949, Critical), (950, Emergency)],
            [(900, 899, Critical), (800, 799, Warning), (700, 699, Safe)],
        ),
    }
}

#[test]
fn each_zone_of_each_resource_is_raised_and_cleared() {
    for &resource in Resource::ALL {
        let (mut one, (rising, falling)) = (One::new(resource), marks(resource));
        for (used, zone) in rising {
            let found = one.second(used);
            assert_eq!(one.zone(), zone, "{resource:?} at {used}");
            assert_eq!(found.house, if resource.drives() { zone } else { Zone::Safe }, "{resource:?}");
            assert_eq!(found.memory, if resource.is_memory() { zone } else { Zone::Safe });
        }
        // Not below the lower mark, then below it for the calm time.
        for (stays, used, zone) in falling {
            let before = one.zone();
            (0..30).for_each(|_| _ = one.second(stays));
            assert_eq!(one.zone(), before, "{resource:?} at {stays}");
            (0..10).for_each(|_| _ = one.second(used));
            assert_eq!(one.zone(), before, "{resource:?} is not calm for long enough");
            one.second(used);
            assert_eq!(one.zone(), zone, "{resource:?} at {used}");
        }
    }
}

#[test]
fn a_noisy_reading_of_no_resource_flaps() {
    for &resource in Resource::ALL {
        // About each mark, and never for the calm time below the lower one.
        for (low, high, zone) in [(703, 767, Zone::Warning), (831, 895, Zone::Critical), (895, 959, Zone::Emergency)] {
            let (mut one, mut zones, mut told) = (One::new(resource), Vec::new(), 0);
            for second in 0..200_u64 {
                // In no order that repeats soon.
                let is_high = (second * second / 3 + second / 7) % 3 == 0;
                let found = one.second(if is_high { high } else { low });
                told += found.news.iter().filter(|news| news.about == Topic::Zone).count();
                zones.push(one.zone());
            }
            let changes = zones.windows(2).filter(|two| two[0] != two[1]).count();
            assert!(changes <= 1 && told <= 2, "{resource:?} about {high}: {changes} changes, told {told} times");
            assert_eq!(zones.last(), Some(&zone), "{resource:?} about {high}");
        }
    }
}

#[test]
fn processor_time_warns_and_lag_of_the_loops_drives() {
    let mut house = House::new();
    for _ in 0..10 {
        house.reading.totals.cpu += Duration::from_millis(1_900);
        house.read();
    }
    let cpu = house.row(Resource::Cpu);
    assert_eq!((cpu.used, cpu.limit, cpu.zone), (1_900, Some(2_000), Zone::Emergency));
    assert_eq!(house.read().house, Zone::Safe);
    house.seconds(25);
    assert_eq!(house.row(Resource::Cpu).zone, Zone::Safe);

    // 99 turns say nothing of one in a hundred.
    (0..99).for_each(|_| house.lag.record(Duration::from_millis(480)));
    assert_eq!(house.read().house, Zone::Safe);
    house.lag.record(Duration::from_millis(480));
    assert_eq!(house.read().house, Zone::Emergency);
    assert_eq!(house.row(Resource::LoopLag).limit, Some(500_000));
    // The window goes by, and the calm time.
    assert_eq!(house.seconds(10 + 11).0.house, Zone::Safe);
}

#[test]
fn memory_is_given_back_from_warning_on_and_again_each_calm_time() {
    let mut house = House::new();
    house.fill(Resource::Memory, None, 74, 100);
    assert!(!house.read().shrink);
    house.fill(Resource::Memory, None, 75, 100);
    let shrinks: Vec<bool> = (0..22).map(|_| house.read().shrink).collect();
    let at: Vec<usize> = (0..22).filter(|&at| shrinks[at]).collect();
    assert_eq!(at, [0, 10, 20]);
    house.fill(Resource::Memory, None, 10, 100);
    assert!(!(0..30).skip(11).any(|_| house.read().shrink && house.row(Resource::Memory).zone == Zone::Safe));
}

#[test]
fn one_upstreams_queue_warns_and_closes_nothing_and_goes_with_it() {
    let mut house = House::new();
    house.fill(Resource::UpstreamQueue, Some("slow"), 100, 100);
    house.fill(Resource::UpstreamQueue, Some("fast"), 0, 100);
    let (found, told) = house.seconds(2);
    assert_eq!((found.house, told), (Zone::Safe, vec!["upstream_queue of slow:3".into()]));
    let report = house.capacity.report();
    let names: Vec<_> = report.resources.iter().filter_map(|row| row.upstream.as_deref()).collect();
    assert_eq!((names, report.vitals.queued), (vec!["slow", "fast"], 100));
    house.reading.figures.clear();
    house.read();
    assert!(house.capacity.report().resources.iter().all(|row| row.upstream.is_none()));
}

#[test]
fn what_has_no_limit_is_shown_and_never_full() {
    let mut house = House::new();
    house.fill(Resource::UpstreamInFlight, Some("any"), u64::MAX, 0);
    house.read();
    let row = house.row(Resource::UpstreamInFlight);
    assert_eq!((row.limit, row.share, row.zone, row.fill), (None, None, Zone::Safe, None));
    assert!(house.capacity.report().to_string().contains("no limit"));
}

/// The published figures: 300 bytes of memory, a seat and a descriptor each.
fn with_clients(house: &mut House, clients: u64) {
    house.reading.clients = clients;
    house.fill(Resource::ConnectionSeats, None, clients, 100_000);
    house.fill(Resource::Memory, None, 9_000_000 + 300 * clients, 512 << 20);
    house.fill(Resource::Descriptors, None, 140 + clients / 6, 20_000);
    house.fill(Resource::HttpSessions, None, 0, 200_000);
    house.read();
}

#[test]
fn what_is_full_first_is_told_from_what_clients_took() {
    let mut house = House::new();
    assert_eq!(house.capacity.report().first_to_fill, Filling::default());
    with_clients(&mut house, 0);
    with_clients(&mut house, 999);
    let Filling::Unknown { why } = house.capacity.report().first_to_fill else { panic!("999 say nothing") };
    assert_eq!(why, "1,000 clients more than at the fewest have not been there yet");
    for thousand in 1..=50 {
        with_clients(&mut house, 1_000 * thousand);
    }
    let measured =
        |resource, at_clients| Filling::Measured { resource, upstream: None, at_clients, over_clients: 50_000 };
    assert_eq!(house.capacity.report().first_to_fill, measured(Resource::ConnectionSeats, 100_000));
    assert_eq!(
        house.row(Resource::Memory).fill.and_then(|fill| fill.at_clients),
        Some(((512 << 20) - 9_000_000) / 300)
    );
    assert_eq!(house.row(Resource::HttpSessions).fill.map(|fill| fill.at_clients), Some(None));
    // Less memory: it is full before the seats are.
    house.fill(Resource::Memory, None, 24_000_000, 30_000_000);
    house.read();
    assert_eq!(house.capacity.report().first_to_fill, measured(Resource::Memory, 70_000));
    // Those who leave take nothing of what was learnt along.
    house.reading.clients = 100;
    house.read();
    assert_eq!(house.capacity.report().first_to_fill, measured(Resource::Memory, 70_000));
}

#[test]
fn a_small_house_judges_by_a_tenth_of_its_seats() {
    let mut house = House::new();
    for clients in [0, 29, 30] {
        assert!(matches!(house.capacity.report().first_to_fill, Filling::Unknown { .. }));
        house.reading.clients = clients;
        house.fill(Resource::ConnectionSeats, None, clients, 300);
        house.read();
    }
    assert!(matches!(house.capacity.report().first_to_fill, Filling::Measured { at_clients: 300, .. }));
}

#[test]
fn news_are_told_once_and_after_the_cooldown_again() {
    let mut house = House::with(Config::default(), &AlarmsConfig { calm_s: 1, ..AlarmsConfig::default() });
    house.fill(Resource::Memory, None, 90, 100);
    let (_, told) = house.seconds(100);
    assert_eq!(told, ["memory:2", "memory:1"], "the zone, and the figure's one level");
    house.fill(Resource::Memory, None, 10, 100);
    assert_eq!(house.seconds(100).1, ["memory:0", "memory:0"]);
    house.fill(Resource::Memory, None, 90, 100);
    assert_eq!(house.seconds(99).1, Vec::<String>::new(), "told 200 seconds ago");
    assert_eq!(house.seconds(10).1, ["memory:2", "memory:1"]);
    let state = house.capacity.report().alarms.into_iter().find(|state| state.vital == Vital::Memory);
    assert_eq!(state.map(|state| (state.level, state.times)), Some((1, 2)), "metrics know better");
}

#[test]
fn the_text_is_an_aligned_table_and_json_names_everything() {
    let mut house = House::new();
    with_clients(&mut house, 0);
    house.fill(Resource::UpstreamQueue, Some("files"), 90, 100);
    with_clients(&mut house, 86_000);
    let text = house.capacity.report().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "86,000 clients; the house is safe, its memory safe");
    assert_eq!(lines[1], "first full: connection_seats, with 100,000 clients (as 86,000 more have shown)");
    assert_eq!(
        lines[3..7],
        [
            "reasons for more: full",
            "",
            "resource                        in use             of   share  zone           full with",
            "connection_seats                86,000        100,000  86.0 %  critical         100,000",
        ]
    );
    assert!(lines.contains(&"upstream_queue of files             90            100  90.0 %  critical               -"));
    let json = serde_json::to_value(house.capacity.report()).expect("serializes");
    assert_eq!(json["first_to_fill"]["measured"]["resource"], "connection_seats");
    assert_eq!(json["advice"]["scale"], "stay");
    for (row, figure) in json["resources"].as_array().expect("rows").iter().zip(0..) {
        let name = row["resource"].as_str().expect("a name");
        assert!(Resource::ALL.iter().any(|resource| resource.name() == name), "{figure}: {row}");
    }
}

#[test]
fn each_resources_name_is_the_same_everywhere() {
    for resource in Resource::ALL {
        assert_eq!(serde_json::to_value(resource).expect("serializes"), resource.name());
    }
    for vital in Vital::ALL {
        assert_eq!(serde_json::to_value(vital).expect("serializes"), vital.name());
    }
}

#[test]
fn latencies_and_errors_are_those_of_the_window() {
    let mut house = House::new();
    let counts = |millis: u64, n: u64| {
        let lag = Lag::new();
        lag.record_n(Duration::from_millis(millis), n);
        lag.counts()
    };
    house.reading.took = ["slow", "idle"].map(|name| (name.into(), counts(0, 0))).into();
    house.read();
    house.reading.totals.answered = counts(60, 100);
    house.reading.took = vec![("slow".into(), counts(700, 20)), ("idle".into(), counts(0, 0))];
    (house.reading.totals.calls, house.reading.totals.errors) = (1_000, 20);
    house.seconds(2);
    let report = house.capacity.report();
    assert!(report.vitals.own_p99_ms.is_some_and(|millis| (60.0..68.0).contains(&millis)), "{:?}", report.vitals);
    assert!(report.vitals.upstream_p95_ms.is_some_and(|millis| (700.0..790.0).contains(&millis)));
    assert_eq!((report.vitals.errors_percent, report.vitals.calls), (Some(2.0), 1_000));
    let levels: Vec<usize> = report.alarms.iter().map(|state| state.level).collect();
    assert_eq!(levels, [0, 0, 1, 0, 1, 2, 0, 0]);
    let slow = report.alarms.iter().find(|state| state.level > 0).and_then(|state| state.upstream.as_deref());
    assert_eq!(slow, Some("slow"), "the alarm names it");
    let text = report.to_string();
    assert!(text.contains("upstream_p95 of slow"), "{text}");
    house.seconds(12);
    assert_eq!(house.capacity.report().vitals.upstream_p95_ms, None);
    assert_eq!(house.capacity.report().vitals.own_p99_ms, None);
}

#[test]
fn unknown_knobs_are_errors() {
    assert!(toml::from_str::<Config>("warning = 3").is_err());
    assert!(toml::from_str::<AlarmsConfig>("cpu = 3").is_err());
    assert_eq!(toml::from_str::<Config>("").expect("all have defaults"), Config::default());
}
