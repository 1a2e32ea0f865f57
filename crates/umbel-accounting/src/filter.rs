//! Budgets that may be spent step by step, each step chosen after seeing what came out of those before.
//!
//! A **plan** fixes every noise level, sampling rate and the number of rounds in advance and is accounted as
//! a whole, best by privacy-loss distributions. Where noise, rate or length react to outputs, adding up what
//! happened to be spent is not a theorem by itself; a *filter* (Rogers et al. 2016, arXiv 1605.08294) is a
//! rule to refuse steps for which it is one:
//!
//! | filter | a step states | rule |
//! |---|---|---|
//! | [`RenyiFilter`] | divergences at orders fixed in advance | Σ ρ_t(α) ≤ B(α) |
//! | [`ZcdpFilter`] | ρ | Σ ρ_t ≤ ρ |
//! | [`GaussianFilter`] | μ, without sampling | Σ μ_t² ≤ μ² |
//! | [`ApproximateFilter`] | (ε, δ) | √(2 ln(1/δ′) Σ ε_t²) + ½ Σ ε_t² ≤ ε and Σ δ_t ≤ δ″ |
//!
//! **There is no filter for privacy-loss distributions or trade-off functions here, because the natural one
//! is wrong.** It would compose the curves of the steps taken so far and stop before the target is crossed.
//! Which curves those are depends on the outputs, and a mixture, over outputs, of composed curves that are
//! all allowed need not be allowed: curves are only partly ordered, where the numbers that the filters above
//! add up are not (arXiv 2602.06756 shows the failure and when it cannot occur). A PLD value may be shown
//! beside a filter, but is no guarantee there.
//!
//! What a step costs must hold whatever came before, and must be known before the step's output is seen.
//! `try_charge` refuses a step that would overspend and then changes nothing; a cheaper step may still be
//! tried. Amounts are added without rounding loss; a limit counts as kept up to a relative 1e-12, since
//! decimals such as 0.1 are not exact in binary, and where a limit is derived from ε and δ it is lowered by
//! more than that first. Several runs on one population share a [`SharedBudget`].

mod approximate;
mod codec;
mod concentrated;
mod gaussian;
mod meter;
mod renyi;
mod shared;

pub use approximate::ApproximateFilter;
pub use concentrated::ZcdpFilter;
pub use gaussian::GaussianFilter;
pub use renyi::RenyiFilter;
pub use shared::{RunCost, SharedBudget};

use crate::ParamError;
use crate::params::Short;

/// A refusal: what was asked for would overspend.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "budget exhausted: {quantity} spent {}, asked {}, limit {}",
    Short(*.spent),
    Short(*.asked),
    Short(*.limit)
)]
pub struct BudgetExhausted {
    /// What is limited: `ρ`, `Σ μ²` and so on.
    pub quantity: &'static str,
    /// Spent before; unchanged.
    pub spent: f64,
    /// What the step would have added.
    pub asked: f64,
    /// The most that may be spent.
    pub limit: f64,
}

/// Why a filter refused to be made, charged or read. Nothing has changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// The step would overspend.
    #[error(transparent)]
    Exhausted(#[from] BudgetExhausted),
    /// A number out of range.
    #[error(transparent)]
    Param(#[from] ParamError),
    /// A run that has a share already, or has none.
    #[error("run {run:?}: expected {expected}")]
    Run {
        /// Its name.
        run: String,
        /// What should have been the case.
        expected: &'static str,
    },
    /// A stored filter that is not one.
    #[error("stored filter: expected {expected}, got {got}")]
    State {
        /// What should be there.
        expected: String,
        /// What is.
        got: String,
    },
    /// A description of another kind or length than this filter counts.
    #[error("{what}: expected {expected}, got {got}")]
    WrongKind {
        /// What came.
        what: &'static str,
        /// What this filter counts.
        expected: String,
        /// What came instead.
        got: String,
    },
}

impl FilterError {
    fn state(expected: impl ToString, got: impl ToString) -> Self {
        Self::State {
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }
}

/// Refuses what is NaN or negative; infinite is a cost too, and refused by every limit.
fn check_amount(name: &'static str, amount: f64) -> Result<f64, ParamError> {
    if amount >= 0.0 {
        Ok(amount)
    } else {
        Err(ParamError {
            name,
            expected: "a number of at least 0",
            got: amount,
        })
    }
}

/// Refuses limits that are not finite and above 0.
fn check_limit(name: &'static str, limit: f64) -> Result<f64, ParamError> {
    if limit > 0.0 && limit.is_finite() {
        Ok(limit)
    } else {
        Err(ParamError {
            name,
            expected: "a finite number above 0",
            got: limit,
        })
    }
}
