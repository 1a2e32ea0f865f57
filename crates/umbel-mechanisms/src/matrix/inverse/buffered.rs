//! The recursion of buffered linear Toeplitz strategies.

use umbel_accounting::matrix::BufferedToeplitz;

use super::{InverseError, Row, zero_row};

/// Coordinates worked on at a time, so that all their buffers stay in the cache.
const BLOCK: usize = 1024;

/// ẑ = z − Σ w_j S_j, then S_j ← θ_j S_j + ẑ (Dvijotham et al. 2024, arXiv 2404.16706; McMahan et al. 2024,
/// arXiv 2408.08868, Algorithm 2).
pub(super) struct Buffered {
    strategy: BufferedToeplitz,
    buffers: Vec<Row>,
}

impl Buffered {
    pub(super) fn new(strategy: BufferedToeplitz, dimension: usize) -> Result<Self, InverseError> {
        let buffers = (0..strategy.n_buffers())
            .map(|_| zero_row(dimension))
            .collect::<Result<_, _>>()?;
        Ok(Self { strategy, buffers })
    }

    /// With buffers as they were stored, one for each of the strategy's.
    pub(super) fn with_rows(strategy: BufferedToeplitz, buffers: Vec<Row>) -> Self {
        Self { strategy, buffers }
    }

    pub(super) fn next_round(&mut self, draws: &[f64], noise: &mut [f64]) {
        for (block, (out, draws)) in noise.chunks_mut(BLOCK).zip(draws.chunks(BLOCK)).enumerate() {
            let range = block * BLOCK..block * BLOCK + out.len();
            out.copy_from_slice(draws);
            for (buffer, scale) in self.buffers.iter().zip(self.strategy.scales()) {
                out.iter_mut()
                    .zip(&buffer[range.clone()])
                    .for_each(|(noise, kept)| *noise -= scale * kept);
            }
            for (buffer, decay) in self.buffers.iter_mut().zip(self.strategy.decays()) {
                buffer[range.clone()]
                    .iter_mut()
                    .zip(&*out)
                    .for_each(|(kept, noise)| *kept = decay * *kept + noise);
            }
        }
    }

    pub(super) fn strategy(&self) -> &BufferedToeplitz {
        &self.strategy
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.buffers
    }
}
