//! What a run prints and leaves.

use serde_json::Value;

use crate::support::{Folder, Outcome, RunDir};

type Check = fn(&Value) -> bool;

/// The fields of `summary.json` that scripts may rely on, and what each is.
const SUMMARY: &[(&str, Check)] = &[
    ("name", Value::is_string),
    ("seed", Value::is_u64),
    ("rounds", Value::is_u64),
    ("clients", Value::is_u64),
    ("cohort", Value::is_number),
    ("final/loss", Value::is_number),
    ("final/accuracy", is_share),
    ("best/loss", Value::is_number),
    ("best/accuracy", is_share),
    ("privacy/unit", Value::is_string),
    ("privacy/trust", Value::is_string),
    ("privacy/neighbors", Value::is_string),
    ("privacy/simulated", Value::is_boolean),
    ("privacy/epsilon", is_number_or_null),
    ("privacy/epsilon_lower", is_number_or_null),
    ("privacy/delta", is_share),
    ("privacy/accountant", Value::is_string),
    ("privacy/noise_multiplier", is_number_or_null),
    ("privacy/clip_norm", Value::is_number),
    ("privacy/sampling", Value::is_string),
    ("privacy/noise", Value::is_string),
    ("timing/total_seconds", is_positive),
    ("timing/train_seconds", is_positive),
    ("timing/rounds_per_second", is_positive),
    ("timing/clients_per_second", is_positive),
    ("timing/examples_per_second", is_positive),
    ("peak_rss_bytes", is_number_or_null),
    ("model_sha256", Value::is_string),
];

fn is_number_or_null(value: &Value) -> bool {
    value.is_number() || value.is_null()
}

fn is_positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number > 0.0)
}

fn is_share(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| (0.0..=1.0).contains(&number))
}

/// Without and with a budget, and without noise.
const LEVELS: [&str; 3] = [
    "privacy.noise_multiplier=1.5",
    "privacy.epsilon=2",
    "privacy.dangerous_no_noise=true",
];

fn run(folder: &Folder, out: &str, setting: &str, args: &[&str]) -> (Outcome, RunDir) {
    (
        folder.simulate(out, &[setting]).args(args).run().success(),
        folder.run_dir(out),
    )
}

#[test]
fn the_summary_has_what_scripts_rely_on() {
    let folder = Folder::new();
    for level in LEVELS {
        let summary = run(&folder, level, level, &[]).1.summary();
        for (name, check) in SUMMARY {
            let value = summary.pointer(&format!("/{name}"));
            assert!(value.is_some_and(check), "{level}: `{name}` is {value:?}");
        }
        let fixed = [
            ("unit", "client"),
            ("trust", "central"),
            ("neighbors", "add-remove"),
            ("sampling", "poisson"),
        ];
        for (name, value) in fixed {
            assert_eq!(summary["privacy"][name], value);
        }
        assert_eq!(
            (&summary["privacy"]["simulated"], &summary["clients"]),
            (&true.into(), &40.into())
        );
        assert!(
            summary["peak_rss_bytes"]
                .as_u64()
                .is_none_or(|bytes| bytes > 1 << 20)
        );
        let (upper, lower) = (
            summary["privacy"]["epsilon"].as_f64(),
            summary["privacy"]["epsilon_lower"].as_f64(),
        );
        assert_eq!(upper.is_none(), level.contains("dangerous"));
        assert!(
            lower.is_none_or(|lower| lower > 0.0 && lower <= upper.unwrap()),
            "{lower:?} to {upper:?}"
        );
    }
}

#[test]
fn the_json_on_standard_output_is_the_summary_and_nothing_else() {
    let folder = Folder::new();
    let (outcome, directory) = run(&folder, "run", LEVELS[1], &["--json"]);
    let printed: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(printed, directory.summary());
    assert!(printed.is_object());
}

