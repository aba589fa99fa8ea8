//! The load suite: real clients against the gateway, and against peers that misbehave, which must be found out.

#[path = "simulate/profiles.rs"]
mod profiles;
#[path = "simulate/web.rs"]
mod web;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use clap::Parser;
use lakh::cli::simulate::{Args, Cause, Error, Outcome, run};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn simulate(line: &str) -> Result<Outcome, Error> {
    let results = Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulate");
    let line = format!("simulate --results {} {line}", results.display());
    let args = Cli::try_parse_from(line.split_whitespace()).expect("valid arguments").args;
    run(&args, &PathBuf::from(env!("CARGO_BIN_EXE_lakh")))
}

/// One load at a time: two would share the cores and spoil each other's figures.
static STAGE: Mutex<()> = Mutex::new(());

fn passes(line: &str) -> Outcome {
    let _stage = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = simulate(line).expect("the run is done");
    assert!(outcome.passed(), "{:#?}", outcome.missed);
    for file in ["setup.md", "raw.csv", "summary.md", "plot.svg", "plot.png"] {
        let path = outcome.results.as_ref().expect("results").join(file);
        assert!(path.metadata().is_ok_and(|file| file.len() > 100), "{} has content", path.display());
    }
    outcome
}

fn rss(outcome: &Outcome, connections: u32) -> u64 {
    outcome.at(connections).and_then(|step| step.rss).expect("the step was taken and its memory read")
}

#[test]
fn load_1k_baseline() {
    for dialect in ["tcp", "ws", "mixed", "http", "listen"] {
        let outcome = passes(&format!(
            "--connections 1000 --steps 100,1000 --dialect {dialect} --hold 0.5 --waves 2 --slope-max 8192"
        ));
        assert_eq!(outcome.at(1_000).map(|step| (step.live, step.dead)), Some((1_000, 0)));
        assert!(rss(&outcome, 1_000) <= 48 * MIB || cfg!(debug_assertions));
    }
}

/// `cargo test --features dhat-heap --test simulate heap`.
#[cfg(feature = "dhat-heap")]
#[test]
fn heap_is_told_by_site_while_all_clients_are_there() {
    let outcome = passes("--connections 2000 --steps 2000 --dialect mixed --hold 0");
    let heap = outcome.heap.as_ref().expect("a heap profile");
    let slots = heap.sites.iter().find(|site| site.frame.contains("add_slot ")).expect("the pool of connections");
    assert_eq!(heap.connections, 2_000);
    assert!(slots.bytes / 2_000 >= 16 && slots.bytes <= heap.bytes, "{slots:?} of {}", heap.bytes);
    let folder = outcome.results.as_ref().expect("results");
    for file in ["heap.md", "dhat-heap.json"] {
        assert!(folder.join(file).metadata().is_ok_and(|file| file.len() > 1_000), "{file}");
    }
}

#[test]
#[ignore = "load: run with --release -- --ignored"]
fn load_10k_profile() {
    let outcome = passes("--connections 10000 --dialect mixed --slope-max 512");
    assert!(rss(&outcome, 10_000) <= 24 * MIB);
}

#[test]
#[ignore = "load: run with --release -- --ignored"]
fn load_50k_analysis() {
    let outcome = passes("--connections 50000 --dialect mixed --waves 2 --slope-max 320 --rate-min 10000");
    assert!(rss(&outcome, 50_000) <= 36 * MIB);
    assert!(outcome.at(50_000).and_then(|step| step.kernel_per_connection).is_some_and(|bytes| bytes < 8_192.0));
}

#[test]
#[ignore = "load: run with --release -- --ignored"]
fn simulate_100k() {
    for dialect in ["tcp", "ws"] {
        let outcome =
            passes(&format!("--connections 100000 --dialect {dialect} --waves 2 --slope-max 320 --rate-min 10000"));
        assert!(rss(&outcome, 100_000) <= 48 * MIB);
    }
}

#[test]
#[ignore = "load: run with --release -- --ignored"]
fn simulate_100k_streams() {
    for line in ["--dialect http --waves 2", "--dialect listen --fanout"] {
        let outcome = passes(&format!("--connections 100000 {line}"));
        assert!(rss(&outcome, 100_000) <= 80 * MIB);
        assert!(outcome.fanout.is_none_or(|fanout| fanout.told == 100_000 && fanout.last <= 2.0));
    }
}

#[test]
#[ignore = "load: run with --release -- --ignored"]
fn simulate_1m() {
    let outcome =
        passes("--connections 1000000 --steps 10000,100000,500000,1000000 --dialect tcp --hold 5 --patience 60");
    assert!(rss(&outcome, 1_000_000) <= 400 * MIB);
}

#[test]
fn more_than_the_machine_holds_is_an_error_that_names_the_limit() {
    let error = simulate("--connections 10000000").expect_err("ten million do not fit");
    let words = error.to_string();
    assert!(matches!(error, Error::TooSmall { connections: 10_000_000, .. }), "{words}");
    assert!(words.contains("needed"), "{words}");
}

#[test]
fn an_honest_peer_passes() {
    let outcome = against(Manner::Honest, "");
    assert!(outcome.passed(), "{:?}", outcome.missed);
    assert_eq!(outcome.steps.last().map(|step| step.live), Some(8));
}

#[test]
fn a_liar_is_found_out() {
    found_out(Manner::EchoesAnother, Cause::WrongEcho);
    found_out(Manner::SwapsIds, Cause::WrongId);
    found_out(Manner::Babbles, Cause::WrongAnswer);
}

