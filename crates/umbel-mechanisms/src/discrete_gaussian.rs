//! The discrete Gaussian on the integers, exact and fast.

use rand_core::Rng;

use crate::rounded_gaussian::{StdDevOutOfRange, mantissa_and_exponent};
use crate::strips::{CUT_PROBABILITY, Law, OFFSET_BITS, Offset, Strips};

/// Draws from N_Z(0, σ²), so `Pr[k] ∝ exp(−k²/2σ²)`, for a σ given as a float.
///
/// Precondition: σ, taken as the exact number that the float is, lies in [2^-4, 2^45]. What holds: given uniform bits
/// the law is exact but for the mass beyond 16 standard deviations, below 1e-56, which is left out
/// ([`TOTAL_VARIATION`](Self::TOTAL_VARIATION)).
///
/// **Algorithm.** Rejection by strips (`strips.rs`) in integer arithmetic: below 64 a strip is one integer, from there on
/// b = 2^m of them with b/σ in (1/64, 1/32]. A magnitude is drawn with density proportional to exp(−k²/2σ²) on
/// k = 0, 1, …, then a sign; 0 with a minus sign is drawn again, or 0 would count twice (Canonne, Kamath and Steinke 2020,
/// algorithm 2, does the same). Where a strip is one integer, 0 has half its weight instead.
///
/// Making one costs about a millisecond; a draw costs one 64-bit word in about 19 cases of 20. Running time depends on the
/// value drawn: whoever can time single draws learns something about them.
#[derive(Debug, Clone)]
pub struct DiscreteGaussian {
    std_dev: f64,
    strips: Strips,
    /// Integers in a strip, as a power of two.
    strip_bits: u32,
}

impl DiscreteGaussian {
    /// The smallest σ.
    pub const MIN_STD_DEV: f64 = 1.0 / 16.0;
    /// The largest σ.
    pub const MAX_STD_DEV: f64 = 35_184_372_088_832.0;
    /// Bound on the total variation distance between one draw and its law.
    pub const TOTAL_VARIATION: f64 = CUT_PROBABILITY;

    /// A sampler for the parameter σ, of which σ² is close to the variance, from below.
    pub fn new(std_dev: f64) -> Result<Self, StdDevOutOfRange> {
        if !(Self::MIN_STD_DEV..=Self::MAX_STD_DEV).contains(&std_dev) {
            return Err(StdDevOutOfRange {
                lowest: Self::MIN_STD_DEV,
                highest: Self::MAX_STD_DEV,
                got: std_dev,
            });
        }
        // σ = S · 2^e, and a strip of b integers has the width b/σ = b · 2^-e / S.
        let (denominator, exponent) = mantissa_and_exponent(std_dev);
        let mut strip_bits = 0;
        while 64.0 * 2.0_f64.powi(strip_bits) <= std_dev {
            strip_bits += 1;
        }
        let shift = u32::try_from(strip_bits - exponent)
            .expect("the exponent is below the number of bits in a strip");
        let (numerator, strip_bits) = (1 << shift, u32::try_from(strip_bits).expect("at least 0"));
        let law = if strip_bits == 0 {
            Law::GaussianPoints {
                numerator,
                denominator,
            }
        } else {
            Law::GaussianIntervals {
                numerator,
                denominator,
            }
        };
        Ok(Self {
            std_dev,
            strips: Strips::new(law),
            strip_bits,
        })
    }

    /// The parameter σ.
    pub fn std_dev(&self) -> f64 {
        self.std_dev
    }

    /// Adds an independent draw to each value.
    ///
    /// Values must be below 2^62 in magnitude, so that no sum overflows.
    pub fn add_to(&self, values: &mut [i64], stream: &mut impl Rng) {
        for value in values {
            *value += self.sample(stream);
        }
    }

    /// One draw.
    #[inline]
    pub fn sample(&self, stream: &mut impl Rng) -> i64 {
        loop {
            let proposal = self.strips.propose(stream.next_u64());
            let offset = proposal.offset >> (OFFSET_BITS - self.strip_bits);
            let strip = self.strips.accept_quickly(proposal).or_else(|| {
                let mut offset = Fraction {
                    numerator: offset,
                    n_bits: self.strip_bits,
                };
                self.strips.accept_slowly(proposal, &mut offset, stream)
            });
            if let Some(strip) = strip {
                let magnitude = i64::try_from(strip << self.strip_bits | offset).expect("below 2^53");
                let is_counted_twice = magnitude == 0 && proposal.is_negative && self.strip_bits > 0;
                if !is_counted_twice {
                    return if proposal.is_negative {
                        -magnitude
                    } else {
                        magnitude
                    };
                }
            }
        }
    }
}

/// The position j / 2^m in a strip of 2^m integers.
struct Fraction {
    numerator: u64,
    n_bits: u32,
}

