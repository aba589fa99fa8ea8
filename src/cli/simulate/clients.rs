//! The parent's side of the client processes: start them, give orders to all, gather what they report.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use super::order::{Muster, Order, Posting, Report};
use super::{CLIENTS_COMMAND, Dialect};
use crate::meter::Host;

/// Descriptor tables that one client process has at most: more processes than one, so that their memory maps and
/// timers are not shared by all.
const TABLES_PER_PROCESS: u32 = 16;
/// Descriptors of a table that are not clients: stdin, stdout, polls, wakers, messengers.
const RESERVED: u64 = 128;
/// Handshakes under way at once, over all processes: what a gateway on the same cores works off in a tenth of a second.
const HANDSHAKES: u32 = 1_000;
/// Pings under way at once, over all processes. More would measure the queue of pings, not the gateway.
pub(super) const PINGS: u32 = 256;

/// Connections that one table opens beside its clients', for what those with a stream say later.
pub(super) const MESSENGERS: u32 = 32;

/// Handshakes under way at once: never more than half of what a listener's accept queue may hold, so that it can't overflow.
pub(super) fn handshakes(host: &Host) -> u32 {
    let queue = host.somaxconn.and_then(|most| u32::try_from(most / 2).ok());
    HANDSHAKES.min(queue.unwrap_or(HANDSHAKES)).max(1)
}

/// What the client processes are to do.
#[derive(Debug, Clone)]
pub(super) struct Brief {
    pub(super) target: SocketAddr,
    pub(super) dialect: Dialect,
    pub(super) connections: u32,
    /// Hard limit of descriptors per table.
    pub(super) nofile: u64,
    /// Whether `unshare(CLONE_FILES)` is permitted; without it every table is a process.
    pub(super) unshare: bool,
    pub(super) seed: u64,
    pub(super) patience: Duration,
    /// Tenants that the clients are spread over; 0: none.
    pub(super) tenants: u32,
    /// Clients make no first call.
    pub(super) quiet: bool,
}

impl Brief {
    /// Connections that the gateway must hold. Messengers of one order may still be closing when those of the next come.
    pub(super) fn sockets(&self) -> u32 {
        self.connections + self.messengers()
    }

    /// Those of them that carry what others say.
    pub(super) fn messengers(&self) -> u32 {
        if self.dialect.is_http() { 4 * self.tables().0 * MESSENGERS } else { 0 }
    }

    /// Tables needed, and how many of them go into one process.
    pub(super) fn tables(&self) -> (u32, u32) {
        let per_table = u32::try_from(self.nofile.saturating_sub(RESERVED)).unwrap_or(u32::MAX).clamp(1, 250_000);
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let tables = self.connections.div_ceil(per_table).max(cores.min(self.connections.div_ceil(100)).max(1));
        (tables, if self.unshare { TABLES_PER_PROCESS } else { 1 })
    }
}

/// All client processes of a run. They end when this is dropped, or when the parent dies: their stdin ends.
pub(super) struct Clients {
    processes: Vec<Process>,
    reports: Receiver<(usize, io::Result<Report>)>,
}

struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    progress: Progress,
}

/// How far an order is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) live: u64,
    pub(super) dead: u64,
    pub(super) waits: u64,
}

impl Clients {
    /// Starts the processes and waits until their threads stand.
    pub(super) fn start(exe: &Path, brief: &Brief) -> io::Result<Self> {
        let (tables, per_process) = brief.tables();
        // A process that reports faster than it is heard waits.
        let (reported, reports) = mpsc::sync_channel(64);
        let mut clients = Self { processes: Vec::new(), reports };
        for first_table in (0..tables).step_by(per_process as usize) {
            let posting = Posting {
                target: brief.target,
                dialect: brief.dialect,
                first_table,
                tables: per_process.min(tables - first_table),
                all_tables: tables,
                own_tables: brief.unshare,
                seed: brief.seed,
                patience_ms: u64::try_from(brief.patience.as_millis()).unwrap_or(u64::MAX),
                tenants: brief.tenants,
                quiet: brief.quiet,
            };
            let process = Process::start(exe, &posting, clients.processes.len(), reported.clone())?;
            clients.processes.push(process);
        }
        drop(reported);
        let mut ready = 0;
        while ready < clients.processes.len() {
            if let (_, Report::Ready) =
                clients.next(None)?.ok_or_else(|| io::Error::other("no client process is ready"))?
            {
                ready += 1;
            }
        }
        Ok(clients)
    }

