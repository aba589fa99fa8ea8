//! Who lives here, in which order they start, and who restarts whom.
//!
//! ```text
//! lakh
//! ├── services     profiler            reads the meters, keeps history, raises alarms
//! │                admin               the operator's port, on a thread and runtime of its own
//! ├── upstreams    embedded            the built-in MCP server's slow calls
//! └── shards       shard-0 .. shard-n  an event loop each, with its clients
//! ```
//!
//! One child failing takes nobody along. Everything that another thread may wake (polls, wakers, runtimes) is made here,
//! in the process's first descriptor table, before any shard takes a table of its own, and lives as long as the house:
//! a wake crosses tables by number (design.md section 4).

mod listen;
mod supervisor;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use crate::actor::{self, Berth, CommonDescriptors, Mail, Order};
use crate::admin::{self, Windows};
use crate::config::{Config, Unfit};
use crate::conn::{Connections, House, Mcp};
use crate::meter::{Host, Plan};
use crate::monitor::{LagWindow, Profiler, Readings};
use crate::upstream::embedded::{Embedded, Tools};
use crate::upstream::{Directories, Directory, Loudness};

use listen::Reservation;
use supervisor::Supervisor;

/// How long the children may take to come up.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a child may take to notice that it is to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the profiler gets readings; it keeps what its knobs ask for, and a report is never older than this.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How often a wait for something looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A running gateway.
pub struct Tree {
    supervisor: Arc<Supervisor>,
    berths: Arc<[Berth]>,
    house: Arc<House>,
    ready: Arc<AtomicBool>,
    services: Arc<Services>,
    given_up: Mutex<mpsc::Receiver<String>>,
    common: Arc<CommonDescriptors>,
    clients: Reservation,
    admin: SocketAddr,
    plan: Plan,
}

/// What the services that are no shards share.
struct Services {
    /// For the slow calls of upstreams.
    upstreams: Runtime,
    /// For the admin's port.
    admin: Runtime,
    stop: Notify,
    stopping: AtomicBool,
    /// Names of children that are to panic, for the supervision tests.
    condemned: Mutex<Vec<String>>,
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
    /// The kernel refuses something every gateway needs.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// A child did not come up.
    #[error("cannot start: {0}")]
    Child(String),
}

impl Tree {
    /// Builds the house and starts everybody in it; clients can connect when it returns.
    ///
    /// # Errors
    /// When the configuration or the host does not allow it, or a port cannot be had.
    pub fn plant(config: Config) -> Result<Self, Unstarted> {
        let host = Host::read();
        let plan = config.plan(&host)?;
        listen::raise_descriptor_limit();
        let port = |knob, addr| move |error| Unstarted::Port { knob, addr, error };
        let clients = Reservation::new(config.listen).map_err(port("listen", config.listen))?;
        let admin_port = listen::admin(config.admin.listen).map_err(port("admin.listen", config.admin.listen))?;
        let admin = admin_port.local_addr()?;
        let berths: Arc<[Berth]> = (0..plan.shards as u16).map(Berth::new).collect::<io::Result<Vec<_>>>()?.into();
        let services = Arc::new(Services {
            upstreams: Builder::new_current_thread().enable_all().build()?,
            admin: Builder::new_current_thread().enable_all().build()?,
            stop: Notify::new(),
            stopping: AtomicBool::new(false),
            condemned: Mutex::default(),
        });
        let (give_up, given_up) = mpsc::sync_channel(1);
        let supervisor = Arc::new(Supervisor::new(move |why| drop(give_up.try_send(why))));
        let tree = Self {
            supervisor,
            house: Arc::new(House::new(config.conn.clone(), config.wire.clone(), &config.guard, plan.shards)),
            berths,
            ready: Arc::default(),
            services,
            given_up: Mutex::new(given_up),
            common: Arc::new(CommonDescriptors::now()?),
            clients,
            admin,
            plan,
        };
        tree.start(config, admin_port)?;
        tree.ready.store(true, Ordering::Release);
        Ok(tree)
    }

