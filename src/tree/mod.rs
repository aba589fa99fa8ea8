//! Who lives here, in which order they start, and who restarts whom.
//!
//! ```text
//! lakh
//! ├── services     profiler            reads the meters, keeps history, raises alarms, tells how full the house is
//! │                webhook             posts the alarms, where there is one
//! │                admin               the operator's port, on a thread and runtime of its own
//! │                catalogue           takes out of it what is gone for too long
//! │                successor           hands the listening sockets over (only with `upgrade_socket`)
//! ├── upstreams    embedded            the built-in MCP server's slow calls
//! │                one by each name    a server behind the gateway
//! └── shards       shard-0 .. shard-n  an event loop each, with its clients
//! ```
//!
//! One child failing takes nobody along. Everything that another thread may wake (polls, wakers, runtimes) is made here,
//! in the process's first descriptor table, before any shard takes a table of its own, and lives as long as the house:
//! a wake crosses tables by number (design.md section 4).

mod drain;
mod handover;
mod inherit;
mod listen;
mod lookout;
mod offer;
mod reload;
mod services;
mod supervisor;
mod survey;
mod upstreams;
mod webhook;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::actor::{self, Berth, CommonDescriptors, Mail, Order};
use crate::admin::{self, Unreloaded, UpstreamView};
use crate::config::{Config, Unfit};
use crate::conn::{Connections, House, Mcp};
use crate::meter::{Host, Plan};
use crate::monitor::Profiler;
use crate::upstream::embedded::{Embedded, Tools};

pub use inherit::{Disinherited, Inherited};
pub use reload::{Ground, Reloaded, Relog, Reread};
pub use survey::{Survey, survey};
pub use upstreams::Changes;

use inherit::Predecessor;
use listen::Ports;
use lookout::Lookout;
use offer::Offer;
use reload::Reloader;
use services::Services;
use supervisor::{Need, Supervisor};
use upstreams::Upstreams;

