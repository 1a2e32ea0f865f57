//! Softmax regression and multi-layer perceptrons.

use rand_distr::{Distribution, Normal};

use super::clipping::{ClippingReport, PerExample};
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

impl Mlp {
    /// One forward and backward pass that keeps the gradients by all layers' outputs, then the clipped sum from them.
    fn clipped_pass(
        &self,
        parameters: &[f32],
        batch: Batch<'_>,
        clip_norm: f32,
        sum: &mut [f32],
        per_example: &mut PerExample,
        workspace: &mut Workspace,
    ) -> ClippingReport {
        let n = batch.n_examples();
        let (n_hidden, n_classes) = (self.n_hidden(), self.n_classes());
        let [hidden, logits, gradients] = workspace.buffers([n * n_hidden, n * n_classes, n * n_hidden]);
        self.forward(parameters, batch, hidden, logits);
        let rows = logits
            .chunks_exact_mut(n_classes)
            .zip(batch.labels().chunks_exact(1));
        for ((row, label), loss) in rows.zip(&mut per_example.losses) {
            *loss = cross_entropy::loss_and_gradient(row, label, n_classes, 1.0);
        }

        let mut output_gradient: &[f32] = logits;
        let (mut activations, mut free) = (&*hidden, &mut *gradients);
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let n_values = n * layer.n_inputs;
            if index == 0 {
                layer.add_squared_norms(batch.features(), output_gradient, &mut per_example.squared_norms);
                break;
            }
            let (before, input) = activations.split_at(activations.len() - n_values);
            layer.add_squared_norms(input, output_gradient, &mut per_example.squared_norms);
            let (after, input_gradient) = std::mem::take(&mut free).split_at_mut(before.len());
            layer.backward_to_input(parameters, output_gradient, input_gradient);
            self.activation_backward(input, input_gradient);
            (activations, free, output_gradient) = (before, after, input_gradient);
        }

        let report = per_example.clip(clip_norm);
        let (mut input, mut activations, mut gradients) = (batch.features(), &*hidden, gradients);
        for (index, layer) in self.layers.iter().enumerate() {
            let output_gradient = if index + 1 == self.layers.len() {
                &mut *logits
            } else {
                let (first, after) = std::mem::take(&mut gradients).split_at_mut(n * layer.n_outputs);
                gradients = after;
                first
            };
            per_example.scale_rows(output_gradient);
            for run in per_example.finite_runs() {
                let input = &input[run.start * layer.n_inputs..run.end * layer.n_inputs];
                let output_gradient =
                    &output_gradient[run.start * layer.n_outputs..run.end * layer.n_outputs];
                layer.backward_to_parameters(input, output_gradient, Accumulate::ADD, sum);
            }
            if index + 1 < self.layers.len() {
                (input, activations) = activations.split_at(n * layer.n_outputs);
            }
        }
        report
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

    fn add_clipped_gradients(
        &self,
        parameters: &[f32],
        batch: Batch<'_>,
        clip_norm: f32,
        sum: &mut [f32],
        workspace: &mut Workspace,
    ) -> ClippingReport {
        self.check(parameters.len(), batch);
        assert_eq!(sum.len(), parameters.len(), "length of the sum");
        assert!(clip_norm.is_finite() && clip_norm > 0.0, "clip norm {clip_norm}");
        if batch.n_examples() == 0 {
            return ClippingReport::default();
        }
        let mut per_example = workspace.take_per_example(batch.n_examples());
        let report = self.clipped_pass(parameters, batch, clip_norm, sum, &mut per_example, workspace);
        workspace.put_per_example(per_example);
        report
    }

