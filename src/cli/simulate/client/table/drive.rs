//! A profile's load on one table: calls and departures by a schedule, and clients that come again until they are in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::book::{Book, micros};
use super::{SWEEP, Table};
use crate::cli::simulate::client::life::Phase;
use crate::cli::simulate::client::numbered::{self, Reply};
use crate::cli::simulate::client::one::{Client, with};
use crate::cli::simulate::client::pace::Pace;
use crate::cli::simulate::client::script::Who;
use crate::cli::simulate::client::socket::{Heard, Seen};
use crate::cli::simulate::client::speech::{self, Spoken};
use crate::cli::simulate::drive::Drive;
use crate::cli::simulate::order::{Cause, Death, Muster};

/// What is begun between two looks at the sockets: who begins more makes its own answers late.
const BATCH: usize = 64;
/// The longest that a client does as a refusal says.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// An order to drive under way. Times are in microseconds since its begin.
pub(super) struct Driving {
    drive: Drive,
    begun: Instant,
    swept: u64,
    calls: Pace,
    greedy: Pace,
    turnover: Pace,
    /// The client whose turn is next, of each pace.
    next: [usize; 3],
    /// Clients that are outside, by when they come (again).
    again: BinaryHeap<Reverse<(u64, usize)>>,
    /// Clients whose handshake, or leave, is under way.
    coming: usize,
    /// Calls in flight by number: whose, and since when. Numbers ascend with time.
    asked: BTreeMap<u64, (usize, u64)>,
    number: u64,
    book: Book,
}

/// Which of a table's clients a pace chooses from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Choice {
    /// One that may call; where a tenant is greedy, one of the others.
    Call,
    /// One of the greedy tenant.
    Greedy,
    /// One that is owed nothing and may leave.
    Leave,
}

impl Driving {
    fn now(&self) -> u64 {
        micros(self.begun.elapsed())
    }

    fn ends(&self) -> u64 {
        self.drive.ms.saturating_mul(1_000)
    }

    fn is_settled(&self) -> bool {
        self.coming == 0 && self.asked.is_empty() && (self.drive.give_up || self.again.is_empty())
    }

    /// Judges a message to client `at`; the number of the call that it ended, if one.
    fn hear(&mut self, message: &[u8], who: Who, out: &mut Vec<u8>) -> Result<Option<u64>, Death> {
        let reply = numbered::hear(message, who, out)?;
        let now = self.now();
        self.book.turn_to(now);
        let (number, since) = match &reply {
            Reply::Aside => return Ok(None),
            Reply::Answer(number) | Reply::Refused(number, _) | Reply::Failed(number, _) => {
                // One that was given up, by patience, may still be answered.
                let Some(asked) = self.asked.remove(number) else { return Ok(None) };
                (*number, asked.1)
            }
        };
        let waited = now.saturating_sub(since);
        match reply {
            Reply::Answer(_) => {
                let in_time = self.drive.deadline_ms == 0 || waited <= self.drive.deadline_ms * 1_000;
                self.book.answered(waited, in_time, who.tenant);
            }
            Reply::Refused(_, refusal) => self.book.refused(Some(&refusal), waited),
            Reply::Failed(_, death) => self.book.failed(death),
            Reply::Aside => {}
        }
        Ok(Some(number))
    }
}

impl Table {
    pub(super) fn begin_drive(&mut self, drive: Drive, share: usize) {
        let (index, all) = (self.index, self.posting.all_tables);
        let pace = |per_s| Pace::new(per_s, index, all);
        self.waits.reset();
        self.told.clear();
        let mut driving = Driving {
            drive,
            begun: Instant::now(),
            swept: 0,
            calls: pace(drive.calls_per_s),
            greedy: pace(drive.greedy_per_s),
            turnover: pace(drive.turnover_per_s),
            next: [0; 3],
            again: BinaryHeap::new(),
            coming: 0,
            asked: BTreeMap::new(),
            number: 0,
            book: Book::new(),
        };
        self.clients.reserve_exact(share.saturating_sub(self.clients.len()));
        while self.clients.len() < share {
            let dialect = self.posting.dialect.of(self.who(self.clients.len()).number);
            let mut client = Client::new(dialect, self.posting.quiet, 0);
            client.life.phase = Phase::Gone;
            self.clients.push(client);
        }
        for (at, client) in self.clients.iter_mut().enumerate() {
            if drive.cut && client.life.phase != Phase::Gone {
                client.end();
                self.gauge.live.fetch_sub(1, Ordering::Relaxed);
            }
            if client.life.phase == Phase::Gone && at < share {
                driving.again.push(Reverse((0, at)));
            }
        }
        self.driving = Some(Box::new(driving));
    }

