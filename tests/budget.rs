//! `umbel budget`: the contract that scripts rely on, against values of other accountants.

#![allow(clippy::float_cmp, reason = "numbers that must be the same are the very same")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Folder, Outcome, Umbel};

/// A plan with the ε that others found for it, under add-or-remove and replace-one.
struct Row {
    neighbors: &'static str,
    rate: &'static str,
    noise: &'static str,
    steps: &'static str,
    delta: &'static str,
    /// Estimate by extrapolation from privacy-loss distributions at several grids, in agreement with dp-accounting 0.6.0's and
    /// prv-accountant 0.2.0's bounds; exact Gaussian where the rate is 1.
    epsilon: f64,
    /// dp-accounting 0.6.0, `RdpAccountant` with its default orders; 0 where it was not asked.
    by_orders: f64,
}

#[rustfmt::skip]
const ROWS: [Row; 9] = [
    Row { neighbors: "add-remove", rate: "0.01", noise: "1", steps: "1000", delta: "1e-5", epsilon: 1.828_236_7, by_orders: 2.101_366_5 },
    Row { neighbors: "add-remove", rate: "0.001", noise: "0.6", steps: "1e4", delta: "1e-6", epsilon: 3.152_190_7, by_orders: 3.999_185_9 },
    Row { neighbors: "add-remove", rate: "0.5", noise: "0.5", steps: "10", delta: "1e-5", epsilon: 31.374_470_3, by_orders: 34.258_171_8 },
    Row { neighbors: "add-remove", rate: "0.02", noise: "4", steps: "50000", delta: "1e-7", epsilon: 6.190_466_3, by_orders: 6.559_956_1 },
    Row { neighbors: "add-remove", rate: "0.01", noise: "1", steps: "10000", delta: "1e-12", epsilon: 10.346_689_8, by_orders: 10.794_247_5 },
    Row { neighbors: "add-remove", rate: "1", noise: "0.3", steps: "1", delta: "1e-5", epsilon: 19.130_767_8, by_orders: 20.392_520_2 },
    Row { neighbors: "add-remove", rate: "1", noise: "50", steps: "1000", delta: "1e-6", epsilon: 2.921_600_6, by_orders: 3.131_089_8 },
    Row { neighbors: "replace-one", rate: "0.01", noise: "1", steps: "1000", delta: "1e-5", epsilon: 2.843_440_3, by_orders: 0.0 },
    Row { neighbors: "replace-one", rate: "0.1", noise: "2", steps: "100", delta: "1e-5", epsilon: 4.368_096_9, by_orders: 0.0 },
];

/// Noise multipliers that others found: rate, steps, ε, δ, and dp-accounting 0.6.0's by PLD.
const CALIBRATED: [(&str, &str, &str, &str, f64); 3] = [
    ("0.01", "1000", "1", "1e-5", 1.414_630_8),
    ("0.01", "1e4", "3", "1e-5", 1.564_985_7),
    ("0.1", "500", "8", "1e-6", 1.665_974_9),
];

/// The plan of the contract's own example.
const PLAN: [&str; 8] = [
    "--noise-multiplier",
    "1",
    "--sampling-rate",
    "0.01",
    "--steps",
    "1000",
    "--delta",
    "1e-5",
];

fn budget(args: &[&str]) -> Outcome {
    Umbel::new(Path::new(".")).args(&["budget"]).args(args).run()
}

