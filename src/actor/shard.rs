//! A shard: one thread, one event loop, and the actors ([`Tenants`]) that live on it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};

use super::doors::{Doors, Porch};
use super::wheel::{TICK, Tick, Wheel};
use super::{Inbox, Letter, Mail, Order};
use crate::meter::shard::ShardMeter;
use crate::pool::Key;

// No key has these bits: the index u32::MAX is never handed out.
const INBOX: Token = Token(usize::MAX);
const LISTENER: Token = Token(u32::MAX as usize);

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;
/// Sockets accepted in one turn, so that a storm of newcomers does not starve those who are in.
const ACCEPTS_A_TURN: usize = 256;
/// How long the acceptor rests when the table is full.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a shard publishes its gauges.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);

/// What outlives a shard's thread: its poll, its inbox and its meter, made once, in main, before any thread has left
/// the shared descriptor table, and used again when the shard is restarted (design.md section 4).
pub struct Berth {
    /// Which shard.
    pub number: u16,
    /// How others reach it.
    pub inbox: Arc<Inbox>,
    /// What it publishes.
    pub meter: Arc<ShardMeter>,
    /// Locked by the shard's thread for as long as it lives.
    poll: Mutex<Poll>,
}

impl Berth {
    /// Makes the poll and its waker. To be called in the process's shared descriptor table.
    ///
    /// # Errors
    /// When the kernel gives no epoll or eventfd.
    pub fn new(number: u16) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), INBOX)?;
        let inbox = Arc::new(Inbox::new(waker));
        Ok(Self { number, inbox, meter: Arc::default(), poll: Mutex::new(poll) })
    }
}

