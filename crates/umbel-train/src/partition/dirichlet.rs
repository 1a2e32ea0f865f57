//! Label skew: clients differ in which classes they hold.

use rand::seq::SliceRandom;

use super::shares::{part_ends, symmetric_dirichlet};
use super::{ClientNames, Partition, PartitionError};
use crate::rng::TrainingRng;

impl Partition {
    /// Divides the examples of each class over `n_clients` in proportions drawn from a symmetric Dirichlet
    /// distribution of concentration `alpha`, one draw a class (Yurochkin et al. 2019; "distribution-based label
    /// imbalance" in NIID-bench, Li et al. 2022). Clients may end up without examples; nothing is drawn again to avoid that.
    ///
    /// # Panics
    ///
    /// Where a label is not below `n_classes`.
    pub fn dirichlet(
        labels: &[u32],
        n_classes: usize,
        n_clients: usize,
        alpha: f64,
        rng: &mut TrainingRng,
    ) -> Result<Self, PartitionError> {
        super::check_clients(n_clients)?;
        super::check_alpha(alpha)?;
        let mut clients = vec![0_u32; labels.len()];
        for mut examples in super::by_class(labels, n_classes) {
            examples.shuffle(rng);
            let shares = symmetric_dirichlet(n_clients, alpha, rng);
            let mut begin = 0;
            for (client, end) in (0_u32..).zip(part_ends(&shares, examples.len())) {
                for &example in &examples[begin..end] {
                    clients[example as usize] = client;
                }
                begin = end;
            }
        }
        Ok(Self::from_clients(ClientNames::Numbers, n_clients, &clients))
    }
}
