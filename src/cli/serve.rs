//! `lakh serve`: the common knobs as flags, and the servers to put the gateway in front of.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// The common knobs as flags. All others: the file, or `LAKH_*` variables; `lakh print-config` shows them.
#[derive(Debug, Clone, Default, Args)]
pub struct Serve {
    /// The servers behind the gateway.
    #[command(flatten)]
    pub servers: Servers,
    /// Where clients connect [default: 127.0.0.1:7624]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where the operator looks [default: 127.0.0.1:7625]
    #[arg(long, value_name = "IP:PORT")]
    pub admin: Option<SocketAddr>,
    /// Clients that may be connected at once [default: 100000]
    #[arg(long, value_name = "N")]
    pub connections_max: Option<usize>,
    /// Event loops; 0: as many as the host needs [default: 0]
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
    /// Take the listening sockets over from the gateway that runs, at `upgrade_socket`: no connect is refused. It serves until
    /// this one does, and then lets its clients go
    #[arg(long)]
    pub take_over: bool,
    /// A TOML file with knobs; `lakh print-config` prints one with all of them
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The servers behind the gateway, each flag as often as needed; without any: the embedded one, to try it. `NAME=` before
/// a server names it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Servers behind the gateway (each as often as needed; NAME= before one names it)")]
pub struct Servers {
    /// A command that speaks MCP on its stdin and stdout
    #[arg(long, value_name = "COMMAND")]
    pub stdio: Vec<String>,
    /// A server that speaks Streamable HTTP
    #[arg(long, value_name = "URL")]
    pub http: Vec<String>,
    /// A server that speaks newline-delimited JSON over TCP
    #[arg(long, value_name = "HOST:PORT")]
    pub tcp: Vec<String>,
    /// A server that speaks over a WebSocket
    #[arg(long, value_name = "URL")]
    pub ws: Vec<String>,
    /// All the servers of an editor's file: .mcp.json, mcp.json
    #[arg(long, value_name = "FILE")]
    pub mcp_json: Vec<PathBuf>,
}

impl Serve {
    /// The flags that were given: the flag, its knob, its value.
    #[must_use]
    pub fn knobs(&self) -> Vec<(&'static str, &'static str, String)> {
        let text = |value: &dyn ToString| value.to_string();
        [
            ("--listen", "listen", self.listen.as_ref().map(|value| text(value))),
            ("--admin", "admin.listen", self.admin.as_ref().map(|value| text(value))),
            ("--connections-max", "guard.connections_max", self.connections_max.as_ref().map(|value| text(value))),
            ("--shards", "shards", self.shards.as_ref().map(|value| text(value))),
        ]
        .into_iter()
        .filter_map(|(flag, knob, value)| Some((flag, knob, value?)))
        .collect()
    }
}

impl Servers {
    /// Each server that was named: the flag, the knob of its upstream, its value.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, &str)> {
        [
            ("--stdio", "command", &self.stdio),
            ("--http", "http", &self.http),
            ("--tcp", "tcp", &self.tcp),
            ("--ws", "ws", &self.ws),
        ]
        .into_iter()
        .flat_map(|(flag, knob, values)| values.iter().map(move |value| (flag, knob, value.as_str())))
    }
}
