//! Bad input is refused with one clear message, before anything is left behind.

use crate::support::{Folder, N_CLIENTS, Outcome, gzip, idx, idx_images, idx_labels, labels};

/// Settings given on the command line, and what the message must say.
const SETTINGS: &[(&str, &[&str])] = &[
    // Names.
    (
        "privacy.epsilom=1",
        &["privacy.epsilom", "did you mean `privacy.epsilon`"],
    ),
    ("federaton.rounds=1", &["federaton", "did you mean `federation`"]),
    ("rounds=1", &["unknown setting `rounds`"]),
    (
        "data.train.client=1",
        &["data.train.client", "`data.train.clients`"],
    ),
    (
        "training.optimizer.moment=0.9",
        &["unknown setting `training.optimizer.moment`"],
    ),
    ("model.hidden=[3]", &["unknown setting `model.hidden`"]),
    (
        "privacy.clip_norm.kind=adaptive",
        &["privacy.clip_norm.kind", "`clip_norm`"],
    ),
    ("=1", &["--set", "a name such as"]),
    ("privacy..epsilon=1", &["--set", "privacy..epsilon"]),
    (
        "privacy.epsilon",
        &["--set", "section.key=value", "privacy.epsilon"],
    ),
    // Types.
    (
        "federation.rounds=\"many\"",
        &["federation.rounds", "whole number", "many"],
    ),
    (
        "federation.rounds=2.5",
        &["federation.rounds", "whole number", "2.5"],
    ),
    ("privacy.unit=3", &["privacy.unit", "\"client\"", "3"]),
    (
        "privacy.dangerous_no_noise=1",
        &["privacy.dangerous_no_noise", "true or false", "1"],
    ),
    ("model=5", &["model", "table", "5"]),
    ("data=none", &["data", "table", "none"]),
    ("name=7", &["name", "7"]),
    // ε, δ and noise.
    ("privacy.epsilon=0", &["privacy.epsilon", "above 0", "got 0"]),
    ("privacy.epsilon=-1", &["privacy.epsilon", "above 0", "got -1"]),
    ("privacy.epsilon=nan", &["privacy.epsilon", "above 0", "got NaN"]),
    ("privacy.epsilon=inf", &["privacy.epsilon", "finite", "got inf"]),
    (
        "privacy.epsilon=500",
        &["privacy.epsilon", "at most 300", "got 500"],
    ),
    (
        "federation.clients=39",
        &["federation.clients", "at least 40", "got 39"],
    ),
    ("privacy.epsilon=eight", &["privacy.epsilon", "number", "eight"]),
    (
        "privacy.max_epsilon=0",
        &["privacy.max_epsilon", "above 0", "got 0"],
    ),
    ("privacy.delta=0", &["privacy.delta", "above 0", "got 0"]),
    ("privacy.delta=-0.1", &["privacy.delta", "above 0", "got -0.1"]),
    ("privacy.delta=1", &["privacy.delta", "below 1", "got 1"]),
    ("privacy.delta=2", &["privacy.delta", "below 1", "got 2"]),
    ("privacy.delta=nan", &["privacy.delta", "below 1", "got NaN"]),
    ("privacy.delta=tiny", &["privacy.delta", "number", "tiny"]),
    // 40 clients.
    ("privacy.delta=0.025", &["privacy.delta", "1 / ", "40", "0.025"]),
    ("privacy.delta=0.5", &["privacy.delta", "1 / ", "40", "0.5"]),
    (
        "privacy.noise_multiplier=0",
        &[
            "privacy.noise_multiplier",
            "above 0",
            "`privacy.dangerous_no_noise",
            "got 0",
        ],
    ),
    (
        "privacy.noise_multiplier=-1",
        &["privacy.noise_multiplier", "above 0", "got -1"],
    ),
    (
        "privacy.noise_multiplier=nan",
        &["privacy.noise_multiplier", "above 0", "got NaN"],
    ),
    (
        "privacy.noise_multiplier=inf",
        &["privacy.noise_multiplier", "finite", "got inf"],
    ),
    (
        "privacy.noise_multiplier=1e-15",
        &["`privacy`", "noise multiplier", "cannot be drawn"],
    ),
    ("privacy.clip_norm=0", &["privacy.clip_norm", "above 0", "got 0"]),
    (
        "privacy.clip_norm=-1",
        &["privacy.clip_norm", "above 0", "got -1"],
    ),
    (
        "privacy.clip_norm=nan",
        &["privacy.clip_norm", "above 0", "got NaN"],
    ),
    (
        "privacy.clip_norm=1e300",
        &["privacy.clip_norm", "below", "got 1e300"],
    ),
    (
        "privacy.noise=laplace",
        &["privacy.noise", "\"rounded\", \"continuous\"", "laplace"],
    ),
    (
        "privacy.accountant=guess",
        &["privacy.accountant", "\"pld\" or \"rdp\"", "guess"],
    ),
    // What this version does not have is refused, never ignored.
    ("privacy.unit=word", &["privacy.unit", "\"client\"", "word"]),
    // Nobody can bound one example's share in a whole update.
    (
        "privacy.unit=example",
        &["privacy.trust", "\"local\"", "\"central\""],
    ),
    (
        "privacy.trust=distributed",
        &["secure_aggregation.enabled", "\"distributed\"", "false"],
    ),
    (
        "secure_aggregation.enabled=perhaps",
        &["secure_aggregation.enabled", "\"ideal\"", "perhaps"],
    ),
    // Federation.
    (
        "federation.rounds=0",
        &["federation.rounds", "at least 1", "got 0"],
    ),
    (
        "federation.rounds=-3",
        &["federation.rounds", "at least 1", "got -3"],
    ),
    ("federation.cohort=0", &["federation.cohort", "above 0", "got 0"]),
    (
        "federation.cohort=-1",
        &["federation.cohort", "above 0", "got -1"],
    ),
    (
        "federation.cohort=nan",
        &["federation.cohort", "above 0", "got NaN"],
    ),
    (
        "federation.cohort=41",
        &["federation.cohort", "at most the number of clients, 40", "got 41"],
    ),
    (
        "federation.cohort=1e-300",
        &["federation.cohort", "at least 4e-8 of 40 clients", "got 1e-300"],
    ),
    (
        "federation.cohort=1e300",
        &[
            "federation.cohort",
            "at most the number of clients, 40",
            "got 1e300",
        ],
    ),
    (
        "federation.strategy.kind=fedmedian",
        &["federation.strategy.kind", "\"fedavg\"", "fedmedian"],
    ),
    (
        "federation.strategy.kind=fedadam",
        &["federation.strategy.learning_rate", "missing"],
    ),
    // Training and model.
    (
        "training.batch_size=0",
        &["training.batch_size", "at least 1", "got 0"],
    ),
    ("training.epochs=0", &["training.epochs", "at least 1", "got 0"]),
    (
        "training.optimizer.learning_rate=0",
        &["training.optimizer.learning_rate", "above 0", "got 0"],
    ),
    (
        "training.optimizer.learning_rate=-0.1",
        &["training.optimizer.learning_rate", "above 0", "got -0.1"],
    ),
    (
        "training.optimizer.learning_rate=1e-50",
        &["training.optimizer", "learning_rate", "above 0"],
    ),
    (
        "training.optimizer.learning_rate=1e50",
        &["training.optimizer", "learning_rate", "finite"],
    ),
    (
        "training.optimizer.kind=lion",
        &["training.optimizer.kind", "\"sgd\"", "lion"],
    ),
    ("model.kind=mlp", &["model.hidden", "missing"]),
    (
        "model={ kind = \"mlp\", hidden = [] }",
        &["model.hidden", "at least 1", "[]"],
    ),
    (
        "model={ kind = \"mlp\", hidden = [0] }",
        &["model.hidden", "at least 1", "[0]"],
    ),
    (
        "model={ kind = \"mlp\", hidden = [3, -1] }",
        &["model.hidden", "at least 1", "-1"],
    ),
    (
        "model={ kind = \"mlp\", hidden = [1000000000000] }",
        &["`model`", "more than 2147483648 parameters"],
    ),
    (
        "model={ kind = \"mlp\", hidden = [9000000000000000000, 9000000000000000000] }",
        &["model"],
    ),
    ("model.kind=rnn", &["model.kind", "\"softmax\"", "rnn"]),
    // Name, seed and data.
    ("name=a/b", &["name", "letters, digits", "a/b"]),
    ("name=..", &["name", ".."]),
    ("name=", &["name", "letters, digits"]),
    ("seed=-1", &["seed", "at least 0", "got -1"]),
    ("seed=1.5", &["seed", "whole number", "1.5"]),
    (
        "data.format=parquet",
        &["data.format", "\"csv\" or \"idx\" or \"text\"", "parquet"],
    ),
    ("data.format=csv", &["unknown setting `data.train.labels`"]),
    (
        "data.augmentation={ word_dropout = 0.1 }",
        &["data.augmentation.word_dropout", "`data.augmentation.flip`"],
    ),
    (
        "data.augmentation={ shift = 8 }",
        &["data.augmentation", "smaller than height and width", "got 8"],
    ),
    (
        "data.partition={ kind = \"shards\", clients = 400 }",
        &["data.partition", "480 examples", "400 × 2"],
    ),
    (
        "data.partition={ kind = \"pathological\", clients = 4, labels = 99 }",
        &["data.partition", "got 99 for each of 4 clients"],
    ),
    (
        "data.partition={ kind = \"sizes\", sizes = [400, 81] }",
        &["data.partition", "sum to 481", "480 examples"],
    ),
    ("data.pool=0", &["data.pool", "at least 1", "got 0"]),
    ("data.pool=3", &["data", "8", "3"]),
    ("data.pool=9000000000000000000", &["data", "9000000000000000000"]),
    ("data.std_dev=0", &["data.std_dev", "above 0", "got 0"]),
    ("data.std_dev=1e-60", &["data", "above 0"]),
    ("data.mean=nan", &["data.mean", "finite", "got NaN"]),
    ("data.mean=1e60", &["data", "finite"]),
    (
        "data.partition.kind=random",
        &["data.partition.kind", "\"by-key\"", "random"],
    ),
    (
        "data.partition.max_examples=0",
        &["data.partition.max_examples", "at least 1", "got 0"],
    ),
    ("data.partition.kind=iid", &["data.partition.clients", "missing"]),
    (
        "data.partition={ kind = \"iid\", clients = 0 }",
        &["data.partition.clients", "at least 1", "got 0"],
    ),
    (
        "data.partition={ kind = \"iid\", clients = 9000000000000000000 }",
        &["data.partition", "9000000000000000000"],
    ),
    (
        "data.partition={ kind = \"dirichlet\", clients = 9, alpha = 0 }",
        &["data.partition.alpha", "above 0", "got 0"],
    ),
    (
        "data.partition={ kind = \"dirichlet\", clients = 9, alpha = nan }",
        &["data.partition.alpha", "above 0", "NaN"],
    ),
    (
        "data.partition={ kind = \"dirichlet\", clients = 9000000000000000000, alpha = 1 }",
        &["data.partition", "9000000000000000000"],
    ),
    // Files.
    ("data.train.examples=absent", &["absent", "No such file"]),
    ("data.train.labels=data", &["data`", "directory"]),
    ("data.train.clients=absent.tsv", &["absent.tsv", "No such file"]),
    ("data.train.examples=\"\"", &["data.train.examples", "path"]),
    (
        "data.train.examples=data/clients.tsv",
        &["clients.tsv", "not an IDX file", "72 6f 77"],
    ),
    (
        "data.train.labels=data/train-images.gz",
        &["train-images.gz", "dimension"],
    ),
    (
        "data.train.client_column=writer",
        &["clients.tsv", "no column `writer`", "owner"],
    ),
    (
        "data.test={ examples = \"data/test-images\" }",
        &["data.test.labels", "missing"],
    ),
];

