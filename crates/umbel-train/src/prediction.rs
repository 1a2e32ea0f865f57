//! What a model says of examples.

use crate::dataset::Dataset;
use crate::local::TrainingWorkspace;
use crate::model::{Batch, Model};

/// Examples that are computed together.
const PREDICTION_BATCH: usize = 128;

/// The probability of each class for every example of `dataset`: `[n_examples, n_classes]`, row-major. Its labels are not
/// looked at.
///
/// # Panics
///
/// Where model, parameters and data do not fit each other.
pub fn predict(
    model: &dyn Model,
    parameters: &[f32],
    dataset: &Dataset,
    workspace: &mut TrainingWorkspace,
) -> Vec<f32> {
    let n_classes = model.n_classes();
    let mut probabilities = vec![0.0; dataset.n_examples() * n_classes];
    let parts = probabilities.chunks_mut(PREDICTION_BATCH * n_classes);
    for (part, probabilities) in parts.enumerate() {
        let begin = part * PREDICTION_BATCH;
        let end = begin + probabilities.len() / n_classes;
        let (features, labels, model_workspace) = workspace.batch(end - begin, dataset.n_features());
        dataset.gather_range(begin..end, features, labels);
        model.probabilities(
            parameters,
            Batch::new(features, labels),
            probabilities,
            model_workspace,
        );
    }
    probabilities
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelSpec;

    /// With weights (1, -1) for one class and none for the other, the probability of the first is the logistic function of
    /// the difference of the two values.
    #[test]
    fn probabilities_come_in_the_order_of_the_examples() {
        let n_examples = 300_u16;
        let values: Vec<f32> = (0..n_examples)
            .flat_map(|example| [f32::from(example) / 100.0, 1.0])
            .collect();
        let labels = vec![0; n_examples.into()];
        let dataset = Dataset::from_values("it", &[2], values, labels, 2).unwrap();
        let model = ModelSpec::Softmax.build(&[2], 2).unwrap();
        let parameters = [1.0, 0.0, -1.0, 0.0, 0.0, 0.0];
        let probabilities = predict(
            model.as_ref(),
            &parameters,
            &dataset,
            &mut TrainingWorkspace::new(),
        );
        assert_eq!(probabilities.len(), 600);
        for (example, pair) in (0_u16..).zip(probabilities.chunks_exact(2)) {
            let difference = f64::from(example) / 100.0 - 1.0;
            let expected = 1.0 / (1.0 + (-difference).exp());
            assert!(
                (f64::from(pair[0]) - expected).abs() < 1e-5,
                "{example}: {pair:?} for {expected}"
            );
            assert!((pair[0] + pair[1] - 1.0).abs() < 1e-5);
        }
    }
}
