//! The strategy matrix on integers: from the exact sums of all rounds so far to the numbers that noise is added to.

use umbel_accounting::matrix::{BufferedToeplitz, MatrixStrategy, ToeplitzStrategy, TreeEstimator};
use zeroize::Zeroizing;

use super::InverseError;

/// One encoded number stands for 2^-8 grid units: fine enough that rounding costs next to nothing of the sensitivity.
pub(super) const FRACTION_BITS: u32 = 8;

/// Coefficients are multiples of 2^-40.
const COEFFICIENT_BITS: u32 = 40;

/// One vector of secret integers.
pub(super) type Row = Zeroizing<Vec<i128>>;

/// Computes each row of `C X` in integers, in units of 2^-8 grid units.
///
/// Every row differs from the exact one by the roundings of its computation only, which
/// [`most_rounding`](Self::most_rounding) bounds for two neighbours at once. What is kept between rounds are exact sums: as
/// secret as they.
#[derive(Clone)]
pub(super) struct Encoder {
    recursion: Recursion,
    rows: Vec<Row>,
}

#[derive(Clone)]
enum Recursion {
    /// The last sums, weighted: round t lies in row t mod (p − 1).
    Toeplitz { coefficients: Vec<i64> },
    /// Decaying sums of all rounds, in units of 2^-8 grid units.
    Buffered { decays: Vec<i64>, scales: Vec<i64> },
    /// Sums of the newest left child of each height; a node is complete with the round that closes it.
    Tree,
}

/// The next multiple of 2^-40 downward, so that what stands on that grid stays as it is, and scales that add up to at most 1
/// still do.
fn to_fixed(coefficient: f64) -> Option<i64> {
    let fixed = (coefficient * 2.0_f64.powi(COEFFICIENT_BITS.cast_signed())).floor();
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a whole number of at most 53 bits"
    )]
    (fixed.abs() <= 2.0_f64.powi(53)).then_some(fixed as i64)
}

#[allow(clippy::cast_precision_loss, reason = "whole numbers of at most 53 bits")]
fn from_fixed(coefficient: i64) -> f64 {
    coefficient as f64 * 2.0_f64.powi(-COEFFICIENT_BITS.cast_signed())
}

/// The strategy with every coefficient rounded to a multiple of 2^-40, which is the one that is run, charged and decoded.
pub(super) fn on_grid(strategy: &MatrixStrategy) -> Result<MatrixStrategy, InverseError> {
    let rounded = |numbers: &[f64]| -> Result<Vec<f64>, InverseError> {
        let fixed = numbers.iter().map(|number| to_fixed(*number).map(from_fixed));
        fixed.collect::<Option<_>>().ok_or(InverseError::Strategy)
    };
    match strategy {
        MatrixStrategy::Buffered(strategy) => {
            BufferedToeplitz::new(rounded(strategy.decays())?, rounded(strategy.scales())?)
                .map(MatrixStrategy::Buffered)
        }
        MatrixStrategy::Toeplitz(strategy) => {
            ToeplitzStrategy::new(rounded(strategy.coefficients())?).map(MatrixStrategy::Toeplitz)
        }
        MatrixStrategy::Tree(strategy) if is_plain(strategy) => Ok(MatrixStrategy::Tree(*strategy)),
        _ => return Err(InverseError::Strategy),
    }
    .map_err(|_| InverseError::Strategy)
}

/// One tree over the whole run, with one number a round.
fn is_plain(strategy: &umbel_accounting::matrix::TreeStrategy) -> bool {
    strategy.estimator() == TreeEstimator::Binary && strategy.rounds_per_tree() == usize::MAX
}

impl Encoder {
    /// Before the first round. `strategy` must be [`on_grid`].
    pub(super) fn new(strategy: &MatrixStrategy) -> Result<Self, InverseError> {
        let fixed = |numbers: &[f64]| {
            numbers
                .iter()
                .map(|number| to_fixed(*number))
                .collect::<Option<Vec<_>>>()
        };
        let recursion = match strategy {
            MatrixStrategy::Buffered(strategy) => fixed(strategy.decays())
                .zip(fixed(strategy.scales()))
                .map(|(decays, scales)| Recursion::Buffered { decays, scales }),
            MatrixStrategy::Toeplitz(strategy) => {
                fixed(strategy.coefficients()).map(|coefficients| Recursion::Toeplitz { coefficients })
            }
            MatrixStrategy::Tree(strategy) if is_plain(strategy) => Some(Recursion::Tree),
            _ => None,
        };
        Ok(Self {
            recursion: recursion.ok_or(InverseError::Strategy)?,
            rows: Vec::new(),
        })
    }

