//! The life of one connection, from its socket's arrival to its parting.
//!
//! ```text
//! arrive   a socket arrives on a shard                        admit.rs    -> Arrival
//! admit    a seat, a place in the lobby, or the door          admit.rs    -> Admitted (holds the seat)
//! open     first bytes: dialect, handshake; one deadline      open.rs     -> a Stage with its dialect
//! serve    bytes -> frames -> messages, answers -> one write  serve.rs, outbox.rs
//! turn     one message: session -> upstream -> answer         turn.rs, gate.rs, letters.rs (a Service: service.rs)
//! part     why it ended: one counter, one log line            parting.rs, last_words.rs
//! ```
//!
//! [`House`] is what all shards share (house.rs); [`Connections`] are the actors of one shard. A connection is a slot in the
//! shard's pool (connection.rs): running it means holding its lease, and a lease that is dropped, by a parting or by a
//! panic, gives slot, seat and socket back.

mod admit;
mod calls;
mod config;
mod connection;
mod drain;
mod gate;
mod house;
mod http;
mod interests;
mod last_words;
mod ledger;
mod letters;
mod open;
mod outbox;
mod parting;
mod relief;
mod residents;
mod serve;
mod service;
mod snapshot;
mod turn;

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use mio::net::TcpStream;

use crate::actor::{Breakdown, Desk, Letter, Mail, News, Order, Readiness, Tenants, Tick};
use crate::guard::{Refusal, Zone};
use crate::pool::{self, Buffers, Key, Pool};
use crate::wire::ws;

use admit::Arrival;
use config::Limits;
use connection::{Connection, Due, Stage};
use drain::Draining;

pub use calls::Calls;
pub use config::Config;
pub use house::House;
pub use http::Config as HttpConfig;
pub use ledger::Ledger;
pub use parting::Parting;
pub use service::{Message, Service, Talk};
pub use snapshot::Snapshot;
pub use turn::{Guest, Mcp};

/// Bytes read from a socket at once. What an idle shard costs, so no more than what a busy one needs.
const SCRATCH_BYTES: usize = 64 << 10;

/// Clients told news in one turn: about a millisecond of writes.
const TOLD_A_TURN: usize = 256;

/// Clients looked at for it, most of which want no news: the same again.
const LOOKED_AT_A_TURN: usize = 4_096;

/// The connections of one shard.
pub struct Connections<S: Service> {
    pool: Pool<Connection<S::Session>>,
    bench: Bench<S>,
    limits: Limits,
    held: Breakdown,
    /// What one may hold however much the others do. All such shares are what the house may hold, so it holds twice that
    /// at most.
    share: usize,
    slots_max: usize,
    /// The last one that was looked at for somebody who could go.
    relieved: Option<Key>,
    stopped: bool,
}

/// What a shard's connections take turns to use.
struct Bench<S> {
    house: Arc<House>,
    service: S,
    scratch: Vec<u8>,
    out: Vec<u8>,
    buffers: Buffers,
    rules: ws::Rules,
    counts: Counts,
    draining: Option<Draining>,
}

