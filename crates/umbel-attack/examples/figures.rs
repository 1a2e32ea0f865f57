//! The figures of `docs/auditing.md`, from the repository's root:
//!
//! ```text
//! cargo run --release -p umbel-attack --example figures -- table examples/digits/experiment.toml
//! cargo run --release -p umbel-attack --example figures -- honest examples/heart/experiment.toml 1000
//! ```
//!
//! `table` attacks runs in which every client takes part in each of three rounds, with 1,000 canaries, for several claims; medians
//! over five seeds. `honest` counts how many bounds on honest runs exceed the truth.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a script, whose figures are printed and whose faults should stop it"
)]

use std::path::Path;
use std::sync::atomic::AtomicBool;

use umbel_attack::{Attack, AttackSettings, Method, attack_prepared};
use umbel_experiment::{Experiment, Overrides};
use umbel_sim::Prepared;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["table", path] => table(Path::new(path)),
        ["honest", path, runs] => honest(Path::new(path), runs.parse().unwrap()),
        _ => println!("usage: figures table EXPERIMENT.toml | figures honest EXPERIMENT.toml RUNS"),
    }
}

fn read(path: &Path, changes: &[&str]) -> Experiment {
    let text = std::fs::read_to_string(path).unwrap();
    let overrides = Overrides {
        environment: Vec::new(),
        settings: changes.iter().map(|&change| change.to_owned()).collect(),
        seed: Some(1),
    };
    Experiment::parse(&text, path.parent().unwrap(), &overrides).unwrap()
}

/// Full participation: as many as are declared.
fn full_cohort(path: &Path) -> String {
    let population = Prepared::new(read(path, &[])).unwrap().plan.settings().population;
    format!("federation.cohort={population}")
}

const SETTINGS: AttackSettings = AttackSettings {
    canaries: 1_000,
    rounds: None,
    is_shadow: true,
    method: Method::GaussianScore,
    n_threads: 2,
};

fn run(prepared: Prepared, settings: &AttackSettings) -> (Prepared, Attack) {
    let (prepared, result) = attack_prepared(prepared, settings, |_, _, _| {}, &AtomicBool::new(false));
    (prepared, result.unwrap())
}

fn epsilon_of(found: &Attack, method: Method) -> f64 {
    found.verdict.methods[&method].epsilon.unwrap_or(0.0)
}

fn table(path: &Path) {
    let cohort = full_cohort(path);
    println!(
        "| claimed ε | Gaussian score | of the claim | f-DP, one run | of the claim | (ε, δ), one run | Andrew et al. (estimate) | exceeds |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let methods = [
        Method::GaussianScore,
        Method::FDpOneRun,
        Method::OneRun,
        Method::CosineEstimate,
    ];
    for claim in [
        "1.0",
        "2.0",
        "4.0",
        "8.0",
        "16.0",
        "infinite",
        "4.0 with half the noise",
        "8.0 with half the noise",
    ] {
        let level = match claim.split_once(' ') {
            None if claim == "infinite" => "privacy.dangerous_no_noise=true".to_owned(),
            None => format!("privacy.epsilon={claim}"),
            Some((epsilon, _)) => format!("privacy.epsilon={epsilon}"),
        };
        let changes = [
            cohort.as_str(),
            "federation.rounds=3",
            "privacy.delta=1e-5",
            &level,
        ];
        let mut prepared = Prepared::new(read(path, &changes)).unwrap();
        let mut claimed = None;
        if claim.contains("half") {
            claimed = claim
                .split(' ')
                .next()
                .map(|number| number.parse::<f64>().unwrap());
            let half = prepared.noise_multiplier().unwrap().value() / 2.0;
            let level = format!("privacy.noise_multiplier={half}");
            let changes = [
                cohort.as_str(),
                "federation.rounds=3",
                "privacy.delta=1e-5",
                &level,
            ];
            prepared = Prepared::new(read(path, &changes)).unwrap();
        }
        let mut results = vec![Vec::new(); methods.len()];
        let mut exceeding = 0;
        for seed in 1..=5 {
            prepared.seed = seed;
            let found;
            (prepared, found) = run(prepared, &SETTINGS);
            for (values, method) in results.iter_mut().zip(methods) {
                values.push(epsilon_of(&found, method));
            }
            let alarm = found.verdict.methods[&Method::GaussianScore]
                .epsilon_at_alarm_confidence
                .unwrap();
            exceeding += u32::from(alarm > claimed.or(found.verdict.epsilon).unwrap_or(f64::INFINITY));
            claimed = claimed.or(found.verdict.epsilon);
        }
        let medians: Vec<f64> = results.iter_mut().map(|values| median(values)).collect();
        let share = |value: f64| {
            claimed.map_or_else(String::new, |claimed| format!("{:.0} %", 100.0 * value / claimed))
        };
        println!(
            "| {claim} | {:.2} | {} | {:.2} | {} | {:.2} | {:.2} | {exceeding} of 5 |",
            medians[0],
            share(medians[0]),
            medians[1],
            share(medians[1]),
            medians[2],
            medians[3]
        );
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn honest(path: &Path, runs: u64) {
    let cohort = full_cohort(path);
    let changes = [
        cohort.as_str(),
        "federation.rounds=2",
        "privacy.epsilon=4.0",
        "model.kind=mlp",
        "model.hidden=[16]",
    ];
    let mut prepared = Prepared::new(read(path, &changes)).unwrap();
    let settings = AttackSettings {
        canaries: 200,
        ..SETTINGS
    };
    let methods = [Method::GaussianScore, Method::FDpOneRun, Method::OneRun];
    let (mut exceeding, mut at_alarm, mut failed) = ([0; 3], [0; 3], 0);
    for seed in 1..=runs {
        prepared.seed = seed;
        let found;
        (prepared, found) = run(prepared, &settings);
        let claimed = found.verdict.epsilon.unwrap();
        failed += u64::from(found.verdict.checks.iter().any(|check| !check.passed));
        for (place, method) in methods.iter().enumerate() {
            let finding = &found.verdict.methods[method];
            exceeding[place] += u64::from(finding.epsilon.unwrap() > claimed);
            at_alarm[place] += u64::from(finding.epsilon_at_alarm_confidence.unwrap() > claimed);
        }
    }
    println!(
        "{runs} honest runs, {} canaries each; runs with a failed check: {failed}",
        settings.canaries
    );
    for (place, method) in methods.iter().enumerate() {
        println!(
            "{}: {} bounds at 0.95 and {} at 0.9999 exceed the truth",
            method.as_str(),
            exceeding[place],
            at_alarm[place]
        );
    }
}
