//! A fixed number of labels for each client.

use rand::seq::SliceRandom;

use super::{ClientNames, Partition, PartitionError};
use crate::rng::TrainingRng;

impl Partition {
    /// Gives each client `labels_per_client` of the classes that occur, and divides the examples of each class over its clients in
    /// parts whose sizes differ by at most one ("quantity-based label imbalance" in NIID-bench, Li et al. 2022).
    ///
    /// Each client in turn gets those classes that fewest clients have so far, with ties broken at random. So every class
    /// has nearly the same number of clients, and none is left out, which independent draws do not ensure.
    pub fn pathological(
        labels: &[u32],
        n_classes: usize,
        n_clients: usize,
        labels_per_client: usize,
        rng: &mut TrainingRng,
    ) -> Result<Self, PartitionError> {
        super::check_clients(n_clients)?;
        let mut classes = super::by_class(labels, n_classes);
        classes.retain(|examples| !examples.is_empty());
        let enough = n_clients.saturating_mul(labels_per_client) >= classes.len();
        if !(1..=classes.len()).contains(&labels_per_client) || !enough {
            return Err(PartitionError::Labels {
                labels_per_client,
                n_clients,
                n_classes: classes.len(),
            });
        }
        let mut clients_of = vec![Vec::new(); classes.len()];
        let mut order: Vec<usize> = (0..classes.len()).collect();
        for client in (0_u32..).take(n_clients) {
            order.shuffle(rng);
            order.sort_by_key(|&class| clients_of[class].len());
            for &class in &order[..labels_per_client] {
                clients_of[class].push(client);
            }
        }
        let mut clients = vec![0_u32; labels.len()];
        for (examples, owners) in classes.iter_mut().zip(&mut clients_of) {
            examples.shuffle(rng);
            // The larger parts go to different clients in different classes.
            owners.shuffle(rng);
            for (part, &client) in owners.iter().enumerate() {
                for &example in &examples[super::even_part(part, owners.len(), examples.len())] {
                    clients[example as usize] = client;
                }
            }
        }
        Ok(Self::from_clients(ClientNames::Numbers, n_clients, &clients))
    }
}
