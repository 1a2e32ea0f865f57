//! A model as a chain of layers with a loss at its end.

use std::ops::Range;

use super::gradient_parts::GradientParts;
use super::layer::{Accumulate, Layer, Mode, State, resize};
use super::loss::Loss;
use super::workspace::Workspace;
use super::{Batch, ClippingReport, Model, ModelError, ParameterView, SgdStep};
use crate::evaluation::Evaluation;
use crate::rng::TrainingRng;

/// No model may have more parameters than this, 2^31.
pub(super) const MAX_PARAMETERS: usize = 1 << 31;

/// Values of scratch memory that a batch may take before it is computed in parts: 64 MiB.
const MAX_SCRATCH: usize = 1 << 24;

/// Layers one after the other. Their parameters lie in this order in the flat vector, each named `layer.parameter`.
#[derive(Debug)]
pub(super) struct Chain {
    links: Vec<Link>,
    loss: Loss,
    n_classes: usize,
    views: Vec<ParameterView>,
    /// Most examples that are computed together.
    part: usize,
}

#[derive(Debug)]
struct Link {
    layer: Box<dyn Layer>,
    parameters: Range<usize>,
    /// Whether a layer before it has parameters, which need the gradient by its input.
    needs_input_gradient: bool,
}

impl Chain {
    /// A model of these layers, each with its name.
    ///
    /// # Errors
    ///
    /// Fewer than two classes, or more than 2^31 parameters.
    ///
    /// # Panics
    ///
    /// Where a layer does not fit the one before it, or the last one the loss: a mistake of whoever builds the chain.
    pub(super) fn new(
        layers: Vec<(String, Box<dyn Layer>)>,
        loss: Loss,
        n_classes: usize,
    ) -> Result<Self, ModelError> {
        if n_classes < 2 {
            return Err(ModelError::Classes { got: n_classes });
        }
        if loss == Loss::BinaryCrossEntropy && n_classes != 2 {
            return Err(ModelError::NotBinary { got: n_classes });
        }
        let (mut links, mut views) = (Vec::<Link>::new(), Vec::new());
        let (mut offset, mut n_scratch, mut most_at_once) = (0_usize, 0_usize, usize::MAX);
        for (name, layer) in layers {
            if let Some(before) = links.last() {
                assert_eq!(
                    before.layer.n_outputs(),
                    layer.n_inputs(),
                    "inputs of layer {name}"
                );
            }
            let (begin, needs_input_gradient) = (offset, offset > 0);
            for (parameter, shape) in layer.parameters() {
                let n_values = shape
                    .iter()
                    .try_fold(1_usize, |product, &size| product.checked_mul(size));
                let end = n_values
                    .and_then(|n_values| offset.checked_add(n_values))
                    .filter(|&end| end <= MAX_PARAMETERS);
                let end = end.ok_or(ModelError::TooLarge {
                    limit: MAX_PARAMETERS,
                })?;
                views.push(ParameterView {
                    name: format!("{name}.{parameter}"),
                    shape,
                    offset,
                });
                offset = end;
            }
            n_scratch = n_scratch
                .saturating_add(layer.n_outputs().saturating_mul(2))
                .saturating_add(layer.n_scratch());
            most_at_once = most_at_once.min(layer.most_at_once());
            links.push(Link {
                layer,
                parameters: begin..offset,
                needs_input_gradient,
            });
        }
        let n_outputs = links.last().map(|link| link.layer.n_outputs());
        assert_eq!(
            n_outputs,
            Some(loss.n_values(n_classes)),
            "outputs of the last layer"
        );
        Ok(Self {
            links,
            loss,
            n_classes,
            views,
            part: (MAX_SCRATCH / n_scratch).clamp(1, most_at_once),
        })
    }

