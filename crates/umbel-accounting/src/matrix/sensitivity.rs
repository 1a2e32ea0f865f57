//! How far one unit can move the encoded rounds `C X`.

use super::{MatrixError, Participation, check_rounds, check_work};
use crate::{DpEvent, NoiseMultiplier, ParamError, Sensitivity};

/// Largest Frobenius norm of the change in `C X` that one unit of clip norm 1 can cause; rounded up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StrategySensitivity {
    /// In units of the clip norm.
    pub value: f64,
    /// Whether a smaller value could hold.
    pub tightness: Tightness,
}

/// Whether a sensitivity is the smallest that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "there is no third possibility")]
pub enum Tightness {
    /// Some unit reaches it, up to rounding.
    Exact,
    /// It holds, and a smaller one may hold too.
    UpperBound,
}

impl StrategySensitivity {
    /// From the square, computed by sums of non-negative terms whose relative error is below `n_terms` ×
    /// 2⁻⁵⁰.
    pub(super) fn from_square(square: f64, n_terms: usize, tightness: Tightness) -> Self {
        Self {
            value: square.sqrt() * (1.0 + (n_terms as f64 + 4.0) * 2f64.powi(-50)),
            tightness,
        }
    }

    /// The Gaussian-DP parameter μ of the whole run under add-or-remove-one and replace-by-zero (twice it
    /// under replace-one), if `Z` has standard deviation `noise_std_dev` in units of the clip norm. Infinite
    /// without noise.
    pub fn gaussian_dp(&self, noise_std_dev: f64) -> f64 {
        if noise_std_dev > 0.0 {
            self.value / noise_std_dev
        } else {
            f64::INFINITY
        }
    }

    /// The whole run as an event, if `Z` has standard deviation `noise_multiplier` in units of the clip norm.
    ///
    /// An error where the sensitivity has overflowed, as coefficients near 1e100 can make it.
    pub fn event(&self, noise_multiplier: NoiseMultiplier) -> Result<DpEvent, ParamError> {
        Ok(DpEvent::MatrixMechanism {
            noise_multiplier,
            sensitivity: Sensitivity::new(self.value)?,
        })
    }

    /// The noise multiplier of the single Gaussian release that costs as much as the whole run.
    pub fn effective_noise_multiplier(&self, noise_std_dev: f64) -> f64 {
        if noise_std_dev > 0.0 {
            noise_std_dev / self.value
        } else {
            0.0
        }
    }
}

/// Sensitivity of a strategy whose columns are orthogonal when at least the separation apart, as those of a
/// banded matrix with at most that many bands, from the squared norms of its columns.
///
/// For such a matrix the participations of one unit do not interact, so the square is the largest sum of
/// squared column norms over allowed patterns, found by a dynamic programme over rounds (Choquette-Choo et
/// al. 2023, arXiv 2306.08153, Algorithm 3 in the banded case). Exact under either kind of participation.
pub fn banded_sensitivity(
    column_norms_squared: &[f64],
    participation: &Participation,
) -> Result<StrategySensitivity, MatrixError> {
    let n = column_norms_squared.len();
    check_rounds(n)?;
    for &norm in column_norms_squared {
        if !(norm.is_finite() && norm >= 0.0) {
            return Err(MatrixError::out_of_range(
                "squared column norm",
                "finite and at least 0",
                norm,
            ));
        }
    }
    let (separation, most) = (participation.separation(), participation.most_in(n));
    let square = match participation.pattern() {
        super::participation::Pattern::FixedEpoch => (0..separation.min(n))
            .map(|phase| largest_turns(column_norms_squared.iter().skip(phase).step_by(separation), most))
            .fold(0.0, f64::max),
        super::participation::Pattern::MinSeparation => {
            check_work("the banded sensitivity", n as f64 * most as f64)?;
            separated_maximum(column_norms_squared, separation, most)
        }
    };
    Ok(StrategySensitivity::from_square(square, n, Tightness::Exact))
}

/// The largest sum of at most `most` of `values`.
fn largest_turns<'a>(values: impl Iterator<Item = &'a f64>, most: usize) -> f64 {
    let mut values: Vec<f64> = values.copied().collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values.iter().take(most).sum()
}

