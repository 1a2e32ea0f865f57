//! The attack on an experiment: its own run, with canaries among its clients.

use std::sync::atomic::AtomicBool;

use serde::Serialize;
use umbel_accounting::AccountingError;
use umbel_accounting::ledger::Body;
use umbel_experiment::Experiment;
use umbel_mechanisms::{CentralGaussian, Mechanism, MechanismError, SimulationSeed};
use umbel_protocol::{
    ClientId, CommitmentKey, Opening, PlanError, PlanSettings, RoundId, RunPlan, Sampling, StrategySpec,
};
use umbel_sim::{Prepared, Recorder, SimulateError, Step, World};

use crate::canaries::{Canaries, TooFewDimensions};
use crate::claim::Claim;
use crate::family::Family;
use crate::observer::Observer;
use crate::outcome::{Method, Verdict, judge};
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

/// What the attacker knows.
pub const THREAT_MODEL: &str = "white box: the attacker sees the noised mean of every round, from which all released models follow, \
     and knows everything but the coins: the honest clients' updates, which are subtracted, and the canaries' updates, which it \
     chose; not which canaries are in, nor who was sampled";

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
/// The attacked run declares its canaries as further clients, at the same sampling rate, noise multiplier and clip norm; the
/// divisor grows in proportion. Its noise, coins and sums come from the same code and the same seeds as the experiment's.
/// `progress` is called after each round with rounds done and planned.
pub fn attack(
    experiment: Experiment,
    settings: &AttackSettings,
    progress: impl FnMut(u64, u64),
    stop: &AtomicBool,
) -> Result<Attack, AttackError> {
    attack_prepared(Prepared::new(experiment)?, settings, progress, stop).1
}

/// The same for an experiment whose data are read already, which comes back as it was.
pub fn attack_prepared(
    mut prepared: Prepared,
    settings: &AttackSettings,
    progress: impl FnMut(u64, u64),
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
    mut progress: impl FnMut(u64, u64),
    stop: &AtomicBool,
) -> Result<Attack, AttackError> {
    let honest = prepared.plan.settings().population;
    let planned_rounds = prepared.plan.settings().rounds;
    let rounds = settings.rounds.unwrap_or(planned_rounds).min(planned_rounds);
    let differs = differences(settings, rounds, planned_rounds, prepared);
    prepared.plan = plan_with_canaries(&prepared.plan, settings.canaries, rounds)?;
    let claim = claim(&prepared.plan)?;
    let guesses = plan_from_claim(settings.canaries, rounds, &claim);

    let clip_norm = gaussian(&prepared.plan.settings().mechanism)?
        .quantizer()
        .clip_norm()
        .value();
    let units = prepared.plan.settings().mechanism.divisor() / clip_norm;
    let canaries = Canaries::new(
        settings.canaries as usize,
        prepared.initial.len(),
        clip_norm,
        SimulationSeed::new(prepared.seed),
    )?;
    let observer = Observer::new(canaries, ClientId(honest), settings.is_shadow);
    let secret = CommitmentKey::from_secret([0; 32]);
    let mut world = World::new(prepared, secret, settings.n_threads)?.with_auditor(&observer);
    let mut model = prepared.initial.clone();
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
        observer.end_round(RoundId(metrics.round), &mean, units);
        model.copy_from_slice(parameters);
        progress(done, rounds);
    }
    drop(world);
    let verdict = judge(&observer.finish(), &claim, guesses, settings.method)?;
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
        threat_model: THREAT_MODEL,
        differs,
        not_covered: prepared.not_covered().into_iter().map(str::to_owned).collect(),
    })
}

/// The same plan with canaries among its clients.
fn plan_with_canaries(plan: &RunPlan, canaries: u32, rounds: u64) -> Result<RunPlan, AttackError> {
    let settings = plan.settings();
    let Sampling::Poisson { rate } = plan.sampling() else {
        return Err(AttackError::Unsupported {
            reason: format!(
                "its cohorts are drawn by {}, only poisson is known",
                plan.sampling().as_str()
            ),
        });
    };
    let population = settings.population + u64::from(canaries);
    #[allow(clippy::cast_precision_loss, reason = "populations are far below 2^53")]
    let cohort = if rate.value() >= 1.0 {
        population as f64
    } else {
        rate.value() * population as f64
    };
    let own = gaussian(&settings.mechanism)?;
    let clip_norm = own.quantizer().clip_norm();
    let mechanism = match own.noise_multiplier().zip(own.noise_kind()) {
        Some((multiplier, kind)) => CentralGaussian::new(clip_norm, multiplier, kind, cohort)?,
        None => CentralGaussian::dangerous_without_noise(clip_norm, cohort)?,
    };
    Ok(RunPlan::new(PlanSettings {
        population,
        cohort,
        rounds,
        mechanism: mechanism.into(),
        // A release is what the model moves by; every other strategy is computed from it.
        strategy: StrategySpec::FedAvg,
        epsilon_budget: None,
        ..settings.clone()
    })?)
}

/// The mechanism, if it is independent Gaussian noise at a fixed clip norm: what scores and bounds here are for.
pub fn gaussian(mechanism: &Mechanism) -> Result<&CentralGaussian, AttackError> {
    match mechanism {
        Mechanism::Gaussian(mechanism) => Ok(mechanism),
        _ => Err(AttackError::Unsupported {
            reason: "only independent Gaussian noise on each round's sum at a fixed clip norm can be attacked yet, not adaptive \
                     clipping, noise of the clients' own, or DP-FTRL"
                .to_owned(),
        }),
    }
}

/// What the plan claims.
fn claim(plan: &RunPlan) -> Result<Claim, AttackError> {
    let settings = plan.settings();
    let Sampling::Poisson { rate } = plan.sampling() else {
        unreachable!("checked when canaries were added");
    };
    let family = Family::new(rate, settings.rounds, settings.delta);
    Ok(Claim::new(family, rate, settings.mechanism.noise_multiplier())?)
}

fn differences(settings: &AttackSettings, rounds: u64, planned: u64, prepared: &Prepared) -> Vec<String> {
    let plan = prepared.plan.settings();
    let mut list = vec![format!(
        "{} canaries are declared beside the {} clients, at the same sampling rate, noise multiplier and clip norm",
        settings.canaries, plan.population
    )];
    if rounds < planned {
        list.push(format!(
            "{rounds} of {planned} rounds are played, and the claim is that of {rounds}"
        ));
    }
    if settings.is_shadow {
        list.push("honest clients send zeros instead of training".to_owned());
    }
    if plan.strategy != StrategySpec::FedAvg {
        list.push("the model moves by each release, whatever strategy computes from releases".to_owned());
    }
    list
}

/// Nothing of an attacked run is kept: it has no ledger.
struct Unrecorded;

impl Recorder for Unrecorded {
    fn store(&mut self, _: &Body, _: Option<&Opening>) -> Result<(), SimulateError> {
        Ok(())
    }
}
