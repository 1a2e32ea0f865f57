//! The Rényi divergence of each primitive, as a function of α − 1.

use super::{sampled_gaussian, subsampling};
use crate::primitive::{DiscreteNoise, Primitive};
use crate::special::log_add_exp;

/// Upper bound on the divergence of order `1 + excess`, both directions.
pub(super) fn divergence(primitive: &Primitive, excess: f64) -> f64 {
    let order = 1.0 + excess;
    match *primitive {
        Primitive::Gaussian { mu } => 0.5 * order * mu * mu,
        Primitive::NonPrivate => f64::INFINITY,
        Primitive::SampledGaussian { rate, noise } => sampled_gaussian::add_or_remove(rate, noise, excess),
        Primitive::SampledReplaceOneGaussian { rate, noise } => {
            sampled_gaussian::replace_one(rate, noise, excess)
        }
        Primitive::FixedSizeGaussian { rate, noise } => sampled_gaussian::fixed_size(rate, noise, excess),
        Primitive::TruncatedGaussian {
            rate,
            noise,
            truncation,
            truncated_rate,
        } => {
            let ordinary = excess * sampled_gaussian::add_or_remove(rate, noise, excess);
            let truncated = excess * sampled_gaussian::replace_one(truncated_rate, 0.5 * noise, excess);
            mixture(truncation, truncated, ordinary) / excess
        }
        Primitive::Laplace { rate, scale } => {
            subsampling::sampled(rate, |order| laplace(scale, order - 1.0), excess)
        }
        Primitive::DiscreteNoise {
            noise: DiscreteNoise::Gaussian { sigma },
            shift,
            rate,
        } => {
            // Canonne, Kamath, Steinke 2020, theorem 4.
            #[allow(clippy::cast_precision_loss, reason = "a shift stays below 1e15")]
            let ratio = shift as f64 / sigma;
            subsampling::sampled(rate, |order| 0.5 * order * ratio * ratio, excess)
        }
        Primitive::DiscreteNoise {
            noise: DiscreteNoise::Laplace { scale },
            shift,
            rate,
        } => {
            #[allow(clippy::cast_precision_loss, reason = "a shift stays below 1e15")]
            let largest = shift as f64 / scale;
            subsampling::sampled(rate, |order| pure(largest, order - 1.0), excess)
        }
        Primitive::ZeroConcentrated { rho, rate } => subsampling::sampled(rate, |order| rho * order, excess),
        Primitive::Skellam {
            l1,
            l2,
            variance,
            rate,
        } => subsampling::sampled(rate, |order| skellam(l1, l2, variance, order - 1.0), excess),
    }
}

/// The largest loss that can occur: infinite except for Laplace noise.
pub(super) fn largest_loss(primitive: &Primitive) -> f64 {
    let (rate, inner) = match *primitive {
        Primitive::Laplace { rate, scale } => (rate, 1.0 / scale),
        Primitive::DiscreteNoise {
            noise: DiscreteNoise::Laplace { scale },
            shift,
            rate,
        } => {
            #[allow(clippy::cast_precision_loss, reason = "a shift stays below 1e15")]
            let largest = shift as f64 / scale;
            (rate, largest)
        }
        Primitive::Gaussian { mu } if mu <= 0.0 => (1.0, 0.0),
        _ => return f64::INFINITY,
    };
    // Amplification of pure privacy: ln(1 + q(e^ε − 1)).
    if rate >= 1.0 {
        inner
    } else if inner > 30.0 {
        log_add_exp((-rate).ln_1p(), rate.ln() + inner)
    } else {
        (rate * inner.exp_m1()).ln_1p()
    }
}

/// Laplace noise of scale b on a shift of one (Mironov 2017, table 2), with first orders cancelled by hand:
/// A − 1 = α/(2α−1) g((α−1)/b) + (α−1)/(2α−1) g(−α/b), g(x) = e^x − 1 − x ≥ 0.
fn laplace(scale: f64, excess: f64) -> f64 {
    let order = 1.0 + excess;
    let (up, down) = (excess / scale, order / scale);
    let weight = order / (order + excess);
    if up > 500.0 {
        return (up + log_add_exp(weight.ln(), (1.0 - weight).ln() - down - up)) / excess;
    }
    let gap = weight * exponential_remainder(up) + (1.0 - weight) * exponential_remainder(-down);
    (gap.ln_1p() / excess).min(1.0 / scale)
}

