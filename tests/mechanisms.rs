//! Each mechanism from its settings to what a run leaves: the promise, the ledger, and what is refused.

use serde_json::Value;
use umbel_accounting::ledger::Body;

use crate::support::Folder;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

const FTRL: &[&str] = &[
    "privacy.mechanism.kind=dp-ftrl",
    "federation.rounds=12",
    "federation.cohort=5",
];

#[test]
fn a_run_of_dp_ftrl_is_charged_once_and_whole() {
    let folder = Folder::new();
    for (strategy, settings) in [
        ("blt", &["privacy.mechanism.buffers=3"][..]),
        ("banded", &["privacy.mechanism.bands=4"]),
        (
            "tree",
            &[
                "privacy.mechanism.separation=6",
                "privacy.mechanism.participations=2",
            ],
        ),
    ] {
        let kind = format!("privacy.mechanism.strategy={strategy}");
        let run = folder.finished(
            strategy,
            &[FTRL, &[kind.as_str()], settings, &["privacy.epsilon=4"]].concat(),
        );
        run.check_finished(12);
        let privacy = &run.summary()["privacy"];
        let epsilon = number(&privacy["epsilon"]);
        assert!(epsilon <= 4.0 && epsilon > 3.99, "{epsilon}");
        assert_eq!(
            (&privacy["mechanism"], &privacy["sampling"]),
            (&"dp-ftrl".into(), &"turns".into())
        );
        assert_eq!(privacy["ftrl"]["strategy"], strategy);
        // The ε of a prefix is that of the whole run.
        assert!(
            run.metrics()
                .iter()
                .all(|line| line["epsilon"] == privacy["epsilon"])
        );
        let ledger = run.ledger();
        let header = ledger.header();
        let matrix = header.matrix.as_ref().unwrap();
        assert_eq!(header.most_charges, Some(1));
        assert_eq!(
            (matrix.separation, matrix.strategy.as_str()),
            (if strategy == "tree" { 6 } else { 8 }, strategy)
        );
        for record in ledger.records() {
            if let Body::Charge(charge) = record {
                assert_eq!(charge.event, header.round_event);
                assert_eq!(charge.claim.epsilon, Some(epsilon));
            }
        }
    }
}

#[test]
fn secret_turns_cost_less_with_a_banded_strategy() {
    let folder = Folder::new();
    let settings = [
        FTRL,
        &[
            "privacy.mechanism.strategy=banded",
            "privacy.mechanism.separation=2",
        ],
    ]
    .concat();
    let epsilon = |name: &str, more: &[&str]| {
        number(&folder.finished(name, &[&settings, more].concat()).summary()["privacy"]["epsilon"])
    };
    let plain = epsilon("plain", &[]);
    let amplified = epsilon("amplified", &["privacy.mechanism.amplified=true"]);
    assert!(amplified < 0.7 * plain, "{amplified} {plain}");
}

#[test]
fn what_dp_ftrl_cannot_do_is_refused() {
    let folder = Folder::new();
    for (settings, words) in [
        (
            &["federation.cohort=11", "privacy.mechanism.separation=4"][..],
            &["federation.cohort", "10 of 40"][..],
        ),
        (
            &["privacy.mechanism.strategy=banded", "privacy.mechanism.bands=9"],
            &["bands", "between 1 and 8"],
        ),
        (
            &["privacy.mechanism.amplified=true"],
            &["privacy.mechanism.amplified", "banded"],
        ),
        (
            &["privacy.mechanism.strategy=tree", "privacy.mechanism.buffers=2"],
            &["privacy.mechanism.buffers", "only \"blt\""],
        ),
        (
            &["privacy.mechanism.strategy=oak"],
            &["privacy.mechanism.strategy", "\"blt\"", "oak"],
        ),
        (
            &["privacy.mechanism.separation=0"],
            &["privacy.mechanism.separation", "at least 1"],
        ),
        (
            &["privacy.dangerous_no_noise=true"],
            &["privacy.mechanism", "without noise"],
        ),
        (
            &["privacy.mechanism.kind=laplace"],
            &["privacy.mechanism.kind", "\"dp-ftrl\"", "laplace"],
        ),
    ] {
        let outcome = folder.simulate("refused", &[FTRL, settings].concat()).run();
        let message = outcome.failure(1);
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{settings:?}: {message}"
        );
        assert!(!folder.path("refused").exists());
    }
}

