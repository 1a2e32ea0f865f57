//! Stated shares of each class.

use rand::seq::SliceRandom;

use super::shares::part_ends;
use super::{ClientNames, Partition, PartitionError};
use crate::rng::TrainingRng;

impl Partition {
    /// Divides the examples of each class in the proportions of its row of `shares`, which has a number for each client; rows need
    /// not sum to 1. Within a class examples are dealt out at random, and all of them are.
    ///
    /// # Errors
    ///
    /// Not a row for each of the `n_classes` classes, rows of different lengths, a share that is no finite number of at least 0, or a
    /// row of zeros.
    ///
    /// # Panics
    ///
    /// Where a label is not below `n_classes`.
    pub fn distribution(
        labels: &[u32],
        n_classes: usize,
        shares: &[Vec<f64>],
        rng: &mut TrainingRng,
    ) -> Result<Self, PartitionError> {
        if shares.len() != n_classes {
            return Err(PartitionError::ShareRows {
                n_classes,
                n_rows: shares.len(),
            });
        }
        let n_clients = shares.first().map_or(0, Vec::len);
        super::check_clients(n_clients)?;
        let mut clients = vec![0_u32; labels.len()];
        for (class, (mut examples, row)) in super::by_class(labels, n_classes)
            .into_iter()
            .zip(shares)
            .enumerate()
        {
            let sum: f64 = row.iter().sum();
            let fits = row.len() == n_clients && row.iter().all(|&share| share >= 0.0);
            if !(fits && sum > 0.0 && sum.is_finite()) {
                return Err(PartitionError::Shares { class, n_clients });
            }
            examples.shuffle(rng);
            let row: Vec<f64> = row.iter().map(|share| share / sum).collect();
            // What rounding leaves goes to the last client that has a share at all.
            let last = row.iter().rposition(|&share| share > 0.0).unwrap_or(0);
            let mut begin = 0;
            for (client, end) in (0_u32..).zip(part_ends(&row[..=last], examples.len())) {
                for &example in &examples[begin..end] {
                    clients[example as usize] = client;
                }
                begin = end;
            }
        }
        Ok(Self::from_clients(ClientNames::Numbers, n_clients, &clients))
    }
}