/// `e^x − 1 − x` without cancellation.
fn exponential_remainder(x: f64) -> f64 {
    if x.abs() < 1e-3 {
        0.5 * x * x * (1.0 + x / 3.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0)))
    } else {
        x.exp_m1() - x
    }
}

/// A mechanism whose loss never exceeds ε: the two-point law (Bun, Steinke 2016, proposition 3.3, before its last
/// simplification): e^{(α−1)ρ} ≤ (sinh αε − sinh (α−1)ε) / sinh ε.
fn pure(epsilon: f64, excess: f64) -> f64 {
    let order = 1.0 + excess;
    if order * epsilon > 300.0 {
        return epsilon;
    }
    // The moment minus one, times sinh ε: 4 sinh(ε/2) sinh(αε/2) sinh((α−1)ε/2).
    let gap = 2.0 * (0.5 * order * epsilon).sinh() * (0.5 * excess * epsilon).sinh() / (0.5 * epsilon).cosh();
    (gap.ln_1p() / excess).min(epsilon)
}

/// Agarwal, Kairouz, Liu 2021, corollary 3.6, at integer orders above 1; in between by the chord of (α−1)ρ(α).
fn skellam(l1: f64, l2: f64, variance: f64, excess: f64) -> f64 {
    let at = |order: f64| {
        let correction = ((2.0 * order - 1.0) * l2 * l2 + 6.0 * l1) / (4.0 * variance * variance);
        0.5 * order * l2 * l2 / variance + correction.min(1.5 * l1 / variance)
    };
    let below = excess.floor();
    let share = excess - below;
    let log_moment = |excess: f64| {
        if excess < 0.5 {
            0.0
        } else {
            excess * at(1.0 + excess)
        }
    };
    ((1.0 - share) * log_moment(below) + share * log_moment(below + 1.0)) / excess
}

/// `ln(w e^a + (1−w) e^b)` for small or large exponents.
fn mixture(weight: f64, a: f64, b: f64) -> f64 {
    if a.max(b) < 1.0 {
        (weight * a.exp_m1() + (1.0 - weight) * b.exp_m1()).ln_1p()
    } else {
        log_add_exp(weight.ln() + a, (1.0 - weight).ln() + b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skellam_bound_follows_the_paper() {
        // α Δ₂²/2µ + min(((2α−1)Δ₂² + 6Δ₁)/4µ², 3Δ₁/2µ) at µ = variance. The convention: variance µ in each coordinate.
        let (l1, l2, variance) = (40.0, 10.0, 900.0);
        let expected = 3.0 * 100.0 / 1800.0 + (5.0 * 100.0 + 240.0) / (4.0 * 810_000.0);
        assert!((skellam(l1, l2, variance, 2.0) - expected).abs() < 1e-15);
        assert!(skellam(l1, l2, variance, 1.5) < skellam(l1, l2, variance, 2.0));
    }

    #[test]
    fn laplace_matches_the_closed_form_and_its_limits() {
        let (scale, order) = (2.0_f64, 3.0_f64);
        let moment = order / (2.0 * order - 1.0) * ((order - 1.0) / scale).exp()
            + (order - 1.0) / (2.0 * order - 1.0) * (-order / scale).exp();
        assert!((laplace(scale, order - 1.0) - moment.ln() / (order - 1.0)).abs() < 1e-14);
        assert!((laplace(scale, 1e9) - 0.5).abs() < 1e-6);
        // Weak noise levels: ρ → α/2b².
        assert!((laplace(1e5, 1.0) / 1e-10 - 1.0).abs() < 1e-4);
    }

    #[test]
    fn pure_privacy_is_randomised_response() {
        let (epsilon, order) = (0.7_f64, 4.0_f64);
        let p = epsilon.exp() / (1.0 + epsilon.exp());
        let moment =
            p.powf(order) * (1.0 - p).powf(1.0 - order) + (1.0 - p).powf(order) * p.powf(1.0 - order);
        assert!((pure(epsilon, order - 1.0) - moment.ln() / (order - 1.0)).abs() < 1e-13);
    }
}
