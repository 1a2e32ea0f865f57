//! What may stand behind `umbel budget`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use umbel_accounting::{
    AccountantKind, Delta, Epsilon, NeighboringRelation, NoiseMultiplier, ParamError, SamplingRate,
    tuning::RandomSearch,
};

use super::experiment::ExperimentArgs;

/// Plan a privacy budget: which epsilon a plan costs, and which plan an epsilon buys.
#[derive(Debug, Parser)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  umbel budget epsilon --noise-multiplier 1 --sampling-rate 0.01 --steps 1000 --delta 1e-5
  umbel budget noise --epsilon 2 --delta 1e-6 --sampling-rate 0.01 --steps 1000
  umbel budget sweep --trials 20 --noise-multiplier 1 --sampling-rate 0.01 --steps 1000 --delta 1e-5
  umbel budget explain examples/digits/experiment.toml"
)]
pub(crate) struct BudgetArgs {
    #[command(subcommand)]
    pub(crate) command: BudgetCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BudgetCommand {
    Epsilon(EpsilonArgs),
    Noise(NoiseArgs),
    Steps(StepsArgs),
    Curve(CurveArgs),
    Compare(CompareArgs),
    Sweep(SweepArgs),
    Explain(ExplainArgs),
}

/// The epsilon of a plan: a certified upper bound, and a lower one where the accountant has it.
#[derive(Debug, Parser)]
#[command(after_help = "Example, 100 of 10,000 clients in each of 1,000 rounds:
  umbel budget epsilon --noise-multiplier 1 --sampling-rate 0.01 --steps 1000 --delta 1e-5")]
pub(crate) struct EpsilonArgs {
    #[command(flatten)]
    pub(crate) noise: NoiseMultiplierArg,
    #[command(flatten)]
    pub(crate) steps: StepsArg,
    #[command(flatten)]
    pub(crate) terms: TermsArgs,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The least noise that keeps a plan within an epsilon, rounded up.
///
/// The epsilon that is printed is the certified one of the noise multiplier that is printed, at most the one asked for.
#[derive(Debug, Parser)]
#[command(after_help = "Example:
  umbel budget noise --epsilon 2 --delta 1e-6 --sampling-rate 0.01 --steps 1e6")]
pub(crate) struct NoiseArgs {
    #[command(flatten)]
    pub(crate) epsilon: EpsilonArg,
    #[command(flatten)]
    pub(crate) steps: StepsArg,
    #[command(flatten)]
    pub(crate) terms: TermsArgs,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The most steps that stay within an epsilon.
///
/// The epsilon that is printed is the certified one of the steps that are printed, at most the one asked for.
#[derive(Debug, Parser)]
#[command(after_help = "Example:
  umbel budget steps --epsilon 2 --delta 1e-6 --sampling-rate 0.01 --noise-multiplier 1")]
pub(crate) struct StepsArgs {
    #[command(flatten)]
    pub(crate) epsilon: EpsilonArg,
    #[command(flatten)]
    pub(crate) noise: NoiseMultiplierArg,
    #[command(flatten)]
    pub(crate) terms: TermsArgs,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How epsilon grows with the steps of a plan, and what the plan leaves to an attacker.
///
/// Shows epsilon by number of steps, delta at several epsilons, the trade-off between an attacker's two kinds of error,
/// the attacker's advantage and best success.
#[derive(Debug, Parser)]
#[command(after_help = "Example:
  umbel budget curve --noise-multiplier 1 --sampling-rate 0.01 --steps 1000 --delta 1e-5 --svg curve.svg")]
pub(crate) struct CurveArgs {
    #[command(flatten)]
    pub(crate) noise: NoiseMultiplierArg,
    #[command(flatten)]
    pub(crate) steps: StepsArg,
    #[command(flatten)]
    pub(crate) terms: TermsArgs,
    #[command(flatten)]
    pub(crate) base_rate: BaseRateArg,

    /// How the numbers of steps are spaced.
    #[arg(long, value_enum, default_value_t = Spacing::Log)]
    pub(crate) spacing: Spacing,

    /// Draw the curves into this file, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// One plan under every sampling assumption, neighbouring relation and accountant: what each assumption buys.
#[derive(Debug, Parser)]
#[command(after_help = "Example:
  umbel budget compare --noise-multiplier 1 --sampling-rate 0.01 --steps 1000 --delta 1e-5")]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) noise: NoiseMultiplierArg,
    #[command(flatten)]
    pub(crate) steps: StepsArg,

    /// Share of the units in each step, above 0 and at most 1.
    #[arg(long, value_name = "Q", value_parser = sampling_rate, allow_hyphen_values = true)]
    pub(crate) sampling_rate: SamplingRate,

