//! The first record of a run's ledger.

use umbel_accounting::ledger::{AdaptiveClipFacts, Header, MatrixFacts, SecureAggregationFacts, to_hex};
use umbel_accounting::matrix::MatrixStrategy;
use umbel_mechanisms::{Mechanism, NoiseLaw, Provenance};

use super::{Sources, parameters_sha256};
use crate::{Opening, PlanError, PlanSettings, PrivacyUnit, RunPlan};

/// What `plan` promises, as the ledger's header says it, and the opening of its commitment to the data. The writer of the
/// ledger fills its public key in.
pub(super) fn header(
    plan: &RunPlan,
    sources: &Sources,
    initial: &[f32],
) -> Result<(Header, Opening), PlanError> {
    let settings = plan.settings();
    let simulated =
        [sources.noise.provenance(), sources.cohort.provenance()].contains(&Provenance::Simulated);
    let opening = sources.commitment.open_data(&settings.description.data_sha256);
    let header = Header {
        version: 1,
        run: settings.description.name.clone(),
        software: settings.description.software.clone(),
        public_key: String::new(),
        unit: settings.unit.as_str().to_owned(),
        trust: settings.trust.as_str().to_owned(),
        neighbors: plan.relation().as_str().to_owned(),
        simulated,
        accountant: settings.accountant.as_str().to_owned(),
        sampling: plan.sampling().as_str().to_owned(),
        sampling_rate: plan.sampling().rate().value(),
        population: plan.units(),
        clients: (settings.unit == PrivacyUnit::Example).then_some(settings.population),
        cohort: settings.cohort,
        rounds: settings.rounds,
        round_event: plan.round_event(),
        most_charges: plan.most_charges(),
        matrix: matrix(&settings.mechanism),
        adaptive_clip: adaptive_clip(&settings.mechanism),
        secure_aggregation: secure_aggregation(settings),
        clip_norm: settings.mechanism.clip_norm().value(),
        grid_unit: settings.mechanism.grid_unit(),
        noise: settings
            .mechanism
            .noise_law()
            .map_or("none", NoiseLaw::as_str)
            .to_owned(),
        dimension: initial.len() as u64,
        delta: settings.delta.value(),
        accounted_delta: plan.accounted_delta(initial.len())?.value(),
        epsilon_budget: settings.epsilon_budget.map(|epsilon| epsilon.value()),
        filter: None,
        public_metrics: settings.description.public_metrics.clone(),
        shared_budget: None,
        plan_sha256: String::new(),
        experiment_sha256: settings.description.experiment_sha256.clone(),
        data_commitment: to_hex(&opening.commitment()),
        initial_model_sha256: to_hex(&parameters_sha256(initial)),
    };
    Ok((header, opening))
}

/// Whose sums are opened.
fn secure_aggregation(settings: &PlanSettings) -> Option<SecureAggregationFacts> {
    let secure = settings.secure_aggregation?;
    let noise_multiplier = match &settings.mechanism {
        Mechanism::Distributed(mechanism) => Some(mechanism.terms().noise_multiplier.value()),
        _ => None,
    };
    Some(SecureAggregationFacts {
        protocol: secure.protocol().to_owned(),
        clients_max: secure.clients_max.into(),
        survivors_min: secure.survivors_min.into(),
        colluding: secure.colluding.into(),
        modulus_bits: secure.modulus_bits,
        noise_multiplier,
    })
}

/// The rule that the clip norm follows.
fn adaptive_clip(mechanism: &Mechanism) -> Option<AdaptiveClipFacts> {
    let Mechanism::Adaptive(mechanism) = mechanism else {
        return None;
    };
    let plan = mechanism.plan();
    Some(AdaptiveClipFacts {
        quantile: plan.quantile,
        learning_rate: plan.learning_rate,
        smallest: plan.smallest.value(),
        largest: plan.largest.value(),
        count_std_dev: mechanism.count_std_dev(),
        indicator: mechanism.indicator(),
    })
}

/// What the event of a run of DP-FTRL was computed from.
fn matrix(mechanism: &Mechanism) -> Option<MatrixFacts> {
    let Mechanism::Matrix(mechanism) = mechanism else {
        return None;
    };
    let plan = mechanism.plan();
    let (strategy, coefficients) = match &plan.strategy {
        MatrixStrategy::Buffered(buffered) => ("blt", [buffered.decays(), buffered.scales()].concat()),
        MatrixStrategy::Toeplitz(toeplitz) => ("banded", toeplitz.coefficients().to_vec()),
        MatrixStrategy::Tree(_) => ("tree", Vec::new()),
        other => unreachable!("no mechanism has the strategy {other:?}"),
    };
    Some(MatrixFacts {
        strategy: strategy.to_owned(),
        coefficients,
        separation: plan.turns.separation(),
        participations: plan.turns.participations(),
        noise_multiplier: plan.noise_multiplier.value(),
        sensitivity: mechanism.sensitivity(),
        amplified: plan.amplified,
    })
}
