//! What a header says of DP-FTRL and of a moving clip norm, computed again from what it rests on.

use umbel_accounting::ledger::{AdaptiveClipFacts, Body, Header, MatrixFacts, VerifiedLedger};
use umbel_accounting::matrix::{
    BufferedToeplitz, MatrixStrategy, ToeplitzStrategy, TreeEstimator, TreeStrategy,
};
use umbel_accounting::{ClipNorm, DpEvent, NoiseMultiplier};
use umbel_mechanisms::{GRID_UNITS, MatrixGaussian, MatrixPlan, NoiseKind, Turns};

/// Numbers that were computed twice may differ by so much, relative.
const SLACK: f64 = 1e-9;

/// What in a header's plan does not follow from the rest of it.
pub(crate) fn faults(header: &Header) -> Vec<String> {
    let matrix = header.matrix.as_ref().map(|facts| matrix(facts, header));
    let clip = header.adaptive_clip.as_ref().map(|rule| clip_rule(rule, header));
    matrix.into_iter().chain(clip).filter_map(Result::err).collect()
}

/// The sensitivity of a strategy matrix from its coefficients and from who may take part when, and the event of the whole run.
fn matrix(facts: &MatrixFacts, header: &Header) -> Result<(), String> {
    let refuse = |what: &str, error: &dyn std::fmt::Display| format!("`matrix`: {what}: {error}");
    let turns = Turns::new(
        facts.separation,
        Some(facts.participations),
        header.rounds,
        header.cohort,
        header.population,
    )
    .map_err(|error| refuse("turns that are impossible", &error))?;
    if !close(turns.rate().value(), header.sampling_rate) {
        return Err(format!(
            "`sampling_rate` is not what the turns of `matrix` give: expected {}, got {}",
            turns.rate().value(),
            header.sampling_rate
        ));
    }
    let number = |error: umbel_accounting::ParamError| refuse("a number out of range", &error);
    let plan = MatrixPlan {
        clip_norm: ClipNorm::new(header.clip_norm).map_err(number)?,
        noise_multiplier: NoiseMultiplier::new(facts.noise_multiplier).map_err(number)?,
        noise: match header.noise.as_str() {
            "continuous" => NoiseKind::Continuous,
            _ => NoiseKind::Rounded,
        },
        divisor: header.cohort,
        dimension: usize::try_from(header.dimension).map_err(|error| refuse("the dimension", &error))?,
        strategy: strategy(facts)?,
        rounds: header.rounds,
        turns,
        amplified: facts.amplified,
    };
    let mechanism =
        MatrixGaussian::new(plan).map_err(|error| refuse("a strategy that is impossible", &error))?;
    let sensitivity = mechanism.sensitivity();
    if facts.sensitivity < sensitivity * (1.0 - SLACK) {
        return Err(format!(
            "the sensitivity in `matrix` is too small: its coefficients give {sensitivity}, got {}",
            facts.sensitivity
        ));
    }
    let covers = match (mechanism.event(), &header.round_event) {
        (
            DpEvent::MatrixMechanism {
                noise_multiplier,
                sensitivity,
            },
            DpEvent::MatrixMechanism {
                noise_multiplier: got,
                sensitivity: claimed,
            },
        ) => got <= noise_multiplier && claimed.value() >= sensitivity.value() * (1.0 - SLACK),
        (expected, got) => expected == got,
    };
    if covers {
        Ok(())
    } else {
        Err(format!(
            "`round_event` is not what `matrix` costs: expected {:?}, got {:?}",
            mechanism.event(),
            header.round_event
        ))
    }
}

fn strategy(facts: &MatrixFacts) -> Result<MatrixStrategy, String> {
    let coefficients = facts.coefficients.clone();
    let refuse = |error| format!("`matrix`: {error}");
    match facts.strategy.as_str() {
        "banded" => Ok(MatrixStrategy::Toeplitz(
            ToeplitzStrategy::new(coefficients).map_err(refuse)?,
        )),
        "blt" if coefficients.len().is_multiple_of(2) => {
            let (decays, scales) = coefficients.split_at(coefficients.len() / 2);
            let buffered = BufferedToeplitz::new(decays.to_vec(), scales.to_vec());
            Ok(MatrixStrategy::Buffered(buffered.map_err(refuse)?))
        }
        "tree" if coefficients.is_empty() => {
            Ok(MatrixStrategy::Tree(TreeStrategy::new(TreeEstimator::Binary)))
        }
        other => Err(format!(
            "`matrix`: expected `banded`, `blt` with as many scales as decays, or `tree` without coefficients, got `{other}` with {}",
            coefficients.len()
        )),
    }
}

/// How the noise of a round is split between update and count (Andrew et al. 2021, theorem 1).
fn clip_rule(rule: &AdaptiveClipFacts, header: &Header) -> Result<(), String> {
    let Some(noise) = gaussian_noise(&header.round_event) else {
        return Ok(());
    };
    let count = noise * f64::from(GRID_UNITS) / (2.0 * f64::from(rule.indicator));
    if close(count, rule.count_std_dev) {
        return Ok(());
    }
    Err(format!(
        "`count_std_dev` is not what `indicator` gives at the noise multiplier {noise}: expected {count}, got {}",
        rule.count_std_dev
    ))
}

/// Replays a clip norm that moves: each round's must follow from the last by the header's rule and the released share. Gives
/// records and what is wrong with them.
pub(crate) fn replay_clip_norm(ledger: &VerifiedLedger) -> Vec<(usize, String)> {
    let header = ledger.header();
    let Some(rule) = &header.adaptive_clip else {
        return Vec::new();
    };
    let mut expected = header.clip_norm;
    let mut current = expected;
    let mut wrong = Vec::new();
    for (record, body) in ledger.records().iter().enumerate() {
        match body {
            Body::Charge(charge) => {
                current = charge.clip_norm.unwrap_or(f64::NAN);
                if !close(expected, current) {
                    wrong.push((
                        record,
                        format!(
                            "`clip_norm` does not follow from the round before by the header's rule: expected {expected}, got {current}"
                        ),
                    ));
                }
                // A round that is charged and never released moves nothing.
                expected = current;
            }
            Body::Release(release) => match release.share_within {
                Some(share) => {
                    let step = (-rule.learning_rate * (share - rule.quantile)).exp();
                    expected = (current * step).clamp(rule.smallest, rule.largest);
                }
                None => wrong.push((
                    record,
                    "expected `share_within`, from which the next clip norm follows".to_owned(),
                )),
            },
            _ => {}
        }
    }
    wrong
}

/// The noise multiplier of an event that is one Gaussian release.
fn gaussian_noise(event: &DpEvent) -> Option<f64> {
    match event {
        DpEvent::Gaussian { noise_multiplier } => Some(noise_multiplier.value()),
        DpEvent::PoissonSampled { event, .. } => gaussian_noise(event),
        _ => None,
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= SLACK * a.abs()
}
