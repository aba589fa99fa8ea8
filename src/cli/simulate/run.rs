//! One run from the check of the machine to the results: waves of steps, each connected, held, pinged and measured.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::behind::Server;
use super::clients::{Brief, Clients, PINGS, Progress, handshakes};
use super::gateway::{Gateway, Serving};
use super::hold::{Where, shortfalls};
use super::order::{Deaths, Muster, Order, monotonic_micros};
use super::profile::{self, Play};
use super::setup::Setup;
use super::step::{Fanout, Outcome, Step};
use super::{Args, Error, heap, results};
use crate::meter::{Host, KernelMemory, ProcessMemory};

/// The clients of a step ping again until this is over (seconds).
const PING_SECONDS: f64 = 0.5;
/// How long a gateway may count clients as open that have left.
const LEAVE_PATIENCE: Duration = Duration::from_secs(30);

/// Runs the simulation; `exe` is the `lakh` binary that gateway and client processes are started from. Progress goes to
/// stderr, results into a folder of their own, nothing to stdout.
///
/// # Errors
/// When it can't be done: bad arguments, a machine too small, a process that does not start or ends, results that
/// can't be written. Dead clients and missed figures are in [`Outcome::missed`].
pub fn run(args: &Args, exe: &Path) -> Result<Outcome, Error> {
    let (steps, hold) = (args.steps()?, args.hold()?);
    let play = args.profile.map(|profile| profile::play(args, profile)).transpose()?;
    let heap_file = heap::place();
    let (mut stage, setup) = Stage::set(args, play.as_ref(), hold, &heap_file, exe)?;
    if let Some((profile, play)) = args.profile.zip(play) {
        return profile::run(args, profile, &play, stage, &setup);
    }
    stage.rest("idle gateway");
    stage.kernel_idle = KernelMemory::read().map_or(0, |kernel| kernel.slab);
    stage.steps.push(Step { rss: stage.rss(), ..Step::default() });
    stage.waves(args.waves, &steps).map_err(Error::Clients)?;
    stage.screen.clear();
    let memory_seen = args.target.is_none() || args.target_pid.is_some() || args.target_admin.is_some();
    let wanted = steps.len() * args.waves as usize;
    let fanout = if args.fanout { stage.fanout().map_err(Error::Clients)? } else { None };
    stage.screen.clear();
    let mut outcome = Outcome::judge(stage.steps, stage.deaths, wanted, stage.seconds, memory_seen, &args.budget());
    outcome.missed.extend(stage.notes);
    if args.fanout {
        outcome.judge_fanout(fanout, &args.budget());
    }
    if heap::PROFILED && args.target.is_none() {
        // Its clients are still there: what is live now is what they cost.
        stage.gateway.stop();
        match heap::read(&heap_file, outcome.steps.last().map_or(0, |step| step.live)) {
            Ok(heap) => outcome.heap = Some(heap),
            Err(error) => outcome.missed.push(format!("the gateway's heap profile {}: {error}", heap_file.display())),
        }
    }
    results::write(&args.results, args, &setup, &heap_file, &mut outcome)?;
    Ok(outcome)
}

/// Everything that must fit, before anything is started.
fn check(args: &Args, brief: &Brief, host: &Host) -> Result<(), Error> {
    let gateway = match args.target {
        None => Where::Child,
        Some(target) if target.ip().is_loopback() => Where::Here,
        Some(_) => Where::Elsewhere,
    };
    let (tables, _) = brief.tables();
    let mut lacks: Vec<String> =
        shortfalls(brief.connections, args.shards, tables, gateway, host).iter().map(ToString::to_string).collect();
    let ports = host.ports_per_source().unwrap_or(28_232);
    if gateway == Where::Elsewhere && u64::from(brief.connections) > ports {
        lacks.push(format!(
            "net.ipv4.ip_local_port_range: {ports} connections from one address to {}, {} needed; widen the range or use more client machines",
            brief.target, brief.connections
        ));
    }
    if lacks.is_empty() { Ok(()) } else { Err(Error::TooSmall { connections: brief.connections, lacks }) }
}

/// A run under way.
pub(super) struct Stage {
    /// Dropped first: a gateway without clients has nothing to drain.
    pub(super) clients: Clients,
    pub(super) gateway: Gateway,
    /// What is behind the gateway ends after it.
    pub(super) server: Server,
    hold: Duration,
    /// Handshakes that may be under way at once.
    pub(super) handshakes: u32,
    /// Slab bytes before the first client.
    kernel_idle: u64,
    pub(super) screen: Screen,
    pub(super) deaths: Deaths,
    steps: Vec<Step>,
    /// Connect time of the first wave.
    seconds: f64,
    /// What the gateway did wrong by itself: it ended, or counts clients that have left.
    pub(super) notes: Vec<String>,
}

