//! The files beside a ledger: model, summary, metrics and openings against its records.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use umbel_accounting::ledger::{Body, Charge, Claim, Close, Digest, VerifiedLedger, from_hex, to_hex};

/// Where something is wrong, and what.
pub(crate) type Finding = (String, String);

/// The model file against the closing record, and its parameters against the last release.
pub(crate) fn model(file: &[u8], close: Option<&Close>, ledger: &VerifiedLedger) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut wrong = |reason: String| found.push(("model.safetensors".to_owned(), reason));
    if let Some(close) = close {
        let got = sha256(file);
        if got != close.model_file_sha256 {
            let recorded = &close.model_file_sha256;
            wrong(format!(
                "not the model that was recorded: the closing record has SHA-256 {recorded}, the file has {got}"
            ));
        }
    }
    let last = ledger.records().iter().rev().find_map(|body| match body {
        Body::Release(release) => Some(release.model_sha256.as_str()),
        _ => None,
    });
    let released = last.unwrap_or(&ledger.header().initial_model_sha256);
    match parameters(file) {
        Some(parameters) if sha256(parameters) == *released => {}
        Some(parameters) => wrong(format!(
            "not the model that was released: the last release has parameters with SHA-256 {released}, the file's have {}",
            sha256(parameters)
        )),
        None => wrong("expected a safetensors file".to_owned()),
    }
    found
}

/// The data section of a safetensors file, which holds the flat vector of parameters.
fn parameters(file: &[u8]) -> Option<&[u8]> {
    let (length, rest) = file.split_first_chunk::<8>()?;
    rest.get(usize::try_from(u64::from_le_bytes(*length)).ok()?..)
}

/// The summary against the closing record and the header.
pub(crate) fn summary(file: &[u8], close: Option<&Close>, ledger: &VerifiedLedger) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut wrong = |reason: String| found.push(("summary.json".to_owned(), reason));
    let Some(close) = close else {
        wrong("there is a summary, and the ledger has no closing record for it: the run was cut off, or the record removed".to_owned());
        return found;
    };
    let got = sha256(file);
    if got != close.summary_file_sha256 {
        let recorded = &close.summary_file_sha256;
        wrong(format!(
            "not the summary that was recorded: the closing record has SHA-256 {recorded}, the file has {got}"
        ));
    }
    let summary: Value = match serde_json::from_slice(file) {
        Ok(summary) => summary,
        Err(error) => {
            wrong(format!("expected JSON: {error}"));
            return found;
        }
    };
    let header = ledger.header();
    let expected = [
        ("/name", Value::from(header.run.as_str())),
        ("/rounds", header.rounds.into()),
        ("/rounds_completed", close.rounds.into()),
        ("/privacy/unit", header.unit.as_str().into()),
        ("/privacy/trust", header.trust.as_str().into()),
        ("/privacy/neighbors", header.neighbors.as_str().into()),
        ("/privacy/simulated", header.simulated.into()),
        ("/privacy/delta", header.delta.into()),
        ("/privacy/accountant", header.accountant.as_str().into()),
        ("/privacy/epsilon", close.claim.epsilon.into()),
        ("/model_sha256", close.model_file_sha256.as_str().into()),
        ("/ledger/public_key", header.public_key.as_str().into()),
    ];
    for (pointer, expected) in expected {
        let got = summary.pointer(pointer).unwrap_or(&Value::Null);
        if *got != expected {
            wrong(format!("`{pointer}` is {got}, and the ledger says {expected}"));
        }
    }
    found
}

/// The lines of `metrics.jsonl` against the charges: the same ε for each round, and nothing released beside what the header
/// names.
pub(crate) fn metrics(file: &[u8], ledger: &VerifiedLedger) -> Vec<Finding> {
    let mut found = Vec::new();
    let claims: BTreeMap<u64, &Claim> = charges(ledger)
        .map(|(_, charge)| (charge.round, &charge.claim))
        .collect();
    let whole = file
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |last| last + 1);
    for (line, number) in file[..whole].split_inclusive(|&byte| byte == b'\n').zip(1..) {
        let mut wrong = |reason: String| found.push((format!("metrics.jsonl, line {number}"), reason));
        let Ok(line) = serde_json::from_slice::<Map<String, Value>>(line) else {
            wrong("expected a JSON object".to_owned());
            continue;
        };
        let Some(claim) = line
            .get("round")
            .and_then(Value::as_u64)
            .and_then(|round| claims.get(&round))
        else {
            wrong("a round that the ledger has no charge for".to_owned());
            continue;
        };
        let got = line.get("epsilon").unwrap_or(&Value::Null);
        if *got != Value::from(claim.epsilon) {
            let recorded = Value::from(claim.epsilon);
            wrong(format!("ε is {got}, and the round's charge claims {recorded}"));
        }
        for (name, value) in &line {
            // A clip norm that moves is paid for: it follows from noisy shares that the charges cover.
            let terms = ["round", "epsilon", "epsilon_lower", "delta", "clip_norm"].contains(&name.as_str());
            let declared = ledger.header().public_metrics.iter().any(|metric| metric == name);
            let marked = value.get("covered_by_epsilon") == Some(&Value::Bool(false));
            if !terms && !declared && !marked {
                wrong(format!(
                    "`{name}` is released, and neither named in the header nor marked as not covered"
                ));
            }
        }
    }
    found
}

/// What the openings say: sizes of cohorts by round, and everything that does not fit its commitment.
pub(crate) fn openings(file: &[u8], ledger: &VerifiedLedger) -> (Vec<u64>, Vec<Finding>) {
    let by_digest: BTreeMap<Digest, &[u8]> = file
        .split(|&byte| byte == b'\n')
        .map(|line| (Sha256::digest(line).into(), line))
        .collect();
    let open = |commitment: &str| -> Option<Map<String, Value>> {
        serde_json::from_slice(by_digest.get(&from_hex(commitment)?)?).ok()
    };
    let mut found = Vec::new();
    let header = ledger.header();
    let clients = header.clients.unwrap_or(header.population);
    if open(&header.data_commitment).is_none() {
        let reason = "no line of ledger.openings opens the commitment to the data".to_owned();
        found.push(("record 0".to_owned(), reason));
    }
    let mut sizes = Vec::new();
    for (record, charge) in charges(ledger) {
        let mut wrong = |reason: String| found.push((format!("record {record}"), reason));
        let Some(opening) = open(&charge.counts_commitment) else {
            wrong(format!(
                "no line of ledger.openings opens the commitment to the counts of round {}",
                charge.round
            ));
            continue;
        };
        let count = |name: &str| opening.get(name).and_then(Value::as_u64);
        match (count("round"), count("cohort"), count("reports")) {
            (Some(round), Some(cohort), Some(reports))
                if round == charge.round && reports <= cohort && cohort <= clients =>
            {
                sizes.push(cohort);
            }
            _ => wrong(format!(
                "an opening that cannot be of round {}: expected that round, and reports ≤ cohort ≤ {clients}",
                charge.round
            )),
        }
    }
    (sizes, found)
}

/// The charges with the positions of their records.
pub(crate) fn charges(ledger: &VerifiedLedger) -> impl Iterator<Item = (usize, &Charge)> {
    ledger
        .records()
        .iter()
        .enumerate()
        .filter_map(|(record, body)| match body {
            Body::Charge(charge) => Some((record, charge)),
            _ => None,
        })
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    to_hex(&Sha256::digest(bytes))
}
