//! Settings come from the file, then the environment, then the command line.

use serde_json::Value;

use crate::support::Folder;

#[test]
fn a_higher_layer_wins() {
    let folder = Folder::new();
    let rounds = |out: &str, environment: Option<&str>, setting: &[&str]| {
        let mut umbel = folder.simulate(out, setting);
        if let Some(value) = environment {
            umbel = umbel.env("UMBEL_FEDERATION_ROUNDS", value);
        }
        umbel.run().success();
        folder.run_dir(out).summary()["rounds"].as_u64().unwrap()
    };
    assert_eq!(rounds("file", None, &[]), 5);
    assert_eq!(rounds("environment", Some("3"), &[]), 3);
    assert_eq!(rounds("both", Some("3"), &["federation.rounds=2"]), 2);
    assert_eq!(rounds("set", None, &["federation.rounds=2"]), 2);
    assert_eq!(
        rounds("last", None, &["federation.rounds=2", "federation.rounds=4"]),
        4
    );
}

#[test]
fn a_higher_layer_drops_the_alternative() {
    let check = |file: &str, environment: &[(&str, &str)], settings: &[&str], expected: [Option<f64>; 2]| {
        let folder = Folder::new();
        folder.edit("noise_multiplier = 1.0", file);
        let umbel = folder.simulate("run", settings);
        environment
            .iter()
            .fold(umbel, |umbel, (name, value)| umbel.env(name, value))
            .run()
            .success();
        let privacy = &folder.run_dir("run").summary()["privacy"];
        let (budget, noise) = (
            privacy["epsilon_budget"].as_f64(),
            privacy["noise_multiplier"].as_f64(),
        );
        assert_eq!(budget, expected[0], "{file}, {settings:?}");
        match expected[1] {
            Some(_) => assert_eq!(noise, expected[1], "{file}, {settings:?}"),
            // Calibrated to the budget: not above it, and not much below.
            None if budget.is_some() => {
                let spent = privacy["epsilon"].as_f64().unwrap();
                let budget = budget.unwrap();
                assert!(spent <= budget && spent > 0.99 * budget, "{spent} of {budget}");
            }
            None => assert_eq!((noise, &privacy["epsilon"]), (None, &Value::Null)),
        }
    };
    let (noise, epsilon, none) = (
        "noise_multiplier = 1.0",
        "epsilon = 8.0",
        "dangerous_no_noise = true",
    );
    check(noise, &[], &[], [None, Some(1.0)]);
    check(noise, &[], &["privacy.epsilon=2"], [Some(2.0), None]);
    check(noise, &[("UMBEL_PRIVACY_EPSILON", "2")], &[], [Some(2.0), None]);
    check(
        noise,
        &[("UMBEL_PRIVACY_EPSILON", "2")],
        &["privacy.noise_multiplier=3"],
        [None, Some(3.0)],
    );
    check(
        noise,
        &[("UMBEL_PRIVACY_NOISE_MULTIPLIER", "2")],
        &["privacy.epsilon=4"],
        [Some(4.0), None],
    );
    check(noise, &[], &["privacy.max_epsilon=9"], [Some(9.0), Some(1.0)]);
    check(epsilon, &[], &[], [Some(8.0), None]);
    check(epsilon, &[], &["privacy.noise_multiplier=3"], [None, Some(3.0)]);
    check(epsilon, &[], &["privacy.dangerous_no_noise=true"], [None, None]);
    check(
        epsilon,
        &[],
        &["privacy.dangerous_no_noise=false"],
        [Some(8.0), None],
    );
    check(none, &[], &["privacy.epsilon=2"], [Some(2.0), None]);
    check(
        none,
        &[("UMBEL_PRIVACY_NOISE_MULTIPLIER", "2")],
        &[],
        [None, Some(2.0)],
    );
}

