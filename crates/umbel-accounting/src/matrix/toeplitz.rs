//! Lower-triangular Toeplitz strategies, full or banded.

use super::{
    MatrixError, Participation, PrefixError, StrategySensitivity, Tightness, check_rounds, check_work,
    participation::Pattern, sensitivity::toeplitz_square,
};

/// The lower-triangular Toeplitz matrix with `coefficients[i]` on the i-th diagonal below the main one, 0
/// beyond.
///
/// With p coefficients the noise of a round needs the noise of the p − 1 rounds before it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToeplitzStrategy {
    coefficients: Vec<f64>,
}

impl ToeplitzStrategy {
    /// Accepts up to [`super::MAX_ROUNDS`] finite coefficients of magnitude at most 1e100, of which the first
    /// is above 0.
    pub fn new(coefficients: Vec<f64>) -> Result<Self, MatrixError> {
        check_rounds(coefficients.len())?;
        if let Some(bad) = coefficients.iter().find(|c| c.is_nan() || c.abs() > 1e100) {
            return Err(MatrixError::out_of_range(
                "Toeplitz coefficient",
                "between -1e100 and 1e100",
                bad,
            ));
        }
        if coefficients[0] < 1e-100 {
            return Err(MatrixError::out_of_range(
                "first Toeplitz coefficient",
                "at least 1e-100",
                coefficients[0],
            ));
        }
        Ok(Self { coefficients })
    }

    /// The square root of the prefix-sum matrix: c_t = Π_{i≤t} (2i − 1) / 2i, the power series of (1 −
    /// x)^(−1/2).
    ///
    /// Near-optimal for one participation (Fichtenberger et al. 2022, arXiv 2202.11205). With
    /// `n_coefficients` rounds it is its own error matrix.
    pub fn square_root(n_coefficients: usize) -> Result<Self, MatrixError> {
        check_rounds(n_coefficients)?;
        let mut coefficients = Vec::with_capacity(n_coefficients);
        let mut c = 1.0;
        for t in 0..n_coefficients {
            coefficients.push(c);
            c *= (2 * t + 1) as f64 / (2 * t + 2) as f64;
        }
        Self::new(coefficients)
    }

    /// The coefficients c_0, c_1, ..., c_{p-1}.
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// How many coefficients there are, p.
    pub fn n_bands(&self) -> usize {
        self.coefficients.len()
    }

    /// How far one unit can move `C X`, in units of the clip norm, over `n_rounds` rounds.
    ///
    /// Exact if participations cannot interact (one only, or bands within the separation), if all fixed turns
    /// may be taken and no coefficient is negative, or if the coefficients never increase and none is
    /// negative (Kalinin and Lampert 2024, Theorem 2). Otherwise an upper bound: magnitudes are taken, and
    /// each is raised to the largest that follows it, which can only raise the entries of |Cᵀ C|.
    pub fn sensitivity(
        &self,
        n_rounds: usize,
        participation: &Participation,
    ) -> Result<StrategySensitivity, MatrixError> {
        check_rounds(n_rounds)?;
        let (separation, most) = (participation.separation(), participation.most_in(n_rounds));
        let mut magnitudes: Vec<f64> = self.coefficients.iter().take(n_rounds).map(|c| c.abs()).collect();
        let alone = most == 1 || magnitudes.len() <= separation;
        let non_negative = self.coefficients.iter().all(|&c| c >= 0.0);
        let never_rises = magnitudes.windows(2).all(|pair| pair[0] >= pair[1]);
        let fixed = participation.pattern() == Pattern::FixedEpoch && most == n_rounds.div_ceil(separation);
        let exact = alone || (non_negative && (never_rises || fixed));
        if !(alone || never_rises || fixed) {
            for t in (1..magnitudes.len()).rev() {
                magnitudes[t - 1] = magnitudes[t - 1].max(magnitudes[t]);
            }
        }
        magnitudes.resize(n_rounds, 0.0);
        let square = toeplitz_square(&magnitudes, separation, most);
        let tightness = if exact {
            Tightness::Exact
        } else {
            Tightness::UpperBound
        };
        Ok(StrategySensitivity::from_square(square, n_rounds, tightness))
    }

    /// Error of the prefix sums over `n_rounds` rounds at unit noise.
    pub fn prefix_error(&self, n_rounds: usize) -> Result<PrefixError, MatrixError> {
        Ok(prefix_error(&self.error_coefficients(n_rounds)?))
    }

    /// First column of `B = A C⁻¹`, which is Toeplitz too: the running sums of the coefficients of C⁻¹.
    pub(super) fn error_coefficients(&self, n_rounds: usize) -> Result<Vec<f64>, MatrixError> {
        check_rounds(n_rounds)?;
        check_work(
            "inverting the Toeplitz strategy",
            n_rounds as f64 * self.n_bands().min(n_rounds) as f64,
        )?;
        Ok(solve_lower(&self.coefficients, &vec![1.0; n_rounds]))
    }
}

