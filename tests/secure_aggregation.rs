//! Secure aggregation in simulations: the same sums with and without its cryptography, what is charged, and what is refused.

use std::time::Duration;

use serde_json::Value;
use umbel_accounting::DpEvent;
use umbel_accounting::ledger::{Body, Charge};

use crate::support::{Folder, Numbers, RunDir};

/// Clients add the noise; some of them vanish at every step.
const DISTRIBUTED: &[&str] = &[
    "privacy.trust=distributed",
    "federation.rounds=4",
    "secure_aggregation.enabled=true",
    "secure_aggregation.colluding=0.05",
    "secure_aggregation.dropouts={advertising=0.02, sharing=0.05, sending=0.1, confirming=0.02, opening=0.02}",
];

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn with<'a>(settings: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [settings, more].concat()
}

fn charges(run: &RunDir) -> Vec<Charge> {
    let ledger = run.ledger();
    let charge = |body: &Body| match body {
        Body::Charge(charge) => Some(charge.clone()),
        _ => None,
    };
    ledger.records().iter().filter_map(charge).collect()
}

fn rho(event: &DpEvent) -> f64 {
    match event {
        DpEvent::ZeroConcentrated { rho } => rho.value(),
        other => panic!("{other:?}"),
    }
}

fn check_verified(folder: &Folder, run: &str) {
    folder.umbel().args(&["audit", "verify", run]).run().success();
}

#[test]
fn the_protocol_and_its_ideal_give_the_same_model_on_any_number_of_threads() {
    let folder = Folder::new();
    let real = folder.finished("real", DISTRIBUTED);
    real.check_finished(4);
    check_verified(&folder, "real");
    let threads = folder
        .simulate("threads", DISTRIBUTED)
        .args(&["--threads", "3"])
        .run();
    threads.success();
    real.check_same_results(&folder.run_dir("threads"));
    let ideal = folder.finished("ideal", &with(DISTRIBUTED, &["secure_aggregation.enabled=ideal"]));
    real.check_same_results(&ideal);
    check_verified(&folder, "ideal");
    let protocol = |run: &RunDir| {
        let header = run.ledger().header().clone();
        header.secure_aggregation.map(|facts| facts.protocol)
    };
    assert_eq!(
        (protocol(&real).as_deref(), protocol(&ideal).as_deref()),
        (Some("umbel-sa/1"), Some("ideal"))
    );
}

#[test]
fn what_is_charged_is_the_noise_of_the_fewest_honest_survivors() {
    let folder = Folder::new();
    let settings = with(DISTRIBUTED, &["federation.max_participations=2"]);
    let run = folder.finished("run", &settings);
    let (header, summary) = (run.ledger().header().clone(), run.summary());
    let facts = header.secure_aggregation.unwrap();
    let privacy = &summary["privacy"];
    assert_eq!(
        [
            &privacy["trust"],
            &privacy["neighbors"],
            &privacy["accountant"],
            &privacy["noise"]
        ],
        ["distributed", "replace-by-zero", "rdp", "discrete"]
    );
    assert_eq!(
        privacy["secure_aggregation"]["survivors_min"],
        facts.survivors_min
    );
    assert!(privacy["statement"].as_str().unwrap().contains("the server too"));
    // A Gaussian of this multiplier would cost ½; rounding adds a little.
    let floor = rho(&header.round_event);
    assert!((0.5..0.52).contains(&floor), "{floor}");
    assert_eq!(header.most_charges, Some(2));
    for charge in charges(&run) {
        let survivors = charge.survivors.unwrap();
        assert!((facts.survivors_min..=facts.clients_max).contains(&survivors.clients));
        // What more than the fewest gave is beside it: each honest one has the same share of the noise.
        let honest = |clients: u64| (clients - facts.colluding) as f64;
        let expected = floor * honest(facts.survivors_min) / honest(survivors.clients);
        assert!((rho(&survivors.event) / expected - 1.0).abs() < 1e-9);
        assert_eq!(rho(&charge.event).to_bits(), floor.to_bits());
    }
    // Two participations, however many rounds: ρ = 2·floor, whose (ε, δ) is below ρ + 2√(ρ ln(1/δ)) and above ρ.
    let lines: Vec<f64> = run
        .metrics()
        .iter()
        .map(|line| number(&line["epsilon"]))
        .collect();
    assert!(
        lines[0] < lines[1]
            && lines[1..]
                .iter()
                .all(|epsilon| epsilon.to_bits() == lines[1].to_bits())
    );
    let total = 2.0 * floor;
    assert!(
        (total..total + 2.0 * (total * 1e3_f64.ln()).sqrt()).contains(&lines[1]),
        "{lines:?}"
    );
}

