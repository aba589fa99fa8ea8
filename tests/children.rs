//! What a child has started is gone soon after its gateway, however that ended: by the program itself.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A child that ignores the end of its stdin and SIGTERM, and so does what it starts: one in its process group, one in a
/// session of its own. It says all their process ids.
const STUBBORN: &str =
    "trap '' TERM; sleep 600 & a=$!; setsid sleep 600 & b=$!; echo $$ $a $b; while :; do sleep 1; done";

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// Whether all of them are gone within `within`.
fn gone(pids: &[String], within: Duration) -> bool {
    let until = Instant::now() + within;
    while pids.iter().any(|pid| is_alive(pid)) {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn minder(command: &[&str]) -> Command {
    let mut minder = Command::new(env!("CARGO_BIN_EXE_lakh"));
    minder.args(["mind", "--"]).args(command).stdin(Stdio::piped()).stdout(Stdio::piped());
    minder
}

fn pids(child: &mut Child) -> Vec<String> {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("its stdout")).read_line(&mut line).expect("a line");
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_minder_passes_bytes_both_ways_and_the_exit_code() {
    let mut child = minder(&["sh", "-c", "cat; exit 7"]).spawn().expect("started");
    let mut stdin = child.stdin.take().expect("its stdin");
    stdin.write_all(b"hello").expect("taken");
    drop(stdin);
    let output = child.wait_with_output().expect("ended");
    assert_eq!((output.stdout.as_slice(), output.status.code()), (b"hello".as_slice(), Some(7)));
}

#[test]
fn a_command_that_is_not_there_is_told_by_the_exit_code() {
    let status = minder(&["no-such-command"]).stderr(Stdio::null()).status().expect("started");
    assert_eq!(status.code(), Some(127));
}

#[test]
fn nobody_is_left_when_stdin_ends_however_stubborn() {
    let mut child = minder(&["sh", "-c", STUBBORN]).spawn().expect("started");
    let pids = pids(&mut child);
    assert!(pids.len() == 3 && pids.iter().all(|pid| is_alive(pid)), "{pids:?}");
    drop(child.stdin.take());
    assert!(gone(&pids, Duration::from_secs(2)), "{pids:?}");
    child.wait().expect("ended");
}

#[test]
fn nobody_is_left_when_the_minder_is_told_to_end() {
    let mut child = minder(&["sh", "-c", STUBBORN]).spawn().expect("started");
    let pids = pids(&mut child);
    let told = Command::new("kill").arg(child.id().to_string()).status().expect("kill");
    assert!(told.success());
    assert!(gone(&pids, Duration::from_secs(2)), "{pids:?}");
    child.wait().expect("ended");
}

#[test]
fn nobody_is_left_when_the_child_ends_before_its_own_children() {
    let mut child = minder(&["sh", "-c", "sleep 600 & echo $! ; exit 3"]).spawn().expect("started");
    let pids = pids(&mut child);
    assert_eq!(child.wait().expect("ended").code(), Some(3));
    assert!(gone(&pids, Duration::ZERO), "{pids:?}");
}

#[test]
fn nobody_is_left_after_a_kill_of_the_minders_parent() {
    // The shell in between is the parent; it holds the writing end of the minder's stdin, as a gateway does.
    let script = r#"mkfifo "$1"; "$0" mind -- sh -c "$2" < "$1" & exec 3> "$1"; rm "$1"; wait"#;
    let fifo = std::env::temp_dir().join(format!("lakh-children-{}", std::process::id()));
    let mut parent = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_lakh"), &fifo.to_string_lossy(), STUBBORN])
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let pids = pids(&mut parent);
    assert!(pids.len() == 3 && pids.iter().all(|pid| is_alive(pid)), "{pids:?}");
    parent.kill().expect("killed");
    parent.wait().expect("reaped");
    assert!(gone(&pids, Duration::from_secs(2)), "{pids:?}");
}
