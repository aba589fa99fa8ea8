//! How full are we: of each resource what is in use and what there is, the zone that makes, what will be full first, what
//! to tell people, and whether more gateways are needed.
//!
//! A pure machine: readings in, findings out, time an argument. Whoever has the house in hands takes the readings and does
//! what is found:
//!
//! | zone of the memory | what is done |
//! |---|---|
//! | warning | pools and allocator give back what they keep for later, again each calm time |
//! | critical | newcomers are refused, idle clients are told to go |
//! | emergency | new work is refused |
//!
//! The last two are of any resource that [drives](Resource::drives).

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod advice;
mod posting;
mod recent;
mod report;
mod resource;
mod slope;
mod telling;
mod vitals;
mod watches;
mod window;
mod zone;

pub use advice::{Advice, AdviceConfig, Scale};
pub use posting::{Next, Posting, Tries};
pub use report::{Filling, Report, Row};
pub use resource::{Figure, Reading, Resource, Unit};
pub use slope::Fill;
pub use telling::{News, Topic};
pub use vitals::{Vital, Vitals};
pub use watches::{AlarmsConfig, VitalState};
pub use window::Totals;

use crate::guard::Zone;
use crate::meter::{LagCounts, Named};
use advice::Advisor;
use recent::Recent;
use slope::Slope;
use telling::Telling;
use watches::Watches;
use window::{Lately, Window};
use zone::{Dial, Marks};

/// The knobs of the zones, `[capacity]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The share of a resource in use from which people are told, and memory is given back, in percent.
    pub warning_percent: u64,
    /// The share from which newcomers are refused, of a resource that all need, in percent.
    pub critical_percent: u64,
    /// The share from which new work is refused, in percent.
    pub emergency_percent: u64,
    /// How far below its mark a share must be to leave a zone, in percent of the resource.
    pub clear_margin_percent: u64,
    /// For how long it must be there, in seconds.
    pub calm_s: u64,
    /// How far back processor time, latencies and errors are looked at, in seconds; 60 at most.
    pub window_s: u64,
    /// RSS that the process may have, in bytes; 0: as much as the machine has memory. A cgroup's limit holds besides.
    pub memory_bytes_max: u64,
    /// What 99 of 100 turns of the event loops may take, in milliseconds: at more nobody is served well.
    pub lag_max_ms: u64,
    /// Clients more than at the fewest from which it is told what each takes; a tenth of the seats where that is less.
    pub slope_clients_min: u64,
    /// Whether more gateways are needed, or fewer.
    pub advice: AdviceConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Envoy's overload manager gives memory back at 90 to 95 % and refuses at 95 to 98 %; clients here come by the
            // ten thousand, so it begins earlier.
            warning_percent: 75,
            critical_percent: 85,
            emergency_percent: 95,
            clear_margin_percent: 5,
            // Ten readings.
            calm_s: 10,
            // Long enough for a percentile, short enough to see what goes on now.
            window_s: 10,
            memory_bytes_max: 0,
            // Five times the alarm of the profiler: that one is for people, this one refuses clients. A storm of newcomers
            // makes turns of 100 ms on few cores and passes by itself.
            lag_max_ms: 500,
            slope_clients_min: 1_000,
            advice: AdviceConfig::default(),
        }
    }
}

/// The capacity monitor of a gateway: give it a reading each second, do what it finds.
pub struct Capacity {
    config: Config,
    marks: Marks,
    gauges: Vec<Gauge>,
    window: Window,
    /// How slow each upstream is.
    recent: Vec<(Arc<str>, Recent)>,
    watches: Watches,
    advisor: Advisor,
    telling: Telling,
    /// When memory was given back last.
    shrunk: Option<Duration>,
    latest: Latest,
}

/// One resource, and what is remembered of it.
struct Gauge {
    figure: Figure,
    dial: Dial,
    slope: Slope,
}

/// What was read last.
#[derive(Default)]
struct Latest {
    at_unix_ms: u64,
    clients: u64,
    vitals: Vitals,
}

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    /// The worst zone of what drives.
    pub house: Zone,
    /// The zone of memory.
    pub memory: Zone,
    /// Pools and allocator are to give back what they keep.
    pub shrink: bool,
    /// What people are to be told.
    pub news: Vec<News>,
}

