//! Matrix products in single precision on one thread: the kernels of the `gemm` crates, chosen among at run time, behind views
//! whose bounds are checked.
//!
//! This is the one crate with unsafe code. It is one call, and its argument stands beside it: every place that the kernel reads or
//! writes lies in a slice that was checked when its view was made.

use std::cell::RefCell;

/// A matrix to read: element (i, j) is `values[i × row_stride + j × column_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    n_rows: usize,
    n_columns: usize,
    row_stride: usize,
    column_stride: usize,
}

/// A matrix to write to, whose rows lie one after the other, perhaps with gaps: element (i, j) is `values[i × row_stride + j]`.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    values: &'a mut [f32],
    n_rows: usize,
    n_columns: usize,
    row_stride: usize,
}

/// Checks that the last element of a matrix lies in `length` values, and that places fit the kernel's signed offsets.
fn check(length: usize, n_rows: usize, n_columns: usize, row_stride: usize, column_stride: usize) {
    let last = || {
        let row = n_rows.checked_sub(1)?.checked_mul(row_stride)?;
        let column = n_columns.checked_sub(1)?.checked_mul(column_stride)?;
        row.checked_add(column)
    };
    // A slice of `f32` has at most `isize::MAX` / 4 values, so places below its length fit.
    let fits = n_rows == 0 || n_columns == 0 || last().is_some_and(|last| last < length);
    assert!(
        fits,
        "{n_rows} rows of {n_columns} values, with strides {row_stride} and {column_stride}, do not lie in {length} values"
    );
}

impl<'a> Matrix<'a> {
    /// `values` row by row, without gaps.
    ///
    /// # Panics
    ///
    /// Where there are not `n_rows` × `n_columns` values.
    pub fn new(values: &'a [f32], n_rows: usize, n_columns: usize) -> Self {
        assert_eq!(
            Some(values.len()),
            n_rows.checked_mul(n_columns),
            "{n_rows} × {n_columns}"
        );
        Self::with_row_stride(values, n_rows, n_columns, n_columns)
    }

