//! The same seed gives the same bytes.

use crate::support::Folder;

/// Settings that between them use every partition, model, strategy, noise sampler and accountant.
const VARIANTS: [&[&str]; 12] = [
    &[],
    &["privacy.epsilon=3", "privacy.accountant=rdp"],
    &["privacy.noise=continuous"],
    &[
        "federation.strategy.kind=fedadam",
        "federation.strategy.learning_rate=0.05",
        "privacy.noise=continuous",
    ],
    &[
        "federation.strategy.kind=fedadam",
        "federation.strategy.learning_rate=0.05",
        "model.kind=mlp",
        "model.hidden=[9, 5]",
    ],
    &[
        "data.partition.kind=iid",
        "data.partition.clients=37",
        "data.pool=2",
        "data.mean=0.3",
        "data.std_dev=0.2",
    ],
    &[
        "data.partition.kind=dirichlet",
        "data.partition.alpha=0.3",
        "data.partition.clients=25",
        "model.kind=mlp",
        "model.hidden=[12]",
        "training.epochs=2",
    ],
    &[
        "privacy.mechanism.kind=dp-ftrl",
        "privacy.mechanism.strategy=banded",
        "privacy.mechanism.amplified=true",
    ],
    &[
        "privacy.mechanism.kind=dp-ftrl",
        "privacy.mechanism.strategy=tree",
        "privacy.mechanism.separation=2",
        "privacy.mechanism.participations=2",
        "privacy.noise=continuous",
    ],
    &[
        "privacy.clip_norm={kind=\"adaptive\", initial=0.1}",
        "federation.strategy.kind=fedyogi",
        "federation.strategy.learning_rate=0.05",
    ],
    &[
        "privacy.trust=local",
        "federation.max_participations=3",
        "federation.strategy.kind=fedprox",
        "federation.strategy.mu=0.1",
    ],
    &[
        "privacy.unit=example",
        "privacy.trust=local",
        "training.sampling_rate=0.3",
        "training.steps=4",
        "federation.strategy.kind=fedadagrad",
        "federation.strategy.learning_rate=0.05",
    ],
];

#[test]
fn the_number_of_threads_changes_nothing() {
    for settings in VARIANTS {
        let folder = Folder::new();
        let runs = ["1", "2", "5"].map(|threads| {
            folder
                .simulate(threads, settings)
                .args(&["--threads", threads])
                .run()
                .success();
            folder.run_dir(threads)
        });
        runs[0].check_finished(5);
        for run in &runs[1..] {
            run.check_finished(5);
            run.check_same_results(&runs[0]);
        }
    }
}

#[test]
fn another_seed_gives_another_model() {
    for settings in VARIANTS {
        let folder = Folder::new();
        let first = folder.finished("first", settings);
        folder
            .simulate("other", settings)
            .args(&["--seed", "4"])
            .run()
            .success();
        let other = folder.run_dir("other");
        assert_eq!(
            (&first.summary()["seed"], &other.summary()["seed"]),
            (&3.into(), &4.into())
        );
        assert_ne!(first.summary()["model_sha256"], other.summary()["model_sha256"]);
        assert_ne!(first.bytes("metrics.jsonl"), other.bytes("metrics.jsonl"));
    }
}

#[test]
fn without_a_seed_each_run_draws_its_own_and_records_it() {
    let folder = Folder::new();
    folder.edit("seed = 3", "");
    let (first, second) = (folder.finished("first", &[]), folder.finished("second", &[]));
    assert_ne!(first.summary()["seed"], second.summary()["seed"]);
    let seed = first.summary()["seed"].to_string();
    folder
        .simulate("again", &[])
        .args(&["--seed", &seed])
        .run()
        .success();
    folder.run_dir("again").check_same_results(&first);
}

#[test]
fn fewer_rounds_are_the_beginning_of_more() {
    for settings in VARIANTS
        .iter()
        .filter(|settings| !settings.contains(&"privacy.epsilon=3"))
        // DP-FTRL correlates noise by a strategy that is made for a number of rounds.
        .filter(|settings| !settings.contains(&"privacy.mechanism.kind=dp-ftrl"))
    {
        let folder = Folder::new();
        let long = folder.finished("long", &[*settings, &["federation.rounds=7"]].concat());
        for rounds in [1, 4] {
            let short = format!("federation.rounds={rounds}");
            let short = folder.finished(
                &format!("short-{rounds}"),
                &[*settings, &[short.as_str()]].concat(),
            );
            short.check_finished(rounds);
            let long = long.text("metrics.jsonl");
            assert!(
                long.starts_with(&short.text("metrics.jsonl")),
                "{long}\n{}",
                short.text("metrics.jsonl")
            );
        }
        // The short run's model is the one that the long run released after as many rounds.
        let short = folder.run_dir("short-4");
        assert_eq!(short.released_models()[..], long.released_models()[..4]);
        assert_eq!(short.released_models()[3], short.model_content_sha256());
        assert_eq!(long.released_models()[6], long.model_content_sha256());
    }
}
