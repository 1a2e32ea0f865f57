//! Products of matrices that lie row-major in slices.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};

/// `values` as a matrix.
pub(super) fn matrix(values: &[f32], n_rows: usize, n_columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((n_rows, n_columns), values).expect("the buffer has as many values as its shape")
}

/// `values` as a matrix to write to.
pub(super) fn matrix_mut(values: &mut [f32], n_rows: usize, n_columns: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((n_rows, n_columns), values)
        .expect("the buffer has as many values as its shape")
}

/// `c` = `factor` `a` `b` + `keep` `c`. With `keep` 0 what `c` held does not matter.
pub(super) fn multiply(
    factor: f32,
    a: &ArrayView2<'_, f32>,
    b: &ArrayView2<'_, f32>,
    keep: f32,
    c: &mut ArrayViewMut2<'_, f32>,
) {
    general_mat_mul(factor, a, b, keep, c);
}
