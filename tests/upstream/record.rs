//! What the operator sees of each call: one line in the log, and a count under the name of a tool that there is.

use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::front::shown;
use crate::peer::{Peer, Process, call, eventually, request, scripted, text_of};

/// A gateway with this file that writes the line of each call, and nothing else, to its standard error.
fn telling(file: &str) -> (Process, impl Read + use<>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakh"));
    command.stderr(Stdio::piped());
    let knobs = [("LAKH_LOG", "off,lakh::upstream::record=debug"), ("NO_COLOR", "1")];
    let mut lakh = Process::with_file_as(command, file, &knobs);
    let log = lakh.stderr();
    (lakh, log)
}

/// One line of the log.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    upstream: String,
    tool: String,
    outcome: String,
    method: String,
    micros: u64,
    bytes_out: u64,
    bytes_in: u64,
}

impl Line {
    fn read(line: &str) -> Self {
        let field = |name: &str| {
            let (_, rest) = line.split_once(&format!(" {name}=")).unwrap_or_else(|| panic!("no {name}: {line}"));
            match rest.strip_prefix('"') {
                Some(text) => text.split('"').next().unwrap_or_default().to_owned(),
                None => rest.split(' ').next().unwrap_or_default().to_owned(),
            }
        };
        let number = |name: &str| field(name).parse().unwrap_or_else(|_| panic!("{name} is no number: {line}"));
        Self {
            upstream: field("upstream"),
            tool: field("tool"),
            outcome: field("outcome"),
            method: field("method"),
            micros: number("micros"),
            bytes_out: number("bytes_out"),
            bytes_in: number("bytes_in"),
        }
    }
}

/// What was told in the end, but for the calls of `told`.
fn lines(lakh: Process, mut log: impl Read) -> Vec<Line> {
    drop(lakh);
    let mut text = String::new();
    log.read_to_string(&mut text).expect("a log");
    let told = text.lines().filter(|line| line.contains("a call has ended")).map(Line::read);
    told.filter(|line| line.tool != "told").collect()
}

/// That these are the calls of an upstream that were told, in any order: tool and outcome.
#[track_caller]
fn assert_told(lines: &[Line], upstream: &str, calls: &[(&str, &str)]) {
    let of = lines.iter().filter(|line| line.upstream == upstream);
    let mut told: Vec<_> = of.map(|line| (&*line.tool, &*line.outcome)).collect();
    let mut calls = calls.to_vec();
    told.sort_unstable();
    calls.sort_unstable();
    assert_eq!(told, calls, "{upstream}");
}

fn cancel(id: u64) -> Value {
    json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":id}})
}

#[test]
fn each_call_has_one_line_in_the_log_however_it_ends() {
    let (lakh, log) = telling(&format!("[upstreams.scripted]\ncommand = {:?}\n", scripted()));
    let (mut peer, mut leaves) = (Peer::line(lakh.clients), Peer::line(lakh.clients));
    let works_for = |calls: u64| eventually(|| super::told(&mut Peer::line(lakh.clients))["pending"] == calls);
    assert_eq!(text_of(&peer.ask(&call(1, "echo", &json!({"text":"hi"})))), "hi");
    assert_eq!(peer.ask(&call(2, &"none ".repeat(100), &json!({})))["error"]["code"], -32602);
    assert!(peer.ask(&request(3, "resources/read", &json!({"uri":"test://one"})))["result"].is_object());
    assert_eq!(peer.ask(&call(4, "lie", &json!({"how":"failed"})))["result"]["isError"], true);
    for id in [5, 6] {
        peer.say(&request(id, "resources/read", &json!({"uri":"test://slow/500"})));
    }
    assert!(peer.hear_message()["result"].is_object() && peer.hear_message()["result"].is_object());
    peer.say(&call(7, "sleep", &json!({"ms":60_000})));
    leaves.say(&call(1, "sleep", &json!({"ms":60_000})));
    assert!(works_for(2));
    peer.say(&cancel(7));
    drop(leaves);
    assert!(works_for(0));
    let lines = lines(lakh, log);
    let long = "none ".repeat(13);
    assert_told(
        &lines,
        "scripted",
        &[
            ("echo", "result"),
            (&long[..64], "error"),
            ("test://one", "result"),
            ("lie", "tool_error"),
            ("test://slow/500", "result"),
            ("test://slow/500", "joined"),
            ("sleep", "cancelled"),
            ("sleep", "cancelled"),
        ],
    );
    for line in lines {
        let method = if line.tool.starts_with("test://") { "resources/read" } else { "tools/call" };
        assert_eq!(line.method, method, "{line:?}");
        let joined = line.outcome == "joined";
        assert!(joined || (line.bytes_out > 50 && line.micros > 0), "{line:?}");
        assert_eq!(line.bytes_in > 0, !joined && line.outcome != "cancelled", "{line:?}");
    }
}

