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

/// Each kind of noise: the bound is below the claim and near enough to it that noise too small by a third would show.
#[test]
fn every_mechanism_is_attacked_where_its_noise_is_added() {
    let folder = Folder::new();
    let ftrl = |strategy: &'static str| {
        vec![
            "privacy.noise_multiplier=1.0",
            "privacy.mechanism.kind=dp-ftrl",
            strategy,
            // Every canary takes every turn, so that each leaks what the claim allows for.
            "federation.cohort=40",
            "privacy.mechanism.separation=1",
        ]
    };
    let cases: [(&str, Vec<&str>); 6] = [
        (
            "adaptive",
            vec![
                "federation.cohort=40",
                "privacy.clip_norm={kind=\"adaptive\", initial=0.1}",
                "privacy.noise_multiplier=1.5",
            ],
        ),
        ("ftrl-banded", ftrl("privacy.mechanism.strategy=banded")),
        ("ftrl-blt", ftrl("privacy.mechanism.strategy=blt")),
        ("ftrl-tree", ftrl("privacy.mechanism.strategy=tree")),
        (
            "local",
            vec!["privacy.trust=local", "privacy.noise_multiplier=3.0"],
        ),
        (
            "example",
            vec![
                "privacy.trust=local",
                "privacy.unit=example",
                "training.sampling_rate=0.5",
                "training.steps=3",
                "privacy.noise_multiplier=1.0",
            ],
        ),
    ];
    for (name, settings) in cases {
        let mut args = vec![
            "attack",
            "experiment.toml",
            "--canaries",
            "400",
            "--shadow",
            "--json",
        ];
        for setting in ["model.kind=mlp", "model.hidden=[40]"].iter().chain(&settings) {
            args.extend(["--set", setting]);
        }
        let found = json(&audit(&folder, &args).success());
        let number = |field: &str| found[field].as_f64().unwrap();
        assert!(
            number("epsilon_lower_bound") < number("epsilon")
                && number("epsilon_lower_bound") > 0.6 * number("epsilon"),
            "{name}: {found:#}"
        );
        assert!(
            found["checks"]
                .as_array()
                .unwrap()
                .iter()
                .all(|check| check["passed"] == true),
            "{name}: {found:#}"
        );
        assert!(
            found["geometry"]["norm_min"].as_f64().unwrap() > 0.999,
            "{name}: {found:#}"
        );
    }
}

#[test]
fn what_no_score_is_sound_for_is_refused_with_the_reason() {
    let folder = Folder::new();
    let args = [
        "attack",
        "experiment.toml",
        "--set",
        "privacy.mechanism={kind=\"dp-ftrl\", strategy=\"banded\", amplified=true}",
    ];
    let outcome = audit(&folder, &args);
    assert!(
        outcome.failure(1).contains("counts on secret coins as well"),
        "{}",
        outcome.stderr
    );
    // Nobody sees a report there, so nothing could be played or left out.
    for command in ["attack", "membership"] {
        let args = [
            command,
            "experiment.toml",
            "--set",
            "secure_aggregation.enabled=true",
        ];
        let outcome = audit(&folder, &args);
        assert!(
            outcome.failure(1).contains("shows no single report"),
            "{}",
            outcome.stderr
        );
    }
    let args = ["mechanism", "experiment.toml", "--set", "privacy.trust=local"];
    assert!(audit(&folder, &args).failure(1).contains("umbel audit attack"));
}

/// A model that anybody may read: without noise and with few examples a client it gives its members away, with noise it does not.
#[test]
fn members_of_a_model_without_noise_are_found_and_of_a_private_one_are_not() {
    let folder = Folder::new();
    let args = |more: &'static [&'static str]| {
        let same = [
            "membership",
            "experiment.toml",
            "--shadow-runs",
            "16",
            "--json",
            "--set",
            "federation.cohort=40",
            "--set",
            "training.epochs=20",
        ];
        [&same, more].concat()
    };
    let bare = json(
        &audit(
            &folder,
            &args(&[
                "--set",
                "privacy.dangerous_no_noise=true",
                "--set",
                "privacy.clip_norm=100.0",
            ]),
        )
        .success(),
    );
    // Some 340 members and as many others: a blind attack has 0.5 with a standard deviation of 0.022.
    assert!(bare["roc"]["area"].as_f64().unwrap() > 0.57, "{bare:#}");
    assert!(bare["epsilon"].is_null() && bare["roc"]["points"][0]["allowed"].is_null());
    let private = audit(
        &folder,
        &args(&["--set", "privacy.noise_multiplier=5.0", "--threads", "1"]),
    )
    .success();
    let found = json(&private);
    let area = found["roc"]["area"].as_f64().unwrap();
    assert!((0.3..0.7).contains(&area), "{found:#}");
    assert_eq!(found["exceeds_claim"], false);
    let point = &found["roc"]["points"][2];
    assert!(
        point["allowed"].as_f64().unwrap() < 0.9 && found["roc"]["points"].as_array().unwrap().len() == 4
    );
    // The same bytes on any number of threads.
    let again = audit(
        &folder,
        &args(&["--set", "privacy.noise_multiplier=5.0", "--threads", "3"]),
    )
    .success();
    assert_eq!(private.stdout, again.stdout);
}
