//! What the ledger binds a run to without telling it: counts and data are not covered by ε.

use std::fmt;

use sha2::{Digest as _, Sha256};
use umbel_accounting::ledger::{Digest, to_hex};

use crate::{RoundCounts, RoundId};

/// Salts the ledger's commitments. It must be secret and random, in a simulation too: whoever knows it can compare a
/// commitment with a guess at the clients' data. An interrupted run goes on with the same key.
pub struct CommitmentKey([u8; 32]);

/// The text behind a commitment. Its SHA-256 stands in the ledger; the text itself is kept apart, for an auditor.
#[derive(Clone, PartialEq, Eq)]
pub struct Opening(String);

impl CommitmentKey {
    /// A key from 32 secret bytes, which must come from a cryptographic generator.
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    pub(crate) fn open_counts(&self, round: RoundId, counts: RoundCounts) -> Opening {
        let RoundCounts { cohort, reports } = counts;
        let salt = self.salt(b"counts", round.0);
        Opening(format!(
            r#"{{"cohort":{cohort},"reports":{reports},"round":{},"salt":"{salt}"}}"#,
            round.0
        ))
    }

    pub(crate) fn open_data(&self, data_sha256: &str) -> Opening {
        let salt = self.salt(b"data", 0);
        Opening(format!(r#"{{"data_sha256":"{data_sha256}","salt":"{salt}"}}"#))
    }

    fn salt(&self, subject: &[u8], round: u64) -> String {
        let mut hash = Sha256::new();
        hash.update(b"umbel commitment salt v1\n");
        hash.update(self.0);
        hash.update(round.to_le_bytes());
        hash.update(subject);
        to_hex(&hash.finalize())
    }
}

impl Opening {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn commitment(&self) -> Digest {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for CommitmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitmentKey").finish_non_exhaustive()
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_facts_under_other_keys_have_other_commitments() {
        let keys = [[1; 32], [2; 32]].map(CommitmentKey::from_secret);
        let data = keys.each_ref().map(|key| key.open_data("ab").commitment());
        assert_ne!(data[0], data[1]);
        let counts = RoundCounts {
            cohort: 3,
            reports: 2,
        };
        let rounds = [1, 2].map(|round| keys[0].open_counts(RoundId(round), counts).commitment());
        assert_ne!(rounds[0], rounds[1]);
        assert_eq!(keys[0].open_data("ab").commitment(), data[0]);
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let key = CommitmentKey::from_secret([7; 32]);
        let shown = format!("{key:?} {:?}", key.open_data("abcdef"));
        assert!(!shown.contains('7') && !shown.contains("abcdef"), "{shown}");
    }
}