#[test]
fn bad_settings_are_refused() {
    let folder = Folder::new();
    let complaints = SETTINGS.iter().flat_map(|(setting, expected)| {
        let outcome = folder.simulate("run", &[setting]).run();
        complaints(&folder, setting, &outcome, expected)
    });
    check(complaints);
}

/// Bad settings mean the same in the environment.
#[test]
fn bad_variables_are_refused() {
    let folder = Folder::new();
    let cases = [
        (
            "UMBEL_PRIVACY_EPSILON",
            "-1",
            ["privacy.epsilon", "above 0", "got -1"],
        ),
        (
            "UMBEL_PRIVACY_EPSILOM",
            "1",
            ["privacy.epsilom", "did you mean", "`privacy.epsilon`"],
        ),
        ("UMBEL_SEED", "many", ["seed", "whole number", "many"]),
    ];
    let complaints = cases.iter().flat_map(|(name, value, expected)| {
        let outcome = folder.simulate("run", &[]).env(name, value).run();
        complaints(&folder, name, &outcome, expected)
    });
    check(complaints);
}

/// A passage of the experiment file, what stands there instead, and what the message must say.
const FILES: &[(&str, &str, &[&str])] = &[
    (
        "noise_multiplier = 1.0",
        "noise_multiplier = 1.0\nepsilon = 8",
        &[
            "privacy.epsilon",
            "privacy.noise_multiplier",
            "exclude each other",
        ],
    ),
    (
        "noise_multiplier = 1.0",
        "noise_multiplier = 1.0\ndangerous_no_noise = true",
        &[
            "privacy.dangerous_no_noise",
            "privacy.noise_multiplier",
            "exclude each other",
        ],
    ),
    (
        "noise_multiplier = 1.0",
        "epsilon = 1.0\nmax_epsilon = 2",
        &["privacy.epsilon", "privacy.max_epsilon"],
    ),
    (
        "noise_multiplier = 1.0",
        "",
        &["privacy.epsilon", "privacy.noise_multiplier"],
    ),
    (
        "noise_multiplier = 1.0",
        "noise_multiplier = 0.0",
        &["privacy.noise_multiplier", "privacy.dangerous_no_noise"],
    ),
    (
        "noise_multiplier = 1.0",
        "dangerous_no_noise = false",
        &["privacy.epsilon", "privacy.noise_multiplier"],
    ),
    (
        "noise_multiplier = 1.0",
        "noise_multiplier",
        &["line 30", "noise_multiplier"],
    ),
    ("rounds = 5", "rounds = 5\nrounds = 6", &["duplicate", "rounds"]),
    (
        "rounds = 5",
        "round = 5",
        &["federation.round`", "did you mean `federation.rounds`"],
    ),
    ("[privacy]", "[privat]", &["privat", "did you mean `privacy`"]),
    ("delta = 1e-3", "", &["privacy.delta", "missing"]),
    ("unit = \"client\"", "", &["privacy.unit", "missing"]),
    ("trust = \"central\"", "", &["privacy.trust", "missing"]),
    ("clip_norm = 0.5", "", &["privacy.clip_norm", "missing"]),
    ("name = \"small\"", "", &["name", "missing"]),
    ("batch_size = 4", "", &["training.batch_size", "missing"]),
    (
        ", clients = \"data/clients.tsv\"",
        "",
        &["data.train.clients", "by-key"],
    ),
    ("kind = \"softmax\"", "", &["model.kind", "missing"]),
];

