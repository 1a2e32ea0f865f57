//! From floating-point updates to integer vectors whose norm is bounded exactly.

use umbel_accounting::ClipNorm;

use crate::blocks::vectorised;
use crate::clip::{ClipOutcome, l2_norm};

/// The clip norm is this many grid units, 2^30.
///
/// As fine as `i32` values allow: truncation costs at most 2^-30 C a coordinate, where `f32` itself resolves values near
/// C to 2^-25 C only, and the square of the bound, 2^60, and sums of 2^31 updates fit into 64 bits.
pub const GRID_UNITS: u32 = 1 << 30;

const GRID_UNITS_F64: f64 = GRID_UNITS as f64;
const SQUARED_BOUND: u64 = (GRID_UNITS as u64) * (GRID_UNITS as u64);

/// Clips updates and rounds them toward zero to integer multiples of the grid unit g = C / 2^30.
///
/// With an **indicator** of weight B it appends one more coordinate, +B if the update was not clipped and −B if it was, and
/// leaves as much less to the update that both together have a norm of at most C: the update is clipped to
/// `√(2^60 − B²)` grid units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantizer {
    clip_norm: ClipNorm,
    /// Weight of the indicator in grid units, 0 for none.
    indicator: u32,
}

/// An update as integers in grid units, `Σ vᵢ² ≤ 2^60` by construction: its L2 norm is at most the clip norm, exactly.
///
/// Only [`Quantizer::clip_and_quantize`] and [`Quantizer::accept`] make one. `Debug` shows no values.
#[derive(Clone, PartialEq, Eq)]
pub struct QuantizedUpdate {
    values: Vec<i32>,
    clip_norm_bits: u64,
}

/// Why integers from outside are not an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RejectedUpdate {
    /// The sum of squares is above the square of the clip norm.
    #[error("the update's norm is above the clip norm")]
    NormAboveBound,
}

impl Quantizer {
    /// A quantiser for one clip norm.
    pub fn new(clip_norm: ClipNorm) -> Self {
        Self {
            clip_norm,
            indicator: 0,
        }
    }

    /// A quantiser that reports with `indicator` grid units whether an update was clipped; `None` unless that leaves
    /// something for the update itself. `clip_norm` bounds both together.
    pub fn with_indicator(clip_norm: ClipNorm, indicator: u32) -> Option<Self> {
        (1..GRID_UNITS)
            .contains(&indicator)
            .then_some(Self { clip_norm, indicator })
    }

    /// The clip norm C, the largest L2 norm of what is reported.
    pub fn clip_norm(&self) -> ClipNorm {
        self.clip_norm
    }

    /// Weight of the indicator in grid units; `None` if there is none.
    pub fn indicator(&self) -> Option<u32> {
        (self.indicator > 0).then_some(self.indicator)
    }

    /// The norm that updates are clipped to: C, or what the indicator leaves of it.
    pub fn update_clip_norm(&self) -> f64 {
        match self.indicator {
            0 => self.clip_norm.value(),
            weight => {
                let ratio = f64::from(weight) / GRID_UNITS_F64;
                self.clip_norm.value() * ((1.0 - ratio) * (1.0 + ratio)).sqrt()
            }
        }
    }

    /// How many numbers the report of an update of `dimension` coordinates has.
    pub fn report_length(&self, dimension: usize) -> usize {
        dimension + usize::from(self.indicator > 0)
    }

    /// The grid unit g = C / 2^30, what the integer 1 stands for.
    pub fn grid_unit(&self) -> f64 {
        self.clip_norm.value() / GRID_UNITS_F64
    }

