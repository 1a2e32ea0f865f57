//! The mean of the rows of a table over an example's tokens.

use super::embedding::{initialize_table, token};
use super::{Accumulate, Layer, Mode, State, resize};
use crate::model::clipping::PerExample;
use crate::model::vector::{add_scaled, sum_of_squares};
use crate::rng::TrainingRng;

/// `[length]` tokens become `[width]`, the mean over the tokens that are not padding (token 0); 0 where all are.
/// Parameters: `weight` `[n_tokens, width]`, which begin uniform in ±0.05.
///
/// The gradient by the row of a token is its share of the places, c / n, times that by the output, so an example's
/// squared norm is Σ (c / n)² ‖∂y‖² over its distinct tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EmbeddingMean {
    pub(crate) n_tokens: usize,
    pub(crate) length: usize,
    pub(crate) width: usize,
}

impl EmbeddingMean {
    /// Each example's distinct tokens in order, with their shares.
    #[allow(clippy::cast_precision_loss, reason = "texts are far shorter than 2^24")]
    fn for_each_share(
        &self,
        example: &[f32],
        places: &mut Vec<(usize, usize)>,
        mut visit: impl FnMut(usize, f32),
    ) {
        places.clear();
        let tokens = example.iter().map(|&value| (token(value, self.n_tokens), 0));
        places.extend(tokens.filter(|(token, _)| *token > 0));
        places.sort_unstable();
        let n = places.len() as f32;
        for run in places.chunk_by(|left, right| left == right) {
            visit(run[0].0, run.len() as f32 / n);
        }
    }

    fn add_rows(
        &self,
        input: &[f32],
        gradient: &[f32],
        factor: f32,
        places: &mut Vec<(usize, usize)>,
        target: &mut [f32],
    ) {
        let examples = input
            .chunks_exact(self.length)
            .zip(gradient.chunks_exact(self.width));
        for (example, gradient) in examples {
            self.for_each_share(example, places, |token, share| {
                let row = &mut target[token * self.width..][..self.width];
                add_scaled(row, factor * share, gradient);
            });
        }
    }
}

impl Layer for EmbeddingMean {
    fn n_inputs(&self) -> usize {
        self.length
    }

    fn n_outputs(&self) -> usize {
        self.width
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        vec![("weight", vec![self.n_tokens, self.width])]
    }

    fn initialize(&self, parameters: &mut [f32], rng: &mut TrainingRng) {
        initialize_table(parameters, rng);
    }

    fn forward(&self, parameters: &[f32], input: &[f32], state: &mut State, _mode: Mode) {
        let n = input.len() / self.length;
        let output = resize(&mut state.output, n * self.width);
        output.fill(0.0);
        let examples = input
            .chunks_exact(self.length)
            .zip(output.chunks_exact_mut(self.width));
        for (example, mean) in examples {
            self.for_each_share(example, &mut state.places, |token, share| {
                add_scaled(mean, share, &parameters[token * self.width..][..self.width]);
            });
        }
    }

    fn backward(&self, _: &[f32], _: &[f32], _: &mut State, input_gradient: Option<&mut [f32]>) {
        assert!(input_gradient.is_none(), "tokens have no gradient");
    }

    fn add_gradient(&self, input: &[f32], state: &mut State, accumulate: Accumulate, target: &mut [f32]) {
        accumulate.prepare(target);
        self.add_rows(
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
            .zip(state.gradient.chunks_exact(self.width));
        for ((example, gradient), squared_norm) in examples.zip(squared_norms) {
            let mut shares = 0.0;
            self.for_each_share(example, &mut state.places, |_, share| {
                shares += f64::from(share) * f64::from(share);
            });
            // A gradient that is not finite shows even where no token has it.
            *squared_norm += shares * sum_of_squares(gradient);
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
            self.add_rows(tokens, gradient, 1.0, &mut state.places, target);
        }
    }
}
