//! Rounding of real vectors to a coarse grid, with the norm bound that follows.
//!
//! For secure aggregation, where a grid unit must be as large as accuracy allows so that sums fit into few bits. Where
//! 32 bits are free, [`Quantizer`](crate::Quantizer) is better: it truncates on a grid so fine that nothing is lost.

use rand_core::Rng;
use umbel_accounting::ClipNorm;

use crate::clip::{ClipOutcome, l2_norm};
use crate::quantize::squared_norm;
use crate::source::RandomStream;

/// How a value between two grid points is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RoundingKind {
    /// Up or down at random so that the mean is right, the whole vector anew until its norm is within the bound:
    /// conditional stochastic rounding (Kairouz, Liu and Steinke 2021, algorithm 1 and proposition 22 with
    /// β = e^(−1/2)). Nearly unbiased; the norm bound is above C.
    Conditional,
    /// Toward zero. Biased by up to one grid unit a coordinate; the norm bound is C itself.
    TowardZero,
}

/// Clips vectors and rounds them to integer multiples of a grid unit.
///
/// With c the clip norm and d the dimension, both measured in grid units where they are lengths, every result satisfies
/// `‖v‖₂ ≤ D₂` and `‖v‖₁ ≤ D₁`, checked in exact integers:
/// - [`RoundingKind::Conditional`]: `D₂² = floor(min((c + √d)², c² + d/4 + c + √d/2))`,
/// - [`RoundingKind::TowardZero`]: `D₂² = floor(c²)`,
///
/// and `D₁ = D₂ · min(√d, D₂)`, since integers are no larger than their squares. Under add-or-remove and replace-by-zero
/// these are the sensitivities of the sum, whatever the vector was; under replace-one twice that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GridRounding {
    kind: RoundingKind,
    clip_norm: ClipNorm,
    grid_unit: f64,
    dimension: usize,
    squared_bound: u64,
}

/// Why vectors cannot be rounded so.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GridRoundingError {
    /// The vector's length is not the one that the bound was made for.
    #[error("expected {expected} coordinates, got {got}")]
    Dimension {
        /// The length that the bound was made for.
        expected: usize,
        /// The vector's.
        got: usize,
    },
    /// The grid unit is zero, negative or not finite, or the clip norm is not between 2^-30 and 2^30 of it.
    #[error(
        "the clip norm must be between 2^-30 and 2^30 grid units, got {clip_norm} and a unit of {grid_unit}"
    )]
    GridUnit {
        /// The clip norm.
        clip_norm: ClipNorm,
        /// The grid unit.
        grid_unit: f64,
    },
    /// More coordinates than the bound allows for.
    #[error("a vector must have at most 2^40 coordinates")]
    TooLong,
}

/// Chances to meet the bound. Each is taken with a probability of 0.39 or more, so that all fail once in 1e42 vectors.
const MAX_ATTEMPTS: usize = 200;

impl GridRounding {
    /// Rounding of vectors of one length to multiples of `grid_unit`, after clipping to `clip_norm`.
    pub fn new(
        kind: RoundingKind,
        clip_norm: ClipNorm,
        grid_unit: f64,
        dimension: usize,
    ) -> Result<Self, GridRoundingError> {
        let c = clip_norm.value() / grid_unit;
        if !(grid_unit > 0.0 && (2.0_f64.powi(-30)..=2.0_f64.powi(30)).contains(&c)) {
            return Err(GridRoundingError::GridUnit { clip_norm, grid_unit });
        }
        if dimension as u64 > 1 << 40 {
            return Err(GridRoundingError::TooLong);
        }
        let d = dimension as f64;
        let squared_bound = match kind {
            RoundingKind::Conditional => (c + d.sqrt()).powi(2).min(c * c + d / 4.0 + c + d.sqrt() / 2.0),
            RoundingKind::TowardZero => c * c,
        };
        Ok(Self {
            kind,
            clip_norm,
            grid_unit,
            dimension,
            squared_bound: floor(squared_bound),
        })
    }

    /// `D₂²`: the largest sum of squares of a result, in squared grid units. This integer is what is checked.
    pub fn squared_l2_bound(&self) -> u64 {
        self.squared_bound
    }

    /// `D₂`: the largest L2 norm of a result in grid units, rounded up.
    pub fn l2_bound(&self) -> f64 {
        (self.squared_bound as f64).sqrt() * (1.0 + 1e-15)
    }

    /// `D₁`: the largest L1 norm of a result in grid units, rounded up.
    pub fn l1_bound(&self) -> f64 {
        self.l2_bound() * self.l2_bound().min((self.dimension as f64).sqrt()) * (1.0 + 1e-15)
    }