    /// Begins what is due; the report when the time is over and nobody waits any more.
    pub(super) fn drive(&mut self) -> Option<Muster> {
        let now = self.driving.as_ref()?.now();
        self.let_in(now);
        let driving = self.driving.as_mut()?;
        driving.book.turn_to(now);
        if now < driving.ends() {
            self.let_leave(now);
            self.let_call(now);
        }
        self.sweep_driven(now);
        let driving = self.driving.as_ref()?;
        let patience = self.posting.patience_ms * 1_000;
        let over = now >= driving.ends() && (driving.is_settled() || now >= driving.ends().saturating_add(patience));
        over.then(|| self.end_drive())
    }

    /// How long nothing is to be begun, while a load is driven.
    pub(super) fn until_driven(&self) -> Option<Duration> {
        let driving = self.driving.as_ref()?;
        let now = driving.now();
        let paces = [&driving.calls, &driving.greedy, &driving.turnover].into_iter().filter_map(|pace| pace.next());
        let next = if now < driving.ends() { paces.min() } else { None };
        let again = driving.again.peek().map(|Reverse((when, _))| *when);
        let next = next.into_iter().chain(again).min().unwrap_or(u64::MAX);
        Some(Duration::from_micros(next.saturating_sub(now)).min(SWEEP))
    }

    fn end_drive(&mut self) -> Muster {
        let outside = match self.driving.take() {
            Some(mut driving) => {
                for (at, _) in std::mem::take(&mut driving.asked).into_values() {
                    driving.book.failed(Death::new(Cause::NoAnswer, "at the end of the load"));
                    self.settle_call(at);
                }
                let stuck = |client: &&Client| client.life.waits();
                let outside = driving.again.len() + self.clients.iter().filter(stuck).count();
                Some(driving.book.close(outside as u64))
            }
            None => None,
        };
        for at in 0..self.clients.len() {
            if self.clients.get(at).is_some_and(|client| client.life.waits()) {
                self.deaths.add(Death::new(Cause::NoAnswer, "not in at the end of the load"));
                self.gauge.dead.fetch_add(1, Ordering::Relaxed);
                if let Some(client) = self.clients.get_mut(at) {
                    client.end();
                }
            }
        }
        self.muster(outside)
    }

    /// Lets those come whose time it is.
    fn let_in(&mut self, now: u64) {
        for _ in 0..BATCH {
            let Some(driving) = &mut self.driving else { return };
            if driving.drive.give_up && now >= driving.ends() {
                return;
            }
            match driving.again.peek() {
                Some(Reverse((when, at))) if *when <= now => {
                    let at = *at;
                    driving.again.pop();
                    self.come(at, now);
                }
                _ => return,
            }
        }
    }

    /// Client `at` connects anew, from another address than before.
    fn come(&mut self, at: usize, now: u64) {
        let Some(client) = self.clients.get_mut(at) else { return };
        let round = client.round.wrapping_add(1);
        let who = self.who(at);
        let Some(client) = self.clients.get_mut(at) else { return };
        let (dialect, quiet) = (self.posting.dialect.of(who.number), self.posting.quiet);
        *client = Client::new(dialect, quiet, u32::try_from(now).unwrap_or(u32::MAX));
        client.round = round;
        if let Some(driving) = &mut self.driving {
            driving.coming += 1;
        }
        let who = self.who(at);
        match self.open(at, who, self.wave.wrapping_add(u32::from(round))) {
            Ok(socket) => {
                if let Some(client) = self.clients.get_mut(at) {
                    client.socket = socket;
                }
            }
            Err(error) => self.driven_death(at, Phase::Connecting, Death::new(Cause::ConnectFailed, error.to_string())),
        }
    }

