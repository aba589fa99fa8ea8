//! Who watches which resource, and how the server is asked to tell: once for all of them.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::{Heard, Mux, Own, Sink};
use crate::actor::{Answer, Ticket};
use crate::guard::Seat;
use crate::mcp::{Era, Features, answer};
use crate::upstream::handle::{Client, Errand};
use crate::upstream::trouble::{Trouble, TroubleKind};
use crate::wire::json;

/// Pause before a stream of changes that has ended is opened again.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);
/// Longest wait for an answer to a request of our own.
pub(super) const OWN_WAIT: Duration = Duration::from_secs(30);
/// Longest URI that is told, in bytes: nobody can watch a longer one; and how deep parts of what is watched are looked for.
const URI_BYTES_MAX: usize = 16 << 10;
const PARTS_MAX: usize = 64;
/// Resources that changed since anybody looked, and that are told apart: what comes beyond is not told.
const UPDATED_MAX: usize = 10_000;
/// Subscriptions that a server is asked for, or to end, at once: what many clients want must not bury it.
const ASKING_MAX: usize = 32;

/// What is watched.
#[derive(Default)]
pub(super) struct Watches {
    by_uri: HashMap<Box<str>, Watched>,
    /// Legacy: what the server is to be told next, by when and in turn.
    due: BTreeMap<Turn, Box<str>>,
    turns: u64,
    /// Legacy: how many of these requests it has not answered.
    asking: usize,
    /// When to look for those who have waited too long for the server's word.
    overdue: Option<Instant>,
    /// Modern: the number of the stream that is open.
    listening: Option<u64>,
    /// Modern: whether another stream is needed, and not before when.
    anew: Option<Instant>,
}

#[derive(Default)]
struct Watched {
    /// How often each client wants it.
    clients: HashMap<u128, u32>,
    agreed: bool,
    /// It was watched on a link that is over: what has changed since then, nobody knows.
    missed: bool,
    /// Legacy: whether the server holds it subscribed; whether it is being asked to begin or to end that; whether it will be.
    held: bool,
    asking: bool,
    turn: Option<Turn>,
    /// Those who wait for the server's word, and since when.
    waiting: Vec<(Instant, Ticket, Seat)>,
}

/// Not before when, and which of all.
type Turn = (Instant, u64);

impl Watches {
    /// Whether a stream is to be opened later.
    pub(super) fn waits(&self) -> bool {
        self.anew.is_some() || self.overdue.is_some() || !self.due.is_empty()
    }

    /// Whether anybody is to be told that this resource has changed, which may be part of one that is watched.
    pub(super) fn concern(&self, uri: &str) -> bool {
        let is_watched = |uri: &str| self.by_uri.get(uri).is_some_and(|watched| !watched.clients.is_empty());
        let ends = uri.match_indices(['/', '?', '#']).take(PARTS_MAX);
        uri.len() <= URI_BYTES_MAX
            && (is_watched(uri) || ends.into_iter().any(|(at, _)| is_watched(&uri[..at]) || is_watched(&uri[..=at])))
    }

    /// Legacy: gives a resource its turn if the server holds it otherwise than is wanted, and forgets it if it concerns
    /// nobody any more.
    fn reconsider(&mut self, uri: &str, at: Instant) {
        let Some(watched) = self.by_uri.get_mut(uri) else { return };
        let wanted = !watched.clients.is_empty();
        let differs = wanted != watched.held && !watched.asking;
        match watched.turn {
            // What is wanted anew does not wait for the next try.
            Some(turn) if !differs || turn.0 > at => {
                self.due.remove(&turn);
                watched.turn = None;
            }
            _ => {}
        }
        if differs && watched.turn.is_none() {
            self.turns += 1;
            watched.turn = Some((at, self.turns));
            self.due.insert((at, self.turns), uri.into());
        }
        if !wanted && !watched.held && !watched.asking {
            self.by_uri.remove(uri);
        }
    }

    /// It is not watched any more, whoever wanted that.
    fn remove(&mut self, uri: &str) -> Option<Watched> {
        let watched = self.by_uri.remove(uri)?;
        if let Some(turn) = watched.turn {
            self.due.remove(&turn);
        }
        Some(watched)
    }
}

