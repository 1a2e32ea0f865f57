//! `umbel audit` on runs of the program itself.

use std::fs;

use serde_json::Value;

use crate::support::{Folder, Outcome};

fn verify(folder: &Folder, args: &[&str]) -> Outcome {
    folder.umbel().args(&["audit", "verify"]).args(args).run()
}

/// That verification fails and says this of that place.
#[track_caller]
fn check_found(folder: &Folder, args: &[&str], place: &str, reason: &str) {
    let outcome = verify(folder, args);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
    let found = outcome
        .stdout
        .lines()
        .any(|line| line.trim_start().starts_with(place) && line.contains(reason));
    assert!(found, "{place}: {reason}\n{}", outcome.stdout);
}

#[test]
fn a_run_verifies_and_its_certificate_says_what_was_promised() {
    let folder = Folder::new();
    let run = folder.finished("run", &[]);
    let outcome = verify(&folder, &["run"]);
    assert!(
        outcome.code == Some(0) && outcome.stdout.contains("consistent, signer not pinned: "),
        "{}",
        outcome.stdout
    );
    let fingerprint = run.summary()["ledger"]["fingerprint"]
        .as_str()
        .unwrap()
        .to_owned();
    let outcome = verify(&folder, &["run", "--key", &fingerprint, "--json"]);
    assert_eq!(outcome.code, Some(0));
    let result: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(result["facts"]["signer"], "key");
    assert_eq!(result["remarks"], serde_json::json!([]));
    assert_eq!(
        result["facts"]["claimed"]["epsilon"],
        run.summary()["privacy"]["epsilon"]
    );
    check_found(
        &folder,
        &["run", "--key", &"0000-".repeat(8)[..39]],
        "record 0",
        "signed by another key",
    );
    assert_eq!(verify(&folder, &["run", "--key", "short"]).code, Some(2));

    let report = ["audit", "report", "run", "--out", "certificate"];
    assert_eq!(folder.umbel().args(&report).run().code, Some(0));
    let page = String::from_utf8(folder.read("certificate/certificate.html")).unwrap();
    let json: Value = serde_json::from_slice(&folder.read("certificate/certificate.json")).unwrap();
    assert!(
        page.contains("Privacy certificate") && page.contains(&fingerprint) && page.contains("SIMULATED")
    );
    assert_eq!(json["promise"]["epsilon"], run.summary()["privacy"]["epsilon"]);
    assert_eq!(json["rounds"].as_array().unwrap().len(), 5);
    assert_eq!(json["measured"], Value::Null);

    let shown = folder.umbel().args(&["audit", "show", "run"]).run();
    assert!(
        shown.code == Some(0) && shown.stdout.contains("charge   round 5"),
        "{}",
        shown.stdout
    );
}

#[test]
fn a_run_of_each_mechanism_verifies() {
    let folder = Folder::new();
    let variants: [&[&str]; 3] = [
        &["privacy.mechanism.kind=dp-ftrl"],
        &["privacy.accountant=rdp", "privacy.noise=continuous"],
        &["privacy.noise_multiplier=8.0", "privacy.max_epsilon=0.9"],
    ];
    for (place, settings) in variants.iter().enumerate() {
        let out = format!("run-{place}");
        folder.finished(&out, settings);
        let outcome = verify(&folder, &[&out]);
        assert_eq!(outcome.code, Some(0), "{settings:?}\n{}", outcome.stdout);
    }
}

#[test]
fn a_run_that_was_changed_while_it_lay_is_found() {
    let folder = Folder::new();
    folder.finished("run", &[]);
    let whole = |name: &str| folder.read(&format!("run/{name}"));
    let put = |name: &str, content: &[u8]| folder.write(&format!("run/{name}"), content);

    let ledger = whole("ledger");
    let text = String::from_utf8(ledger.clone()).unwrap();
    put(
        "ledger",
        text.replacen("\"divisor\":10.0", "\"divisor\":11.0", 1)
            .as_bytes(),
    );
    check_found(&folder, &["run"], "record 2", "signature");
    put("ledger", &ledger[..ledger.len() - 9]);
    check_found(&folder, &["run"], "summary.json", "no closing record");
    put("ledger", b"");
    check_found(&folder, &["run"], "record 0", "empty ledger");
    put(
        "ledger",
        text.replacen("\"version\":1", "\"version\":2", 1).as_bytes(),
    );
    check_found(&folder, &["run"], "record 0", "a newer program wrote it");
    put("ledger", &ledger);

    let model = whole("model.safetensors");
    let mut other = model.clone();
    *other.last_mut().unwrap() ^= 1;
    put("model.safetensors", &other);
    check_found(
        &folder,
        &["run"],
        "model.safetensors",
        "not the model that was recorded",
    );
    put("model.safetensors", &model);
    let summary = String::from_utf8(whole("summary.json")).unwrap();
    put(
        "summary.json",
        summary.replacen("\"rounds\": 5", "\"rounds\": 6", 1).as_bytes(),
    );
    check_found(
        &folder,
        &["run"],
        "summary.json",
        "not the summary that was recorded",
    );
    put("summary.json", summary.as_bytes());
    assert_eq!(verify(&folder, &["run"]).code, Some(0));

    let missing = verify(&folder, &["nowhere"]);
    assert!(
        missing.code == Some(1) && missing.stderr.contains("cannot read nowhere"),
        "{}",
        missing.stderr
    );
}

#[test]
fn runs_on_one_population_share_a_budget_and_add_up() {
    let folder = Folder::new();
    let budget = "privacy.budget={ file = \"budget\", epsilon = 6.0, delta = 1e-2 }";
    let first = folder.finished("first", &[budget]);
    let epsilon = first.summary()["privacy"]["epsilon"].as_f64().unwrap();
    assert!(epsilon > 2.0 && epsilon < 4.0, "the figures below: {epsilon}");
    assert_eq!(verify(&folder, &["first"]).code, Some(0));

    let second = ["privacy.epsilon=2", budget];
    folder.finished("second", &second);
    let refused = folder.simulate("third", &[budget]).run();
    assert!(
        refused.code == Some(1) && refused.stderr.contains("budget exhausted"),
        "{}",
        refused.stderr
    );
    assert!(!folder.path("third").exists(), "a refused run leaves nothing");
    let other = folder
        .simulate(
            "third",
            &["privacy.budget={ file = \"budget\", epsilon = 99.0, delta = 1e-2 }"],
        )
        .run();
    assert!(other.stderr.contains("epsilon 99"), "{}", other.stderr);

    let report = [
        "audit",
        "report",
        "second",
        "--also",
        "first",
        "--out",
        "certificate",
    ];
    assert_eq!(folder.umbel().args(&report).run().code, Some(0));
    let json: Value = serde_json::from_slice(&folder.read("certificate/certificate.json")).unwrap();
    let total = json["population_total"]["epsilon"].as_f64().unwrap();
    assert!(total >= epsilon + 1.9 && total < epsilon + 2.001, "{total}");

    let text = String::from_utf8(folder.read("budget")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    fs::write(folder.path("budget"), format!("{}\n{}\n", lines[0], lines[1])).unwrap();
    check_found(&folder, &["second"], "shared budget", "rolled back");
    assert_eq!(verify(&folder, &["first"]).code, Some(0));
}
