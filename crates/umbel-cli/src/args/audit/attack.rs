//! `umbel audit attack`, `mechanism` and `membership` on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};

use crate::args::experiment::ExperimentArgs;

/// The experiment that is attacked, and how its settings are changed.
#[derive(Debug, Args)]
pub(crate) struct AttackedArgs {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArgs,

    /// Seed of noise, coins and canaries [default: the experiment's, else drawn by the system].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub(crate) seed: Option<u64>,

    /// Also write the result as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Train with canary clients, attack what is released, and print a lower bound on epsilon.
///
/// Canaries are clients with updates that are easy to recognise, each in the run by a fair coin. They go through the run's own
/// clipping, quantising, summing and noising. How well included and excluded canaries can be told apart bounds epsilon from below,
/// with a stated confidence. The bound is no guarantee: it shows what leaks at least. Exit code 1 means that, at confidence 0.9999,
/// more leaks than is claimed, or that noise or sampling do not have the claimed law.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  umbel audit attack examples/digits/experiment.toml
  umbel audit attack examples/digits/experiment.toml --rounds 50 --shadow --json
  umbel audit attack examples/digits/experiment.toml --canaries 4000 --method f-dp-one-run --out attack.json")]
pub(crate) struct AttackArgs {
    #[command(flatten)]
    pub(crate) attacked: AttackedArgs,

    /// How many canaries.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub(crate) canaries: u32,

    /// Attack only so many rounds; the claim is then that of so many [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rounds: Option<u64>,

    /// Honest clients send zeros instead of training: quicker, and to an attacker who knows their updates the same.
    #[arg(long)]
    pub(crate) shadow: bool,

    /// The method whose bound counts. It must be named before looking, so there is one default.
    #[arg(long, value_enum, default_value_t = BoundMethod::GaussianScore)]
    pub(crate) method: BoundMethod,

    /// Threads to train on [default: all cores]. The result does not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// Methods that give a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BoundMethod {
    /// Distance of mean scores: assumes Gaussian noise, closest to the truth.
    GaussianScore,
    /// Guesses against the claimed mechanism's trade-off curve.
    FDpOneRun,
    /// Guesses against (epsilon, delta): assumes nothing about the mechanism.
    OneRun,
}

/// Apply only clip, sum, noise and division, very often, to neighbours that are made to be told apart.
///
/// Finds contributions above the clip norm, weights, data-dependent divisors, noise that repeats, and values that are no number,
/// within seconds and with far more certainty than a run gives. Exit code as for attack.
#[derive(Debug, Parser)]
#[command(after_help = "Example:
  umbel audit mechanism examples/digits/experiment.toml --trials 100000")]
pub(crate) struct MechanismArgs {
    #[command(flatten)]
    pub(crate) attacked: AttackedArgs,

    /// Applications with the target, and as many without, for each pair of neighbours.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    pub(crate) trials: u32,
}

/// Infer whose data the final model was trained on, with the help of shadow runs (LiRA).
///
/// Each client's data are in a run by a fair coin. From many runs the attacker learns how sure models are of a client's examples with
/// and without it, and tells members by that. Printed are how many members are found at low rates of false positives, beside what the
/// claim allows, and a lower bound on epsilon. No guarantee: what one attack does not find another may. Exit code as for attack.
#[derive(Debug, Parser)]
#[command(after_help = "Example:
  umbel audit membership examples/digits/experiment.toml --shadow-runs 64")]
pub(crate) struct MembershipArgs {
    #[command(flatten)]
    pub(crate) attacked: AttackedArgs,

    /// Runs that the attacker makes beside the attacked one.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(4..=100_000))]
    pub(crate) shadow_runs: u32,

    /// Infer the membership of so many clients only [default: all with data].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(10..))]
    pub(crate) targets: Option<u32>,

    /// Runs at a time [default: all cores]. The result does not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}
