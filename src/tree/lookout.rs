//! The capacity monitor's eyes and hands: takes its readings of the house, and does what it finds.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Upstreams;
use super::webhook::Webhook;
use crate::actor::{Berth, Mail, Order};
use crate::admin::Fullness;
use crate::config::Config;
use crate::conn::House;
use crate::meter::{Host, cgroup, cpu, descriptors};
use crate::monitor::capacity::{Capacity, Figure, News, Reading, Resource, Totals};
use crate::monitor::{AlarmState, Readings};
use crate::upstream::link::Target;

/// The kernel counts buffers of TCP in pages of this size on the machines that lakh runs on.
const PAGE_BYTES: u64 = 4_096;

/// Looks at everything that can become full.
pub(super) struct Lookout {
    house: Arc<House>,
    berths: Arc<[Berth]>,
    upstreams: Arc<Upstreams>,
    /// Kept from one life of its child to the next.
    capacity: Mutex<Capacity>,
    pub(super) fullness: Arc<Fullness>,
    pub(super) webhook: Option<Arc<Webhook>>,
    memory_max: AtomicU64,
    machine_bytes: u64,
    tcp_bytes_max: u64,
    /// Connections that one address of ours can have to one server.
    ports: u64,
}

impl Lookout {
    pub(super) fn new(
        config: &Config,
        host: &Host,
        webhook: Option<crate::upstream::link::Destination>,
        house: &Arc<House>,
        berths: &Arc<[Berth]>,
        upstreams: &Arc<Upstreams>,
    ) -> Self {
        let fullness = Arc::<Fullness>::default();
        let machine_bytes = host.memory_total.unwrap_or(0);
        let memory_max = AtomicU64::new(memory_max(config, machine_bytes));
        Self {
            house: Arc::clone(house),
            berths: Arc::clone(berths),
            upstreams: Arc::clone(upstreams),
            capacity: Mutex::new(Capacity::new(config.capacity.clone(), &config.alarms)),
            webhook: webhook.map(|place| Arc::new(Webhook::new(place, config, &fullness))),
            fullness,
            memory_max,
            machine_bytes,
            tcp_bytes_max: host.tcp_mem.map_or(0, |[.., most]| most * PAGE_BYTES),
            ports: host.ports_per_source().unwrap_or(0),
        }
    }

    /// Other marks and levels are in force from the next look on; where alarms are posted stays as it was.
    pub(super) fn follow(&self, config: &Config) {
        let mut capacity = self.capacity.lock().unwrap_or_else(PoisonError::into_inner);
        capacity.follow(config.capacity.clone(), &config.alarms);
        self.memory_max.store(memory_max(config, self.machine_bytes), Relaxed);
    }

    /// Looks once, with what the profiler has read just now.
    pub(super) fn look(&self, now: Duration, readings: &Readings, alarms: Vec<AlarmState>) {
        let reading = self.reading(readings, alarms);
        let mut capacity = self.capacity.lock().unwrap_or_else(PoisonError::into_inner);
        let found = capacity.handle_reading(now, reading);
        self.fullness.report.store(Arc::new(capacity.report()));
        drop(capacity);
        self.house.pressure.set(found.house, found.memory);
        if found.shrink {
            self.berths.iter().for_each(|berth| berth.inbox.post(Mail::Order(Order::Shrink)));
        }
        found.news.into_iter().for_each(|news| self.tell(news));
    }

    fn tell(&self, news: News) {
        if news.is_worse {
            tracing::warn!("{}", news.text);
        } else {
            tracing::info!("{}", news.text);
        }
        if let Some(webhook) = &self.webhook {
            webhook.tell(news);
        }
    }

