//! Buffered linear Toeplitz strategies: exponentially decaying memory in a few buffers.

use super::{
    MatrixError, Participation, PrefixError, StrategySensitivity, Tightness, check_rounds,
    sensitivity::toeplitz_square, toeplitz::prefix_error,
};

/// The Toeplitz strategy c_0 = 1, c_t = Σ_j w_j θ_j^(t−1): a buffer for each pair of output scale w_j and
/// decay θ_j (Dvijotham et al. 2024, arXiv 2404.16706; McMahan et al. 2024, arXiv 2408.08868).
///
/// Its noise needs memory for as many vectors as there are buffers, whatever the number of rounds. The
/// parameters do not name a number of rounds either, but were optimised for one.
#[derive(Debug, Clone, PartialEq)]
pub struct BufferedToeplitz {
    decays: Vec<f64>,
    scales: Vec<f64>,
}

impl BufferedToeplitz {
    /// The most buffers.
    pub const MAX_BUFFERS: usize = 16;

    /// Accepts 1 to [`Self::MAX_BUFFERS`] buffers with decays θ_j in `[0, 1]` and scales w_j of at least 0
    /// that add up to at most 1.
    ///
    /// In this range the coefficients never increase, so sensitivities are exact, and the noise recursion is
    /// stable: its modes are the roots of 1 + Σ w_j / (λ − θ_j), all real, below 1, and not below −1 as Σ w_j
    /// / (1 + θ_j) ≤ 1.
    pub fn new(decays: Vec<f64>, scales: Vec<f64>) -> Result<Self, MatrixError> {
        if decays.len() != scales.len() || !(1..=Self::MAX_BUFFERS).contains(&decays.len()) {
            return Err(MatrixError::out_of_range(
                "number of buffers",
                format!(
                    "between 1 and {}, with one decay and one scale each",
                    Self::MAX_BUFFERS
                ),
                format!("{} decays and {} scales", decays.len(), scales.len()),
            ));
        }
        if let Some(bad) = decays.iter().find(|decay| !(0.0..=1.0).contains(*decay)) {
            return Err(MatrixError::out_of_range("buffer decay", "between 0 and 1", bad));
        }
        if let Some(bad) = scales.iter().find(|scale| !(0.0..=1.0).contains(*scale)) {
            return Err(MatrixError::out_of_range("buffer scale", "between 0 and 1", bad));
        }
        let total: f64 = scales.iter().sum();
        if total > 1.0 {
            return Err(MatrixError::out_of_range(
                "sum of buffer scales",
                "at most 1",
                total,
            ));
        }
        Ok(Self { decays, scales })
    }

    /// The decays θ_j.
    pub fn decays(&self) -> &[f64] {
        &self.decays
    }

    /// The output scales w_j.
    pub fn scales(&self) -> &[f64] {
        &self.scales
    }

    /// How many buffers there are.
    pub fn n_buffers(&self) -> usize {
        self.decays.len()
    }

    /// c_0, ..., c_{n−1}.
    pub fn coefficients(&self, n_rounds: usize) -> Result<Vec<f64>, MatrixError> {
        check_rounds(n_rounds)?;
        let mut powers = self.scales.clone();
        let later = (1..n_rounds).map(|_| {
            let c = powers.iter().sum();
            powers
                .iter_mut()
                .zip(&self.decays)
                .for_each(|(power, decay)| *power *= decay);
            c
        });
        Ok(std::iter::once(1.0).chain(later).collect())
    }

    /// How far one unit can move `C X`, in units of the clip norm, over `n_rounds` rounds. Always exact.
    ///
    /// For one participation it is the closed form 1 + Σ_ij w_i w_j (1 − (θ_i θ_j)^(n−1)) / (1 − θ_i θ_j)
    /// (Dvijotham et al. 2024, Lemma 5.3), otherwise that of the worst Toeplitz pattern.
    pub fn sensitivity(
        &self,
        n_rounds: usize,
        participation: &Participation,
    ) -> Result<StrategySensitivity, MatrixError> {
        check_rounds(n_rounds)?;
        let (separation, most) = (participation.separation(), participation.most_in(n_rounds));
        let square = if most == 1 {
            self.single_square(n_rounds)
        } else {
            toeplitz_square(&self.coefficients(n_rounds)?, separation, most)
        };
        Ok(StrategySensitivity::from_square(
            square,
            n_rounds,
            Tightness::Exact,
        ))
    }

