//! A few shards of the examples sorted by label for each client.

use rand::seq::SliceRandom;

use super::{ClientNames, Partition, PartitionError};
use crate::rng::TrainingRng;

impl Partition {
    /// Sorts the examples by label, cuts them into `n_clients` × `shards_per_client` shards whose sizes differ by at most
    /// one, and deals each client `shards_per_client` of them at random (McMahan et al. 2017, section 3, with two shards a
    /// client). Most clients then hold at most that many classes; a shard across the border of two classes holds both.
    ///
    /// Within a class the order is random, so that it does not matter how the file was sorted.
    pub fn shards(
        labels: &[u32],
        n_clients: usize,
        shards_per_client: usize,
        rng: &mut TrainingRng,
    ) -> Result<Self, PartitionError> {
        super::check_clients(n_clients)?;
        let n_shards = n_clients.checked_mul(shards_per_client);
        let Some(n_shards @ 1..) = n_shards.filter(|&n_shards| n_shards <= labels.len()) else {
            return Err(PartitionError::Shards {
                n_clients,
                shards_per_client,
                n_examples: labels.len(),
            });
        };
        let mut order = super::shuffled(labels.len(), rng);
        order.sort_by_key(|&example| labels[example as usize]);
        let mut dealt: Vec<usize> = (0..n_shards).collect();
        dealt.shuffle(rng);
        let mut clients = vec![0_u32; labels.len()];
        for (place, shard) in dealt.into_iter().enumerate() {
            let client = u32::try_from(place / shards_per_client).expect("clients were numbered");
            for &example in &order[super::even_part(shard, n_shards, labels.len())] {
                clients[example as usize] = client;
            }
        }
        Ok(Self::from_clients(ClientNames::Numbers, n_clients, &clients))
    }
}
