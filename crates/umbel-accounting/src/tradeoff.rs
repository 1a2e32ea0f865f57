//! What an attacker can do: the trade-off curve (f-DP), the advantage and the best rate of success.
//!
//! The attacker is told the release and knows everything about the data except whether one unit is in it (or which of two
//! it is), and may use any test. Each point (ε, δ(ε)) of the privacy profile bounds every test, in both directions, so all
//! numbers here are guarantees: upper bounds for the attacker (Wasserman, Zhou 2010; Dong, Roth, Su 2019, proposition
//! 2.12; Kulynych et al. 2024 for the reading).

use crate::{Accountant, AccountingError, Delta, Epsilon};

/// Bounds on the errors of any test: lower bound on the false-negative rate at each false-positive rate.
///
/// The curve is the largest function that the sampled points of the privacy profile allow, so it is convex, and the same
/// for both directions.
#[derive(Debug, Clone, PartialEq)]
pub struct TradeOff {
    /// ε and an upper bound on δ(ε), with ε rising from 0.
    profile: Vec<(f64, f64)>,
}

impl TradeOff {
    /// Samples the privacy profile of everything that `accountant` has composed, at about `n_points` values of ε.
    ///
    /// Between 2 and 10,000 points; 64 give a curve that looks smooth.
    pub fn new(accountant: &dyn Accountant, n_points: u32) -> Result<Self, AccountingError> {
        let n_points = n_points.clamp(2, 10_000);
        let far = Delta::new(SMALLEST_DELTA).map_or(Ok(0.0), |delta| {
            accountant.epsilon(delta).map(|b| b.upper.value())
        })?;
        let mut profile = Vec::new();
        for i in 0..n_points {
            // Denser towards 0, where the curve bends most.
            let share = f64::from(i) / f64::from(n_points - 1);
            let epsilon = far.min(LARGEST_EPSILON) * share * share;
            let delta = match Epsilon::new(epsilon) {
                Ok(epsilon) => accountant.delta(epsilon)?,
                Err(_) => 1.0,
            };
            profile.push((epsilon, delta.min(1.0)));
        }
        Ok(Self { profile })
    }

    /// The sampled profile: pairs of ε and an upper bound on δ(ε), with ε rising from 0.
    pub fn profile(&self) -> &[(f64, f64)] {
        &self.profile
    }

    /// Lower bound on the false-negative rate β of any test with false-positive rate at most α.
    ///
    /// `false_positive_rate` is taken into `[0, 1]`; NaN gives 0, which is always true.
    pub fn false_negative_rate(&self, false_positive_rate: f64) -> f64 {
        let alpha = false_positive_rate.clamp(0.0, 1.0);
        self.profile
            .iter()
            .map(|&(epsilon, delta)| {
                let steep = 1.0 - delta - epsilon.exp() * alpha;
                let flat = (-epsilon).exp() * (1.0 - delta - alpha);
                steep.max(flat)
            })
            .fold(0.0, f64::max)
    }

    /// Upper bound on the true-positive rate at a false-positive rate: what membership-inference papers report.
    pub fn true_positive_rate(&self, false_positive_rate: f64) -> f64 {
        1.0 - self.false_negative_rate(false_positive_rate)
    }
}

/// The attacker's advantage: the largest difference of true- and false-positive rate, which is δ(0).
pub fn advantage(accountant: &dyn Accountant) -> Result<f64, AccountingError> {
    accountant.delta(Epsilon::ZERO)
}

