//! What a plan costs along the way, and what it leaves to an attacker.

use serde::Serialize;
use umbel_accounting::{Accountant, AccountingError, Delta, DpEvent, Epsilon};

use super::number::{finite, whole};
use crate::args::budget::Spacing;

/// ε after some of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Growth {
    pub(super) steps: u64,
    /// Certified upper bound; null means infinite.
    pub(super) epsilon: Option<f64>,
    pub(super) epsilon_lower: Option<f64>,
}

/// Composes `event` as often as the last of `counts`, which ascend, and says what it costs after each of them.
pub(super) fn growth(
    accountant: &mut dyn Accountant,
    event: &DpEvent,
    delta: Delta,
    counts: &[u64],
    tick: &dyn Fn(),
) -> Result<Vec<Growth>, AccountingError> {
    let mut done = 0;
    let mut points = Vec::with_capacity(counts.len());
    for &steps in counts {
        accountant.compose(event, steps - done)?;
        done = steps;
        let bounds = accountant.epsilon(delta)?;
        points.push(Growth {
            steps,
            epsilon: finite(bounds.upper.value()),
            epsilon_lower: bounds.lower.map(Epsilon::value).and_then(finite),
        });
        tick();
    }
    Ok(points)
}

/// At most `most` different numbers from 1 to `total`, ascending, both ends included.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, and kept between 1 and `total`"
)]
pub(super) fn counts(total: u64, most: u32, spacing: Spacing) -> Vec<u64> {
    let last = f64::from(most.max(2) - 1);
    let mut counts: Vec<u64> = (0..most.max(2))
        .map(|index| {
            let share = f64::from(index) / last;
            let count = match spacing {
                Spacing::Linear => 1.0 + share * (whole(total) - 1.0),
                Spacing::Log => whole(total).powf(share),
            };
            (count.round() as u64).clamp(1, total)
        })
        .collect();
    counts.push(total);
    counts.dedup();
    counts
}

/// δ(ε), an upper bound, at some ε that ascend from 0. Everything about an attacker follows from it.
#[derive(Debug, Clone)]
pub(super) struct Profile(Vec<(f64, f64)>);

/// How many ε a profile has.
pub(super) const PROFILE_POINTS: u32 = 41;

impl Profile {
    /// The profile of what was composed, from ε = 0 to half beyond `epsilon`, where δ is below the δ of that ε.
    pub(super) fn new(
        accountant: &dyn Accountant,
        epsilon: Option<f64>,
        tick: &dyn Fn(),
    ) -> anyhow::Result<Self> {
        let reach = epsilon.map_or(1.0, |epsilon| 1.5 * epsilon.max(1e-6));
        let mut points = Vec::new();
        let mut least = 1.0_f64;
        for index in 0..PROFILE_POINTS {
            let at = reach * f64::from(index) / f64::from(PROFILE_POINTS - 1);
            // A bound that holds at some ε holds at every larger one.
            least = least.min(accountant.delta(Epsilon::new(at)?)?);
            points.push((at, least));
            tick();
        }
        Ok(Self(points))
    }

    /// ε and δ(ε).
    pub(super) fn points(&self) -> &[(f64, f64)] {
        &self.0
    }

    /// The most by which an attacker's rate of true positives exceeds that of false positives: δ(0), the total variation.
    pub(super) fn advantage(&self) -> f64 {
        self.0.first().map_or(1.0, |point| point.1)
    }

    /// Lower bound on an attacker's rate of false negatives at a rate of false positives: the trade-off function of
    /// f-DP (Dong, Roth, Su 2019, proposition 2.12). Each ε alone gives a valid bound, and so does the best of some.
    pub(super) fn false_negatives(&self, false_positives: f64) -> f64 {
        let at = |&(epsilon, delta): &(f64, f64)| {
            let steep = 1.0 - delta - epsilon.exp() * false_positives;
            let flat = (-epsilon).exp() * (1.0 - delta - false_positives);
            steep.max(flat)
        };
        self.0.iter().map(at).fold(0.0, f64::max)
    }
}

