//! Two-dimensional convolution as a matrix product of patches with weights.

use super::{Accumulate, Activation, Initial, Layer, Mode, State, resize};
use crate::model::clipping::PerExample;
use crate::model::matrix::{matrix, matrix_mut, multiply};
use crate::model::vector::{self, sum_of_squares};
use crate::rng::TrainingRng;

/// A convolution with stride 1 and zeros around the image, so that the output has its height and width.
///
/// Images are stored with channels last: `[height, width, channels]` in, `[height, width, filters]` out. That way a patch
/// is `kernel` runs of neighbouring values, and the product gives the output in its own layout. Parameters: `weight`
/// `[kernel, kernel, channels, filters]`, `bias` `[filters]`.
///
/// Patches are made anew for the gradient rather than kept: copying them costs a tenth of the product, keeping them
/// `kernel`² times the image. The gradient by the weights of one example is written down for its norm, since the product
/// of two patch matrices that would give the norm without it is larger than the gradient itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Convolution {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) filters: usize,
    /// Side of a patch, odd.
    pub(crate) kernel: usize,
    pub(crate) activation: Option<Activation>,
    pub(crate) initial: Initial,
}

impl Convolution {
    fn n_pixels(&self) -> usize {
        self.height * self.width
    }

    fn n_patch(&self) -> usize {
        self.kernel * self.kernel * self.channels
    }

    fn n_weights(&self) -> usize {
        self.n_patch() * self.filters
    }

    fn n_parameters(&self) -> usize {
        self.n_weights() + self.filters
    }

    /// For each pixel and each row of its patch that lies in the image: the pixel, and where the row's run of values
    /// begins in the image and in the patch, and its length.
    #[inline(always)]
    fn for_each_run(&self, mut visit: impl FnMut(usize, usize, usize, usize)) {
        let (margin, channels) = (self.kernel / 2, self.channels);
        for y in 0..self.height {
            for x in 0..self.width {
                let first = margin.saturating_sub(x);
                let end = self.kernel.min(self.width + margin - x);
                let length = (end - first) * channels;
                for row in margin.saturating_sub(y)..self.kernel.min(self.height + margin - y) {
                    let source = ((y + row - margin) * self.width + x + first - margin) * channels;
                    visit(
                        y * self.width + x,
                        source,
                        (row * self.kernel + first) * channels,
                        length,
                    );
                }
            }
        }
    }

    /// Copies the patches of an image to the rows of `patches`, `[n_pixels, n_patch]`. Outside of the image stays what is
    /// there, which is 0 from the beginning.
    fn gather(&self, image: &[f32], patches: &mut [f32]) {
        let n_patch = self.n_patch();
        self.for_each_run(|pixel, source, place, length| {
            let begin = pixel * n_patch + place;
            patches[begin..begin + length].copy_from_slice(&image[source..source + length]);
        });
    }

    /// Adds what is in `patches` to the pixels it came from.
    fn scatter(&self, patches: &[f32], image: &mut [f32]) {
        let n_patch = self.n_patch();
        vector::vectorised(
            #[inline(always)]
            || {
                self.for_each_run(|pixel, source, place, length| {
                    let begin = pixel * n_patch + place;
                    let values = &patches[begin..begin + length];
                    for (sum, value) in image[source..source + length].iter_mut().zip(values) {
                        *sum += value;
                    }
                });
            },
        );
    }

    /// Adds the gradient by weights and biases of one example.
    fn add_single(&self, patches: &[f32], gradient: &[f32], accumulate: Accumulate, target: &mut [f32]) {
        let (weights, biases) = target.split_at_mut(self.n_weights());
        multiply(
            accumulate.factor,
            matrix(patches, self.n_pixels(), self.n_patch()).t(),
            matrix(gradient, self.n_pixels(), self.filters),
            accumulate.keep,
            &mut matrix_mut(weights, self.n_patch(), self.filters),
        );
        accumulate.prepare(biases);
        vector::add_rows(biases, accumulate.factor, gradient);
    }
}

