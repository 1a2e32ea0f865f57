//! Texts and tables from file to prediction, who holds what, and files that are not what they should be.

use serde_json::Value;

use crate::support::{Folder, gzip};

const REST: &str = r#"
[model]
kind = "softmax"

[training]
batch_size = 4
optimizer = { kind = "sgd", learning_rate = 0.1 }

[federation]
rounds = 8
cohort = 5

[privacy]
unit = "client"
trust = "central"
clip_norm = 0.5
dangerous_no_noise = true
delta = 1e-3
"#;

const TABLE: &str = r#"
name = "table"
seed = 3

[data]
format = "csv"
train = { examples = "rows.csv.gz", client_column = "site" }
test = { examples = "test.csv" }
label_column = "ill"
label_values = ["no", ["yes", "maybe"]]
class_names = ["healthy", "ill"]
missing = ["?"]
columns = [
    { name = "age", kind = "numeric", mean = 50, std_dev = 10, missing = 50 },
    { name = "sex", kind = "categorical", values = ["f", "m"] },
]
partition = { kind = "by-key" }
"#;

const TEXTS: &str = r#"
name = "texts"
seed = 3

[data]
format = "text"
train = { examples = "texts.tsv" }
test = { examples = "test.tsv" }
vocabulary = "words"
words = 10
max_length = 6
label_values = ["bad", "good"]
partition = { kind = "iid", clients = 10 }
"#;

/// The label of a row is that its age is above 50; two sites, and sex says nothing.
fn rows(n_rows: usize) -> String {
    let row = |row: usize| {
        let (site, sex) = (["north", "south"][row % 2], ["f", "m"][row / 2 % 2]);
        match (row % 20, row % 3) {
            (7, _) => format!("{site},?,{sex},no\n"),
            (_, 0) => format!("{site},{},{sex},yes\n", 61 + row % 7),
            (_, 1) => format!("\"{site}\", {} ,{sex},maybe\n", 62 + row % 5),
            _ => format!("{site},{},{sex},no\n", 31 + row % 9),
        }
    };
    let header = "site,age,sex,ill\n".to_owned();
    std::iter::once(header).chain((0..n_rows).map(row)).collect()
}

fn table() -> Folder {
    let folder = Folder::new();
    folder.write(
        "experiment.toml",
        format!("{TABLE}{REST}")
            .replace("cohort = 5", "cohort = 2")
            .as_bytes(),
    );
    folder.write("rows.csv.gz", &gzip(rows(200).as_bytes()));
    folder.write("test.csv", rows(60).as_bytes());
    folder
}

/// Good texts have more good words than bad ones.
fn texts() -> Folder {
    let folder = Folder::new();
    let rest = REST.replace("kind = \"softmax\"", "kind = \"text-pool\"\nembedding = 2");
    folder.write("experiment.toml", format!("{TEXTS}{rest}").as_bytes());
    let rows: String = (0..100)
        .map(|row| match row % 2 {
            0 => "good\tGood, good film!\n",
            _ => "bad\ta bad bad (boring) film\n",
        })
        .collect();
    folder.write("texts.tsv", rows.as_bytes());
    folder.write("test.tsv", rows.as_bytes());
    folder.write("words", b"good\nbad\nfilm\n");
    folder
}

