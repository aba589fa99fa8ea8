//! What the servers of a configuration offer, found out without a gateway: they are started, asked, and ended.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::Unstarted;
use crate::config::Config;
use crate::upstream::config::One;
use crate::upstream::embedded::{Embedded, Tools};
use crate::upstream::group;
use crate::upstream::handle::State;
use crate::upstream::life::live;
use crate::upstream::{Directories, Directory, Loudness, Offers, Shared, Upstream};

/// How long all together may take: the first `npx` of a server downloads it. Each has shorter limits of its own.
const COME_WITHIN: Duration = Duration::from_secs(60);
/// How often it is told who is waited for.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// How long they may take to end: a child gets its two seconds.
const END_WITHIN: Duration = Duration::from_secs(4);

/// What was found.
pub struct Survey {
    /// What they offer together, as a gateway in front of them would.
    pub directory: Arc<Directory>,
    /// Those which did not come, each with its reason.
    pub missing: Vec<String>,
}

/// Starts the servers of a configuration, asks each what it offers, and ends them all; none is left when it returns.
/// `tell` gets a line now and then while some are waited for.
///
/// # Errors
/// When the configuration is no good, or the system gives no runtime. A server that does not come is no error.
pub fn survey(config: &Config, mut tell: impl FnMut(&str)) -> Result<Survey, Unstarted> {
    let ones = config.upstreams()?;
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let tools = Tools::new(config.embedded.clone(), String::new);
    let embedded = Embedded::new(Arc::new(tools), runtime.handle().clone(), 0);
    let directories = Arc::new(Directories::from_pointee(Directory::embedded(embedded.clone())));
    let handles: Vec<_> = ones.iter().map(|one| Arc::new(Upstream::new(one.name.as_str(), one.per_session))).collect();
    group::arrange(&ones, &handles);
    let embedded = config.embedded.offered.is_offered(!ones.is_empty()).then_some(embedded);
    // Nobody is connected who could be told of changes.
    let offers = Offers::new(Arc::clone(&directories), config.catalogue.clone(), embedded.clone(), drop);
    offers.configure(config.catalogue.clone(), embedded, &handles);
    let offers = Arc::new(offers);
    let (stop, stopped) = watch::channel(false);
    let mut lives = start(&runtime, ones, &handles, &directories, &offers, &stopped)?;
    let survey = runtime.block_on(async {
        tokio::select! {
            () = offers.tend() => {}
            () = watch_over(&handles, &offers, &mut tell) => {}
        }
        // Before they end: then all are gone.
        let found = directories.load_full();
        let missing = missing(&found);
        stop.send_replace(true);
        let all_ended = async { while lives.join_next().await.is_some() {} };
        if timeout(END_WITHIN, all_ended).await.is_err() {
            tell("some do not end; they are killed");
        }
        Survey { directory: found, missing }
    });
    runtime.shutdown_timeout(END_WITHIN);
    Ok(survey)
}

fn start(
    runtime: &Runtime,
    ones: Vec<One>,
    handles: &[Arc<Upstream>],
    directories: &Arc<Directories>,
    offers: &Arc<Offers>,
    stopped: &watch::Receiver<bool>,
) -> Result<JoinSet<()>, Unstarted> {
    let loudness = Arc::new(Loudness::new(Arc::clone(directories)));
    let told = Arc::clone(offers);
    let shared =
        Shared::new(move |upstream, standing| told.set(upstream, standing), drop, |_, word| drop(word), loudness);
    let shared = Arc::new(shared.map_err(|error| io::Error::other(format!("no randomness: {error}")))?);
    let mut lives = JoinSet::new();
    for (one, handle) in ones.into_iter().zip(handles) {
        let life = live(Arc::clone(handle), one.target, one.knobs, Arc::clone(&shared), stopped.clone());
        lives.spawn_on(life, runtime.handle());
    }
    Ok(lives)
}

/// Until each has come or has failed once, or the time is over.
async fn watch_over(handles: &[Arc<Upstream>], offers: &Offers, tell: &mut impl FnMut(&str)) {
    let began = Instant::now();
    let mut due = interval(TELL_EVERY);
    due.tick().await;
    loop {
        tokio::select! {
            () = offers.heard_of_all() => return,
            _ = due.tick() => {}
        }
        if began.elapsed() >= COME_WITHIN {
            return;
        }
        let waiting = handles.iter().filter(|it| it.view().why.is_none() && it.view().state != State::Ready);
        let waiting: Vec<&str> = waiting.map(|it| &*it.name).collect();
        if !waiting.is_empty() {
            tell(&format!("waiting for {} ({} s)", waiting.join(", "), began.elapsed().as_secs()));
        }
    }
}

fn missing(directory: &Directory) -> Vec<String> {
    let absent = directory.upstreams().iter().zip(directory.present()).filter(|(_, present)| !**present);
    let told = |upstream: &Upstream| {
        let late = || format!("not there after {} s", COME_WITHIN.as_secs());
        format!("{}: {}", upstream.name, upstream.view().why.map_or_else(late, |why| why.to_string()))
    };
    absent.map(|(upstream, _)| told(upstream)).collect()
}
