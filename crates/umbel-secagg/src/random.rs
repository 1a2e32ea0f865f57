//! Where a client's secrets come from.

use std::fmt;

use chacha20::ChaCha20Rng;
use rand_core::SeedableRng;
use zeroize::Zeroizing;

/// 256 secret bits from which one client draws everything random of one attempt: keys, secrets, polynomials, salts.
///
/// A live client takes them from the operating system, once for each attempt; a simulation derives them from its seed.
/// Used twice they would give the same masks twice, and a server would learn the difference of two updates.
pub struct Entropy(Zeroizing<[u8; 32]>);

impl Entropy {
    /// Takes 32 bytes that are uniform, secret, and used for nothing else.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn stream(self) -> ChaCha20Rng {
        ChaCha20Rng::from_seed(*self.0)
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(redacted)")
    }
}
