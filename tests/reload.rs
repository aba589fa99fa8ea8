//! A changed file, put in force by a word to a running gateway: what changes does, and nobody is parted.

mod peer;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use lakh::admin::Unreloaded;
use lakh::config::Config;
use lakh::guard::TenantConfig;
use lakh::tree::{Ground, Tree};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use peer::http::Http;
use peer::{PATIENCE, Peer, Process, call, eventually, request, scripted, text_of, upgrade};

/// A gateway and the file that it was started with.
struct Reloadable {
    lakh: Process,
    file: PathBuf,
}

impl Reloadable {
    fn start(name: &str, knobs: &str) -> Self {
        let file = std::env::temp_dir().join(format!("lakh-reload-{name}-{}.toml", std::process::id()));
        fs::write(&file, knobs).expect("a file");
        let lakh = Process::in_front_of(&["--config", file.to_str().expect("text")], &[]);
        Self { lakh, file }
    }

    fn write(&self, knobs: &str) {
        fs::write(&self.file, knobs).expect("a file");
    }

    /// Status and body.
    fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let mut socket = TcpStream::connect_timeout(&self.lakh.admin, PATIENCE).expect("the admin");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        socket.write_all(request.as_bytes()).expect("asked");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("answered");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        (head[9..12].parse().expect("a status"), body.to_owned())
    }

    #[track_caller]
    fn reload(&self, knobs: &str) -> Value {
        self.write(knobs);
        let (status, body) = self.ask("POST", "/reload");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    fn upstreams(&self) -> Vec<(String, String)> {
        let all: Value = serde_json::from_str(&self.ask("GET", "/upstreams").1).expect("JSON");
        let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
        all.as_array().expect("a list").iter().map(|one| (text(one, "name"), text(one, "state"))).collect()
    }

    fn is_ready(&self, names: &[&str]) -> bool {
        let ready: Vec<_> = names.iter().map(|name| ((*name).to_owned(), "ready".to_owned())).collect();
        eventually(|| self.upstreams() == ready)
    }
}

