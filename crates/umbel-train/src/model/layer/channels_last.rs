//! From `[channels, height, width]`, as files hold images, to `[height, width, channels]`.

use super::{Layer, Mode, State, resize};
use crate::rng::TrainingRng;

/// Moves channels to the end. It stands first in a chain, so it has no gradient to pass on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChannelsLast {
    pub(crate) channels: usize,
    pub(crate) n_pixels: usize,
}

impl Layer for ChannelsLast {
    fn n_inputs(&self) -> usize {
        self.channels * self.n_pixels
    }

    fn n_outputs(&self) -> usize {
        self.n_inputs()
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        Vec::new()
    }

    fn initialize(&self, _parameters: &mut [f32], _rng: &mut TrainingRng) {}

    fn forward(&self, _parameters: &[f32], input: &[f32], state: &mut State, _mode: Mode) {
        let output = resize(&mut state.output, input.len());
        let images = input
            .chunks_exact(self.n_inputs())
            .zip(output.chunks_exact_mut(self.n_inputs()));
        for (planes, pixels) in images {
            for (channel, plane) in planes.chunks_exact(self.n_pixels).enumerate() {
                for (pixel, &value) in pixels.chunks_exact_mut(self.channels).zip(plane) {
                    pixel[channel] = value;
                }
            }
        }
    }

    fn backward(&self, _: &[f32], _: &[f32], _: &mut State, input_gradient: Option<&mut [f32]>) {
        assert!(input_gradient.is_none(), "nothing stands before this layer");
    }
}
