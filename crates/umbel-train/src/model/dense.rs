//! The arithmetic of a dense layer, on views of flat buffers.
//!
//! A layer computes Z = A W + 1 bᵀ with W of shape `[n_inputs, n_outputs]`. That layout needs no transposed copy: in
//! the forward product W is read along its rows, and its gradient Aᵀ D is written along them.

use super::clipping::sum_of_squares;
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};

/// Sizes of a dense layer and where its parameters begin in the flat vector: the weights, then the biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dense {
    pub(super) n_inputs: usize,
    pub(super) n_outputs: usize,
    pub(super) offset: usize,
}

/// What becomes of a buffer to which a gradient is added: `keep` × its content + `factor` × the gradient.
///
/// `keep` 0 and `factor` 1 write the gradient itself; other values take a step of descent in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accumulate {
    pub(super) keep: f32,
    pub(super) factor: f32,
}

impl Accumulate {
    /// Replaces the content.
    pub(super) const REPLACE: Self = Self {
        keep: 0.0,
        factor: 1.0,
    };

    /// Adds to the content.
    pub(super) const ADD: Self = Self {
        keep: 1.0,
        factor: 1.0,
    };
}

impl Dense {
    /// Where the parameters end.
    pub(super) fn end(&self) -> usize {
        self.offset + self.n_inputs * self.n_outputs + self.n_outputs
    }

    fn weights_and_biases<'a>(&self, parameters: &'a [f32]) -> (ArrayView2<'a, f32>, &'a [f32]) {
        let (weights, biases) = parameters[self.offset..self.end()].split_at(self.n_inputs * self.n_outputs);
        (matrix(weights, self.n_inputs, self.n_outputs), biases)
    }

    /// `output` `[n, n_outputs]` = `input` `[n, n_inputs]` W + biases.
    pub(super) fn forward(&self, parameters: &[f32], input: &[f32], output: &mut [f32]) {
        let (weights, biases) = self.weights_and_biases(parameters);
        for row in output.chunks_exact_mut(self.n_outputs) {
            row.copy_from_slice(biases);
        }
        let n = output.len() / self.n_outputs;
        let input = matrix(input, n, self.n_inputs);
        general_mat_mul(
            1.0,
            &input,
            &weights,
            1.0,
            &mut matrix_mut(output, n, self.n_outputs),
        );
    }

    /// `input_gradient` `[n, n_inputs]` = `output_gradient` `[n, n_outputs]` Wᵀ.
    pub(super) fn backward_to_input(
        &self,
        parameters: &[f32],
        output_gradient: &[f32],
        input_gradient: &mut [f32],
    ) {
        let (weights, _) = self.weights_and_biases(parameters);
        let n = output_gradient.len() / self.n_outputs;
        let output_gradient = matrix(output_gradient, n, self.n_outputs);
        let mut input_gradient = matrix_mut(input_gradient, n, self.n_inputs);
        general_mat_mul(1.0, &output_gradient, &weights.t(), 0.0, &mut input_gradient);
    }

    /// Adds to each example's `squared_norms` that of its gradient by this layer's parameters. The gradient by the weights
    /// is the outer product of input and output gradient, the one by the biases is the output gradient itself, so
    /// together they have the square (‖input‖² + 1) ‖output gradient‖².
    pub(super) fn add_squared_norms(
        &self,
        input: &[f32],
        output_gradient: &[f32],
        squared_norms: &mut [f64],
    ) {
        let rows = input
            .chunks_exact(self.n_inputs)
            .zip(output_gradient.chunks_exact(self.n_outputs));
        for ((input, output_gradient), squared_norm) in rows.zip(squared_norms) {
            *squared_norm += (sum_of_squares(input) + 1.0) * sum_of_squares(output_gradient);
        }
    }

    /// Adds the gradient by this layer's parameters to its part of `target`, a flat vector of all parameters.
    pub(super) fn backward_to_parameters(
        &self,
        input: &[f32],
        output_gradient: &[f32],
        accumulate: Accumulate,
        target: &mut [f32],
    ) {
        let Accumulate { keep, factor } = accumulate;
        let (weights, biases) = target[self.offset..self.end()].split_at_mut(self.n_inputs * self.n_outputs);
        let n = output_gradient.len() / self.n_outputs;
        let input = matrix(input, n, self.n_inputs);
        let mut weights = matrix_mut(weights, self.n_inputs, self.n_outputs);
        general_mat_mul(
            factor,
            &input.t(),
            &matrix(output_gradient, n, self.n_outputs),
            keep,
            &mut weights,
        );
        // A buffer that is replaced may hold anything, a NaN too, so it is not multiplied by zero.
        if keep == 0.0 {
            biases.fill(0.0);
        } else {
            for bias in biases.iter_mut() {
                *bias *= keep;
            }
        }
        for row in output_gradient.chunks_exact(self.n_outputs) {
            for (bias, slope) in biases.iter_mut().zip(row) {
                *bias += factor * slope;
            }
        }
    }
}

fn matrix(values: &[f32], n_rows: usize, n_columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((n_rows, n_columns), values).expect("the buffer has as many values as its shape")
}

fn matrix_mut(values: &mut [f32], n_rows: usize, n_columns: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((n_rows, n_columns), values)
        .expect("the buffer has as many values as its shape")
}
