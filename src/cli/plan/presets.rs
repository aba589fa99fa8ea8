//! Published capacity plans: the load that each is for, and its claims beside what its own figures come to.
//!
//! Each claim is quoted from a file of a public repository, named beside it. The computed figure is arithmetic on figures
//! of the same plan, never on lakh's: whether a plan adds up is seen from itself. What lakh takes for that load is
//! forecast like any other.

use serde::Serialize;

use super::load::{Dialects, Load, Paths, ServiceOn};
use super::machine::{Machine, Origin};

/// How far claim and arithmetic may lie apart, as a share of the larger: published figures are rounded.
const ROUNDED: f64 = 0.05;

/// One published plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preset {
    pub title: &'static str,
    /// Where its text is, or that it was not found.
    pub source: &'static str,
    pub load: Load,
    /// The machine that it plans with, where it names one.
    pub machine: Option<Machine>,
    pub claims: Vec<Claim>,
}

/// What a plan says, and what its own figures come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Claim {
    pub what: &'static str,
    pub unit: &'static str,
    /// From, to.
    pub claimed: (f64, f64),
    pub computed: (f64, f64),
    /// The arithmetic.
    pub because: &'static str,
    pub adds_up: bool,
}

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// Memory Nexus: cache hits of 2 ms, 15 and 40 ms otherwise
    MemoryNexus,
    /// UX Flow Engine: AI calls of 0.5 to 5 s in 10 to 20 slots
    UxFlow,
    /// A Flask service for 1,000 users
    Flask,
    /// Max Booster: 10,000 users on 20 database connections
    MaxBooster,
    /// erlmcp: 100,000 connections
    Erlmcp,
}

impl Name {
    /// The plan of this name.
    pub fn preset(self) -> Preset {
        match self {
            Self::MemoryNexus => memory_nexus(),
            Self::UxFlow => ux_flow(),
            Self::Flask => flask(),
            Self::MaxBooster => max_booster(),
            Self::Erlmcp => erlmcp(),
        }
    }
}

/// A claim of one figure or a range; it adds up where the two ranges meet, rounding allowed.
fn claim(
    what: &'static str,
    unit: &'static str,
    claimed: (f64, f64),
    computed: (f64, f64),
    because: &'static str,
) -> Claim {
    let meets = |low: f64, high: f64| low <= high + ROUNDED * high.abs().max(low.abs());
    let adds_up = meets(claimed.0, computed.1) && meets(computed.0, claimed.1);
    Claim { what, unit, claimed, computed, because, adds_up }
}

const fn one(figure: f64) -> (f64, f64) {
    (figure, figure)
}