impl Drop for Reloadable {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// An upstream of that name, a process of its own, with some more knobs.
fn section(name: &str, more: &str) -> String {
    format!("[upstreams.{name}]\ncommand = [{:?}]\n{more}\n", scripted())
}

/// The answer, past news that lists have changed.
fn answered(peer: &mut Peer, message: &Value) -> Value {
    peer.say(message);
    loop {
        let heard = peer.hear_message();
        if heard["id"] == message["id"] {
            return heard;
        }
        assert!(heard["id"].is_null(), "{heard}");
    }
}

fn tools(peer: &mut Peer) -> Vec<String> {
    let list = answered(peer, &request(900, "tools/list", &json!({})));
    let tools = list["result"]["tools"].as_array().expect("a list");
    tools.iter().filter_map(|tool| tool["name"].as_str().map(Into::into)).collect()
}

/// The process that answers under this name.
fn pid(peer: &mut Peer, tool: &str) -> Value {
    let told = answered(peer, &call(901, tool, &json!({})));
    serde_json::from_str::<Value>(text_of(&told)).expect("JSON")["pid"].clone()
}

#[test]
fn upstreams_come_change_and_go_and_clients_stay() {
    let a = section("a", "");
    let gateway = Reloadable::start("stay", &a);
    let (mut client, mut busy) = (Peer::line(gateway.lakh.clients), Peer::line(gateway.lakh.clients));
    let first = pid(&mut client, "told");
    busy.say(&call(1, "sleep", &json!({"ms": 3_000})));
    assert!(busy.is_answered(2));

    let told = gateway.reload(&(a.clone() + &section("b", "")));
    assert_eq!((&told["added"], &told["removed"], &told["restarted"]), (&json!(["b"]), &json!([]), &json!([])));
    assert!(gateway.is_ready(&["a", "b"]));
    assert!(eventually(|| tools(&mut client).contains(&"b_echo".to_owned())), "both have one, so both have a prefix");
    assert_eq!(pid(&mut client, "a_told"), first, "one that is as it was lives on");
    let second = pid(&mut client, "b_told");
    let answer = loop {
        let heard = busy.hear_message();
        if heard["id"] == 1 {
            break heard;
        }
    };
    assert!(answer["result"].is_object(), "a call in flight is answered: {answer}");

    let told = gateway.reload(&(a.clone() + &section("b", "call_ms = 5000")));
    assert_eq!((&told["added"], &told["removed"], &told["restarted"]), (&json!([]), &json!([]), &json!(["b"])));
    assert!(gateway.is_ready(&["a", "b"]));
    assert!(eventually(|| answered(&mut client, &call(3, "b_echo", &json!({})))["result"].is_object()));
    assert_ne!(pid(&mut client, "b_told"), second, "one that has changed is started anew");
    assert_eq!(pid(&mut client, "a_told"), first);

    let told = gateway.reload(&section("b", "call_ms = 5000"));
    assert_eq!((&told["removed"], &told["restarted"]), (&json!(["a"]), &json!([])));
    assert!(eventually(|| tools(&mut client).first() == Some(&"echo".to_owned())), "alone, it needs no prefix");
    assert!(gateway.is_ready(&["b"]));
    let told = gateway.reload("");
    assert_eq!(told["removed"], json!(["b"]));
    assert_eq!(tools(&mut client), ["echo", "add", "sleep", "blob", "stats"], "nothing is behind it any more");
    assert!(client.is_answered(9));
}

#[test]
fn a_broken_file_changes_nothing_and_says_why() {
    let a = section("a", "");
    let gateway = Reloadable::start("broken", &a);
    let mut client = Peer::line(gateway.lakh.clients);
    let before = pid(&mut client, "told");
    for (file, words) in [
        ("[upstreams.a", "TOML"),
        ("[upstreams.a]\ncomand = \"x\"", "did you mean `upstreams.a.command`"),
        ("[upstreams.a]", "`upstreams.a` does not say where"),
        ("[upstreams.a]\nhttp = \"http://h/${LAKHS_NO_SUCH}\"", "${LAKHS_NO_SUCH}"),
        ("[conn]\noutbox_bytes_low = 999999999", "`conn.outbox_bytes_low`"),
    ] {
        gateway.write(file);
        let (status, why) = gateway.ask("POST", "/reload");
        assert!(
            status == 422 && why.starts_with("nothing is changed: ") && why.contains(words),
            "{file}: {status} {why}"
        );
        assert_eq!(pid(&mut client, "told"), before, "{file}");
    }
    fs::remove_file(&gateway.file).expect("it was there");
    assert_eq!(gateway.ask("POST", "/reload").0, 422);
    gateway.write(&a);
    let told = gateway.reload(&a);
    assert!(["added", "removed", "restarted", "applied", "left"].iter().all(|what| told[what] == json!([])), "{told}");
}

#[test]
fn what_waits_for_a_restart_is_named() {
    let gateway = Reloadable::start("left", "drain_ms = 1000\n");
    let mut client = Peer::line(gateway.lakh.clients);
    let told = gateway
        .reload("drain_ms = 2000\nupstreams_start_ms = 5\n[catalogue]\nprefix = \"always\"\n[conn]\nidle_ms = 7\n");
    assert_eq!(told["applied"], json!(["catalogue.prefix"]));
    assert_eq!(told["left"], json!(["conn.idle_ms", "drain_ms", "upstreams_start_ms"]));
    assert!(client.is_answered(1));
}

#[test]
fn marks_and_levels_of_alarms_change_and_where_they_are_posted_does_not() {
    let gateway = Reloadable::start("alarms", "");
    let told =
        |what: &str| serde_json::from_str::<Value>(&gateway.ask("GET", "/capacity").1).expect("JSON")[what].clone();
    let zone_of_memory = || told("memory");
    assert!(eventually(|| told("at_unix_ms") != 0) && zone_of_memory() == "safe");
    let knobs = "[capacity]\nmemory_bytes_max = 1\n[alarms]\ncpu_percent = [1, 2, 3]\nwebhook = \"http://127.0.0.1:9/\"\n\
                 [monitor]\nlag_max_ms = 7\ninterval_ms = 5\n";
    let answer = gateway.reload(knobs);
    assert_eq!(answer["applied"], json!(["alarms.cpu_percent", "capacity.memory_bytes_max", "monitor.lag_max_ms"]));
    assert_eq!(answer["left"], json!(["alarms.webhook", "monitor.interval_ms"]));
    assert!(eventually(|| zone_of_memory() == "emergency"));
    let levels = || told("alarms").as_array().expect("a list").first().map(|alarm| alarm["levels"].clone());
    assert!(eventually(|| levels() == Some(json!([1.0, 2.0, 3.0]))), "{:?}", levels());
    let limits = gateway.ask("GET", "/profile").1;
    assert!(limits.contains("loop_lag") && limits.contains("\"limit\":7.0"), "{limits}");
}

#[test]
fn a_hangup_is_a_word_to_reload_too() {
    let gateway = Reloadable::start("hangup", "");
    let mut client = Peer::line(gateway.lakh.clients);
    assert_eq!(tools(&mut client).len(), 5);
    gateway.write(&section("a", ""));
    gateway.lakh.signal(Signal::SIGHUP);
    assert!(gateway.is_ready(&["a"]));
    assert!(eventually(|| tools(&mut client).contains(&"grow".to_owned())));
    gateway.write("no TOML");
    gateway.lakh.signal(Signal::SIGHUP);
    assert!(client.is_answered(3) && gateway.is_ready(&["a"]));
}

#[test]
fn log_directives_are_in_force_unless_they_are_none() {
    let wanted = Arc::new(Mutex::new(Config {
        listen: ([127, 0, 0, 1], 0).into(),
        shards: 1,
        log: "info".into(),
        ..Config::default()
    }));
    {
        let mut config = wanted.lock().expect("whole");
        config.admin.listen = ([127, 0, 0, 1], 0).into();
        config.guard.connections_max = 100;
    }
    let (source, heard) = (Arc::clone(&wanted), Arc::new(Mutex::new(Vec::new())));
    let hear = Arc::clone(&heard);
    let ground = Ground {
        reread: Some(Box::new(move || Ok(source.lock().expect("whole").clone()))),
        relog: Some(Box::new(move |log| {
            hear.lock().expect("whole").push(log.to_owned());
            if log == "bad" { Err("no directive".into()) } else { Ok(()) }
        })),
        ..Ground::default()
    };
    let config = wanted.lock().expect("whole").clone();
    let tree = Tree::plant_on(ground, config).expect("a gateway");
    wanted.lock().expect("whole").log = "debug".into();
    assert_eq!(tree.reload().expect("reloaded").applied, ["log"]);
    assert_eq!(tree.reload().expect("reloaded").applied, Vec::<String>::new(), "once is enough");
    wanted.lock().expect("whole").log = "bad".into();
    assert_eq!(tree.reload(), Err(Unreloaded::Refused("no directive".into())));
    assert_eq!(*heard.lock().expect("whole"), ["debug", "bad"]);
    // What is refused behind them takes them back: more tenants have come and gone than can be told apart.
    let tenants = |from: u32| (from..from + 40_000).map(|name| (name.to_string(), TenantConfig::default())).collect();
    {
        let mut config = wanted.lock().expect("whole");
        (config.log, config.tenants) = ("debug".into(), tenants(0));
        config.plans.entry("default".into()).or_default();
    }
    tree.reload().expect("so many can");
    {
        let mut config = wanted.lock().expect("whole");
        (config.log, config.tenants) = ("trace".into(), tenants(40_000));
    }
    let refused = tree.reload();
    assert!(matches!(&refused, Err(Unreloaded::Refused(why)) if why.contains("tenants")), "{refused:?}");
    assert_eq!(*heard.lock().expect("whole"), ["debug", "bad", "trace", "debug"]);
}

#[test]
fn a_gateway_without_a_file_takes_its_flags_again() {
    let lakh = Process::in_front_of_scripted(&[]);
    let gateway = Reloadable { lakh, file: PathBuf::from("/no/such/file") };
    let (status, told) = gateway.ask("POST", "/reload");
    assert!(status == 200 && told.contains("\"restarted\":[]"), "{status} {told}");
    assert!(gateway.is_ready(&["scripted"]));
}

/// A request of 2026-07-28.
fn modern(id: u64, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion":"2026-07-28",
        "io.modelcontextprotocol/clientCapabilities":{},
    });
    request(id, method, &params)
}

