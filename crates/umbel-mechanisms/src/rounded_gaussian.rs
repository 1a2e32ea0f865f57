//! The rounded Gaussian: floor(N(0, s²) + ½), exact.

use std::sync::LazyLock;

use rand_core::Rng;

use crate::strips::{Law, OFFSET_BITS, Offset, Proposal, Strips};

/// Draws floor(N(0, s²) + ½), so `Pr[k] = Φ((k + ½)/s) − Φ((k − ½)/s)`, for a standard deviation s given as a float.
///
/// Precondition: s, taken as the exact number that the float is, lies in [2^-10, 2^52]. What holds: given uniform bits the
/// law is exact but for mass beyond 32 standard deviations, below 2^-740, which is left out. Results are below 2^58.
///
/// **Algorithm.** A real X with density proportional to exp(−x²/2) is drawn by rejection (`strips.rs`, strips of width
/// 1/32); its binary digits are known as far as they were needed, the others are still to be drawn. With y = s·|X|, where
/// s = S·2^e and S is an integer of 53 bits, floor(y + ½) is found in integer arithmetic as soon as the digits known decide
/// it; while they do not, 64 more are drawn. The sign is applied last: floor(−y + ½) = −floor(y + ½) unless y + ½ is an
/// integer, which has probability 0. No floating-point number is rounded anywhere.
///
/// One 64-bit word is used in about 19 draws of 20. Running time depends on the value drawn: whoever can time single
/// draws learns something about them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundedGaussian {
    std_dev: f64,
    /// S, of 53 bits.
    mantissa: u64,
    /// y = S · X / 2^shift, where X counts units of 2^-47 standard deviations.
    shift: u32,
}

/// The standard deviation is outside the range for which a sampler is exact.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("standard deviation must be between {lowest:?} and {highest:?} grid units, got {got:?}")]
pub struct StdDevOutOfRange {
    /// The smallest that is accepted.
    pub lowest: f64,
    /// The largest that is accepted.
    pub highest: f64,
    /// The number that came.
    pub got: f64,
}

/// Strips of 2^-5 standard deviations.
const STRIP_BITS: u32 = 5;

static STRIPS: LazyLock<Strips> = LazyLock::new(|| {
    Strips::new(Law::GaussianIntervals {
        numerator: 1,
        denominator: 1 << STRIP_BITS,
    })
});

impl RoundedGaussian {
    /// The smallest standard deviation, in units of the result.
    pub const MIN_STD_DEV: f64 = 1.0 / 1_024.0;
    /// The largest standard deviation, in units of the result.
    pub const MAX_STD_DEV: f64 = 4_503_599_627_370_496.0;
    /// Bound on the total variation distance between one draw and its law.
    pub const TOTAL_VARIATION: f64 = 1e-222;

    /// A sampler for one standard deviation.
    pub fn new(std_dev: f64) -> Result<Self, StdDevOutOfRange> {
        if !(Self::MIN_STD_DEV..=Self::MAX_STD_DEV).contains(&std_dev) {
            return Err(StdDevOutOfRange {
                lowest: Self::MIN_STD_DEV,
                highest: Self::MAX_STD_DEV,
                got: std_dev,
            });
        }
        let (mantissa, exponent) = mantissa_and_exponent(std_dev);
        let shift = i32::try_from(STRIP_BITS + OFFSET_BITS).expect("less than 64") - exponent;
        let shift = u32::try_from(shift).expect("the exponent is between -62 and 0");
        Ok(Self {
            std_dev,
            mantissa,
            shift,
        })
    }

    /// The standard deviation s of the Gaussian before rounding.
    pub fn std_dev(&self) -> f64 {
        self.std_dev
    }

    /// Adds an independent draw to each value.
    ///
    /// Values below 2^62 in magnitude cannot overflow; the sums of others wrap around.
    pub fn add_to(&self, values: &mut [i64], stream: &mut impl Rng) {
        let strips = &*STRIPS;
        for value in values {
            *value = value.wrapping_add(self.draw(strips, stream));
        }
    }

    /// One draw.
    pub fn sample(&self, stream: &mut impl Rng) -> i64 {
        self.draw(&STRIPS, stream)
    }

    #[inline]
    fn draw(&self, strips: &Strips, stream: &mut impl Rng) -> i64 {
        let proposal = strips.propose(stream.next_u64());
        if let Some(strip) = strips.accept_quickly(proposal) {
            let product = self.product(strip, proposal.offset);
            if self.is_decided(product) {
                return with_sign(product >> self.shift, proposal.is_negative);
            }
        }
        self.draw_slowly(strips, proposal, stream)
    }