/// Laobena/Memory-Nexus, docs/CAPACITY_ANALYSIS.md: "70% cache hits: 2ms -> 500 req/sec/core; 25% smart routing: 15ms -> 66;
/// 5% full pipeline: 40ms -> 25; Weighted average: ~365 req/sec/core", "Per request (average 6.5ms)", "32 x 365 = 11,680
/// requests/second", "At 0.1 req/sec per user (typical): 116,800 concurrent users", "Practical limit: 10,000-50,000",
/// "100GB / 50KB = 2,000,000", "10Gbps NIC ... 2KB ... 625,000", "Tier 1 (4 cores): 1,460 req/sec", "Tier 4 (128 cores, 1TB
/// RAM): 500,000-1,000,000 users".
fn memory_nexus() -> Preset {
    let load = Load {
        clients: 10_000,
        calls_per_second: 0.1,
        connects_per_second: 10.0,
        response_bytes: 2_000.0,
        service_on: ServiceOn::Core,
        shares: Paths { cache: 0.70, own: 0.25, upstream: 0.05, refused: 0.0 },
        service_ms: Paths { cache: 2.0, own: 15.0, upstream: 40.0, refused: 0.0 },
        ..Load::default()
    };
    let core = load.calls_per_server().unwrap_or(f64::NAN);
    let weighted = "1 / (0.70 x 2 + 0.25 x 15 + 0.05 x 40 ms): times weighted, not rates averaged";
    let claims = vec![
        claim(
            "mean time of a request",
            "ms",
            one(6.5),
            one(load.service_seconds() * 1e3),
            "0.70 x 2 + 0.25 x 15 + 0.05 x 40",
        ),
        claim("requests a second and core", "/s", one(365.0), one(core), weighted),
        claim("requests a second, 32 cores", "/s", one(11_680.0), one(32.0 * core), "32 of these cores"),
        claim(
            "users of 0.1 requests a second, 32 cores",
            "",
            one(116_800.0),
            one(320.0 * core),
            "at 100 % of all cores",
        ),
        claim("practical limit of a node", "", (10_000.0, 50_000.0), one(320.0 * core), "the same"),
        claim("tier 1: requests a second, 4 cores", "/s", one(1_460.0), one(4.0 * core), "4 of these cores"),
        claim(
            "tier 4: users, 128 cores",
            "",
            (500_000.0, 1e6),
            one(1_280.0 * core),
            "128 of these cores, 0.1 a second each",
        ),
        claim("connections by memory, 100 GB", "", one(2e6), one(100e9 / 50e3), "100 GB / 50 KB"),
        claim("responses of 2 KB a second, 10 Gbit/s", "/s", one(625_000.0), one(10e9 / 8.0 / 2e3), "1.25 GB/s / 2 KB"),
    ];
    let machine = Machine {
        name: "as published: 32 cores, 128 GB".to_owned(),
        cores: 32.0,
        memory_gib: 128.0,
        nic_gbit: 10.0,
        descriptors: 1 << 20,
        own_tables: true,
        price_month: 0.0,
        from: Origin::Given,
    };
    let source = "github.com/Laobena/Memory-Nexus, docs/CAPACITY_ANALYSIS.md";
    Preset { title: "Memory Nexus", source, load, machine: Some(machine), claims }
}

/// mannomannX/ux_generator_backend_Prod, PERFORMANCE_ESTIMATIONS.md: "500-1,000 concurrent active users", "500-1,000 RPS",
/// "Current Limit: 10-20 concurrent AI requests; Processing Time: 500-5000ms", "Rate Limit: 100 requests/minute per user",
/// "100 AI requests per minute (total)", "At 1,000 users: Queue times for AI processing reach 5-10 seconds", "AI Processing
/// Queue Length: < 100 requests", "At 2,000 users: WebSocket connections start dropping", "10,000 connections per gateway
/// instance".
fn ux_flow() -> Preset {
    let (slots, seconds) = ((10.0, 20.0), (0.5, 5.0));
    let served = (slots.0 / seconds.1, slots.1 / seconds.0);
    let (total, users) = (100.0 / 60.0, 1_000.0);
    let limit = 100.0 / 60.0;
    let ai = total / users;
    let claims = vec![
        claim(
            "AI requests a minute, in all",
            "/min",
            one(100.0),
            (served.0 * 60.0, served.1 * 60.0),
            "10 to 20 slots / 0.5 to 5 s each",
        ),
        claim(
            "users who may use their 100 AI requests a minute",
            "",
            (500.0, 1_000.0),
            (served.0 / limit, served.1 / limit),
            "2 to 40 served a second / 1.67 a second for each",
        ),
        claim(
            "AI slots busy at 1,000 users, where waits of 5 to 10 s begin",
            "",
            slots,
            (total * seconds.0, total * seconds.1),
            "100 a minute x 0.5 to 5 s: most slots are free, nobody waits",
        ),
        claim(
            "wait behind 100 queued AI requests",
            "s",
            (5.0, 10.0),
            (100.0 / served.1, 100.0 / served.0),
            "100 / 2 to 40 a second",
        ),
        claim(
            "WebSockets of a gateway before they drop",
            "",
            one(2_000.0),
            one(10_000.0),
            "its own limit for an instance",
        ),
        claim("requests a second of 500 to 1,000 users", "/s", (500.0, 1_000.0), (500.0, 1_000.0), "one of each user"),
    ];
    let load = Load {
        clients: 1_000,
        calls_per_second: 1.0,
        connects_per_second: 1.0,
        upstream_slots: 20,
        dialects: Dialects { ws: 1.0, ..Dialects::default() },
        shares: Paths { own: 1.0 - ai, upstream: ai, ..Paths::default() },
        service_ms: Paths { upstream: (seconds.0 + seconds.1) / 2.0 * 1e3, ..Paths::default() },
        ..Load::default()
    };
    let source = "github.com/mannomannX/ux_generator_backend_Prod, PERFORMANCE_ESTIMATIONS.md";
    Preset { title: "UX Flow Engine", source, load, machine: None, claims }
}

