//! What is left to guess for somebody who knows everything but whether one unit took part.

use serde::Serialize;
use umbel_accounting::{Accountant, AccountingError, tradeoff};

use super::number::{percent_upper, text};

/// Upper bounds on how well it can be guessed.
#[derive(Debug, Serialize)]
pub(super) struct Attacker {
    /// The most by which the rate of true positives exceeds that of false positives.
    pub(super) advantage: f64,
    /// How probable it was beforehand that the unit took part.
    base_rate: f64,
    /// Share of right guesses after seeing every release.
    best_success: f64,
    /// Share of right guesses without seeing anything.
    blind_success: f64,
}

impl Attacker {
    /// Against everything that `accountant` has composed.
    pub(super) fn new(accountant: &dyn Accountant, base_rate: f64) -> Result<Self, AccountingError> {
        Ok(Self {
            advantage: tradeoff::advantage(accountant)?,
            base_rate,
            best_success: tradeoff::best_success(accountant, base_rate)?,
            blind_success: base_rate.max(1.0 - base_rate),
        })
    }

    /// In words, a line each.
    pub(super) fn lines(&self) -> [String; 2] {
        [
            format!(
                "advantage: the rate of true positives exceeds that of false positives by at most {}",
                percent_upper(self.advantage)
            ),
            format!(
                "best success: right in at most {} of guesses, where {} is right without any release (base rate {})",
                percent_upper(self.best_success),
                percent_upper(self.blind_success),
                text(self.base_rate)
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use umbel_accounting::{AccountantKind, DpEvent, NeighboringRelation, NoiseMultiplier, accountant};

    #[test]
    fn one_gaussian_release_is_told_in_percent() {
        let mut accountant = accountant(AccountantKind::Pld, NeighboringRelation::AddOrRemoveOne);
        let noise_multiplier = NoiseMultiplier::new(1.0).unwrap();
        accountant
            .compose(&DpEvent::Gaussian { noise_multiplier }, 1)
            .unwrap();
        // Between N(0, 1) and N(1, 1): total variation 2Φ(½) − 1 = 0.38293, and right at even odds with Φ(½) = 0.69146.
        let [advantage, success] = Attacker::new(accountant.as_ref(), 0.5).unwrap().lines();
        assert!(advantage.ends_with("at most 38.3 %"), "{advantage}");
        assert!(
            success.contains("at most 69.15 %") && success.contains("50 % is right without"),
            "{success}"
        );
        let [_, success] = Attacker::new(accountant.as_ref(), 0.01).unwrap().lines();
        assert!(
            success.contains("at most 99.") && success.contains("99 % is right without"),
            "{success}"
        );
    }
}