#[derive(Default)]
struct Counts {
    accepted: u64,
    messages_in: u64,
    /// As of the end of the last turn.
    messages_in_before: u64,
    messages_out: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl<S: Service> Connections<S> {
    /// No connections yet; `slots_max` is how many this shard may hold, the lobby included.
    pub fn new(house: Arc<House>, slots_max: usize, service: S) -> Self {
        let pool = Pool::new(pool::Config {
            preallocated: house.config.preallocated.div_ceil(house.shards).min(slots_max),
            maximum: slots_max,
        });
        let rules = ws::Rules {
            role: ws::Role::Server,
            frame_bytes_max: house.wire.frame_bytes_max,
            message_bytes_max: house.wire.message_bytes_max,
        };
        Self {
            pool,
            limits: Limits::from(&house.config),
            held: Breakdown::default(),
            share: house.config.buffered_bytes_max / house.shards / slots_max.max(1),
            slots_max,
            relieved: None,
            stopped: false,
            bench: Bench {
                service,
                scratch: vec![0; SCRATCH_BYTES],
                out: Vec::new(),
                buffers: Buffers::new(house.config.buffers.clone()),
                rules,
                counts: Counts::default(),
                draining: None,
                house,
            },
        }
    }

    /// Runs one connection: `work` on its lease, then whatever the outcome asks for.
    fn run(
        &mut self,
        desk: &mut Desk<'_>,
        key: Key,
        work: impl FnOnce(&mut Bench<S>, &mut Connection<S::Session>, &mut Desk<'_>) -> Result<(), Parting>,
    ) {
        let Some(before) = self.pool.get(key).map(|conn| conn.breakdown::<S>(0)) else { return };
        let (limits, share) = (&self.limits, self.share);
        let (pool, bench) = (&mut self.pool, &mut self.bench);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut conn = pool.lease(key).ok_or(Parting::PeerClosed)?;
            let told = bench.counts.bytes_out;
            let mut done = work(bench, &mut conn, desk);
            bench.note_told(&mut conn, told, desk);
            if done.is_err_and(|parting| bench.outlives(&mut conn, parting, desk)) {
                done = Ok(());
            }
            let lets_go = |draining: &Draining| draining.lets_go(&conn, key, desk.now) && !conn.has_sent_more();
            if done.is_ok() && bench.draining.as_ref().is_some_and(lets_go) {
                bench.say_last_words(&mut conn, Parting::Drained, desk, key);
                done = Err(Parting::Drained);
            }
            if let Err(parting) = done {
                done = bench.leave(&mut conn, parting, desk, key);
            }
            conn.rest();
            let after = conn.breakdown::<S>(0);
            if after.total() > before.total().max(share) && bench.house.is_buffering_too_much(before, after) {
                done = Err(Parting::BuffersFull);
            }
            if let Err(parting) = done {
                // The lease is dropped here, and with it slot, seat and socket are free.
                conn.give_back_buffers(&mut bench.buffers);
                return Err(parting);
            }
            conn.arm(limits, desk, key);
            conn.keep();
            Ok(after)
        }));
        let (after, parting) = match outcome {
            Ok(Ok(after)) => (after, None),
            Ok(Err(parting)) => (Breakdown::default(), Some(parting)),
            Err(_) => {
                self.bench.recover();
                (Breakdown::default(), Some(Parting::Panicked))
            }
        };
        self.held = self.held.less(before).plus(after);
        self.bench.house.rebook(before, after);
        if let Some(parting) = parting {
            self.part(desk, key, parting);
        }
    }

    /// The slot is free already: count, log, and forget the deadline.
    fn part(&mut self, desk: &mut Desk<'_>, key: Key, parting: Parting) {
        desk.wheel.cancel(key);
        self.bench.house.ledger.partings.add(parting);
        tracing::debug!(
            shard = desk.number,
            key = key.to_bits(),
            parting = crate::meter::Named::name(parting),
            "parted"
        );
    }

    /// Tells the news to all who want them, some in each turn, so that the others are not kept waiting.
    fn spread(&mut self, desk: &mut Desk<'_>, news: Arc<News>, after: Option<Key>) {
        // For who opens its stream where this has been already, and at the end for who has left before it came.
        self.bench.house.sessions.note(&news);
        let (mut at, mut looked_at, mut told) = (after, 0, 0);
        while let Some(key) = self.pool.next_key(at) {
            if told >= TOLD_A_TURN || looked_at >= LOOKED_AT_A_TURN {
                return desk.inbox.post(Mail::Order(Order::Spread { news, after: at }));
            }
            at = Some(key);
            looked_at += 1;
            let wants = |conn: &Connection<S::Session>| conn.is_told::<S>(&news);
            if self.pool.get(key).is_some_and(wants) {
                told += 1;
                self.run(desk, key, |bench, conn, desk| {
                    if !matches!(conn.stage, Stage::Leaving { .. } | Stage::Opening) {
                        bench.talk(conn, desk, key, |service, talk| service.news(talk, &news))?;
                    }
                    bench.flush(conn, desk)
                });
            }
        }
        self.bench.house.sessions.note(&news);
    }

    /// Gives back what is kept for the next client.
    fn shrink(&mut self) {
        let bytes = self.pool.shrink() + self.bench.buffers.shrink() + self.bench.out.capacity();
        self.bench.out = Vec::new();
        crate::meter::allocator::give_back();
        tracing::debug!(bytes, "memory is short: what was kept is given back");
    }
}

/// A shard ends: those that are still there end with it.
impl<S: Service> Drop for Connections<S> {
    fn drop(&mut self) {
        self.bench.house.rebook(self.held, Breakdown::default());
        self.bench.house.ledger.partings.add_n(Parting::ShardEnded, self.pool.len() as u64);
    }
}

impl<S: Service> Tenants for Connections<S> {
    fn arrive(&mut self, desk: &mut Desk<'_>, socket: TcpStream, from: SocketAddr) {
        self.bench.counts.accepted += 1;
        let house = &self.bench.house;
        let admitted = match (Arrival { socket, from }).admit(house) {
            Ok(admitted) => admitted,
            Err((arrival, refusal)) => return arrival.turn_away(house, refusal),
        };
        match self.pool.acquire(Connection::new(admitted, desk.now)) {
            Ok(mut conn) => {
                let key = conn.key();
                if desk.watch(&mut conn.socket, key).is_err() {
                    self.bench.house.ledger.partings.add(Parting::NotWatched);
                    return;
                }
                conn.arm(&self.limits, desk, key);
                conn.keep();
            }
            Err(full) => Arrival { socket: full.0.socket, from }.turn_away(&self.bench.house, Refusal::ShardFull),
        }
    }

