//! The mean over the places of a sequence.

use super::{Layer, Mode, State, resize};
use crate::model::vector::add_scaled;
use crate::rng::TrainingRng;

/// `[length, width]` becomes the mean of its rows, `[width]`. Padding counts like any other place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MeanPool {
    pub(crate) length: usize,
    pub(crate) width: usize,
}

impl MeanPool {
    #[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^24")]
    fn share(&self) -> f32 {
        1.0 / self.length as f32
    }
}

impl Layer for MeanPool {
    fn n_inputs(&self) -> usize {
        self.length * self.width
    }

    fn n_outputs(&self) -> usize {
        self.width
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        Vec::new()
    }

    fn initialize(&self, _parameters: &mut [f32], _rng: &mut TrainingRng) {}

    fn forward(&self, _parameters: &[f32], input: &[f32], state: &mut State, _mode: Mode) {
        let output = resize(&mut state.output, input.len() / self.length);
        output.fill(0.0);
        for (input, output) in input
            .chunks_exact(self.n_inputs())
            .zip(output.chunks_exact_mut(self.width))
        {
            for row in input.chunks_exact(self.width) {
                add_scaled(output, self.share(), row);
            }
        }
    }

    fn backward(&self, _: &[f32], _: &[f32], state: &mut State, input_gradient: Option<&mut [f32]>) {
        let Some(input_gradient) = input_gradient else {
            return;
        };
        let examples = input_gradient.chunks_exact_mut(self.n_inputs());
        for (target, gradient) in examples.zip(state.gradient.chunks_exact(self.width)) {
            for row in target.chunks_exact_mut(self.width) {
                for (slope, value) in row.iter_mut().zip(gradient) {
                    *slope = self.share() * value;
                }
            }
        }
    }
}
