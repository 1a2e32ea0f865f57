//! The inverse of a strategy matrix, round by round.
//!
//! With the strategy `C` of `umbel_accounting::matrix` it turns rows of M = C X + Z, which are noised and may be shown, into
//! rows of C⁻¹ M = X + C⁻¹ Z. Coordinates do not interact.

mod banded;
mod buffered;
mod state;
mod tree;

use std::fmt;

use umbel_accounting::matrix::MatrixStrategy;
use zeroize::Zeroizing;

use self::{banded::Banded, buffered::Buffered, tree::Tree};

/// One vector of secret numbers.
type Row = Zeroizing<Vec<f64>>;

/// The recursion of one run: gives one row after the other.
///
/// Memory between rounds, in vectors of `dimension` numbers of 8 bytes: as many as buffers for a buffered strategy; one fewer
/// than bands for a Toeplitz strategy (fewer still in the first rounds); at most one for each binary digit of the number of
/// rounds for a tree.
pub(crate) struct StrategyInverse {
    dimension: usize,
    most_rounds: u64,
    n_rounds: u64,
    kernel: Kernel,
}

enum Kernel {
    Banded(Banded),
    Buffered(Buffered),
    Tree(Tree),
}

/// Why noise could not be made or a state not be read. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InverseError {
    /// The wrong number of draws, or room for the wrong number of coordinates.
    #[error("{what} must hold {expected} numbers, got {got}")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Numbers wanted.
        expected: usize,
        /// Numbers that came.
        got: usize,
    },
    /// A draw that is infinite or not a number would spoil all later rounds.
    #[error("draw {index} is not finite")]
    NotFinite {
        /// Where it is.
        index: usize,
    },
    /// The state does not fit into memory.
    #[error("no room for {expected} more numbers of state, expected memory for all of them")]
    OutOfMemory {
        /// Numbers of 8 bytes that were asked for.
        expected: usize,
    },
    /// The sensitivity was computed for so many rounds and no more.
    #[error("the run is over after {expected} rounds, got one more")]
    RunOver {
        /// Rounds that were planned.
        expected: u64,
    },
    /// A stored state that is not one.
    #[error("stored noise state: expected {expected}, got {got}")]
    State {
        /// What should be there.
        expected: String,
        /// What is.
        got: String,
    },
    /// A strategy that this version cannot stream.
    #[error("expected a buffered, Toeplitz or tree strategy, got another one")]
    Strategy,
}

impl StrategyInverse {
    /// The recursion of `strategy` before the first of `n_rounds` rounds, for vectors of `dimension` numbers.
    pub(crate) fn new(
        strategy: &MatrixStrategy,
        n_rounds: usize,
        dimension: usize,
    ) -> Result<Self, InverseError> {
        let kernel = match strategy {
            MatrixStrategy::Buffered(strategy) => {
                Kernel::Buffered(Buffered::new(strategy.clone(), dimension)?)
            }
            MatrixStrategy::Toeplitz(strategy) => Kernel::Banded(Banded::new(strategy.clone())),
            MatrixStrategy::Tree(strategy) => Kernel::Tree(Tree::new(*strategy)),
            _ => return Err(InverseError::Strategy),
        };
        Ok(Self {
            dimension,
            most_rounds: n_rounds as u64,
            n_rounds: 0,
            kernel,
        })
    }

    /// Turns the iid draws of the next round into its noise, in the units of the draws.
    ///
    /// `draws` holds [`Self::n_draws`] fresh independent Gaussian numbers of one standard deviation, `noise`
    /// takes `dimension` numbers. On an error neither the state nor `noise` has changed; the draws may be
    /// used for the same round again.
    pub(crate) fn next_round(&mut self, draws: &[f64], noise: &mut [f64]) -> Result<(), InverseError> {
        if self.n_rounds >= self.most_rounds {
            return Err(InverseError::RunOver {
                expected: self.most_rounds,
            });
        }
        let expected = self.n_draws();
        if draws.len() != expected {
            return Err(InverseError::Length {
                what: "draws",
                expected,
                got: draws.len(),
            });
        }
        if noise.len() != self.dimension {
            return Err(InverseError::Length {
                what: "noise",
                expected: self.dimension,
                got: noise.len(),
            });
        }
        if let Some(index) = draws.iter().position(|draw| !draw.is_finite()) {
            return Err(InverseError::NotFinite { index });
        }
        match &mut self.kernel {
            Kernel::Banded(banded) => banded.next_round(self.n_rounds, draws, noise)?,
            Kernel::Buffered(buffered) => buffered.next_round(draws, noise),
            Kernel::Tree(tree) => tree.next_round(self.n_rounds, draws, noise)?,
        }
        self.n_rounds += 1;
        Ok(())
    }

