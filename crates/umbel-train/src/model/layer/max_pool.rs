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
                let row = self.width * n_channels;
                for ((image, image_gradient), (output, gradient)) in images.zip(gradients) {
                    for y in 0..self.height / 2 {
                        let (top, bottom) = image_gradient[2 * y * row..2 * (y + 1) * row].split_at_mut(row);
                        for x in 0..self.width / 2 {
                            let (begin, place) =
                                (2 * x * n_channels, (y * (self.width / 2) + x) * n_channels);
                            let of_window = |row: usize| {
                                let pixels = &image[(2 * y + row) * self.width * n_channels + begin..];
                                pixels[..2 * n_channels].split_at(n_channels)
                            };
                            let ((a, b), (c, d)) = (of_window(0), of_window(1));
                            let (by_a, by_b) = top[begin..begin + 2 * n_channels].split_at_mut(n_channels);
                            let (by_c, by_d) = bottom[begin..begin + 2 * n_channels].split_at_mut(n_channels);
                            let largest = &output[place..place + n_channels];
                            let slopes = &gradient[place..place + n_channels];
                            for index in 0..n_channels {
                                let (largest, slope) = (largest[index], slopes[index]);
                                let slope = if self.relu && largest == 0.0 { 0.0 } else { slope };
                                let first = a[index] == largest;
                                let second = !first & (b[index] == largest);
                                let third = !first & !second & (c[index] == largest);
                                let fourth = !first & !second & !third & (d[index] == largest);
                                by_a[index] = if first { slope } else { 0.0 };
                                by_b[index] = if second { slope } else { 0.0 };
                                by_c[index] = if third { slope } else { 0.0 };
                                by_d[index] = if fourth { slope } else { 0.0 };
                            }
                        }
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
