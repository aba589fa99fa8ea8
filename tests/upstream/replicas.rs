//! Servers that stand in for each other, through the wire: replicas by weight, one that dies or fails, fallbacks in order.

use std::collections::HashMap;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::front::shown;
use crate::peer::{Peer, Process, call, eventually, request, scripted, text_of};

/// A section for a server of its own.
fn section(name: &str, knobs: &str) -> String {
    format!("[upstreams.{name}]\ncommand = {:?}\n{knobs}\n", scripted())
}

/// The process that answers this.
fn pid(answer: &Value) -> i64 {
    let told: Value = serde_json::from_str(text_of(answer)).expect("JSON");
    told["pid"].as_i64().expect("a number")
}

fn who(peer: &mut Peer, tool: &str) -> i64 {
    pid(&answered(peer, &call(9_000, tool, &json!({}))))
}

/// The answer, past news that lists have changed.
fn answered(peer: &mut Peer, message: &Value) -> Value {
    peer.say(message);
    loop {
        let heard = peer.hear_message();
        if !heard["id"].is_null() {
            return heard;
        }
    }
}

fn signal(server: i64, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(server).expect("a pid")), signal).expect("it was there");
}

/// Servers that can be kept from coming back: each lives while its file is there.
struct Mortal(PathBuf);

impl Mortal {
    fn new(name: &str) -> Self {
        let file = std::env::temp_dir().join(format!("lakh-mortal-{name}-{}", std::process::id()));
        std::fs::write(&file, "").expect("a file");
        Self(file)
    }

    fn section(&self, name: &str, knobs: &str) -> String {
        let script = format!("test -e {} && exec {}", self.0.display(), scripted());
        format!("[upstreams.{name}]\ncommand = [\"sh\", \"-c\", {script:?}]\nrestart_ms_max = 200\n{knobs}\n")
    }

    fn dies(&self, server: i64) {
        std::fs::remove_file(&self.0).expect("it was there");
        signal(server, Signal::SIGKILL);
    }

