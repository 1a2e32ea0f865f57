//! Label skew with clients of equal size.

use rand::RngExt;
use rand::seq::SliceRandom;

use super::shares::symmetric_dirichlet;
use super::{ClientNames, Partition, PartitionError};
use crate::rng::TrainingRng;

impl Partition {
    /// Gives clients the same number of examples, up to one, whose classes follow proportions drawn for **each client** from
    /// a symmetric Dirichlet distribution of concentration `alpha` (Acar et al. 2021, after Hsu et al. 2019).
    ///
    /// Places are filled in random order: each draws a class by its client's proportions, among the classes that still have
    /// examples. The last places take what is left, so they follow the proportions less closely; where a client's own
    /// classes are used up, it draws in proportion to what is left.
    ///
    /// # Panics
    ///
    /// Where a label is not below `n_classes`.
    pub fn inner_dirichlet(
        labels: &[u32],
        n_classes: usize,
        n_clients: usize,
        alpha: f64,
        rng: &mut TrainingRng,
    ) -> Result<Self, PartitionError> {
        super::check_clients(n_clients)?;
        super::check_alpha(alpha)?;
        let mut classes = super::by_class(labels, n_classes);
        classes.iter_mut().for_each(|examples| examples.shuffle(rng));
        let proportions: Vec<Vec<f64>> = (0..n_clients)
            .map(|_| symmetric_dirichlet(n_classes, alpha, rng))
            .collect();
        let mut places: Vec<u32> = (0_u32..).take(n_clients).cycle().take(labels.len()).collect();
        places.shuffle(rng);
        let mut clients = vec![0_u32; labels.len()];
        for client in places {
            let class = draw_class(&classes, &proportions[client as usize], rng);
            let example = classes[class].pop().expect("a class with examples was drawn");
            clients[example as usize] = client;
        }
        Ok(Self::from_clients(ClientNames::Numbers, n_clients, &clients))
    }
}

/// A class that has examples, drawn with these weights; where none of them has weight, by how many it has.
#[allow(clippy::cast_precision_loss, reason = "counts are below 2^32")]
fn draw_class(classes: &[Vec<u32>], weights: &[f64], rng: &mut TrainingRng) -> usize {
    let weighted = |class: usize| {
        if classes[class].is_empty() {
            0.0
        } else {
            weights[class]
        }
    };
    let counted = |class: usize| classes[class].len() as f64;
    let total: f64 = (0..classes.len()).map(weighted).sum();
    if total > 0.0 {
        draw(classes.len(), total, weighted, rng)
    } else {
        let total = (0..classes.len()).map(counted).sum();
        draw(classes.len(), total, counted, rng)
    }
}

/// An index below `n` of positive weight, drawn in proportion to the weights, whose sum is `total`.
fn draw(n: usize, total: f64, weight: impl Fn(usize) -> f64, rng: &mut TrainingRng) -> usize {
    let mut rest = rng.random::<f64>() * total;
    let mut last = 0;
    for index in (0..n).filter(|&index| weight(index) > 0.0) {
        last = index;
        rest -= weight(index);
        if rest < 0.0 {
            break;
        }
    }
    // Rounding may leave a hair over; it goes to the last one.
    last
}
