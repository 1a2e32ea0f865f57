//! What one client does with its own examples: a few epochs of gradient descent.

use rand::Rng;
use rand::seq::SliceRandom;

use crate::augmentation::{Augmentation, AugmentationError};
use crate::dataset::Dataset;
use crate::model::{Batch, GradientParts, Model, SgdStep, Workspace};
use crate::optimizer::{Optimizer, OptimizerState, checked_penalty};
use crate::rng::TrainingRng;

/// Settings of local training, the same for every client and public.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalTraining {
    epochs: usize,
    batch_size: usize,
    optimizer: Optimizer,
    l1: f32,
    l2: f32,
    /// Weight μ of the pull toward the global model.
    proximal: f32,
}

/// Why settings, or a model and data together, were refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// A batch without examples.
    #[error("training batch_size must be at least 1, got 0")]
    BatchSize,
    /// The data has more classes than the model.
    #[error("the data has {data} classes, the model {model}")]
    Classes {
        /// Classes of the data.
        data: usize,
        /// Classes of the model.
        model: usize,
    },
    /// A share that is kept from step to step is out of range.
    #[error("{name} must be at least 0 and below 1, got {got}")]
    Decay {
        /// Which one.
        name: &'static str,
        /// The number that came.
        got: f32,
    },
    /// Adam's ε is not a finite number above 0.
    #[error("epsilon must be a finite number above 0, got {got}")]
    Epsilon {
        /// The number that came.
        got: f32,
    },
    /// No pass over the data.
    #[error("training epochs must be at least 1, got 0")]
    Epochs,
    /// Examples have another number of values than the model takes.
    #[error("an example of the data has {data} values, the model takes {model}")]
    Features {
        /// Values of an example.
        data: usize,
        /// Inputs of the model.
        model: usize,
    },
    /// The weight of a penalty is not a finite number from 0 on.
    #[error("{name} must be a finite number of at least 0, got {got}")]
    Penalty {
        /// Which one.
        name: &'static str,
        /// The number that came.
        got: f32,
    },
    /// The learning rate is not a finite number above 0.
    #[error("learning_rate must be a finite number above 0, got {got}")]
    LearningRate {
        /// The number that came.
        got: f32,
    },
    /// The weight of the proximal term is not a finite number from 0 on.
    #[error("mu must be a finite number of at least 0, got {got}")]
    Proximal {
        /// The number that came.
        got: f32,
    },
}

impl LocalTraining {
    /// `epochs` passes over a client's examples, each in a fresh random order, in batches of `batch_size`; the last
    /// batch of a pass may be smaller.
    pub fn new(epochs: usize, batch_size: usize, optimizer: Optimizer) -> Result<Self, SettingError> {
        match (epochs, batch_size) {
            (0, _) => Err(SettingError::Epochs),
            (_, 0) => Err(SettingError::BatchSize),
            _ => Ok(Self {
                epochs,
                batch_size,
                optimizer,
                proximal: 0.0,
                l1: 0.0,
                l2: 0.0,
            }),
        }
    }

    /// The same with the term `mu` / 2 · ‖w − w₀‖² added to the loss, w₀ being the global model: each step goes by
    /// learning rate × `mu` × (w − w₀) further back (Li et al. 2020, "Federated Optimization in Heterogeneous Networks", arXiv
    /// 1812.06127, FedProx).
    pub fn with_proximal(self, mu: f32) -> Result<Self, SettingError> {
        if !(mu.is_finite() && mu >= 0.0) {
            return Err(SettingError::Proximal { got: mu });
        }
        Ok(Self { proximal: mu, ..self })
    }

    /// The same with `l1` Σ |θ| + ½ `l2` Σ θ² over all parameters, biases included, added to the loss that is minimised.
    /// Reported losses are without it.
    pub fn with_penalties(self, l1: f32, l2: f32) -> Result<Self, SettingError> {
        Ok(Self {
            l1: checked_penalty("l1", l1)?,
            l2: checked_penalty("l2", l2)?,
            ..self
        })
    }

    /// Passes over the examples.
    pub fn epochs(&self) -> usize {
        self.epochs
    }

