//! From a curve of Rényi divergences to ε at δ and back (Canonne, Kamath, Steinke 2020, proposition 12).
//!
//! For any order α = 1 + t with divergence at most ρ, with t > 0:
//! ε = ρ + ln(1 − 1/α) − (ln δ + ln α)/t, and ln δ = t(ρ − ε + ln(1 − 1/α)) − ln α. Since tρ is convex in t, the first
//! has one valley in t and the second is convex, so a search finds the best order; every order gives a valid bound.
//! Besides, divergences grow with the order, so any of them bounds the Kullback-Leibler divergence, and the total
//! variation distance δ(0) is at most sqrt(1 − e^−KL).

use crate::search::minimise;

/// The order is searched from 1 + e^LOWEST to 1 + e^HIGHEST.
const LOWEST: f64 = -40.0;
const HIGHEST: f64 = 60.0;

/// Smallest ε over all orders; `largest_loss` is what holds with δ = 0.
pub(super) fn epsilon(divergence: impl Fn(f64) -> f64, largest_loss: f64, delta: f64) -> f64 {
    // δ(0) ≤ sqrt(1 − e^−ρ) ≤ δ.
    if let Some(smallest) = Some(divergence(LOWEST.exp())).filter(|rho| rho.is_finite())
        && (-smallest).exp_m1() + delta * delta >= 0.0
    {
        return 0.0;
    }
    let log_delta = delta.ln();
    let at = |log_excess: f64| {
        let excess = log_excess.exp();
        let order = 1.0 + excess;
        divergence(excess) + (excess / order).ln() - (log_delta + excess.ln_1p()) / excess
    };
    valley(at).max(0.0).min(largest_loss)
}

/// Smallest `ln δ` over all orders.
pub(super) fn log_delta(divergence: impl Fn(f64) -> f64, epsilon: f64) -> f64 {
    let at = |log_excess: f64| {
        let excess = log_excess.exp();
        excess * (divergence(excess) - epsilon + (excess / (1.0 + excess)).ln()) - excess.ln_1p()
    };
    let total_variation = 0.5 * (-(-divergence(LOWEST.exp())).exp_m1()).ln();
    let best = valley(at).min(0.0);
    if total_variation < best {
        total_variation
    } else {
        best
    }
}

/// Walks downhill from a middling order until the valley is passed, then narrows it.
fn valley(f: impl Fn(f64) -> f64) -> f64 {
    let value = |x: f64| {
        let y = f(x);
        if y.is_nan() { f64::INFINITY } else { y }
    };
    let (mut middle, mut at_middle) = (2.0, value(2.0));
    let mut best = at_middle;
    let mut step = 1.0;
    let (mut left, mut at_left) = (middle - step, value(middle - step));
    let (mut right, mut at_right) = (middle + step, value(middle + step));
    best = best.min(at_left).min(at_right);
    loop {
        if at_left <= at_middle && at_left.is_finite() || (at_middle.is_infinite() && at_right.is_infinite())
        {
            if left <= LOWEST {
                break;
            }
            (right, middle, at_middle) = (middle, left, at_left);
            step = (1.6 * step).min(10.0);
            left = (middle - step).max(LOWEST);
            at_left = value(left);
            at_right = f64::INFINITY;
            best = best.min(at_left);
        } else if at_right < at_middle {
            if right >= HIGHEST {
                break;
            }
            (left, middle, at_middle) = (middle, right, at_right);
            step = (1.6 * step).min(10.0);
            right = (middle + step).min(HIGHEST);
            at_right = value(right);
            at_left = f64::INFINITY;
            best = best.min(at_right);
        } else {
            break;
        }
    }
    best.min(minimise(left, right, 1e-7, value).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_the_optimum_of_gaussians_of_every_size() {
        // Against a scan of 10,000 orders around the closed-form optimum of the plain conversion.
        for rho in [1e-14_f64, 1e-6, 1e-2, 0.5, 40.0, 1e6, 1e12] {
            for delta in [1e-300_f64, 1e-30, 1e-5, 0.01] {
                let found = epsilon(|excess| rho * (1.0 + excess), f64::INFINITY, delta);
                let centre = (-delta.ln() / rho).sqrt().ln();
                let scanned = (0..10_000)
                    .map(|i| {
                        let t = (centre - 5.0 + f64::from(i) * 1e-3).exp();
                        rho * (1.0 + t) + (t / (1.0 + t)).ln() - (delta.ln() + t.ln_1p()) / t
                    })
                    .fold(f64::INFINITY, f64::min)
                    .max(0.0);
                assert!(
                    found <= scanned * (1.0 + 1e-9) + 1e-12,
                    "{rho} {delta}: {found} {scanned}"
                );
            }
        }
    }

    #[test]
    fn pure_privacy_is_never_exceeded() {
        // Divergence of a mechanism whose loss is at most 0.3 everywhere.
        let found = epsilon(|excess| (0.5 * 0.09 * (1.0 + excess)).min(0.3), 0.3, 1e-200);
        assert!((found - 0.3).abs() < 1e-9);
    }

    #[test]
    fn an_infinite_curve_gives_an_infinite_epsilon() {
        assert!(epsilon(|_| f64::INFINITY, f64::INFINITY, 0.5).is_infinite());
        assert!(log_delta(|_| f64::INFINITY, 3.0) >= 0.0);
    }

    #[test]
    fn delta_and_epsilon_are_inverse() {
        for rho in [1e-8_f64, 1e-3, 0.5, 40.0] {
            let curve = |excess: f64| rho * (1.0 + excess);
            let at = epsilon(curve, f64::INFINITY, 1e-9);
            assert!((log_delta(curve, at) - 1e-9_f64.ln()).abs() < 1e-6, "{rho}");
        }
    }
}
