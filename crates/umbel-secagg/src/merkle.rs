//! A hash tree over a list, so that one signature covers all entries and each can be shown alone.

use crate::crypto::{Hash, hash};

/// The tree over some leaves. A node without a partner goes up unchanged.
pub(crate) struct Tree {
    /// From the leaves to the root.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    pub(crate) fn new(leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let next = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => join(left, right),
                    rest => rest[0],
                })
                .collect();
            levels.push(next);
        }
        Self { levels }
    }

    /// The root; zeros for no leaves.
    pub(crate) fn root(&self) -> Hash {
        self.levels
            .last()
            .and_then(|level| level.first().copied())
            .unwrap_or_default()
    }

    /// The partners on the way from a leaf to the root.
    pub(crate) fn proof(&self, place: usize) -> Vec<Hash> {
        self.levels
            .iter()
            .enumerate()
            .filter_map(|(height, level)| level.get((place >> height) ^ 1).copied())
            .collect()
    }
}

/// How many partners [`Tree::proof`] gives.
pub(crate) fn proof_length(mut n_leaves: usize, mut place: usize) -> usize {
    let mut length = 0;
    while n_leaves > 1 {
        length += usize::from(place ^ 1 < n_leaves);
        n_leaves = n_leaves.div_ceil(2);
        place /= 2;
    }
    length
}

/// The root that a leaf at `place` of `n_leaves` leads to; `None` if there are too few or too many partners.
pub(crate) fn root_from_proof(
    leaf: Hash,
    mut n_leaves: usize,
    mut place: usize,
    partners: &[Hash],
) -> Option<Hash> {
    let (mut node, mut partners) = (leaf, partners.iter());
    while n_leaves > 1 {
        if place ^ 1 < n_leaves {
            let partner = partners.next()?;
            node = if place.is_multiple_of(2) {
                join(&node, partner)
            } else {
                join(partner, &node)
            };
        }
        n_leaves = n_leaves.div_ceil(2);
        place /= 2;
    }
    partners.next().is_none().then_some(node)
}

fn join(left: &Hash, right: &Hash) -> Hash {
    hash("umbel/sa1/node", &[left, right])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_leads_to_the_root_from_its_own_place_only() {
        for n in 1..20_u8 {
            let leaves: Vec<Hash> = (0..n).map(|i| [i; 32]).collect();
            let (n, tree) = (usize::from(n), Tree::new(leaves.clone()));
            for place in 0..n {
                let partners = tree.proof(place);
                assert_eq!(partners.len(), proof_length(n, place));
                assert_eq!(
                    root_from_proof(leaves[place], n, place, &partners),
                    Some(tree.root())
                );
                let other = (place + 1) % n;
                if n > 1 {
                    assert_ne!(
                        root_from_proof(leaves[place], n, other, &partners),
                        Some(tree.root())
                    );
                    assert_ne!(
                        root_from_proof(leaves[other], n, place, &partners),
                        Some(tree.root())
                    );
                    assert_eq!(root_from_proof(leaves[place], n, place, &partners[1..]), None);
                }
            }
        }
    }
}
