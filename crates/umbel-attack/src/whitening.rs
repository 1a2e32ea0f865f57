//! Noise that is correlated between rounds, taken apart again by an attacker who knows the strategy.

use umbel_accounting::AccountingError;
use umbel_accounting::matrix::MatrixStrategy;
use umbel_mechanisms::MatrixGaussian;

use crate::observer::ObservedRound;

/// The strategy matrix C of a run of DP-FTRL. What is released is X + C⁻¹ Z with independent Z; so C times the releases is C X + Z,
/// in which a canary that took part in the rounds p is C p times its update.
#[derive(Debug)]
pub(crate) struct Whitening {
    strategy: Rows,
    /// Largest norm of C p over the participations p that are allowed.
    sensitivity: f64,
}

#[derive(Debug)]
enum Rows {
    /// The first column of a lower triangular Toeplitz matrix.
    Toeplitz(Vec<f64>),
    /// The node of one binary tree that round t completes: the sum of as many rounds as the lowest binary digit of t says.
    Tree,
}

impl Whitening {
    /// For `rounds` rounds of a mechanism.
    pub(crate) fn new(mechanism: &MatrixGaussian, rounds: usize) -> Result<Self, AccountingError> {
        let fault = |what: String| AccountingError::OutOfReach { what };
        let strategy = match &mechanism.plan().strategy {
            MatrixStrategy::Toeplitz(toeplitz) => Rows::Toeplitz(toeplitz.coefficients().to_vec()),
            MatrixStrategy::Buffered(buffered) => {
                let coefficients = buffered.coefficients(rounds);
                Rows::Toeplitz(coefficients.map_err(|error| fault(error.to_string()))?)
            }
            MatrixStrategy::Tree(_) => Rows::Tree,
            other => return Err(fault(format!("the strategy {other:?}"))),
        };
        Ok(Self {
            strategy,
            sensitivity: mechanism.sensitivity(),
        })
    }

    /// The weights of rounds up to and including `round`, counted from 0, with the first round that has one.
    fn row(&self, round: usize) -> (usize, Vec<f64>) {
        match &self.strategy {
            Rows::Toeplitz(coefficients) => {
                let bands = coefficients.len().min(round + 1);
                (
                    round + 1 - bands,
                    coefficients[..bands].iter().rev().copied().collect(),
                )
            }
            Rows::Tree => {
                let length = 1 << (round + 1).trailing_zeros();
                (round + 1 - length, vec![1.0; length])
            }
        }
    }

    /// Rounds as they would be seen with independent noise.
    pub(crate) fn whiten(&self, rounds: &[ObservedRound]) -> Vec<ObservedRound> {
        let whitened = rounds.iter().enumerate().map(|(place, round)| {
            let (first, weights) = self.row(place);
            let mut scores = vec![0.0; round.scores.len()];
            let mut unused = vec![0.0; round.unused.len()];
            for (weight, round) in weights.iter().zip(&rounds[first..]) {
                for (sum, x) in scores.iter_mut().zip(&round.scores) {
                    *sum += weight * x;
                }
                for (sum, x) in unused.iter_mut().zip(&round.unused) {
                    *sum += weight * f64::from(*x);
                }
            }
            ObservedRound {
                invited: round.invited.clone(),
                scores,
                unused: unused.into_iter().map(crate::observer::to_single).collect(),
            }
        });
        whitened.collect()
    }

    /// One score for each canary from whitened rounds: the projection on C p, which no other statistic of Gaussian noise beats, in
    /// units in which a canary that takes part where it leaks most has a mean of 1.
    pub(crate) fn totals(&self, whitened: &[ObservedRound], n_canaries: usize) -> Vec<f64> {
        let mut takes_part = vec![vec![false; whitened.len()]; n_canaries];
        for (place, round) in whitened.iter().enumerate() {
            for &canary in &round.invited {
                takes_part[canary as usize][place] = true;
            }
        }
        let total = |(canary, pattern): (usize, &Vec<bool>)| -> f64 {
            let mut direction: Vec<f64> = (0..whitened.len())
                .map(|place| {
                    let (first, weights) = self.row(place);
                    let taken = pattern[first..]
                        .iter()
                        .zip(&weights)
                        .filter(|(takes_part, _)| **takes_part);
                    taken.map(|(_, weight)| weight).sum()
                })
                .collect();
            let mut length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
            if length <= 0.0 {
                // It was never there: any direction shows the noise.
                direction[0] = 1.0;
                length = 1.0;
            }
            let product = direction
                .iter()
                .zip(whitened)
                .map(|(x, round)| x * round.scores[canary])
                .sum::<f64>();
            product / (length * self.sensitivity)
        };
        takes_part.iter().enumerate().map(total).collect()
    }
}
