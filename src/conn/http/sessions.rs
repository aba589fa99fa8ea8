//! The directory of all sessions of the house: found by id, bounded in number, reaped when nobody uses them.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Config;
use super::missed::Missed;
use super::session::{self, HttpSession, Place, SessionId};
use crate::actor::{Inbox, News, Sibling, Word};
use crate::conn::Guest;
use crate::guard::{Guards, Pressure, Refusal, Tenant};
use crate::pool::Key;

/// Parts of the directory, each under a lock of its own, so that shards seldom meet.
const PARTS: usize = 64;
/// Parts reaped at once: all within four seconds, at two turns a second.
const REAPED_AT_ONCE: usize = 8;
/// Sessions of each of them that make room at once while memory is short.
const RELIEVED_AT_ONCE: usize = 32;
/// How long a session is there in which nothing was asked yet: or who only initializes fills the house.
const FRESH_MS: u64 = 60_000;

/// Shared by all shards.
pub(in crate::conn) struct Sessions {
    parts: [Mutex<Part>; PARTS],
    guards: Arc<Guards>,
    /// Bytes of events kept for those who come back.
    pub(super) replayed: Arc<AtomicUsize>,
    missed: Mutex<Missed>,
    next_part: AtomicUsize,
    next_serial: AtomicU32,
    began: Instant,
    config: Config,
}

type Part = HashSet<Named, BuildHasherDefault<Prefix>>;

/// A session in its part, found by its id.
struct Named(Arc<HttpSession>);

/// Ids are random bits: the first of them are the hash. Only ids of our own making are ever kept.
#[derive(Default)]
struct Prefix(u64);

impl Sessions {
    pub(in crate::conn) fn new(config: Config, guards: Arc<Guards>) -> Self {
        Self {
            parts: std::array::from_fn(|_| Mutex::default()),
            guards,
            replayed: Arc::default(),
            missed: Mutex::new(Missed::new()),
            next_part: AtomicUsize::new(0),
            next_serial: AtomicU32::new(1),
            began: Instant::now(),
            config,
        }
    }

    /// How many there are.
    pub(in crate::conn) fn len(&self) -> usize {
        self.guards.sessions.taken()
    }

    /// Bytes of events kept for those who come back.
    pub(in crate::conn) fn replayed(&self) -> usize {
        session::kept(&self.replayed)
    }

    /// Milliseconds since the house was built.
    pub(super) fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Seconds since then.
    pub(super) fn now(&self) -> u32 {
        self.began.elapsed().as_secs() as u32
    }

    /// Where a connection is with what it begins to serve.
    pub(super) fn place(&self, inbox: &Arc<Inbox>, key: Key) -> Place {
        Place { inbox: Arc::clone(inbox), key, serial: self.next_serial.fetch_add(1, Ordering::Relaxed) }
    }

    /// Opens a session.
    ///
    /// # Errors
    /// When no more may be opened.
    pub(super) fn open(&self, guest: Guest, tenant: Tenant, at: &Pressure) -> Result<Arc<HttpSession>, Refusal> {
        self.guards.open_session(tenant, at)?;
        let mut id = [0; 16];
        // Without randomness no id can be given that nobody guesses.
        if getrandom::fill(&mut id).is_err() {
            self.guards.end_session(tenant);
            return Err(Refusal::SessionsFull);
        }
        let session = Arc::new(HttpSession::new(SessionId(id), guest, tenant, self.now()));
        self.part(session.id).insert(Named(Arc::clone(&session)));
        Ok(session)
    }

    /// The session of that name, which is in use from now on.
    pub(super) fn find(&self, name: &str) -> Option<Arc<HttpSession>> {
        let id = SessionId::parse(name)?;
        let session = Arc::clone(&self.part(id).get(&id)?.0);
        let mut state = session.state();
        if self.is_over(&state) {
            drop(state);
            self.remove(id);
            return None;
        }
        (state.used, state.fresh) = (self.now(), false);
        drop(state);
        Some(session)
    }

