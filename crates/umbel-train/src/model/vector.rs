//! Loops over many values, compiled for several instruction sets and chosen among at run time; and the functions in them.
//!
//! A multiplication and an addition are fused only where the source says so, and then on every processor, so the functions give the
//! same bits with every instruction set. (Only a processor without fused multiply-add, made before 2013, pays for that.)

/// Runs `work` compiled for the best instruction set of this processor. Only what is inlined into `work` gains.
#[inline(always)]
pub(super) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// exp(x), off by at most 2.5e-7 relative. Below -87 it is exp(-87), above 88 exp(88): nothing vanishes or overflows.
///
/// x = n ln 2 + r with |r| ≤ ½ ln 2, and exp(r) by a polynomial of degree 6 whose coefficients are those of `expf` in Cephes
/// (Moshier). Adding 1.5 × 2^23 rounds to a whole number, whose bits are then the lowest of the sum.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    // Written so that a NaN stays one.
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, the first with few bits, so that its product with n is exact.
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    let mut p = 1.987_569_1e-4_f32;
    p = p.mul_add(r, 1.398_2e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 0.166_666_66);
    p = p.mul_add(r, 0.5);
    let value = p.mul_add(r * r, r) + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    value * power
}

/// 1 / (1 + exp(-x)), off by at most 5e-7 relative for x ≥ -87.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// tanh x, off by at most 5e-7 relative: near 0 by a polynomial whose coefficients are those of `tanhf` in Cephes (Moshier),
/// elsewhere as 1 - 2 / (exp(2|x|) + 1).
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let square = x * x;
    let mut p = -5.704_988_7e-3_f32;
    p = p.mul_add(square, 2.063_909e-2);
    p = p.mul_add(square, -5.373_971_6e-2);
    p = p.mul_add(square, 0.133_314_42);
    p = p.mul_add(square, -0.333_332_8);
    let near = (p * square).mul_add(x, x);
    let magnitude = x.abs();
    let far = (1.0 - 2.0 / (exp(magnitude + magnitude) + 1.0)).copysign(x);
    if magnitude < 0.625 { near } else { far }
}

/// Replaces each value by its sigmoid.
pub(super) fn sigmoid_all(values: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for value in values {
                *value = sigmoid(*value);
            }
        },
    );
}

/// Replaces each value by its hyperbolic tangent.
pub(super) fn tanh_all(values: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for value in values {
                *value = tanh(*value);
            }
        },
    );
}

/// Sum of the squares, in double precision: no finite `f32` overflows or vanishes there.
pub(super) fn sum_of_squares(values: &[f32]) -> f64 {
    vectorised(
        #[inline(always)]
        || {
            let (blocks, rest) = values.as_chunks::<LANES>();
            let mut lanes = [0.0_f64; LANES];
            for block in blocks {
                for (lane, &value) in lanes.iter_mut().zip(block) {
                    let value = f64::from(value);
                    *lane += value * value;
                }
            }
            let tail: f64 = rest
                .iter()
                .map(|&value| f64::from(value) * f64::from(value))
                .sum();
            lanes.iter().sum::<f64>() + tail
        },
    )
}

/// Values that are summed side by side: a vector of the widest instruction set.
const LANES: usize = 16;

/// Σ `term`(values at i) over rows of equal length. Inlined, for loops that are [`vectorised`].
#[inline(always)]
pub(super) fn lane_sum<const N: usize>(rows: [&[f32]; N], term: impl Fn([f32; N]) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let blocks = rows.map(|row| row.as_chunks::<LANES>());
    let n_blocks = rows[0].len() / LANES;
    for index in 0..n_blocks {
        let block = blocks.map(|(blocks, _)| &blocks[index]);
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(block.map(|block| block[lane]));
        }
    }
    let mut total: f32 = lanes.iter().sum();
    for index in n_blocks * LANES..rows[0].len() {
        total += term(rows.map(|row| row[index]));
    }
    total
}

/// The largest value, where no value is a NaN. Inlined, for loops that are [`vectorised`].
#[inline(always)]
pub(super) fn lane_max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    let larger = |largest: f32, &value: &f32| if value > largest { value } else { largest };
    rest.iter()
        .fold(lanes.iter().fold(f32::NEG_INFINITY, larger), larger)
}

/// The scalar product, in double precision.
pub(super) fn product(left: &[f32], right: &[f32]) -> f64 {
    vectorised(
        #[inline(always)]
        || {
            let (left_blocks, left_rest) = left.as_chunks::<LANES>();
            let (right_blocks, right_rest) = right.as_chunks::<LANES>();
            let mut lanes = [0.0_f64; LANES];
            for (left, right) in left_blocks.iter().zip(right_blocks) {
                for (lane, (&left, &right)) in lanes.iter_mut().zip(left.iter().zip(right)) {
                    *lane += f64::from(left) * f64::from(right);
                }
            }
            let rest = left_rest.iter().zip(right_rest);
            lanes.iter().sum::<f64>()
                + rest
                    .map(|(&left, &right)| f64::from(left) * f64::from(right))
                    .sum::<f64>()
        },
    )
}