    /// Scales an update by min(1, C / norm) and truncates each value toward zero to grid units; appends the indicator, if any.
    ///
    /// `buffer` is emptied and becomes the result's memory. After the call:
    /// - the sum of squares in exact integers is at most 2^60; should rounding have exceeded it, the vector was shrunk,
    /// - no value is larger in magnitude than before, so neither is any norm,
    /// - a value that is not finite has made the whole update zero, and the outcome says so.
    ///
    /// The scale 2^30 / max(C, norm) is rounded down to 29 significant bits. Its product with an `f32` (24 bits) is then
    /// exact in `f64`, so truncation never rounds up; the price is a relative shrinkage below 2^-28.
    pub fn clip_and_quantize(&self, update: &[f32], mut buffer: Vec<i32>) -> (QuantizedUpdate, ClipOutcome) {
        let norm = l2_norm(update);
        let (limit, bound) = (self.update_clip_norm(), self.update_bound());
        let outcome = ClipOutcome::of(norm, limit);
        if outcome.non_finite || norm <= 0.0 {
            buffer.clear();
            buffer.resize(update.len(), 0);
        } else {
            // The norm of a vector of f32 other than zero is at least 2^-149, so the quotient is finite.
            // Without clipping the scale is 2^30 / C, with clipping to c it is c / norm of that.
            let length = if outcome.clipped {
                norm * (self.clip_norm.value() / limit)
            } else {
                self.clip_norm.value()
            };
            let mut scale = round_down_to_29_bits(grid_units_over(length));
            // What a buffer held is written over, so it need not be cleared first.
            buffer.resize(update.len(), 0);
            truncate_all(update, scale, &mut buffer);
            while squared_norm(&buffer) > bound {
                scale = round_down_to_29_bits(scale * (1.0 - 1e-8));
                truncate_all(update, scale, &mut buffer);
            }
        }
        if self.indicator > 0 {
            // Below 2^30 in magnitude.
            let weight = self.indicator.cast_signed();
            buffer.push(if outcome.clipped { -weight } else { weight });
        }
        (self.checked(buffer), outcome)
    }

    /// The largest sum of squares that is left for an update.
    fn update_bound(&self) -> u128 {
        u128::from(SQUARED_BOUND) - u128::from(self.indicator) * u128::from(self.indicator)
    }

    /// Takes integers that came over a network, if their norm is within the bound. The server's own check: an honest
    /// client is never refused, and a dishonest one cannot exceed the sensitivity.
    pub fn accept(&self, values: Vec<i32>) -> Result<QuantizedUpdate, RejectedUpdate> {
        if is_within_bound(&values) {
            Ok(self.checked(values))
        } else {
            Err(RejectedUpdate::NormAboveBound)
        }
    }

    fn checked(&self, values: Vec<i32>) -> QuantizedUpdate {
        QuantizedUpdate {
            values,
            clip_norm_bits: self.clip_norm.value().to_bits(),
        }
    }
}

impl QuantizedUpdate {
    /// The values in grid units, one a coordinate.
    pub fn values(&self) -> &[i32] {
        &self.values
    }

    /// Gives the memory back, for the next update.
    pub fn into_buffer(self) -> Vec<i32> {
        self.values
    }

    /// The clip norm that its grid belongs to, as bits: two grids are the same or they are not.
    pub(crate) fn clip_norm_bits(&self) -> u64 {
        self.clip_norm_bits
    }
}

impl std::fmt::Debug for QuantizedUpdate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuantizedUpdate")
            .field("dimension", &self.values.len())
            .finish_non_exhaustive()
    }
}

/// 2^30 / length, never above the exact quotient.
fn grid_units_over(length: f64) -> f64 {
    let quotient = GRID_UNITS_F64 / length;
    // The sign of a fused multiply-add is that of the exact value.
    if quotient.mul_add(length, -GRID_UNITS_F64) > 0.0 {
        quotient.next_down()
    } else {
        quotient
    }
}

/// Clears the 24 lowest of a positive normal number's 53 significant bits.
fn round_down_to_29_bits(scale: f64) -> f64 {
    f64::from_bits(scale.to_bits() & !0xff_ffff)
}

/// Rounds a number toward zero. It saturates, so an overflow would be caught by the check of the norm; NaN becomes the largest.
///
/// This is `value as i32` written so that compilers make vectors of it: a cast's own saturation is done number by number.
#[allow(
    clippy::cast_possible_truncation,
    reason = "an integer below 2^31 in magnitude is the low half of the sum's bits"
)]
#[inline(always)]
fn truncate(value: f64) -> i32 {
    /// Beside 3 · 2^51 the last place is one, and the integers from −2^51 to 2^51 are in the lowest 52 bits, in two's complement.
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    let value = if value < f64::from(i32::MAX) {
        value
    } else {
        f64::from(i32::MAX)
    };
    let value = if value > f64::from(i32::MIN) {
        value
    } else {
        f64::from(i32::MIN)
    };
    (value.trunc() + MAGIC).to_bits() as u32 as i32
}

/// Writes the truncated multiples of `scale`.
pub(crate) fn truncate_all(update: &[f32], scale: f64, integers: &mut [i32]) {
    vectorised(
        #[inline(always)]
        || {
            for (integer, &value) in integers.iter_mut().zip(update) {
                *integer = truncate(f64::from(value) * scale);
            }
        },
    );
}

fn is_within_bound(values: &[i32]) -> bool {
    squared_norm(values) <= u128::from(SQUARED_BOUND)
}

