//! What people outside hold of a ledger: receipts, lines that they kept, and the histories that clients write.

use serde::Deserialize;
use umbel_accounting::ledger::{Receipt, SignedLine, read_receipts, to_hex};

/// What a file holds, as receipts with the numbers of their lines.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) receipts: Vec<(usize, Receipt)>,
    /// Lines of a history that are about runs with other signers.
    pub(crate) of_others: usize,
}

/// A line of a client's `history.jsonl`, as far as it matters here.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Entry {
    Attempt {},
    Charged {},
    Input {},
    Run {},
    Round {},
    Receipt { key: String, line: String },
}

/// Reads a file whose lines are receipts, lines of the ledger of `key`, or entries of a client's history. In a history lines of
/// other signers are passed over, unless there is none of `key`: then its client was shown another ledger.
pub(crate) fn read(content: &[u8], key: &[u8; 32]) -> Result<Held, String> {
    let mut held = Held::default();
    let of_key = to_hex(key);
    let lines = content
        .strip_suffix(b"\n")
        .unwrap_or(content)
        .split(|&byte| byte == b'\n');
    for (line, number) in lines.zip(1..) {
        let faulty = |reason: String| format!("line {number}: {reason}");
        if line.starts_with(br#"{"record":"#) {
            held.receipts.push((number, kept(line, key).map_err(faulty)?));
        } else if let Ok(entry) = serde_json::from_slice(line) {
            match entry {
                Entry::Receipt { key: signer, line } if signer == of_key => {
                    held.receipts
                        .push((number, kept(line.as_bytes(), key).map_err(faulty)?));
                }
                Entry::Receipt { .. } => held.of_others += 1,
                Entry::Attempt {} | Entry::Charged {} | Entry::Input {} | Entry::Run {} | Entry::Round {} => {
                }
            }
        } else {
            let receipts = read_receipts(line).map_err(|fault| faulty(fault.reason))?;
            held.receipts
                .extend(receipts.into_iter().map(|receipt| (number, receipt)));
        }
    }
    if held.receipts.is_empty() && held.of_others > 0 {
        return Err(format!(
            "holds {} lines of other signers and none of the ledger's, {of_key}: its client was shown another ledger, or took part \
             in other runs only",
            held.of_others
        ));
    }
    Ok(held)
}

/// A line of the ledger says as much as a receipt for it.
fn kept(line: &[u8], key: &[u8; 32]) -> Result<Receipt, String> {
    let line = SignedLine::read(line, key)?;
    Ok(Receipt {
        head: to_hex(&line.head),
        public_key: to_hex(key),
        records: line.sequence + 1,
        run: String::new(),
        version: 1,
    })
}
