//! Quantity skew: clients differ in how much they hold, not in what.

use super::shares::{part_ends, symmetric_dirichlet};
use super::{ClientNames, Partition, PartitionError};
use crate::rng::TrainingRng;

/// How many examples each client gets, in proportion.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum QuantitySkew {
    /// Shares drawn from a symmetric Dirichlet distribution ("quantity skew" in NIID-bench, Li et al. 2022).
    Dirichlet {
        /// Concentration, above 0: near 0 few clients hold nearly everything.
        alpha: f64,
    },
    /// Client c, from 0, in proportion to exp(c): each 2.7 times the one before, so all but the last dozen may get nothing.
    Exponential,
    /// Client c, from 0, in proportion to c + 1.
    Linear,
    /// Client c, from 0, in proportion to (c + 1)².
    Square,
}

impl Partition {
    /// Shuffles the examples and cuts them in proportion to `skew`; the end of each part is rounded to a whole number, so a client
    /// may get none.
    pub fn quantity(
        n_examples: usize,
        n_clients: usize,
        skew: QuantitySkew,
        rng: &mut TrainingRng,
    ) -> Result<Self, PartitionError> {
        super::check_clients(n_clients)?;
        let shares = shares(n_clients, skew, rng)?;
        let order = super::shuffled(n_examples, rng);
        let mut clients = vec![0_u32; n_examples];
        let mut begin = 0;
        for (client, end) in (0_u32..).zip(part_ends(&shares, n_examples)) {
            for &example in &order[begin..end] {
                clients[example as usize] = client;
            }
            begin = end;
        }
        Ok(Self::from_clients(ClientNames::Numbers, n_clients, &clients))
    }
}

#[allow(clippy::cast_precision_loss, reason = "clients are numbered with 32 bits")]
fn shares(n_clients: usize, skew: QuantitySkew, rng: &mut TrainingRng) -> Result<Vec<f64>, PartitionError> {
    let weight: fn(f64, f64) -> f64 = match skew {
        QuantitySkew::Dirichlet { alpha } => {
            super::check_alpha(alpha)?;
            return Ok(symmetric_dirichlet(n_clients, alpha, rng));
        }
        // Relative to the last client, so that nothing overflows.
        QuantitySkew::Exponential => |client, n_clients| (client - n_clients).exp(),
        QuantitySkew::Linear => |client, _| client,
        QuantitySkew::Square => |client, _| client * client,
    };
    let mut shares: Vec<f64> = (1..=n_clients)
        .map(|client| weight(client as f64, n_clients as f64))
        .collect();
    let sum: f64 = shares.iter().sum();
    for share in &mut shares {
        *share /= sum;
    }
    Ok(shares)
}
