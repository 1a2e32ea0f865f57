//! The terms without which an ε says nothing.

use umbel_accounting::{AccountantKind, NeighboringRelation};

use super::number::text;
use super::plan::Terms;
use crate::args::budget::Sampling;

/// What one neighbour differs by, for a plan that does not say.
pub(super) const UNIT: &str = "one unit (client or example): whichever the clip norm bounds the whole contribution of";

pub(super) const SIMULATED: &str = "nothing was run: this is the cost of a plan";

/// What sampling asks for on top of [`trust`].
pub(super) const SAMPLED_TRUST: &str = "with poisson or fixed sampling, not against those who see who takes part in which step";

/// What no ε of a plan covers.
pub(super) const NEVER_COVERED: [&str; 4] = [
    "a system that departs from the plan: clips less, adds less noise, or runs more steps",
    "noise, rate or length chosen after seeing a release: the plan must be fixed in advance",
    "settings that were tuned on the same data, and any other release of them",
    "a person whose data are in several units",
];

/// Unit, relation, sampling, accountant, trust and what is not covered, a line each.
pub(super) fn lines(terms: &Terms) -> Vec<String> {
    let rate = terms.rate.map(|rate| rate.value());
    let mut lines = vec![
        format!("  unit         {UNIT}"),
        format!("  relation     {}: {}", terms.relation.as_str(), relation(terms.relation)),
        format!("  sampling     {}: {}", terms.sampling.as_str(), sampling(terms.sampling, rate)),
        format!("  accountant   {}: {}", terms.accountant.as_str(), accountant(terms.accountant)),
        format!("  trust        {}", trust(terms.sampling)),
        format!("  simulated    {SIMULATED}"),
        "  not covered".to_owned(),
    ];
    lines.extend(not_covered(terms).into_iter().map(|item| format!("    - {item}")));
    lines
}

/// What two neighbours differ by.
pub(super) fn relation(relation: NeighboringRelation) -> &'static str {
    match relation {
        NeighboringRelation::AddOrRemoveOne => "one unit is there or not",
        NeighboringRelation::ReplaceByZero => "one unit contributes zero instead",
        NeighboringRelation::ReplaceOne => "one unit is exchanged for another, so that a sum moves by twice the clip norm",
    }
}

/// What is assumed of the choice of units.
pub(super) fn sampling(sampling: Sampling, rate: Option<f64>) -> String {
    let rate = rate.map_or("the sampling rate".to_owned(), text);
    match sampling {
        Sampling::Poisson => {
            format!("each unit joins each step with probability {rate}, by its own secret coin; a trusted sampler")
        }
        Sampling::Fixed => {
            format!("exactly a share {rate} of the units in each step, drawn afresh and in secret; a trusted sampler")
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
pub(super) fn trust(sampling: Sampling) -> String {
    let against = "holds against all who see every release, not against whoever adds the noise";
    if sampling == Sampling::None {
        against.to_owned()
    } else {
        format!("{against}, nor against those who see who takes part in which step")
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
