//! The attack on an experiment: its own run, with canaries among its clients.

use std::sync::atomic::AtomicBool;

use serde::Serialize;
use umbel_accounting::AccountingError;
use umbel_accounting::ledger::Body;
use umbel_experiment::Experiment;
use umbel_mechanisms::{CentralGaussian, Mechanism, MechanismError};
use umbel_protocol::{CommitmentKey, Opening, PlanError, RoundId, RunPlan};
use umbel_sim::{Prepared, Recorder, SimulateError, Step, World};

use crate::canaries::TooFewDimensions;
use crate::observer::Observer;
use crate::outcome::{Method, Verdict, judge_with};
use crate::scene::Scene;
use crate::scoring::plan_from_claim;

/// How an experiment is attacked.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::exhaustive_structs, reason = "a plain record")]
pub struct AttackSettings {
    /// Canaries, each in by a fair coin.
    pub canaries: u32,
    /// Rounds to attack, at most the experiment's; all if absent.
    pub rounds: Option<u64>,
    /// Honest clients send zeros instead of training. What an attacker who knows their updates sees is the same.
    pub is_shadow: bool,
    /// The method whose bound is compared with the claim, named before the run.
    pub method: Method,
    /// Threads to train on.
    pub n_threads: usize,
}

/// What an attack is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever shows progress must name every stage"
)]
pub enum Stage {
    /// Reading data, calibrating noise, and choosing the number of guesses.
    Preparing,
    /// Playing the run.
    Rounds,
    /// Computing bounds.
    Judging,
}

/// What was attacked and what was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Attack {
    /// Name of the experiment.
    pub name: String,
    /// Seed of everything random.
    pub seed: u64,
    /// What was found.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The privacy unit.
    pub unit: &'static str,
    /// Who adds the noise.
    pub trust: &'static str,
    /// The neighbouring relation.
    pub neighbors: &'static str,
    /// Noise and coins come from the seed.
    pub simulated: bool,
    /// The claimed noise multiplier; none without noise.
    pub noise_multiplier: Option<f64>,
    /// The probability with which a client takes part in a round.
    pub sampling_rate: f64,
    /// What the attacker knows.
    pub threat_model: &'static str,
    /// In what the attacked run differs from the experiment's.
    pub differs: Vec<String>,
    /// What neither the claim nor the attack covers.
    pub not_covered: Vec<String>,
}