impl Capacity {
    /// A monitor that has seen nothing yet.
    #[must_use]
    pub fn new(config: Config, alarms: &AlarmsConfig) -> Self {
        Self {
            marks: Marks::new(&config),
            gauges: Vec::new(),
            window: Window::default(),
            recent: Vec::new(),
            watches: Watches::new(alarms),
            advisor: Advisor::new(config.advice.clone()),
            telling: Telling::new(Duration::from_secs(alarms.cooldown_s)),
            shrunk: None,
            latest: Latest::default(),
            config,
        }
    }

    /// Other knobs are in force from the next reading on; what was learnt stays.
    pub fn follow(&mut self, config: Config, alarms: &AlarmsConfig) {
        self.marks = Marks::new(&config);
        self.watches.follow(alarms);
        self.advisor.follow(config.advice.clone());
        self.telling.follow(Duration::from_secs(alarms.cooldown_s));
        self.config = config;
    }

    /// Takes in what was read `now` (since the start of the process, never going back).
    pub fn handle_reading(&mut self, now: Duration, reading: Reading) -> Findings {
        let Reading { at_unix_ms, clients, mut figures, totals, took, cpu_millicores, alarms } = reading;
        let span = Duration::from_secs(self.config.window_s.clamp(1, 60));
        let lately = self.window.slide(now, totals, span);
        let p95s = self.read_upstreams(now, &took, span);
        if let Some(millicores) = lately.millicores() {
            figures.push(Figure::new(Resource::Cpu, millicores, cpu_millicores));
        }
        let lag = Lately::p99(&lately.totals.lag).map_or(0, |lag| u64::try_from(lag.as_micros()).unwrap_or(u64::MAX));
        figures.push(Figure::new(Resource::LoopLag, lag, self.config.lag_max_ms.saturating_mul(1_000)));
        self.read_gauges(now, clients, figures);
        let share = |of: fn(Resource) -> bool| {
            let shares = self.gauges.iter().filter(|gauge| of(gauge.figure.resource));
            shares.filter_map(|gauge| gauge.figure.share()).reduce(f64::max)
        };
        let queued = self.gauges.iter().filter(|gauge| gauge.figure.resource == Resource::UpstreamQueue);
        let queued = queued.map(|gauge| gauge.figure.used).sum();
        let (cpu, memory) = (share(|it| it == Resource::Cpu), share(Resource::is_memory));
        let vitals = Vitals::new(&lately, cpu, memory, queued, p95s.iter().filter_map(|(_, p95)| *p95).max());
        self.latest = Latest { at_unix_ms, clients, vitals };
        self.watches.look(now, &vitals, &p95s);
        self.advisor.look(now, &vitals, self.fullest_percent());
        let house = self.zone(Resource::drives);
        let memory = self.zone(Resource::is_memory);
        let shrink = self.shrinks(now, memory);
        Findings { house, memory, shrink, news: self.news(now, &alarms) }
    }

