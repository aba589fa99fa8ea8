//! A gateway in a process of its own and simulated clients that hold and ask: what a calibration measures on.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::behind::Server;
use super::clients::{Brief, Clients, PINGS, handshakes};
use super::gateway::{Gateway, Serving};
use super::order::{Muster, Order, Question, monotonic_micros};
use super::{Behind, Dialect};
use crate::meter::{Host, KernelMemory, ProcessMemory, cpu};

/// How long a client waits for an answer before it is dead.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often progress is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is set up.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Setting<'a> {
    /// The `lakh` that gateway and clients are processes of.
    pub(in crate::cli) exe: &'a Path,
    pub(in crate::cli) host: &'a Host,
    pub(in crate::cli) dialect: Dialect,
    /// Clients that will come at most.
    pub(in crate::cli) connections: u32,
    /// Shards of the gateway, if not its own choice.
    pub(in crate::cli) shards: Option<u32>,
    pub(in crate::cli) behind: Behind,
    /// Whether what is behind it is a server that can change its list of tools, in place of `behind`.
    pub(in crate::cli) changes: bool,
}

/// Processor time in seconds and wall time of one order, and how many clients carried it out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Came {
    pub clients: u64,
    pub seconds: f64,
    /// Of the gateway's process.
    pub gateway_cpu: f64,
    /// Of all client processes together.
    pub clients_cpu: f64,
}

/// The same of questions: `clients` are answers.
pub(in crate::cli) type Asked = Came;
/// The same of a change that all were told of: `seconds` until the last one was.
pub(in crate::cli) type Told = Came;

/// Both ends, for as long as this lives.
pub(in crate::cli) struct Bench {
    /// Dropped first: a gateway without clients has nothing to drain.
    clients: Clients,
    gateway: Gateway,
    server: Server,
    handshakes: u32,
    /// Bytes in the kernel's slabs before the first client.
    slab_idle: u64,
    /// Clients that are there.
    held: u64,
}

impl Bench {
    /// Starts the processes; waits until what is behind the gateway answers through it.
    ///
    /// # Errors
    /// When a process does not start, or ends.
    pub(in crate::cli) fn start(setting: &Setting<'_>) -> io::Result<Self> {
        let host = setting.host;
        let mut brief = Brief {
            target: ([127, 0, 0, 1], 0).into(),
            dialect: setting.dialect,
            connections: setting.connections,
            nofile: host.nofile_hard.unwrap_or(1024),
            unshare: host.own_tables,
            seed: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64),
            patience: PATIENCE,
            tenants: 0,
            quiet: false,
        };
        let server = Server::start(setting.behind, setting.changes, setting.exe)?;
        let serving = Serving {
            connections: brief.sockets(),
            shards: setting.shards,
            upstream: server.address(),
            quiet: true,
            ..Serving::default()
        };
        let gateway = Gateway::start(setting.exe, &serving)?;
        if server.address().is_some() {
            gateway.wait_for(&server)?;
        }
        brief.target = gateway.clients;
        let clients = Clients::start(setting.exe, &brief)?;
        let slab_idle = KernelMemory::read().map_or(0, |kernel| kernel.slab);
        Ok(Self { clients, gateway, server, handshakes: handshakes(host), slab_idle, held: 0 })
    }

    /// Lets clients come until there are `total`; each is handshaken and has had a call answered.
    ///
    /// # Errors
    /// When one of them died, or a process ended.
    pub(in crate::cli) fn connect(&mut self, total: u32) -> io::Result<Came> {
        let held = self.held;
        let order = Order::Connect { total, wave: 1, in_flight: self.handshakes };
        let came = self.timed(order, |muster| muster.live.saturating_sub(held))?;
        self.held += came.clients;
        Ok(came)
    }

    /// Lets every client ask this, 256 at a time, over and over until `time` is over.
    ///
    /// # Errors
    /// When a client died, or a process ended.
    pub(in crate::cli) fn ask(&mut self, question: Question, time: Duration) -> io::Result<Asked> {
        let (begun, mut all) = (Instant::now(), Asked::default());
        while begun.elapsed() < time {
            let answers = |muster: &Muster| muster.waits.iter().map(|(_, count)| count).sum();
            let one = self.timed(Order::Ask { question, in_flight: PINGS }, answers)?;
            all.clients += one.clients;
            all.seconds += one.seconds;
            all.gateway_cpu += one.gateway_cpu;
            all.clients_cpu += one.clients_cpu;
        }
        Ok(all)
    }

    /// Changes the list of tools behind the gateway and waits until all clients have been told.
    ///
    /// # Errors
    /// When a client died, a process ended, or what is behind cannot change.
    pub(in crate::cli) fn change(&mut self) -> io::Result<Told> {
        let (before, since) = (self.times()?, monotonic_micros());
        if !self.server.change() {
            return Err(io::Error::other("what is behind the gateway cannot change"));
        }
        let heard = self.clients.carry_out(Order::Hear { since }, LOOK_EVERY, |_| {})?;
        none_dead(&heard)?;
        let waits = heard.histogram();
        self.spent(before, waits.len(), waits.max() as f64 / 1e6)
    }

    /// The gateway's whole resident memory, in bytes.
    ///
    /// # Errors
    /// When its process has ended.
    pub(in crate::cli) fn rss(&self) -> io::Result<u64> {
        Ok(ProcessMemory::of(self.pid()?)?.rss)
    }

    /// What the kernel's slabs have grown by since before the first client, of one end: half of it.
    pub(in crate::cli) fn kernel(&self) -> u64 {
        KernelMemory::read().map_or(0, |kernel| kernel.slab.saturating_sub(self.slab_idle) / 2)
    }

    fn pid(&self) -> io::Result<u32> {
        self.gateway.pid.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn timed(&mut self, order: Order, count: impl Fn(&Muster) -> u64) -> io::Result<Came> {
        let (before, begun) = (self.times()?, Instant::now());
        let done = self.clients.carry_out(order, LOOK_EVERY, |_| {})?;
        let seconds = begun.elapsed().as_secs_f64();
        none_dead(&done)?;
        self.spent(before, count(&done), seconds)
    }

    /// Processor seconds so far: the gateway's, and those of all client processes.
    fn times(&self) -> io::Result<(f64, f64)> {
        let mut clients = 0.0;
        for pid in self.clients.pids() {
            clients += cpu::time_of(pid)?.as_secs_f64();
        }
        Ok((cpu::time_of(self.pid()?)?.as_secs_f64(), clients))
    }

    fn spent(&self, (gateway, clients): (f64, f64), count: u64, seconds: f64) -> io::Result<Came> {
        let (gateway_now, clients_now) = self.times()?;
        Ok(Came { clients: count, seconds, gateway_cpu: gateway_now - gateway, clients_cpu: clients_now - clients })
    }
}

fn none_dead(muster: &Muster) -> io::Result<()> {
    match muster.deaths.count() {
        0 => Ok(()),
        dead => Err(io::Error::other(format!("{dead} clients are dead: {}", muster.deaths))),
    }
}
