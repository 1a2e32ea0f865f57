//! Sensitivity of the binary tree when a unit takes part more than once.

use super::{
    Participation, Tightness,
    tree::{TreeEstimator, TreeStrategy},
};

/// Elementary steps that the exact programme may take.
const MAX_EXACT_WORK: f64 = 1e9;

/// A value that no pattern has.
const NONE: f64 = f64::NEG_INFINITY;

/// Largest sum over nodes of (participations inside)² when any two participations are far enough apart.
pub(super) fn min_separation_square(
    tree: TreeStrategy,
    n_rounds: usize,
    participation: &Participation,
) -> (f64, Tightness) {
    let (separation, most) = (participation.separation(), participation.most_in(n_rounds));
    let blocks = forest(tree.rounds_per_tree(), n_rounds);
    if most == 1 {
        let height = blocks.iter().map(|block| block.height).max().unwrap_or(0);
        return (f64::from(height) + 1.0, Tightness::Exact);
    }
    if exact_work(&blocks, separation, most) <= MAX_EXACT_WORK {
        (
            Programme::new(tree.estimator(), separation, most).best(&blocks),
            Tightness::Exact,
        )
    } else {
        (level_bound(&blocks, separation, most), Tightness::UpperBound)
    }
}

/// The same for turns at a fixed distance: every phase is tried. At most `most` of the turns may be taken,
/// which matters only where there are more; then all are counted, as an upper bound.
pub(super) fn fixed_epoch_square(
    tree: TreeStrategy,
    n_rounds: usize,
    participation: &Participation,
) -> (f64, Tightness) {
    let (period, most) = (participation.separation(), participation.most_in(n_rounds));
    if most == 1 {
        return min_separation_square(tree, n_rounds, participation);
    }
    let blocks = forest(tree.rounds_per_tree(), n_rounds);
    let mut starts = Vec::with_capacity(blocks.len());
    let mut next_start = 0;
    for block in &blocks {
        starts.push(next_start);
        next_start += 1_usize << block.height;
    }
    let square = (0..period.min(n_rounds))
        .map(|phase| {
            let turns: Vec<usize> = (phase..n_rounds).step_by(period).collect();
            let (mut at, mut square) = (0, 0.0);
            while at < turns.len() {
                let block = starts.partition_point(|&start| start <= turns[at]) - 1;
                let height = blocks[block].height;
                let end = starts[block] + (1_usize << height);
                let inside = turns[at..].partition_point(|&turn| turn < end);
                square += hits_square(tree.estimator(), &turns[at..at + inside], starts[block], height);
                at += inside;
            }
            square
        })
        .fold(0.0, f64::max);
    let all_turns = n_rounds.div_ceil(period);
    (
        square,
        if most == all_turns {
            Tightness::Exact
        } else {
            Tightness::UpperBound
        },
    )
}

/// Σ over the nodes of one complete block of (turns inside)².
fn hits_square(estimator: TreeEstimator, turns: &[usize], start: usize, block_height: u32) -> f64 {
    let mut square = 0.0;
    for height in 0..=block_height {
        let mut at = 0;
        while at < turns.len() {
            let node = (turns[at] - start) >> height;
            let inside = turns[at..].partition_point(|&turn| (turn - start) >> height == node);
            if estimator == TreeEstimator::FromBelow || node.is_multiple_of(2) {
                square += (inside as f64).powi(2);
            }
            at += inside;
        }
    }
    square
}

/// A complete tree of 2^height rounds, always a left child or a root.
struct Block {
    height: u32,
}

/// The complete trees that the rounds of the run fall into, in order of time.
fn forest(rounds_per_tree: usize, n_rounds: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut left = n_rounds;
    while left > 0 {
        let mut in_tree = rounds_per_tree.min(left);
        left -= in_tree;
        while in_tree > 0 {
            let height = in_tree.ilog2();
            blocks.push(Block { height });
            in_tree -= 1 << height;
        }
    }
    blocks
}

/// Participations that fit into 2^height rounds.
fn room(height: u32, separation: usize, most: usize) -> usize {
    most.min((1_usize << height).div_ceil(separation))
}

fn exact_work(blocks: &[Block], separation: usize, most: usize) -> f64 {
    let b = separation as f64;
    let highest = blocks.iter().map(|block| block.height).max().unwrap_or(0);
    let gaps = |height: u32| separation.min(1 << height) as f64 + 1.0;
    let levels: f64 = (1..=highest)
        .map(|height| {
            let below = room(height - 1, separation, most) as f64;
            gaps(height).powi(2) * (gaps(height - 1) * below * below + 4.0 * below)
        })
        .sum();
    let joins: f64 = blocks
        .iter()
        .map(|block| b * b * (1.0 + room(block.height, separation, most) as f64) * most as f64)
        .sum();
    levels + joins
}

