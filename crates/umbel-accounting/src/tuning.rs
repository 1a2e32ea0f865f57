//! What random search over hyper-parameters costs (Papernot and Steinke 2022, arXiv 2110.03620).
//!
//! A sweep that keeps the best of its runs costs more than one run, and if all of its runs were added up, as
//! much as all of them. The middle way: draw the number K of trials from a public law, run K trials, each
//! with hyper-parameters drawn independently from one distribution fixed in advance, and release **only the
//! best** one (its model, hyper-parameters and score). If one trial has Rényi divergence at most ρ(λ), the
//! search has little more, though K may be large.
//!
//! What it rests on:
//! - the score by which the best is chosen belongs to what the trial releases under its own guarantee
//!   (computed on public data, or charged);
//! - trials are independent of each other: no Bayesian optimisation, no early stop by comparison, no grid
//!   that is walked to the end (drawing uniformly from a grid is allowed);
//! - K is drawn by the law, at random and secretly, and never changed; nothing of the other trials is ever
//!   shown, not even how many there were. A fixed K has no such bound: there the runs are added up.
//!
//! The bounds hold for ρ under any neighbouring relation, in both directions, and give ε under the same.

use crate::{Delta, Epsilon, ParamError, search, special::log_one_minus_exp};

/// The law of the number of trials.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Law {
    /// Pr[K = k] ∝ (1 − γ)^k Π_{l<k} (l + η) / (l + 1), k ≥ 1, with γ = e^−x.
    NegativeBinomial { shape: f64, minus_log_gamma: f64 },
    /// Pr[K = k] = e^−µ µ^k / k!, k ≥ 0.
    Poisson,
}

/// Random search with a random number of trials.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomSearch {
    law: Law,
    expected_trials: f64,
}

/// Why a search could not be described or charged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TuningError {
    /// Orders and divergences that do not belong together.
    #[error("expected one divergence for each of {expected} orders, got {got}")]
    Length {
        /// How many orders there are.
        expected: usize,
        /// How many divergences came.
        got: usize,
    },
    /// A number out of range.
    #[error(transparent)]
    Param(#[from] ParamError),
}

impl RandomSearch {
    /// The most trials that may be expected.
    pub const MOST_EXPECTED: f64 = 1e5;

    /// Truncated negative binomial law with this shape η, from above −1 to 1000, and `expected_trials` of 1
    /// to [`Self::MOST_EXPECTED`]. η = 1 is the geometric law, η = 0 the logarithmic one.
    ///
    /// A larger η concentrates K around its mean and costs more: for a trial of pure ε the search tends to (2
    /// + η) ε. A smaller one costs less, but K is then often 1.
    pub fn negative_binomial(shape: f64, expected_trials: f64) -> Result<Self, TuningError> {
        if !(shape > -1.0 && shape <= 1000.0) {
            return Err(ParamError {
                name: "shape",
                expected: "a number above -1 and at most 1000",
                got: shape,
            }
            .into());
        }
        check_expected(expected_trials)?;
        let target = expected_trials.ln();
        // Rounded to the side of the smaller γ: more trials, more cost.
        let enough = |x: f64| log_mean(shape, x) >= target;
        let mut high = 1.0;
        while !enough(high) {
            high *= 2.0;
            if high > 1e6 {
                let expected = "a number small enough for this shape";
                return Err(ParamError {
                    name: "expected trials",
                    expected,
                    got: expected_trials,
                }
                .into());
            }
        }
        let minus_log_gamma = if expected_trials > 1.0 {
            search::bisect(0.0, high, 1e-15, enough).1
        } else {
            0.0
        };
        Ok(Self {
            law: Law::NegativeBinomial {
                shape,
                minus_log_gamma,
            },
            expected_trials,
        })
    }

    /// Geometric law: after each trial, stop with probability 1 / `expected_trials`.
    pub fn geometric(expected_trials: f64) -> Result<Self, TuningError> {
        Self::negative_binomial(1.0, expected_trials)
    }

    /// Logarithmic law.
    pub fn logarithmic(expected_trials: f64) -> Result<Self, TuningError> {
        Self::negative_binomial(0.0, expected_trials)
    }

    /// Poisson law. K may be 0; then something fixed in advance is released, such as an untrained model.
    ///
    /// Concentrated most, and cheap where one trial costs little: a large ε of one trial makes it useless.
    pub fn poisson(expected_trials: f64) -> Result<Self, TuningError> {
        check_expected(expected_trials)?;
        Ok(Self {
            law: Law::Poisson,
            expected_trials,
        })
    }