    /// Examples a step.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// The optimizer. It begins anew with each client and round.
    pub fn optimizer(&self) -> Optimizer {
        self.optimizer
    }

    /// Adds the gradient by the parameters of the penalties and of the proximal term.
    fn add_penalties(&self, parameters: &[f32], global: &[f32], gradient: &mut [f32]) {
        if self.l1 <= 0.0 && self.l2 <= 0.0 && self.proximal <= 0.0 {
            return;
        }
        let pairs = parameters.iter().zip(global);
        for (slope, (&parameter, &global)) in gradient.iter_mut().zip(pairs) {
            let sign = if parameter == 0.0 { 0.0 } else { parameter.signum() };
            *slope += self.l1 * sign + self.l2 * parameter + self.proximal * (parameter - global);
        }
    }
}

/// Scratch memory of one thread for training and evaluation. It is reused from client to client; once it has seen the
/// largest, nothing is allocated.
#[derive(Default)]
pub struct TrainingWorkspace {
    order: Vec<u32>,
    features: Vec<f32>,
    labels: Vec<u32>,
    model: Workspace,
    optimizer: OptimizerState,
}

impl std::fmt::Debug for TrainingWorkspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrainingWorkspace")
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

impl TrainingWorkspace {
    /// An empty workspace.
    pub fn new() -> Self {
        Self::default()
    }

    /// Buffers for a batch of `n_examples`, and the model's own workspace.
    pub(crate) fn batch(
        &mut self,
        n_examples: usize,
        n_features: usize,
    ) -> (&mut [f32], &mut [u32], &mut Workspace) {
        grown(&mut self.features, n_examples * n_features);
        grown(&mut self.labels, n_examples);
        let features = &mut self.features[..n_examples * n_features];
        (features, &mut self.labels[..n_examples], &mut self.model)
    }
}

fn grown<T: Clone + Default>(buffer: &mut Vec<T>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
}

/// What local training did. All of it is about the client's private data.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LocalReport {
    /// Examples that the client holds.
    pub n_examples: usize,
    /// Steps of the optimizer.
    pub n_steps: usize,
    /// Examples seen, counted once for each epoch.
    pub n_examples_seen: usize,
    /// Mean loss over the examples seen, each before its step; 0 where there were none.
    pub mean_loss: f64,
}

/// Trains a model on the examples of one client at a time. Shared by all threads; each brings its own workspace.
#[derive(Debug, Clone, Copy)]
pub struct LocalTrainer<'a> {
    model: &'a dyn Model,
    dataset: &'a Dataset,
    training: LocalTraining,
    augmentation: Augmentation,
}

impl<'a> LocalTrainer<'a> {
    /// A trainer for clients of `dataset`.
    ///
    /// # Errors
    ///
    /// The model takes another number of features than the data has, or knows fewer classes.
    pub fn new(
        model: &'a dyn Model,
        dataset: &'a Dataset,
        training: LocalTraining,
    ) -> Result<Self, SettingError> {
        if model.n_features() != dataset.n_features() {
            return Err(SettingError::Features {
                data: dataset.n_features(),
                model: model.n_features(),
            });
        }
        if model.n_classes() < dataset.n_classes() {
            return Err(SettingError::Classes {
                data: dataset.n_classes(),
                model: model.n_classes(),
            });
        }
        Ok(Self {
            model,
            dataset,
            training,
            augmentation: Augmentation::default(),
        })
    }

    /// The same, with examples varied each time they are used.
    ///
    /// # Errors
    ///
    /// The examples of the data set cannot be varied so.
    pub fn with_augmentation(self, augmentation: Augmentation) -> Result<Self, AugmentationError> {
        augmentation.check(self.dataset)?;
        Ok(Self { augmentation, ..self })
    }

