//! `umbel audit attack` and `umbel audit mechanism`.

use serde_json::Value;

use crate::support::{Folder, Outcome, Umbel};

fn audit(folder: &Folder, args: &[&str]) -> Outcome {
    let mut line = vec!["audit"];
    line.extend(args);
    Umbel::new(folder.root()).args(&line).run()
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap()
}

/// A model large enough for canaries, and everybody in every round.
const FULL: &[&str] = &[
    "attack",
    "experiment.toml",
    "--set",
    "model.kind=mlp",
    "--set",
    "model.hidden=[40]",
    "--set",
    "federation.cohort=40",
    "--canaries",
    "200",
];

#[test]
fn an_honest_run_is_bounded_from_below_and_keeps_its_claim() {
    let folder = Folder::new();
    let out = folder.path("attack.json");
    let args = [
        FULL,
        &["--json", "--threads", "1", "--out", out.to_str().unwrap()],
    ]
    .concat();
    let first = audit(&folder, &args).success();
    let found = json(&first);
    let number = |name: &str| found[name].as_f64().unwrap();
    assert!(number("epsilon_lower_bound") > 0.5 * number("epsilon"), "{found}");
    assert!(number("epsilon_lower_bound") < number("epsilon"), "{found}");
    assert_eq!(
        (found["canaries"].as_u64(), found["confidence"].as_f64()),
        (Some(200), Some(0.95))
    );
    assert_eq!(
        (found["method"].as_str(), found["exceeds_claim"].as_bool()),
        (Some("gaussian-score"), Some(false))
    );
    let methods: Vec<_> = found["methods"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(methods.len(), 4, "{methods:?}");
    assert_eq!(found["methods"]["cosine-estimate"]["is_bound"], false);
    assert!(
        found["checks"]
            .as_array()
            .unwrap()
            .iter()
            .all(|check| check["passed"] == true),
        "{found}"
    );

    // The same bytes on any number of threads, in the file as on standard output.
    let args = [FULL, &["--json", "--threads", "2"]].concat();
    let second = audit(&folder, &args).success();
    assert_eq!(first.stdout, second.stdout);
    assert_eq!(std::fs::read_to_string(out).unwrap(), first.stdout);
}

#[test]
fn samples_are_attacked_too_and_a_shadow_says_so() {
    let folder = Folder::new();
    let args = [
        "attack",
        "experiment.toml",
        "--canaries",
        "60",
        "--rounds",
        "3",
        "--shadow",
        "--json",
    ];
    let found = json(&audit(&folder, &args).success());
    assert_eq!(
        (found["rounds"].as_u64(), found["sampling_rate"].as_f64()),
        (Some(3), Some(0.25))
    );
    let differs = found["differs"].to_string();
    assert!(
        differs.contains("3 of 5 rounds") && differs.contains("zeros"),
        "{differs}"
    );
    let text = audit(&folder, &args[..args.len() - 1]).success().stdout;
    for words in [
        "a lower bound, no guarantee",
        "threat model",
        "not covered",
        "differs",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn a_run_without_noise_leaks_without_limit_and_claims_nothing() {
    let folder = Folder::new();
    let args = [
        FULL,
        &[
            "--set",
            "privacy.dangerous_no_noise=true",
            "--rounds",
            "1",
            "--json",
        ],
    ]
    .concat();
    let found = json(&audit(&folder, &args).success());
    assert!(found["epsilon"].is_null(), "{found}");
    assert!(found["epsilon_lower_bound"].as_f64().unwrap() > 1e3, "{found}");
}

#[test]
fn more_canaries_than_parameters_are_refused() {
    let folder = Folder::new();
    let outcome = audit(&folder, &["attack", "experiment.toml", "--canaries", "900000"]);
    assert!(
        outcome.stderr.contains("--canaries") || outcome.stderr.contains("privacy.delta"),
        "{}",
        outcome.stderr
    );
    assert_eq!(outcome.code, Some(1));
}

#[test]
fn the_mechanism_alone_keeps_its_claim() {
    let folder = Folder::new();
    let args = ["mechanism", "experiment.toml", "--trials", "3000", "--json"];
    let found = json(&audit(&folder, &args).success());
    let number = |name: &str| found[name].as_f64().unwrap();
    assert!(number("epsilon_lower_bound") > 0.7 * number("epsilon"), "{found}");
    assert!(number("epsilon_lower_bound") < number("epsilon"), "{found}");
    assert_eq!(found["pairs"].as_array().unwrap().len(), 6);
}