impl Mux {
    /// A client wants to be told of a resource; the server is asked once.
    pub(super) fn watch(
        &mut self,
        uri: Box<str>,
        task: Option<(Ticket, Seat)>,
        client: u128,
        now: Instant,
        sink: &mut impl Sink,
    ) {
        let known = self.watches.by_uri.contains_key(&uri);
        let watched = self.watches.by_uri.entry(uri.clone()).or_default();
        *watched.clients.entry(client).or_default() += 1;
        match task {
            Some((ticket, _)) if watched.agreed => ticket.settle(Answer::Result(b"{}".to_vec())),
            Some((ticket, place)) => {
                watched.waiting.push((now, ticket, place));
                let due = *self.watches.overdue.get_or_insert(now + OWN_WAIT);
                self.next_check = self.next_check.min(due);
            }
            None => {}
        }
        match self.terms.revision.era() {
            Era::Modern if known => {}
            Era::Modern => self.watches.anew = Some(now),
            Era::Legacy => {
                self.watches.reconsider(&uri, now);
                self.keep_up(now, sink);
            }
        }
    }

    /// It wants that no longer; with the last one, the server is told.
    pub(super) fn unwatch(&mut self, uri: &str, client: u128, now: Instant, sink: &mut impl Sink) {
        if self.forget_watch(uri, client, now) {
            match self.terms.revision.era() {
                Era::Modern => self.watches.anew = Some(now),
                Era::Legacy => self.keep_up(now, sink),
            }
        }
    }

    /// Tells a legacy server what it is to be told, so many things at a time.
    pub(super) fn keep_up(&mut self, now: Instant, sink: &mut impl Sink) {
        self.tell_level(now, sink);
        while self.watches.asking < ASKING_MAX
            && let Some(first) = self.watches.due.first_entry().filter(|first| first.key().0 <= now)
        {
            let uri = first.remove();
            let Some(watched) = self.watches.by_uri.get_mut(&uri) else { continue };
            let params = uri_member(&uri);
            (watched.turn, watched.asking, watched.agreed) = (None, true, false);
            let (own, method) = if watched.held {
                (Own::Unsubscribe(uri), "resources/unsubscribe")
            } else {
                (Own::Subscribe(uri), "resources/subscribe")
            };
            let asked = self.ask(own, method, &params, OWN_WAIT, now, sink).is_some();
            self.watches.asking += usize::from(asked);
        }
    }

    /// A legacy server's word on a subscription.
    pub(super) fn subscribe_ended(&mut self, uri: &str, heard: &Heard, now: Instant) {
        self.watches.asking = self.watches.asking.saturating_sub(1);
        if let Some(watched) = self.watches.by_uri.get_mut(uri) {
            watched.asking = false;
            watched.held = matches!(heard, Heard::Result(_));
        }
        self.subscribed(uri, heard);
        // What failed by the way is tried again: others may have watched it before.
        let at = if matches!(heard, Heard::Failed(_)) { now + OWN_WAIT } else { now };
        self.watches.reconsider(uri, at);
    }

    /// It holds it no longer, as far as can be known.
    pub(super) fn unsubscribe_ended(&mut self, uri: &str, now: Instant) {
        self.watches.asking = self.watches.asking.saturating_sub(1);
        if let Some(watched) = self.watches.by_uri.get_mut(uri) {
            (watched.asking, watched.held) = (false, false);
        }
        self.watches.reconsider(uri, now);
    }

    /// The server's word on a subscription: no answer is no refusal, and what was watched before stays so.
    pub(super) fn subscribed(&mut self, uri: &str, heard: &Heard) {
        let answer = self.word(heard);
        if let Heard::Error(_) = heard {
            if let Some(mut watched) = self.watches.remove(uri) {
                settle_all(&mut watched.waiting, &answer);
            }
        } else if let Some(watched) = self.watches.by_uri.get_mut(uri) {
            watched.agreed = matches!(heard, Heard::Result(_));
            settle_all(&mut watched.waiting, &answer);
            if watched.agreed && std::mem::take(&mut watched.missed) {
                self.note_updated(uri);
            }
        }
    }

    /// A resource has changed, or may have.
    pub(super) fn note_updated(&mut self, uri: &str) {
        if self.updated.len() < UPDATED_MAX && !self.updated.iter().any(|known| **known == *uri) {
            self.updated.push(uri.into());
        }
    }