/// Only that there is such a plan is known here.
fn flask() -> Preset {
    Preset {
        title: "A Flask service for 1,000 users",
        source: "its text was not found, so there is no claim to check; lakh's usual load for 1,000 clients",
        load: Load { clients: 1_000, connects_per_second: 1.0, ..Load::default() },
        machine: None,
        claims: Vec::new(),
    }
}

/// 20lawsobk/maxbooster5.0, Max-Booster/INFRASTRUCTURE_CAPACITY_ANALYSIS.md: "Users per Connection ~500; 20 connections x 500
/// users/connection" = 10,000, "Max Concurrent Requests 5,000; Requests per Second 1,000; Average request processing time
/// ~100ms", "Express Server: 200% (5,000 requests spread over time)" at 10,000 users beside "15,000: Express Saturated
/// (100%)", "100 requests/minute per IP", "50,000 x 5 KB" = "~250 MB". Max-Booster/EXTREME_SCALABILITY_ARCHITECTURE.md: "80B
/// users x 10 req/min = 13.3B requests/min; 13.3B / 60 = 222M RPS; 222,000 pods" of 1,000 RPS, "Average user makes 10
/// requests/minute".
fn max_booster() -> Preset {
    let (rate, users) = (10.0 / 60.0, 10_000.0);
    let claims = vec![
        claim("users on 20 database connections", "", one(10_000.0), one(20.0 * 500.0), "20 x 500"),
        claim(
            "requests at once in Express",
            "",
            one(5_000.0),
            one(1_000.0 * 0.1),
            "1,000 a second x 100 ms (Little's law)",
        ),
        claim(
            "Express in use at 10,000 users",
            "%",
            one(200.0),
            one(users / 15_000.0 * 100.0),
            "full at 15,000 by its own timeline",
        ),
        claim(
            "users of 10 requests a minute on 1,000 a second",
            "",
            one(users),
            one(1_000.0 / rate),
            "1,000 / (10 / 60)",
        ),
        claim(
            "users who may use their 100 requests a minute",
            "",
            one(users),
            one(1_000.0 / (100.0 / 60.0)),
            "1,000 / (100 / 60)",
        ),
        claim("session table", "MB", one(250.0), one(50_000.0 * 5e3 / 1e6), "50,000 x 5 KB"),
        claim(
            "requests a second of 80 billion users",
            "/s",
            one(222e6),
            one(80e9 * rate),
            "80e9 x 10 / 60: divided by 60 twice",
        ),
        claim(
            "pods of 1,000 requests a second for them",
            "",
            one(222_000.0),
            one(80e9 * rate / 1e3),
            "the same / 1,000",
        ),
    ];
    let load = Load {
        clients: 10_000,
        calls_per_second: rate,
        connects_per_second: 10.0,
        shares: Paths { upstream: 1.0, ..Paths::default() },
        service_ms: Paths { upstream: 100.0, ..Paths::default() },
        ..Load::default()
    };
    let source = "github.com/20lawsobk/maxbooster5.0, Max-Booster/INFRASTRUCTURE_CAPACITY_ANALYSIS.md and EXTREME_SCALABILITY_ARCHITECTURE.md";
    Preset { title: "Max Booster", source, load, machine: None, claims }
}

