//! Random sources: who may draw what, and how each stream of random bits is derived.
//!
//! A source is a 256-bit key. A stream is ChaCha20 under a key derived by SHA-256 from the source's key, a purpose, a
//! round and a client, so streams can be drawn in parallel and in any order, and two purposes never share bits.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use chacha20::ChaCha20Rng;
use rand_core::{Rng, SeedableRng, TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The client number of streams that belong to no client, such as the server's noise.
pub const NO_CLIENT: u64 = u64::MAX;

/// What a stream of random bits is for. Streams of different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// A client's secret coins that choose its training batch.
    Batch,
    /// Canaries and secret bits of an empirical privacy audit.
    Canary,
    /// The coins that decide which clients are in a round.
    Cohort,
    /// Salts of the commitments in a ledger.
    Commitment,
    /// Simulated faults: who drops out, and when.
    Fault,
    /// The first parameters of a model.
    Initialisation,
    /// Masks of secure aggregation.
    Mask,
    /// The noise that makes a release private.
    Noise,
    /// How a data set is split over clients.
    Partition,
    /// The public random signs of a rotation.
    Rotation,
    /// Stochastic rounding of updates.
    Rounding,
    /// The order in which a client sees its examples.
    Shuffling,
    /// Whatever else training draws, such as dropout or augmentation.
    Training,
}

impl Purpose {
    /// Part of the derivation, therefore never renumbered.
    fn code(self) -> u32 {
        match self {
            Self::Cohort => 1,
            Self::Noise => 2,
            Self::Rounding => 3,
            Self::Initialisation => 4,
            Self::Shuffling => 5,
            Self::Partition => 6,
            Self::Mask => 7,
            Self::Batch => 8,
            Self::Training => 9,
            Self::Fault => 10,
            Self::Rotation => 11,
            Self::Canary => 12,
            Self::Commitment => 13,
        }
    }
}

/// The one number from which all randomness of a simulation follows.
///
/// It is printed, stored and shared: what is drawn from it protects nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SimulationSeed(u64);

impl SimulationSeed {
    /// Any number will do.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The number itself.
    pub fn value(self) -> u64 {
        self.0
    }

    /// A key that depends on seed, purpose, round and client, and on nothing else.
    ///
    /// Streams that belong to no client take [`NO_CLIENT`], streams that belong to no round take 0.
    pub fn derive(&self, purpose: Purpose, round: u64, client: u64) -> [u8; 32] {
        *derive_key(Provenance::Simulated, &self.key(), purpose, round, client, 0)
    }

    /// The stream under [`derive`](Self::derive)'s key, for everything that is neither cohort, rounding nor noise.
    pub fn stream(&self, purpose: Purpose, round: u64, client: u64) -> RandomStream {
        RandomStream::new(&self.derive(purpose, round, client), 0)
    }

    fn key(self) -> [u8; 32] {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.0.to_le_bytes());
        key
    }
}

/// Where a source's key came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(
    clippy::exhaustive_enums,
    reason = "a live server must refuse every provenance but one"
)]
pub enum Provenance {
    /// A fresh 256-bit key from the operating system: the guarantee holds for what is released.
    System,
    /// A [`SimulationSeed`]: whoever knows the seed can remove the noise, so ε describes the mechanism only.
    Simulated,
}

/// The operating system gave no randomness.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the operating system's random source failed: {0}")]
pub struct SourceError(#[from] getrandom::Error);

/// A stream of cryptographic random bits: ChaCha20 with a 64-bit counter. Its key is wiped on drop.
///
/// Usable wherever a [`rand_core::Rng`] is.
pub struct RandomStream(ChaCha20Rng);

impl RandomStream {
    fn new(key: &[u8; 32], stream: u64) -> Self {
        let mut generator = ChaCha20Rng::from_seed(*key);
        generator.set_stream(stream);
        Self(generator)
    }

    /// The stream that everybody derives from the same public bytes: for coins that protect nothing.
    pub(crate) fn from_public_seed(seed: &[u8; 32]) -> Self {
        Self::new(seed, 0)
    }

    /// The next 64 bits.
    pub fn next_word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Goes on after this many 32-bit words from the start.
    pub(crate) fn skip_words(&mut self, n_words: u64) {
        self.0.set_word_pos(u128::from(n_words));
    }
}

impl TryRng for RandomStream {
    type Error = Infallible;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.next_u32())
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    #[inline]
    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill_bytes(destination);
        Ok(())
    }
}

