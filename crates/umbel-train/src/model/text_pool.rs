//! The text classifier that averages embeddings.

use super::chain::Chain;
use super::layer::{Dense, Dropout, Initial, Layer, TokenSum, TokenValues};
use super::loss::Loss;
use super::{Activation, ModelError};

/// The mean of the embeddings of a text's tokens, then dense layers, and one sigmoid for two classes (else a softmax).
///
/// Examples are `length` tokens below `n_tokens`; token 0 is padding and does not count. Parameters: `embedding.weight`
/// `[n_tokens, width]`, `hidden0.weight`, …, `output.bias`.
pub(super) fn build(
    n_tokens: usize,
    length: usize,
    width: usize,
    hidden: &[usize],
    dropout: f32,
    n_classes: usize,
) -> Result<Chain, ModelError> {
    if n_tokens == 0 || length == 0 {
        return Err(ModelError::NoFeatures);
    }
    if width == 0 || hidden.contains(&0) {
        return Err(ModelError::EmptyLayer {
            hidden: [&[width], hidden].concat(),
        });
    }
    if !(0.0..1.0).contains(&dropout) {
        return Err(ModelError::Dropout { got: dropout });
    }
    let loss = Loss::cross_entropy(n_classes);
    let embedding = TokenSum {
        n_tokens,
        length,
        width,
        values: TokenValues::Shares,
    };
    let mut layers: Vec<(String, Box<dyn Layer>)> = vec![("embedding".to_owned(), Box::new(embedding))];
    let mut n_inputs = width;
    if dropout > 0.0 {
        let layer = Dropout {
            n_values: width,
            rate: dropout,
            salt: 0,
        };
        layers.push(("dropout".to_owned(), Box::new(layer)));
    }
    for (index, &n_outputs) in hidden.iter().enumerate() {
        super::check_size(&[n_inputs, n_outputs])?;
        let dense = Dense {
            n_inputs,
            n_outputs,
            activation: Some(Activation::Relu),
            initial: Initial::He,
        };
        layers.push((format!("hidden{index}"), Box::new(dense)));
        n_inputs = n_outputs;
    }
    let output = Dense {
        n_inputs,
        n_outputs: loss.n_values(n_classes),
        activation: None,
        initial: Initial::Logits,
    };
    layers.push(("output".to_owned(), Box::new(output)));
    Chain::new(layers, loss, n_classes)
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::model::{Batch, Model, checks};
    use crate::rng::TrainingRng;

    #[test]
    fn gradients_are_right_and_clipped_right() {
        let mut rng = TrainingRng::from_seed([3; 32]);
        for (hidden, n_classes) in [(&[][..], 2), (&[4], 3)] {
            let model = build(9, 12, 3, hidden, 0.0, n_classes as usize).unwrap();
            let parameters: Vec<f32> = (0..model.n_parameters())
                .map(|_| rng.random_range(-0.7..0.7))
                .collect();
            for n_examples in checks::BATCH_SIZES {
                let mut features: Vec<f32> = (0..n_examples * 12)
                    .map(|_| f32::from(rng.random_range(0..9_u8)))
                    .collect();
                features[..8].fill(0.0);
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

    /// Tokens 2, 2 and 4 of a text padded in front: two thirds of row 2 and a third of row 4.
    #[test]
    fn padding_does_not_count() {
        let model = build(5, 5, 1, &[], 0.0, 2).unwrap();
        let parameters = [100.0, 0.0, 3.0, 0.0, 6.0, 1.0, 0.0];
        let mut probabilities = [0.0; 4];
        let features = [0.0, 0.0, 2.0, 4.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let batch = Batch::new(&features, &[0, 0]);
        model.probabilities(
            &parameters,
            batch,
            &mut probabilities,
            &mut crate::model::Workspace::new(),
        );
        let expected = 1.0 / (1.0 + (-4.0_f32).exp());
        assert!((probabilities[1] - expected).abs() < 1e-6 && (probabilities[3] - 0.5).abs() < 1e-6);
    }
}