#[test]
fn explain_says_what_dp_ftrl_asks_of_whom() {
    let folder = Folder::new();
    let outcome = folder
        .umbel()
        .args(&["budget", "explain", "experiment.toml"])
        .args(
            &FTRL
                .iter()
                .flat_map(|setting| ["--set", setting])
                .collect::<Vec<_>>(),
        )
        .run()
        .success();
    for words in [
        "who takes part is no secret",
        "at most 2, at least 8 apart",
        "charged with its first round",
        "blt strategy",
    ] {
        assert!(outcome.stdout.contains(words), "{words}: {}", outcome.stdout);
    }
}

const EXAMPLE: &[&str] = &[
    "privacy.unit=example",
    "privacy.trust=local",
    "training.sampling_rate=0.25",
    "training.steps=3",
];

#[test]
fn an_adaptive_clip_norm_is_on_every_line_and_in_the_ledger() {
    let folder = Folder::new();
    let clip = "privacy.clip_norm={kind=\"adaptive\", initial=0.01, quantile=0.6}";
    let run = folder.finished("run", &[clip, "federation.rounds=8"]);
    run.check_finished(8);
    let ledger = run.ledger();
    let rule = ledger.header().adaptive_clip.as_ref().unwrap();
    let lines: Vec<f64> = run
        .metrics()
        .iter()
        .map(|line| number(&line["clip_norm"]))
        .collect();
    // Every clip norm follows from the one before and the share that was released: anybody can compute it again.
    let mut expected = 0.01;
    let mut charged = Vec::new();
    for record in ledger.records() {
        match record {
            Body::Charge(charge) => {
                let clip_norm = charge.clip_norm.unwrap();
                assert!(
                    (clip_norm / expected - 1.0_f64).abs() < 1e-12,
                    "{clip_norm} {expected}"
                );
                assert_eq!(charge.event, ledger.header().round_event);
                charged.push(clip_norm);
            }
            Body::Release(release) => {
                let share = release.share_within.unwrap();
                expected = charged.last().unwrap() * (-rule.learning_rate * (share - rule.quantile)).exp();
                expected = expected.clamp(rule.smallest, rule.largest);
            }
            _ => {}
        }
    }
    assert_eq!(lines, charged);
    assert!(lines[7] > 0.01, "a norm that is too small rises: {lines:?}");
    // The clip norm's count is paid for by the noise multiplier, so ε is that of a fixed one.
    let fixed = folder.finished("fixed", &["federation.rounds=8"]);
    assert_eq!(
        run.summary()["privacy"]["epsilon"],
        fixed.summary()["privacy"]["epsilon"]
    );
}

