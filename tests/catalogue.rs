//! `lakh catalogue` without a gateway: it shows what one would offer, names who does not come, and leaves nobody behind.

#[path = "peer/mod.rs"]
mod peer;

use std::net::TcpListener;
use std::process::{Command, Output};

use peer::{Process, eventually, scripted};

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
