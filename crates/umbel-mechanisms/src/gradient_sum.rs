//! The exact sum of clipped gradients of single examples, most of which are never written down.

use umbel_accounting::ClipNorm;

use crate::blocks::vectorised;
use crate::clip::{ClipOutcome, l2_norm};
use crate::quantize::{squared_norm, truncate_all};

/// The clip norm is this many units of a [`GradientSum`], 2^40.
pub(crate) const GRADIENT_UNITS: f64 = (1_u64 << 40) as f64;

/// The square of the bound, 2^80.
const SQUARED_BOUND: u128 = 1 << 80;

/// Values that are no product are multiples of 2^10 units, so that they fit into 32 bits.
const VALUE_BITS: u32 = 10;

/// Gradients whose products are added together.
const GROUP: usize = 32;

/// Rows and columns of a product that are summed in registers.
const ROWS: usize = 4;
const COLUMNS: usize = 8;

/// A part of the gradient of one example, from coordinate `offset` on.
///
/// The gradient of a dense layer by its weights is a product of two vectors, what went in and what comes back, so it need not be
/// written down.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(clippy::exhaustive_enums, reason = "whoever makes one must know all kinds")]
pub enum GradientPart<'a> {
    /// `left[i] * right[j]` in row i and column j of a matrix that is stored row by row.
    Outer {
        /// The first coordinate.
        offset: usize,
        /// A value a row.
        left: &'a [f32],
        /// A value a column.
        right: &'a [f32],
    },
    /// The values themselves.
    Values {
        /// The first coordinate.
        offset: usize,
        /// One a coordinate.
        values: &'a [f32],
    },
}

/// The sum of the clipped gradients of a batch in units of C / 2^40, exact whatever the order of examples.
///
/// # Why one example moves it by at most C
///
/// 1. **What an example adds is a vector of integers that hangs on its own gradient only.** Of an outer product both vectors are
///    scaled and truncated to integers, a and b, and what is added is a bᵀ. Other values are truncated to multiples of 2^10.
/// 2. **Its norm is at most 2^40, in exact integers.** Parts do not overlap (checked), so the squared norm is
///    Σ ‖a‖² ‖b‖² + Σ w², which is computed in integers and compared with 2^80. What exceeds it is shrunk and compared again.
/// 3. **The sum is exact.** By 2 no product is above 2^40 in magnitude. Products of integers below 2^31 are added in `f64`, 32 at
///    most, so every partial sum is an integer of at most 2^45 and exact, whatever the order and whether fused or not; the groups'
///    sums are added in 64-bit integers. 2^22 examples cannot overflow these. Beyond that they wrap around, as the noise does that
///    is added to them: the exact result modulo 2^64, which is a function of the exact result, so that privacy does not hang on
///    the number of examples.
///
/// So whoever adds or removes an example moves the sum by that example's vector and by nothing else. It is not private: its
/// values leave this type only through [`LocalGaussian::noised_gradient`](crate::LocalGaussian::noised_gradient).
pub struct GradientSum {
    clip_norm: ClipNorm,
    values: Vec<i64>,
    waiting: Vec<Outer>,
    n_waiting: usize,
    integers: Vec<i32>,
    /// What the example that is being added consists of.
    example: Vec<Quantized>,
    /// Memory for adding products.
    rows: Vec<f64>,
    columns: Vec<f64>,
}

/// An outer product of integers, at `left` and `right` in the buffer of integers.
#[derive(Debug, Clone, Copy)]
struct Outer {
    offset: usize,
    left: Place,
    right: Place,
}

#[derive(Debug, Clone, Copy)]
enum Quantized {
    Outer(Outer),
    Values { offset: usize, at: Place },
}

/// Where integers are.
#[derive(Debug, Clone, Copy)]
struct Place {
    begin: usize,
    length: usize,
}

impl Place {
    fn of<T>(self, values: &[T]) -> &[T] {
        &values[self.begin..self.begin + self.length]
    }
}

