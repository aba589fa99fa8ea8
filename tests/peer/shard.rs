//! One shard with tenants of the test's own, without a tree around it.

use std::net::SocketAddr;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use lakh::actor::{self, Berth, Mail, Order, Resident, Tenants};
use lakh::conn::{House, Ledger, Mcp};
use lakh::guard::Seats;
use lakh::upstream::embedded::{Embedded, Tools};
use lakh::upstream::{Directories, Directory, Loudness};
use tokio::runtime::{Builder, Runtime};

use super::PATIENCE;

/// What connections share, with so many seats and all knobs at their defaults.
pub fn house(seats: usize) -> Arc<House> {
    let guard = lakh::guard::Config { connections_max: seats, retry_after_ms: 1, ..lakh::guard::Config::default() };
    Arc::new(House::new(lakh::conn::Config::default(), lakh::wire::Config::default(), &guard, 1))
}

/// The embedded server on a runtime of its own.
pub fn embedded() -> Embedded {
    static UPSTREAMS: OnceLock<Runtime> = OnceLock::new();
    let runtime = UPSTREAMS
        .get_or_init(|| Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a runtime"));
    let tools = Arc::new(Tools::new(lakh::upstream::embedded::Config::default(), || "{}".to_owned()));
    Embedded::new(tools, runtime.handle().clone(), 1)
}

/// MCP with the embedded server behind it.
pub fn mcp(house: &Arc<House>) -> Mcp {
    let directories = Arc::new(Directories::from_pointee(Directory::embedded(embedded())));
    let loudness = Arc::new(Loudness::new(Arc::clone(&directories)));
    Mcp::new(Arc::clone(house), directories, loudness, &lakh::mcp::Config::default(), (0, 0))
}

/// A running shard; it ends with its owner, and its panic is its owner's.
pub struct Shard {
    pub berth: Arc<Berth>,
    pub clients: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Shard {
    /// Runs the tenants that `make` makes, on a thread of their own, 2,000 at most.
    pub fn run<T: Tenants>(make: impl FnOnce() -> T + Send + 'static) -> Self {
        let berth = Arc::new(Berth::new(0).expect("a poll"));
        let listener = mio::net::TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let clients = listener.local_addr().expect("an address");
        let place = Arc::clone(&berth);
        let life = move || actor::run(&place, listener, 2_000, &mut make()).expect("the shard does not fail");
        let thread = thread::Builder::new().spawn(life).expect("a thread");
        Self { berth, clients, thread: Some(thread) }
    }

    /// What it says of all its connections.
    pub fn census(&self) -> Vec<Resident> {
        let (reply, answer) = sync_channel(1);
        self.berth.inbox.post(Mail::Order(Order::Census { most: 2_000, reply }));
        answer.recv_timeout(PATIENCE).expect("an answer")
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.berth.inbox.post(Mail::Order(Order::Stop));
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the shard panicked");
    }
}
