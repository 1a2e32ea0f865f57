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
