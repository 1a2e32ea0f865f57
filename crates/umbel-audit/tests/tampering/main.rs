//! What somebody may do to a run directory, and that each of it is found and named.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    missing_docs,
    reason = "a helper that panics is a test that fails, and says where"
)]

mod held;
mod long_ledger;
mod plan;
mod run;
mod watching;

use serde_json::{Value, json};
use umbel_accounting::ledger::{SigningKey, fingerprint, to_hex};
use umbel_audit::Signer;

use self::run::{ROUNDS, Run, SECRET, check_found, forge, model, run, sha256};

fn key(secret: [u8; 32]) -> String {
    fingerprint(&SigningKey::from_secret(&secret).public_key())
}

/// Position of the charge of `round`.
fn charge_of(records: &[Value], round: u64) -> usize {
    records
        .iter()
        .position(|record| record["kind"] == "charge" && record["body"]["round"] == round)
        .unwrap()
}

/// The run with its records changed and signed again by their own signer, as by an operator who lies from the start.
fn lying(change: impl FnOnce(&mut Vec<Value>)) -> Run {
    let mut run = run();
    let mut records = run.records();
    change(&mut records);
    run.set_lines(&forge(&records, SECRET));
    run
}

#[test]
fn an_honest_run_verifies_and_says_whether_its_signer_is_known() {
    let run = run();
    let verification = run.verify();
    assert!(
        verification.consistent && verification.remarks.is_empty(),
        "{verification:?}"
    );
    let facts = verification.facts.unwrap();
    assert_eq!(
        (facts.charged, facts.released, facts.voided, facts.resumed),
        (ROUNDS, ROUNDS, 1, 2)
    );
    assert_eq!(
        (facts.signer, facts.claims_recomputed),
        (Signer::NotPinned, ROUNDS)
    );
    assert!(facts.spent.pld_lower < facts.claimed.epsilon && facts.spent.rdp > facts.spent.pld);
    assert_eq!(facts.spent, facts.planned);
    assert_eq!(run.with_key(&key(SECRET)).facts.unwrap().signer, Signer::Key);
    let pinned = run.with_receipts(&run.receipts).facts.unwrap();
    assert_eq!(
        (pinned.signer, pinned.receipts),
        (Signer::Receipts, run.receipts.len() as u64)
    );
    // What the forger makes of unchanged records is the same ledger, so that the tests below test what they say.
    assert_eq!(forge(&run.records(), SECRET), run.lines());
}

