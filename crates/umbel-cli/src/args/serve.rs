//! What may stand after `umbel serve`, `umbel join` and `umbel runs`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Host a federation: train with clients that join over mutual TLS, under a privacy budget.
///
/// Everything that must survive is in one database file: after a crash, start it again and the run goes on, with no charge lost
/// and no report counted twice. Ctrl-C ends it in good order; the open round stays open for the next start.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  umbel certs init
  umbel serve examples/federation/server.toml")]
pub(crate) struct ServeArgs {
    /// The server's settings.
    #[arg(value_name = "SERVER.toml")]
    pub(crate) settings: PathBuf,

    /// Print the summary as JSON at the end.
    #[arg(long)]
    pub(crate) json: bool,

    /// Log more.
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

/// Take part in a federation with your own data, under your own policy.
///
/// The data never leave this process: what does is a clipped and quantised update. The client keeps its own record of what it took
/// part in, and refuses what its policy forbids, telling the server why.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  umbel join examples/federation/client.toml")]
pub(crate) struct JoinArgs {
    /// The client's settings.
    #[arg(value_name = "CLIENT.toml")]
    pub(crate) settings: PathBuf,

    /// Log more.
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

/// Look at a server's runs, stop one, or write its files.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  umbel runs list server.toml
  umbel runs show server.toml digits --json
  umbel runs stop server.toml digits
  umbel runs export server.toml digits --out runs/digits")]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    pub(crate) command: RunsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List all runs of a server's state.
    List(ListArgs),
    /// Show one run: rounds, clients, refusals.
    Show(RunArgs),
    /// Stop a run for good: its open round is voided, its ledger is closed.
    Stop(RunArgs),
    /// Write a run directory, of a run that goes on too.
    Export(ExportArgs),
}

#[derive(Debug, Parser)]
pub(crate) struct ListArgs {
    /// The server's settings.
    #[arg(value_name = "SERVER.toml")]
    pub(crate) settings: PathBuf,

    /// Print as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Parser)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) list: ListArgs,

    /// Name of the run, which is its experiment's.
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
}

#[derive(Debug, Parser)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,

    /// The directory to write.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}
