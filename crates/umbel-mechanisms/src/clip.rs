//! L2 norms and clipping of updates in floating point.
//!
//! What the guarantee rests on is not here but in [`Quantizer`](crate::Quantizer), which checks the norm again in exact
//! integers. These helpers bring an update close to its bound, and say what happened to it.

use umbel_accounting::ClipNorm;

use crate::blocks::vectorised;

/// What clipping found. Diagnostics of one client: not a release.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "a plain record")]
pub struct ClipOutcome {
    /// The L2 norm before clipping; NaN if a value was not finite.
    pub norm: f64,
    /// The norm was above the clip norm, or not finite.
    pub clipped: bool,
    /// A value was NaN or infinite, and the whole update became zero.
    pub non_finite: bool,
}

impl ClipOutcome {
    /// Of clipping a vector of this norm, which is not finite if a value is not, to a norm of `limit`.
    pub(crate) fn of(norm: f64, limit: f64) -> Self {
        let non_finite = !norm.is_finite();
        Self {
            norm: if non_finite { f64::NAN } else { norm },
            clipped: non_finite || norm > limit,
            non_finite,
        }
    }
}

/// The L2 norm of a vector, to a relative error below 1e-9; infinite or NaN if a value is.
///
/// Squares of finite `f32` lie between 1e-90 and 1e77, so sums in `f64` neither overflow nor lose small values.
/// The order of summation is fixed: the same values always give the same norm.
pub fn l2_norm(values: &[f32]) -> f64 {
    const LANES: usize = 16;
    let squares = vectorised(
        #[inline(always)]
        || {
            let mut sums = [0.0_f64; LANES];
            let (chunks, rest) = values.as_chunks::<LANES>();
            for chunk in chunks {
                for (sum, &value) in sums.iter_mut().zip(chunk) {
                    let value = f64::from(value);
                    *sum += value * value;
                }
            }
            for (sum, &value) in sums.iter_mut().zip(rest) {
                let value = f64::from(value);
                *sum += value * value;
            }
            sums
        },
    );
    squares.iter().sum::<f64>().sqrt()
}

/// Scales a vector by min(1, C / norm), so that its norm is at most C up to rounding of its values to `f32`.
///
/// A vector with a value that is not finite becomes zero.
pub(crate) fn clip_l2(values: &mut [f32], clip_norm: ClipNorm) -> ClipOutcome {
    let norm = l2_norm(values);
    let outcome = ClipOutcome::of(norm, clip_norm.value());
    if outcome.non_finite {
        values.fill(0.0);
    } else if outcome.clipped {
        let factor = clip_norm.value() / norm;
        for value in values.iter_mut() {
            *value = to_f32(f64::from(*value) * factor);
        }
    }
    outcome
}

/// Clip norms of the layers of one update, whose squares sum to at most the square of the whole update's clip norm.
///
/// Then the update, clipped layer by layer, has norm at most C as one vector, so sensitivity and charge are those of
/// flat clipping (McMahan et al. 2018, "Learning Differentially Private Recurrent Language Models", section 3).
#[derive(Debug, Clone, PartialEq)]
pub struct LayerClip {
    layers: Vec<(usize, ClipNorm)>,
}

/// Why layers cannot be clipped this way.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LayerClipError {
    /// The update is not as long as its layers together.
    #[error("the layers have {expected} values together, the update has {got}")]
    Dimension {
        /// The sum of the layers' lengths.
        expected: usize,
        /// The update's length.
        got: usize,
    },
    /// A layer's share is zero, negative or not finite, or there is no layer.
    #[error("layer shares must be finite and above 0, and there must be at least one")]
    Share,
}

impl LayerClip {
    /// Gives each layer the clip norm C / sqrt(number of layers).
    pub fn equal(clip_norm: ClipNorm, layer_lengths: &[usize]) -> Result<Self, LayerClipError> {
        let shares: Vec<_> = layer_lengths.iter().map(|&length| (length, 1.0)).collect();
        Self::with_shares(clip_norm, &shares)
    }

    /// Splits C in proportion to shares, each given with its layer's length: `C_l = C · share_l / ‖shares‖`.
    pub fn with_shares(clip_norm: ClipNorm, layers: &[(usize, f64)]) -> Result<Self, LayerClipError> {
        let largest = layers.iter().map(|&(_, share)| share).fold(0.0, f64::max);
        // Shares relative to the largest: no square overflows, and none that matters underflows.
        let norm = layers
            .iter()
            .map(|&(_, share)| (share / largest).powi(2))
            .sum::<f64>()
            .sqrt();
        let layers = layers
            .iter()
            .map(|&(length, share)| {
                let part = if share > 0.0 && share.is_finite() {
                    share / largest / norm
                } else {
                    f64::NAN
                };
                // Rounded down by more than the arithmetic above can have rounded up.
                let bound = clip_norm.value() * part * (1.0 - 1e-12);
                ClipNorm::new(bound)
                    .map(|bound| (length, bound))
                    .map_err(|_| LayerClipError::Share)
            })
            .collect::<Result<Vec<_>, _>>()?;
        if layers.is_empty() {
            Err(LayerClipError::Share)
        } else {
            Ok(Self { layers })
        }
    }