#[test]
fn bad_experiment_files_are_refused() {
    let complaints = FILES.iter().flat_map(|(from, to, expected)| {
        let folder = Folder::new();
        folder.edit(from, to);
        let outcome = folder.simulate("run", &[]).run();
        complaints(&folder, to, &outcome, &[&["experiment.toml"], *expected].concat())
    });
    check(complaints);
}

#[test]
fn bad_data_files_are_refused() {
    let mut found = Vec::new();
    let mut check_file = |name: &str, content: &[u8], expected: &[&str]| {
        let folder = Folder::new();
        folder.write(name, content);
        let outcome = folder.simulate("run", &[]).run();
        found.extend(complaints(
            &folder,
            &format!("{name} of {} bytes", content.len()),
            &outcome,
            expected,
        ));
    };
    let whole = Folder::new();
    let [images, labels_file, test_images, table] =
        ["train-images.gz", "train-labels", "test-images", "clients.tsv"]
            .map(|name| whole.read(&format!("data/{name}")));

    // Cut off, damaged, too long, of another kind.
    for length in [10, images.len() / 2, images.len() - 4] {
        check_file(
            "data/train-images.gz",
            &images[..length],
            &["train-images.gz", "gzip", "too early"],
        );
    }
    check_file(
        "data/test-images",
        &test_images[..1000],
        &["test-images", "too early", "expected 12800", "got 984"],
    );
    check_file(
        "data/test-images",
        &[&test_images[..], b"x"].concat(),
        &["test-images", "12800", "goes on"],
    );
    check_file(
        "data/test-images",
        &test_images[..9],
        &["test-images", "too early"],
    );
    for (name, what) in [
        ("train-images.gz", "nothing"),
        ("train-labels", "nothing"),
        ("clients.tsv", "empty"),
    ] {
        check_file(&format!("data/{name}"), b"", &[name, "expected", what]);
    }
    let mut damaged = images.clone();
    damaged[images.len() / 2] ^= 0xff;
    check_file(
        "data/train-images.gz",
        &damaged,
        &["train-images.gz", "gzip", "damaged"],
    );
    check_file(
        "data/train-images.gz",
        b"GIF89a, no images of digits",
        &["train-images.gz", "not an IDX file", "47 49 46"],
    );
    let mut floats = labels_file.clone();
    floats[2] = 0x0d;
    check_file(
        "data/train-labels",
        &floats,
        &["train-labels", "type 0x0d", "unsigned byte"],
    );
    check_file(
        "data/train-labels",
        &idx(&[u32::MAX, u32::MAX, u32::MAX], b""),
        &["train-labels", "4294967295"],
    );
    check_file(
        "data/train-labels",
        &idx(&[u32::MAX], b""),
        &["train-labels", "expected 4294967295", "got 0"],
    );
    check_file(
        "data/train-labels",
        &gzip(&idx(&[u32::MAX], b"")),
        &["train-labels", "4294967295"],
    );

    // Files that do not fit each other.
    check_file(
        "data/train-labels",
        &idx_labels(&labels(479, 1)),
        &["train-images.gz", "train-labels", "480", "479"],
    );
    check_file(
        "data/test-labels.gz",
        &idx_labels(&labels(201, 2)),
        &["test-images", "test-labels.gz", "200", "201"],
    );
    check_file(
        "data/train-labels",
        &idx(&[480, 1], &labels(480, 1)),
        &["train-labels", "1", "dimension"],
    );
    check_file(
        "data/test-labels.gz",
        &idx_labels(&[&[9][..], &labels(199, 2)].concat()),
        &["data/test-images", "label 9", "4 classes", "data/train-images.gz"],
    );
    check_file(
        "data/test-images",
        &idx(&[200, 4, 4], &[7; 3200]),
        &["test-images", "[4, 4]", "[8, 8]"],
    );
    check_file("data/test-images", &idx_images(&[], 1), &["test-images"]);
    check_file(
        "data/train-images.gz",
        &idx(&[480, 0, 8], b""),
        &["train-images.gz", "480, 0, 8"],
    );

    // Client keys.
    let table = String::from_utf8(table).unwrap();
    let shorter = table.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n";
    check_file(
        "data/clients.tsv",
        shorter.as_bytes(),
        &["clients.tsv", "479", "480"],
    );
    check_file(
        "data/clients.tsv",
        (table.clone() + "480\tclient-0\n").as_bytes(),
        &["clients.tsv", "481", "480"],
    );
    check_file(
        "data/clients.tsv",
        table.replace("\n7\tclient-7\n", "\n7\n").as_bytes(),
        &["clients.tsv", "line 9", "2"],
    );
    check_file(
        "data/clients.tsv",
        table.replace("\n7\tclient-7\n", "\n7\t\n").as_bytes(),
        &["clients.tsv", "line 9", "empty"],
    );
    check_file(
        "data/clients.tsv",
        &[table.as_bytes(), b"480\t\xff\n"].concat(),
        &["clients.tsv", "line 482", "UTF-8"],
    );
    check(found);
}

