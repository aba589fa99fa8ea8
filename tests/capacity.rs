//! How full the house is, through the wire: `/capacity`, the metrics for an autoscaler, the webhook; and what is done when
//! memory is short.

mod peer;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use clap::Parser;
use lakh::actor::{Mail, Order};
use lakh::cli::{Cli, Command};
use lakh::config::{Config, gather};
use lakh::conn::{Connections, House};
use lakh::guard::Zone;
use lakh::monitor::capacity::Posting;
use serde_json::{Value, json};

use peer::{Gateway, PATIENCE, Peer, Shard, call, eventually, mcp, request, scripted};

/// What the admin port answers.
fn get(admin: SocketAddr, target: &str) -> String {
    let mut socket = TcpStream::connect(admin).expect("served");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{target}: {answer}");
    answer.split_once("\r\n\r\n").expect("an HTTP answer").1.to_owned()
}

fn capacity(gateway: &Gateway) -> Value {
    serde_json::from_str(&get(gateway.admin(), "/capacity")).expect("JSON")
}

/// The row of a resource.
fn row<'c>(capacity: &'c Value, resource: &str) -> &'c Value {
    let rows = capacity["resources"].as_array().expect("rows");
    rows.iter().find(|row| row["resource"] == resource).unwrap_or_else(|| panic!("{resource} is not in {capacity}"))
}

fn was_read(gateway: &Gateway) -> bool {
    eventually(|| capacity(gateway)["at_unix_ms"] != 0)
}

#[test]
fn each_resource_is_told_and_what_is_full_first() {
    let gateway = Gateway::start(|config| {
        config.guard.connections_max = 100;
        config.capacity.calm_s = 1;
    });
    assert!(was_read(&gateway));
    assert!(
        capacity(&gateway)["first_to_fill"]["unknown"]["why"].as_str().is_some_and(|why| why.contains("10 clients"))
    );
    let clients: Vec<Peer> = (0..80).map(|_| gateway.neighbour()).collect();
    assert!(eventually(|| row(&capacity(&gateway), "connection_seats")["used"] == 80));
    let now = capacity(&gateway);
    let seats = row(&now, "connection_seats");
    assert_eq!((&seats["limit"], &seats["headroom"], &seats["zone"]), (&json!(100), &json!(20), &json!("warning")));
    assert_eq!(seats["fill"]["at_clients"], 100);
    assert_eq!(now["first_to_fill"]["measured"]["resource"], "connection_seats");
    // Seats have a door of their own: nobody is refused for it before they are gone.
    assert_eq!((&now["house"], &now["clients"], &now["advice"]["scale"]), (&json!("safe"), &json!(80), &json!("stay")));
    let told =
        ["http_sessions", "calls_waiting", "watches", "buffered_bytes", "outbox_bytes", "replay_bytes", "descriptors"];
    for resource in told.into_iter().chain(["memory", "machine_memory", "tcp_memory", "loop_lag", "cpu"]) {
        assert!(row(&now, resource)["limit"].as_u64().is_some_and(|limit| limit > 0), "{resource}");
    }
    let memory = row(&now, "memory");
    assert!(memory["used"].as_u64().is_some_and(|rss| rss > 1 << 20), "{memory}");
    assert!(get(gateway.admin(), "/capacity?format=text").starts_with("80 clients; the house is safe"));
    let metrics = get(gateway.admin(), "/metrics");
    for line in [
        "lakh_zone{of=\"house\"} 0",
        "lakh_capacity_zone{resource=\"connection_seats\"} 1",
        "lakh_capacity_used{resource=\"connection_seats\"} 80",
        "lakh_capacity_limit{resource=\"connection_seats\"} 100",
        "lakh_capacity_clients 100",
        "lakh_scale_advice 0",
        "lakh_desired_replicas_ratio 1.0",
        "lakh_vital_level{vital=\"queue\"} 0",
    ] {
        assert!(metrics.lines().any(|written| written == line), "{line} is not in\n{metrics}");
    }
    drop(clients);
    assert!(eventually(|| row(&capacity(&gateway), "connection_seats")["zone"] == "safe"), "after the calm time");
}

