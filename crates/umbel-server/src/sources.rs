//! The randomness of a live run. It comes from the operating system: no value of [`LiveSources`] can be made from a seed.

use umbel_mechanisms::{CohortSource, NoiseSource, SourceError};
use umbel_protocol::{CommitmentKey, Sources};

/// Coins and noise that nobody can know.
///
/// With the feature `simulated-randomness`, which no program turns on, a test can make one from a seed; the ledger then says
/// `simulated`, as everything that is drawn from a seed must.
#[derive(Debug)]
pub struct LiveSources {
    cohort: CohortSource,
    noise: NoiseSource,
}

impl LiveSources {
    /// Fresh keys from the operating system.
    ///
    /// # Errors
    ///
    /// The system gives no randomness. There is no other source to fall back to.
    pub fn from_system() -> Result<Self, SourceError> {
        Ok(Self {
            cohort: CohortSource::from_system()?,
            noise: NoiseSource::from_system()?,
        })
    }

    /// The streams of a simulation with this seed: for comparing a served run with a simulated one.
    #[cfg(feature = "simulated-randomness")]
    pub fn simulated(seed: umbel_mechanisms::SimulationSeed) -> Self {
        Self {
            cohort: CohortSource::simulated(seed),
            noise: NoiseSource::simulated(seed),
        }
    }

    /// True if a seed is behind them.
    pub(crate) fn is_simulated(&self) -> bool {
        self.noise.provenance() != umbel_mechanisms::Provenance::System
    }

    pub(crate) fn with_commitment(self, commitment: CommitmentKey) -> Sources {
        Sources {
            cohort: self.cohort,
            noise: self.noise,
            commitment,
        }
    }
}
