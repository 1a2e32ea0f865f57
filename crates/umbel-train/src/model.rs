//! The seam between training and the models that are trained.

mod bag_of_words;
mod chain;
mod checkpoint;
#[cfg(test)]
mod checks;
mod clipping;
mod cnn;
mod cross_entropy;
mod gradient_parts;
mod layer;
mod loss;
mod lstm;
mod matrix;
mod mlp;
mod spec;
mod text_pool;
mod transformer;
mod vector;
mod workspace;

pub use self::checkpoint::{
    Checkpoint, CheckpointError, from_safetensors, safetensors_metadata, to_safetensors,
};
pub use self::clipping::ClippingReport;
pub use self::cnn::CnnSpec;
pub use self::gradient_parts::{GradientPart, GradientParts};
pub use self::layer::Activation;
pub use self::loss::Loss;
pub use self::spec::{ModelError, ModelSpec};
pub use self::transformer::TransformerSpec;
pub use self::workspace::Workspace;
use crate::evaluation::Evaluation;
use crate::rng::TrainingRng;

/// A model whose parameters are **one flat vector**, owned by the caller.
///
/// Clipping, summing and noise need no more than that vector; [`parameters`](Self::parameters) gives its parts their
/// names and shapes. The model itself holds no parameters and is shared by all threads; what a computation needs
/// besides lives in a [`Workspace`], one a thread, which stops allocating once it has seen the largest batch. (The matrix
/// products of the `gemm` crates still take small packing buffers from the allocator, and give them back.)
///
/// All methods are deterministic functions of their arguments. Buffers of a wrong length are a mistake of the caller
/// and panic. Non-finite parameters give non-finite losses and gradients, never a panic.
pub trait Model: std::fmt::Debug + Send + Sync {
    /// The named parts of the flat vector, without gaps and in the order of their offsets.
    fn parameters(&self) -> &[ParameterView];

    /// Length of the flat vector.
    fn n_parameters(&self) -> usize {
        self.parameters().last().map_or(0, |last| last.range().end)
    }

    /// Values of one example.
    fn n_features(&self) -> usize;

    /// How many classes are told apart; labels are below it.
    fn n_classes(&self) -> usize;

    /// Whether training drops values at random (dropout), so that each batch needs a
    /// [seed](Batch::with_dropout_seed).
    fn is_random(&self) -> bool {
        false
    }

    /// Fills `parameters` with the values that training begins from.
    fn initialize(&self, parameters: &mut [f32], rng: &mut TrainingRng);

    /// The mean loss over the batch, and its gradient, which replaces what `gradient` held.
    ///
    /// An empty batch has loss 0 and a zero gradient.
    fn loss_and_gradient(
        &self,
        parameters: &[f32],
        batch: Batch<'_>,
        gradient: &mut [f32],
        workspace: &mut Workspace,
    ) -> f64;

    /// One step of gradient descent in place; gives the mean loss before the step.
    ///
    /// Models override this where the step can be taken without writing the gradient down first. Both ways agree up
    /// to rounding.
    fn sgd_step(
        &self,
        parameters: &mut [f32],
        batch: Batch<'_>,
        step: SgdStep,
        workspace: &mut Workspace,
    ) -> f64;

    /// Adds to `sum` the gradients of the batch's examples, each scaled down to the norm `clip_norm` where it is longer.
    ///
    /// This is what DP-SGD (Abadi et al. 2016, algorithm 1) adds noise to: Σᵢ gᵢ min(1, C / ‖gᵢ‖), where gᵢ is the
    /// gradient of the loss of example i alone by **all** parameters, one vector. What an example adds depends on that
    /// example and the parameters only, and is no longer than `clip_norm` up to the rounding of a sum in `f32`. An example
    /// whose gradient or loss is not finite adds nothing. The sum is not divided by anything: the divisor must be public, so it is
    /// the caller's.
    ///
    /// Adding lets a caller pass a large batch in parts; `sum` must be zero before the first.
    ///
    /// # Panics
    ///
    /// Where `clip_norm` is not a finite number above 0.
    fn add_clipped_gradients(
        &self,
        parameters: &[f32],
        batch: Batch<'_>,
        clip_norm: f32,
        sum: &mut [f32],
        workspace: &mut Workspace,
    ) -> ClippingReport;