#[test]
fn a_new_kind_drops_the_keys_of_the_old_one() {
    let folder = Folder::new();
    folder.edit("kind = \"softmax\"", "kind = \"mlp\"\nhidden = [3]");
    folder.edit(
        "kind = \"by-key\"",
        "kind = \"dirichlet\"\nalpha = 0.5\nclients = 20",
    );
    let adam = "{ kind = \"fedadam\", learning_rate = 0.01, tau = 0.1 }";
    folder.edit("{ kind = \"fedavg\" }", adam);
    let settings = [
        "model.kind=softmax",
        "data.partition.kind=iid",
        "federation.strategy.kind=fedavg",
    ];
    let run = folder.finished("run", &settings);
    let text = run.text("experiment.toml");
    for gone in ["hidden", "alpha", "tau", "mlp", "dirichlet", "fedadam"] {
        assert!(!text.contains(gone), "{gone} is gone: {text}");
    }
    // What both kinds know stays.
    assert_eq!(run.summary()["clients"], 20);
}

#[test]
fn the_seed_comes_from_the_highest_layer() {
    let folder = Folder::new();
    let seed = |out: &str, environment: &[(&str, &str)], args: &[&str]| {
        let umbel = folder.simulate(out, &[]).args(args);
        environment
            .iter()
            .fold(umbel, |umbel, (name, value)| umbel.env(name, value))
            .run()
            .success();
        folder.run_dir(out).summary()["seed"].as_u64().unwrap()
    };
    assert_eq!(seed("file", &[], &[]), 3);
    assert_eq!(seed("environment", &[("UMBEL_SEED", "5")], &[]), 5);
    assert_eq!(seed("set", &[("UMBEL_SEED", "5")], &["--set", "seed=6"]), 6);
    assert_eq!(
        seed(
            "flag",
            &[("UMBEL_SEED", "5")],
            &["--set", "seed=6", "--seed", "7"]
        ),
        7
    );
}

#[test]
fn the_resolved_experiment_runs_to_the_same_model_from_anywhere() {
    let folder = Folder::new();
    let settings = [
        "privacy.epsilon=3",
        "model.kind=mlp",
        "model.hidden=[6]",
        "data.partition.max_examples=9",
        "federation.cohort=12.5",
    ];
    let first = folder
        .simulate("first", &settings)
        .env("UMBEL_SEED", "11")
        .run()
        .success();
    assert!(!first.stdout.is_empty());
    let first = folder.run_dir("first");
    std::fs::create_dir(folder.path("elsewhere")).unwrap();
    let resolved = first.path().join("experiment.toml");
    let umbel = crate::support::Umbel::new(&folder.path("elsewhere"));
    umbel
        .args(&["simulate", resolved.to_str().unwrap(), "--out", "../second"])
        .run()
        .success();
    let second = folder.run_dir("second");
    second.check_finished(5);
    second.check_same_results(&first);
    assert_eq!(second.text("experiment.toml"), first.text("experiment.toml"));
}

#[test]
fn other_variables_of_the_environment_are_no_settings() {
    let folder = Folder::new();
    folder
        .simulate("run", &[])
        .env("UMBEL_HOME", "x")
        .env("UMBELLA_SEED", "y")
        .env("EPSILON", "z")
        .run()
        .success();
    folder
        .run_dir("run")
        .check_same_results(&folder.finished("plain", &[]));
}

/// What is declared is what counts: q, the noise and the check of δ do not follow who happens to be in the data.
#[test]
fn a_declared_number_of_clients_is_what_counts() {
    let folder = Folder::new();
    let summary = |name: &str, clients: &str| {
        let settings = [
            clients,
            "federation.rounds=2",
            "federation.cohort=10",
            "privacy.epsilon=3",
        ];
        folder.finished(name, &settings).summary()
    };
    let counted = summary("counted", "federation.clients=40");
    let declared = summary("declared", "federation.clients=50");
    assert_eq!(
        (counted["clients"].as_u64(), declared["clients"].as_u64()),
        (Some(40), Some(50))
    );
    assert_eq!(declared["privacy"]["sampling_rate"].as_f64(), Some(0.2));
    let noise = |summary: &Value| summary["privacy"]["noise_multiplier"].as_f64().unwrap();
    assert!(
        noise(&declared) < noise(&counted),
        "a smaller rate needs less noise"
    );
}
