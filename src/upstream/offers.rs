//! What all upstreams offer, made into one directory whenever one of them comes, changes or goes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::directory::{Directories, Directory};
use super::embedded::Embedded;
use super::handle::Upstream;
use crate::actor::News;
use crate::mcp::catalogue::{LeftOut, Omission, Part};
use crate::mcp::{Catalogue, CatalogueConfig, List, Offer, Topics};
use crate::meter::Named;

/// Everything that is offered, and the directory made from it.
pub struct Offers {
    state: Mutex<State>,
    directories: Arc<Directories>,
    spread: Box<dyn Fn(News) + Send + Sync>,
    /// Rings when an upstream has gone.
    gone: Notify,
    /// Rings when an upstream is heard of.
    heard: Notify,
}

/// How an upstream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is there, and offers this.
    Present(Offer),
    /// It is not there. What it offered stays in the catalogue for `catalogue.gone_ms`.
    Gone,
}

struct State {
    config: CatalogueConfig,
    embedded: Option<Embedded>,
    /// In the order of the configuration.
    stands: Vec<Stand>,
}

/// One upstream's place.
struct Stand {
    upstream: Arc<Upstream>,
    offer: Offer,
    present: bool,
    /// Whether anything has been said of it.
    heard: bool,
    /// When what it offers is to be taken out.
    until: Option<Instant>,
}

/// What a change needs.
#[derive(PartialEq, Eq)]
enum Change {
    Nothing,
    /// Entries stay as they are; who is there has changed.
    Presence,
    /// The catalogue is to be rendered anew.
    Entries,
}

impl Offers {
    /// Nothing but what is built in, until [`Self::configure`] says which upstreams there are. `spread` tells all clients
    /// who want to know; it is called while the offers are locked, so that news come in the order of the changes, and must
    /// not come back here.
    #[must_use]
    pub fn new(
        directories: Arc<Directories>,
        config: CatalogueConfig,
        embedded: Option<Embedded>,
        spread: impl Fn(News) + Send + Sync + 'static,
    ) -> Self {
        let state = Mutex::new(State { config, embedded, stands: Vec::new() });
        Self { state, directories, spread: Box::new(spread), gone: Notify::new(), heard: Notify::new() }
    }

    /// These are the upstreams from now on, in this order, and whether the embedded server is beside them. What another one offered is gone at once. One whose handle is
    /// new keeps what its namesake offered, marked as gone, until it has come itself or the time is over.
    pub fn configure(&self, config: CatalogueConfig, embedded: Option<Embedded>, upstreams: &[Arc<Upstream>]) {
        let mut state = self.lock();
        let mut before = std::mem::take(&mut state.stands);
        let until = Instant::now() + Duration::from_millis(config.gone_ms);
        (state.config, state.embedded) = (config, embedded);
        for upstream in upstreams {
            let known = before.iter().position(|stand| stand.upstream.name == upstream.name);
            state.stands.push(match known.map(|at| before.swap_remove(at)) {
                Some(stand) if Arc::ptr_eq(&stand.upstream, upstream) => stand,
                Some(stand) => {
                    Stand { upstream: Arc::clone(upstream), present: false, heard: false, until: Some(until), ..stand }
                }
                None => Stand {
                    upstream: Arc::clone(upstream),
                    offer: Offer::default(),
                    present: false,
                    heard: false,
                    until: None,
                },
            });
        }
        self.publish(&state, &Change::Entries);
        self.gone.notify_one();
        self.heard.notify_waiters();
    }

    /// An upstream has come, has changed what it offers, or has gone. One that is not configured (any more) is ignored.
    pub fn set(&self, upstream: &Arc<Upstream>, standing: Standing) {
        let mut state = self.lock();
        let until = Instant::now() + Duration::from_millis(state.config.gone_ms);
        let Some(stand) = state.stands.iter_mut().find(|stand| Arc::ptr_eq(&stand.upstream, upstream)) else {
            return;
        };
        stand.heard = true;
        let change = match standing {
            Standing::Present(offer) => stand.welcome(offer),
            Standing::Gone if stand.present => {
                (stand.present, stand.until) = (false, Some(until));
                self.gone.notify_one();
                Change::Presence
            }
            Standing::Gone => Change::Nothing,
        };
        self.publish(&state, &change);
        self.heard.notify_waiters();
    }

