//! `lakh catalogue`: what a running gateway offers, or would in front of these servers, and whose it is.

use std::io::{self, Write};
use std::path::PathBuf;

use super::fetch::{Admin, Unfetched};
use super::{Serve, Servers};

/// Shows what a running gateway offers: tools, prompts, resources, templates. With servers, or a file that names some,
/// they are started and asked instead, and ended then: no gateway is needed.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Admin address of the gateway
    #[arg(
        long, value_name = "URL", default_value = "http://127.0.0.1:7625",
        conflicts_with_all = ["config", "stdio", "http", "tcp", "ws", "mcp_json"]
    )]
    pub admin: String,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
    /// A TOML file with the servers to ask, instead of a running gateway
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The servers to ask, instead of a running gateway
    #[command(flatten)]
    pub servers: Servers,
}

/// Why there is no catalogue.
#[derive(Debug, thiserror::Error)]
pub enum Unlisted {
    #[error(transparent)]
    Unfetched(#[from] Unfetched),
    #[error("can't write the catalogue: {0}")]
    Output(#[from] io::Error),
}

impl Args {
    /// The servers to ask, as `lakh serve` would be told of them; none: a running gateway is asked.
    #[must_use]
    pub fn own_servers(&self) -> Option<Serve> {
        let names_any = self.servers.each().next().is_some() || !self.servers.mcp_json.is_empty();
        (names_any || self.config.is_some()).then(|| Serve {
            servers: self.servers.clone(),
            config: self.config.clone(),
            ..Serve::default()
        })
    }
}

/// Fetches the catalogue and writes it to `out`.
///
/// # Errors
/// When the gateway doesn't answer. A closed `out` (`| head`) is no error.
pub fn run(args: &Args, out: &mut impl Write) -> Result<(), Unlisted> {
    let admin = Admin::parse(&args.admin)?;
    let format = if args.json { "json" } else { "text" };
    Ok(print(&admin.get(&format!("/catalogue?format={format}"))?, out)?)
}

/// Writes the catalogue.
///
/// # Errors
/// When it cannot be written. A closed `out` (`| head`) is no error.
pub fn print(text: &str, out: &mut impl Write) -> io::Result<()> {
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
