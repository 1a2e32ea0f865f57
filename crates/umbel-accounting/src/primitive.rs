//! The common form of events: what an accountant composes once neighbouring relation, nesting and sampling are resolved.

use crate::binomial::upper_tail;
use crate::{DpEvent, NeighboringRelation, NoiseMultiplier};

/// One application of a mechanism, as the pair of output laws that is worst among neighbours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Primitive {
    /// Discrete Gaussian or Laplace noise on one integer that moves by `shift`, on a Poisson sample.
    DiscreteNoise {
        noise: DiscreteNoise,
        shift: u64,
        rate: f64,
    },
    /// Sample of fixed size without replacement, replace-one; `noise` is relative to 2C.
    FixedSizeGaussian { rate: f64, noise: f64 },
    /// Two normal laws whose means are `mu` standard deviations apart.
    Gaussian { mu: f64 },
    /// Laplace noise of scale `scale` on a number that moves by one, on a Poisson sample.
    Laplace { rate: f64, scale: f64 },
    /// No guarantee.
    NonPrivate,
    /// (1−q)N(0) + qN(1) against N(0), both ways, at standard deviation `noise`.
    SampledGaussian { rate: f64, noise: f64 },
    /// (1−q)N(0) + qN(1) against (1−q)N(0) + qN(−1) at standard deviation `noise`.
    SampledReplaceOneGaussian { rate: f64, noise: f64 },
    /// Skellam noise; norms and variance in grid units, on a Poisson sample.
    Skellam {
        l1: f64,
        l2: f64,
        variance: f64,
        rate: f64,
    },
    /// With probability `truncation` the replace-one pair at `truncated_rate` and half the noise, else the sampled pair.
    TruncatedGaussian {
        rate: f64,
        noise: f64,
        truncation: f64,
        truncated_rate: f64,
    },
    /// ρ-zCDP on a Poisson sample.
    ZeroConcentrated { rho: f64, rate: f64 },
}

/// A noise law on the integers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum DiscreteNoise {
    /// Mass proportional to exp(−k²/2σ²).
    Gaussian { sigma: f64 },
    /// Mass proportional to exp(−|k|/b).
    Laplace { scale: f64 },
}

impl Primitive {
    /// Bound on the total variation distance of the pair: the chance that the unit is in the sample, or that it makes
    /// another one leave.
    pub(crate) fn chance_to_matter(&self) -> f64 {
        match *self {
            Self::DiscreteNoise { rate, .. }
            | Self::FixedSizeGaussian { rate, .. }
            | Self::Laplace { rate, .. }
            | Self::SampledGaussian { rate, .. }
            | Self::SampledReplaceOneGaussian { rate, .. }
            | Self::Skellam { rate, .. }
            | Self::ZeroConcentrated { rate, .. } => rate,
            Self::Gaussian { .. } | Self::NonPrivate | Self::TruncatedGaussian { .. } => 1.0,
        }
    }
}

/// How often each primitive was applied.
pub(crate) type Applications = Vec<(Primitive, u64)>;

/// Counts stay exactly representable as `f64`.
const MOST_APPLICATIONS: u64 = 1 << 53;

/// Splits an event into primitives, or says in words why it has no sound cost under this relation.
pub(crate) fn resolve(
    event: &DpEvent,
    relation: NeighboringRelation,
    count: u64,
) -> Result<Applications, String> {
    let mut applications = Vec::new();
    resolve_into(&mut applications, event, relation, 1.0, count)?;
    Ok(applications)
}

/// Adds `count` applications of `primitive` to what is there already. Gaussians merge into one.
pub(crate) fn add(applications: &mut Applications, primitive: Primitive, count: u64) -> Result<(), String> {
    if count == 0 {
        return Ok(());
    }
    if let Some((_, present)) = applications.iter_mut().find(|(other, _)| *other == primitive) {
        let sum = present
            .checked_add(count)
            .filter(|&sum| sum <= MOST_APPLICATIONS)
            .ok_or_else(too_many)?;
        *present = sum;
    } else if count <= MOST_APPLICATIONS {
        applications.push((primitive, count));
    } else {
        return Err(too_many());
    }
    Ok(())
}

fn too_many() -> String {
    "more than 2^53 applications".to_owned()
}

