//! All counters and gauges of the gateway, read at the moment of a scrape, in the text format of OpenMetrics.

mod capacity;
mod sheet;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit::{Bytes, Seconds};
use prometheus_client::registry::{Registry, Unit};

use self::sheet::{Labels, Sheet, alone, by, named};
use super::{UpstreamView, Windows};
use crate::guard::{Account, Seats};
use crate::meter::{AllocatorMemory, Gauge, KernelMemory, Named, Part, PoolReading, ProcessMemory, ShardMeter, Tally};
use crate::upstream::front::BreakerState;
use crate::upstream::handle::State;
use crate::upstream::mux::tally::{Use, Uses};
use crate::upstream::trouble::TroubleKind;

/// The kernel counts buffers of TCP in pages of this size on the machines that lakh runs on.
const PAGE_BYTES: u64 = 4_096;

/// A registry that looks through `windows` whenever it is encoded.
pub(super) fn registry(windows: Arc<Windows>) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics(windows)));
    registry
}

struct Metrics(Arc<Windows>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let windows = &*self.0;
        let sheet = &mut Sheet(encoder);
        gateway(sheet, windows)?;
        places(sheet, windows)?;
        traffic(sheet, windows)?;
        ledger(sheet, windows)?;
        memory(sheet, windows)?;
        pools(sheet, windows)?;
        loops(sheet, windows)?;
        kernel(sheet)?;
        tree(sheet, windows)?;
        upstreams(sheet, windows)?;
        alarms(sheet, windows)?;
        capacity::write(sheet, &windows.fullness)
    }
}

fn gateway(sheet: &mut Sheet<'_>, windows: &Windows) -> fmt::Result {
    let version = vec![("version", windows.version.to_owned())];
    sheet.info("lakh_build", "Which lakh this is", &version)?;
    let uptime = windows.started.elapsed().as_secs_f64();
    sheet.gauges("lakh_uptime", Some(Seconds), "Time since the process started", alone(uptime))?;
    let ready = u64::from(windows.is_ready());
    sheet.gauges("lakh_ready", None, "1 while new clients are welcome", alone(ready))
}

/// What is limited, and how much of it is taken.
fn places(sheet: &mut Sheet<'_>, windows: &Windows) -> fmt::Result {
    let house = &windows.house;
    let guards = &house.guards;
    let all = [
        ("connections", &house.seats),
        ("lobby", &house.lobby),
        ("sessions", &guards.sessions),
        ("calls_in_flight", &house.in_flight),
        ("watches", &house.watches),
    ];
    let taken = all.map(|(of, seats)| (of, seats.taken() as u64));
    sheet.gauges("lakh_seats_taken", None, "Places in use", by("of", taken))?;
    let max = all.map(|(of, seats)| (of, seats.max() as u64));
    sheet.gauges("lakh_seats_max", None, "Places in all", by("of", max))?;
    // Each kind of place could count refusals of its own; the reason tells which it was.
    let refusals = house.seats.refusals.iter().map(|(why, count)| {
        let elsewhere = house.lobby.refusals.get(why) + house.in_flight.refusals.get(why);
        (why, count + elsewhere)
    });
    sheet.counters("lakh_refusals", None, "Clients and calls not let in", named("reason", refusals))?;
    let help = "Clients and calls let in unchecked, because a guard was broken itself";
    sheet.counters("lakh_guard_lapses", None, help, named("reason", guards.lapses.iter()))?;
    let help = "Clients, addresses and tenants in debt to a rate, or until lately";
    sheet.gauges("lakh_guard_debtors", None, help, alone(guards.debts.len() as u64))?;
    let help = "Lists answered from the catalogue, without a call";
    sheet.counters("lakh_lists", None, help, alone(house.lists.load(Relaxed)))?;
    let waiting = [("waiting", guards.outbox_bytes() as u64), ("max", guards.outbox_bytes_max() as u64)];
    sheet.gauges("lakh_outboxes", Some(Bytes), "Answers that wait for clients to read them", by("bytes", waiting))?;
    tenants(sheet, windows)
}