impl TryCryptoRng for RandomStream {}

impl fmt::Debug for RandomStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RandomStream(redacted)")
    }
}

/// Streams of one release, one per block of coordinates.
pub struct BlockStreams(Zeroizing<[u8; 32]>);

impl BlockStreams {
    /// The stream of one block. The same block always has the same bits: take each block once.
    pub fn block(&self, block: u64) -> RandomStream {
        RandomStream::new(&self.0, block)
    }
}

impl fmt::Debug for BlockStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockStreams(redacted)")
    }
}

struct Key {
    provenance: Provenance,
    bytes: Zeroizing<[u8; 32]>,
    n_uses: AtomicU64,
}

impl Key {
    fn from_system() -> Result<Self, SourceError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut_slice())?;
        Ok(Self {
            provenance: Provenance::System,
            bytes,
            n_uses: AtomicU64::new(0),
        })
    }

    fn simulated(seed: SimulationSeed) -> Self {
        Self {
            provenance: Provenance::Simulated,
            bytes: Zeroizing::new(seed.key()),
            n_uses: AtomicU64::new(0),
        }
    }

    /// The same key each time.
    fn derive(&self, purpose: Purpose, round: u64, client: u64) -> Zeroizing<[u8; 32]> {
        derive_key(self.provenance, &self.bytes, purpose, round, client, 0)
    }

    /// A key never given before, unless this is a simulation, which must repeat itself.
    fn derive_once(&self, purpose: Purpose, round: u64, client: u64) -> Zeroizing<[u8; 32]> {
        let n_uses = match self.provenance {
            Provenance::System => self.n_uses.fetch_add(1, Ordering::Relaxed) + 1,
            Provenance::Simulated => 0,
        };
        derive_key(self.provenance, &self.bytes, purpose, round, client, n_uses)
    }
}

/// SHA-256 of a fixed-length message, so no message is the beginning of another.
fn derive_key(
    provenance: Provenance,
    key: &[u8; 32],
    purpose: Purpose,
    round: u64,
    client: u64,
    n_uses: u64,
) -> Zeroizing<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(b"umbel random stream 1\0");
    hash.update(match provenance {
        Provenance::System => [1],
        Provenance::Simulated => [2],
    });
    hash.update(key);
    hash.update(purpose.code().to_le_bytes());
    hash.update(round.to_le_bytes());
    hash.update(client.to_le_bytes());
    hash.update(n_uses.to_le_bytes());
    Zeroizing::new(hash.finalize().into())
}

macro_rules! source {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        pub struct $type(Key);

        impl $type {
            /// A source with a fresh key from the operating system, so that a restart never repeats a stream.
            pub fn from_system() -> Result<Self, SourceError> {
                Key::from_system().map(Self)
            }

            /// A source that repeats itself for the same seed; for simulation and tests only.
            pub fn simulated(seed: SimulationSeed) -> Self {
                Self(Key::simulated(seed))
            }

            /// Where the key came from; a live server accepts [`Provenance::System`] only.
            pub fn provenance(&self) -> Provenance {
                self.0.provenance
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type))
                    .field("provenance", &self.0.provenance)
                    .finish_non_exhaustive()
            }
        }
    };
}

source!(
    /// Decides who is in a cohort. Amplification by sampling holds only while these coins are secret.
    CohortSource
);

source!(
    /// Draws the noise that makes a release private.
    NoiseSource
);

source!(
    /// Decides which of its examples a client trains on in a step. Amplification by sampling holds only while these coins are
    /// the client's secret.
    BatchSource
);

source!(
    /// Draws the bits of stochastic rounding on a client.
    RoundingSource
);

impl CohortSource {
    /// The coins of one round, the same each time they are asked for.
    pub fn stream(&self, round: u64) -> RandomStream {
        RandomStream::new(&self.0.derive(Purpose::Cohort, round, NO_CLIENT), 0)
    }

    /// Coins that belong to no round: which group each client is in.
    pub(crate) fn group_stream(&self) -> RandomStream {
        self.stream(0)
    }

