//! Mechanisms that differ in their noise only: how a measured strength becomes an ε.

use umbel_accounting::tradeoff::TradeOff;
use umbel_accounting::{
    Accountant as _, AccountingError, Delta, DpEvent, EpsilonBounds, NeighboringRelation, NoiseMultiplier,
    PldAccountant, SamplingRate,
};

use crate::estimate::{GaussianCurve, TradeOffCurve};

/// Rounds of Poisson sampling and Gaussian noise under add-or-remove of one unit, with everything fixed but the noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Family {
    rate: SamplingRate,
    rounds: u64,
    delta: Delta,
}

impl Family {
    /// `rounds` rounds at `rate`, at least one.
    pub fn new(rate: SamplingRate, rounds: u64, delta: Delta) -> Self {
        Self {
            rate,
            rounds: rounds.max(1),
            delta,
        }
    }

    /// The δ of every ε.
    pub fn delta(&self) -> Delta {
        self.delta
    }

    /// Whether every unit takes part in every round.
    pub fn is_full(&self) -> bool {
        self.rate.value() >= 1.0
    }

    /// Bounds on ε where one round moves the mean by `strength` standard deviations of the noise, 1 / noise multiplier.
    pub fn epsilon(&self, strength: f64) -> Result<EpsilonBounds, AccountingError> {
        match NoiseMultiplier::new(1.0 / strength) {
            Ok(noise_multiplier) => self.composed(noise_multiplier)?.epsilon(self.delta),
            Err(_) => Ok(if strength > 0.0 { infinite() } else { nothing() }),
        }
    }

    /// The trade-off curve at that strength: exact for full participation, else a lower bound from our own accountant.
    pub fn curve(&self, strength: f64) -> Result<Box<dyn TradeOffCurve>, AccountingError> {
        if self.is_full() {
            let mu = strength * self.full_rounds();
            return Ok(Box::new(GaussianCurve { mu }));
        }
        match NoiseMultiplier::new(1.0 / strength) {
            Ok(noise_multiplier) => {
                let curve = TradeOff::new(&self.composed(noise_multiplier)?, CURVE_POINTS)?;
                Ok(Box::new(curve))
            }
            Err(_) => Ok(Box::new(GaussianCurve { mu: 0.0 })),
        }
    }

    /// With full participation, rounds of one strength are one Gaussian release of this many times the strength.
    #[allow(clippy::cast_precision_loss, reason = "rounds are far below 2^53")]
    pub fn full_rounds(&self) -> f64 {
        (self.rounds as f64).sqrt()
    }

    fn composed(&self, noise_multiplier: NoiseMultiplier) -> Result<PldAccountant, AccountingError> {
        let mut accountant = PldAccountant::new(NeighboringRelation::AddOrRemoveOne);
        let gaussian = DpEvent::Gaussian { noise_multiplier };
        let event = DpEvent::PoissonSampled {
            sampling_rate: self.rate,
            event: Box::new(gaussian),
        };
        accountant.compose(&event, self.rounds)?;
        Ok(accountant)
    }
}

/// Points of the privacy profile that make a curve.
const CURVE_POINTS: u32 = 24;

/// Bounds on ε of one Gaussian release whose means are `mu` standard deviations apart.
pub fn gaussian_epsilon(mu: f64, delta: Delta) -> Result<EpsilonBounds, AccountingError> {
    let full = SamplingRate::new(1.0).map_err(|error| AccountingError::OutOfReach {
        what: error.to_string(),
    })?;
    Family::new(full, 1, delta).epsilon(mu)
}

fn infinite() -> EpsilonBounds {
    EpsilonBounds {
        lower: Some(umbel_accounting::Epsilon::INFINITE),
        upper: umbel_accounting::Epsilon::INFINITE,
    }
}

fn nothing() -> EpsilonBounds {
    EpsilonBounds {
        lower: Some(umbel_accounting::Epsilon::ZERO),
        upper: umbel_accounting::Epsilon::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(rate: f64, rounds: u64) -> Family {
        Family::new(
            SamplingRate::new(rate).unwrap(),
            rounds,
            Delta::new(1e-5).unwrap(),
        )
    }

    #[test]
    fn full_rounds_are_one_release() {
        let many = family(1.0, 16).epsilon(0.25).unwrap().upper.value();
        let one = gaussian_epsilon(1.0, Delta::new(1e-5).unwrap())
            .unwrap()
            .upper
            .value();
        assert!((many - one).abs() < 1e-9, "{many} {one}");
    }

    #[test]
    fn epsilon_grows_with_strength_and_ends_in_infinity() {
        let family = family(0.1, 10);
        assert!(family.epsilon(0.0).unwrap().upper.value() <= 0.0);
        let values: Vec<f64> = [0.1, 0.5, 1.0, 2.0]
            .iter()
            .map(|&strength| family.epsilon(strength).unwrap().upper.value())
            .collect();
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "{values:?}");
        assert!(family.epsilon(f64::INFINITY).unwrap().upper.value().is_infinite());
    }
}