#[test]
fn bad_directories_are_refused() {
    let folder = Folder::new();
    let finished = folder.finished("finished", &[]);
    let before = finished.bytes("ledger");
    std::fs::create_dir(folder.path("foreign")).unwrap();
    folder.write("foreign/letter.txt", b"dear");
    folder.write("file", b"no directory");
    let check_args = |args: &[&str], expected: &[&str]| {
        let outcome = folder.umbel().args(&["simulate"]).args(args).run();
        let message = outcome.failure(1);
        for text in expected {
            assert!(message.contains(text), "{args:?}: says `{text}`: {message}");
        }
    };
    check_args(&["absent.toml"], &["absent.toml", "No such file"]);
    check_args(&["data"], &["data", "directory"]);
    check_args(&["data/train-images.gz"], &["train-images.gz", "UTF-8"]);
    check_args(&["--resume", "absent"], &["absent", "no `ledger`"]);
    check_args(&["--resume", "foreign"], &["foreign", "no `ledger`"]);
    check_args(&["--resume", "file"], &["file", "no `ledger`"]);
    check_args(&["--resume", "finished"], &["closed"]);
    check_args(&["experiment.toml", "--resume", "finished"], &["closed"]);
    check_args(
        &["experiment.toml", "--out", "foreign"],
        &["foreign", "not empty"],
    );
    check_args(
        &["experiment.toml", "--out", "finished"],
        &["finished", "not empty"],
    );
    check_args(&["experiment.toml", "--out", "file"], &["file"]);
    check_args(&["experiment.toml", "--out", "file/run"], &["file/run"]);
    assert_eq!(std::fs::read_dir(folder.path("foreign")).unwrap().count(), 1);
    assert!(!folder.path("absent").exists());
    assert_eq!(finished.bytes("ledger"), before);
    finished.check_finished(5);
}

