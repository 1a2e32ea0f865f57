//! The estimate of Andrew et al.: useful to see at a glance, and no bound.

use umbel_accounting::Delta;

use crate::special::normal_cdf;

/// Estimate of ε from the cosines between included canaries and what was released; `None` with fewer than two.
///
/// Andrew, Kairouz, Oh, Oprea, McMahan, Suriyakumar 2023 (arXiv 2302.03098), algorithm 2: the cosine of a random direction in d
/// dimensions with anything independent of it is nearly N(0, 1/d); a normal law is fitted to the observed cosines; the estimate
/// is the smallest ε at which the two laws are (ε, δ)-close. It has no confidence: it may be above the true ε, and with few
/// canaries it usually is, for ε near 0.
pub fn cosine_estimate(cosines: &[f64], dimension: usize, delta: Delta) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let (n, dimension) = (cosines.len() as f64, dimension as f64);
    if cosines.len() < 2 || cosines.iter().any(|cosine| !cosine.is_finite()) {
        return None;
    }
    let mean = cosines.iter().sum::<f64>() / n;
    let variance = cosines.iter().map(|cosine| (cosine - mean).powi(2)).sum::<f64>() / n;
    Some(gaussian_pair_epsilon(
        mean * dimension.sqrt(),
        (variance * dimension).sqrt(),
        delta,
    ))
}

/// The smallest ε at which N(0, 1) and N(`mean`, `std_dev`²) are (ε, δ)-close in both directions; at most 10⁶.
pub fn gaussian_pair_epsilon(mean: f64, std_dev: f64, delta: Delta) -> f64 {
    if std_dev <= 0.0 {
        return LARGEST;
    }
    let exceeds = |epsilon: f64| {
        // The second direction seen from the other law: shift and scale so that it is the standard one.
        let both =
            hockey_stick(mean, std_dev, epsilon).max(hockey_stick(-mean / std_dev, 1.0 / std_dev, epsilon));
        both > delta.value()
    };
    if exceeds(LARGEST) {
        return LARGEST;
    }
    let (mut low, mut high) = (0.0, LARGEST);
    while high - low > 1e-9 * f64::max(high, 1.0) {
        let middle = 0.5 * (low + high);
        if exceeds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

const LARGEST: f64 = 1e6;

/// sup over events S of Pr[S] under N(`mean`, `std_dev`²) − e^ε Pr[S] under N(0, 1).
///
/// The best S is where the logarithm of the ratio of densities is above ε: a quadratic in x, so an interval or what is outside of
/// one.
fn hockey_stick(mean: f64, std_dev: f64, epsilon: f64) -> f64 {
    // ln p(x) − ln q(x) = −ln σ − (x − m)² / (2σ²) + x² / 2 = a x² + b x + c.
    let precision = 1.0 / (std_dev * std_dev);
    let (a, b) = (0.5 * (1.0 - precision), mean * precision);
    let c = -std_dev.ln() - 0.5 * mean * mean * precision - epsilon;
    let weigh = |low: f64, high: f64| {
        let mass = |low: f64, high: f64| {
            // Differences of tails on the side where they are small.
            if low > 0.0 {
                normal_cdf(-low) - normal_cdf(-high)
            } else {
                normal_cdf(high) - normal_cdf(low)
            }
        };
        let under_null = mass(low, high);
        let weighted = if under_null > 0.0 {
            (epsilon + under_null.ln()).exp()
        } else {
            0.0
        };
        mass((low - mean) / std_dev, (high - mean) / std_dev) - weighted
    };
    let discriminant = b * b - 4.0 * a * c;
    if a.abs() < 1e-12 {
        return match b {
            b if b > 0.0 => weigh(-c / b, f64::INFINITY),
            b if b < 0.0 => weigh(f64::NEG_INFINITY, -c / b),
            _ => 0.0,
        };
    }
    if discriminant <= 0.0 {
        // The ratio is above e^ε everywhere, which cannot be, or nowhere.
        return 0.0;
    }
    // The root that does not cancel, and the other one from the product of both.
    let stable = -0.5 * (b + discriminant.sqrt().copysign(b));
    let (first, second) = (stable / a, c / stable);
    let (low, high) = (first.min(second), first.max(second));
    if a > 0.0 {
        weigh(f64::NEG_INFINITY, low) + weigh(high, f64::INFINITY)
    } else {
        weigh(low, high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::test_scores::Draws;
    use crate::family::gaussian_epsilon;

    #[test]
    fn equal_variances_give_the_gaussian_mechanism() {
        let delta = Delta::new(1e-5).unwrap();
        for mu in [0.3, 1.0, 4.0] {
            let exact = gaussian_epsilon(mu, delta).unwrap().upper.value();
            assert!(
                (gaussian_pair_epsilon(mu, 1.0, delta) - exact).abs() < 1e-6,
                "{mu}"
            );
            assert!(
                (gaussian_pair_epsilon(-mu, 1.0, delta) - exact).abs() < 1e-6,
                "{mu}"
            );
        }
    }

    #[test]
    fn unequal_variances_match_numerical_integration() {
        for (mean, std_dev, epsilon) in [(0.5, 1.3, 0.2), (1.0, 0.7, 0.5), (-2.0, 1.01, 1.0)] {
            let density = |x: f64, m: f64, s: f64| (-0.5 * ((x - m) / s).powi(2)).exp() / s;
            let step = 1e-4;
            let sum: f64 = (-120_000..120_000)
                .map(|i| {
                    let x = f64::from(i) * step;
                    (density(x, mean, std_dev) - f64::exp(epsilon) * density(x, 0.0, 1.0)).max(0.0)
                })
                .sum();
            let expected = sum * step / (2.0 * std::f64::consts::PI).sqrt();
            assert!((hockey_stick(mean, std_dev, epsilon) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn many_canaries_estimate_the_truth() {
        let delta = Delta::new(1e-5).unwrap();
        let (included, _) = Draws::new(41).scores(200_000, 1.0);
        // Scores N(1, 1) are cosines times the root of the dimension.
        let estimate = cosine_estimate(&included, 1, delta).unwrap();
        let truth = gaussian_epsilon(1.0, delta).unwrap().upper.value();
        assert!((estimate / truth - 1.0).abs() < 0.05, "{estimate} {truth}");
        assert!(cosine_estimate(&[0.1], 10, delta).is_none());
    }
}
