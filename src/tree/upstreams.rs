//! The upstreams' children: one each, started, ended and replaced while the house lives.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

use super::supervisor::{Need, Supervised, Supervisor};
use super::{LOOK_AGAIN, Services};
use crate::actor::{Berth, Mail, News, Order, Word};
use crate::admin::UpstreamView;
use crate::config::Config;
use crate::conn::House;
use crate::guard::Seats;
use crate::mcp::{CatalogueConfig, List};
use crate::upstream::config::One;
use crate::upstream::embedded::Embedded;
use crate::upstream::group;
use crate::upstream::handle::State;
use crate::upstream::life::live;
use crate::upstream::mux::tally::Uses;
use crate::upstream::{Directories, Directory, Loudness, Offers, Shared, Upstream};

/// The group that they are in.
const GROUP: &str = "upstreams";
/// How long one may take to end before the house goes on without it: a child gets its two seconds.
const END_WITHIN: Duration = Duration::from_secs(4);
/// A start that takes longer says what it waits for, and again each time this has passed.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// All upstreams of one house, and what they offer together.
pub(super) struct Upstreams {
    supervisor: Arc<Supervisor>,
    services: Arc<Services>,
    pub(super) directories: Arc<Directories>,
    pub(super) loudness: Arc<Loudness>,
    embedded: Embedded,
    /// Of calls in flight at all upstreams together.
    places: Arc<Seats>,
    offers: Arc<Offers>,
    shared: Arc<Shared>,
    /// In the order of the configuration. Locked for moments only.
    living: Mutex<Vec<Arc<Living>>>,
}

struct Living {
    one: One,
    handle: Arc<Upstream>,
    stop: watch::Sender<bool>,
    child: Arc<Supervised>,
}

/// What a new configuration has done, by the names of upstreams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Those which are new.
    pub added: Vec<String>,
    /// Those which are gone.
    pub removed: Vec<String>,
    /// Those whose knobs have changed.
    pub restarted: Vec<String>,
}