impl GradientSum {
    /// A sum of nothing, with this many coordinates.
    pub(crate) fn new(clip_norm: ClipNorm, dimension: usize) -> Self {
        Self {
            clip_norm,
            values: vec![0; dimension],
            waiting: Vec::new(),
            n_waiting: 0,
            integers: Vec::new(),
            example: Vec::new(),
            rows: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// Adds the gradient of one example, scaled by min(1, C / norm). One with a value that is not finite adds nothing. The parts
    /// have ascending places and do not overlap; elsewhere the gradient is 0.
    ///
    /// # Panics
    ///
    /// Where parts overlap, come in another order, or go beyond the last coordinate.
    pub fn add<'a>(&mut self, parts: impl Iterator<Item = GradientPart<'a>> + Clone) -> ClipOutcome {
        let norm = check_places(parts.clone(), self.values.len()).sqrt();
        let outcome = ClipOutcome::of(norm, self.clip_norm.value());
        if outcome.non_finite || norm <= 0.0 {
            return outcome;
        }
        let begin = self.integers.len();
        let mut scale = GRADIENT_UNITS / norm.max(self.clip_norm.value());
        loop {
            self.integers.truncate(begin);
            self.example.clear();
            for part in parts.clone() {
                self.quantize(part, scale);
            }
            if self.is_within_bound() {
                break;
            }
            scale *= 1.0 - 1e-7;
        }
        self.take_example();
        outcome
    }

    /// The clip norm that its units belong to.
    pub(crate) fn clip_norm(&self) -> ClipNorm {
        self.clip_norm
    }

    /// The sums, to be made private and then [cleared](Self::clear).
    pub(crate) fn values_mut(&mut self) -> &mut [i64] {
        self.flush();
        &mut self.values
    }

    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        self.flush();
        self.values.fill(0);
    }

    /// Appends the integers that stand for a part.
    ///
    /// The left vector of a product is scaled by a power of two to a norm between 2^19 and 2^20, the right one by the rest, so
    /// that both keep about 20 bits.
    fn quantize(&mut self, part: GradientPart<'_>, scale: f64) {
        let quantized = match part {
            GradientPart::Outer { offset, left, right } => {
                let norm = l2_norm(left);
                if norm <= 0.0 || right.is_empty() {
                    return;
                }
                let power = power_of_two_up_to(f64::from(1 << 20) / norm);
                Quantized::Outer(Outer {
                    offset,
                    left: self.append(left, power),
                    right: self.append(right, scale / power),
                })
            }
            GradientPart::Values { offset, values } => Quantized::Values {
                offset,
                at: self.append(values, scale / f64::from(1 << VALUE_BITS)),
            },
        };
        self.example.push(quantized);
    }

    fn append(&mut self, values: &[f32], scale: f64) -> Place {
        let begin = self.integers.len();
        self.integers.resize(begin + values.len(), 0);
        truncate_all(values, scale, &mut self.integers[begin..]);
        Place {
            begin,
            length: values.len(),
        }
    }

    /// Whether the integers of the example have a norm of at most 2^40. Sums that leave 128 bits are above it.
    fn is_within_bound(&self) -> bool {
        let squares = |place: Place| squared_norm(place.of(&self.integers));
        let mut total = 0_u128;
        for part in &self.example {
            let own = match *part {
                Quantized::Outer(outer) => squares(outer.left).checked_mul(squares(outer.right)),
                Quantized::Values { at, .. } => squares(at).checked_mul(1 << (2 * VALUE_BITS)),
            };
            match own.and_then(|own| total.checked_add(own)) {
                Some(sum) if sum <= SQUARED_BOUND => total = sum,
                _ => return false,
            }
        }
        true
    }

    /// Adds the values of the example, and lets its products wait for those of others.
    fn take_example(&mut self) {
        for part in &self.example {
            match *part {
                Quantized::Outer(outer) => self.waiting.push(outer),
                Quantized::Values { offset, at } => {
                    let sums = &mut self.values[offset..offset + at.length];
                    let values = at.of(&self.integers);
                    vectorised(
                        #[inline(always)]
                        || {
                            for (sum, &value) in sums.iter_mut().zip(values) {
                                *sum = sum.wrapping_add(i64::from(value) << VALUE_BITS);
                            }
                        },
                    );
                }
            }
        }
        self.n_waiting += 1;
        if self.n_waiting == GROUP {
            self.flush();
        }
    }

