//! The binary tree: the plain case of correlated noise.

use super::{
    MatrixError, Participation, PrefixError, StrategySensitivity, check_rounds,
    tree_sensitivity::{fixed_epoch_square, min_separation_square},
};

/// How the noise of a prefix sum is made from the noisy nodes of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever makes the noise must know every estimator"
)]
pub enum TreeEstimator {
    /// The sum of the nodes named by the binary digits of the round (Dwork et al. 2010; Chan, Shi and Song
    /// 2011).
    ///
    /// Only left children are ever used, so only they count for the sensitivity, and each round draws one
    /// vector.
    Binary,
    /// Each of those nodes improved by everything below it, weighted by precision (Honaker 2015, estimation
    /// from below; as in Kairouz et al. 2021, arXiv 2103.00039). About half the variance; round t draws a
    /// vector for each node it completes.
    FromBelow,
}

/// Binary-tree aggregation, started anew every `rounds_per_tree` rounds.
///
/// Each node of the tree over the rounds is the sum of its leaves plus Gaussian noise; only nodes that lie
/// wholly inside the run are ever formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeStrategy {
    estimator: TreeEstimator,
    rounds_per_tree: usize,
}

impl TreeStrategy {
    /// One tree over the whole run, however long.
    pub fn new(estimator: TreeEstimator) -> Self {
        Self {
            estimator,
            rounds_per_tree: usize::MAX,
        }
    }

    /// A new tree every `rounds_per_tree` rounds, at least 1; the errors of the trees add up.
    pub fn restarted(estimator: TreeEstimator, rounds_per_tree: usize) -> Result<Self, MatrixError> {
        if rounds_per_tree == 0 {
            return Err(MatrixError::out_of_range(
                "rounds per tree",
                "at least 1",
                rounds_per_tree,
            ));
        }
        Ok(Self {
            estimator,
            rounds_per_tree,
        })
    }

    /// How prefix sums are estimated.
    pub fn estimator(&self) -> TreeEstimator {
        self.estimator
    }

    /// Rounds until the tree starts anew; `usize::MAX` for never.
    pub fn rounds_per_tree(&self) -> usize {
        self.rounds_per_tree
    }

    /// How far one unit can move the nodes, in units of the clip norm, over `n_rounds` rounds.
    ///
    /// The square is the largest sum over nodes of (participations inside)². One participation meets at most
    /// ⌊log₂ n⌋ + 1 nodes; several by a dynamic programme over the tree, or where that would take too long by
    /// the sum of the largest that each level alone allows ([`super::Tightness`] says which).
    pub fn sensitivity(
        &self,
        n_rounds: usize,
        participation: &Participation,
    ) -> Result<StrategySensitivity, MatrixError> {
        check_rounds(n_rounds)?;
        let (square, tightness) = match participation.pattern() {
            super::participation::Pattern::FixedEpoch => fixed_epoch_square(*self, n_rounds, participation),
            super::participation::Pattern::MinSeparation => {
                min_separation_square(*self, n_rounds, participation)
            }
        };
        Ok(StrategySensitivity::from_square(square, 1, tightness))
    }

    /// Error of the prefix sums over `n_rounds` rounds at unit noise on each node.
    pub fn prefix_error(&self, n_rounds: usize) -> Result<PrefixError, MatrixError> {
        check_rounds(n_rounds)?;
        let (mut before, mut sum, mut max) = (0.0, 0.0, 0.0_f64);
        for round in 0..n_rounds {
            let done = round % self.rounds_per_tree + 1;
            let variance = before + self.estimate_variance(done);
            sum += variance;
            max = max.max(variance);
            if done == self.rounds_per_tree {
                before = variance;
            }
        }
        Ok(PrefixError {
            root_mean_square: (sum / n_rounds as f64).sqrt(),
            max: max.sqrt(),
        })
    }

    /// Variance of the estimated sum of the first `done` rounds of a tree.
    fn estimate_variance(&self, done: usize) -> f64 {
        (0..usize::BITS)
            .filter(|height| done >> height & 1 == 1)
            .map(|height| self.estimator.node_variance(height))
            .sum()
    }
}

impl TreeEstimator {
    /// Weight of a node's own noisy value in the estimate of its sum; its children's estimates have the rest.
    pub fn own_weight(self, height: u32) -> f64 {
        match self {
            Self::Binary => 1.0,
            Self::FromBelow => self.node_variance(height),
        }
    }

    /// Variance of the estimate of a node's sum at unit noise: 1, or v_h = 1 / (1 + 1 / (2 v_{h−1})) = 2^h /
    /// (2^(h+1) − 1).
    pub fn node_variance(self, height: u32) -> f64 {
        match self {
            Self::Binary => 1.0,
            Self::FromBelow => 1.0 / (2.0 - (-f64::from(height)).exp2()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_participation_meets_one_node_a_level() {
        for estimator in [TreeEstimator::Binary, TreeEstimator::FromBelow] {
            for (n, height) in [
                (1, 1.0_f64),
                (2, 2.0),
                (3, 2.0),
                (4, 3.0),
                (1000, 10.0),
                (2048, 12.0),
                (4095, 12.0),
            ] {
                let found = TreeStrategy::new(estimator)
                    .sensitivity(n, &Participation::single())
                    .unwrap();
                assert!((found.value - height.sqrt()).abs() < 1e-12, "{n}: {found:?}");
            }
        }
    }

    #[test]
    fn a_tree_for_each_epoch_costs_as_much_as_all_of_them_composed() {
        // The reference rows: (steps, epochs, noise, ε at δ) of restarted trees, as the exact Gaussian of μ =
        // √(h E) / s.
        for (steps, epochs, height) in [(2048_usize, 5_usize, 12_usize), (4095, 20, 12), (1, 1, 1)] {
            let tree = TreeStrategy::restarted(TreeEstimator::FromBelow, steps).unwrap();
            let participation = Participation::fixed_epoch(steps, None).unwrap();
            let found = tree.sensitivity(steps * epochs, &participation).unwrap();
            assert!(
                (found.value - ((height * epochs) as f64).sqrt()).abs() < 1e-10,
                "{found:?}"
            );
        }
    }

    #[test]
    fn errors_are_binary_digits() {
        let error = TreeStrategy::new(TreeEstimator::Binary).prefix_error(7).unwrap();
        assert!((error.max - 3f64.sqrt()).abs() < 1e-15);
        assert!((error.root_mean_square - (12.0_f64 / 7.0).sqrt()).abs() < 1e-15);
        let better = TreeStrategy::new(TreeEstimator::FromBelow)
            .prefix_error(7)
            .unwrap();
        assert!((better.max.powi(2) - (1.0 + 2.0 / 3.0 + 4.0 / 7.0)).abs() < 1e-12);
        let restarted = TreeStrategy::restarted(TreeEstimator::Binary, 4)
            .unwrap()
            .prefix_error(8)
            .unwrap();
        assert!((restarted.max - 3f64.sqrt()).abs() < 1e-15);
        assert!(TreeStrategy::restarted(TreeEstimator::Binary, 0).is_err());
    }
}
