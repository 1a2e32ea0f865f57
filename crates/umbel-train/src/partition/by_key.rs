//! One client for each key: the natural division, where one is known.

use super::{ClientNames, Partition, PartitionError};
use crate::reader::ClientKeys;

impl Partition {
    /// One client for each distinct key, in the order of the sorted keys, so that the number of a client does not
    /// depend on the order of the examples.
    ///
    /// A client with more than `max_examples` keeps the first of them in file order. Which ones those are depends on
    /// nothing but the client's own examples.
    pub fn by_key(keys: &ClientKeys, max_examples: Option<usize>) -> Result<Self, PartitionError> {
        if max_examples == Some(0) {
            return Err(PartitionError::MaxExamples);
        }
        super::check_clients(keys.names().len())?;
        let names = ClientNames::Keys(keys.names().to_vec());
        let mut partition = Self::from_clients(names, keys.names().len(), keys.clients());
        if let Some(max_examples) = max_examples {
            partition.truncate(max_examples);
        }
        Ok(partition)
    }

    fn truncate(&mut self, max_examples: usize) {
        let before = self.indices.len();
        let mut offsets = Vec::with_capacity(self.offsets.len());
        let mut indices = Vec::new();
        offsets.push(0);
        for client in 0..self.n_clients() {
            let examples = self.examples(client);
            indices.extend_from_slice(&examples[..examples.len().min(max_examples)]);
            offsets.push(u32::try_from(indices.len()).expect("no more than before, and those were numbered"));
        }
        indices.shrink_to_fit();
        self.n_left_out += before - indices.len();
        self.offsets = offsets;
        self.indices = indices;
    }
}
