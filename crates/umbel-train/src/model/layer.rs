//! The parts that models are made of.
//!
//! A layer is a function from `[n, n_inputs]` and its own parameters to `[n, n_outputs]`, both row-major, one row an
//! example. What one example gives depends on that example's row alone, so that its gradient is its own. Written as arrows,
//! with x the input, θ the parameters and `∂` the gradient of the loss by what follows it:
//!
//! ```text
//! forward               θ, x           → y
//! backward              θ, x, y, ∂y    → ∂x
//! add_gradient          x, ∂y          → Σᵢ ∂θᵢ
//! push_gradient         x, ∂y          → ∂θ of the only example, in parts
//! add_squared_norms     x, ∂y          → ‖∂θᵢ‖² for each example i
//! add_clipped_gradient  x, ∂y, factors → Σᵢ fᵢ ∂θᵢ
//! ```
//!
//! `∂θᵢ` is a matrix as large as the layer for each example, and most layers never write it down: for a dense one it is the
//! outer product of input and output gradient, whose norm is the product of theirs, and the scaled sum is one matrix
//! product of inputs with scaled output gradients. Layers that use a parameter at many places (convolution, LSTM, a dense layer over a
//! long sequence) write it down once for the norm, for as many examples as are computed together, and then take the scaled sum of
//! what is there.

mod activation;
mod attention;
mod channels_last;
mod convolution;
mod dense;
mod dropout;
mod embedding;
mod layer_norm;
mod lstm;
mod max_pool;
mod mean_pool;
mod positions;
mod residual;
mod sequence_dense;
mod token_sum;

use std::ops::Range;

use super::clipping::PerExample;
use super::gradient_parts::GradientParts;
use crate::rng::TrainingRng;

pub use self::activation::Activation;
pub(super) use self::attention::Attention;
pub(super) use self::channels_last::ChannelsLast;
pub(super) use self::convolution::Convolution;
pub(super) use self::dense::{Dense, Initial};
pub(super) use self::dropout::Dropout;
pub(super) use self::embedding::Embedding;
pub(super) use self::layer_norm::LayerNorm;
pub(super) use self::lstm::Lstm;
pub(super) use self::max_pool::MaxPool;
pub(super) use self::mean_pool::MeanPool;
pub(super) use self::positions::Positions;
pub(super) use self::residual::Residual;
pub(super) use self::sequence_dense::SequenceDense;
pub(super) use self::token_sum::{TokenSum, TokenValues};

/// One part of a chain. All slices of parameters and gradients are the layer's own.
pub(super) trait Layer: std::fmt::Debug + Send + Sync {
    /// Values of an example that come in.
    fn n_inputs(&self) -> usize;

    /// Values of an example that go out.
    fn n_outputs(&self) -> usize;

    /// Names and shapes of the parameters, in the order in which they are stored. Empty where there are none.
    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)>;

    /// Fills the parameters with the values that training begins from.
    fn initialize(&self, parameters: &mut [f32], rng: &mut TrainingRng);

    /// Whether it draws random numbers in training.
    fn is_random(&self) -> bool {
        false
    }

    /// Values of scratch memory that an example takes in a [`State`] beside its output and its gradient.
    fn n_scratch(&self) -> usize {
        0
    }

    /// Most examples that it computes well at once.
    fn most_at_once(&self) -> usize {
        usize::MAX
    }

    /// Computes `state.output` from `input`.
    fn forward(&self, parameters: &[f32], input: &[f32], state: &mut State, mode: Mode);

    /// From `state.gradient`, which is by the output, to the gradient by the input, where that is asked for. Afterwards
    /// `state.gradient` holds whatever the layer needs for the gradient by its parameters.
    fn backward(
        &self,
        parameters: &[f32],
        input: &[f32],
        state: &mut State,
        input_gradient: Option<&mut [f32]>,
    );

    /// Adds the gradient by the parameters, summed over the examples, to `target`. Called after `backward`.
    fn add_gradient(&self, _input: &[f32], _state: &mut State, _accumulate: Accumulate, _target: &mut [f32]) {
    }

    /// Appends the gradient by the parameters of a single example, which have the places `range` in the flat vector. Called after
    /// `backward`. Layers override this where a gradient is a product of two vectors, or has few rows that are not 0.
    fn push_gradient(
        &self,
        input: &[f32],
        state: &mut State,
        range: Range<usize>,
        parts: &mut GradientParts,
    ) {
        if !range.is_empty() {
            let whole = parts.push_zeros(range.start, range.len());
            self.add_gradient(input, state, Accumulate::REPLACE, whole);
        }
    }

    /// Adds to each example's entry the squared norm of its gradient by the parameters. Called after `backward`.
    fn add_squared_norms(&self, _input: &[f32], _state: &mut State, _squared_norms: &mut [f64]) {}

    /// Adds to `target` the sum of the examples' gradients by the parameters, each multiplied by its factor. Called after
    /// `add_squared_norms`, once.
    fn add_clipped_gradient(
        &self,
        _input: &[f32],
        _state: &mut State,
        _examples: &PerExample,
        _target: &mut [f32],
    ) {
    }
}

/// What a layer keeps of a batch from one call to the next; see [`Layer`].
#[derive(Debug, Default)]
pub(super) struct State {
    /// `[n, n_outputs]`.
    pub(super) output: Vec<f32>,
    /// The gradient of the loss by the output, `[n, n_outputs]`.
    pub(super) gradient: Vec<f32>,
    /// What a layer keeps from forward to backward.
    pub(super) cache: Vec<f32>,
    /// Gradients of single examples by the layer's parameters, where they are written down.
    pub(super) singles: Vec<f32>,
    /// Tokens with their places, to be sorted.
    pub(super) places: Vec<(usize, usize)>,
    /// What layers inside of the layer keep.
    pub(super) inner: Vec<Self>,
}

/// What a forward pass is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mode {
    /// Nothing is random.
    Evaluation,
    /// Layers that drop values draw from this seed; the batch begins at this example of the whole one.
    Training { seed: u64, first_example: usize },
}

/// What becomes of a buffer to which a gradient is added: `keep` × its content + `factor` × the gradient.
///
/// `keep` 0 and `factor` 1 write the gradient itself; other values take a step of descent in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accumulate {
    pub(super) keep: f32,
    pub(super) factor: f32,
}

impl Accumulate {
    /// Replaces the content.
    pub(super) const REPLACE: Self = Self {
        keep: 0.0,
        factor: 1.0,
    };

    /// Adds to the content.
    pub(super) const ADD: Self = Self {
        keep: 1.0,
        factor: 1.0,
    };

    /// Multiplies `values` by `keep`. What is replaced may hold anything, a NaN too, so it is not multiplied by zero.
    pub(super) fn prepare(self, values: &mut [f32]) {
        if self.keep == 0.0 {
            values.fill(0.0);
        } else if (self.keep - 1.0).abs() > 0.0 {
            for value in values {
                *value *= self.keep;
            }
        }
    }
}

/// Makes `buffer` this long; what it holds is unspecified.
pub(super) fn resize(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    buffer.resize(length, 0.0);
    buffer
}