#[test]
fn a_call_that_its_server_does_not_answer_has_its_line_too() {
    let command = scripted();
    let (lakh, log) = telling(&format!(
        "[upstreams.hasty]\ncommand = {command:?}\ncall_ms = 200\n\
         [upstreams.frail]\ncommand = {command:?}\nrestart_ms_min = 60000\nrestart_ms_max = 60000\n\
         [upstreams.narrow]\ncommand = {command:?}\nin_flight_max = 1\nqueue_max = 1\n"
    ));
    let mut peer = Peer::line(lakh.clients);
    let reason = |answer: Value| answer["error"]["data"]["reason"].clone();
    assert_eq!(reason(peer.ask(&call(1, "hasty_lie", &json!({"how":"nothing"})))), "mute");
    assert_eq!(reason(peer.ask(&call(2, "frail_lie", &json!({"how":"die"})))), "exited");
    let down = peer.ask(&call(3, "frail_echo", &json!({"text":"x"})));
    assert_eq!((&down["error"]["code"], reason(down.clone())), (&json!(503), json!("exited")));
    peer.say(&call(4, "narrow_sleep", &json!({"ms":60_000})));
    assert!(eventually(|| shown(&lakh, "narrow")["in_flight"] == 1));
    peer.say(&call(5, "narrow_echo", &json!({"text":"waits"})));
    assert!(eventually(|| shown(&lakh, "narrow")["queued"] == 1));
    assert_eq!(reason(peer.ask(&call(6, "narrow_log", &json!({})))), "queue_full");
    peer.say(&cancel(5));
    assert!(eventually(|| shown(&lakh, "narrow")["queued"] == 0));
    peer.say(&cancel(4));
    assert!(eventually(|| shown(&lakh, "narrow")["in_flight"] == 0));
    let lines = lines(lakh, log);
    assert_told(&lines, "hasty", &[("lie", "mute")]);
    assert_told(&lines, "frail", &[("lie", "exited"), ("echo", "exited")]);
    assert_told(&lines, "narrow", &[("sleep", "cancelled"), ("echo", "cancelled"), ("log", "queue_full")]);
    for line in lines {
        // These were never sent.
        let unsent = ["echo", "log"].contains(&&*line.tool);
        assert_eq!((line.bytes_out == 0, line.bytes_in), (unsent, 0), "{line:?}");
        assert!(line.outcome != "mute" || line.micros >= 200_000, "{line:?}");
    }
}

#[test]
fn a_call_that_waits_for_a_person_has_a_line_for_each_of_its_answers() {
    let command = scripted();
    let (lakh, log) = telling(&format!(
        "[upstreams.old]\ncommand = {command:?}\n[upstreams.new]\ncommand = \"{command} --modern\"\n"
    ));
    let mut modern = Peer::connect(lakh.clients);
    let ask = |id: u64, capabilities: Value, more: Value| {
        let mut params = json!({"name":"old_ask","arguments":{"text":"How many?"},"_meta":{
            "io.modelcontextprotocol/protocolVersion":"2026-07-28",
            "io.modelcontextprotocol/clientCapabilities":capabilities}});
        params.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        request(id, "tools/call", &params)
    };
    assert_eq!(modern.ask(&ask(1, json!({}), json!({})))["error"]["code"], -32021);
    let asked = modern.ask(&ask(2, json!({"elicitation":{}}), json!({})))["result"].clone();
    let key = asked["inputRequests"].as_object().and_then(|all| all.keys().next().cloned()).expect("a question");
    let reply = |state: &Value| json!({"requestState":state,"inputResponses":{&*key:{"action":"decline"}}});
    let elicitation = json!({"elicitation":{}});
    assert_eq!(modern.ask(&ask(3, elicitation.clone(), reply(&json!("forged"))))["error"]["code"], -32602);
    assert!(modern.ask(&ask(4, elicitation, reply(&asked["requestState"])))["result"].is_object());
    let mut legacy = Peer::capable(lakh.clients, &json!({"elicitation":{}}));
    legacy.say(&call(1, "new_ask", &json!({"text":"How many?"})));
    let question = legacy.hear_message();
    legacy.say(&json!({"jsonrpc":"2.0","id":question["id"],"error":{"code":-1,"message":"no"}}));
    assert_eq!(legacy.hear_message()["error"]["data"]["reason"], "client_refused");
    let unable = Peer::line(lakh.clients).ask(&call(1, "new_ask", &json!({"text":"How many?"})));
    assert_eq!(unable["error"]["data"]["reason"], "cannot_be_asked");
    let lines = lines(lakh, log);
    let outcomes = ["missing_capability", "input_required", "refused_state", "result"].map(|it| ("ask", it));
    assert_told(&lines, "old", &outcomes);
    assert_told(&lines, "new", &[("ask", "client_refused"), ("ask", "cannot_be_asked")]);
}

