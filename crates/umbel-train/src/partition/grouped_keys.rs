//! Several keys a client.

use rand::seq::SliceRandom;

use super::{ClientNames, Partition, PartitionError};
use crate::reader::ClientKeys;
use crate::rng::TrainingRng;

impl Partition {
    /// Puts the keys in random order and gives each client the next `keys_per_client` of them with all their examples; the last
    /// client may have fewer.
    pub fn grouped_keys(
        keys: &ClientKeys,
        keys_per_client: usize,
        rng: &mut TrainingRng,
    ) -> Result<Self, PartitionError> {
        if keys_per_client == 0 {
            return Err(PartitionError::KeysPerClient);
        }
        let n_keys = keys.names().len();
        let n_clients = n_keys.div_ceil(keys_per_client);
        super::check_clients(n_clients)?;
        let mut order: Vec<usize> = (0..n_keys).collect();
        order.shuffle(rng);
        let mut client_of = vec![0_u32; n_keys];
        for (client, group) in (0_u32..).zip(order.chunks(keys_per_client)) {
            for &key in group {
                client_of[key] = client;
            }
        }
        let clients: Vec<u32> = keys
            .clients()
            .iter()
            .map(|&key| client_of[key as usize])
            .collect();
        Ok(Self::from_clients(ClientNames::Numbers, n_clients, &clients))
    }
}