#[test]
fn messages_that_are_answered_here_are_timed() {
    let gateway = Gateway::start(|_| {});
    assert!(was_read(&gateway));
    let mut client = gateway.neighbour();
    let timed = eventually(|| {
        (1_000..1_100).for_each(|id| client.say(&json!({"jsonrpc": "2.0", "id": id, "method": "ping"})));
        (0..100).for_each(|_| _ = client.hear_message());
        capacity(&gateway)["vitals"]["own_p99_ms"].as_f64().is_some()
    });
    assert!(timed, "{}", capacity(&gateway));
}

#[test]
fn calls_at_an_upstream_are_timed_and_its_places_counted() {
    let gateway = Gateway::start(|config| {
        let behind = lakh::upstream::config::Config { command: scripted(), ..Default::default() };
        config.upstreams.insert("scripted".into(), behind);
    });
    assert!(was_read(&gateway));
    let mut client = gateway.neighbour();
    let timed = eventually(|| {
        for id in 1_000..1_025 {
            client.ask(&call(id, "echo", &json!({"text": "x"})));
        }
        capacity(&gateway)["vitals"]["upstream_p95_ms"].as_f64().is_some()
    });
    let now = capacity(&gateway);
    assert!(timed, "{now}");
    assert_eq!((&now["vitals"]["errors_percent"], &now["house"]), (&json!(0.0), &json!("safe")));
    let alarms = now["alarms"].as_array().expect("a list");
    let slow = alarms.iter().find(|alarm| alarm["upstream"] == "scripted").unwrap_or_else(|| panic!("{now}"));
    assert_eq!((&slow["vital"], slow["value"].is_number()), (&json!("upstream_p95"), true), "{slow}");
    let metrics = get(gateway.admin(), "/metrics");
    assert!(metrics.contains("lakh_vital_level{vital=\"upstream_p95\",upstream=\"scripted\"} 0"), "{metrics}");
    assert!(eventually(|| row(&capacity(&gateway), "upstream_in_flight")["used"] == 0), "none is in flight any more");
    let places = row(&now, "upstream_in_flight");
    assert_eq!(places["upstream"], "scripted");
    assert!(places["limit"].as_u64().is_some_and(|limit| limit > 0), "{places}");
}

#[test]
fn memory_that_is_short_drives_the_house() {
    let gateway = Gateway::start(|config| config.capacity.memory_bytes_max = 1);
    assert!(eventually(|| gateway.house().pressure.house() == Zone::Emergency));
    assert_eq!(gateway.house().pressure.memory(), Zone::Emergency);
    let now = capacity(&gateway);
    assert_eq!((&now["house"], &now["memory"]), (&json!("emergency"), &json!("emergency")));
    assert_eq!(row(&now, "memory")["headroom"], 0);
}

#[test]
fn a_shard_that_is_told_to_gives_back_what_it_keeps() {
    let guard = lakh::guard::Config { connections_max: 600, ..lakh::guard::Config::default() };
    let config = lakh::conn::Config { preallocated: 0, ..lakh::conn::Config::default() };
    let house = Arc::new(House::new(config, lakh::wire::Config::default(), &guard, 1));
    let mcp = mcp(&house);
    let shard = Shard::run(move || Connections::new(house, 600, mcp));
    let slots = || shard.berth.meter.pool.read();
    let clients: Vec<Peer> = (0..500).map(|_| Peer::line(shard.clients)).collect();
    assert!(eventually(|| slots().in_use == 500));
    drop(clients);
    assert!(eventually(|| slots().in_use == 0 && slots().available >= 500), "{:?}", slots());
    shard.berth.inbox.post(Mail::Order(Order::Shrink));
    assert!(eventually(|| slots().available == 0), "{:?}", slots());
    // And goes on.
    drop(Peer::line(shard.clients));
}

