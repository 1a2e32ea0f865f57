//! Softmax and cross-entropy, computed together so that huge logits neither overflow nor lose the loss.
//!
//! With m the largest logit z, the loss of class y is ln Σ exp(zᵢ - m) - (z_y - m). No exponential exceeds 1 and the sum
//! is at least 1, so finite logits give a finite loss.

use crate::evaluation::Evaluation;

/// The sum of the losses; `logits`, row-major `[labels.len(), n_classes]`, become `scale` times the gradient of the
/// loss by the logits, which is softmax minus one-hot.
pub(super) fn loss_and_gradient(logits: &mut [f32], labels: &[u32], n_classes: usize, scale: f32) -> f64 {
    let mut loss_sum = 0.0;
    for (row, &label) in logits.chunks_exact_mut(n_classes).zip(labels) {
        let label = label as usize;
        let max = largest(row);
        let shifted_label = row[label] - max;
        let mut sum = 0.0;
        for value in row.iter_mut() {
            *value = (*value - max).exp();
            sum += *value;
        }
        loss_sum += f64::from(sum.ln() - shifted_label);
        let factor = scale / sum;
        for value in row.iter_mut() {
            *value *= factor;
        }
        row[label] -= scale;
    }
    loss_sum
}

/// The sum of the losses and how often the largest logit is the label's. Among equal logits the first counts; a row
/// with a NaN is never correct.
pub(super) fn evaluate(logits: &[f32], labels: &[u32], n_classes: usize) -> Evaluation {
    let mut total = Evaluation::default();
    for (row, &label) in logits.chunks_exact(n_classes).zip(labels) {
        let label = label as usize;
        let max = largest(row);
        let sum: f32 = row.iter().map(|value| (value - max).exp()).sum();
        let is_first_largest = row[..label].iter().all(|&value| value < row[label])
            && row[label..].iter().all(|&value| value <= row[label]);
        total.add(Evaluation {
            n_examples: 1,
            n_correct: u64::from(is_first_largest),
            loss_sum: f64::from(sum.ln() - (row[label] - max)),
        });
    }
    total
}

fn largest(row: &[f32]) -> f32 {
    row.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_logits_have_finite_losses_and_gradients() {
        let logits = [1e30_f32, -1e30, 0.0, -3e38, 3e38, 1.0];
        for (labels, expected) in [([0, 1], 0.0), ([1, 1], 2e30)] {
            let mut gradient = logits;
            let loss = loss_and_gradient(&mut gradient, &labels, 3, 1.0);
            assert!((loss - expected).abs() <= 1e-6 * expected, "{loss}");
            assert!(
                gradient
                    .iter()
                    .all(|value| value.is_finite() && value.abs() <= 1.0),
                "{gradient:?}"
            );
            let evaluation = evaluate(&logits, &labels, 3);
            assert!((evaluation.loss_sum - expected).abs() <= 1e-6 * expected);
        }
    }

    #[test]
    fn equal_logits_have_loss_ln_n_and_the_first_class_wins() {
        let logits = [7.0; 8];
        let evaluation = evaluate(&logits, &[0, 3], 4);
        assert!((evaluation.loss_sum - 2.0 * 4.0_f64.ln()).abs() < 1e-6);
        assert_eq!((evaluation.n_examples, evaluation.n_correct), (2, 1));
    }

    #[test]
    fn the_gradient_is_softmax_minus_one_hot() {
        let mut logits = [1.0_f32.ln(), 2.0_f32.ln(), 5.0_f32.ln()];
        let loss = loss_and_gradient(&mut logits, &[1], 3, 0.5);
        assert!((loss - 4.0_f64.ln()).abs() < 1e-6);
        for (got, expected) in logits.iter().zip([0.0625, 0.125 - 0.5, 0.3125]) {
            assert!((got - expected).abs() < 1e-6, "{logits:?}");
        }
    }

    #[test]
    fn a_nan_is_neither_correct_nor_hidden() {
        let evaluation = evaluate(&[0.0, f32::NAN, 1.0, 0.0], &[0, 0], 2);
        assert_eq!(evaluation.n_correct, 1);
        assert!(evaluation.loss_sum.is_nan());
    }
}