    #[command(flatten)]
    pub(crate) delta: DeltaArg,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a sweep over settings costs: train with settings drawn at random, several times, and keep the best only.
///
/// The number of trials is itself drawn at random, from a law fixed beforehand, and stays secret with every trial but the
/// best. Only then is the cost this small (Papernot and Steinke 2022); trials in a fixed number are added up.
#[derive(Debug, Parser)]
#[command(after_help = "Example, twenty trials of a plan of 1,000 steps on average:
  umbel budget sweep --trials 20 --noise-multiplier 1 --sampling-rate 0.01 --steps 1000 --delta 1e-5")]
pub(crate) struct SweepArgs {
    /// Expected number of trials, from 1 to 100000.
    #[arg(long, value_name = "M", value_parser = trials, allow_hyphen_values = true)]
    pub(crate) trials: f64,

    /// The law that the number of trials is drawn from.
    #[arg(long, value_enum, default_value_t = TrialsLaw::Geometric)]
    pub(crate) law: TrialsLaw,

    #[command(flatten)]
    pub(crate) noise: NoiseMultiplierArg,
    #[command(flatten)]
    pub(crate) steps: StepsArg,
    #[command(flatten)]
    pub(crate) assumptions: AssumptionsArgs,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What an experiment promises, to whom, trusting whom, and what is not covered, in plain words.
///
/// Reads the experiment and its data, and trains nothing.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  umbel budget explain examples/digits/experiment.toml
  umbel budget explain examples/digits/experiment.toml --set privacy.epsilon=2 --base-rate 0.01

Settings come from the file, then from the environment (UMBEL_PRIVACY_EPSILON=2), then from --set.")]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArgs,

    #[command(flatten)]
    pub(crate) base_rate: BaseRateArg,