/// Each level alone: with k participations of which at most m fit into a node, Σ hits² ≤ ⌊k/m⌋ m² + (k mod
/// m)².
fn level_bound(blocks: &[Block], separation: usize, most: usize) -> f64 {
    let highest = blocks.iter().map(|block| block.height).max().unwrap_or(0);
    (0..=highest)
        .map(|height| {
            let n_nodes: u64 = blocks
                .iter()
                .filter(|block| block.height >= height)
                .map(|b| 1_u64 << (b.height - height))
                .sum();
            let fit = room(height, separation, most) as u64;
            let most = (most as u64).min(n_nodes.saturating_mul(fit));
            ((most / fit) as f64) * (fit as f64).powi(2) + ((most % fit) as f64).powi(2)
        })
        .sum()
}

/// Best value inside a complete tree, by rounds kept free at its start, rounds kept free at its end, and
/// participations.
///
/// Free rounds are counted up to the separation less one; more never matters to a neighbour.
struct Table {
    n_gaps: usize,
    most: usize,
    values: Vec<f64>,
}

impl Table {
    fn new(n_gaps: usize, most: usize) -> Self {
        Self {
            n_gaps,
            most,
            values: vec![NONE; n_gaps * n_gaps * (most + 1)],
        }
    }

    fn at(&self, before: usize, after: usize, hits: usize) -> f64 {
        if hits == 0 {
            0.0
        } else if before >= self.n_gaps || after >= self.n_gaps || hits > self.most {
            NONE
        } else {
            self.values[(before * self.n_gaps + after) * (self.most + 1) + hits]
        }
    }

    fn raise(&mut self, before: usize, after: usize, hits: usize, value: f64) {
        let slot = &mut self.values[(before * self.n_gaps + after) * (self.most + 1) + hits];
        *slot = slot.max(value);
    }
}

struct Programme {
    estimator: TreeEstimator,
    separation: usize,
    most: usize,
}

impl Programme {
    fn new(estimator: TreeEstimator, separation: usize, most: usize) -> Self {
        Self {
            estimator,
            separation,
            most,
        }
    }

    /// Joins the blocks in order; each block is a left child or a root, so its own node counts.
    fn best(&self, blocks: &[Block]) -> f64 {
        let highest = blocks.iter().map(|block| block.height).max().unwrap_or(0);
        let mut tables: Vec<Table> = vec![self.leaf()];
        for height in 1..=highest {
            let next = self.join_children(&tables[tables.len() - 1], height);
            tables.push(next);
        }
        // run[after][hits]: best so far with at least `after` free rounds at the end.
        let gaps = self.separation;
        let mut run = vec![vec![NONE; self.most + 1]; gaps];
        run.iter_mut().for_each(|row| row[0] = 0.0);
        for block in blocks {
            let table = &tables[block.height as usize];
            let length = 1_usize << block.height;
            let mut next = vec![vec![NONE; self.most + 1]; gaps];
            for after in 0..gaps {
                for hits in 0..=self.most {
                    // The block stays empty.
                    let mut value = run[after.saturating_sub(length)][hits];
                    for inside in 1..=hits.min(room(block.height, self.separation, self.most)) {
                        let own = (inside as f64).powi(2);
                        if inside == hits {
                            value = value.max(table.at(0, after, inside) + own);
                            continue;
                        }
                        for before in 0..gaps.min(table.n_gaps) {
                            let earlier = run[gaps - 1 - before][hits - inside];
                            value = value.max(earlier + table.at(before, after, inside) + own);
                        }
                    }
                    next[after][hits] = value;
                }
            }
            run = next;
        }
        run[0].iter().copied().fold(0.0, f64::max)
    }

    /// One round, its own node not counted.
    fn leaf(&self) -> Table {
        let mut table = Table::new(1, 1);
        table.raise(0, 0, 1, 0.0);
        table
    }

