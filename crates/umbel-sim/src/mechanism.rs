//! From the settings of `[privacy]` to the mechanism of a run, its noise calibrated.

use umbel_accounting::matrix::{
    ErrorMetric, MatrixStrategy, TreeEstimator, TreeStrategy, optimize_banded, optimize_buffered,
};
use umbel_accounting::{DpEvent, Epsilon, NeighboringRelation, NoiseMultiplier, calibrate};
use umbel_experiment::{ClipSettings, Experiment, FtrlStrategy, MechanismSettings, NoiseLevel, NoiseSampler};
use umbel_mechanisms::{
    AdaptiveClipPlan, AdaptiveGaussian, CentralGaussian, DistributedError, DistributedGaussian,
    DistributedTerms, LocalGaussian, LocalPlan, LocalSteps, MatrixGaussian, MatrixPlan, Mechanism,
    MechanismError, NoiseKind, Turns, TurnsError,
};
use umbel_protocol::{PlanError, PrivacyUnit, Sampling, SecureAggregation, Trust};

use crate::SimulateError;

/// Bands of a banded strategy where the settings say nothing: more gain little, and each costs the memory of a sum.
const MOST_BANDS: u64 = 32;

/// What the noise is for: public facts of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// Declared number of clients.
    pub(crate) clients: u64,
    /// Of all clients together, declared; what an unset divisor of private steps follows.
    pub(crate) examples: u64,
    /// Parameters of the model.
    pub(crate) dimension: usize,
    pub(crate) unit: PrivacyUnit,
    pub(crate) trust: Trust,
    pub(crate) secure_aggregation: Option<SecureAggregation>,
}

/// The mechanism of an experiment, and the most ε that it may spend.
pub(crate) fn mechanism(
    experiment: &Experiment,
    setting: Setting,
) -> Result<(Mechanism, Option<Epsilon>), SimulateError> {
    let (privacy, cohort) = (&experiment.privacy, experiment.federation.cohort);
    let kind = match privacy.noise {
        NoiseSampler::Continuous => NoiseKind::Continuous,
        // Discrete noise is that of the clients, who draw it by themselves.
        NoiseSampler::Rounded | NoiseSampler::Discrete => NoiseKind::Rounded,
    };
    let family = match privacy.mechanism {
        _ if setting.trust == Trust::Local => Family::Local(local(experiment, setting, kind)),
        // Without noise the mechanism is the same whoever would have added it.
        _ if setting.trust == Trust::Distributed && privacy.noise_level != NoiseLevel::DangerousNone => {
            Family::Distributed(distributed(experiment, setting)?)
        }
        MechanismSettings::Gaussian => {
            let sampling = Sampling::poisson(cohort, setting.clients)?;
            Family::Independent {
                sampling: setting.secure_aggregation.is_none().then_some(sampling),
            }
        }
        MechanismSettings::DpFtrl { .. } => {
            Family::Matrix(Box::new(MatrixGaussian::new(ftrl(experiment, setting, kind)?)?))
        }
        other => unreachable!("the settings know no mechanism {other:?}"),
    };
    let made = |noise_multiplier| -> Result<Mechanism, SimulateError> {
        Ok(match &family {
            Family::Independent { .. } => match privacy.clip_norm {
                ClipSettings::Fixed(clip_norm) | ClipSettings::PerLayer(clip_norm) => {
                    CentralGaussian::new(clip_norm, noise_multiplier, kind, cohort)?.into()
                }
                clip => adaptive(clip, noise_multiplier, kind, cohort)?.into(),
            },
            Family::Distributed(terms) => {
                let terms = DistributedTerms {
                    noise_multiplier,
                    ..*terms
                };
                DistributedGaussian::new(terms).map_err(refuse_terms)?.into()
            }
            Family::Local(plan) => LocalGaussian::new(with_noise(*plan, noise_multiplier))?.into(),
            Family::Matrix(mechanism) => mechanism.with_noise_multiplier(noise_multiplier)?.into(),
        })
    };
    match privacy.noise_level {
        NoiseLevel::DangerousNone => {
            let mechanism = match &family {
                Family::Local(plan) => LocalGaussian::new(*plan)?.into(),
                _ => CentralGaussian::dangerous_without_noise(privacy.clip_norm.initial(), cohort)?.into(),
            };
            Ok((mechanism, None))
        }
        NoiseLevel::Epsilon(target)
            if kind == NoiseKind::Rounded && target.value() > CentralGaussian::MAX_EPSILON =>
        {
            let most = CentralGaussian::MAX_EPSILON;
            Err(PlanError::Setting {
                key: "privacy.epsilon",
                expected: format!("at most {most}, up to which rounded noise is certified"),
                got: target.to_string(),
            }
            .into())
        }
        NoiseLevel::Epsilon(target) => {
            let is_secure = setting.secure_aggregation.is_some();
            let relation = setting.trust.relation(setting.unit, is_secure);
            let least = least_noise(experiment, target, relation, &family)?;
            Ok((made(least)?, Some(target)))
        }
        NoiseLevel::NoiseMultiplier {
            noise_multiplier,
            max_epsilon,
        } => Ok((made(noise_multiplier)?, max_epsilon)),
    }
}