#[test]
fn local_noise_is_charged_in_full_up_to_the_most_participations() {
    let folder = Folder::new();
    let local = &[
        "privacy.trust=local",
        "privacy.noise_multiplier=4",
        "federation.rounds=6",
    ];
    let all = folder.finished("all", local);
    let few = folder.finished(
        "few",
        &[&local[..], &["federation.max_participations=2"]].concat(),
    );
    let epsilons = |run: &crate::support::RunDir| -> Vec<f64> {
        run.metrics()
            .iter()
            .map(|line| number(&line["epsilon"]))
            .collect()
    };
    let (all_lines, few_lines) = (epsilons(&all), epsilons(&few));
    assert!(all_lines.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(few_lines[..2], all_lines[..2]);
    assert!(
        few_lines[2..]
            .iter()
            .all(|epsilon| epsilon.to_bits() == few_lines[1].to_bits()),
        "{few_lines:?}"
    );
    let privacy = &few.summary()["privacy"];
    assert_eq!(
        (&privacy["neighbors"], &privacy["trust"]),
        (&"replace-one".into(), &"local".into())
    );
    assert_eq!(few.ledger().header().most_charges, Some(2));
    // Two releases of a Gaussian with sensitivity 2C: μ = 2·√2 / 4, whose δ at this ε is 1e-3.
    let (mu, epsilon) = (f64::sqrt(2.0) / 2.0, few_lines[1]);
    let phi = |x: f64| 0.5 * libm::erfc(-x / f64::sqrt(2.0));
    let delta = phi(mu / 2.0 - epsilon / mu) - epsilon.exp() * phi(-mu / 2.0 - epsilon / mu);
    assert!((delta / 1e-3 - 1.0).abs() < 1e-3, "{delta}");
    // Nobody takes part more than twice: once everybody has, rounds are empty and released all the same.
    let reports: f64 = few
        .metrics()
        .iter()
        .map(|line| number(&line["simulator_only"]["reports"]))
        .sum();
    assert!(reports <= 80.0, "{reports}");
}

#[test]
fn unit_example_costs_what_one_client_with_the_most_participations_does() {
    let folder = Folder::new();
    let settings = [
        EXAMPLE,
        &[
            "privacy.epsilon=3",
            "federation.rounds=4",
            "federation.max_participations=2",
        ],
    ]
    .concat();
    let run = folder.finished("run", &settings);
    run.check_finished(4);
    let summary = run.summary();
    let privacy = &summary["privacy"];
    let epsilon = number(&privacy["epsilon"]);
    assert!(epsilon <= 3.0 && epsilon > 2.99, "{epsilon}");
    assert_eq!(
        (&privacy["unit"], &privacy["neighbors"]),
        (&"example".into(), &"add-remove".into())
    );
    assert_eq!(privacy["local"]["steps"], 3);
    // 480 examples of 40 clients, a quarter of them in a batch.
    assert!((number(&privacy["local"]["batch_divisor"]) - 3.0).abs() < 1e-12);
    let header = run.ledger().header().clone();
    assert_eq!(
        (header.population, header.clients, header.most_charges),
        (480, Some(40), Some(2))
    );
    // Two participations of three steps each, by the planner.
    let noise = number(&privacy["noise_multiplier"]).to_string();
    let answer = folder
        .umbel()
        .args(&[
            "budget",
            "epsilon",
            "--noise-multiplier",
            &noise,
            "--sampling-rate",
            "0.25",
            "--steps",
            "6",
            "--delta",
            "1e-3",
            "--json",
        ])
        .run()
        .success();
    let planned: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert!(
        (number(&planned["epsilon"]) / epsilon - 1.0).abs() < 1e-6,
        "{planned}"
    );
}

#[test]
fn choices_that_depend_on_clients_data_are_refused() {
    let folder = Folder::new();
    for (settings, words) in [
        // Weights by numbers of examples.
        (
            &["federation.weights=examples"][..],
            &["federation.weights", "uniform", "outweigh the clip norm"][..],
        ),
        // Normalisation by the batch that was drawn.
        (
            &["training.divisor=batch"],
            &["training.divisor", "public number", "batch"],
        ),
        (&["training.divisor=0"], &["training.divisor", "above 0"]),
        // Steps that follow the number of examples.
        (
            &["training.epochs=2", "training.batch_size=4"],
            &["training.sampling_rate", "unit \"example\""],
        ),
        (
            &["training.sampling_rate=1.5"],
            &["training.sampling_rate", "at most 1"],
        ),
        (
            &["training.sampling_rate=0"],
            &["training.sampling_rate", "above 0"],
        ),
        (&["training.steps=0"], &["training.steps", "at least 1"]),
        // Noise that is not the clients' own.
        (&["privacy.trust=central"], &["privacy.trust", "\"local\""]),
        (
            &["privacy.mechanism.kind=dp-ftrl"],
            &["privacy.mechanism", "trusted server"],
        ),
        (
            &["privacy.clip_norm={kind=\"adaptive\"}"],
            &["privacy.clip_norm", "trusted server"],
        ),
        (
            &["federation.strategy.kind=fedprox", "federation.strategy.mu=0.1"],
            &["federation.strategy", "noised gradients"],
        ),
        (
            &["federation.examples=479"],
            &["federation.examples", "at least 480"],
        ),
        (&["privacy.delta=0.01"], &["privacy.delta", "1 / 480", "example"]),
        (
            &["federation.max_participations=0"],
            &["federation.max_participations", "at least 1"],
        ),
    ] {
        let outcome = folder.simulate("refused", &[EXAMPLE, settings].concat()).run();
        let message = outcome.failure(1);
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{settings:?}: {message}"
        );
        assert!(!folder.path("refused").exists());
    }
    for (settings, words) in [
        (
            &["federation.max_participations=3"][..],
            &["federation.max_participations", "central"][..],
        ),
        (&["federation.examples=500"], &["federation.examples", "unit"]),
        (
            &["training.sampling_rate=0.5", "training.steps=2"],
            &["training.sampling_rate", "unit"],
        ),
        (&["training.early_stopping=true"], &["training.early_stopping"]),
        // An example's gradient is clipped by itself.
        (
            &["training.microbatches=4"],
            &["unknown setting `training.microbatches`"],
        ),
        (
            &[
                "privacy.clip_norm={kind=\"adaptive\"}",
                "privacy.dangerous_no_noise=true",
            ],
            &["privacy.clip_norm", "noisy count"],
        ),
        (
            &["privacy.clip_norm={kind=\"adaptive\", count_std_dev=0.4}"],
            &["count's standard deviation", "half the noise multiplier"],
        ),
    ] {
        let outcome = folder.simulate("refused", settings).run();
        let message = outcome.failure(1);
        assert!(
            words.iter().all(|word| message.contains(word)),
            "{settings:?}: {message}"
        );
    }
}