    /// Length and clip norm of each layer.
    pub fn layers(&self) -> &[(usize, ClipNorm)] {
        &self.layers
    }

    /// Clips each layer by its own norm. The outcome has the norm of the whole before, and says whether any layer was shortened.
    ///
    /// A value that is not finite makes the whole update zero, not only its layer.
    pub fn clip(&self, values: &mut [f32]) -> Result<ClipOutcome, LayerClipError> {
        let expected = self.layers.iter().map(|&(length, _)| length).sum();
        if values.len() != expected {
            return Err(LayerClipError::Dimension {
                expected,
                got: values.len(),
            });
        }
        let mut rest = &mut *values;
        let mut outcome = ClipOutcome {
            norm: l2_norm(rest),
            clipped: false,
            non_finite: false,
        };
        for &(length, clip_norm) in &self.layers {
            let (layer, after) = rest.split_at_mut(length);
            let own = clip_l2(layer, clip_norm);
            outcome.clipped |= own.clipped;
            outcome.non_finite |= own.non_finite;
            rest = after;
        }
        if outcome.non_finite {
            values.fill(0.0);
            outcome.norm = f64::NAN;
        }
        Ok(outcome)
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "rounding to the nearest f32 is what is asked for"
)]
fn to_f32(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clip_norm(value: f64) -> ClipNorm {
        ClipNorm::new(value).unwrap()
    }

    #[test]
    fn norms_of_extreme_vectors_are_right() {
        let check = |values: &[f32], expected: f64| {
            let norm = l2_norm(values);
            assert!(
                (norm - expected).abs() <= 1e-12 * expected,
                "{values:?}: {norm}, not {expected}"
            );
        };
        check(&[], 0.0);
        check(&[0.0, -0.0], 0.0);
        check(&[3.0, -4.0], 5.0);
        check(&[f32::from_bits(1)], 2.0_f64.powi(-149));
        check(&[f32::MIN_POSITIVE; 4], 2.0 * f64::from(f32::MIN_POSITIVE));
        check(&[1e38; 100], 10.0 * f64::from(1e38_f32));
        check(&[f32::MAX; 10_000], 100.0 * f64::from(f32::MAX));
        assert!(!l2_norm(&[1.0, f32::NAN]).is_finite() && !l2_norm(&[f32::NEG_INFINITY]).is_finite());
    }

    #[test]
    fn a_value_that_is_not_finite_zeroes_everything() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut update = [1.0, bad, 2.0];
            let outcome = clip_l2(&mut update, clip_norm(1.0));
            assert!(update.iter().all(|value| value.abs() <= 0.0));
            assert!(outcome.non_finite && outcome.clipped && outcome.norm.is_nan());
            let mut update = [1.0, bad, 2.0];
            let layers = LayerClip::equal(clip_norm(1.0), &[1, 2]).unwrap();
            let outcome = layers.clip(&mut update).unwrap();
            assert!(outcome.non_finite && outcome.clipped && outcome.norm.is_nan());
            assert!(update.iter().all(|value| value.abs() <= 0.0));
        }
    }

    #[test]
    fn bad_layers_are_refused() {
        let one = clip_norm(1.0);
        assert_eq!(LayerClip::equal(one, &[]), Err(LayerClipError::Share));
        for share in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(
                LayerClip::with_shares(one, &[(1, share), (1, 1.0)]),
                Err(LayerClipError::Share)
            );
        }
        let layers = LayerClip::equal(one, &[1, 1]).unwrap();
        assert_eq!(
            layers.clip(&mut [0.0; 3]),
            Err(LayerClipError::Dimension { expected: 2, got: 3 })
        );
    }

    proptest! {
        #[test]
        fn clipping_bounds_the_norm_and_keeps_short_vectors(
            mut values in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO, 0..40),
            bound in 1e-6_f64..1e6,
        ) {
            let before = values.clone();
            let outcome = clip_l2(&mut values, clip_norm(bound));
            prop_assert!(l2_norm(&values) <= bound * (1.0 + 1e-6) + 1e-40);
            prop_assert!(outcome.clipped || values == before);
        }

        #[test]
        fn layers_together_stay_within_the_whole_bound(
            shares in prop::collection::vec((0_usize..5, 1e-3_f64..1e3), 1..8), bound in 1e-6_f64..1e6,
        ) {
            let layers = LayerClip::with_shares(clip_norm(bound), &shares).unwrap();
            let sum: f64 = layers.layers().iter().map(|(_, norm)| norm.value().powi(2)).sum();
            prop_assert!(sum <= bound * bound && sum >= bound * bound * (1.0 - 1e-9));
            let mut values = vec![1e6_f32; shares.iter().map(|&(length, _)| length).sum()];
            let outcome = layers.clip(&mut values).unwrap();
            prop_assert_eq!(outcome.clipped, !values.is_empty());
            prop_assert!(l2_norm(&values) <= bound * (1.0 + 1e-6));
        }
    }
}