/// The largest sum of at most `most` of `values` that are at least `separation` apart.
fn separated_maximum(values: &[f64], separation: usize, most: usize) -> f64 {
    let n = values.len();
    // best[i]: over rounds from i on, with at most as many participations as there were passes.
    let mut best = vec![0.0_f64; n + 1];
    for _ in 0..most {
        let fewer = best.clone();
        for i in (0..n).rev() {
            let rest = fewer[i.saturating_add(separation).min(n)];
            best[i] = (values[i] + rest).max(best[i + 1]);
        }
    }
    best[0]
}

/// Square of the sensitivity of the Toeplitz matrix with non-negative `coefficients` (one a round) for the
/// pattern {0, b, 2b, ..., (k-1)b}: Σ_t (Σ_{j<k} c_{t-jb})².
///
/// For non-negative coefficients this is the worst of the patterns with fixed distance b, because later
/// starts see the same sums cut off earlier; if they also never increase it is the worst of all patterns with
/// distances of at least b (Kalinin and Lampert 2024, arXiv 2405.13763, Theorem 2).
pub(super) fn toeplitz_square(coefficients: &[f64], separation: usize, most: usize) -> f64 {
    windowed_sums(coefficients, separation, most)
        .iter()
        .map(|u| u * u)
        .sum()
}

/// `u_t = Σ_{j<k} c_{t-jb}` with c = 0 before the start, in O(n) and by additions alone, so without
/// cancellation.
///
/// Residues modulo b are cut into chunks of k: a window of k is the end of one chunk and the beginning of the
/// next.
pub(super) fn windowed_sums(values: &[f64], separation: usize, most: usize) -> Vec<f64> {
    let n = values.len();
    let turn = |t: usize| t / separation;
    let mut prefix = values.to_vec();
    for t in separation.min(n)..n {
        if !turn(t).is_multiple_of(most) {
            prefix[t] += prefix[t - separation];
        }
    }
    if most >= n.div_ceil(separation) {
        return prefix;
    }
    let mut suffix = values.to_vec();
    for t in (0..n.saturating_sub(separation)).rev() {
        if turn(t) % most != most - 1 {
            suffix[t] += suffix[t + separation];
        }
    }
    (0..n)
        .map(|t| {
            if turn(t) < most || turn(t) % most == most - 1 {
                prefix[t]
            } else {
                prefix[t] + suffix[t - (most - 1) * separation]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::matrix::participation::patterns;

    /// All patterns by brute force.
    fn brute_force(values: &[f64], separation: usize, most: usize, fixed: bool) -> f64 {
        patterns(values.len(), separation, most, fixed)
            .map(|rounds| rounds.iter().map(|&i| values[i]).sum::<f64>())
            .fold(0.0, f64::max)
    }

    proptest! {
        #[test]
        fn windows_agree_with_their_definition(
            values in prop::collection::vec(0.0..10.0_f64, 1..60),
            separation in 1_usize..70, most in 1_usize..70,
        ) {
            let n = values.len();
            let most = most.min(n.div_ceil(separation));
            for (t, sum) in windowed_sums(&values, separation, most).into_iter().enumerate() {
                let terms = (0..most).filter_map(|j| t.checked_sub(j * separation)).map(|i| values[i]);
                let expected: f64 = terms.sum();
                prop_assert!((sum - expected).abs() <= 1e-12 * expected.max(1.0), "t {t}: {sum} {expected}");
            }
        }

        #[test]
        fn banded_programme_finds_the_worst_pattern(
            values in prop::collection::vec(0.0..10.0_f64, 1..11),
            separation in 1_usize..13, most in 1_usize..12,
        ) {
            for fixed in [false, true] {
                let participation = if fixed {
                    Participation::fixed_epoch(separation, Some(most)).unwrap()
                } else {
                    Participation::min_separation(separation, Some(most)).unwrap()
                };
                let found = banded_sensitivity(&values, &participation).unwrap().value;
                let expected = brute_force(&values, separation, most, fixed).sqrt();
                prop_assert!(found >= expected && found <= expected * (1.0 + 1e-12), "{found} {expected}");
            }
        }
    }

    #[test]
    fn equal_columns_cost_the_root_of_the_number_of_participations() {
        let participation = Participation::min_separation(16, None).unwrap();
        let found = banded_sensitivity(&[1.0; 512], &participation).unwrap().value;
        assert!((found - 32f64.sqrt()).abs() < 1e-11);
        assert!(banded_sensitivity(&[f64::NAN], &participation).is_err());
        assert!(banded_sensitivity(&[], &participation).is_err());
    }
}
