//! What a run's summary says in words and numbers.

use umbel_accounting::EpsilonBounds;
use umbel_experiment::{HistogramBin, ModelFacts, PartitionFacts, PrivacyFacts};
use umbel_mechanisms::NoiseKind;
use umbel_protocol::Sampling;

use crate::Prepared;

/// What a simulation's ε does not mean, whatever its settings.
const SIMULATED: &str =
    "noise is reproducible from the seed; this ε describes the mechanism, not this model file";

/// The promise of a run that has spent `spent`.
pub(crate) fn privacy(prepared: &Prepared, spent: EpsilonBounds) -> PrivacyFacts {
    let settings = prepared.plan.settings();
    let mechanism = &settings.mechanism;
    let Sampling::Poisson { rate } = prepared.plan.sampling() else {
        unreachable!("a simulation samples clients independently")
    };
    let finite = |value: f64| value.is_finite().then_some(value);
    let epsilon = finite(spent.upper.value());
    PrivacyFacts {
        unit: settings.unit.as_str().to_owned(),
        trust: settings.trust.as_str().to_owned(),
        neighbors: prepared.plan.relation().as_str().to_owned(),
        simulated: true,
        epsilon,
        epsilon_lower: spent.lower.and_then(|lower| finite(lower.value())),
        epsilon_budget: settings.epsilon_budget.map(|limit| limit.value()),
        delta: settings.delta.value(),
        accountant: settings.accountant.as_str().to_owned(),
        noise_multiplier: mechanism.noise_multiplier().map(|multiplier| multiplier.value()),
        clip_norm: mechanism.quantizer().clip_norm().value(),
        sampling: prepared.plan.sampling().as_str().to_owned(),
        sampling_rate: rate.value(),
        noise: noise_name(mechanism.noise_kind()).to_owned(),
        noise_std_dev: mechanism.noise_std_dev(),
        not_covered: not_covered(mechanism.noise_kind()),
        statement: statement(epsilon, settings.delta.value()),
    }
}

fn noise_name(kind: Option<NoiseKind>) -> &'static str {
    kind.map_or("none", NoiseKind::as_str)
}

fn statement(epsilon: Option<f64>, delta: f64) -> String {
    match epsilon {
        Some(epsilon) => format!(
            "Whoever sees every released model, but not the server, learns almost the same with or without any one client: all \
             data of one client are protected with ε = {epsilon:.4} at δ = {delta:e} (add-or-remove of one client, noise added \
             by a trusted server)."
        ),
        None => "NOT PRIVATE: no noise was added, so nothing is promised to anybody.".to_owned(),
    }
}

fn not_covered(noise: Option<NoiseKind>) -> Vec<String> {
    let mut list = vec![
        SIMULATED.to_owned(),
        "the server itself, which sees every update".to_owned(),
        "who is contacted in which round, seen from the network".to_owned(),
        "one client slowing another past a round's deadline".to_owned(),
        "the choice of settings: what was learnt by trying them on this data is not charged".to_owned(),
        "diagnostics marked simulator_only: they are computed on clients' data without noise".to_owned(),
        "a person whose data are held by several clients".to_owned(),
    ];
    if noise == Some(NoiseKind::Continuous) {
        list.push("the gaps of floating-point numbers: continuous noise is for simulation only".to_owned());
    }
    list
}

/// Who holds what, for the report.
pub(crate) fn partition(prepared: &Prepared) -> PartitionFacts {
    let summary = prepared
        .partition
        .summary(prepared.train.labels(), prepared.train.n_classes());
    let count = |count: usize| count as u64;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a median of counts is one, halves rounded"
    )]
    let examples_median = summary.median_examples.round() as u64;
    PartitionFacts {
        kind: prepared.experiment.data.partition.kind().to_owned(),
        clients: count(summary.n_clients),
        examples: count(summary.n_examples),
        examples_min: count(summary.min_examples),
        examples_median,
        examples_max: count(summary.max_examples),
        histogram: summary
            .histogram
            .iter()
            .map(|bin| HistogramBin {
                from: count(bin.first),
                to: count(bin.last) + 1,
                clients: count(bin.n_clients),
            })
            .collect(),
        classes: count(prepared.train.n_classes()),
        labels: summary
            .labels
            .iter()
            .map(|client| client.counts.iter().copied().map(count).collect())
            .collect(),
    }
}

/// What was trained.
pub(crate) fn model(prepared: &Prepared) -> ModelFacts {
    ModelFacts {
        kind: prepared.experiment.model.kind().to_owned(),
        parameters: prepared.initial.len() as u64,
    }
}