    /// Error of the prefix sums over `n_rounds` rounds at unit noise.
    pub fn prefix_error(&self, n_rounds: usize) -> Result<PrefixError, MatrixError> {
        check_rounds(n_rounds)?;
        // The errors are the answer of the noise recursion to ones.
        let mut buffers = vec![0.0; self.n_buffers()];
        let mut errors = Vec::with_capacity(n_rounds);
        for _ in 0..n_rounds {
            let taken_back: f64 = buffers
                .iter()
                .zip(&self.scales)
                .map(|(buffer, scale)| buffer * scale)
                .sum();
            let error = 1.0 - taken_back;
            buffers
                .iter_mut()
                .zip(&self.decays)
                .for_each(|(buffer, decay)| *buffer = *buffer * decay + error);
            errors.push(error);
        }
        Ok(prefix_error(&errors))
    }

    fn single_square(&self, n_rounds: usize) -> f64 {
        let buffers = || self.scales.iter().zip(&self.decays);
        let later: f64 = buffers()
            .flat_map(|(w_i, d_i)| {
                buffers().map(move |(w_j, d_j)| w_i * w_j * geometric_sum(d_i * d_j, n_rounds - 1))
            })
            .sum();
        1.0 + later
    }
}

/// 1 + r + ... + r^(n−1) for r in `[0, 1]`, without cancellation near 1.
fn geometric_sum(ratio: f64, n_terms: usize) -> f64 {
    let n = n_terms as f64;
    if ratio <= 0.0 {
        return n.min(1.0);
    }
    let log = ratio.ln();
    if log >= 0.0 {
        n
    } else {
        (n * log).exp_m1() / log.exp_m1()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::matrix::ToeplitzStrategy;

    fn strategy() -> impl Strategy<Value = BufferedToeplitz> {
        prop::collection::vec((0.0..=1.0_f64, 0.0..1.0_f64), 1..6).prop_map(|pairs| {
            let total: f64 = pairs.iter().map(|(_, w)| w).sum::<f64>().max(1.0) * 1.000_001;
            let (decays, scales) = pairs.into_iter().map(|(decay, w)| (decay, w / total)).unzip();
            BufferedToeplitz::new(decays, scales).unwrap()
        })
    }

    proptest! {
        #[test]
        fn buffers_agree_with_the_toeplitz_matrix_that_they_stand_for(
            strategy in strategy(), n in 1_usize..300, separation in 1_usize..100, most in 1_usize..20,
        ) {
            let dense = ToeplitzStrategy::new(strategy.coefficients(n).unwrap()).unwrap();
            for participation in [
                Participation::single(),
                Participation::min_separation(separation, Some(most)).unwrap(),
                Participation::fixed_epoch(separation, None).unwrap(),
            ] {
                let found = strategy.sensitivity(n, &participation).unwrap();
                let expected = dense.sensitivity(n, &participation).unwrap();
                prop_assert!((found.value / expected.value - 1.0).abs() < 1e-11, "{found:?} {expected:?}");
            }
            let (found, expected) = (strategy.prefix_error(n).unwrap(), dense.prefix_error(n).unwrap());
            prop_assert!((found.root_mean_square / expected.root_mean_square - 1.0).abs() < 1e-9);
            prop_assert!((found.max / expected.max - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn strategies_out_of_range_are_refused() {
        let make = |decays: &[f64], scales: &[f64]| BufferedToeplitz::new(decays.to_vec(), scales.to_vec());
        assert!(make(&[], &[]).is_err());
        assert!(make(&[0.5], &[]).is_err());
        assert!(make(&[0.5; 17], &[0.01; 17]).is_err());
        assert!(make(&[1.5], &[0.5]).is_err());
        assert!(make(&[f64::NAN], &[0.5]).is_err());
        assert!(make(&[0.5], &[-0.5]).is_err());
        assert_eq!(
            make(&[0.5, 0.5], &[0.75, 0.5]).unwrap_err().to_string(),
            "sum of buffer scales must be at most 1, got 1.25"
        );
        assert!(
            make(&[1.0], &[1.0])
                .unwrap()
                .sensitivity(super::super::MAX_ROUNDS + 1, &Participation::single())
                .is_err()
        );
    }

    #[test]
    fn a_buffer_that_never_decays_is_a_counter() {
        let strategy = BufferedToeplitz::new(vec![1.0], vec![1.0]).unwrap();
        assert!((strategy.sensitivity(100, &Participation::single()).unwrap().value - 10.0).abs() < 1e-10);
        assert!((strategy.prefix_error(100).unwrap().max - 1.0).abs() < 1e-12);
    }
}
