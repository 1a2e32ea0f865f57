//! `umbel budget sweep`.

use serde::Serialize;
use umbel_accounting::tuning::{RandomSearch, TuningError};
use umbel_accounting::{Accountant, AccountantKind, EpsilonBounds, RdpAccountant};

use super::number::{finite, text, upper};
use super::plan::Terms;
use super::{answer, statement};
use crate::args::budget::{SweepArgs, TrialsLaw};
use crate::output;

/// What the bound rests on, and no program can see.
const CONDITIONS: [&str; 4] = [
    "settings are drawn independently for each trial, from one distribution fixed beforehand",
    "the number of trials is drawn from the law beforehand, at random and in secret, and kept to",
    "the score that picks the best trial is computed on public data, or is part of what a trial is charged for",
    "the best trial alone is released; of the others nothing, not even how many there were",
];

/// A sweep with its ε.
#[derive(Debug, Serialize)]
struct Sweep {
    /// Certified upper bound of the sweep; null means infinite.
    epsilon: Option<f64>,
    /// Of one trial alone, by privacy-loss distributions.
    epsilon_one_trial: Option<f64>,
    /// Of all trials added up, by privacy-loss distributions, if there are exactly so many and each may be seen.
    epsilon_all_trials: Option<f64>,
    delta: f64,
    /// Of `epsilon`.
    accountant: &'static str,
    expected_trials: f64,
    law: &'static str,
    noise_multiplier: f64,
    sampling_rate: Option<f64>,
    steps: u64,
    sampling: &'static str,
    neighbors: &'static str,
}

pub(super) fn run(args: &SweepArgs) -> anyhow::Result<()> {
    let terms = Terms::by(AccountantKind::Rdp, &args.assumptions)?;
    let (noise, steps) = (args.noise.noise_multiplier, args.steps.steps);
    let mut one_trial = RdpAccountant::new(terms.relation);
    one_trial.compose(&terms.step(noise), steps)?;
    let epsilon = search(args)?.epsilon(|order| one_trial.renyi_divergence(order), terms.delta);

    let exact = Terms::by(AccountantKind::Pld, &args.assumptions)?;
    let one = exact.bounds(&exact.step(noise), steps)?.upper;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 1 to 1e5"
    )]
    let trials = args.trials.ceil() as u64;
    let all = exact
        .bounds(&exact.step(noise), steps.saturating_mul(trials))?
        .upper;

    let sweep = Sweep {
        epsilon: finite(epsilon.value()),
        epsilon_one_trial: finite(one.value()),
        epsilon_all_trials: finite(all.value()),
        delta: terms.delta.value(),
        accountant: terms.accountant.as_str(),
        expected_trials: args.trials,
        law: args.law.as_str(),
        noise_multiplier: noise.value(),
        sampling_rate: terms.rate.map(|rate| rate.value()),
        steps,
        sampling: terms.sampling.as_str(),
        neighbors: terms.relation.as_str(),
    };
    if args.json {
        return output::result(&serde_json::to_string_pretty(&sweep)?);
    }
    let bounds = EpsilonBounds {
        lower: None,
        upper: epsilon,
    };
    let mut lines = vec![
        format!("ε = {}", super::number::epsilon(bounds, terms.delta.value())),
        String::new(),
        format!(
            "  sweep        {} trials on average, {}",
            text(args.trials),
            law(args)
        ),
        format!("  one trial    {}", answer::plan(&terms, noise, steps)),
        format!("               ε = {} alone", upper(one.value())),
        format!(
            "  added up     ε = {} for {trials} trials of which each may be seen",
            upper(all.value())
        ),
    ];
    lines.extend(statement::lines(&terms).into_iter().filter(|line| {
        // What a sweep is there to cover.
        !line.contains(statement::TUNED)
    }));
    lines.push("  holds if".to_owned());
    lines.extend(CONDITIONS.map(|condition| format!("    - {condition}")));
    lines.push("  source       Papernot, Steinke 2022, arXiv 2110.03620".to_owned());
    output::result(&lines.join("\n"))
}

fn search(args: &SweepArgs) -> Result<RandomSearch, TuningError> {
    match args.law {
        TrialsLaw::Geometric => RandomSearch::geometric(args.trials),
        TrialsLaw::Logarithmic => RandomSearch::logarithmic(args.trials),
        TrialsLaw::Poisson => RandomSearch::poisson(args.trials),
    }
}

/// How the number of trials is drawn.
fn law(args: &SweepArgs) -> String {
    match args.law {
        TrialsLaw::Geometric => {
            format!(
                "geometric law: after each one, stop with probability {}",
                super::number::near(1.0 / args.trials)
            )
        }
        TrialsLaw::Logarithmic => "logarithmic law".to_owned(),
        TrialsLaw::Poisson => "Poisson law: there may be none".to_owned(),
    }
}
