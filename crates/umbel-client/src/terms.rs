//! What a server says it will do, checked as far as a client can.

use sha2::{Digest as _, Sha256};
use umbel_accounting::ledger::{self, Header, to_hex};
use umbel_experiment::{Experiment, Overrides};
use umbel_wire::proto::TermsResponse;

/// The most bytes of an experiment or of a ledger line that are looked at.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// A run's terms: the signed header of its ledger, and the experiment that this is bound to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Terms {
    /// What is promised.
    pub header: Header,
    /// What is trained. The data files it names are the server's.
    pub experiment: Experiment,
    /// The signed line itself.
    pub line: String,
}

/// Why terms mean nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server's terms: {0}")]
pub struct TermsError(String);

impl Terms {
    /// Checks the signature, and that the experiment is the one that was signed.
    ///
    /// # Errors
    ///
    /// Anything that does not hold.
    pub fn read(response: &TermsResponse) -> Result<Self, TermsError> {
        for (what, length) in [
            ("header", response.ledger_header.len()),
            ("experiment", response.experiment.len()),
        ] {
            if length > MAX_TEXT_BYTES {
                return Err(TermsError(format!(
                    "expected a {what} of at most {MAX_TEXT_BYTES} bytes, got {length}"
                )));
            }
        }
        let verified =
            ledger::read(&response.ledger_header).map_err(|fault| TermsError(fault.to_string()))?;
        let header = verified.header().clone();
        let hash = to_hex(&Sha256::digest(response.experiment.as_bytes()));
        if hash != header.experiment_sha256 {
            return Err(TermsError(
                "the experiment is not the one whose hash was signed".to_owned(),
            ));
        }
        let experiment = Experiment::parse(
            &response.experiment,
            std::path::Path::new("/"),
            &Overrides::default(),
        )
        .map_err(|error| TermsError(format!("the experiment: {error}")))?;
        let line = String::from_utf8(response.ledger_header.to_vec())
            .map_err(|_| TermsError("the header is no text".to_owned()))?;
        Ok(Self {
            header,
            experiment,
            line,
        })
    }

    /// The key that signs the run, as two people compare it.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.header)
    }
}

/// The short name of a header's key.
pub(crate) fn fingerprint(header: &Header) -> String {
    let key = ledger::from_hex(&header.public_key).unwrap_or_default();
    ledger::fingerprint(&key)
}
