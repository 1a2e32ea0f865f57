//! The first record of a run's ledger.

use umbel_accounting::ledger::{Header, to_hex};
use umbel_mechanisms::{NoiseKind, Provenance};

use super::{Sources, parameters_sha256};
use crate::{Opening, RunPlan, Sampling};

/// What `plan` promises, as the ledger's header says it, and the opening of its commitment to the data. The writer of the
/// ledger fills its public key in.
pub(super) fn header(plan: &RunPlan, sources: &Sources, initial: &[f32]) -> (Header, Opening) {
    let settings = plan.settings();
    let Sampling::Poisson { rate } = plan.sampling();
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
        sampling_rate: rate.value(),
        population: settings.population,
        cohort: settings.cohort,
        rounds: settings.rounds,
        round_event: plan.round_event(),
        clip_norm: settings.mechanism.quantizer().clip_norm().value(),
        grid_unit: settings.mechanism.quantizer().grid_unit(),
        noise: settings
            .mechanism
            .noise_kind()
            .map_or("none", NoiseKind::as_str)
            .to_owned(),
        dimension: initial.len() as u64,
        delta: settings.delta.value(),
        epsilon_budget: settings.epsilon_budget.map(|epsilon| epsilon.value()),
        experiment_sha256: settings.description.experiment_sha256.clone(),
        data_commitment: to_hex(&opening.commitment()),
        initial_model_sha256: to_hex(&parameters_sha256(initial)),
    };
    (header, opening)
}
