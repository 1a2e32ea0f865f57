//! What is random on a client.

use umbel_mechanisms::{BatchSource, NoiseSource, Provenance, Purpose, RoundingSource, SourceError};
use umbel_sim::ClientDraws;
use umbel_train::TrainingRng;

use crate::ClientError;

/// The randomness of a client, from the operating system: the noise that it adds where it adds any, the coins that choose its
/// batches, and the order of its examples, which protects nothing.
///
/// With the feature `simulated-randomness`, which no program turns on, a test can make one that draws as a simulation does.
#[derive(Debug)]
pub struct ClientSources {
    pub(crate) noise: NoiseSource,
    pub(crate) rounding: RoundingSource,
    batches: BatchSource,
    #[cfg(feature = "simulated-randomness")]
    simulated: Option<(umbel_mechanisms::SimulationSeed, u64)>,
}

impl ClientSources {
    /// Fresh keys from the operating system.
    ///
    /// # Errors
    ///
    /// The system gives no randomness. There is no other source to fall back to.
    pub fn from_system() -> Result<Self, SourceError> {
        Ok(Self {
            noise: NoiseSource::from_system()?,
            rounding: RoundingSource::from_system()?,
            batches: BatchSource::from_system()?,
            #[cfg(feature = "simulated-randomness")]
            simulated: None,
        })
    }

    /// The streams of a simulation with this seed, for the client with this number: for comparing a served run with a simulated one.
    #[cfg(feature = "simulated-randomness")]
    pub fn simulated(seed: umbel_mechanisms::SimulationSeed, client: u64) -> Self {
        Self {
            noise: NoiseSource::simulated(seed),
            rounding: RoundingSource::simulated(seed),
            batches: BatchSource::simulated(seed),
            simulated: Some((seed, client)),
        }
    }

    /// True if a seed is behind them.
    pub(crate) fn is_simulated(&self) -> bool {
        self.noise.provenance() != Provenance::System
    }

    /// The number by which streams are told apart: that of a simulated client. Streams of the system are never the same.
    pub(crate) fn client(&self) -> u64 {
        #[cfg(feature = "simulated-randomness")]
        if let Some((_, client)) = self.simulated {
            return client;
        }
        0
    }

    /// A key for what needs no secrecy.
    fn key(&self, purpose: Purpose, round: u64) -> Result<[u8; 32], ClientError> {
        #[cfg(feature = "simulated-randomness")]
        if let Some((seed, client)) = self.simulated {
            return Ok(seed.derive(purpose, round, client));
        }
        let _ = (purpose, round);
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| ClientError::System(error.to_string()))?;
        Ok(key)
    }

    /// What one round takes, never given twice.
    pub(crate) fn draws(&self, round: u64) -> Result<ClientDraws, ClientError> {
        let shuffling = TrainingRng::from_seed(self.key(Purpose::Shuffling, round)?);
        let dropout = self.key(Purpose::Training, round)?;
        Ok(ClientDraws::new(
            shuffling,
            self.batches.stream(round, self.client()),
            self.noise.client_streams(round, self.client()),
            &dropout,
        ))
    }
}