    /// Tells the client of the session with this number, on the stream that a GET has opened there; without one it hears
    /// nothing, and is gone for whoever asks.
    pub(in crate::conn) fn tell(&self, number: u128, word: Word) {
        let id = SessionId(number.to_be_bytes());
        let session = self.part(id).get(&id).map(|named| Arc::clone(&named.0));
        let stream = session.and_then(|session| session.state().stream().cloned());
        if let Some(stream) = stream {
            stream.tell(Sibling::Word(word));
        }
    }

    /// Notes what has changed, for the clients that have no stream now.
    pub(in crate::conn) fn note(&self, news: &News) {
        self.missed().note(news, Instant::now());
    }

    /// What has changed.
    pub(super) fn missed(&self) -> MutexGuard<'_, Missed> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a session; false if it is not there.
    pub(super) fn remove(&self, id: SessionId) -> bool {
        let Some(named) = self.part(id).take(&id) else { return false };
        self.end(named);
        true
    }

    /// Forgets sessions that nobody uses, and events that nobody came back for, in some of the parts; how many ended. While
    /// memory is short, those that were not used for longest are forgotten before their time, if that is `idle_least` ago.
    pub(in crate::conn) fn reap(&self, idle_least: Option<Duration>) -> usize {
        let events_before = self.now_ms().saturating_sub(self.config.replay_ms);
        let mut ended = 0;
        for _ in 0..REAPED_AT_ONCE {
            let part = &self.parts[self.next_part.fetch_add(1, Ordering::Relaxed) % PARTS];
            let mut over: Vec<Named> =
                lock(part).extract_if(|named| self.is_forgotten(&named.0, events_before)).collect();
            if let Some(idle_least) = idle_least {
                over.extend(self.relieve(part, idle_least));
            }
            ended += over.len();
            over.into_iter().for_each(|named| self.end(named));
        }
        ended
    }

    fn end(&self, Named(session): Named) {
        let tenant = session.state().tenant;
        session.end();
        self.guards.end_session(tenant);
    }

    /// Takes out those of one part that nobody has used for longest.
    fn relieve(&self, part: &Mutex<Part>, idle_least: Duration) -> Vec<Named> {
        let mut part = lock(part);
        let last_used = u64::from(self.now()).checked_sub(idle_least.as_secs());
        let unused = part.iter().filter_map(|named| {
            let state = named.0.state();
            let is_idle = !state.is_in_use() && last_used.is_some_and(|last| u64::from(state.used) <= last);
            is_idle.then_some((state.used, named.0.id))
        });
        let mut unused: Vec<(u32, SessionId)> = unused.collect();
        if unused.len() > RELIEVED_AT_ONCE {
            unused.select_nth_unstable_by_key(RELIEVED_AT_ONCE, |(used, _)| *used);
            unused.truncate(RELIEVED_AT_ONCE);
        }
        unused.iter().filter_map(|(_, id)| part.take(id)).collect()
    }

    fn is_forgotten(&self, session: &HttpSession, events_before: u64) -> bool {
        let mut state = session.state();
        state.forget_events_before(events_before);
        if state.is_in_use() {
            state.used = self.now();
        }
        self.is_over(&state)
    }

    fn is_over(&self, state: &session::State) -> bool {
        let unused = Duration::from_secs(self.now().saturating_sub(state.used).into());
        let most = if state.fresh { self.config.session_idle_ms.min(FRESH_MS) } else { self.config.session_idle_ms };
        state.ended || !state.is_in_use() && unused.as_millis() as u64 > most
    }

