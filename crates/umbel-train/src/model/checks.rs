//! What every model must satisfy, as functions for tests.

use super::{Batch, Model, Workspace};

/// Batch sizes around the widths of vectors and of blocks in matrix products.
pub(super) const BATCH_SIZES: [usize; 10] = [1, 2, 3, 7, 16, 31, 64, 130, 256, 257];

/// The sum of gradients computed one example at a time and clipped in double precision, with the number clipped.
fn clipped_one_by_one(
    model: &dyn Model,
    parameters: &[f32],
    examples: &[Batch<'_>],
    clip_norm: f32,
) -> (Vec<f64>, u64) {
    let mut sum = vec![0.0; parameters.len()];
    let mut n_clipped = 0;
    let (mut gradient, mut workspace) = (vec![0.0; parameters.len()], Workspace::new());
    for &example in examples {
        model.loss_and_gradient(parameters, example, &mut gradient, &mut workspace);
        let squares = gradient.iter().map(|&value| f64::from(value) * f64::from(value));
        let norm = squares.sum::<f64>().sqrt();
        if !norm.is_finite() {
            continue;
        }
        let factor = (f64::from(clip_norm) / norm).min(1.0);
        n_clipped += u64::from(factor < 1.0);
        for (sum, &value) in sum.iter_mut().zip(&gradient) {
            *sum += factor * f64::from(value);
        }
    }
    (sum, n_clipped)
}

/// The sum of clipped gradients of a batch equals that of gradients clipped one by one, to 1e-5 of its largest entry, at a
/// clip norm that leaves about half of the examples alone, at one that clips all, and at one that clips none.
pub(super) fn clipped_sum_is_that_of_single_gradients(
    model: &dyn Model,
    parameters: &[f32],
    batch: Batch<'_>,
) {
    let n = batch.n_examples();
    let examples: Vec<Batch<'_>> = (0..n).map(|example| batch.slice(example..example + 1)).collect();
    let (mut gradient, mut workspace) = (vec![0.0; parameters.len()], Workspace::new());
    let mut norms: Vec<f32> = examples
        .iter()
        .map(|&example| {
            model.loss_and_gradient(parameters, example, &mut gradient, &mut workspace);
            gradient.iter().map(|value| value * value).sum::<f32>().sqrt()
        })
        .collect();
    norms.sort_by(f32::total_cmp);
    let median = norms[n / 2] * (1.0 + 1e-3);
    for clip_norm in [median, 1e-2 * norms[0].max(1e-6), 2.0 * norms[n - 1] + 1e-6] {
        let (expected, n_clipped) = clipped_one_by_one(model, parameters, &examples, clip_norm);
        let mut sum = vec![0.0; parameters.len()];
        let report = model.add_clipped_gradients(parameters, batch, clip_norm, &mut sum, &mut workspace);
        assert_eq!(
            (report.n_examples, report.n_clipped, report.n_not_finite),
            (n as u64, n_clipped, 0),
            "batch of {n}, clip norm {clip_norm}"
        );
        let scale = expected
            .iter()
            .fold(0.0_f64, |largest, value| largest.max(value.abs()));
        for (index, (&got, &expected)) in sum.iter().zip(&expected).enumerate() {
            assert!(
                (f64::from(got) - expected).abs() <= 1e-5 * scale,
                "batch of {n}, clip norm {clip_norm}, parameter {index}: {got} for {expected}, scale {scale}"
            );
        }
        let losses: f64 = examples
            .iter()
            .map(|&example| model.loss_and_gradient(parameters, example, &mut gradient, &mut workspace))
            .sum();
        assert!((report.loss_sum - losses).abs() <= 1e-5 * (1.0 + losses.abs()));
    }
}

/// The gradient agrees with central differences of the loss.
///
/// The loss is computed in `f32`, off by about 1e-6 where it is below 10, so a difference over 2h with h = 4e-3 is off by some
/// 1e-4, and by h² = 2e-5 times a third derivative; a wrong or missing term shows as 1e-2 or more. `tolerance` is for the
/// absolute difference. `parameters` must keep away from kinks (ReLU at 0, ties of a maximum).
pub(super) fn gradient_is_that_of_finite_differences(
    model: &dyn Model,
    parameters: &[f32],
    batch: Batch<'_>,
    tolerance: f64,
) {
    let h = 4e-3_f32;
    let (mut gradient, mut workspace) = (vec![f32::NAN; parameters.len()], Workspace::new());
    model.loss_and_gradient(parameters, batch, &mut gradient, &mut workspace);
    let mut moved = parameters.to_vec();
    let mut unused = vec![0.0; parameters.len()];
    for view in model.parameters() {
        for index in view.range() {
            let mut loss = |value: f32| {
                moved[index] = value;
                model.loss_and_gradient(&moved, batch, &mut unused, &mut workspace)
            };
            let (above, below) = (parameters[index] + h, parameters[index] - h);
            let expected = (loss(above) - loss(below)) / f64::from(above - below);
            loss(parameters[index]);
            let got = f64::from(gradient[index]);
            assert!(
                (got - expected).abs() <= tolerance,
                "{}, value {}: {got} for {expected}",
                view.name,
                index - view.offset
            );
        }
    }
}