/// What of each tenant is counted because its plan limits it.
fn tenants(sheet: &mut Sheet<'_>, windows: &Windows) -> fmt::Result {
    let rules = windows.house.guards.rules();
    let limited: Vec<_> = rules.accounts.iter().flat_map(Account::limited).collect();
    let each = |figure: fn(&Seats) -> usize| {
        limited.iter().map(move |(tenant, of, seats)| {
            let labels: Labels = vec![("tenant", (*tenant).to_owned()), ("of", (*of).to_owned())];
            (labels, figure(seats) as u64)
        })
    };
    sheet.gauges("lakh_tenant_seats_taken", None, "Places of a tenant in use", each(|seats| seats.taken()))?;
    sheet.gauges("lakh_tenant_seats_max", None, "Places of a tenant in all", each(|seats| seats.max()))
}

fn traffic(sheet: &mut Sheet<'_>, windows: &Windows) -> fmt::Result {
    let each = |gauge: fn(&ShardMeter) -> &Gauge| {
        by("shard", windows.berths.iter().enumerate().map(move |(shard, (meter, _))| (shard, gauge(meter).get())))
    };
    sheet.gauges("lakh_connections_open", None, "Connections open", each(|meter| &meter.open))?;
    sheet.counters("lakh_connections_accepted", None, "Connections accepted", each(|meter| &meter.accepted))?;
    sheet.counters("lakh_messages_received", None, "Messages from clients", each(|meter| &meter.messages_in))?;
    sheet.counters("lakh_messages_sent", None, "Messages to clients", each(|meter| &meter.messages_out))?;
    sheet.counters("lakh_received", Some(Bytes), "Bytes from clients", each(|meter| &meter.bytes_in))?;
    sheet.counters("lakh_sent", Some(Bytes), "Bytes to clients", each(|meter| &meter.bytes_out))
}

/// Everything that ended or went wrong, by its name.
fn ledger(sheet: &mut Sheet<'_>, windows: &Windows) -> fmt::Result {
    fn tally<K: Named>(
        sheet: &mut Sheet<'_>,
        name: &str,
        help: &str,
        label: &'static str,
        tally: &Tally<K>,
    ) -> fmt::Result {
        sheet.counters(name, None, help, named(label, tally.iter()))
    }
    let ledger = &windows.house.ledger;
    tally(sheet, "lakh_partings", "Connections that ended", "reason", &ledger.partings)?;
    tally(sheet, "lakh_faults", "Messages answered with an error of ours", "fault", &ledger.faults)?;
    tally(sheet, "lakh_messages_ignored", "Messages without any effect", "reason", &ledger.ignored)?;
    tally(sheet, "lakh_defects", "What was wrong with malformed messages", "defect", &ledger.defects)?;
    tally(sheet, "lakh_websocket_violations", "WebSocket rules broken by clients", "rule", &ledger.violations)?;
    tally(sheet, "lakh_strangers", "Clients that spoke nothing that is served", "spoke", &ledger.strangers)?;
    tally(sheet, "lakh_http_refusals", "HTTP requests refused", "reason", &ledger.http_refusals)
}

fn memory(sheet: &mut Sheet<'_>, windows: &Windows) -> fmt::Result {
    let parts = Part::ALL.iter().map(|&part| (part, windows.sum(|meter| meter.parts.get(part))));
    sheet.gauges("lakh_part", Some(Bytes), "Where the memory of the connections is", named("part", parts))?;
    if let Ok(process) = ProcessMemory::read() {
        let kinds = [
            ("resident", process.rss),
            ("resident_peak", process.rss_peak),
            ("anonymous", process.anonymous),
            ("virtual", process.virt),
            ("page_tables", process.page_tables),
        ];
        sheet.gauges("lakh_memory", Some(Bytes), "Memory of the whole process", by("kind", kinds))?;
        sheet.gauges("lakh_threads", None, "Threads of the process", alone(process.threads))?;
        // The names that every Prometheus client uses, for dashboards that know them.
        sheet.gauges("process_resident_memory", Some(Bytes), "Resident memory", alone(process.rss))?;
        sheet.gauges("process_virtual_memory", Some(Bytes), "Virtual memory", alone(process.virt))?;
    }
    if let Some(allocator) = AllocatorMemory::read() {
        let kinds = [("committed", allocator.committed), ("committed_peak", allocator.committed_peak)];
        sheet.gauges("lakh_allocator", Some(Bytes), "What the allocator took from the system", by("kind", kinds))?;
    }
    Ok(())
}