fn adaptive(
    clip: ClipSettings,
    noise_multiplier: NoiseMultiplier,
    noise: NoiseKind,
    cohort: f64,
) -> Result<AdaptiveGaussian, SimulateError> {
    let ClipSettings::Adaptive {
        initial,
        smallest,
        largest,
        quantile,
        learning_rate,
        count_std_dev,
    } = clip
    else {
        unreachable!("only called for an adaptive clip norm")
    };
    Ok(AdaptiveGaussian::new(AdaptiveClipPlan {
        initial,
        smallest,
        largest,
        quantile,
        learning_rate,
        noise_multiplier,
        count_std_dev: count_std_dev.unwrap_or_else(|| (cohort / 20.0).max(noise_multiplier.value())),
        noise,
        divisor: cohort,
    })?)
}

/// Mechanisms that differ in nothing but their noise.
enum Family {
    /// With any noise multiplier.
    Distributed(DistributedTerms),
    Independent {
        /// Absent where nothing is gained from secret coins.
        sampling: Option<Sampling>,
    },
    /// Without its noise.
    Local(LocalPlan),
    /// With any noise multiplier.
    Matrix(Box<MatrixGaussian>),
}

impl Family {
    /// The whole run with this noise.
    fn event(&self, noise_multiplier: NoiseMultiplier, rounds: u64) -> Result<DpEvent, MechanismError> {
        Ok(match self {
            Self::Distributed(terms) => {
                let terms = DistributedTerms {
                    noise_multiplier,
                    ..*terms
                };
                match DistributedGaussian::new(terms) {
                    Ok(mechanism) => DpEvent::Repeated {
                        event: Box::new(mechanism.event()),
                        count: rounds.min(terms.most_participations),
                    },
                    // Noise that cannot be had protects nobody.
                    Err(_) => DpEvent::NonPrivate,
                }
            }
            Self::Independent { sampling } => {
                let release = DpEvent::Gaussian { noise_multiplier };
                DpEvent::Repeated {
                    event: Box::new(match sampling {
                        Some(sampling) => sampling.event(release),
                        None => release,
                    }),
                    count: rounds,
                }
            }
            Self::Local(plan) => DpEvent::Repeated {
                event: Box::new(LocalGaussian::new(with_noise(*plan, noise_multiplier))?.event()),
                count: rounds.min(plan.most_participations),
            },
            Self::Matrix(mechanism) => mechanism.with_noise_multiplier(noise_multiplier)?.event().clone(),
        })
    }
}

/// The least noise that keeps all rounds within the target.
fn least_noise(
    experiment: &Experiment,
    target: Epsilon,
    relation: NeighboringRelation,
    family: &Family,
) -> Result<NoiseMultiplier, SimulateError> {
    let (privacy, rounds) = (&experiment.privacy, experiment.federation.rounds);
    // Noise that cannot be drawn costs infinitely much, so the search keeps away from it.
    let whole_run = |noise_multiplier| {
        family
            .event(noise_multiplier, rounds)
            .unwrap_or(DpEvent::NonPrivate)
    };
    let least = calibrate::noise_multiplier(target, privacy.delta, privacy.accountant, relation, &whole_run)?;
    Ok(rounded_up(least))
}

fn with_noise(plan: LocalPlan, noise_multiplier: NoiseMultiplier) -> LocalPlan {
    LocalPlan {
        noise_multiplier: Some(noise_multiplier),
        ..plan
    }
}

/// What clients do together, at a noise multiplier of 1.
fn distributed(experiment: &Experiment, setting: Setting) -> Result<DistributedTerms, SimulateError> {
    let federation = &experiment.federation;
    let secure = setting.secure_aggregation.ok_or_else(|| PlanError::Setting {
        key: "secure_aggregation.enabled",
        expected: "true, or in a simulation \"ideal\", with trust \"distributed\"".to_owned(),
        got: "false".to_owned(),
    })?;
    Ok(DistributedTerms {
        clip_norm: experiment.privacy.clip_norm.initial(),
        noise_multiplier: NoiseMultiplier::new(1.0).map_err(|_| MechanismError::Strategy)?,
        dimension: setting.dimension,
        divisor: federation.cohort,
        clients_max: secure.clients_max,
        survivors_min: secure.survivors_min,
        colluding: secure.colluding,
        modulus_bits: secure.modulus_bits,
        most_participations: most_participations(experiment),
    })
}