#[test]
fn a_run_of_another_experiment_or_data_is_not_resumed() {
    let folder = Folder::new();
    let rounds = "federation.rounds=300";
    let mut process = folder
        .simulate("run", &[rounds, "privacy.accountant=rdp"])
        .start();
    assert!(process.wait_for("round   2/"));
    process.kill();
    let outcome = folder
        .umbel()
        .args(&["simulate", "experiment.toml", "--resume", "run"])
        .run();
    let message = outcome.failure(1);
    for text in ["run", "another experiment", "rounds = 300", "rounds = 5"] {
        assert!(message.contains(text), "{message}");
    }
    let ledger = folder.read("run/ledger");

    let images = folder.read("data/train-images.gz");
    folder.write("data/train-images.gz", &idx_images(&labels(480, 1), 99));
    let outcome = folder.umbel().args(&["simulate", "--resume", "run"]).run();
    assert!(
        outcome.failure(1).contains("the data are not those"),
        "{}",
        outcome.stderr
    );
    folder.write("data/train-images.gz", &images);

    // One digit of the ledger, changed.
    let text = String::from_utf8(ledger.clone()).unwrap();
    folder.write(
        "run/ledger",
        text.replacen("\"population\":40", "\"population\":41", 1)
            .as_bytes(),
    );
    let outcome = folder.umbel().args(&["simulate", "--resume", "run"]).run();
    assert!(
        outcome.failure(1).contains("run/ledger: record 0"),
        "{}",
        outcome.stderr
    );
    folder.write("run/ledger", &ledger);

    let key = folder.read("run/signing.key");
    folder.write("run/signing.key", &[1; 32]);
    let outcome = folder.umbel().args(&["simulate", "--resume", "run"]).run();
    assert!(outcome.failure(1).contains("signing.key"), "{}", outcome.stderr);
    folder.write("run/signing.key", &key);

    folder
        .umbel()
        .args(&["simulate", "--resume", "run"])
        .run()
        .success();
    folder.run_dir("run").check_finished(300);
}

