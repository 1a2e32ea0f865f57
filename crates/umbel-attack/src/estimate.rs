//! From what an attack saw to a lower bound on ε, one file for each method.
//!
//! Every bound has the form: if the claim holds, and what the method assumes, the bound is above the true ε with probability at
//! most 1 − confidence. A bound is no guarantee: that an attack finds little shows nothing but the strength of the attack.

mod clopper_pearson;
mod cosine;
mod f_dp;
mod gaussian_score;
mod one_run;

#[cfg(test)]
pub(crate) mod test_scores;

pub use clopper_pearson::{ErrorCounts, clopper_pearson_epsilon, clopper_pearson_strength};
pub use cosine::{cosine_estimate, gaussian_pair_epsilon};
pub use f_dp::{GaussianCurve, TradeOffCurve, is_falsified};
pub use gaussian_score::gaussian_score_strength;
pub use one_run::{one_run_epsilon, one_run_p_value};

/// The probability with which a bound is true if the claim is, strictly between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Confidence(f64);

/// The number is no confidence.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("a confidence must be above 0 and below 1, got {got}")]
pub struct ConfidenceError {
    /// The number that came.
    pub got: f64,
}

impl Confidence {
    /// At which results are reported.
    pub const REPORTED: Self = Self(0.95);
    /// At which a bound above the claim is called a violation: so rarely wrong that an alarm may stop a deployment.
    pub const ALARM: Self = Self(1.0 - 1e-4);

    /// Accepts what is strictly between 0 and 1.
    pub fn new(value: f64) -> Result<Self, ConfidenceError> {
        if value > 0.0 && value < 1.0 {
            Ok(Self(value))
        } else {
            Err(ConfidenceError { got: value })
        }
    }

    /// The number itself.
    pub fn value(self) -> f64 {
        self.0
    }

    /// The probability of a false bound.
    pub fn significance(self) -> f64 {
        1.0 - self.0
    }

    /// The confidence of each of `parts` statements that hold together with this one (Bonferroni).
    pub(crate) fn split(self, parts: f64) -> Self {
        Self(1.0 - self.significance() / parts)
    }
}

/// What an attacker guessed about canaries that were each in or out by a fair coin of their own.
///
/// How many guesses are made must be fixed before the scores are seen; which canaries are guessed may depend on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Guesses {
    /// Canaries.
    pub canaries: u32,
    /// Guesses made, at most one a canary.
    pub made: u32,
    /// Guesses that were right.
    pub correct: u32,
}

/// The value up to which `is_excluded` holds, searched between 0 and `limit`; `is_excluded` must hold below a threshold and fail
/// above it. Rounded down, to a relative `tolerance`.
pub(crate) fn last_excluded(limit: f64, tolerance: f64, mut is_excluded: impl FnMut(f64) -> bool) -> f64 {
    if is_excluded(limit) {
        return limit;
    }
    // Halves from above first: strengths differ by orders of magnitude.
    let mut high = limit;
    let mut low = 0.5 * limit;
    while !is_excluded(low) {
        (low, high) = (0.5 * low, low);
        if low < 1e-4 * limit {
            return 0.0;
        }
    }
    while high - low > tolerance * high {
        let middle = 0.5 * (low + high);
        if is_excluded(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// Tolerance of bounds that cost little.
pub(crate) const FINE: f64 = 1e-6;
