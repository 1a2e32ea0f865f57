//! DP-FTRL by matrix factorisation: noise that is correlated between rounds, for when nobody can vouch for
//! secret sampling.
//!
//! A run releases prefix sums `A X` of the rounds' sums `X` (one row a round, `A` lower-triangular ones).
//! With `A = B C` the matrix mechanism releases `B (C X + Z)` for iid Gaussian `Z`; round by round that is
//! `x_t + (C⁻¹ Z)_t`, so each round adds noise that later rounds partly take back. The **whole run is one
//! Gaussian release**: if one unit moves `C X` by at most `sensitivity × C` in Frobenius norm (clip norm `C`)
//! and the standard deviation of `Z` is `z × C`, the run is exactly μ-Gaussian-DP with `μ = sensitivity / z`
//! under add-or-remove-one and replace-by-zero, twice that under replace-one. That holds though later
//! contributions depend on earlier releases, since the noise is Gaussian and `C` lower triangular (Denisov et
//! al. 2022, arXiv 2202.08312, Theorem 2.1).
//!
//! Under add-or-remove-one, when the other units take part must not depend on the one that is added. No
//! sampling is assumed. What a unit must keep to is a [`Participation`]: never twice within `separation`
//! rounds, never more than so many times. A client can enforce both by itself.
//!
//! Strategies `C`: [`TreeStrategy`] (the plain case), [`ToeplitzStrategy`] (square root, or banded and
//! optimised) and [`BufferedToeplitz`] (noise in memory for `buffers` vectors). [`optimize_banded`] and
//! [`optimize_buffered`] find good ones; [`AmplifiedBanded`] adds what secret sampling inside groups buys
//! where it can be vouched for. Sensitivities are rounded up; errors ([`PrefixError`]) are about utility only
//! and are not.

mod amplified;
mod buffered;
mod lbfgs;
mod optimize;
mod participation;
mod sensitivity;
mod toeplitz;
mod tree;
mod tree_sensitivity;

pub use amplified::{AmplifiedBanded, AmplifiedPlan};
pub use buffered::BufferedToeplitz;
pub use optimize::{ErrorMetric, OptimizedStrategy, optimize_banded, optimize_buffered};
pub use participation::Participation;
pub use sensitivity::{StrategySensitivity, Tightness, banded_sensitivity};
pub use toeplitz::ToeplitzStrategy;
pub use tree::{TreeEstimator, TreeStrategy};

/// The most rounds that a strategy is computed for.
pub const MAX_ROUNDS: usize = 1 << 24;

/// Elementary steps that one computation may take: some seconds.
const MAX_WORK: f64 = 8e9;

/// Why a strategy, a sensitivity or an error could not be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MatrixError {
    /// A parameter out of range.
    #[error("{name} must be {expected}, got {got}")]
    OutOfRange {
        /// The parameter, in words.
        name: &'static str,
        /// The accepted range.
        expected: String,
        /// What came.
        got: String,
    },
    /// The computation would take too long.
    #[error("{what} would take about {needed} steps, expected at most {limit}")]
    TooMuchWork {
        /// What was asked for.
        what: &'static str,
        /// Estimated elementary steps.
        needed: String,
        /// The accepted number of steps.
        limit: String,
    },
}

impl MatrixError {
    pub(crate) fn out_of_range(name: &'static str, expected: impl Into<String>, got: impl ToString) -> Self {
        Self::OutOfRange {
            name,
            expected: expected.into(),
            got: got.to_string(),
        }
    }
}

/// Standard deviation of the error in the released prefix sums, in units of the standard deviation of `Z`.
///
/// What a run at a given μ suffers is this times the sensitivity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrefixError {
    /// Root of the mean over rounds of the error's variance.
    pub root_mean_square: f64,
    /// The largest over rounds.
    pub max: f64,
}

/// Any of the strategies, so that a plan can hold one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum MatrixStrategy {
    /// Buffered linear Toeplitz.
    Buffered(BufferedToeplitz),
    /// Lower-triangular Toeplitz, banded if it has fewer coefficients than rounds.
    Toeplitz(ToeplitzStrategy),
    /// Binary tree.
    Tree(TreeStrategy),
}

impl MatrixStrategy {
    /// How far one unit can move `C X`, in units of the clip norm, over `n_rounds` rounds.
    pub fn sensitivity(
        &self,
        n_rounds: usize,
        participation: &Participation,
    ) -> Result<StrategySensitivity, MatrixError> {
        match self {
            Self::Buffered(strategy) => strategy.sensitivity(n_rounds, participation),
            Self::Toeplitz(strategy) => strategy.sensitivity(n_rounds, participation),
            Self::Tree(strategy) => strategy.sensitivity(n_rounds, participation),
        }
    }

    /// Error of the prefix sums over `n_rounds` rounds at unit noise.
    pub fn prefix_error(&self, n_rounds: usize) -> Result<PrefixError, MatrixError> {
        match self {
            Self::Buffered(strategy) => strategy.prefix_error(n_rounds),
            Self::Toeplitz(strategy) => strategy.prefix_error(n_rounds),
            Self::Tree(strategy) => strategy.prefix_error(n_rounds),
        }
    }
}

/// Refuses 0 rounds and more than [`MAX_ROUNDS`].
fn check_rounds(n_rounds: usize) -> Result<(), MatrixError> {
    if (1..=MAX_ROUNDS).contains(&n_rounds) {
        Ok(())
    } else {
        Err(MatrixError::out_of_range(
            "number of rounds",
            format!("between 1 and {MAX_ROUNDS}"),
            n_rounds,
        ))
    }
}

/// Refuses a computation of more than [`MAX_WORK`] steps.
fn check_work(what: &'static str, needed: f64) -> Result<(), MatrixError> {
    if needed <= MAX_WORK {
        Ok(())
    } else {
        Err(MatrixError::TooMuchWork {
            what,
            needed: format!("{needed:.1e}"),
            limit: format!("{MAX_WORK:.0e}"),
        })
    }
}
