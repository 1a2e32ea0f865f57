//! Signed ledger heads, for clients to keep: with one in hand nobody can be shown another history later, or a shorter one.

use std::collections::BTreeMap;

use ed25519_dalek::Signature;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::writer::verifying_key;
use super::{Digest, VerifiedLedger, canonical, from_hex, to_hex};

/// What is signed is this, followed by the receipt's bytes: a receipt can be taken for no record, and no record for a receipt.
pub(super) const RECEIPT_CONTEXT: &[u8] = b"umbel-ledger-receipt-v1\n";

/// What a signer says its ledger was at one moment.
///
/// A file of receipts has one a line, in canonical JSON:
///
/// ```text
/// {"receipt":{"head":"<64 hex>","public_key":"<64 hex>","records":7,"run":"digits","version":1},"signature":"<128 hex>"}
/// ```
///
/// The signature is Ed25519 over `umbel-ledger-receipt-v1\n` followed by the inner object's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// SHA-256 of the ledger's last line at that moment.
    pub head: String,
    /// Ed25519 public key of the signer.
    pub public_key: String,
    /// How many records the ledger had.
    pub records: u64,
    /// Name of the run.
    pub run: String,
    /// Version of this format, 1.
    pub version: u32,
}

/// A receipt that is none, or that a ledger does not agree with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ReceiptFault {
    /// Line of the file, from 1.
    pub line: usize,
    /// What is wrong, with what was expected and what came.
    pub reason: String,
}

impl Receipt {
    /// Its bytes as they are signed.
    pub(super) fn encode(&self) -> String {
        let text = |name: &str, value: Value| (name.to_owned(), value);
        let fields = BTreeMap::from([
            text("head", self.head.as_str().into()),
            text("public_key", self.public_key.as_str().into()),
            text("records", self.records.into()),
            text("run", self.run.as_str().into()),
            text("version", self.version.into()),
        ]);
        canonical::encode(&Value::Object(fields.into_iter().collect()))
    }

    /// Reads one line without its line feed, and checks its signature under the key that it names.
    fn read(line: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Line {
            receipt: Receipt,
            signature: String,
        }
        let text = std::str::from_utf8(line).map_err(|_| "expected UTF-8 text".to_owned())?;
        let read: Line =
            serde_json::from_str(text).map_err(|error| format!("expected a receipt: {error}"))?;
        let receipt = read.receipt;
        if receipt.version != 1 {
            return Err(format!("expected receipt version 1, got {}", receipt.version));
        }
        let record = receipt.encode();
        if format!(r#"{{"receipt":{record},"signature":"{}"}}"#, read.signature) != text {
            return Err("expected canonical JSON: sorted keys, no spaces, shortest numbers".to_owned());
        }
        let key = from_hex(&receipt.public_key).and_then(|bytes| verifying_key(&bytes));
        let key = key.ok_or("expected `public_key` to be an Ed25519 public key")?;
        let signature =
            from_hex(&read.signature).ok_or("expected `signature` to be 128 hexadecimal digits")?;
        key.verify_strict(
            &[RECEIPT_CONTEXT, record.as_bytes()].concat(),
            &Signature::from_bytes(&signature),
        )
        .map_err(|_| "the signature is not that of the receipt's key".to_owned())?;
        Ok(receipt)
    }

    /// Whether `ledger` is a continuation of what this receipt was given for; if not, why.
    pub fn check(&self, ledger: &VerifiedLedger) -> Result<(), String> {
        let key = to_hex(&ledger.public_key());
        if self.public_key != key {
            let got = &self.public_key;
            return Err(format!(
                "a receipt of another signer: the ledger's key is {key}, the receipt's is {got}"
            ));
        }
        let have = ledger.records().len() as u64;
        if self.records > have {
            return Err(format!(
                "the ledger was rolled back: the receipt is for {} records, the ledger has {have}",
                self.records
            ));
        }
        let head: Option<Digest> = match self.records {
            0 => None,
            records => usize::try_from(records - 1)
                .ok()
                .and_then(|last| ledger.heads().get(last).copied()),
        };
        match head {
            Some(head) if to_hex(&head) == self.head => Ok(()),
            _ => Err(format!(
                "the history was forked at or before record {}: the receipt's head is {}, the ledger's there is {}",
                self.records.saturating_sub(1),
                self.head,
                head.map_or_else(|| "none".to_owned(), |head| to_hex(&head))
            )),
        }
    }
}

/// Reads a file of receipts. A last line without a line feed counts too.
pub fn read_receipts(text: &[u8]) -> Result<Vec<Receipt>, ReceiptFault> {
    text.strip_suffix(b"\n")
        .unwrap_or(text)
        .split(|&byte| byte == b'\n')
        .zip(1..)
        .map(|(content, line)| Receipt::read(content).map_err(|reason| ReceiptFault { line, reason }))
        .collect()
}
