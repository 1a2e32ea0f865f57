//! Weighted sums of the words that an example has.

use std::sync::Arc;

use super::embedding::token;
use super::{Accumulate, Layer, Mode, State, resize};
use crate::model::clipping::PerExample;
use crate::model::vector::{add_scaled, sum_of_squares};
use crate::rng::TrainingRng;
use crate::tokenizer::UNKNOWN_TOKEN;

/// `[length]` tokens become `[n_outputs]`: b + Σ xₜ wₜ over the distinct tokens t of the example, where xₜ is the number of times
/// that t occurs, times its weight, and x is scaled to length 1. Padding, start and unknown words do not count; without any word
/// the output is b. Parameters: `weight` `[n_tokens, n_outputs]` and `bias` `[n_outputs]`, which begin at 0.
///
/// The gradient by wₜ is xₜ ∂y, so an example's squared norm is (‖x‖² + 1) ‖∂y‖².
#[derive(Debug, Clone)]
pub(crate) struct BagOfWords {
    pub(crate) n_tokens: usize,
    pub(crate) length: usize,
    pub(crate) n_outputs: usize,
    /// Of each token; all alike where there are none.
    pub(crate) weights: Option<Arc<[f32]>>,
}

impl BagOfWords {
    /// Visits an example's distinct tokens in order, with xₜ.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "texts are far shorter than 2^24; values are at most 1"
    )]
    fn for_each_value(
        &self,
        example: &[f32],
        places: &mut Vec<(usize, usize)>,
        mut visit: impl FnMut(usize, f32),
    ) {
        places.clear();
        let tokens = example.iter().map(|&value| (token(value, self.n_tokens), 0));
        places.extend(tokens.filter(|(token, _)| *token > UNKNOWN_TOKEN as usize));
        places.sort_unstable();
        let value = |run: &[(usize, usize)]| {
            let weight = self.weights.as_ref().map_or(1.0, |weights| weights[run[0].0]);
            f64::from(weight) * run.len() as f64
        };
        let runs = || places.chunk_by(|left, right| left == right);
        let squares: f64 = runs().map(|run| value(run) * value(run)).sum();
        for run in runs() {
            visit(run[0].0, (value(run) / squares.sqrt()) as f32);
        }
    }

    fn add(
        &self,
        input: &[f32],
        gradient: &[f32],
        factor: f32,
        places: &mut Vec<(usize, usize)>,
        target: &mut [f32],
    ) {
        let (weight, bias) = target.split_at_mut(self.n_tokens * self.n_outputs);
        let examples = input
            .chunks_exact(self.length)
            .zip(gradient.chunks_exact(self.n_outputs));
        for (example, gradient) in examples {
            self.for_each_value(example, places, |token, value| {
                let row = &mut weight[token * self.n_outputs..][..self.n_outputs];
                add_scaled(row, factor * value, gradient);
            });
            add_scaled(bias, factor, gradient);
        }
    }
}

impl Layer for BagOfWords {
    fn n_inputs(&self) -> usize {
        self.length
    }

    fn n_outputs(&self) -> usize {
        self.n_outputs
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        vec![
            ("weight", vec![self.n_tokens, self.n_outputs]),
            ("bias", vec![self.n_outputs]),
        ]
    }

    fn initialize(&self, parameters: &mut [f32], _rng: &mut TrainingRng) {
        parameters.fill(0.0);
    }

    fn forward(&self, parameters: &[f32], input: &[f32], state: &mut State, _mode: Mode) {
        let n = input.len() / self.length;
        let (weight, bias) = parameters.split_at(self.n_tokens * self.n_outputs);
        let output = resize(&mut state.output, n * self.n_outputs);
        let examples = input
            .chunks_exact(self.length)
            .zip(output.chunks_exact_mut(self.n_outputs));
        for (example, output) in examples {
            output.copy_from_slice(bias);
            self.for_each_value(example, &mut state.places, |token, value| {
                add_scaled(output, value, &weight[token * self.n_outputs..][..self.n_outputs]);
            });
        }
    }

    fn backward(&self, _: &[f32], _: &[f32], _: &mut State, input_gradient: Option<&mut [f32]>) {
        assert!(input_gradient.is_none(), "tokens have no gradient");
    }

    fn add_gradient(&self, input: &[f32], state: &mut State, accumulate: Accumulate, target: &mut [f32]) {
        accumulate.prepare(target);
        self.add(
            input,
            &state.gradient,
            accumulate.factor,
            &mut state.places,
            target,
        );
    }

    fn add_squared_norms(&self, input: &[f32], state: &mut State, squared_norms: &mut [f64]) {
        let examples = input
            .chunks_exact(self.length)
            .zip(state.gradient.chunks_exact(self.n_outputs));
        for ((example, gradient), squared_norm) in examples.zip(squared_norms) {
            let mut length = 1.0;
            self.for_each_value(example, &mut state.places, |_, value| {
                length += f64::from(value) * f64::from(value);
            });
            *squared_norm += length * sum_of_squares(gradient);
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
            let gradient = &state.gradient[run.start * self.n_outputs..run.end * self.n_outputs];
            self.add(tokens, gradient, 1.0, &mut state.places, target);
        }
    }
}