    /// Adds the products that wait.
    fn flush(&mut self) {
        let key = |outer: &Outer| (outer.offset, outer.left.length, outer.right.length);
        self.waiting.sort_unstable_by_key(key);
        for group in self.waiting.chunk_by(|one, other| key(one) == key(other)) {
            // An example has at most one product at a place.
            let Some(first) = group.first() else { continue };
            let (n_rows, n_columns) = (first.left.length, first.right.length);
            gather(
                group.iter().map(|outer| outer.left.of(&self.integers)),
                n_rows,
                ROWS,
                &mut self.rows,
            );
            gather(
                group.iter().map(|outer| outer.right.of(&self.integers)),
                n_columns,
                COLUMNS,
                &mut self.columns,
            );
            let sums = &mut self.values[first.offset..first.offset + n_rows * n_columns];
            let (rows, columns) = (&self.rows, &self.columns);
            vectorised(
                #[inline(always)]
                || add_products(rows, columns, group.len(), sums, n_columns),
            );
        }
        self.waiting.clear();
        self.integers.clear();
        self.n_waiting = 0;
    }
}

/// Not private, so nothing of it is shown.
impl std::fmt::Debug for GradientSum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GradientSum")
            .field("dimension", &self.values.len())
            .finish_non_exhaustive()
    }
}

/// The squared norm of a gradient. Squares of `f32` are at most 1e77, so no product of two sums of them overflows.
fn check_places<'a>(parts: impl Iterator<Item = GradientPart<'a>>, dimension: usize) -> f64 {
    let (mut end, mut squares) = (0, 0.0);
    for part in parts {
        let (offset, length, own) = match part {
            GradientPart::Outer { offset, left, right } => {
                (offset, left.len() * right.len(), l2_norm(left) * l2_norm(right))
            }
            GradientPart::Values { offset, values } => (offset, values.len(), l2_norm(values)),
        };
        assert!(offset >= end, "parts of a gradient overlap at {offset}");
        end = offset + length;
        squares += own * own;
    }
    assert!(
        end <= dimension,
        "a gradient of {dimension} coordinates has a part up to {end}"
    );
    squares
}

/// The largest power of two that is not above a positive normal number.
fn power_of_two_up_to(value: f64) -> f64 {
    f64::from_bits(value.to_bits() & !((1 << 52) - 1))
}

/// Lays vectors of one length out in panels of `width` entries, all vectors of a panel one after the other; the last panel is
/// filled up with zeros.
fn gather<'a>(
    vectors: impl ExactSizeIterator<Item = &'a [i32]>,
    length: usize,
    width: usize,
    panels: &mut Vec<f64>,
) {
    let n = vectors.len();
    panels.clear();
    panels.resize(length.next_multiple_of(width) * n, 0.0);
    for (index, vector) in vectors.enumerate() {
        for (panel, piece) in vector.chunks(width).enumerate() {
            let begin = (panel * n + index) * width;
            for (place, &value) in panels[begin..].iter_mut().zip(piece) {
                *place = f64::from(value);
            }
        }
    }
}

/// Adds Σᵢ aᵢ bᵢᵀ to `sums`, `[n_rows, n_columns]`, where the n vectors aᵢ lie in panels of rows and the bᵢ in panels of columns.
#[inline(always)]
fn add_products(rows: &[f64], columns: &[f64], n: usize, sums: &mut [i64], n_columns: usize) {
    let row_panels = rows.chunks_exact(ROWS * n);
    for (rows, sums) in row_panels.zip(sums.chunks_mut(ROWS * n_columns)) {
        let (rows, _) = rows.as_chunks::<ROWS>();
        for (panel, columns) in columns.chunks_exact(COLUMNS * n).enumerate() {
            let (columns, _) = columns.as_chunks::<COLUMNS>();
            let mut totals = [[0.0_f64; COLUMNS]; ROWS];
            for (row, column) in rows.iter().zip(columns) {
                for (totals, x) in totals.iter_mut().zip(row) {
                    for (total, y) in totals.iter_mut().zip(column) {
                        *total = x.mul_add(*y, *total);
                    }
                }
            }
            let begin = panel * COLUMNS;
            let width = COLUMNS.min(n_columns - begin);
            for (sums, totals) in sums.chunks_exact_mut(n_columns).zip(&totals) {
                for (sum, total) in sums[begin..begin + width].iter_mut().zip(totals) {
                    *sum = sum.wrapping_add(integer(*total));
                }
            }
        }
    }
}

