//! The admin face over a real socket, in front of shards that answer, hang or die.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::actor::{self, Berth, Breakdown, Desk, Letter, Mail, Order, Readiness, Resident, Tenants};
use crate::meter::Named;
use crate::monitor::{self, LagWindow, Readings};
use crate::pool::Key;
use crate::upstream::Directory;
use crate::upstream::embedded::{Embedded, Tools};

/// A served house with no connections.
struct Served {
    admin: SocketAddr,
    windows: Arc<Windows>,
    berths: Vec<Arc<Berth>>,
}

fn serve_house(config: Config, shards: u16) -> Served {
    serve_house_with(config, shards, || Err(Unreloaded::NoSource))
}

fn serve_house_with(
    config: Config,
    shards: u16,
    reload: impl Fn() -> Result<String, Unreloaded> + Send + Sync + 'static,
) -> Served {
    let berths: Vec<_> = (0..shards).map(|number| Arc::new(Berth::new(number).expect("an epoll"))).collect();
    let child = Child {
        name: "shard-0".into(),
        state: "running",
        restarts: 3,
        since_s: 5,
        last_failure: Some("panicked: \"ordered\"".into()),
    };
    let tree = TreeView { groups: vec![Group { name: "shards".into(), children: vec![child] }] };
    let windows = Arc::new(Windows {
        config,
        house: Arc::new(House::new(
            crate::conn::Config::default(),
            crate::wire::Config::default(),
            &crate::guard::Config { connections_max: 1_000, in_flight_max: 100, ..crate::guard::Config::default() },
            usize::from(shards),
        )),
        berths: berths.iter().map(|berth| (Arc::clone(&berth.meter), Arc::clone(&berth.inbox))).collect(),
        tree: Arc::new(move || tree.clone()),
        upstreams: Arc::new(|| vec![files()]),
        directories: Arc::new(Directories::from_pointee(Directory::embedded(embedded()))),
        reload: Arc::new(reload),
        profiler: Arc::new(Mutex::new(Profiler::new(monitor::Config::default()))),
        fullness: Arc::default(),
        ready: Arc::new(AtomicBool::new(true)),
        version: "1.2.3",
        started: Instant::now(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let admin = listener.local_addr().expect("bound");
    let theirs = Arc::clone(&windows);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(serve(listener, theirs))
    });
    Served { admin, windows, berths }
}

/// One upstream, and what its tools were used for.
fn files() -> (UpstreamView, Uses) {
    let mut uses = Uses::default();
    uses.count("read", Duration::from_micros(7), true, || true);
    let view = UpstreamView {
        name: "files".into(),
        transport: "stdio",
        state: "ready",
        since_s: 5,
        tools: 2,
        calls: 9,
        errors: 1,
        troubles: [("overloaded", 3)].into(),
        ..UpstreamView::default()
    };
    (view, uses)
}

fn embedded() -> Embedded {
    // It is only listed: its runtime is never asked for anything.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let tools = Tools::new(crate::upstream::embedded::Config::default(), String::new);
    Embedded::new(Arc::new(tools), runtime.handle().clone(), 1)
}

fn served() -> Served {
    serve_house(Config::default(), 1)
}

impl Served {
    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.admin).expect("served");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        socket
    }

    /// Sends these bytes and reads to the end: status, head and body.
    fn send(&self, request: &str) -> (u16, String, String) {
        let mut socket = self.connect();
        socket.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("answered");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        (head[9..12].parse().expect("a status"), head.to_lowercase(), body.to_owned())
    }

    fn get_with(&self, target: &str, headers: &str) -> (u16, String, String) {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"))
    }

    fn get(&self, target: &str) -> (u16, String) {
        let (status, _, body) = self.get_with(target, "");
        (status, body)
    }

    fn json(&self, target: &str) -> Value {
        let (status, body) = self.get(target);
        assert_eq!(status, 200, "{target}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }
}

#[test]
fn the_index_names_every_route_and_an_unknown_path_shows_it() {
    let served = served();
    let (status, index) = served.get("/");
    assert_eq!(status, 200);
    for line in index.lines().filter(|line| line.starts_with('/')) {
        let path = line.split(' ').next().expect("a path");
        assert_eq!(served.get(path).0, 200, "{path}");
    }
    let (status, body) = served.get("/no/such/thing");
    assert!(status == 404 && body.contains("/metrics") && body.contains("/connections"), "{status} {body}");
}

#[test]
fn a_wrong_method_is_405_and_says_which_is_right() {
    let (status, head, _) =
        served().send("DELETE /tree HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert!(status == 405 && head.contains("allow: get"), "{status} {head}");
    let (status, head, _) = served().get_with("/reload", "");
    assert!(status == 405 && head.contains("allow: post"), "{status} {head}");
}

#[test]
fn upstreams_and_the_catalogue_are_json_or_lines() {
    let served = served();
    let all = served.json("/upstreams");
    assert_eq!((&all[0]["name"], &all[0]["state"], &all[0]["calls"]), (&"files".into(), &"ready".into(), &9.into()));
    assert!(served.get("/upstreams?format=text").1.starts_with("files: ready for 5 s, 2 tools\n"));
    let catalogue = served.json("/catalogue");
    let echo = serde_json::json!({"kind": "tool", "name": "echo", "upstream": "embedded", "present": true});
    assert!(echo.as_object().is_some_and(|echo| echo.iter().all(|(key, value)| catalogue[0][key] == *value)));
    let lines = served.get("/catalogue?format=text").1;
    assert!(lines.starts_with("tool      echo   embedded  Returns"), "{lines}");
}

#[test]
fn what_a_reload_has_done_is_told_or_why_it_has_not() {
    let reload = |answer: Result<String, Unreloaded>| {
        let served = serve_house_with(Config::default(), 1, move || answer.clone());
        let (status, _, body) =
            served.send("POST /reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        (status, body)
    };
    assert_eq!(reload(Ok("{\"added\":[]}".into())), (200, "{\"added\":[]}".into()));
    let (status, why) = reload(Err(Unreloaded::Refused("lakh.toml: bad".into())));
    assert!(status == 422 && why == "nothing is changed: lakh.toml: bad\n", "{status} {why}");
    assert_eq!(reload(Err(Unreloaded::NoSource)).0, 409);
    let served = served();
    let foreign =
        "POST /reload HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(served.send(foreign).0, 403, "a page of somebody else's");
}

#[test]
fn draining_is_healthy_but_not_ready() {
    let served = served();
    assert_eq!(served.get("/ready").0, 200);
    served.windows.ready.store(false, Ordering::Relaxed);
    assert_eq!(served.get("/ready").0, 503);
    let health = served.json("/health");
    assert_eq!((health["status"].as_str(), health["version"].as_str()), (Some("ok"), Some("1.2.3")));
}

#[test]
fn every_name_of_every_tally_is_in_the_metrics() {
    fn names<K: Named>(family: &str, label: &str) -> Vec<String> {
        K::ALL.iter().map(|what| format!("lakh_{family}_total{{{label}=\"{}\"}} 0", what.name())).collect()
    }
    let text = served().get("/metrics").1;
    let expected = [
        names::<crate::conn::Parting>("partings", "reason"),
        names::<crate::mcp::Fault>("faults", "fault"),
        names::<crate::mcp::Ignored>("messages_ignored", "reason"),
        names::<crate::wire::envelope::Defect>("defects", "defect"),
        names::<crate::wire::ws::Violation>("websocket_violations", "rule"),
        names::<crate::wire::dialect::Stranger>("strangers", "spoke"),
        names::<crate::wire::http::Refusal>("http_refusals", "reason"),
        names::<crate::guard::Refusal>("refusals", "reason"),
        names::<monitor::Alarm>("alarms", "alarm"),
        names::<monitor::capacity::Posting>("webhook_posts", "outcome"),
    ];
    for line in expected.concat() {
        assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
    }
    for part in crate::meter::Part::ALL {
        assert!(text.contains(&format!("lakh_part_bytes{{part=\"{}\"}}", part.name())), "{}", part.name());
    }
}

#[test]
fn metrics_tell_what_was_counted() {
    let served = serve_house(Config::default(), 2);
    let seat = served.windows.house.seats.take().expect("free");
    served.windows.house.ledger.partings.add_n(crate::conn::Parting::SlowReader, 7);
    served.windows.house.seats.refusals.add_n(crate::guard::Refusal::HouseFull, 4);
    served.berths[1].meter.open.set(42);
    served.berths[1].meter.bytes_in.set(99);
    served.berths[1].meter.lag.record(Duration::from_millis(250));
    take_readings(&served);
    let (status, head, text) = served.get_with("/metrics", "");
    assert!(status == 200 && head.contains("application/openmetrics-text"), "{head}");
    for line in [
        "lakh_build_info{version=\"1.2.3\"} 1",
        "lakh_ready 1",
        "lakh_partings_total{reason=\"slow_reader\"} 7",
        "lakh_refusals_total{reason=\"house_full\"} 4",
        "lakh_seats_taken{of=\"connections\"} 1",
        "lakh_seats_max{of=\"calls_in_flight\"} 100",
        "lakh_connections_open{shard=\"0\"} 0",
        "lakh_connections_open{shard=\"1\"} 42",
        "lakh_received_bytes_total{shard=\"1\"} 99",
        "lakh_loop_lag_worst_seconds{shard=\"1\"} 0.25",
        "lakh_loop_lag_seconds{quantile=\"1\"} 0.25",
        "lakh_alarm_raised{alarm=\"loop_lag\"} 1",
        "lakh_alarms_total{alarm=\"loop_lag\"} 1",
        "lakh_child_restarts_total{group=\"shards\",child=\"shard-0\"} 3",
        "lakh_child_state{group=\"shards\",child=\"shard-0\",state=\"running\"} 1",
        "lakh_pool_reuse_ratio{pool=\"slots\"} 1.0",
        "lakh_upstream_state{upstream=\"files\",state=\"ready\"} 1",
        "lakh_upstream_state{upstream=\"files\",state=\"down\"} 0",
        "lakh_upstream_calls_total{upstream=\"files\"} 9",
        "lakh_upstream_troubles_total{upstream=\"files\",kind=\"overloaded\"} 3",
        "lakh_upstream_troubles_total{upstream=\"files\",kind=\"mute\"} 0",
        "lakh_call_errors_total{upstream=\"files\",name=\"read\"} 1",
        "lakh_call_duration_us_total{upstream=\"files\",name=\"read\"} 7",
    ] {
        assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("lakh_memory_bytes{kind=\"resident\"}") && text.contains("lakh_kernel_bytes{kind=\"slab\"}"));
    assert!(text.contains("\nprocess_resident_memory_bytes "));
    assert!(text.ends_with("# EOF\n"));
    drop(seat);
}

fn take_readings(served: &Served) {
    let mut window = LagWindow::default();
    let shards = served.berths.iter().map(|berth| &*berth.meter);
    let readings = Readings::take(shards, &mut window).expect("own figures");
    let mut profiler = served.windows.profiler.lock().expect("not poisoned");
    profiler.handle_readings(Duration::from_secs(1), &readings);
}

#[test]
fn the_tree_is_json_or_a_drawing() {
    let served = served();
    assert_eq!(served.json("/tree")["groups"][0]["children"][0]["restarts"], 3);
    assert!(served.get("/tree?format=text").1.contains("`-- shard-0  running for 5 s, 3 restarts"));
    assert!(served.get_with("/tree", "Accept: text/plain\r\n").2.starts_with("lakh\n"));
    assert_eq!(served.get("/tree?format=svg").0, 400);
}

#[test]
fn the_profile_is_the_report_and_the_history_its_snapshots() {
    let served = served();
    served.berths[0].meter.open.set(12);
    take_readings(&served);
    assert_eq!(served.json("/profile")["now"]["connections"], 12);
    assert!(served.get("/profile?format=text").1.starts_with("12 connections, up 1 s\n"));
    // As `lakh profile` asks.
    let (_, head, text) = served.send("GET /profile?format=text HTTP/1.0\r\nHost: 127.0.0.1:7625\r\n\r\n");
    assert!(text.starts_with("12 connections") && !head.contains("chunked"), "{head}");
    assert_eq!(served.json("/profile/history")[0]["connections"], 12);
}

#[test]
fn a_profiler_that_is_held_does_not_hold_the_rest() {
    let served = served();
    let held = served.windows.profiler.lock().expect("not poisoned");
    let (status, head, _) = served.get_with("/profile", "");
    assert!(status == 503 && head.contains("retry-after: 1"), "{status} {head}");
    let (status, metrics) = served.get("/metrics");
    assert!(status == 200 && metrics.contains("lakh_partings_total") && !metrics.contains("lakh_alarm_raised"));
    drop(held);
    assert_eq!(served.get("/profile").0, 200);
}

#[test]
fn names_of_others_and_their_pages_are_refused() {
    let served = served();
    let ask = |head: &str| served.send(&format!("GET /tree HTTP/1.1\r\nConnection: close\r\n{head}\r\n")).0;
    for own in ["Host: 127.0.0.1:7625\r\n", "Host: [::1]\r\n", "Host: LOCALHOST\r\nOrigin: http://localhost:3000\r\n"] {
        assert_eq!(ask(own), 200, "{own}");
    }
    for foreign in ["Host: rebound.example\r\n", "Host: localhost\r\nOrigin: https://evil.example\r\n"] {
        assert_eq!(ask(foreign), 403, "{foreign}");
    }
    assert_eq!(ask(""), 400);
    let (status, ..) =
        served.send("GET http://evil.example/tree HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(status, 403);

    let open = serve_house(Config { hosts_allowed: vec!["lakh.example".into()], ..Config::default() }, 1);
    let asked = open.send("GET /health HTTP/1.1\r\nHost: lakh.example:7625\r\nConnection: close\r\n\r\n");
    assert_eq!(asked.0, 200, "{}", asked.2);
}

/// A shard with two connections to tell of.
struct Two {
    stopped: bool,
}

fn resident(key: u64, outbox: usize, messages_in: u64) -> Resident {
    let bytes = Breakdown { slot: 100, outbox, ..Breakdown::default() };
    Resident { shard: 0, key, peer: None, dialect: "line", age_s: 1, messages_in, in_flight: 0, bytes }
}

impl Tenants for Two {
    fn arrive(&mut self, _: &mut Desk<'_>, _: mio::net::TcpStream, _: SocketAddr) {}
    fn accept_failed(&mut self, _: &io::Error) {}
    fn ready(&mut self, _: &mut Desk<'_>, _: Key, _: Readiness) {}
    fn letters(&mut self, _: &mut Desk<'_>, _: Key, _: impl Iterator<Item = Letter>) {}
    fn deadline(&mut self, _: &mut Desk<'_>, _: Key) {}
    fn order(&mut self, _: &mut Desk<'_>, order: Order) {
        match order {
            Order::Census { reply, .. } => {
                let _ = reply.try_send(vec![resident(1, 5_000, 2), resident(2, 0, 900)]);
            }
            _ => self.stopped = true,
        }
    }
    fn publish(&mut self, _: &Desk<'_>) {}
    fn finished(&self) -> bool {
        self.stopped
    }
}

#[test]
fn the_largest_and_the_busiest_are_listed_though_a_shard_hangs() {
    let served = serve_house(Config::default(), 2);
    let berth = Arc::clone(&served.berths[0]);
    let shard = thread::spawn(move || {
        let listener = mio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        actor::run(&berth, listener, 10, &mut Two { stopped: false })
    });
    for _ in 0..3 {
        let standing = served.json("/connections?most=1");
        assert_eq!(standing["largest"][0]["key"], 1, "{standing}");
        assert_eq!(standing["largest"][0]["bytes_total"], 5_100);
        assert_eq!(standing["busiest"][0]["key"], 2);
        assert_eq!(standing["largest"].as_array().map(Vec::len), Some(1));
        assert_eq!(standing["silent_shards"], serde_json::json!([1]));
    }
    assert_eq!(served.berths[1].inbox.waiting(), 1, "one question waits, however often it was asked");
    served.berths[0].inbox.post(Mail::Order(Order::Stop));
    shard.join().expect("no panic").expect("no error");
}

#[test]
fn who_sends_half_a_request_is_cut_and_others_are_answered_meanwhile() {
    let served = serve_house(Config { patience_ms: 300, connections_max: 2, ..Config::default() }, 1);
    let mut dripping = served.connect();
    let (cut, when_cut) = channel();
    thread::spawn(move || {
        dripping.write_all(b"GET /health HTTP/1.1\r\nX-Slow: ").expect("sent");
        while dripping.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
        cut.send(()).expect("awaited");
    });
    assert_eq!(served.get("/health").0, 200);
    when_cut.recv_timeout(Duration::from_secs(5)).expect("cut");
    // The place it had is free again.
    let silent = served.connect();
    assert_eq!(served.get("/health").0, 200);
    drop(silent);
}

#[test]
fn a_request_longer_than_any_should_be_is_cut() {
    let served = served();
    let long = format!("X-Long: {}\r\n", "x".repeat(2_000));
    let (within, over) = (long.repeat(7), long.repeat(9));
    assert_eq!(served.get_with("/health", &within).0, 200);
    let mut socket = served.connect();
    let head = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{over}\r\n");
    let mut answer = Vec::new();
    let _ = socket.write_all(head.as_bytes()).and_then(|()| socket.read_to_end(&mut answer).map(drop));
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn an_unknown_knob_is_an_error() {
    assert!(toml::from_str::<Config>("listen = \"127.0.0.1:1\"\nport = 3").is_err());
    assert_eq!(toml::from_str::<Config>("").expect("all have defaults"), Config::default());
}