    /// Ranges of about equal length, none longer than what is computed together.
    fn parts(&self, n_examples: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let n_parts = n_examples.div_ceil(self.part).max(1);
        let length = n_examples.div_ceil(n_parts).max(1);
        (0..n_examples)
            .step_by(length)
            .map(move |begin| begin..n_examples.min(begin + length))
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

    /// Computes the output of every layer.
    fn forward(&self, parameters: &[f32], batch: Batch<'_>, mode: Mode, states: &mut [State]) {
        for (index, link) in self.links.iter().enumerate() {
            let (before, state) = at(states, index);
            let input = match before {
                Some(before) => &before.output,
                None => batch.features(),
            };
            let parameters = &parameters[link.parameters.clone()];
            link.layer.forward(parameters, input, state, mode);
        }
    }

    /// Replaces the last output by `scale` times the gradient of each example's loss, and gives `each` the losses of
    /// consecutive rows, as many at once as `at_once`.
    fn end(
        &self,
        batch: Batch<'_>,
        at_once: usize,
        scale: f32,
        states: &mut [State],
        mut each: impl FnMut(f64),
    ) {
        let n_values = self.loss.n_values(self.n_classes);
        let state = states.last_mut().expect("a chain has a layer");
        std::mem::swap(&mut state.output, &mut state.gradient);
        for (rows, labels) in state
            .gradient
            .chunks_mut(at_once * n_values)
            .zip(batch.labels().chunks(at_once))
        {
            each(self.loss.loss_and_gradient(rows, labels, n_values, scale));
        }
    }

    /// Goes backward through the layers. `visit` is given each with its input, once the gradient by that is known.
    fn backward(
        &self,
        features: &[f32],
        states: &mut [State],
        mut visit: impl FnMut(&Link, &[f32], &mut State, Option<&mut [f32]>),
    ) {
        for (index, link) in self.links.iter().enumerate().rev() {
            let (before, state) = at(states, index);
            let (input, input_gradient) = match before {
                None => (features, None),
                Some(before) => {
                    let length = before.output.len();
                    let gradient = resize(&mut before.gradient, length);
                    (
                        &before.output[..],
                        Some(gradient).filter(|_| link.needs_input_gradient),
                    )
                }
            };
            visit(link, input, state, input_gradient);
        }
    }

    /// Adds the gradient of the mean loss, 1 / `n_examples` of the sum over `batch`, to `target`, which is the parameters
    /// themselves where a step is taken in place: a layer's parameters are no longer needed once the gradient by its input
    /// is known. Gives the sum of the losses.
    #[allow(clippy::cast_precision_loss, reason = "batches are far below 2^24 examples")]
    fn pass(
        &self,
        mut target: Target<'_>,
        batch: Batch<'_>,
        mode: Mode,
        n_examples: usize,
        states: &mut [State],
    ) -> f64 {
        self.forward(target.parameters(), batch, mode, states);
        let (scale, mut loss_sum) = (1.0 / n_examples as f32, 0.0);
        self.end(batch, batch.n_examples(), scale, states, |losses| {
            loss_sum += losses
        });
        self.backward(batch.features(), states, |link, input, state, input_gradient| {
            let range = link.parameters.clone();
            let parameters = &target.parameters()[range.clone()];
            link.layer.backward(parameters, input, state, input_gradient);
            let (accumulate, whole) = target.parts();
            link.layer
                .add_gradient(input, state, accumulate, &mut whole[range]);
        });
        loss_sum
    }
}

/// Where [`Chain::pass`] reads parameters and adds gradients.
enum Target<'a> {
    Gradient {
        parameters: &'a [f32],
        accumulate: Accumulate,
        gradient: &'a mut [f32],
    },
    Parameters {
        accumulate: Accumulate,
        parameters: &'a mut [f32],
    },
}

impl Target<'_> {
    fn parameters(&self) -> &[f32] {
        match self {
            Self::Gradient { parameters, .. } => parameters,
            Self::Parameters { parameters, .. } => parameters,
        }
    }

    fn parts(&mut self) -> (Accumulate, &mut [f32]) {
        match self {
            Self::Gradient {
                accumulate, gradient, ..
            } => (*accumulate, gradient),
            Self::Parameters {
                accumulate,
                parameters,
            } => (*accumulate, parameters),
        }
    }
}

/// The state of layer `index`, and that of the one before it.
fn at(states: &mut [State], index: usize) -> (Option<&mut State>, &mut State) {
    let (before, rest) = states.split_at_mut(index);
    (before.last_mut(), &mut rest[0])
}

fn training(batch: Batch<'_>, first_example: usize) -> Mode {
    Mode::Training {
        seed: batch.dropout_seed(),
        first_example,
    }
}

impl Model for Chain {
    fn parameters(&self) -> &[ParameterView] {
        &self.views
    }

    fn n_features(&self) -> usize {
        self.links[0].layer.n_inputs()
    }

    fn n_classes(&self) -> usize {
        self.n_classes
    }

    fn is_random(&self) -> bool {
        self.links.iter().any(|link| link.layer.is_random())
    }