#[test]
fn a_refusal_is_a_dead_client_with_the_gateways_words() {
    let outcome = found_out(Manner::Refuses, Cause::Refused);
    assert!(outcome.missed.iter().any(|missed| missed.contains("the house is full")), "{:?}", outcome.missed);
}

#[test]
fn the_mute_and_the_closing_are_found_out() {
    found_out(Manner::MuteToPings, Cause::NoAnswer);
    found_out(Manner::ClosesWhenIdle, Cause::Closed);
}

#[test]
fn an_honest_web_peer_passes_however_it_answers() {
    for manner in [web::Manner::Honest, web::Manner::AnswersInEvents] {
        for dialect in ["http", "listen"] {
            let outcome = against_web(manner, dialect, "--waves 2");
            assert!(outcome.passed(), "{manner:?}, {dialect}: {:?}", outcome.missed);
            assert_eq!(outcome.steps.last().map(|step| step.live), Some(8));
        }
    }
}

#[test]
fn a_web_peer_that_misbehaves_is_found_out() {
    for (manner, dialect, cause) in [
        (web::Manner::ForgetsSession, "http", Cause::Refused),
        (web::Manner::EndsStream, "http", Cause::Closed),
        (web::Manner::EndsStream, "listen", Cause::Closed),
        (web::Manner::HasNoStreams, "http", Cause::Refused),
        (web::Manner::NamesAnother, "listen", Cause::WrongId),
        (web::Manner::AcknowledgesNothing, "listen", Cause::NoAnswer),
    ] {
        let outcome = against_web(manner, dialect, "--patience 1");
        let deaths = (outcome.deaths.of(cause), outcome.deaths.count());
        assert_eq!(deaths, (1, 1), "{manner:?}, {dialect}: {}", outcome.deaths);
        assert!(!outcome.passed());
    }
}

fn against_web(manner: web::Manner, dialect: &str, more: &str) -> Outcome {
    let target = web::peer(manner);
    simulate(&format!("--connections 8 --hold 0.3 --dialect {dialect} --target {target} {more}"))
        .expect("the run is done")
}

#[test]
fn a_change_behind_the_gateway_reaches_every_client() {
    let outcome = passes("--connections 200 --steps 200 --dialect mixed --hold 0.2 --fanout");
    let fanout = outcome.fanout.expect("measured");
    assert_eq!((fanout.clients, fanout.told), (200, 200));
    assert!(fanout.first <= fanout.p50 && fanout.p50 <= fanout.last);
}

#[test]
fn nobody_there_is_a_dead_client_too() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let outcome = simulate(&format!("--connections 4 --hold 0 --target {free}")).expect("the run is done");
    assert!(!outcome.passed());
    assert_eq!(outcome.deaths.of(Cause::ConnectFailed), 4, "{}", outcome.deaths);
}

/// How the peer treats its third client; all others it treats well.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Honest,
    EchoesAnother,
    SwapsIds,
    Babbles,
    Refuses,
    MuteToPings,
    ClosesWhenIdle,
}

fn found_out(manner: Manner, cause: Cause) -> Outcome {
    let outcome = against(manner, "--patience 1");
    assert!(!outcome.passed(), "{manner:?}");
    assert_eq!((outcome.deaths.of(cause), outcome.deaths.count()), (1, 1), "{manner:?}: {}", outcome.deaths);
    outcome
}

fn against(manner: Manner, more: &str) -> Outcome {
    let target = peer(manner);
    simulate(&format!("--connections 8 --hold 0.3 --target {target} {more}")).expect("the run is done")
}

/// A small MCP server, a thread per client.
fn peer(manner: Manner) -> SocketAddr {
    peer_with(manner, 2)
}

/// One that has its manner with its client `at`, counted from 0.
fn peer_with(manner: Manner, at: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    named("peer", move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let manner = if number == at { manner } else { Manner::Honest };
            // A client that is gone ends its thread.
            named("peer-client", move || drop(attend(stream, manner)));
        }
    });
    address
}

fn named(name: &str, run: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.into()).spawn(run).expect("a thread");
}

fn attend(mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    let lines = BufReader::new(stream.try_clone()?).lines();
    for line in lines {
        let request: Value = serde_json::from_str(&line?)?;
        if request["id"].is_null() {
            continue;
        }
        let method = request["method"].as_str().unwrap_or_default();
        let mut answer = json!({"jsonrpc": "2.0", "id": request["id"]});
        answer["result"] = match (method, manner) {
            ("initialize", Manner::Refuses) => Value::Null,
            ("initialize", _) => {
                json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "peer", "version": "1"}})
            }
            ("tools/call", Manner::EchoesAnother) => {
                json!({"content": [{"type": "text", "text": "client 1 of many, its mark is 0000000000000000"}]})
            }
            ("tools/call", _) => {
                json!({"content": [{"type": "text", "text": request["params"]["arguments"]["text"]}]})
            }
            ("ping", Manner::MuteToPings) => continue,
            _ => json!({}),
        };
        match (method, manner) {
            ("initialize", Manner::Refuses) => {
                answer = json!({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32000, "message": "the house is full"}});
            }
            ("ping", Manner::SwapsIds) => answer["id"] = json!(1),
            ("ping", Manner::Babbles) => answer = json!("pong"),
            _ => {}
        }
        writeln!(stream, "{answer}")?;
        if (method, manner) == ("tools/call", Manner::ClosesWhenIdle) {
            thread::sleep(Duration::from_millis(50));
            return stream.shutdown(std::net::Shutdown::Both);
        }
    }
    Ok(())
}
