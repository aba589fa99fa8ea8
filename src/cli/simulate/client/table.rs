//! One thread with a descriptor table, an event loop and its share of the clients.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use super::WAKE;
use super::life::{Life, Phase};
use super::one::{Client, Seen, open};
use super::script::Who;
use crate::cli::simulate::order::{Cause, Death, Deaths, Muster, Order, Posting, new_histogram};

/// How often a busy table looks for clients that have waited too long.
const SWEEP: Duration = Duration::from_millis(500);
/// Bytes read from a socket at once.
const SCRATCH: usize = 64 << 10;

/// What all tables of a process count together while an order is under way.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    pub(super) live: AtomicU64,
    pub(super) dead: AtomicU64,
    pub(super) pings: AtomicU64,
}

/// An order under way: clients below `next` have had their turn.
struct Job {
    order: Order,
    begun: Instant,
    swept: Instant,
    next: usize,
    goal: usize,
    under_way: usize,
    window: usize,
}

pub(super) struct Table {
    posting: Posting,
    /// Which of all tables this is.
    index: u32,
    poll: Poll,
    clients: Vec<Client>,
    wave: u32,
    job: Option<Job>,
    deaths: Deaths,
    pings: Histogram<u64>,
    gauge: Arc<Gauge>,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

impl Table {
    /// `poll` was made before any thread of the process took a table of its own: only such a poll can be woken from
    /// another table.
    pub(super) fn new(posting: Posting, index: u32, poll: Poll, gauge: Arc<Gauge>) -> Self {
        Self {
            posting,
            index,
            poll,
            clients: Vec::new(),
            wave: 0,
            job: None,
            deaths: Deaths::default(),
            pings: new_histogram(),
            gauge,
            scratch: vec![0; SCRATCH],
            out: Vec::with_capacity(1024),
        }
    }

    /// Carries out orders until their sender is gone.
    pub(super) fn run(
        mut self,
        orders: &Receiver<Order>,
        reports: &SyncSender<Result<Muster, String>>,
    ) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            if self.job.is_none() {
                match orders.try_recv() {
                    Ok(order) => self.begin(order),
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            if let Some(report) = self.advance() {
                // A parent that no longer listens ends the process by closing stdin.
                let _ = reports.send(Ok(report));
                continue;
            }
            let timeout = self.job.is_some().then_some(SWEEP);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                self.turn(event.token().0, Seen::from(event));
            }
            self.sweep();
        }
    }

    fn begin(&mut self, order: Order) {
        let share =
            |total: u32| (total + self.posting.all_tables - 1).saturating_sub(self.index) / self.posting.all_tables;
        let each = |all: u32| (all / self.posting.all_tables).max(1) as usize;
        let (next, goal, window) = match order {
            Order::Connect { total, wave, in_flight } => {
                self.wave = wave;
                self.clients.reserve_exact((share(total) as usize).saturating_sub(self.clients.len()));
                (self.clients.len(), share(total) as usize, each(in_flight))
            }
            Order::Ping { in_flight } => {
                self.pings.reset();
                (0, self.clients.len(), each(in_flight))
            }
            Order::Leave { in_flight } => (0, self.clients.len(), each(in_flight)),
        };
        let now = Instant::now();
        self.job = Some(Job { order, begun: now, swept: now, next, goal, under_way: 0, window });
    }

    /// Gives the next clients their turn while the window has room; the report when the last is done.
    fn advance(&mut self) -> Option<Muster> {
        loop {
            let job = self.job.as_mut()?;
            if job.next >= job.goal {
                break;
            }
            if job.under_way >= job.window {
                return None;
            }
            let at = job.next;
            job.next += 1;
            job.under_way += 1;
            match job.order {
                Order::Connect { wave, .. } => self.connect(at, wave),
                Order::Ping { .. } => self.act(at, Life::ping),
                Order::Leave { .. } => self.act(at, Life::leave),
            }
        }
        if self.job.as_ref()?.under_way > 0 {
            return None;
        }
        let job = self.job.take()?;
        let mut pings = Vec::new();
        match job.order {
            Order::Ping { .. } => {
                pings = self.pings.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
            }
            Order::Leave { .. } => self.clients.clear(),
            Order::Connect { .. } => {}
        }
        let live = self.clients.iter().filter(|client| client.life.phase == Phase::Idle).count() as u64;
        Some(Muster { live, deaths: std::mem::take(&mut self.deaths), pings })
    }

