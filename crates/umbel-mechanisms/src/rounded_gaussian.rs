//! The rounded Gaussian: floor(N(0, s²) + ½), exact.

use std::sync::LazyLock;

use rand_core::Rng;

use crate::strips::{OFFSET_BITS, Offset, Proposal, StripShape, Strips};

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
#[error("standard deviation must be between {lowest} and {highest} grid units, got {got}")]
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

static STRIPS: LazyLock<Strips> = LazyLock::new(|| Strips::new(1, 1 << STRIP_BITS, StripShape::Intervals));

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
    /// Values must be below 2^62 in magnitude, so that no sum overflows.
    pub fn add_to(&self, values: &mut [i64], stream: &mut impl Rng) {
        let strips = &*STRIPS;
        for value in values {
            *value += self.draw(strips, stream);
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
