//! The terms without which an ε says nothing.

use umbel_accounting::{AccountantKind, NeighboringRelation};

use super::number::text;
use super::plan::Terms;
use crate::args::budget::Sampling;

/// What one neighbour differs by, for a plan that does not say.
pub(super) const UNIT: &str =
    "one unit (client or example): whichever the clip norm bounds the whole contribution of";

pub(super) const SIMULATED: &str = "nothing was run: this is the cost of a plan";

/// What sampling asks for on top of [`trust`].
pub(super) const SAMPLED_TRUST: &str =
    "with poisson or fixed sampling, not against whoever sees who takes part, either";

/// What only the ε of a sweep covers.
pub(super) const TUNED: &str = "settings that were tuned on the same data, and any other release of them";

/// What no ε of a plan covers.
pub(super) const NEVER_COVERED: [&str; 4] = [
    "a system that departs from the plan: clips less, adds less noise, or runs more steps",
    "noise, rate or length chosen after seeing a release: the plan must be fixed in advance",
    TUNED,
    "a person whose data are in several units",
];

/// Unit, relation, sampling, accountant, trust and what is not covered, a line each.
pub(super) fn lines(terms: &Terms) -> Vec<String> {
    let mut lines: Vec<String> = named(terms)
        .iter()
        .map(|(name, words)| format!("  {name:<11}  {words}"))
        .collect();
    lines.push("  not covered".to_owned());
    lines.extend(not_covered(terms).into_iter().map(|item| format!("    - {item}")));
    lines
}

/// The same where nothing is aligned.
pub(super) fn plain_lines(terms: &Terms) -> Vec<String> {
    let mut lines: Vec<String> = named(terms)
        .iter()
        .map(|(name, words)| format!("{name}: {words}"))
        .collect();
    lines.extend(
        not_covered(terms)
            .into_iter()
            .map(|item| format!("not covered: {item}")),
    );
    lines
}

fn named(terms: &Terms) -> [(&'static str, String); 6] {
    let rate = terms.rate.map(|rate| rate.value());
    [
        ("unit", UNIT.to_owned()),
        (
            "relation",
            format!("{}: {}", terms.relation.as_str(), relation(terms.relation)),
        ),
        (
            "sampling",
            format!("{}: {}", terms.sampling.as_str(), sampling(terms.sampling, rate)),
        ),
        (
            "accountant",
            format!("{}: {}", terms.accountant.as_str(), accountant(terms.accountant)),
        ),
        ("trust", trust(terms.sampling).to_owned()),
        ("simulated", SIMULATED.to_owned()),
    ]
}

/// What two neighbours differ by.
pub(super) fn relation(relation: NeighboringRelation) -> &'static str {
    match relation {
        NeighboringRelation::AddOrRemoveOne => "one unit is there or not",
        NeighboringRelation::ReplaceByZero => "one unit contributes zero instead",
        NeighboringRelation::ReplaceOne => {
            "one unit is exchanged for another, so that a sum moves by twice the clip norm"
        }
    }
}

/// What is assumed of the choice of units.
pub(super) fn sampling(sampling: Sampling, rate: Option<f64>) -> String {
    let rate = rate.map_or_else(|| "the sampling rate".to_owned(), text);
    match sampling {
        Sampling::Poisson => {
            format!(
                "each unit joins each step with probability {rate}, by its own secret coin; a trusted sampler"
            )
        }
        Sampling::Fixed => {
            format!(
                "exactly a share {rate} of the units in each step, drawn afresh and in secret; a trusted sampler"
            )
        }
        Sampling::None => "no amplification: each unit counts in full in every step".to_owned(),
    }
}

/// What kind of bound it is.
pub(super) fn accountant(kind: AccountantKind) -> &'static str {
    match kind {
        AccountantKind::Pld => "privacy-loss distributions, certified from both sides",
        AccountantKind::Rdp => "Rényi differential privacy, a certified upper bound only",
        _ => "a certified upper bound",
    }
}

/// Against whom the ε holds.
pub(super) fn trust(sampling: Sampling) -> &'static str {
    match sampling {
        Sampling::None => "against all who see every release; not against whoever adds the noise",
        Sampling::Poisson | Sampling::Fixed => {
            "against all who see every release; not against whoever adds the noise or sees who takes part"
        }
    }
}

/// What the ε of a plan says nothing about.
fn not_covered(terms: &Terms) -> Vec<&'static str> {
    let mut list = Vec::new();
    if terms.sampling != Sampling::None {
        list.push("who takes part in which step: against whoever learns it, --sampling none says what holds");
    }
    match terms.relation {
        NeighboringRelation::AddOrRemoveOne => {}
        NeighboringRelation::ReplaceByZero => {
            list.push("that a unit took part at all: only what it contributed is protected");
        }
        NeighboringRelation::ReplaceOne => list.push("how many units there are"),
    }
    list.extend(NEVER_COVERED);
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use umbel_accounting::{Delta, SamplingRate};

    #[test]
    fn only_amplification_asks_for_secret_participation() {
        for sampling in [Sampling::Poisson, Sampling::Fixed, Sampling::None] {
            let rate = SamplingRate::new(0.25).ok();
            let (delta, relation) = (Delta::new(1e-5).unwrap(), NeighboringRelation::ReplaceByZero);
            let terms = Terms::of(AccountantKind::Pld, delta, relation, sampling, rate).unwrap();
            for text in [lines(&terms).join("\n"), plain_lines(&terms).join("\n")] {
                for name in [
                    "unit",
                    "replace-by-zero",
                    sampling.as_str(),
                    "pld",
                    "trust",
                    "simulated",
                    "not covered",
                ] {
                    assert!(text.contains(name), "{name}: {text}");
                }
                let amplified = sampling != Sampling::None;
                assert_eq!(text.contains("sees who takes part"), amplified, "{text}");
                assert_eq!(
                    text.contains("0.25"),
                    amplified,
                    "a rate without influence is not named: {text}"
                );
            }
        }
    }
}
