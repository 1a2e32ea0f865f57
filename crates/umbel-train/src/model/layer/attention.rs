//! Self-attention between the places of a sequence.

use super::{Layer, Mode, State, resize};
use crate::model::matrix::{Matrix, MatrixMut, matrix, matrix_mut, multiply};
use crate::model::vector::{self, lane_max, lane_sum, vectorised};
use crate::rng::TrainingRng;

/// Scaled dot-product attention of several heads (Vaswani et al. 2017, section 3.2), each place to all places of its example, without a
/// mask: `[length, 3 width]`, queries, keys and values side by side, becomes `[length, width]`. Head h has the columns from h × width
/// / heads of each. It has no parameters; dense layers stand before and behind it.
///
/// With S = Q Kᵀ / √(width / heads) and P its softmax by rows, O = P V; and backwards ∂V = Pᵀ ∂O, ∂P = ∂O Vᵀ, ∂S = P (∂P − rowsum(P ∂P)),
/// ∂Q = ∂S K, ∂K = ∂Sᵀ Q, these two divided by √(width / heads).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) length: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
}

impl Attention {
    fn head_width(&self) -> usize {
        self.width / self.heads
    }

    #[allow(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
    fn scale(&self) -> f32 {
        1.0 / (self.head_width() as f32).sqrt()
    }

    /// P of one head.
    fn n_pairs(&self) -> usize {
        self.length * self.length
    }

    /// Queries (0), keys (1) or values (2) of a head, from those of an example.
    fn part<'a>(&self, values: &'a [f32], which: usize, head: usize) -> Matrix<'a> {
        let begin = which * self.width + head * self.head_width();
        Matrix::with_row_stride(&values[begin..], self.length, self.head_width(), 3 * self.width)
    }

    fn part_mut<'a>(&self, values: &'a mut [f32], which: usize, head: usize) -> MatrixMut<'a> {
        let begin = which * self.width + head * self.head_width();
        MatrixMut::with_row_stride(
            &mut values[begin..],
            self.length,
            self.head_width(),
            3 * self.width,
        )
    }
}

impl Layer for Attention {
    fn n_inputs(&self) -> usize {
        3 * self.length * self.width
    }

    fn n_outputs(&self) -> usize {
        self.length * self.width
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        Vec::new()
    }

    fn initialize(&self, _parameters: &mut [f32], _rng: &mut TrainingRng) {}

    fn n_scratch(&self) -> usize {
        (self.heads + 1) * self.n_pairs()
    }

    /// So that what all layers keep of the examples stays in the caches.
    fn most_at_once(&self) -> usize {
        4
    }

    fn forward(&self, _parameters: &[f32], input: &[f32], state: &mut State, _mode: Mode) {
        let n = input.len() / self.n_inputs();
        let shares = resize(&mut state.cache, n * self.heads * self.n_pairs());
        let output = resize(&mut state.output, n * self.n_outputs());
        let examples = input
            .chunks_exact(self.n_inputs())
            .zip(output.chunks_exact_mut(self.n_outputs()));
        for ((input, output), shares) in examples.zip(shares.chunks_exact_mut(self.heads * self.n_pairs())) {
            for (head, shares) in shares.chunks_exact_mut(self.n_pairs()).enumerate() {
                let (queries, keys) = (self.part(input, 0, head), self.part(input, 1, head));
                let mut scores = matrix_mut(shares, self.length, self.length);
                multiply(self.scale(), queries, keys.t(), 0.0, &mut scores);
                softmax_rows(shares, self.length);
                let begin = head * self.head_width();
                let mut output = MatrixMut::with_row_stride(
                    &mut output[begin..],
                    self.length,
                    self.head_width(),
                    self.width,
                );
                let shares = matrix(shares, self.length, self.length);
                multiply(1.0, shares, self.part(input, 2, head), 0.0, &mut output);
            }
        }
    }

    fn backward(
        &self,
        _parameters: &[f32],
        input: &[f32],
        state: &mut State,
        input_gradient: Option<&mut [f32]>,
    ) {
        let Some(input_gradient) = input_gradient else {
            return;
        };
        let by_pairs = resize(&mut state.singles, self.n_pairs());
        let examples = input
            .chunks_exact(self.n_inputs())
            .zip(input_gradient.chunks_exact_mut(self.n_inputs()))
            .zip(state.gradient.chunks_exact(self.n_outputs()))
            .zip(state.cache.chunks_exact(self.heads * self.n_pairs()));
        for (((input, target), gradient), shares) in examples {
            for (head, shares) in shares.chunks_exact(self.n_pairs()).enumerate() {
                let begin = head * self.head_width();
                let by_output =
                    Matrix::with_row_stride(&gradient[begin..], self.length, self.head_width(), self.width);
                let as_matrix = matrix(shares, self.length, self.length);
                multiply(
                    1.0,
                    as_matrix.t(),
                    by_output,
                    0.0,
                    &mut self.part_mut(target, 2, head),
                );
                let values = self.part(input, 2, head);
                let mut by_shares = matrix_mut(by_pairs, self.length, self.length);
                multiply(1.0, by_output, values.t(), 0.0, &mut by_shares);
                softmax_rows_back(shares, by_pairs, self.length);
                let (queries, keys) = (self.part(input, 0, head), self.part(input, 1, head));
                let by_scores = matrix(by_pairs, self.length, self.length);
                multiply(
                    self.scale(),
                    by_scores,
                    keys,
                    0.0,
                    &mut self.part_mut(target, 0, head),
                );
                multiply(
                    self.scale(),
                    by_scores.t(),
                    queries,
                    0.0,
                    &mut self.part_mut(target, 1, head),
                );
            }
        }
    }
}

/// Replaces each row by its softmax.
fn softmax_rows(values: &mut [f32], width: usize) {
    vectorised(
        #[inline(always)]
        || {
            for row in values.chunks_exact_mut(width) {
                let largest = lane_max(row);
                for value in row.iter_mut() {
                    *value = vector::exp(*value - largest);
                }
                let factor = 1.0 / lane_sum([row], |[value]| value);
                for value in row.iter_mut() {
                    *value *= factor;
                }
            }
        },
    );
}

/// Replaces the gradient by each row of a softmax by the gradient by what went into it.
fn softmax_rows_back(shares: &[f32], gradient: &mut [f32], width: usize) {
    vectorised(
        #[inline(always)]
        || {
            for (shares, row) in shares.chunks_exact(width).zip(gradient.chunks_exact_mut(width)) {
                let mean = lane_sum([row, shares], |[slope, share]| share * slope);
                for (slope, share) in row.iter_mut().zip(shares) {
                    *slope = share * (*slope - mean);
                }
            }
        },
    );
}
