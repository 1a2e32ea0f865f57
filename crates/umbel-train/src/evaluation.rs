//! How well a model does on a data set.

use std::ops::Range;

use crate::dataset::Dataset;
use crate::local::TrainingWorkspace;
use crate::model::{Batch, Model};

/// Examples in one chunk of an evaluation.
pub const EVALUATION_CHUNK: usize = 1024;

/// Examples that are computed together within a chunk: enough for full speed, few enough to stay in cache.
const EVALUATION_BATCH: usize = 128;

/// Counts and losses over some examples.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Evaluation {
    /// How many examples.
    pub n_examples: u64,
    /// For how many of them the prediction was the label.
    pub n_correct: u64,
    /// Sum of their losses.
    pub loss_sum: f64,
}

impl Evaluation {
    /// Adds the evaluation of further examples.
    ///
    /// Sums of losses depend on the order of adding: add chunks in the order of
    /// [`evaluation_chunks`](crate::evaluation_chunks) to get the same bits every time.
    pub fn add(&mut self, other: Self) {
        self.n_examples += other.n_examples;
        self.n_correct += other.n_correct;
        self.loss_sum += other.loss_sum;
    }

    /// Share of correct predictions; NaN over no examples.
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    pub fn accuracy(&self) -> f64 {
        self.n_correct as f64 / self.n_examples as f64
    }

    /// Mean of the losses; NaN over no examples.
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    pub fn mean_loss(&self) -> f64 {
        self.loss_sum / self.n_examples as f64
    }
}

/// The fixed division of a data set into chunks of [`EVALUATION_CHUNK`] examples, the last one smaller.
///
/// Chunks may be evaluated on any thread in any order; added up in this order the result has the same bits.
pub fn evaluation_chunks(n_examples: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    let n_chunks = n_examples.div_ceil(EVALUATION_CHUNK);
    (0..n_chunks).map(move |chunk| {
        let begin = chunk * EVALUATION_CHUNK;
        begin..n_examples.min(begin + EVALUATION_CHUNK)
    })
}

/// Evaluates the examples `range` of `dataset`.
///
/// # Panics
///
/// Where the range ends after the last example, or model and data do not fit each other.
pub fn evaluate_chunk(
    model: &dyn Model,
    parameters: &[f32],
    dataset: &Dataset,
    range: Range<usize>,
    workspace: &mut TrainingWorkspace,
) -> Evaluation {
    let mut total = Evaluation::default();
    let mut begin = range.start;
    while begin < range.end {
        let end = range.end.min(begin + EVALUATION_BATCH);
        let (features, labels, model_workspace) = workspace.batch(end - begin, dataset.n_features());
        dataset.gather_range(begin..end, features, labels);
        total.add(model.evaluate(parameters, Batch::new(features, labels), model_workspace));
        begin = end;
    }
    total
}

/// Evaluates a whole data set on this thread, chunk after chunk.
pub fn evaluate(
    model: &dyn Model,
    parameters: &[f32],
    dataset: &Dataset,
    workspace: &mut TrainingWorkspace,
) -> Evaluation {
    let mut total = Evaluation::default();
    for range in evaluation_chunks(dataset.n_examples()) {
        total.add(evaluate_chunk(model, parameters, dataset, range, workspace));
    }
    total
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::model::{Activation, Loss, ModelSpec};
    use crate::rng::TrainingRng;

    #[test]
    fn chunks_cover_every_example_once() {
        for n_examples in [0, 1, 1023, 1024, 1025, 5000] {
            let chunks: Vec<Range<usize>> = evaluation_chunks(n_examples).collect();
            assert!(
                chunks
                    .iter()
                    .all(|chunk| !chunk.is_empty() && chunk.len() <= EVALUATION_CHUNK)
            );
            assert!(chunks.iter().cloned().flatten().eq(0..n_examples));
        }
    }

    #[test]
    #[allow(clippy::cast_possible_truncation, reason = "small whole numbers")]
    fn the_result_has_the_same_bits_on_any_number_of_threads() {
        let mut rng = TrainingRng::from_seed([2; 32]);
        let n_examples = 5000;
        let values = (0..n_examples * 6).map(|_| rng.random_range(-1.0..1.0)).collect();
        let labels = (0..n_examples as u32).map(|example| example % 4).collect();
        let dataset = Dataset::from_values("it", &[6], values, labels, 4).unwrap();
        let spec = ModelSpec::Mlp {
            hidden: vec![8],
            activation: Activation::Tanh,
            dropout: 0.0,
            loss: Loss::SoftmaxCrossEntropy,
        };
        let model = spec.build(dataset.shape(), 4).unwrap();
        let mut parameters = vec![0.0; model.n_parameters()];
        model.initialize(&mut parameters, &mut rng);
        let (model, parameters) = (model.as_ref(), parameters.as_slice());
        let expected = evaluate(model, parameters, &dataset, &mut TrainingWorkspace::new());

        for n_threads in [1, 2, 3] {
            let chunks: Vec<Range<usize>> = evaluation_chunks(n_examples).collect();
            let mut results = vec![Evaluation::default(); chunks.len()];
            std::thread::scope(|scope| {
                for work in chunks
                    .chunks(chunks.len().div_ceil(n_threads))
                    .zip(results.chunks_mut(chunks.len().div_ceil(n_threads)))
                {
                    let dataset = &dataset;
                    scope.spawn(move || {
                        let mut workspace = TrainingWorkspace::new();
                        for (chunk, result) in work.0.iter().zip(work.1).rev() {
                            *result =
                                evaluate_chunk(model, parameters, dataset, chunk.clone(), &mut workspace);
                        }
                    });
                }
            });
            let mut total = Evaluation::default();
            results.into_iter().for_each(|result| total.add(result));
            assert_eq!(total.loss_sum.to_bits(), expected.loss_sum.to_bits());
            assert_eq!((total.n_examples, total.n_correct), (5000, expected.n_correct));
        }
    }
}
