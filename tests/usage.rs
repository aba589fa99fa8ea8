//! What somebody reads who typed something that cannot be: what is wrong, what to do, and an exit code.

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

/// Nothing was begun.
const USAGE: i32 = 64;
/// It was begun, and failed.
const FAILED: i32 = 1;

fn lakh(line: &str) -> Output {
    lakh_with(line, &[])
}

fn lakh_with(line: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakh"));
    command.args(line.split_whitespace()).envs(variables.iter().copied()).output().expect("lakh runs")
}

#[track_caller]
fn told(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} in\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn words_and_flags_that_are_none() {
    told(&lakh("srve"), USAGE, &["srve", "Usage: lakh"]);
    told(&lakh("serve --shard 2"), USAGE, &["--shard", "--shards"]);
    told(&lakh("serve --listen localhost:7624"), USAGE, &["localhost:7624", "IP:PORT"]);
    told(&lakh("doctor --connections 0"), USAGE, &["--connections", "0"]);
    told(&lakh("simulate --connections 10 --steps 20"), USAGE, &["lakh simulate: ", "--steps", "--connections 10"]);
    told(&lakh("plan --clients 0"), USAGE, &["lakh plan: ", "`clients` = 0"]);
    told(&lakh("plan --shares own=0.5"), USAGE, &["lakh plan: ", "`shares`", "own=0.5"]);
    assert_eq!(lakh("--help").status.code(), Some(0));
    assert_eq!(lakh("--version").status.code(), Some(0));
}

#[test]
fn knobs_that_are_none() {
    told(&lakh("serve --config nowhere.toml"), USAGE, &["lakh serve: nowhere.toml", "--config"]);
    let idle = ("LAKH_CONN_IDEL_MS", "1");
    told(&lakh_with("print-config", &[idle]), USAGE, &["LAKH_CONN_IDEL_MS", "LAKH_CONN_IDLE_MS", "print-config"]);
    told(&lakh_with("serve", &[("LAKH_SHARDS", "two")]), USAGE, &["LAKH_SHARDS", "a whole number"]);
    told(&lakh_with("serve", &[("LAKH_LOG", "a=b=c")]), USAGE, &["`log` = \"a=b=c\"", "a level"]);
}

#[test]
fn more_than_the_host_holds() {
    let output = lakh("serve --connections-max 100000000");
    told(&output, USAGE, &["`guard.connections_max` = 100000000", "memory: ", "lakh doctor --connections 100000000"]);
}

#[test]
fn addresses_that_cannot_be_had() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("bound").to_string();
    let other = "--connections-max 10 --shards 1";
    let output = lakh(&format!("serve {other} --listen {taken} --admin 127.0.0.1:0"));
    told(&output, USAGE, &[&taken, "`listen`", "another lakh"]);
    let output = lakh(&format!("serve {other} --admin {taken} --listen 127.0.0.1:0"));
    told(&output, USAGE, &[&taken, "`admin.listen`", "another lakh"]);
    // TEST-NET-1: nobody's.
    let output = lakh(&format!("serve {other} --listen 192.0.2.1:7624 --admin 127.0.0.1:0"));
    told(&output, USAGE, &["192.0.2.1:7624", "no such address", "0.0.0.0"]);
}

#[test]
fn a_profile_of_nobody() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    told(
        &lakh(&format!("profile --admin {free}")),
        FAILED,
        &["lakh profile: nothing answers at", "lakh serve", "--admin"],
    );
    told(&lakh("profile --admin https://somewhere"), USAGE, &["lakh profile: https://somewhere", "http://HOST:PORT"]);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    for word in ["print-config", "doctor", "--help"] {
        let mut child =
            Command::new(env!("CARGO_BIN_EXE_lakh")).arg(word).stdout(Stdio::piped()).spawn().expect("lakh runs");
        drop(child.stdout.take());
        let status = child.wait().expect("it ends");
        // `doctor` may also say no.
        assert!(matches!(status.code(), Some(0 | 1)), "{word}: {status}");
    }
}
