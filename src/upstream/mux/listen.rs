//! Who watches which resource, and how the server is asked to tell: once for all of them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Heard, Mux, Own, Sink};
use crate::actor::{Answer, Ticket};
use crate::guard::Seat;
use crate::mcp::{Era, Features, Level, answer};
use crate::upstream::handle::Errand;
use crate::upstream::trouble::Trouble;
use crate::wire::json;

/// Pause before a stream of changes that has ended is opened again.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);
/// Longest wait for an answer to a request of our own.
const OWN_WAIT: Duration = Duration::from_secs(30);

/// What is watched.
#[derive(Default)]
pub(super) struct Watches {
    by_uri: HashMap<Box<str>, Watched>,
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
    /// Those who wait for the server's word.
    waiting: Vec<(Ticket, Seat)>,
}

impl Watches {
    /// Whether a stream is to be opened later.
    pub(super) const fn waits(&self) -> bool {
        self.anew.is_some()
    }

    pub(super) fn has(&self, uri: &str) -> bool {
        self.by_uri.contains_key(uri)
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
            Some(task) => watched.waiting.push(task),
            None => {}
        }
        if known {
            return;
        }
        match self.terms.revision.era() {
            Era::Modern => self.watches.anew = Some(now),
            Era::Legacy => {
                let params = uri_member(&uri);
                self.ask(Own::Subscribe(uri), "resources/subscribe", &params, OWN_WAIT, now, sink);
            }
        }
    }

    /// It wants that no longer; with the last one, the server is told.
    pub(super) fn unwatch(&mut self, uri: &str, client: u128, now: Instant, sink: &mut impl Sink) {
        if !self.forget_watch(uri, client) {
            return;
        }
        match self.terms.revision.era() {
            Era::Modern => self.watches.anew = Some(now),
            Era::Legacy => {
                self.ask(Own::Unsubscribe, "resources/unsubscribe", &uri_member(uri), OWN_WAIT, now, sink);
            }
        }
    }

    /// The server's word on a subscription.
    pub(super) fn subscribed(&mut self, uri: &str, heard: &Heard) {
        let answer = self.word(heard);
        match answer {
            Answer::Result(_) => {
                if let Some(watched) = self.watches.by_uri.get_mut(uri) {
                    watched.agreed = true;
                    settle_all(&mut watched.waiting, &answer);
                }
            }
            _ => {
                if let Some(mut watched) = self.watches.by_uri.remove(uri) {
                    settle_all(&mut watched.waiting, &answer);
                }
            }
        }
    }

    fn word(&self, heard: &Heard) -> Answer {
        match heard {
            Heard::Result(_) => Answer::Result(b"{}".to_vec()),
            Heard::Error(error) => Answer::Error(error.clone()),
            Heard::Failed(trouble) => {
                let mut error = Vec::new();
                trouble.write_object(&mut error, &self.upstream.name, None);
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
            if self.terms.features.has(feature) && !self.terms.private {
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

    /// The link is at its end: those who wait for the server's word are told so.
    pub(super) fn fail_watches(&mut self, trouble: &Trouble) {
        let answer = self.word(&Heard::Failed(trouble.clone()));
        for watched in self.watches.by_uri.values_mut() {
            settle_all(&mut watched.waiting, &answer);
        }
    }

    /// What was watched on the last link is to be watched on this one.
    pub(super) fn watch_again(&mut self, now: Instant, sink: &mut impl Sink) {
        for watched in self.watches.by_uri.values_mut() {
            watched.agreed = false;
        }
        self.watches.listening = None;
        match self.terms.revision.era() {
            Era::Modern => self.watches.anew = Some(now),
            Era::Legacy => {
                let uris: Vec<Box<str>> = self.watches.by_uri.keys().cloned().collect();
                for uri in uris {
                    let params = uri_member(&uri);
                    self.ask(Own::Subscribe(uri), "resources/subscribe", &params, OWN_WAIT, now, sink);
                }
            }
        }
    }

    /// Remembers for the next link what an errand wants; gives back what somebody waits for in vain.
    pub(in crate::upstream) fn note(&mut self, errand: Errand) -> Option<Errand> {
        match errand {
            Errand::Watch { uri, task, client } => {
                let watched = self.watches.by_uri.entry(uri.clone()).or_default();
                *watched.clients.entry(client).or_default() += 1;
                task.is_some().then_some(Errand::Watch { uri, task, client })
            }
            Errand::Unwatch { uri, client } => {
                self.forget_watch(&uri, client);
                None
            }
            Errand::Call(_) => Some(errand),
            _ => None,
        }
    }

    /// Whether it was the last who watched it.
    fn forget_watch(&mut self, uri: &str, client: u128) -> bool {
        let Some(watched) = self.watches.by_uri.get_mut(uri) else { return false };
        let Some(count) = watched.clients.get_mut(&client) else { return false };
        *count -= 1;
        if *count == 0 {
            watched.clients.remove(&client);
        }
        watched.clients.is_empty() && self.watches.by_uri.remove(uri).is_some()
    }

    /// The least level that any client wants: a modern server is told with each request.
    pub(in crate::upstream) fn set_level(&mut self, level: Level, now: Instant, sink: &mut impl Sink) {
        if self.terms.revision.era() == Era::Legacy && self.terms.features.has(Features::LOGGING) {
            self.level = Some(level);
            let params = format!("\"level\":\"{}\"", level.as_str());
            self.ask(Own::SetLevel, "logging/setLevel", &params, OWN_WAIT, now, sink);
        }
    }

    /// A modern client says with each request how much it wants to hear; a legacy server is told before, and not after:
    /// what is too much for others is left out on the way to them.
    pub(super) fn raise_voice(&mut self, number: u64, now: Instant, sink: &mut impl Sink) {
        let wanted = self
            .pending
            .get(number)
            .and_then(|pending| pending.parcel())
            .and_then(|parcel| parcel.level.filter(|_| parcel.revision.era() == Era::Modern));
        if let Some(wanted) = wanted
            && self.level.is_none_or(|level| wanted < level)
        {
            self.set_level(wanted, now, sink);
        }
    }

    /// The client behind a session of its own has other roots.
    pub(super) fn roots_changed(&mut self, sink: &mut impl Sink) {
        if self.terms.private && self.terms.revision.era() == Era::Legacy {
            self.notify("notifications/roots/list_changed", sink);
        }
    }

    /// Whether anything but the probe and the lists is going on.
    pub(in crate::upstream) fn is_busy(&self) -> bool {
        self.calls > 0 || !self.watches.by_uri.is_empty()
    }
}

fn settle_all(waiting: &mut Vec<(Ticket, Seat)>, answer: &Answer) {
    for (ticket, _) in waiting.drain(..) {
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
