//! From a model's last values to losses, gradients and predictions.

use super::cross_entropy;
use crate::evaluation::Evaluation;

/// What is minimised, and how classes follow from a model's last values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// One logit z for two classes: ln(1 + exp(z)) - y z.
    BinaryCrossEntropy,
    /// One logit for each class.
    SoftmaxCrossEntropy,
    /// One value for each class, ½ ‖z - one-hot‖².
    SquaredError,
}

impl Loss {
    /// One sigmoid for two classes, else a softmax.
    pub(super) fn cross_entropy(n_classes: usize) -> Self {
        match n_classes {
            2 => Self::BinaryCrossEntropy,
            _ => Self::SoftmaxCrossEntropy,
        }
    }

    /// Values that a model gives for `n_classes`.
    pub(super) fn n_values(self, n_classes: usize) -> usize {
        match self {
            Self::BinaryCrossEntropy => 1,
            Self::SoftmaxCrossEntropy | Self::SquaredError => n_classes,
        }
    }

    /// The sum of the losses; `values`, `[labels.len(), n_values]`, become `scale` times the gradient by them.
    pub(super) fn loss_and_gradient(
        self,
        values: &mut [f32],
        labels: &[u32],
        n_values: usize,
        scale: f32,
    ) -> f64 {
        match self {
            Self::SoftmaxCrossEntropy => cross_entropy::loss_and_gradient(values, labels, n_values, scale),
            Self::BinaryCrossEntropy => {
                let mut sum = 0.0;
                for (value, &label) in values.iter_mut().zip(labels) {
                    sum += binary_loss(*value, label);
                    *value = scale * (sigmoid(*value) - target(label));
                }
                sum
            }
            Self::SquaredError => {
                let mut sum = 0.0;
                for (row, &label) in values.chunks_exact_mut(n_values).zip(labels) {
                    row[label as usize] -= 1.0;
                    sum += half_square(row);
                    row.iter_mut().for_each(|value| *value *= scale);
                }
                sum
            }
        }
    }

    /// The sum of the losses and how often the prediction is the label. Among equal values the first class counts; a row
    /// with a NaN is never correct.
    pub(super) fn evaluate(self, values: &mut [f32], labels: &[u32], n_values: usize) -> Evaluation {
        match self {
            Self::SoftmaxCrossEntropy => cross_entropy::evaluate(values, labels, n_values),
            Self::BinaryCrossEntropy => {
                let mut total = Evaluation::default();
                for (&value, &label) in values.iter().zip(labels) {
                    let correct = if label == 0 { value <= 0.0 } else { value > 0.0 };
                    total.add(Evaluation {
                        n_examples: 1,
                        n_correct: u64::from(correct),
                        loss_sum: binary_loss(value, label),
                    });
                }
                total
            }
            Self::SquaredError => {
                // The largest value is also the largest logit; only the losses differ.
                let mut total = cross_entropy::evaluate(values, labels, n_values);
                total.loss_sum = self.loss_and_gradient(values, labels, n_values, 1.0);
                total
            }
        }
    }

    /// Writes the probability of each class, `[n, n_classes]`, for the values of `n` examples. Under squared error they are
    /// the values themselves, cut to 0 to 1 and divided by their sum, for want of better.
    pub(super) fn probabilities(self, values: &[f32], n_classes: usize, probabilities: &mut [f32]) {
        let rows = probabilities
            .chunks_exact_mut(n_classes)
            .zip(values.chunks_exact(self.n_values(n_classes)));
        for (row, values) in rows {
            match self {
                Self::BinaryCrossEntropy => {
                    row[0] = sigmoid(-values[0]);
                    row[1] = sigmoid(values[0]);
                    continue;
                }
                Self::SoftmaxCrossEntropy => {
                    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    for (probability, value) in row.iter_mut().zip(values) {
                        *probability = (value - largest).exp();
                    }
                }
                Self::SquaredError => {
                    for (probability, value) in row.iter_mut().zip(values) {
                        *probability = value.clamp(1e-6, 1.0);
                    }
                }
            }
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|probability| *probability /= sum);
        }
    }
}