    /// Print a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct NoiseMultiplierArg {
    /// Standard deviation of the noise divided by the clip norm, above 0, under every relation.
    #[arg(long, value_name = "Z", value_parser = noise_multiplier, allow_hyphen_values = true)]
    pub(crate) noise_multiplier: NoiseMultiplier,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct StepsArg {
    /// Number of releases (rounds, or steps of DP-SGD), a whole number of at least 1 such as 1000000 or 1e6.
    #[arg(long, value_name = "T", value_parser = steps, allow_hyphen_values = true)]
    pub(crate) steps: u64,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct EpsilonArg {
    /// The epsilon to stay within, a finite number above 0.
    #[arg(long, value_name = "E", value_parser = target_epsilon, allow_hyphen_values = true)]
    pub(crate) epsilon: Epsilon,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct DeltaArg {
    /// The probability on which epsilon may fail, above 0 and below 1; well below 1 / number of units.
    #[arg(long, value_name = "D", value_parser = delta, allow_hyphen_values = true)]
    pub(crate) delta: Delta,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct BaseRateArg {
    /// How probable an attacker holds it beforehand that the unit took part, above 0 and below 1.
    #[arg(long, value_name = "P", default_value = "0.5", value_parser = base_rate, allow_hyphen_values = true)]
    pub(crate) base_rate: f64,
}

/// What a plan's epsilon depends on besides noise and steps, and whose epsilon it is.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct TermsArgs {
    #[command(flatten)]
    pub(crate) assumptions: AssumptionsArgs,

    /// Whose epsilon.
    #[arg(long, value_enum, default_value_t = AccountantName::Pld)]
    pub(crate) accountant: AccountantName,
}

/// What a plan's epsilon depends on besides noise and steps.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct AssumptionsArgs {
    #[command(flatten)]
    pub(crate) delta: DeltaArg,

    /// Share of the units in each step, above 0 and at most 1. May be left out with --sampling none.
    #[arg(long, value_name = "Q", value_parser = sampling_rate, allow_hyphen_values = true)]
    pub(crate) sampling_rate: Option<SamplingRate>,

    /// How the units of a step are chosen.
    #[arg(long, value_enum, default_value_t = Sampling::Poisson)]
    pub(crate) sampling: Sampling,

    /// How two neighbouring data sets differ.
    #[arg(long, value_enum, default_value_t = Neighbors::AddRemove)]
    pub(crate) neighbors: Neighbors,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sampling {
    /// Each unit independently with probability Q, by coins that stay secret.
    Poisson,
    /// Exactly the share Q, without replacement, fresh and secret in each step; proven for replace-one only.
    Fixed,
    /// Nothing is assumed: each unit counts in full in every step, whatever Q.
    None,
}

impl Sampling {
    /// The name used on the command line and in files.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Poisson => "poisson",
            Self::Fixed => "fixed",
            Self::None => "none",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Neighbors {
    /// One unit is there or not.
    AddRemove,
    /// One unit contributes zero instead; who takes part is not protected.
    ReplaceByZero,
    /// One unit is exchanged for another.
    ReplaceOne,
}

impl Neighbors {
    pub(crate) fn relation(self) -> NeighboringRelation {
        match self {
            Self::AddRemove => NeighboringRelation::AddOrRemoveOne,
            Self::ReplaceByZero => NeighboringRelation::ReplaceByZero,
            Self::ReplaceOne => NeighboringRelation::ReplaceOne,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccountantName {
    /// Privacy-loss distributions: bounds from both sides.
    Pld,
    /// Rényi differential privacy: an upper bound, looser.
    Rdp,
}

impl AccountantName {
    pub(crate) fn kind(self) -> AccountantKind {
        match self {
            Self::Pld => AccountantKind::Pld,
            Self::Rdp => AccountantKind::Rdp,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TrialsLaw {
    /// After each trial, stop with probability 1/M.
    Geometric,
    /// Cheaper; mostly one trial, now and then very many.
    Logarithmic,
    /// Close to M, and maybe none; dear unless a trial costs little.
    Poisson,
}

impl TrialsLaw {
    /// The name used on the command line and in files.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Geometric => "geometric",
            Self::Logarithmic => "logarithmic",
            Self::Poisson => "poisson",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Spacing {
    /// Each number the same factor above the last.
    Log,
    /// Each number equally far from the last.
    Linear,
}

/// Up to here every whole number is one for `f64` too.
const MOST_STEPS: u64 = 1 << 53;

/// What is no number is NaN, which every check refuses.
fn number(text: &str) -> f64 {
    text.trim().parse().unwrap_or(f64::NAN)
}

fn checked<T>(text: &str, check: impl Fn(f64) -> Result<T, ParamError>) -> Result<T, String> {
    check(number(text)).map_err(|error| format!("the {} must be {}", error.name, error.expected))
}

fn noise_multiplier(text: &str) -> Result<NoiseMultiplier, String> {
    checked(text, NoiseMultiplier::new)
}

fn sampling_rate(text: &str) -> Result<SamplingRate, String> {
    checked(text, SamplingRate::new)
}

fn delta(text: &str) -> Result<Delta, String> {
    checked(text, Delta::new)
}

fn target_epsilon(text: &str) -> Result<Epsilon, String> {
    let epsilon = number(text);
    let expected = || "epsilon must be a finite number above 0".to_owned();
    if epsilon > 0.0 && epsilon.is_finite() {
        Epsilon::new(epsilon).map_err(|_| expected())
    } else {
        Err(expected())
    }
}

fn trials(text: &str) -> Result<f64, String> {
    let trials = number(text);
    if (1.0..=RandomSearch::MOST_EXPECTED).contains(&trials) {
        Ok(trials)
    } else {
        Err(format!(
            "the expected number of trials must be a number from 1 to {}",
            RandomSearch::MOST_EXPECTED
        ))
    }
}

fn base_rate(text: &str) -> Result<f64, String> {
    let rate = number(text);
    if rate > 0.0 && rate < 1.0 {
        Ok(rate)
    } else {
        Err("the base rate must be a number above 0 and below 1".to_owned())
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number in a range just checked"
)]
#[allow(clippy::cast_precision_loss, reason = "2^53 is a number of both types")]
fn steps(text: &str) -> Result<u64, String> {
    let expected = || format!("the number of steps must be a whole number from 1 to {MOST_STEPS}");
    let count = match text.trim().parse::<u64>() {
        Ok(count) => count,
        Err(_) => {
            let number = number(text);
            if !(number >= 1.0 && number <= MOST_STEPS as f64 && number.fract() <= 0.0) {
                return Err(expected());
            }
            number as u64
        }
    };
    if (1..=MOST_STEPS).contains(&count) {
        Ok(count)
    } else {
        Err(expected())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_whole_numbers_in_any_spelling() {
        for (text, count) in [
            ("1", 1),
            ("1000000", 1_000_000),
            ("1e6", 1_000_000),
            ("2.5e1", 25),
            ("9007199254740992", 1 << 53),
        ] {
            assert_eq!(steps(text), Ok(count), "{text}");
        }
        for text in [
            "0",
            "-1",
            "1.5",
            "1e-3",
            "nan",
            "inf",
            "1e16",
            "9007199254740993",
            "18446744073709551616",
            "",
            "ten",
        ] {
            assert!(
                steps(text)
                    .unwrap_err()
                    .contains("whole number from 1 to 9007199254740992"),
                "{text}"
            );
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_the_range() {
        for text in ["nan", "-1", "0", "inf", "1e400", "x", ""] {
            assert!(
                noise_multiplier(text).is_err() && target_epsilon(text).is_err(),
                "{text}"
            );
            assert!(
                delta(text).is_err() && sampling_rate(text).is_err() && base_rate(text).is_err(),
                "{text}"
            );
        }
        assert_eq!(
            delta("1").unwrap_err(),
            "the delta must be a number above 0 and below 1"
        );
        assert_eq!(
            sampling_rate("1.01").unwrap_err(),
            "the sampling rate must be a number above 0 and at most 1"
        );
        assert!(sampling_rate("1").is_ok() && delta("1e-300").is_ok() && noise_multiplier("1e-3").is_ok());
        assert!(base_rate("1").is_err() && base_rate("0.01").is_ok());
    }
}
