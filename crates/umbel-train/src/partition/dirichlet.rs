//! Label skew: clients differ in which classes they hold.

use rand::distr::{Distribution, Open01};
use rand::seq::SliceRandom;
use rand_distr::Gamma;

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
        if !(alpha.is_finite() && alpha > 0.0) {
            return Err(PartitionError::Alpha { got: alpha });
        }
        let mut classes = vec![Vec::new(); n_classes];
        for (example, &label) in labels.iter().enumerate() {
            classes[label as usize].push(example);
        }
        let mut clients = vec![0_u32; labels.len()];
        for mut examples in classes {
            examples.shuffle(rng);
            let shares = symmetric_dirichlet(n_clients, alpha, rng);
            let mut begin = 0;
            let mut cumulative = 0.0;
            for (client, share) in (0_u32..).zip(&shares) {
                cumulative += share;
                let end = if client as usize + 1 == n_clients {
                    examples.len()
                } else {
                    rounded_share(cumulative, examples.len()).max(begin)
                };
                for &example in &examples[begin..end] {
                    clients[example] = client;
                }
                begin = end;
            }
        }
        Ok(Self::from_clients(ClientNames::Numbers, n_clients, &clients))
    }
}

/// `share` of `total`, rounded to the nearest whole number and at most `total`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "totals are below 2^32, and the result is from 0 to the total"
)]
fn rounded_share(share: f64, total: usize) -> usize {
    ((share * total as f64).round() as usize).min(total)
}

/// Shares that sum to 1, drawn from the symmetric Dirichlet distribution: independent Gamma(alpha) values over their sum.
///
/// For a small alpha such values underflow, all of them at once not seldom. A Gamma(alpha) value is a Gamma(alpha + 1)
/// value times U^(1/alpha) (Marsaglia and Tsang 2000, section 8), so its logarithm is computed instead, and the largest
/// is taken out before exponentials are: at least one share then stays above 0 for every alpha.
fn symmetric_dirichlet(n: usize, alpha: f64, rng: &mut TrainingRng) -> Vec<f64> {
    let gamma = Gamma::new(alpha + 1.0, 1.0).expect("the shape is finite and above 1, the scale is 1");
    let mut logarithms: Vec<f64> = Vec::with_capacity(n);
    for _ in 0..n {
        let uniform: f64 = Open01.sample(rng);
        logarithms.push(gamma.sample(rng).ln() + uniform.ln() / alpha);
    }
    let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // With the smallest subnormal alpha even the logarithms overflow; the first client then gets the class.
    if largest == f64::NEG_INFINITY {
        let mut shares = vec![0.0; n];
        shares[0] = 1.0;
        return shares;
    }
    let mut shares: Vec<f64> = logarithms.iter().map(|value| (value - largest).exp()).collect();
    let sum: f64 = shares.iter().sum();
    for share in &mut shares {
        *share /= sum;
    }
    shares
}
