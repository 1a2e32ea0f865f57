//! What every model must satisfy, as functions for tests.

use super::{Batch, GradientPart, GradientParts, Model, Workspace};

/// Batch sizes around the widths of vectors and of blocks in matrix products.
pub(super) const BATCH_SIZES: [usize; 10] = [1, 2, 3, 7, 16, 31, 64, 130, 256, 257];

/// The gradients of single examples, with their norms in double precision, and the sum of their losses.
fn single_gradients(model: &dyn Model, parameters: &[f32], batch: Batch<'_>) -> (Vec<(Vec<f32>, f64)>, f64) {
    let (mut workspace, mut losses) = (Workspace::new(), 0.0);
    let singles = (0..batch.n_examples()).map(|example| {
        let mut gradient = vec![0.0; parameters.len()];
        let alone = batch.slice(example..example + 1);
        losses += model.loss_and_gradient(parameters, alone, &mut gradient, &mut workspace);
        let squares = gradient.iter().map(|&value| f64::from(value) * f64::from(value));
        let norm = squares.sum::<f64>().sqrt();
        gradient_in_parts_is_the_gradient(model, parameters, alone, &gradient, &mut workspace);
        (gradient, norm)
    });
    (singles.collect(), losses)
}

/// The parts of an example's gradient, put together, are the gradient, to 1e-6 of its largest value; they ascend and do not overlap.
fn gradient_in_parts_is_the_gradient(
    model: &dyn Model,
    parameters: &[f32],
    example: Batch<'_>,
    gradient: &[f32],
    workspace: &mut Workspace,
) {
    let mut parts = GradientParts::new();
    model.example_gradient(parameters, example, &mut parts, workspace);
    let mut end = 0;
    for part in parts.iter() {
        let (offset, length) = match part {
            GradientPart::Outer { offset, left, right } => (offset, left.len() * right.len()),
            GradientPart::Values { offset, values } => (offset, values.len()),
        };
        assert!(offset >= end, "a part at {offset} begins before {end}");
        end = offset + length;
    }
    let mut whole = vec![f32::NAN; gradient.len()];
    parts.write(&mut whole);
    let scale = gradient
        .iter()
        .fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    for (index, (got, expected)) in whole.iter().zip(gradient).enumerate() {
        assert!(
            (got - expected).abs() <= 1e-6 * scale,
            "parameter {index}: {got} for {expected}"
        );
    }
}

/// The sum of clipped gradients of a batch equals that of gradients computed one by one and clipped in double precision, to
/// 1e-5 of the largest sum of absolute values in a parameter, which is the scale of rounding. The clip norms leave about
/// half of the examples alone, clip all, and clip none.
pub(super) fn clipped_sum_is_that_of_single_gradients(
    model: &dyn Model,
    parameters: &[f32],
    batch: Batch<'_>,
) {
    let n = batch.n_examples();
    let (singles, losses) = single_gradients(model, parameters, batch);
    let mut norms: Vec<f64> = singles.iter().map(|(_, norm)| *norm).collect();
    norms.sort_by(f64::total_cmp);
    let clip_norms = [
        norms[n / 2] * 1.001,
        1e-2 * norms[0].max(1e-6),
        2.0 * norms[n - 1] + 1e-6,
    ];
    for clip_norm in clip_norms.map(single_precision) {
        let mut sums = vec![(0.0_f64, 0.0_f64); parameters.len()];
        let mut n_clipped = 0;
        for (gradient, norm) in &singles {
            let factor = (f64::from(clip_norm) / norm).min(1.0);
            n_clipped += u64::from(factor < 1.0);
            for ((sum, size), &value) in sums.iter_mut().zip(gradient) {
                *sum += factor * f64::from(value);
                *size += (factor * f64::from(value)).abs();
            }
        }
        let scale = sums
            .iter()
            .fold(0.0, |largest: f64, (_, size)| largest.max(*size));
        let mut sum = vec![0.0; parameters.len()];
        let report =
            model.add_clipped_gradients(parameters, batch, clip_norm, &mut sum, &mut Workspace::new());
        assert_eq!(
            (report.n_examples, report.n_clipped, report.n_not_finite),
            (n as u64, n_clipped, 0),
            "batch of {n}, clip norm {clip_norm}"
        );
        for (index, (&got, &(expected, _))) in sum.iter().zip(&sums).enumerate() {
            assert!(
                (f64::from(got) - expected).abs() <= 1e-5 * scale,
                "batch of {n}, clip norm {clip_norm}, parameter {index}: {got} for {expected}, scale {scale}"
            );
        }
        assert!((report.loss_sum - losses).abs() <= 1e-5 * (1.0 + losses.abs()));
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "rounding to single precision is meant"
)]
fn single_precision(value: f64) -> f32 {
    value as f32
}