    fn who(&self, at: usize) -> Who {
        Who {
            number: self.index + at as u32 * self.posting.all_tables,
            seed: self.posting.seed.wrapping_add(u64::from(self.wave)),
            target: self.posting.target,
        }
    }

    fn connect(&mut self, at: usize, wave: u32) {
        let who = self.who(at);
        let ws = self.posting.dialect.is_ws(who.number);
        let mut client = Client::new(ws, self.clock());
        match open(who, wave, self.posting.seed).and_then(|mut stream| {
            self.poll.registry().register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        }) {
            Ok(stream) => {
                client.stream = Some(stream);
                self.clients.push(client);
            }
            Err(error) => {
                self.clients.push(client);
                self.bury(at, Death::new(Cause::ConnectFailed, error.to_string()));
            }
        }
    }

    /// Lets an idle client begin something; the dead have had their turn at once.
    fn act(&mut self, at: usize, begin: fn(&mut Life, Who, &mut Vec<u8>)) {
        let (who, now) = (self.who(at), self.clock());
        let Some(client) = self.clients.get_mut(at).filter(|client| client.life.phase == Phase::Idle) else {
            self.finish_turn();
            return;
        };
        client.since = now;
        self.out.clear();
        begin(&mut client.life, who, &mut self.out);
        let gone = client.life.phase == Phase::Gone;
        if let Err(death) = client.say(&self.out) {
            self.bury(at, death);
        } else if gone {
            self.depart(at);
        }
    }

    /// An event on client `at`.
    fn turn(&mut self, at: usize, seen: Seen) {
        let who = self.who(at);
        let Some(client) = self.clients.get_mut(at).filter(|client| client.stream.is_some()) else {
            return;
        };
        let before = client.life.phase;
        let heard = client.turn(who, seen, &mut self.scratch, &mut self.out);
        let after = client.life.phase;
        match heard {
            Err(death) => self.bury(at, death),
            Ok(()) if after == Phase::Gone => self.depart(at),
            Ok(()) if before == after || after != Phase::Idle => {}
            Ok(()) => {
                let waited =
                    u64::from(self.clock().saturating_sub(self.clients.get(at).map_or(0, |client| client.since)));
                if matches!(self.job, Some(Job { order: Order::Ping { .. }, .. })) {
                    self.pings.saturating_record(waited.max(1));
                    self.gauge.pings.fetch_add(1, Ordering::Relaxed);
                } else {
                    self.gauge.live.fetch_add(1, Ordering::Relaxed);
                }
                self.finish_turn();
            }
        }
    }

    /// Parts with a client that was told to leave.
    fn depart(&mut self, at: usize) {
        if let Some(client) = self.clients.get_mut(at) {
            client.end();
        }
        self.gauge.live.fetch_sub(1, Ordering::Relaxed);
        self.finish_turn();
    }

    fn bury(&mut self, at: usize, death: Death) {
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        let (waited, lived) = (
            client.life.waits(),
            !matches!(client.life.phase, Phase::Connecting | Phase::Upgrading | Phase::Initializing | Phase::Calling),
        );
        client.end();
        self.deaths.add(death);
        self.gauge.dead.fetch_add(1, Ordering::Relaxed);
        if lived {
            self.gauge.live.fetch_sub(1, Ordering::Relaxed);
        }
        if waited {
            self.finish_turn();
        }
    }

    fn finish_turn(&mut self) {
        if let Some(job) = &mut self.job {
            job.under_way -= 1;
        }
    }

    /// Microseconds since the order began.
    fn clock(&self) -> u32 {
        self.job.as_ref().map_or(0, |job| u32::try_from(job.begun.elapsed().as_micros()).unwrap_or(u32::MAX))
    }

    /// Buries who has waited longer than a client's patience.
    fn sweep(&mut self) {
        let Some(job) = self.job.as_mut().filter(|job| job.under_way > 0 && job.swept.elapsed() >= SWEEP) else {
            return;
        };
        job.swept = Instant::now();
        let patience = u32::try_from(self.posting.patience_ms * 1_000).unwrap_or(u32::MAX);
        let now = self.clock();
        for at in 0..self.clients.len() {
            let Some(client) = self.clients.get(at) else {
                break;
            };
            if client.life.waits() && now.saturating_sub(client.since) > patience {
                let phase = client.life.phase;
                self.bury(at, Death::new(Cause::NoAnswer, format!("{} ms while {phase:?}", self.posting.patience_ms)));
            }
        }
    }
}
