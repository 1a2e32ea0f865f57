//! Parts of stated sizes.

use super::{ClientNames, Partition, PartitionError};
use crate::rng::TrainingRng;

impl Partition {
    /// Shuffles the examples and gives client c the next `sizes[c]` of them. What is left then is nobody's.
    pub fn sizes(n_examples: usize, sizes: &[usize], rng: &mut TrainingRng) -> Result<Self, PartitionError> {
        super::check_clients(sizes.len())?;
        let asked = sizes.iter().fold(0_usize, |sum, &size| sum.saturating_add(size));
        if asked > n_examples {
            return Err(PartitionError::Sizes { asked, n_examples });
        }
        let mut indices = super::shuffled(n_examples, rng);
        indices.truncate(asked);
        let mut offsets = vec![0];
        let mut end = 0;
        for &size in sizes {
            end += size;
            offsets.push(u32::try_from(end).expect("at most the number of examples"));
        }
        Ok(Self {
            names: ClientNames::Numbers,
            offsets,
            indices,
            n_left_out: n_examples - asked,
        })
    }
}
