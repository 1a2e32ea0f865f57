//! What there is to attack: for each kind of noise the run with canaries in it, what is seen of it, and what is claimed.

use umbel_accounting::{AccountingError, NoiseMultiplier, SamplingRate};
use umbel_mechanisms::{
    AdaptiveClipPlan, AdaptiveGaussian, CentralGaussian, LocalGaussian, LocalPlan, MatrixGaussian,
    MatrixPlan, Mechanism, SimulationSeed, Turns,
};
use umbel_protocol::{ClientId, PlanSettings, RunPlan, Sampling, StrategySpec};
use umbel_sim::Prepared;

use crate::attack::{AttackError, AttackSettings, check_reports_are_seen};
use crate::canaries::Canaries;
use crate::claim::Claim;
use crate::family::Family;
use crate::observer::View;
use crate::whitening::Whitening;

/// An attack that is set up.
#[derive(Debug)]
pub(crate) struct Scene {
    /// The run with canaries.
    pub(crate) plan: RunPlan,
    pub(crate) claim: Claim,
    pub(crate) view: View,
    pub(crate) canaries: Canaries,
    /// The client that is the first canary.
    pub(crate) first: ClientId,
    /// Rounds to play.
    pub(crate) rounds: u64,
    /// Rounds that scores are put together from by adding them up.
    pub(crate) scored: u64,
    pub(crate) threat_model: &'static str,
    /// In what the attacked run differs from the experiment's.
    pub(crate) differs: Vec<String>,
}

/// What the attacker knows where the server adds the noise.
const CENTRAL: &str = "white box: the attacker sees the noised mean of every round, from which all released models follow, \
     and knows everything but the coins: the honest clients' updates, which are subtracted, and the canaries' updates, which it \
     chose; not which canaries are in, nor who was sampled";

/// The same with DP-FTRL.
const CORRELATED: &str = "white box: the attacker sees the noised mean of every round, from which all released models follow, and \
     knows everything but which canaries are in: the honest clients' updates, which are subtracted, the canaries' updates, which it \
     chose, and who took whose turn";

/// Where each client adds its own.
const REPORTS: &str = "the server: the attacker sees every report, and knows the two updates of which each canary sends one by a \
     fair coin";

/// Where the unit is an example.
const STEPS: &str = "white box: the attacker sees every noised step of one client, of which it is sent no more than the sum, and knows \
     everything but the coins: the gradients of the client's own examples, which are subtracted, and the canaries' gradients, which \
     it chose; not which canaries are in, nor which were in a batch";

impl Scene {
    /// What `settings` make of a prepared experiment. Refuses what no attack here is sound for, with the reason.
    pub(crate) fn new(prepared: &Prepared, settings: &AttackSettings) -> Result<Self, AttackError> {
        let plan = &prepared.plan;
        check_reports_are_seen(plan)?;
        let mut scene = match &plan.settings().mechanism {
            Mechanism::Gaussian(mechanism) => central(prepared, settings, mechanism)?,
            Mechanism::Adaptive(mechanism) => adaptive(prepared, settings, mechanism)?,
            Mechanism::Matrix(mechanism) => matrix(prepared, settings, mechanism)?,
            Mechanism::Local(mechanism) if mechanism.plan().steps.is_some() => {
                steps(prepared, settings, mechanism)?
            }
            Mechanism::Local(mechanism) => reports(prepared, settings, mechanism)?,
            other => {
                return Err(AttackError::Unsupported {
                    reason: format!("no attack here knows how to score {other:?}"),
                });
            }
        };
        if plan.settings().strategy != StrategySpec::FedAvg {
            scene
                .differs
                .push("the model moves by each release, whatever strategy computes from releases".to_owned());
        }
        Ok(scene)
    }
}

/// How many rounds are played, and the remark that these are not all.
fn rounds_of(planned: u64, settings: &AttackSettings) -> (u64, Option<String>) {
    let rounds = settings.rounds.unwrap_or(planned).min(planned);
    let remark = (rounds < planned)
        .then(|| format!("{rounds} of {planned} rounds are played, and the claim is that of {rounds}"));
    (rounds, remark)
}