/// Solves `C y = values` for the lower-triangular Toeplitz matrix with these coefficients.
pub(super) fn solve_lower(coefficients: &[f64], values: &[f64]) -> Vec<f64> {
    let mut solution: Vec<f64> = Vec::with_capacity(values.len());
    for (t, &value) in values.iter().enumerate() {
        let reach = t.min(coefficients.len() - 1);
        let past = &solution[t - reach..];
        let taken_back: f64 = coefficients[1..=reach]
            .iter()
            .zip(past.iter().rev())
            .map(|(c, y)| c * y)
            .sum();
        solution.push((value - taken_back) / coefficients[0]);
    }
    solution
}

/// Errors of a Toeplitz `B` from its first column.
pub(super) fn prefix_error(error_coefficients: &[f64]) -> PrefixError {
    let n = error_coefficients.len();
    let (mut total, mut sum) = (0.0, 0.0);
    for b in error_coefficients {
        total += b * b;
        sum += total;
    }
    PrefixError {
        root_mean_square: (sum / n as f64).sqrt(),
        max: total.sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::matrix::participation::patterns;

    /// Largest 1ᵀ|Cᵀ C|1 over all patterns, from the dense matrix.
    fn brute_force(coefficients: &[f64], n: usize, separation: usize, most: usize) -> f64 {
        let entry = |row: usize, col: usize| {
            if row < col {
                0.0
            } else {
                coefficients.get(row - col).copied().unwrap_or(0.0)
            }
        };
        let gram = |i: usize, j: usize| (0..n).map(|r| entry(r, i) * entry(r, j)).sum::<f64>().abs();
        patterns(n, separation, most, false)
            .map(|rounds| {
                let pairs = rounds.iter().flat_map(|&i| rounds.iter().map(move |&j| (i, j)));
                pairs.map(|(i, j)| gram(i, j)).sum::<f64>()
            })
            .fold(0.0, f64::max)
            .sqrt()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn sensitivity_covers_every_pattern_and_is_reached_when_exact(
            coefficients in prop::collection::vec(-1.0..1.0_f64, 0..9), sorted in any::<bool>(),
            n in 1_usize..9, separation in 1_usize..10, most in 1_usize..10,
        ) {
            let mut coefficients: Vec<f64> = std::iter::once(1.0).chain(coefficients).collect();
            if sorted {
                coefficients.iter_mut().for_each(|c| *c = c.abs());
                coefficients.sort_by(|a, b| b.total_cmp(a));
            }
            let strategy = ToeplitzStrategy::new(coefficients.clone()).unwrap();
            let participation = Participation::min_separation(separation, Some(most)).unwrap();
            let found = strategy.sensitivity(n, &participation).unwrap();
            let expected = brute_force(&coefficients, n, separation, most);
            prop_assert!(found.value >= expected * (1.0 - 1e-15), "{found:?} {expected}");
            if found.tightness == Tightness::Exact {
                prop_assert!(found.value <= expected * (1.0 + 1e-12), "{found:?} {expected}");
            }
            prop_assert!(found.tightness == Tightness::Exact || !sorted);
        }
    }

    #[test]
    fn square_root_is_its_own_error_matrix() {
        let strategy = ToeplitzStrategy::square_root(300).unwrap();
        let error = strategy.error_coefficients(300).unwrap();
        for (b, c) in error.iter().zip(strategy.coefficients()) {
            assert!((b - c).abs() < 1e-13);
        }
        // Its square is the prefix-sum matrix.
        let square = |t: usize| -> f64 { (0..=t).map(|i| error[i] * error[t - i]).sum() };
        assert!((0..300).all(|t| (square(t) - 1.0).abs() < 1e-12));
    }

    #[test]
    fn fixed_turns_never_cost_more_than_free_ones() {
        let strategy = ToeplitzStrategy::square_root(200).unwrap();
        let free = strategy
            .sensitivity(200, &Participation::min_separation(30, Some(5)).unwrap())
            .unwrap();
        let fixed = strategy
            .sensitivity(200, &Participation::fixed_epoch(30, Some(5)).unwrap())
            .unwrap();
        let single = strategy.sensitivity(200, &Participation::single()).unwrap();
        assert!(single.value < fixed.value && fixed.value <= free.value);
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(ToeplitzStrategy::new(vec![]).is_err());
        assert!(ToeplitzStrategy::new(vec![0.0, 1.0]).is_err());
        assert!(ToeplitzStrategy::new(vec![1.0, f64::NAN]).is_err());
        let strategy = ToeplitzStrategy::square_root(1 << 20).unwrap();
        assert!(matches!(
            strategy.prefix_error(1 << 20),
            Err(MatrixError::TooMuchWork { .. })
        ));
        assert!(strategy.sensitivity(0, &Participation::single()).is_err());
        assert!(
            strategy
                .sensitivity(usize::MAX, &Participation::single())
                .is_err()
        );
    }
}
