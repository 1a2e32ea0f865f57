//! What `epsilon`, `noise` and `steps` answer: one object for a program, and for a person the promise with all its terms.

use serde::Serialize;
use umbel_accounting::{Epsilon, EpsilonBounds, NoiseMultiplier};

use super::number::{finite, text};
use super::plan::Terms;
use super::{number, statement};
use crate::args::budget::Sampling;
use crate::output;

/// A plan with its ε. The keys are a contract.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// Certified upper bound; null means infinite.
    pub(super) epsilon: Option<f64>,
    /// Certified lower bound, where the accountant has one.
    pub(super) epsilon_lower: Option<f64>,
    pub(super) delta: f64,
    pub(super) accountant: &'static str,
    pub(super) noise_multiplier: f64,
    /// Null where it was not given, since it has no influence.
    pub(super) sampling_rate: Option<f64>,
    pub(super) steps: u64,
    pub(super) sampling: &'static str,
    pub(super) neighbors: &'static str,
}

impl Answer {
    pub(super) fn new(terms: &Terms, noise: NoiseMultiplier, steps: u64, bounds: EpsilonBounds) -> Self {
        Self {
            epsilon: finite(bounds.upper.value()),
            epsilon_lower: bounds.lower.map(Epsilon::value).and_then(finite),
            delta: terms.delta.value(),
            accountant: terms.accountant.as_str(),
            noise_multiplier: noise.value(),
            sampling_rate: terms.rate.map(|rate| rate.value()),
            steps,
            sampling: terms.sampling.as_str(),
            neighbors: terms.relation.as_str(),
        }
    }
}

/// Prints the plan and its ε, after `heading` where a person reads it.
pub(super) fn print(
    heading: Option<String>,
    terms: &Terms,
    noise: NoiseMultiplier,
    steps: u64,
    bounds: EpsilonBounds,
    json: bool,
) -> anyhow::Result<()> {
    let shown = if json {
        serde_json::to_string_pretty(&Answer::new(terms, noise, steps, bounds))?
    } else {
        describe(heading, terms, noise, steps, bounds)
    };
    output::result(&shown)
}

fn describe(
    heading: Option<String>,
    terms: &Terms,
    noise: NoiseMultiplier,
    steps: u64,
    bounds: EpsilonBounds,
) -> String {
    let mut lines: Vec<String> = heading.into_iter().collect();
    lines.push(format!("ε = {}", number::epsilon(bounds, terms.delta.value())));
    lines.push(String::new());
    lines.push(format!("  plan         {}", plan(terms, noise, steps)));
    lines.extend(statement::lines(terms));
    lines.join("\n")
}

/// The plan in one line.
pub(super) fn plan(terms: &Terms, noise: NoiseMultiplier, steps: u64) -> String {
    let rate = match (terms.sampling, terms.rate) {
        (Sampling::None, _) | (_, None) => String::new(),
        (_, Some(rate)) => format!(", sampling rate {}", text(rate.value())),
    };
    let noun = if steps == 1 { "step" } else { "steps" };
    format!("{steps} {noun}, noise multiplier {}{rate}", text(noise.value()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use umbel_accounting::{AccountantKind, Delta, NeighboringRelation, SamplingRate};

    fn with_sampling(sampling: Sampling, rate: Option<f64>) -> Terms {
        let (kind, delta, relation) = (
            AccountantKind::Rdp,
            Delta::new(1e-5).unwrap(),
            NeighboringRelation::ReplaceOne,
        );
        Terms::of(
            kind,
            delta,
            relation,
            sampling,
            rate.map(|rate| SamplingRate::new(rate).unwrap()),
        )
        .unwrap()
    }

    fn terms() -> Terms {
        with_sampling(Sampling::None, None)
    }

    fn noise() -> NoiseMultiplier {
        NoiseMultiplier::new(1.5).unwrap()
    }

    fn answer(lower: Option<f64>, upper: f64) -> Value {
        let lower = lower.map(|lower| Epsilon::new(lower).unwrap());
        let bounds = EpsilonBounds {
            lower,
            upper: Epsilon::new(upper).unwrap(),
        };
        serde_json::to_value(Answer::new(&terms(), noise(), 7, bounds)).unwrap()
    }

    #[test]
    fn the_object_has_exactly_the_keys_of_the_contract() {
        let expected = json!({
            "epsilon": 2.5, "epsilon_lower": 2.25, "delta": 1e-5, "accountant": "rdp", "noise_multiplier": 1.5,
            "sampling_rate": null, "steps": 7, "sampling": "none", "neighbors": "replace-one",
        });
        assert_eq!(answer(Some(2.25), 2.5), expected);
    }

    #[test]
    fn what_is_not_there_or_infinite_is_null() {
        assert_eq!(answer(None, 2.5)["epsilon_lower"], Value::Null);
        let infinite = answer(Some(f64::INFINITY), f64::INFINITY);
        assert_eq!(
            (&infinite["epsilon"], &infinite["epsilon_lower"]),
            (&Value::Null, &Value::Null)
        );
    }

    #[test]
    fn a_person_reads_every_term_with_the_epsilon() {
        let bounds = EpsilonBounds {
            lower: None,
            upper: Epsilon::new(2.5).unwrap(),
        };
        for sampling in [Sampling::Poisson, Sampling::Fixed, Sampling::None] {
            let terms = with_sampling(sampling, Some(0.1));
            let text = describe(None, &terms, noise(), 7, bounds);
            for part in [
                "ε = 2.5 at δ = 1e-5",
                "one unit (client or example)",
                "replace-one",
                "rdp",
                "trust",
                "not covered",
            ] {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert!(text.contains(sampling.as_str()), "{text}");
            assert_eq!(
                text.contains("sees who takes part"),
                sampling != Sampling::None,
                "{text}"
            );
        }
    }
}