    /// Gives `order` to all and waits for all reports; `watch` is told how far they are about as often as `every` says.
    pub(super) fn carry_out(
        &mut self,
        order: Order,
        every: Duration,
        mut watch: impl FnMut(Progress),
    ) -> io::Result<Muster> {
        let mut line = serde_json::to_vec(&order).map_err(io::Error::other)?;
        line.push(b'\n');
        for process in &mut self.processes {
            process.progress.waits = 0;
            process.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write_all(&line)?;
        }
        let mut all = Muster::default();
        let mut done = 0;
        let mut shown = std::time::Instant::now();
        while done < self.processes.len() {
            match self.next(Some(every.min(Duration::from_millis(500))))? {
                Some((at, Report::Progress { live, dead, waits })) => {
                    if let Some(process) = self.processes.get_mut(at) {
                        process.progress = Progress { live, dead, waits };
                    }
                }
                Some((_, Report::Done(muster))) => {
                    all.merge(muster);
                    done += 1;
                }
                Some((_, Report::Ready | Report::Failed { .. })) | None => {}
            }
            if shown.elapsed() >= every {
                shown = std::time::Instant::now();
                watch(self.progress());
            }
        }
        Ok(all)
    }

    /// The client processes.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().map(|process| process.child.id())
    }

    fn progress(&self) -> Progress {
        self.processes.iter().fold(Progress::default(), |sum, process| Progress {
            live: sum.live + process.progress.live,
            dead: sum.dead + process.progress.dead,
            waits: sum.waits + process.progress.waits,
        })
    }

    /// The next report of any process; a failed or ended process is an error.
    fn next(&self, timeout: Option<Duration>) -> io::Result<Option<(usize, Report)>> {
        let ended = || io::Error::other("all client processes have ended");
        let (at, report) = match timeout {
            None => self.reports.recv().map_err(|_| ended())?,
            Some(timeout) => match self.reports.recv_timeout(timeout) {
                Ok(report) => report,
                Err(mpsc::RecvTimeoutError::Timeout) => return Ok(None),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(ended()),
            },
        };
        match report? {
            Report::Failed { why } => Err(io::Error::other(format!("a client process gave up: {why}"))),
            report => Ok(Some((at, report))),
        }
    }
}

impl Process {
    fn start(
        exe: &Path,
        posting: &Posting,
        at: usize,
        reported: SyncSender<(usize, io::Result<Report>)>,
    ) -> io::Result<Self> {
        let posting = serde_json::to_string(posting).map_err(io::Error::other)?;
        let mut child =
            Command::new(exe).arg(CLIENTS_COMMAND).arg(posting).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        std::thread::Builder::new().name(format!("reports-{at}")).spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let report = line.and_then(|line| serde_json::from_str(&line).map_err(io::Error::other));
                if reported.send((at, report)).is_err() {
                    return;
                }
            }
            let _ = reported.send((at, Err(io::Error::other("a client process has ended"))));
        })?;
        Ok(Self { child, stdin, progress: Progress::default() })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin = None;
        // It ends at the end of its stdin; this makes sure that it has, even in the middle of an order.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief(connections: u32, nofile: u64, unshare: bool) -> Brief {
        Brief {
            target: SocketAddr::from(([127, 0, 0, 1], 1)),
            dialect: Dialect::Tcp,
            connections,
            nofile,
            unshare,
            seed: 0,
            patience: Duration::from_secs(1),
            tenants: 0,
            quiet: false,
        }
    }

    #[test]
    fn a_million_clients_get_tables_enough() {
        let (tables, per_process) = brief(1_000_000, 20_000, true).tables();
        assert!(u64::from(tables) * (20_000 - RESERVED) >= 1_000_000);
        assert_eq!(per_process, TABLES_PER_PROCESS);
        assert_eq!(brief(1_000_000, 20_000, false).tables(), (tables, 1), "a process each where unshare is refused");
        assert_eq!(brief(1, 20_000, true).tables().0, 1);
    }
}
