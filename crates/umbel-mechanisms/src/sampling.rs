//! Poisson sampling of a cohort: an independent coin for each client.

use std::cmp::Ordering;

use rand_core::Rng;
use umbel_accounting::SamplingRate;

use crate::blocks::vectorised;
use crate::source::{CohortSource, RandomStream};

/// The clients of one round, in ascending order: each of `0..population` is in it with probability `rate`,
/// independently of all others.
///
/// A coin is a 64-bit fraction compared with `floor(rate · 2^64)`: its probability is never above `rate` and less than
/// 2^-64 below. The coin of client i depends on (source, round, i) alone, so the cohort of a larger population, restricted
/// to a smaller one, is the cohort of the smaller. The cohort may be empty, and its size is itself secret.
///
/// Shape: at most `population` numbers, `rate · population` expected. Whoever cannot take part is dropped by the caller
/// *after* the coins; nobody's rate is raised to make up for that.
pub fn poisson_cohort(source: &CohortSource, round: u64, population: u64, rate: SamplingRate) -> Vec<u64> {
    if rate.value() >= 1.0 {
        return (0..population).collect();
    }
    let threshold = threshold(rate);
    let (high, low) = (threshold >> 32, threshold & 0xffff_ffff);
    let mut stream = source.stream(round);
    let mut cohort = Vec::new();
    // Word i of the stream holds the upper half of coin i. The lower half matters once in 2^32 coins.
    let mut words = [0_u8; 4 * BLOCK];
    let mut first = 0;
    while first < population {
        stream.fill_bytes(&mut words);
        // Few coins fall: groups of them are passed over by their least.
        for (group, least) in words
            .as_chunks::<{ 4 * GROUP }>()
            .0
            .iter()
            .zip(least_of_groups(&words))
        {
            let clients = first..population.min(first + GROUP as u64);
            first += GROUP as u64;
            if u64::from(least) > high {
                continue;
            }
            for (client, word) in clients.zip(group.as_chunks().0) {
                let is_in = match u64::from(u32::from_le_bytes(*word)).cmp(&high) {
                    Ordering::Less => true,
                    Ordering::Equal => lower_half(source, round, client) < low,
                    Ordering::Greater => false,
                };
                if is_in {
                    cohort.push(client);
                }
            }
        }
    }
    cohort
}

/// A client's training batch: each place in `0..n_examples` is in it with probability `rate`, independently of all others. A coin is
/// a 64-bit fraction, as for a cohort; the places come in ascending order. A batch may be empty.
pub fn poisson_batch(coins: &mut RandomStream, n_examples: usize, rate: SamplingRate) -> Vec<usize> {
    if rate.value() >= 1.0 {
        return (0..n_examples).collect();
    }
    let threshold = threshold(rate);
    (0..n_examples).filter(|_| coins.next_u64() < threshold).collect()
}

/// Coins drawn at a time, and looked at together.
const BLOCK: usize = 1024;
const GROUP: usize = 16;

/// The least word of each group.
fn least_of_groups(words: &[u8; 4 * BLOCK]) -> [u32; BLOCK / GROUP] {
    let mut least = [u32::MAX; BLOCK / GROUP];
    vectorised(
        #[inline(always)]
        || {
            for (least, group) in least.iter_mut().zip(words.as_chunks::<{ 4 * GROUP }>().0) {
                for word in group.as_chunks().0 {
                    *least = u32::from_le_bytes(*word).min(*least);
                }
            }
        },
    );
    least
}

/// `floor(rate · 2^64)` of a rate below 1.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rate < 1, so the product is below 2^64"
)]
fn threshold(rate: SamplingRate) -> u64 {
    // Scaling by a power of two is exact, and the cast rounds down.
    (rate.value() * 2.0_f64.powi(64)) as u64
}

