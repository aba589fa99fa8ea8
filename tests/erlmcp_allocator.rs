//! The tests of the erlmcp suite that hold our figures against the allocator's: a process where nobody else allocates.

mod peer;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use lakh::actor::{CancelHandle, Ticket};
use lakh::conn::Connections;
use lakh::guard::Seats;
use lakh::mcp::{Call, Method, Revision, Target};
use lakh::pool::Key;
use lakh::upstream::embedded::Run;
use lakh::wire::envelope::Id;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::sync::Notify;

use peer::{Shard, embedded, eventually, house, mcp};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One at a time: what is counted is of the whole process.
static ALONE: Mutex<()> = Mutex::new(());

const HELLO: &[u8] = br#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"one of many","version":"1"}}}
{"jsonrpc":"2.0","method":"notifications/initialized"}
{"jsonrpc":"2.0","id":1,"method":"ping"}
"#;

/// Bytes that are allocated and not freed.
fn held() -> i64 {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
}

/// Connects and shakes hands, without a byte of heap on this side.
fn client(to: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(to).expect("a connection");
    socket.set_read_timeout(Some(peer::PATIENCE)).expect("a timeout");
    socket.write_all(HELLO).expect("sent");
    let (mut heard, mut at) = ([0; 4_096], 0);
    while !heard[..at].ends_with(b"\"id\":1,\"result\":{}}\n") {
        let n = socket.read(&mut heard[at..]).expect("answers");
        assert!(n > 0, "{}", String::from_utf8_lossy(&heard[..at]));
        at += n;
    }
    socket
}

fn shard(seats: usize) -> Shard {
    let house = house(seats);
    Shard::run(move || Connections::new(Arc::clone(&house), seats, mcp(&house)))
}

fn estimate(shard: &Shard) -> i64 {
    shard.census().iter().map(|resident| resident.bytes.total() as i64).sum()
}

#[test]
fn optimized_state_creation() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let shard = shard(900);
    let mut clients = Vec::with_capacity(1_000);
    clients.extend((0..100).map(|_| client(shard.clients)));
    let (bytes, calls) = (held(), ALLOCATOR.stats().allocations);
    clients.extend((0..800).map(|_| client(shard.clients)));
    let (bytes, calls) = (held() - bytes, ALLOCATOR.stats().allocations - calls);
    // The slots are there from the start, the profile is shared, and nothing is unfinished.
    assert!(bytes <= 800 * 8, "{bytes} bytes of heap for 800 clients more");
    assert!(calls <= 800 * 4, "{calls} allocations for 800 handshakes");
    let census = shard.census();
    assert_eq!(census.len(), 900);
    for resident in census {
        assert_eq!(resident.bytes.total(), resident.bytes.slot, "an idle client is its slot and nothing more");
        assert!(resident.bytes.slot <= 120, "{} bytes", resident.bytes.slot);
    }
}

/// Bytes of the heap for one call: for its ticket, and for the task that serves it, which is no part of a connection.
fn costs_of_a_call() -> (i64, i64) {
    const CALLS: usize = 500;
    let shard = shard(1);
    let embedded = embedded();
    let (mut tickets, mut handles) = (Vec::with_capacity(CALLS), Vec::with_capacity(2 * CALLS));
    let mut bells = Vec::with_capacity(CALLS);
    let id = Id::from_raw("1").expect("an id");
    let call = Call {
        id,
        method: Method::CallTool,
        target: Target::Tool("sleep".into()),
        params: "{}",
        arguments: Some(r#"{"ms":600000}"#),
        meta: None,
        progress_token: None,
        request_state: None,
        level: None,
        revision: Revision::V2025_11_25,
    };
    let (mut costs, places) = ((0, 0), Seats::new(2 * CALLS));
    // The first round is for what the runtime makes once.
    for _round in 0..2 {
        let before = held();
        bells.extend((0..CALLS).map(|_| Arc::new(Notify::new())));
        let with_bells = held();
        for (number, bell) in bells.iter().enumerate() {
            let (inbox, server) = (Arc::clone(&shard.berth.inbox), Arc::clone(bell));
            let (ticket, handle) = Ticket::new(inbox, Key::from_bits(1), number as u64, server);
            tickets.push(ticket);
            handles.push(handle);
        }
        let with_tickets = held();
        for (ticket, bell) in tickets.drain(..).zip(bells.drain(..)) {
            let Run::Later(sleep) = embedded.call(&call, 0, &mut Vec::new()) else { panic!("sleep takes its time") };
            embedded.serve(sleep, ticket, bell, places.take().expect("a place"));
        }
        sleep(Duration::from_millis(100));
        costs = (with_tickets - with_bells, held() - with_tickets + with_bells - before);
    }
    (costs.0 / CALLS as i64, costs.1 / CALLS as i64)
}

/// Lets `busy` do something with each of so many fresh clients, and holds the estimate against what was allocated, but
/// for the bytes that each takes `elsewhere`.
fn compare(what: &str, clients: usize, elsewhere: i64, tolerance: f64, mut busy: impl FnMut(&mut TcpStream)) {
    let shard = shard(900);
    let mut sockets = Vec::with_capacity(clients);
    sockets.extend((0..clients).map(|_| client(shard.clients)));
    let (idle_estimate, idle) = (estimate(&shard), held());
    sockets.iter_mut().for_each(&mut busy);
    let estimated = || estimate(&shard) - idle_estimate;
    // Until it stays the same.
    assert!(eventually(|| {
        let before = estimated();
        sleep(Duration::from_millis(100));
        before > 0 && before == estimated()
    }));
    let (estimated, counted) = (estimated(), held() - idle - elsewhere * clients as i64);
    println!("{what}: estimated {estimated}, allocated {counted}");
    let off = (estimated - counted).abs() as f64 / counted as f64;
    assert!(off <= tolerance, "{what}: estimated {estimated}, allocated {counted}: {:.0} % off", off * 100.0);
}

#[test]
fn memory_estimation_accuracy() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    compare("partial messages", 400, 0, 0.10, |socket| {
        socket.write_all(br#"{"jsonrpc":"2.0","id":2,"method":"#).expect("sent");
        socket.write_all(&[b' '; 1_500]).expect("sent");
    });
    compare("outboxes", 12, 0, 0.10, |socket| {
        for id in 0..16 {
            let call = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"blob","arguments":{{"bytes":1048576}}}}}}"#
            );
            socket.write_all(format!("{call}\n").as_bytes()).expect("sent");
        }
    });
    let (ticket, task) = costs_of_a_call();
    println!("a ticket takes {ticket} bytes, serving it {task}");
    assert_eq!(ticket, CancelHandle::BYTES as i64, "what a connection counts for a ticket");
    compare("calls in flight", 400, 4 * task, 0.15, |socket| {
        for id in 10..14 {
            let call = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"sleep","arguments":{{"ms":600000}}}}}}"#
            );
            socket.write_all(format!("{call}\n").as_bytes()).expect("sent");
        }
    });
}