/// `Σ vᵢ²`, exactly, for any values.
///
/// Squares are at most 2^62. They are summed in two halves of 32 bits, so that 2^32 of them cannot overflow.
pub(crate) fn squared_norm(values: &[i32]) -> u128 {
    const CHUNK: usize = 1 << 20;
    let mut total = 0;
    for chunk in values.chunks(CHUNK) {
        let (low, high) = vectorised(
            #[inline(always)]
            || {
                let (mut low, mut high) = (0_u64, 0_u64);
                for &value in chunk {
                    let magnitude = u64::from(value.unsigned_abs());
                    let square = magnitude * magnitude;
                    low += square & 0xffff_ffff;
                    high += square >> 32;
                }
                (low, high)
            },
        );
        total += u128::from(low) + (u128::from(high) << 32);
    }
    total
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantizer(clip_norm: f64) -> Quantizer {
        Quantizer::new(ClipNorm::new(clip_norm).unwrap())
    }

    fn quantize(clip_norm: f64, update: &[f32]) -> (Vec<i32>, ClipOutcome) {
        let (quantized, outcome) = quantizer(clip_norm).clip_and_quantize(update, vec![1, 2, 3]);
        (quantized.into_buffer(), outcome)
    }

    fn sum_of_squares(values: &[i32]) -> u128 {
        values
            .iter()
            .map(|&value| u128::from(value.unsigned_abs()).pow(2))
            .sum()
    }

    #[test]
    fn values_on_the_grid_are_kept() {
        assert_eq!(quantize(1.0, &[1.0, 0.0]).0, [1 << 30, 0]);
        assert_eq!(quantize(1.0, &[0.5, -0.25]).0, [1 << 29, -(1 << 28)]);
        assert_eq!(quantize(4.0, &[1.0, -2.0]).0, [1 << 28, -(1 << 29)]);
        assert_eq!(quantize(1.0, &[0.3]).0, [322_122_560]);
        // Anything between two grid points goes toward zero.
        assert_eq!(
            quantize(1.0, &[1.99 * 2.0_f32.powi(-30), -1.99 * 2.0_f32.powi(-30)]).0,
            [1, -1]
        );
    }

    #[test]
    fn truncation_is_that_of_a_cast() {
        let mut values = vec![
            0.0,
            -0.0,
            0.5,
            1e9 + 0.999,
            2_147_483_646.999,
            2_147_483_647.0,
            2_147_483_647.5,
        ];
        values.extend([
            2_147_483_648.0,
            2_147_483_649.0,
            4e9,
            1e18,
            1e300,
            f64::INFINITY,
            5e-324,
        ]);
        let mut bits = 1_u64;
        for _ in 0..100_000 {
            bits = bits
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let fraction = f64::from((bits >> 32) as u32) / f64::from(u32::MAX);
            values.push(fraction * 2.0_f64.powi(i32::from(bits.to_le_bytes()[3]) / 8));
        }
        for value in values {
            for value in [value, -value, value.next_up(), -value.next_down()] {
                #[allow(clippy::cast_possible_truncation, reason = "it is what is compared with")]
                let expected = value as i32;
                assert_eq!(truncate(value), expected, "{value}");
            }
        }
        assert_eq!(truncate(f64::NAN), i32::MAX);
    }

    #[test]
    fn values_just_below_the_grid_are_not_rounded_up() {
        // A clip norm an ulp above 2^30 · x / k: the value x is just below k grid units, by less than a float can tell.
        for input in [1.0_f32, 0.1, 0.7, 1.0 + f32::EPSILON, 16_777_215.0] {
            for k in 2..1_000_u32 {
                let clip_norm = (GRID_UNITS_F64 * f64::from(input) / f64::from(k)).next_up();
                let value = quantize(clip_norm, &[input]).0[0].unsigned_abs();
                assert!(product_at_most(value, clip_norm, input), "{input}, {k}");
                assert!(value + 1 >= k, "{input}, {k} became {value}");
            }
        }
    }

    #[test]
    fn extreme_updates_are_bounded() {
        let smallest = f32::from_bits(1);
        for clip_norm in [5e-324, 1e-300, 1e-40, 1e-3, 1.0, 1e9, 1e300, f64::MAX] {
            for update in [
                vec![],
                vec![0.0, -0.0],
                vec![smallest; 3],
                vec![smallest, f32::MIN_POSITIVE, -smallest],
                vec![1e38; 1_000],
                vec![f32::MAX, f32::MIN, smallest],
                vec![f32::MAX; 100_000],
                vec![1.0, 1e-20, -1e-30],
            ] {
                let (values, outcome) = quantize(clip_norm, &update);
                assert_eq!(values.len(), update.len());
                assert!(sum_of_squares(&values) <= u128::from(SQUARED_BOUND));
                assert!(!outcome.non_finite && outcome.norm.is_finite());
                assert_eq!(outcome.clipped, outcome.norm > clip_norm);
                if outcome.clipped {
                    // Nearly the whole bound is used: at most one unit a coordinate and 2^-27 are lost.
                    #[allow(clippy::cast_precision_loss, reason = "a comparison with slack")]
                    let (norm, n) = ((sum_of_squares(&values) as f64).sqrt(), values.len() as f64);
                    assert!(norm >= GRID_UNITS_F64 * (1.0 - 2.0_f64.powi(-27)) - n.sqrt());
                }
            }
        }
    }

    #[test]
    fn values_that_are_not_finite_give_zero() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (values, outcome) = quantize(1.0, &[0.5, bad, 0.1]);
            assert_eq!(values, [0, 0, 0]);
            assert!(outcome.non_finite && outcome.clipped && outcome.norm.is_nan());
        }
    }

    #[test]
    fn the_server_checks_exactly() {
        let quantizer = quantizer(1.0);
        let bound = 1 << 30;
        for good in [
            vec![],
            vec![bound],
            vec![-bound, 0],
            vec![644_245_094, 858_993_459],
            vec![1; 1_000],
        ] {
            assert_eq!(quantizer.accept(good.clone()).unwrap().values(), good);
        }
        let too_long = [
            vec![bound + 1],
            vec![bound, 1],
            vec![i32::MIN],
            vec![i32::MIN; 10],
            vec![i32::MAX; 70_000],
            vec![644_245_095, 858_993_460],
        ];
        for bad in too_long {
            assert_eq!(quantizer.accept(bad), Err(RejectedUpdate::NormAboveBound));
        }
        // 2^20 coordinates of 2^20 have a norm of exactly 2^30.
        let mut many = vec![1 << 20; 1 << 20];
        assert!(is_within_bound(&many));
        many.push(1);
        assert!(!is_within_bound(&many));
    }

    #[test]
    fn debug_output_shows_no_values() {
        let (update, _) = quantizer(1.0).clip_and_quantize(&[0.5, 0.25], Vec::new());
        assert_eq!(format!("{update:?}"), "QuantizedUpdate { dimension: 2, .. }");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_norm_is_above_the_bound_and_no_value_above_its_input(
            update in prop::collection::vec(prop::num::f32::ANY, 0..50),
            small in prop::collection::vec(-1.0_f32..1.0, 0..50),
            clip_norm in prop_oneof![1e-3_f64..1e3, prop::num::f64::POSITIVE | prop::num::f64::SUBNORMAL],
        ) {
            prop_assume!(clip_norm > 0.0 && clip_norm.is_finite());
            for update in [update, small] {
                let (values, outcome) = quantize(clip_norm, &update);
                prop_assert!(sum_of_squares(&values) <= u128::from(SQUARED_BOUND));
                prop_assert!(quantizer(clip_norm).accept(values.clone()).is_ok());
                if outcome.non_finite {
                    prop_assert!(values.iter().all(|&value| value == 0));
                    continue;
                }
                for (&value, &input) in values.iter().zip(&update) {
                    // |v| · C ≤ |x| · 2^30, compared without rounding: both products are taken apart exactly.
                    prop_assert!(product_at_most(value.unsigned_abs(), clip_norm, input.abs()));
                    prop_assert!(value == 0 || (value > 0) == (input > 0.0));
                }
            }
        }
    }

    /// `value · clip_norm ≤ input · 2^30`, by integers.
    fn product_at_most(value: u32, clip_norm: f64, input: f32) -> bool {
        if value == 0 {
            return true;
        }
        let (clip_mantissa, clip_exponent) = parts(clip_norm);
        let (input_mantissa, input_exponent) = parts(f64::from(input));
        let left = u128::from(value) * u128::from(clip_mantissa);
        let shift = i64::from(input_exponent) + 30 - i64::from(clip_exponent);
        match u32::try_from(shift) {
            Ok(shift) if shift < 64 => left <= u128::from(input_mantissa) << shift,
            Ok(_) => true,
            Err(_) => match u32::try_from(-shift) {
                Ok(down) if down < 128 - 85 => left << down <= u128::from(input_mantissa),
                _ => false,
            },
        }
    }

    fn parts(value: f64) -> (u64, i32) {
        let bits = value.to_bits();
        let exponent = i32::try_from((bits >> 52) & 0x7ff).unwrap();
        let fraction = bits & ((1 << 52) - 1);
        if exponent == 0 {
            (fraction, -1_074)
        } else {
            (fraction | 1 << 52, exponent - 1_075)
        }
    }
}