    /// Where clients connect.
    #[must_use]
    pub fn clients(&self) -> SocketAddr {
        self.clients.addr()
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

    /// Makes one child panic, by its name in the tree; false if there is none.
    pub fn inject_panic(&self, child: &str) -> bool {
        if let Some(berth) = self.berths.iter().find(|berth| shard_name(berth) == child) {
            berth.inbox.post(Mail::Order(Order::Panic));
            return true;
        }
        let known = self.view().children().any(|(_, known)| known.name == child);
        if known {
            self.services.condemned.lock().unwrap_or_else(PoisonError::into_inner).push(child.to_owned());
            self.services.stop.notify_waiters();
        }
        known
    }

    /// Why a child was given up, if one was: the house cannot go on.
    pub fn given_up(&self) -> Option<String> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner).try_recv().ok()
    }

    /// Takes no new clients and lets what is in flight be answered; true when the last client has gone.
    pub fn drain(&self, within: Duration) -> bool {
        self.ready.store(false, Ordering::Release);
        // Whoever serves calls in flight is still restarted; a shard that fails now has nobody left to serve.
        self.house.draining.store(true, Ordering::Release);
        self.order(|| Order::Drain);
        let until = Instant::now() + within;
        while self.house.seats.taken() > 0 && Instant::now() < until {
            std::thread::sleep(LOOK_AGAIN);
        }
        self.house.seats.taken() == 0
    }

    fn order(&self, order: impl Fn() -> Order) {
        for berth in &*self.berths {
            berth.inbox.post(Mail::Order(order()));
        }
    }

    /// Inner services first: whoever serves clients starts last.
    fn start(&self, config: Config, admin_port: std::net::TcpListener) -> Result<(), Unstarted> {
        let profiler = Arc::new(Mutex::new(Profiler::new(config.monitor.clone())));
        self.start_profiler(&profiler)?;
        self.start_admin(&config, profiler, admin_port)?;
        self.start_embedded()?;
        let tools = Arc::new(Tools::new(config.embedded.clone(), self.stats()));
        let embedded = Embedded::new(tools, self.services.upstreams.handle().clone());
        let directories = Arc::new(Directories::from_pointee(Directory::embedded(embedded)));
        let loudness = Arc::new(Loudness::new(Arc::clone(&directories)));
        for number in 0..self.berths.len() {
            self.start_shard(number, &directories, &loudness, config.mcp.clone())?;
        }
        self.await_children()
    }

    fn start_shard(
        &self,
        number: usize,
        directories: &Arc<Directories>,
        loudness: &Arc<Loudness>,
        mcp: crate::mcp::Config,
    ) -> Result<(), Unstarted> {
        let (directories, loudness) = (Arc::clone(directories), Arc::clone(loudness));
        let (berths, house, clients) = (Arc::clone(&self.berths), Arc::clone(&self.house), self.clients.addr());
        let (own_table, backlog) = (self.plan.own_tables, self.plan.backlog());
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
            let listener =
                listen::clients(clients, backlog).map_err(|error| format!("listen on {clients}: {error}"))?;
            // No number of a ticket, or of a question, is used by two shards: a client over HTTP may be on several.
            let life = incarnation.fetch_add(1, Ordering::Relaxed) * berths.len() as u32 + number as u32;
            let service = Mcp::new(Arc::clone(&house), Arc::clone(&directories), Arc::clone(&loudness), &mcp, life);
            let mut connections = Connections::new(Arc::clone(&house), slots, service);
            running();
            actor::run(&berths[number], listener, slots, &mut connections).map_err(|error| format!("epoll: {error}"))
        };
        self.supervisor.supervise("shards", name, life).map_err(Unstarted::Child)
    }

    fn start_embedded(&self) -> Result<(), Unstarted> {
        let services = Arc::clone(&self.services);
        let life = move |running: &dyn Fn()| {
            running();
            services.upstreams.block_on(services.until_stopped("embedded"));
            Ok(())
        };
        self.supervisor.supervise("upstreams", "embedded", life).map_err(Unstarted::Child)
    }

    fn start_profiler(&self, profiler: &Arc<Mutex<Profiler>>) -> Result<(), Unstarted> {
        let (services, berths, profiler) = (Arc::clone(&self.services), Arc::clone(&self.berths), Arc::clone(profiler));
        let began = Instant::now();
        let life = move |running: &dyn Fn()| {
            running();
            let mut window = LagWindow::default();
            while !services.stopping.load(Ordering::Acquire) {
                services.panic_if_condemned("profiler");
                let meters = berths.iter().map(|berth| &*berth.meter);
                let readings = Readings::take(meters, &mut window).map_err(|error| error.to_string())?;
                let mut profiler = profiler.lock().unwrap_or_else(PoisonError::into_inner);
                for change in profiler.handle_readings(began.elapsed(), &readings) {
                    tracing::warn!("{change}");
                }
                drop(profiler);
                services.sleep(READ_EVERY);
            }
            Ok(())
        };
        self.supervisor.supervise("services", "profiler", life).map_err(Unstarted::Child)
    }

    fn start_admin(
        &self,
        config: &Config,
        profiler: Arc<Mutex<Profiler>>,
        port: std::net::TcpListener,
    ) -> Result<(), Unstarted> {
        let supervisor = Arc::downgrade(&self.supervisor);
        let windows = Arc::new(Windows {
            config: config.admin.clone(),
            house: Arc::clone(&self.house),
            berths: self.berths.iter().map(|berth| (Arc::clone(&berth.meter), Arc::clone(&berth.inbox))).collect(),
            tree: Arc::new(move || supervisor.upgrade().map_or_else(Default::default, |supervisor| supervisor.view())),
            profiler,
            ready: Arc::clone(&self.ready),
            version: env!("CARGO_PKG_VERSION"),
            started: Instant::now(),
        });
        let services = Arc::clone(&self.services);
        let life = move |running: &dyn Fn()| {
            let port = port.try_clone().map_err(|error| format!("admin port: {error}"))?;
            running();
            services.admin.block_on(async {
                tokio::select! {
                    served = admin::serve(port, Arc::clone(&windows)) => served.map_err(|error| error.to_string()),
                    () = services.until_stopped("admin") => Ok(()),
                }
            })
        };
        self.supervisor.supervise("services", "admin", life).map_err(Unstarted::Child)
    }

    fn await_children(&self) -> Result<(), Unstarted> {
        let until = Instant::now() + START_TIMEOUT;
        while !self.view().children().all(|(_, child)| child.state == "running") {
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

    /// What the tool `stats` tells.
    fn stats(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let (berths, house) = (Arc::clone(&self.berths), Arc::clone(&self.house));
        let began = Instant::now();
        move || {
            let sum = |read: fn(&crate::meter::ShardMeter) -> u64| berths.iter().map(|b| read(&b.meter)).sum::<u64>();
            let memory = crate::meter::ProcessMemory::read();
            serde_json::json!({
                "connections": house.seats.taken(),
                "connectionsMax": house.seats.max(),
                "callsInFlight": house.in_flight.taken(),
                "messagesIn": sum(|meter| meter.messages_in.get()),
                "messagesOut": sum(|meter| meter.messages_out.get()),
                "rssBytes": memory.map_or(0, |memory| memory.rss),
                "shards": berths.len(),
                "uptimeSeconds": began.elapsed().as_secs(),
            })
            .to_string()
        }
    }
}

/// Ends everybody now; what was not answered is not.
impl Drop for Tree {
    fn drop(&mut self) {
        self.supervisor.stop();
        self.order(|| Order::Stop);
        self.services.stopping.store(true, Ordering::Release);
        let until = Instant::now() + STOP_TIMEOUT;
        while !self.supervisor.is_over() && Instant::now() < until {
            self.services.stop.notify_waiters();
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Services {
    async fn until_stopped(&self, child: &str) {
        loop {
            let stop = self.stop.notified();
            self.panic_if_condemned(child);
            if self.stopping.load(Ordering::Acquire) {
                return;
            }
            stop.await;
        }
    }

    fn panic_if_condemned(&self, child: &str) {
        let mut condemned = self.condemned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = condemned.iter().position(|name| name == child) {
            condemned.swap_remove(at);
            drop(condemned);
            panic!("a panic was ordered");
        }
    }

    /// Sleeps, but not through an order to stop.
    fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.stopping.load(Ordering::Acquire) {
            let condemned = !self.condemned.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
            std::thread::sleep(if condemned { LOOK_AGAIN } else { Duration::from_millis(100) }.min(time));
            if condemned {
                return;
            }
        }
    }
}

fn shard_name(berth: &Berth) -> String {
    format!("shard-{}", berth.number)
}
