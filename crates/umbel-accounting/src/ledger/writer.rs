//! Makes the lines of a ledger.

use std::fmt;

use ed25519_dalek::{Signer as _, VerifyingKey};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::order::{Order, OrderError};
use super::promise::Promise;
use super::reader::VerifiedLedger;
use super::receipt::{RECEIPT_CONTEXT, Receipt};
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

/// Why a record was not appended. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The record deviates from the plan that the header fixed, so what it stands for must not happen.
    #[error("a `{kind}` record that deviates from the plan in the ledger's header: {reason}")]
    Deviation {
        /// Kind of the record.
        kind: &'static str,
        /// In what, with what was planned and what came.
        reason: String,
    },
    /// The record has no form in this ledger format.
    #[error("a `{kind}` record without a form in the ledger: {reason}")]
    Form {
        /// Kind of the record.
        kind: &'static str,
        /// What has none.
        reason: String,
    },
    /// The record may not come now.
    #[error(transparent)]
    Order(#[from] OrderError),
}

/// Appends records: gives the bytes of each line, in an order that the format allows and only if it keeps to the plan.
#[derive(Debug)]
pub struct LedgerWriter {
    head: Digest,
    key: SigningKey,
    order: Order,
    /// Absent before the header.
    promise: Option<Promise>,
    sequence: u64,
}

impl LedgerWriter {
    /// A new ledger. Its first record must be a header.
    pub fn new(key: SigningKey) -> Self {
        Self {
            head: [0; 32],
            key,
            order: Order::Empty,
            promise: None,
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
            promise: Some(ledger.promise().clone()),
            sequence: ledger.records().len() as u64,
        })
    }

    /// The line for `body`, with its line feed, to be stored before anything that depends on it happens.
    ///
    /// On an error nothing has changed. The public key and the plan's hash of a header are filled in here.
    pub fn append(&mut self, body: &Body) -> Result<String, AppendError> {
        let order = self.order.after(body)?;
        let kind = body.kind();
        let form = |reason: String| AppendError::Form { kind, reason };
        let filled;
        let body = match body {
            Body::Header(header) => {
                let mut header = header.clone();
                header.public_key = to_hex(&self.key.public_key());
                header.plan_sha256 = to_hex(&header.plan_digest().map_err(form)?);
                filled = Body::Header(header);
                &filled
            }
            other => other,
        };
        let mut promise = self.promise.clone();
        Promise::follow(&mut promise, body).map_err(|reason| AppendError::Deviation { kind, reason })?;
        let line = self.line(body)?;
        self.order = order;
        self.promise = promise;
        Ok(line)
    }

    /// Signs the next line, whatever it says.
    pub(super) fn line(&mut self, body: &Body) -> Result<String, AppendError> {
        let kind = body.kind();
        let content = body.encode().map_err(|error| AppendError::Form {
            kind,
            reason: error.to_string(),
        })?;
        let record = canonical::encode(&json!({
            "body": content,
            "kind": kind,
            "previous": to_hex(&self.head),
            "sequence": self.sequence,
        }));
        let signature = self.key.0.sign(&[SIGNATURE_CONTEXT, record.as_bytes()].concat());
        let mut line = format!(
            r#"{{"record":{record},"signature":"{}"}}"#,
            to_hex(&signature.to_bytes())
        );
        self.head = Sha256::digest(line.as_bytes()).into();
        self.sequence += 1;
        line.push('\n');
        Ok(line)
    }

    /// A receipt for the ledger as it stands, one line without its line feed, for clients to keep.
    pub fn receipt(&self, run: &str) -> String {
        let receipt = Receipt {
            head: to_hex(&self.head),
            public_key: to_hex(&self.public_key()),
            records: self.sequence,
            run: run.to_owned(),
            version: 1,
        }
        .encode();
        let signature = self.key.0.sign(&[RECEIPT_CONTEXT, receipt.as_bytes()].concat());
        format!(
            r#"{{"receipt":{receipt},"signature":"{}"}}"#,
            to_hex(&signature.to_bytes())
        )
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