    /// Trains from the parameters `global` on the client's `examples` (indices into the data set) and writes
    /// local minus global parameters to `update`.
    ///
    /// A client without examples gives a zero update. The update is neither clipped nor checked: training that
    /// diverges gives values that are not finite, and the caller's mechanism must deal with them.
    ///
    /// # Panics
    ///
    /// Where `global` or `update` has another length than the model's vector, or an example is beyond the data set.
    pub fn train(
        &self,
        global: &[f32],
        examples: &[u32],
        rng: &mut TrainingRng,
        workspace: &mut TrainingWorkspace,
        update: &mut [f32],
    ) -> LocalReport {
        assert_eq!(
            global.len(),
            self.model.n_parameters(),
            "length of the flat parameter vector"
        );
        assert_eq!(update.len(), global.len(), "length of the update");
        if examples.is_empty() {
            update.fill(0.0);
            return LocalReport::default();
        }
        // The caller's buffer holds the local parameters until the end, so that no other copy is needed.
        update.copy_from_slice(global);
        let report = self.run(update, global, examples, rng, workspace);
        for (local, global) in update.iter_mut().zip(global) {
            *local -= global;
        }
        report
    }

    /// The loss on one example (an index into the data set) and its gradient, which replaces what `gradient` held; for private
    /// gradient descent, which must bound the gradient of each example. `dropout_seed` is for models that drop values and for
    /// augmentation. Nothing else has an influence, so the same example has the same gradient beside whatever others.
    ///
    /// # Panics
    ///
    /// Where `parameters` has another length than the model's vector, or the example is beyond the data set.
    pub fn example_gradient(
        &self,
        parameters: &[f32],
        example: u32,
        dropout_seed: u64,
        workspace: &mut TrainingWorkspace,
        gradient: &mut GradientParts,
    ) -> f64 {
        gradient.clear();
        let (features, labels, model_workspace) = workspace.batch(1, self.dataset.n_features());
        self.dataset.gather(&[example], features, labels);
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&dropout_seed.to_le_bytes());
        self.augmentation
            .apply(self.dataset, features, &mut TrainingRng::from_seed(seed));
        let batch = Batch::new(features, labels).with_dropout_seed(dropout_seed);
        self.model
            .example_gradient(parameters, batch, gradient, model_workspace)
    }

    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    fn run(
        &self,
        parameters: &mut [f32],
        global: &[f32],
        examples: &[u32],
        rng: &mut TrainingRng,
        workspace: &mut TrainingWorkspace,
    ) -> LocalReport {
        // Taken out of the workspace so that batches can be borrowed from it beside.
        let mut order = std::mem::take(&mut workspace.order);
        order.clear();
        order.extend_from_slice(examples);
        let mut optimizer_state = std::mem::take(&mut workspace.optimizer);
        optimizer_state.reset(parameters.len());
        let mut report = LocalReport {
            n_examples: examples.len(),
            ..LocalReport::default()
        };
        let mut loss_sum = 0.0;
        for _ in 0..self.training.epochs {
            order.shuffle(rng);
            for indices in order.chunks(self.training.batch_size) {
                let (features, labels, model_workspace) =
                    workspace.batch(indices.len(), self.dataset.n_features());
                self.dataset.gather(indices, features, labels);
                self.augmentation.apply(self.dataset, features, rng);
                let mut batch = Batch::new(features, labels);
                if self.model.is_random() {
                    batch = batch.with_dropout_seed(rng.next_u64());
                }
                let mean_loss = match self.training.optimizer {
                    // Without an L1 penalty the step can be taken in place.
                    Optimizer::Sgd(sgd) if self.training.l1 <= 0.0 => {
                        // −η μ (w − w₀): the first half is what weight decay does, with the parameters from before the step.
                        let step = SgdStep {
                            learning_rate: sgd.learning_rate(),
                            weight_decay: self.training.l2 + self.training.proximal,
                        };
                        let loss = self.model.sgd_step(parameters, batch, step, model_workspace);
                        let pull = step.learning_rate * self.training.proximal;
                        if pull > 0.0 {
                            for (parameter, global) in parameters.iter_mut().zip(global) {
                                *parameter += pull * global;
                            }
                        }
                        loss
                    }
                    optimizer => {
                        let mut gradient = model_workspace.take_gradient(parameters.len());
                        let loss =
                            self.model
                                .loss_and_gradient(parameters, batch, &mut gradient, model_workspace);
                        self.training.add_penalties(parameters, global, &mut gradient);
                        optimizer.step(&mut optimizer_state, parameters, &gradient);
                        model_workspace.put_gradient(gradient);
                        loss
                    }
                };
                loss_sum += mean_loss * indices.len() as f64;
                report.n_steps += 1;
                report.n_examples_seen += indices.len();
            }
        }
        workspace.order = order;
        workspace.optimizer = optimizer_state;
        report.mean_loss = loss_sum / report.n_examples_seen as f64;
        report
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, RngExt};

    use super::*;
    use crate::evaluation::evaluate;
    use crate::model::{Activation, Loss, ModelSpec};
    use crate::optimizer::{Adam, Momentum, Sgd};

    fn sgd(learning_rate: f32) -> Optimizer {
        Optimizer::Sgd(Sgd::new(learning_rate).unwrap())
    }

    /// Three classes around three corners of a cube, well apart.
    fn three_corners(n_examples: usize) -> Dataset {
        let mut rng = TrainingRng::from_seed([1; 32]);
        let labels: Vec<u32> = (0..3).cycle().take(n_examples).collect();
        let mut values = Vec::new();
        for &label in &labels {
            for axis in 0..3 {
                values.push(f32::from(u8::from(axis == label)) + rng.random_range(-0.2..0.2));
            }
        }
        Dataset::from_values("corners", &[3], values, labels, 3).unwrap()
    }

    fn train(
        dataset: &Dataset,
        training: LocalTraining,
        examples: &[u32],
        seed: u8,
        workspace: &mut TrainingWorkspace,
    ) -> (Vec<f32>, LocalReport) {
        let model = ModelSpec::mlp(&[8]).build(&[3], 3).unwrap();
        let mut global = vec![0.0; model.n_parameters()];
        model.initialize(&mut global, &mut TrainingRng::from_seed([9; 32]));
        let trainer = LocalTrainer::new(model.as_ref(), dataset, training).unwrap();
        let mut update = vec![f32::NAN; global.len()];
        let mut rng = TrainingRng::from_seed([seed; 32]);
        let report = trainer.train(&global, examples, &mut rng, workspace, &mut update);
        (update, report)
    }

    /// From zero parameters softmax is 1/3 for each class, so one step of rate 0.6 on x = (1, 2, 3) of class 2 changes
    /// row i of the weights by 0.6 xᵢ (-1/3, -1/3, 2/3).
    #[test]
    fn one_step_is_the_one_computed_by_hand() {
        let dataset = Dataset::from_values("one", &[3], vec![1.0, 2.0, 3.0], vec![2], 3).unwrap();
        let model = ModelSpec::Softmax.build(&[3], 3).unwrap();
        let training = LocalTraining::new(1, 10, sgd(0.6)).unwrap();
        let trainer = LocalTrainer::new(model.as_ref(), &dataset, training).unwrap();
        let (global, mut update) = (vec![0.0; 12], vec![f32::NAN; 12]);
        let mut rng = TrainingRng::from_seed([0; 32]);
        let report = trainer.train(
            &global,
            &[0],
            &mut rng,
            &mut TrainingWorkspace::new(),
            &mut update,
        );
        let expected = [-0.2, -0.2, 0.4, -0.4, -0.4, 0.8, -0.6, -0.6, 1.2, -0.2, -0.2, 0.4];
        for (got, expected) in update.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{update:?}");
        }
        assert!((report.mean_loss - 3.0_f64.ln()).abs() < 1e-6);
        assert_eq!(
            (report.n_examples, report.n_steps, report.n_examples_seen),
            (1, 1, 1)
        );
    }

    /// Two steps by hand on x = (1, 2, 3) of class 2, learning rate 0.6: the first as above, since w = w₀; in the second the logits
    /// have moved, and the proximal term takes 0.6 μ of the first step back.
    #[test]
    fn the_proximal_term_pulls_toward_the_global_model() {
        let dataset = Dataset::from_values("one", &[3], vec![1.0, 2.0, 3.0], vec![2], 3).unwrap();
        let model = ModelSpec::Softmax.build(&[3], 3).unwrap();
        let update = |mu: f32, global: f32, epochs| {
            let training = LocalTraining::new(epochs, 10, sgd(0.6))
                .unwrap()
                .with_proximal(mu)
                .unwrap();
            let trainer = LocalTrainer::new(model.as_ref(), &dataset, training).unwrap();
            let (global, mut update) = (vec![global; 12], vec![f32::NAN; 12]);
            let mut rng = TrainingRng::from_seed([0; 32]);
            trainer.train(
                &global,
                &[0],
                &mut rng,
                &mut TrainingWorkspace::new(),
                &mut update,
            );
            update
        };
        // Equal weights leave the probabilities at 1/3 and give the same gradient, whatever w₀.
        for global in [0.0, 0.5] {
            let (one, plain, pulled) = (
                update(0.25, global, 1),
                update(0.0, global, 2),
                update(0.25, global, 2),
            );
            let first = [-0.2, -0.2, 0.4, -0.4, -0.4, 0.8, -0.6, -0.6, 1.2, -0.2, -0.2, 0.4];
            for place in 0..12 {
                assert!((one[place] - first[place]).abs() < 1e-5, "{one:?}");
                let back = plain[place] - pulled[place];
                assert!((back - 0.6 * 0.25 * first[place]).abs() < 1e-5, "{back}");
            }
        }
        assert!(
            LocalTraining::new(1, 1, sgd(0.1))
                .unwrap()
                .with_proximal(-1.0)
                .is_err()
        );
    }

    #[test]
    fn a_client_without_examples_sends_a_zero_update() {
        let training = LocalTraining::new(3, 10, sgd(0.1)).unwrap();
        let (update, report) = train(
            &three_corners(30),
            training,
            &[],
            1,
            &mut TrainingWorkspace::new(),
        );
        assert!(update.iter().all(|value| value.to_bits() == 0));
        assert_eq!(report, LocalReport::default());
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_in_any_workspace() {
        let dataset = three_corners(60);
        let training = LocalTraining::new(2, 7, sgd(0.1)).unwrap();
        let examples: Vec<u32> = (5..45).collect();
        let bits = |seed, workspace: &mut TrainingWorkspace| {
            let (update, report) = train(&dataset, training, &examples, seed, workspace);
            let bits: Vec<u32> = update.iter().map(|value| value.to_bits()).collect();
            (bits, report.mean_loss.to_bits())
        };
        let mut used = TrainingWorkspace::new();
        train(
            &dataset,
            LocalTraining::new(1, 60, sgd(0.1)).unwrap(),
            &(0..60).collect::<Vec<_>>(),
            3,
            &mut used,
        );
        let expected = bits(1, &mut TrainingWorkspace::new());
        assert_eq!(bits(1, &mut used), expected);
        assert_eq!(bits(1, &mut used), expected);
        assert_ne!(bits(2, &mut used), expected);
    }

    #[test]
    fn every_epoch_sees_every_example_in_batches() {
        let training = LocalTraining::new(4, 16, sgd(0.1)).unwrap();
        let examples: Vec<u32> = (0..50).collect();
        let (_, report) = train(
            &three_corners(60),
            training,
            &examples,
            1,
            &mut TrainingWorkspace::new(),
        );
        assert_eq!(
            (report.n_examples, report.n_steps, report.n_examples_seen),
            (50, 16, 200)
        );
    }

    #[test]
    fn training_learns_what_can_be_learnt() {
        let dataset = three_corners(300);
        let training = LocalTraining::new(30, 10, sgd(0.3)).unwrap();
        let examples: Vec<u32> = (0..300).collect();
        let mut workspace = TrainingWorkspace::new();
        let model = ModelSpec::mlp(&[8]).build(&[3], 3).unwrap();
        let mut global = vec![0.0; model.n_parameters()];
        model.initialize(&mut global, &mut TrainingRng::from_seed([9; 32]));
        let (update, _) = train(&dataset, training, &examples, 1, &mut workspace);
        let before = evaluate(model.as_ref(), &global, &dataset, &mut workspace);
        for (parameter, change) in global.iter_mut().zip(&update) {
            *parameter += change;
        }
        let after = evaluate(model.as_ref(), &global, &dataset, &mut workspace);
        assert!(before.accuracy() < 0.9, "{before:?}");
        assert!(after.accuracy() > 0.99 && after.mean_loss() < 0.1, "{after:?}");
    }

    /// Every optimizer learns the corners, and what one remembers of a client does not reach the next.
    #[test]
    fn every_optimizer_learns_and_begins_anew() {
        let dataset = three_corners(300);
        let spec = ModelSpec::Mlp {
            hidden: vec![16],
            activation: Activation::Tanh,
            dropout: 0.2,
            loss: Loss::SoftmaxCrossEntropy,
        };
        let model = spec.build(&[3], 3).unwrap();
        let mut global = vec![0.0; model.n_parameters()];
        model.initialize(&mut global, &mut TrainingRng::from_seed([9; 32]));
        let examples: Vec<u32> = (0..300).collect();
        let mut workspace = TrainingWorkspace::new();
        for optimizer in [
            sgd(0.3),
            Optimizer::Momentum(Momentum::new(0.05, 0.9).unwrap()),
            Optimizer::Adam(Adam::new(0.01).unwrap().with_weight_decay(0.01).unwrap()),
        ] {
            let training = LocalTraining::new(15, 10, optimizer).unwrap();
            let trainer = LocalTrainer::new(model.as_ref(), &dataset, training).unwrap();
            let train = |workspace: &mut TrainingWorkspace| {
                let mut update = vec![0.0; global.len()];
                let mut rng = TrainingRng::from_seed([1; 32]);
                trainer.train(&global, &examples, &mut rng, workspace, &mut update);
                update
            };
            let update = train(&mut workspace);
            assert_eq!(update, train(&mut workspace));
            let local: Vec<f32> = global
                .iter()
                .zip(&update)
                .map(|(global, change)| global + change)
                .collect();
            let after = evaluate(model.as_ref(), &local, &dataset, &mut workspace);
            assert!(after.accuracy() > 0.99, "{optimizer:?}: {after:?}");
        }
    }

    /// Central differences in double precision with h = 1e-4 are exact for squares and, away from 0, for absolute values; `f32` rounds
    /// the gradient to 1e-6. A wrong factor would show as 0.01 or more.
    #[test]
    fn the_gradient_of_the_penalties_agrees_with_finite_differences() {
        let (l1, l2, mu) = (0.3_f32, 0.7_f32, 0.2_f32);
        let training = LocalTraining::new(1, 1, sgd(0.1)).unwrap();
        let training = training
            .with_penalties(l1, l2)
            .and_then(|training| training.with_proximal(mu));
        let training = training.unwrap();
        let parameters = [0.5_f32, -1.25, 3.0, -0.75];
        let global = [1.0_f32, 0.0, -2.0, -0.75];
        let penalty = |parameters: &[f64]| -> f64 {
            let terms = parameters.iter().zip(global).map(|(&value, global)| {
                f64::from(l1) * value.abs()
                    + 0.5 * f64::from(l2) * value * value
                    + 0.5 * f64::from(mu) * (value - f64::from(global)).powi(2)
            });
            terms.sum()
        };
        let mut gradient = [10.0_f32, 20.0, 30.0, 40.0];
        training.add_penalties(&parameters, &global, &mut gradient);
        for place in 0..4 {
            let moved = |by: f64| {
                let mut values = parameters.map(f64::from);
                values[place] += by;
                penalty(&values)
            };
            let expected = 10.0 * (place as f64 + 1.0) + (moved(1e-4) - moved(-1e-4)) / 2e-4;
            assert!(
                (f64::from(gradient[place]) - expected).abs() < 1e-5,
                "{gradient:?}, {place}: {expected}"
            );
        }
        // At 0, where the absolute value has a kink, nothing pulls.
        let mut gradient = [0.0];
        training.add_penalties(&[0.0], &[0.0], &mut gradient);
        assert!(gradient[0].abs() < 1e-9, "{gradient:?}");
    }

    /// By hand: the step in place (without an L1 penalty) and the one along a gradient both take learning rate × (gradient + L2 θ) off.
    #[test]
    fn one_step_with_penalties_is_the_one_computed_by_hand() {
        let dataset = Dataset::from_values("one", &[1], vec![0.0], vec![0], 2).unwrap();
        let model = ModelSpec::Softmax.build(&[1], 2).unwrap();
        // With x = 0 the weights have no gradient but that of the penalties.
        let global = [2.0_f32, -3.0, 0.0, 0.0];
        for (l1, l2, expected) in [
            (0.0, 0.5, [-0.1 * 0.5 * 2.0, 0.1 * 0.5 * 3.0]),
            (0.25, 0.5, [-0.1 * (0.25 + 1.0), 0.1 * (0.25 + 1.5)]),
        ] {
            let training = LocalTraining::new(1, 1, sgd(0.1))
                .unwrap()
                .with_penalties(l1, l2)
                .unwrap();
            let trainer = LocalTrainer::new(model.as_ref(), &dataset, training).unwrap();
            let (mut rng, mut update) = (TrainingRng::from_seed([1; 32]), [0.0; 4]);
            trainer.train(
                &global,
                &[0],
                &mut rng,
                &mut TrainingWorkspace::new(),
                &mut update,
            );
            for (got, expected) in update.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-6, "{update:?}");
            }
        }
    }

    #[test]
    fn penalties_pull_parameters_towards_zero() {
        let dataset = three_corners(30);
        let norm = |l1, l2, optimizer| {
            let training = LocalTraining::new(20, 30, optimizer).unwrap();
            let training = training.with_penalties(l1, l2).unwrap();
            let model = ModelSpec::Softmax.build(&[3], 3).unwrap();
            let trainer = LocalTrainer::new(model.as_ref(), &dataset, training).unwrap();
            let (global, mut update) = (vec![0.0; 12], vec![0.0; 12]);
            let mut rng = TrainingRng::from_seed([1; 32]);
            let examples: Vec<u32> = (0..30).collect();
            trainer.train(
                &global,
                &examples,
                &mut rng,
                &mut TrainingWorkspace::new(),
                &mut update,
            );
            update.iter().map(|value| value * value).sum::<f32>()
        };
        let momentum = Optimizer::Momentum(Momentum::new(0.02, 0.8).unwrap());
        for optimizer in [sgd(0.1), momentum] {
            let free = norm(0.0, 0.0, optimizer);
            assert!(norm(0.0, 0.5, optimizer) < 0.7 * free && norm(0.1, 0.0, optimizer) < 0.7 * free);
        }
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        assert_eq!(LocalTraining::new(0, 1, sgd(0.1)), Err(SettingError::Epochs));
        assert_eq!(LocalTraining::new(1, 0, sgd(0.1)), Err(SettingError::BatchSize));
        let training = LocalTraining::new(1, 1, sgd(0.1)).unwrap();
        for weight in [-0.1, f32::NAN, f32::INFINITY] {
            assert!(
                training.with_penalties(weight, 0.0).is_err()
                    && training.with_penalties(0.0, weight).is_err()
            );
        }
        let dataset = three_corners(30);
        let training = LocalTraining::new(1, 1, sgd(0.1)).unwrap();
        let narrow = ModelSpec::Softmax.build(&[2], 3).unwrap();
        let error = LocalTrainer::new(narrow.as_ref(), &dataset, training).unwrap_err();
        assert_eq!(
            error.to_string(),
            "an example of the data has 3 values, the model takes 2"
        );
        let few = ModelSpec::Softmax.build(&[3], 2).unwrap();
        let error = LocalTrainer::new(few.as_ref(), &dataset, training).unwrap_err();
        assert_eq!(error.to_string(), "the data has 3 classes, the model 2");
    }

    #[test]
    fn nothing_is_drawn_for_a_client_without_examples() {
        let dataset = three_corners(30);
        let model = ModelSpec::Softmax.build(&[3], 3).unwrap();
        let training = LocalTraining::new(1, 1, sgd(0.1)).unwrap();
        let trainer = LocalTrainer::new(model.as_ref(), &dataset, training).unwrap();
        let mut rng = TrainingRng::from_seed([1; 32]);
        trainer.train(
            &[0.0; 12],
            &[],
            &mut rng,
            &mut TrainingWorkspace::new(),
            &mut [0.0; 12],
        );
        assert_eq!(rng.next_u64(), TrainingRng::from_seed([1; 32]).next_u64());
    }
}