impl Offset for Fraction {
    fn flip(&mut self, stream: &mut impl Rng) -> bool {
        // No shift by 64: a strip of one integer has the position 0, and the coin never comes up.
        self.n_bits > 0 && stream.next_u64() >> (64 - self.n_bits) < self.numerator
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discrete_laplace::{DiscreteLaplace, bernoulli_exp};
    use crate::source::{Purpose, RandomStream, SimulationSeed};
    use crate::statistics::{
        check_chi_square, check_counts, check_kolmogorov_smirnov, check_same_distribution, check_z,
        normal_cdf, range,
    };

    fn stream(seed: u64) -> RandomStream {
        SimulationSeed::new(seed).stream(Purpose::Training, 2, 0)
    }

    /// Probabilities of …, −1, 0, 1, … within seven σ, or at least three integers.
    fn probabilities(sigma: f64) -> (i64, Vec<f64>) {
        let largest = range(7.0, sigma);
        let weights: Vec<f64> = (-largest..=largest)
            .map(|k| (-(k as f64 / sigma).powi(2) / 2.0).exp())
            .collect();
        let total: f64 = weights.iter().sum();
        (
            largest,
            weights.into_iter().map(|weight| weight / total).collect(),
        )
    }

    fn counts(largest: i64, n: usize, mut draw: impl FnMut() -> i64) -> Vec<f64> {
        let mut counts = vec![0.0; usize::try_from(2 * largest + 1).unwrap()];
        for _ in 0..n {
            counts[usize::try_from(draw().clamp(-largest, largest) + largest).unwrap()] += 1.0;
        }
        counts
    }

    const SIGMAS: [f64; 13] = [
        0.25, 0.5, 0.8, 1.0, 2.7, 8.0, 31.9, 32.0, 33.5, 63.9, 64.0, 100.0, 127.99,
    ];

    #[test]
    fn draws_have_the_probabilities_of_a_discrete_gaussian() {
        for (seed, sigma) in (0..).zip(SIGMAS) {
            let sampler = DiscreteGaussian::new(sigma).unwrap();
            let (largest, probabilities) = probabilities(sigma);
            let mut stream = stream(seed);
            let counts = counts(largest, 1_000_000, || sampler.sample(&mut stream));
            check_counts(&counts, &probabilities, &format!("sigma = {sigma}"));
        }
    }

    #[test]
    fn the_law_does_not_depend_on_the_tables() {
        for (seed, sigma) in (100..).zip([0.8, 2.7, 33.5]) {
            let mut sampler = DiscreteGaussian::new(sigma).unwrap();
            sampler.strips = sampler.strips.without_shortcuts();
            let (largest, probabilities) = probabilities(sigma);
            let mut stream = stream(seed);
            let counts = counts(largest, 20_000, || sampler.sample(&mut stream));
            check_counts(
                &counts,
                &probabilities,
                &format!("sigma = {sigma}, exact decisions only"),
            );
        }
    }

    #[test]
    fn large_parameters_give_a_normal_law() {
        for (seed, sigma) in (200..).zip([1e3, 12_345.678, 1e6, DiscreteGaussian::MAX_STD_DEV]) {
            let sampler = DiscreteGaussian::new(sigma).unwrap();
            let mut values = vec![0; 500_000];
            sampler.add_to(&mut values, &mut stream(seed));
            let (n, what) = (values.len() as f64, format!("sigma = {sigma}"));
            let mut samples: Vec<f64> = values.iter().map(|&value| value as f64 / sigma).collect();
            let moment = |power: i32| samples.iter().map(|x| x.powi(power)).sum::<f64>() / n;
            check_z(moment(1) * n.sqrt(), &format!("{what}, mean"));
            check_chi_square(moment(2) * n, n, &format!("{what}, variance"));
            check_z(
                (moment(4) - 3.0) * (n / 96.0).sqrt(),
                &format!("{what}, fourth moment"),
            );
            let mut low_bits = [0.0; 64];
            values
                .iter()
                .for_each(|value| low_bits[usize::try_from(value & 63).unwrap()] += 1.0);
            check_counts(&low_bits, &[1.0 / 64.0; 64], &format!("{what}, low bits"));
            // A step of the distribution function is 1/σ wide, far below what the test can see but for the smallest.
            samples.iter_mut().for_each(|x| *x += 0.5 / sigma);
            samples.sort_by(f64::total_cmp);
            check_kolmogorov_smirnov(&samples, normal_cdf, &what);
        }
    }

    /// Canonne, Kamath and Steinke (2020), algorithm 3, for σ = p/q with small p and q.
    fn draw_by_canonne_kamath_steinke(p: u64, q: u64, stream: &mut RandomStream) -> i64 {
        let t = p / q + 1;
        let laplace = DiscreteLaplace::new(t, 1).unwrap();
        loop {
            let y = laplace.sample(stream);
            // (|y| − σ²/t)² / (2σ²) = (|y|·t·q² − p²)² / (2·p²·q²·t²)
            let difference = (y.unsigned_abs() * t * q * q).abs_diff(p * p);
            if bernoulli_exp(difference * difference, 2 * p * p * q * q * t * t, stream) {
                return y;
            }
        }
    }

    #[test]
    fn draws_agree_with_another_exact_method() {
        for (seed, (p, q)) in (300..).zip([(1, 2), (1, 1), (7, 3), (20, 1), (81, 2)]) {
            let sigma = p as f64 / q as f64;
            let sampler = DiscreteGaussian::new(sigma).unwrap();
            let (largest, probabilities) = probabilities(sigma);
            let mut stream = stream(seed);
            let slow = counts(largest, 100_000, || {
                draw_by_canonne_kamath_steinke(p, q, &mut stream)
            });
            check_counts(&slow, &probabilities, "the other method");
            let fast = counts(largest, 200_000, || sampler.sample(&mut stream));
            check_same_distribution(&fast, &slow, &format!("sigma = {sigma}"));
        }
    }

    #[test]
    fn draws_never_change() {
        let mut stream = stream(7);
        let sampler = DiscreteGaussian::new(1e6).unwrap();
        assert_eq!(
            [(); 4].map(|()| sampler.sample(&mut stream)),
            [-725_788, 1_151_863, -1_692_303, -1_763_009]
        );
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 0.06, 4e13] {
            assert!(DiscreteGaussian::new(bad).is_err());
        }
    }
}