    fn let_leave(&mut self, now: u64) {
        for _ in 0..BATCH {
            let Some(driving) = &mut self.driving else { return };
            if driving.turnover.take(now).is_none() {
                return;
            }
            // Where nobody may leave, nobody does: the figure shows it.
            let Some(at) = self.choose(Choice::Leave) else { return };
            let who = self.who(at);
            let (Some(client), Some(driving)) = (self.clients.get_mut(at), &mut self.driving) else { return };
            driving.coming += 1;
            driving.book.left();
            client.since = u32::try_from(now).unwrap_or(u32::MAX);
            self.out.clear();
            client.life.leave(who, &mut self.out);
            let said = client.say(&self.out);
            self.gauge.live.fetch_sub(1, Ordering::Relaxed);
            let gone = client.life.phase == Phase::Gone;
            match said {
                Err(death) => self.driven_death(at, Phase::Leaving, death),
                Ok(()) if gone => self.has_left(at),
                Ok(()) => {}
            }
        }
    }

    /// It has left, and comes again.
    fn has_left(&mut self, at: usize) {
        if let Some(client) = self.clients.get_mut(at) {
            client.end();
        }
        if let Some(driving) = &mut self.driving {
            driving.coming -= 1;
            let now = driving.now();
            driving.again.push(Reverse((now, at)));
        }
    }

    fn let_call(&mut self, now: u64) {
        for choice in [Choice::Call, Choice::Greedy] {
            for _ in 0..BATCH {
                let Some(driving) = &mut self.driving else { return };
                let pace = if choice == Choice::Greedy { &mut driving.greedy } else { &mut driving.calls };
                let Some(due) = pace.take(now) else { break };
                match self.choose(choice) {
                    Some(at) => self.call(at, due),
                    None => {
                        let nobody = Death::new(Cause::ConnectFailed, "no client was in that could call");
                        if let Some(driving) = &mut self.driving {
                            driving.book.failed(nobody);
                        }
                    }
                }
            }
        }
    }

    fn call(&mut self, at: usize, due: u64) {
        let who = self.who(at);
        let (Some(client), Some(driving)) = (self.clients.get_mut(at), &mut self.driving) else { return };
        driving.number += 1;
        let number = driving.number;
        let now = driving.now();
        driving.book.asked(now.saturating_sub(due), who.tenant);
        driving.asked.insert(number, (at, now));
        client.owed += 1;
        self.out.clear();
        speech::say(client.life.is_ws(), who, &mut self.out, |out| numbered::call(out, who, number));
        if let Err(death) = client.say(&self.out) {
            self.driven_death(at, Phase::Idle, death);
        }
    }

    /// The next client in turn that is fit for it.
    fn choose(&mut self, choice: Choice) -> Option<usize> {
        let tenants = self.posting.tenants;
        let driving = self.driving.as_mut()?;
        let has_greedy = driving.drive.greedy_per_s > 0.0;
        let next = driving.next.get_mut(choice as usize)?;
        let all = self.clients.len();
        let fits = |at: usize, client: &Client| {
            let greedy = has_greedy && (at as u32).checked_rem(tenants) == Some(0);
            client.life.phase == Phase::Idle
                && match choice {
                    Choice::Call => !greedy && client.owed < u16::MAX,
                    Choice::Greedy => greedy && client.owed < u16::MAX,
                    Choice::Leave => client.owed == 0,
                }
        };
        for step in 0..all {
            let at = (*next + step) % all;
            if self.clients.get(at).is_some_and(|client| fits(at, client)) {
                *next = at + 1;
                return Some(at);
            }
        }
        None
    }

    /// An event on client `at` while a load is driven.
    pub(super) fn driven_turn(&mut self, at: usize, seen: Seen) {
        let who = self.who(at);
        let Some(client) = self.clients.get_mut(at).filter(|client| client.socket.stream.is_some()) else { return };
        let before = client.life.phase;
        let heard = if before == Phase::Idle && !self.posting.dialect.is_http() {
            self.hear_replies(at, who, seen)
        } else {
            client.turn(who, seen, &mut self.scratch, &mut self.out)
        };
        match heard {
            Err(death) => self.driven_death(at, before, death),
            Ok(()) => self.driven_progress(at, before),
        }
    }