    /// What the integer 1 stands for.
    pub fn grid_unit(&self) -> f64 {
        self.grid_unit
    }

    /// Clips a vector and rounds it. `buffer` is emptied and becomes the result.
    ///
    /// A value that is not finite makes the whole vector zero. What was drawn stays with the client: the number of attempts
    /// depends on its data, and so does the time they take.
    pub fn round(
        &self,
        values: &[f32],
        stream: &mut RandomStream,
        mut buffer: Vec<i32>,
    ) -> Result<(Vec<i32>, ClipOutcome), GridRoundingError> {
        if values.len() != self.dimension {
            return Err(GridRoundingError::Dimension {
                expected: self.dimension,
                got: values.len(),
            });
        }
        buffer.clear();
        let norm = l2_norm(values);
        let outcome = ClipOutcome::of(norm, self.clip_norm.value());
        if outcome.non_finite || norm <= 0.0 {
            buffer.resize(values.len(), 0);
            return Ok((buffer, outcome));
        }
        // c / max(C, norm), so that nothing overflows; the norm is at least 2^-149.
        let mut scale = self.clip_norm.value() / self.grid_unit / norm.max(self.clip_norm.value());
        if self.kind == RoundingKind::Conditional {
            for _ in 0..MAX_ATTEMPTS {
                buffer.clear();
                buffer.extend(
                    values
                        .iter()
                        .map(|&value| round_stochastically(f64::from(value) * scale, stream)),
                );
                if self.is_within_bound(&buffer) {
                    return Ok((buffer, outcome));
                }
            }
        }
        loop {
            buffer.clear();
            buffer.extend(values.iter().map(|&value| truncate(f64::from(value) * scale)));
            if self.is_within_bound(&buffer) {
                return Ok((buffer, outcome));
            }
            scale *= 1.0 - 1e-12;
        }
    }

    fn is_within_bound(&self, values: &[i32]) -> bool {
        squared_norm(values) <= u128::from(self.squared_bound)
    }
}

/// The integer below or above a value, at random, so that the mean is the value itself.
///
/// The fraction is compared with 53 random bits, and values beyond `i32` are the nearest `i32`.
pub fn round_stochastically(value: f64, stream: &mut RandomStream) -> i32 {
    let below = value.floor();
    let uniform = (stream.next_u64() >> 11) as f64 * 2.0_f64.powi(-53);
    truncate(if uniform < value - below {
        below + 1.0
    } else {
        below
    })
}

#[allow(clippy::cast_possible_truncation, reason = "truncation is what is asked for")]
fn truncate(value: f64) -> i32 {
    value as i32
}

