//! The discrete Laplace distribution on the integers, exact.

use rand_core::Rng;

use crate::strips::uniform_below;

/// Draws from the discrete Laplace distribution of scale b = numerator / denominator: `Pr[k] ∝ exp(−|k|/b)`.
///
/// Precondition: numerator and denominator lie in [1, 2^32]. What holds: given uniform bits the law is exact, b being the
/// rational number that it is. Canonne, Kamath and Steinke (2020), "The Discrete Gaussian for Differential Privacy",
/// algorithm 2. Running time depends on the value drawn.
///
/// On an integer sum of sensitivity Δ it gives (Δ/b)-differential privacy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiscreteLaplace {
    numerator: u64,
    denominator: u64,
}

/// The scale of a discrete Laplace distribution is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("numerator and denominator of a scale must be between 1 and 2^32, got {numerator} and {denominator}")]
pub struct ScaleOutOfRange {
    /// The numerator that came.
    pub numerator: u64,
    /// The denominator that came.
    pub denominator: u64,
}

impl DiscreteLaplace {
    const LARGEST: u64 = 1 << 32;

    /// A sampler for the scale numerator / denominator.
    pub fn new(numerator: u64, denominator: u64) -> Result<Self, ScaleOutOfRange> {
        let is_allowed = |part| (1..=Self::LARGEST).contains(&part);
        if is_allowed(numerator) && is_allowed(denominator) {
            Ok(Self {
                numerator,
                denominator,
            })
        } else {
            Err(ScaleOutOfRange {
                numerator,
                denominator,
            })
        }
    }

    /// One draw.
    pub fn sample(&self, stream: &mut impl Rng) -> i64 {
        loop {
            let remainder = uniform_below(self.numerator, stream);
            if !bernoulli_exp(remainder, self.numerator, stream) {
                continue;
            }
            let mut quotient = 0;
            while bernoulli_exp(1, 1, stream) {
                quotient += 1;
            }
            // At most 2^32 · (quotient + 1), and a quotient of 2^30 would need 2^30 coins of probability 1/e.
            let magnitude = (remainder + self.numerator * quotient) / self.denominator;
            let magnitude = i64::try_from(magnitude).expect("below 2^63");
            if stream.next_u64() >> 63 == 0 {
                return magnitude;
            }
            if magnitude != 0 {
                return -magnitude;
            }
        }
    }
}

/// A coin of probability exp(−numerator / denominator), exactly (same paper, algorithm 1).
pub(crate) fn bernoulli_exp(numerator: u64, denominator: u64, stream: &mut impl Rng) -> bool {
    let (integer, fraction) = (numerator / denominator, numerator % denominator);
    (0..integer).all(|_| bernoulli_exp_of_fraction(1, 1, stream))
        && bernoulli_exp_of_fraction(fraction, denominator, stream)
}

/// The same for an exponent between 0 and 1.
fn bernoulli_exp_of_fraction(numerator: u64, denominator: u64, stream: &mut impl Rng) -> bool {
    let mut n = 1;
    // A coin of probability numerator / (denominator · n), without the product.
    while uniform_below(denominator, stream) < numerator && uniform_below(n, stream) == 0 {
        n += 1;
    }
    n % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Purpose, RandomStream, SimulationSeed};
    use crate::statistics::{check_counts, range};

    fn stream(seed: u64) -> RandomStream {
        SimulationSeed::new(seed).stream(Purpose::Training, 3, 0)
    }

    #[test]
    fn coins_have_their_probabilities() {
        let n = 200_000;
        for (seed, (numerator, denominator)) in (0..).zip([
            (0, 5),
            (1, 1_000_000),
            (1, 3),
            (1, 1),
            (7, 3),
            (1 << 62, 1 << 61),
            (5, 1),
        ]) {
            let mut stream = stream(seed);
            let heads = (0..n)
                .filter(|_| bernoulli_exp(numerator, denominator, &mut stream))
                .count() as f64;
            let probability = (-(numerator as f64) / denominator as f64).exp();
            let counts = [heads, f64::from(n) - heads];
            if probability < 0.999_9 {
                check_counts(&counts, &[probability, 1.0 - probability], "exponential coin");
            } else {
                assert!(counts[1] < 10.0);
            }
        }
    }

    #[test]
    fn draws_have_the_probabilities_of_a_discrete_laplace() {
        for (seed, (numerator, denominator)) in
            (10..).zip([(1, 3), (1, 1), (5, 2), (40, 1), (1 << 32, (1 << 32) - 1)])
        {
            let sampler = DiscreteLaplace::new(numerator, denominator).unwrap();
            let ratio = (-(denominator as f64) / numerator as f64).exp();
            let largest = range(20.0, -1.0 / ratio.ln());
            let probability =
                |k: i64| (1.0 - ratio) / (1.0 + ratio) * ratio.powi(i32::try_from(k.abs()).unwrap());
            let probabilities: Vec<f64> = (-largest..=largest).map(probability).collect();
            let mut counts = vec![0.0; probabilities.len()];
            let mut stream = stream(seed);
            for _ in 0..200_000 {
                let value = sampler.sample(&mut stream).clamp(-largest, largest);
                counts[usize::try_from(value + largest).unwrap()] += 1.0;
            }
            check_counts(
                &counts,
                &probabilities,
                &format!("scale {numerator} / {denominator}"),
            );
        }
    }

    #[test]
    fn scales_out_of_range_are_refused() {
        for (numerator, denominator) in [(0, 1), (1, 0), ((1 << 32) + 1, 1), (1, u64::MAX)] {
            assert_eq!(
                DiscreteLaplace::new(numerator, denominator),
                Err(ScaleOutOfRange {
                    numerator,
                    denominator
                })
            );
        }
    }
}
