//! Makes the lines of a ledger.

use std::fmt;

use ed25519_dalek::{Signer as _, VerifyingKey};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::order::{Order, OrderError};
use super::reader::VerifiedLedger;
use super::record::Body;
use super::{Digest, canonical, to_hex};

/// What is signed is this, followed by the record's bytes: a signature on a ledger record can be taken for nothing else.
pub(super) const SIGNATURE_CONTEXT: &[u8] = b"umbel-ledger-v1\n";

/// The secret with which a run signs its records.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A key from 32 secret bytes, which must come from a cryptographic generator.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// The public key, 32 bytes.
    pub fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("public_key", &to_hex(&self.public_key()))
            .finish_non_exhaustive()
    }
}

/// A short name for a public key that two people can compare: the first 16 bytes of its SHA-256 in groups of four digits.
pub fn fingerprint(public_key: &[u8; 32]) -> String {
    let digits = to_hex(&Sha256::digest(public_key)[..16]);
    let groups: Vec<_> = (0..digits.len())
        .step_by(4)
        .map(|start| &digits[start..start + 4])
        .collect();
    groups.join("-")
}

/// Appends records: gives the bytes of each line, in an order that the format allows.
#[derive(Debug)]
pub struct LedgerWriter {
    head: Digest,
    key: SigningKey,
    order: Order,
    sequence: u64,
}

impl LedgerWriter {
    /// A new ledger. Its first record must be a header.
    pub fn new(key: SigningKey) -> Self {
        Self {
            head: [0; 32],
            key,
            order: Order::Empty,
            sequence: 0,
        }
    }

    /// Goes on after the last record of a ledger that was read and verified, with the key that signed it.
    /// None with any other key.
    pub fn resume(key: SigningKey, ledger: &VerifiedLedger) -> Option<Self> {
        if key.public_key() != ledger.public_key() {
            return None;
        }
        Some(Self {
            head: ledger.head(),
            key,
            order: ledger.order(),
            sequence: ledger.records().len() as u64,
        })
    }

    /// The line for `body`, with its line feed, to be stored before anything that depends on it happens.
    ///
    /// On an error nothing has changed. The public key of a header is filled in here.
    pub fn append(&mut self, body: &Body) -> Result<String, OrderError> {
        let order = self.order.after(body)?;
        let filled;
        let body = match body {
            Body::Header(header) => {
                let mut header = header.clone();
                header.public_key = to_hex(&self.key.public_key());
                filled = Body::Header(header);
                &filled
            }
            other => other,
        };
        let content = body.encode().map_err(|error| OrderError {
            expected: "a record that has a form in this ledger format".to_owned(),
            got: format!("{} ({error})", body.kind()),
        })?;
        let record = canonical::encode(&json!({
            "body": content,
            "kind": body.kind(),
            "previous": to_hex(&self.head),
            "sequence": self.sequence,
        }));
        let signature = self.key.0.sign(&[SIGNATURE_CONTEXT, record.as_bytes()].concat());
        let mut line = format!(
            r#"{{"record":{record},"signature":"{}"}}"#,
            to_hex(&signature.to_bytes())
        );
        self.head = Sha256::digest(line.as_bytes()).into();
        self.order = order;
        self.sequence += 1;
        line.push('\n');
        Ok(line)
    }

    /// SHA-256 of the last line: it stands for the whole ledger.
    pub fn head(&self) -> Digest {
        self.head
    }

    /// Number of records so far.
    pub fn records(&self) -> u64 {
        self.sequence
    }

    /// Where the ledger stands.
    pub fn order(&self) -> Order {
        self.order
    }

    /// The signer's public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.public_key()
    }
}

/// The public key that 32 bytes stand for, if they do.
pub(super) fn verifying_key(bytes: &[u8; 32]) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak())
}