fn canaries(prepared: &Prepared, settings: &AttackSettings, clip_norm: f64) -> Result<Canaries, AttackError> {
    Ok(Canaries::new(
        settings.canaries as usize,
        prepared.initial.len(),
        clip_norm,
        SimulationSeed::new(prepared.seed),
    )?)
}

/// What differs where canaries are clients beside the others.
fn declared_beside(settings: &AttackSettings, population: u64, remark: Option<String>) -> Vec<String> {
    let mut differs = vec![format!(
        "{} canaries are declared beside the {population} clients, at the same sampling rate, noise multiplier and clip norm",
        settings.canaries
    )];
    differs.extend(remark);
    if settings.is_shadow {
        differs.push("honest clients send zeros instead of training".to_owned());
    }
    differs
}

/// The experiment's settings for another population.
fn with_population(
    own: &PlanSettings,
    (population, cohort, rounds): (u64, f64, u64),
    mechanism: Mechanism,
) -> PlanSettings {
    PlanSettings {
        population,
        cohort,
        rounds,
        mechanism,
        // A release is what the model moves by; every other strategy is computed from it.
        strategy: StrategySpec::FedAvg,
        epsilon_budget: None,
        ..own.clone()
    }
}

/// The rate of Poisson sampling, with population and cohort once canaries are declared too.
fn larger(plan: &RunPlan, settings: &AttackSettings) -> Result<(SamplingRate, u64, f64), AttackError> {
    let Sampling::Poisson { rate } = plan.sampling() else {
        return Err(AttackError::Unsupported {
            reason: format!(
                "its cohorts are drawn by {}, and without DP-FTRL only poisson is known",
                plan.sampling().as_str()
            ),
        });
    };
    let population = plan.settings().population + u64::from(settings.canaries);
    let cohort = if rate.value() >= 1.0 {
        to_f64(population)
    } else {
        rate.value() * to_f64(population)
    };
    Ok((rate, population, cohort))
}

fn central(
    prepared: &Prepared,
    settings: &AttackSettings,
    own: &CentralGaussian,
) -> Result<Scene, AttackError> {
    let plan = prepared.plan.settings();
    let (rate, population, cohort) = larger(&prepared.plan, settings)?;
    let (rounds, remark) = rounds_of(plan.rounds, settings);
    let clip_norm = own.quantizer().clip_norm();
    let mechanism = match own.noise_multiplier().zip(own.noise_kind()) {
        Some((multiplier, kind)) => CentralGaussian::new(clip_norm, multiplier, kind, cohort)?,
        None => CentralGaussian::dangerous_without_noise(clip_norm, cohort)?,
    };
    let family = Family::new(rate, rounds, plan.delta);
    Ok(Scene {
        plan: RunPlan::new(with_population(
            plan,
            (population, cohort, rounds),
            mechanism.into(),
        ))?,
        claim: Claim::new(family, rate, own.noise_multiplier())?,
        view: View::Means {
            contribution: 1.0,
            whitening: None,
        },
        canaries: canaries(prepared, settings, clip_norm.value())?,
        first: ClientId(plan.population),
        rounds,
        scored: rounds,
        threat_model: CENTRAL,
        differs: declared_beside(settings, plan.population, remark),
    })
}

