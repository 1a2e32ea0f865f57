//! Clients that differ in a number which each example has.

use rand::distr::Distribution;
use rand_distr::StandardNormal;

use super::{ClientNames, Partition, PartitionError};
use crate::reader::ClientKeys;
use crate::rng::TrainingRng;

impl Partition {
    /// Sorts the examples by the number that is their key, and cuts them into `n_clients` parts whose sizes differ by at most one.
    ///
    /// What they are sorted by is `strictness` × (number - mean) / standard deviation + (1 - `strictness`) × a draw from the standard
    /// normal distribution: with 1 each client has a range of its own, with 0 the division is random.
    pub fn continuous(
        keys: &ClientKeys,
        n_clients: usize,
        strictness: f64,
        rng: &mut TrainingRng,
    ) -> Result<Self, PartitionError> {
        super::check_clients(n_clients)?;
        if !(0.0..=1.0).contains(&strictness) {
            return Err(PartitionError::Strictness { got: strictness });
        }
        let numbers: Vec<f64> = keys
            .names()
            .iter()
            .map(|key| number(key))
            .collect::<Result<_, _>>()?;
        let values = || keys.clients().iter().map(|&key| numbers[key as usize]);
        #[allow(clippy::cast_precision_loss, reason = "data sets are far below 2^53 examples")]
        let n = keys.n_examples() as f64;
        let mean = values().sum::<f64>() / n;
        let std_dev = (values().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
        let mut order = super::shuffled(keys.n_examples(), rng);
        let places: Vec<f64> = values()
            .map(|value| {
                let standardised = if std_dev > 0.0 {
                    (value - mean) / std_dev
                } else {
                    0.0
                };
                let noise: f64 = StandardNormal.sample(rng);
                strictness * standardised + (1.0 - strictness) * noise
            })
            .collect();
        // Stable: examples of one number stay in random order.
        order.sort_by(|&left, &right| places[left as usize].total_cmp(&places[right as usize]));
        let mut clients = vec![0_u32; order.len()];
        for (client, part) in (0_u32..).zip(0..n_clients) {
            for &example in &order[super::even_part(part, n_clients, order.len())] {
                clients[example as usize] = client;
            }
        }
        Ok(Self::from_clients(ClientNames::Numbers, n_clients, &clients))
    }
}

fn number(key: &str) -> Result<f64, PartitionError> {
    match key.trim().parse::<f64>() {
        // So that no sum of squares leaves the range of numbers.
        Ok(number) if number.abs() < 1e100 => Ok(number),
        _ => Err(PartitionError::NotANumber { got: key.to_owned() }),
    }
}
