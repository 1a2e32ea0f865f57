//! What a run's summary says in words and numbers.

use umbel_accounting::EpsilonBounds;
use umbel_accounting::ledger::CloseStatus;
use umbel_accounting::matrix::MatrixStrategy;
use umbel_experiment::{
    AdaptiveClipFacts, AggregationFacts, DataSettings, FtrlFacts, HistogramBin, LocalFacts, ModelFacts,
    PartitionFacts, PrivacyFacts,
};
use umbel_mechanisms::{CentralGaussian, Mechanism, NoiseLaw};
use umbel_protocol::{PrivacyUnit, RunPlan, Trust};
use umbel_train::{Dataset, Partition};

use crate::Prepared;

/// The promise of a run that has spent `spent`. `simulated` says whether coins and noise come from a seed.
pub fn privacy(plan: &RunPlan, simulated: bool, not_covered: &[&str], spent: EpsilonBounds) -> PrivacyFacts {
    let settings = plan.settings();
    let mechanism = &settings.mechanism;
    let (noise_std_dev, total_noise_std_dev) = mechanism.noise_std_devs(settings.rounds);
    let ftrl = ftrl(mechanism);
    let finite = |value: f64| value.is_finite().then_some(value);
    let epsilon = finite(spent.upper.value());
    PrivacyFacts {
        unit: settings.unit.as_str().to_owned(),
        trust: settings.trust.as_str().to_owned(),
        neighbors: plan.relation().as_str().to_owned(),
        simulated,
        epsilon,
        epsilon_lower: spent.lower.and_then(|lower| finite(lower.value())),
        epsilon_budget: settings.epsilon_budget.map(|limit| limit.value()),
        delta: settings.delta.value(),
        accountant: settings.accountant.as_str().to_owned(),
        noise_multiplier: mechanism.noise_multiplier().map(|multiplier| multiplier.value()),
        clip_norm: mechanism.clip_norm().value(),
        adaptive_clip: adaptive_clip(mechanism),
        sampling: plan.sampling().as_str().to_owned(),
        sampling_rate: plan.sampling().rate().value(),
        noise: noise_name(mechanism.noise_law()).to_owned(),
        noise_std_dev,
        total_noise_std_dev,
        mechanism: if ftrl.is_some() { "dp-ftrl" } else { "gaussian" }.to_owned(),
        ftrl,
        local: local(mechanism),
        secure_aggregation: secure_aggregation(plan),
        not_covered: not_covered.iter().map(|item| (*item).to_owned()).collect(),
        statement: statement(plan, simulated, epsilon),
    }
}

/// What the promise does not cover because of how the run ended: a plan's ε is not that of a length chosen by outputs, since
/// no filter stops by privacy-loss distributions (`umbel_accounting::filter`).
pub fn not_covered_by_end(status: CloseStatus) -> Option<&'static str> {
    match status {
        CloseStatus::Interrupted => Some(
            "a stop because of what was released: this epsilon is that of so many rounds fixed beforehand; the whole plan's holds \
             whatever the reason",
        ),
        CloseStatus::BudgetExhausted | CloseStatus::Finished => None,
    }
}

pub(crate) fn local(mechanism: &Mechanism) -> Option<LocalFacts> {
    let Mechanism::Local(mechanism) = mechanism else {
        return None;
    };
    let plan = mechanism.plan();
    Some(LocalFacts {
        max_participations: plan.most_participations,
        steps: plan.steps.map(|steps| steps.steps),
        batch_sampling_rate: plan.steps.map(|steps| steps.sampling_rate.value()),
        batch_divisor: plan.steps.map(|steps| steps.divisor),
    })
}

pub(crate) fn secure_aggregation(plan: &RunPlan) -> Option<AggregationFacts> {
    let settings = plan.settings();
    let secure = settings.secure_aggregation?;
    let distributed = match &settings.mechanism {
        Mechanism::Distributed(mechanism) => Some(mechanism),
        _ => None,
    };
    Some(AggregationFacts {
        protocol: secure.protocol().to_owned(),
        survivors_min: secure.survivors_min.into(),
        clients_max: secure.clients_max.into(),
        colluding: secure.colluding.into(),
        honest_share: f64::from(secure.honest_min()) / f64::from(secure.survivors_min),
        modulus_bits: secure.modulus_bits,
        max_participations: distributed.map(|mechanism| mechanism.terms().most_participations),
        clip_norm_grid_units: distributed.map(|mechanism| mechanism.grid_units()),
        client_noise_multiplier: distributed
            .map(|mechanism| mechanism.share_variance().sqrt() / mechanism.grid_units()),
    })
}

pub(crate) fn adaptive_clip(mechanism: &Mechanism) -> Option<AdaptiveClipFacts> {
    let Mechanism::Adaptive(mechanism) = mechanism else {
        return None;
    };
    Some(AdaptiveClipFacts {
        quantile: mechanism.plan().quantile,
        learning_rate: mechanism.plan().learning_rate,
        count_std_dev: mechanism.count_std_dev(),
        update_noise_multiplier: mechanism.update_noise_multiplier(),
    })
}