    fn lives(&self) {
        std::fs::write(&self.0, "").expect("a file");
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn is(lakh: &Process, upstream: &str, state: &str) -> bool {
    eventually(|| shown(lakh, upstream)["state"] == state)
}

#[test]
fn replicas_share_the_calls_by_weight_and_their_entries_are_shown_once() {
    let lakh = Process::with_file(&(section("a", "weight = 3") + &section("b", "replica_of = \"a\"")));
    assert!(is(&lakh, "a", "ready") && is(&lakh, "b", "ready"));
    let mut peer = Peer::line(lakh.clients);
    let tools = peer.ask(&request(1, "tools/list", &json!({})))["result"]["tools"].clone();
    let names: Vec<&str> = tools.as_array().expect("a list").iter().filter_map(|it| it["name"].as_str()).collect();
    assert_eq!(names, ["echo", "lie", "ask", "log", "touch", "grow", "told", "sleep"]);
    let mut counts: HashMap<i64, u32> = HashMap::new();
    (0..400).for_each(|_| *counts.entry(who(&mut peer, "told")).or_default() += 1);
    let mut counts: Vec<u32> = counts.into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [100, 300]);
    assert_eq!(shown(&lakh, "b")["replica_of"], "a");
}

#[test]
fn when_one_of_two_replicas_is_killed_under_load_every_call_ends_once_and_the_other_takes_over() {
    let mortal = Mortal::new("load");
    let lakh = Process::with_file(&(section("a", "") + &mortal.section("b", "replica_of = \"a\"")));
    assert!(is(&lakh, "a", "ready") && is(&lakh, "b", "ready"));
    let mut peers: Vec<Peer> = (0..8).map(|_| Peer::line(lakh.clients)).collect();
    let pids = [who(&mut peers[0], "told"), who(&mut peers[0], "told")];
    let (mut answered, mut failed) = (0, 0);
    // Weights are equal and the first goes first.
    let [other, b] = pids;
    for round in 0..20 {
        for peer in &mut peers {
            (1..=16).for_each(|id| peer.say(&call(id, "sleep", &json!({"ms":5,"text":id.to_string()}))));
        }
        if round == 5 {
            mortal.dies(b);
        }
        for peer in &mut peers {
            let mut ids: Vec<u64> = (1..=16).map(|_| heard(peer, &mut answered, &mut failed)).collect();
            ids.sort_unstable();
            assert_eq!(ids, (1..=16).collect::<Vec<_>>(), "each once");
        }
    }
    assert_eq!(answered + failed, 20 * 8 * 16);
    assert!(failed <= 128, "only what was in flight there: {failed}");
    assert!(is(&lakh, "a", "ready"), "the other one has noticed nothing");
    (0..10).for_each(|_| assert_eq!(who(&mut peers[0], "told"), other));
    mortal.lives();
    assert!(is(&lakh, "b", "ready"));
    assert!(eventually(|| who(&mut peers[0], "told") != other), "it is back");
}

/// The next answer: its id. One that is no result names the server that failed.
fn heard(peer: &mut Peer, answered: &mut usize, failed: &mut usize) -> u64 {
    let answer = peer.hear_message();
    if answer["result"].is_object() {
        *answered += 1;
        assert_eq!(text_of(&answer), answer["id"].to_string());
    } else {
        *failed += 1;
        assert_eq!(answer["error"]["data"]["upstream"], "b", "{answer}");
    }
    answer["id"].as_u64().expect("an id")
}

#[test]
fn a_replica_that_fails_is_out_for_a_while_and_reads_go_elsewhere() {
    let knobs = "call_ms = 200\nbreaker_ratio_percent = 0\neject_after = 3\neject_ms = 1500";
    let lakh = Process::with_file(&(section("a", knobs) + &section("b", &format!("replica_of = \"a\"\n{knobs}"))));
    assert!(is(&lakh, "a", "ready") && is(&lakh, "b", "ready"));
    let mut peer = Peer::line(lakh.clients);
    let stopped = who(&mut peer, "told");
    signal(stopped, Signal::SIGSTOP);
    // A read changes nothing: whoever gets it first, it is answered.
    for id in 1..=2 {
        let read = peer.ask(&request(id, "resources/read", &json!({"uri":"test://one"})));
        assert_eq!(read["result"]["contents"][0]["text"], "the text of test://one", "{read}");
    }
    let mut failed = 0;
    for id in 10..20 {
        failed += usize::from(peer.ask(&call(id, "echo", &json!({"text":"x"})))["error"].is_object());
    }
    assert!((1..=3).contains(&failed), "until it was out: {failed}");
    let out =
        ["a", "b"].map(|name| shown(&lakh, name)).into_iter().find(|it| it["ejections"] != 0).expect("one is out");
    assert_eq!(out["ejections"], 1, "{out}");
    let name = out["name"].as_str().expect("a name").to_owned();
    assert!(super::tells(&lakh, |line| line.starts_with("lakh_upstream_ejections_total") && line.contains(&name)));
    signal(stopped, Signal::SIGCONT);
    assert!(eventually(|| who(&mut peer, "told") == stopped), "its time is over, and it serves again");
}

#[test]
fn fallbacks_are_asked_in_order_and_only_if_they_have_what_is_asked_for() {
    let (first, second) = (Mortal::new("first"), Mortal::new("second"));
    let text = first.section("a", "fallback = [\"b\", \"c\"]") + &second.section("b", "") + &section("c", "");
    let lakh = Process::with_file(&format!("{text}\n[catalogue]\nprefix = \"always\"\n"));
    assert!(["a", "b", "c"].iter().all(|name| is(&lakh, name, "ready")));
    let mut peer = Peer::line(lakh.clients);
    let [a, b, c] = ["a_told", "b_told", "c_told"].map(|tool| who(&mut peer, tool));
    answered(&mut peer, &call(1, "a_grow", &json!({})));
    assert!(eventually(|| shown(&lakh, "a")["tools"] == 9), "one more than the others have");
    first.dies(a);
    assert!(eventually(|| shown(&lakh, "a")["state"] == "down"));
    assert_eq!(who(&mut peer, "a_told"), b);
    let missing = answered(&mut peer, &call(2, "a_grown-0", &json!({})));
    assert_eq!(missing["error"]["data"]["upstream"], "a", "nobody else has it: {missing}");
    second.dies(b);
    assert!(eventually(|| shown(&lakh, "b")["state"] == "down"));
    assert_eq!(who(&mut peer, "a_told"), c);
    let alone = answered(&mut peer, &call(3, "b_told", &json!({})));
    assert_eq!(alone["error"]["data"]["upstream"], "b", "it has none: {alone}");
    first.lives();
    assert!(is(&lakh, "a", "ready"));
    assert!(![b, c].contains(&who(&mut peer, "a_told")));
    assert!(shown(&lakh, "a")["passed_on"].as_u64() >= Some(2));
}

#[test]
fn what_is_refused_unsent_goes_on_and_is_cancelled_where_it_is() {
    let text = section("a", "in_flight_max = 1\nqueue_max = 0\nfallback = [\"b\"]") + &section("b", "");
    let lakh = Process::with_file(&format!("{text}\n[catalogue]\nprefix = \"always\"\n"));
    assert!(is(&lakh, "a", "ready") && is(&lakh, "b", "ready"));
    let (mut peer, mut leaves) = (Peer::line(lakh.clients), Peer::line(lakh.clients));
    peer.say(&call(1, "a_sleep", &json!({"ms":60_000})));
    assert!(eventually(|| shown(&lakh, "a")["in_flight"] == 1));
    assert_eq!(text_of(&peer.ask(&call(2, "a_echo", &json!({"text":"elsewhere"})))), "elsewhere");
    leaves.say(&call(1, "a_sleep", &json!({"ms":60_000})));
    assert!(eventually(|| shown(&lakh, "b")["in_flight"] == 1));
    drop(leaves);
    assert!(eventually(|| shown(&lakh, "b")["in_flight"] == 0), "it was cancelled where it had gone");
    assert_eq!(shown(&lakh, "a")["in_flight"], 1, "and not the other one");
    assert_eq!(shown(&lakh, "a")["passed_on"], 2);
    assert_eq!(shown(&lakh, "a")["errors"], 0);
}
