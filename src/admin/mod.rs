//! The face in the network: what an operator, a probe and Prometheus may look at, over HTTP.
//!
//! It looks, and passes one word on: reload. It runs on a thread and a runtime of its own and takes no lock that it would wait for, so that it can
//! tell of a house whose shards or monitor hang. Each request is checked at the [`door`] and by [`origin`], then served by
//! one function of [`routes`].

mod catalogue;
mod census;
mod config;
mod door;
mod metrics;
mod origin;
mod routes;
mod tree_view;
mod upstreams;

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::actor::Inbox;
use crate::conn::House;
use crate::meter::{ShardMeter, Tally};
use crate::monitor::Profiler;
use crate::monitor::capacity::{Posting, Report};
use crate::upstream::Directories;
use crate::upstream::mux::tally::Uses;

pub use catalogue::listing;
pub use config::Config;
pub use tree_view::{Child, Group, TreeView};
pub use upstreams::UpstreamView;

/// How often, and with what pause, the profiler is asked again while somebody else holds it.
const PROFILER_TRIES: u32 = 50;
const PROFILER_PAUSE: Duration = Duration::from_millis(2);

/// Everything that can be looked at.
pub struct Windows {
    /// The knobs.
    pub config: Config,
    /// What the connections of all shards share and have counted.
    pub house: Arc<House>,
    /// Each shard's meter and inbox, in the order of their numbers (of [`crate::actor::Berth`]).
    pub berths: Vec<(Arc<ShardMeter>, Arc<Inbox>)>,
    /// The living tree; must answer at once.
    pub tree: Arc<dyn Fn() -> TreeView + Send + Sync>,
    /// The upstreams; must answer at once.
    pub upstreams: Arc<dyn Fn() -> Vec<(UpstreamView, Uses)> + Send + Sync>,
    /// What they offer together.
    pub directories: Arc<Directories>,
    /// Reads the configuration again and puts it in force; may take seconds. What it has done, as JSON, or why nothing.
    pub reload: Arc<dyn Fn() -> Result<String, Unreloaded> + Send + Sync>,
    /// The profiler, which somebody else gives its readings.
    pub profiler: Arc<Mutex<Profiler>>,
    /// How full the house is.
    pub fullness: Arc<Fullness>,
    /// Whether new clients are welcome: false while starting and while draining.
    pub ready: Arc<AtomicBool>,
    /// The gateway's version.
    pub version: &'static str,
    /// When the process started.
    pub started: Instant,
}

/// How full the house is, as the monitor found it last, and what became of what it told.
#[derive(Default)]
pub struct Fullness {
    /// Swapped whole, once a second.
    pub report: ArcSwap<Report>,
    /// What became of the posts to the webhook.
    pub postings: Tally<Posting>,
}

/// Why a reload has done nothing, or not all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreloaded {
    /// There is nothing to read.
    #[error("this gateway was started without a configuration that can be read again")]
    NoSource,
    /// What was read is no good.
    #[error("nothing is changed: {0}")]
    Refused(String),
    /// Some of it is in force, and then the tree took no child.
    #[error("changed in part only: {0}")]
    Broken(String),
}

impl Windows {
    /// Looks at the profiler; nothing if it is held for longer than a look may take.
    fn profiler<T>(&self, look: impl FnOnce(&Profiler) -> T) -> Option<T> {
        for _ in 0..PROFILER_TRIES {
            match self.profiler.try_lock() {
                Ok(profiler) => return Some(look(&profiler)),
                // A monitor that panicked left its last figures, which are what one wants to see now.
                Err(TryLockError::Poisoned(poisoned)) => return Some(look(poisoned.get_ref())),
                Err(TryLockError::WouldBlock) => thread::sleep(PROFILER_PAUSE),
            }
        }
        None
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn connections_open(&self) -> u64 {
        self.berths.iter().map(|(meter, _)| meter.open.get()).sum()
    }
}

/// Answers on `listener` for as long as it is polled; needs a tokio runtime with I/O and time.
///
/// # Errors
/// When the listener can't be made non-blocking or watched. What happens to one client is no error.
pub async fn serve(listener: TcpListener, windows: Arc<Windows>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let door = door::Door::new(listener, &windows.config);
    axum::serve(door, routes::router(windows)).await
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // A test's peers are bare threads, gone with the test.
mod tests;