    fn part(&self, id: SessionId) -> MutexGuard<'_, Part> {
        lock(&self.parts[id.0[15] as usize % PARTS])
    }
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Borrow<SessionId> for Named {
    fn borrow(&self) -> &SessionId {
        &self.0.id
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Named {}

impl Hash for Named {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.id.hash(hasher);
    }
}

impl Hasher for Prefix {
    fn write(&mut self, bytes: &[u8]) {
        // An array is hashed as its length, which does not fit here, and its bytes.
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::{self, Roster, Seats};

    fn sessions_of(most: usize, change: impl FnOnce(&mut Config)) -> Sessions {
        let mut config = Config::default();
        change(&mut config);
        let guard = guard::Config { sessions_max: most, ..guard::Config::default() };
        let [seats, in_flight] = [(); 2].map(|()| Seats::new(1));
        Sessions::new(config, Arc::new(Guards::new(&guard, Roster::default(), &seats, &in_flight)))
    }

    fn sessions(change: impl FnOnce(&mut Config)) -> Sessions {
        sessions_of(1_000, change)
    }

    fn open(sessions: &Sessions) -> Option<Arc<HttpSession>> {
        sessions.open(Guest::default(), Tenant::default(), &Pressure::default()).ok()
    }

    #[test]
    fn a_session_is_found_by_its_name_and_by_no_other() {
        let sessions = sessions(|_| {});
        let session = open(&sessions).expect("room");
        let name = session.id.text();
        assert_eq!((name.len(), sessions.len()), (32, 1));
        assert!(sessions.find(&name).is_some_and(|found| Arc::ptr_eq(&found, &session)));
        for forged in
            ["", "0", &name[1..], &name.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A"), &"0".repeat(32)]
        {
            assert!(sessions.find(forged).is_none(), "{forged}");
        }
        assert!(sessions.remove(session.id) && !sessions.remove(session.id));
        assert!(sessions.find(&name).is_none());
        assert_eq!(sessions.len(), 0);
    }

    #[test]
    fn one_more_than_there_may_be_is_refused() {
        let sessions = sessions_of(3, |_| {});
        let open_now: Vec<_> = (0..4).map_while(|_| open(&sessions)).collect();
        assert_eq!(open_now.len(), 3);
        sessions.remove(open_now[0].id);
        assert!(open(&sessions).is_some());
    }

    #[test]
    fn a_session_that_was_only_opened_makes_room_long_before_one_that_was_used() {
        let mut sessions = sessions(|_| {});
        let (opened, used) = (open(&sessions).expect("room"), open(&sessions).expect("room"));
        assert!(sessions.find(&used.id.text()).is_some());
        sessions.began -= Duration::from_millis(FRESH_MS + 1_000);
        let ended: usize = (0..PARTS / REAPED_AT_ONCE).map(|_| sessions.reap(None)).sum();
        assert_eq!((ended, sessions.len()), (1, 1));
        assert!(opened.state().ended && !used.state().ended);
    }

    #[test]
    fn a_session_that_nobody_uses_is_reaped_and_one_in_use_is_not() {
        let sessions = sessions(|config| config.session_idle_ms = 0);
        let (idle, busy) = (open(&sessions).expect("room"), open(&sessions).expect("room"));
        for session in [&idle, &busy] {
            session.state().used = 0;
        }
        let poll = mio::Poll::new().expect("a poll");
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).expect("a waker");
        let place = sessions.place(&Arc::new(Inbox::new(waker)), Key::from_bits(1));
        busy.state().wait(1, place, Vec::new());
        std::thread::sleep(Duration::from_millis(1_100));
        let ended: usize = (0..PARTS / REAPED_AT_ONCE).map(|_| sessions.reap(None)).sum();
        assert_eq!((ended, sessions.len()), (1, 1));
        assert!(idle.state().ended && !busy.state().ended);
    }
    #[test]
    fn while_memory_is_short_those_go_that_nobody_used_for_longest() {
        let mut sessions = sessions_of(3 * RELIEVED_AT_ONCE, |_| {});
        sessions.began -= Duration::from_secs(1_000);
        let part = Mutex::<Part>::default();
        for age in 0..3 * RELIEVED_AT_ONCE as u32 {
            let session = open(&sessions).expect("room");
            session.state().used = 900 - age;
            lock(&part).insert(Named(session));
        }
        let ages = |ended: Vec<Named>| {
            let mut ages: Vec<u32> = ended.iter().map(|named| 900 - named.0.state().used).collect();
            ages.sort_unstable();
            ages
        };
        assert_eq!(ages(sessions.relieve(&part, Duration::from_secs(150))), (64..96).collect::<Vec<_>>());
        assert_eq!(ages(sessions.relieve(&part, Duration::from_secs(150))), (50..64).collect::<Vec<_>>());
        assert_eq!(ages(sessions.relieve(&part, Duration::from_secs(150))), Vec::<u32>::new());
        assert_eq!(lock(&part).len(), 50, "those who were there lately stay");
    }
}
