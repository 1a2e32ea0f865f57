//! What tells the places of a sequence apart.

use super::embedding::initialize_table;
use super::{Accumulate, Layer, Mode, State, resize};
use crate::model::clipping::PerExample;
use crate::model::vector::{add_rows, sum_of_squares};
use crate::rng::TrainingRng;

/// Adds to each of `length` rows a learnt row of its place. Parameters: `weight` `[length, width]`, which begin uniform in ±0.05.
///
/// An example's gradient is the gradient by its output itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Positions {
    pub(crate) length: usize,
    pub(crate) width: usize,
}

impl Layer for Positions {
    fn n_inputs(&self) -> usize {
        self.length * self.width
    }

    fn n_outputs(&self) -> usize {
        self.length * self.width
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        vec![("weight", vec![self.length, self.width])]
    }

    fn initialize(&self, parameters: &mut [f32], rng: &mut TrainingRng) {
        initialize_table(parameters, rng);
    }

    fn forward(&self, parameters: &[f32], input: &[f32], state: &mut State, _mode: Mode) {
        let output = resize(&mut state.output, input.len());
        let examples = input
            .chunks_exact(self.n_inputs())
            .zip(output.chunks_exact_mut(self.n_inputs()));
        for (input, output) in examples {
            for ((sum, value), place) in output.iter_mut().zip(input).zip(parameters) {
                *sum = value + place;
            }
        }
    }

    fn backward(&self, _: &[f32], _: &[f32], state: &mut State, input_gradient: Option<&mut [f32]>) {
        if let Some(input_gradient) = input_gradient {
            input_gradient.copy_from_slice(&state.gradient);
        }
    }

    fn add_gradient(&self, _input: &[f32], state: &mut State, accumulate: Accumulate, target: &mut [f32]) {
        accumulate.prepare(target);
        add_rows(target, accumulate.factor, &state.gradient);
    }

    fn add_squared_norms(&self, _input: &[f32], state: &mut State, squared_norms: &mut [f64]) {
        let examples = state.gradient.chunks_exact(self.n_outputs());
        for (gradient, squared_norm) in examples.zip(squared_norms) {
            *squared_norm += sum_of_squares(gradient);
        }
    }

    fn add_clipped_gradient(
        &self,
        _input: &[f32],
        state: &mut State,
        examples: &PerExample,
        target: &mut [f32],
    ) {
        examples.add_scaled_rows(&state.gradient, target);
    }
}