    /// Rows that begin `row_stride` values after each other; they may overlap.
    ///
    /// # Panics
    ///
    /// Where the last row ends beyond `values`.
    pub fn with_row_stride(values: &'a [f32], n_rows: usize, n_columns: usize, row_stride: usize) -> Self {
        check(values.len(), n_rows, n_columns, row_stride, 1);
        Self {
            values,
            n_rows,
            n_columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self {
            values: self.values,
            n_rows: self.n_columns,
            n_columns: self.n_rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

impl<'a> MatrixMut<'a> {
    /// `values` row by row, without gaps.
    ///
    /// # Panics
    ///
    /// Where there are not `n_rows` × `n_columns` values.
    pub fn new(values: &'a mut [f32], n_rows: usize, n_columns: usize) -> Self {
        assert_eq!(
            Some(values.len()),
            n_rows.checked_mul(n_columns),
            "{n_rows} × {n_columns}"
        );
        Self::with_row_stride(values, n_rows, n_columns, n_columns)
    }

    /// Rows that begin `row_stride` values after each other.
    ///
    /// # Panics
    ///
    /// Where the last row ends beyond `values`, or rows would overlap.
    pub fn with_row_stride(
        values: &'a mut [f32],
        n_rows: usize,
        n_columns: usize,
        row_stride: usize,
    ) -> Self {
        check(values.len(), n_rows, n_columns, row_stride, 1);
        assert!(
            row_stride >= n_columns || n_rows <= 1,
            "rows of {n_columns} values, {row_stride} apart, overlap"
        );
        Self {
            values,
            n_rows,
            n_columns,
            row_stride,
        }
    }
}

/// Values of the right factor from which on a product that would have to pack it transposed goes another way. 1 MiB, about the
/// size of a second-level cache.
const LARGE: usize = 1 << 18;

/// Most rows of the left factor for which that pays.
const FEW_ROWS: usize = 512;

/// `c` = `factor` `a` `b` + `keep` `c`. With `keep` 0 what `c` held does not matter, not even a NaN.
///
/// The result depends on the arguments and the kind of processor alone. Beside small buffers that the kernel takes from the
/// allocator and gives back, nothing is allocated but scratch memory that each thread keeps.
///
/// # Panics
///
/// Where the shapes do not fit.
pub fn multiply(factor: f32, a: Matrix<'_>, b: Matrix<'_>, keep: f32, c: &mut MatrixMut<'_>) {
    assert_eq!(a.n_rows, c.n_rows, "rows of the product");
    assert_eq!(b.n_columns, c.n_columns, "columns of the product");
    assert_eq!(a.n_columns, b.n_rows, "inner dimension");
    if c.n_rows == 0 || c.n_columns == 0 {
        return;
    }
    if a.n_columns == 0 {
        scale(keep, c);
        return;
    }
    let is_transposed = b.row_stride == 1 && b.column_stride > 1;
    if is_transposed && c.n_rows <= FEW_ROWS && b.n_rows.saturating_mul(b.n_columns) >= LARGE {
        return by_columns(factor, a, b, keep, c);
    }
    kernel(factor, a, b, keep, c);
}

fn scale(keep: f32, c: &mut MatrixMut<'_>) {
    for row in c.values.chunks_mut(c.row_stride.max(1)).take(c.n_rows) {
        for value in &mut row[..c.n_columns] {
            *value = if keep == 0.0 { 0.0 } else { keep * *value };
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Few rows times a large transposed matrix: the transposed product, bᵀ aᵀ computed as (a b)ᵀ row by row, reads `b` as it lies,
/// where the product itself would first copy and transpose all of it. Half the time for 64 rows by weights of 6 MiB.
fn by_columns(factor: f32, a: Matrix<'_>, b: Matrix<'_>, keep: f32, c: &mut MatrixMut<'_>) {
    let (n_rows, n_inner, n_columns) = (c.n_rows, a.n_columns, c.n_columns);
    SCRATCH.with_borrow_mut(|scratch| {
        let length = n_rows * (n_inner + n_columns);
        if scratch.len() < length {
            scratch.resize(length, 0.0);
        }
        let (turned, product) = scratch[..length].split_at_mut(n_rows * n_inner);
        for (inner, column) in turned.chunks_exact_mut(n_rows).enumerate() {
            for (row, value) in column.iter_mut().enumerate() {
                *value = a.values[row * a.row_stride + inner * a.column_stride];
            }
        }
        // Both are transposed: [n_columns, n_inner] × [n_inner, n_rows].
        let right = Matrix::new(turned, n_inner, n_rows);
        kernel(
            factor,
            b.t(),
            right,
            0.0,
            &mut MatrixMut::new(product, n_columns, n_rows),
        );
        for begin in (0..n_rows).step_by(8) {
            let end = n_rows.min(begin + 8);
            for (column, values) in product.chunks_exact(n_rows).enumerate() {
                for (row, &value) in (begin..end).zip(&values[begin..end]) {
                    let target = &mut c.values[row * c.row_stride + column];
                    *target = if keep == 0.0 {
                        value
                    } else {
                        keep * *target + value
                    };
                }
            }
        }
    });
}

/// The call of the crate's kernel.
#[allow(unsafe_code, reason = "argued below")]
#[allow(
    clippy::cast_possible_wrap,
    reason = "strides of what was checked are below isize::MAX"
)]
fn kernel(factor: f32, a: Matrix<'_>, b: Matrix<'_>, keep: f32, c: &mut MatrixMut<'_>) {
    // The kernel prefers columns that lie in one piece, so it computes cᵀ = bᵀ aᵀ, whose columns are the rows of c.
    let (left, right) = (b.t(), a.t());
    // SAFETY: The kernel reads element (i, j) of `left` and `right` at i × row stride + j × column stride for i and j below their
    // numbers of rows and columns, and reads and writes the elements of the target likewise. All of these lie in their slices:
    // `check` was passed when each view was made, its fields are private and never changed but by `t`, which exchanges rows
    // and columns with their strides. Shapes agree, which `multiply` asserted, or its callers here made so. The target is a
    // mutable borrow, so it overlaps neither factor, and its rows do not overlap each other. The kernel is chosen by what the
    // processor says it has. An `f32` of any bits is valid.
    unsafe {
        gemm_f32::gemm::f32::get_gemm_fn()(
            left.n_rows,
            right.n_columns,
            left.n_columns,
            c.values.as_mut_ptr(),
            c.row_stride as isize,
            1,
            keep != 0.0,
            left.values.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            keep,
            factor,
            false,
            false,
            false,
            gemm_common::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize, step: f32) -> Vec<f32> {
        (0..u16::MAX)
            .cycle()
            .take(n)
            .map(|k| (f32::from(k) * step).sin())
            .collect()
    }

    /// Against sums in double precision, for shapes around the widths of kernels and for both ways, plain and transposed, with
    /// gaps between rows that must stay as they were.
    #[test]
    fn products_are_products() {
        let shapes = [
            (1, 1, 1),
            (3, 5, 16),
            (16, 16, 16),
            (7, 33, 49),
            (1, 784, 10),
            (10, 784, 1),
            (64, 1, 96),
            (5, 0, 7),
            (97, 130, 65),
            (13, 512, 700),
            (2, 2, 300),
        ];
        for (m, k, n) in shapes {
            for (transpose_a, transpose_b) in [(false, false), (true, false), (false, true), (true, true)] {
                for (factor, keep) in [(1.0, 0.0), (-0.5, 1.0), (2.0, 0.25)] {
                    let (a, b) = (wave(m * k, 0.7), wave(k * n, 0.3));
                    let view = |values, n_rows: usize, n_columns: usize, transpose: bool| {
                        if transpose {
                            Matrix::new(values, n_columns, n_rows).t()
                        } else {
                            Matrix::new(values, n_rows, n_columns)
                        }
                    };
                    let at = |matrix: Matrix<'_>, row: usize, column: usize| {
                        f64::from(matrix.values[row * matrix.row_stride + column * matrix.column_stride])
                    };
                    let (a, b) = (view(&a, m, k, transpose_a), view(&b, k, n, transpose_b));
                    let stride = n + 3;
                    let before = if keep == 0.0 {
                        vec![f32::NAN; m * stride]
                    } else {
                        wave(m * stride, 0.9)
                    };
                    let mut c = before.clone();
                    multiply(
                        factor,
                        a,
                        b,
                        keep,
                        &mut MatrixMut::with_row_stride(&mut c, m, n, stride),
                    );
                    for row in 0..m {
                        for column in 0..n {
                            let sum: f64 = (0..k).map(|inner| at(a, row, inner) * at(b, inner, column)).sum();
                            let kept = if keep == 0.0 {
                                0.0
                            } else {
                                f64::from(keep * before[row * stride + column])
                            };
                            let expected = f64::from(factor) * sum + kept;
                            let got = f64::from(c[row * stride + column]);
                            assert!((got - expected).abs() < 1e-4, "{m} {k} {n}: {got} for {expected}");
                        }
                        let gap = row * stride + n..(row + 1) * stride;
                        assert!(
                            c[gap.clone()]
                                .iter()
                                .zip(&before[gap])
                                .all(|(a, b)| a.to_bits() == b.to_bits())
                        );
                    }
                }
            }
        }
    }

    /// Patches of a row of pixels, without a copy.
    #[test]
    fn rows_to_read_may_overlap() {
        let values = [1.0, 2.0, 3.0, 4.0];
        let mut c = [0.0; 3];
        let ones = [1.0; 2];
        let patches = Matrix::with_row_stride(&values, 3, 2, 1);
        multiply(
            1.0,
            patches,
            Matrix::new(&ones, 2, 1),
            0.0,
            &mut MatrixMut::new(&mut c, 3, 1),
        );
        assert!(
            c.iter()
                .zip([3.0, 5.0, 7.0])
                .all(|(got, expected)| (got - expected).abs() < 1e-6)
        );
    }

    #[test]
    fn a_nan_spreads_and_an_infinity_stays() {
        let mut c = [0.0; 4];
        let a = [f32::NAN, 1.0, f32::INFINITY, 1.0];
        multiply(
            1.0,
            Matrix::new(&a, 2, 2),
            Matrix::new(&[1.0; 4], 2, 2),
            0.0,
            &mut MatrixMut::new(&mut c, 2, 2),
        );
        assert!(c[0].is_nan() && c[1].is_nan() && c[2].is_infinite());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        use std::panic::{AssertUnwindSafe, catch_unwind};
        let values = [0.0; 6];
        let mut target = [0.0; 6];
        assert!(catch_unwind(|| Matrix::new(&values, 2, 2)).is_err());
        assert!(catch_unwind(|| Matrix::new(&values, usize::MAX, 2)).is_err());
        assert!(catch_unwind(|| Matrix::with_row_stride(&values, 2, 3, 4)).is_err());
        assert!(catch_unwind(|| Matrix::with_row_stride(&values, 3, 1, usize::MAX)).is_err());
        assert!(
            catch_unwind(AssertUnwindSafe(|| MatrixMut::with_row_stride(
                &mut target,
                2,
                3,
                2
            )
            .n_rows))
            .is_err()
        );
        let product = AssertUnwindSafe(|| {
            let mut target = [0.0; 6];
            multiply(
                1.0,
                Matrix::new(&values, 2, 3),
                Matrix::new(&values, 2, 3),
                0.0,
                &mut MatrixMut::new(&mut target, 2, 3),
            );
        });
        assert!(catch_unwind(product).is_err());
    }
}
