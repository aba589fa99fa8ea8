//! What a gateway costs: calls of `echo` straight to a fast server and through lakh in front of it, in one run, alternating.
//!
//! `cargo bench --bench proxied [-- --rounds N --seconds S]`: WebSocket clients, the server being another lakh over raw TCP.
//! `cargo bench --bench proxied -- --http`: Streamable HTTP clients, lakh beside the gateways that competitors.sh installs.
//! The process under test is alone on one core; the load, and the server behind a gateway, are on the other.

mod http;
mod load;
mod upstream;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use lakh::cli::fetch::Admin;
use load::{Client, LOAD_CORE, Measured, Result, SERVER_CORE, Server, Side, option};
use memchr::memmem;

const CLIENTS: usize = 100;
const IN_FLIGHT: usize = 16;
/// A gateway may take this long until it answers.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// What is echoed; an answer without it is wrong.
const TEXT: &str = "a text of forty-two bytes, to be said again";

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

fn main() -> Result<()> {
    if let Some(kind) = upstream::asked_for() {
        return upstream::serve(kind);
    }
    let (rounds, seconds) = (option("--rounds", 5)?, option("--seconds", 3)?);
    let time = Duration::from_secs(seconds);
    println!("{CLIENTS} clients call echo; {rounds} rounds of {seconds} s for each side\n");
    if std::env::args().any(|arg| arg == "--http") { http::compare(rounds, time) } else { compare(rounds, time) }
}

/// Direct: load -> lakh. Through: load -> lakh -> lakh.
fn compare(rounds: u64, time: Duration) -> Result<()> {
    let direct = Server::lakh(SERVER_CORE, &[])?;
    let mut behind = Server::lakh(LOAD_CORE, &[])?;
    let gateway = Server::lakh(SERVER_CORE, &["--tcp", &behind.addr.to_string()])?;
    wait_for(&gateway, &mut behind)?;
    for (clients, in_flight) in [(CLIENTS, IN_FLIGHT), (1, 1)] {
        let what = format!("{clients} x {in_flight} in flight");
        let mut straight = || calls(direct.addr, clients, in_flight, time);
        let mut through = || calls(gateway.addr, clients, in_flight, time);
        let sides: &mut [Side<'_>] = &mut [("direct", &mut straight), ("through lakh", &mut through)];
        let medians = load::alternate(&what, rounds, sides)?;
        let ((direct, wait), (through, longer)) = (medians[0], medians[1]);
        println!("{what}: ratio {:.2}, {:.1} us added at the median\n", through / direct, longer - wait);
    }
    Ok(())
}

/// Waits until `gateway` answers calls and is connected to the server behind it: its own would answer them just so.
fn wait_for(gateway: &Server, behind: &mut Server) -> Result<()> {
    let admin = Admin::parse(&behind.address_after("admin")?.to_string())?;
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        let visited = admin.get("/metrics")?.lines().any(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_default();
            name.starts_with("lakh_connections_open") && !line.starts_with('#') && value != "0"
        });
        match calls(gateway.addr, 1, 1, Duration::ZERO) {
            Ok(_) if visited => return Ok(()),
            Ok(_) if Instant::now() > deadline => return Err("the gateway answers by itself".into()),
            Err(error) if Instant::now() > deadline => return Err(error),
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Keeps `in_flight` calls on the way on each of the WebSockets.
fn calls(addr: SocketAddr, clients: usize, in_flight: usize, time: Duration) -> Result<Measured> {
    let mut batch = Vec::new();
    for id in 1..=in_flight {
        load::say(&call(id, "echo"), &mut batch);
    }
    let connect = |_| {
        let mut stream = load::websocket(addr)?;
        shake_hands(&mut stream)?;
        Client::new(stream, batch.clone(), in_flight)
    };
    let mut clients = (0..clients).map(connect).collect::<Result<Vec<_>>>()?;
    load::load(&mut clients, whole, time)
}

/// Becomes a client of 2025-11-25.
fn shake_hands(stream: &mut TcpStream) -> Result<()> {
    let mut said = Vec::new();
    load::say(INITIALIZE, &mut said);
    stream.write_all(&said)?;
    let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
    while load::frame(&heard).is_none() {
        match stream.read(&mut buffer)? {
            0 => return Err("the server closed".into()),
            n => heard.extend_from_slice(&buffer[..n]),
        }
    }
    said.clear();
    load::say(INITIALIZED, &mut said);
    Ok(stream.write_all(&said)?)
}

fn whole(bytes: &[u8]) -> Result<Option<usize>> {
    let Some((header, payload)) = load::frame(bytes) else { return Ok(None) };
    let message = &bytes[header..header + payload];
    check(message)?;
    Ok(Some(header + payload))
}

/// The request of every client.
fn call(id: usize, tool: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"text":"{TEXT}"}}}}}}"#
    )
}

/// A gateway that refuses is fast, too.
fn check(answer: &[u8]) -> Result<()> {
    match memmem::find(answer, TEXT.as_bytes()) {
        Some(_) => Ok(()),
        None => Err(format!("no echo: {}", String::from_utf8_lossy(answer)).into()),
    }
}