    /// How many iid numbers the next round takes: `dimension`, or for the improved tree a multiple of it.
    pub(crate) fn n_draws(&self) -> usize {
        let n_vectors = match &self.kernel {
            Kernel::Banded(_) | Kernel::Buffered(_) => 1,
            Kernel::Tree(tree) => tree.n_vectors(self.n_rounds),
        };
        self.dimension.saturating_mul(n_vectors)
    }

    /// Whether both are for runs of one mechanism.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        let same = match (&self.kernel, &other.kernel) {
            (Kernel::Banded(one), Kernel::Banded(two)) => one.strategy() == two.strategy(),
            (Kernel::Buffered(one), Kernel::Buffered(two)) => one.strategy() == two.strategy(),
            (Kernel::Tree(one), Kernel::Tree(two)) => one.strategy() == two.strategy(),
            _ => false,
        };
        same && (self.dimension, self.most_rounds) == (other.dimension, other.most_rounds)
    }

    /// Rounds whose noise was given out.
    pub(crate) fn n_rounds(&self) -> u64 {
        self.n_rounds
    }

    /// Numbers of 8 bytes kept at present.
    pub(crate) fn n_kept(&self) -> usize {
        self.rows().iter().map(|row| row.len()).sum()
    }

    /// The strategy and everything kept, so that a run can go on from it exactly. As secret as the noise.
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        state::encode(self)
    }

    /// Reads what [`Self::encode`] wrote; anything else is an error. Bit for bit the same noise follows.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, InverseError> {
        state::decode(bytes)
    }

    fn rows(&self) -> &[Row] {
        match &self.kernel {
            Kernel::Banded(banded) => banded.rows(),
            Kernel::Buffered(buffered) => buffered.rows(),
            Kernel::Tree(tree) => tree.rows(),
        }
    }
}

impl fmt::Debug for StrategyInverse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StrategyInverse")
            .field("dimension", &self.dimension)
            .field("n_rounds", &self.n_rounds)
            .field("n_kept", &self.n_kept())
            .finish_non_exhaustive()
    }
}

