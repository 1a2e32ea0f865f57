//! The recursion of Toeplitz strategies, banded or full.

use umbel_accounting::matrix::ToeplitzStrategy;

use super::{InverseError, Row, zero_row};

/// ẑ_t = (z_t − Σ_{0<j<p} c_j ẑ_{t−j}) / c_0: substitution with the last p − 1 rounds' noise.
pub(super) struct Banded {
    strategy: ToeplitzStrategy,
    /// Noise of round t lies in row t mod (p − 1).
    past: Vec<Row>,
}

impl Banded {
    pub(super) fn new(strategy: ToeplitzStrategy) -> Self {
        Self {
            strategy,
            past: Vec::new(),
        }
    }

    /// With past noise as it was stored.
    pub(super) fn with_rows(strategy: ToeplitzStrategy, past: Vec<Row>) -> Self {
        Self { strategy, past }
    }

    /// Rows kept after `n_rounds` rounds.
    pub(super) fn n_rows(strategy: &ToeplitzStrategy, n_rounds: u64) -> usize {
        let reach = strategy.n_bands() - 1;
        usize::try_from(n_rounds).map_or(reach, |n_rounds| n_rounds.min(reach))
    }

    pub(super) fn next_round(
        &mut self,
        n_rounds: u64,
        draws: &[f64],
        noise: &mut [f64],
    ) -> Result<(), InverseError> {
        let reach = self.strategy.n_bands() - 1;
        if self.past.len() < reach {
            // Rows are added as rounds come, so that a short run needs no more than it uses.
            let row = zero_row(draws.len())?;
            self.past.try_reserve(1).map_err(|_| InverseError::OutOfMemory {
                expected: draws.len(),
            })?;
            self.past.push(row);
        }
        let coefficients = self.strategy.coefficients();
        noise.copy_from_slice(draws);
        let n_slots = reach.max(1) as u64;
        let slot = |round: u64| usize::try_from(round % n_slots).unwrap_or(0);
        let n_known = Self::n_rows(&self.strategy, n_rounds);
        for (lag, coefficient) in coefficients.iter().enumerate().skip(1).take(n_known) {
            let row = &self.past[slot(n_rounds - lag as u64)];
            noise
                .iter_mut()
                .zip(row.iter())
                .for_each(|(noise, past)| *noise -= coefficient * past);
        }
        noise.iter_mut().for_each(|noise| *noise /= coefficients[0]);
        if let Some(row) = self.past.get_mut(slot(n_rounds)) {
            row.copy_from_slice(noise);
        }
        Ok(())
    }

    pub(super) fn strategy(&self) -> &ToeplitzStrategy {
        &self.strategy
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.past
    }
}
