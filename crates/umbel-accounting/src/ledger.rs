//! The ledger: an append-only, hash-chained, signed list of what a run was allowed to spend and what it spent.
//!
//! A ledger is text, one record a line, readable by a person and by somebody else's program:
//!
//! ```text
//! {"record":{"body":{…},"kind":"charge","previous":"<64 hex>","sequence":5},"signature":"<128 hex>"}
//! ```
//!
//! * The **record** is canonical JSON: no spaces, keys sorted by code point, no duplicates, numbers in their shortest form
//!   that reads back to the same number. A line that does not re-encode to its own bytes is refused.
//! * `previous` is the SHA-256 of the whole line before (without its line feed), zeros for the first. The SHA-256 of the
//!   last line is the **head**; who knows the head knows the whole history.
//! * `signature` is Ed25519 over `umbel-ledger-v1\n` followed by the record's bytes. The public key stands in the header,
//!   the first record.
//! * A line counts once its line feed is there. What follows the last line feed is a torn write, and was never stored.
//!
//! The **order** of records is part of the format, and checked when writing and when reading ([`Order`]): a header; then
//! for each round a reservation (before the round opens), then either a void (the round was abandoned before anything was
//! learnt: the reservation is given back) or a charge (before the sum is learnt) and the release that it paid for. A round
//! that was interrupted between charge and release keeps its charge. `resume` marks where an interrupted run went on and
//! `close` ends it. The header holds the **plan** and its hash; a record that deviates from it (noise, rate, rounds, clip norm,
//! mechanism, divisor) is refused when writing, which ends the run, and found when reading. Claims never fall. Versions: the header says which; this module reads all that were ever written.
//!
//! This module does no IO: a [`LedgerWriter`] makes lines, its owner stores them.

mod canonical;
mod event_json;
mod follow;
mod order;
mod population;
mod promise;
mod reader;
mod receipt;
mod record;
mod writer;

pub use follow::{Follower, SignedLine};
pub use order::{Order, OrderError};
pub use population::{PopulationError, PopulationLedger, PopulationLimit, PopulationShare};
pub use reader::{LedgerFault, VerifiedLedger, read};
pub use receipt::{Receipt, ReceiptFault, read_receipts};
pub use record::{
    AdaptiveClipFacts, Body, Charge, Claim, Close, CloseStatus, Header, MatrixFacts, Release, Reserve,
    Resume, SecureAggregationFacts, SharedBudgetShare, Survivors, Void,
};
pub use writer::{AppendError, LedgerWriter, SigningKey, fingerprint};

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// Lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Reads exactly `N` bytes of lower-case hexadecimal.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}
