//! `umbel audit` on the command line.

mod attack;
mod watch;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::attack::{AttackArgs, AttackedArgs, BoundMethod, MechanismArgs, MembershipArgs};
pub(crate) use self::watch::WatchArgs;

/// Check what a run spent, from its ledger, and measure what leaks.
#[derive(Debug, Parser)]
#[command(arg_required_else_help = true)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    Attack(AttackArgs),
    Mechanism(MechanismArgs),
    Membership(MembershipArgs),
    Report(ReportArgs),
    Show(ShowArgs),
    Verify(VerifyArgs),
    Watch(WatchArgs),
}

/// Print a ledger's records for a person to read, once its chain and signatures hold.
#[derive(Debug, Parser)]
#[command(after_help = "Example:
  umbel audit show runs/two")]
pub(crate) struct ShowArgs {
    /// A run directory, or a ledger file.
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run: PathBuf,

    /// Print the records as a JSON list.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What somebody outside of a run vouches for.
#[derive(Debug, Args)]
pub(crate) struct AnchorArgs {
    /// The signer's key, known from elsewhere: its fingerprint or all 64 digits.
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) key: Option<String>,

    /// SHA-256 of the plan that was agreed on before the run.
    #[arg(long, value_name = "SHA256")]
    pub(crate) plan: Option<String>,

    /// Files of signed ledger heads, of kept ledger lines, or histories that clients hold.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) receipts: Vec<PathBuf>,
}

/// Verify a run directory offline: exit code 0 if everything fits, 1 if not, with record and reason.
///
/// Checked are the ledger's chain, signatures and order, each claimed epsilon against two accountants, the plan against the
/// experiment file, model and summary against the records, and realised cohort sizes against the sampling rate. Without --key or
/// --receipts nobody outside the directory vouches for the signer, and the output says so.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  umbel audit verify runs/two
  umbel audit verify runs/two --key 63b0-9c1e-d0f1-7d5a-0c5e-2f7b-9a41-10c3
  umbel audit verify runs/two --receipts receipts.jsonl --json")]
pub(crate) struct VerifyArgs {
    /// The run directory.
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run: PathBuf,

    #[command(flatten)]
    pub(crate) anchors: AnchorArgs,

    /// The file of the budget that the run shares with others [default: where its experiment says].
    #[arg(long, value_name = "FILE")]
    pub(crate) budget: Option<PathBuf>,

    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Draw up a run's privacy certificate: one HTML page to read and print, and the same as JSON.
///
/// The run is verified first; what is wrong with it stands on the certificate, and the exit code is 1.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  umbel audit report runs/two --out certificate
  umbel audit report runs/two --also runs/one --attack attack.json --out certificate")]
pub(crate) struct ReportArgs {
    /// The run directory.
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run: PathBuf,

    /// Where to leave certificate.html and certificate.json.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Other runs on the same population, whose cost adds up with this one's.
    #[arg(long, value_name = "RUN_DIR", num_args = 1..)]
    pub(crate) also: Vec<PathBuf>,

    /// The file of the budget that the run shares with others [default: where its experiment says].
    #[arg(long, value_name = "FILE")]
    pub(crate) budget: Option<PathBuf>,

    /// The result of an attack on the run's pipeline, as JSON [default: attack.json in the run directory, if it is there].
    #[arg(long, value_name = "FILE")]
    pub(crate) attack: Option<PathBuf>,

    /// Chances beforehand that a unit took part, for the attacker's best success.
    #[arg(long, value_name = "P", num_args = 1.., default_values_t = [0.5, 0.1, 0.01])]
    pub(crate) base_rate: Vec<f64>,

    #[command(flatten)]
    pub(crate) anchors: AnchorArgs,
}
