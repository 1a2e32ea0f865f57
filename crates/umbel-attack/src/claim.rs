//! What a run claims.

use umbel_accounting::{AccountingError, NoiseMultiplier, SamplingRate};

use crate::family::Family;

/// The claim that an attack tests: Gaussian noise of a stated size on sums over Poisson samples, and the ε that follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    family: Family,
    rate: SamplingRate,
    noise_multiplier: Option<NoiseMultiplier>,
    epsilon: f64,
}

impl Claim {
    /// A claim of `noise_multiplier` at `rate`; without noise nothing is claimed and ε is infinite.
    pub fn new(
        family: Family,
        rate: SamplingRate,
        noise_multiplier: Option<NoiseMultiplier>,
    ) -> Result<Self, AccountingError> {
        let epsilon = match noise_multiplier {
            Some(noise) => family.epsilon(1.0 / noise.value())?.upper.value(),
            None => f64::INFINITY,
        };
        Ok(Self {
            family,
            rate,
            noise_multiplier,
            epsilon,
        })
    }

    /// The mechanisms among which the claim picks one.
    pub fn family(&self) -> &Family {
        &self.family
    }

    /// The claimed ε, an upper bound.
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// The probability with which a client takes part in a round.
    pub fn rate(&self) -> f64 {
        self.rate.value()
    }

    /// Standard deviation of the noise on a sum, in clip norms; 0 without noise.
    pub fn noise(&self) -> f64 {
        self.noise_multiplier.map_or(0.0, NoiseMultiplier::value)
    }
}
