//! `lakh catalogue` without a gateway: it shows what one would offer, names who does not come, and leaves nobody behind.

#[path = "peer/mod.rs"]
mod peer;

use std::net::TcpListener;
use std::process::{Command, Output};

use peer::{Peer, Process, call, eventually, request, scripted};
use serde_json::{Value, json};

fn catalogue(flags: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakh"));
    command.arg("catalogue").args(flags).envs(variables.iter().copied()).output().expect("lakh runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// The processes that have said "scripted server PID is there".
fn servers(log: &[u8]) -> Vec<String> {
    let said = text(log).lines().filter_map(|line| line.split_once("scripted server ")?.1.split_once(" is there"));
    said.map(|(pid, _)| pid.to_owned()).collect()
}

#[test]
fn it_shows_what_a_gateway_in_front_of_the_same_servers_shows() {
    let [one, two] = ["one", "two"].map(|name| format!("{name}={}", scripted()));
    let servers = ["--stdio", &one, "--stdio", &two];
    let lakh = Process::in_front_of(&servers, &[]);
    let admin = lakh.admin.to_string();
    for format in [&["--json"][..], &[]] {
        let own = catalogue(&[&servers[..], format].concat(), &[]);
        let running = catalogue(&[&["--admin", &admin][..], format].concat(), &[]);
        assert!(own.status.success() && running.status.success(), "{}", text(&own.stderr));
        assert_eq!(text(&own.stdout), text(&running.stdout));
        assert_eq!(text(&own.stdout).matches("two_echo").count(), 1);
    }
}

/// A gateway in front of two, of which one, `frail`, has died and does not come back; its entries stay for so long.
fn after_a_death(gone_ms: u64) -> (Process, Peer) {
    let command = scripted();
    let lakh = Process::with_file(&format!(
        "[catalogue]\ngone_ms = {gone_ms}\n[upstreams.well]\ncommand = {command:?}\n\
         [upstreams.frail]\ncommand = {command:?}\nrestart_ms_min = 60000\nrestart_ms_max = 60000\n"
    ));
    let mut peer = Peer::line(lakh.clients);
    let answer = peer.ask(&call(1, "frail_lie", &json!({"how":"die"})));
    assert_eq!(answer["error"]["data"]["upstream"], "frail", "{answer}");
    (lakh, peer)
}

#[test]
fn who_has_died_keeps_its_entries_for_a_while_and_is_marked() {
    let (lakh, mut peer) = after_a_death(300_000);
    let output = catalogue(&["--admin", &lakh.admin.to_string()], &[]);
    let lines: Vec<_> = text(&output.stdout).lines().collect();
    for name in ["well", "frail"] {
        let mut own = lines.iter().filter(|line| line.contains(&format!("{name}_"))).peekable();
        assert!(own.peek().is_some());
        assert!(own.all(|line| line.contains("(gone)") == (name == "frail")), "{lines:?}");
    }
    let output = catalogue(&["--json", "--admin", &lakh.admin.to_string()], &[]);
    let rows: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for row in rows.as_array().expect("a list") {
        assert_eq!(row["present"], row["upstream"] != "frail", "{row}");
    }
    let tools = peer.ask(&request(2, "tools/list", &json!({})))["result"]["tools"].to_string();
    assert!(tools.contains("frail_echo") && tools.contains("well_echo"), "{tools}");
    let refused = peer.ask(&call(3, "frail_echo", &json!({})))["error"].clone();
    assert_eq!((&refused["code"], &refused["data"]["upstream"]), (&json!(503), &json!("frail")), "{refused}");
}

#[test]
fn who_is_gone_for_too_long_leaves_the_catalogue_and_clients_are_told() {
    let (lakh, mut peer) = after_a_death(300);
    assert_eq!(peer.hear_message()["method"], "notifications/tools/list_changed");
    let output = catalogue(&["--admin", &lakh.admin.to_string()], &[]);
    let shown = text(&output.stdout);
    assert!(shown.contains(" well ") && !shown.contains("frail") && !shown.contains("(gone)"), "{shown}");
    let unknown = Peer::line(lakh.clients).ask(&call(2, "frail_echo", &json!({})))["error"].clone();
    assert_eq!(unknown["code"], -32602, "{unknown}");
}

#[test]
fn none_of_the_servers_is_left() {
    let output = catalogue(&["--stdio", &scripted()], &[("LAKH_LOG", "info")]);
    let pids = servers(&output.stderr);
    assert_eq!(pids.len(), 1, "{}", text(&output.stderr));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pids[0])).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
}

#[test]
fn who_does_not_come_is_named_and_the_others_are_shown() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let gone = format!("gone={free}");
    let output = catalogue(&["--stdio", &format!("here={}", scripted()), "--tcp", &gone], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("echo"), "{}", text(&output.stdout));
    let told = text(&output.stderr);
    assert!(told.contains("lakh catalogue: gone: cannot be reached") && told.contains(&free.to_string()), "{told}");
    assert!(!told.contains("here:"), "{told}");
}

#[test]
fn a_server_that_keeps_one_waiting_is_told_while_it_does() {
    // It takes what it is told, and says nothing: no listener of ours would be slower.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut child = Command::new(env!("CARGO_BIN_EXE_lakh"))
        .args(["catalogue", "--tcp", &format!("mute={}", mute.local_addr().expect("bound"))])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("lakh runs");
    let mut told = std::io::BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut told, &mut line).expect("a line");
    assert!(line.starts_with("waiting for mute ("), "{line}");
    child.kill().expect("it waits");
    assert!(eventually(|| child.try_wait().is_ok_and(|status| status.is_some())));
}

#[test]
fn a_file_names_servers_and_what_is_wrong_is_told_before_anything_is_started() {
    let file = std::env::temp_dir().join(format!("lakh-catalogue-{}.toml", std::process::id()));
    std::fs::write(&file, format!("[upstreams.filed]\ncommand = {:?}\n", scripted())).expect("a file");
    let path = file.display().to_string();
    let output = catalogue(&["--config", &path, "--json"], &[]);
    assert!(text(&output.stdout).contains(r#""upstream":"filed""#), "{}", text(&output.stderr));
    std::fs::write(&file, "[upstreams.filed]\n").expect("a file");
    let output = catalogue(&["--config", &path], &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("`upstreams.filed`"), "{}", text(&output.stderr));
    std::fs::remove_file(file).expect("it was there");
    let both = catalogue(&["--admin", "127.0.0.1:1", "--stdio", "x"], &[]);
    assert_eq!(both.status.code(), Some(64), "{}", text(&both.stderr));
}
