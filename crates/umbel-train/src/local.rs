//! What one client does with its own examples: a few epochs of gradient descent.

use rand::seq::SliceRandom;

use crate::dataset::Dataset;
use crate::model::{Batch, Model, SgdStep, Workspace};
use crate::rng::TrainingRng;

/// Settings of local training, the same for every client and public.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalTraining {
    epochs: usize,
    batch_size: usize,
    optimizer: Optimizer,
}

/// How parameters follow the gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Optimizer {
    /// Plain stochastic gradient descent.
    Sgd(Sgd),
}

/// Settings of plain stochastic gradient descent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    learning_rate: f32,
    weight_decay: f32,
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
    /// The learning rate is not a finite number above 0.
    #[error("learning_rate must be a finite number above 0, got {got}")]
    LearningRate {
        /// The number that came.
        got: f32,
    },
    /// The weight decay is not a finite number from 0 on.
    #[error("weight_decay must be a finite number of at least 0, got {got}")]
    WeightDecay {
        /// The number that came.
        got: f32,
    },
}

impl Sgd {
    /// Descent with this step size. A larger one learns faster and diverges sooner.
    pub fn new(learning_rate: f32) -> Result<Self, SettingError> {
        if !(learning_rate.is_finite() && learning_rate > 0.0) {
            return Err(SettingError::LearningRate { got: learning_rate });
        }
        Ok(Self {
            learning_rate,
            weight_decay: 0.0,
        })
    }

    /// The same with `weight_decay` × parameters added to every gradient, biases included.
    pub fn with_weight_decay(self, weight_decay: f32) -> Result<Self, SettingError> {
        if !(weight_decay.is_finite() && weight_decay >= 0.0) {
            return Err(SettingError::WeightDecay { got: weight_decay });
        }
        Ok(Self { weight_decay, ..self })
    }

    fn step(&self) -> SgdStep {
        SgdStep {
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
        }
    }
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
            }),
        }
    }

    /// Passes over the examples.
    pub fn epochs(&self) -> usize {
        self.epochs
    }

    /// Examples a step.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// The optimizer.
    pub fn optimizer(&self) -> Optimizer {
        self.optimizer
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
        })
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
        let report = self.run(update, examples, rng, workspace);
        for (local, global) in update.iter_mut().zip(global) {
            *local -= global;
        }
        report
    }

    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    fn run(
        &self,
        parameters: &mut [f32],
        examples: &[u32],
        rng: &mut TrainingRng,
        workspace: &mut TrainingWorkspace,
    ) -> LocalReport {
        // Taken out of the workspace so that batches can be borrowed from it beside.
        let mut order = std::mem::take(&mut workspace.order);
        order.clear();
        order.extend_from_slice(examples);
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
                let batch = Batch::new(features, labels);
                let mean_loss = match self.training.optimizer {
                    Optimizer::Sgd(sgd) => {
                        self.model
                            .sgd_step(parameters, batch, sgd.step(), model_workspace)
                    }
                };
                loss_sum += mean_loss * indices.len() as f64;
                report.n_steps += 1;
                report.n_examples_seen += indices.len();
            }
        }
        workspace.order = order;
        report.mean_loss = loss_sum / report.n_examples_seen as f64;
        report
    }
}