    /// The expected number of trials.
    pub fn expected_trials(&self) -> f64 {
        self.expected_trials
    }

    /// Bounds on the Rényi divergences of the search at `orders`, from those of one trial at the same orders.
    ///
    /// With m expected trials, for the negative binomial laws (Theorem 2 of the paper), over λ' ≥ 1:
    /// ρ(λ) + (1 + η) min ((1 − 1/λ') ρ(λ') + ln(1/γ)/λ') + ln(m)/(λ−1). For the Poisson law (Theorem 6):
    /// ρ(λ) + m δ' + ln(m)/(λ−1), where one trial is (ε', δ')-DP with ε' = ln(1 + 1/(λ−1)).
    ///
    /// Since divergences grow with the order, the smallest at this or a higher order holds. Orders are above 1; a
    /// divergence may be infinite.
    pub fn divergences(&self, orders: &[f64], one_trial: &[f64]) -> Result<Vec<f64>, TuningError> {
        if orders.len() != one_trial.len() {
            return Err(TuningError::Length {
                expected: orders.len(),
                got: one_trial.len(),
            });
        }
        for &got in orders {
            if !(got > 1.0 && got.is_finite()) {
                return Err(ParamError {
                    name: "Rényi order",
                    expected: "a finite number above 1",
                    got,
                }
                .into());
            }
        }
        for &got in one_trial {
            if got.is_nan() || got < 0.0 {
                return Err(ParamError {
                    name: "Rényi divergence",
                    expected: "a number of at least 0",
                    got,
                }
                .into());
            }
        }
        let points: Vec<Point> = orders
            .iter()
            .zip(one_trial)
            .map(|(&order, &divergence)| Point {
                order,
                excess: order - 1.0,
                divergence,
            })
            .collect();
        let found = self.at(&points);
        // The smallest at this or any higher order, in one pass from the highest down.
        let mut by_order: Vec<usize> = (0..orders.len()).collect();
        by_order.sort_by(|&a, &b| orders[b].total_cmp(&orders[a]));
        let (mut smallest, mut result) = (f64::INFINITY, vec![0.0; orders.len()]);
        for i in by_order {
            smallest = found[i].min(smallest);
            result[i] = smallest;
        }
        Ok(result)
    }

    /// ε of the search at `delta`, an upper bound, from the divergence of one trial at any order above 1.
    ///
    /// `one_trial` is evaluated on a fine geometric grid of orders; each grid point gives a bound that holds,
    /// and the smallest is returned. NaN and negative values of `one_trial` count as infinite. Conversion by
    /// Canonne, Kamath and Steinke 2020, Proposition 12.
    pub fn epsilon(&self, one_trial: impl Fn(f64) -> f64, delta: Delta) -> Epsilon {
        let points: Vec<Point> = (0..GRID_POINTS)
            .map(|i| {
                let excess = (GRID_START + GRID_STEP * f64::from(i)).exp();
                let divergence = one_trial(1.0 + excess);
                let divergence = if divergence >= 0.0 {
                    divergence
                } else {
                    f64::INFINITY
                };
                Point {
                    order: 1.0 + excess,
                    excess,
                    divergence,
                }
            })
            .collect();
        let log_delta = delta.value().ln();
        let best = points
            .iter()
            .zip(self.at(&points))
            .map(|(point, divergence)| point.epsilon(divergence, log_delta))
            .fold(f64::INFINITY, f64::min);
        Epsilon::new(best.max(0.0)).unwrap_or(Epsilon::INFINITE)
    }

    /// Draws the number of trials from a number uniform in [0, 1), by inversion. `None` for a number outside,
    /// and for a negative shape, whose rare numbers of trials nobody could run.
    ///
    /// With a uniform number of 53 bits the law is met up to a total variation distance τ below
    /// `expected_trials` × 2⁻⁴⁰, which adds (1 + e^ε) τ to δ.
    pub fn n_trials(&self, uniform: f64) -> Option<u64> {
        if !(0.0..1.0).contains(&uniform) {
            return None;
        }
        let mean = self.expected_trials;
        let (first, log_first) = match self.law {
            Law::Poisson => (0_u64, -mean),
            Law::NegativeBinomial { shape, .. } if shape < 0.0 => return None,
            Law::NegativeBinomial {
                minus_log_gamma: x, ..
            } if x <= 0.0 => return Some(1),
            Law::NegativeBinomial {
                shape,
                minus_log_gamma: x,
            } => (1, log_one_minus_exp(-x) - log_weight(shape, x)),
        };
        let log_ratio = |k: f64| match self.law {
            Law::Poisson => mean.ln() - (k + 1.0).ln(),
            Law::NegativeBinomial {
                shape,
                minus_log_gamma: x,
            } => log_one_minus_exp(-x) + ((k + shape) / (k + 1.0)).ln(),
        };
        let (mut k, mut log_mass, mut passed) = (first, Sum::new(log_first), Sum::new(0.0));
        loop {
            passed.add(log_mass.value().exp());
            let ratio = log_ratio(k as f64);
            // Beyond the mode and with nothing left that a uniform number of 53 bits could tell.
            let ended = ratio < 0.0 && log_mass.value() < -60.0;
            if passed.value() > uniform || ended {
                return Some(k);
            }
            log_mass.add(ratio);
            k += 1;
        }
    }