/// seanchatmangpt/erlmcp at be98d044, MEMORY_OPTIMIZATION_REPORT.md: "Memory after 10K: 21.5 MB total / 2.15 MB per conn",
/// "Memory after 100K: 203 MB total / 2.03 MB per conn". MEMORY_PROFILING_DATA.md: "203 GB", "Total per Connection: 536-2048
/// bytes; Optimized Average: 1.97 MB", "1h: 360K connections, 7.3 GB" beside "2.03 MB", "Total GC Time (24h): ~2.8 hours; GC
/// Overhead: 11.7%", "100 connections/sec", "10 messages/sec per connection", "r6i.4xlarge (256GB RAM)" where the other file
/// has "r6i.4xlarge or larger (128+ GB RAM)".
fn erlmcp() -> Preset {
    let parts = 128.0 + 32.0 + 16.0 + 8.0 + 8.0 + 8.0 + 16.0 + 64.0 + 256.0;
    let claims = vec![
        claim("memory per connection at 10,000", "B", one(2.15e6), one(21.5e6 / 1e4), "21.5 MB / 10,000: off by 1,000"),
        claim("memory per connection at 100,000", "B", one(2.03e6), one(203e6 / 1e5), "203 MB / 100,000: off by 1,000"),
        claim("average of a connection's parts", "B", one(1.97e6), (536.0, 2_048.0), "the sum of its own breakdown"),
        claim("least sum of a connection's parts", "B", one(536.0), one(parts), "its nine rows"),
        claim("memory per connection after an hour", "B", one(2.03e6), one(7.3e9 / 360e3), "7.3 GB / 360,000"),
        claim("time in garbage collection", "%", one(11.7), one(2.8 / 24.0 * 100.0), "2.8 h of 24"),
        claim("memory of an r6i.4xlarge", "GB", one(256.0), one(128.0), "its other file"),
    ];
    let load = Load {
        clients: 100_000,
        calls_per_second: 10.0,
        connects_per_second: 100.0,
        request_bytes: 200.0,
        response_bytes: 200.0,
        dialects: Dialects { tcp: 1.0, ..Dialects::default() },
        shares: Paths { own: 1.0, ..Paths::default() },
        service_ms: Paths::default(),
        ..Load::default()
    };
    let source = "github.com/seanchatmangpt/erlmcp, MEMORY_OPTIMIZATION_REPORT.md and MEMORY_PROFILING_DATA.md";
    Preset { title: "erlmcp at 100,000 connections", source, load, machine: None, claims }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    fn of(name: Name, what: &str) -> Claim {
        let claims = name.preset().claims;
        claims.into_iter().find(|claim| claim.what.starts_with(what)).expect(what)
    }

    #[test]
    fn every_preset_is_a_load_that_can_be() {
        for name in Name::value_variants() {
            let preset = name.preset();
            preset.load.checked().expect(preset.title);
            assert!(preset.machine.is_none_or(|machine| machine.checked().is_ok()));
            assert!(preset.claims.iter().all(|claim| claim.computed.0 > 0.0 && claim.computed.0 <= claim.computed.1));
        }
    }

    #[test]
    fn memory_nexus_serves_140_calls_a_core_and_not_365() {
        let core = of(Name::MemoryNexus, "requests a second and core");
        assert_eq!((core.claimed.0, core.computed.0.round(), core.adds_up), (365.0, 140.0, false));
        assert!(
            of(Name::MemoryNexus, "connections by memory").adds_up && of(Name::MemoryNexus, "practical limit").adds_up
        );
    }

    #[test]
    fn what_is_off_by_1000_or_60_is_found() {
        let erlmcp = of(Name::Erlmcp, "memory per connection at 100,000");
        assert_eq!((erlmcp.claimed.0 / erlmcp.computed.0, erlmcp.adds_up), (1_000.0, false));
        let users = of(Name::MaxBooster, "requests a second of 80 billion");
        assert_eq!(((users.computed.0 / users.claimed.0).round(), users.adds_up), (60.0, false));
        assert!(of(Name::Erlmcp, "least sum").adds_up && of(Name::Erlmcp, "time in garbage").adds_up);
    }

    #[test]
    fn ranges_add_up_where_they_meet() {
        let adds_up = |claimed, computed| claim("", "", claimed, computed, "").adds_up;
        assert!(adds_up((1.0, 2.0), (2.0, 3.0)) && adds_up((5.0, 6.0), (1.0, 9.0)) && adds_up(one(100.0), one(104.0)));
        assert!(!adds_up((1.0, 2.0), (2.5, 3.0)) && !adds_up(one(100.0), one(110.0)));
        assert!(!of(Name::UxFlow, "AI requests a minute").adds_up && of(Name::UxFlow, "wait behind").adds_up);
    }
}