    #[cold]
    #[inline(never)]
    fn draw_slowly(&self, strips: &Strips, mut proposal: Proposal, stream: &mut impl Rng) -> i64 {
        loop {
            let mut offset = LazyFraction {
                head: proposal.offset,
                digits: Vec::new(),
            };
            let strip = strips
                .accept_quickly(proposal)
                .or_else(|| strips.accept_slowly(proposal, &mut offset, stream));
            if let Some(strip) = strip {
                return with_sign(self.round(strip, &mut offset, stream), proposal.is_negative);
            }
            proposal = strips.propose(stream.next_u64());
        }
    }

    /// S·X + 2^(shift − 1), where X is what is known of |X|: below 2^105 + 2^108.
    #[inline]
    fn product(&self, strip: u64, offset: u64) -> u128 {
        let known = strip << OFFSET_BITS | offset;
        u128::from(self.mantissa) * u128::from(known) + (1 << (self.shift - 1))
    }

    /// Whether floor((product + S·u) / 2^shift) is the same for all u in [0, 1).
    #[inline]
    fn is_decided(&self, product: u128) -> bool {
        let modulus = 1_u128 << self.shift;
        (product & (modulus - 1)) + u128::from(self.mantissa) <= modulus
    }

    /// floor(s·|X| + ½), drawing as many digits of X as that takes.
    fn round(&self, strip: u64, offset: &mut LazyFraction, stream: &mut impl Rng) -> u128 {
        let mantissa = u128::from(self.mantissa);
        let mut product = self.product(strip, offset.head);
        let mut modulus = 1_u128 << self.shift;
        let mut n_used = 0;
        let mut integer = product >> self.shift;
        product &= modulus - 1;
        if mantissa > modulus {
            // Large standard deviations: the known digits leave several integers. 64 more leave at most two; here the
            // shift is below 53, so everything stays below 2^118.
            product = (product << 64) + mantissa * u128::from(offset.digit(0, stream));
            modulus <<= 64;
            n_used = 1;
            integer += product / modulus;
            product %= modulus;
        }
        // The next integer is reached if S·u ≥ missing, u being the rest of the fraction.
        let mut missing = modulus - product;
        while missing < mantissa {
            let digit = u128::from(offset.digit(n_used, stream));
            n_used += 1;
            let target = missing << 64;
            if mantissa * digit >= target {
                return integer + 1;
            }
            if mantissa * (digit + 1) <= target {
                return integer;
            }
            missing = target - mantissa * digit;
        }
        integer
    }
}

/// A uniform number of [0, 1): 42 bits, then as many more as anybody asked for.
#[derive(Debug)]
struct LazyFraction {
    head: u64,
    digits: Vec<u64>,
}

impl LazyFraction {
    /// The digit of 64 bits at this place after the head, drawn if it is the first time.
    fn digit(&mut self, place: usize, stream: &mut impl Rng) -> u64 {
        while self.digits.len() <= place {
            self.digits.push(stream.next_u64());
        }
        self.digits[place]
    }
}

impl Offset for LazyFraction {
    fn flip(&mut self, stream: &mut impl Rng) -> bool {
        let fresh = stream.next_u64() >> (64 - OFFSET_BITS);
        if fresh != self.head {
            return fresh < self.head;
        }
        for place in 0.. {
            let (fresh, digit) = (stream.next_u64(), self.digit(place, stream));
            if fresh != digit {
                return fresh < digit;
            }
        }
        unreachable!("two random numbers differ somewhere")
    }
}

/// A positive normal number as S · 2^e with 2^52 ≤ S < 2^53.
pub(crate) fn mantissa_and_exponent(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    let biased = i32::try_from(bits >> 52).expect("a positive number has 11 bits of exponent and no sign");
    ((bits & ((1 << 52) - 1)) | 1 << 52, biased - 1_075)
}

