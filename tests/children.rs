//! What a child has started is gone soon after its gateway, however that ended: by the program itself.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lakh::upstream::link::{Limits, Link, Target, What};
use lakh::upstream::minder;

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

/// A link to a stubborn child below a minder, and all their process ids; the minder's is the first.
async fn link() -> (Link, Vec<String>) {
    minder::set_program(env!("CARGO_BIN_EXE_lakh").into());
    let script = STUBBORN.replace("echo $$ $a $b", "echo \"[$PPID,$$,$a,$b]\"");
    let target = Target::Child { command: "sh".into(), args: vec!["-c".into(), script], env: vec![], cwd: None };
    let limits = Limits { message_bytes_max: 1 << 20, connect: Duration::from_secs(10), http_connections_max: 1 };
    let mut link = Link::open(&target, "stubborn", &limits).await.expect("started");
    link.fill().await.expect("a line");
    let Some(What::Message(line)) = link.next().map(|arrived| arrived.what) else { panic!("no message") };
    let line = String::from_utf8_lossy(line).into_owned();
    let pids: Vec<String> = line.trim_matches(['[', ']']).split(',').map(str::to_owned).collect();
    assert!(pids.len() == 4 && pids.iter().all(|pid| is_alive(pid)), "{pids:?}");
    (link, pids)
}

#[tokio::test]
async fn nobody_is_left_when_a_link_is_closed_or_dropped() {
    let (link, pids) = link().await;
    link.close().await;
    assert!(gone(&pids, Duration::ZERO), "{pids:?}");
    let (link, pids) = self::link().await;
    drop(link);
    assert!(gone(&pids, Duration::from_secs(2)), "{pids:?}");
}

#[tokio::test]
async fn the_process_group_ends_with_its_link_even_without_its_minder() {
    let (link, mut pids) = link().await;
    let killed = Command::new("kill").args(["-9", &pids[0]]).status().expect("kill");
    assert!(killed.success());
    assert!(gone(&pids[..1], Duration::from_secs(2)));
    // Who has left the group as well is beyond reach now.
    let lonely = pids.pop().expect("four");
    link.close().await;
    assert!(gone(&pids, Duration::from_secs(2)), "{pids:?}");
    let killed = Command::new("kill").args(["-9", &lonely]).status().expect("kill");
    assert!(killed.success());
}