#[test]
fn requests_that_cost_no_call_of_their_own_are_told_apart_and_few_of_them_are_an_alarm() {
    let gateway = Gateway::start(|config| {
        let behind = lakh::upstream::config::Config { command: scripted(), ..Default::default() };
        config.upstreams.insert("scripted".into(), behind);
        config.capacity.window_s = 60;
    });
    assert!(was_read(&gateway));
    let mut client = gateway.neighbour();
    let mut ask = |count: u64, method: &str, params: Value| {
        for first in (0..count).step_by(50) {
            (first..first + 50).for_each(|id| client.say(&request(id, method, &params)));
            (0..50).for_each(|_| assert!(client.hear_message()["result"].is_object()));
        }
    };
    ask(500, "tools/list", json!({}));
    let vital = || capacity(&gateway)["vitals"]["cache_hits_percent"].clone();
    let counted = |name: &str, count: u64| {
        eventually(|| get(gateway.admin(), "/metrics").lines().any(|line| line == format!("{name} {count}")))
    };
    assert!(counted("lakh_lists_total", 500));
    ask(450, "ping", json!({}));
    assert_eq!(vital(), Value::Null, "too few to say");
    ask(550, "tools/list", json!({}));
    assert!(eventually(|| vital() == 100.0), "the catalogue answers all of them: {}", capacity(&gateway));
    let read = |id: u64| request(id, "resources/read", &json!({"uri": format!("test://slow/{id}0")}));
    for id in 0..1_050 {
        assert!(client.ask(&read(id % 2))["result"].is_object());
    }
    assert!(counted("lakh_upstream_reads_total{upstream=\"scripted\"}", 1_050), "each was alone");
    assert!(eventually(|| vital().as_f64().is_some_and(|percent| (49.0..51.0).contains(&percent))), "{}", vital());
    let raised = "lakh_vital_level{vital=\"cache_hits\"} 1";
    assert!(eventually(|| get(gateway.admin(), "/metrics").lines().any(|line| line == raised)));
}

/// The values of this key in a manifest, without quotes.
fn values<'m>(manifest: &'m str, key: &'m str) -> impl Iterator<Item = &'m str> {
    let lines = manifest.lines().filter(|line| !line.trim_start().starts_with('#'));
    let values = lines.filter_map(move |line| line.trim_start().trim_start_matches("- ").strip_prefix(key));
    values.map(|value| value.trim_start_matches(": ").trim_matches(['\'', '"']))
}

#[test]
fn the_kubernetes_manifest_says_what_this_program_knows() {
    let manifest = include_str!("kubernetes/autoscale.yaml");
    let gateway = Gateway::start(|_| {});
    assert!(was_read(&gateway));
    let metric = values(manifest, "name").find(|name| name.starts_with("lakh_")).expect("the metric");
    assert!(get(gateway.admin(), "/metrics").lines().any(|line| line.starts_with(&format!("{metric} "))), "{metric}");
    let query = values(include_str!("kubernetes/keda.yaml"), "query").next().expect("a query");
    assert!(query.contains(&format!("({metric}{{")), "{query}");
    for path in values(manifest, "path") {
        get(gateway.admin(), path);
    }
    let knobs = values(manifest, "name").filter(|name| name.starts_with("LAKH_")).map(str::to_owned);
    let knobs: Vec<_> = knobs.zip(values(manifest, "value").map(str::to_owned)).collect();
    assert_eq!(knobs.len(), 3);
    let args = values(manifest, "args").next().expect("arguments");
    let args: Vec<String> = serde_json::from_str(args).expect("a list");
    let cli = Cli::try_parse_from(std::iter::once("lakh").chain(args.iter().map(String::as_str))).expect("its flags");
    let Some(Command::Serve(serve)) = cli.command else { panic!("serve") };
    let config = gather(&serve, knobs).expect("each is a knob and has a meaning").config;
    assert_eq!((config.guard.connections_max, &config.admin.hosts_allowed[..]), (50_000, &["*".to_owned()][..]));
    let ports: Vec<u16> = values(manifest, "containerPort").map(|port| port.parse().expect("a port")).collect();
    assert_eq!(ports, [config.listen.port(), config.admin.listen.port()]);
    let grace: u64 = values(manifest, "terminationGracePeriodSeconds").next().expect("it").parse().expect("a number");
    assert!(1_000 * grace > config.drain_ms, "calls in flight have their time");
}

