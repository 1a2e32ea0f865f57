//! The same dense layer at each place of a sequence.

use super::{Accumulate, Dense, Layer, Mode, State, resize};
use crate::model::clipping::PerExample;
use crate::model::vector::{product, sum_of_squares};
use crate::rng::TrainingRng;

/// A [`Dense`] layer applied to each of `length` rows of an example, `[length, n_inputs]` to `[length, n_outputs]`.
///
/// An example's gradient by the weights is the sum over its rows of xᵀ ∂y, one product of `n_inputs` × `length` × `n_outputs`. There are
/// two ways to its norm. Written down (*direct*), that product gives it, and the clipped sum is then the scaled sum of what is
/// there. Without (*Gram*), it is the sum over all pairs of rows s and t of (x_s · x_t + 1) (∂y_s · ∂y_t), the 1 for the
/// bias, which takes `length`² (`n_inputs` + `n_outputs`) multiplications and wins where sequences are short.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SequenceDense {
    pub(crate) length: usize,
    pub(crate) dense: Dense,
}

impl SequenceDense {
    fn n_parameters(&self) -> usize {
        (self.dense.n_inputs + 1) * self.dense.n_outputs
    }

    /// Whether the norm is found from pairs of rows. They are half as many as counted, but their products are in double precision.
    fn is_short(&self) -> bool {
        let (inputs, outputs) = (self.dense.n_inputs, self.dense.n_outputs);
        self.length * (inputs + outputs) < inputs * outputs / 2
    }

    fn rows_of_examples<'a>(
        &self,
        input: &'a [f32],
        gradient: &'a [f32],
    ) -> impl Iterator<Item = (&'a [f32], &'a [f32])> + use<'a> {
        let gradients = gradient.chunks_exact(self.n_outputs());
        input.chunks_exact(self.n_inputs()).zip(gradients)
    }

    /// The squared norm from pairs of rows, in double precision: where the rows' gradients all but cancel, rounding in single would
    /// give a norm that is too small, and clipping by it too long a gradient. Still it may be off by 2^-50 of the sum of absolute
    /// values, so that much is added.
    fn squared_norm_of_pairs(&self, input: &[f32], gradient: &[f32]) -> f64 {
        let inputs = || input.chunks_exact(self.dense.n_inputs);
        let gradients = || gradient.chunks_exact(self.dense.n_outputs);
        let (mut sum, mut size) = (0.0, 0.0_f64);
        for (place, (x, slope)) in inputs().zip(gradients()).enumerate() {
            for (other, (other_x, other_slope)) in inputs().zip(gradients()).take(place + 1).enumerate() {
                let weight = if other == place { 1.0 } else { 2.0 };
                sum += weight * (product(x, other_x) + 1.0) * product(slope, other_slope);
            }
            size += ((sum_of_squares(x) + 1.0) * sum_of_squares(slope)).sqrt();
        }
        sum.max(0.0) + size * size * f64::exp2(-50.0)
    }
}

impl Layer for SequenceDense {
    fn n_inputs(&self) -> usize {
        self.length * self.dense.n_inputs
    }

    fn n_outputs(&self) -> usize {
        self.length * self.dense.n_outputs
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        self.dense.parameters()
    }

    fn initialize(&self, parameters: &mut [f32], rng: &mut TrainingRng) {
        self.dense.initialize(parameters, rng);
    }

    fn n_scratch(&self) -> usize {
        if self.is_short() { 0 } else { self.n_parameters() }
    }

    fn forward(&self, parameters: &[f32], input: &[f32], state: &mut State, mode: Mode) {
        self.dense.forward(parameters, input, state, mode);
    }

    fn backward(
        &self,
        parameters: &[f32],
        input: &[f32],
        state: &mut State,
        input_gradient: Option<&mut [f32]>,
    ) {
        self.dense.backward(parameters, input, state, input_gradient);
    }

    fn add_gradient(&self, input: &[f32], state: &mut State, accumulate: Accumulate, target: &mut [f32]) {
        self.dense.add_gradient(input, state, accumulate, target);
    }

    fn add_squared_norms(&self, input: &[f32], state: &mut State, squared_norms: &mut [f64]) {
        if self.is_short() {
            for ((input, gradient), squared_norm) in
                self.rows_of_examples(input, &state.gradient).zip(squared_norms)
            {
                *squared_norm += self.squared_norm_of_pairs(input, gradient);
            }
            return;
        }
        let singles = resize(&mut state.singles, squared_norms.len() * self.n_parameters());
        for (((input, gradient), single), squared_norm) in self
            .rows_of_examples(input, &state.gradient)
            .zip(singles.chunks_exact_mut(self.n_parameters()))
            .zip(squared_norms)
        {
            self.dense.add_sum(input, gradient, Accumulate::REPLACE, single);
            *squared_norm += sum_of_squares(single);
        }
    }

    fn add_clipped_gradient(
        &self,
        input: &[f32],
        state: &mut State,
        examples: &PerExample,
        target: &mut [f32],
    ) {
        if !self.is_short() {
            return examples.add_scaled_rows(&state.singles, target);
        }
        examples.scale_rows(&mut state.gradient);
        for run in examples.finite_runs() {
            let input = &input[run.start * self.n_inputs()..run.end * self.n_inputs()];
            let gradient = &state.gradient[run.start * self.n_outputs()..run.end * self.n_outputs()];
            self.dense.add_sum(input, gradient, Accumulate::ADD, target);
        }
    }
}