fn pools(sheet: &mut Sheet<'_>, windows: &Windows) -> fmt::Result {
    let total = |pool: fn(&ShardMeter) -> PoolReading| {
        windows.berths.iter().fold(PoolReading::default(), |sum, (meter, _)| sum.plus(pool(meter)))
    };
    let pools = [("slots", total(|meter| meter.pool.read())), ("buffers", total(|meter| meter.buffers.read()))];
    let each = |figure: fn(&PoolReading) -> u64| by("pool", pools.map(|(name, pool)| (name, figure(&pool))));
    sheet.gauges("lakh_pool_in_use", None, "Lent out", each(|pool| pool.in_use))?;
    sheet.gauges("lakh_pool_available", None, "Free and kept for the next", each(|pool| pool.available))?;
    sheet.counters("lakh_pool_reused", None, "Lendings of what was there", each(|pool| pool.reused))?;
    sheet.counters("lakh_pool_created", None, "Lendings of what had to be made", each(|pool| pool.created))?;
    sheet.counters("lakh_pool_refused", None, "Lendings refused at the maximum", each(|pool| pool.refused))?;
    let reuse = by("pool", pools.map(|(name, pool)| (name, pool.reuse_ratio())));
    sheet.gauges("lakh_pool_reuse", Some(Unit::Other("ratio".into())), "Reused over reused and created", reuse)
}

fn loops(sheet: &mut Sheet<'_>, windows: &Windows) -> fmt::Result {
    let lags: Vec<_> = windows.berths.iter().map(|(meter, _)| meter.lag.snapshot()).enumerate().collect();
    let turns = lags.iter().map(|(shard, lag)| (shard, lag.count));
    sheet.counters("lakh_loop_turns", None, "Turns of the event loops", by("shard", turns))?;
    let worst = lags.iter().map(|(shard, lag)| (shard, lag.max.as_secs_f64()));
    let help = "The longest lag of an event loop since the start";
    sheet.gauges("lakh_loop_lag_worst", Some(Seconds), help, by("shard", worst))?;
    if let Some(Some(now)) = windows.profiler(|profiler| profiler.latest().copied()) {
        let quantiles = [("0.5", now.lag.p50_us), ("0.99", now.lag.p99_us), ("1", now.lag.max_us)];
        let seconds = quantiles.map(|(quantile, micros)| (quantile, micros as f64 / 1e6));
        let help = "Lag of all event loops in the profiler's last interval";
        sheet.gauges("lakh_loop_lag", Some(Seconds), help, by("quantile", seconds))?;
    }
    Ok(())
}

/// Of the whole machine, beside our own memory and never in it.
fn kernel(sheet: &mut Sheet<'_>) -> fmt::Result {
    let Ok(kernel) = KernelMemory::read() else { return Ok(()) };
    let kinds = [
        ("slab", kernel.slab),
        ("slab_unreclaimable", kernel.slab_unreclaimable),
        ("tcp_buffers", kernel.tcp_pages * PAGE_BYTES),
    ];
    sheet.gauges("lakh_kernel", Some(Bytes), "Memory of the kernel, of the whole machine", by("kind", kinds))?;
    let kinds = [
        ("any", kernel.sockets),
        ("tcp", kernel.tcp_sockets),
        ("tcp_orphan", kernel.tcp_orphans),
        ("tcp_time_wait", kernel.tcp_time_wait),
    ];
    sheet.gauges("lakh_kernel_sockets", None, "Sockets of this network namespace", by("kind", kinds))
}