/// `target` += `factor` × `values`.
pub(super) fn add_scaled(target: &mut [f32], factor: f32, values: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (target, value) in target.iter_mut().zip(values) {
                *target = factor.mul_add(*value, *target);
            }
        },
    );
}

/// `target` += `factor` × the sum of the rows of `values`, `[n, target.len()]`.
pub(super) fn add_rows(target: &mut [f32], factor: f32, values: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for row in values.chunks_exact(target.len()) {
                for (target, value) in target.iter_mut().zip(row) {
                    *target += factor * value;
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest relative error on a grid of `from` to `to`, with `exact` in double precision.
    fn largest_error(from: f32, to: f32, got: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        let n = 1_000_003_u32;
        let mut largest = 0.0_f64;
        for step in 0..=n {
            #[allow(clippy::cast_possible_truncation, reason = "any point near the grid will do")]
            let x = (f64::from(from) + f64::from(to - from) * f64::from(step) / f64::from(n)) as f32;
            let exact = exact(f64::from(x));
            let error = (f64::from(got(x)) - exact).abs();
            largest = largest.max(if error == 0.0 { 0.0 } else { error / exact.abs() });
        }
        largest
    }

    #[test]
    fn functions_are_as_close_as_they_say() {
        assert!(largest_error(-87.0, 88.0, exp, f64::exp) < 2.5e-7);
        assert!(largest_error(-1.0, 1.0, exp, f64::exp) < 2.5e-7);
        let exact = |x: f64| 1.0 / (1.0 + (-x).exp());
        assert!(largest_error(-87.0, 88.0, sigmoid, exact) < 5e-7);
        assert!(largest_error(-5.0, 5.0, sigmoid, exact) < 5e-7);
        assert!(largest_error(-20.0, 20.0, tanh, f64::tanh) < 5e-7);
        assert!(largest_error(-0.7, 0.7, tanh, f64::tanh) < 5e-7);
        assert!(largest_error(1e-30, 1e-3, tanh, f64::tanh) < 5e-7);
    }

    #[test]
    fn extremes_saturate_and_a_nan_stays() {
        for function in [exp, sigmoid, tanh] {
            assert!(function(f32::NAN).is_nan());
        }
        assert!(exp(f32::INFINITY) > 1e38 && exp(f32::NEG_INFINITY) < 1e-37);
        for (x, expected) in [(1e30, 1.0), (f32::INFINITY, 1.0), (-1e30, -1.0), (0.0, 0.0)] {
            assert!((tanh(x) - expected).abs() < 1e-7, "{x}");
            assert!((sigmoid(x) - (expected + 1.0) / 2.0).abs() < 1e-7, "{x}");
        }
    }

    #[test]
    fn vectorised_loops_give_the_bits_of_plain_ones() {
        let values: Vec<f32> = (-700_i16..700).map(|step| f32::from(step) / 37.0).collect();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        for (all, one) in [
            (tanh_all as fn(&mut [f32]), tanh as fn(f32) -> f32),
            (sigmoid_all, sigmoid),
        ] {
            let mut vector = values.clone();
            all(&mut vector);
            let plain: Vec<f32> = values.iter().map(|&value| one(value)).collect();
            assert_eq!(bits(&vector), bits(&plain));
        }
    }

    #[test]
    fn sums_by_lanes_are_sums() {
        for n in [0, 1, 15, 16, 33, 200] {
            let left: Vec<f32> = (0..n).map(|k| (k as f32 * 0.7).sin()).collect();
            let right: Vec<f32> = (0..n).map(|k| (k as f32 * 0.3).cos() - 2.0).collect();
            let exact: f64 = left
                .iter()
                .zip(&right)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum();
            assert!((f64::from(lane_sum([&left, &right], |[a, b]| a * b)) - exact).abs() < 1e-4);
            assert!((product(&left, &right) - exact).abs() < 1e-12);
            let largest = right.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(lane_max(&right).to_bits(), largest.to_bits());
        }
    }

    #[test]
    fn squares_neither_overflow_nor_vanish() {
        for value in [f32::MAX, 1e-38, f32::from_bits(1)] {
            let expected = 37.0 * f64::from(value) * f64::from(value);
            let got = sum_of_squares(&[value; 37]);
            assert!((got / expected - 1.0).abs() < 1e-14, "{got} for {expected}");
        }
        assert!(sum_of_squares(&[f32::NAN; 3]).is_nan());
        assert!(sum_of_squares(&[f32::INFINITY; 20]).is_infinite());
    }
}