#[test]
fn a_calibrated_run_keeps_its_epsilon() {
    let folder = Folder::new();
    let settings = with(
        DISTRIBUTED,
        &["privacy.epsilon=6", "secure_aggregation.enabled=ideal"],
    );
    let run = folder.finished("run", &settings);
    let epsilon = number(&run.summary()["privacy"]["epsilon"]);
    assert!(epsilon <= 6.0 && epsilon > 5.98, "{epsilon}");
    check_verified(&folder, "run");
}

#[test]
fn a_round_below_its_minimum_is_voided_and_costs_nothing() {
    let folder = Folder::new();
    let few = &[
        "federation.cohort=40",
        "secure_aggregation.survivors_min=30",
        "secure_aggregation.clients_max=40",
        "secure_aggregation.dropout_allowance=0.1",
        "secure_aggregation.dropouts={sending=0.27}",
    ];
    let run = folder.finished("run", &with(DISTRIBUTED, few));
    let whole = folder.finished(
        "whole",
        &with(
            &with(DISTRIBUTED, few),
            &[
                "secure_aggregation.dropouts={}",
                "secure_aggregation.enabled=ideal",
            ],
        ),
    );
    check_verified(&folder, "run");
    let voids = |run: &RunDir| {
        let ledger = run.ledger();
        let count =
            |body: &&Body| matches!(body, Body::Void(void) if void.reason.contains("at least 30 are needed"));
        ledger.records().iter().filter(count).count()
    };
    assert!(voids(&run) > 0, "some attempts fall short");
    assert_eq!(voids(&whole), 0);
    let epsilon = |run: &RunDir| run.summary()["privacy"]["epsilon"].clone();
    assert_eq!(epsilon(&run), epsilon(&whole), "they cost nothing");
    let attempts: u64 = charges(&run)
        .iter()
        .map(|charge| charge.survivors.as_ref().unwrap().attempt)
        .sum();
    assert_eq!(attempts, voids(&run) as u64);

    // A round that never gets there is an error, not a loop.
    let never = with(
        &with(DISTRIBUTED, few),
        &[
            "secure_aggregation.dropouts={sending=1}",
            "secure_aggregation.enabled=ideal",
        ],
    );
    let outcome = folder.simulate("never", &never).run();
    let error = outcome.failure(1);
    assert!(
        error.contains("secure_aggregation.survivors_min") && error.contains("got 0"),
        "{error}"
    );
}

#[test]
fn under_central_and_local_trust_it_changes_who_sees_what_and_not_the_sum() {
    let folder = Folder::new();
    // Everybody takes part, so that no minimum and no maximum has an influence.
    let plain = ["federation.cohort=40", "federation.rounds=2"];
    let local = ["privacy.trust=local"];
    let example = [
        "privacy.trust=local",
        "privacy.unit=example",
        "training.sampling_rate=0.25",
        "training.steps=2",
    ];
    let adaptive = ["privacy.clip_norm={kind=\"adaptive\"}"];
    let cases: [(&str, &[&str], &str); 4] = [
        ("central", &[], "replace-by-zero"),
        ("adaptive", &adaptive, "replace-by-zero"),
        ("local", &local, "replace-one"),
        ("example", &example, "add-remove"),
    ];
    for (name, settings, relation) in cases {
        let settings = with(&plain, settings);
        let seen = folder.finished(name, &settings);
        for mode in ["true", "ideal"] {
            let out = format!("{name}-{mode}");
            let enabled = format!("secure_aggregation.enabled={mode}");
            let hidden = folder.finished(&out, &with(&settings, &[&enabled]));
            assert!(seen.model() == hidden.model(), "{out}");
            let header = hidden.ledger().header().clone();
            assert_eq!(header.neighbors, relation, "{out}");
            assert!(header.secure_aggregation.unwrap().noise_multiplier.is_none());
            check_verified(&folder, &out);
        }
    }
}

