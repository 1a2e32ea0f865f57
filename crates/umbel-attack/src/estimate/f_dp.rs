//! A bound for whole trade-off curves from one run.

use umbel_accounting::tradeoff::TradeOff;

use super::{Confidence, Guesses};
use crate::special::{normal_cdf, normal_quantile};

/// A claimed trade-off curve: convex, and the same in both directions.
pub trait TradeOffCurve {
    /// Lower bound on the false-negative rate of any test with this false-positive rate.
    fn false_negative_rate(&self, false_positive_rate: f64) -> f64;
}

impl TradeOffCurve for TradeOff {
    fn false_negative_rate(&self, false_positive_rate: f64) -> f64 {
        Self::false_negative_rate(self, false_positive_rate)
    }
}

/// The curve of two normal laws whose means are `mu` standard deviations apart (Dong, Roth, Su 2019).
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "a plain record")]
pub struct GaussianCurve {
    /// The distance, at least 0.
    pub mu: f64,
}

impl TradeOffCurve for GaussianCurve {
    fn false_negative_rate(&self, false_positive_rate: f64) -> f64 {
        // Φ(Φ⁻¹(1 − α) − µ) = Φ(−Φ⁻¹(α) − µ), which keeps its digits for small α.
        normal_cdf(-normal_quantile(false_positive_rate) - self.mu)
    }
}

/// Whether a mechanism with this trade-off curve would give so many right guesses with probability below 1 − confidence.
///
/// Mahloujifar, Melis, Chaudhuri 2024 (arXiv 2410.22235), theorem 3.2 and its algorithm, for fair coins. With m canaries, R
/// guesses and v right ones, τ the significance: r = τv/m and h = τ(R − v)/m; for i = v − 1 down to 0, h' = max(h, B⁻¹(r)) and
/// r' = r + i/(R − i)·(h' − h), where B(x) = 1 − f(x). The curve is falsified if r + h > R/m at the end. f being symmetric,
/// B⁻¹(r) = f(1 − r). A lower bound on f in its place only makes falsification rarer.
pub fn is_falsified(curve: &dyn TradeOffCurve, guesses: Guesses, confidence: Confidence) -> bool {
    let (m, made) = (f64::from(guesses.canaries), f64::from(guesses.made));
    let correct = guesses.correct.min(guesses.made);
    if correct == 0 || guesses.made > guesses.canaries {
        return false;
    }
    let significance = confidence.significance();
    let mut right = significance * f64::from(correct) / m;
    let mut wrong = significance * f64::from(guesses.made - correct) / m;
    for i in (0..correct).rev() {
        let i = f64::from(i);
        let next = wrong.max(curve.false_negative_rate(1.0 - right));
        right = (right + i / (made - i) * (next - wrong)).min(1.0);
        wrong = next;
        if right + wrong > made / m {
            // Both only grow.
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::last_excluded;
    use crate::estimate::test_scores::{Draws, check_share};

    fn strength(guesses: Guesses, confidence: Confidence) -> f64 {
        last_excluded(20.0, 1e-6, |mu| {
            is_falsified(&GaussianCurve { mu }, guesses, confidence)
        })
    }

    #[test]
    fn perfect_guesses_bound_and_chance_does_not() {
        let guesses = |made, correct| Guesses {
            canaries: 1_000,
            made,
            correct,
        };
        assert!(strength(guesses(200, 100), Confidence::REPORTED) <= 0.0);
        let half = strength(guesses(200, 180), Confidence::REPORTED);
        let all = strength(guesses(200, 200), Confidence::REPORTED);
        assert!(half > 0.1 && all > half, "{half} {all}");
        assert!(strength(guesses(200, 200), Confidence::ALARM) < all);
        assert!(!is_falsified(
            &GaussianCurve { mu: 0.0 },
            guesses(200, 0),
            Confidence::REPORTED
        ));
    }

    #[test]
    fn the_truth_is_falsified_no_more_often_than_stated() {
        // 2,000 honest runs a case, false-alarm rate 1e-6. The method is conservative, so the share is only bounded from above.
        for (seed, mu) in [(11, 0.5), (12, 1.0), (13, 3.0)] {
            let mut draws = Draws::new(seed);
            let falsified = (0..2_000)
                .filter(|_| {
                    let guesses = draws.guesses(300, 60, mu);
                    is_falsified(&GaussianCurve { mu }, guesses, Confidence::REPORTED)
                })
                .count();
            check_share(falsified, 2_000, 0.05, false);
        }
    }

    #[test]
    fn a_curve_from_an_accountant_agrees_with_the_closed_form() {
        use umbel_accounting::{AccountantKind, DpEvent, NeighboringRelation, NoiseMultiplier, accountant};
        let mut pld = accountant(AccountantKind::Pld, NeighboringRelation::AddOrRemoveOne);
        let noise_multiplier = NoiseMultiplier::new(1.0).unwrap();
        pld.compose(&DpEvent::Gaussian { noise_multiplier }, 1).unwrap();
        let curve = TradeOff::new(pld.as_ref(), 200).unwrap();
        let exact = GaussianCurve { mu: 1.0 };
        for alpha in [1e-6, 1e-3, 0.1, 0.5, 0.9, 1.0 - 1e-6] {
            let (bound, exact) = (
                TradeOffCurve::false_negative_rate(&curve, alpha),
                exact.false_negative_rate(alpha),
            );
            assert!(
                bound <= exact + 1e-12 && bound > exact - 2e-3,
                "{alpha}: {bound} {exact}"
            );
        }
    }
}
