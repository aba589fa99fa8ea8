//! Messages per second over WebSocket: lakh answering MCP pings beside a fastwebsockets echo server, in one run,
//! alternating, each server alone on one core and the load on another.
//!
//! `cargo bench --bench pings [-- --rounds N --seconds S]`. Both get 64-byte text frames on 100 connections; lakh does
//! the whole of a session's work on each (envelope, session, answer), the other sends back what came. What counts is
//! the ratio: the machine is shared, and absolute rates drift.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lakh::wire::ws::{Opcode, write_masked};
use mio::{Events, Interest, Poll, Token};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

const CONNECTIONS: usize = 100;
const PAYLOAD_BYTES: usize = 64;
const SERVER_CORE: usize = 0;
const LOAD_CORE: usize = 1;
/// The word that makes this program the other server.
const ECHO: &str = "fastwebsockets-echo";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|arg| arg == ECHO) {
        return echo::serve();
    }
    let option = |name: &str, default: u64| -> Result<u64> {
        let at = args.iter().position(|arg| arg == name);
        Ok(at.and_then(|at| args.get(at + 1)).map_or(Ok(default), |value| value.parse())?)
    };
    let (rounds, seconds) = (option("--rounds", 5)?, option("--seconds", 3)?);
    let lakh = Server::start(Command::new(env!("CARGO_BIN_EXE_lakh")).args([
        "serve",
        "--shards",
        "1",
        "--connections-max",
        "1000",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]))?;
    let other = Server::start(Command::new(std::env::current_exe()?).arg(ECHO))?;
    pin(LOAD_CORE)?;
    println!("{CONNECTIONS} WebSocket connections, {PAYLOAD_BYTES}-byte texts, {rounds} rounds of {seconds} s each\n");
    for in_flight in [16, 1] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            let ping = load(lakh.addr, in_flight, Duration::from_secs(seconds))?;
            let echo = load(other.addr, in_flight, Duration::from_secs(seconds))?;
            println!(
                "{in_flight:>2} in flight, round {round}: lakh {ping:>9.0}/s  fastwebsockets {echo:>9.0}/s  ratio {:.2}",
                ping / echo
            );
            ours.push(ping);
            theirs.push(echo);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!(
            "{in_flight:>2} in flight, median:  lakh {ours:>9.0}/s  fastwebsockets {theirs:>9.0}/s  ratio {:.2}\n",
            ours / theirs
        );
    }
    Ok(())
}

/// A server in a process of its own, on its own core; it ends with this value.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(command: &mut Command) -> Result<Self> {
        // A child inherits the core.
        pin(SERVER_CORE)?;
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        for line in BufReader::new(stdout).lines() {
            if let Some(rest) = line?.strip_prefix("clients") {
                let addr = rest.split_whitespace().next().ok_or("no address")?.parse()?;
                return Ok(Self { child, addr });
            }
        }
        Err("the server printed no address".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

struct Connection {
    stream: mio::net::TcpStream,
    /// Frames of the batch that have not come back.
    awaited: usize,
    /// The beginning of a frame whose rest has not come.
    rest: Vec<u8>,
}

/// Keeps `in_flight` messages on the way on each connection; answers a second.
fn load(addr: SocketAddr, in_flight: usize, time: Duration) -> Result<f64> {
    let mut batch = Vec::new();
    for _ in 0..in_flight {
        let id = "x".repeat(PAYLOAD_BYTES - r#"{"jsonrpc":"2.0","id":"","method":"ping"}"#.len());
        let ping = format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"ping"}}"#);
        write_masked(&mut batch, Opcode::Text, true, ping.as_bytes(), [1, 2, 3, 4]);
    }
    let mut poll = Poll::new()?;
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for token in 0..CONNECTIONS {
        let mut stream = mio::net::TcpStream::from_std(connect(addr)?);
        poll.registry().register(&mut stream, Token(token), Interest::READABLE)?;
        connections.push(Connection { stream, awaited: 0, rest: Vec::new() });
    }
    for connection in &mut connections {
        connection.send(&batch, in_flight)?;
    }
    let (mut events, mut buffer, mut answers) = (Events::with_capacity(1024), vec![0; 64 << 10], 0_u64);
    let warm = Instant::now() + Duration::from_millis(300);
    let mut began = None;
    loop {
        poll.poll(&mut events, Some(Duration::from_secs(5)))?;
        if events.is_empty() {
            return Err("no answer for five seconds".into());
        }
        for event in &events {
            let connection = &mut connections[event.token().0];
            answers += connection.receive(&mut buffer)? as u64;
            if connection.awaited == 0 {
                connection.send(&batch, in_flight)?;
            }
        }
        let now = Instant::now();
        match began {
            None if now >= warm => (began, answers) = (Some(now), 0),
            Some(began) if now - began >= time => return Ok(answers as f64 / (now - began).as_secs_f64()),
            _ => {}
        }
    }
}

fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.write_all(
        b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(String::from_utf8_lossy(&head).into());
    }
    stream.set_nonblocking(true)?;
    Ok(stream)
}

impl Connection {
    fn send(&mut self, batch: &[u8], frames: usize) -> Result<()> {
        self.awaited = frames;
        // A batch is far smaller than a socket's buffer, which is empty.
        Ok(self.stream.write_all(batch)?)
    }

    /// Counts the whole frames that have come, all of them unmasked and shorter than 126 bytes.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = match self.stream.read(buffer) {
            Ok(0) => return Err("the server closed".into()),
            Ok(n) => n,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = &buffer[..n];
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(bytes);
            bytes = &self.rest;
        }
        let mut frames = 0;
        while let [_, length, payload @ ..] = bytes
            && payload.len() >= usize::from(*length)
        {
            bytes = &payload[usize::from(*length)..];
            frames += 1;
        }
        self.rest = bytes.to_vec();
        self.awaited = self.awaited.checked_sub(frames).ok_or("an answer too many")?;
        Ok(frames)
    }
}

/// The other server: fastwebsockets as its own examples have it, on one thread.
mod echo {
    use fastwebsockets::{FragmentCollector, OpCode, Role, WebSocket};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    pub(super) fn serve() -> super::Result<()> {
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

    async fn talk(mut stream: TcpStream) -> super::Result<()> {
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