/// How long the children may take to come up.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a child may take to end: an upstream that is a process gets two seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a wait for something looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A running gateway.
pub struct Tree {
    supervisor: Arc<Supervisor>,
    berths: Arc<[Berth]>,
    house: Arc<House>,
    ready: Arc<AtomicBool>,
    services: Arc<Services>,
    upstreams: Arc<Upstreams>,
    reloader: Arc<Reloader>,
    lookout: Arc<Lookout>,
    profiler: Arc<Mutex<Profiler>>,
    given_up: Mutex<mpsc::Receiver<String>>,
    common: Arc<CommonDescriptors>,
    ports: Arc<Ports>,
    admin: SocketAddr,
    /// Set once clients may come in.
    open: Arc<AtomicBool>,
    config: Config,
    plan: Plan,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum Unstarted {
    /// The knobs or the host do not allow it.
    #[error("{0}")]
    Unfit(#[from] Unfit),
    /// A port cannot be had.
    #[error("cannot listen on {addr} (`{knob}`): {error}; {}", listen::remedy(error))]
    Port { knob: &'static str, addr: SocketAddr, error: io::Error },
    /// A successor could not find us.
    #[error("cannot offer the listening sockets at {} (`upgrade_socket`): {error}; if another gateway runs there, start with --take-over", path.display())]
    Offer { path: PathBuf, error: io::Error },
    /// The kernel refuses something every gateway needs.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// A child did not come up.
    #[error("cannot start: {0}")]
    Child(String),
}

impl Tree {
    /// [`Self::plant_on`] bare ground: nothing can be reloaded.
    ///
    /// # Errors
    /// As there.
    pub fn plant(config: Config) -> Result<Self, Unstarted> {
        Self::plant_on(Ground::default(), config)
    }

    /// Builds the house and starts everybody in it; clients can connect when it returns. It waits for the upstreams, but
    /// not for long, and never for one that has failed: that one comes later.
    ///
    /// # Errors
    /// When the configuration or the host does not allow it, or a port cannot be had.
    pub fn plant_on(mut ground: Ground, config: Config) -> Result<Self, Unstarted> {
        let host = Host::read();
        let plan = config.plan(&host)?;
        listen::raise_descriptor_limit();
        let mut inherited = ground.inherited.take();
        let ports = Arc::new(Ports::new(&config, &plan, inherited.as_mut())?);
        let predecessor = inherited.and_then(|inherited| inherited.predecessor);
        let offer = (!config.upgrade_socket.as_os_str().is_empty())
            .then(|| Offer::prepare(&config.upgrade_socket, predecessor.is_some()))
            .transpose()
            .map_err(|error| Unstarted::Offer { path: config.upgrade_socket.clone(), error })?;
        let berths: Arc<[Berth]> = (0..plan.shards as u16).map(Berth::new).collect::<io::Result<Vec<_>>>()?.into();
        let services = Arc::new(Services::new()?);
        let (give_up, given_up) = mpsc::sync_channel(1);
        let supervisor = Arc::new(Supervisor::new(move |why| drop(give_up.try_send(why))));
        let (conn, wire) = (config.conn.clone(), config.wire.clone());
        let house = Arc::new(House::for_tenants(conn, wire, &config.guard, config.roster()?, plan.shards));
        let tools = Tools::new(config.embedded.clone(), services::stats(&berths, &house));
        let embedded = Embedded::new(Arc::new(tools), services.upstreams.handle().clone(), plan.shards);
        let upstreams = Arc::new(Upstreams::new(&supervisor, &services, &berths, &house, embedded)?);
        let lookout = Arc::new(Lookout::new(&config, &host, config.webhook()?, &house, &berths, &upstreams));
        let profiler = Arc::new(Mutex::new(Profiler::new(config.monitor.clone())));
        let ending = Arc::clone(&ground.ending);
        let mut common = CommonDescriptors::now()?;
        if let Some(Predecessor(stream)) = &predecessor {
            common = common.without(stream);
        }
        if let Some(offer) = &offer {
            common = common.without(offer.listener());
        }
        let tree = Self {
            supervisor,
            berths,
            ready: Arc::default(),
            services,
            reloader: Arc::new(Reloader {
                ground,
                upstreams: Arc::clone(&upstreams),
                house: Arc::clone(&house),
                lookout: Arc::clone(&lookout),
                profiler: Arc::clone(&profiler),
                in_force: Mutex::new(config.clone()),
            }),
            house,
            upstreams,
            lookout,
            profiler,
            given_up: Mutex::new(given_up),
            common: Arc::new(common),
            admin: ports.admin.local_addr()?,
            ports,
            open: Arc::default(),
            config,
            plan,
        };
        // Until we are ready, whoever asks there asks the one before us.
        tree.services.hold_admin(predecessor.is_some());
        tree.start(&ending)?;
        tree.open(predecessor, offer)?;
        Ok(tree)
    }

    /// Clients may come in, and whoever had the sockets before us hears that.
    fn open(&self, predecessor: Option<Predecessor>, offer: Option<Offer>) -> Result<(), Unstarted> {
        let addr = self.ports.addr();
        self.ports.open().map_err(|error| Unstarted::Port { knob: "listen", addr, error })?;
        self.open.store(true, Ordering::Release);
        self.order(|| Order::Open);
        self.ready.store(true, Ordering::Release);
        self.services.hold_admin(false);
        if let Some(predecessor) = predecessor {
            match predecessor.say_ready() {
                Ok(()) => tracing::info!("took over; the gateway before us drains"),
                Err(error) => tracing::warn!(%error, "the gateway before us has gone already"),
            }
        }
        let Some(offer) = offer else { return Ok(()) };
        offer.publish().map_err(|error| Unstarted::Offer { path: self.config.upgrade_socket.clone(), error })?;
        self.start_offer(Arc::new(offer))
    }

    /// Where clients connect.
    #[must_use]
    pub fn clients(&self) -> SocketAddr {
        self.ports.addr()
    }

    /// Where the operator looks.
    #[must_use]
    pub const fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What was planned for this host.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the connections share: seats and counts.
    #[must_use]
    pub const fn house(&self) -> &Arc<House> {
        &self.house
    }

    /// The living tree.
    #[must_use]
    pub fn view(&self) -> admin::TreeView {
        self.supervisor.view()
    }

    /// The servers behind the gateway, as they are now.
    #[must_use]
    pub fn upstreams(&self) -> Vec<UpstreamView> {
        self.upstreams.view().into_iter().map(|(view, _)| view).collect()
    }

    /// Reads the configuration again and puts in force what can be without parting a client. Blocks for as long as an
    /// upstream that is taken away needs to end.
    ///
    /// # Errors
    /// When there is nothing to read, or it is no good: nothing is changed then.
    pub fn reload(&self) -> Result<Reloaded, Unreloaded> {
        self.reloader.reload()
    }

    /// Makes one child panic, by its name in the tree; false if there is none.
    pub fn inject_panic(&self, child: &str) -> bool {
        if let Some(berth) = self.berths.iter().find(|berth| shard_name(berth) == child) {
            berth.inbox.post(Mail::Order(Order::Panic));
            return true;
        }
        let known = self.view().children().any(|(_, known)| known.name == child);
        if known {
            self.services.condemn(child);
        }
        known
    }

    /// Why a child was given up, if one was: the house cannot go on.
    pub fn given_up(&self) -> Option<String> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner).try_recv().ok()
    }

    /// Whether a successor has taken over: it takes the newcomers, and those who are in may be told to go.
    pub fn was_handed_over(&self) -> bool {
        self.services.was_handed_over()
    }

    fn order(&self, order: impl Fn() -> Order) {
        for berth in &*self.berths {
            berth.inbox.post(Mail::Order(order()));
        }
    }

    /// Inner services first: whoever serves clients starts last.
    fn start(&self, ending: &AtomicBool) -> Result<(), Unstarted> {
        let config = &self.config;
        self.start_profiler()?;
        self.start_webhook()?;
        self.start_admin(config)?;
        self.start_embedded()?;
        self.upstreams.start_catalogue().map_err(Unstarted::Child)?;
        self.upstreams.apply(config, config.upstreams()?).map_err(Unstarted::Child)?;
        self.upstreams.wait(Duration::from_millis(config.upstreams_start_ms), ending);
        for number in 0..self.berths.len() {
            self.start_shard(number, config.mcp.clone())?;
        }
        self.await_children()
    }

    fn start_shard(&self, number: usize, mcp: crate::mcp::Config) -> Result<(), Unstarted> {
        let (directories, loudness) = (Arc::clone(&self.upstreams.directories), Arc::clone(&self.upstreams.loudness));
        let (berths, house, ports) = (Arc::clone(&self.berths), Arc::clone(&self.house), Arc::clone(&self.ports));
        let (own_table, open) = (self.plan.own_tables, Arc::clone(&self.open));
        let slots = self.plan.connections_per_shard as usize + house.config.lobby_max;
        let (incarnation, common) = (AtomicU32::new(0), Arc::clone(&self.common));
        let name = shard_name(&self.berths[number]);
        let life = move |running: &dyn Fn()| {
            if house.draining.load(Ordering::Acquire) {
                return Ok(());
            }
            if own_table {
                common.unshare();
            }
            // What the life before this one published last.
            berths[number].meter.open.set(0);
            let doors = ports.doors(number, berths.len(), open.load(Ordering::Acquire));
            let doors = doors.map_err(|error| format!("listen on {}: {error}", ports.addr()))?;
            let life = (number, incarnation.fetch_add(1, Ordering::Relaxed));
            let service = Mcp::new(Arc::clone(&house), Arc::clone(&directories), Arc::clone(&loudness), &mcp, life);
            let mut connections = Connections::new(Arc::clone(&house), slots, service);
            running();
            actor::run(&berths[number], doors, slots, &mut connections).map_err(|error| format!("epoll: {error}"))
        };
        self.supervise("shards", &name, life)
    }

    fn supervise(
        &self,
        group: &'static str,
        name: &str,
        life: impl Fn(&dyn Fn()) -> Result<(), String> + Send + Sync + 'static,
    ) -> Result<(), Unstarted> {
        self.supervisor.supervise(group, name, Need::House, life).map(drop).map_err(Unstarted::Child)
    }

    fn await_children(&self) -> Result<(), Unstarted> {
        let until = Instant::now() + START_TIMEOUT;
        // An upstream that fails at its start is no reason not to serve the others.
        let is_up =
            |group: &str, child: &admin::Child| child.state == "running" || self.upstreams.has(group, &child.name);
        while !self.view().children().all(|(group, child)| is_up(group, child)) {
            if let Some(why) = self.given_up() {
                return Err(Unstarted::Child(why));
            }
            if Instant::now() > until {
                return Err(Unstarted::Child("the children do not come up; the log says why".into()));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

/// Ends everybody now; what was not answered is not.
impl Drop for Tree {
    fn drop(&mut self) {
        self.supervisor.stop();
        self.upstreams.stop();
        self.order(|| Order::Stop);
        self.services.stop();
        let until = Instant::now() + STOP_TIMEOUT;
        while !self.supervisor.is_over() && Instant::now() < until {
            self.services.ring();
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

fn shard_name(berth: &Berth) -> String {
    format!("shard-{}", berth.number)
}
