//! The generator of everything random in training that needs no secrecy.

use std::convert::Infallible;

use chacha20::ChaCha8Rng;
use rand::{SeedableRng, TryRng};

/// A seeded generator for initialisation, shuffling and partitions: ChaCha with 8 rounds.
///
/// ChaCha is defined by its key alone, so the stream of a seed is the same on every platform and in every version.
/// The type deliberately does not implement [`rand::CryptoRng`]: what comes from a known seed must not pass where
/// cohort sampling, masks or noise ask for a cryptographic source. Derive a seed of its own for every purpose, round
/// and client, so that no stream depends on how much of another was used.
#[derive(Debug)]
pub struct TrainingRng(ChaCha8Rng);

impl TrainingRng {
    /// The generator of this seed, at the beginning of its stream.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(seed))
    }
}

impl TryRng for TrainingRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(dst)
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    /// First key stream block of ChaCha8 with a zero key and a zero nonce, from the eSTREAM test vectors
    /// (`TC1`, 256-bit key).
    #[test]
    fn the_stream_of_a_zero_seed_is_the_published_one() {
        let mut bytes = [0; 16];
        TrainingRng::from_seed([0; 32]).fill_bytes(&mut bytes);
        let expected = [
            0x3e, 0x00, 0xef, 0x2f, 0x89, 0x5f, 0x40, 0xd6, 0x7f, 0x5b, 0xb8, 0xe8, 0x1f, 0x09, 0xa5, 0xa1,
        ];
        assert_eq!(bytes, expected);
    }
}
