//! A bound on (ε, δ) from guesses about the canaries of one run.

use umbel_accounting::Delta;

use super::{Confidence, FINE, Guesses, last_excluded};
use crate::special::Binomial;

/// Upper bound on the probability that an (ε, δ)-private mechanism lets so many guesses be right.
///
/// Steinke, Nasr, Jagielski 2023 (arXiv 2305.08846), theorem 5.2: with r guesses about m canaries, v of them right, and
/// X ~ Bin(r, e^ε / (1 + e^ε)), it is β + 2mδ · max over 1 ≤ i ≤ v of (Pr[X ≥ v − i] − β) / i, where β = Pr[X ≥ v].
pub fn one_run_p_value(guesses: Guesses, epsilon: f64, delta: Delta) -> f64 {
    let correct = guesses.correct.min(guesses.made);
    let tails = Binomial::new(guesses.made, 1.0 / (1.0 + (-epsilon).exp())).upper_tails();
    let v = correct as usize;
    let beta = tails[v];
    let steepest = (1..=correct)
        .map(|i| (tails[v - i as usize] - beta) / f64::from(i))
        .fold(0.0, f64::max);
    (beta + 2.0 * f64::from(guesses.canaries) * delta.value() * steepest).min(1.0)
}

/// The largest ε that the guesses exclude at `delta`: a lower bound on ε, at least 0 and at most 30.
///
/// Assumes nothing about the mechanism: only that canaries are in by fair, independent coins, that each is one privacy unit, and
/// that the number of guesses was fixed in advance.
pub fn one_run_epsilon(guesses: Guesses, delta: Delta, confidence: Confidence) -> f64 {
    last_excluded(30.0, FINE, |epsilon| {
        one_run_p_value(guesses, epsilon, delta) <= confidence.significance()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::test_scores::{Draws, check_share};
    use crate::family::gaussian_epsilon;

    fn delta(value: f64) -> Delta {
        Delta::new(value).unwrap()
    }

    #[test]
    fn without_delta_the_bound_is_that_of_randomised_response() {
        // All of 100 right: p^100 = 0.05, so ε = ln(p / (1 − p)) with p = 0.05^(1/100).
        let guesses = Guesses {
            canaries: 100,
            made: 100,
            correct: 100,
        };
        let p = 0.05_f64.powf(0.01);
        let got = one_run_epsilon(guesses, delta(1e-300), Confidence::REPORTED);
        assert!((got - (p / (1.0 - p)).ln()).abs() < 1e-5, "{got}");
    }

    #[test]
    fn delta_makes_the_bound_smaller_as_the_theorem_says() {
        // Written out for m = r = v = 2 at ε = ln 3 (p = 3/4): β = 9/16, tails 15/16 and 1, so the largest slope is
        // max(6/16, 7/32) = 3/8.
        let guesses = Guesses {
            canaries: 2,
            made: 2,
            correct: 2,
        };
        let got = one_run_p_value(guesses, 3.0_f64.ln(), delta(0.01));
        assert!((got - (9.0 / 16.0 + 4.0 * 0.01 * 0.375)).abs() < 1e-12, "{got}");
    }

    #[test]
    fn bounds_exceed_the_truth_no_more_often_than_stated() {
        for (seed, mu) in [(21, 0.5), (22, 1.5)] {
            let truth = gaussian_epsilon(mu, delta(1e-5)).unwrap().upper.value();
            let mut draws = Draws::new(seed);
            let exceeding = (0..500)
                .filter(|_| {
                    one_run_epsilon(draws.guesses(300, 60, mu), delta(1e-5), Confidence::REPORTED) > truth
                })
                .count();
            check_share(exceeding, 500, 0.05, false);
        }
    }
}