#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "below 2^58: at most 32 standard deviations of at most 2^52"
)]
fn with_sign(magnitude: u128, is_negative: bool) -> i64 {
    let magnitude = magnitude as i64;
    if is_negative { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixed_point::Fixed;
    use crate::source::{Purpose, RandomStream, SimulationSeed};
    use crate::statistics::{
        check_chi_square, check_counts, check_kolmogorov_smirnov, check_z, normal_cdf, range,
    };

    fn stream(seed: u64) -> RandomStream {
        SimulationSeed::new(seed).stream(Purpose::Training, 1, 0)
    }

    fn draw(std_dev: f64, n: usize, seed: u64) -> Vec<i64> {
        let mut values = vec![0; n];
        RoundedGaussian::new(std_dev)
            .unwrap()
            .add_to(&mut values, &mut stream(seed));
        values
    }

    /// Probabilities of …, −1, 0, 1, … within six standard deviations, the first and the last with all that is beyond.
    fn probabilities(std_dev: f64) -> (i64, Vec<f64>) {
        let largest = range(6.0, std_dev);
        let upper = |k: i64| normal_cdf(-(k as f64 - 0.5) / std_dev);
        let half: Vec<f64> = (1..largest)
            .map(|k| upper(k) - upper(k + 1))
            .chain([upper(largest)])
            .collect();
        let middle = 1.0 - 2.0 * upper(1);
        (
            largest,
            half.iter().rev().chain([&middle]).chain(&half).copied().collect(),
        )
    }

    fn counts(values: impl IntoIterator<Item = i64>, largest: i64) -> Vec<f64> {
        let mut counts = vec![0.0; usize::try_from(2 * largest + 1).unwrap()];
        for value in values {
            counts[usize::try_from(value.clamp(-largest, largest) + largest).unwrap()] += 1.0;
        }
        counts
    }

    #[test]
    fn draws_have_the_probabilities_of_a_rounded_gaussian() {
        for (seed, std_dev) in (10..).zip([0.3, 0.5, 1.0, 2.0_f64.sqrt(), 4.0, 31.9, 250.0]) {
            let (largest, probabilities) = probabilities(std_dev);
            let counts = counts(draw(std_dev, 1_000_000, seed), largest);
            check_counts(&counts, &probabilities, &format!("s = {std_dev}"));
        }
    }

    #[test]
    fn the_smallest_standard_deviations_give_zero() {
        // Beyond ½ lies as much as beyond 512 standard deviations.
        assert!(
            draw(RoundedGaussian::MIN_STD_DEV, 10_000, 1)
                .iter()
                .all(|&value| value == 0)
        );
    }

    #[test]
    fn large_standard_deviations_give_a_normal_law() {
        // Kolmogorov and Smirnov, first four moments and tails, false-alarm rate 1e-6 each.
        let n = 1_000_000;
        for (seed, std_dev) in (20..).zip([1e4, 1_073_741_824.0, 1.234e14, RoundedGaussian::MAX_STD_DEV]) {
            let mut samples: Vec<f64> = draw(std_dev, n, seed)
                .into_iter()
                .map(|value| value as f64 / std_dev)
                .collect();
            let what = format!("s = {std_dev}");
            let count = n as f64;
            let moment = |power: i32| samples.iter().map(|x| x.powi(power)).sum::<f64>() / count;
            check_z(moment(1) * count.sqrt(), &format!("{what}, mean"));
            check_chi_square(moment(2) * count, count, &format!("{what}, variance"));
            check_z(
                moment(3) * (count / 15.0).sqrt(),
                &format!("{what}, third moment"),
            );
            check_z(
                (moment(4) - 3.0) * (count / 96.0).sqrt(),
                &format!("{what}, fourth moment"),
            );
            // Twenty cells a standard deviation, out to five.
            let cells: Vec<f64> = (-100..=100).map(|cell| f64::from(cell) / 20.0).collect();
            let mut counts = vec![0.0; cells.len() + 1];
            samples
                .iter()
                .for_each(|x| counts[cells.partition_point(|cell| cell < x)] += 1.0);
            let cdf: Vec<f64> = cells.iter().map(|&cell| normal_cdf(cell)).chain([1.0]).collect();
            let probabilities: Vec<f64> = cdf
                .iter()
                .scan(0.0, |last, &next| Some(next - std::mem::replace(last, next)))
                .collect();
            check_counts(&counts, &probabilities, &format!("{what}, cells"));
            samples.sort_by(f64::total_cmp);
            check_kolmogorov_smirnov(&samples, normal_cdf, &what);
        }
    }

    #[test]
    fn low_bits_are_uniform() {
        for (seed, std_dev) in (30..).zip([1e4, 1_073_741_824.0, RoundedGaussian::MAX_STD_DEV]) {
            let mut counts = [0.0; 256];
            draw(std_dev, 500_000, seed)
                .iter()
                .for_each(|value| counts[(value & 255) as usize] += 1.0);
            check_counts(&counts, &[1.0 / 256.0; 256], &format!("s = {std_dev}, low bits"));
        }
    }

    #[test]
    fn the_tail_is_that_of_a_gaussian() {
        // Draws that start in the tail are a Gaussian beyond four standard deviations.
        let mut stream = stream(40);
        let sampler = RoundedGaussian::new(1e12).unwrap();
        let mut samples = Vec::new();
        while samples.len() < 100_000 {
            let mut offset = LazyFraction {
                head: stream.next_u64() >> (64 - OFFSET_BITS),
                digits: Vec::new(),
            };
            let proposal = STRIPS.tail_proposal(offset.head);
            if let Some(strip) = STRIPS.accept_slowly(proposal, &mut offset, &mut stream) {
                samples.push(sampler.round(strip, &mut offset, &mut stream) as f64 / 1e12);
            }
        }
        samples.sort_by(f64::total_cmp);
        let beyond = normal_cdf(-4.0);
        check_kolmogorov_smirnov(&samples, |x| 1.0 - normal_cdf(-x) / beyond, "tail");
    }

    #[test]
    fn the_law_does_not_depend_on_the_tables() {
        let strips = STRIPS.without_shortcuts();
        let sampler = RoundedGaussian::new(3.0).unwrap();
        let (largest, probabilities) = probabilities(3.0);
        let mut stream = stream(50);
        let values = (0..30_000).map(|_| sampler.draw(&strips, &mut stream));
        check_counts(&counts(values, largest), &probabilities, "exact decisions only");
    }

    #[test]
    fn draws_never_change() {
        // What a seed gave once it gives for ever: simulations are repeated years later.
        assert_eq!(
            draw(1_073_741_824.0, 4, 7),
            [1_618_689_321, 1_767_852_289, 425_497_231, -622_275_861]
        );
    }

    #[test]
    fn standard_deviations_out_of_range_are_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-4, 1e16] {
            let error = RoundedGaussian::new(bad).unwrap_err();
            assert_eq!(error.got.to_bits(), bad.to_bits());
        }
    }

    /// floor(S·(known + 0.digits)/2^shift + ½) with exact arithmetic of another kind.
    fn round_directly(sampler: &RoundedGaussian, strip: u64, head: u64, digits: &[u64; 3]) -> u64 {
        let known = Fixed::one(3)
            .multiply(strip << OFFSET_BITS | head)
            .add(&Fixed::from_digits(digits));
        let scaled = known
            .multiply(sampler.mantissa)
            .divide(1 << (sampler.shift / 2))
            .divide(1 << sampler.shift.div_ceil(2));
        scaled.add(&Fixed::one(3).divide(2)).integer_part()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn rounding_is_exact(
            exponent in -9..=52_i32, fraction in 1.0_f64..2.0,
            strip in 0_u64..1_024, head in any::<u64>(), mut digits in any::<[u64; 3]>(), closeness in 0..3_usize,
        ) {
            let std_dev = (fraction * 2.0_f64.powi(exponent)).min(RoundedGaussian::MAX_STD_DEV);
            let sampler = RoundedGaussian::new(std_dev).unwrap();
            let head = head >> (64 - OFFSET_BITS);
            // Moves the first digits to where the result jumps, so that the next ones decide.
            for place in 0..closeness {
                let with = |digit: u64| {
                    let mut digits = digits;
                    digits[place] = digit;
                    digits[place + 1..].fill(0);
                    round_directly(&sampler, strip, head, &digits)
                };
                let (mut low, mut high) = (0, u64::MAX);
                let start = with(low);
                if with(high) == start {
                    break;
                }
                while high - low > 1 {
                    let middle = low.midpoint(high);
                    if with(middle) == start { low = middle } else { high = middle }
                }
                digits[place] = low;
            }
            let mut offset = LazyFraction { head, digits: digits.to_vec() };
            let mut no_stream = stream(60);
            let rounded = sampler.round(strip, &mut offset, &mut no_stream);
            prop_assume!(offset.digits.len() == 3);
            prop_assert_eq!(rounded, u128::from(round_directly(&sampler, strip, head, &digits)));
            // The quick decision, where it is one, is the same.
            let product = sampler.product(strip, head);
            if sampler.is_decided(product) {
                prop_assert_eq!(rounded, product >> sampler.shift);
            }
        }
    }

    /// Gives scripted words first.
    struct Scripted(Vec<u64>, RandomStream);

    impl rand_core::TryRng for Scripted {
        type Error = std::convert::Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            unreachable!("samplers take 64 bits at a time")
        }

        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            Ok(if self.0.is_empty() {
                self.1.next_u64()
            } else {
                self.0.remove(0)
            })
        }

        fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Self::Error> {
            unreachable!("samplers take 64 bits at a time")
        }
    }

    #[test]
    fn coins_that_agree_with_the_fraction_go_on_to_further_digits() {
        let head = 0x2aa_aaaa_aaaa;
        let same = head << (64 - OFFSET_BITS);
        for (words, expected) in [
            (vec![same - (1 << 63)], true),
            (vec![u64::MAX], false),
            (vec![same, 5, 6], true),
            (vec![same, 6, 5], false),
            (vec![same, 7, 7, 1, 2], true),
        ] {
            let n_digits = (words.len() - 1) / 2;
            let mut offset = LazyFraction {
                head,
                digits: Vec::new(),
            };
            let mut scripted = Scripted(words, stream(0));
            assert_eq!(offset.flip(&mut scripted), expected);
            assert!(scripted.0.is_empty());
            assert_eq!(
                offset.digits.len(),
                n_digits,
                "the digits drawn belong to the fraction from now on"
            );
        }
    }
}
