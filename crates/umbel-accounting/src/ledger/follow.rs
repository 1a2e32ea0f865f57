//! Reads a ledger while it is being written, and single lines of one.

use ed25519_dalek::Signature;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::order::Order;
use super::reader::{LedgerFault, Reading, split};
use super::record::{Body, Header};
use super::writer::{SIGNATURE_CONTEXT, verifying_key};
use super::{Digest, from_hex};

/// A ledger that is checked record by record, as far as it has come: encoding, chain, signature, order, and that each record keeps
/// to the header. The first fault ends it: what comes after a record that does not hold means nothing.
#[derive(Debug, Default)]
pub struct Follower(Reading);

impl Follower {
    /// Before the first record.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next line, without its line feed, and gives what it says.
    pub fn take(&mut self, line: &[u8]) -> Result<&Body, LedgerFault> {
        let record = self.0.bodies.len();
        let taken = self.0.take(line);
        // A line that is refused and not signed is somebody else's: that is what is wrong with it.
        let signed = self
            .0
            .verify_signatures()
            .map_err(|fault| LedgerFault { record, ..fault });
        self.0.signed.clear();
        signed?;
        taken.map_err(|reason| LedgerFault { record, reason })?;
        Ok(&self.0.bodies[record])
    }

    /// The first record, once it is there.
    pub fn header(&self) -> Option<&Header> {
        match self.0.bodies.first() {
            Some(Body::Header(header)) => Some(header),
            _ => None,
        }
    }

    /// The key that signs every record, once the first is there.
    pub fn public_key(&self) -> Option<[u8; 32]> {
        self.0.key.map(|key| key.to_bytes())
    }

    /// SHA-256 of each line so far.
    pub fn heads(&self) -> &[Digest] {
        &self.0.heads
    }

    /// Where the ledger stands.
    pub fn order(&self) -> Order {
        self.0.order
    }
}

/// One line of a ledger by itself: signed by a key, while what stands before it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignedLine {
    /// Position of the record, from 0.
    pub sequence: u64,
    /// SHA-256 of the line before.
    pub previous: Digest,
    /// SHA-256 of this line: the ledger's head once this record was its last.
    pub head: Digest,
}

impl SignedLine {
    /// Reads a line, with or without its line feed, and checks that `public_key` signed it.
    pub fn read(line: &[u8], public_key: &[u8; 32]) -> Result<Self, String> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let (record, signature) = split(line)?;
        let key = verifying_key(public_key).ok_or("expected an Ed25519 public key")?;
        key.verify_strict(
            &[SIGNATURE_CONTEXT, record.as_bytes()].concat(),
            &Signature::from_bytes(&signature),
        )
        .map_err(|_| "the signature is not that of the run's key".to_owned())?;
        let value: Value = serde_json::from_str(record).map_err(|error| format!("expected JSON: {error}"))?;
        let sequence = value.get("sequence").and_then(Value::as_u64);
        let previous = value.get("previous").and_then(Value::as_str).and_then(from_hex);
        Ok(Self {
            sequence: sequence.ok_or("expected a `sequence`")?,
            previous: previous.ok_or("expected `previous` to be 64 hexadecimal digits")?,
            head: Sha256::digest(line).into(),
        })
    }
}
