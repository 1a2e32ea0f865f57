//! `umbel audit watch` on the command line.

use std::path::PathBuf;

use clap::Parser;

use super::AnchorArgs;

/// Follow a live server's ledger and check each record as it comes.
///
/// Checked are chain, signature, order, the plan, each claimed epsilon, and that the server never takes back or changes what it has
/// shown. Exit code 0 once the run is over and its whole ledger was seen, 1 at the first inconsistency. A server that cannot be
/// reached is tried again. https://HOST:PORT is where clients connect, and needs a certificate; http://HOST:PORT is the
/// operator's page on the server's own machine.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  umbel audit watch http://127.0.0.1:8080
  umbel audit watch https://fl.example.org:8443 --certificate officer.pem --private-key officer-key.pem \\
      --authority authority.pem --key 63b0-9c1e-d0f1-7d5a-0c5e-2f7b-9a41-10c3 --keep seen.jsonl")]
pub(crate) struct WatchArgs {
    /// The server.
    #[arg(value_name = "URL")]
    pub(crate) url: String,

    #[command(flatten)]
    pub(crate) anchors: AnchorArgs,

    /// Keep every line that was seen in this file. If it is there already, what it holds must be shown again.
    #[arg(long, value_name = "FILE")]
    pub(crate) keep: Option<PathBuf>,

    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5, value_parser = seconds)]
    pub(crate) every: f64,

    /// Give up, with exit code 1, once the server could not be reached for so many seconds [default: never].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) patience: Option<f64>,

    /// This reader's certificate, in PEM, for https.
    #[arg(long, value_name = "FILE", requires_all = ["private_key", "authority"])]
    pub(crate) certificate: Option<PathBuf>,

    /// The certificate's private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) private_key: Option<PathBuf>,

    /// The authority that certified the server, in PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) authority: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=1e9).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds, from 0.01 on".to_owned()),
    }
}
