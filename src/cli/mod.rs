//! The faces towards the shell: what can be typed, and what the subcommands of `lakh` do.

pub mod catalogue;
pub mod chart;
pub mod doctor;
pub mod fetch;
pub mod plan;
pub mod profile;
mod serve;
pub mod simulate;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

pub use serve::{Serve, Servers};

use crate::upstream::minder;

/// An MCP gateway that holds 100,000 live clients in one small process
#[derive(Debug, Parser)]
#[command(name = "lakh", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What `lakh` can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve clients until SIGTERM; what `lakh` without a word does
    Serve(Box<Serve>),
    /// Print every knob with the value that would be used, as a configuration file
    PrintConfig(Box<Serve>),
    /// Say line by line whether this host holds so many clients, and what to change
    Doctor {
        /// Clients to hold
        #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
        connections: u64,
    },
    /// Show what a running gateway offers, and whose it is
    Catalogue(catalogue::Args),
    /// Show where the memory of a running gateway is, its trend and its alarms
    Profile(profile::Args),
    /// Forecast from measured figures how many clients a machine holds, and what fills first
    Plan(Box<plan::Args>),
    /// Hold real clients on real sockets and say where every byte goes
    Simulate(Box<simulate::Args>),
    #[command(name = minder::COMMAND, hide = true)]
    Mind {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    #[command(name = simulate::CLIENTS_COMMAND, hide = true)]
    SimulateClients { posting: String },
    #[command(name = simulate::GATEWAY_COMMAND, hide = true)]
    SimulateGateway {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

impl Command {
    /// The word that was typed for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Serve(_) => "serve",
            Self::PrintConfig(_) => "print-config",
            Self::Doctor { .. } => "doctor",
            Self::Catalogue(_) => "catalogue",
            Self::Profile(_) => "profile",
            Self::Plan(_) => "plan",
            Self::Simulate(_) => "simulate",
            Self::Mind { .. } => minder::COMMAND,
            Self::SimulateClients { .. } => simulate::CLIENTS_COMMAND,
            Self::SimulateGateway { .. } => simulate::GATEWAY_COMMAND,
        }
    }
}

/// What a subcommand takes from these words, for the tests.
#[cfg(test)]
fn typed<A: clap::Args>(line: &str) -> A {
    #[derive(Parser)]
    struct Alone<A: clap::Args> {
        #[command(flatten)]
        args: A,
    }
    Alone::try_parse_from(std::iter::once("lakh").chain(line.split_whitespace())).expect("valid").args
}