impl Upstreams {
    /// None yet; [`Self::apply`] brings them.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn new(
        supervisor: &Arc<Supervisor>,
        services: &Arc<Services>,
        berths: &Arc<[Berth]>,
        house: &Arc<House>,
        embedded: Embedded,
    ) -> io::Result<Self> {
        let directories = Arc::new(Directories::from_pointee(Directory::embedded(embedded.clone())));
        let loudness = Arc::new(Loudness::new(Arc::clone(&directories)));
        let config = CatalogueConfig::default();
        let offers = Offers::new(Arc::clone(&directories), config, Some(embedded.clone()), spread(berths));
        let offers = Arc::new(offers);
        let told = Arc::clone(&offers);
        let tell = move |upstream: &Arc<Upstream>, standing| told.set(upstream, standing);
        let shared = Shared::new(tell, spread(berths), say(berths, house), Arc::clone(&loudness));
        let shared = shared.map_err(|error| io::Error::other(format!("no randomness: {error}")))?;
        Ok(Self {
            supervisor: Arc::clone(supervisor),
            services: Arc::clone(services),
            directories,
            loudness,
            embedded,
            places: Arc::clone(&house.in_flight),
            offers,
            shared: Arc::new(shared),
            living: Mutex::default(),
        })
    }

    /// Starts what keeps the catalogue in order: it takes out what is gone for too long.
    pub(super) fn start_catalogue(&self) -> Result<(), String> {
        let (services, offers) = (Arc::clone(&self.services), Arc::clone(&self.offers));
        let life = move |running: &dyn Fn()| {
            running();
            services.upstreams.block_on(async {
                tokio::select! {
                    () = offers.tend() => {}
                    () = services.until_stopped("catalogue") => {}
                }
            });
            Ok(())
        };
        self.supervisor.supervise("services", "catalogue", Need::House, life).map(drop)
    }

    /// Makes `ones` the upstreams: new ones are started, others end, and those whose knobs have changed do both. Clients
    /// stay, and with them what they watch; calls that are in flight at an upstream that ends fail by its name.
    pub(super) fn apply(&self, config: &Config, ones: Vec<One>) -> Result<Changes, String> {
        let before = self.living().clone();
        let (kept, leaving): (Vec<_>, Vec<_>) = before.into_iter().partition(|living| ones.contains(&living.one));
        let find = |one: &One| kept.iter().find(|living| living.one == *one);
        let handles = ones.iter().map(|one| match find(one) {
            Some(living) => Arc::clone(&living.handle),
            None => Arc::new(Upstream::new(one.name.as_str(), one.per_session).rationed(one.rationing.clone())),
        });
        let handles: Vec<_> = handles.collect();
        let offered = config.embedded.offered.is_offered(!ones.is_empty());
        group::arrange(&ones, &handles);
        // Before the old ones end: new calls wait at the new ones.
        let embedded = offered.then(|| self.embedded.clone());
        self.offers.configure(config.catalogue.clone(), embedded, &handles);
        for old in &leaving {
            let heir = handles.iter().find(|handle| *handle.name == *old.one.name);
            heir.into_iter().for_each(|heir| old.handle.succeed(Arc::clone(heir)));
        }
        self.end(&leaving);
        let mut changes = Changes::default();
        changes.removed.extend(leaving.iter().map(|living| living.one.name.clone()));
        let (mut living, mut failed) = (Vec::new(), None);
        for (one, handle) in ones.iter().zip(handles) {
            if let Some(kept) = find(one) {
                living.push(Arc::clone(kept));
                continue;
            }
            let started = match self.start(one.clone(), Arc::clone(&handle)) {
                Ok(started) => started,
                Err(why) => {
                    // Nobody will serve those who come by the catalogue's older state.
                    handle.close();
                    failed.get_or_insert(why);
                    continue;
                }
            };
            match changes.removed.iter().position(|name| *name == one.name) {
                Some(at) => changes.restarted.push(changes.removed.remove(at)),
                None => changes.added.push(one.name.clone()),
            }
            living.push(Arc::new(started));
        }
        *self.living() = living;
        failed.map_or(Ok(changes), Err)
    }

    fn start(&self, one: One, handle: Arc<Upstream>) -> Result<Living, String> {
        if let Some(warning) = one.warning() {
            tracing::warn!("{warning}");
        }
        let (stop, stopped) = watch::channel(false);
        let (services, shared) = (Arc::clone(&self.services), Arc::clone(&self.shared));
        let (mine, upstream) = (one.clone(), Arc::clone(&handle));
        let life = move |running: &dyn Fn()| {
            running();
            let (upstream, one) = (Arc::clone(&upstream), mine.clone());
            let (shared, stopped, condemning) = (Arc::clone(&shared), stopped.clone(), Arc::clone(&services));
            let task = services.upstreams.spawn(async move {
                let name = one.name.clone();
                tokio::select! {
                    () = live(upstream, one.target, one.knobs, shared, stopped) => {}
                    () = condemning.until_condemned(&name) => {}
                }
            });
            services.upstreams.block_on(task).map_err(|error| match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => error.to_string(),
            })
        };
        let child = self.supervisor.supervise(GROUP, one.name.clone(), Need::Itself, life)?;
        Ok(Living { one, handle, stop, child })
    }

    /// Ends these, and waits until they have.
    fn end(&self, leaving: &[Arc<Living>]) {
        for living in leaving {
            living.child.retire();
            living.stop.send_replace(true);
        }
        let until = Instant::now() + END_WITHIN;
        while !leaving.iter().all(|living| living.child.has_ended()) && Instant::now() < until {
            std::thread::sleep(LOOK_AGAIN);
        }
        for living in leaving {
            if !living.child.has_ended() {
                tracing::error!(upstream = living.one.name, "does not end; the gateway goes on without it");
            }
            self.supervisor.forget(&living.child);
        }
    }

    /// Tells all to end, for a house that ends.
    pub(super) fn stop(&self) {
        for living in &*self.living() {
            living.stop.send_replace(true);
        }
    }

    /// Waits until each has come or has failed once, or the time is over, or nobody wants to wait any more.
    pub(super) fn wait(&self, within: Duration, ending: &AtomicBool) {
        let began = Instant::now();
        let mut tell = began + TELL_EVERY / 4;
        loop {
            let living = self.living().clone();
            let waiting = living.iter().filter(|living| is_undecided(&living.handle));
            let mut waiting: Vec<&str> = waiting.map(|living| living.one.name.as_str()).collect();
            if waiting.is_empty() && !self.offers.is_settled() {
                // Clients who come before it is whole learn less than there is.
                waiting.push("the catalogue");
            }
            let over = began.elapsed() >= within;
            if waiting.is_empty() || ending.load(Ordering::Acquire) {
                return;
            }
            if over {
                tracing::warn!(upstreams = waiting.join(", "), "not there yet; the gateway starts without them");
                return;
            }
            if Instant::now() >= tell {
                tell += TELL_EVERY;
                tracing::info!("waiting for {}", waiting.join(", "));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// How each is, and what its tools were used for; what is built in, too, where it is offered.
    pub(super) fn view(&self) -> Vec<(UpstreamView, Uses)> {
        let (directory, living) = (self.directories.load_full(), self.living().clone());
        let mut tools: Vec<usize> = Vec::new();
        for entry in directory.catalogue.listing().filter(|entry| entry.list == List::Tools) {
            tools.resize(tools.len().max(entry.part + 1), 0);
            tools[entry.part] += 1;
        }
        let view = |it: &Arc<Living>| {
            let is_its =
                |part: &usize| directory.upstream_of(*part).is_some_and(|known| Arc::ptr_eq(known, &it.handle));
            let tools = (0..tools.len()).find(is_its).map_or(0, |part| tools[part]);
            (UpstreamView::new(&it.one, &it.handle, tools), it.handle.counts.uses())
        };
        let tree = self.supervisor.view();
        let child = tree.children().find(|(group, child)| *group == GROUP && child.name == Embedded::UPSTREAM);
        let embedded =
            directory.built_in().map(|it| UpstreamView::embedded(it, child.map(|it| it.1), self.places.max()));
        living.iter().map(view).chain(embedded).collect()
    }

    /// Looks at each as it is now.
    pub(super) fn each(&self, mut look: impl FnMut(&One, &Upstream)) {
        for living in &*self.living() {
            look(&living.one, &living.handle);
        }
    }

    /// Whether a child of the tree is one of them.
    pub(super) fn has(&self, group: &str, name: &str) -> bool {
        group == GROUP && self.living().iter().any(|living| living.one.name == name)
    }

    fn living(&self) -> MutexGuard<'_, Vec<Arc<Living>>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it has neither come nor failed yet.
fn is_undecided(upstream: &Upstream) -> bool {
    let view = upstream.view();
    view.why.is_none() && matches!(view.state, State::Starting | State::Probing)
}

/// Tells one client something that belongs to none of its calls.
fn say(berths: &Arc<[Berth]>, house: &Arc<House>) -> impl Fn(u128, Word) + Send + Sync + 'static {
    let (berths, house) = (Arc::clone(berths), Arc::clone(house));
    move |client, word| house.tell(berths.iter().map(|berth| &berth.inbox), client, word)
}

/// Tells all clients of all shards who want to know.
fn spread(berths: &Arc<[Berth]>) -> impl Fn(News) + Send + Sync + 'static {
    let berths = Arc::clone(berths);
    move |news| {
        let news = Arc::new(news);
        for berth in &*berths {
            berth.inbox.post(Mail::Order(Order::Spread { news: Arc::clone(&news), after: None }));
        }
    }
}
