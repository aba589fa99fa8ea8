//! Loads that change, small: each profile against the gateway, and against peers that misbehave while it is played.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lakh::cli::simulate::{Cause, Figure, Outcome, Performance};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Manner, passes, peer_with, simulate};

fn played(line: &str) -> Performance {
    passes(&format!("--hold 0.2 --profile {line}")).profile.expect("a profile was played")
}

fn figure<'a>(performance: &'a Performance, what: &str) -> &'a Figure {
    performance.figures.iter().find(|figure| figure.what == what).unwrap_or_else(|| panic!("{what} is told"))
}

#[test]
fn ramp_has_a_row_for_each_number_of_users() {
    let ramp = played("ramp --connections 400 --seconds 3");
    let users: Vec<u64> = ramp.rows.iter().map(|row| row.clients).collect();
    assert_eq!(users, [10, 25, 50, 100, 200, 400]);
    assert!(ramp.rows.iter().all(|row| row.calls_per_s > 0.0 && row.p99.is_some() && row.rss.is_some()));
}

#[test]
fn burst_keeps_who_is_in_and_tells_the_others_when_to_come() {
    let burst = played("burst --connections 200 --seconds 2 --dialect mixed");
    let refused: Vec<u64> = burst.rows.iter().map(|row| row.refused).collect();
    assert!(refused[0] == 0 && refused[1] >= 200 && refused[2] == 0, "{refused:?}");
    assert!(burst.refusals.iter().all(|row| row.p99.is_some()));
}

#[test]
fn churn_loses_nobody() {
    for dialect in ["tcp", "ws"] {
        let churn = played(&format!("churn --connections 300 --seconds 3 --dialect {dialect}"));
        assert!(figure(&churn, "clients that left and came again").value >= 20.0);
        assert!(figure(&churn, "slope of memory").asked.is_some(), "with its noise");
    }
}

#[test]
fn soak_calls_and_changes_clients() {
    let soak = played("soak --connections 500 --hours 0.001 --dialect mixed");
    assert!(soak.rows[0].calls_per_s > 10.0 && soak.rows[0].came_per_s > 0.1, "{:?}", soak.rows);
}

#[test]
fn storm_brings_everybody_back() {
    for dialect in ["tcp", "ws", "http", "listen"] {
        let storm = played(&format!("storm --connections 500 --dialect {dialect}"));
        assert_eq!(figure(&storm, "clients back").value, 500.0, "{dialect}");
        assert!(figure(&storm, "connect to first call answered, p99").value > 0.0);
    }
}

#[test]
fn overload_answers_what_it_takes_and_refuses_the_rest() {
    let overload = played("overload --connections 200 --seconds 4 --slots 8 --service-ms 250");
    assert!(figure(&overload, "calls asked").value >= 500.0);
    assert!(figure(&overload, "calls answered").value > 0.0);
    assert!(figure(&overload, "refusals").value > 0.0);
    assert!(figure(&overload, "calls at the server at once").value <= 8.0);
    assert_eq!(figure(&overload, "calls in the queue").kept, Some(true));
}

#[test]
fn a_greedy_tenant_leaves_the_others_their_share() {
    let overload = played("overload --tenants --connections 200 --seconds 5 --service-ms 250");
    // On a busy machine, in a debug build: that they are told apart at all. The share itself is judged by the run.
    assert!(figure(&overload, "the others' share, the least of them").value > 20.0);
    assert!(figure(&overload, "the greedy tenant's share").value > 0.0);
}

fn against(manner: Manner, at: usize, line: &str) -> Outcome {
    let target = peer_with(manner, at);
    simulate(&format!("--connections 8 --hold 0.2 --target {target} --profile {line}")).expect("the run is done")
}

#[test]
fn an_honest_peer_passes_every_profile_that_needs_no_gateway_of_its_own() {
    for line in ["ramp --seconds 2", "churn --seconds 2", "storm", "soak --hours 0.0005"] {
        let outcome = against(Manner::Honest, 0, line);
        assert!(outcome.passed(), "{line}: {:?}", outcome.missed);
    }
}

#[test]
fn who_is_refused_without_a_time_comes_again_and_the_peer_is_found_out() {
    let outcome = against(Manner::Refuses, 10, "storm");
    assert_eq!(outcome.deaths.count(), 0, "{}", outcome.deaths);
    let storm = outcome.profile.as_ref().expect("played");
    assert_eq!(figure(storm, "clients back").value, 8.0);
    assert_eq!(storm.refusals.iter().map(|row| (row.count, row.hinted)).collect::<Vec<_>>(), [(1, 0)]);
    assert!(outcome.missed.iter().any(|missed| missed.contains("without the time")), "{:?}", outcome.missed);
}

#[test]
fn a_client_that_is_dropped_while_in_is_lost() {
    let outcome = against(Manner::ClosesWhenIdle, 9, "churn --seconds 4");
    assert_eq!((outcome.deaths.of(Cause::Closed), outcome.deaths.count()), (1, 1), "{}", outcome.deaths);
    assert!(!outcome.passed());
}

#[test]
fn an_interrupted_run_leaves_no_process() {
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interrupted");
    let mut run = Command::new(env!("CARGO_BIN_EXE_lakh"))
        .args(["simulate", "--profile", "churn", "--connections", "100", "--hold", "0", "--results"])
        .arg(&results)
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let pid = run.id();
    let within = Duration::from_secs(30);
    // The gateway and at least one process of clients.
    let begun = Instant::now();
    let children = loop {
        let children = children_of(pid);
        if children.len() >= 2 {
            break children;
        }
        assert!(begun.elapsed() < within, "{children:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    std::thread::sleep(Duration::from_millis(500));
    kill(Pid::from_raw(pid as i32), Signal::SIGINT).expect("sent");
    assert!(!run.wait().expect("ended").success());
    let begun = Instant::now();
    while children.iter().any(|child| is_lakh(child)) {
        assert!(begun.elapsed() < within, "{children:?} live on");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!results.exists(), "nothing was written");
}

fn children_of(pid: u32) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().map(str::to_owned).collect()
}

/// Whether the process is there, and no zombie whose number somebody else may have next.
fn is_lakh(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("lakh"))
}