    /// The loss on the one example of `batch`; appends its gradient to `parts`, in parts that begin at the first parameter.
    ///
    /// It is the gradient of [`loss_and_gradient`](Self::loss_and_gradient) for this batch, but that products of two vectors are
    /// left to whoever uses them.
    ///
    /// # Panics
    ///
    /// Where `batch` has another number of examples than one.
    fn example_gradient(
        &self,
        parameters: &[f32],
        batch: Batch<'_>,
        parts: &mut GradientParts,
        workspace: &mut Workspace,
    ) -> f64;

    /// The sum of losses and the number of correct predictions over the batch.
    fn evaluate(&self, parameters: &[f32], batch: Batch<'_>, workspace: &mut Workspace) -> Evaluation;

    /// Writes the probability of each class to `probabilities`, `[n_examples, n_classes]`. Labels are not looked at.
    fn probabilities(
        &self,
        parameters: &[f32],
        batch: Batch<'_>,
        probabilities: &mut [f32],
        workspace: &mut Workspace,
    );
}

/// One step of gradient descent that writes the gradient down; gives the mean loss before the step.
fn step_along_gradient(
    model: &dyn Model,
    parameters: &mut [f32],
    batch: Batch<'_>,
    step: SgdStep,
    workspace: &mut Workspace,
) -> f64 {
    let mut gradient = workspace.take_gradient(parameters.len());
    let loss = model.loss_and_gradient(parameters, batch, &mut gradient, workspace);
    let keep = 1.0 - step.learning_rate * step.weight_decay;
    for (parameter, slope) in parameters.iter_mut().zip(&gradient) {
        *parameter = keep * *parameter - step.learning_rate * slope;
    }
    workspace.put_gradient(gradient);
    loss
}

/// Checks that as many values as this product can be parameters, or values of an example.
fn check_size(factors: &[usize]) -> Result<(), ModelError> {
    let limit = chain::MAX_PARAMETERS;
    let product = factors
        .iter()
        .try_fold(1_usize, |product, &factor| product.checked_mul(factor));
    match product {
        Some(size) if size <= limit => Ok(()),
        _ => Err(ModelError::TooLarge { limit }),
    }
}

/// One named part of a flat parameter vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterView {
    /// Its name, such as `hidden0.weight`; unique in a model.
    pub name: String,
    /// Its shape, last dimension fastest.
    pub shape: Vec<usize>,
    /// Where it begins in the flat vector.
    pub offset: usize,
}

impl ParameterView {
    /// How many values it has.
    pub fn n_values(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its place in the flat vector.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.n_values()
    }
}

/// Examples that are computed together.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    features: &'a [f32],
    labels: &'a [u32],
    dropout_seed: u64,
}

impl<'a> Batch<'a> {
    /// A batch of `labels.len()` examples with features `[labels.len(), n_features]`, row-major.
    ///
    /// Integer inputs, such as positions in a vocabulary, are held as `f32` too; up to 2^24 that is exact.
    ///
    /// # Panics
    ///
    /// Where the number of values is not a multiple of the number of examples.
    pub fn new(features: &'a [f32], labels: &'a [u32]) -> Self {
        let fits = if labels.is_empty() {
            features.is_empty()
        } else {
            features.len().is_multiple_of(labels.len())
        };
        assert!(
            fits,
            "{} values cannot be {} examples",
            features.len(),
            labels.len()
        );
        Self {
            features,
            labels,
            dropout_seed: 0,
        }
    }

    /// The same batch, for which dropped values are chosen by this seed. A model that
    /// [drops values](Model::is_random) needs a fresh one for every step; the others do not look at it.
    pub fn with_dropout_seed(self, dropout_seed: u64) -> Self {
        Self { dropout_seed, ..self }
    }

    /// The seed given by [`with_dropout_seed`](Self::with_dropout_seed), or 0.
    pub fn dropout_seed(&self) -> u64 {
        self.dropout_seed
    }

    /// Number of examples.
    pub fn n_examples(&self) -> usize {
        self.labels.len()
    }

    /// The examples `range` alone.
    ///
    /// # Panics
    ///
    /// Where the range ends after the last example.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        let width = self.features.len() / self.labels.len().max(1);
        Self {
            features: &self.features[range.start * width..range.end * width],
            labels: &self.labels[range],
            ..*self
        }
    }

    /// All features, row-major.
    pub fn features(&self) -> &'a [f32] {
        self.features
    }

    /// The class of each example.
    pub fn labels(&self) -> &'a [u32] {
        self.labels
    }
}

/// Settings of one step of gradient descent: new = (1 - learning rate × weight decay) × old - learning rate × gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// Step size.
    pub learning_rate: f32,
    /// Factor of the L2 penalty's gradient, on all parameters, biases included; 0 for none.
    pub weight_decay: f32,
}
