//! The Skellam distribution: the difference of two independent Poisson variables of equal mean, exact.

use rand_core::Rng;

use crate::fixed_point::{Enclosure, Fixed};
use crate::rounded_gaussian::mantissa_and_exponent;
use crate::strips::{CUT_PROBABILITY, Law, Strips};

/// Draws from the symmetric Skellam distribution of variance μ, `Pr[k] = e^−μ I_|k|(μ)` with I the modified Bessel function:
/// the difference of two Poisson variables of mean μ/2 each.
///
/// Sums of Skellam variables are Skellam, with the sum of the variances: what remains of the noise when clients drop out is
/// known exactly (Agarwal, Kairouz and Liu 2021, "The Skellam Mechanism for Differentially Private Federated Learning").
///
/// Precondition: μ, taken as the exact number that the float is, lies in [2^-10, 2^22]. What holds: given uniform bits the
/// law is exact but for mass below [`TOTAL_VARIATION`](Self::TOTAL_VARIATION).
///
/// **Algorithm.** Up to μ = 3,800 rejection by strips of one integer each (`strips.rs`), with certified bounds on
/// I_k(μ)/I_0(μ) in place of exp(−x²/2). A larger μ is halved until it is below that, and as many draws are added: the
/// time for a draw grows with μ, by the same time for each 3,800 or less. Running time depends on the value drawn.
#[derive(Debug, Clone)]
pub struct Skellam {
    variance: f64,
    n_parts: u64,
    strips: Strips,
}

/// The variance is outside the range for which the sampler is exact.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("the variance of Skellam noise must be between {lowest} and {highest}, got {got}")]
pub struct VarianceOutOfRange {
    /// The smallest that is accepted.
    pub lowest: f64,
    /// The largest that is accepted.
    pub highest: f64,
    /// The number that came.
    pub got: f64,
}

impl Skellam {
    /// The smallest variance.
    pub const MIN_VARIANCE: f64 = 1.0 / 1_024.0;
    /// The largest variance.
    pub const MAX_VARIANCE: f64 = 4_194_304.0;
    /// Bound on the total variation distance between one draw and its law: that of 2^11 parts.
    pub const TOTAL_VARIATION: f64 = CUT_PROBABILITY * 2_048.0;

    /// A sampler for one variance μ.
    pub fn new(variance: f64) -> Result<Self, VarianceOutOfRange> {
        if !(Self::MIN_VARIANCE..=Self::MAX_VARIANCE).contains(&variance) {
            return Err(VarianceOutOfRange {
                lowest: Self::MIN_VARIANCE,
                highest: Self::MAX_VARIANCE,
                got: variance,
            });
        }
        // Halving a float is exact.
        let (mut part, mut n_parts) = (variance, 1);
        while part > SkellamHeights::MAX_VARIANCE {
            part /= 2.0;
            n_parts *= 2;
        }
        let strips = Strips::new(Law::SkellamPoints(SkellamHeights::new(part)));
        Ok(Self {
            variance,
            n_parts,
            strips,
        })
    }

    /// The variance μ.
    pub fn variance(&self) -> f64 {
        self.variance
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
        (0..self.n_parts).map(|_| self.strips.sample_point(stream)).sum()
    }
}

/// Certified bounds on I_k(μ)/I_0(μ), k = 1, 2, …, for a variance μ up to 3,800.
///
/// The ratios r_k = I_{k+1}/I_k satisfy r_{k−1} = 1 / (2k/μ + r_k) and 0 < r_k < 1, so from any bounds on r_N the recurrence,
/// run backward, gives bounds on all before: an upper bound makes a lower one and the reverse, and each step multiplies
/// the distance by less than r². They decrease in k, so I_k is log-concave.
#[derive(Debug, Clone)]
pub(crate) struct SkellamHeights {
    /// μ = mantissa · 2^exponent.
    mantissa: u64,
    exponent: i32,
    n_body: u64,
    block: u64,
    n_strips: u64,
    /// Bounds of the precision that tables need.
    table: Vec<Enclosure>,
}

impl SkellamHeights {
    const MAX_VARIANCE: f64 = 3_800.0;
    const TABLE_LIMBS: usize = 4;

