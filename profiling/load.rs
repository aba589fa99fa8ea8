//! What the benches share: servers in processes of their own on a core of their own, and a load that keeps messages in
//! flight on many connections.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lakh::wire::ws::{Opcode, write_masked};
use mio::{Events, Interest, Poll, Token};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// The core of the server that is measured.
pub(crate) const SERVER_CORE: usize = 0;
/// The core of the load, and of whatever else there must be.
pub(crate) const LOAD_CORE: usize = 1;
/// Answers before this are not counted.
const WARM_UP: Duration = Duration::from_millis(300);
/// A server that says nothing for so long is broken.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The number behind `name` on the command line.
pub(crate) fn option(name: &str, default: u64) -> Result<u64> {
    let mut args = std::env::args().skip_while(|arg| arg != name);
    Ok(args.nth(1).map_or(Ok(default), |value| value.parse())?)
}

/// A server in a process of its own; it ends with this value.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
    /// What it prints, read as far as it was asked for; held, so that it can print.
    printed: Option<BufReader<ChildStdout>>,
}

impl Server {
    /// `lakh serve MORE...` for a bench's few clients.
    pub(crate) fn lakh(core: usize, more: &[&str]) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lakh"));
        command.args(["serve", "--shards", "1", "--connections-max", "1000", "--listen", "127.0.0.1:0"]);
        command.args(["--admin", "127.0.0.1:0"]).args(more);
        Self::start(core, &mut command)
    }

    /// One that prints `clients ADDRESS` when it is there.
    pub(crate) fn start(core: usize, command: &mut Command) -> Result<Self> {
        let mut server = Self::spawn(core, command.stdout(Stdio::piped()), SocketAddr::from(([127, 0, 0, 1], 0)))?;
        server.printed = server.child.stdout.take().map(BufReader::new);
        server.addr = server.address_after("clients")?;
        Ok(server)
    }

    /// One whose address is known.
    pub(crate) fn spawn(core: usize, command: &mut Command, addr: SocketAddr) -> Result<Self> {
        // A child inherits the core.
        pin(core)?;
        let child = command.spawn();
        pin(LOAD_CORE)?;
        Ok(Self { child: child?, addr, printed: None })
    }

    /// The time that it has worked on its core so far.
    #[allow(dead_code, reason = "not all benches ask")]
    pub(crate) fn worked(&self) -> Result<Duration> {
        let child = Pid::from_raw(i32::try_from(self.child.id())?);
        Ok(clock_getcpuclockid(child)?.now()?.into())
    }

    /// The address in the next line that begins with this word.
    pub(crate) fn address_after(&mut self, word: &str) -> Result<SocketAddr> {
        let printed = self.printed.as_mut().ok_or("a server that prints nothing")?;
        for line in printed.lines() {
            if let Some(rest) = line?.strip_prefix(word) {
                let address = rest.split_whitespace().next().unwrap_or_default();
                return Ok(address.trim_start_matches("http://").parse()?);
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

/// Keeps this thread, and what it starts, on one core.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

/// One side of a comparison: what it is called, and how it is measured.
pub(crate) type Side<'a> = (&'a str, &'a mut dyn FnMut() -> Result<Measured>);

/// Measures the sides by turns, and prints each round; the medians of their rates and of their median waits.
pub(crate) fn alternate(what: &str, rounds: u64, sides: &mut [Side<'_>]) -> Result<Vec<(f64, f64)>> {
    let mut all = vec![(Vec::new(), Vec::new()); sides.len()];
    for round in 1..=rounds {
        print!("{what}, round {round}:");
        for ((name, measure), (rates, waits)) in sides.iter_mut().zip(&mut all) {
            let Measured { rate, waits: each } = measure().map_err(|error| format!("{name}: {error}"))?;
            let wait = each.value_at_quantile(0.5) as f64 / 1e3;
            print!("  {name} {rate:.0}/s ({wait:.1} us)");
            std::io::stdout().flush()?;
            rates.push(rate);
            waits.push(wait);
        }
        println!();
    }
    let medians: Vec<_> = all.into_iter().map(|(rates, waits)| (median(rates), median(waits))).collect();
    print!("{what}, median: ");
    for ((name, _), (rate, wait)) in sides.iter().zip(&medians) {
        print!("  {name} {rate:.0}/s ({wait:.1} us)");
    }
    println!();
    Ok(medians)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What a load measured.
pub(crate) struct Measured {
    /// Answers a second.
    pub(crate) rate: f64,
    /// Nanoseconds from the sending of a batch to its last answer.
    pub(crate) waits: Histogram<u64>,
}

/// One connection that is ready for its load.
pub(crate) struct Client {
    stream: mio::net::TcpStream,
    /// What is sent at once, and how many answers it has.
    batch: Vec<u8>,
    answers: usize,
    awaited: usize,
    sent: Instant,
    /// The beginning of an answer whose rest has not come.
    rest: Vec<u8>,
}

/// The length of the whole answer at the start of the bytes, or nothing while it is not complete; an error if it is not the
/// right one.
pub(crate) type Whole = fn(&[u8]) -> Result<Option<usize>>;

/// Sends each client's batch again and again, as soon as all its answers have come.
pub(crate) fn load(clients: &mut [Client], whole: Whole, time: Duration) -> Result<Measured> {
    let mut poll = Poll::new()?;
    for (token, client) in clients.iter_mut().enumerate() {
        poll.registry().register(&mut client.stream, Token(token), Interest::READABLE)?;
        client.send()?;
    }
    let (mut events, mut buffer, mut answers) = (Events::with_capacity(1024), vec![0; 64 << 10], 0_u64);
    let mut waits = Histogram::new(3)?;
    let warm = Instant::now() + WARM_UP;
    let mut began = None;
    let ended = loop {
        poll.poll(&mut events, Some(PATIENCE))?;
        if events.is_empty() {
            return Err(format!("no answer for {PATIENCE:?}").into());
        }
        for event in &events {
            let client = &mut clients[event.token().0];
            answers += client.receive(whole, &mut buffer)? as u64;
            if client.awaited == 0 {
                waits.record(client.sent.elapsed().as_nanos() as u64)?;
                client.send()?;
            }
        }
        let now = Instant::now();
        match began {
            None if now >= warm => {
                (began, answers) = (Some(now), 0);
                waits.reset();
            }
            Some(began) if now - began >= time => break (now - began).as_secs_f64(),
            _ => {}
        }
    };
    Ok(Measured { rate: answers as f64 / ended, waits })
}

impl Client {
    /// A connection that stands; `batch` has `answers` answers.
    pub(crate) fn new(stream: TcpStream, batch: Vec<u8>, answers: usize) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let stream = mio::net::TcpStream::from_std(stream);
        Ok(Self { stream, batch, answers, awaited: 0, sent: Instant::now(), rest: Vec::new() })
    }

    fn send(&mut self) -> Result<()> {
        (self.awaited, self.sent) = (self.answers, Instant::now());
        // A batch is far smaller than a socket's buffer, which is empty.
        Ok(self.stream.write_all(&self.batch)?)
    }

    /// Counts the whole answers that have come.
    fn receive(&mut self, whole: Whole, buffer: &mut [u8]) -> Result<usize> {
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
        let mut answers = 0;
        while let Some(length) = whole(bytes)? {
            bytes = &bytes[length..];
            answers += 1;
        }
        self.rest = bytes.to_vec();
        self.awaited = self.awaited.checked_sub(answers).ok_or("an answer too many")?;
        Ok(answers)
    }
}

/// A WebSocket, upgraded.
pub(crate) fn websocket(addr: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(addr)?;
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
    Ok(stream)
}

/// Appends a text frame as a client sends it.
pub(crate) fn say(text: &str, out: &mut Vec<u8>) {
    write_masked(out, Opcode::Text, true, text.as_bytes(), [1, 2, 3, 4]);
}

/// The header and the payload of the frame at the start of `bytes`, unmasked and below 64 KiB, as lengths.
pub(crate) fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (header, payload) = match *bytes {
        [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
        [_, 126, ..] => return None,
        [_, length, ..] => (2, usize::from(length)),
        _ => return None,
    };
    (bytes.len() >= header + payload).then_some((header, payload))
}
