//! The dense layer y = f(x W + b), with W of shape `[n_inputs, n_outputs]`. That layout needs no transposed copy: in
//! the forward product W is read along its rows, and its gradient xᵀ ∂y is written along them.

use std::ops::Range;

use rand_distr::{Distribution, Normal};

use super::{Accumulate, Activation, Layer, Mode, State, resize};
use crate::model::clipping::PerExample;
use crate::model::gradient_parts::GradientParts;
use crate::model::matrix::{matrix, matrix_mut, multiply};
use crate::model::vector::{self, sum_of_squares};
use crate::rng::TrainingRng;

/// A dense layer. Parameters: `weight` `[n_inputs, n_outputs]`, `bias` `[n_outputs]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dense {
    pub(crate) n_inputs: usize,
    pub(crate) n_outputs: usize,
    /// What stands behind it; none for logits.
    pub(crate) activation: Option<Activation>,
    pub(crate) initial: Initial,
}

/// The distribution of initial weights. Biases begin at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Initial {
    /// Normal with variance 2 / inputs (He et al. 2015), for what stands before a ReLU.
    He,
    /// Normal with variance 2 / (inputs + outputs) (Glorot and Bengio 2010), before a sigmoid or a tanh.
    Glorot,
    /// Normal with variance 1 / inputs, before logits.
    Logits,
    /// All 0, where the model is convex; nothing is drawn.
    Zero,
}

impl Initial {
    /// What fits a hidden layer with this activation.
    pub(crate) fn before(activation: Activation) -> Self {
        match activation {
            Activation::Relu => Self::He,
            Activation::Sigmoid | Activation::Tanh => Self::Glorot,
        }
    }

    /// Draws weights that connect `n_inputs` to `n_outputs` each.
    #[allow(
        clippy::cast_precision_loss,
        reason = "the logarithm of a width matters, not its last digit"
    )]
    pub(crate) fn fill(self, weights: &mut [f32], n_inputs: usize, n_outputs: usize, rng: &mut TrainingRng) {
        let (n_inputs, n_outputs) = (n_inputs as f32, n_outputs as f32);
        let variance = match self {
            Self::He => 2.0 / n_inputs,
            Self::Glorot => 2.0 / (n_inputs + n_outputs),
            Self::Logits => 1.0 / n_inputs,
            Self::Zero => return weights.fill(0.0),
        };
        let normal = Normal::new(0.0, variance.sqrt()).expect("the variance is finite and above 0");
        weights.fill_with(|| normal.sample(rng));
    }
}

impl Dense {
    fn n_weights(&self) -> usize {
        self.n_inputs * self.n_outputs
    }

    /// Adds the gradient summed over all rows.
    pub(super) fn add_sum(
        &self,
        input: &[f32],
        gradient: &[f32],
        accumulate: Accumulate,
        target: &mut [f32],
    ) {
        let (weights, biases) = target.split_at_mut(self.n_weights());
        let n = gradient.len() / self.n_outputs;
        multiply(
            accumulate.factor,
            matrix(input, n, self.n_inputs).t(),
            matrix(gradient, n, self.n_outputs),
            accumulate.keep,
            &mut matrix_mut(weights, self.n_inputs, self.n_outputs),
        );
        accumulate.prepare(biases);
        vector::add_rows(biases, accumulate.factor, gradient);
    }
}

impl Layer for Dense {
    fn n_inputs(&self) -> usize {
        self.n_inputs
    }

    fn n_outputs(&self) -> usize {
        self.n_outputs
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        vec![
            ("weight", vec![self.n_inputs, self.n_outputs]),
            ("bias", vec![self.n_outputs]),
        ]
    }

    fn initialize(&self, parameters: &mut [f32], rng: &mut TrainingRng) {
        let (weights, biases) = parameters.split_at_mut(self.n_weights());
        self.initial.fill(weights, self.n_inputs, self.n_outputs, rng);
        biases.fill(0.0);
    }

    fn forward(&self, parameters: &[f32], input: &[f32], state: &mut State, _mode: Mode) {
        let (weights, biases) = parameters.split_at(self.n_weights());
        let n = input.len() / self.n_inputs;
        let output = resize(&mut state.output, n * self.n_outputs);
        for row in output.chunks_exact_mut(self.n_outputs) {
            row.copy_from_slice(biases);
        }
        multiply(
            1.0,
            matrix(input, n, self.n_inputs),
            matrix(weights, self.n_inputs, self.n_outputs),
            1.0,
            &mut matrix_mut(output, n, self.n_outputs),
        );
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
        if let Some(input_gradient) = input_gradient {
            let weights = &parameters[..self.n_weights()];
            let n = state.gradient.len() / self.n_outputs;
            multiply(
                1.0,
                matrix(&state.gradient, n, self.n_outputs),
                matrix(weights, self.n_inputs, self.n_outputs).t(),
                0.0,
                &mut matrix_mut(input_gradient, n, self.n_inputs),
            );
        }
    }

    fn add_gradient(&self, input: &[f32], state: &mut State, accumulate: Accumulate, target: &mut [f32]) {
        self.add_sum(input, &state.gradient, accumulate, target);
    }

    /// With the input followed by a 1, the gradient by weights and biases is one outer product.
    fn push_gradient(
        &self,
        input: &[f32],
        state: &mut State,
        range: Range<usize>,
        parts: &mut GradientParts,
    ) {
        parts.push_outer(range.start, [input, &[1.0]], &state.gradient);
    }

    /// The gradient by the weights is the outer product of input and output gradient, the one by the biases is the output
    /// gradient itself, so together they have the square (‖x‖² + 1) ‖∂y‖².
    fn add_squared_norms(&self, input: &[f32], state: &mut State, squared_norms: &mut [f64]) {
        let rows = input
            .chunks_exact(self.n_inputs)
            .zip(state.gradient.chunks_exact(self.n_outputs));
        for ((input, gradient), squared_norm) in rows.zip(squared_norms) {
            *squared_norm += (sum_of_squares(input) + 1.0) * sum_of_squares(gradient);
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
            let input = &input[run.start * self.n_inputs..run.end * self.n_inputs];
            let gradient = &state.gradient[run.start * self.n_outputs..run.end * self.n_outputs];
            self.add_sum(input, gradient, Accumulate::ADD, target);
        }
    }
}
