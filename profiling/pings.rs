//! Messages per second over WebSocket: lakh answering MCP pings beside a fastwebsockets echo server, in one run,
//! alternating, each server alone on one core and the load on another.
//!
//! `cargo bench --bench pings [-- --rounds N --seconds S]`. Both get 64-byte text frames on 100 connections; lakh does
//! the whole of a session's work on each (envelope, session, answer), the other sends back what came. What counts is
//! the ratio: the machine is shared, and absolute rates drift.

mod load;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use load::{Client, Measured, Result, SERVER_CORE, Server, Side, option};

const CONNECTIONS: usize = 100;
const PAYLOAD_BYTES: usize = 64;
/// The word that makes this program the other server.
const ECHO: &str = "fastwebsockets-echo";

fn main() -> Result<()> {
    if std::env::args().any(|arg| arg == ECHO) {
        return echo::serve();
    }
    let (rounds, seconds) = (option("--rounds", 5)?, option("--seconds", 3)?);
    let lakh = Server::lakh(SERVER_CORE, &[])?;
    let other = Server::start(SERVER_CORE, Command::new(std::env::current_exe()?).arg(ECHO))?;
    println!("{CONNECTIONS} WebSocket connections, {PAYLOAD_BYTES}-byte texts, {rounds} rounds of {seconds} s each\n");
    let time = Duration::from_secs(seconds);
    for in_flight in [16, 1] {
        let (mut ours, mut theirs) = (|| pings(lakh.addr, in_flight, time), || pings(other.addr, in_flight, time));
        let sides: &mut [Side<'_>] = &mut [("lakh", &mut ours), ("fastwebsockets", &mut theirs)];
        let medians = load::alternate(&format!("{in_flight} in flight"), rounds, sides)?;
        println!("{in_flight} in flight: ratio {:.2}\n", medians[0].0 / medians[1].0);
    }
    Ok(())
}

/// Keeps `in_flight` pings on the way on each connection.
fn pings(addr: SocketAddr, in_flight: usize, time: Duration) -> Result<Measured> {
    let id = "x".repeat(PAYLOAD_BYTES - r#"{"jsonrpc":"2.0","id":"","method":"ping"}"#.len());
    let mut batch = Vec::new();
    for _ in 0..in_flight {
        load::say(&format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"ping"}}"#), &mut batch);
    }
    let connect = |_| Client::new(load::websocket(addr)?, batch.clone(), in_flight);
    let mut clients = (0..CONNECTIONS).map(connect).collect::<Result<Vec<_>>>()?;
    let whole = |bytes: &[u8]| Ok(load::frame(bytes).map(|(header, payload)| header + payload));
    load::load(&mut clients, whole, time)
}

/// The other server: fastwebsockets as its own examples have it, on one thread.
mod echo {
    use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    pub(super) fn serve() -> super::load::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            println!("clients {}", listener.local_addr()?);
            loop {
                let (stream, _) = listener.accept().await?;
                #[allow(clippy::disallowed_methods)] // The process ends with its parent.
                tokio::spawn(async move {
                    // A client that leaves ends its task.
                    let _ = talk(stream).await;
                });
            }
        })
    }

    async fn talk(mut stream: TcpStream) -> super::load::Result<()> {
        stream.set_nodelay(true)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let upgrade = lakh::wire::http::read_upgrade(&head, &lakh::wire::Config::default())
            .map_err(|refusal| refusal.body())?
            .ok_or("half a head")?;
        let mut answer = Vec::new();
        lakh::wire::http::write_switching(&mut answer, &upgrade);
        stream.write_all(&answer).await?;
        let mut socket = WebSocket::after_handshake(stream, Role::Server);
        socket.set_writev(false);
        socket.set_auto_close(true);
        socket.set_auto_pong(true);
        let mut socket = FragmentCollector::new(socket);
        loop {
            let frame = socket.read_frame().await?;
            match frame.opcode {
                OpCode::Close => return Ok(()),
                OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
                _ => {}
            }
        }
    }
}