/// Upper bound on the share of right guesses whether a unit took part, by an attacker who holds it probable beforehand with
/// `base_rate`, knows everything else, and sees every release.
///
/// Guessing "took part" on an event E is right with p·P(E) + (1−p)(1−Q(E)), at most 1 − p + p·δ(ln((1−p)/p)) where p ≤ ½; the
/// other half follows by exchanging the two worlds, for which δ holds too.
pub(super) fn best_success(accountant: &dyn Accountant, base_rate: f64) -> anyhow::Result<f64> {
    let (rare, common) = (base_rate.min(1.0 - base_rate), base_rate.max(1.0 - base_rate));
    let delta = accountant.delta(Epsilon::new((common / rare).ln().max(0.0))?)?;
    Ok((common + rare * delta).min(1.0))
}

/// The share of right guesses by an attacker who sees nothing.
pub(super) fn blind_success(base_rate: f64) -> f64 {
    base_rate.max(1.0 - base_rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use umbel_accounting::{AccountantKind, NeighboringRelation, NoiseMultiplier, accountant};

    fn gaussian(noise: f64) -> Box<dyn Accountant> {
        let mut accountant = accountant(AccountantKind::Pld, NeighboringRelation::AddOrRemoveOne);
        let noise_multiplier = NoiseMultiplier::new(noise).unwrap();
        accountant
            .compose(&DpEvent::Gaussian { noise_multiplier }, 1)
            .unwrap();
        accountant
    }

    /// The standard normal distribution function.
    fn phi(x: f64) -> f64 {
        0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
    }

    #[test]
    fn an_attacker_on_one_gaussian_release_is_the_best_test_of_two_normal_laws() {
        let accountant = gaussian(1.0);
        let epsilon = accountant
            .epsilon(Delta::new(1e-6).unwrap())
            .unwrap()
            .upper
            .value();
        let profile = Profile::new(accountant.as_ref(), Some(epsilon), &|| ()).unwrap();
        // Between N(0, 1) and N(1, 1): total variation 2Φ(½) − 1, and right at even odds with Φ(½).
        assert!((profile.advantage() - (2.0 * phi(0.5) - 1.0)).abs() < 1e-9);
        assert!((best_success(accountant.as_ref(), 0.5).unwrap() - phi(0.5)).abs() < 1e-9);
        // At odds p to 1 − p the best test is a threshold at x = ½ + ln((1−p)/p).
        for base_rate in [0.01_f64, 0.2, 0.7, 0.99] {
            let threshold = 0.5 + ((1.0 - base_rate) / base_rate).ln();
            let right = base_rate * phi(1.0 - threshold) + (1.0 - base_rate) * phi(threshold);
            assert!(
                (best_success(accountant.as_ref(), base_rate).unwrap() - right).abs() < 1e-9,
                "{base_rate}"
            );
        }
        // β(α) = Φ(Φ⁻¹(1 − α) − 1); from below, and near.
        for threshold in [-2.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0] {
            let (alpha, exact) = (1.0 - phi(threshold), phi(threshold - 1.0));
            let bound = profile.false_negatives(alpha);
            assert!(
                bound <= exact + 1e-12 && bound > exact - 5e-3,
                "{threshold}: {bound} {exact}"
            );
        }
    }

    #[test]
    fn without_privacy_an_attacker_is_always_right() {
        let mut accountant = accountant(AccountantKind::Pld, NeighboringRelation::AddOrRemoveOne);
        accountant.compose(&DpEvent::NonPrivate, 1).unwrap();
        let profile = Profile::new(accountant.as_ref(), None, &|| ()).unwrap();
        assert!(profile.advantage() >= 1.0 && profile.false_negatives(0.0) <= 0.0);
        assert!(best_success(accountant.as_ref(), 0.3).unwrap() >= 1.0);
        assert!((blind_success(0.3) - 0.7).abs() < 1e-15);
    }

    #[test]
    fn counts_ascend_and_hold_both_ends() {
        assert_eq!(counts(1, 20, Spacing::Log), [1]);
        assert_eq!(counts(3, 20, Spacing::Linear), [1, 2, 3]);
        assert_eq!(counts(1000, 4, Spacing::Log), [1, 10, 100, 1000]);
        assert_eq!(counts(10, 4, Spacing::Linear), [1, 4, 7, 10]);
        for total in [2, 7, 19, 20, 21, 1_000_000, 1 << 53] {
            for spacing in [Spacing::Log, Spacing::Linear] {
                let counts = counts(total, 20, spacing);
                assert!(
                    counts.len() <= 21 && counts.windows(2).all(|pair| pair[0] < pair[1]),
                    "{counts:?}"
                );
                assert_eq!((counts.first(), counts.last()), (Some(&1), Some(&total)));
            }
        }
    }
}