    /// Waits until each upstream has come, or has been said to be gone: from then on the catalogue is whole. Clients who
    /// come before learn less than there is, and are told of capabilities only once. Cancel-safe.
    pub async fn heard_of_all(&self) {
        loop {
            let mut rung = std::pin::pin!(self.heard.notified());
            rung.as_mut().enable();
            if self.lock().stands.iter().all(|stand| stand.heard) {
                return;
            }
            rung.await;
        }
    }

    /// Takes out what has been gone for too long, as time goes by; never returns. Cancel-safe.
    pub async fn tend(&self) {
        loop {
            let next = self.expire(Instant::now());
            let rung = self.gone.notified();
            match next {
                Some(next) => tokio::select! {
                    () = tokio::time::sleep_until(next.into()) => {}
                    () = rung => {}
                },
                None => rung.await,
            }
        }
    }

    /// Takes out what is overdue; when the next will be.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        let mut change = Change::Nothing;
        for stand in &mut state.stands {
            if stand.until.is_some_and(|until| until <= now) {
                stand.until = None;
                if stand.offer != Offer::default() {
                    stand.offer = Offer::default();
                    tracing::warn!(upstream = &*stand.upstream.name, "gone for too long: left the catalogue");
                    change = Change::Entries;
                }
            }
        }
        self.publish(&state, &change);
        state.stands.iter().filter_map(|stand| stand.until).min()
    }

    /// Puts the directory of this state in force, and tells of the lists that look different to somebody.
    fn publish(&self, state: &State, change: &Change) {
        if *change == Change::Nothing {
            return;
        }
        let before = self.directories.load_full();
        let catalogue = match change {
            Change::Entries => Arc::new(state.render()),
            _ => Arc::clone(&before.catalogue),
        };
        if catalogue.left_out() != before.catalogue.left_out() {
            catalogue.left_out().iter().for_each(warn);
        }
        let upstreams = state.stands.iter().map(|stand| Arc::clone(&stand.upstream)).collect();
        let present = state.stands.iter().map(|stand| stand.present).collect();
        let directory = Directory::new(Arc::clone(&catalogue), state.embedded.clone(), upstreams, present);
        self.directories.store(Arc::new(directory));
        let changed = List::ALL.into_iter().filter(|&list| !catalogue.looks_like(&before.catalogue, list));
        let topics = changed.fold(Topics::default(), |all, list| Topics(all.0 | topic(list).0));
        for topic in [Topics::TOOLS, Topics::PROMPTS, Topics::RESOURCES] {
            if topics.meets(topic) {
                (self.spread)(News { topic: topic.0, subject: None, only: None });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn render(&self) -> Catalogue {
        let upstreams = self.stands.iter().map(|stand| Part { name: &stand.upstream.name, offer: &stand.offer });
        let embedded = self.embedded.iter().map(|it| Part { name: Embedded::UPSTREAM, offer: it.offer() });
        Catalogue::new(&upstreams.chain(embedded).collect::<Vec<_>>(), &self.config)
    }
}

impl Stand {
    fn welcome(&mut self, offer: Offer) -> Change {
        let back = !std::mem::replace(&mut self.present, true);
        self.until = None;
        if self.offer != offer {
            self.offer = offer;
            Change::Entries
        } else if back {
            Change::Presence
        } else {
            Change::Nothing
        }
    }
}

fn topic(list: List) -> Topics {
    match list {
        List::Tools => Topics::TOOLS,
        List::Prompts => Topics::PROMPTS,
        List::Resources | List::Templates => Topics::RESOURCES,
    }
}

fn warn(left_out: &LeftOut) {
    let LeftOut { why, upstream, list, count, first } = left_out;
    let what = match why {
        Omission::Malformed => "no JSON object",
        Omission::Twice => "listed twice by its server",
        Omission::Taken => "an upstream before it has the same",
        Omission::Full => "the catalogue is full; raise catalogue.bytes_max, or order the upstreams otherwise",
    };
    let (upstream, list) = (&**upstream, list.method());
    tracing::warn!(upstream, list, count, ?first, why = why.name(), "left out of the catalogue: {what}");
}

#[cfg(test)]
#[path = "offers_tests.rs"]
mod tests;
