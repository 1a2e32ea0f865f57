//! What clients hold: ledger lines and their own histories say as much as receipts.

use serde_json::json;
use umbel_accounting::ledger::{SigningKey, to_hex};
use umbel_audit::{Anchors, Signer, Verification, verify};

use super::charge_of;
use super::run::{Run, SECRET, check_found, forge, run, sha256};

fn with(run: &Run, content: &str) -> Verification {
    let anchors = Anchors {
        receipts: vec![("history".into(), content.as_bytes().to_vec())],
        ..Anchors::default()
    };
    verify(&run.files, &anchors)
}

/// A client's history that has kept these lines of the ledger of `secret`.
fn history(lines: &[(usize, String)], secret: [u8; 32]) -> String {
    let key = to_hex(&SigningKey::from_secret(&secret).public_key());
    let entries = lines.iter().map(|(sequence, line)| {
        json!({"kind": "receipt", "key": key, "sequence": sequence, "line": format!("{line}\n")}).to_string()
    });
    let round = json!({"kind": "round", "key": key, "round": 1, "at": 5}).to_string();
    entries.chain([round]).map(|entry| entry + "\n").collect()
}

#[test]
fn lines_and_histories_that_clients_kept_pin_the_ledger() {
    let run = run();
    let kept: Vec<_> = run.lines().into_iter().enumerate().step_by(5).collect();
    let found = with(&run, &history(&kept, SECRET)).facts.unwrap();
    assert_eq!(
        (found.signer, found.receipts),
        (Signer::Receipts, kept.len() as u64)
    );
    let lines: String = kept.iter().map(|(_, line)| format!("{line}\n")).collect();
    let found = with(&run, &lines).facts.unwrap();
    assert_eq!(
        (found.signer, found.receipts),
        (Signer::Receipts, kept.len() as u64)
    );
    // Lines of other runs are passed over, unless there is nothing else.
    let others: Vec<_> = forge(&run.records(), [8; 32])
        .into_iter()
        .enumerate()
        .take(2)
        .collect();
    let both = history(&kept, SECRET) + &history(&others, [8; 32]);
    let verification = with(&run, &both);
    assert!(verification.consistent && verification.remarks[0].contains("2 lines of other runs"));
    check_found(
        &with(&run, &history(&others, [8; 32])),
        "history",
        "was shown another ledger",
    );
}

#[test]
fn a_fork_a_rollback_and_a_forged_line_are_found_by_them() {
    let original = run();
    let mut records = original.records();
    let place = charge_of(&records, 6);
    records[place]["body"]["counts_commitment"] = sha256(b"another world").into();
    let mut other = run();
    other.set_lines(&forge(&records, SECRET));
    let kept = [(place, original.lines()[place].clone())];
    check_found(
        &with(&other, &history(&kept, SECRET)),
        "history, line 1",
        "forked",
    );
    let mut shorter = run();
    shorter.set_lines(&original.lines()[..place]);
    (shorter.files.summary, shorter.files.model, shorter.files.metrics) = (None, None, None);
    check_found(
        &with(&shorter, &history(&kept, SECRET)),
        "history, line 1",
        "rolled back",
    );
    let mut forged = kept;
    forged[0].1 = forged[0].1.replacen("6", "7", 1);
    check_found(&with(&original, &history(&forged, SECRET)), "history", "line 1: ");
}