/// A buffer of patches that are 0 outside of the image.
fn zeroed(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    buffer.clear();
    resize(buffer, length)
}

impl Layer for Convolution {
    fn n_inputs(&self) -> usize {
        self.n_pixels() * self.channels
    }

    fn n_outputs(&self) -> usize {
        self.n_pixels() * self.filters
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        let weight = vec![self.kernel, self.kernel, self.channels, self.filters];
        vec![("weight", weight), ("bias", vec![self.filters])]
    }

    fn initialize(&self, parameters: &mut [f32], rng: &mut TrainingRng) {
        let (weights, biases) = parameters.split_at_mut(self.n_weights());
        let n_outputs = self.kernel * self.kernel * self.filters;
        self.initial.fill(weights, self.n_patch(), n_outputs, rng);
        biases.fill(0.0);
    }

    fn n_scratch(&self) -> usize {
        self.n_parameters()
    }

    fn forward(&self, parameters: &[f32], input: &[f32], state: &mut State, _mode: Mode) {
        let (weights, biases) = parameters.split_at(self.n_weights());
        let n = input.len() / self.n_inputs();
        let patches = zeroed(&mut state.cache, self.n_pixels() * self.n_patch());
        let output = resize(&mut state.output, n * self.n_outputs());
        for (image, output) in input
            .chunks_exact(self.n_inputs())
            .zip(output.chunks_exact_mut(self.n_outputs()))
        {
            self.gather(image, patches);
            for pixel in output.chunks_exact_mut(self.filters) {
                pixel.copy_from_slice(biases);
            }
            multiply(
                1.0,
                matrix(patches, self.n_pixels(), self.n_patch()),
                matrix(weights, self.n_patch(), self.filters),
                1.0,
                &mut matrix_mut(output, self.n_pixels(), self.filters),
            );
        }
        if let Some(activation) = self.activation {
            activation.apply(output);
        }
    }

    fn backward(
        &self,
        parameters: &[f32],
        _input: &[f32],
        state: &mut State,
        input_gradient: Option<&mut [f32]>,
    ) {
        if let Some(activation) = self.activation {
            activation.backward(&state.output, &mut state.gradient);
        }
        let Some(input_gradient) = input_gradient else {
            return;
        };
        let patches = resize(&mut state.singles, self.n_pixels() * self.n_patch());
        input_gradient.fill(0.0);
        for (gradient, image) in state
            .gradient
            .chunks_exact(self.n_outputs())
            .zip(input_gradient.chunks_exact_mut(self.n_inputs()))
        {
            multiply(
                1.0,
                matrix(gradient, self.n_pixels(), self.filters),
                matrix(&parameters[..self.n_weights()], self.n_patch(), self.filters).t(),
                0.0,
                &mut matrix_mut(patches, self.n_pixels(), self.n_patch()),
            );
            self.scatter(patches, image);
        }
    }

    fn add_gradient(&self, input: &[f32], state: &mut State, accumulate: Accumulate, target: &mut [f32]) {
        let mut accumulate = accumulate;
        for (image, gradient) in input
            .chunks_exact(self.n_inputs())
            .zip(state.gradient.chunks_exact(self.n_outputs()))
        {
            self.gather(image, &mut state.cache);
            self.add_single(&state.cache, gradient, accumulate, target);
            accumulate.keep = 1.0;
        }
    }

    fn add_squared_norms(&self, input: &[f32], state: &mut State, squared_norms: &mut [f64]) {
        let singles = resize(&mut state.singles, squared_norms.len() * self.n_parameters());
        let rows = input
            .chunks_exact(self.n_inputs())
            .zip(state.gradient.chunks_exact(self.n_outputs()))
            .zip(singles.chunks_exact_mut(self.n_parameters()));
        for (((image, gradient), single), squared_norm) in rows.zip(squared_norms) {
            self.gather(image, &mut state.cache);
            self.add_single(&state.cache, gradient, Accumulate::REPLACE, single);
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