    /// Those who have waited too long for the server's word are told so.
    pub(super) fn end_waiting(&mut self, now: Instant) {
        if self.watches.overdue.is_none_or(|at| at > now) {
            return;
        }
        let trouble = Trouble::new(TroubleKind::Mute, format!("nothing for {} ms", OWN_WAIT.as_millis()));
        let answer = self.word(&Heard::Failed(trouble));
        let mut next = None;
        for watched in self.watches.by_uri.values_mut() {
            for (_, ticket, _) in watched.waiting.extract_if(.., |waits| waits.0 + OWN_WAIT <= now) {
                ticket.settle(answer.clone());
            }
            next = watched.waiting.iter().map(|waits| waits.0 + OWN_WAIT).chain(next).min();
        }
        self.watches.overdue = next;
    }

    fn word(&self, heard: &Heard) -> Answer {
        match heard {
            Heard::Result(_) => Answer::Result(b"{}".to_vec()),
            Heard::Error(error) => Answer::Error(error.clone()),
            Heard::Failed(trouble) => {
                let mut error = Vec::new();
                self.upstream.blame(&mut error, trouble, None);
                Answer::Error(error)
            }
        }
    }

    /// Opens the stream of changes of a modern server, or another one if something else is to be told.
    pub(in crate::upstream) fn listen(&mut self, now: Instant) {
        if self.terms.revision.era() == Era::Modern {
            self.watches.anew = Some(now);
        }
    }

    /// The new stream first: nothing that changes in between is missed.
    pub(super) fn listen_anew(&mut self, now: Instant, sink: &mut impl Sink) {
        if self.watches.anew.is_none_or(|at| at > now) {
            return;
        }
        self.watches.anew = None;
        let mut wanted = String::from("\"notifications\":{");
        for (feature, member) in [
            (Features::TOOLS, "\"toolsListChanged\":true,"),
            (Features::PROMPTS, "\"promptsListChanged\":true,"),
            (Features::RESOURCES, "\"resourcesListChanged\":true,"),
        ] {
            if self.terms.features.has(feature) && self.terms.private.is_none() {
                wanted.push_str(member);
            }
        }
        if !self.watches.by_uri.is_empty() {
            wanted.push_str("\"resourceSubscriptions\":[");
            for uri in self.watches.by_uri.keys() {
                wanted.push_str(&quoted(uri));
                wanted.push(',');
            }
            wanted.pop();
            wanted.push_str("],");
        }
        let something = wanted.pop().is_some_and(|last| last == ',');
        wanted.push_str(if something { "}" } else { "{}" });
        let old = self.watches.listening.take();
        if something {
            self.watches.listening = self.ask(Own::Listen, "subscriptions/listen", &wanted, Duration::ZERO, now, sink);
        }
        if let Some(old) = old.filter(|&old| self.remove(old).is_some()) {
            self.forget(old, now);
            self.tell_cancelled(old, sink);
        }
    }

    /// The first word on a stream: what it will tell.
    pub(super) fn acknowledged(&mut self, params: &str) {
        let [meta, agreed] = json::pick(params, ["_meta", "notifications"]).unwrap_or([None; 2]);
        let key = "io.modelcontextprotocol/subscriptionId";
        let id = meta.and_then(|meta| json::pick(meta, [key]).ok()).and_then(|[id]| super::speech::number(id?));
        if id.is_none() || id != self.watches.listening {
            return;
        }
        let uris = agreed.and_then(|agreed| json::pick(agreed, ["resourceSubscriptions"]).ok()?[0]);
        for uri in uris.and_then(json::elements).into_iter().flatten().filter_map(json::string) {
            self.subscribed(&uri, &Heard::Result(Vec::new()));
        }
        let refused: Vec<Box<str>> =
            self.watches.by_uri.iter().filter(|(_, watched)| !watched.agreed).map(|(uri, _)| uri.clone()).collect();
        for uri in refused {
            let mut error = Vec::new();
            answer::error_object(&mut error, -32602, "The server does not tell of this resource's changes", None);
            self.subscribed(&uri, &Heard::Error(error));
        }
    }

    /// A stream of changes has ended: another one, after a pause.
    pub(super) fn listen_ended(&mut self, number: u64, heard: &Heard, now: Instant) {
        if self.watches.listening != Some(number) {
            return;
        }
        self.watches.listening = None;
        match heard {
            // It has none, and says so: not again until something else is wanted.
            Heard::Error(error) => {
                let error = Heard::Error(error.clone());
                let waiting: Vec<Box<str>> = self.watches.by_uri.keys().cloned().collect();
                for uri in waiting {
                    self.subscribed(&uri, &error);
                }
            }
            _ => {
                self.watches.anew = Some(now + LISTEN_AGAIN);
                self.next_check = self.next_check.min(now + LISTEN_AGAIN);
            }
        }
    }

