//! Weighted sums of the rows of a table over an example's tokens.

use std::ops::Range;
use std::sync::Arc;

use super::embedding::{initialize_table, token};
use super::{Accumulate, Layer, Mode, State, resize};
use crate::model::clipping::PerExample;
use crate::model::gradient_parts::GradientParts;
use crate::model::vector::{add_scaled, sum_of_squares};
use crate::rng::TrainingRng;
use crate::tokenizer::UNKNOWN_TOKEN;

/// `[length]` tokens become `[width]`: b + Σ xₜ wₜ over the distinct tokens t of the example. Parameters: `weight`
/// `[n_tokens, width]` and, where there is one, `bias` `[width]`.
///
/// The gradient by wₜ is xₜ ∂y, so an example's squared norm is ‖x‖² ‖∂y‖², and ‖∂y‖² more with a bias.
#[derive(Debug, Clone)]
pub(crate) struct TokenSum {
    pub(crate) n_tokens: usize,
    pub(crate) length: usize,
    pub(crate) width: usize,
    pub(crate) values: TokenValues,
}

/// What xₜ is.
#[derive(Debug, Clone)]
pub(crate) enum TokenValues {
    /// The share of t among the tokens that are not padding (token 0), so that the sum is a mean; 0 where all are padding. Without
    /// a bias; weights begin uniform in ±0.05.
    Shares,
    /// The number of times that t occurs, times its weight (all alike where there are none), with x scaled to length 1. Padding, start
    /// and unknown words do not count. With a bias; all parameters begin at 0.
    Unit(Option<Arc<[f32]>>),
}

impl TokenSum {
    fn has_bias(&self) -> bool {
        matches!(self.values, TokenValues::Unit(_))
    }

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
        let last_left_out = match self.values {
            TokenValues::Shares => 0,
            TokenValues::Unit(_) => UNKNOWN_TOKEN as usize,
        };
        places.clear();
        let tokens = example.iter().map(|&value| (token(value, self.n_tokens), 0));
        places.extend(tokens.filter(|(token, _)| *token > last_left_out));
        places.sort_unstable();
        let runs = || places.chunk_by(|left, right| left == right);
        match &self.values {
            TokenValues::Shares => {
                let n = places.len() as f32;
                for run in runs() {
                    visit(run[0].0, run.len() as f32 / n);
                }
            }
            TokenValues::Unit(weights) => {
                let value = |run: &[(usize, usize)]| {
                    let weight = weights.as_ref().map_or(1.0, |weights| weights[run[0].0]);
                    f64::from(weight) * run.len() as f64
                };
                let squares: f64 = runs().map(|run| value(run) * value(run)).sum();
                for run in runs() {
                    visit(run[0].0, (value(run) / squares.sqrt()) as f32);
                }
            }
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
        let (weight, bias) = target.split_at_mut(self.n_tokens * self.width);
        let examples = input
            .chunks_exact(self.length)
            .zip(gradient.chunks_exact(self.width));
        for (example, gradient) in examples {
            self.for_each_value(example, places, |token, value| {
                let row = &mut weight[token * self.width..][..self.width];
                add_scaled(row, factor * value, gradient);
            });
            if self.has_bias() {
                add_scaled(bias, factor, gradient);
            }
        }
    }
}

impl Layer for TokenSum {
    fn n_inputs(&self) -> usize {
        self.length
    }

    fn n_outputs(&self) -> usize {
        self.width
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        let mut parameters = vec![("weight", vec![self.n_tokens, self.width])];
        if self.has_bias() {
            parameters.push(("bias", vec![self.width]));
        }
        parameters
    }

    fn initialize(&self, parameters: &mut [f32], rng: &mut TrainingRng) {
        match self.values {
            TokenValues::Shares => initialize_table(parameters, rng),
            TokenValues::Unit(_) => parameters.fill(0.0),
        }
    }

    fn forward(&self, parameters: &[f32], input: &[f32], state: &mut State, _mode: Mode) {
        let n = input.len() / self.length;
        let (weight, bias) = parameters.split_at(self.n_tokens * self.width);
        let output = resize(&mut state.output, n * self.width);
        let examples = input
            .chunks_exact(self.length)
            .zip(output.chunks_exact_mut(self.width));
        for (example, output) in examples {
            if self.has_bias() {
                output.copy_from_slice(bias);
            } else {
                output.fill(0.0);
            }
            self.for_each_value(example, &mut state.places, |token, value| {
                add_scaled(output, value, &weight[token * self.width..][..self.width]);
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

    fn push_gradient(
        &self,
        input: &[f32],
        state: &mut State,
        range: Range<usize>,
        parts: &mut GradientParts,
    ) {
        let State { gradient, places, .. } = state;
        self.for_each_value(input, places, |token, value| {
            let row = parts.push_zeros(range.start + token * self.width, self.width);
            add_scaled(row, value, gradient);
        });
        if self.has_bias() {
            parts.push_values(range.start + self.n_tokens * self.width, gradient);
        }
    }

    fn add_squared_norms(&self, input: &[f32], state: &mut State, squared_norms: &mut [f64]) {
        let examples = input
            .chunks_exact(self.length)
            .zip(state.gradient.chunks_exact(self.width));
        for ((example, gradient), squared_norm) in examples.zip(squared_norms) {
            let mut squares = if self.has_bias() { 1.0 } else { 0.0 };
            self.for_each_value(example, &mut state.places, |_, value| {
                squares += f64::from(value) * f64::from(value);
            });
            // A gradient that is not finite shows even where no token has it.
            *squared_norm += squares * sum_of_squares(gradient);
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
            let gradient = &state.gradient[run.start * self.width..run.end * self.width];
            self.add(tokens, gradient, 1.0, &mut state.places, target);
        }
    }
}