/// The next change of a resource that is told, past news that lists have changed.
fn updated(peer: &mut Peer) -> Value {
    loop {
        let heard = peer.hear_message();
        assert!(heard["id"].is_null(), "{heard}");
        if heard["method"] == "notifications/resources/updated" {
            return heard["params"].clone();
        }
    }
}

#[test]
fn what_clients_watch_is_watched_at_whoever_takes_the_servers_place() {
    const URI: &str = "test://one";
    for (speaks, flag) in [("legacy", "\"--legacy\""), ("modern", "\"--modern\"")] {
        let a = |more: &str| format!("[upstreams.a]\ncommand = [{:?}, {flag}]\n{more}\n", scripted());
        let gateway = Reloadable::start(&format!("watch-{speaks}"), &a(""));
        let [mut old, mut other] = [(); 2].map(|()| Peer::line(gateway.lakh.clients));
        let mut new = Peer::connect(gateway.lakh.clients);
        assert_eq!(answered(&mut old, &request(1, "resources/subscribe", &json!({"uri":URI})))["result"], json!({}));
        new.say(&modern(7, "subscriptions/listen", json!({"notifications":{"resourceSubscriptions":[URI]}})));
        assert_eq!(new.hear_message()["method"], "notifications/subscriptions/acknowledged");
        for call_ms in [5_000, 6_000] {
            gateway.reload(&a(&format!("call_ms = {call_ms}")));
            assert!(gateway.is_ready(&["a"]));
            let watches = |peer: &mut Peer| {
                let told = answered(peer, &call(2, "told", &json!({})))["result"]["content"].to_string();
                told.contains(URI)
            };
            assert!(eventually(|| watches(&mut other)), "the {speaks} server is asked to tell");
            assert!(answered(&mut other, &call(3, "touch", &json!({"uri":URI})))["result"].is_object());
            assert_eq!(updated(&mut old)["uri"], URI);
            assert_eq!(updated(&mut new)["_meta"]["io.modelcontextprotocol/subscriptionId"], 7);
        }
        drop(new);
        let unsubscribed = answered(&mut old, &request(4, "resources/unsubscribe", &json!({"uri":URI})));
        assert_eq!(unsubscribed["result"], json!({}));
        let told = |peer: &mut Peer| answered(peer, &call(5, "told", &json!({})))["result"]["content"].to_string();
        assert!(eventually(|| !told(&mut other).contains(URI)), "nobody watches any more");
    }
}