/// A row of `length` zeros, or an error where memory does not suffice.
fn zero_row(length: usize) -> Result<Row, InverseError> {
    let mut row = Vec::new();
    row.try_reserve_exact(length)
        .map_err(|_| InverseError::OutOfMemory { expected: length })?;
    row.resize(length, 0.0);
    Ok(Zeroizing::new(row))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use umbel_accounting::matrix::{
        BufferedToeplitz, ErrorMetric, Participation, ToeplitzStrategy, TreeEstimator, TreeStrategy,
        optimize_banded, optimize_buffered,
    };

    use super::*;

    /// Numbers that look normal; only linear algebra is tested with them.
    fn draws(seed: u64, count: usize) -> Vec<f64> {
        let mut state = seed;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 + 0.5) * 2f64.powi(-53)
        };
        (0..count)
            .map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0)
            .collect()
    }

    fn run(state: &mut StrategyInverse, n_rounds: usize, seed: u64) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let (mut all_draws, mut all_noise) = (Vec::new(), Vec::new());
        for round in 0..n_rounds {
            let draws = draws(seed + round as u64, state.n_draws());
            let mut noise = vec![0.0; state.dimension];
            state.next_round(&draws, &mut noise).unwrap();
            all_draws.push(draws);
            all_noise.push(noise);
        }
        (all_draws, all_noise)
    }

    /// Solves `C y = z` by forward substitution with the dense matrix.
    fn check_against_dense(
        entry: impl Fn(usize, usize) -> f64,
        strategy: &MatrixStrategy,
        n: usize,
        tolerance: f64,
    ) {
        let dimension = 3;
        let mut state = StrategyInverse::new(strategy, n, dimension).unwrap();
        let (draws, noise) = run(&mut state, n, 7);
        let dense: Vec<Vec<f64>> = (0..n)
            .map(|row| (0..=row).map(|col| entry(row, col)).collect())
            .collect();
        for coordinate in 0..dimension {
            let mut solution: Vec<f64> = Vec::with_capacity(n);
            for row in 0..n {
                let known: f64 = dense[row].iter().zip(&solution).map(|(c, y)| c * y).sum();
                solution.push((draws[row][coordinate] - known) / dense[row][row]);
            }
            for row in 0..n {
                let (found, expected) = (noise[row][coordinate], solution[row]);
                assert!(
                    (found - expected).abs() <= tolerance,
                    "round {row}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn streams_agree_with_the_dense_inverse_over_two_thousand_rounds() {
        let n = 2000;
        let participation = Participation::min_separation(100, Some(10)).unwrap();
        let buffered = optimize_buffered(n, 3, &participation, ErrorMetric::RootMeanSquare)
            .unwrap()
            .strategy;
        let c = buffered.coefficients(n).unwrap();
        check_against_dense(
            |row, col| c[row - col],
            &MatrixStrategy::Buffered(buffered),
            n,
            1e-12,
        );

        let banded = optimize_banded(n, 16, &participation, ErrorMetric::RootMeanSquare)
            .unwrap()
            .strategy;
        let root = ToeplitzStrategy::square_root(n).unwrap();
        for strategy in [banded, root] {
            let c = strategy.coefficients().to_vec();
            let entry = |row: usize, col: usize| c.get(row - col).copied().unwrap_or(0.0);
            check_against_dense(entry, &MatrixStrategy::Toeplitz(strategy), n, 1e-11);
        }

        // The plain tree as a square matrix: round t closes the node over its lowest binary digit's worth of
        // rounds.
        for per_tree in [n, 300] {
            let tree = TreeStrategy::restarted(TreeEstimator::Binary, per_tree).unwrap();
            let covers = |row: usize, col: usize| {
                let done = row % per_tree + 1;
                let width = done & done.wrapping_neg();
                if row - col < width { 1.0 } else { 0.0 }
            };
            check_against_dense(covers, &MatrixStrategy::Tree(tree), n, 1e-10);
        }
    }

    #[test]
    fn the_improved_tree_is_an_unbiased_estimate_with_the_stated_error() {
        let (n, per_tree) = (45, 26);
        let tree = TreeStrategy::restarted(TreeEstimator::FromBelow, per_tree).unwrap();
        let strategy = MatrixStrategy::Tree(tree);
        let counts: Vec<usize> = {
            let mut state = StrategyInverse::new(&strategy, n, 1).unwrap();
            run(&mut state, n, 0).0.iter().map(Vec::len).collect()
        };
        let total: usize = counts.iter().sum();
        let mut nodes = Vec::new();
        for (round, &count) in counts.iter().enumerate() {
            nodes.extend((0..count).map(|height| round + 1 - (1 << height)..round + 1));
        }
        // Prefix sums of the noise that each single draw of 1 makes.
        let responses: Vec<Vec<f64>> = (0..total)
            .map(|impulse| {
                let mut state = StrategyInverse::new(&strategy, n, 1).unwrap();
                let (mut position, mut prefix) = (0, 0.0);
                let mut rounds = Vec::new();
                for count in &counts {
                    let draws: Vec<f64> = (position..position + count)
                        .map(|i| f64::from(u8::from(i == impulse)))
                        .collect();
                    let mut noise = [0.0];
                    state.next_round(&draws, &mut noise).unwrap();
                    position += count;
                    prefix += noise[0];
                    rounds.push(prefix);
                }
                rounds
            })
            .collect();
        let mut worst = 0.0_f64;
        for round in 0..n {
            for leaf in 0..n {
                let covering = responses
                    .iter()
                    .zip(&nodes)
                    .filter(|(_, node)| node.contains(&leaf));
                let sum: f64 = covering.map(|(response, _)| response[round]).sum();
                let expected = if leaf <= round { 1.0 } else { 0.0 };
                assert!((sum - expected).abs() < 1e-12, "round {round} leaf {leaf}: {sum}");
            }
            worst = worst.max(responses.iter().map(|response| response[round].powi(2)).sum());
        }
        assert!((worst.sqrt() - tree.prefix_error(n).unwrap().max).abs() < 1e-12);
    }

    fn any_strategy() -> impl Strategy<Value = MatrixStrategy> {
        let buffered = prop::collection::vec((0.0..=1.0_f64, 0.0..1.0_f64), 1..6).prop_map(|pairs| {
            let total: f64 = pairs.iter().map(|(_, w)| w).sum::<f64>() + 1.0;
            let (decays, scales) = pairs.into_iter().map(|(decay, w)| (decay, w / total)).unzip();
            MatrixStrategy::Buffered(BufferedToeplitz::new(decays, scales).unwrap())
        });
        let toeplitz = prop::collection::vec(-0.1..0.1_f64, 0..9).prop_map(|later| {
            let coefficients = std::iter::once(1.0).chain(later).collect();
            MatrixStrategy::Toeplitz(ToeplitzStrategy::new(coefficients).unwrap())
        });
        let tree = (any::<bool>(), 1_usize..40).prop_map(|(below, per_tree)| {
            let estimator = if below {
                TreeEstimator::FromBelow
            } else {
                TreeEstimator::Binary
            };
            MatrixStrategy::Tree(TreeStrategy::restarted(estimator, per_tree).unwrap())
        });
        prop_oneof![buffered, toeplitz, tree]
    }

    proptest! {
        #[test]
        fn a_stored_state_goes_on_bit_for_bit(
            strategy in any_strategy(), before in 0_usize..40, after in 1_usize..40, dimension in 0_usize..5,
        ) {
            let mut state = StrategyInverse::new(&strategy, 1000, dimension).unwrap();
            run(&mut state, before, 1);
            let bytes = state.encode();
            let mut resumed = StrategyInverse::decode(&bytes).unwrap();
            prop_assert_eq!(resumed.n_rounds(), before as u64);
            prop_assert_eq!(&bytes, &resumed.encode());
            prop_assert_eq!(run(&mut state, after, 50), run(&mut resumed, after, 50));
            prop_assert_eq!(state.encode(), resumed.encode());
        }

        #[test]
        fn damaged_states_are_refused_or_harmless(
            strategy in any_strategy(), rounds in 0_usize..20,
            cut in 0_usize..400, at in 0_usize..400, flip in 1_u8..,
        ) {
            let mut state = StrategyInverse::new(&strategy, 1000, 3).unwrap();
            run(&mut state, rounds, 1);
            let mut bytes = state.encode().to_vec();
            let short = &bytes[..cut.min(bytes.len() - 1)];
            prop_assert!(StrategyInverse::decode(short).is_err());
            let at = at % bytes.len();
            bytes[at] ^= flip;
            if let Ok(mut other) = StrategyInverse::decode(&bytes) && other.n_draws() < 1000 {
                let draws = vec![0.5; other.n_draws()];
                let mut noise = vec![0.0; other.dimension];
                let _ = other.next_round(&draws, &mut noise);
            }
        }

        #[test]
        fn parts_of_a_vector_get_the_noise_of_the_whole(strategy in any_strategy(), rounds in 1_usize..20) {
            let mut whole = StrategyInverse::new(&strategy, 1000, 5).unwrap();
            let mut parts = [2, 3].map(|dimension| StrategyInverse::new(&strategy, 1000, dimension).unwrap());
            for round in 0..rounds {
                let draws = draws(round as u64, whole.n_draws());
                let mut noise = [0.0; 5];
                whole.next_round(&draws, &mut noise).unwrap();
                for (part, range) in parts.iter_mut().zip([0..2, 2..5]) {
                    let own = draws.chunks(5).flat_map(|vector| &vector[range.clone()]);
                    let own: Vec<f64> = own.copied().collect();
                    let mut part_noise = vec![0.0; range.len()];
                    part.next_round(&own, &mut part_noise).unwrap();
                    prop_assert_eq!(&part_noise, &noise[range]);
                }
            }
        }
    }

    #[test]
    fn wrong_input_is_refused_and_changes_nothing() {
        let strategy = MatrixStrategy::Toeplitz(ToeplitzStrategy::new(vec![1.0, 0.5]).unwrap());
        let mut state = StrategyInverse::new(&strategy, 1000, 2).unwrap();
        state.next_round(&[1.0, 2.0], &mut [0.0; 2]).unwrap();
        let before = state.encode();
        let mut noise = [9.0; 2];
        let error = state.next_round(&[1.0], &mut noise).unwrap_err();
        assert_eq!(error.to_string(), "draws must hold 2 numbers, got 1");
        assert!(state.next_round(&[1.0, 2.0], &mut noise[..1]).is_err());
        assert_eq!(
            state.next_round(&[1.0, f64::NAN], &mut noise),
            Err(InverseError::NotFinite { index: 1 })
        );
        assert_eq!((state.encode(), noise), (before, [9.0; 2]));
        assert_eq!(
            format!("{state:?}"),
            "StrategyInverse { dimension: 2, n_rounds: 1, n_kept: 2, .. }"
        );
        let huge = MatrixStrategy::Buffered(BufferedToeplitz::new(vec![0.5], vec![0.5]).unwrap());
        assert!(matches!(
            StrategyInverse::new(&huge, 1000, usize::MAX),
            Err(InverseError::OutOfMemory { .. })
        ));
    }

    #[test]
    fn memory_is_what_is_stated() {
        let kept = |strategy: MatrixStrategy, rounds: usize| {
            let mut state = StrategyInverse::new(&strategy, 1000, 10).unwrap();
            run(&mut state, rounds, 3);
            state.n_kept()
        };
        let buffered = BufferedToeplitz::new(vec![0.5, 0.9, 0.99], vec![0.2; 3]).unwrap();
        assert_eq!(kept(MatrixStrategy::Buffered(buffered), 200), 30);
        let banded = ToeplitzStrategy::square_root(16).unwrap();
        assert_eq!(kept(MatrixStrategy::Toeplitz(banded.clone()), 200), 150);
        assert_eq!(kept(MatrixStrategy::Toeplitz(banded), 4), 40);
        for estimator in [TreeEstimator::Binary, TreeEstimator::FromBelow] {
            assert!(kept(MatrixStrategy::Tree(TreeStrategy::new(estimator)), 200) <= 80);
        }
    }
}
