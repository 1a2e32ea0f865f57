//! Bounds from the error rates of one test over many independent runs.

use umbel_accounting::Delta;

use super::Confidence;
use crate::special::{log_binomial_cdf, normal_quantile};

/// How often a test that was fixed in advance was wrong, over independent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a plain record")]
pub struct ErrorCounts {
    /// Runs without the target.
    pub without: u32,
    /// Of those, runs in which the test said that it was there.
    pub false_positives: u32,
    /// Runs with the target.
    pub with: u32,
    /// Of those, runs in which the test said that it was not there.
    pub false_negatives: u32,
}

impl ErrorCounts {
    /// Upper confidence bounds on false-positive and false-negative rate that hold together: Clopper, Pearson 1934, each at half
    /// the significance. The bound is the rate at which so few errors, or fewer, have that probability.
    fn upper_rates(self, confidence: Confidence) -> (f64, f64) {
        let half = confidence.split(2.0);
        (
            upper_rate(self.false_positives, self.without, half),
            upper_rate(self.false_negatives, self.with, half),
        )
    }
}

/// Lower bound on ε at `delta`, at least 0: max over both directions of ln((1 − δ − FNR) / FPR) at the upper bounds of both
/// rates (Kairouz, Oh, Viswanath 2015; Jagielski, Ullman, Oprea 2020, arXiv 2006.07709; Nasr et al. 2021).
///
/// Assumes nothing about the mechanism, but needs independent runs: n of them show no more than about ln n.
pub fn clopper_pearson_epsilon(counts: ErrorCounts, delta: Delta, confidence: Confidence) -> f64 {
    let (false_positive, false_negative) = counts.upper_rates(confidence);
    let log_ratio = |over: f64, under: f64| ((1.0 - delta.value() - over) / under).ln();
    let bounds = [
        log_ratio(false_negative, false_positive),
        log_ratio(false_positive, false_negative),
    ];
    // A negative numerator gives NaN, which max leaves out.
    bounds.into_iter().fold(0.0, f64::max)
}

/// Lower bound on the distance of two normal laws of equal variance, in standard deviations: Φ⁻¹(1 − FPR) − Φ⁻¹(FNR) at the upper
/// bounds of both rates, at least 0 (Nasr et al. 2023, arXiv 2302.07956).
///
/// Only this direction: a difference below 0 shows nothing.
pub fn clopper_pearson_strength(counts: ErrorCounts, confidence: Confidence) -> f64 {
    let (false_positive, false_negative) = counts.upper_rates(confidence);
    (-normal_quantile(false_positive) - normal_quantile(false_negative)).max(0.0)
}

fn upper_rate(errors: u32, trials: u32, confidence: Confidence) -> f64 {
    if errors >= trials {
        return 1.0;
    }
    let target = confidence.significance().ln();
    let (mut low, mut high) = (f64::from(errors) / f64::from(trials), 1.0);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if log_binomial_cdf(errors, trials, middle) > target {
            low = middle;
        } else {
            high = middle;
        }
        if high - low <= 1e-13 * high {
            break;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::test_scores::{Draws, check_share};
    use crate::family::gaussian_epsilon;

    fn delta() -> Delta {
        Delta::new(1e-5).unwrap()
    }

    #[test]
    fn rates_match_published_intervals() {
        // No error in n trials: 1 − α^(1/n). 5 of 20: the 97.5 % bound is 0.4910 (Clopper-Pearson 95 % interval 0.0866 to 0.4910).
        let level = Confidence::new(0.975).unwrap();
        assert!((upper_rate(0, 100, level) - (1.0 - 0.025_f64.powf(0.01))).abs() < 1e-12);
        assert!((upper_rate(5, 20, level) - 0.4910).abs() < 5e-5);
        assert!(upper_rate(7, 7, level) >= 1.0);
    }

    #[test]
    fn perfect_tests_are_capped_by_the_number_of_runs() {
        let counts = |n| ErrorCounts {
            without: n,
            false_positives: 0,
            with: n,
            false_negatives: 0,
        };
        let few = clopper_pearson_epsilon(counts(100), delta(), Confidence::REPORTED);
        let many = clopper_pearson_epsilon(counts(10_000), delta(), Confidence::REPORTED);
        let rate = 1.0 - 0.025_f64.powf(0.01);
        assert!((few - ((1.0 - 1e-5 - rate) / rate).ln()).abs() < 1e-9);
        assert!((many - few - 100.0_f64.ln()).abs() < 0.1, "{few} {many}");
    }

    #[test]
    fn bounds_exceed_the_truth_no_more_often_than_stated() {
        for (seed, mu) in [(31, 0.0), (32, 1.0), (33, 2.5)] {
            let truth = gaussian_epsilon(mu, delta()).unwrap().upper.value();
            let mut draws = Draws::new(seed);
            let (mut by_ratio, mut by_distance) = (0, 0);
            for _ in 0..1_000 {
                let counts = draws.error_counts(500, mu);
                by_ratio +=
                    usize::from(clopper_pearson_epsilon(counts, delta(), Confidence::REPORTED) > truth);
                by_distance += usize::from(clopper_pearson_strength(counts, Confidence::REPORTED) > mu);
            }
            check_share(by_ratio, 1_000, 0.05, false);
            check_share(by_distance, 1_000, 0.05, false);
        }
    }
}
