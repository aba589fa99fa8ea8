//! Calls by a schedule, whatever becomes of those before: an open loop on a few connections.
//!
//! Between two calls of a stream passes a random time (exponential, from a seed of its own), as between those of many
//! clients who know nothing of each other. At even distances the streams would keep step, and how well they do so in one
//! part of a run would be what is measured.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use memchr::memmem;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use serde::Deserialize;

use super::load::Result;

/// What is echoed; an answer without it is wrong.
const TEXT: &str = "a text of forty-two bytes, to be said again";
const TIMER: Token = Token(usize::MAX);

/// Who calls what, and how often.
pub(crate) struct Stream {
    /// The tool that they call.
    pub(crate) tool: &'static str,
    pub(crate) clients: usize,
    /// Calls a second, by all of them together.
    pub(crate) per_s: u32,
}

/// What became of the calls of one stream that were sent in one part of the run.
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Got something else than the echo.
    pub(crate) failed: u64,
    /// The first of these answers.
    pub(crate) failure: Option<String>,
    /// Nanoseconds from the write to the answer, whatever it is.
    pub(crate) waits: Histogram<u64>,
    /// Nanoseconds from when a call was due until it was written: this program's own lateness.
    pub(crate) lateness: Histogram<u64>,
}

/// The load: all streams together.
pub(crate) struct Paced {
    poll: Poll,
    timer: TimerFd,
    clients: Vec<Client>,
    schedules: Vec<Schedule>,
}

struct Schedule {
    tool: &'static str,
    /// Seconds between two calls, on average.
    every_s: f64,
    due: Instant,
    random: u64,
    /// Its clients, who take turns.
    clients: std::ops::Range<usize>,
    next: usize,
    /// One for each part of the run; calls are counted in the part that they were sent in.
    tallies: Vec<Tally>,
}

struct Client {
    stream: mio::net::TcpStream,
    schedule: usize,
    next_id: u64,
    /// By id: in which part it was sent, and when.
    awaited: HashMap<u64, (usize, Instant)>,
    /// The beginning of a line whose rest has not come.
    rest: Vec<u8>,
}

#[derive(Deserialize)]
struct Heard {
    id: Option<u64>,
}

impl Paced {
    /// Connects the clients of all streams.
    pub(crate) fn new(addr: SocketAddr, streams: &[Stream]) -> Result<Self> {
        let (poll, now) = (Poll::new()?, Instant::now());
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        poll.registry().register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER, Interest::READABLE)?;
        let (mut clients, mut schedules) = (Vec::new(), Vec::new());
        for (schedule, stream) in streams.iter().enumerate() {
            let first = clients.len();
            for _ in 0..stream.clients {
                let mut client = Client::connect(addr, schedule)?;
                poll.registry().register(&mut client.stream, Token(clients.len()), Interest::READABLE)?;
                clients.push(client);
            }
            let (every_s, range) = (1.0 / f64::from(stream.per_s), first..clients.len());
            let (tool, random) = (stream.tool, schedule as u64);
            schedules.push(Schedule {
                tool,
                every_s,
                due: now,
                random,
                clients: range,
                next: first,
                tallies: Vec::new(),
            });
        }
        Ok(Self { poll, timer, clients, schedules })
    }

    /// Goes on calling for this time, as a part of the run that is counted by itself; its number.
    pub(crate) fn run(&mut self, time: Duration) -> Result<usize> {
        for schedule in &mut self.schedules {
            let (waits, lateness) = (Histogram::new(3)?, Histogram::new(3)?);
            schedule.tallies.push(Tally { sent: 0, answered: 0, failed: 0, failure: None, waits, lateness });
            // What was due while nobody ran this is no lateness.
            schedule.due = schedule.due.max(Instant::now());
        }
        let (mut events, mut buffer) = (Events::with_capacity(1024), vec![0; 64 << 10]);
        let end = Instant::now() + time;
        while Instant::now() < end {
            // Finer than a poll's milliseconds.
            let due = self.schedules.iter().map(|schedule| schedule.due).min().ok_or("no stream")?;
            let left = due.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            self.timer.set(Expiration::OneShot(TimeSpec::from(left)), TimerSetTimeFlags::empty())?;
            self.poll.poll(&mut events, Some(Duration::from_millis(100)))?;
            for event in &events {
                if event.token() == TIMER {
                    // That it had run is all it tells.
                    let _ = self.timer.wait();
                } else {
                    self.clients[event.token().0].receive(&mut self.schedules, &mut buffer)?;
                }
            }
            self.send()?;
        }
        Ok(self.schedules[0].tallies.len() - 1)
    }

    /// What became of a stream's calls in that part.
    pub(crate) fn tally(&self, stream: usize, part: usize) -> &Tally {
        &self.schedules[stream].tallies[part]
    }

    /// Whatever is due.
    fn send(&mut self) -> Result<()> {
        for schedule in &mut self.schedules {
            let part = schedule.tallies.len() - 1;
            loop {
                let now = Instant::now();
                let Some(late) = now.checked_duration_since(schedule.due) else { break };
                let pause = schedule.pause();
                schedule.due += pause;
                self.clients[schedule.next].call(schedule.tool, part)?;
                schedule.next += 1;
                if schedule.next == schedule.clients.end {
                    schedule.next = schedule.clients.start;
                }
                let tally = &mut schedule.tallies[part];
                tally.sent += 1;
                tally.lateness.record(late.as_nanos() as u64)?;
            }
        }
        Ok(())
    }
}