/// A receiver of posts that answers these statuses, one each, then 204; with what was posted to where.
fn receiver(statuses: &'static [u16]) -> (SocketAddr, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let (posted, posts) = sync_channel(64);
    let serve = move || {
        let mut statuses = statuses.iter();
        for socket in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(&socket);
            let (mut target, mut length) = (String::new(), 0);
            reader.read_line(&mut target).expect("a request");
            for line in reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
                let line = line.to_lowercase();
                length =
                    line.strip_prefix("content-length: ").map_or(length, |number| number.parse().expect("a number"));
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let status = statuses.next().unwrap_or(&204);
            let _ = (&socket).write_all(format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n").as_bytes());
            if posted.send((target, serde_json::from_slice(&body).expect("JSON"))).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().spawn(serve).expect("a thread");
    (address, posts)
}

fn with_webhook(to: SocketAddr) -> impl FnOnce(&mut Config) {
    move |config| {
        config.capacity.memory_bytes_max = 1;
        config.alarms.webhook = format!("http://{to}/hooks/secret?of=lakh");
    }
}

#[test]
fn an_alarm_is_posted_until_it_is_taken() {
    let (address, posts) = receiver(&[503, 500]);
    let gateway = Gateway::start(with_webhook(address));
    let heard = || posts.recv_timeout(PATIENCE).expect("a post");
    let (target, first) = heard();
    assert_eq!(target, "POST /hooks/secret?of=lakh HTTP/1.1\r\n");
    assert_eq!((&first["about"], &first["name"], &first["level"]), (&json!("zone"), &json!("memory"), &json!(3)));
    assert_eq!((&first["is_worse"], &first["gateway"]["version"]), (&json!(true), &json!(env!("CARGO_PKG_VERSION"))));
    assert!(first["text"].as_str().is_some_and(|text| text.starts_with("memory is emergency: ")), "{first}");
    assert_eq!((heard().1, heard().1), (first.clone(), first), "failed twice, then taken");
    let (_, second) = heard();
    assert_eq!((&second["about"], &second["name"]), (&json!("vital"), &json!("memory")), "each is posted once");
    let posted = "lakh_webhook_posts_total{outcome=\"taken\"} 2";
    assert!(eventually(|| get(gateway.admin(), "/metrics").lines().any(|line| line == posted)));
    assert!(get(gateway.admin(), "/metrics").contains("lakh_webhook_posts_total{outcome=\"retried\"} 2"));
    assert!(!get(gateway.admin(), "/tree").contains("secret") && !get(gateway.admin(), "/capacity").contains("secret"));
}

#[test]
fn a_receiver_that_does_not_want_it_is_asked_once() {
    let (address, posts) = receiver(&[404]);
    let gateway = Gateway::start(with_webhook(address));
    let names = [posts.recv_timeout(PATIENCE), posts.recv_timeout(PATIENCE)].map(|post| post.expect("a post").1);
    assert_eq!((&names[0]["about"], &names[1]["about"]), (&json!("zone"), &json!("vital")));
    let outcome = lakh::meter::Named::name(Posting::Refused);
    let refused = format!("lakh_webhook_posts_total{{outcome=\"{outcome}\"}} 1");
    assert!(eventually(|| get(gateway.admin(), "/metrics").contains(&refused)));
}

#[test]
fn a_webhook_that_is_none_is_an_error_that_does_not_show_it() {
    for url in ["ftp://hooks.example/secret", "${LAKH_TEST_NOBODY_SETS_THIS}/secret"] {
        let mut config = Config::default();
        config.alarms.webhook = url.into();
        let wrong = config.webhook().err().expect("no URL").to_string();
        assert!(wrong.starts_with("`alarms.webhook` ") && !wrong.contains("secret"), "{wrong}");
    }
    assert!(Config::default().webhook().is_ok_and(|none| none.is_none()));
}
