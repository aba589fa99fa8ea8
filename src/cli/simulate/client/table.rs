//! One thread with a descriptor table, an event loop and its share of the clients.

mod book;
mod drive;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use self::drive::Driving;
use super::WAKE;
use super::life::{Life, Phase};
use super::messengers::Messengers;
use super::one::Client;
use super::script::Who;
use super::socket::{Seen, Socket};
use crate::cli::simulate::clients::MESSENGERS;
use crate::cli::simulate::drive::{Drove, waits_of};
use crate::cli::simulate::order::{
    Cause, Death, Deaths, Muster, Order, Posting, Question, monotonic_micros, new_histogram,
};

/// How often a busy table looks for clients that have waited too long.
const SWEEP: Duration = Duration::from_millis(500);
/// Bytes read from a socket at once.
const SCRATCH: usize = 64 << 10;

/// What all tables of a process count together while an order is under way.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    pub(super) live: AtomicU64,
    pub(super) dead: AtomicU64,
    pub(super) waits: AtomicU64,
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
    messengers: Messengers,
    wave: u32,
    job: Option<Job>,
    /// A profile's load, which is no job: it follows a schedule.
    driving: Option<Box<Driving>>,
    deaths: Deaths,
    /// How long the clients of this order waited, in microseconds.
    waits: Histogram<u64>,
    /// Who was told of a change, and when, since the last order but [`Order::Hear`].
    told: Vec<(u32, u64)>,
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
            messengers: Messengers::default(),
            wave: 0,
            job: None,
            driving: None,
            deaths: Deaths::default(),
            waits: new_histogram(),
            told: Vec::new(),
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
            if self.job.is_none() && self.driving.is_none() {
                match orders.try_recv() {
                    Ok(order) => self.begin(order),
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            if let Some(report) = self.advance().or_else(|| self.drive()) {
                // A parent that no longer listens ends the process by closing stdin.
                let _ = reports.send(Ok(report));
                continue;
            }
            let timeout = self.until_driven().or(self.job.is_some().then_some(SWEEP));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                match Messengers::number(event.token()) {
                    Some(number) => self.deliver(number, Seen::from(event)),
                    None if self.driving.is_some() => self.driven_turn(event.token().0, Seen::from(event)),
                    None => self.turn(event.token().0, Seen::from(event)),
                }
            }
            self.sweep();
        }
    }

    fn begin(&mut self, order: Order) {
        let share =
            |total: u32| (total + self.posting.all_tables - 1).saturating_sub(self.index) / self.posting.all_tables;
        let each = |all: u32| (all / self.posting.all_tables).max(1) as usize;
        let errands = |all: u32| {
            let most = if self.posting.dialect.is_http() { MESSENGERS as usize } else { usize::MAX };
            each(all).min(most)
        };
        self.waits.reset();
        let (next, goal, window) = match order {
            Order::Connect { total, wave, in_flight } => {
                self.wave = wave;
                self.clients.reserve_exact((share(total) as usize).saturating_sub(self.clients.len()));
                (self.clients.len(), share(total) as usize, each(in_flight))
            }
            Order::Ping { in_flight } | Order::Ask { in_flight, .. } | Order::Leave { in_flight } => {
                (0, self.clients.len(), errands(in_flight))
            }
            Order::Hear { .. } => (0, self.clients.len(), usize::MAX),
            Order::Drive(drive) => return self.begin_drive(drive, share(drive.total) as usize),
        };
        let now = Instant::now();
        self.job = Some(Job { order, begun: now, swept: now, next, goal, under_way: 0, window });
        let told = std::mem::take(&mut self.told);
        if let Order::Hear { since } = order {
            self.await_change(since, &told);
        }
    }

    /// Lets all who were not told since `since` await it.
    fn await_change(&mut self, since: u64, told: &[(u32, u64)]) {
        for client in self.clients.iter_mut().filter(|client| client.life.phase == Phase::Idle) {
            client.life.phase = Phase::Awaiting;
            client.since = 0;
        }
        for &(at, when) in told.iter().filter(|(_, when)| *when >= since) {
            let client = self.clients.get_mut(at as usize);
            if let Some(client) = client.filter(|client| client.life.phase == Phase::Awaiting) {
                client.life.phase = Phase::Idle;
                self.waits.saturating_record((when - since).max(1));
                self.gauge.waits.fetch_add(1, Ordering::Relaxed);
            }
        }
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
                Order::Ping { .. } | Order::Ask { question: Question::Ping, .. } => self.act(at, Life::ping),
                Order::Ask { question: Question::Call, .. } => self.act(at, Life::call_again),
                Order::Ask { question: Question::Large, .. } => self.act(at, Life::call_for_much),
                Order::Ask { question: Question::Refused, .. } => self.act(at, Life::call_nobody),
                Order::Leave { .. } => self.act(at, Life::leave),
                Order::Hear { .. } => {
                    if self.clients.get(at).is_none_or(|client| client.life.phase != Phase::Awaiting) {
                        self.finish_turn();
                    }
                }
                // It is no job.
                Order::Drive(_) => self.finish_turn(),
            }
        }
        if self.job.as_ref()?.under_way > 0 {
            return None;
        }
        if let Order::Leave { .. } = self.job.take()?.order {
            self.clients.clear();
        }
        self.messengers.disband();
        Some(self.muster(None))
    }

    fn muster(&mut self, drove: Option<Drove>) -> Muster {
        let live = self.clients.iter().filter(|client| client.life.phase == Phase::Idle).count() as u64;
        Muster {
            live,
            deaths: std::mem::take(&mut self.deaths),
            waits: waits_of(&self.waits),
            drove: drove.map(Box::new),
        }
    }

    fn who(&self, at: usize) -> Who {
        let round = self.clients.get(at).map_or(0, |client| client.round);
        Who {
            number: self.index + at as u32 * self.posting.all_tables,
            seed: self.posting.seed.wrapping_add(u64::from(self.wave) + u64::from(round)),
            target: self.posting.target,
            // By its place, so that each table has clients of each tenant.
            tenant: (at as u32).checked_rem(self.posting.tenants),
        }
    }

    fn open(&self, at: usize, who: Who, wave: u32) -> io::Result<Socket> {
        let mut socket = Socket::open(who, wave, self.posting.seed)?;
        if let Some(stream) = &mut socket.stream {
            self.poll.registry().register(stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        }
        Ok(socket)
    }

    fn connect(&mut self, at: usize, wave: u32) {
        let who = self.who(at);
        let mut client = Client::new(self.posting.dialect.of(who.number), self.posting.quiet, self.clock());
        match self.open(at, who, wave) {
            Ok(socket) => {
                client.socket = socket;
                self.clients.push(client);
            }
            Err(error) => {
                self.clients.push(client);
                self.bury(at, Phase::Connecting, Death::new(Cause::ConnectFailed, error.to_string()));
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
        let begun = client.life.phase;
        let gone = begun == Phase::Gone;
        let said = if self.posting.dialect.is_http() && !gone {
            let (wave, seed) = (self.wave, self.posting.seed);
            self.messengers.send(at, &self.out, self.poll.registry(), || Socket::open(who, wave, seed))
        } else {
            client.say(&self.out)
        };
        if let Err(death) = said {
            self.bury(at, begun, death);
        } else if gone {
            self.depart(at);
        }
    }

    /// An event on client `at`.
    fn turn(&mut self, at: usize, seen: Seen) {
        let (who, most) = (self.who(at), 2 * self.clients.len());
        let Some(client) = self.clients.get_mut(at).filter(|client| client.socket.stream.is_some()) else {
            return;
        };
        let before = client.life.phase;
        let heard = client.turn(who, seen, &mut self.scratch, &mut self.out);
        // Some changes may come before the order; a gateway that goes on and on is not remembered.
        let room = self.told.len() < most;
        if std::mem::take(&mut client.life.told) && before == Phase::Idle && room {
            self.told.push((at as u32, monotonic_micros()));
        }
        match heard {
            Err(death) => self.bury(at, before, death),
            Ok(()) => self.progress(at, before),
        }
    }

    /// An event on a messenger.
    fn deliver(&mut self, number: usize, seen: Seen) {
        let sender = self.messengers.sender(number);
        let who = self.who(sender.unwrap_or_default());
        let before = sender.and_then(|at| self.clients.get(at)).map(|client| client.life.phase);
        let clients = &mut self.clients;
        let heard = self.messengers.turn(number, seen, &mut self.scratch, |bytes| {
            let client = sender.and_then(|at| clients.get_mut(at));
            let nobody = || Death::new(Cause::WrongAnswer, "an answer that nobody asked for");
            client.ok_or_else(nobody)?.life.hear_errand(bytes, who)
        });
        match (sender.zip(before), heard) {
            (Some((at, before)), Err(death)) => self.bury(at, before, death),
            (Some((at, before)), Ok(())) => self.progress(at, before),
            // Without a sender it is no client's death; the connection is made anew when it is needed.
            (None, _) => {}
        }
    }

    /// Counts what client `at` has come to, if it has.
    fn progress(&mut self, at: usize, before: Phase) {
        let Some(client) = self.clients.get(at) else { return };
        let (after, since) = (client.life.phase, client.since);
        if before == after {
            return;
        }
        if after == Phase::Gone {
            self.depart(at);
        } else if after == Phase::Idle {
            let waited = match self.job.as_ref().map(|job| job.order) {
                Some(Order::Hear { since }) => Some(monotonic_micros().saturating_sub(since)),
                Some(Order::Ping { .. } | Order::Ask { .. }) => Some(u64::from(self.clock().saturating_sub(since))),
                _ => None,
            };
            match waited {
                Some(waited) => {
                    self.waits.saturating_record(waited.max(1));
                    self.gauge.waits.fetch_add(1, Ordering::Relaxed);
                }
                None => {
                    self.gauge.live.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.finish_turn();
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

    /// `before` is how far the client was when the turn began in which it died: it may have settled and died in one.
    fn bury(&mut self, at: usize, before: Phase, death: Death) {
        let Some(client) = self.clients.get_mut(at) else {
            return;
        };
        client.life.phase = before;
        let (waited, lived) = (client.life.waits(), before.is_settled());
        client.end();
        self.messengers.recall(at);
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
                let waited = format!("{} ms while {phase:?}", self.posting.patience_ms);
                self.bury(at, phase, Death::new(Cause::NoAnswer, waited));
            }
        }
    }
}
