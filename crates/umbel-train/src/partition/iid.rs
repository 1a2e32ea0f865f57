//! A uniformly random division: every client sees the same distribution.

use super::{ClientNames, Partition, PartitionError};
use crate::rng::TrainingRng;

impl Partition {
    /// Shuffles the examples and cuts them into `n_clients` parts whose sizes differ by at most one.
    ///
    /// With more clients than examples the later ones get none.
    pub fn iid(n_examples: usize, n_clients: usize, rng: &mut TrainingRng) -> Result<Self, PartitionError> {
        super::check_clients(n_clients)?;
        let indices = super::shuffled(n_examples, rng);
        let end = |client| super::even_part(client, n_clients, n_examples).end;
        let ends = (0..n_clients).map(end);
        let offsets = std::iter::once(0)
            .chain(ends)
            .map(|end| u32::try_from(end).expect("at most the number of examples"))
            .collect();
        Ok(Self {
            names: ClientNames::Numbers,
            offsets,
            indices,
            n_left_out: 0,
        })
    }
}