impl Stage {
    /// Checks the machine, and starts all processes: the server behind, the gateway, the clients.
    fn set(
        args: &Args,
        play: Option<&Play>,
        hold: Duration,
        heap_file: &Path,
        exe: &Path,
    ) -> Result<(Self, Setup), Error> {
        let host = Host::read();
        let mut brief = Brief {
            target: args.target.unwrap_or_else(|| ([127, 0, 0, 1], 0).into()),
            dialect: play.map_or(args.dialect, |play| play.dialect),
            connections: play.map_or(args.clients(), |play| play.clients),
            nofile: host.nofile_hard.unwrap_or(1024),
            unshare: host.own_tables,
            seed: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64),
            patience: args.patience()?,
            tenants: play.map_or(0, |play| play.tenants),
            quiet: play.is_some_and(|play| play.slow.is_some()),
        };
        check(args, &brief, &host)?;
        let setup = Setup::read(args, &brief, &host);
        let slow = play.and_then(|play| play.slow);
        let server = match slow {
            Some(slow) => Server::start_slow(slow),
            None => Server::start(args.upstream, args.fanout, exe),
        };
        let server = server.map_err(Error::Gateway)?;
        let config = slow.zip(server.address()).map(|(slow, address)| slow.configuration(address, brief.tenants));
        let serving = Serving {
            connections: play.map_or(brief.sockets(), |play| play.seats + brief.messengers()),
            shards: args.shards,
            upstream: server.address().filter(|_| slow.is_none()),
            config: config.as_deref(),
            more: &args.serve,
            heap_file: Some(heap_file),
            ..Serving::default()
        };
        let gateway = match args.target {
            Some(target) => Gateway::found(target, args.target_admin, args.target_pid),
            None => Gateway::start(exe, &serving).map_err(Error::Gateway)?,
        };
        if server.address().is_some() {
            gateway.wait_for(&server).map_err(Error::Gateway)?;
        }
        brief.target = gateway.clients;
        let clients = Clients::start(exe, &brief).map_err(Error::Clients)?;
        let stage = Self {
            clients,
            gateway,
            server,
            hold,
            handshakes: handshakes(&host),
            kernel_idle: 0,
            screen: Screen::new(),
            deaths: Deaths::default(),
            steps: Vec::new(),
            seconds: 0.0,
            notes: Vec::new(),
        };
        Ok((stage, setup))
    }

    /// Takes all steps of all waves; stops after the first step with a dead or missing client.
    fn waves(&mut self, waves: u32, steps: &[u32]) -> io::Result<()> {
        for wave in 1..=waves {
            let mut before = 0;
            let mut dead = 0;
            for connections in steps {
                let step = self.step(wave, *connections, before, &mut dead)?;
                let whole = step.live == u64::from(*connections);
                before = *connections;
                self.steps.push(step);
                if !whole {
                    return Ok(());
                }
            }
            if wave < waves {
                self.leave()?;
            }
        }
        Ok(())
    }

    fn step(&mut self, wave: u32, connections: u32, before: u32, dead: &mut u64) -> io::Result<Step> {
        let begun = Instant::now();
        let order = Order::Connect { total: connections, wave, in_flight: self.handshakes };
        let came = self.carry_out(order, |progress| {
            format!(
                "wave {wave}: {} of {connections} clients, {:.0} a second, {} dead",
                progress.live,
                progress.live.saturating_sub(u64::from(before)) as f64 / begun.elapsed().as_secs_f64(),
                progress.dead
            )
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        if wave == 1 {
            self.seconds += seconds;
        }
        *dead += came.deaths.count();
        self.deaths.merge(came.deaths);
        self.rest(&format!("wave {wave}: holding {connections} clients"));
        let kernel = KernelMemory::read().ok();
        let held = self.rss();
        let (pinged, mut ping_seconds) = self.ping(wave, connections)?;
        let latency = pinged.histogram();
        let quantile = |of: f64| (!latency.is_empty()).then(|| latency.value_at_quantile(of) as f64 / 1e6);
        *dead += pinged.deaths.count();
        let (mut live, mut pings) = (pinged.live, latency.len());
        self.deaths.merge(pinged.deaths);
        // Latency is that of the first ping of each; a rate wants more time than a few clients take for one.
        while ping_seconds < PING_SECONDS && live > 0 {
            let (again, seconds) = self.ping(wave, connections)?;
            pings += again.histogram().len();
            ping_seconds += seconds;
            live = again.live;
            *dead += again.deaths.count();
            self.deaths.merge(again.deaths);
        }
        let ends = if self.gateway.clients.ip().is_loopback() { 2.0 } else { 1.0 };
        Ok(Step {
            wave,
            connections,
            live,
            dead: *dead,
            rss: held.max(self.rss()),
            // A later wave meets the TIME_WAIT of the one before.
            kernel_per_connection: kernel
                .filter(|_| wave == 1)
                .map(|kernel| (kernel.slab as f64 - self.kernel_idle as f64) / ends / f64::from(connections)),
            connect_rate: Some(came.live.saturating_sub(u64::from(before)) as f64 / seconds),
            ping_rate: (pings > 0).then(|| pings as f64 / ping_seconds),
            ping_p50: quantile(0.5),
            ping_p99: quantile(0.99),
            ping_max: quantile(1.0),
        })
    }

    /// Every client pings once; and the seconds that it took.
    fn ping(&mut self, wave: u32, connections: u32) -> io::Result<(Muster, f64)> {
        let begun = Instant::now();
        let pinged = self.carry_out(Order::Ping { in_flight: PINGS }, |progress| {
            format!("wave {wave}: {} of {connections} pings answered", progress.waits)
        })?;
        Ok((pinged, begun.elapsed().as_secs_f64()))
    }

    /// One change behind the gateway, and how long until all who are there have been told.
    fn fanout(&mut self) -> io::Result<Option<Fanout>> {
        let since = monotonic_micros();
        if !self.server.change() {
            return Ok(None);
        }
        let heard = self.carry_out(Order::Hear { since }, |progress| format!("{} have been told", progress.waits))?;
        let waits = heard.histogram();
        let seconds = |micros: u64| micros as f64 / 1e6;
        self.deaths.merge(heard.deaths);
        Ok((!waits.is_empty()).then(|| Fanout {
            clients: heard.live,
            told: waits.len(),
            first: seconds(waits.min()),
            p50: seconds(waits.value_at_quantile(0.5)),
            p99: seconds(waits.value_at_quantile(0.99)),
            last: seconds(waits.max()),
        }))
    }

    /// All clients leave; waits until the gateway has seen it.
    fn leave(&mut self) -> io::Result<()> {
        let left = self.carry_out(Order::Leave { in_flight: self.handshakes }, |progress| {
            format!("{} clients are leaving", progress.live)
        })?;
        self.deaths.merge(left.deaths);
        let deadline = Instant::now() + LEAVE_PATIENCE;
        let mut rss = self.rss();
        loop {
            self.rest("waiting until all have left");
            let settled = std::mem::replace(&mut rss, self.rss()) == rss;
            match self.gateway.open_connections() {
                Some(0) => return Ok(()),
                None if settled => return Ok(()),
                open if Instant::now() > deadline => {
                    self.notes.extend(open.map(|open| {
                        format!("the gateway still counts {open} clients {LEAVE_PATIENCE:?} after all had left")
                    }));
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    pub(super) fn carry_out(&mut self, order: Order, words: impl Fn(Progress) -> String) -> io::Result<Muster> {
        let screen = &mut self.screen;
        let done = self.clients.carry_out(order, Duration::from_secs(1), |progress| screen.show(&words(progress)));
        self.notes.extend(self.gateway.has_ended());
        done
    }

    pub(super) fn rest(&mut self, words: &str) {
        let until = Instant::now() + self.hold;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.screen.show(&format!("{words}, {:.0} s", left.as_secs_f64().ceil()));
            std::thread::sleep(left.min(Duration::from_secs(1)));
        }
    }

    /// The gateway's whole resident memory, by its process where that is known.
    fn rss(&self) -> Option<u64> {
        match self.gateway.pid {
            Some(pid) => ProcessMemory::of(pid).ok().map(|memory| memory.rss),
            None => self.gateway.told_rss(),
        }
    }
}

/// Progress on stderr: one line that is rewritten on a terminal, else a line each time.
pub(super) struct Screen {
    terminal: bool,
    dirty: bool,
}

impl Screen {
    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), dirty: false }
    }

    pub(super) fn show(&mut self, words: &str) {
        // Progress that can't be shown is no reason to stop.
        let _ = if self.terminal { write!(io::stderr(), "\r\x1b[K{words}") } else { writeln!(io::stderr(), "{words}") };
        self.dirty = true;
    }

    pub(super) fn clear(&mut self) {
        if self.terminal && self.dirty {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        self.dirty = false;
    }
}