#[test]
fn a_table_is_trained_on_and_predicted() {
    let folder = table();
    let summary = folder.finished("run", &[]).summary();
    assert_eq!(summary["clients"], 2);
    assert!(summary["final"]["accuracy"].as_f64().unwrap() > 0.9, "{summary}");

    let predict = |input: &str| {
        let outcome = folder
            .umbel()
            .args(&["predict", "--model", "run", "--input", input, "--json"])
            .run();
        serde_json::from_str::<Value>(&outcome.success().stdout).unwrap()
    };
    let labelled = predict("test.csv");
    assert_eq!(labelled["accuracy"], summary["final"]["accuracy"]);
    folder.write("new.csv", b"sex,age\nf,70\nm,20\nf,?\n");
    let new = predict("new.csv");
    assert_eq!(new["accuracy"], Value::Null);
    let classes: Vec<&str> = new["predictions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["class"].as_str().unwrap())
        .collect();
    assert_eq!(classes[..2], ["ill", "healthy"]);
    let sum: f64 = new["predictions"][0]["probabilities"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_f64().unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-5);

    let shown = folder
        .umbel()
        .args(&["predict", "--model", "run", "--input", "new.csv"])
        .run()
        .success()
        .stdout;
    assert!(
        shown.starts_with("example  class") && shown.contains("      0  ill "),
        "{shown}"
    );
}

#[test]
fn texts_are_trained_on_and_predicted_without_the_original_vocabulary() {
    let folder = texts();
    folder.finished("run", &["data.augmentation.word_dropout=0.1"]);
    std::fs::remove_file(folder.path("words")).unwrap();
    folder.write("new.txt", b"A good film, good.\nbad film: bad\n");
    let outcome = folder
        .umbel()
        .args(&["predict", "--model", "run", "--input", "new.txt"])
        .run()
        .success();
    assert_eq!(outcome.stdout.lines().count(), 3, "{}", outcome.stdout);
    let outcome = folder
        .umbel()
        .args(&["predict", "--model", "run", "--input", "test.tsv"])
        .run()
        .success();
    assert!(outcome.stdout.contains("accuracy "), "{}", outcome.stdout);
}

/// Without any list of words: each is known by its hash. Weights of words come from a public file, which predictions need too.
#[test]
fn hashed_words_are_trained_on_and_predicted() {
    let folder = texts();
    folder.write("idf", b"word\tidf\na\t0.1\nfilm\t0.2\ngood\t3\n");
    let settings = [
        "data.hash_buckets=50",
        "data.idf=idf",
        "model={kind=\"bag-of-words\"}",
    ];
    let run = folder.finished("run", &settings);
    let summary = run.summary();
    assert_eq!(summary["model"]["parameters"], 55);
    assert!(summary["final"]["accuracy"].as_f64().unwrap() > 0.9, "{summary}");
    assert!(run.has("idf") && !run.has("vocabulary"));
    for file in ["idf", "words"] {
        std::fs::remove_file(folder.path(file)).unwrap();
    }
    let outcome = folder
        .umbel()
        .args(&["predict", "--model", "run", "--input", "test.tsv"])
        .run()
        .success();
    assert!(outcome.stdout.contains("accuracy 1.0000"), "{}", outcome.stdout);

    let folder = texts();
    folder.write("idf", b"good\t3\nbad\t-3\n");
    for (settings, words) in [
        (
            &["data.idf=idf", "model={kind=\"bag-of-words\"}"][..],
            &["`idf`, line 2", "finite number above 0", "`-3`"][..],
        ),
        (
            &["data.hash_buckets=1", "model={kind=\"bag-of-words\"}"],
            &["data.hash_buckets", "at least 2"],
        ),
    ] {
        let message = folder.simulate("refused", settings).run();
        let message = message
            .failure(1)
            .replace(folder.root().to_str().unwrap(), "")
            .replace("`/idf`", "`idf`");
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
    folder.write("idf", b"good\t3\n");
    let outcome = folder.simulate("refused", &["data.idf=idf"]).run();
    assert!(outcome.failure(1).contains("the model `bag-of-words`"));
    folder.edit("words = 10", "words = 10\nhash_buckets = 50");
    let outcome = folder.simulate("refused", &[]).run();
    assert!(outcome.failure(1).contains("exclude each other"));
}

#[test]
fn images_are_predicted_and_others_refused() {
    let folder = Folder::new();
    folder.finished("run", &[]);
    let predict = |input: &str| {
        folder
            .umbel()
            .args(&["predict", "--model", "run", "--input", input])
            .run()
    };
    assert_eq!(predict("data/test-images").success().stdout.lines().count(), 201);
    folder.write("small", &crate::support::idx(&[1, 3, 2], &[0; 6]));
    for (input, expected) in [
        (
            "small",
            "`small` has examples of 3 × 2 values, but the model was trained with 8 × 8",
        ),
        ("data/train-labels", "examples need at least two dimensions"),
        ("experiment.toml", "not an IDX file"),
        ("absent", "No such file"),
    ] {
        let outcome = predict(input);
        assert!(outcome.stderr.contains(expected), "{input}: {}", outcome.stderr);
        assert_eq!(outcome.code, Some(1), "{input}");
    }
    let outcome = folder
        .umbel()
        .args(&["predict", "--model", "data", "--input", "small"])
        .run();
    assert!(outcome.stderr.contains("experiment.toml"), "{}", outcome.stderr);
}

#[test]
fn who_holds_what_is_shown_as_what_no_epsilon_covers() {
    let folder = Folder::new();
    let shards = [
        "--set",
        "data.partition.kind=shards",
        "--set",
        "data.partition.clients=20",
    ];
    let partition = |more: &[&str]| {
        let umbel = folder
            .umbel()
            .args(&["data", "partition", "experiment.toml"])
            .args(&shards);
        umbel.args(more).run().success().stdout
    };
    let shown = partition(&["--out", "shards.html"]);
    assert!(
        shown.contains("Seen by the simulator only, not covered by ε"),
        "{shown}"
    );
    assert!(shown.contains("shards: 20 clients, 480 examples"), "{shown}");
    let page = String::from_utf8(folder.read("shards.html")).unwrap();
    assert!(page.contains("Seen by the simulator only, not covered by ε") && page.contains("<svg"));
    let json: Value = serde_json::from_str(&partition(&["--json"])).unwrap();
    assert_eq!(json["simulator_only"]["covered_by_epsilon"], false);
    let labels = json["simulator_only"]["partition"]["labels"].as_array().unwrap();
    assert_eq!(
        (labels.len(), json["client_names"].as_array().unwrap().len()),
        (20, 20)
    );
    // The run itself holds the same.
    let run = folder.finished(
        "run",
        &["data.partition.kind=shards", "data.partition.clients=20"],
    );
    assert_eq!(
        run.summary()["simulator_only"]["partition"],
        json["simulator_only"]["partition"]
    );
}

#[test]
fn data_sets_are_listed_and_checked() {
    let folder = Folder::new();
    let run = |args: &[&str]| folder.umbel().args(&["data"]).args(args).run();
    let list: Value = serde_json::from_str(&run(&["list", "--json"]).success().stdout).unwrap();
    assert!(list.as_array().unwrap().iter().any(|set| set["name"] == "mnist"));
    assert!(
        run(&["fetch", "imdb"])
            .success()
            .stdout
            .contains("ai.stanford.edu")
    );
    let unknown = run(&["fetch", "cifar"]);
    assert!(
        unknown.stderr.contains("no data set `cifar`; there are adult"),
        "{}",
        unknown.stderr
    );
    assert_eq!(unknown.code, Some(2));
    folder.write("data/train-images-idx3-ubyte.gz", b"something else");
    let other = run(&["fetch", "mnist", "--from", "data", "--to", "copy"]);
    assert!(
        other.stderr.contains("it is another file, or damaged"),
        "{}",
        other.stderr
    );
    assert!(!folder.path("copy").exists());
}

/// A file, what stands in it instead, and what the message must say.
#[track_caller]
fn check_refused(folder: &Folder, cases: &[(&str, &[u8], &[&str])]) {
    for (name, content, expected) in cases {
        let before = folder.read(name);
        folder.write(name, content);
        let outcome = folder.simulate("run", &[]).run();
        folder.write(name, &before);
        let missing: Vec<_> = expected
            .iter()
            .filter(|text| !outcome.stderr.contains(**text))
            .collect();
        assert!(
            missing.is_empty() && outcome.code == Some(1),
            "{name}: {missing:?} not in {}",
            outcome.stderr
        );
        assert!(!folder.path("run").exists(), "{name}: nothing is left behind");
    }
}

#[test]
fn bad_tables_are_refused_with_file_line_and_reason() {
    let packed = gzip(rows(200).as_bytes());
    check_refused(
        &table(),
        &[
            (
                "rows.csv.gz",
                b"site,age,sex,ill\nnorth,50,f\n",
                &["rows.csv.gz`, line 2", "4 comma-separated fields, got 3"],
            ),
            (
                "rows.csv.gz",
                b"site,age,sex,ill\nnorth,50,x,no\n",
                &["line 2", "`sex` must be `f` or `m`, got `x`"],
            ),
            (
                "rows.csv.gz",
                b"site,age,sex,ill\nnorth,50,f,2\n",
                &["line 2", "`ill` must be `no`, `yes` or `maybe`, got `2`"],
            ),
            (
                "rows.csv.gz",
                b"site,age,sex,ill\nnorth,5o,f,no\n",
                &["line 2", "`age` must be a finite number, got `5o`"],
            ),
            (
                "rows.csv.gz",
                b"site,age,sex,ill\nnorth,50,?,no\n",
                &["line 2", "`sex` is missing (`?`)", "declare its `missing`"],
            ),
            (
                "rows.csv.gz",
                b"site,age,sex,ill\n,50,f,no\n",
                &["line 2", "the column `site` is empty"],
            ),
            (
                "rows.csv.gz",
                b"site,age,sex,ill\n\xff,50,f,no\n",
                &["line 2", "not UTF-8"],
            ),
            ("rows.csv.gz", b"site,age,ill\n", &["line 1", "no column `sex`"]),
            (
                "rows.csv.gz",
                b"site,age,sex,ill\n",
                &["rows.csv.gz` has no examples"],
            ),
            ("rows.csv.gz", b"", &["rows.csv.gz`", "the file is empty"]),
            (
                "rows.csv.gz",
                &packed[..packed.len() / 2],
                &["rows.csv.gz`", "the gzip data ends too early"],
            ),
            (
                "test.csv",
                b"age,sex\n50,f\n",
                &["test.csv`, line 1", "no column `ill`"],
            ),
        ],
    );
}

#[test]
fn bad_texts_are_refused_with_file_line_and_reason() {
    check_refused(
        &texts(),
        &[
            (
                "texts.tsv",
                b"good\ta\nb\n",
                &["texts.tsv`, line 2", "2 tab-separated fields, got 1"],
            ),
            (
                "texts.tsv",
                b"good\ta\nfine\tb\n",
                &[
                    "texts.tsv`, line 2",
                    "`label` must be `bad` or `good`, got `fine`",
                ],
            ),
            ("texts.tsv", b"good\t\xff\n", &["texts.tsv`, line 1", "not UTF-8"]),
            ("texts.tsv", b"", &["texts.tsv`", "the file is empty"]),
            (
                "words",
                b"a\nb\na\n",
                &["words`, line 3", "the word `a` stands in line 1 already"],
            ),
            (
                "words",
                b"a\t1\nb\t1\n",
                &["words`, line 2", "the rank 1 stands in line 1 already"],
            ),
            ("words", b"", &["words`", "the file is empty"]),
            ("words", b"a\n\xfe\n", &["words`, line 2", "not UTF-8"]),
        ],
    );
}