fn resolve_into(
    into: &mut Applications,
    event: &DpEvent,
    relation: NeighboringRelation,
    rate: f64,
    count: u64,
) -> Result<(), String> {
    if count == 0 {
        return Ok(());
    }
    match event {
        DpEvent::Composed(events) if rate >= 1.0 => events
            .iter()
            .try_for_each(|event| resolve_into(into, event, relation, rate, count)),
        DpEvent::Repeated { event, count: inner } if rate >= 1.0 => {
            let count = count.checked_mul(*inner).ok_or_else(too_many)?;
            resolve_into(into, event, relation, rate, count)
        }
        DpEvent::PoissonSampled { sampling_rate, event } => {
            resolve_into(into, event, relation, rate * sampling_rate.value(), count)
        }
        DpEvent::FixedSizeSampled {
            event,
            population_size,
            sample_size,
        } => {
            let primitive = fixed_size(event, relation, rate, *population_size, *sample_size)?;
            match primitive {
                Some(primitive) => add(into, primitive, count),
                None => resolve_into(into, event, relation, rate, count),
            }
        }
        DpEvent::TruncatedPoissonSampled {
            cap,
            event,
            population_size,
            sampling_rate,
        } => {
            let sampling_rate = rate * sampling_rate.value();
            if *population_size <= *cap {
                return resolve_into(into, event, relation, sampling_rate, count);
            }
            if rate < 1.0 {
                return Err("truncated sampling inside another sampling has no theorem".to_owned());
            }
            add(
                into,
                truncated(event, relation, sampling_rate, *population_size, *cap)?,
                count,
            )
        }
        _ => add(into, single(event, relation, rate)?, count),
    }
}

/// One event that is neither a composition at rate one nor a sampling.
fn single(event: &DpEvent, relation: NeighboringRelation, rate: f64) -> Result<Primitive, String> {
    if contains_non_private(event) {
        return Ok(Primitive::NonPrivate);
    }
    if let Some(squared) = gaussian_mu_squared(event) {
        let mu = squared.sqrt();
        return if mu <= 0.0 || rate >= 1.0 {
            finite_gaussian(mu * relation.sensitivity())
        } else {
            let noise = checked_noise(1.0 / mu)?;
            Ok(match relation {
                NeighboringRelation::AddOrRemoveOne | NeighboringRelation::ReplaceByZero => {
                    Primitive::SampledGaussian { rate, noise }
                }
                NeighboringRelation::ReplaceOne => Primitive::SampledReplaceOneGaussian { rate, noise },
            })
        };
    }
    if rate < 1.0 && relation == NeighboringRelation::ReplaceOne {
        return Err(
            "Poisson sampling under replace-one is proven here for Gaussian noise only; use add-remove or \
                    replace-by-zero"
                .to_owned(),
        );
    }
    let factor = relation.sensitivity();
    match event {
        DpEvent::Laplace { noise_multiplier } => Ok(Primitive::Laplace {
            rate,
            scale: noise_multiplier.value() / factor,
        }),
        DpEvent::DiscreteLaplace {
            clip_norm,
            noise_scale,
        } => {
            let noise = DiscreteNoise::Laplace {
                scale: noise_scale.value(),
            };
            Ok(Primitive::DiscreteNoise {
                noise,
                shift: shift(clip_norm.value(), factor)?,
                rate,
            })
        }
        DpEvent::DiscreteGaussian {
            clip_norm,
            dimension: 1,
            noise_std_dev,
        } => {
            let noise = DiscreteNoise::Gaussian {
                sigma: noise_std_dev.value(),
            };
            Ok(Primitive::DiscreteNoise {
                noise,
                shift: shift(clip_norm.value(), factor)?,
                rate,
            })
        }
        // Canonne, Kamath, Steinke 2020, theorem 4: Δ²/2σ²-zCDP in every dimension.
        DpEvent::DiscreteGaussian {
            clip_norm,
            dimension: _,
            noise_std_dev,
        } => {
            let ratio = factor * clip_norm.value() / noise_std_dev.value();
            Ok(Primitive::ZeroConcentrated {
                rho: 0.5 * ratio * ratio,
                rate,
            })
        }
        DpEvent::Skellam {
            l1_clip_norm,
            l2_clip_norm,
            noise_std_dev,
        } => Ok(Primitive::Skellam {
            l1: factor * l1_clip_norm.value(),
            l2: factor * l2_clip_norm.value(),
            variance: noise_std_dev.value() * noise_std_dev.value(),
            rate,
        }),
        DpEvent::ZeroConcentrated { rho } => Ok(Primitive::ZeroConcentrated {
            rho: factor * factor * rho.value(),
            rate,
        }),
        DpEvent::Composed(_) | DpEvent::Repeated { .. } => {
            Err("several releases from one sample are accounted for Gaussian noise only".to_owned())
        }
        other => Err(format!("there is no theorem for {other:?} in this place")),
    }
}