    fn new(variance: f64) -> Self {
        let (mantissa, exponent) = mantissa_and_exponent(variance);
        let mut heights = Self {
            mantissa,
            exponent,
            n_body: 1,
            block: 1,
            n_strips: 0,
            table: Vec::new(),
        };
        let std_dev = variance.sqrt();
        // Four standard deviations are at most 247.
        while (heights.n_body as f64) < 4.0 * std_dev {
            heights.n_body += 1;
        }
        heights.n_strips = heights.n_body + 1;
        while !is_beyond_cut(heights.n_strips, variance) {
            heights.n_strips += 1;
        }
        heights.table = heights.compute(Self::TABLE_LIMBS);
        // From block to block of the tail heights fall by half or more: at its beginning by proof, further on because the
        // heights are log-concave.
        let at = |strip: u64| &heights.table[usize::try_from(strip).expect("at most 2^10")];
        let start = heights.n_body;
        while at(start + heights.block).high.clone().multiply(2) > at(start).low {
            heights.block *= 2;
        }
        heights
    }

    /// Strips of the body, strips in a block of the tail, and strips in all.
    pub(crate) fn layout(&self) -> (u64, u64, u64) {
        (
            self.n_body,
            self.block,
            self.n_strips.max(self.n_body + self.block),
        )
    }

    /// Bounds on I_k(μ)/I_0(μ).
    pub(crate) fn height(&self, k: u64, n_limbs: usize) -> Enclosure {
        let k = usize::try_from(k).expect("at most 2^10");
        if n_limbs == Self::TABLE_LIMBS {
            self.table[k].clone()
        } else {
            self.compute(n_limbs).swap_remove(k)
        }
    }

    fn compute(&self, n_limbs: usize) -> Vec<Enclosure> {
        let n_heights = self.n_strips + 64;
        let one = Fixed::one(n_limbs);
        let mut ratio = Enclosure {
            low: Fixed::zero(n_limbs),
            high: one.clone(),
        };
        let mut ratios = Vec::new();
        for k in (1..=n_heights + 100 * n_limbs as u64).rev() {
            // 2k / μ, to within a unit.
            let (up, down) = if self.exponent < 0 {
                (self.exponent.unsigned_abs(), 0)
            } else {
                (0, self.exponent.unsigned_abs())
            };
            let low = one
                .clone()
                .multiply(2 * k)
                .shift_left(up)
                .divide(self.mantissa)
                .divide(1 << down);
            let high = low.clone().add_units(1);
            ratio = Enclosure {
                low: high.add(&ratio.high).reciprocal().low,
                high: low.add(&ratio.low).reciprocal().high.min(one.clone()),
            };
            if k <= n_heights {
                ratios.push(ratio.clone());
            }
        }
        let mut heights = vec![Enclosure {
            low: one.clone(),
            high: one,
        }];
        for ratio in ratios.into_iter().rev() {
            let last = &heights[heights.len() - 1];
            let low = last.low.product(&ratio.low);
            let high = last.high.product(&ratio.high).add_units(1);
            heights.push(Enclosure { low, high });
        }
        heights
    }
}

