//! Loops over many values, compiled for several instruction sets and chosen among at run time; and the functions in them.
//!
//! The arithmetic is written without fused multiply-add, so it gives the same bits with every instruction set.

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
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, the first with few bits, so that its product with n is exact.
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 0.166_666_66;
    p = p * r + 0.5;
    let value = p * (r * r) + r + 1.0;
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
    let mut p = -5.704_988_7e-3;
    p = p * square + 2.063_909e-2;
    p = p * square - 5.373_971_6e-2;
    p = p * square + 0.133_314_42;
    p = p * square - 0.333_332_8;
    let near = p * square * x + x;
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
    const LANES: usize = 16;
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

/// `target` += `factor` × `values`.
pub(super) fn add_scaled(target: &mut [f32], factor: f32, values: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (target, value) in target.iter_mut().zip(values) {
                *target += factor * value;
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

/// Rows of a matrix that need not follow each other: row i begins at i × `stride`.
#[derive(Debug)]
pub(super) struct Rows<T> {
    pub(super) values: T,
    pub(super) stride: usize,
}

/// Columns that are computed together: two vectors of eight.
const COLUMNS: usize = 16;

/// Row i of `c` = `start` + row i of `a` times `b`, for the `n` rows of both; `b` is `[b.len() / start.len(), start.len()]`,
/// row-major.
///
/// For small `b` that stays in the first cache: unlike a general product it copies nothing before it begins.
pub(super) fn product_of_rows(n: usize, a: Rows<&[f32]>, b: &[f32], start: &[f32], c: Rows<&mut [f32]>) {
    vectorised(
        #[inline(always)]
        || {
            let (n_columns, n_inner) = (start.len(), b.len() / start.len());
            let Rows { values: c, stride } = c;
            let row_of_a = |row: usize| &a.values[row * a.stride..][..n_inner];
            let (blocks, _) = start.as_chunks::<COLUMNS>();
            for (index, block) in blocks.iter().enumerate() {
                let column = index * COLUMNS;
                let mut row = 0;
                while row + 4 <= n {
                    let rows = [0, 1, 2, 3].map(|next| row_of_a(row + next));
                    for (next, sums) in block_of_product(rows, b, n_columns, column, block)
                        .iter()
                        .enumerate()
                    {
                        c[(row + next) * stride + column..][..COLUMNS].copy_from_slice(sums);
                    }
                    row += 4;
                }
                while row < n {
                    let [sums] = block_of_product([row_of_a(row)], b, n_columns, column, block);
                    c[row * stride + column..][..COLUMNS].copy_from_slice(&sums);
                    row += 1;
                }
            }
            for column in blocks.len() * COLUMNS..n_columns {
                for row in 0..n {
                    let pairs = row_of_a(row).iter().zip(b[column..].iter().step_by(n_columns));
                    c[row * stride + column] = pairs.fold(start[column], |sum, (a, b)| sum + a * b);
                }
            }
        },
    );
}

#[inline(always)]
fn block_of_product<const R: usize>(
    a: [&[f32]; R],
    b: &[f32],
    n_columns: usize,
    column: usize,
    start: &[f32; COLUMNS],
) -> [[f32; COLUMNS]; R] {
    let mut sums = [*start; R];
    for (inner, row) in b.chunks_exact(n_columns).enumerate() {
        let row: &[f32; COLUMNS] = row[column..]
            .first_chunk()
            .expect("a block of columns lies in the row");
        for (sums, a) in sums.iter_mut().zip(a) {
            let factor = a[inner];
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += factor * value;
            }
        }
    }
    sums
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
    fn products_of_rows_are_products() {
        for (n, n_inner, n_columns) in [(1, 1, 1), (3, 5, 16), (4, 7, 33), (9, 48, 128), (6, 3, 15)] {
            let wave = |n: usize| -> Vec<f32> { (0..n).map(|k| (k as f32 * 0.7).sin()).collect() };
            let (a_stride, c_stride) = (n_inner + 2, n_columns + 3);
            let (a, b, start) = (wave(n * a_stride), wave(n_inner * n_columns), wave(n_columns));
            let mut c = vec![f32::NAN; n * c_stride];
            let rows = Rows {
                values: a.as_slice(),
                stride: a_stride,
            };
            let target = Rows {
                values: c.as_mut_slice(),
                stride: c_stride,
            };
            product_of_rows(n, rows, &b, &start, target);
            for row in 0..n {
                for column in 0..n_columns {
                    let terms = (0..n_inner).map(|k| a[row * a_stride + k] * b[k * n_columns + column]);
                    let expected = start[column] + terms.sum::<f32>();
                    assert!((c[row * c_stride + column] - expected).abs() < 1e-5);
                }
                assert!(
                    c[row * c_stride + n_columns..][..3]
                        .iter()
                        .all(|value| value.is_nan())
                );
            }
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