/// `floor(value)` of a value between 0 and 2^62. How the value was rounded does not matter: its floor is the bound that is
/// checked and reported.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is between 0 and 2^62"
)]
fn floor(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::{RoundingSource, SimulationSeed};
    use crate::statistics::{check_counts, check_z};

    fn stream(round: u64) -> RandomStream {
        RoundingSource::simulated(SimulationSeed::new(3)).stream(round, 1)
    }

    fn rounding(kind: RoundingKind, clip_norm: f64, grid_unit: f64, dimension: usize) -> GridRounding {
        GridRounding::new(kind, ClipNorm::new(clip_norm).unwrap(), grid_unit, dimension).unwrap()
    }

    #[test]
    fn bounds_are_those_of_the_paper() {
        // c = 10 and d = 64: (10 + 8)² = 324; 100 + 16 + 10 + 4 = 130.
        let conditional = rounding(RoundingKind::Conditional, 1.0, 0.1, 64);
        assert_eq!(conditional.squared_l2_bound(), 130);
        assert!((conditional.l1_bound() - 130.0_f64.sqrt() * 8.0).abs() < 1e-9);
        // c = 2 and d = 1: (2 + 1)² = 9; 4 + 1/4 + 2 + 1/2 = 6.75.
        assert_eq!(
            rounding(RoundingKind::Conditional, 2.0, 1.0, 1).squared_l2_bound(),
            6
        );
        // c = 1/16 and d = 16: (1/16 + 4)² = 16.5; 0.0039 + 4 + 0.0625 + 2 = 6.07.
        assert_eq!(
            rounding(RoundingKind::Conditional, 0.125, 2.0, 16).squared_l2_bound(),
            6
        );
        let toward_zero = rounding(RoundingKind::TowardZero, 2.5, 0.5, 100);
        assert_eq!(toward_zero.squared_l2_bound(), 25);
        assert!(
            (toward_zero.l1_bound() - 25.0).abs() < 1e-9,
            "25 coordinates of ±1 at most"
        );
    }

    #[test]
    fn stochastic_rounding_is_unbiased() {
        let mut stream = stream(0);
        let n = 200_000;
        for value in [0.25_f64, -0.25, 3.9, -1e-3, 1_000_000.5] {
            let (below, fraction) = (value.floor(), value - value.floor());
            let mut counts = [0.0; 2];
            for _ in 0..n {
                let rounded = f64::from(round_stochastically(value, &mut stream)) - below;
                counts[usize::from(rounded > 0.5)] += 1.0;
                assert!(rounded.abs() < 1e-9 || (rounded - 1.0).abs() < 1e-9);
            }
            check_counts(&counts, &[1.0 - fraction, fraction], &format!("{value}"));
        }
        for value in [0.0, 5.0, -7.0] {
            assert!((f64::from(round_stochastically(value, &mut stream)) - value).abs() < 1e-9);
        }
    }

    #[test]
    fn conditional_rounding_of_a_short_vector_keeps_the_mean() {
        // Norm far below the bound: hardly an attempt is refused, and each coordinate is unbiased.
        let rounding = rounding(RoundingKind::Conditional, 1.0, 0.25, 50);
        let values: Vec<f32> = (0..50).map(|i| (i as f32 - 20.0) * 0.001).collect();
        let n = 20_000;
        let mut stream = stream(1);
        let (mut sums, mut buffer) = (vec![0.0_f64; 50], Vec::new());
        for _ in 0..n {
            buffer = rounding.round(&values, &mut stream, buffer).unwrap().0;
            sums.iter_mut()
                .zip(&buffer)
                .for_each(|(sum, &value)| *sum += f64::from(value));
        }
        for (&sum, &value) in sums.iter().zip(&values) {
            let mean = f64::from(value) / 0.25;
            let variance = mean.abs() * (1.0 - mean.abs());
            if variance > 0.01 {
                check_z(
                    (sum - mean * f64::from(n)) / (variance * f64::from(n)).sqrt(),
                    "mean of a coordinate",
                );
            }
        }
    }

    #[test]
    fn extreme_vectors_are_bounded_and_wrong_ones_refused() {
        for kind in [RoundingKind::Conditional, RoundingKind::TowardZero] {
            for (norm, unit) in [(1.0, 0.01), (1e-40, 1e-41), (1e300, 1e298), (1.0, 1e9)] {
                let rounding = rounding(kind, norm, unit, 3);
                for values in [
                    [0.0; 3],
                    [1e38; 3],
                    [f32::MAX, f32::MIN, 1.0],
                    [f32::from_bits(1); 3],
                    [1.0, 0.0, 0.0],
                ] {
                    let (rounded, outcome) = rounding.round(&values, &mut stream(2), vec![9]).unwrap();
                    assert!(rounding.is_within_bound(&rounded) && rounded.len() == 3 && !outcome.non_finite);
                }
                for bad in [f32::NAN, f32::INFINITY] {
                    let (rounded, outcome) =
                        rounding.round(&[1.0, bad, 1.0], &mut stream(2), vec![9]).unwrap();
                    assert!(rounded == [0; 3] && outcome.non_finite);
                }
                let error = rounding.round(&[1.0], &mut stream(2), Vec::new()).unwrap_err();
                assert_eq!(error, GridRoundingError::Dimension { expected: 3, got: 1 });
            }
            for unit in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-10, 1e10] {
                let one = ClipNorm::new(1.0).unwrap();
                assert!(matches!(
                    GridRounding::new(kind, one, unit, 3),
                    Err(GridRoundingError::GridUnit { .. })
                ));
            }
        }
    }

    proptest! {
        #[test]
        fn results_are_within_the_bound_and_near_the_clipped_vector(
            values in prop::collection::vec(-10.0_f32..10.0, 1..60), clip_norm in 0.1_f64..100.0, unit in 0.001_f64..10.0,
            seed in any::<u64>(),
        ) {
            for kind in [RoundingKind::Conditional, RoundingKind::TowardZero] {
                let rounding = rounding(kind, clip_norm, unit, values.len());
                let (rounded, outcome) = rounding.round(&values, &mut stream(seed), Vec::new()).unwrap();
                prop_assert!(rounding.is_within_bound(&rounded));
                let l1: f64 = rounded.iter().map(|&value| f64::from(value).abs()).sum();
                prop_assert!(l1 <= rounding.l1_bound());
                let factor = (clip_norm / outcome.norm).min(1.0) / unit;
                for (&rounded, &value) in rounded.iter().zip(&values) {
                    prop_assert!((f64::from(rounded) - f64::from(value) * factor).abs() < 1.0 + 1e-6);
                }
            }
        }
    }
}