/// Whether less than 1e-57 of the mass lies at k and beyond, by Chernoff's bound
/// `Pr[X ≥ k] ≤ exp(−k·asinh(k/μ) + sqrt(k² + μ²) − μ)`.
fn is_beyond_cut(k: u64, variance: f64) -> bool {
    let k = k as f64;
    k * (k / variance).asinh() - (k.hypot(variance) - variance) > 132.0
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, Poisson};

    use super::*;
    use crate::source::{Purpose, RandomStream, SimulationSeed};
    use crate::statistics::{check_counts, check_same_distribution, check_z, range};

    fn stream(seed: u64) -> RandomStream {
        SimulationSeed::new(seed).stream(Purpose::Training, 4, 0)
    }

    /// Probabilities of …, −1, 0, 1, … within ten standard deviations and a bit, by the backward recurrence in floats.
    fn probabilities(variance: f64) -> (i64, Vec<f64>) {
        let largest = range(10.0, variance.sqrt()) + 5;
        let mut ratio = 0.0;
        let mut ratios: Vec<f64> = (1..=largest + 5_000)
            .rev()
            .map(|k| {
                ratio = 1.0 / (2.0 * k as f64 / variance + ratio);
                ratio
            })
            .collect();
        ratios.reverse();
        let half: Vec<f64> = ratios
            .iter()
            .scan(1.0, |height, ratio| {
                *height *= ratio;
                Some(*height)
            })
            .take(usize::try_from(largest).unwrap())
            .collect();
        let total = 1.0 + 2.0 * half.iter().sum::<f64>();
        let all = half
            .iter()
            .rev()
            .chain([&1.0])
            .chain(&half)
            .map(|height| height / total)
            .collect();
        (largest, all)
    }

    fn counts(largest: i64, n: usize, mut draw: impl FnMut() -> i64) -> Vec<f64> {
        let mut counts = vec![0.0; usize::try_from(2 * largest + 1).unwrap()];
        (0..n)
            .for_each(|_| counts[usize::try_from(draw().clamp(-largest, largest) + largest).unwrap()] += 1.0);
        counts
    }

    #[test]
    fn heights_agree_with_digits_from_another_program() {
        // 256 bits of I_k(μ)/I_0(μ) from Python's mpmath at 900 bits.
        for (k, variance, digits) in [
            (
                1,
                1.0,
                [
                    0x72469ce0c9c59392,
                    0xca350a570d865f46,
                    0x05e76e0ae33909c3,
                    0x0fc3f2d9afec88da,
                ],
            ),
            (
                5,
                3.0,
                [
                    0x04c8a8c3b353f035,
                    0x86aa5d2a7ee4fb57,
                    0x6a0ec365aebd796c,
                    0x31fa0b2fb731ada5,
                ],
            ),
            (
                200,
                1000.0,
                [
                    0x000000095cf335f3,
                    0xa407c8c8dfebc693,
                    0x7c76f446b7506c66,
                    0xcdd614b1ee8c2788,
                ],
            ),
            (
                246,
                3800.0,
                [
                    0x0016dc8c2211946e,
                    0x2a89a679af967557,
                    0x7a7d258fd768750b,
                    0x2a8387ef9031bb92,
                ],
            ),
        ] {
            let expected = Fixed::from_digits(&digits);
            let heights = SkellamHeights::new(variance);
            for bounds in [
                heights.height(k, 4),
                heights.compute(4).swap_remove(usize::try_from(k).unwrap()),
            ] {
                assert!(
                    bounds.low <= expected && expected <= bounds.high,
                    "k {k}, variance {variance}"
                );
                assert!(bounds.high.saturating_subtract(&bounds.low).shift_left(200) < Fixed::one(4));
            }
        }
    }

    #[test]
    fn draws_have_the_probabilities_of_a_skellam_distribution() {
        for (seed, variance) in (0..).zip([0.01, 0.3, 1.0, 4.0, 26.7, 1_000.0, 3_800.0, 3_801.0, 12_345.6]) {
            let sampler = Skellam::new(variance).unwrap();
            let (largest, probabilities) = probabilities(variance);
            let mut stream = stream(seed);
            let counts = counts(largest, 500_000, || sampler.sample(&mut stream));
            check_counts(&counts, &probabilities, &format!("variance {variance}"));
        }
    }

    #[test]
    fn moments_are_those_of_a_skellam_distribution() {
        let n = 500_000_u32;
        for (seed, variance) in (100..).zip([0.5, 30.0, 3_000.0, 50_000.0]) {
            let sampler = Skellam::new(variance).unwrap();
            let mut values = vec![0; usize::try_from(n).unwrap()];
            sampler.add_to(&mut values, &mut stream(seed));
            let sum = |power: i32| {
                values
                    .iter()
                    .map(|&value| (value as f64).powi(power))
                    .sum::<f64>()
            };
            let count = f64::from(n);
            check_z(sum(1) / (count * variance).sqrt(), "mean");
            // The fourth moment is 3μ² + μ, so a square has the variance 2μ² + μ.
            let spread = (count * (2.0 * variance * variance + variance)).sqrt();
            check_z((sum(2) - count * variance) / spread, "variance");
        }
    }

    #[test]
    fn draws_are_differences_of_poisson_variables() {
        for (seed, variance) in (200..).zip([0.8, 20.0, 5_000.0]) {
            let sampler = Skellam::new(variance).unwrap();
            let poisson = Poisson::new(variance / 2.0).unwrap();
            let largest = range(8.0, variance.sqrt());
            let mut stream = stream(seed);
            let own = counts(largest, 300_000, || sampler.sample(&mut stream));
            // range() of a whole number above 3 is that number.
            let mut draw = || range(1.0, 3.0 + Distribution::<f64>::sample(&poisson, &mut stream));
            let differences = counts(largest, 300_000, || draw() - draw());
            check_same_distribution(&own, &differences, &format!("variance {variance}"));
        }
    }

    #[test]
    fn draws_never_change() {
        let sampler = Skellam::new(10_000.0).unwrap();
        let mut stream = stream(7);
        assert_eq!([(); 4].map(|()| sampler.sample(&mut stream)), [73, -242, 88, 21]);
    }

    #[test]
    fn variances_out_of_range_are_refused_and_the_ends_work() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-4, 1e7] {
            assert!(Skellam::new(bad).is_err());
        }
        let mut stream = stream(8);
        for variance in [Skellam::MIN_VARIANCE, Skellam::MAX_VARIANCE] {
            let sampler = Skellam::new(variance).unwrap();
            assert!(
                (0..100).all(|_| (sampler.sample(&mut stream) as f64).abs() < 20.0 * variance.sqrt() + 5.0)
            );
        }
    }
}