fn refuse_terms(error: DistributedError) -> PlanError {
    PlanError::Setting {
        key: "secure_aggregation",
        expected: "terms that clients can add noise under".to_owned(),
        got: error.to_string(),
    }
}

/// In how many rounds one client takes part at most.
fn most_participations(experiment: &Experiment) -> u64 {
    let federation = &experiment.federation;
    federation
        .max_participations
        .unwrap_or(federation.rounds)
        .min(federation.rounds)
}

/// What each client does, without its noise.
fn local(experiment: &Experiment, setting: Setting, noise: NoiseKind) -> LocalPlan {
    let federation = &experiment.federation;
    let steps = experiment.training.private_steps.map(|private| {
        let rate = private.sampling_rate.value();
        let planned = rate * setting.examples as f64 / setting.clients as f64;
        LocalSteps {
            sampling_rate: private.sampling_rate,
            steps: private.steps,
            divisor: private.divisor.unwrap_or(planned),
            learning_rate: experiment.training.learning_rate,
        }
    });
    LocalPlan {
        clip_norm: experiment.privacy.clip_norm.initial(),
        noise_multiplier: None,
        noise,
        divisor: federation.cohort,
        dimension: setting.dimension,
        most_participations: most_participations(experiment),
        steps,
    }
}

/// A run of DP-FTRL at a noise multiplier of 1.
fn ftrl(experiment: &Experiment, setting: Setting, noise: NoiseKind) -> Result<MatrixPlan, SimulateError> {
    let MechanismSettings::DpFtrl {
        strategy,
        separation,
        participations,
        amplified,
    } = experiment.privacy.mechanism
    else {
        unreachable!("only called for DP-FTRL")
    };
    let (cohort, rounds) = (experiment.federation.cohort, experiment.federation.rounds);
    // As far apart as possible: then everybody of a group takes part when it is its turn.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at least 1 and at most the rounds"
    )]
    let separation = separation.unwrap_or_else(|| {
        (setting.clients as f64 / cohort)
            .floor()
            .clamp(1.0, rounds as f64) as u64
    });
    let turns =
        Turns::new(separation, participations, rounds, cohort, setting.clients).map_err(
            |error| match error {
                TurnsError::Cohort { most, .. } => PlanError::Setting {
                    key: "federation.cohort",
                    expected: format!("above 0 and at most {most}: {error}"),
                    got: cohort.to_string(),
                },
                other => PlanError::Setting {
                    key: "privacy.mechanism",
                    expected: "possible".to_owned(),
                    got: other.to_string(),
                },
            },
        )?;
    let participation = turns.participation().map_err(MechanismError::from)?;
    let length = usize::try_from(rounds).unwrap_or(usize::MAX);
    let metric = ErrorMetric::RootMeanSquare;
    let strategy = match strategy {
        FtrlStrategy::Banded { bands } => {
            let bands =
                bands.unwrap_or_else(|| usize::try_from(separation.min(MOST_BANDS).min(rounds)).unwrap_or(1));
            let best =
                optimize_banded(length, bands, &participation, metric).map_err(MechanismError::from)?;
            MatrixStrategy::Toeplitz(best.strategy)
        }
        FtrlStrategy::Blt { buffers } => {
            let best =
                optimize_buffered(length, buffers, &participation, metric).map_err(MechanismError::from)?;
            MatrixStrategy::Buffered(best.strategy)
        }
        FtrlStrategy::Tree => MatrixStrategy::Tree(TreeStrategy::new(TreeEstimator::Binary)),
    };
    let one = NoiseMultiplier::new(1.0).map_err(|_| MechanismError::Strategy)?;
    Ok(MatrixPlan {
        clip_norm: experiment.privacy.clip_norm.initial(),
        noise_multiplier: one,
        noise,
        divisor: cohort,
        dimension: setting.dimension,
        strategy,
        rounds,
        turns,
        amplified,
    })
}

/// Five significant digits, upward: a number that a person can read and type, and that does not change with the last digits of
/// an accountant.
fn rounded_up(least: NoiseMultiplier) -> NoiseMultiplier {
    let scale = 10.0_f64.powf(4.0 - least.value().log10().floor());
    let rounded = (least.value() * scale).ceil() / scale;
    // Rounding errors of these two steps may leave it a hair too small, extreme values out of range.
    NoiseMultiplier::new(rounded.max(least.value())).unwrap_or(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibrated_noise_is_rounded_up() {
        for (least, expected) in [
            (2.482_098_99, 2.4821),
            (13.895_556, 13.896),
            (0.703_333, 0.70334),
            (1.0, 1.0),
            (3.0e-12, 3.0e-12),
        ] {
            let rounded = rounded_up(NoiseMultiplier::new(least).unwrap()).value();
            assert!(
                rounded >= least && (rounded / expected - 1.0).abs() < 1e-12,
                "{least} became {rounded}"
            );
        }
    }
}