#[cold]
fn lower_half(source: &CohortSource, round: u64, client: u64) -> u64 {
    let mut stream = source.tie_stream(round);
    stream.skip_words(client);
    u64::from(stream.next_u32())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{BatchSource, SimulationSeed};
    use crate::statistics::{check_chi_square, check_counts, check_z};

    fn cohort(seed: u64, round: u64, population: u64, rate: f64) -> Vec<u64> {
        let source = CohortSource::simulated(SimulationSeed::new(seed));
        poisson_cohort(&source, round, population, SamplingRate::new(rate).unwrap())
    }

    #[test]
    fn a_larger_population_changes_nobodys_coin() {
        let small = cohort(1, 2, 1_000, 0.1);
        let large = cohort(1, 2, 5_000, 0.1);
        assert_eq!(
            small,
            large
                .iter()
                .copied()
                .filter(|&client| client < 1_000)
                .collect::<Vec<_>>()
        );
        assert_ne!(small, cohort(1, 3, 1_000, 0.1));
        assert_ne!(small, cohort(2, 2, 1_000, 0.1));
    }

    #[test]
    fn extreme_rates_are_exact() {
        assert_eq!(cohort(1, 0, 100, 1.0), (0..100).collect::<Vec<_>>());
        assert!(cohort(1, 0, 100_000, 1e-30).is_empty());
        assert!(cohort(1, 0, 0, 0.5).is_empty());
        assert_eq!(threshold(SamplingRate::new(0.75).unwrap()), 3 << 62);
        assert_eq!(
            threshold(SamplingRate::new(1.0 - f64::EPSILON / 2.0).unwrap()),
            u64::MAX - 2_047
        );
        // 0.1 as a 64-bit float is a little above a tenth; the threshold is the floor of exactly that number.
        assert_eq!(threshold(SamplingRate::new(0.1).unwrap()), 0x1999_9999_9999_9a00);
    }

    #[test]
    fn a_rate_equal_to_a_coin_leaves_it_to_the_lower_half() {
        // Client 3's own coin as the threshold: in with the next larger rate, out with exactly this one.
        let (round, client) = (4, 3);
        let source = CohortSource::simulated(SimulationSeed::new(6));
        let mut stream = source.stream(round);
        stream.skip_words(client);
        let upper = f64::from(stream.next_u32()) / 2.0_f64.powi(32);
        let lower = lower_half(&source, round, client) as f64 / 2.0_f64.powi(64);
        let is_in = |rate: f64| {
            let rate = SamplingRate::new(rate).unwrap();
            poisson_cohort(&source, round, client + 1, rate).contains(&client)
        };
        assert!(
            upper > 1e-3 && lower > 1e-13,
            "the seed is chosen so that both halves matter"
        );
        assert!(!is_in(upper), "the lower half is not below 0");
        assert!(!is_in(upper + lower * 0.99) && is_in(upper + lower * 1.01));
        assert!(is_in(upper + 2.0_f64.powi(-32)) && !is_in(upper - 2.0_f64.powi(-32)));
    }

    #[test]
    fn cohort_sizes_are_binomial() {
        // Chi-square of the sizes' variance and a z-test of their mean, false-alarm rate 1e-6 each.
        let (population, n_rounds) = (2_000_u32, 2_000_u32);
        for rate in [0.01_f64, 0.37, 0.9] {
            let sizes: Vec<f64> = (0..n_rounds)
                .map(|round| cohort(5, u64::from(round), population.into(), rate).len())
                .map(|size| f64::from(u32::try_from(size).unwrap()))
                .collect();
            let (mean, variance) = (
                f64::from(population) * rate,
                f64::from(population) * rate * (1.0 - rate),
            );
            let n = f64::from(n_rounds);
            let z = sizes.iter().map(|size| size - mean).sum::<f64>() / (n * variance).sqrt();
            check_z(z, "mean cohort size");
            let chi_square = sizes.iter().map(|size| (size - mean).powi(2)).sum::<f64>() / variance;
            check_chi_square(chi_square, n, "cohort sizes");
        }
    }

    #[test]
    fn batch_sizes_are_binomial_and_examples_independent() {
        let rate = SamplingRate::new(0.3).unwrap();
        let source = BatchSource::simulated(SimulationSeed::new(4));
        let (n_examples, n_steps) = (50_u32, 4_000_u32);
        let mut coins = source.stream(3, 5);
        let (mut pairs, mut sizes) = ([0.0_f64; 4], Vec::new());
        for _ in 0..n_steps {
            let batch = poisson_batch(&mut coins, 50, rate);
            pairs[usize::from(batch.contains(&0)) + 2 * usize::from(batch.contains(&49))] += 1.0;
            sizes.push(f64::from(u32::try_from(batch.len()).unwrap()));
        }
        check_counts(&pairs, &[0.49, 0.21, 0.21, 0.09], "two examples");
        let (mean, variance) = (0.3 * f64::from(n_examples), 0.21 * f64::from(n_examples));
        let n = f64::from(n_steps);
        check_z(
            sizes.iter().map(|size| size - mean).sum::<f64>() / (n * variance).sqrt(),
            "mean batch size",
        );
        check_chi_square(
            sizes.iter().map(|size| (size - mean).powi(2)).sum::<f64>() / variance,
            n,
            "batch sizes",
        );
        assert!(poisson_batch(&mut coins, 0, rate).is_empty());
        let certain = SamplingRate::new(1.0).unwrap();
        assert_eq!(poisson_batch(&mut coins, 3, certain), [0, 1, 2]);
    }

    #[test]
    fn coins_of_two_clients_are_independent() {
        let (n_rounds, rate) = (20_000_u32, 0.3_f64);
        let mut counts = [0.0_f64; 4];
        for round in 0..n_rounds {
            let members = cohort(9, round.into(), 2, rate);
            counts[usize::from(members.contains(&0)) + 2 * usize::from(members.contains(&1))] += 1.0;
        }
        let probabilities = [0.49, 0.21, 0.21, 0.09];
        check_counts(&counts, &probabilities, "two coins");
    }
}
