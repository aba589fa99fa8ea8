//! `lakh simulate`: real clients on real sockets against a gateway in a process of its own, measured from outside.

mod behind;
mod bench;
mod client;
mod clients;
mod drive;
mod gateway;
mod heap;
mod hold;
mod order;
mod profile;
mod results;
mod run;
mod setup;
mod step;
mod summary;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::behind::Behind;
pub use self::bench::Came;
pub(in crate::cli) use self::bench::{Bench, Setting};
pub(in crate::cli) use self::client::script::BLOB_BYTES;
pub use self::heap::{HEAP_FILE, Heap, Site};
pub(in crate::cli) use self::order::Question;
pub use self::order::{Cause, Deaths, Toll};
pub use self::profile::{Figure, Performance, Profile, RefusalRow, Row};
pub(in crate::cli) use self::results::new_folder;
pub use self::run::run;
pub(in crate::cli) use self::setup::{date_of, machine_of};
pub use self::step::{Budget, Fanout, Outcome, Step};
pub use self::summary::table;
pub(in crate::cli) use self::summary::thousands;

/// The hidden subcommand that is a client process: `lakh simulate-clients POSTING`.
pub const CLIENTS_COMMAND: &str = "simulate-clients";
/// The hidden subcommand that becomes the gateway: `lakh simulate-gateway ARGS...`, where ARGS are those of `serve`.
pub const GATEWAY_COMMAND: &str = "simulate-gateway";

/// Holds real clients against a gateway, step by step, and says where the memory goes.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Clients to hold at the last step [default: 10000; of a profile, what it says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub connections: Option<u32>,
    /// A load that changes, in place of clients that come in steps and are held
    #[arg(long, value_enum, conflicts_with_all = ["steps", "waves", "fanout", "upstream", "slope_max", "rate_min"])]
    pub profile: Option<Profile>,
    /// Seconds that the load of a profile lasts [default: what the profile says]
    #[arg(long, value_name = "SECS", requires = "profile", conflicts_with = "hours")]
    pub seconds: Option<f64>,
    /// Hours that a soak lasts [default: 1]
    #[arg(long, value_name = "HOURS", requires = "profile")]
    pub hours: Option<f64>,
    /// Of an overload: ten tenants, of which one asks for 50 times what each of the others does (over WebSocket)
    #[arg(long, requires = "profile")]
    pub tenants: bool,
    /// Of an overload: calls that the slow server takes at once [default: 16]
    #[arg(long, value_name = "N", requires = "profile", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub slots: Option<u32>,
    /// Of an overload: milliseconds that the slow server takes for a call [default: 1000]
    #[arg(long, value_name = "MS", requires = "profile", value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub service_ms: Option<u32>,
    /// Numbers of clients to stop and measure at, ascending [default: 1000, 10000, 50000, 100000, ... up to --connections]
    #[arg(long, value_name = "N,N,...", value_delimiter = ',')]
    pub steps: Vec<u32>,
    /// What the clients speak
    #[arg(long, value_enum, default_value_t = Dialect::Tcp)]
    pub dialect: Dialect,
    /// What is behind the gateway: `embedded`, `tcp` (another lakh), or the address of a server
    #[arg(long, value_name = "WHAT", default_value = "embedded", conflicts_with_all = ["target", "fanout"])]
    pub upstream: Behind,
    /// At the end, change the list of tools behind the gateway, and measure until every client has been told
    #[arg(long, conflicts_with = "target")]
    pub fanout: bool,
    /// How often all clients come and leave again
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub waves: u32,
    /// A gateway that runs already, instead of one started for this run
    #[arg(long, value_name = "IP:PORT")]
    pub target: Option<SocketAddr>,
    /// The admin address of --target, to read its memory and connections from
    #[arg(long, value_name = "IP:PORT", requires = "target")]
    pub target_admin: Option<SocketAddr>,
    /// The process of --target, to read its memory from /proc
    #[arg(long, value_name = "PID", requires = "target")]
    pub target_pid: Option<u32>,
    /// Seconds of rest at each step before memory is read
    #[arg(long, value_name = "SECS", default_value_t = 2.0)]
    pub hold: f64,
    /// Seconds that a client waits for an answer before it counts as dead
    #[arg(long, value_name = "SECS", default_value_t = 30.0)]
    pub patience: f64,
    /// Shards of the gateway [default: the gateway's own choice]
    #[arg(long, value_name = "N", conflicts_with = "target")]
    pub shards: Option<u32>,
    /// Folder that gets a folder per run
    #[arg(long, value_name = "DIR", default_value = "profiling/results")]
    pub results: PathBuf,
    /// Print the outcome as JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Fail above this much resident memory of the gateway [default: 48 up to 100K clients (80 over HTTP), 400 up to 1M]
    #[arg(long, value_name = "MIB")]
    pub rss_max: Option<u64>,
    /// Fail above this slope between 10K clients and the last step [default: 320 from 100K clients on, not over HTTP]
    #[arg(long, value_name = "BYTES")]
    pub slope_max: Option<f64>,
    /// Fail if the last client is told of the change later than this [default: 2 up to 100K clients]
    #[arg(long, value_name = "SECS", requires = "fanout")]
    pub fanout_max: Option<f64>,
    /// Fail below this many clients a second
    #[arg(long, value_name = "CLIENTS")]
    pub rate_min: Option<f64>,
    /// Further arguments for `serve`, after `--`
    #[arg(last = true, conflicts_with = "target")]
    pub serve: Vec<String>,
}

/// What simulated clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Newline-delimited JSON-RPC
    Tcp,
    /// WebSocket text frames
    Ws,
    /// Every other client TCP, the others WebSocket
    Mixed,
    /// Streamable HTTP of 2025-11-25: a session and an open stream each
    Http,
    /// Streamable HTTP of 2026-07-28: an open `subscriptions/listen` each
    Listen,
}