pub(crate) fn ftrl(mechanism: &Mechanism) -> Option<FtrlFacts> {
    let Mechanism::Matrix(mechanism) = mechanism else {
        return None;
    };
    let plan = mechanism.plan();
    let strategy = match &plan.strategy {
        MatrixStrategy::Buffered(_) => "blt",
        MatrixStrategy::Toeplitz(_) => "banded",
        _ => "tree",
    };
    Some(FtrlFacts {
        strategy: strategy.to_owned(),
        separation: plan.turns.separation(),
        participations: plan.turns.participations(),
        sensitivity: mechanism.sensitivity(),
        amplified: plan.amplified,
    })
}

fn noise_name(kind: Option<NoiseLaw>) -> &'static str {
    kind.map_or("none", NoiseLaw::as_str)
}

fn statement(plan: &RunPlan, simulated: bool, epsilon: Option<f64>) -> String {
    let settings = plan.settings();
    match (epsilon, settings.mechanism.noise_law()) {
        (Some(epsilon), noise) => {
            let noise = match noise {
                Some(NoiseLaw::Continuous) => "noise without the gaps of floating-point numbers",
                _ => "noise",
            };
            let (it, they) = if simulated {
                ("here it comes from the seed", "here they come from the seed")
            } else if settings.trust != Trust::Central {
                (
                    "here it comes from the operating system of each client",
                    "here they come from the operating system of each client",
                )
            } else {
                (
                    "here it comes from the server's operating system",
                    "here they come from the server's operating system",
                )
            };
            // Whether the coins of who takes part must be secret.
            let secret = match &settings.mechanism {
                Mechanism::Matrix(mechanism) if !mechanism.plan().amplified => {
                    format!("{noise} that nobody knows, whoever sees who takes part; {it}")
                }
                Mechanism::Local(mechanism) if mechanism.plan().steps.is_none() => {
                    format!("{noise} that nobody else knows; {it}")
                }
                _ if settings.secure_aggregation.is_some() => {
                    format!("{noise} that nobody knows, whoever sees who takes part; {it}")
                }
                Mechanism::Local(_) => {
                    format!("{noise} and batches that nobody else knows; {they}")
                }
                _ => format!("{noise} and coins that nobody knows; {they}"),
            };
            // A bound is rounded up.
            let epsilon = (epsilon * 1e4).ceil() / 1e4;
            let delta = settings.delta.value();
            let promised = format!("ε = {epsilon:.4} at δ = {delta:e}");
            match (settings.trust, settings.unit) {
                (Trust::Local, unit) => {
                    let (what, relation) = match unit {
                        PrivacyUnit::Example => (
                            "with or without any one of its examples",
                            "add-or-remove of one example",
                        ),
                        _ => (
                            "whatever data it has",
                            "replacement of a client's data by any other",
                        ),
                    };
                    let most = plan.charges(settings.rounds);
                    format!(
                        "Whoever sees everything that a client sends, the server too, learns almost the same {what}: {promised}, \
                         {relation}, noise added by each client, at most {most} rounds each. That holds for {secret}."
                    )
                }
                (Trust::Distributed, _) => {
                    let most = plan.charges(settings.rounds);
                    let assumed = assumed(plan);
                    format!(
                        "Whoever sees every opened sum and every released model, the server too, learns almost the same whatever data any \
                         one client has: {promised}, one client's update counting or counting as zero, noise added by the clients together, \
                         at most {most} rounds each. {assumed} That holds for {secret}."
                    )
                }
                _ if settings.secure_aggregation.is_some() => {
                    let assumed = assumed(plan);
                    format!(
                        "Whoever sees every released model, but not the server, learns almost the same whatever data any one client has: \
                         {promised}, one client's update counting or counting as zero, noise added by a trusted server. The server learns \
                         the sum without noise, and no single update. {assumed} That holds for {secret}."
                    )
                }
                _ => format!(
                    "Whoever sees every released model, but not the server, learns almost the same with or without any one client, all \
                     its data together: {promised}, add-or-remove of one client, noise added by a trusted server. That holds for \
                     {secret}."
                ),
            }
        }
        (None, Some(_)) => format!(
            "NOT PRIVATE: there is so little noise that no ε up to {} holds, so nothing is promised to anybody.",
            CentralGaussian::MAX_EPSILON
        ),
        (None, None) => "NOT PRIVATE: no noise was added, so nothing is promised to anybody.".to_owned(),
    }
}

/// How many clients of a round may be dishonest, in words.
fn assumed(plan: &RunPlan) -> String {
    match &plan.settings().secure_aggregation {
        Some(secure) if secure.ideal => format!(
            "In a federation it would take secure aggregation, left away here, and that of the {} or more clients in a sum at most {} \
             help the server.",
            secure.survivors_min, secure.colluding
        ),
        Some(secure) => format!(
            "It takes that of the {} or more clients in a sum at most {} help the server.",
            secure.survivors_min, secure.colluding
        ),
        None => String::new(),
    }
}

/// Who holds what, for the report.
pub(crate) fn partition(settings: &DataSettings, train: &Dataset, partition: &Partition) -> PartitionFacts {
    let summary = partition.summary(train.labels(), train.n_classes());
    let count = |count: usize| count as u64;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a median of counts is one, halves rounded"
    )]
    let examples_median = summary.median_examples.round() as u64;
    PartitionFacts {
        kind: settings.partition.kind().to_owned(),
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
        classes: count(train.n_classes()),
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
