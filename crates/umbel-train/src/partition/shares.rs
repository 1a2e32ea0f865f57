//! Shares of a whole: how they are drawn, and how whole examples are cut by them.

use rand::distr::{Distribution, Open01};
use rand_distr::Gamma;

use crate::rng::TrainingRng;

/// Where each part ends when `total` examples that follow each other are cut in proportion to `shares`, which sum to 1: at the
/// cumulated share, rounded to a whole number. The last part takes what is left.
pub(super) fn part_ends(shares: &[f64], total: usize) -> impl Iterator<Item = usize> {
    let mut end = 0;
    let mut cumulative = 0.0;
    shares.iter().enumerate().map(move |(part, share)| {
        cumulative += share;
        end = if part + 1 == shares.len() {
            total
        } else {
            rounded_share(cumulative, total).max(end)
        };
        end
    })
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
pub(super) fn symmetric_dirichlet(n: usize, alpha: f64, rng: &mut TrainingRng) -> Vec<f64> {
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