#[test]
fn layers_clipped_by_themselves_move_the_model_by_no_more_than_the_norm() {
    let folder = Folder::new();
    let settings = &[
        "model.kind=mlp",
        "model.hidden=[6]",
        "privacy.dangerous_no_noise=true",
        "training.optimizer.learning_rate=5",
        "federation.rounds=1",
        "federation.cohort=40",
    ];
    let flat = folder.finished("flat", &[&settings[..], &["privacy.clip_norm=0.1"]].concat());
    let layered = folder.finished(
        "layered",
        &[
            &settings[..],
            &["privacy.clip_norm={kind=\"per-layer\", norm=0.1}"],
        ]
        .concat(),
    );
    let start = folder.finished(
        "start",
        &[&settings[..], &["training.optimizer.learning_rate=1e-30"]].concat(),
    );
    let moved = |run: &crate::support::RunDir| -> Vec<f64> {
        run.model()
            .iter()
            .zip(start.model())
            .map(|(end, begin)| f64::from(*end) - f64::from(begin))
            .collect()
    };
    let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    let (flat, layered) = (moved(&flat), moved(&layered));
    assert_ne!(flat, layered);
    assert!(norm(&layered) <= 0.1 * (1.0 + 1e-4) && norm(&flat) <= 0.1 * (1.0 + 1e-4));
    // Hidden layer: 64 × 6 weights and 6 biases; then the output layer. Each moves by at most 0.1 / √2.
    for layer in [&layered[..390], &layered[390..]] {
        assert!(
            norm(layer) > 0.0 && norm(layer) <= 0.1 / f64::sqrt(2.0) * (1.0 + 1e-4),
            "{}",
            norm(layer)
        );
    }
}

#[test]
fn explain_has_words_for_every_unit_and_trust() {
    let folder = Folder::new();
    for (settings, words) in [
        (
            EXAMPLE,
            &[
                "nobody (local)",
                "each example of each of the 40 clients",
                "3 steps a round",
                "everyone, the server",
            ][..],
        ),
        (
            &["privacy.trust=local"],
            &[
                "whatever data it has",
                "replace-one",
                "a client shortens its update",
            ],
        ),
        (
            &["privacy.clip_norm={kind=\"adaptive\"}"],
            &["follows the quantile 0.5", "in the first round"],
        ),
    ] {
        let settings: Vec<_> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let explained = folder
            .umbel()
            .args(&["budget", "explain", "experiment.toml"])
            .args(&settings)
            .run()
            .success();
        for words in words {
            assert!(explained.stdout.contains(words), "{words}: {}", explained.stdout);
        }
    }
}
