//! The Gaussian mechanism in closed form (Balle, Wang 2018, theorem 8), in log space.
//!
//! Everything is said of µ, the distance of the two means in standard deviations: sensitivity divided by noise. Gaussian
//! releases compose exactly, adaptively too: µ² is the sum of their µ² (Dong, Roth, Su 2019).

use crate::quadrature::GAUSS_LEGENDRE_8;
use crate::search::bisect;
use crate::special::{log_normal_density, log_normal_tail, mills_ratio, mills_slope};

/// Natural logarithm of δ(ε), and a bound on the absolute error of that logarithm.
///
/// δ(ε) = Φ(µ/2 − ε/µ) − e^ε Φ(−µ/2 − ε/µ). With x₁ = ε/µ − µ/2, x₂ = x₁ + µ and R the Mills ratio this is
/// φ(x₁)(R(x₁) − R(x₂)), and the difference is the integral of −R' > 0 from x₁ to x₂: no cancellation for small µ.
pub(crate) fn log_delta(mu: f64, epsilon: f64) -> (f64, f64) {
    let ratio = epsilon / mu;
    let near = ratio - 0.5 * mu;
    let far = ratio + 0.5 * mu;
    // How much rounding in x₁ moves ln δ: at most the hazard rate of the normal law there.
    let slope = if near < 0.0 {
        2.0 * log_normal_density(near).exp()
    } else {
        1.0 + near
    };
    let error = 1e-13 + 4.0 * f64::EPSILON * slope * (ratio + mu);
    let value = if mu < 1.0 {
        let integral: f64 = GAUSS_LEGENDRE_8
            .iter()
            .map(|(node, weight)| weight * mu * mills_slope(near + node * mu))
            .sum();
        log_normal_density(near) + integral.ln()
    } else if near < 0.0 {
        let whole = log_normal_tail(near);
        let part = log_normal_density(near) + mills_ratio(far).ln();
        whole + (-(part - whole).exp()).ln_1p()
    } else {
        log_normal_density(near) + (mills_ratio(near) - mills_ratio(far)).ln()
    };
    // Far out a logarithm is a large number: its own rounding counts too.
    (value.min(0.0), error + 4.0 * f64::EPSILON * value.abs())
}

/// Lower and upper bound on the smallest ε at which the mechanism is (ε, δ)-DP, one rounding error apart.
pub(crate) fn epsilon(mu: f64, delta: f64) -> (f64, f64) {
    if mu <= 0.0 {
        return (0.0, 0.0);
    }
    let target = delta.ln();
    let upper = smallest(mu, |epsilon| {
        let (value, error) = log_delta(mu, epsilon);
        value + error <= target
    });
    let lower = smallest(mu, |epsilon| {
        let (value, error) = log_delta(mu, epsilon);
        value - error <= target
    });
    (lower.0, upper.1)
}

/// Smallest σ / sensitivity whose Gaussian release is (ε, δ)-DP, rounded up.
pub(crate) fn noise_for(epsilon: f64, delta: f64) -> f64 {
    let target = delta.ln();
    let enough = |noise: f64| {
        let (value, error) = log_delta(1.0 / noise, epsilon);
        value + error <= target
    };
    let mut high = 1.0;
    while !enough(high) && high < 1e300 {
        high *= 4.0;
    }
    let mut low = high / 4.0;
    while enough(low) && low > 1e-300 {
        (low, high) = (low / 4.0, low);
    }
    bisect(low, high, 1e-15, enough).1
}

fn smallest(mu: f64, holds: impl Fn(f64) -> bool) -> (f64, f64) {
    if holds(0.0) {
        return (0.0, 0.0);
    }
    let mut high = mu * (1.0 + mu);
    while !holds(high) {
        high *= 2.0;
        if !high.is_finite() {
            return (f64::MAX, f64::INFINITY);
        }
    }
    bisect(0.0, high, 1e-15, holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delta_matches_high_precision_values() {
        // (µ, ε, ln δ) from mpmath 1.3 at 80 digits.
        for (mu, epsilon_value, expected) in GAUSSIAN_LOG_DELTA {
            let (got, error) = log_delta(mu, epsilon_value);
            assert!(
                (got - expected).abs() <= error,
                "{mu} {epsilon_value}: {got} {expected} {error}"
            );
        }
    }

    #[test]
    fn epsilon_brackets_the_root_at_every_scale() {
        for mu in [1e-9, 1e-3, 0.3, 0.999_999, 1.0, 5.0, 300.0, 3e7] {
            for delta in [1e-300, 1e-30, 1e-5, 0.1, 1.0 - 1e-9] {
                let (low, high) = epsilon(mu, delta);
                // Close to δ = 1 the root is ill-conditioned: ln δ is 1e-9 there.
                let width = if delta > 0.5 { 1e-3 } else { 1e-9 };
                assert!(
                    low <= high && high - low <= width * high,
                    "{mu} {delta}: {low} {high}"
                );
                assert!(log_delta(mu, high).0 <= delta.ln());
            }
        }
    }

    #[test]
    fn calibrated_noise_meets_the_target_and_no_less_would() {
        for (target, delta) in [(1.0, 1e-5), (0.01, 1e-8), (20.0, 1e-10), (500.0, 1e-200)] {
            let noise = noise_for(target, delta);
            assert!(epsilon(1.0 / noise, delta).1 <= target * (1.0 + 1e-12));
            assert!(epsilon(1.0 / (noise * (1.0 - 1e-9)), delta).0 > target);
        }
    }

    const GAUSSIAN_LOG_DELTA: [(f64, f64, f64); 6] = [
        (1e-6, 0.0, -14.734449091168988),
        (1e-6, 2e-5, -220.73333906738955),
        (0.5, 1.0, -4.986489906848133),
        (1.0, 4.0, -9.962761831307708),
        (3.0, 0.5, -0.18633462646003074),
        (40.0, 1200.0, -53.45678294172817),
    ];
}
