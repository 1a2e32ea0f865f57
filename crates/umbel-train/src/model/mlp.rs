//! Softmax regression and multi-layer perceptrons.

use rand_distr::{Distribution, Normal};

use super::dense::{Accumulate, Dense};
use super::{Batch, Model, ModelError, ParameterView, SgdStep, Workspace, cross_entropy};
use crate::evaluation::Evaluation;
use crate::rng::TrainingRng;

/// No model may have more parameters than this, 2^31.
const MAX_PARAMETERS: usize = 1 << 31;

/// What stands between two dense layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// max(0, x); its slope at 0 is taken as 0.
    #[default]
    Relu,
    /// The hyperbolic tangent.
    Tanh,
}

/// Dense layers with an activation between them and a softmax cross-entropy at the end. Without hidden layers it is
/// softmax regression.
///
/// Parameters, layer by layer: `hidden0.weight` `[n_inputs, n_outputs]`, `hidden0.bias` `[n_outputs]`, and so on, then
/// `output.weight` and `output.bias`. Note that weights are stored inputs first; PyTorch stores outputs first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mlp {
    layers: Vec<Dense>,
    activation: Activation,
    views: Vec<ParameterView>,
}

impl Mlp {
    /// A network with these layer widths. `hidden` may be empty.
    ///
    /// # Errors
    ///
    /// A width of zero, fewer than two classes, or more than 2^31 parameters.
    pub fn new(
        n_features: usize,
        hidden: &[usize],
        n_classes: usize,
        activation: Activation,
    ) -> Result<Self, ModelError> {
        if n_features == 0 {
            return Err(ModelError::NoFeatures);
        }
        if hidden.contains(&0) {
            return Err(ModelError::EmptyLayer {
                hidden: hidden.to_vec(),
            });
        }
        if n_classes < 2 {
            return Err(ModelError::Classes { got: n_classes });
        }
        let mut layers = Vec::new();
        let mut views = Vec::new();
        let (mut n_inputs, mut offset) = (n_features, 0_usize);
        for (index, n_outputs) in hidden.iter().copied().chain([n_classes]).enumerate() {
            let n_parameters = n_inputs
                .checked_add(1)
                .and_then(|rows| rows.checked_mul(n_outputs));
            let end = n_parameters
                .and_then(|n| offset.checked_add(n))
                .filter(|&end| end <= MAX_PARAMETERS);
            let end = end.ok_or(ModelError::TooLarge {
                limit: MAX_PARAMETERS,
            })?;
            let layer = Dense {
                n_inputs,
                n_outputs,
                offset,
            };
            let name = if index < hidden.len() {
                format!("hidden{index}")
            } else {
                "output".to_owned()
            };
            let weight = ParameterView {
                name: format!("{name}.weight"),
                shape: vec![n_inputs, n_outputs],
                offset,
            };
            let bias = ParameterView {
                name: format!("{name}.bias"),
                shape: vec![n_outputs],
                offset: weight.range().end,
            };
            views.extend([weight, bias]);
            layers.push(layer);
            (n_inputs, offset) = (n_outputs, end);
        }
        Ok(Self {
            layers,
            activation,
            views,
        })
    }

    fn hidden(&self) -> &[Dense] {
        &self.layers[..self.layers.len() - 1]
    }

    fn output(&self) -> &Dense {
        &self.layers[self.layers.len() - 1]
    }

    /// Values of all hidden activations of one example.
    fn n_hidden(&self) -> usize {
        self.hidden().iter().map(|layer| layer.n_outputs).sum()
    }

    fn check(&self, n_parameters: usize, batch: Batch<'_>) {
        assert_eq!(
            n_parameters,
            self.n_parameters(),
            "length of the flat parameter vector"
        );
        assert_eq!(
            batch.features().len(),
            batch.n_examples() * self.n_features(),
            "values of an example"
        );
    }

    /// Computes `hidden`, the activations of all hidden layers one after the other, and `logits`.
    fn forward(&self, parameters: &[f32], batch: Batch<'_>, hidden: &mut [f32], logits: &mut [f32]) {
        let mut input = batch.features();
        let mut rest = hidden;
        for layer in self.hidden() {
            let (output, after) = rest.split_at_mut(batch.n_examples() * layer.n_outputs);
            layer.forward(parameters, input, output);
            self.activate(output);
            (input, rest) = (output, after);
        }
        self.output().forward(parameters, input, logits);
    }

    fn activate(&self, values: &mut [f32]) {
        match self.activation {
            // Written so that a NaN stays one.
            Activation::Relu => values
                .iter_mut()
                .for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value }),
            Activation::Tanh => values.iter_mut().for_each(|value| *value = value.tanh()),
        }
    }

    /// Multiplies gradients by the slope of the activation, which both activations tell from their value.
    fn activation_backward(&self, activated: &[f32], gradient: &mut [f32]) {
        let pairs = gradient.iter_mut().zip(activated);
        match self.activation {
            Activation::Relu => {
                pairs.for_each(|(slope, &value)| *slope = if value == 0.0 { 0.0 } else { *slope })
            }
            Activation::Tanh => pairs.for_each(|(slope, &value)| *slope *= 1.0 - value * value),
        }
    }
}

/// Where [`Mlp::pass`] reads parameters and adds gradients.
enum Target<'a> {
    Gradient {
        parameters: &'a [f32],
        gradient: &'a mut [f32],
    },
    Parameters {
        parameters: &'a mut [f32],
        accumulate: Accumulate,
    },
}