/// The best chance of a right guess whether the unit is in, if it is in with probability `base_rate`.
///
/// With ε* = |ln(π/(1−π))| and the rarer case of probability p = min(π, 1−π), it is 1 − p(1 − δ(ε*)): the guess that
/// ignores the release is right with 1 − p. A base rate of 0 or 1 gives 1; outside of that range, or NaN, is an error.
pub fn best_success(accountant: &dyn Accountant, base_rate: f64) -> Result<f64, AccountingError> {
    if !(0.0..=1.0).contains(&base_rate) {
        return Err(AccountingError::OutOfReach {
            what: format!("the base rate must be between 0 and 1, got {base_rate}"),
        });
    }
    let rarer = base_rate.min(1.0 - base_rate);
    if rarer <= 0.0 {
        return Ok(1.0);
    }
    let threshold = ((1.0 - rarer) / rarer).ln().max(0.0);
    let delta = Epsilon::new(threshold).map_or(Ok(1.0), |epsilon| accountant.delta(epsilon))?;
    Ok(1.0 - rarer * (1.0 - delta))
}

const SMALLEST_DELTA: f64 = 1e-10;
const LARGEST_EPSILON: f64 = 700.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::special::log_normal_tail;
    use crate::{AccountantKind, DpEvent, NeighboringRelation, NoiseMultiplier, accountant};

    fn gaussian(mu: f64) -> Box<dyn Accountant> {
        let mut accountant = accountant(AccountantKind::Pld, NeighboringRelation::AddOrRemoveOne);
        let noise_multiplier = NoiseMultiplier::new(1.0 / mu).unwrap();
        accountant
            .compose(&DpEvent::Gaussian { noise_multiplier }, 1)
            .unwrap();
        accountant
    }

    fn normal_cdf(x: f64) -> f64 {
        log_normal_tail(-x).exp()
    }

    #[test]
    fn the_gaussian_curve_is_reproduced_from_below() {
        // G_µ(α) = Φ(Φ⁻¹(1 − α) − µ), along x = Φ⁻¹(1 − α).
        for mu in [0.3, 1.0, 3.0] {
            let curve = TradeOff::new(gaussian(mu).as_ref(), 200).unwrap();
            for i in -20..=30 {
                let x = 0.1 * f64::from(i);
                let exact = normal_cdf(x - mu);
                let bound = curve.false_negative_rate(normal_cdf(-x));
                assert!(
                    bound <= exact + 1e-12 && bound > exact - 2e-3,
                    "{mu} {x}: {bound} {exact}"
                );
            }
        }
    }

    #[test]
    fn advantage_and_success_of_a_gaussian() {
        let accountant = gaussian(1.0);
        let total_variation = 2.0 * normal_cdf(0.5) - 1.0;
        assert!((advantage(accountant.as_ref()).unwrap() - total_variation).abs() < 1e-12);
        assert!((best_success(accountant.as_ref(), 0.5).unwrap() - normal_cdf(0.5)).abs() < 1e-12);
        // At a base rate of 1 % guessing "not in" is right in 99 % of cases; the best test beats that by little.
        let rare = best_success(accountant.as_ref(), 0.01).unwrap();
        let threshold = 0.5 + 99.0_f64.ln();
        let exact = 0.01 * normal_cdf(1.0 - threshold) + 0.99 * normal_cdf(threshold);
        assert!((rare - exact).abs() < 1e-12, "{rare} {exact}");
        assert!((best_success(accountant.as_ref(), 0.99).unwrap() - rare).abs() < 1e-12);
    }

    #[test]
    fn without_privacy_every_test_is_possible_and_without_release_none() {
        let mut open = accountant(AccountantKind::Pld, NeighboringRelation::AddOrRemoveOne);
        let closed = accountant(AccountantKind::Pld, NeighboringRelation::AddOrRemoveOne);
        open.compose(&DpEvent::NonPrivate, 1).unwrap();
        let curve = TradeOff::new(open.as_ref(), 16).unwrap();
        assert!(curve.false_negative_rate(0.0) <= 0.0);
        assert!(best_success(open.as_ref(), 0.3).unwrap() >= 1.0);
        let curve = TradeOff::new(closed.as_ref(), 16).unwrap();
        assert!((curve.false_negative_rate(0.2) - 0.8).abs() < 1e-15);
        assert!((best_success(closed.as_ref(), 0.3).unwrap() - 0.7).abs() < 1e-15);
        assert!(best_success(closed.as_ref(), f64::NAN).is_err());
    }
}