#[test]
fn what_a_client_watches_in_a_session_of_its_own_is_watched_in_the_next_one() {
    const URI: &str = "test://one";
    let a = |more: &str| section("a", &format!("sharing = \"per-session\"\n{more}"));
    let gateway = Reloadable::start("watch-own", &a(""));
    let mut client = Peer::line(gateway.lakh.clients);
    assert_eq!(answered(&mut client, &request(1, "resources/subscribe", &json!({"uri":URI})))["result"], json!({}));
    let before = pid(&mut client, "told");
    gateway.reload(&a("call_ms = 5000"));
    assert!(gateway.is_ready(&["a"]));
    let watches = |peer: &mut Peer| answered(peer, &call(2, "told", &json!({})))["result"]["content"].to_string();
    assert!(eventually(|| watches(&mut client).contains(URI)));
    assert_ne!(pid(&mut client, "told"), before);
    client.say(&call(3, "touch", &json!({"uri":URI})));
    let heard = [client.hear_message(), client.hear_message()];
    assert!(heard.iter().any(|heard| heard["params"]["uri"] == URI), "{heard:?}");
    answered(&mut client, &request(4, "resources/unsubscribe", &json!({"uri":URI})));
    assert!(eventually(|| !watches(&mut client).contains(URI)));
}