/// The actors of one shard, and what they do when something happens. No call may block.
pub trait Tenants {
    /// A socket arrives.
    fn arrive(&mut self, desk: &mut Desk<'_>, socket: TcpStream, from: SocketAddr);
    /// The acceptor found no free descriptor and rests.
    fn accept_failed(&mut self, error: &io::Error);
    /// The socket of `key` is ready, or [`Desk::again`] was asked for.
    fn ready(&mut self, desk: &mut Desk<'_>, key: Key, readiness: Readiness);
    /// Letters for `key`, in their order, all that came at once.
    fn letters(&mut self, desk: &mut Desk<'_>, key: Key, letters: impl Iterator<Item = Letter>);
    /// The deadline of `key` has come.
    fn deadline(&mut self, desk: &mut Desk<'_>, key: Key);
    /// Whether one more may arrive. Where not, newcomers at doors that other shards have too are left to those.
    fn has_room(&self) -> bool {
        true
    }
    /// An order that is not about the doors, and not [`Order::Panic`].
    fn order(&mut self, desk: &mut Desk<'_>, order: Order);
    /// A turn is over: whatever was put off to its end is due. How many messages were read in it.
    fn turned(&mut self) -> u64 {
        0
    }
    /// Publish the gauges.
    fn publish(&mut self, desk: &Desk<'_>);
    /// Whether the shard is to end: told to, and nothing is left to do.
    fn finished(&self) -> bool;
}

/// What has become possible on a socket.
#[derive(Debug, Clone, Copy, Default)]
pub struct Readiness {
    /// Bytes, or an end, may be read.
    pub readable: bool,
    /// Bytes may be written.
    pub writable: bool,
    /// The peer has closed its side: a short read is not yet the end.
    pub read_closed: bool,
}

/// What the shard lends its tenants while they work.
pub struct Desk<'a> {
    /// Which shard.
    pub number: u16,
    /// This shard's inbox, for tickets.
    pub inbox: &'a Arc<Inbox>,
    /// What the shard publishes.
    pub meter: &'a ShardMeter,
    /// The turn's time, in ticks since the process began to keep them.
    pub now: Tick,
    /// The deadlines.
    pub wheel: &'a mut Wheel,
    registry: &'a Registry,
    again: &'a mut Vec<Key>,
}

impl Desk<'_> {
    /// Has the shard watch `socket` for `key`, edge-triggered, until it is closed.
    ///
    /// # Errors
    /// When epoll refuses it (`fs.epoll.max_user_watches`, no memory).
    pub fn watch(&self, socket: &mut TcpStream, key: Key) -> io::Result<()> {
        self.registry.register(socket, Token(key.to_bits() as usize), Interest::READABLE | Interest::WRITABLE)
    }

    /// Asks for [`Tenants::ready`] once more, after everybody else had their turn.
    pub fn again(&mut self, key: Key) {
        self.again.push(key);
    }
}

/// Runs the shard on this thread until its tenants are finished.
///
/// # Errors
/// When the poll itself fails, which no client can cause.
pub fn run(berth: &Berth, doors: impl Into<Doors>, actors_max: usize, tenants: &mut impl Tenants) -> io::Result<()> {
    let mut poll = berth.poll.lock().unwrap_or_else(PoisonError::into_inner);
    // The poll is lent to each wait, its registry to everybody.
    let registry = poll.registry().try_clone()?;
    Loop {
        berth,
        porch: Porch::new(&registry, doors.into(), LISTENER)?,
        began: Instant::now(),
        wheel: Wheel::new(actors_max),
        accept_at: None,
        again: Vec::new(),
        due: Vec::new(),
        letters: Vec::new(),
        published: Instant::now(),
    }
    .run(&mut poll, tenants)
}

struct Loop<'a> {
    berth: &'a Berth,
    porch: Porch<'a>,
    began: Instant,
    wheel: Wheel,
    /// When to try to accept without being told: after a pause, or because a turn's share was used up.
    accept_at: Option<Instant>,
    again: Vec<Key>,
    /// The keys swept from the wheel in the turn at hand.
    due: Vec<Key>,
    /// The letters collected in it.
    letters: Vec<(Key, Letter)>,
    published: Instant,
}

impl Loop<'_> {
    fn run(&mut self, poll: &mut Poll, tenants: &mut impl Tenants) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        // The wake-up for mail that is here already may have been spent on an earlier life that panicked.
        self.collect(poll.registry(), self.began, tenants)?;
        tenants.turned();
        while !tenants.finished() {
            match poll.poll(&mut events, Some(self.patience())) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let awake = Instant::now();
            self.turn(poll.registry(), &events, awake, tenants)?;
            let messages = tenants.turned();
            let done = Instant::now();
            self.berth.meter.lag.record(done - awake);
            self.berth.meter.answered.record_n(done - awake, messages);
            if done - self.published >= PUBLISH_EVERY {
                self.published = done;
                tenants.publish(&self.desk(poll.registry(), done));
            }
        }
        Ok(())
    }

    /// Everything that has happened since the last turn, once.
    fn turn(
        &mut self,
        registry: &Registry,
        events: &Events,
        now: Instant,
        tenants: &mut impl Tenants,
    ) -> io::Result<()> {
        let mut mail = false;
        let mut newcomers = self.accept_at.is_some_and(|at| at <= now);
        for event in events {
            match event.token() {
                INBOX => mail = true,
                LISTENER => newcomers = true,
                Token(bits) => {
                    let mut desk = self.desk(registry, now);
                    tenants.ready(&mut desk, Key::from_bits(bits as u64), Readiness::from(event));
                }
            }
        }
        if mail {
            self.collect(registry, now, tenants)?;
        }
        self.deadlines(registry, now, tenants);
        if newcomers {
            self.accept(registry, now, tenants);
        }
        // Those who asked for another turn, but not those who ask for one during it. The event that told of the peer's end
        // may have come with more bytes than their turn, and no other tells of it.
        let unread = Readiness { readable: true, writable: false, read_closed: true };
        let mut again = std::mem::take(&mut self.again);
        // Who asks in an event and in another turn has asked once: or each event of a busy client adds a turn for ever.
        again.sort_unstable();
        again.dedup();
        for key in again {
            tenants.ready(&mut self.desk(registry, now), key, unread);
        }
        Ok(())
    }

    fn collect(&mut self, registry: &Registry, now: Instant, tenants: &mut impl Tenants) -> io::Result<()> {
        self.berth.inbox.quiet();
        // What is posted while this is read waits for the next turn: it may be the rest of something long.
        for _ in 0..self.berth.inbox.waiting() {
            let Some(mail) = self.berth.inbox.collect() else { break };
            match mail {
                Mail::Letter(key, letter) => self.letters.push((key, letter)),
                Mail::Order(Order::Panic) => panic!("a panic was ordered"),
                Mail::Order(Order::Open) => self.porch.open(LISTENER)?,
                Mail::Order(Order::Leave) => self.porch.leave(),
                Mail::Order(Order::Shut) => self.shut(registry, now, tenants),
                Mail::Order(order) => {
                    self.hand_out(registry, now, tenants);
                    tenants.order(&mut self.desk(registry, now), order);
                }
            }
        }
        self.hand_out(registry, now, tenants);
        Ok(())
    }

    /// Hands the letters out, to each actor all of its own at once: what they make it say leaves in one write.
    fn hand_out(&mut self, registry: &Registry, now: Instant, tenants: &mut impl Tenants) {
        let mut letters = std::mem::take(&mut self.letters);
        // Stable: an actor's letters stay in their order.
        letters.sort_by_key(|(key, _)| *key);
        let mut left = letters.drain(..).peekable();
        while let Some((key, first)) = left.next() {
            let more = std::iter::from_fn(|| left.next_if(|(next, _)| *next == key).map(|(_, letter)| letter));
            tenants.letters(&mut self.desk(registry, now), key, std::iter::once(first).chain(more));
        }
        drop(left);
        self.letters = letters;
    }

    fn deadlines(&mut self, registry: &Registry, now: Instant, tenants: &mut impl Tenants) {
        let tick = self.tick(now);
        let mut due = std::mem::take(&mut self.due);
        self.wheel.sweep(tick, &mut due);
        for key in due.drain(..) {
            tenants.deadline(&mut self.desk(registry, now), key);
        }
        self.due = due;
    }

    fn accept(&mut self, registry: &Registry, now: Instant, tenants: &mut impl Tenants) {
        self.accept_at = None;
        for _ in 0..ACCEPTS_A_TURN {
            if self.porch.is_shared() && !tenants.has_room() {
                self.accept_at = Some(now + ACCEPT_PAUSE);
                return;
            }
            match self.porch.accept() {
                None => return,
                Some(Ok((socket, from))) => tenants.arrive(&mut self.desk(registry, now), socket, from),
                Some(Err(error)) if peer_is_gone(&error) => {}
                // No descriptor or no memory: the listener stays readable and, edge-triggered, silent.
                Some(Err(error)) => {
                    tenants.accept_failed(&error);
                    self.accept_at = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        self.accept_at = Some(now);
    }

    /// Takes who waits, and nobody after them.
    fn shut(&mut self, registry: &Registry, now: Instant, tenants: &mut impl Tenants) {
        let mut waiting = Vec::new();
        self.porch.shut(|newcomer| match newcomer {
            Ok(newcomer) => waiting.push(newcomer),
            Err(error) if peer_is_gone(&error) => {}
            Err(error) => tenants.accept_failed(&error),
        });
        for (socket, from) in waiting {
            tenants.arrive(&mut self.desk(registry, now), socket, from);
        }
    }

    fn desk<'a>(&'a mut self, registry: &'a Registry, now: Instant) -> Desk<'a> {
        let now = self.tick(now);
        Desk {
            number: self.berth.number,
            inbox: &self.berth.inbox,
            meter: &self.berth.meter,
            now,
            wheel: &mut self.wheel,
            registry,
            again: &mut self.again,
        }
    }

    fn tick(&self, now: Instant) -> Tick {
        (now.saturating_duration_since(self.began).as_millis() / TICK.as_millis()) as Tick
    }

    /// How long the poll may sleep.
    fn patience(&self) -> Duration {
        if !self.again.is_empty() {
            return Duration::ZERO;
        }
        let tick = if self.wheel.is_empty() { PUBLISH_EVERY } else { TICK };
        match self.accept_at {
            Some(at) => at.saturating_duration_since(Instant::now()).min(tick),
            None => tick,
        }
    }
}

impl From<&Event> for Readiness {
    fn from(event: &Event) -> Self {
        Self {
            readable: event.is_readable() || event.is_error(),
            writable: event.is_writable() || event.is_error(),
            read_closed: event.is_read_closed() || event.is_error(),
        }
    }
}

/// Errors of accept(2) that speak of the one connection that was not accepted.
fn peer_is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, PermissionDenied};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | PermissionDenied)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A test's peers are bare threads, gone with the test.
mod tests;