#[test]
fn wrong_usage_is_told_from_a_failed_run() {
    let folder = Folder::new();
    for args in [
        &["simulate"][..],
        &["simulate", "experiment.toml", "--frobnicate"],
        &["simulate", "experiment.toml", "--threads", "0"],
        &["simulate", "experiment.toml", "--threads", "many"],
        &["simulate", "experiment.toml", "--seed", "-1"],
        &["simulate", "experiment.toml", "--seed", "18446744073709551615"],
        &["simulate", "experiment.toml", "--out", "a", "--resume", "b"],
        &["simulate", "--resume", "b", "--set", "privacy.epsilon=1"],
        &["simulate", "--resume", "b", "--seed", "1"],
        &["simulate", "experiment.toml", "another.toml"],
        &["similate", "experiment.toml"],
        &["report"],
    ] {
        let outcome = folder.umbel().args(args).run();
        outcome.failure(2);
        assert!(!folder.path("runs").exists() && !folder.path("a").exists());
    }
    let outcome = folder.umbel().run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""));
    assert!(
        outcome.stderr.contains("simulate"),
        "shows what can be done: {}",
        outcome.stderr
    );
}

#[test]
fn a_delta_above_a_tenth_of_one_in_the_number_of_clients_is_a_warning() {
    let folder = Folder::new();
    for (delta, warned) in [("0.024", true), ("0.0026", true), ("0.0024", false)] {
        let outcome = folder
            .simulate(delta, &[&format!("privacy.delta={delta}")])
            .run()
            .success();
        let warning = outcome.stderr.lines().find(|line| line.starts_with("warning: "));
        assert_eq!(
            warning.is_some_and(|line| line.contains("privacy.delta") && line.contains("40")),
            warned
        );
    }
    assert_eq!(N_CLIENTS, 40);
}