    /// All that is known, by the reading last taken in; empty before the first.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::new(self)
    }

    fn read_gauges(&mut self, now: Duration, clients: u64, figures: Vec<Figure>) {
        // Those of upstreams that are gone go with them.
        self.gauges.retain(|gauge| {
            let Figure { resource, upstream, .. } = &gauge.figure;
            figures.iter().any(|figure| figure.is_of(*resource, upstream.as_deref()))
        });
        for figure in figures {
            let at =
                self.gauges.iter().position(|known| known.figure.is_of(figure.resource, figure.upstream.as_deref()));
            let gauge = match at {
                Some(at) => &mut self.gauges[at],
                None => {
                    let place = self.gauges.partition_point(|known| known.figure.order() <= figure.order());
                    self.gauges.insert(place, Gauge::new(figure.clone()));
                    &mut self.gauges[place]
                }
            };
            gauge.dial.look(now, figure.share(), &self.marks);
            gauge.slope.record(clients, figure.used);
            gauge.figure = figure;
        }
    }

    /// What 95 of 100 calls took lately at each upstream; those that are gone are forgotten.
    fn read_upstreams(
        &mut self,
        now: Duration,
        took: &[(Arc<str>, LagCounts)],
        span: Duration,
    ) -> Vec<(Arc<str>, Option<Duration>)> {
        self.recent.retain(|(name, _)| took.iter().any(|(there, _)| there == name));
        let mut p95s = Vec::with_capacity(took.len());
        for (name, counts) in took {
            let known = self.recent.iter_mut().find(|(known, _)| known == name);
            let p95 = known.map(|(_, recent)| recent.slide(now, counts, span));
            if p95.is_none() {
                self.recent.push((Arc::clone(name), Recent::new(now, counts)));
            }
            p95s.push((Arc::clone(name), p95.flatten()));
        }
        p95s
    }

    fn gauge(&self, resource: Resource) -> Option<&Gauge> {
        self.gauges.iter().find(|gauge| gauge.figure.resource == resource)
    }

    fn zone(&self, of: impl Fn(Resource) -> bool) -> Zone {
        let zones = self.gauges.iter().filter(|gauge| of(gauge.figure.resource)).map(|gauge| gauge.dial.zone());
        zones.max().unwrap_or_default()
    }

    fn fullest_percent(&self) -> f64 {
        let own = self.gauges.iter().filter(|gauge| gauge.figure.resource.is_of_the_house());
        100.0 * own.filter_map(|gauge| gauge.figure.share()).fold(0.0, f64::max)
    }

    fn shrinks(&mut self, now: Duration, memory: Zone) -> bool {
        let again = Duration::from_secs(self.config.calm_s.max(1));
        let is_due = self.shrunk.is_none_or(|shrunk| now >= shrunk + again);
        let shrinks = memory >= Zone::Warning && is_due;
        if shrinks {
            self.shrunk = Some(now);
        }
        shrinks
    }

    /// Clients more than at the fewest from which slopes are told.
    fn slope_clients_min(&self) -> u64 {
        let seats = self.gauge(Resource::ConnectionSeats).map_or(0, |gauge| gauge.figure.limit);
        self.config.slope_clients_min.min(seats / 10).max(10)
    }

    fn news(&mut self, now: Duration, alarms: &[super::AlarmState]) -> Vec<News> {
        let mut news = Vec::new();
        let at_unix_ms = self.latest.at_unix_ms;
        let mut tell = |about, name: String, level, value: Option<f64>, limit: f64, how: String| {
            if let Some(is_worse) = self.telling.look(now, about, &name, level) {
                let text = format!("{name} {how}");
                news.push(News { at_unix_ms, about, name, is_worse, level, value, limit, text });
            }
        };
        for Gauge { figure, dial, .. } in &self.gauges {
            let (zone, unit) = (dial.zone(), figure.resource.unit());
            let how = format!("is {}: {} of {} in use", zone.name(), unit.show(figure.used), unit.show(figure.limit));
            let (used, limit) = (figure.used as f64, figure.limit as f64);
            tell(Topic::Zone, figure.name(), zone.index(), Some(used), limit, how);
        }
        for state in self.watches.states() {
            let limit = state.levels.get(state.level.saturating_sub(1)).copied().unwrap_or_default();
            let value = state.value.map_or_else(|| "not known now".into(), |value| format!("{value:.2}"));
            let how = match (state.level > 0, state.vital == Vital::CacheHits) {
                (true, false) => "over",
                (true, true) => "below",
                (false, false) => "well again, below",
                (false, true) => "well again, above",
            };
            let how = format!("{how} its limit: {value} (limit {limit:.2})");
            tell(Topic::Vital, state.name(), state.level, state.value, limit, how);
        }
        for state in alarms {
            let is_raised = state.raised_at_ms.is_some();
            let value = state.value.map_or_else(|| "not judged now".into(), |value| format!("{value:.2}"));
            let how = format!("{}: {value} (limit {:.2})", if is_raised { "raised" } else { "cleared" }, state.limit);
            tell(Topic::Profile, state.alarm.name().into(), usize::from(is_raised), state.value, state.limit, how);
        }
        self.telling.forget_others();
        news
    }
}

impl Gauge {
    fn new(figure: Figure) -> Self {
        Self { figure, dial: Dial::default(), slope: Slope::default() }
    }
}

impl Figure {
    /// The resource, and its upstream behind it.
    fn name(&self) -> String {
        match &self.upstream {
            Some(upstream) => format!("{} of {upstream}", self.resource.name()),
            None => self.resource.name().to_owned(),
        }
    }

    /// By resource, then as they came.
    fn order(&self) -> usize {
        self.resource.index()
    }
}

#[cfg(test)]
mod tests;