    fn has_room(&self) -> bool {
        self.pool.len() < self.slots_max
    }

    fn accept_failed(&mut self, error: &io::Error) {
        self.bench.house.seats.refusals.add(Refusal::NoDescriptor);
        tracing::warn!(%error, "cannot accept; pausing. Raise LimitNOFILE or --shards, or lower --connections-max");
    }

    fn ready(&mut self, desk: &mut Desk<'_>, key: Key, readiness: Readiness) {
        self.run(desk, key, |bench, conn, desk| bench.ready(conn, desk, key, readiness));
    }

    fn letters(&mut self, desk: &mut Desk<'_>, key: Key, letters: impl Iterator<Item = Letter>) {
        self.run(desk, key, |bench, conn, desk| {
            for letter in letters {
                match letter {
                    _ if matches!(conn.stage, Stage::Leaving { .. }) => {}
                    Letter::Sibling { to, sibling } => bench.sibling(conn, to, sibling, desk, key)?,
                    letter => bench.talk(conn, desk, key, |service, talk| service.letter(talk, letter))?,
                }
            }
            if conn.has_more_requests() {
                desk.again(key);
            }
            bench.flush(conn, desk)
        });
    }

    fn deadline(&mut self, desk: &mut Desk<'_>, key: Key) {
        let limits = self.limits;
        self.run(desk, key, |bench, conn, desk| {
            conn.armed = Tick::MAX;
            match conn.deadline(&limits) {
                Some((due, Due::Part(_))) if due <= desk.now && conn.is_read_on(desk.now) => Ok(()),
                Some((due, Due::Part(parting))) if due <= desk.now => {
                    bench.give_up(conn);
                    bench.say_last_words(conn, parting, desk, key);
                    Err(parting)
                }
                Some((due, Due::Ping)) if due <= desk.now => {
                    if matches!(conn.stage, Stage::Http(_)) {
                        bench.keep_alive(conn, desk);
                    } else {
                        conn.pinged += 1;
                        ws::write_frame(&mut bench.out, ws::Opcode::Ping, &[]);
                    }
                    bench.flush(conn, desk)
                }
                _ => Ok(()),
            }
        });
    }

    fn order(&mut self, desk: &mut Desk<'_>, order: Order) {
        match order {
            Order::Drain { per_mille, gently } => self.drain(desk, per_mille, gently),
            Order::Stop => self.stopped = true,
            Order::Census { most, reply } => {
                // The one who asked may have stopped waiting.
                let _ = reply.try_send(self.census(desk, most));
            }
            Order::Spread { news, after } => self.spread(desk, news, after),
            Order::Shrink => self.shrink(),
            Order::Relieve => self.relieve(desk),
            Order::Open | Order::Leave | Order::Shut | Order::Panic => {}
        }
    }

    fn turned(&mut self) -> u64 {
        self.bench.service.turned();
        let counts = &mut self.bench.counts;
        counts.messages_in - std::mem::replace(&mut counts.messages_in_before, counts.messages_in)
    }

    fn publish(&mut self, desk: &Desk<'_>) {
        self.publish_gauges(desk);
        let house = &self.bench.house;
        let is_short = house.pressure.memory() >= Zone::Critical;
        house.sessions.reap(is_short.then(|| house.guards.rules().idle_least));
        house.guards.tidy();
        if is_short && self.bench.draining.is_none() {
            desk.inbox.post(Mail::Order(Order::Relieve));
        }
    }

    fn finished(&self) -> bool {
        self.stopped || (self.bench.draining.is_some() && self.pool.is_empty())
    }
}

impl<S: Service> Bench<S> {
    /// Ends a connection: at once, or, where it was told something, after it had the time to read it.
    fn leave(
        &mut self,
        conn: &mut Connection<S::Session>,
        parting: Parting,
        desk: &mut Desk<'_>,
        key: Key,
    ) -> Result<(), Parting> {
        if !parting.is_polite() || matches!(conn.stage, Stage::Leaving { .. }) {
            self.out.clear();
            return Err(parting);
        }
        self.flush(conn, desk).map_err(|_| parting)?;
        conn.stage = Stage::Leaving { parting, since: desk.now };
        if let Some(active) = &mut conn.active {
            active.forget_all_but_outbox(&mut self.buffers);
        }
        if conn.unsent() == 0 && conn.socket.shutdown(Shutdown::Write).is_err() {
            return Err(parting);
        }
        // It may have closed its side already, and edge-triggered no event will tell again.
        self.linger(conn, parting, desk, key)
    }

    /// After a panic: what it may have left half-done is made anew.
    fn recover(&mut self) {
        self.out = Vec::new();
        self.scratch.resize(SCRATCH_BYTES, 0);
    }
}