    fn reading(&self, readings: &Readings, alarms: Vec<AlarmState>) -> Reading {
        let (seats, sessions) = (self.house.seats.taken() as u64, self.house.http_sessions() as u64);
        let mut figures = self.figures(readings, seats, sessions);
        let lists = self.house.lists.load(Relaxed);
        let (mut totals, mut took) = (Totals { cpu: cpu::used(), lists, ..Totals::default() }, Vec::new());
        for berth in &*self.berths {
            totals.lag.merge(&berth.meter.lag.counts());
            totals.answered.merge(&berth.meter.answered.counts());
        }
        self.upstreams.each(|one, handle| {
            let (counts, name) = (&handle.counts, Arc::<str>::from(&*handle.name));
            took.push((Arc::clone(&name), counts.took.counts()));
            totals.reads += counts.reads.load(Relaxed);
            totals.joined += counts.joined.load(Relaxed);
            totals.calls += counts.calls.load(Relaxed);
            totals.errors += counts.errors.load(Relaxed);
            let mut add = |resource, used, limit| {
                figures.push(Figure { resource, upstream: Some(Arc::clone(&name)), used, limit });
            };
            let limit = match counts.limit.load(Relaxed) {
                0 => one.knobs.in_flight_max as u64,
                limit => limit,
            };
            add(Resource::UpstreamInFlight, counts.in_flight.load(Relaxed), limit);
            add(Resource::UpstreamQueue, counts.queued.load(Relaxed), counts.queue_max.load(Relaxed));
            // Where all share one session, so do its few connections; a child takes none.
            if one.per_session && !matches!(one.target, Target::Child { .. }) {
                add(Resource::UpstreamPorts, counts.sessions.load(Relaxed), self.ports);
            }
        });
        let cpu_millicores = cpu::allowed_millicores();
        let clients = seats.max(sessions);
        Reading { at_unix_ms: readings.at_unix_ms, clients, figures, totals, took, cpu_millicores, alarms }
    }

    /// Those that there is one of.
    fn figures(&self, readings: &Readings, seats: u64, sessions: u64) -> Vec<Figure> {
        let (house, config) = (&self.house, &self.house.config);
        let counted = [
            (Resource::CallsWaiting, house.in_flight.taken(), house.in_flight.max()),
            (Resource::Watches, house.watches.taken(), house.watches.max()),
            (Resource::BufferedBytes, house.buffered(), config.buffered_bytes_max),
            (Resource::OutboxBytes, house.guards.outbox_bytes(), house.guards.outbox_bytes_max()),
            (Resource::ReplayBytes, house.http_replayed(), config.http.replay_bytes_total_max),
        ];
        let counted = counted.map(|(resource, used, limit)| Figure::new(resource, used as u64, limit as u64));
        let mut figures = Vec::from(counted);
        figures.push(Figure::new(Resource::ConnectionSeats, seats, house.seats.max() as u64));
        figures.push(Figure::new(Resource::HttpSessions, sessions, self.house.guards.sessions.max() as u64));
        if let Some(most) = descriptors::fullest_table() {
            figures.push(Figure::new(Resource::Descriptors, most, descriptors::limit().unwrap_or(0)));
        }
        figures.push(Figure::new(Resource::Memory, readings.process.rss, self.memory_max.load(Relaxed)));
        let cgroup = cgroup::memory();
        if let (Some(used), Some(limit)) = (cgroup.used, cgroup.limit) {
            figures.push(Figure::new(Resource::CgroupMemory, used, limit));
        }
        if let Some(kernel) = readings.kernel {
            let taken = self.machine_bytes.saturating_sub(kernel.available);
            figures.push(Figure::new(Resource::MachineMemory, taken, self.machine_bytes));
            figures.push(Figure::new(Resource::TcpMemory, kernel.tcp_pages * PAGE_BYTES, self.tcp_bytes_max));
        }
        figures
    }
}

/// RSS that the process may have.
const fn memory_max(config: &Config, machine_bytes: u64) -> u64 {
    match config.capacity.memory_bytes_max {
        0 => machine_bytes,
        most => most,
    }
}