/// What a hostile or broken example can do: parameters that make some gradients huge or not finite leave the sum finite and
/// within its bound, and a bound that nothing reaches or a zero gradient changes nothing.
pub(super) fn abuses_are_withstood(model: &dyn Model, parameters: &[f32], batch: Batch<'_>) {
    let n_examples = batch.n_examples();
    let mut workspace = Workspace::new();
    let n = u32::try_from(n_examples).unwrap();
    for factor in [1e3_f32, 1e9, 1e30, f32::MAX, f32::INFINITY, f32::NAN] {
        let extreme: Vec<f32> = parameters.iter().map(|value| value * factor).collect();
        let mut sum = vec![0.0; parameters.len()];
        let report = model.add_clipped_gradients(&extreme, batch, 0.7, &mut sum, &mut workspace);
        let norm = sum
            .iter()
            .map(|&value| f64::from(value) * f64::from(value))
            .sum::<f64>()
            .sqrt();
        let n_finite = n_examples as u64 - report.n_not_finite;
        let bound = 0.7 * f64::from(u32::try_from(n_finite).unwrap()) * (1.0 + 1e-5);
        assert!(norm <= bound, "parameters × {factor}: {norm}, {report:?}");
        assert!(report.loss_sum.is_finite(), "parameters × {factor}: {report:?}");
        if factor.is_nan() {
            assert_eq!(report.n_not_finite, u64::from(n), "{report:?}");
        }
    }
    // Whatever was there before, the workspace gives the same bits as a fresh one.
    let clipped = |workspace: &mut Workspace| {
        let mut sum = vec![0.0; parameters.len()];
        model.add_clipped_gradients(parameters, batch, 0.7, &mut sum, workspace);
        sum.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(clipped(&mut workspace), clipped(&mut Workspace::new()));
}

/// For a model with one logit, whose bias is the last parameter: where all predictions are right beyond rounding every gradient is zero,
/// and nothing is clipped or added.
pub(super) fn zero_gradients_add_nothing(model: &dyn Model, parameters: &[f32], batch: Batch<'_>) {
    let mut sure = parameters.to_vec();
    *sure.last_mut().unwrap() = 1e6;
    let labels = vec![1; batch.n_examples()];
    let right = Batch::new(batch.features(), &labels);
    let mut sum = vec![0.0; parameters.len()];
    let report = model.add_clipped_gradients(&sure, right, 1e-3, &mut sum, &mut Workspace::new());
    assert_eq!((report.n_clipped, report.n_not_finite), (0, 0));
    assert!(sum.iter().all(|value| value.abs() < f32::MIN_POSITIVE));
}

/// The gradient agrees with central differences of the loss.
///
/// The loss is computed in `f32`, off by about 1e-6 where it is below 10, so a difference over 2h with h = 4e-3 is off by some
/// 1e-4, and by h² = 2e-5 times a third derivative; a wrong or missing term shows as 1e-2 or more. `tolerance` is for the
/// absolute difference. Where a kink (a ReLU at 0, a tie of a maximum) lies within h, the difference to one side must agree.
pub(super) fn gradient_is_that_of_finite_differences(
    model: &dyn Model,
    parameters: &[f32],
    batch: Batch<'_>,
    tolerance: f64,
) {
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
            let middle = parameters[index];
            let mut slope = |below: f32, above: f32| {
                let (below, above) = (middle - below, middle + above);
                let slope = (loss(above) - loss(below)) / f64::from(above - below);
                loss(middle);
                slope
            };
            let got = f64::from(gradient[index]);
            let agrees = |expected: f64| (got - expected).abs() <= tolerance;
            let expected = slope(4e-3, 4e-3);
            assert!(
                agrees(expected) || agrees(slope(1e-3, 0.0)) || agrees(slope(0.0, 1e-3)),
                "{}, value {}: {got} for {expected}",
                view.name,
                index - view.offset
            );
        }
    }
}

/// `scale` × `wave`(k) for k from 0 on, computed in double precision and rounded.
#[allow(
    clippy::cast_possible_truncation,
    reason = "rounding to single precision is meant"
)]
pub(super) fn waves(n: usize, scale: f64, wave: impl Fn(f64) -> f64) -> Vec<f32> {
    let n = u32::try_from(n).unwrap();
    (0..n)
        .map(|k| single_precision(scale * wave(f64::from(k))))
        .collect()
}

/// Loss and gradient are these to 2e-6, which is rounding.
pub(super) fn gradient_is(
    model: &dyn Model,
    parameters: &[f32],
    batch: Batch<'_>,
    expected_loss: f64,
    expected: &[f64],
) {
    let mut gradient = vec![f32::NAN; parameters.len()];
    let loss = model.loss_and_gradient(parameters, batch, &mut gradient, &mut Workspace::new());
    assert!((loss - expected_loss).abs() < 2e-6, "{loss}");
    assert_eq!(gradient.len(), expected.len());
    for (index, (&got, &expected)) in gradient.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(got) - expected).abs() < 2e-6,
            "parameter {index}: {got} for {expected}"
        );
    }
}