/// A whole number below 2^51 in magnitude as an integer: added to 1.5 × 2^52 it is exact, and its bits are the lowest.
#[inline(always)]
fn integer(whole: f64) -> i64 {
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    (whole + SHIFT).to_bits().cast_signed() - SHIFT.to_bits().cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIMENSION: usize = 5 * 11 + 7;

    /// A 5 × 11 product from coordinate 3 on, and three values at the end.
    #[derive(Debug, Clone)]
    struct Example {
        left: Vec<f32>,
        right: Vec<f32>,
        values: Vec<f32>,
    }

    impl Example {
        fn parts(&self) -> impl Iterator<Item = GradientPart<'_>> + Clone {
            let outer = GradientPart::Outer {
                offset: 3,
                left: &self.left,
                right: &self.right,
            };
            let values = GradientPart::Values {
                offset: DIMENSION - 3,
                values: &self.values,
            };
            [outer, values].into_iter()
        }

        /// The gradient written down and clipped, in double precision.
        fn clipped(&self, clip_norm: f64) -> Vec<f64> {
            let mut gradient = vec![0.0; DIMENSION];
            for (row, x) in self.left.iter().enumerate() {
                for (column, y) in self.right.iter().enumerate() {
                    gradient[3 + row * self.right.len() + column] = f64::from(*x) * f64::from(*y);
                }
            }
            for (place, value) in gradient[DIMENSION - 3..].iter_mut().zip(&self.values) {
                *place = f64::from(*value);
            }
            let norm = gradient.iter().map(|value| value * value).sum::<f64>().sqrt();
            let factor = (clip_norm / norm).min(1.0);
            gradient.iter().map(|value| value * factor).collect()
        }
    }

    fn clip_norm(value: f64) -> ClipNorm {
        ClipNorm::new(value).unwrap()
    }

    fn sum_of(examples: &[Example], bound: f64) -> Vec<i64> {
        let mut sum = GradientSum::new(clip_norm(bound), DIMENSION);
        examples.iter().for_each(|example| {
            sum.add(example.parts());
        });
        sum.values_mut().to_vec()
    }

    fn squares(values: &[i64]) -> u128 {
        values
            .iter()
            .map(|value| u128::from(value.unsigned_abs()).pow(2))
            .sum()
    }

    fn float() -> impl Strategy<Value = f32> {
        prop_oneof![
            4 => -2.0_f32..2.0,
            1 => Just(0.0),
            1 => prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL,
        ]
    }

    fn example() -> impl Strategy<Value = Example> {
        (
            prop::collection::vec(float(), 5),
            prop::collection::vec(float(), 11),
            prop::collection::vec(float(), 3),
        )
            .prop_map(|(left, right, values)| Example { left, right, values })
    }

    proptest! {
        /// The guarantee: one example more moves the sum by a vector of a norm of at most 2^40, in exact integers, and by
        /// the same vector beside whatever others, at whatever place among them.
        #[test]
        fn one_example_moves_the_sum_by_its_own_vector_within_the_bound(
            others in prop::collection::vec(example(), 0..70), one in example(), place in any::<prop::sample::Index>(),
            bound in prop_oneof![1e-6_f64..1e6, Just(1e-30), Just(1e30)],
        ) {
            let alone = sum_of(std::slice::from_ref(&one), bound);
            prop_assert!(squares(&alone) <= SQUARED_BOUND);
            let without = sum_of(&others, bound);
            let mut all = others;
            all.insert(place.index(all.len() + 1), one);
            let with = sum_of(&all, bound);
            let moved: Vec<i64> = with.iter().zip(&without).map(|(with, without)| with - without).collect();
            prop_assert_eq!(moved, alone);
        }

        #[test]
        fn what_is_added_is_the_clipped_gradient(
            left in prop::collection::vec(-2.0_f32..2.0, 5), right in prop::collection::vec(-2.0_f32..2.0, 11),
            values in prop::collection::vec(-2.0_f32..2.0, 3), bound in 0.01_f64..10.0,
        ) {
            let example = Example { left, right, values };
            let sum = sum_of(std::slice::from_ref(&example), bound);
            for (got, expected) in sum.iter().zip(example.clipped(bound)) {
                let got = *got as f64 / GRADIENT_UNITS * bound;
                prop_assert!((got - expected).abs() <= 4e-6 * bound, "{got} for {expected}");
            }
        }
    }

    fn ordinary(seed: u32) -> Example {
        let wave = |n: u32, k: u32| (0..n).map(|i| ((seed * 31 + i * 7 + k) as f32).sin()).collect();
        Example {
            left: wave(5, 1),
            right: wave(11, 2),
            values: wave(3, 3),
        }
    }

    #[test]
    fn what_is_not_finite_adds_nothing() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in 0..3 {
                let mut broken = ordinary(1);
                [&mut broken.left, &mut broken.right, &mut broken.values][place][1] = bad;
                let mut sum = GradientSum::new(clip_norm(1.0), DIMENSION);
                assert!(sum.add(broken.parts()).non_finite);
                assert!(sum.values_mut().iter().all(|value| *value == 0));
            }
        }
    }

    #[test]
    fn a_clipped_gradient_keeps_nearly_all_of_its_bound() {
        let mut huge = ordinary(2);
        huge.values.fill(f32::MAX);
        for example in [ordinary(1), huge] {
            let sum = sum_of(&[example], 1e-3);
            let norm = (squares(&sum) as f64).sqrt() / GRADIENT_UNITS;
            assert!((1.0 - 1e-5..=1.0).contains(&norm), "{norm}");
        }
    }

    /// Integers that a mistake in the scale would give are refused, whatever their size, and shrunk ones are taken.
    #[test]
    fn the_bound_is_checked_in_integers() {
        let mut sum = GradientSum::new(clip_norm(1.0), 4);
        for (left, right, fits) in [
            (vec![1 << 20], vec![1 << 20], true),
            (vec![1 << 20, 1], vec![1 << 20], false),
            (vec![1 << 20], vec![1 << 20, -1], false),
            (vec![i32::MIN; 2], vec![i32::MIN; 2], false),
        ] {
            sum.integers = [left.clone(), right.clone()].concat();
            let (begin, middle) = (0, left.len());
            sum.example = vec![Quantized::Outer(Outer {
                offset: 0,
                left: Place {
                    begin,
                    length: middle,
                },
                right: Place {
                    begin: middle,
                    length: right.len(),
                },
            })];
            assert_eq!(sum.is_within_bound(), fits, "{left:?} {right:?}");
            // One value more, and together they are above it.
            let end = sum.integers.len();
            sum.integers.push(1);
            sum.example.push(Quantized::Values {
                offset: 3,
                at: Place {
                    begin: end,
                    length: 1,
                },
            });
            assert!(!sum.is_within_bound());
        }
    }

    /// Far more than a group, all in one coordinate: the largest sums that can come up.
    #[test]
    fn the_largest_sums_are_exact() {
        let parts = [GradientPart::Outer {
            offset: 1,
            left: &[4.0],
            right: &[-0.5],
        }];
        let mut sum = GradientSum::new(clip_norm(2.0), 3);
        (0..1_000).for_each(|_| {
            sum.add(parts.iter().copied());
        });
        assert_eq!(sum.values_mut(), [0, -1_000 << 40, 0]);
        sum.clear();
        assert_eq!(sum.values_mut(), [0; 3]);
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn overlapping_parts_are_refused() {
        let parts = [0, 2].map(|offset| GradientPart::Values {
            offset,
            values: &[1.0; 3],
        });
        GradientSum::new(clip_norm(1.0), 9).add(parts.into_iter());
    }

    #[test]
    #[should_panic(expected = "up to 10")]
    fn parts_beyond_the_end_are_refused() {
        let part = GradientPart::Outer {
            offset: 4,
            left: &[1.0; 2],
            right: &[1.0; 3],
        };
        GradientSum::new(clip_norm(1.0), 9).add(std::iter::once(part));
    }
}