    /// The link is at its end: those who wait for the server's word are told so, and the next server knows of nothing.
    pub(super) fn fail_watches(&mut self, trouble: &Trouble) {
        let answer = self.word(&Heard::Failed(trouble.clone()));
        let watches = &mut self.watches;
        watches.by_uri.retain(|_, watched| {
            settle_all(&mut watched.waiting, &answer);
            watched.missed |= watched.agreed;
            (watched.agreed, watched.held, watched.asking, watched.turn) = (false, false, false, None);
            !watched.clients.is_empty()
        });
        watches.due.clear();
        (watches.asking, watches.listening, watches.anew, watches.overdue) = (0, None, None, None);
        self.hush();
    }

    /// What was watched on the last link is to be watched on this one.
    pub(super) fn watch_again(&mut self, now: Instant, sink: &mut impl Sink) {
        match self.terms.revision.era() {
            Era::Modern => self.watches.anew = Some(now),
            Era::Legacy => {
                let uris: Vec<Box<str>> = self.watches.by_uri.keys().cloned().collect();
                for uri in uris {
                    self.watches.reconsider(&uri, now);
                }
                self.keep_up(now, sink);
            }
        }
    }

    /// Remembers for the next link what an errand wants; gives back what somebody waits for in vain.
    pub(in crate::upstream) fn note(&mut self, errand: Errand) -> Option<Errand> {
        match errand {
            Errand::Watch { uri, task, client } => {
                let watched = self.watches.by_uri.entry(uri.clone()).or_default();
                *watched.clients.entry(client.id).or_default() += 1;
                task.is_some().then_some(Errand::Watch { uri, task, client })
            }
            Errand::Unwatch { uri, client, .. } => {
                self.forget_watch(&uri, client, Instant::now());
                None
            }
            Errand::Call(_) => Some(errand),
            _ => None,
        }
    }

    /// All that clients watch here, as errands for whoever is to go on with it.
    pub(in crate::upstream) fn take_watches(&mut self) -> impl Iterator<Item = Errand> + use<> {
        let known = self.terms.private.clone().unwrap_or_default();
        std::mem::take(&mut self.watches).by_uri.into_iter().flat_map(move |(uri, watched)| {
            let clients = watched.clients.into_iter().flat_map(|(id, count)| (0..count).map(move |_| id));
            let known = known.clone();
            clients.map(move |id| {
                let client = Box::new(Client { id, ..known.clone() });
                Errand::Watch { uri: uri.clone(), task: None, client }
            })
        })
    }

    /// Whether it was the last who watched it.
    fn forget_watch(&mut self, uri: &str, client: u128, now: Instant) -> bool {
        let Some(watched) = self.watches.by_uri.get_mut(uri) else { return false };
        let Some(count) = watched.clients.get_mut(&client) else { return false };
        *count -= 1;
        if *count == 0 {
            watched.clients.remove(&client);
        }
        let last = watched.clients.is_empty();
        if last {
            self.watches.reconsider(uri, now);
        }
        last
    }

    /// The client behind a session of its own has other roots.
    pub(super) fn roots_changed(&mut self, sink: &mut impl Sink) {
        if self.terms.private.is_some() && self.terms.revision.era() == Era::Legacy {
            self.notify("notifications/roots/list_changed", sink);
        }
    }

    /// Whether any client watches anything here.
    pub(in crate::upstream) fn is_watched(&self) -> bool {
        !self.watches.by_uri.is_empty()
    }

    /// Whether anything but the probe and the lists is going on.
    pub(in crate::upstream) fn is_busy(&self) -> bool {
        self.calls > 0 || self.asked.len() > 0 || self.is_watched()
    }
}

fn settle_all(waiting: &mut Vec<(Instant, Ticket, Seat)>, answer: &Answer) {
    for (_, ticket, _) in waiting.drain(..) {
        ticket.settle(answer.clone());
    }
}

fn uri_member(uri: &str) -> String {
    format!("\"uri\":{}", quoted(uri))
}

fn quoted(text: &str) -> String {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    json::write_string(&mut quoted, text);
    String::from_utf8(quoted).unwrap_or_default()
}