    fn initialize(&self, parameters: &mut [f32], rng: &mut TrainingRng) {
        assert_eq!(
            parameters.len(),
            self.n_parameters(),
            "length of the flat parameter vector"
        );
        for link in &self.links {
            link.layer
                .initialize(&mut parameters[link.parameters.clone()], rng);
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    fn loss_and_gradient(
        &self,
        parameters: &[f32],
        batch: Batch<'_>,
        gradient: &mut [f32],
        workspace: &mut Workspace,
    ) -> f64 {
        self.check(parameters.len(), batch);
        assert_eq!(gradient.len(), parameters.len(), "length of the gradient");
        let n_examples = batch.n_examples();
        if n_examples == 0 {
            gradient.fill(0.0);
            return 0.0;
        }
        let (mut accumulate, mut loss_sum) = (Accumulate::REPLACE, 0.0);
        for part in self.parts(n_examples) {
            let target = Target::Gradient {
                parameters,
                accumulate,
                gradient: &mut *gradient,
            };
            let mode = training(batch, part.start);
            let states = workspace.states(self.links.len());
            loss_sum += self.pass(target, batch.slice(part), mode, n_examples, states);
            accumulate = Accumulate::ADD;
        }
        loss_sum / n_examples as f64
    }

    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    fn sgd_step(
        &self,
        parameters: &mut [f32],
        batch: Batch<'_>,
        step: SgdStep,
        workspace: &mut Workspace,
    ) -> f64 {
        self.check(parameters.len(), batch);
        let n_examples = batch.n_examples();
        if n_examples == 0 || n_examples > self.part {
            return super::step_along_gradient(self, parameters, batch, step, workspace);
        }
        let target = Target::Parameters {
            accumulate: Accumulate {
                keep: 1.0 - step.learning_rate * step.weight_decay,
                factor: -step.learning_rate,
            },
            parameters,
        };
        let states = workspace.states(self.links.len());
        self.pass(target, batch, training(batch, 0), n_examples, states) / n_examples as f64
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
        let mut report = ClippingReport::default();
        for range in self.parts(batch.n_examples()) {
            let (part, mode) = (batch.slice(range.clone()), training(batch, range.start));
            let (states, examples) = workspace.states_and_examples(self.links.len(), part.n_examples());
            self.forward(parameters, part, mode, states);
            let mut losses = examples.losses.iter_mut();
            self.end(part, 1, 1.0, states, |loss| {
                losses.next().into_iter().for_each(|place| *place = loss);
            });
            self.backward(part.features(), states, |link, input, state, input_gradient| {
                let parameters = &parameters[link.parameters.clone()];
                link.layer.backward(parameters, input, state, input_gradient);
                link.layer
                    .add_squared_norms(input, state, &mut examples.squared_norms);
            });
            report.add(examples.clip(clip_norm));
            self.backward(part.features(), states, |link, input, state, _| {
                let sum = &mut sum[link.parameters.clone()];
                link.layer.add_clipped_gradient(input, state, examples, sum);
            });
        }
        report
    }

    fn example_gradient(
        &self,
        parameters: &[f32],
        batch: Batch<'_>,
        parts: &mut GradientParts,
        workspace: &mut Workspace,
    ) -> f64 {
        self.check(parameters.len(), batch);
        assert_eq!(batch.n_examples(), 1, "a gradient of one example");
        let states = workspace.states(self.links.len());
        self.forward(parameters, batch, training(batch, 0), states);
        let mut loss = 0.0;
        self.end(batch, 1, 1.0, states, |own| loss = own);
        self.backward(batch.features(), states, |link, input, state, input_gradient| {
            let parameters = &parameters[link.parameters.clone()];
            link.layer.backward(parameters, input, state, input_gradient);
        });
        for (index, link) in self.links.iter().enumerate() {
            let (before, state) = at(states, index);
            let input = before.map_or_else(|| batch.features(), |before| &before.output);
            link.layer
                .push_gradient(input, state, link.parameters.clone(), parts);
        }
        loss
    }

    fn evaluate(&self, parameters: &[f32], batch: Batch<'_>, workspace: &mut Workspace) -> Evaluation {
        self.check(parameters.len(), batch);
        let mut total = Evaluation::default();
        let n_values = self.loss.n_values(self.n_classes);
        for part in self.parts(batch.n_examples()) {
            let part = batch.slice(part);
            let states = workspace.states(self.links.len());
            self.forward(parameters, part, Mode::Evaluation, states);
            let state = states.last_mut().expect("a chain has a layer");
            total.add(self.loss.evaluate(&mut state.output, part.labels(), n_values));
        }
        total
    }

    fn probabilities(
        &self,
        parameters: &[f32],
        batch: Batch<'_>,
        probabilities: &mut [f32],
        workspace: &mut Workspace,
    ) {
        self.check(parameters.len(), batch);
        assert_eq!(
            probabilities.len(),
            batch.n_examples() * self.n_classes,
            "a probability for each example and class"
        );
        for range in self.parts(batch.n_examples()) {
            let places = range.start * self.n_classes..range.end * self.n_classes;
            let states = workspace.states(self.links.len());
            self.forward(parameters, batch.slice(range), Mode::Evaluation, states);
            let state = states.last_mut().expect("a chain has a layer");
            self.loss
                .probabilities(&state.output, self.n_classes, &mut probabilities[places]);
        }
    }
}