    /// The tree of the given height from two of the height below: their own nodes count here, its own does
    /// not yet.
    fn join_children(&self, child: &Table, height: u32) -> Table {
        let half = 1_usize << (height - 1);
        let n_gaps = self.separation.min(2 * half);
        let most = room(height, self.separation, self.most);
        let left_own = |hits: usize| (hits as f64).powi(2);
        let right_own = |hits: usize| match self.estimator {
            TreeEstimator::Binary => 0.0,
            TreeEstimator::FromBelow => (hits as f64).powi(2),
        };
        let mut table = Table::new(n_gaps, most);
        for before in 0..n_gaps {
            for after in 0..n_gaps {
                for hits in 1..=child.most.min(most) {
                    let only_left = child.at(before, after.saturating_sub(half), hits) + left_own(hits);
                    let only_right = child.at(before.saturating_sub(half), after, hits) + right_own(hits);
                    table.raise(before, after, hits, only_left.max(only_right));
                }
                for left in 1..=child.most {
                    for right in 1..=child.most.min(most.saturating_sub(left)) {
                        let own = left_own(left) + right_own(right);
                        // `free` rounds at the end of the left child, the rest of the separation in the right
                        // one.
                        let value = (0..self.separation)
                            .map(|free| {
                                child.at(before, free, left)
                                    + child.at(self.separation - 1 - free, after, right)
                            })
                            .fold(NONE, f64::max);
                        table.raise(before, after, left + right, value + own);
                    }
                }
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::matrix::participation::patterns;

    /// All patterns by brute force over the nodes.
    fn brute_force(tree: TreeStrategy, n: usize, participation: &Participation, fixed: bool) -> f64 {
        let (separation, most) = (participation.separation(), participation.most_in(n));
        let blocks = forest(tree.rounds_per_tree(), n);
        let mut best = 0.0_f64;
        for rounds in patterns(n, separation, most, fixed) {
            let (mut square, mut start) = (0.0, 0);
            for block in &blocks {
                for height in 0..=block.height {
                    for node in 0..1_usize << (block.height - height) {
                        let from = start + (node << height);
                        let hits = rounds
                            .iter()
                            .filter(|&&r| r >= from && r < from + (1 << height))
                            .count();
                        if tree.estimator() == TreeEstimator::FromBelow || node % 2 == 0 {
                            square += (hits * hits) as f64;
                        }
                    }
                }
                start += 1 << block.height;
            }
            best = best.max(square);
        }
        best
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(80))]
        #[test]
        fn programme_finds_the_worst_pattern(
            n in 1_usize..12, per_tree in 1_usize..14, separation in 1_usize..13, most in 1_usize..8,
            below in any::<bool>(),
        ) {
            let estimator = if below { TreeEstimator::FromBelow } else { TreeEstimator::Binary };
            let tree = TreeStrategy::restarted(estimator, per_tree).unwrap();
            let participation = Participation::min_separation(separation, Some(most)).unwrap();
            let expected = brute_force(tree, n, &participation, false);
            let (found, tightness) = min_separation_square(tree, n, &participation);
            prop_assert_eq!(tightness, Tightness::Exact);
            prop_assert!((found - expected).abs() < 1e-9, "found {} expected {}", found, expected);
            let bound = level_bound(&forest(per_tree, n), separation, participation.most_in(n));
            prop_assert!(bound >= expected);

            let participation = Participation::fixed_epoch(separation, Some(most)).unwrap();
            let expected = brute_force(tree, n, &participation, true);
            let (found, tightness) = fixed_epoch_square(tree, n, &participation);
            prop_assert!(found >= expected - 1e-9, "found {} expected {}", found, expected);
            prop_assert!(tightness != Tightness::Exact || found <= expected + 1e-9);
        }
    }

    #[test]
    fn powers_of_two_reach_the_bound_of_each_level() {
        let tree = TreeStrategy::new(TreeEstimator::FromBelow);
        let participation = Participation::min_separation(64, None).unwrap();
        let (found, tightness) = min_separation_square(tree, 1024, &participation);
        // 16 participations: 16 in each of the levels 1..64, then 2, 4, 8, 16 in a node.
        let expected = 16.0 * 7.0 + 8.0 * 4.0 + 4.0 * 16.0 + 2.0 * 64.0 + 256.0;
        assert!(
            (found - expected).abs() < 1e-9 && tightness == Tightness::Exact,
            "{found} {expected}"
        );
    }

    #[test]
    fn long_runs_fall_back_to_the_bound_of_each_level() {
        let tree = TreeStrategy::new(TreeEstimator::FromBelow);
        let participation = Participation::min_separation(1000, None).unwrap();
        let (found, tightness) = min_separation_square(tree, 100_000, &participation);
        assert_eq!(tightness, Tightness::UpperBound);
        let single = 17.0;
        assert!(found > 100.0 * 10.0 && found < single * 100.0 * 100.0);
    }
}
