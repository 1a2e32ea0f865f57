//! A run that ends by its own rule looks at public data only, and pays for every round that it might have played.

use serde_json::Value;

use crate::support::{Folder, idx_images, idx_labels, labels};

/// Long enough that the accuracy on 60 images stops rising before the end.
const LONG: &[&str] = &["federation.rounds=40", "privacy.noise_multiplier=2"];

const STOPPING: &[&str] = &[
    "data.validation.examples=data/valid-images",
    "data.validation.labels=data/valid-labels",
    "federation.early_stopping.patience=4",
    "federation.early_stopping.monitor=accuracy",
];

fn folder() -> Folder {
    let folder = Folder::new();
    let valid = labels(60, 9);
    folder.write("data/valid-images", &idx_images(&valid, 10));
    folder.write("data/valid-labels", &idx_labels(&valid));
    folder
}

#[test]
fn a_run_that_stops_early_costs_all_its_planned_rounds() {
    let folder = folder();
    let whole = folder.finished("whole", LONG).summary();
    let run = folder.finished("stopped", &[LONG, STOPPING].concat());
    let summary = run.summary();
    assert_eq!(summary["status"], "stopped-early");
    let completed = summary["rounds_completed"].as_u64().unwrap();
    assert!((5..40).contains(&completed), "{summary}");
    assert_eq!(summary["privacy"]["epsilon"], whole["privacy"]["epsilon"]);

    // The rule, worked out again from what was released.
    let metrics = run.metrics();
    assert_eq!(metrics.len() as u64, completed);
    let accuracy: Vec<f64> = metrics
        .iter()
        .map(|line| line["validation"]["accuracy"].as_f64().unwrap())
        .collect();
    let first_best = |values: &[f64]| {
        let best = values.iter().copied().fold(f64::MIN, f64::max);
        values.iter().position(|value| *value >= best).unwrap()
    };
    assert_eq!(first_best(&accuracy), accuracy.len() - 5);
    for last in 5..accuracy.len() {
        assert!(
            first_best(&accuracy[..last]) > last - 5,
            "it would have stopped before"
        );
    }
    // The same rounds, and every one of them claims what all cost.
    let played = folder.run_dir("whole").metrics();
    for (line, other) in metrics.iter().zip(&played) {
        assert_eq!(
            (&line["loss"], &line["accuracy"]),
            (&other["loss"], &other["accuracy"])
        );
        assert_eq!(line["epsilon"], summary["privacy"]["epsilon"]);
    }
    let verified = folder
        .umbel()
        .args(&["audit", "verify", "stopped"])
        .run()
        .success();
    assert!(verified.stdout.contains("finished"), "{}", verified.stdout);
    let report = run.text("report.html");
    assert!(report.contains("stopped early"), "the report says how it ended");
}

#[test]
fn whether_to_stop_is_decided_on_public_examples_only() {
    let folder = folder();
    let with = |settings: &[&str]| -> String {
        let outcome = folder.simulate("refused", settings).run();
        let message = outcome.failure(1).to_owned();
        assert!(!folder.path("refused").exists());
        message
    };
    let patience = "federation.early_stopping.patience=3";
    let names = |examples: &'static str| ["data.validation.examples=", examples].concat();
    let message = with(&[patience]);
    assert!(
        message.contains("`data.validation` is missing") && message.contains("outside of every ε"),
        "{message}"
    );
    // The clients' own examples, also by another path.
    for path in ["data/train-images.gz", "data/../data/train-images.gz"] {
        let message = with(&[patience, &names(path), "data.validation.labels=data/train-labels"]);
        assert!(
            message.contains("data.train.examples") && message.contains("clients' data"),
            "{message}"
        );
    }
    let message = with(&[
        patience,
        &names("data/test-images"),
        "data.validation.labels=data/test-labels.gz",
    ]);
    assert!(
        message.contains("data.test.examples") && message.contains("no longer tests"),
        "{message}"
    );
    let valid = names("data/valid-images");
    let message = with(&[&valid, "data.validation.labels=data/valid-labels"]);
    assert!(message.contains("federation.early_stopping"), "{message}");
    let message = with(&[&STOPPING[..3], &["federation.early_stopping.monitor=train_loss"]].concat());
    assert!(message.contains("\"loss\" or \"accuracy\""), "{message}");
    let message = with(&[&STOPPING[..2], &["federation.early_stopping.patience=0"]].concat());
    assert!(message.contains("at least 1"), "{message}");
}

/// With unit `example` the same: public examples, and the ε of all rounds.
#[test]
fn examples_are_protected_by_the_same_rule() {
    let folder = folder();
    let example = [
        "privacy.unit=example",
        "privacy.trust=local",
        "training.sampling_rate=0.5",
        "training.steps=1",
        "federation.cohort=40",
        "federation.rounds=12",
    ];
    let epsilon = |summary: &Value| summary["privacy"]["epsilon"].as_f64().unwrap();
    let whole = folder.finished("whole", &example).summary();
    let settings = [&example[..], STOPPING, &["federation.early_stopping.patience=1"]].concat();
    let stopped = folder.finished("stopped", &settings).summary();
    assert_eq!(stopped["status"], "stopped-early", "{stopped}");
    assert!((epsilon(&stopped) - epsilon(&whole)).abs() < 1e-12);
}