    fn evaluate(&self, parameters: &[f32], batch: Batch<'_>, workspace: &mut Workspace) -> Evaluation {
        self.check(parameters.len(), batch);
        let n = batch.n_examples();
        let [hidden, logits] = workspace.buffers([n * self.n_hidden(), n * self.n_classes()]);
        self.forward(parameters, batch, hidden, logits);
        cross_entropy::evaluate(logits, batch.labels(), self.n_classes())
    }
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "a reference in f64 is compared with f32"
)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::model::checks;

    /// The same network written down plainly in f64: mean loss over the batch.
    fn reference_loss(model: &Mlp, parameters: &[f64], features: &[f32], labels: &[u32]) -> f64 {
        let mut sum = 0.0;
        for (example, &label) in features.chunks_exact(model.n_features()).zip(labels) {
            let mut values: Vec<f64> = example.iter().copied().map(f64::from).collect();
            for (index, layer) in model.layers.iter().enumerate() {
                let weights = &parameters[layer.offset..];
                let biases = &parameters[layer.offset + layer.n_inputs * layer.n_outputs..];
                values = (0..layer.n_outputs)
                    .map(|output| {
                        let products = values.iter().enumerate();
                        let product: f64 = products
                            .map(|(input, value)| value * weights[input * layer.n_outputs + output])
                            .sum();
                        match model.activation {
                            _ if index + 1 == model.layers.len() => product + biases[output],
                            Activation::Relu => (product + biases[output]).max(0.0),
                            Activation::Tanh => (product + biases[output]).tanh(),
                        }
                    })
                    .collect();
            }
            let log_sum = values.iter().map(|value| value.exp()).sum::<f64>().ln();
            sum += log_sum - values[label as usize];
        }
        sum / labels.len() as f64
    }

    struct Case {
        model: Mlp,
        parameters: Vec<f32>,
        features: Vec<f32>,
        labels: Vec<u32>,
    }

    fn case(hidden: &[usize], activation: Activation, n_examples: usize) -> Case {
        let mut rng = TrainingRng::from_seed([11; 32]);
        let model = Mlp::new(7, hidden, 3, activation).unwrap();
        let parameters = (0..model.n_parameters())
            .map(|_| rng.random_range(-0.8..0.8))
            .collect();
        let features = (0..n_examples * 7).map(|_| rng.random_range(-1.0..1.0)).collect();
        let labels = (0..n_examples).map(|_| rng.random_range(0..3)).collect();
        Case {
            model,
            parameters,
            features,
            labels,
        }
    }

    const NETWORKS: [(&[usize], Activation); 4] = [
        (&[], Activation::Relu),
        (&[5], Activation::Relu),
        (&[6, 5, 4], Activation::Relu),
        (&[6, 5, 4], Activation::Tanh),
    ];

    /// Central differences of the f64 reference with h = 1e-6 are off by h² times a third derivative, here 1e-10 or
    /// less, and by rounding, 1e-16 / h = 1e-10. The f32 gradient is a mean of sums of some ten products of numbers of
    /// size about 1, each rounded to 6e-8, over at most four layers: below 1e-5. A wrong term would show as 1e-2.
    #[test]
    fn gradients_agree_with_finite_differences() {
        for (hidden, activation) in NETWORKS {
            for n_examples in [1, 6, 33] {
                let Case {
                    model,
                    parameters,
                    features,
                    labels,
                } = case(hidden, activation, n_examples);
                let mut gradient = vec![f32::NAN; parameters.len()];
                let batch = Batch::new(&features, &labels);
                let loss = model.loss_and_gradient(&parameters, batch, &mut gradient, &mut Workspace::new());

                let mut exact: Vec<f64> = parameters.iter().copied().map(f64::from).collect();
                let expected = reference_loss(&model, &exact, &features, &labels);
                assert!((loss - expected).abs() < 1e-5, "{loss} for {expected}");
                for index in 0..exact.len() {
                    let (middle, h) = (exact[index], 1e-6);
                    exact[index] = middle + h;
                    let above = reference_loss(&model, &exact, &features, &labels);
                    exact[index] = middle - h;
                    let below = reference_loss(&model, &exact, &features, &labels);
                    exact[index] = middle;
                    let expected = (above - below) / (2.0 * h);
                    let got = f64::from(gradient[index]);
                    assert!(
                        (got - expected).abs() < 1e-5,
                        "{hidden:?} {activation:?}, {n_examples} examples, parameter {index}: {got} for {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_step_in_place_is_the_step_along_the_gradient() {
        let step = SgdStep {
            learning_rate: 0.3,
            weight_decay: 0.05,
        };
        for (hidden, activation) in NETWORKS {
            let Case {
                model,
                parameters,
                features,
                labels,
            } = case(hidden, activation, 9);
            let batch = Batch::new(&features, &labels);
            let mut workspace = Workspace::new();
            let mut gradient = vec![0.0; parameters.len()];
            let loss = model.loss_and_gradient(&parameters, batch, &mut gradient, &mut workspace);
            let mut stepped = parameters.clone();
            let step_loss = model.sgd_step(&mut stepped, batch, step, &mut workspace);
            assert_eq!(loss.to_bits(), step_loss.to_bits());
            for ((stepped, parameter), slope) in stepped.iter().zip(&parameters).zip(&gradient) {
                let expected = parameter - 0.3 * (slope + 0.05 * parameter);
                assert!((stepped - expected).abs() < 1e-6, "{stepped} for {expected}");
            }
        }
    }

    #[test]
    fn an_evaluation_counts_and_sums_what_training_minimises() {
        for (hidden, activation) in NETWORKS {
            let Case {
                model,
                parameters,
                features,
                labels,
            } = case(hidden, activation, 20);
            let batch = Batch::new(&features, &labels);
            let evaluation = model.evaluate(&parameters, batch, &mut Workspace::new());
            let exact: Vec<f64> = parameters.iter().copied().map(f64::from).collect();
            let expected = reference_loss(&model, &exact, &features, &labels);
            assert!((evaluation.mean_loss() - expected).abs() < 1e-5);
            assert_eq!(evaluation.n_examples, 20);
            // The prediction is right where the label's loss is the smallest of all labels'.
            let n_correct = features
                .chunks_exact(7)
                .zip(&labels)
                .filter(|(example, label)| {
                    let loss = |class| reference_loss(&model, &exact, example, &[class]);
                    (0..3).all(|class| loss(class) >= loss(**label))
                })
                .count();
            assert_eq!(evaluation.n_correct, n_correct as u64);
        }
    }

    #[test]
    fn a_gradient_does_not_depend_on_what_the_workspace_held() {
        let Case {
            model,
            parameters,
            features,
            labels,
        } = case(&[6, 5], Activation::Relu, 12);
        let mut used = Workspace::new();
        let [values] = used.buffers([5000]);
        values.fill(f32::NAN);
        let gradient = |n: usize, workspace: &mut Workspace| {
            let mut gradient = vec![f32::NAN; parameters.len()];
            let batch = Batch::new(&features[..n * 7], &labels[..n]);
            model.loss_and_gradient(&parameters, batch, &mut gradient, workspace);
            gradient.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
        };
        for n in [12, 5, 1] {
            assert_eq!(gradient(n, &mut used), gradient(n, &mut Workspace::new()));
        }
    }

    #[test]
    fn the_clipped_sum_is_that_of_single_gradients() {
        for (hidden, activation) in NETWORKS {
            for n_examples in checks::BATCH_SIZES {
                let case = case(hidden, activation, n_examples);
                let batch = Batch::new(&case.features, &case.labels);
                checks::clipped_sum_is_that_of_single_gradients(&case.model, &case.parameters, batch);
            }
        }
    }

    /// Inputs of 1e30 give gradients by the first weights of that size, whose squares `f32` cannot hold.
    #[test]
    fn huge_gradients_are_clipped_and_those_that_are_not_finite_contribute_nothing() {
        let mut case = case(&[5], Activation::Tanh, 9);
        let biases = case.model.layers[0].offset + 7 * 5;
        case.parameters[..biases].fill(0.0);
        case.features[3 * 7..4 * 7].fill(1e30);
        let clipped_sum = |case: &Case| {
            let mut sum = vec![0.0; case.parameters.len()];
            let batch = Batch::new(&case.features, &case.labels);
            let report = case.model.add_clipped_gradients(
                &case.parameters,
                batch,
                0.5,
                &mut sum,
                &mut Workspace::new(),
            );
            (sum, report)
        };
        let norm = |sum: &[f32]| {
            sum.iter()
                .map(|value| f64::from(*value).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        let (sum, report) = clipped_sum(&case);
        assert_eq!(report.n_not_finite, 0);
        assert!(norm(&sum) <= 9.0 * 0.5 && sum.iter().all(|value| value.is_finite()));
        let (alone, _) = clipped_sum(&Case {
            features: vec![1e30; 7],
            labels: vec![case.labels[3]],
            model: case.model.clone(),
            parameters: case.parameters.clone(),
        });
        assert!(
            (norm(&alone) - 0.5).abs() < 1e-5 && norm(&alone) <= 0.5,
            "{}",
            norm(&alone)
        );

        let without = |places: [usize; 3]| {
            let mut sum = vec![0.0; case.parameters.len()];
            for example in (0..9).filter(|example| !places.contains(example)) {
                let batch = Batch::new(&case.features, &case.labels).slice(example..example + 1);
                let mut workspace = Workspace::new();
                case.model
                    .add_clipped_gradients(&case.parameters, batch, 0.5, &mut sum, &mut workspace);
            }
            sum
        };
        let expected = without([0, 4, 8]);
        for (example, value) in [(0, f32::NAN), (4, f32::INFINITY), (8, f32::NEG_INFINITY)] {
            case.features[example * 7 + 2] = value;
        }
        let (sum, report) = clipped_sum(&case);
        assert_eq!((report.n_examples, report.n_not_finite), (9, 3));
        assert!(report.loss_sum.is_finite());
        for (got, expected) in sum.iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-5, "{got} for {expected}");
        }
    }

    /// Where all logits but the label's are hugely negative the loss is exactly 0, and so is its gradient.
    #[test]
    fn zero_gradients_add_nothing() {
        let mut case = case(&[], Activation::Relu, 5);
        case.parameters.fill(0.0);
        case.parameters[7 * 3] = 200.0;
        case.labels.fill(0);
        let mut sum = vec![0.25; case.parameters.len()];
        let batch = Batch::new(&case.features, &case.labels);
        let report =
            case.model
                .add_clipped_gradients(&case.parameters, batch, 1e-3, &mut sum, &mut Workspace::new());
        assert_eq!((report.n_clipped, report.n_not_finite), (0, 0));
        assert!(sum.iter().all(|value| (value - 0.25).abs() < f32::MIN_POSITIVE));
    }

    #[test]
    fn parts_of_a_batch_add_up_to_the_whole() {
        let case = case(&[6, 5], Activation::Relu, 20);
        let batch = Batch::new(&case.features, &case.labels);
        let mut workspace = Workspace::new();
        let (mut whole, mut parts) = (vec![0.0; case.parameters.len()], vec![0.0; case.parameters.len()]);
        let mut clip = |batch, sum: &mut [f32]| {
            case.model
                .add_clipped_gradients(&case.parameters, batch, 0.3, sum, &mut workspace)
        };
        let expected = clip(batch, &mut whole);
        let mut report = ClippingReport::default();
        for range in [0..7, 7..7, 7..20] {
            report.add(clip(batch.slice(range), &mut parts));
        }
        assert_eq!((report.n_examples, report.n_clipped), (20, expected.n_clipped));
        for (part, whole) in parts.iter().zip(&whole) {
            assert!((part - whole).abs() < 1e-5);
        }
    }

    #[test]
    fn an_empty_batch_changes_nothing() {
        let Case {
            model,
            mut parameters,
            ..
        } = case(&[6], Activation::Relu, 1);
        let before = parameters.clone();
        let mut gradient = vec![1.0; parameters.len()];
        let mut workspace = Workspace::new();
        let empty = Batch::new(&[], &[]);
        let loss = model.loss_and_gradient(&parameters, empty, &mut gradient, &mut workspace);
        assert!(
            loss.abs() < f64::MIN_POSITIVE && gradient.iter().all(|value| value.abs() < f32::MIN_POSITIVE)
        );
        let step = SgdStep {
            learning_rate: 1.0,
            weight_decay: 0.0,
        };
        model.sgd_step(&mut parameters, empty, step, &mut workspace);
        assert_eq!(parameters, before);
        assert_eq!(
            model.evaluate(&parameters, empty, &mut workspace),
            Evaluation::default()
        );
    }

    #[test]
    fn non_finite_parameters_give_non_finite_losses() {
        let Case {
            model,
            mut parameters,
            features,
            labels,
        } = case(&[6], Activation::Relu, 4);
        parameters[0] = f32::NAN;
        let mut gradient = vec![0.0; parameters.len()];
        let batch = Batch::new(&features, &labels);
        assert!(
            model
                .loss_and_gradient(&parameters, batch, &mut gradient, &mut Workspace::new())
                .is_nan()
        );
        assert!(
            model
                .evaluate(&parameters, batch, &mut Workspace::new())
                .loss_sum
                .is_nan()
        );
    }

    /// A standard deviation estimated from 10,000 normal values is off by 0.7 % (one standard deviation), so 5 % is
    /// beyond seven: a false alarm has probability below 1e-6.
    #[test]
    fn initial_weights_have_their_standard_deviation() {
        for (activation, variance) in [
            (Activation::Relu, 2.0 / 100.0_f32),
            (Activation::Tanh, 2.0 / 200.0),
        ] {
            let model = Mlp::new(100, &[100, 100], 100, activation).unwrap();
            let mut parameters = vec![f32::NAN; model.n_parameters()];
            model.initialize(&mut parameters, &mut TrainingRng::from_seed([5; 32]));
            for view in model.parameters() {
                let values = &parameters[view.range()];
                let mean_square = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
                let expected = match view.name.as_str() {
                    "output.weight" => 1.0 / 100.0,
                    name if name.ends_with("bias") => 0.0,
                    _ => variance,
                };
                assert!(
                    (mean_square.sqrt() - expected.sqrt()).abs() <= 0.05 * expected.sqrt(),
                    "{}",
                    view.name
                );
            }
        }
    }
}