/// Whether a call is served, or how it is refused.
fn called(peer: &mut Peer, id: u64) -> Result<(), i64> {
    let answer = answered(peer, &call(id, "echo", &json!({"text": "x"})));
    answer["error"]["code"].as_i64().map_or(Ok(()), Err)
}

#[test]
fn plans_tenants_and_guards_change_and_whoever_is_in_stays() {
    const KEY: &str = "X-API-Key: gold-key\r\n";
    let acme = |plan: &str| format!("[tenants.acme]\nplan = \"{plan}\"\nkeys = [\"gold-key\"]\n");
    let few = "[plans.default]\ntenant_calls_per_minute = 2\n[plans.gold]\n";
    let gateway = Reloadable::start("plans", &(few.to_owned() + &acme("gold")));
    let to = gateway.lakh.clients;
    let (mut plain, mut gold) = (Peer::line(to), Peer::upgraded_with(to, KEY));
    let mut session = Http::open(to, "2025-11-25");
    assert_eq!([1, 2, 3].map(|id| called(&mut plain, id)), [Ok(()), Ok(()), Err(429)]);
    assert!((1..9).all(|id| called(&mut gold, id).is_ok()));

    let strict = "[plans.default]\n[plans.gold]\ntenant_connections_max = 1\nbytes_per_minute = 200000000\n\
                  [plans.lead]\ntenant_calls_per_minute = 1\n[guard]\nsessions_max = 1\nretry_after_ms = 7000\n";
    let told = gateway.reload(&(strict.to_owned() + &acme("gold")));
    let applied = [
        "guard.retry_after_ms",
        "guard.sessions_max",
        "plans.default.tenant_calls_per_minute",
        "plans.gold.bytes_per_minute",
        "plans.gold.tenant_connections_max",
        "plans.lead",
    ];
    assert_eq!((&told["applied"], &told["left"]), (&json!(applied), &json!([])));
    assert!((11..19).all(|id| called(&mut plain, id).is_ok()), "no limit any more");
    let mut late = Peer::connect(to);
    late.send(upgrade(to).replacen("\r\n\r\n", &format!("\r\n{KEY}\r\n"), 1).as_bytes());
    let refusal = late.rest();
    assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.contains("\r\nRetry-After: 7\r\n"), "{refusal}");
    assert!(called(&mut gold, 20).is_ok(), "who came before the limit was there has the one seat");
    let info = json!({"name": "peer", "version": "1"});
    let open = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info});
    assert_eq!(Http::connect(to).post(&request(0, "initialize", &open)).status, 503, "one session is open");
    assert_eq!(session.post(&call(1, "echo", &json!({"text": "x"}))).status, 200, "and stays");

    // A tenant with another plan, by a hangup.
    gateway.write(&(strict.to_owned() + &acme("lead")));
    gateway.lakh.signal(Signal::SIGHUP);
    assert!(eventually(|| called(&mut gold, 21) == Err(429)));
    // A plan that is not there, though a tenant names it, is a mistake as at a start.
    gateway.write(&(few.to_owned() + &acme("lead")));
    let (status, why) = gateway.ask("POST", "/reload");
    assert!(status == 422 && why.contains("`tenants.acme.plan`"), "{status} {why}");
    assert_eq!(called(&mut gold, 22), Err(429));
    // A tenant that is none any more: those of it who are in have the default plan.
    gateway.reload("[plans.default]\n");
    assert!((31..39).all(|id| called(&mut gold, id).is_ok()));
    gateway.reload("[plans.default]\ntenant_calls_per_minute = 1\n");
    assert!((41..43).any(|id| called(&mut gold, id) == Err(429)), "they have it as it is now");
    assert!((41..43).any(|id| called(&mut plain, id) == Err(429)));
    let told = gateway.reload("[plans.default]\n[guard]\nconnections_max = 7\ndebtors_max = 7\n");
    assert_eq!(told["left"], json!(["guard.debtors_max"]), "the number of seats is set by the environment here");
}