impl Schedule {
    /// Until its next call.
    fn pause(&mut self) -> Duration {
        // splitmix64; the same calls in each run.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        Duration::from_secs_f64(self.every_s * -(1.0 - share).ln())
    }
}

impl Client {
    /// A client of 2025-11-25.
    fn connect(addr: SocketAddr, schedule: usize) -> Result<Self> {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.write_all(br#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}
"#)?;
        if BufReader::new(&stream).read_line(&mut String::new())? == 0 {
            return Err("the gateway closed".into());
        }
        stream.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n")?;
        stream.set_nonblocking(true)?;
        let stream = mio::net::TcpStream::from_std(stream);
        Ok(Self { stream, schedule, next_id: 1, awaited: HashMap::new(), rest: Vec::new() })
    }

    fn call(&mut self, tool: &str, part: usize) -> Result<()> {
        let id = self.next_id;
        let call = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\
             \"params\":{{\"name\":\"{tool}\",\"arguments\":{{\"text\":\"{TEXT}\"}}}}}}\n"
        );
        self.next_id += 1;
        self.awaited.insert(id, (part, Instant::now()));
        // A few calls are far smaller than a socket's buffer.
        Ok(self.stream.write_all(call.as_bytes())?)
    }

    /// Counts the answers that have come.
    fn receive(&mut self, schedules: &mut [Schedule], buffer: &mut [u8]) -> Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err("the gateway closed".into()),
                Ok(n) => self.rest.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let now = Instant::now();
            let whole = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            for line in self.rest[..whole].split_inclusive(|&byte| byte == b'\n') {
                let heard: Heard = serde_json::from_slice(line)?;
                // Without an id it tells of a change.
                let Some(id) = heard.id else { continue };
                let (part, sent) = self.awaited.remove(&id).ok_or("an answer that nobody waits for")?;
                let tally = &mut schedules[self.schedule].tallies[part];
                tally.waits.record((now - sent).as_nanos() as u64)?;
                if memmem::find(line, TEXT.as_bytes()).is_some() {
                    tally.answered += 1;
                } else {
                    tally.failed += 1;
                    tally.failure.get_or_insert_with(|| String::from_utf8_lossy(line).into_owned());
                }
            }
            self.rest.drain(..whole);
        }
    }
}
