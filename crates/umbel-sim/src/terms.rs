//! The terms of a served round of secure aggregation: the server offers them, and each client computes them again from what was signed.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use umbel_experiment::Experiment;
use umbel_protocol::{PlanSettings, RoundId, RunPlan, SecureAggregation};
use umbel_secagg::RoundConfig;

use crate::SimulateError;
use crate::aggregation::round_config;
use crate::prepare::plan;

/// What the terms of a served round depend on beside the plan.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::exhaustive_structs, reason = "both sides fill it in")]
pub struct ServedRound<'a> {
    /// What clients' certificates hold within.
    pub federation: [u8; 32],
    /// The key that signs the run's ledger: keys and signatures of one run mean nothing in another.
    pub run: [u8; 32],
    /// The round.
    pub round: RoundId,
    /// Its attempt, from 0.
    pub attempt: u32,
    /// The model that clients train from.
    pub model: &'a [f32],
    /// Length of what clients contribute.
    pub dimension: usize,
    /// How long after the offer clients may open shares.
    pub duration: Duration,
}

/// The terms of an attempt.
pub fn served_round_config(
    settings: &PlanSettings,
    secure: &SecureAggregation,
    served: &ServedRound<'_>,
) -> RoundConfig {
    let terms = round_config(
        settings,
        secure,
        served.round,
        served.attempt.into(),
        served.model,
        served.dimension,
    );
    let mut mechanism = Sha256::new();
    mechanism.update(b"umbel served round\0");
    mechanism.update(served.run);
    mechanism.update(terms.mechanism);
    RoundConfig {
        federation: served.federation,
        mechanism: mechanism.finalize().into(),
        duration_ms: u64::try_from(served.duration.as_millis()).unwrap_or(u64::MAX),
        ..terms
    }
}

/// The plan of a server's experiment as its clients compute it: everything but what the server knows of its own data. `experiment` is
/// what the server has signed, and `experiment_sha256` its hash.
///
/// # Errors
///
/// An experiment that no server could run.
pub fn client_plan(
    experiment: &Experiment,
    dimension: usize,
    experiment_sha256: &str,
) -> Result<RunPlan, SimulateError> {
    let clients = experiment
        .federation
        .clients
        .ok_or_else(|| SimulateError::Setting {
            key: "federation.clients",
            reason: "expected the number of clients from the server".to_owned(),
        })?;
    let examples = experiment.federation.examples.unwrap_or(0);
    let plan = plan(experiment, clients, examples, dimension, String::new())?;
    let mut settings = plan.settings().clone();
    experiment_sha256.clone_into(&mut settings.description.experiment_sha256);
    Ok(RunPlan::new(settings)?)
}