/// µ² of everything that is one joint Gaussian release, for contributions that move by C; `None` for anything else.
///
/// Releases from the *same* sample are one event whose µ² is the sum of theirs: correlated outputs are not separate.
fn gaussian_mu_squared(event: &DpEvent) -> Option<f64> {
    let from_noise = |noise: &NoiseMultiplier| 1.0 / (noise.value() * noise.value());
    #[allow(
        clippy::cast_precision_loss,
        reason = "a count in a cost: rounding is far below the accounted error"
    )]
    match event {
        DpEvent::Gaussian { noise_multiplier } => Some(from_noise(noise_multiplier)),
        DpEvent::MatrixMechanism {
            noise_multiplier,
            sensitivity,
        } => Some(sensitivity.value() * sensitivity.value() * from_noise(noise_multiplier)),
        DpEvent::Tree {
            epochs,
            noise_multiplier,
            steps,
        } => {
            // Every leaf lies in as many nodes as the number of steps has binary digits.
            let nodes = f64::from(u64::BITS - steps.leading_zeros());
            Some(*epochs as f64 * nodes * from_noise(noise_multiplier))
        }
        DpEvent::Composed(events) => events.iter().map(gaussian_mu_squared).sum(),
        DpEvent::Repeated { event, count } => {
            gaussian_mu_squared(event).map(|squared| squared * *count as f64)
        }
        _ => None,
    }
}

fn contains_non_private(event: &DpEvent) -> bool {
    match event {
        DpEvent::NonPrivate => true,
        DpEvent::Composed(events) => events.iter().any(contains_non_private),
        DpEvent::Repeated { event, count } => *count > 0 && contains_non_private(event),
        _ => false,
    }
}

/// `None` where the sample is everybody, so that the inner event counts as it is.
fn fixed_size(
    event: &DpEvent,
    relation: NeighboringRelation,
    rate: f64,
    population_size: u64,
    sample_size: u64,
) -> Result<Option<Primitive>, String> {
    if relation != NeighboringRelation::ReplaceOne {
        return Err("a sample of fixed size has a theorem under replace-one only; use replace-one, or Poisson sampling"
            .to_owned());
    }
    if sample_size == 0 || sample_size > population_size {
        return Err(format!(
            "the sample size must be between 1 and the population size {population_size}, got {sample_size}"
        ));
    }
    if sample_size == population_size {
        return Ok(None);
    }
    if rate < 1.0 {
        return Err("a sample of fixed size inside another sampling has no theorem".to_owned());
    }
    if contains_non_private(event) {
        return Ok(Some(Primitive::NonPrivate));
    }
    let Some(squared) = gaussian_mu_squared(event) else {
        return Err("a sample of fixed size is accounted for Gaussian noise only".to_owned());
    };
    let mu = squared.sqrt() * relation.sensitivity();
    if mu <= 0.0 {
        return Ok(Some(Primitive::Gaussian { mu: 0.0 }));
    }
    #[allow(
        clippy::cast_precision_loss,
        reason = "a ratio of counts, rounded like any other input"
    )]
    let rate = sample_size as f64 / population_size as f64;
    Ok(Some(Primitive::FixedSizeGaussian {
        rate,
        noise: checked_noise(1.0 / mu)?,
    }))
}

/// The bound of arXiv 2508.15089 as in dp-accounting 0.6: where the others alone fill the cap, the unit displaces one of
/// them, which the replace-one pair at twice the shift covers; elsewhere sampling is ordinary.
fn truncated(
    event: &DpEvent,
    relation: NeighboringRelation,
    rate: f64,
    population_size: u64,
    cap: u64,
) -> Result<Primitive, String> {
    if relation == NeighboringRelation::ReplaceOne {
        return Err(
            "truncated Poisson sampling has a theorem under add-remove and replace-by-zero only".to_owned(),
        );
    }
    if cap == 0 {
        return Err("the cap of a truncated sample must be at least 1".to_owned());
    }
    if population_size > MOST_APPLICATIONS {
        return Err("the population is larger than 2^53".to_owned());
    }
    if contains_non_private(event) {
        return Ok(Primitive::NonPrivate);
    }
    let Some(squared) = gaussian_mu_squared(event) else {
        return Err("truncated Poisson sampling is accounted for Gaussian noise only".to_owned());
    };
    let mu = squared.sqrt();
    if mu <= 0.0 {
        return Ok(Primitive::Gaussian { mu: 0.0 });
    }
    // Tails are rounded up: both a higher chance of truncation and a higher rate under it cost more.
    let truncation = (upper_tail(population_size - 1, rate, cap) * ROUND_UP).min(1.0);
    if truncation <= 0.0 {
        return single(event, relation, rate);
    }
    #[allow(clippy::cast_precision_loss, reason = "at most 2^53")]
    let share = cap as f64 / population_size as f64;
    let truncated_rate =
        (upper_tail(population_size, rate, cap + 1) * share / truncation * ROUND_UP * ROUND_UP).min(1.0);
    let noise = checked_noise(1.0 / mu)?;
    Ok(Primitive::TruncatedGaussian {
        rate,
        noise,
        truncation,
        truncated_rate,
    })
}