    /// The theorem at each of `points`, with the smallest over λ' or δ' taken over the same points.
    fn at(&self, points: &[Point]) -> Vec<f64> {
        match self.law {
            Law::NegativeBinomial {
                shape,
                minus_log_gamma,
            } => {
                let mut extra = points
                    .iter()
                    .map(|point| {
                        point.excess / point.order * point.divergence + minus_log_gamma / point.order
                    })
                    .fold(f64::INFINITY, f64::min);
                // λ' = 1, where the divergence has no weight but must be finite, as it is below any finite
                // one.
                if points.iter().any(|point| point.divergence.is_finite()) {
                    extra = extra.min(minus_log_gamma);
                }
                let log_trials = self.expected_trials.ln().max(log_mean(shape, minus_log_gamma));
                let cost =
                    |point: &Point| point.divergence + (1.0 + shape) * extra + log_trials / point.excess;
                points.iter().map(cost).collect()
            }
            Law::Poisson => {
                let mean = self.expected_trials;
                // ln δ at ε and order λ' is this less (λ' − 1) ε, or at any ε the bound on the total
                // variation.
                let known = || points.iter().filter(|point| point.divergence.is_finite());
                let at_zero: Vec<(f64, f64)> = known()
                    .map(|point| (point.excess, point.log_delta_at_zero()))
                    .collect();
                let flat = known()
                    .map(|point| 0.5 * log_one_minus_exp(-point.divergence))
                    .fold(0.0, f64::min);
                let cost = |point: &Point| {
                    // ln(1 + 1/(λ − 1)) = ln λ − ln(λ − 1).
                    let epsilon = (1.0 / point.excess).ln_1p();
                    let log_delta = at_zero
                        .iter()
                        .map(|(excess, value)| value - excess * epsilon)
                        .fold(flat, f64::min);
                    point.divergence + mean * log_delta.exp() + mean.ln() / point.excess
                };
                points.iter().map(cost).collect()
            }
        }
    }
}

/// Orders from 1 + e^START in steps of the logarithm of the order less one.
const GRID_START: f64 = -7.0;
const GRID_STEP: f64 = 0.02;
const GRID_POINTS: u32 = 1200;

/// The divergence of one trial at one order.
struct Point {
    order: f64,
    /// The order less one, kept apart since the difference would lose digits.
    excess: f64,
    divergence: f64,
}

impl Point {
    /// ε at δ if the divergence at this order is `divergence`.
    fn epsilon(&self, divergence: f64, log_delta: f64) -> f64 {
        // δ(0) is at most sqrt(1 − e^−ρ), as ρ is no less than the Kullback-Leibler divergence.
        if 0.5 * log_one_minus_exp(-divergence) <= log_delta {
            return 0.0;
        }
        divergence + (self.excess / self.order).ln() - (log_delta + self.order.ln()) / self.excess
    }

    /// Upper bound on ln δ at ε = 0, by this order: (λ − 1)(ρ + ln(1 − 1/λ)) − ln λ.
    fn log_delta_at_zero(&self) -> f64 {
        self.excess * (self.divergence + (self.excess / self.order).ln()) - self.order.ln()
    }
}

/// A sum with its rounding errors added up apart (Neumaier).
struct Sum {
    high: f64,
    low: f64,
}

impl Sum {
    fn new(value: f64) -> Self {
        Self {
            high: value,
            low: 0.0,
        }
    }

    fn add(&mut self, value: f64) {
        let high = self.high + value;
        let shadow = high - self.high;
        self.low += (self.high - (high - shadow)) + (value - shadow);
        self.high = high;
    }

    fn value(&self) -> f64 {
        self.high + self.low
    }
}

