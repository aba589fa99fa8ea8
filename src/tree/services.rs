//! The services that are no shards: the operator's port, the profiler, and what upstreams run on.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use super::{LOOK_AGAIN, Tree, Unstarted};
use crate::actor::Berth;
use crate::admin::{self, Unreloaded, Windows};
use crate::config::Config;
use crate::conn::House;
use crate::meter::{ProcessMemory, ShardMeter};
use crate::monitor::{LagWindow, Readings};

/// How often the profiler gets readings; it keeps what its knobs ask for, and a report is never older than this.
const READ_EVERY: Duration = Duration::from_secs(1);

/// What the services that are no shards share.
pub(super) struct Services {
    /// For the upstreams: few, and each waits most of the time.
    pub(super) upstreams: Runtime,
    /// For the admin's port.
    admin: Runtime,
    stop: Notify,
    stopping: AtomicBool,
    /// The admin's port is somebody else's until we take newcomers.
    admin_waits: AtomicBool,
    /// A successor holds our sockets and has not said yet that it takes newcomers.
    pub(super) succeeding: AtomicBool,
    /// A successor takes newcomers.
    handed_over: AtomicBool,
    /// Names of children that are to panic, for the supervision tests.
    condemned: Mutex<Vec<String>>,
}

impl Tree {
    pub(super) fn start_embedded(&self) -> Result<(), Unstarted> {
        let services = Arc::clone(&self.services);
        let life = move |running: &dyn Fn()| {
            running();
            services.upstreams.block_on(services.until_stopped("embedded"));
            Ok(())
        };
        self.supervise("upstreams", "embedded", life)
    }

    pub(super) fn start_profiler(&self) -> Result<(), Unstarted> {
        let (services, berths) = (Arc::clone(&self.services), Arc::clone(&self.berths));
        let profiler = Arc::clone(&self.profiler);
        let lookout = Arc::clone(&self.lookout);
        let began = Instant::now();
        let life = move |running: &dyn Fn()| {
            running();
            let mut window = LagWindow::default();
            while !services.stopping.load(Ordering::Acquire) {
                services.panic_if_condemned("profiler");
                let meters = berths.iter().map(|berth| &*berth.meter);
                let readings = Readings::take(meters, &mut window).map_err(|error| error.to_string())?;
                let mut profiler = profiler.lock().unwrap_or_else(PoisonError::into_inner);
                // What has changed is told by the lookout, with all else that people are told.
                profiler.handle_readings(began.elapsed(), &readings);
                let alarms = profiler.alarms().collect();
                drop(profiler);
                lookout.look(began.elapsed(), &readings, alarms);
                services.sleep(READ_EVERY);
            }
            Ok(())
        };
        self.supervise("services", "profiler", life)
    }

    /// Nobody, if there is no webhook.
    pub(super) fn start_webhook(&self) -> Result<(), Unstarted> {
        let Some(webhook) = self.lookout.webhook.clone() else { return Ok(()) };
        let services = Arc::clone(&self.services);
        let life = move |running: &dyn Fn()| {
            running();
            services.upstreams.block_on(async {
                tokio::select! {
                    () = webhook.deliver() => {}
                    () = services.until_stopped("webhook") => {}
                }
            });
            Ok(())
        };
        self.supervise("services", "webhook", life)
    }