fn target(label: u32) -> f32 {
    if label == 0 { 0.0 } else { 1.0 }
}

fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}

/// With |z| in the exponent nothing overflows.
fn binary_loss(value: f32, label: u32) -> f64 {
    let (value, target) = (f64::from(value), f64::from(target(label)));
    value.max(0.0) - value * target + (-value.abs()).exp().ln_1p()
}

fn half_square(row: &[f32]) -> f64 {
    0.5 * row
        .iter()
        .map(|&value| f64::from(value) * f64::from(value))
        .sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_losses_are_finite_and_right() {
        let values = [0.0, 3.0, -3.0, 1e30, -1e30];
        let expected = [
            2.0_f64.ln(),
            (1.0 + (-3.0_f64).exp()).ln(),
            3.0 + (1.0 + (-3.0_f64).exp()).ln(),
            0.0,
            1e30,
        ];
        for (value, expected) in values.into_iter().zip(expected) {
            let mut gradient = [value];
            let loss = Loss::BinaryCrossEntropy.loss_and_gradient(&mut gradient, &[1], 1, 2.0);
            assert!(
                (loss - expected).abs() <= 1e-6 * (1.0 + expected),
                "{loss} for {expected}"
            );
            let slope = 2.0 * (1.0 / (1.0 + (-f64::from(value)).exp()) - 1.0);
            assert!((f64::from(gradient[0]) - slope).abs() < 1e-6);
            let evaluation = Loss::BinaryCrossEntropy.evaluate(&mut [value], &[1], 1);
            assert_eq!(evaluation.n_correct, u64::from(value > 0.0));
        }
        let evaluation =
            Loss::BinaryCrossEntropy.evaluate(&mut [f32::NAN, f32::NAN, 0.0, -1.0], &[0, 1, 0, 0], 1);
        assert!(evaluation.n_correct == 2 && evaluation.loss_sum.is_nan());
    }

    #[test]
    fn squared_error_is_half_the_distance_to_one_hot() {
        let mut values = [1.0, 2.0, -0.5];
        let evaluation = Loss::SquaredError.evaluate(&mut values.clone(), &[1], 3);
        assert_eq!(evaluation.n_correct, 1);
        let loss = Loss::SquaredError.loss_and_gradient(&mut values, &[1], 3, 2.0);
        assert!(
            (loss - 0.5 * (1.0 + 1.0 + 0.25)).abs() < 1e-12 && (evaluation.loss_sum - loss).abs() < 1e-12
        );
        assert!(
            values
                .iter()
                .zip([2.0, 2.0, -1.0])
                .all(|(got, expected)| (got - expected).abs() < 1e-6)
        );
    }

    #[test]
    fn probabilities_add_up_to_one() {
        let mut probabilities = [f32::NAN; 4];
        Loss::BinaryCrossEntropy.probabilities(&[2.0, -100.0], 2, &mut probabilities);
        assert!((probabilities[1] - 0.880_797).abs() < 1e-6 && (probabilities[2] - 1.0).abs() < 1e-6);
        Loss::SoftmaxCrossEntropy.probabilities(&[1e30, 0.0, 2.0_f32.ln(), 0.0], 2, &mut probabilities);
        assert!((probabilities[0] - 1.0).abs() < 1e-6 && (probabilities[2] - 2.0 / 3.0).abs() < 1e-6);
        Loss::SquaredError.probabilities(&[0.5, -3.0, 2.0, 1.0], 2, &mut probabilities);
        assert!(
            (probabilities[0] + probabilities[1] - 1.0).abs() < 1e-6 && (probabilities[3] - 0.5).abs() < 1e-6
        );
    }
}