#[test]
fn metrics_have_one_object_a_round_with_a_growing_epsilon() {
    let folder = Folder::new();
    for level in LEVELS {
        let (_, directory) = run(&folder, level, level, &[]);
        let metrics = directory.metrics();
        assert_eq!(metrics.len(), 5);
        let mut before = 0.0;
        for (line, round) in metrics.iter().zip(1..) {
            assert_eq!(line["round"], round);
            assert!(line["loss"].is_number() && is_share(&line["accuracy"]) && line["delta"] == 1e-3);
            assert_eq!(line["simulator_only"]["covered_by_epsilon"], false);
            match line["epsilon"].as_f64() {
                Some(epsilon) => assert!(epsilon > std::mem::replace(&mut before, epsilon)),
                None => assert!(level.contains("dangerous")),
            }
            // Nothing else was computed on the clients' data.
            let mut names: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
            names.sort_unstable();
            assert_eq!(
                names,
                [
                    "accuracy",
                    "delta",
                    "epsilon",
                    "epsilon_lower",
                    "loss",
                    "round",
                    "simulator_only"
                ]
            );
        }
        let summary = directory.summary();
        assert_eq!(summary["privacy"]["epsilon"], metrics[4]["epsilon"]);
        for key in ["round", "loss", "accuracy"] {
            assert_eq!(summary["final"][key], metrics[4][key]);
        }
        let best = metrics
            .iter()
            .map(|line| line["accuracy"].as_f64().unwrap())
            .fold(0.0, f64::max);
        assert_eq!(summary["best"]["accuracy"], best);
    }
}

#[test]
fn wherever_an_epsilon_stands_its_meaning_stands_too() {
    let folder = Folder::new();
    for level in LEVELS {
        let (outcome, directory) = run(&folder, level, level, &[]);
        let summary = directory.summary();
        let report = directory.text("report.html");
        for (text, relation) in [(&outcome.stdout, "relation"), (&report, "neighbours")] {
            for meaning in [
                "unit",
                "client",
                relation,
                "add-remove",
                "trust",
                "central",
                "simulated",
                "not covered",
            ] {
                let said = text.to_lowercase().contains(meaning) || summary["privacy"]["epsilon"].is_null();
                assert!(said, "{level}: says `{meaning}`: {}", outcome.stdout);
            }
            assert!(
                text.contains("noise is reproducible from the seed"),
                "{}",
                outcome.stdout
            );
            assert_eq!(
                text.contains("NOT PRIVATE"),
                level.contains("dangerous"),
                "{level}: {}",
                outcome.stdout
            );
        }
        for item in summary["privacy"]["not_covered"].as_array().unwrap() {
            assert!(
                outcome.stdout.contains(item.as_str().unwrap()),
                "{item}: {}",
                outcome.stdout
            );
        }
        assert!(report.starts_with("<!doctype html") || report.starts_with("<!DOCTYPE html"));
        assert!(report.contains("<svg") && !report.contains("http-equiv=\"refresh\""));
        // A number of ε never stands without its δ.
        for line in outcome
            .stdout
            .lines()
            .chain(outcome.stderr.lines())
            .filter(|line| line.contains('ε'))
        {
            let number = line.chars().any(|character| character.is_ascii_digit());
            assert!(
                !number || line.contains('δ') || line.contains("NOT PRIVATE"),
                "{line}"
            );
        }
    }
}

#[test]
fn progress_is_one_plain_line_a_round_on_standard_error() {
    let folder = Folder::new();
    for level in LEVELS {
        let (outcome, directory) = run(&folder, level, level, &[]);
        let lines: Vec<_> = outcome
            .stderr
            .lines()
            .filter(|line| line.starts_with("round "))
            .collect();
        assert_eq!(lines.len(), 5);
        for (line, metrics) in lines.iter().zip(directory.metrics()) {
            let number = |key: &str| metrics[key].as_f64().unwrap();
            let loss_and_accuracy = format!("loss {:.4}  accuracy {:.4}", number("loss"), number("accuracy"));
            assert!(line.contains(&loss_and_accuracy), "{line}");
            assert!(line.contains(&format!("round {}/5", metrics["round"])), "{line}");
            match metrics["epsilon"].as_f64() {
                Some(epsilon) => assert!(line.contains(&format!("ε {epsilon:.4} at δ 1e-3")), "{line}"),
                None => assert!(line.contains("NOT PRIVATE"), "{line}"),
            }
        }
        for text in [&outcome.stdout, &outcome.stderr] {
            let control = text
                .chars()
                .find(|character| character.is_control() && *character != '\n');
            assert_eq!(control, None, "no control characters without a terminal");
        }
    }
}