/// The protocol's secrets are in memory only: an attempt that a kill ends is played again from the seed, and comes to the same.
#[test]
fn a_run_killed_and_resumed_gives_the_same() {
    let folder = Folder::new();
    let settings = with(
        DISTRIBUTED,
        &["federation.rounds=12", "federation.max_participations=8"],
    );
    let ideal = with(&settings, &["secure_aggregation.enabled=ideal"]);
    let whole = folder.finished("whole", &ideal);
    let mut numbers = Numbers(5);
    for (out, settings) in [("killed-ideal", &ideal), ("killed", &settings)] {
        let mut process = folder.simulate(out, settings).start();
        for round in [1, 2, 5, 6, 9, 12] {
            if !process.wait_for(&format!("round {round:>2}/")) {
                break;
            }
            // Somewhere in an attempt, before or after its charge.
            std::thread::sleep(Duration::from_millis(numbers.next() % 50));
            process.kill();
            process = folder
                .umbel()
                .args(&["simulate", "--resume", out, "--threads", "3"])
                .start();
        }
        process.finish();
        let killed = folder.run_dir(out);
        if !killed.has("summary.json") {
            let again = folder.umbel().args(&["simulate", "--resume", out]).run();
            again.success();
        }
        killed.check_finished(12);
        killed.check_same_results(&whole);
        check_verified(&folder, out);
    }
}

#[test]
fn the_promise_is_explained() {
    let folder = Folder::new();
    let explain = |settings: &[&str]| {
        let mut umbel = folder.umbel().args(&["budget", "explain", "experiment.toml"]);
        for setting in settings {
            umbel = umbel.args(&["--set", setting]);
        }
        umbel.run().success().stdout
    };
    let distributed = explain(DISTRIBUTED);
    for text in [
        "the server included",
        "may help the server",
        "honest",
        "modulo 2^20",
        "replace-by-zero",
        "at most 4 of them",
    ] {
        assert!(distributed.contains(text), "{text}: {distributed}");
    }
    let central = explain(&["secure_aggregation.enabled=true"]);
    assert!(
        central.contains("sees every sum without noise, no single update"),
        "{central}"
    );
}

#[test]
fn what_does_not_go_together_is_refused_with_the_reason() {
    let folder = Folder::new();
    let cases: &[(&[&str], &str)] = &[
        (&["secure_aggregation.enabled=false"], "nothing but the sum"),
        (
            &[
                "privacy.unit=example",
                "training.sampling_rate=0.25",
                "training.steps=2",
            ],
            "use trust \"local\"",
        ),
        (&["privacy.clip_norm={kind=\"adaptive\"}"], "noise shares"),
        (&["privacy.noise=rounded"], "discrete Gaussian"),
        (&["privacy.noise=continuous"], "discrete Gaussian"),
        (&["privacy.accountant=pld"], "accounted by \"rdp\""),
        (&["privacy.mechanism.kind=dp-ftrl"], "clients add their own"),
        (&["secure_aggregation.survivors_min=3"], "could both be confirmed"),
        (&["secure_aggregation.clients_max=41"], "number of clients, 40"),
        (&["secure_aggregation.modulus_bits=7"], "between 8 and 32"),
        (&["secure_aggregation.colluding=0.5"], "below 0.5"),
        (&["secure_aggregation.dropouts={sending=1.5}"], "from 0 to 1"),
        (&["secure_aggregation.dropouts={leaving=0.5}"], "unknown setting"),
        (&["secure_aggregation.graph=star"], "\"complete\" or \"regular\""),
        (&["secure_aggregation.treshold=3"], "secure_aggregation.treshold"),
        (
            &["privacy.trust=central", "privacy.noise=discrete"],
            "use \"rounded\"",
        ),
        (
            &["privacy.trust=central", "secure_aggregation.modulus_bits=40"],
            "only where clients add the noise",
        ),
        (
            &["privacy.trust=central", "privacy.mechanism.kind=dp-ftrl"],
            "one client could decide",
        ),
    ];
    for (settings, expected) in cases {
        let outcome = folder.simulate("run", &with(DISTRIBUTED, settings)).run();
        let error = outcome.stderr.lines().find(|line| line.starts_with("error: "));
        assert!(
            outcome.code != Some(0) && error.is_some_and(|error| error.contains(expected)),
            "{settings:?}: {}",
            outcome.stderr
        );
    }
}