/// Covers the relative error of the binomial tails.
const ROUND_UP: f64 = 1.0 + 1e-8;

fn finite_gaussian(mu: f64) -> Result<Primitive, String> {
    if mu <= LARGEST_MU {
        Ok(Primitive::Gaussian { mu })
    } else {
        Err(out_of_range())
    }
}

fn checked_noise(noise: f64) -> Result<f64, String> {
    if (1.0 / LARGEST_MU..=LARGEST_MU).contains(&noise) {
        Ok(noise)
    } else {
        Err(out_of_range())
    }
}

fn out_of_range() -> String {
    format!(
        "the ratio of noise to sensitivity is outside {:e} to {LARGEST_MU:e}",
        1.0 / LARGEST_MU
    )
}

/// Beyond this squares and exponents leave the range of `f64`.
const LARGEST_MU: f64 = 1e60;

/// By how much one unit moves an integer, at most.
fn shift(clip_norm: f64, factor: f64) -> Result<u64, String> {
    let shift = clip_norm.floor() * factor;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range has just been checked"
    )]
    if shift < 1e15 {
        Ok(shift as u64)
    } else {
        Err(format!("the clip norm {clip_norm:e} is too large for a grid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SamplingRate, Sensitivity};

    fn gaussian(noise: f64) -> DpEvent {
        DpEvent::Gaussian {
            noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
        }
    }

    fn sampled(rate: f64, event: DpEvent) -> DpEvent {
        DpEvent::PoissonSampled {
            sampling_rate: SamplingRate::new(rate).unwrap(),
            event: Box::new(event),
        }
    }

    #[test]
    fn several_gaussian_releases_of_one_sample_are_one_event() {
        let joint = sampled(0.1, DpEvent::Composed(vec![gaussian(3.0), gaussian(4.0)]));
        let resolved = resolve(&joint, NeighboringRelation::AddOrRemoveOne, 7).unwrap();
        let [(Primitive::SampledGaussian { rate, noise }, 7)] = resolved[..] else {
            panic!("{resolved:?}")
        };
        assert!((rate - 0.1).abs() < 1e-15 && (noise - 2.4).abs() < 1e-14);
    }

    #[test]
    fn replace_one_doubles_the_shift_and_nothing_else() {
        let resolved = resolve(&gaussian(2.0), NeighboringRelation::ReplaceOne, 1).unwrap();
        assert_eq!(resolved, [(Primitive::Gaussian { mu: 1.0 }, 1)]);
        let matrix = DpEvent::MatrixMechanism {
            noise_multiplier: NoiseMultiplier::new(8.0).unwrap(),
            sensitivity: Sensitivity::new(4.0).unwrap(),
        };
        let resolved = resolve(&matrix, NeighboringRelation::ReplaceByZero, 1).unwrap();
        assert_eq!(resolved, [(Primitive::Gaussian { mu: 0.5 }, 1)]);
    }

    #[test]
    fn fixed_size_samples_need_replace_one() {
        let event = DpEvent::FixedSizeSampled {
            event: Box::new(gaussian(4.0)),
            population_size: 100,
            sample_size: 10,
        };
        for relation in [
            NeighboringRelation::AddOrRemoveOne,
            NeighboringRelation::ReplaceByZero,
        ] {
            assert!(
                resolve(&event, relation, 1)
                    .unwrap_err()
                    .contains("replace-one only")
            );
        }
        let resolved = resolve(&event, NeighboringRelation::ReplaceOne, 5).unwrap();
        assert_eq!(
            resolved,
            [(
                Primitive::FixedSizeGaussian {
                    rate: 0.1,
                    noise: 2.0
                },
                5
            )]
        );
    }

    #[test]
    fn counts_that_overflow_are_refused() {
        let event = DpEvent::Repeated {
            event: Box::new(gaussian(1.0)),
            count: u64::MAX,
        };
        assert!(resolve(&event, NeighboringRelation::AddOrRemoveOne, 2).is_err());
        assert!(
            resolve(&event, NeighboringRelation::AddOrRemoveOne, 0)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn nothing_without_a_guarantee_hides_in_a_sample() {
        let event = sampled(1e-9, DpEvent::Composed(vec![gaussian(1.0), DpEvent::NonPrivate]));
        let resolved = resolve(&event, NeighboringRelation::AddOrRemoveOne, 1).unwrap();
        assert_eq!(resolved, [(Primitive::NonPrivate, 1)]);
    }
}