    /// Coins that belong to no round: which turns of its group one client takes.
    pub(crate) fn turns_stream(&self, client: u64) -> RandomStream {
        RandomStream::new(&self.0.derive(Purpose::Cohort, 0, client), 0)
    }

    /// A second stream of the same round, for coins that the first leaves undecided.
    pub(crate) fn tie_stream(&self, round: u64) -> RandomStream {
        RandomStream::new(&self.0.derive(Purpose::Cohort, round, NO_CLIENT), 1)
    }
}

impl NoiseSource {
    /// The streams of the server's noise for one release.
    ///
    /// With a key from the system each call gives new streams, whatever the round: noise is never used twice. In
    /// simulation they depend on seed and round alone.
    pub fn release_streams(&self, round: u64) -> BlockStreams {
        self.client_streams(round, NO_CLIENT)
    }

    /// The streams of a client's own noise, under the same rule.
    pub fn client_streams(&self, round: u64, client: u64) -> BlockStreams {
        BlockStreams(self.0.derive_once(Purpose::Noise, round, client))
    }
}

impl BatchSource {
    /// The coins of one client in one round, for all its steps; new ones at each call if the key is the system's.
    pub fn stream(&self, round: u64, client: u64) -> RandomStream {
        RandomStream::new(&self.0.derive_once(Purpose::Batch, round, client), 0)
    }
}

impl RoundingSource {
    /// The rounding bits of one client in one round; new ones at each call if the key is the system's.
    pub fn stream(&self, round: u64, client: u64) -> RandomStream {
        RandomStream::new(&self.0.derive_once(Purpose::Rounding, round, client), 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn streams_depend_on_purpose_round_and_client() {
        let mut keys = BTreeSet::new();
        for seed in [0, 1, u64::MAX] {
            for purpose in [
                Purpose::Cohort,
                Purpose::Noise,
                Purpose::Rounding,
                Purpose::Initialisation,
            ] {
                for round in [0, 1, 1 << 40] {
                    for client in [0, 1, NO_CLIENT] {
                        keys.insert(SimulationSeed::new(seed).derive(purpose, round, client));
                    }
                }
            }
        }
        assert_eq!(keys.len(), 3 * 4 * 3 * 3);
    }

    #[test]
    fn derivation_never_changes() {
        // The message written out and hashed by another implementation (Python's hashlib).
        let key = SimulationSeed::new(7).derive(Purpose::Noise, 3, NO_CLIENT);
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "41256d12a358f1987f8ca4b1542a7baf3c603d67d2a0f1c9996acb9a8907a946"
        );
    }

    #[test]
    fn simulated_sources_repeat_and_system_sources_never_do() {
        let first = |streams: BlockStreams| streams.block(5).next_u64();
        let simulated = NoiseSource::simulated(SimulationSeed::new(1));
        assert_eq!(
            first(simulated.release_streams(2)),
            first(simulated.release_streams(2))
        );
        assert_ne!(
            first(simulated.release_streams(2)),
            first(simulated.release_streams(3))
        );
        assert_ne!(
            simulated.release_streams(2).block(0).next_u64(),
            first(simulated.release_streams(2))
        );
        let system = NoiseSource::from_system().unwrap();
        assert_ne!(first(system.release_streams(2)), first(system.release_streams(2)));
        assert_ne!(
            first(NoiseSource::from_system().unwrap().release_streams(2)),
            first(NoiseSource::from_system().unwrap().release_streams(2))
        );
        let cohort = CohortSource::simulated(SimulationSeed::new(1))
            .stream(2)
            .next_u64();
        let rounding = RoundingSource::simulated(SimulationSeed::new(1))
            .stream(2, NO_CLIENT)
            .next_u64();
        assert_ne!(cohort, rounding);
        assert_ne!(cohort, simulated.release_streams(2).block(0).next_u64());
    }

    #[test]
    fn debug_output_shows_no_key() {
        let source = NoiseSource::simulated(SimulationSeed::new(0xdead_beef));
        let text = format!(
            "{source:?} {:?} {:?}",
            source.release_streams(0),
            source.release_streams(0).block(0)
        );
        assert_eq!(
            text,
            "NoiseSource { provenance: Simulated, .. } BlockStreams(redacted) RandomStream(redacted)"
        );
    }
}
