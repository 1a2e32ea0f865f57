//! A plan as it stands on the command line, and what it costs.

use umbel_accounting::{
    AccountantKind, AccountingError, Delta, DpEvent, EpsilonBounds, NeighboringRelation, NoiseMultiplier,
    SamplingRate, accountant,
};

use crate::args::budget::{AssumptionsArgs, Sampling, TermsArgs};
use crate::output::Usage;

/// What ε depends on besides noise and steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) accountant: AccountantKind,
    pub(super) delta: Delta,
    pub(super) relation: NeighboringRelation,
    pub(super) sampling: Sampling,
    /// As given; without influence where nothing is assumed of the sampling.
    pub(super) rate: Option<SamplingRate>,
    choice: Choice,
}

/// How the units of a step are chosen, as the accountant must know it.
#[derive(Debug, Clone, Copy)]
enum Choice {
    Everybody,
    FixedSize { population_size: u64, sample_size: u64 },
    Independent(SamplingRate),
}

impl Terms {
    pub(super) fn new(args: &TermsArgs) -> anyhow::Result<Self> {
        Self::by(args.accountant.kind(), &args.assumptions)
    }

    /// By the accountant that the command asks for.
    pub(super) fn by(accountant: AccountantKind, args: &AssumptionsArgs) -> anyhow::Result<Self> {
        let (delta, relation) = (args.delta.delta, args.neighbors.relation());
        Self::of(accountant, delta, relation, args.sampling, args.sampling_rate)
    }

    /// An error where the sampling needs a rate and there is none, or cannot have this one.
    pub(super) fn of(
        accountant: AccountantKind,
        delta: Delta,
        relation: NeighboringRelation,
        sampling: Sampling,
        rate: Option<SamplingRate>,
    ) -> anyhow::Result<Self> {
        let choice = match (sampling, rate) {
            (Sampling::None, _) => Choice::Everybody,
            (Sampling::Poisson, Some(rate)) => Choice::Independent(rate),
            (Sampling::Fixed, Some(rate)) => {
                let (sample_size, population_size) = counts(rate.value()).ok_or_else(|| {
                    anyhow::anyhow!(
                        "a sample of fixed size at rate {:e} would need more than 2^63 units",
                        rate.value()
                    )
                })?;
                Choice::FixedSize {
                    population_size,
                    sample_size,
                }
            }
            (Sampling::Poisson | Sampling::Fixed, None) => {
                let name = sampling.as_str();
                return Err(Usage(anyhow::anyhow!(
                    "--sampling-rate is missing: with --sampling {name} it must be a number above 0 and at most 1"
                ))
                .into());
            }
        };
        Ok(Self {
            accountant,
            delta,
            relation,
            sampling,
            rate,
            choice,
        })
    }

    /// What one step costs.
    pub(super) fn step(&self, noise_multiplier: NoiseMultiplier) -> DpEvent {
        let event = Box::new(DpEvent::Gaussian { noise_multiplier });
        match self.choice {
            Choice::Everybody => *event,
            Choice::FixedSize {
                population_size,
                sample_size,
            } => DpEvent::FixedSizeSampled {
                event,
                population_size,
                sample_size,
            },
            Choice::Independent(sampling_rate) => DpEvent::PoissonSampled { sampling_rate, event },
        }
    }

    /// What `count` applications of `event` cost.
    pub(super) fn bounds(&self, event: &DpEvent, count: u64) -> Result<EpsilonBounds, AccountingError> {
        let mut accountant = accountant(self.accountant, self.relation);
        accountant.compose(event, count)?;
        accountant.epsilon(self.delta)
    }
}

/// A sample size and a population size whose quotient is exactly `rate`, a number above 0 and at most 1: the first
/// convergent of its continued fraction that rounds to it. The cost depends on the quotient only.
#[allow(clippy::float_cmp, reason = "the very same number is asked for")]
#[allow(clippy::cast_precision_loss, reason = "rounding is what is compared")]
fn counts(rate: f64) -> Option<(u64, u64)> {
    let (mut numerator, mut denominator) = ratio(rate)?;
    let (mut before, mut now) = ((0_u128, 1_u128), (1_u128, 0_u128));
    while denominator > 0 {
        let whole = numerator / denominator;
        (numerator, denominator) = (denominator, numerator % denominator);
        (before, now) = (now, (whole * now.0 + before.0, whole * now.1 + before.1));
        let (sample, population) = (u64::try_from(now.0).ok()?, u64::try_from(now.1).ok()?);
        if population > 1 << 63 {
            return None;
        }
        if sample > 0 && sample <= population && sample as f64 / population as f64 == rate {
            return Some((sample, population));
        }
    }
    None
}

/// A number above 0 and at most 1 as an exact quotient of whole numbers, unless it is below 2^-70.
fn ratio(value: f64) -> Option<(u128, u128)> {
    const FRACTION_BITS: u32 = f64::MANTISSA_DIGITS - 1;
    let bits = value.to_bits();
    let exponent = u32::try_from(bits >> FRACTION_BITS).ok()?;
    let significand = (bits & ((1 << FRACTION_BITS) - 1)) | (1 << FRACTION_BITS);
    // The value is significand / 2^power; 1023 is the bias of the stored exponent.
    let power = (1023 + FRACTION_BITS)
        .checked_sub(exponent)
        .filter(|power| *power <= 122)?;
    Some((u128::from(significand), 1 << power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_quotient_of_counts() {
        for (rate, expected) in [
            (1.0, (1, 1)),
            (0.5, (1, 2)),
            (0.01, (1, 100)),
            (256.0 / 60_000.0, (8, 1875)),
            (0.37, (37, 100)),
            (1e-9, (1, 1_000_000_000)),
        ] {
            assert_eq!(counts(rate), Some(expected), "{rate}");
        }
        assert_eq!(counts(1e-30), None);
        assert_eq!(counts(f64::MIN_POSITIVE / 8.0), None);
    }

    #[test]
    #[allow(clippy::float_cmp, reason = "the very same number is promised")]
    #[allow(clippy::cast_precision_loss, reason = "rounding is what is tested")]
    fn every_rate_is_met_exactly() {
        let mut state = 1_u64;
        for _ in 0..10_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let uniform = ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            for rate in [uniform, uniform.powi(4), 1.0 - uniform * 1e-3] {
                if rate > 1e-14 {
                    let (sample, population) = counts(rate).unwrap();
                    assert!(sample >= 1 && sample <= population);
                    assert_eq!(sample as f64 / population as f64, rate);
                }
            }
        }
    }
}