#[test]
fn without_out_a_run_has_a_directory_of_its_own() {
    let folder = Folder::new();
    for _ in 0..3 {
        folder
            .umbel()
            .args(&["simulate", "experiment.toml"])
            .run()
            .success();
    }
    let names: Vec<_> = std::fs::read_dir(folder.path("runs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for name in names {
        let name = name.into_string().unwrap();
        assert!(name.starts_with("small-"), "{name}");
        folder.run_dir(&format!("runs/{name}")).check_finished(5);
    }
}

#[test]
fn a_run_stops_before_its_budget_is_overspent() {
    let folder = Folder::new();
    let whole = folder.finished("whole", &["federation.rounds=12"]);
    let epsilon = |round: usize| whole.metrics()[round - 1]["epsilon"].as_f64().unwrap();
    // Enough for seven rounds, not for eight.
    let limit = (epsilon(7) + epsilon(8)) / 2.0;
    let budget = format!("privacy.max_epsilon={limit}");
    let outcome = folder
        .simulate("run", &["federation.rounds=12", &budget])
        .run()
        .success();
    let run = folder.run_dir("run");
    let summary = run.summary();
    assert_eq!(
        (&summary["status"], &summary["rounds_completed"]),
        (&"budget-exhausted".into(), &7.into())
    );
    assert!(
        whole
            .text("metrics.jsonl")
            .starts_with(&run.text("metrics.jsonl"))
    );
    assert_eq!(run.charged_rounds(), [1, 2, 3, 4, 5, 6, 7]);
    let refusal = outcome
        .stderr
        .lines()
        .find(|line| line.starts_with("stopped: "))
        .unwrap();
    for number in [epsilon(7), epsilon(8), limit] {
        let digits = number.to_string();
        assert!(
            refusal.contains(&digits[..5]),
            "spent, asked and limit, {number}: {refusal}"
        );
    }
    let again = folder.umbel().args(&["simulate", "--resume", "run"]).run();
    assert!(again.failure(1).contains("closed"), "{}", again.stderr);
}

#[test]
fn the_report_can_be_drawn_again_and_for_several_runs() {
    let folder = Folder::new();
    let run = folder.finished("first", &[]);
    folder.finished("second", &["privacy.epsilon=2"]);
    let before = run.bytes("report.html");
    std::fs::remove_file(run.path().join("report.html")).unwrap();
    folder.umbel().args(&["report", "first"]).run().success();
    assert!(run.bytes("report.html") == before, "the same page");
    let outcome = folder
        .umbel()
        .args(&["report", "first", "second", "--out", "both.html"])
        .run()
        .success();
    assert_eq!(outcome.stdout, "both.html\n");
    let page = String::from_utf8(folder.read("both.html")).unwrap();
    assert!(page.trim_end().ends_with("</html>") && page.contains("<svg"));
    let outcome = folder.umbel().args(&["report", "absent"]).run();
    assert!(outcome.failure(1).contains("absent"), "{}", outcome.stderr);
}

#[test]
fn help_has_an_example_for_every_command() {
    let folder = Folder::new();
    for args in [&["--help"][..], &["simulate", "--help"], &["report", "--help"]] {
        let outcome = folder.umbel().args(args).run().success();
        assert!(outcome.stdout.contains("Usage: umbel") && outcome.stderr.is_empty());
        assert!(
            args.len() == 1 || outcome.stdout.contains("Example"),
            "{}",
            outcome.stdout
        );
    }
}