fn check_expected(expected_trials: f64) -> Result<(), ParamError> {
    if (1.0..=RandomSearch::MOST_EXPECTED).contains(&expected_trials) {
        Ok(())
    } else {
        Err(ParamError {
            name: "expected trials",
            expected: "a number from 1 to 1e5",
            got: expected_trials,
        })
    }
}

/// ln E[K] of the truncated negative binomial law at γ = e^−x: η (1/γ − 1) / (1 − γ^η), or (1/γ − 1) /
/// ln(1/γ) at η = 0.
fn log_mean(shape: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    // 1/γ − 1 = e^x (1 − e^−x); 1 − γ^η = γ^η (γ^−η − 1).
    (x + log_one_minus_exp(-x) - log_weight(shape, x) + shape * x).max(0.0)
}

/// ln((γ^−η − 1) / η) at γ = e^−x, ln x at η = 0.
fn log_weight(shape: f64, x: f64) -> f64 {
    let t = shape * x;
    if t.abs() < 1e-5 {
        // (e^t − 1) / t = 1 + t/2 + t²/6 + ...
        return x.ln() + (0.5 * t * (1.0 + t / 3.0)).ln_1p();
    }
    if t > 0.0 {
        t + log_one_minus_exp(-t) - shape.ln()
    } else {
        log_one_minus_exp(t) - (-shape).ln()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gaussian(noise_multiplier: f64) -> impl Fn(f64) -> f64 {
        move |order| 0.5 * order / (noise_multiplier * noise_multiplier)
    }

    fn delta(value: f64) -> Delta {
        Delta::new(value).unwrap()
    }

    #[test]
    fn means_are_those_of_the_laws() {
        // 1/γ for the geometric law, (1/γ − 1) / ln(1/γ) for the logarithmic one, and the definition for
        // others.
        for gamma in [0.9_f64, 0.5, 0.01, 1e-6] {
            let x = -gamma.ln();
            assert!((log_mean(1.0, x).exp() * gamma - 1.0).abs() < 1e-10);
            assert!((log_mean(0.0, x).exp() / ((1.0 / gamma - 1.0) / x) - 1.0).abs() < 1e-10);
            for shape in [-0.5, 1e-9, 0.5, 3.0, 40.0] {
                let expected = shape * (1.0 - gamma) / (gamma * (1.0 - gamma.powf(shape)));
                assert!(
                    (log_mean(shape, x).exp() / expected - 1.0).abs() < 1e-6,
                    "{shape} {gamma}"
                );
            }
        }
    }

    #[test]
    fn one_certain_trial_costs_what_the_trial_costs() {
        for shape in [-0.5, 0.0, 1.0, 7.0] {
            let search = RandomSearch::negative_binomial(shape, 1.0).unwrap();
            let orders = [1.5, 2.0, 10.0];
            let one: Vec<f64> = orders.iter().map(|&order| gaussian(2.0)(order)).collect();
            let found = search.divergences(&orders, &one).unwrap();
            for (a, b) in found.iter().zip(&one) {
                assert!((a - b).abs() < 1e-12, "{found:?} {one:?}");
            }
        }
    }

    #[test]
    fn concentrated_trials_cost_what_the_theorem_says_by_hand() {
        let rho = 1e-4;
        let orders: Vec<f64> = (1..400)
            .map(|i| 1.0 + (f64::from(i) * 0.05).exp() * 1e-2)
            .collect();
        let one: Vec<f64> = orders.iter().map(|order| rho * order).collect();
        let found = RandomSearch::geometric(10.0)
            .unwrap()
            .divergences(&orders, &one)
            .unwrap();
        // The smallest of (1 − 1/λ') ρ λ' + ln(1/γ) / λ' is 2 √(ρ ln(1/γ)) − ρ at λ' = √(ln(1/γ) / ρ).
        let extra = 2.0 * (2.0 * (rho * 10.0_f64.ln()).sqrt() - rho);
        let at = orders.len() / 2;
        let expected = one[at] + extra + 10.0_f64.ln() / (orders[at] - 1.0);
        assert!(
            (found[at] / expected - 1.0).abs() < 1e-3,
            "{} {expected}",
            found[at]
        );
    }

    fn mean_and_mass(search: &RandomSearch) -> (f64, f64) {
        // From the quantiles at the middles of many equal parts.
        let parts = 200_000;
        let draw = |i: u32| search.n_trials((f64::from(i) + 0.5) / f64::from(parts)).unwrap() as f64;
        let draws: Vec<f64> = (0..parts).map(draw).collect();
        let ones = draws.iter().filter(|&&k| k < 1.5).count() as f64;
        (
            draws.iter().sum::<f64>() / f64::from(parts),
            ones / f64::from(parts),
        )
    }

    #[test]
    fn drawn_numbers_of_trials_follow_the_law() {
        let (mean, ones) = mean_and_mass(&RandomSearch::geometric(10.0).unwrap());
        assert!(
            (mean - 10.0).abs() < 0.01 && (ones - 0.1).abs() < 1e-4,
            "{mean} {ones}"
        );
        let (mean, ones) = mean_and_mass(&RandomSearch::poisson(5.0).unwrap());
        assert!(
            (mean - 5.0).abs() < 0.001 && (ones - 6.0 * (-5.0_f64).exp()).abs() < 1e-4,
            "{mean} {ones}"
        );
        for shape in [0.0, 0.5, 4.0] {
            let (mean, _) = mean_and_mass(&RandomSearch::negative_binomial(shape, 12.0).unwrap());
            assert!((mean - 12.0).abs() < 0.05, "{shape}: {mean}");
        }
        for shape in [100.0, 1000.0] {
            let search = RandomSearch::negative_binomial(shape, 300.0).unwrap();
            let median = search.n_trials(0.5).unwrap();
            assert!((280..320).contains(&median), "{shape}: {median}");
        }
        let certain = RandomSearch::logarithmic(1.0).unwrap();
        assert_eq!(
            (certain.n_trials(0.0), certain.n_trials(0.999)),
            (Some(1), Some(1))
        );
        assert!(
            RandomSearch::poisson(1e5)
                .unwrap()
                .n_trials(1.0 - f64::EPSILON)
                .unwrap()
                > 100_000
        );
        for outside in [1.0, f64::NAN, -0.1] {
            assert_eq!(certain.n_trials(outside), None);
        }
        assert_eq!(
            RandomSearch::negative_binomial(-0.5, 3.0).unwrap().n_trials(0.5),
            None
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [0.0, 0.99, 1e6, f64::NAN, f64::INFINITY, -1.0] {
            assert!(
                RandomSearch::poisson(bad).is_err() && RandomSearch::geometric(bad).is_err(),
                "{bad}"
            );
        }
        for bad in [-1.0, f64::NAN, 1001.0] {
            assert!(RandomSearch::negative_binomial(bad, 2.0).is_err(), "{bad}");
        }
        assert!(RandomSearch::negative_binomial(-1.0 + 1e-12, 1e5).is_err());
        let search = RandomSearch::geometric(5.0).unwrap();
        let error = search.divergences(&[2.0], &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected one divergence for each of 1 orders, got 0"
        );
        assert!(search.divergences(&[1.0], &[0.1]).is_err());
        assert!(search.divergences(&[2.0], &[f64::NAN]).is_err());
        assert!(search.divergences(&[], &[]).unwrap().is_empty());
        assert_eq!(search.epsilon(|_| f64::INFINITY, delta(1e-5)), Epsilon::INFINITE);
        assert_eq!(search.epsilon(|_| f64::NAN, delta(1e-5)), Epsilon::INFINITE);
        assert_eq!(
            RandomSearch::poisson(5.0).unwrap().epsilon(|_| -1.0, delta(1e-5)),
            Epsilon::INFINITE
        );
    }

    proptest! {
        #[test]
        fn more_trials_cost_more_and_any_search_costs_more_than_one_trial(
            noise in 0.3..100.0_f64, fewer in 1.0..100.0_f64, factor in 1.0..50.0_f64,
            shape in -0.9..20.0_f64,
            log_delta in -60.0..-2.0_f64, poisson in any::<bool>(),
        ) {
            let make = |expected: f64| match poisson {
                true => RandomSearch::poisson(expected),
                false => RandomSearch::negative_binomial(shape, expected),
            };
            let (Ok(small), Ok(large)) = (make(fewer), make(fewer * factor)) else { return Ok(()) };
            let delta = delta(log_delta.exp());
            let cost = |search: &RandomSearch| search.epsilon(gaussian(noise), delta).value();
            let single = cost(&RandomSearch::negative_binomial(0.0, 1.0).unwrap());
            let (a, b) = (cost(&small), cost(&large));
            prop_assert!(single <= a * (1.0 + 1e-9) + 1e-12, "{} {}", single, a);
            prop_assert!(a <= b * (1.0 + 1e-9) + 1e-12, "{} {}", a, b);
            let noisier = small.epsilon(gaussian(noise * 1.1), delta).value();
            prop_assert!(noisier <= a * (1.0 + 1e-9) + 1e-12);
        }
    }
}
