//! Poisson sampling of any mechanism, from its Rényi curve alone (Zhu, Wang 2019, theorem 5).

use crate::special::{log_add_exp, log_binomial};

/// Divergence at order `1 + excess` of a mechanism sampled at `rate`, under add-or-remove or replace-by-zero.
///
/// `inner` is the curve of the mechanism without sampling, by order. The theorem holds at integer orders; in between,
/// (α−1)ρ(α) is convex, so the chord is an upper bound. Sampling never costs more than no sampling, which also serves
/// beyond the largest order that is summed.
pub(super) fn sampled(rate: f64, inner: impl Fn(f64) -> f64, excess: f64) -> f64 {
    let order = 1.0 + excess;
    let unsampled = inner(order);
    if rate >= 1.0 {
        return unsampled;
    }
    between_integers(excess, |order| at_integer(rate, &inner, order)).min(unsampled)
}

/// `(α−1)ρ(α)` interpolated between the integers around α, divided by α − 1.
///
/// `log_moment` is (n−1)ρ(n) at integer n ≥ 2; at n = 1 it is zero. Infinite beyond `MOST_TERMS`.
pub(super) fn between_integers(excess: f64, log_moment: impl Fn(f64) -> f64) -> f64 {
    if excess >= MOST_TERMS {
        return f64::INFINITY;
    }
    let below = excess.floor();
    let share = excess - below;
    let at = |excess: f64| {
        if excess < 0.5 {
            0.0
        } else {
            log_moment(1.0 + excess)
        }
    };
    let value = if share > 0.0 {
        (1.0 - share) * at(below) + share * at(below + 1.0)
    } else {
        at(below)
    };
    value / excess
}

const MOST_TERMS: f64 = 2000.0;

/// (α−1)ρ(α) at an integer order. The binomial weights sum to one, so with c₂ = 1 and c_l = 3 above,
/// A − 1 = Σ_{l≥2} C(α,l)(1−q)^{α−l} q^l (c_l e^{(l−1)ρ(l)} − 1) has no negative term.
fn at_integer(rate: f64, inner: impl Fn(f64) -> f64, order: f64) -> f64 {
    let (log_rate, log_rest) = (rate.ln(), (-rate).ln_1p());
    let mut log_gap = f64::NEG_INFINITY;
    let mut l = 2.0;
    while l <= order {
        let moment = (l - 1.0) * inner(l);
        let factor = if l < 2.5 {
            moment.exp_m1()
        } else {
            2.0 + 3.0 * moment.exp_m1()
        };
        let log_factor = if moment > 30.0 {
            moment + if l < 2.5 { 0.0 } else { 3f64.ln() }
        } else {
            factor.ln()
        };
        let term = log_binomial(order, l) + l * log_rate + (order - l) * log_rest + log_factor;
        log_gap = log_add_exp(log_gap, term);
        l += 1.0;
    }
    let log_gap = log_gap + 1e-9;
    if log_gap > 0.0 {
        log_gap + (-log_gap).exp().ln_1p()
    } else {
        log_gap.exp().ln_1p()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_lies_between_the_sampled_gaussian_and_the_gaussian() {
        for (rate, noise) in [(0.01, 2.0), (0.1, 5.0), (1e-3, 1.0)] {
            for excess in [1.0, 1.5, 4.0, 20.0] {
                let inner = |order: f64| 0.5 * order / (noise * noise);
                let general = sampled(rate, inner, excess);
                let exact = super::super::sampled_gaussian::add_or_remove(rate, noise, excess);
                assert!(
                    exact <= general * (1.0 + 1e-6) && general <= inner(1.0 + excess),
                    "{rate} {noise} {excess}"
                );
            }
        }
    }

    #[test]
    fn at_order_two_the_bound_is_the_sampled_gaussian_itself() {
        let general = sampled(0.01, |order| 0.5 * order, 1.0);
        let exact = super::super::sampled_gaussian::add_or_remove(0.01, 1.0, 1.0);
        assert!((general / exact - 1.0).abs() < 1e-7);
    }
}