#[test]
fn every_changed_value_is_found_in_its_record() {
    let original = run();
    for (place, line) in original.lines().iter().enumerate() {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let fields: Vec<String> = record["record"]["body"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        for field in fields {
            let before = record["record"]["body"][&field].clone();
            record["record"]["body"][&field] = match &before {
                Value::String(text) => json!(format!("{text}0")),
                Value::Number(number) => json!(number.as_f64().unwrap() + 1.0),
                Value::Bool(flag) => json!(!flag),
                _ => json!("other"),
            };
            let mut lines = original.lines();
            lines[place] = record.to_string();
            let mut changed = run();
            changed.set_lines(&lines);
            let found = changed.verify();
            assert_eq!(found.faults[0].place, format!("record {place}"), "{field}");
            record["record"]["body"][&field] = before;
        }
    }
}

#[test]
fn dropped_swapped_and_doubled_records_are_found() {
    let original = run();
    let lines = original.lines();
    for place in 0..lines.len() {
        let check = |changed: Vec<String>, found: usize| {
            let mut run = run();
            run.set_lines(&changed);
            run.check_found(&format!("record {found}"), "sequence");
        };
        let mut doubled = lines.clone();
        doubled.insert(place, lines[place].clone());
        check(doubled, place + 1);
        if place + 1 < lines.len() {
            let mut dropped = lines.clone();
            dropped.remove(place);
            check(dropped, place);
            let mut swapped = lines.clone();
            swapped.swap(place, place + 1);
            check(swapped, place);
        }
    }
}

#[test]
fn a_ledger_that_is_cut_short_is_found() {
    let original = run();
    let lines = original.lines();
    for kept in 1..lines.len() {
        let mut run = run();
        run.set_lines(&lines[..kept]);
        // The model is that of a later round, the summary has no closing record; whatever comes first is found.
        let found = run.verify();
        assert!(!found.consistent, "{kept} records kept");
        assert!(
            found
                .faults
                .iter()
                .any(|fault| fault.place == "summary.json" && fault.reason.contains("no closing record"))
        );
        // Whoever removes the later files too shows a consistent shorter history: only receipts tell.
        run.files.summary = None;
        run.files.model = None;
        run.files.metrics = None;
        assert!(run.verify().consistent, "{:?}", run.verify());
        check_found(
            &run.with_receipts(&run.receipts[kept..=kept]),
            "receipts, line 1",
            "rolled back",
        );
    }
    let mut torn = run();
    torn.files.ledger.truncate(torn.files.ledger.len() - 20);
    torn.check_found("summary.json", "no closing record");
    let mut empty = run();
    empty.files.ledger.clear();
    empty.check_found("record 0", "empty ledger");
}

#[test]
fn another_signer_is_found_by_whoever_knows_the_key_or_has_a_receipt() {
    let mut run = run();
    let receipts = run.receipts.clone();
    run.set_lines(&forge(&run.records(), [8; 32]));
    let found = run.verify();
    // The summary names its signer; a forger would change that too.
    check_found(&found, "summary.json", "/ledger/public_key");
    assert_eq!(found.facts.unwrap().signer, Signer::NotPinned);
    check_found(&run.with_key(&key(SECRET)), "record 0", "signed by another key");
    check_found(
        &run.with_receipts(&receipts[..1]),
        "receipts, line 1",
        "another signer",
    );
}

#[test]
fn two_spliced_ledgers_are_found() {
    let original = run();
    let mut records = original.records();
    let place = charge_of(&records, 6);
    records[place]["body"]["counts_commitment"] = sha256(b"another world").into();
    let other = forge(&records, SECRET);
    let mut spliced = original.lines();
    spliced[place + 1..].clone_from_slice(&other[place + 1..]);
    let mut run = run();
    run.set_lines(&spliced);
    run.check_found(&format!("record {}", place + 1), "`previous`");
    // Signed all through by the same key it is a fork, which receipts tell, from the record on that differs.
    run.set_lines(&other);
    assert!(
        run.with_receipts(&original.receipts[..place])
            .faults
            .iter()
            .all(|fault| fault.place != "receipts, line 1")
    );
    let found = run.with_receipts(&original.receipts[place..=place]);
    check_found(&found, "receipts, line 1", "forked");
}

#[test]
fn replaced_files_are_found() {
    let mut other = run();
    other.files.model = Some(model(3));
    other.check_found("model.safetensors", "not the model that was recorded");
    let mut other = run();
    let summary = String::from_utf8(other.files.summary.take().unwrap()).unwrap();
    other.files.summary = Some(summary.replace("\"rounds\":12", "\"rounds\":13").into_bytes());
    other.check_found("summary.json", "not the summary that was recorded");
    let mut other = run();
    other.files.summary = None;
    other.check_found("summary.json", "missing");
    let mut other = run();
    other.files.experiment.as_mut().unwrap().push(b'\n');
    other.check_found("experiment.toml", "not the experiment that was recorded");
    let mut other = run();
    let metrics = String::from_utf8(other.files.metrics.take().unwrap()).unwrap();
    other.files.metrics = Some(metrics.replace("\"loss\"", "\"median_income\"").into_bytes());
    other.check_found("metrics.jsonl, line 1", "`median_income` is released");
    let mut other = run();
    let openings = String::from_utf8(other.files.openings.take().unwrap()).unwrap();
    other.files.openings = Some(openings.replace("\"round\":4,", "\"round\":5,").into_bytes());
    let place = charge_of(&other.records(), 4);
    other.check_found(&format!("record {place}"), "no line of ledger.openings opens");
}

#[test]
fn a_model_that_was_never_released_is_found_though_the_closing_record_names_it() {
    let other = model(99);
    let mut run = lying(|records| {
        let last = records.len() - 1;
        records[last]["body"]["model_file_sha256"] = sha256(&other).into();
    });
    run.files.model = Some(other.clone());
    let found = run.verify();
    assert!(
        found
            .faults
            .iter()
            .any(|fault| fault.reason.contains("not the model that was released")),
        "{found:?}"
    );
}

#[test]
fn an_epsilon_that_is_too_small_is_found_in_its_record() {
    for round in [1, 5, ROUNDS] {
        let run = lying(|records| {
            let place = charge_of(records, round);
            let claim = &mut records[place]["body"]["claim"]["epsilon"];
            let before = if round == 1 {
                0.0
            } else {
                run::claim(round - 1).epsilon.unwrap()
            };
            // As large as the order of claims allows, and smaller than the truth.
            *claim = json!(0.9_f64.mul_add(claim.as_f64().unwrap() - before, before));
        });
        let place = charge_of(&run.records(), round);
        let found = run.verify();
        let fault = &found.faults[0];
        let expected = format!("record {place}");
        // The last claim also stands in the closing record, which comes to light while reading.
        if round < ROUNDS {
            assert!(
                fault.place == expected && fault.reason.contains("is false"),
                "{fault:?}"
            );
        } else {
            assert!(fault.reason.contains("as charged"), "{fault:?}");
        }
    }
}

#[test]
fn less_noise_than_charged_is_found() {
    let run = lying(|records| {
        let place = charge_of(records, 7);
        let noise = &mut records[place]["body"]["noise_std_dev_grid_units"];
        *noise = json!(noise.as_f64().unwrap() / std::f64::consts::SQRT_2);
    });
    let place = charge_of(&run.records(), 7);
    run.check_found(&format!("record {place}"), "`noise_std_dev_grid_units`");
}

#[test]
fn a_release_without_its_charge_is_found() {
    let run = lying(|records| {
        let place = charge_of(records, 3);
        records.remove(place);
    });
    let place = charge_of(&crate::run().records(), 3);
    run.check_found(
        &format!("record {place}"),
        "expected a `charge` or a `void` of round 3",
    );
}

#[test]
fn amplification_on_cohorts_of_fixed_size_is_found() {
    let mut run = run();
    let openings: Vec<String> = (1..=ROUNDS)
        .map(|round| format!(r#"{{"cohort":100,"reports":100,"round":{round},"salt":"{round}"}}"#))
        .collect();
    let mut records = run.records();
    for (round, opening) in (1..).zip(&openings) {
        let place = charge_of(&records, round);
        records[place]["body"]["counts_commitment"] = sha256(opening.as_bytes()).into();
    }
    run.set_lines(&forge(&records, SECRET));
    let data = String::from_utf8(run.files.openings.take().unwrap()).unwrap();
    let data = data.lines().next().unwrap();
    run.files.openings = Some(format!("{data}\n{}\n", openings.join("\n")).into_bytes());
    run.check_found("ledger.openings", "are not those of independent coins");
}

#[test]
fn a_plan_other_than_the_experiment_or_the_agreed_one_is_found() {
    let run = lying(|records| records[0]["body"]["rounds"] = json!(13));
    run.check_found("experiment.toml", "`federation.rounds` is 12");
    let anchors = umbel_audit::Anchors {
        plan: Some(to_hex(&[0; 32])),
        ..umbel_audit::Anchors::default()
    };
    check_found(
        &umbel_audit::verify(&run.files, &anchors),
        "record 0",
        "another plan than the one agreed on",
    );
}
