//! The LSTM classifier for text.

use super::ModelError;
use super::chain::Chain;
use super::layer::{Dense, Embedding, Initial, Lstm};
use super::loss::Loss;

/// Embedding, LSTM, and one sigmoid for two classes (else a softmax), as in the usual Keras tutorial on IMDB reviews.
///
/// Examples are `length` tokens below `n_tokens`. Parameters: `embedding.weight`, `lstm.kernel`, `lstm.recurrent_kernel`,
/// `lstm.bias`, `output.weight`, `output.bias`, with Keras' shapes and order of gates.
pub(super) fn build(
    n_tokens: usize,
    length: usize,
    width: usize,
    units: usize,
    n_classes: usize,
) -> Result<Chain, ModelError> {
    if n_tokens == 0 || length == 0 {
        return Err(ModelError::NoFeatures);
    }
    if width == 0 || units == 0 {
        return Err(ModelError::EmptyLayer {
            hidden: vec![width, units],
        });
    }
    super::check_size(&[length, width, units, 16])?;
    let loss = Loss::cross_entropy(n_classes);
    let embedding = Embedding {
        n_tokens,
        length,
        width,
    };
    let lstm = Lstm { length, width, units };
    let output = Dense {
        n_inputs: units,
        n_outputs: loss.n_values(n_classes),
        activation: None,
        initial: Initial::Glorot,
    };
    let layers: Vec<(String, Box<dyn super::layer::Layer>)> = vec![
        ("embedding".to_owned(), Box::new(embedding)),
        ("lstm".to_owned(), Box::new(lstm)),
        ("output".to_owned(), Box::new(output)),
    ];
    Chain::new(layers, loss, n_classes)
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::model::{Batch, Model, checks};
    use crate::rng::TrainingRng;

    struct Case {
        model: Chain,
        parameters: Vec<f32>,
        features: Vec<f32>,
        labels: Vec<u32>,
    }

    fn case(n_classes: u32, n_examples: usize) -> Case {
        let mut rng = TrainingRng::from_seed([3; 32]);
        let model = build(9, 12, 3, 5, n_classes as usize).unwrap();
        Case {
            parameters: (0..model.n_parameters())
                .map(|_| rng.random_range(-0.7..0.7))
                .collect(),
            features: (0..n_examples * 12)
                .map(|_| f32::from(rng.random_range(0..9_u8)))
                .collect(),
            labels: (0..n_examples).map(|_| rng.random_range(0..n_classes)).collect(),
            model,
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        for n_classes in [2, 4] {
            let case = case(n_classes, 3);
            let batch = Batch::new(&case.features, &case.labels);
            checks::gradient_is_that_of_finite_differences(&case.model, &case.parameters, batch, 3e-4);
        }
    }

    #[test]
    fn the_clipped_sum_is_that_of_single_gradients() {
        for n_examples in checks::BATCH_SIZES {
            let case = case(2, n_examples);
            let batch = Batch::new(&case.features, &case.labels);
            checks::clipped_sum_is_that_of_single_gradients(&case.model, &case.parameters, batch);
            checks::abuses_are_withstood(&case.model, &case.parameters, batch);
            checks::zero_gradients_add_nothing(&case.model, &case.parameters, batch);
        }
    }

    /// Over 250 steps, as long as the tutorial's, so that what is kept of each step and example is at its place.
    #[test]
    fn long_sequences_are_clipped_right_too() {
        let mut rng = TrainingRng::from_seed([4; 32]);
        let model = build(50, 250, 16, 32, 2).unwrap();
        let mut parameters = vec![0.0; model.n_parameters()];
        model.initialize(&mut parameters, &mut rng);
        let features: Vec<f32> = (0..40 * 250)
            .map(|_| f32::from(rng.random_range(0..50_u8)))
            .collect();
        let labels: Vec<u32> = (0..40).map(|_| rng.random_range(0..2)).collect();
        let batch = Batch::new(&features, &labels);
        checks::clipped_sum_is_that_of_single_gradients(&model, &parameters, batch);
    }

    /// As in Keras: uniform kernels, orthonormal recurrent rows, a bias of 1 for the forget gates.
    #[test]
    fn training_begins_where_keras_begins() {
        let model = build(9, 12, 3, 5, 2).unwrap();
        let mut parameters = vec![f32::NAN; model.n_parameters()];
        model.initialize(&mut parameters, &mut TrainingRng::from_seed([4; 32]));
        assert!(parameters.iter().all(|value| value.is_finite()));
        let view = |name: &str| {
            let found = model.parameters().iter().find(|view| view.name == name).unwrap();
            &parameters[found.range()]
        };
        let rows = view("lstm.recurrent_kernel");
        for left in 0..5 {
            for right in 0..5 {
                let pairs = rows[left * 20..][..20].iter().zip(&rows[right * 20..][..20]);
                let product: f32 = pairs.map(|(left, right)| left * right).sum();
                assert!((product - f32::from(u8::from(left == right))).abs() < 1e-5);
            }
        }
        let bound = (6.0 / 23.0_f32).sqrt();
        assert!(view("lstm.kernel").iter().all(|value| value.abs() <= bound));
        let bias: Vec<f32> = [[0.0; 5], [1.0; 5], [0.0; 5], [0.0; 5]].concat();
        assert_eq!(view("lstm.bias"), bias);
        assert!(view("embedding.weight").iter().all(|value| value.abs() <= 0.05));
    }

    #[test]
    #[should_panic(expected = "token 9 of a table of 9")]
    fn a_token_outside_of_the_table_is_not_read() {
        let case = case(2, 1);
        let features = [9.0; 12];
        case.model.evaluate(
            &case.parameters,
            Batch::new(&features, &[0]),
            &mut crate::model::Workspace::new(),
        );
    }

    /// Loss and gradient of one step in double precision by PyTorch 2.15.0 (`nn.LSTM` with one of its two biases at 0,
    /// `binary_cross_entropy_with_logits` and autograd; weights transposed to its layout), for parameters 0.8 sin(1 + 0.7 k)
    /// rounded to single.
    #[test]
    fn one_step_is_that_of_another_implementation() {
        let model = build(5, 3, 2, 2, 2).unwrap();
        let parameters = checks::waves(model.n_parameters(), 0.8, |k| (1.0 + 0.7 * k).sin());
        let features = [1.0, 3.0, 1.0, 0.0, 4.0, 2.0];
        #[rustfmt::skip]
        let expected = [
            2.39163e-2, 2.11876e-2, -6.98765e-2, -7.08821e-2, -1.16195e-2, -9.54850e-3, 4.79004e-3, 7.78635e-3,
            3.22953e-2, 3.06682e-2, 8.57759e-3, 1.95291e-3, 2.51506e-3, 1.01422e-3, 7.05600e-3, 1.46618e-2,
            1.39251e-2, 4.27843e-3, 9.01965e-3, 8.77961e-3, 1.13352e-3, -9.15373e-4, -2.55982e-2, -2.23532e-2,
            5.78650e-3, -3.26669e-4, 1.37007e-3, 3.77838e-4, 7.90746e-4, 6.36271e-4, 5.55285e-3, 6.33278e-3,
            2.36203e-3, 1.27575e-3, 2.80846e-3, 1.06489e-3, 4.71912e-4, -5.04125e-4, 6.62215e-3, 6.72648e-3,
            2.37846e-3, 7.33557e-4, -2.29395e-4, 4.57353e-3, 6.72795e-3, 1.25277e-2, 3.51895e-4, 2.31601e-2,
            9.58685e-3, 1.00648e-2, -1.40665e-2, -2.22402e-2, -8.65124e-2,
        ];
        checks::gradient_is(
            &model,
            &parameters,
            Batch::new(&features, &[1, 0]),
            0.724_496_260_6,
            &expected,
        );
    }
}