fn tree(sheet: &mut Sheet<'_>, windows: &Windows) -> fmt::Result {
    let tree = (windows.tree)();
    let label = |group: &str, child: &str| -> Labels { vec![("group", group.to_owned()), ("child", child.to_owned())] };
    let restarts = tree.children().map(|(group, child)| (label(group, &child.name), child.restarts));
    sheet.counters("lakh_child_restarts", None, "Restarts by the supervision tree", restarts)?;
    let states = tree.children().map(|(group, child)| {
        let mut labels = label(group, &child.name);
        labels.push(("state", child.state.to_owned()));
        (labels, 1_u64)
    });
    sheet.gauges("lakh_child_state", None, "In which state each child is", states)
}

/// The servers behind the gateway, and what their tools are used for: a name each, up to the most that is told apart.
fn upstreams(sheet: &mut Sheet<'_>, windows: &Windows) -> fmt::Result {
    let all = (windows.upstreams)();
    let each =
        |figure: fn(&UpstreamView) -> u64| by("upstream", all.iter().map(move |(one, _)| (&one.name, figure(one))));
    let states = all.iter().flat_map(|(one, _)| {
        let labels = move |state: &State| vec![("upstream", one.name.clone()), ("state", state.name().to_owned())];
        State::ALL.iter().map(move |state| (labels(state), u64::from(state.name() == one.state)))
    });
    sheet.gauges("lakh_upstream_state", None, "1 for the state that an upstream is in", states)?;
    sheet.gauges("lakh_upstream_entries", None, "What it offers", each(|one| one.entries))?;
    sheet.gauges("lakh_upstream_calls_in_flight", None, "Calls in flight at it", each(|one| one.in_flight))?;
    sheet.gauges("lakh_upstream_sessions", None, "Sessions of single clients at it", each(|one| one.sessions))?;
    sheet.counters("lakh_upstream_calls", None, "Calls sent to it", each(|one| one.calls))?;
    sheet.counters("lakh_upstream_errors", None, "Calls that failed, or were answered so", each(|one| one.errors))?;
    let troubles = all.iter().flat_map(|(one, _)| {
        let labels = move |kind: &TroubleKind| vec![("upstream", one.name.clone()), ("kind", kind.name().to_owned())];
        TroubleKind::ALL.iter().map(move |kind| (labels(kind), one.troubles.get(kind.name()).copied().unwrap_or(0)))
    });
    sheet.counters("lakh_upstream_troubles", None, "Requests without an answer of it, by what went wrong", troubles)?;
    sheet.counters("lakh_upstream_restarts", None, "Times it was connected anew", each(|one| one.restarts))?;
    sheet.counters("lakh_upstream_strays", None, "Messages from it that were for nobody", each(|one| one.strays))?;
    fronts(sheet, &all)?;
    let uses: Vec<(Labels, Use)> = all
        .iter()
        .flat_map(|(one, uses)| {
            let labels = |name: &str| vec![("upstream", one.name.clone()), ("name", name.to_owned())];
            uses.iter().map(move |(name, uses)| (labels(name), *uses))
        })
        .collect();
    let each = |figure: fn(&Use) -> u64| uses.iter().map(move |(labels, uses)| (labels.clone(), figure(uses)));
    sheet.counters("lakh_calls", None, "Calls by the name of what was called", each(|uses| uses.calls))?;
    sheet.counters("lakh_call_errors", None, "Those that failed", each(|uses| uses.errors))?;
    sheet.counters("lakh_call_duration_us", None, "Microseconds that they took in all", each(|uses| uses.micros))
}