    fn driven_progress(&mut self, at: usize, before: Phase) {
        let (Some(client), Some(driving)) = (self.clients.get(at), &mut self.driving) else { return };
        let now = driving.now();
        match client.life.phase {
            after if after == before => {}
            Phase::Gone => self.has_left(at),
            Phase::Idle => {
                driving.coming -= 1;
                driving.book.turn_to(now);
                driving.book.came(now.saturating_sub(u64::from(client.since)), now);
                self.gauge.live.fetch_add(1, Ordering::Relaxed);
                self.gauge.waits.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// What came to a client that is in: answers to its calls.
    fn hear_replies(&mut self, at: usize, who: Who, seen: Seen) -> Result<(), Death> {
        let (Some(client), Some(driving)) = (self.clients.get_mut(at), &mut self.driving) else { return Ok(()) };
        let (ws, out) = (client.life.is_ws(), &mut self.out);
        out.clear();
        let mut replies = 0;
        let heard = client.socket.listen(seen.closed, &mut self.scratch, |bytes| {
            let mut done = 0;
            while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
                let Some((spoken, length)) = speech::next(ws, rest)? else { break };
                match spoken {
                    Spoken::Message(message) => {
                        let mut aside = Vec::new();
                        replies += u16::from(driving.hear(message, who, &mut aside)?.is_some());
                        if !aside.is_empty() {
                            speech::say(ws, who, out, |out| out.extend_from_slice(&aside));
                        }
                    }
                    Spoken::Ping(payload) => speech::pong(who, payload, out),
                    Spoken::Nothing => {}
                    Spoken::Close(code) => return Err(Death::new(Cause::Closed, format!("close code {code}"))),
                }
                done += length;
            }
            Ok(done)
        });
        client.owed = client.owed.saturating_sub(replies);
        if let Heard::Closed(error) = heard? {
            return Err(with(error, Death::new(Cause::Closed, "closed by the gateway while in")));
        }
        if !out.is_empty() || (client.socket.has_unsaid() && seen.writable) { client.say(out) } else { Ok(()) }
    }

    /// Something went wrong with client `at`: a refusal if it was on its way in, else its death.
    fn driven_death(&mut self, at: usize, before: Phase, death: Death) {
        let who = self.who(at);
        let Some(client) = self.clients.get_mut(at) else { return };
        let (was_in, since, attempt) = (before == Phase::Idle, u64::from(client.since), u64::from(client.round));
        client.life.phase = before;
        client.end();
        client.owed = 0;
        let Some(driving) = &mut self.driving else { return };
        let now = driving.now();
        driving.book.turn_to(now);
        if was_in {
            self.gauge.live.fetch_sub(1, Ordering::Relaxed);
            for number in
                driving.asked.iter().filter(|(_, (of, _))| *of == at).map(|(number, _)| *number).collect::<Vec<_>>()
            {
                driving.asked.remove(&number);
                driving.book.failed(Death::new(Cause::Closed, "its client's connection ended"));
            }
        } else {
            driving.coming -= 1;
        }
        let may_return = matches!(death.cause, Cause::ConnectFailed | Cause::Refused | Cause::Closed);
        if !was_in && before != Phase::Leaving && may_return {
            driving.book.refused(death.refusal.as_ref(), now.saturating_sub(since));
            let told = death.refusal.and_then(|refusal| refusal.again).map(|again| again.min(PAUSE_MAX));
            // All who were told the same time would come at the same moment: up to a fifth more.
            let own = numbered::own_pause(who, attempt);
            let pause = told.map_or(own, |told| told + told.mul_f64(0.2 * (own.as_secs_f64() - 0.5)));
            driving.again.push(Reverse((now + micros(pause), at)));
            return;
        }
        self.deaths.add(death);
        self.gauge.dead.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives up calls, and clients on their way in, that have waited longer than a client's patience.
    fn sweep_driven(&mut self, now: u64) {
        let patience = self.posting.patience_ms * 1_000;
        let Some(driving) = &mut self.driving else { return };
        if now < driving.swept + micros(SWEEP) {
            return;
        }
        driving.swept = now;
        let mut given_up = Vec::new();
        while let Some(oldest) = driving.asked.first_entry().filter(|oldest| now > oldest.get().1 + patience) {
            given_up.push(oldest.remove().0);
            driving.book.failed(Death::new(Cause::NoAnswer, format!("{} ms", self.posting.patience_ms)));
        }
        given_up.into_iter().for_each(|at| self.settle_call(at));
        for at in 0..self.clients.len() {
            let Some(client) = self.clients.get(at) else { break };
            if client.life.waits() && now.saturating_sub(u64::from(client.since)) > patience {
                let phase = client.life.phase;
                let waited = format!("{} ms while {phase:?}", self.posting.patience_ms);
                self.driven_death(at, phase, Death::new(Cause::NoAnswer, waited));
            }
        }
    }

    fn settle_call(&mut self, at: usize) {
        if let Some(client) = self.clients.get_mut(at) {
            client.owed = client.owed.saturating_sub(1);
        }
    }
}
