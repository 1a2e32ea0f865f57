//! Products of matrices that lie row-major in slices.

pub(super) use umbel_gemm::{Matrix, MatrixMut, multiply};

/// `values` as a matrix.
pub(super) fn matrix(values: &[f32], n_rows: usize, n_columns: usize) -> Matrix<'_> {
    Matrix::new(values, n_rows, n_columns)
}

/// `values` as a matrix to write to.
pub(super) fn matrix_mut(values: &mut [f32], n_rows: usize, n_columns: usize) -> MatrixMut<'_> {
    MatrixMut::new(values, n_rows, n_columns)
}
