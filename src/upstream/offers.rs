//! What all upstreams offer, made into one directory whenever one of them comes, changes or goes.
//!
//! Who says what an upstream offers ([`Offers::set`]) serves others, too, and a catalogue of 100,000 tools takes a while: it
//! is noted there, and rendered by whoever tends the offers ([`Offers::tend`]), one at a time and the newest.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::directory::{Behind, Directories, Directory};
use super::embedded::Embedded;
use super::group::Group;
use super::handle::Upstream;
use crate::actor::News;
use crate::mcp::catalogue::{LeftOut, Omission, Part};
use crate::mcp::{Catalogue, CatalogueConfig, List, Offer, Topics};
use crate::meter::Named;

/// Everything that is offered, and the directory made from it.
pub struct Offers {
    /// Locked for moments only.
    state: Mutex<State>,
    /// Held from a draft until it is in force, so that news come in the order of the changes. Taken before `state`.
    rendering: Mutex<()>,
    directories: Arc<Directories>,
    spread: Box<dyn Fn(News) + Send + Sync>,
    /// Rings when there is something to render, or an upstream has gone.
    stirred: Notify,
    /// Rings when an upstream is heard of, and when a catalogue comes into force.
    heard: Notify,
}

/// How an upstream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is there, and offers this.
    Present(Arc<Offer>),
    /// It is not there. What it offered stays in the catalogue for `catalogue.gone_ms`.
    Gone,
}

struct State {
    config: CatalogueConfig,
    embedded: Option<Embedded>,
    /// In the order of the configuration.
    stands: Vec<Stand>,
    /// How often entries have changed; and as of which change they are in force.
    changes: u64,
    in_force: u64,
    /// How often it was configured.
    configured: u64,
}

/// What is to be rendered.
struct Draft {
    config: CatalogueConfig,
    embedded: Option<Embedded>,
    upstreams: Vec<Arc<Upstream>>,
    parts: Vec<Drawn>,
    /// Of the state that it was taken from.
    changes: u64,
    configured: u64,
}

/// What one upstream brings, and its replicas with it.
struct Drawn {
    upstream: usize,
    group: Option<Arc<Group>>,
    offer: Arc<Offer>,
}

/// One upstream's place.
struct Stand {
    upstream: Arc<Upstream>,
    offer: Arc<Offer>,
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
    /// who want to know, and must not come back here.
    #[must_use]
    pub fn new(
        directories: Arc<Directories>,
        config: CatalogueConfig,
        embedded: Option<Embedded>,
        spread: impl Fn(News) + Send + Sync + 'static,
    ) -> Self {
        let state = State { config, embedded, stands: Vec::new(), changes: 0, in_force: 0, configured: 0 };
        Self {
            state: Mutex::new(state),
            rendering: Mutex::default(),
            directories,
            spread: Box::new(spread),
            stirred: Notify::new(),
            heard: Notify::new(),
        }
    }

    /// These are the upstreams from now on, in this order, and whether the embedded server is beside them. What another one
    /// offered is gone at once. One whose handle is new keeps what its namesake offered, marked as gone, until it has come
    /// itself or the time is over. In force when this returns, so it may block for as long as a catalogue takes.
    pub fn configure(&self, config: CatalogueConfig, embedded: Option<Embedded>, upstreams: &[Arc<Upstream>]) {
        let mut state = self.lock();
        let mut before = std::mem::take(&mut state.stands);
        let until = Instant::now() + Duration::from_millis(config.gone_ms);
        (state.config, state.embedded) = (config, embedded);
        state.changes += 1;
        state.configured += 1;
        for upstream in upstreams {
            let known = before.iter().position(|stand| stand.upstream.name == upstream.name);
            state.stands.push(match known.map(|at| before.swap_remove(at)) {
                Some(stand) if Arc::ptr_eq(&stand.upstream, upstream) => stand,
                Some(stand) => {
                    Stand { upstream: Arc::clone(upstream), present: false, heard: false, until: Some(until), ..stand }
                }
                None => Stand {
                    upstream: Arc::clone(upstream),
                    offer: Arc::default(),
                    present: false,
                    heard: false,
                    until: None,
                },
            });
        }
        drop(state);
        self.catch_up();
        self.stirred.notify_one();
        self.heard.notify_waiters();
    }

