//! Layer normalisation.

use super::{Accumulate, Layer, Mode, State, resize};
use crate::model::clipping::PerExample;
use crate::model::vector::{lane_sum, sum_of_squares, vectorised};
use crate::rng::TrainingRng;

/// Each of `length` rows of `width` values is shifted and scaled to mean 0 and variance 1, then multiplied by γ and shifted by β (Ba et
/// al. 2016): y = γ (x − mean) / √(variance + 1e-5) + β. Parameters: `weight` γ `[width]`, which begins at 1, `bias` β `[width]`, at 0.
///
/// An example's gradient is written down, as it is no larger than a row: ∂γ = Σ ∂y x̂ and ∂β = Σ ∂y over the rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerNorm {
    pub(crate) length: usize,
    pub(crate) width: usize,
}

/// Added to the variance.
const EPSILON: f32 = 1e-5;

impl LayerNorm {
    /// Splits what is kept of `n_rows`: x̂, and 1 / √(variance + ε) of each.
    fn kept<'a>(&self, n_rows: usize, cache: &'a mut Vec<f32>) -> (&'a mut [f32], &'a mut [f32]) {
        resize(cache, n_rows * (self.width + 1)).split_at_mut(n_rows * self.width)
    }

    /// Adds the gradient of the rows in `normal` and `gradient`.
    fn add_sum(&self, normal: &[f32], gradient: &[f32], factor: f32, target: &mut [f32]) {
        let (weights, biases) = target.split_at_mut(self.width);
        vectorised(
            #[inline(always)]
            || {
                let biases = &mut biases[..weights.len()];
                for (normal, gradient) in normal
                    .chunks_exact(weights.len())
                    .zip(gradient.chunks_exact(weights.len()))
                {
                    for index in 0..weights.len() {
                        weights[index] += factor * gradient[index] * normal[index];
                        biases[index] += factor * gradient[index];
                    }
                }
            },
        );
    }
}

impl Layer for LayerNorm {
    fn n_inputs(&self) -> usize {
        self.length * self.width
    }

    fn n_outputs(&self) -> usize {
        self.length * self.width
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        vec![("weight", vec![self.width]), ("bias", vec![self.width])]
    }

    fn initialize(&self, parameters: &mut [f32], _rng: &mut TrainingRng) {
        let (weights, biases) = parameters.split_at_mut(self.width);
        weights.fill(1.0);
        biases.fill(0.0);
    }

    fn n_scratch(&self) -> usize {
        self.length * (self.width + 1) + 2 * self.width
    }

    #[allow(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
    fn forward(&self, parameters: &[f32], input: &[f32], state: &mut State, _mode: Mode) {
        let (weights, biases) = parameters.split_at(self.width);
        let n_rows = input.len() / self.width;
        let (normal, scales) = self.kept(n_rows, &mut state.cache);
        let output = resize(&mut state.output, input.len());
        let share = 1.0 / self.width as f32;
        vectorised(
            #[inline(always)]
            || {
                let rows = input
                    .chunks_exact(self.width)
                    .zip(normal.chunks_exact_mut(self.width));
                for (((row, normal), output), scale) in
                    rows.zip(output.chunks_exact_mut(self.width)).zip(scales)
                {
                    let mean = share * lane_sum([row], |[value]| value);
                    let variance = share * lane_sum([row], |[value]| (value - mean) * (value - mean));
                    *scale = 1.0 / (variance + EPSILON).sqrt();
                    for index in 0..self.width {
                        normal[index] = (row[index] - mean) * *scale;
                        output[index] = weights[index] * normal[index] + biases[index];
                    }
                }
            },
        );
    }

    /// With g = γ ∂y: ∂x = (g − mean(g) − x̂ mean(g x̂)) / √(variance + ε).
    #[allow(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
    fn backward(
        &self,
        parameters: &[f32],
        _input: &[f32],
        state: &mut State,
        input_gradient: Option<&mut [f32]>,
    ) {
        let Some(input_gradient) = input_gradient else {
            return;
        };
        let weights = &parameters[..self.width];
        let gradient = &state.gradient[..];
        let (normal, scales) = self.kept(gradient.len() / self.width, &mut state.cache);
        let share = 1.0 / self.width as f32;
        vectorised(
            #[inline(always)]
            || {
                let rows = gradient
                    .chunks_exact(self.width)
                    .zip(normal.chunks_exact(self.width));
                for (((slopes, normal), target), scale) in
                    rows.zip(input_gradient.chunks_exact_mut(self.width)).zip(scales)
                {
                    let mean = share * lane_sum([slopes, weights], |[slope, weight]| weight * slope);
                    let along = share
                        * lane_sum([slopes, weights, normal], |[slope, weight, value]| {
                            weight * slope * value
                        });
                    for index in 0..self.width {
                        target[index] =
                            (weights[index] * slopes[index] - mean - normal[index] * along) * *scale;
                    }
                }
            },
        );
    }

    fn add_gradient(&self, _input: &[f32], state: &mut State, accumulate: Accumulate, target: &mut [f32]) {
        accumulate.prepare(target);
        let (normal, _) = self.kept(state.gradient.len() / self.width, &mut state.cache);
        self.add_sum(normal, &state.gradient, accumulate.factor, target);
    }

    fn add_squared_norms(&self, _input: &[f32], state: &mut State, squared_norms: &mut [f64]) {
        let State {
            gradient,
            cache,
            singles,
            ..
        } = state;
        let (normal, _) = self.kept(gradient.len() / self.width, cache);
        let singles = resize(singles, squared_norms.len() * 2 * self.width);
        singles.fill(0.0);
        let rows = normal
            .chunks_exact(self.n_inputs())
            .zip(gradient.chunks_exact(self.n_inputs()));
        let singles = singles.chunks_exact_mut(2 * self.width);
        for (((normal, gradient), single), squared_norm) in rows.zip(singles).zip(squared_norms) {
            self.add_sum(normal, gradient, 1.0, single);
            *squared_norm += sum_of_squares(single);
        }
    }

    fn add_clipped_gradient(
        &self,
        _input: &[f32],
        state: &mut State,
        examples: &PerExample,
        target: &mut [f32],
    ) {
        examples.add_scaled_rows(&state.singles, target);
    }
}
