//! Tables with a row for each token.

use std::ops::Range;

use rand::RngExt;

use super::{Accumulate, Layer, Mode, State, resize};
use crate::model::clipping::PerExample;
use crate::model::gradient_parts::GradientParts;
use crate::model::vector::{add_scaled, sum_of_squares};
use crate::rng::TrainingRng;

/// Looks up a row for each of `length` tokens: `[length]` becomes `[length, width]`. Parameters: `weight`
/// `[n_tokens, width]`, which begin uniform in ±0.05, as in Keras.
///
/// Only rows of tokens that occur have a gradient, and only those are touched. A token that occurs several times in an
/// example has one row of gradient, the sum over its places: the norm is that of the sum. Padding (token 0) is a
/// token like the others, as in Keras without a mask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Embedding {
    pub(crate) n_tokens: usize,
    pub(crate) length: usize,
    pub(crate) width: usize,
}

/// The token that a value stands for.
///
/// # Panics
///
/// Where it is none of the table's: the data were not made for this model.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tokens are whole numbers below 2^24, held as f32"
)]
pub(super) fn token(value: f32, n_tokens: usize) -> usize {
    let token = value as usize;
    assert!(token < n_tokens, "token {value} of a table of {n_tokens}");
    token
}

pub(super) fn initialize_table(parameters: &mut [f32], rng: &mut TrainingRng) {
    parameters.fill_with(|| rng.random_range(-0.05..0.05));
}

impl Layer for Embedding {
    fn n_inputs(&self) -> usize {
        self.length
    }

    fn n_outputs(&self) -> usize {
        self.length * self.width
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        vec![("weight", vec![self.n_tokens, self.width])]
    }

    fn initialize(&self, parameters: &mut [f32], rng: &mut TrainingRng) {
        initialize_table(parameters, rng);
    }

    fn forward(&self, parameters: &[f32], input: &[f32], state: &mut State, _mode: Mode) {
        let output = resize(&mut state.output, input.len() * self.width);
        for (row, &value) in output.chunks_exact_mut(self.width).zip(input) {
            let begin = token(value, self.n_tokens) * self.width;
            row.copy_from_slice(&parameters[begin..begin + self.width]);
        }
    }

    fn backward(&self, _: &[f32], _: &[f32], _: &mut State, input_gradient: Option<&mut [f32]>) {
        assert!(input_gradient.is_none(), "tokens have no gradient");
    }

    fn add_gradient(&self, input: &[f32], state: &mut State, accumulate: Accumulate, target: &mut [f32]) {
        accumulate.prepare(target);
        self.add_rows(input, &state.gradient, accumulate.factor, target);
    }

    fn push_gradient(
        &self,
        input: &[f32],
        state: &mut State,
        range: Range<usize>,
        parts: &mut GradientParts,
    ) {
        let State { gradient, places, .. } = state;
        places.clear();
        let keys = input.iter().enumerate();
        places.extend(keys.map(|(place, &value)| (token(value, self.n_tokens), place)));
        places.sort_unstable();
        for run in places.chunk_by(|left, right| left.0 == right.0) {
            let sum = parts.push_zeros(range.start + run[0].0 * self.width, self.width);
            for (_, place) in run {
                add_scaled(sum, 1.0, &gradient[place * self.width..][..self.width]);
            }
        }
    }

    fn add_squared_norms(&self, input: &[f32], state: &mut State, squared_norms: &mut [f64]) {
        let places = &mut state.places;
        let sum = resize(&mut state.cache, self.width);
        let examples = input
            .chunks_exact(self.length)
            .zip(state.gradient.chunks_exact(self.n_outputs()));
        for ((tokens, gradient), squared_norm) in examples.zip(squared_norms) {
            // Equal tokens next to each other.
            places.clear();
            let keys = tokens.iter().enumerate();
            places.extend(keys.map(|(place, &value)| (token(value, self.n_tokens), place)));
            places.sort_unstable();
            for run in places.chunk_by(|left, right| left.0 == right.0) {
                if let [(_, place)] = run {
                    *squared_norm += sum_of_squares(&gradient[place * self.width..][..self.width]);
                    continue;
                }
                sum.fill(0.0);
                for (_, place) in run {
                    add_scaled(sum, 1.0, &gradient[place * self.width..][..self.width]);
                }
                *squared_norm += sum_of_squares(sum);
            }
        }
    }

    fn add_clipped_gradient(
        &self,
        input: &[f32],
        state: &mut State,
        examples: &PerExample,
        target: &mut [f32],
    ) {
        examples.scale_rows(&mut state.gradient);
        for run in examples.finite_runs() {
            let tokens = &input[run.start * self.length..run.end * self.length];
            let gradient = &state.gradient[run.start * self.n_outputs()..run.end * self.n_outputs()];
            self.add_rows(tokens, gradient, 1.0, target);
        }
    }
}

impl Embedding {
    fn add_rows(&self, tokens: &[f32], gradient: &[f32], factor: f32, target: &mut [f32]) {
        for (row, &value) in gradient.chunks_exact(self.width).zip(tokens) {
            let begin = token(value, self.n_tokens) * self.width;
            for (sum, slope) in target[begin..begin + self.width].iter_mut().zip(row) {
                *sum += factor * slope;
            }
        }
    }
}
