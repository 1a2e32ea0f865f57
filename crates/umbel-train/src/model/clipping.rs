//! Per-example clipping: from squared norms of gradients to the factors that bound them.
//!
//! The gradient of one example is **one** vector over all parameters of the model. Models give its squared norm without
//! writing it down where they can (Goodfellow 2015; Li et al. 2022, "ghost clipping"), scale what reaches each layer from
//! above by the factors found here, and form the sum of clipped gradients in the products that would otherwise form the
//! sum of plain ones (Bu et al. 2023, "book-keeping").

use std::ops::Range;

use super::vector::add_scaled;

/// A factor is made smaller by this much relative to the exact one: rounding the scaled values to `f32`, which is off by
/// 2^-24 at most, must not lift a clipped gradient over the bound.
const SLACK: f64 = 1.0 / (1 << 20) as f64;

/// What clipping did to a batch. All of it is about private data: a diagnostic, never a release.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ClippingReport {
    /// Examples in the batch.
    pub n_examples: u64,
    /// Examples whose gradient was longer than the clip norm, and was scaled down.
    pub n_clipped: u64,
    /// Examples whose gradient or loss was not finite. They contribute nothing.
    pub n_not_finite: u64,
    /// Sum of the losses of the examples with a finite gradient, before any step.
    pub loss_sum: f64,
}

impl ClippingReport {
    /// Adds the report on further examples.
    pub fn add(&mut self, other: Self) {
        self.n_examples += other.n_examples;
        self.n_clipped += other.n_clipped;
        self.n_not_finite += other.n_not_finite;
        self.loss_sum += other.loss_sum;
    }

    /// Share of the examples that were scaled down; NaN over no examples.
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    pub fn clipped_fraction(&self) -> f64 {
        self.n_clipped as f64 / self.n_examples as f64
    }
}

/// What is known of each example of a batch while its gradient is clipped.
#[derive(Debug, Default)]
pub(super) struct PerExample {
    /// Squared norm of the gradient, to which each layer adds its part.
    pub(super) squared_norms: Vec<f64>,
    pub(super) losses: Vec<f64>,
    /// What the gradient is multiplied by; 0 where it is not finite.
    factors: Vec<f64>,
}

impl PerExample {
    /// Ready for a batch of `n_examples`, with squared norms of 0.
    pub(super) fn reset(&mut self, n_examples: usize) {
        for values in [&mut self.squared_norms, &mut self.losses, &mut self.factors] {
            values.clear();
            values.resize(n_examples, 0.0);
        }
    }

    /// Turns norms into factors.
    pub(super) fn clip(&mut self, clip_norm: f32) -> ClippingReport {
        let bound = f64::from(clip_norm) * (1.0 - SLACK);
        let mut report = ClippingReport {
            n_examples: self.losses.len() as u64,
            ..ClippingReport::default()
        };
        for ((factor, squared), loss) in self.factors.iter_mut().zip(&self.squared_norms).zip(&self.losses) {
            let norm = squared.sqrt();
            if !(norm.is_finite() && loss.is_finite()) {
                *factor = 0.0;
                report.n_not_finite += 1;
                continue;
            }
            report.loss_sum += loss;
            if norm <= bound {
                *factor = 1.0;
            } else {
                *factor = bound / norm;
                report.n_clipped += 1;
            }
        }
        report
    }

    /// The longest runs of examples with finite gradients. Only these may enter a product: 0 × ∞ is not 0.
    pub(super) fn finite_runs(&self) -> impl Iterator<Item = Range<usize>> {
        let mut begin = 0;
        std::iter::from_fn(move || {
            let rest = &self.factors[begin..];
            let skipped = rest.iter().position(|&factor| factor > 0.0)?;
            let length = rest[skipped..].iter().position(|&factor| factor <= 0.0);
            let start = begin + skipped;
            begin = length.map_or(self.factors.len(), |length| start + length);
            Some(start..begin)
        })
    }

    /// Adds to `target` the sum of the rows of `singles`, `[n_examples, target.len()]`, each multiplied by its factor.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "rounding to single precision is meant"
    )]
    pub(super) fn add_scaled_rows(&self, singles: &[f32], target: &mut [f32]) {
        for (row, &factor) in singles.chunks_exact(target.len()).zip(&self.factors) {
            if factor >= f64::from(f32::MIN_POSITIVE) {
                add_scaled(target, factor as f32, row);
            } else if factor > 0.0 {
                // A factor of a huge gradient, too small for single precision.
                for (target, &value) in target.iter_mut().zip(row) {
                    *target += (f64::from(value) * factor) as f32;
                }
            }
        }
    }

    /// Multiplies row i of `values`, `[n_examples, values.len() / n_examples]`, by the factor of example i.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "rounding to single precision is meant"
    )]
    pub(super) fn scale_rows(&self, values: &mut [f32]) {
        let width = values.len() / self.factors.len();
        for (row, &factor) in values.chunks_exact_mut(width).zip(&self.factors) {
            // In double precision, since the factor of a huge gradient may be too small for single.
            if factor < 1.0 {
                for value in row {
                    *value = (f64::from(*value) * factor) as f32;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_bound_norms_and_leave_short_gradients_alone() {
        let mut examples = PerExample::default();
        examples.reset(6);
        examples
            .squared_norms
            .copy_from_slice(&[0.0, 4.0, f64::NAN, 1e150, f64::INFINITY, 0.2]);
        examples
            .losses
            .copy_from_slice(&[1.0, 2.0, f64::NAN, 4.0, 5.0, 6.0]);
        let report = examples.clip(0.5);
        assert_eq!(
            (report.n_examples, report.n_clipped, report.n_not_finite),
            (6, 2, 2)
        );
        assert!((report.loss_sum - 13.0).abs() < 1e-12);
        assert!((report.clipped_fraction() - 1.0 / 3.0).abs() < 1e-12);
        for (factor, expected) in examples.factors.iter().zip([1.0, 0.25, 0.0, 0.5e-75, 0.0, 1.0]) {
            assert!(
                *factor <= expected && *factor >= expected * (1.0 - 1e-6),
                "{factor} for {expected}"
            );
        }
        assert_eq!(examples.finite_runs().collect::<Vec<_>>(), [0..2, 3..4, 5..6]);
        let mut rows = [2.0_f32, 2.0, 3.0, 3e38, 4.0, 8.0];
        examples.scale_rows(&mut rows);
        assert!(
            (rows[1] - 0.5).abs() < 1e-6 && (rows[5] - 8.0).abs() < 1e-6,
            "{rows:?}"
        );
    }

    #[test]
    fn a_batch_without_a_finite_gradient_has_no_runs() {
        let mut examples = PerExample::default();
        assert_eq!(examples.finite_runs().count(), 0);
        examples.reset(3);
        examples.squared_norms.fill(f64::NAN);
        examples.clip(1.0);
        assert_eq!(examples.finite_runs().count(), 0);
        examples.squared_norms.fill(1.0);
        examples.clip(1.0);
        assert!(examples.finite_runs().eq(std::iter::once(0..3)));
    }
}