/// Canaries are always clipped, so the clip norm grows as long as they are many; it moves by what is released, and noise in
/// proportion to it. The count of unclipped updates, of which all canaries are a part together, is left aside: so the noise that is
/// seen is a little more than what the claim is about.
fn adaptive(
    prepared: &Prepared,
    settings: &AttackSettings,
    own: &AdaptiveGaussian,
) -> Result<Scene, AttackError> {
    let plan = prepared.plan.settings();
    let (rate, population, cohort) = larger(&prepared.plan, settings)?;
    let (rounds, remark) = rounds_of(plan.rounds, settings);
    let own_plan = own.plan();
    let mechanism = AdaptiveGaussian::new(AdaptiveClipPlan {
        divisor: cohort,
        count_std_dev: own_plan.count_std_dev * cohort / plan.cohort,
        ..*own_plan
    })?;
    let multiplier = own_plan.noise_multiplier;
    let family = Family::new(rate, rounds, plan.delta);
    let contribution = multiplier.value() / mechanism.update_noise_multiplier();
    // What the clip norm can grow to in so many rounds.
    let step = own_plan.learning_rate * (1.0 - own_plan.quantile).max(own_plan.quantile);
    let largest = own_plan.initial.value() * (2.0 * step * to_f64(rounds)).exp();
    let mut differs = declared_beside(settings, plan.population, remark);
    differs.push(
        "the clip norm moves as it does with the canaries, all of which are clipped; the count of unclipped updates is not attacked"
            .to_owned(),
    );
    Ok(Scene {
        claim: Claim::new(family, rate, Some(multiplier))?.seen_with(mechanism.update_noise_multiplier()),
        plan: RunPlan::new(with_population(
            plan,
            (population, cohort, rounds),
            mechanism.into(),
        ))?,
        view: View::Means {
            contribution,
            whitening: None,
        },
        canaries: canaries(prepared, settings, largest.min(own_plan.largest.value()))?,
        first: ClientId(plan.population),
        rounds,
        scored: rounds,
        threat_model: CENTRAL,
        differs,
    })
}

/// DP-FTRL costs what its whole run costs, so that is the claim however many rounds are played. Noise helps itself where signs are
/// turned, so they are not.
fn matrix(
    prepared: &Prepared,
    settings: &AttackSettings,
    own: &MatrixGaussian,
) -> Result<Scene, AttackError> {
    let (plan, own_plan) = (prepared.plan.settings(), own.plan());
    if own_plan.amplified {
        return Err(AttackError::Unsupported {
            reason: "its noise is correlated between rounds and its claim counts on secret coins as well; no score here is known to be \
                     sound for both; attack it with `amplified` false"
                .to_owned(),
        });
    }
    let population = plan.population + u64::from(settings.canaries);
    let turns = own_plan.turns;
    let cohort = turns.expected_cohort(population);
    let turns = Turns::new(
        turns.separation(),
        Some(turns.participations()),
        plan.rounds,
        cohort,
        population,
    )
    .map_err(|error| AttackError::Unsupported {
        reason: error.to_string(),
    })?;
    let mechanism = MatrixGaussian::new(MatrixPlan {
        divisor: turns.expected_cohort(population),
        turns,
        ..own_plan.clone()
    })?;
    let rounds = settings.rounds.unwrap_or(plan.rounds).min(plan.rounds);
    let remark = (rounds < plan.rounds).then(|| {
        format!(
            "{rounds} of {} rounds are played; the claim is that of all",
            plan.rounds
        )
    });
    let full = SamplingRate::new(1.0).map_err(|error| AccountingError::OutOfReach {
        what: error.to_string(),
    })?;
    let multiplier = own_plan.noise_multiplier.value();
    let whole = NoiseMultiplier::new(multiplier / mechanism.sensitivity()).map_err(|error| {
        AccountingError::OutOfReach {
            what: error.to_string(),
        }
    })?;
    let claim = Claim::new(Family::new(full, 1, plan.delta), full, Some(whole))?;
    let length = usize::try_from(plan.rounds).unwrap_or(usize::MAX);
    let whitening = Whitening::new(&mechanism, length)?;
    let cohort = mechanism.plan().divisor;
    Ok(Scene {
        claim: claim.in_turns(multiplier, turns.separation(), turns.participations()),
        plan: RunPlan::new(with_population(
            plan,
            (population, cohort, plan.rounds),
            mechanism.into(),
        ))?,
        view: View::Means {
            contribution: 1.0,
            whitening: Some(whitening),
        },
        canaries: canaries(prepared, settings, own_plan.clip_norm.value())?.steady(),
        first: ClientId(plan.population),
        rounds,
        scored: 1,
        threat_model: CORRELATED,
        differs: declared_beside(settings, plan.population, remark),
    })
}