    /// An upstream has come, has changed what it offers, or has gone. One that is not configured (any more) is ignored.
    /// Never blocks for long: entries are rendered later, by whoever tends the offers.
    pub fn set(&self, upstream: &Arc<Upstream>, standing: Standing) {
        let mut state = self.lock();
        let until = Instant::now() + Duration::from_millis(state.config.gone_ms);
        let Some(stand) = state.stands.iter_mut().find(|stand| Arc::ptr_eq(&stand.upstream, upstream)) else {
            return;
        };
        stand.heard = true;
        upstream.set_there(standing != Standing::Gone);
        let change = match standing {
            Standing::Present(offer) => stand.welcome(offer),
            Standing::Gone if stand.present => {
                (stand.present, stand.until) = (false, Some(until));
                Change::Presence
            }
            Standing::Gone => Change::Nothing,
        };
        if change != Change::Nothing {
            state.changes += u64::from(change == Change::Entries);
            self.show_presence(&state);
            self.stirred.notify_one();
        }
        drop(state);
        self.heard.notify_waiters();
    }

    /// Whether all that was said is in force.
    pub fn is_settled(&self) -> bool {
        let state = self.lock();
        state.in_force == state.changes
    }

    /// Waits until each upstream has come, or has been said to be gone: from then on the catalogue is whole. Clients who
    /// come before learn less than there is, and are told of capabilities only once. Cancel-safe.
    pub async fn heard_of_all(&self) {
        loop {
            let mut rung = std::pin::pin!(self.heard.notified());
            rung.as_mut().enable();
            if self.lock().stands.iter().all(|stand| stand.heard) && self.is_settled() {
                return;
            }
            rung.await;
        }
    }

    /// Renders what has changed, and takes out what has been gone for too long, as time goes by; never returns.
    /// Cancel-safe. It blocks its thread while it renders, so that must not be one that serves anybody.
    pub async fn tend(&self) {
        loop {
            let next = self.expire(Instant::now());
            self.catch_up();
            let rung = self.stirred.notified();
            match next {
                Some(next) => tokio::select! {
                    () = tokio::time::sleep_until(next.into()) => {}
                    () = rung => {}
                },
                None => rung.await,
            }
        }
    }

