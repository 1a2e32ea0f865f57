//! How far apart the scores of included and excluded canaries are, in standard deviations of the noise.

use super::Confidence;
use crate::special::NoncentralT;

/// Lower confidence bound on (mean of included − mean of excluded) / standard deviation of excluded, at least 0.
///
/// Assumes what the mechanism promises: scores are independent and normal, and inclusion moves the mean only. The standard
/// deviation is *measured*, on excluded canaries, never taken from the claim: noise that is too small would be hidden else.
///
/// Exact under the assumption. With n₁ included and n₀ excluded scores, (x̄₁ − x̄₀) / (s₀ sqrt(1/n₁ + 1/n₀)) follows Student's
/// non-central t with n₀ − 1 degrees of freedom and non-centrality µ / sqrt(1/n₁ + 1/n₀); the bound is the µ at which what was
/// seen, or more, has probability 1 − confidence (Johnson, Kotz, Balakrishnan 1995, chapter 31). As a privacy audit: Nasr et al.
/// 2023 (arXiv 2302.07956) for the Gaussian pair, with scores in place of thresholded guesses.
///
/// Fewer than two excluded or no included scores, or one that is not finite, give 0; noise of exactly 0 gives infinity.
pub fn gaussian_score_strength(included: &[f64], excluded: &[f64], confidence: Confidence) -> f64 {
    if included.is_empty() || excluded.len() < 2 {
        return 0.0;
    }
    let (n_included, n_excluded) = (count(included.len()), count(excluded.len()));
    let mean_excluded = excluded.iter().sum::<f64>() / n_excluded;
    let difference = included.iter().sum::<f64>() / n_included - mean_excluded;
    let variance = excluded
        .iter()
        .map(|score| (score - mean_excluded).powi(2))
        .sum::<f64>()
        / (n_excluded - 1.0);
    if !difference.is_finite() || !variance.is_finite() || difference <= 0.0 {
        return 0.0;
    }
    let scale = (1.0 / n_included + 1.0 / n_excluded).sqrt();
    let t = difference / (variance.sqrt() * scale);
    if t > LARGEST_T {
        // No noise to speak of.
        return f64::INFINITY;
    }
    let law = NoncentralT::new(t, n_excluded - 1.0);
    let covers = |noncentrality| law.cdf(noncentrality) >= confidence.value();
    if !covers(0.0) {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, t * 2.0 + 10.0);
    while high - low > 1e-7 * high {
        let middle = 0.5 * (low + high);
        if covers(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low * scale
}

/// Up to here the law of t is computed to the precision that confidences need.
const LARGEST_T: f64 = 1e4;

#[allow(clippy::cast_precision_loss, reason = "counts of scores are far below 2^53")]
fn count(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::test_scores::{Draws, check_share};

    #[test]
    fn a_tolerance_factor_gives_its_quantile() {
        // With very many included scores at distance k·s₀ from the mean of n excluded ones, where k is the one-sided tolerance
        // factor for 90 % of a normal population at confidence 95 %, the bound is z₀.₉ = 1.2816 (Natrella 1963, table A-7: 1.926
        // for n = 20).
        let excluded: Vec<f64> = (0..20).map(f64::from).collect();
        let (mean, std_dev) = (9.5, 35.0_f64.sqrt());
        let included = vec![mean + 1.926 * std_dev; 1_000_000];
        let bound = gaussian_score_strength(&included, &excluded, Confidence::REPORTED);
        assert!((bound - 1.2816).abs() < 2e-3, "{bound}");
    }

    #[test]
    fn bounds_exceed_the_truth_as_often_as_stated() {
        // 1,000 honest samples a case; the count of false bounds is binomial, checked at false-alarm rate 1e-6.
        for (seed, mu) in [(1, 0.0), (2, 0.8), (3, 4.0)] {
            let mut draws = Draws::new(seed);
            for confidence in [0.5, 0.95] {
                let confidence = Confidence::new(confidence).unwrap();
                let exceeding = (0..1_000)
                    .filter(|_| {
                        let (included, excluded) = draws.scores(60, mu);
                        gaussian_score_strength(&included, &excluded, confidence) > mu
                    })
                    .count();
                check_share(exceeding, 1_000, confidence.significance(), mu > 0.0);
            }
        }
    }

    #[test]
    fn scores_that_tell_nothing_bound_nothing() {
        let bound = |included: &[f64], excluded: &[f64]| {
            gaussian_score_strength(included, excluded, Confidence::REPORTED)
        };
        assert!(bound(&[], &[0.0, 1.0]) <= 0.0 && bound(&[1.0], &[0.0]) <= 0.0);
        assert!(bound(&[f64::NAN], &[0.0, 1.0]) <= 0.0 && bound(&[-9.0, -8.0], &[0.0, 1.0]) <= 0.0);
        assert!(bound(&[1.0], &[0.0, 0.0]).is_infinite());
    }
}
