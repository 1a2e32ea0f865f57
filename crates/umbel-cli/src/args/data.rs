//! The arguments of `umbel data`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::experiment::ExperimentArgs;

/// Data sets: which there are, and who holds what.
#[derive(Debug, Parser)]
#[command(arg_required_else_help = true)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    pub(crate) command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    Fetch(FetchArgs),
    List(ListArgs),
    Partition(PartitionArgs),
}

/// List the data sets that the examples use, with size, licence and where to get them.
#[derive(Debug, Parser)]
#[command(after_help = "Example:
  umbel data list")]
pub(crate) struct ListArgs {
    /// Print the list as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Say how to get a data set, or check and copy one that is there.
///
/// Nothing is downloaded: this program contacts no server that it is not told of. With --from, the files of a data set are
/// compared with their published checksums and copied.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  umbel data fetch mnist
  umbel data fetch mnist --from ~/Downloads --to examples/digits/data")]
pub(crate) struct FetchArgs {
    /// Name of the data set, as `umbel data list` has it.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// The folder that the files are in.
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,

    /// The folder to copy them to; without it they are only checked.
    #[arg(long, value_name = "DIR", requires = "from")]
    pub(crate) to: Option<PathBuf>,
}

/// Show which client of an experiment holds how many examples of which class.
///
/// Reads the training data and splits them as `umbel simulate` does. What is shown is counted on the clients' data: no ε covers it.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  umbel data partition examples/digits/experiment.toml
  umbel data partition examples/digits/experiment.toml --set data.partition.kind=shards --set data.partition.clients=100 --out shards.html")]
pub(crate) struct PartitionArgs {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArgs,

    /// Seed of the split [default: the experiment's, else 0].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub(crate) seed: Option<u64>,

    /// An HTML page with the picture to write.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Print the numbers as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