    /// Takes out what is overdue, from the next catalogue on; when the next will be.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        let State { stands, changes, .. } = &mut *state;
        for stand in &mut *stands {
            if stand.until.is_some_and(|until| until <= now) {
                stand.until = None;
                if *stand.offer != Offer::default() {
                    stand.offer = Arc::default();
                    tracing::warn!(upstream = &*stand.upstream.name, "gone for too long: left the catalogue");
                    *changes += 1;
                }
            }
        }
        stands.iter().filter_map(|stand| stand.until).min()
    }

    /// Renders and puts in force, until all is that was said. Whoever comes second waits for the first.
    fn catch_up(&self) {
        let _one_at_a_time = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(draft) = self.draft() {
            let catalogue = draft.render();
            self.publish(draft, catalogue);
        }
    }

    fn draft(&self) -> Option<Draft> {
        let state = self.lock();
        (state.in_force != state.changes).then(|| Draft {
            config: state.config.clone(),
            embedded: state.embedded.clone(),
            upstreams: state.stands.iter().map(|stand| Arc::clone(&stand.upstream)).collect(),
            parts: state.parts(),
            changes: state.changes,
            configured: state.configured,
        })
    }

    /// Puts a catalogue in force, and tells of the lists that look different to somebody. If other upstreams have been
    /// configured meanwhile, it comes too late.
    fn publish(&self, draft: Draft, catalogue: Catalogue) {
        let (before, catalogue) = (self.directories.load_full(), Arc::new(catalogue));
        if catalogue.left_out() != before.catalogue.left_out() {
            catalogue.left_out().iter().for_each(warn);
        }
        let changed = List::ALL.into_iter().filter(|&list| !catalogue.looks_like(&before.catalogue, list));
        let topics = changed.fold(Topics::default(), |all, list| Topics(all.0 | topic(list).0));
        let parts = draft.parts.into_iter().map(|part| Behind { upstream: part.upstream, group: part.group });
        let (parts, upstreams) = (parts.collect(), draft.upstreams);
        let mut state = self.lock();
        if state.configured != draft.configured {
            return;
        }
        state.in_force = draft.changes;
        let present = state.presence(&upstreams);
        self.directories.store(Arc::new(Directory::new(catalogue, draft.embedded, upstreams, parts, present)));
        drop(state);
        for topic in [Topics::TOOLS, Topics::PROMPTS, Topics::RESOURCES] {
            if topics.meets(topic) {
                (self.spread)(News { topic: topic.0, subject: None, only: None });
            }
        }
        self.heard.notify_waiters();
    }

    /// Puts in force who is there; entries stay as they are.
    fn show_presence(&self, state: &State) {
        let now = self.directories.load();
        self.directories.store(Arc::new(now.with_presence(state.presence(now.upstreams()))));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is to be in the catalogue. Of replicas nothing by themselves; but where the one that they are replicas of has
    /// not come yet, or is gone for too long, one of them says what there is.
    fn parts(&self) -> Vec<Drawn> {
        let known = |upstream: &Arc<Upstream>| self.stands.iter().find(|stand| Arc::ptr_eq(&stand.upstream, upstream));
        let part = |(at, stand): (usize, &Stand)| {
            let Some(group) = stand.upstream.ways().and_then(|ways| ways.group.clone()) else {
                return Some(Drawn { upstream: at, group: None, offer: Arc::clone(&stand.offer) });
            };
            Arc::ptr_eq(&group.members()[0], &stand.upstream).then(|| {
                let mut offers = group.members().iter().filter_map(&known).map(|stand| &stand.offer);
                let offer = offers.find(|offer| ***offer != Offer::default()).unwrap_or(&stand.offer);
                Drawn { upstream: at, offer: Arc::clone(offer), group: Some(group) }
            })
        };
        self.stands.iter().enumerate().filter_map(part).collect()
    }

    /// Whether each of them is there.
    fn presence(&self, upstreams: &[Arc<Upstream>]) -> Vec<bool> {
        let stand = |upstream| self.stands.iter().find(|stand| Arc::ptr_eq(&stand.upstream, upstream));
        upstreams.iter().map(|upstream| stand(upstream).is_some_and(|stand| stand.present)).collect()
    }
}

impl Draft {
    fn render(&self) -> Catalogue {
        let name = |part: &Drawn| &*self.upstreams[part.upstream].name;
        let upstreams = self.parts.iter().map(|part| Part { name: name(part), offer: &part.offer });
        let embedded = self.embedded.iter().map(|it| Part { name: Embedded::UPSTREAM, offer: it.offer() });
        Catalogue::new(&upstreams.chain(embedded).collect::<Vec<_>>(), &self.config)
    }
}

impl Stand {
    fn welcome(&mut self, offer: Arc<Offer>) -> Change {
        let back = !std::mem::replace(&mut self.present, true);
        self.until = None;
        let is_new = !Arc::ptr_eq(&self.offer, &offer) && self.offer != offer;
        if is_new {
            self.offer = offer;
        }
        // Its handle may be new, too.
        self.upstream.set_offer(&self.offer);
        if is_new {
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