impl Target<'_> {
    fn parameters(&self) -> &[f32] {
        match self {
            Self::Gradient { parameters, .. } => parameters,
            Self::Parameters { parameters, .. } => parameters,
        }
    }

    fn add(&mut self, layer: &Dense, input: &[f32], output_gradient: &[f32]) {
        match self {
            Self::Gradient { gradient, .. } => {
                layer.backward_to_parameters(input, output_gradient, Accumulate::REPLACE, gradient);
            }
            Self::Parameters {
                parameters,
                accumulate,
            } => {
                layer.backward_to_parameters(input, output_gradient, *accumulate, parameters);
            }
        }
    }
}

impl Mlp {
    /// One forward and backward pass; gives the mean loss.
    ///
    /// Going backward, a layer's parameters are no longer needed once its input's gradient is known, so a step of
    /// descent can be added to them at once: the products write into the parameters, and no gradient is stored.
    #[allow(clippy::cast_precision_loss, reason = "batches are far below 2^24 examples")]
    fn pass(&self, mut target: Target<'_>, batch: Batch<'_>, workspace: &mut Workspace) -> f64 {
        let n = batch.n_examples();
        let (n_hidden, n_classes) = (self.n_hidden(), self.n_classes());
        let [hidden, logits, gradients] = workspace.buffers([n * n_hidden, n * n_classes, n * n_hidden]);
        self.forward(target.parameters(), batch, hidden, logits);
        let loss_sum = cross_entropy::loss_and_gradient(logits, batch.labels(), n_classes, 1.0 / n as f32);

        let mut output_gradient: &[f32] = logits;
        let (mut activations, mut free) = (&*hidden, gradients);
        for (index, layer) in self.layers.iter().enumerate().rev() {
            if index == 0 {
                target.add(layer, batch.features(), output_gradient);
                break;
            }
            let n_values = n * layer.n_inputs;
            let (before, input) = activations.split_at(activations.len() - n_values);
            let (input_gradient, after) = std::mem::take(&mut free).split_at_mut(n_values);
            layer.backward_to_input(target.parameters(), output_gradient, input_gradient);
            self.activation_backward(input, input_gradient);
            target.add(layer, input, output_gradient);
            (activations, free, output_gradient) = (before, after, input_gradient);
        }
        loss_sum / n as f64
    }
}

impl Model for Mlp {
    fn parameters(&self) -> &[ParameterView] {
        &self.views
    }

    fn n_features(&self) -> usize {
        self.layers[0].n_inputs
    }

    fn n_classes(&self) -> usize {
        self.output().n_outputs
    }

    /// Biases are zero. Weights before a ReLU have variance 2 / inputs (He et al. 2015), before a tanh 2 / (inputs +
    /// outputs) (Glorot and Bengio 2010); those of the output layer have 1 / inputs. Softmax regression, which is
    /// convex, begins at zero and draws nothing.
    #[allow(
        clippy::cast_precision_loss,
        reason = "the logarithm of a width matters, not its last digit"
    )]
    fn initialize(&self, parameters: &mut [f32], rng: &mut TrainingRng) {
        assert_eq!(
            parameters.len(),
            self.n_parameters(),
            "length of the flat parameter vector"
        );
        parameters.fill(0.0);
        if self.hidden().is_empty() {
            return;
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let (n_inputs, n_outputs) = (layer.n_inputs as f32, layer.n_outputs as f32);
            let variance = match self.activation {
                _ if index == self.hidden().len() => 1.0 / n_inputs,
                Activation::Relu => 2.0 / n_inputs,
                Activation::Tanh => 2.0 / (n_inputs + n_outputs),
            };
            let normal = Normal::new(0.0, variance.sqrt()).expect("the variance is finite and above 0");
            let weights = &mut parameters[layer.offset..][..layer.n_inputs * layer.n_outputs];
            weights.fill_with(|| normal.sample(rng));
        }
    }

    fn loss_and_gradient(
        &self,
        parameters: &[f32],
        batch: Batch<'_>,
        gradient: &mut [f32],
        workspace: &mut Workspace,
    ) -> f64 {
        self.check(parameters.len(), batch);
        assert_eq!(gradient.len(), parameters.len(), "length of the gradient");
        if batch.n_examples() == 0 {
            gradient.fill(0.0);
            return 0.0;
        }
        self.pass(Target::Gradient { parameters, gradient }, batch, workspace)
    }

    fn sgd_step(
        &self,
        parameters: &mut [f32],
        batch: Batch<'_>,
        step: SgdStep,
        workspace: &mut Workspace,
    ) -> f64 {
        self.check(parameters.len(), batch);
        let accumulate = Accumulate {
            keep: 1.0 - step.learning_rate * step.weight_decay,
            factor: -step.learning_rate,
        };
        if batch.n_examples() == 0 {
            parameters
                .iter_mut()
                .for_each(|parameter| *parameter *= accumulate.keep);
            return 0.0;
        }
        self.pass(
            Target::Parameters {
                parameters,
                accumulate,
            },
            batch,
            workspace,
        )
    }

    fn evaluate(&self, parameters: &[f32], batch: Batch<'_>, workspace: &mut Workspace) -> Evaluation {
        self.check(parameters.len(), batch);
        let n = batch.n_examples();
        let [hidden, logits] = workspace.buffers([n * self.n_hidden(), n * self.n_classes()]);
        self.forward(parameters, batch, hidden, logits);
        cross_entropy::evaluate(logits, batch.labels(), self.n_classes())
    }
}
