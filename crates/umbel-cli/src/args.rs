//! What may stand on the command line.

pub(crate) mod audit;
pub(crate) mod budget;
pub(crate) mod certs;
pub(crate) mod data;
pub(crate) mod experiment;
pub(crate) mod serve;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use self::audit::AuditArgs;
use self::budget::BudgetArgs;
use self::certs::CertsArgs;
use self::data::DataArgs;
use self::serve::{JoinArgs, RunsArgs, ServeArgs};

/// Federated learning with differential privacy that can be checked.
#[derive(Debug, Parser)]
#[command(name = "umbel", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Audit(AuditArgs),
    Budget(BudgetArgs),
    Data(DataArgs),
    Predict(PredictArgs),
    Certs(CertsArgs),
    Join(JoinArgs),
    Report(ReportArgs),
    Runs(RunsArgs),
    Serve(ServeArgs),
    Simulate(SimulateArgs),
}

/// Train with simulated clients under a privacy budget.
///
/// Prints a line a round with loss, accuracy and epsilon, and leaves a run directory: experiment.toml, metrics.jsonl,
/// summary.json, ledger, model.safetensors and report.html. The same seed gives the same model, whatever the number of threads.
/// Ctrl-C stops in good order; --resume goes on.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  umbel simulate examples/digits/experiment.toml
  umbel simulate examples/digits/experiment.toml --set privacy.epsilon=2 --set federation.rounds=20 --out runs/two
  umbel simulate --resume runs/two

Settings come from the file, then from the environment (UMBEL_PRIVACY_EPSILON=2), then from --set.")]
pub(crate) struct SimulateArgs {
    /// The experiment file. May be left away with --resume.
    #[arg(value_name = "EXPERIMENT.toml", required_unless_present = "resume")]
    pub(crate) experiment: Option<PathBuf>,

    /// Change a setting; a TOML value, else a string. May be given several times.
    #[arg(long = "set", value_name = "section.key=value")]
    pub(crate) settings: Vec<String>,

    /// Where to leave the results: a directory that is absent or empty [default: runs/NAME-TIME].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Go on with an interrupted run, in its own directory.
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    pub(crate) resume: Option<PathBuf>,

    /// Threads to train on [default: all cores]. The result does not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// Seed of everything random [default: the experiment's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub(crate) seed: Option<u64>,

    /// Print the summary as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Predict with the model of a run.
///
/// The input is of the experiment's own format, gzipped or plain, and goes through the same preprocessing as in training, which the
/// run directory holds: an IDX file of images; texts, one a line, or rows of `label<TAB>text`; rows of a table with the
/// columns that are features. Prints the most probable class of each example and its probability; where the input has labels,
/// the accuracy too.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  umbel predict --model runs/two --input examples/digits/data/t10k-images-idx3-ubyte.gz
  umbel predict --model runs/reviews --input reviews.txt --json")]
pub(crate) struct PredictArgs {
    /// A run directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,

    /// The examples to predict.
    #[arg(long, value_name = "FILE")]
    pub(crate) input: PathBuf,

    /// Print the predictions as JSON, with the probability of every class.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Draw one HTML page with plots of one run, or of several side by side.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  umbel report runs/two
  umbel report runs/two runs/eight --out comparison.html")]
pub(crate) struct ReportArgs {
    /// Run directories.
    #[arg(value_name = "RUN_DIR", required = true)]
    pub(crate) runs: Vec<PathBuf>,

    /// The page to write [default: report.html in the run directory; comparison.html for several].
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}
