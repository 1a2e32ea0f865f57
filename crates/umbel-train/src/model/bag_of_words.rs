//! The linear text classifier.

use std::sync::Arc;

use super::ModelError;
use super::chain::Chain;
use super::layer::{Layer, TokenSum, TokenValues};
use super::loss::Loss;

/// Logistic regression on how often each word occurs, weighted, in proportion: one sigmoid for two classes, else a softmax. It
/// is convex and begins at zero.
///
/// Examples are `length` tokens below `n_tokens`; `weights` has one for each token. With tokens that are hashes of words this is the
/// linear model on hashed features of Weinberger et al. 2009 ("Feature Hashing for Large Scale Multitask Learning", arXiv
/// 0902.2206), without signs. Parameters: `output.weight` `[n_tokens, 1]` (one column a class, for more than two) and `output.bias`.
pub(super) fn build(
    n_tokens: usize,
    length: usize,
    weights: Option<&Arc<[f32]>>,
    n_classes: usize,
) -> Result<Chain, ModelError> {
    if n_tokens == 0 || length == 0 {
        return Err(ModelError::NoFeatures);
    }
    assert!(
        weights.is_none_or(|weights| weights.len() == n_tokens),
        "a weight for each token"
    );
    let loss = Loss::cross_entropy(n_classes);
    super::check_size(&[n_tokens, n_classes])?;
    let output: Box<dyn Layer> = Box::new(TokenSum {
        n_tokens,
        length,
        width: loss.n_values(n_classes),
        values: TokenValues::Unit(weights.cloned()),
    });
    Chain::new(vec![("output".to_owned(), output)], loss, n_classes)
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::model::{Batch, Model, Workspace, checks};
    use crate::rng::TrainingRng;

    #[test]
    fn gradients_are_right_and_clipped_right() {
        let mut rng = TrainingRng::from_seed([3; 32]);
        let weights: Arc<[f32]> = (0..9).map(|_| rng.random_range(0.2..3.0)).collect();
        for (weights, n_classes) in [(None, 2), (Some(&weights), 3)] {
            let model = build(9, 12, weights, n_classes as usize).unwrap();
            let parameters: Vec<f32> = (0..model.n_parameters())
                .map(|_| rng.random_range(-0.7..0.7))
                .collect();
            for n_examples in checks::BATCH_SIZES {
                let mut features: Vec<f32> = (0..n_examples * 12)
                    .map(|_| f32::from(rng.random_range(0..9_u8)))
                    .collect();
                // The first example has no word.
                features[..12].fill(0.0);
                let labels: Vec<u32> = (0..n_examples).map(|_| rng.random_range(0..n_classes)).collect();
                let batch = Batch::new(&features, &labels);
                checks::clipped_sum_is_that_of_single_gradients(&model, &parameters, batch);
                checks::abuses_are_withstood(&model, &parameters, batch);
                if n_examples < 20 {
                    checks::gradient_is_that_of_finite_differences(&model, &parameters, batch, 3e-4);
                }
            }
        }
    }

    /// By hand: words 4, 4 and 5 with weights 1 and 3 give x = (2, 3) / √13.
    #[test]
    fn words_are_counted_weighted_and_scaled() {
        let weights: Arc<[f32]> = [9.0, 9.0, 9.0, 9.0, 1.0, 3.0].into();
        let model = build(6, 6, Some(&weights), 2).unwrap();
        let parameters = [100.0, 100.0, 100.0, 100.0, 1.0, -2.0, 0.5];
        let mut probabilities = [0.0; 4];
        // Padding, start and unknown words do not count.
        let features = [0.0, 1.0, 4.0, 5.0, 2.0, 4.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0];
        let batch = Batch::new(&features, &[0, 0]);
        model.probabilities(&parameters, batch, &mut probabilities, &mut Workspace::new());
        let logit = (2.0 - 6.0) / 13.0_f32.sqrt() + 0.5;
        for (got, logit) in [(probabilities[1], logit), (probabilities[3], 0.5)] {
            assert!((got - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-6);
        }
        // ∂y = p - 0; the gradient by word 4 is x₄ ∂y.
        let mut gradient = [0.0; 7];
        let batch = batch.slice(0..1);
        model.loss_and_gradient(&parameters, batch, &mut gradient, &mut Workspace::new());
        let slope = probabilities[1];
        let expected = [
            0.0,
            0.0,
            0.0,
            0.0,
            2.0 / 13.0_f32.sqrt() * slope,
            3.0 / 13.0_f32.sqrt() * slope,
            slope,
        ];
        for (got, expected) in gradient.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{gradient:?}");
        }
    }
}
