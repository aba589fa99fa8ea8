//! A client process of `simulate`: threads that each hold some of the clients, led by orders on stdin.

mod http;
mod life;
mod messengers;
mod numbered;
mod one;
mod pace;
mod refusal;
pub(super) mod script;
mod socket;
mod sources;
mod speech;
mod table;

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use mio::{Poll, Token, Waker};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::table::{Gauge, Table};
use super::order::{Muster, Order, Posting, Report};

/// The token of a thread's waker; client indices are far below it.
const WAKE: Token = Token(usize::MAX);
const PROGRESS: Duration = Duration::from_millis(250);
/// A table thread parses and copies little.
const STACK: usize = 512 << 10;

/// Reads a posting and orders, reports on `stdout`, returns when `stdin` ends.
pub(super) fn serve(posting: &str, stdin: impl BufRead, mut stdout: impl Write) -> io::Result<()> {
    let company = serde_json::from_str(posting).map_err(io::Error::other).and_then(|posting| Company::muster(&posting));
    let company = match company {
        Ok(company) => company,
        Err(error) => {
            return say(&mut stdout, &Report::Failed { why: error.to_string() });
        }
    };
    say(&mut stdout, &Report::Ready)?;
    for line in stdin.lines() {
        let order = serde_json::from_str(&line?).map_err(io::Error::other)?;
        let report = match company.carry_out(order, |progress| say(&mut stdout, progress)) {
            Ok(muster) => Report::Done(muster),
            Err(error) => Report::Failed { why: error.to_string() },
        };
        say(&mut stdout, &report)?;
    }
    Ok(())
}

fn say(stdout: &mut impl Write, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report).map_err(io::Error::other)?;
    line.push(b'\n');
    stdout.write_all(&line)?;
    stdout.flush()
}

/// The threads of this process.
struct Company {
    desks: Vec<Desk>,
    reports: Receiver<Result<Muster, String>>,
    gauge: Arc<Gauge>,
}

/// How to reach one thread.
struct Desk {
    orders: SyncSender<Order>,
    waker: Waker,
}

impl Company {
    fn muster(posting: &Posting) -> io::Result<Self> {
        // The parent has planned with the hard limit.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        let gauge = Arc::new(Gauge::default());
        let (reported, reports) = mpsc::sync_channel(posting.tables as usize);
        // A wake goes by number in the waking thread's table: all polls and wakers first, then the first unshare.
        let mut polls = Vec::new();
        for _ in 0..posting.tables {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), WAKE)?;
            polls.push((poll, waker));
        }
        let mut desks = Vec::new();
        for (index, (poll, waker)) in (posting.first_table..).zip(polls) {
            let (orders, ordered) = mpsc::sync_channel(1);
            let (posting, gauge, reported) = (posting.clone(), Arc::clone(&gauge), reported.clone());
            std::thread::Builder::new().name(format!("clients-{index}")).stack_size(STACK).spawn(move || {
                let own_table =
                    if posting.own_tables { unshare(CloneFlags::CLONE_FILES).map_err(io::Error::from) } else { Ok(()) };
                let ended = own_table.and_then(|()| Table::new(posting, index, poll, gauge).run(&ordered, &reported));
                if let Err(error) = ended {
                    let _ = reported.send(Err(error.to_string()));
                }
            })?;
            desks.push(Desk { orders, waker });
        }
        Ok(Self { desks, reports, gauge })
    }

    /// Gives the order to every thread and gathers their reports.
    fn carry_out(&self, order: Order, mut progress: impl FnMut(&Report) -> io::Result<()>) -> io::Result<Muster> {
        self.gauge.waits.store(0, Ordering::Relaxed);
        for desk in &self.desks {
            desk.orders.send(order).map_err(|_| io::Error::other("a client thread has ended"))?;
            desk.waker.wake()?;
        }
        let mut all = Muster::default();
        let mut outstanding = self.desks.len();
        while outstanding > 0 {
            match self.reports.recv_timeout(PROGRESS) {
                Ok(muster) => {
                    all.merge(muster.map_err(io::Error::other)?);
                    outstanding -= 1;
                }
                Err(RecvTimeoutError::Timeout) => progress(&Report::Progress {
                    live: self.gauge.live.load(Ordering::Relaxed),
                    dead: self.gauge.dead.load(Ordering::Relaxed),
                    waits: self.gauge.waits.load(Ordering::Relaxed),
                })?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("all client threads have ended"));
                }
            }
        }
        Ok(all)
    }
}
