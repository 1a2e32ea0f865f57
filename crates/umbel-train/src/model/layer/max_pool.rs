//! The largest of each 2 × 2 pixels.

use super::{Layer, Mode, State, resize};
use crate::model::vector::vectorised;
use crate::rng::TrainingRng;

/// `[height, width, channels]` becomes `[height / 2, width / 2, channels]`; a last odd row or column is left out. Of equal
/// values the first, row by row, has the gradient.
///
/// With `relu` negative maxima become 0. That is the same as rectifying before, as both functions are monotonic, at a
/// quarter of the work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaxPool {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) relu: bool,
}

impl MaxPool {
    /// The four pixels of each window in row `y` of the output, as places of their first channels, and the window's own.
    #[inline(always)]
    fn for_each_window(&self, y: usize, mut visit: impl FnMut([usize; 4], usize)) {
        let (row, pixel) = (self.width * self.channels, self.channels);
        for x in 0..self.width / 2 {
            let first = 2 * y * row + 2 * x * pixel;
            let window = [first, first + pixel, first + row, first + row + pixel];
            visit(window, (y * (self.width / 2) + x) * pixel);
        }
    }
}

impl Layer for MaxPool {
    fn n_inputs(&self) -> usize {
        self.height * self.width * self.channels
    }

    fn n_outputs(&self) -> usize {
        (self.height / 2) * (self.width / 2) * self.channels
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        Vec::new()
    }

    fn initialize(&self, _parameters: &mut [f32], _rng: &mut TrainingRng) {}

    fn forward(&self, _parameters: &[f32], input: &[f32], state: &mut State, _mode: Mode) {
        let n = input.len() / self.n_inputs();
        let output = resize(&mut state.output, n * self.n_outputs());
        let images = input.chunks_exact(self.n_inputs());
        let n_channels = self.channels;
        vectorised(
            #[inline(always)]
            || {
                for (image, output) in images.zip(output.chunks_exact_mut(self.n_outputs())) {
                    for y in 0..self.height / 2 {
                        self.for_each_window(y, |window, place| {
                            let [a, b, c, d] = window.map(|begin| &image[begin..begin + n_channels]);
                            let largest = &mut output[place..place + n_channels];
                            for index in 0..n_channels {
                                let value = larger(larger(a[index], b[index]), larger(c[index], d[index]));
                                largest[index] = if self.relu && value < 0.0 { 0.0 } else { value };
                            }
                        });
                    }
                }
            },
        );
    }

    #[allow(clippy::float_cmp, reason = "a maximum is one of the values it was taken of")]
    fn backward(
        &self,
        _parameters: &[f32],
        input: &[f32],
        state: &mut State,
        input_gradient: Option<&mut [f32]>,
    ) {
        let Some(input_gradient) = input_gradient else {
            return;
        };
        if self.height % 2 == 1 || self.width % 2 == 1 {
            input_gradient.fill(0.0);
        }
        let n_channels = self.channels;
        let outputs = state.output.chunks_exact(self.n_outputs());
        let images = input
            .chunks_exact(self.n_inputs())
            .zip(input_gradient.chunks_exact_mut(self.n_inputs()));
        let gradients = outputs.zip(state.gradient.chunks_exact(self.n_outputs()));
        vectorised(
            #[inline(always)]
            || {
                for ((image, image_gradient), (output, gradient)) in images.zip(gradients) {
                    for y in 0..self.height / 2 {
                        self.for_each_window(y, |window, place| {
                            let largest = &output[place..place + n_channels];
                            let slopes = &gradient[place..place + n_channels];
                            let [a, b, c, d] = window.map(|begin| &image[begin..begin + n_channels]);
                            for index in 0..n_channels {
                                let (top, slope) = (largest[index], slopes[index]);
                                let slope = if self.relu && top == 0.0 { 0.0 } else { slope };
                                let first = a[index] == top;
                                let second = !first & (b[index] == top);
                                let third = !first & !second & (c[index] == top);
                                let fourth = !first & !second & !third & (d[index] == top);
                                for (begin, is_it) in window.into_iter().zip([first, second, third, fourth]) {
                                    image_gradient[begin + index] = if is_it { slope } else { 0.0 };
                                }
                            }
                        });
                    }
                }
            },
        );
    }
}

/// The larger one; a NaN wins.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}