    /// Most by which rounding can change the difference between two neighbours' encoded numbers, in one coordinate of one of
    /// `n_rounds` rounds, in encoded units.
    ///
    /// A floor is off by less than 1 and in [0, 1), so the difference of two floors is off by less than 1 from the difference
    /// of what was rounded. A buffer keeps what its floors were off by, θ of it after each round, for at most all rounds:
    /// min(n, 1 / (1 − θ)), of which w comes out; one more floor makes the output.
    pub(super) fn most_rounding(&self, n_rounds: usize) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a bound with slack")]
        let n_rounds = n_rounds as f64;
        match &self.recursion {
            Recursion::Toeplitz { .. } => 1.0,
            Recursion::Buffered { decays, scales } => {
                let kept = |(decay, scale): (&i64, &i64)| {
                    from_fixed(*scale) * (1.0 / (1.0 - from_fixed(*decay))).min(n_rounds)
                };
                1.0 + decays.iter().zip(scales).map(kept).sum::<f64>()
            }
            Recursion::Tree => 0.0,
        }
    }

    /// Takes the sums of the round after `n_rounds` rounds, in grid units, and gives its encoded numbers.
    pub(super) fn next_round(&mut self, n_rounds: u64, sums: &[i64]) -> Row {
        let rows = &mut self.rows;
        let zeros = || Zeroizing::new(vec![0_i128; sums.len()]);
        match &self.recursion {
            Recursion::Toeplitz { coefficients } => {
                let reach = coefficients.len() as u64 - 1;
                let n_slots = reach.max(1);
                let slot = |round: u64| usize::try_from(round % n_slots).unwrap_or(0);
                if (rows.len() as u64) < reach {
                    rows.push(zeros());
                }
                let mut encoded = zeros();
                for (number, sum) in encoded.iter_mut().zip(sums) {
                    *number = i128::from(coefficients[0]) * i128::from(*sum);
                }
                for (lag, coefficient) in (1..=reach.min(n_rounds)).zip(&coefficients[1..]) {
                    let past = &rows[slot(n_rounds - lag)];
                    for (number, sum) in encoded.iter_mut().zip(past.iter()) {
                        *number += i128::from(*coefficient) * sum;
                    }
                }
                encoded
                    .iter_mut()
                    .for_each(|number| *number >>= COEFFICIENT_BITS - FRACTION_BITS);
                if let Some(row) = rows.get_mut(slot(n_rounds)) {
                    row.iter_mut()
                        .zip(sums)
                        .for_each(|(slot, sum)| *slot = i128::from(*sum));
                }
                encoded
            }
            Recursion::Buffered { decays, scales } => {
                rows.resize_with(decays.len(), zeros);
                let mut encoded = zeros();
                for (buffer, scale) in rows.iter().zip(scales) {
                    for (number, kept) in encoded.iter_mut().zip(buffer.iter()) {
                        *number += i128::from(*scale) * kept;
                    }
                }
                for (number, sum) in encoded.iter_mut().zip(sums) {
                    *number = (*number >> COEFFICIENT_BITS) + (i128::from(*sum) << FRACTION_BITS);
                }
                for (buffer, decay) in rows.iter_mut().zip(decays) {
                    for (kept, sum) in buffer.iter_mut().zip(sums) {
                        let decayed = (i128::from(*decay) * *kept) >> COEFFICIENT_BITS;
                        *kept = decayed + (i128::from(*sum) << FRACTION_BITS);
                    }
                }
                encoded
            }
            Recursion::Tree => {
                // The round closes the node over as many rounds as its lowest binary digit says: itself and the newest left
                // child of each smaller height.
                let height = (n_rounds + 1).trailing_zeros() as usize;
                if rows.len() <= height {
                    rows.push(zeros());
                }
                let mut node = zeros();
                node.iter_mut()
                    .zip(sums)
                    .for_each(|(slot, sum)| *slot = i128::from(*sum));
                for child in &rows[..height] {
                    node.iter_mut()
                        .zip(child.iter())
                        .for_each(|(slot, sum)| *slot += sum);
                }
                rows[height].copy_from_slice(&node);
                node.iter_mut().for_each(|number| *number <<= FRACTION_BITS);
                node
            }
        }
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The same with rows as they were stored; the caller has checked their number and length.
    pub(super) fn with_rows(self, rows: Vec<Row>) -> Self {
        Self { rows, ..self }
    }

    /// Rows kept after `n_rounds` rounds.
    pub(super) fn n_rows(&self, n_rounds: u64) -> usize {
        let at_most = |most: usize| usize::try_from(n_rounds).map_or(most, |done| done.min(most));
        match &self.recursion {
            Recursion::Toeplitz { coefficients } => at_most(coefficients.len() - 1),
            Recursion::Buffered { decays, .. } if n_rounds > 0 => decays.len(),
            Recursion::Buffered { .. } => 0,
            Recursion::Tree => (u64::BITS - n_rounds.leading_zeros()) as usize,
        }
    }
}
