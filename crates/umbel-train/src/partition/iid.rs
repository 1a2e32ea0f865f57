//! A uniformly random division: every client sees the same distribution.

use rand::seq::SliceRandom;

use super::{ClientNames, Partition, PartitionError};
use crate::rng::TrainingRng;

impl Partition {
    /// Shuffles the examples and cuts them into `n_clients` parts whose sizes differ by at most one.
    ///
    /// With more clients than examples the later ones get none.
    pub fn iid(n_examples: usize, n_clients: usize, rng: &mut TrainingRng) -> Result<Self, PartitionError> {
        super::check_clients(n_clients)?;
        let n_examples = u32::try_from(n_examples).expect("a data set has fewer than 2^32 examples");
        let mut indices: Vec<u32> = (0..n_examples).collect();
        indices.shuffle(rng);
        let (each, larger) = (indices.len() / n_clients, indices.len() % n_clients);
        let end = |client: usize| client * each + client.min(larger);
        let offsets =
            (0..=n_clients).map(|client| u32::try_from(end(client)).expect("at most the number of examples"));
        let offsets = offsets.collect();
        Ok(Self {
            names: ClientNames::Numbers,
            offsets,
            indices,
            n_left_out: 0,
        })
    }
}