/// Each canary is a client by itself, whose report says which of two opposite updates it has. They are two clip norms apart; in
/// units of that the noise is half its multiplier.
fn reports(
    prepared: &Prepared,
    settings: &AttackSettings,
    own: &LocalGaussian,
) -> Result<Scene, AttackError> {
    let (plan, own_plan) = (prepared.plan.settings(), own.plan());
    let (rounds, remark) = rounds_of(plan.rounds.min(own_plan.most_participations), settings);
    let population = u64::from(settings.canaries);
    let cohort = to_f64(population);
    let mechanism = LocalGaussian::new(LocalPlan {
        divisor: cohort,
        most_participations: rounds,
        ..*own_plan
    })?;
    let full = SamplingRate::new(1.0).map_err(|error| AccountingError::OutOfReach {
        what: error.to_string(),
    })?;
    let half = own_plan
        .noise_multiplier
        .and_then(|multiplier| NoiseMultiplier::new(multiplier.value() / 2.0).ok());
    let mut differs = vec![format!(
        "only {population} canaries are played, in every round that a client may take part in: what one client sends says nothing \
         about another"
    )];
    differs.extend(remark);
    Ok(Scene {
        claim: Claim::new(Family::new(full, rounds, plan.delta), full, half)?,
        view: View::Reports {
            unit: report_unit(&mechanism)?,
            mechanism: Box::new(mechanism.clone()),
        },
        plan: RunPlan::new(with_population(
            plan,
            (population, cohort, rounds),
            mechanism.into(),
        ))?,
        canaries: canaries(prepared, settings, own_plan.clip_norm.value())?.replaced(),
        first: ClientId(0),
        rounds,
        scored: rounds,
        threat_model: REPORTS,
        differs,
    })
}

/// What one unit of what leaves a client stands for.
fn report_unit(mechanism: &LocalGaussian) -> Result<f64, AttackError> {
    let state = Mechanism::from(mechanism.clone()).begin();
    let state = state.map_err(|error| AttackError::Unsupported {
        reason: error.to_string(),
    })?;
    Ok(state.quantizer().grid_unit())
}

/// Canaries are examples of one client: gradients with orthogonal signs, each in a batch by the client's own coins.
fn steps(prepared: &Prepared, settings: &AttackSettings, own: &LocalGaussian) -> Result<Scene, AttackError> {
    let (plan, own_plan) = (prepared.plan.settings(), own.plan());
    let Some(local) = own_plan.steps else {
        unreachable!("only called for private steps")
    };
    let (rounds, remark) = rounds_of(plan.rounds.min(own_plan.most_participations), settings);
    let mechanism = LocalGaussian::new(LocalPlan {
        divisor: 1.0,
        most_participations: rounds,
        ..*own_plan
    })?;
    let n_own = prepared.examples(ClientId(0)).len();
    let mut differs = vec![format!(
        "one client is played, with {n_own} examples of its own and {} canaries, in every round that it may take part in: what other \
         clients send says nothing about its examples",
        settings.canaries
    )];
    differs.extend(remark);
    if settings.is_shadow {
        differs.push("its own examples are left out".to_owned());
    }
    let steps = rounds * u64::from(local.steps);
    let family = Family::new(local.sampling_rate, steps, plan.delta);
    let made = with_population(plan, (1, 1.0, rounds), mechanism.into());
    Ok(Scene {
        claim: Claim::new(family, local.sampling_rate, own_plan.noise_multiplier)?,
        plan: RunPlan::new(PlanSettings {
            examples: Some(n_own as u64 + u64::from(settings.canaries)),
            ..made
        })?,
        view: View::Steps {
            units: local.divisor / own_plan.clip_norm.value(),
        },
        canaries: canaries(prepared, settings, own_plan.clip_norm.value())?,
        first: ClientId(1),
        rounds,
        scored: steps,
        threat_model: STEPS,
        differs,
    })
}

#[allow(
    clippy::cast_precision_loss,
    reason = "populations and rounds are far below 2^53"
)]
fn to_f64(n: u64) -> f64 {
    n as f64
}
