//! Softmax regression and multi-layer perceptrons.

use super::chain::Chain;
use super::layer::{Dense, Dropout, Initial, Layer};
use super::loss::Loss;
use super::{Activation, ModelError};

/// Dense layers with an activation between them and a softmax cross-entropy at the end. Without hidden layers it is
/// softmax regression, which is convex and begins at zero.
///
/// Parameters, layer by layer: `hidden0.weight` `[n_inputs, n_outputs]`, `hidden0.bias` `[n_outputs]`, and so on, then
/// `output.weight` and `output.bias`. With `dropout` above 0 that share of each hidden layer's values is dropped in training. Note that weights are stored inputs first; PyTorch stores outputs first.
///
/// # Errors
///
/// A width of zero, fewer than two classes, or more than 2^31 parameters.
pub(super) fn build(
    n_features: usize,
    hidden: &[usize],
    n_classes: usize,
    activation: Activation,
    dropout: f32,
    loss: Loss,
) -> Result<Chain, ModelError> {
    if n_features == 0 {
        return Err(ModelError::NoFeatures);
    }
    if !(0.0..1.0).contains(&dropout) {
        return Err(ModelError::Dropout { got: dropout });
    }
    if hidden.contains(&0) {
        return Err(ModelError::EmptyLayer {
            hidden: hidden.to_vec(),
        });
    }
    let mut layers: Vec<(String, Box<dyn Layer>)> = Vec::new();
    let mut n_inputs = n_features;
    for (index, &n_outputs) in hidden.iter().enumerate() {
        let layer = Dense {
            n_inputs,
            n_outputs,
            activation: Some(activation),
            initial: Initial::before(activation),
        };
        layers.push((format!("hidden{index}"), Box::new(layer)));
        n_inputs = n_outputs;
        if dropout > 0.0 {
            let layer = Dropout {
                n_values: n_outputs,
                rate: dropout,
                salt: index as u64,
            };
            layers.push((format!("dropout{index}"), Box::new(layer)));
        }
    }
    let output = Dense {
        n_inputs,
        n_outputs: loss.n_values(n_classes),
        activation: None,
        initial: if hidden.is_empty() {
            Initial::Zero
        } else {
            Initial::Logits
        },
    };
    layers.push(("output".to_owned(), Box::new(output)));
    Chain::new(layers, loss, n_classes)
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "a reference in f64 is compared with f32"
)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::evaluation::Evaluation;
    use crate::model::{Batch, ClippingReport, Model, SgdStep, Workspace, checks};
    use crate::rng::TrainingRng;

    /// The same network written down plainly in f64: mean loss over the batch.
    fn reference_loss(case: &Case, parameters: &[f64], features: &[f32], labels: &[u32]) -> f64 {
        let mut sum = 0.0;
        for (example, &label) in features.chunks_exact(7).zip(labels) {
            let mut values: Vec<f64> = example.iter().copied().map(f64::from).collect();
            let mut rest = parameters;
            for (index, widths) in case.widths.windows(2).enumerate() {
                let [n_inputs, n_outputs] = [widths[0], widths[1]];
                let (weights, after) = rest.split_at(n_inputs * n_outputs);
                let (biases, after) = after.split_at(n_outputs);
                rest = after;
                values = (0..n_outputs)
                    .map(|output| {
                        let products = values.iter().enumerate();
                        let product: f64 = products
                            .map(|(input, value)| value * weights[input * n_outputs + output])
                            .sum();
                        let sum = product + biases[output];
                        match case.activation {
                            _ if index + 2 == case.widths.len() => sum,
                            Activation::Relu => sum.max(0.0),
                            Activation::Sigmoid => 1.0 / (1.0 + (-sum).exp()),
                            Activation::Tanh => sum.tanh(),
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
        model: Chain,
        widths: Vec<usize>,
        activation: Activation,
        parameters: Vec<f32>,
        features: Vec<f32>,
        labels: Vec<u32>,
    }

    fn case(hidden: &[usize], activation: Activation, n_examples: usize) -> Case {
        let mut rng = TrainingRng::from_seed([11; 32]);
        let model = build(7, hidden, 3, activation, 0.0, Loss::SoftmaxCrossEntropy).unwrap();
        let parameters = (0..model.n_parameters())
            .map(|_| rng.random_range(-0.8..0.8))
            .collect();
        let features = (0..n_examples * 7).map(|_| rng.random_range(-1.0..1.0)).collect();
        let labels = (0..n_examples).map(|_| rng.random_range(0..3)).collect();
        Case {
            model,
            widths: [&[7], hidden, &[3]].concat(),
            activation,
            parameters,
            features,
            labels,
        }
    }

    const NETWORKS: [(&[usize], Activation); 5] = [
        (&[], Activation::Relu),
        (&[5], Activation::Relu),
        (&[6, 5, 4], Activation::Relu),
        (&[6, 5, 4], Activation::Sigmoid),
        (&[6, 5, 4], Activation::Tanh),
    ];

    /// Central differences of the f64 reference with h = 1e-6 are off by h² times a third derivative, here 1e-10 or
    /// less, and by rounding, 1e-16 / h = 1e-10. The f32 gradient is a mean of sums of some ten products of numbers of
    /// size about 1, each rounded to 6e-8, over at most four layers: below 1e-5. A wrong term would show as 1e-2.
    #[test]
    fn gradients_agree_with_finite_differences() {
        for (hidden, activation) in NETWORKS {
            for n_examples in [1, 6, 33] {
                let case = case(hidden, activation, n_examples);
                let (model, parameters) = (&case.model, &case.parameters);
                let (features, labels) = (&case.features, &case.labels);
                let mut gradient = vec![f32::NAN; parameters.len()];
                let batch = Batch::new(features, labels);
                let loss = model.loss_and_gradient(parameters, batch, &mut gradient, &mut Workspace::new());

                let mut exact: Vec<f64> = parameters.iter().copied().map(f64::from).collect();
                let expected = reference_loss(&case, &exact, features, labels);
                assert!((loss - expected).abs() < 1e-5, "{loss} for {expected}");
                for index in 0..exact.len() {
                    let (middle, h) = (exact[index], 1e-6);
                    exact[index] = middle + h;
                    let above = reference_loss(&case, &exact, features, labels);
                    exact[index] = middle - h;
                    let below = reference_loss(&case, &exact, features, labels);
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
            let case = case(hidden, activation, 9);
            let (model, parameters) = (&case.model, &case.parameters);
            let batch = Batch::new(&case.features, &case.labels);
            let mut workspace = Workspace::new();
            let mut gradient = vec![0.0; parameters.len()];
            let loss = model.loss_and_gradient(parameters, batch, &mut gradient, &mut workspace);
            let mut stepped = parameters.clone();
            let step_loss = model.sgd_step(&mut stepped, batch, step, &mut workspace);
            assert_eq!(loss.to_bits(), step_loss.to_bits());
            for ((stepped, parameter), slope) in stepped.iter().zip(parameters).zip(&gradient) {
                let expected = parameter - 0.3 * (slope + 0.05 * parameter);
                assert!((stepped - expected).abs() < 1e-6, "{stepped} for {expected}");
            }
        }
    }

    #[test]
    fn an_evaluation_counts_and_sums_what_training_minimises() {
        for (hidden, activation) in NETWORKS {
            let case = case(hidden, activation, 20);
            let (model, parameters) = (&case.model, &case.parameters);
            let (features, labels) = (&case.features, &case.labels);
            let batch = Batch::new(features, labels);
            let evaluation = model.evaluate(parameters, batch, &mut Workspace::new());
            let exact: Vec<f64> = parameters.iter().copied().map(f64::from).collect();
            let expected = reference_loss(&case, &exact, features, labels);
            assert!((evaluation.mean_loss() - expected).abs() < 1e-5);
            assert_eq!(evaluation.n_examples, 20);
            // The prediction is right where the label's loss is the smallest of all labels'.
            let n_correct = features
                .chunks_exact(7)
                .zip(labels)
                .filter(|(example, label)| {
                    let loss = |class| reference_loss(&case, &exact, example, &[class]);
                    (0..3).all(|class| loss(class) >= loss(**label))
                })
                .count();
            assert_eq!(evaluation.n_correct, n_correct as u64);
        }
    }

    #[test]
    fn a_gradient_does_not_depend_on_what_the_workspace_held() {
        let case = case(&[6, 5], Activation::Relu, 12);
        let (model, parameters) = (&case.model, &case.parameters);
        let (features, labels) = (&case.features, &case.labels);
        let mut used = Workspace::new();
        let not_finite = vec![f32::NAN; parameters.len()];
        let wide = build(70, &[60, 50], 3, Activation::Relu, 0.5, Loss::SoftmaxCrossEntropy).unwrap();
        let wide_parameters = vec![f32::NAN; wide.n_parameters()];
        let wide_batch = Batch::new(&[f32::NAN; 70 * 20], &[0; 20]);
        wide.evaluate(&wide_parameters, wide_batch, &mut used);
        let mut unused = not_finite.clone();
        model.loss_and_gradient(&not_finite, Batch::new(features, labels), &mut unused, &mut used);
        let gradient = |n: usize, workspace: &mut Workspace| {
            let mut gradient = vec![f32::NAN; parameters.len()];
            let batch = Batch::new(&features[..n * 7], &labels[..n]);
            model.loss_and_gradient(parameters, batch, &mut gradient, workspace);
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

    #[test]
    fn other_losses_and_dropout_keep_gradients_right() {
        for (loss, n_classes, dropout) in [
            (Loss::SquaredError, 3, 0.0),
            (Loss::BinaryCrossEntropy, 2, 0.0),
            (Loss::SoftmaxCrossEntropy, 3, 0.4),
        ] {
            let mut case = case(&[6, 5], Activation::Tanh, 37);
            case.labels.iter_mut().for_each(|label| *label %= n_classes);
            let model = build(7, &[6, 5], n_classes as usize, Activation::Tanh, dropout, loss).unwrap();
            let parameters = &case.parameters[..model.n_parameters()];
            let batch = Batch::new(&case.features, &case.labels).with_dropout_seed(5);
            checks::gradient_is_that_of_finite_differences(&model, parameters, batch, 3e-4);
            if dropout == 0.0 {
                checks::clipped_sum_is_that_of_single_gradients(&model, parameters, batch);
            }
            assert_eq!(model.is_random(), dropout > 0.0);
        }
        let build = |n_classes, dropout, loss| build(7, &[6], n_classes, Activation::Relu, dropout, loss);
        let error = build(3, 0.0, Loss::BinaryCrossEntropy).unwrap_err();
        assert_eq!(error, ModelError::NotBinary { got: 3 });
        for dropout in [-0.1, 1.0, f32::NAN] {
            assert!(matches!(
                build(3, dropout, Loss::SquaredError),
                Err(ModelError::Dropout { .. })
            ));
        }
    }

    /// Inputs of 1e30 give gradients by the first weights of that size, whose squares `f32` cannot hold.
    #[test]
    fn huge_gradients_are_clipped_and_those_that_are_not_finite_contribute_nothing() {
        let mut case = case(&[5], Activation::Tanh, 9);
        let biases = 7 * 5;
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
        let mut alone = vec![0.0; case.parameters.len()];
        let huge = Batch::new(&case.features, &case.labels).slice(3..4);
        case.model
            .add_clipped_gradients(&case.parameters, huge, 0.5, &mut alone, &mut Workspace::new());
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
            ..
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
            let model = build(100, &[100, 100], 100, activation, 0.0, Loss::SoftmaxCrossEntropy).unwrap();
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