impl Dialect {
    /// What client `number` speaks: never [`Mixed`](Self::Mixed).
    fn of(self, number: u32) -> Self {
        match (self, number % 2) {
            (Self::Mixed, 0) => Self::Tcp,
            (Self::Mixed, _) => Self::Ws,
            (one, _) => one,
        }
    }

    /// Whether a client's own connection is taken by a stream, so that what it says later goes over others.
    fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Listen)
    }

    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ws => "ws",
            Self::Mixed => "mixed",
            Self::Http => "http",
            Self::Listen => "listen",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Ws => "WebSocket",
            Self::Mixed => "TCP and WebSocket",
            Self::Http => "Streamable HTTP",
            Self::Listen => "subscriptions/listen",
        }
    }
}

/// Why a run could not be done at all. Dead clients and missed figures are no error: see [`Outcome::missed`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Usage(String),
    #[error("this machine does not hold {connections} clients and their gateway:\n  {}", .lacks.join("\n  "))]
    TooSmall { connections: u32, lacks: Vec<String> },
    #[error("the gateway: {0}")]
    Gateway(io::Error),
    #[error("the client processes: {0}")]
    Clients(io::Error),
    #[error("writing results to {}: {error}", .folder.display())]
    Results { folder: PathBuf, error: io::Error },
}

/// The key by which a simulated tenant is known.
fn key_of(tenant: u32) -> String {
    format!("simulate-{tenant}")
}

impl Args {
    /// Clients at the last step.
    fn clients(&self) -> u32 {
        self.connections.unwrap_or(10_000)
    }

    /// The steps to take: those asked for, or the usual ones below `connections`; the last is `connections`.
    fn steps(&self) -> Result<Vec<u32>, Error> {
        const USUAL: [u32; 7] = [1_000, 10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000];
        let mut steps = self.steps.clone();
        if steps.is_empty() {
            steps = USUAL.into_iter().filter(|step| *step < self.clients()).collect();
        }
        if steps.last() != Some(&self.clients()) {
            steps.push(self.clients());
        }
        if steps.first() == Some(&0) || !steps.is_sorted_by(|one, two| one < two) {
            return Err(Error::Usage(format!(
                "--steps {steps:?} must ascend from 1 to at most --connections {}",
                self.clients()
            )));
        }
        Ok(steps)
    }

    /// What must be shown: what was asked for, else what lakh promises. Another gateway promises nothing, nor does a build
    /// for finding out.
    fn budget(&self) -> Budget {
        const MIB: u64 = 1 << 20;
        let ours = self.target.is_none() && !cfg!(debug_assertions) && !heap::PROFILED;
        let promised = match self.clients() {
            0..=100_000 if self.dialect.is_http() => Some(80 * MIB),
            0..=100_000 => Some(48 * MIB),
            100_001..=1_000_000 if !self.dialect.is_http() => Some(400 * MIB),
            _ => None,
        };
        let slope = self.clients() >= 100_000 && !self.dialect.is_http();
        Budget {
            rss_max: self.rss_max.map(|mib| mib * MIB).or(promised.filter(|_| ours)),
            slope_max: self.slope_max.or((ours && slope).then_some(320.0)),
            fanout_max: self.fanout_max.or((ours && self.clients() <= 100_000).then_some(2.0)),
            rate_min: self.rate_min,
            wave_growth_max: ours.then_some(5.0),
        }
    }

    fn patience(&self) -> Result<Duration, Error> {
        seconds("--patience", self.patience)
    }

    fn hold(&self) -> Result<Duration, Error> {
        seconds("--hold", self.hold)
    }
}

fn seconds(name: &str, value: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|duration| *duration <= Duration::from_secs(3600))
        .ok_or_else(|| Error::Usage(format!("{name} {value} must be from 0 to 3600 seconds")))
}

/// The hidden subcommand [`CLIENTS_COMMAND`]: a client process, led through stdin and stdout.
///
/// # Errors
/// When the parent is gone or says something else than orders.
pub fn serve_clients(posting: &str) -> io::Result<()> {
    client::serve(posting, io::stdin().lock(), io::stdout().lock())
}

/// The hidden subcommand [`GATEWAY_COMMAND`]: becomes `exe serve ARGS...` that ends with its parent. Returns only on
/// failure.
pub fn become_gateway(exe: &Path, args: &[String]) -> io::Error {
    gateway::become_gateway(exe, args)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::typed;

    fn args(line: &str) -> Args {
        typed(line)
    }

    #[test]
    fn steps_end_at_the_connections_asked_for_and_never_beyond() {
        assert_eq!(args("--connections 100000").steps().expect("usual"), [1_000, 10_000, 50_000, 100_000]);
        assert_eq!(args("--connections 500 --steps 100").steps().expect("asked"), [100, 500]);
        assert!(args("--connections 500 --steps 100,700").steps().is_err());
        assert!(args("--connections 500 --steps 200,100").steps().is_err());
        assert!(args("--connections 500 --steps 0,100").steps().is_err());
    }

    #[test]
    fn odd_numbers_of_seconds_are_an_error_by_name() {
        for line in ["--hold=-1", "--hold=nan", "--hold=1e9"] {
            let error = args(line).hold().expect_err(line);
            assert!(error.to_string().contains("--hold"));
        }
    }

    #[test]
    fn another_gateway_is_judged_only_by_what_was_asked() {
        let foreign = args("--connections 1000 --target 127.0.0.1:9 --slope-max 500").budget();
        assert_eq!((foreign.rss_max, foreign.slope_max), (None, Some(500.0)));
    }
}