/// Why an experiment was not attacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttackError {
    /// A bound could not be computed.
    #[error(transparent)]
    Accounting(#[from] AccountingError),
    /// The mechanism could not be built for the larger population.
    #[error("`privacy`: {0}")]
    Mechanism(#[from] MechanismError),
    /// The plan with canaries is refused.
    #[error("with canaries as declared clients: {0}")]
    Plan(#[from] PlanError),
    /// The run failed.
    #[error(transparent)]
    Simulate(#[from] SimulateError),
    /// The attack was stopped before its end.
    #[error("stopped before the attack was finished; nothing can be said of a part")]
    Stopped,
    /// Fewer parameters than canaries.
    #[error("--canaries: {0}")]
    TooFewDimensions(#[from] TooFewDimensions),
    /// A mechanism that no attack here knows how to score.
    #[error("cannot attack this experiment: {reason}")]
    Unsupported {
        /// What is missing.
        reason: String,
    },
}

/// Trains with canaries, attacks what is released, and bounds ε from below. `experiment.seed` must be set.
///
/// With noise on the sum the attacked run declares its canaries as further clients, at the same sampling rate, noise multiplier and
/// clip norm; the divisor grows in proportion. With noise on each client the canaries are clients by themselves, with unit `example`
/// examples of one client. Noise, coins and sums come from the same code and the same seeds as the experiment's.
/// `progress` is told of each stage's steps, done and planned.
pub fn attack(
    experiment: Experiment,
    settings: &AttackSettings,
    mut progress: impl FnMut(Stage, u64, u64),
    stop: &AtomicBool,
) -> Result<Attack, AttackError> {
    progress(Stage::Preparing, 0, 1);
    attack_prepared(Prepared::new(experiment)?, settings, progress, stop).1
}

/// The same for an experiment whose data are read already, which comes back as it was.
pub fn attack_prepared(
    mut prepared: Prepared,
    settings: &AttackSettings,
    progress: impl FnMut(Stage, u64, u64),
    stop: &AtomicBool,
) -> (Prepared, Result<Attack, AttackError>) {
    let own = prepared.plan.clone();
    let result = attack_with(&mut prepared, settings, progress, stop);
    prepared.plan = own;
    (prepared, result)
}

fn attack_with(
    prepared: &mut Prepared,
    settings: &AttackSettings,
    mut progress: impl FnMut(Stage, u64, u64),
    stop: &AtomicBool,
) -> Result<Attack, AttackError> {
    let scene = Scene::new(prepared, settings)?;
    prepared.plan = scene.plan;
    let (claim, rounds) = (scene.claim, scene.rounds);
    let guesses = plan_from_claim(settings.canaries, scene.scored, &claim, &mut |done, total| {
        progress(Stage::Preparing, done, total);
    });
    let observer = Observer::new(scene.canaries, scene.first, settings.is_shadow).with_view(scene.view);
    let secret = CommitmentKey::from_secret([0; 32]);
    let mut world = World::new(prepared, secret, settings.n_threads)?.with_auditor(&observer);
    let mut model = prepared.initial.clone();
    let divisor = prepared.plan.settings().mechanism.divisor();
    let clip_norm = prepared.plan.settings().mechanism.clip_norm().value();
    for done in 1..=rounds {
        let Step::Round(metrics) = world.step(&mut Unrecorded, stop)? else {
            return Err(AttackError::Stopped);
        };
        let parameters = world.run().parameters();
        let mean: Vec<f32> = parameters
            .iter()
            .zip(&model)
            .map(|(new, old)| new - old)
            .collect();
        let units = divisor / metrics.clip_norm.unwrap_or(clip_norm);
        observer.end_round(RoundId(metrics.round), &mean, units);
        model.copy_from_slice(parameters);
        progress(Stage::Rounds, done, rounds);
    }
    drop(world);
    let verdict = judge_with(
        &observer.finish(),
        &claim,
        guesses,
        settings.method,
        &mut |done, total| progress(Stage::Judging, done, total),
    )?;
    let plan = prepared.plan.settings();
    Ok(Attack {
        name: plan.description.name.clone(),
        seed: prepared.seed,
        verdict,
        unit: plan.unit.as_str(),
        trust: plan.trust.as_str(),
        neighbors: prepared.plan.relation().as_str(),
        simulated: true,
        noise_multiplier: plan
            .mechanism
            .noise_multiplier()
            .map(|multiplier| multiplier.value()),
        sampling_rate: claim.rate(),
        threat_model: scene.threat_model,
        differs: scene.differs,
        not_covered: prepared.not_covered().into_iter().map(str::to_owned).collect(),
    })
}

/// Refuses a run in which nobody sees a client's report, which every attack here plays or replaces.
pub(crate) fn check_reports_are_seen(plan: &RunPlan) -> Result<(), AttackError> {
    match plan.settings().secure_aggregation {
        None => Ok(()),
        Some(_) => Err(AttackError::Unsupported {
            reason: "a run with secure aggregation shows no single report; set secure_aggregation.enabled = false, which under trust \
                     \"central\" and \"local\" adds the same noise to the same sum"
                .to_owned(),
        }),
    }
}

/// The mechanism, if it is independent Gaussian noise on each round's sum at a fixed clip norm: what `audit mechanism` applies.
pub fn gaussian(mechanism: &Mechanism) -> Result<&CentralGaussian, AttackError> {
    match mechanism {
        Mechanism::Gaussian(mechanism) => Ok(mechanism),
        _ => Err(AttackError::Unsupported {
            reason: "one application by itself is known for independent Gaussian noise on a round's sum at a fixed clip norm only; \
                     `umbel audit attack` attacks the whole run"
                .to_owned(),
        }),
    }
}

/// Nothing of an attacked run is kept: it has no ledger.
pub(crate) struct Unrecorded;

impl Recorder for Unrecorded {
    fn store(&mut self, _: &Body, _: Option<&Opening>) -> Result<(), SimulateError> {
        Ok(())
    }
}