/// The object that a command prints with `--json`.
#[track_caller]
fn object(args: &[&str]) -> Value {
    let outcome = budget(&[args, &["--json"]].concat()).success();
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[track_caller]
fn number(object: &Value, key: &str) -> f64 {
    object[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} in {object}"))
}

#[test]
fn epsilon_holds_what_other_accountants_found() {
    for row in &ROWS {
        let args = [
            "epsilon",
            "--neighbors",
            row.neighbors,
            "--sampling-rate",
            row.rate,
            "--noise-multiplier",
            row.noise,
            "--steps",
            row.steps,
            "--delta",
            row.delta,
        ];
        let found = object(&args);
        let (lower, upper) = (number(&found, "epsilon_lower"), number(&found, "epsilon"));
        let slack = 2e-5 * row.epsilon.max(1.0);
        assert!(
            lower <= row.epsilon + slack && row.epsilon - slack <= upper,
            "{found}: {}",
            row.epsilon
        );
        assert!(
            upper <= (1.004 * row.epsilon).max(row.epsilon + 8e-4),
            "{found}: {}",
            row.epsilon
        );
        assert!(upper <= (1.01 * lower).max(lower + 2e-3), "{found}");
        if row.by_orders > 0.0 {
            let by_orders = object(&[&args[..], &["--accountant", "rdp"]].concat());
            let upper = number(&by_orders, "epsilon");
            assert!(
                upper >= row.epsilon - slack && upper <= 1.001 * row.by_orders,
                "{by_orders}: {}",
                row.by_orders
            );
            assert_eq!(
                (&by_orders["epsilon_lower"], &by_orders["accountant"]),
                (&Value::Null, &"rdp".into())
            );
        }
    }
}

#[test]
fn the_object_is_the_contract() {
    let found = object(&[&["epsilon"], &PLAN[..]].concat());
    let expected = json!({
        "epsilon": found["epsilon"], "epsilon_lower": found["epsilon_lower"], "delta": 1e-5, "accountant": "pld",
        "noise_multiplier": 1.0, "sampling_rate": 0.01, "steps": 1000, "sampling": "poisson", "neighbors": "add-remove",
    });
    assert_eq!(found, expected);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let noise = object(&[
        "noise",
        "--epsilon",
        "2",
        "--delta",
        "1e-5",
        "--sampling-rate",
        "0.01",
        "--steps",
        "1000",
    ]);
    let steps = object(&[
        "steps",
        "--epsilon",
        "2",
        "--delta",
        "1e-5",
        "--sampling-rate",
        "0.01",
        "--noise-multiplier",
        "1",
    ]);
    assert_eq!((keys(&noise), keys(&steps)), (keys(&expected), keys(&expected)));

    let spelled = |steps| {
        object(&[
            "epsilon",
            "--noise-multiplier",
            "9",
            "--sampling-rate",
            "1e-3",
            "--steps",
            steps,
            "--delta",
            "1e-6",
        ])
    };
    assert_eq!(spelled("1000000"), spelled("1e6"));
    assert_eq!(spelled("1e6")["steps"], 1_000_000);
}

#[test]
fn calibrated_noise_is_enough_and_no_more() {
    for (rate, steps, epsilon, delta, expected) in CALIBRATED {
        let plan = ["--sampling-rate", rate, "--steps", steps, "--delta", delta];
        let found = object(&[&["noise", "--epsilon", epsilon], &plan[..]].concat());
        let (noise, target) = (number(&found, "noise_multiplier"), epsilon.parse().unwrap());
        assert!((noise / expected - 1.0).abs() < 2e-4, "{noise} {expected}");
        assert!(number(&found, "epsilon") <= target, "{found}");
        let of = |noise: f64| {
            let noise = noise.to_string();
            number(
                &object(&[&["epsilon", "--noise-multiplier", &noise], &plan[..]].concat()),
                "epsilon",
            )
        };
        assert!(
            (of(noise) - number(&found, "epsilon")).abs() <= 1e-12 * target,
            "the epsilon is that of the multiplier"
        );
        assert!(of(noise * (1.0 - 1e-4)) > target);
    }
}

#[test]
fn the_steps_are_the_most_that_fit() {
    for (accountant, sampling) in [("pld", "poisson"), ("rdp", "poisson"), ("pld", "none")] {
        let plan = [
            "--noise-multiplier",
            "3",
            "--sampling-rate",
            "0.05",
            "--delta",
            "1e-5",
            "--accountant",
            accountant,
            "--sampling",
            sampling,
        ];
        let found = object(&[&["steps", "--epsilon", "2.5"], &plan[..]].concat());
        let steps = found["steps"].as_u64().unwrap();
        let of = |steps: u64| {
            let steps = steps.to_string();
            number(
                &object(&[&["epsilon", "--steps", &steps], &plan[..]].concat()),
                "epsilon",
            )
        };
        assert!((of(steps) - number(&found, "epsilon")).abs() <= 1e-12);
        assert!(of(steps) <= 2.5 && of(steps + 1) > 2.5, "{found}");
    }
    let none = [
        "steps",
        "--epsilon",
        "0.01",
        "--delta",
        "1e-5",
        "--sampling",
        "none",
        "--noise-multiplier",
        "1",
    ];
    let outcome = budget(&none);
    let message = outcome.failure(1);
    // One Gaussian release at noise 1: ε = 4.3772 at δ = 1e-5 (dp-accounting 0.6.0, exact).
    for part in ["not even one step", "4.3772", "1e-5", "0.01"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn without_amplification_the_rate_has_no_influence() {
    let plan = [
        "epsilon",
        "--noise-multiplier",
        "1",
        "--steps",
        "1000",
        "--delta",
        "1e-5",
        "--sampling",
        "none",
    ];
    let without = object(&plan);
    assert!((number(&without, "epsilon") - 633.9).abs() < 0.05, "{without}");
    assert_eq!(without["sampling_rate"], Value::Null);
    for rate in ["0.01", "0.5", "1"] {
        let with = object(&[&plan[..], &["--sampling-rate", rate]].concat());
        assert_eq!(
            (&with["epsilon"], &with["sampling"]),
            (&without["epsilon"], &"none".into())
        );
        assert_eq!(number(&with, "sampling_rate"), rate.parse::<f64>().unwrap());
    }
    let noise = object(&[
        "noise",
        "--epsilon",
        "1",
        "--delta",
        "1e-5",
        "--steps",
        "1",
        "--sampling",
        "none",
    ]);
    // dp-accounting 0.6.0, get_sigma_gaussian.
    assert!(
        (number(&noise, "noise_multiplier") / 3.730_631_6 - 1.0).abs() < 1e-5,
        "{noise}"
    );
}

#[test]
fn a_sample_of_fixed_size_is_accounted_under_replace_one_only() {
    let rest = [
        "--sampling-rate",
        "0.1",
        "--noise-multiplier",
        "8",
        "--steps",
        "200",
        "--delta",
        "1e-5",
    ];
    let plan = [&["epsilon", "--sampling", "fixed"], &rest[..]].concat();
    for neighbors in ["add-remove", "replace-by-zero"] {
        for accountant in ["pld", "rdp"] {
            let outcome =
                budget(&[&plan[..], &["--neighbors", neighbors, "--accountant", accountant]].concat());
            let message = outcome.failure(1);
            assert!(
                message.contains("replace-one only") && message.contains(neighbors),
                "{message}"
            );
        }
    }
    let found = object(&[&plan[..], &["--neighbors", "replace-one"]].concat());
    // The pointwise maximum of both directions' profiles, composed: 1.510 by an independent program.
    assert!((number(&found, "epsilon") / 1.510 - 1.0).abs() < 4e-3, "{found}");
    let independent = object(&[&["epsilon", "--neighbors", "replace-one"], &rest[..]].concat());
    assert!(number(&independent, "epsilon") < number(&found, "epsilon"));
}

#[test]
fn numbers_that_cannot_be_are_wrong_usage() {
    let probability = "above 0 and below 1";
    for (command, flag, values, range) in [
        (
            "epsilon",
            "--noise-multiplier",
            &["nan", "-1", "0", "inf", "1e400", "one", "", "-inf"][..],
            "finite number above 0",
        ),
        (
            "epsilon",
            "--sampling-rate",
            &["nan", "-1", "0", "1.5", "inf", "-0.1"],
            "above 0 and at most 1",
        ),
        (
            "epsilon",
            "--steps",
            &["nan", "-1", "0", "1.5", "1e-3", "inf", "1e17", "ten"],
            "whole number from 1 to",
        ),
        (
            "epsilon",
            "--delta",
            &["nan", "-1", "0", "1", "2", "1e-400", "inf"],
            probability,
        ),
        (
            "epsilon",
            "--sampling",
            &["shuffled", "Poisson", ""],
            "poisson, fixed, none",
        ),
        (
            "epsilon",
            "--neighbors",
            &["add", "1"],
            "add-remove, replace-by-zero, replace-one",
        ),
        ("epsilon", "--accountant", &["prv", "gdp"], "pld, rdp"),
        ("curve", "--base-rate", &["nan", "0", "1", "-0.5"], probability),
        ("curve", "--spacing", &["sqrt"], "log, linear"),
    ] {
        for value in values {
            let mut args = vec![command];
            args.extend(PLAN.chunks(2).filter(|pair| pair[0] != flag).flatten());
            args.extend([flag, value]);
            check_usage(&args, &[flag, value, range]);
        }
    }
    let rest = ["--delta", "1e-5", "--sampling-rate", "0.1"];
    for value in ["0", "-2", "nan", "inf", "two"] {
        let expected = ["--epsilon", value, "finite number above 0"];
        check_usage(
            &[&["noise", "--steps", "10", "--epsilon", value], &rest[..]].concat(),
            &expected,
        );
        check_usage(
            &[
                &["steps", "--noise-multiplier", "1", "--epsilon", value],
                &rest[..],
            ]
            .concat(),
            &expected,
        );
    }
    for sampling in ["poisson", "fixed"] {
        let args = [
            "epsilon",
            "--noise-multiplier",
            "1",
            "--steps",
            "10",
            "--delta",
            "1e-5",
            "--sampling",
            sampling,
        ];
        check_usage(&args, &["--sampling-rate", "missing", sampling]);
    }
    check_usage(
        &[
            "epsilon",
            "--noise-multiplier",
            "1",
            "--sampling-rate",
            "0.1",
            "--steps",
            "10",
        ],
        &["required", "--delta"],
    );
    check_usage(
        &[&["epsilon"], &PLAN[..], &["--delta", "1e-6"]].concat(),
        &["--delta", "multiple times"],
    );
    check_usage(&["spend"], &["spend"]);
    assert_eq!(budget(&[]).code, Some(2));
}

/// Wrong usage: exit code 2, nothing on standard output, and a message with these parts.
#[track_caller]
fn check_usage(args: &[&str], parts: &[&str]) {
    let outcome = budget(args);
    assert_eq!(outcome.code, Some(2), "{args:?}: {}", outcome.stderr);
    assert_eq!(outcome.stdout, "", "{args:?}");
    assert_eq!(outcome.stderr.matches("error: ").count(), 1, "{}", outcome.stderr);
    for part in parts {
        assert!(
            outcome.stderr.contains(part),
            "{args:?} lacks {part}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn what_cannot_be_computed_fails_with_the_reason() {
    // No noise that the search covers is enough for so many steps.
    let outcome = budget(&[
        "noise",
        "--epsilon",
        "1e-9",
        "--delta",
        "1e-15",
        "--steps",
        "9e15",
        "--sampling",
        "none",
    ]);
    let message = outcome.failure(1);
    assert!(
        message.contains("no noise multiplier reaches epsilon"),
        "{message}"
    );
    let outcome = budget(&[
        "epsilon",
        "--noise-multiplier",
        "1e-70",
        "--steps",
        "1",
        "--delta",
        "1e-5",
        "--sampling",
        "none",
    ]);
    assert!(outcome.failure(1).contains("ratio of noise to sensitivity"));
    let outcome = budget(&[
        "epsilon",
        "--noise-multiplier",
        "1",
        "--steps",
        "1",
        "--delta",
        "1e-5",
        "--sampling",
        "fixed",
        "--sampling-rate",
        "1e-30",
        "--neighbors",
        "replace-one",
    ]);
    assert!(outcome.failure(1).contains("more than 2^63 units"));
    let outcome = budget(&[&["curve"], &PLAN[..], &["--svg", "/nowhere/at/all.svg"]].concat());
    assert!(outcome.failure(1).contains("/nowhere/at/all.svg"));
}

#[test]
fn a_person_reads_every_term_with_the_epsilon() {
    for args in [&["epsilon"][..], &["curve"], &["compare"]] {
        let text = budget(&[args, &PLAN[..]].concat()).success().stdout;
        for part in [
            "δ = 1e-5",
            "1.8283",
            "one unit (client or example)",
            "add-remove",
            "poisson",
            "pld",
            "sees who takes part",
            "simulated",
            "not covered",
        ] {
            assert!(text.contains(part), "{args:?} lacks {part}: {text}");
        }
    }
}

#[test]
fn every_subcommand_shows_an_example() {
    for command in ["epsilon", "noise", "steps", "curve", "compare", "explain"] {
        let outcome = budget(&[command, "--help"]).success();
        assert!(
            outcome.stdout.contains(&format!("umbel budget {command} "))
                && outcome.stdout.contains("Example"),
            "{command}"
        );
        assert_eq!(outcome.stderr, "");
    }
}

#[test]
fn the_comparison_has_every_assumption() {
    let found = object(&[&["compare"], &PLAN[..]].concat());
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 18);
    let cell = |sampling: &str, neighbors: &str, accountant: &str| {
        let is = |row: &&Value| {
            row["sampling"] == sampling && row["neighbors"] == neighbors && row["accountant"] == accountant
        };
        let found: Vec<_> = rows.iter().filter(is).collect();
        assert_eq!(found.len(), 1, "{sampling} {neighbors} {accountant}");
        found[0].clone()
    };
    for (sampling, accountant, expected) in [
        ("none", "pld", 633.9),
        ("poisson", "pld", 1.83),
        ("poisson", "rdp", 2.10),
    ] {
        for neighbors in ["add-remove", "replace-by-zero"] {
            let epsilon = number(&cell(sampling, neighbors, accountant), "epsilon");
            assert!(
                (epsilon / expected - 1.0).abs() < 3e-3,
                "{sampling} {accountant}: {epsilon}"
            );
        }
    }
    // dp-accounting's fixed list of orders says 654.9; with the order searched it is less, and never below the exact value.
    let by_orders = number(&cell("none", "add-remove", "rdp"), "epsilon");
    assert!(by_orders > 633.9 && by_orders < 654.95, "{by_orders}");
    for neighbors in ["add-remove", "replace-by-zero"] {
        let refused = cell("fixed", neighbors, "pld");
        assert!(
            refused["epsilon"].is_null() && refused["refused"].as_str().unwrap().contains("replace-one only"),
            "{refused}"
        );
    }
    for sampling in ["poisson", "fixed", "none"] {
        let cell = cell(sampling, "replace-one", "pld");
        let alone = object(
            &[
                &["epsilon", "--sampling", sampling, "--neighbors", "replace-one"],
                &PLAN[..],
            ]
            .concat(),
        );
        assert_eq!(
            (&cell["epsilon"], &cell["epsilon_lower"]),
            (&alone["epsilon"], &alone["epsilon_lower"])
        );
        assert!(cell["refused"].is_null());
    }
    let text = budget(&[&["compare"], &PLAN[..]].concat()).success().stdout;
    assert!(
        text.contains("[1] refused: ") && !text.contains("[2]"),
        "one reason, one footnote: {text}"
    );
}

#[test]
fn the_curve_is_one_plan_seen_from_every_side() {
    let folder = Folder::new();
    let args = [
        &["budget", "curve"],
        &PLAN[..],
        &["--base-rate", "0.1", "--svg", "curve.svg", "--json"],
    ]
    .concat();
    let outcome = folder.umbel().args(&args).run().success();
    assert!(outcome.stderr.contains("wrote curve.svg"));
    let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let epsilon = number(&found, "epsilon");
    assert!(
        (epsilon
            / object(&[&["epsilon"], &PLAN[..]].concat())["epsilon"]
                .as_f64()
                .unwrap()
            - 1.0)
            .abs()
            < 1e-3
    );

    let column = |list: &str, key: &str| -> Vec<f64> {
        found[list]
            .as_array()
            .unwrap()
            .iter()
            .map(|point| number(point, key))
            .collect()
    };
    let rising = |values: &[f64]| values.windows(2).all(|pair| pair[0] <= pair[1]);
    let falling = |values: &[f64]| values.windows(2).all(|pair| pair[0] >= pair[1]);
    let (steps, by_steps) = (column("by_steps", "steps"), column("by_steps", "epsilon"));
    assert!(
        steps.len() >= 15 && rising(&steps) && rising(&by_steps),
        "{by_steps:?}"
    );
    assert_eq!(
        (steps[0], steps[steps.len() - 1], by_steps[steps.len() - 1]),
        (1.0, 1000.0, epsilon)
    );

    let (epsilons, deltas) = (column("by_epsilon", "epsilon"), column("by_epsilon", "delta"));
    assert!(rising(&epsilons) && falling(&deltas) && deltas[0] < 1.0 && deltas[deltas.len() - 1] < 1e-5);
    let (alphas, betas) = (
        column("trade_off", "false_positive_rate"),
        column("trade_off", "false_negative_rate"),
    );
    assert!(rising(&alphas) && falling(&betas) && betas[betas.len() - 1] == 0.0);
    assert!(
        alphas
            .iter()
            .zip(&betas)
            .all(|(alpha, beta)| alpha + beta <= 1.0 + 1e-12)
    );
    // δ(0) is the largest distance of the trade-off from that of guessing.
    let attacker = &found["attacker"];
    assert!((number(attacker, "advantage") / deltas[0] - 1.0).abs() < 1e-9);
    let widest = alphas
        .iter()
        .zip(&betas)
        .map(|(alpha, beta)| 1.0 - alpha - beta)
        .fold(0.0, f64::max);
    assert!((widest - deltas[0]).abs() < 1e-3, "{widest} {}", deltas[0]);
    assert_eq!(
        (number(attacker, "base_rate"), number(attacker, "blind_success")),
        (0.1, 0.9)
    );
    let success = number(attacker, "best_success");
    assert!(success > 0.9 && success < 0.9 + 0.1 * deltas[0], "{success}");

    let svg = fs::read_to_string(folder.path("curve.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    assert_eq!(svg.matches("<polyline ").count(), 4);
    assert!(svg.contains("not covered") && !svg.contains("href") && !svg.contains("NaN"));

    let linear = object(&[&["curve", "--spacing", "linear"], &PLAN[..]].concat());
    let steps: Vec<_> = linear["by_steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| point["steps"].as_u64().unwrap())
        .collect();
    assert_eq!((steps.len(), steps[0], steps[19]), (20, 1, 1000));
    assert!(
        steps
            .windows(2)
            .all(|pair| (52..=53).contains(&(pair[1] - pair[0]))),
        "{steps:?}"
    );
}

#[test]
fn an_experiment_is_explained_as_it_is_run() {
    for settings in [
        &["privacy.noise_multiplier=2"][..],
        &[
            "privacy.epsilon=1.5",
            "privacy.accountant=rdp",
            "data.partition.kind=iid",
            "data.partition.clients=50",
        ],
    ] {
        let folder = Folder::new();
        let summary = folder.finished("run", settings).summary();
        let mut umbel = folder
            .umbel()
            .args(&["budget", "explain", "experiment.toml", "--json"]);
        for setting in settings {
            umbel = umbel.args(&["--set", setting]);
        }
        let explained: Value = serde_json::from_str(&umbel.run().success().stdout).unwrap();
        let privacy = &summary["privacy"];
        for key in [
            "unit",
            "trust",
            "neighbors",
            "simulated",
            "epsilon_budget",
            "delta",
            "accountant",
            "sampling",
            "sampling_rate",
            "clip_norm",
            "noise_multiplier",
            "noise",
            "noise_std_dev",
        ] {
            assert_eq!(explained[key], privacy[key], "{key}");
        }
        for key in ["name", "clients", "cohort", "rounds"] {
            assert_eq!(explained[key], summary[key], "{key}");
        }
        let metrics = folder.run_dir("run").metrics();
        for point in explained["by_rounds"].as_array().unwrap() {
            let round = metrics
                .iter()
                .find(|line| line["round"] == point["steps"])
                .unwrap();
            let (explained, run) = (number(point, "epsilon"), number(round, "epsilon"));
            assert!((explained / run - 1.0).abs() < 1e-3, "{point}: {round}");
        }
        // The last digit may depend on what the accountant was asked before.
        let (told, run) = (number(&explained, "epsilon"), number(privacy, "epsilon"));
        assert!((told / run - 1.0).abs() < 1e-9, "{told} {run}");
        assert_eq!(explained["not_covered"], privacy["not_covered"]);
    }
}

#[test]
fn an_explanation_is_in_words_and_leaves_nothing_behind() {
    let folder = Folder::new();
    let before = fs::read_dir(folder.root()).unwrap().count();
    let explain = |settings: &[&str]| {
        let mut umbel = folder.umbel().args(&["budget", "explain", "experiment.toml"]);
        for setting in settings {
            umbel = umbel.args(&["--set", setting]);
        }
        umbel.run()
    };
    let text = explain(&[]).success().stdout;
    for part in [
        "small",
        "ε = ",
        "δ = 0.001",
        "each of the 40 clients",
        "add-remove",
        "central",
        "trusting whom",
        "not the server",
        "simulated",
        "probability 0.25",
        "noise multiplier 1 × clip norm 0.5",
        "rounds",
        "best success",
        "not covered",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = explain(&["privacy.max_epsilon=2.5"]).success().stdout;
    assert!(
        text.contains("the run stops after") && text.contains("of its 5 rounds"),
        "{text}"
    );
    let text = explain(&["privacy.epsilon=2.5"]).success().stdout;
    assert!(text.contains("all rounds are within it"), "{text}");
    let text = explain(&["privacy.noise_multiplier=0.02"]).success().stdout;
    assert!(
        text.contains("NOT PRIVATE: SO LITTLE NOISE") && text.contains("infinite"),
        "{text}"
    );
    let text = explain(&["privacy.dangerous_no_noise=true"]).success().stdout;
    assert!(
        text.contains("NOT PRIVATE") && text.contains("infinite") && !text.contains("promise  "),
        "{text}"
    );
    assert!(
        explain(&["privacy.noise=continuous"])
            .success()
            .stdout
            .contains("floating-point")
    );
    let warned = explain(&["privacy.delta=0.01"]).success();
    assert!(
        warned.stderr.contains("warning: `privacy.delta`"),
        "{}",
        warned.stderr
    );
    assert!(
        explain(&["privacy.delta=0.5"])
            .failure(1)
            .contains("privacy.delta")
    );
    assert!(
        explain(&["privacy.epsilom=1"])
            .failure(1)
            .contains("privacy.epsilon")
    );
    let absent = folder.umbel().args(&["budget", "explain", "absent.toml"]).run();
    assert!(absent.failure(1).contains("absent.toml"));
    assert_eq!(fs::read_dir(folder.root()).unwrap().count(), before);
}

#[test]
fn a_sweep_costs_what_the_theorem_says() {
    // One Gaussian release of noise multiplier 2 has ρ(λ) = λ/8. With the geometric law of mean m, γ = 1/m: theorem 2 of
    // Papernot and Steinke 2022 with η = 1, then the conversion of Canonne, Kamath and Steinke 2020, both by trying orders.
    let (mean, delta) = (20.0_f64, 1e-5_f64);
    let orders: Vec<f64> = (1..200_000).map(|i| 1.0 + 1e-3 * f64::from(i)).collect();
    let extra = orders
        .iter()
        .map(|order| (1.0 - 1.0 / order) * order / 8.0 + mean.ln() / order)
        .fold(f64::INFINITY, f64::min);
    let expected = orders
        .iter()
        .map(|order| {
            let divergence = order / 8.0 + 2.0 * extra + mean.ln() / (order - 1.0);
            divergence + (1.0 - 1.0 / order).ln() - (delta.ln() + order.ln()) / (order - 1.0)
        })
        .fold(f64::INFINITY, f64::min);
    let plan = [
        "--noise-multiplier",
        "2",
        "--steps",
        "1",
        "--delta",
        "1e-5",
        "--sampling",
        "none",
    ];
    let found = object(&[&["sweep", "--trials", "20"], &plan[..]].concat());
    assert!(
        (number(&found, "epsilon") / expected - 1.0).abs() < 1e-3,
        "{found}: {expected}"
    );
    let one = object(&[&["epsilon"], &plan[..]].concat());
    assert_eq!(found["epsilon_one_trial"], one["epsilon"]);
    let all = object(&[
        "epsilon",
        "--noise-multiplier",
        "2",
        "--steps",
        "20",
        "--delta",
        "1e-5",
        "--sampling",
        "none",
    ]);
    assert_eq!(found["epsilon_all_trials"], all["epsilon"]);
    assert!(number(&found, "epsilon") > number(&one, "epsilon"));
    for law in ["logarithmic", "poisson"] {
        let other = object(&[&["sweep", "--trials", "20", "--law", law], &plan[..]].concat());
        assert!(number(&other, "epsilon") > number(&one, "epsilon"), "{other}");
        assert_eq!(
            (&other["law"], &other["expected_trials"]),
            (&law.into(), &20.0.into())
        );
    }

    let text = budget(&[&["sweep", "--trials", "20"], &plan[..]].concat())
        .success()
        .stdout;
    for part in [
        "ε = ",
        "not covered",
        "holds if",
        "released; of the others nothing",
        "added up",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for trials in ["0", "nan", "1e6", "many"] {
        check_usage(
            &[&["sweep", "--trials", trials], &plan[..]].concat(),
            &["--trials", trials, "from 1 to 100000"],
        );
    }
}