/// What is built in is an upstream like the others, to the operator.
#[test]
fn what_is_built_in_is_logged_shown_and_counted_as_the_others_are() {
    let (lakh, log) = telling("");
    let mut peer = Peer::line(lakh.clients);
    assert_eq!(text_of(&peer.ask(&call(1, "echo", &json!({"text":"hi"})))), "hi");
    assert_eq!(peer.ask(&call(2, "echo", &json!({})))["result"]["isError"], true);
    assert_eq!(Peer::line_in(lakh.clients, "2025-03-26").ask(&call(3, "add", &json!({})))["error"]["code"], -32602);
    assert!(peer.ask(&call(4, "sleep", &json!({"ms":20})))["result"].is_object());
    peer.say(&call(5, "sleep", &json!({"ms":60_000})));
    assert!(eventually(|| shown(&lakh, "embedded")["in_flight"] == 1));
    peer.say(&cancel(5));
    assert!(eventually(|| shown(&lakh, "embedded")["in_flight"] == 0));
    let view = shown(&lakh, "embedded");
    for (key, value) in [
        ("transport", json!("embedded")),
        ("state", json!("ready")),
        ("era", json!("both")),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("calls", json!(5)),
        ("errors", json!(1)),
        ("restarts", json!(0)),
        ("tools", json!(5)),
    ] {
        assert_eq!(view[key], value, "{key}: {view}");
    }
    for line in [
        "calls_total{upstream=\"embedded\",name=\"echo\"} 2",
        "calls_total{upstream=\"embedded\",name=\"sleep\"} 2",
        "call_errors_total{upstream=\"embedded\",name=\"add\"} 1",
        "upstream_calls_total{upstream=\"embedded\"} 5",
    ] {
        assert!(super::tells(&lakh, |it| it == format!("lakh_{line}")), "{line}");
    }
    let lines = lines(lakh, log);
    let calls =
        [("echo", "result"), ("echo", "tool_error"), ("add", "error"), ("sleep", "result"), ("sleep", "cancelled")];
    assert_told(&lines, "embedded", &calls);
    for line in lines {
        assert!(line.bytes_out > 0 && line.method == "tools/call", "{line:?}");
        assert_eq!(line.bytes_in > 0, line.outcome != "cancelled", "{line:?}");
        assert!(line.tool != "sleep" || line.outcome != "result" || line.micros >= 20_000, "{line:?}");
    }
}

/// Who calls hundreds of names that are none takes no name from the tools that there are.
#[test]
fn only_tools_that_there_are_are_counted_by_name() {
    let lakh = Process::in_front_of_scripted(&[]);
    let mut peer = Peer::line(lakh.clients);
    for id in 0..300 {
        assert_eq!(peer.ask(&call(id, &format!("none-{id}"), &json!({})))["error"]["code"], -32602);
    }
    assert_eq!(text_of(&peer.ask(&call(300, "echo", &json!({"text":"hi"})))), "hi");
    for (name, count) in [("echo", 1), ("other", 300)] {
        let line = format!("lakh_calls_total{{upstream=\"scripted\",name=\"{name}\"}} {count}");
        assert!(super::tells(&lakh, |it| it == line), "{line}");
    }
}