#[test]
fn unusual_but_possible_settings_work() {
    let folder = Folder::new();
    for (place, setting) in [
        "federation.cohort=40",
        "federation.cohort=0.001",
        "privacy.epsilon=1e-3",
        "privacy.epsilon=200",
        "privacy.noise_multiplier=1e6",
        "privacy.delta=1e-15",
        "privacy.clip_norm=1e-6",
        "training.optimizer.learning_rate=1e30",
        "training.batch_size=1000000",
        "data.partition={ kind = \"iid\", clients = 480 }",
        "data.partition={ kind = \"iid\", clients = 900 }",
        "data.partition={ kind = \"dirichlet\", clients = 480, alpha = 0.01 }",
        "data.pool=8",
        "data.classes=12",
        "seed=9223372036854775807",
        "name=A.b-c_9",
    ]
    .iter()
    .enumerate()
    {
        let run = folder.finished(&place.to_string(), &[setting, "federation.rounds=2"]);
        run.check_finished(2);
    }
}

/// What is wrong with how `input` was refused: with one message that says all of `expected` and is no debugging output, with
/// nothing left behind.
fn complaints(folder: &Folder, input: &str, outcome: &Outcome, expected: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut require = |holds: bool, what: &str| {
        if !holds {
            found.push(format!("{input}: {what}: {}{}", outcome.stderr, outcome.stdout));
        }
    };
    require(outcome.code == Some(1), "exits with 1");
    require(outcome.stdout.is_empty(), "prints no result");
    require(
        outcome.stderr.starts_with("error: ") && outcome.stderr.matches("error: ").count() == 1,
        "one message",
    );
    for text in expected {
        require(outcome.stderr.contains(text), &format!("says `{text}`"));
    }
    for debris in ["Err(", "Some(", "RUST_BACKTRACE", "unreachable", "::"] {
        require(!outcome.stderr.contains(debris), "is no debugging output");
    }
    require(outcome.stderr.chars().count() < 500, "is short");
    let text = outcome.stderr.trim_end();
    let repeats = text
        .rsplit_once(": ")
        .is_some_and(|(before, last)| last.len() > 12 && before.contains(last));
    require(!repeats, "says it once");
    for directory in ["run", "runs"] {
        require(!folder.path(directory).exists(), "leaves no directory");
        let _ = std::fs::remove_dir_all(folder.path(directory));
    }
    found
}

#[track_caller]
fn check(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<_> = complaints.into_iter().collect();
    assert!(
        complaints.is_empty(),
        "{} complaints\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}
