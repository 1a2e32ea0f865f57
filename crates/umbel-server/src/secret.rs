//! What nobody but a run may know while it lasts.

use std::fmt;

use sha2::{Digest as _, Sha256};
use umbel_accounting::ledger::SigningKey;
use umbel_protocol::CommitmentKey;

/// The run's signing key and the salt of its commitments, from one secret of the operating system. It is removed from the database
/// with the record that closes the run.
pub(crate) struct RunSecret([u8; 32]);

impl RunSecret {
    pub(crate) fn draw() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    pub(crate) fn stored(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn signing_key(&self) -> SigningKey {
        SigningKey::from_secret(&self.0)
    }

    /// The same key, for what the server signs in secure aggregation: each kind of text that is signed begins with a label of its own.
    pub(crate) fn server_key(&self) -> umbel_secagg::ServerKey {
        umbel_secagg::ServerKey::from_secret(&self.0)
    }

    pub(crate) fn commitment_key(&self) -> CommitmentKey {
        let mut hash = Sha256::new();
        hash.update(b"umbel commitment key v1\n");
        hash.update(self.0);
        CommitmentKey::from_secret(hash.finalize().into())
    }
}

impl fmt::Debug for RunSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunSecret").finish_non_exhaustive()
    }
}