    pub(super) fn start_admin(&self, config: &Config) -> Result<(), Unstarted> {
        let (supervisor, upstreams) = (Arc::downgrade(&self.supervisor), Arc::downgrade(&self.upstreams));
        let reloader = Arc::downgrade(&self.reloader);
        let windows = Arc::new(Windows {
            config: config.admin.clone(),
            house: Arc::clone(&self.house),
            berths: self.berths.iter().map(|berth| (Arc::clone(&berth.meter), Arc::clone(&berth.inbox))).collect(),
            tree: Arc::new(move || supervisor.upgrade().map_or_else(Default::default, |supervisor| supervisor.view())),
            upstreams: Arc::new(move || upstreams.upgrade().map_or_else(Vec::new, |upstreams| upstreams.view())),
            directories: Arc::clone(&self.upstreams.directories),
            reload: Arc::new(move || {
                let reloaded = reloader.upgrade().ok_or(Unreloaded::NoSource)?.reload()?;
                Ok(serde_json::to_string(&reloaded).unwrap_or_default())
            }),
            profiler: Arc::clone(&self.profiler),
            fullness: Arc::clone(&self.lookout.fullness),
            ready: Arc::clone(&self.ready),
            version: env!("CARGO_PKG_VERSION"),
            started: Instant::now(),
        });
        let (services, ports) = (Arc::clone(&self.services), Arc::clone(&self.ports));
        let life = move |running: &dyn Fn()| {
            let port = ports.admin.try_clone().map_err(|error| format!("admin port: {error}"))?;
            running();
            services.admin.block_on(async {
                services.until("admin", |services| !services.admin_waits.load(Ordering::Acquire)).await;
                tokio::select! {
                    served = admin::serve(port, Arc::clone(&windows)) => served.map_err(|error| error.to_string())?,
                    () = services.until("admin", Services::was_handed_over) => {}
                }
                // Whoever has asked already is answered.
                services.until_stopped("admin").await;
                Ok(())
            })
        };
        self.supervise("services", "admin", life)
    }
}

impl Services {
    /// # Errors
    /// When the kernel gives no more polls.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            // One thread for all: a call and its answer wake it where it waits for sockets, and nobody else. A second one was
            // no faster (104 us added to a proxied call, against 84 to 100), and would be a thread more beside the shards.
            upstreams: Builder::new_multi_thread().worker_threads(1).thread_name("upstreams").enable_all().build()?,
            admin: Builder::new_current_thread().enable_all().build()?,
            stop: Notify::new(),
            stopping: AtomicBool::new(false),
            admin_waits: AtomicBool::new(false),
            succeeding: AtomicBool::new(false),
            handed_over: AtomicBool::new(false),
            condemned: Mutex::default(),
        })
    }

    /// Tells all children that the house ends.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.ring();
    }

    /// Whether the house ends.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Has the admin's port wait, or wait no longer.
    pub(super) fn hold_admin(&self, waits: bool) {
        self.admin_waits.store(waits, Ordering::Release);
        self.ring();
    }

    /// A successor takes newcomers from now on, at the admin's port too.
    pub(super) fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Release);
        self.ring();
    }

    /// Whether one does.
    pub(super) fn was_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }

    /// Wakes who waits in [`Self::until_stopped`]: one that looked just before is told the next time.
    pub(super) fn ring(&self) {
        self.stop.notify_waiters();
    }

    /// Lets one child panic, by its name.
    pub(super) fn condemn(&self, child: &str) {
        self.condemned.lock().unwrap_or_else(PoisonError::into_inner).push(child.to_owned());
        self.ring();
    }

    /// Panics once the child is to; never returns otherwise.
    pub(super) async fn until_condemned(&self, child: &str) {
        loop {
            let stop = self.stop.notified();
            self.panic_if_condemned(child);
            stop.await;
        }
    }

    pub(super) async fn until_stopped(&self, child: &str) {
        self.until(child, Self::is_stopping).await;
    }

    /// Returns once it is so, or the house ends.
    async fn until(&self, child: &str, is_so: impl Fn(&Self) -> bool) {
        loop {
            let stop = self.stop.notified();
            self.panic_if_condemned(child);
            if is_so(self) || self.is_stopping() {
                return;
            }
            stop.await;
        }
    }

    pub(super) fn panic_if_condemned(&self, child: &str) {
        let mut condemned = self.condemned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = condemned.iter().position(|name| name == child) {
            condemned.swap_remove(at);
            drop(condemned);
            panic!("a panic was ordered");
        }
    }

    /// Sleeps, but not through an order to stop.
    pub(super) fn sleep(&self, time: Duration) {
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

/// What the tool `stats` tells.
pub(super) fn stats(berths: &Arc<[Berth]>, house: &Arc<House>) -> impl Fn() -> String + Send + Sync + 'static {
    let (berths, house) = (Arc::clone(berths), Arc::clone(house));
    let began = Instant::now();
    move || {
        let sum = |read: fn(&ShardMeter) -> u64| berths.iter().map(|b| read(&b.meter)).sum::<u64>();
        let memory = ProcessMemory::read();
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
