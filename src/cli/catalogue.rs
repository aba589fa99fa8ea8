//! `lakh catalogue`: what a running gateway offers, and whose it is.

use std::io::{self, Write};

use super::fetch::{Admin, Unfetched};

/// Shows what a running gateway offers: tools, prompts, resources, templates.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Admin address of the gateway
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7625")]
    pub admin: String,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Why there is no catalogue.
#[derive(Debug, thiserror::Error)]
pub enum Unlisted {
    #[error(transparent)]
    Unfetched(#[from] Unfetched),
    #[error("can't write the catalogue: {0}")]
    Output(#[from] io::Error),
}

/// Fetches the catalogue and writes it to `out`.
///
/// # Errors
/// When the gateway doesn't answer. A closed `out` (`| head`) is no error.
pub fn run(args: &Args, out: &mut impl Write) -> Result<(), Unlisted> {
    let admin = Admin::parse(&args.admin)?;
    let format = if args.json { "json" } else { "text" };
    let text = admin.get(&format!("/catalogue?format={format}"))?;
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
