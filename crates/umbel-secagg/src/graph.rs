//! Who shares secrets and masks with whom.

use chacha20::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// The kind of graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Topology {
    /// Everybody with everybody: for small cohorts.
    Complete,
    /// A ring in random order, in which everybody is joined with the next k/2 on either side (Harary 1962; Bell et al.
    /// 2020).
    Regular,
}

impl Topology {
    /// The kind for cohorts of at most this size: complete up to 128 clients, where a regular graph saves little.
    pub fn for_clients(clients: u32) -> Self {
        if clients <= 128 {
            Self::Complete
        } else {
            Self::Regular
        }
    }
}

/// The neighbours of each of `n` clients, as ascending places on the roster. `degree` is even and below n, or n − 1.
///
/// The order of the ring is a Fisher–Yates shuffle by ChaCha20 under SHA-256("umbel/sa1/graph" ‖ 0 ‖ roster root), so nobody
/// chooses it without choosing the roster.
pub(crate) fn neighbors(roster_root: &[u8; 32], n: usize, degree: usize) -> Vec<Vec<u32>> {
    if degree + 1 >= n {
        return (0..n)
            .map(|i| (0..n).filter(|j| *j != i).map(place).collect())
            .collect();
    }
    let ring = ring(roster_root, n);
    let mut neighbors = vec![Vec::with_capacity(degree); n];
    for (position, &client) in ring.iter().enumerate() {
        for distance in 1..=degree / 2 {
            let other = ring[(position + distance) % n];
            neighbors[client].push(place(other));
            neighbors[other].push(place(client));
        }
    }
    neighbors.iter_mut().for_each(|list| list.sort_unstable());
    neighbors
}

/// All places in the order of the ring.
pub(crate) fn ring(roster_root: &[u8; 32], n: usize) -> Vec<usize> {
    let mut hash = Sha256::new();
    hash.update(b"umbel/sa1/graph\0");
    hash.update(roster_root);
    let mut rng = ChaCha20Rng::from_seed(hash.finalize().into());
    let mut ring: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        ring.swap(i, below(i + 1, &mut rng));
    }
    ring
}

/// Uniform below `n`: 64-bit words at or above the largest multiple of n are drawn again.
#[allow(clippy::cast_possible_truncation, reason = "the remainder is below n")]
fn below(n: usize, rng: &mut ChaCha20Rng) -> usize {
    let n = n as u64;
    let limit = u64::MAX - u64::MAX % n;
    loop {
        let word = rng.next_u64();
        if word < limit {
            return (word % n) as usize;
        }
    }
}

fn place(i: usize) -> u32 {
    u32::try_from(i).expect("a roster has at most 2^14 clients")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_as_many_neighbors_and_is_their_neighbor() {
        for (n, degree) in [(5, 2), (10, 4), (33, 32), (100, 42), (7, 6), (8, 6)] {
            let graph = neighbors(&[3; 32], n, degree);
            for (client, list) in graph.iter().enumerate() {
                assert_eq!(list.len(), degree);
                assert!(list.is_sorted_by(|a, b| a < b));
                for &other in list {
                    assert_ne!(other as usize, client);
                    assert!(graph[other as usize].contains(&place(client)));
                }
            }
        }
    }

    #[test]
    fn another_roster_gives_another_ring() {
        assert_ne!(neighbors(&[1; 32], 50, 4), neighbors(&[2; 32], 50, 4));
        assert_eq!(neighbors(&[1; 32], 50, 4), neighbors(&[1; 32], 50, 4));
    }

    #[test]
    fn each_pair_is_joined_with_the_same_chance() {
        // Chi-square over the 45 pairs of 10 clients; joined with chance 4/9; threshold for a false alarm of 1e-6.
        let (n, degree, rounds) = (10, 4, 9_000_u32);
        let mut counts = vec![0_u32; n * n];
        for round in 0..rounds {
            let mut root = [0; 32];
            root[..4].copy_from_slice(&round.to_le_bytes());
            for (client, list) in neighbors(&root, n, degree).iter().enumerate() {
                list.iter()
                    .for_each(|&other| counts[client * n + other as usize] += 1);
            }
        }
        let expected = f64::from(rounds) * 4.0 / 9.0;
        let statistic: f64 = (0..n)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| (f64::from(counts[i * n + j]) - expected).powi(2) / expected)
            .sum();
        // The counts are negatively dependent and their variance is below the Poisson one.
        assert!(statistic < 112.0, "{statistic}");
    }
}
