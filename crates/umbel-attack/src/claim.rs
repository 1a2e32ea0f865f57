//! What a run claims.

use umbel_accounting::{AccountingError, NoiseMultiplier, SamplingRate};

use crate::family::Family;

/// The claim that an attack tests: Gaussian noise of a stated size on sums over Poisson samples, and the ε that follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    family: Family,
    rate: SamplingRate,
    /// Standard deviation of the noise on a score of one round.
    noise: f64,
    /// The same on what is seen of one round, where that is not yet a score.
    seen_noise: f64,
    participation: Participation,
    epsilon: f64,
}

/// Who takes part when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Participation {
    /// Everybody by a coin of its own.
    Coins,
    /// Clients take turns: rounds between two participations, and the most of them.
    Turns { separation: u64, most: u64 },
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
        let noise = noise_multiplier.map_or(0.0, NoiseMultiplier::value);
        Ok(Self {
            family,
            rate,
            noise,
            seen_noise: noise,
            participation: Participation::Coins,
            epsilon,
        })
    }

    /// What is attacked carries this noise, in units of one contribution: more than the claim has for all that is released.
    pub(crate) fn seen_with(self, noise: f64) -> Self {
        Self {
            noise,
            seen_noise: noise,
            ..self
        }
    }

    /// Scores are put together from rounds that each carry this noise, of clients who take turns.
    pub(crate) fn in_turns(self, seen_noise: f64, separation: u64, most: u64) -> Self {
        Self {
            seen_noise,
            participation: Participation::Turns { separation, most },
            ..self
        }
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

    /// Standard deviation of the noise on a score of one round, in contributions; 0 without noise.
    pub fn noise(&self) -> f64 {
        self.noise
    }

    /// The same for what is seen of one round.
    pub(crate) fn seen_noise(&self) -> f64 {
        self.seen_noise
    }

    pub(crate) fn participation(&self) -> Participation {
        self.participation
    }
}
