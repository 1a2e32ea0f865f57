//! The recursion of the binary tree.

use umbel_accounting::matrix::{TreeEstimator, TreeStrategy};

use super::{InverseError, Row, zero_row};

/// The noise of a prefix sum is that of the nodes named by the binary digits of the round; from one round to
/// the next the trailing ones give way to a single node above them, so each round's noise is the new node
/// less the nodes it replaces.
pub(super) struct Tree {
    strategy: TreeStrategy,
    /// Noise in the estimate of the newest left child of each height. Only those named by the round's digits
    /// are in use; the others are stale until they are written again.
    levels: Vec<Row>,
}

impl Tree {
    pub(super) fn new(strategy: TreeStrategy) -> Self {
        Self {
            strategy,
            levels: Vec::new(),
        }
    }

    /// With levels as they were stored.
    pub(super) fn with_rows(strategy: TreeStrategy, levels: Vec<Row>) -> Self {
        Self { strategy, levels }
    }

    /// Rows kept after `n_rounds` rounds: one for each height that some round has reached.
    pub(super) fn n_rows(strategy: &TreeStrategy, n_rounds: u64) -> usize {
        let longest = n_rounds.min(strategy.rounds_per_tree() as u64);
        (u64::BITS - longest.leading_zeros()) as usize
    }

    /// Vectors that the round after `n_rounds` rounds draws: one for the node it uses, or one for each that
    /// it completes.
    pub(super) fn n_vectors(&self, n_rounds: u64) -> usize {
        match self.strategy.estimator() {
            TreeEstimator::Binary => 1,
            TreeEstimator::FromBelow => self.height(n_rounds) + 1,
        }
    }

    pub(super) fn next_round(
        &mut self,
        n_rounds: u64,
        draws: &[f64],
        noise: &mut [f64],
    ) -> Result<(), InverseError> {
        let (height, dimension) = (self.height(n_rounds), noise.len());
        if self.levels.len() <= height {
            let row = zero_row(dimension)?;
            self.levels
                .try_reserve(1)
                .map_err(|_| InverseError::OutOfMemory { expected: dimension })?;
            self.levels.push(row);
        }
        // The row of the new node's height is stale: its digit was 0.
        let (replaced, rest) = self.levels.split_at_mut(height);
        let node = &mut rest[0];
        node.copy_from_slice(&draws[..dimension]);
        if self.strategy.estimator() == TreeEstimator::FromBelow {
            for (level, left) in (1_u32..).zip(replaced.iter()) {
                let own = self.strategy.estimator().own_weight(level);
                let draw = draws
                    .chunks_exact(dimension.max(1))
                    .nth(level as usize)
                    .unwrap_or(&[]);
                for ((node, draw), left) in node.iter_mut().zip(draw).zip(left.iter()) {
                    *node = own * draw + (1.0 - own) * (left + *node);
                }
            }
        }
        noise.copy_from_slice(node);
        for level in replaced.iter() {
            noise
                .iter_mut()
                .zip(level.iter())
                .for_each(|(noise, replaced)| *noise -= replaced);
        }
        Ok(())
    }

    pub(super) fn strategy(&self) -> &TreeStrategy {
        &self.strategy
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.levels
    }

    /// Height of the node that the round after `n_rounds` rounds completes and uses.
    fn height(&self, n_rounds: u64) -> usize {
        let done = n_rounds % self.strategy.rounds_per_tree() as u64 + 1;
        done.trailing_zeros() as usize
    }
}