/// What stands in front of each upstream.
fn fronts(sheet: &mut Sheet<'_>, all: &[(UpstreamView, Uses)]) -> fmt::Result {
    let each =
        |figure: fn(&UpstreamView) -> u64| by("upstream", all.iter().map(move |(one, _)| (&one.name, figure(one))));
    sheet.gauges(
        "lakh_upstream_in_flight_limit",
        None,
        "Calls that may be in flight at it now",
        each(|one| one.limit),
    )?;
    sheet.gauges("lakh_upstream_queued", None, "Calls that wait for a place at it", each(|one| one.queued))?;
    sheet.gauges("lakh_upstream_queue_max", None, "Calls that may wait", each(|one| one.queue_max))?;
    sheet.counters(
        "lakh_upstream_waited",
        None,
        "Calls that have waited and were sent then",
        each(|one| one.waited),
    )?;
    sheet.counters("lakh_upstream_wait_us", None, "Microseconds that they waited in all", each(|one| one.waited_us))?;
    sheet.gauges("lakh_upstream_wait_us_max", None, "The longest wait of one", each(|one| one.waited_us_max))?;
    sheet.counters(
        "lakh_upstream_retries",
        None,
        "Calls sent again because they had failed",
        each(|one| one.retries),
    )?;
    stand_ins(sheet, all)?;
    let shed = all.iter().flat_map(|(one, _)| {
        one.shed.iter().map(|(why, count)| (vec![("upstream", one.name.clone()), ("reason", (*why).into())], *count))
    });
    sheet.counters("lakh_upstream_shed", None, "Calls that were not sent", shed)?;
    let breakers = all.iter().flat_map(|(one, _)| {
        let labels =
            move |state: &BreakerState| vec![("upstream", one.name.clone()), ("state", state.name().to_owned())];
        BreakerState::ALL.iter().map(move |state| (labels(state), u64::from(state.name() == one.breaker)))
    });
    sheet.gauges("lakh_upstream_breaker", None, "1 for the state that its breaker is in", breakers)
}

/// Who serves in whose place.
fn stand_ins(sheet: &mut Sheet<'_>, all: &[(UpstreamView, Uses)]) -> fmt::Result {
    let each =
        |figure: fn(&UpstreamView) -> u64| by("upstream", all.iter().map(move |(one, _)| (&one.name, figure(one))));
    let help = "Calls that it did not serve and that went to another upstream";
    sheet.counters("lakh_upstream_passed_on", None, help, each(|one| one.passed_on))?;
    let help = "Reads that were not sent, as the same one was on its way";
    sheet.counters("lakh_upstream_joined", None, help, each(|one| one.joined))?;
    let help = "Reads that may have the answer of the same one on its way, with those that had it";
    sheet.counters("lakh_upstream_reads", None, help, each(|one| one.reads))?;
    let help = "1 while it gets no new calls because it failed where its replicas served";
    sheet.gauges("lakh_upstream_ejected", None, help, each(|one| u64::from(one.ejected_ms.is_some())))?;
    let help = "Times that it got no new calls for a while";
    sheet.counters("lakh_upstream_ejections", None, help, each(|one| one.ejections))
}

/// As the profiler judged its last readings; absent while nobody can ask it.
fn alarms(sheet: &mut Sheet<'_>, windows: &Windows) -> fmt::Result {
    let Some(report) = windows.profiler(|profiler| profiler.report()) else { return Ok(()) };
    let states = &report.alarms;
    let raised = states.iter().map(|state| (state.alarm, u64::from(state.raised_at_ms.is_some())));
    sheet.gauges("lakh_alarm_raised", None, "1 while the alarm is raised", named("alarm", raised))?;
    let times = states.iter().map(|state| (state.alarm, state.times));
    sheet.counters("lakh_alarms", None, "How often the alarm was raised", named("alarm", times))?;
    if let Some(mb_per_hour) = report.growth.mb_per_hour {
        let help = "Growth of memory that connections do not explain";
        let unit = Some(Unit::Other("bytes_per_second".into()));
        sheet.gauges("lakh_memory_growth", unit, help, alone(mb_per_hour * 1e6 / 3_600.0))?;
    }
    Ok(())
}

impl Windows {
    fn sum(&self, figure: impl Fn(&ShardMeter) -> u64) -> u64 {
        self.berths.iter().map(|(meter, _)| figure(meter)).sum()
    }
}
