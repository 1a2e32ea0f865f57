use std::path::Path;

use crate::{Experiment, FormatSettings, Overrides, PartitionSettings};

const REST: &str = r#"
[model]
kind = "softmax"
[training]
batch_size = 10
optimizer = { kind = "sgd", learning_rate = 0.1 }
[federation]
rounds = 1
cohort = 1
[privacy]
unit = "client"
trust = "central"
clip_norm = 1.0
epsilon = 8.0
delta = 1e-5
"#;

const IDX: &str = r#"format = "idx"
train = { examples = "a", labels = "b" }
test = { examples = "c", labels = "d" }
"#;

const TEXT: &str = r#"format = "text"
train = { examples = "a.tsv" }
test = { examples = "b.tsv" }
vocabulary = "words"
words = 100
max_length = 20
"#;

const CSV: &str = r#"format = "csv"
train = { examples = "a.csv" }
test = { examples = "b.csv" }
label_column = "ill"
"#;

const AGE: &str = "columns = [{ kind = \"numeric\", name = \"age\" }]\n";

const IID: &str = "partition = { kind = \"iid\", clients = 3 }\n";

fn parse(data: &str) -> Result<Experiment, String> {
    let text = format!("name = \"it\"\n[data]\n{data}{REST}");
    Experiment::parse(&text, Path::new("/data"), &Overrides::default()).map_err(|error| error.to_string())
}

#[track_caller]
fn check_refused(parts: &[&str], expected: &str) {
    assert_eq!(parse(&parts.concat()).unwrap_err(), expected);
}

#[test]
fn every_format_reads_back_to_itself() {
    let csv = r#"label_values = ["no", ["yes", "maybe"]]
class_names = ["healthy", "ill"]
delimiter = ";"
missing = ["?", ""]
column_names = ["age", "sex", "site", "ill"]
columns = [
    { name = "age", kind = "numeric", mean = 50, std_dev = 10.5, missing = 60 },
    { name = "sex", kind = "categorical", values = ["f", "m"], missing = "m" },
]
"#;
    let by_column = "partition = { kind = \"by-key\" }\ntrain.client_column = \"site\"\n";
    let csv_by_column = [CSV, csv, by_column].concat().replace(
        "train = { examples = \"a.csv\" }\n",
        "train.examples = \"a.csv\"\n",
    );
    for data in [
        [
            IDX,
            IID,
            "augmentation = { flip = true, shift = 2 }\nclasses = 10\n",
        ]
        .concat(),
        [
            TEXT,
            IID,
            "augmentation = { word_dropout = 0.1 }\nlabel_values = [\"neg\", \"pos\"]\n",
        ]
        .concat(),
        csv_by_column,
        [
            &TEXT.replace(
                "vocabulary = \"words\"\nwords = 100\n",
                "hash_buckets = 64\nidf = \"idf\"\n",
            ),
            IID,
        ]
        .concat(),
    ] {
        let experiment = parse(&data).unwrap();
        let written = experiment.to_toml();
        let again = Experiment::parse(&written, Path::new("/elsewhere"), &Overrides::default()).unwrap();
        assert_eq!(experiment, again, "{written}");
    }
}

#[test]
fn every_partition_reads_back_to_itself() {
    for partition in [
        "kind = \"dirichlet\", alpha = 0.5, clients = 3",
        "kind = \"inner-dirichlet\", alpha = 0.5, clients = 3",
        "kind = \"pathological\", labels = 2, clients = 3",
        "kind = \"quantity\", skew = \"linear\", clients = 3",
        "kind = \"quantity\", skew = \"square\", clients = 3",
        "kind = \"quantity\", skew = \"exponential\", clients = 3",
        "kind = \"quantity\", skew = \"dirichlet\", alpha = 2, clients = 3",
        "kind = \"shards\", shards_per_client = 3, clients = 3",
        "kind = \"sizes\", sizes = [3, 0, 2]",
        "kind = \"distribution\", shares = [[1, 0.5, 0], [0, 2, 1e-3]]",
        "kind = \"continuous\", clients = 3, strictness = 0.5",
        "kind = \"grouped-keys\", keys_per_client = 4",
    ] {
        let keyed = IDX.replace("labels = \"b\" }", "labels = \"b\", clients = \"keys\" }");
        let experiment = parse(&[&keyed, "partition = { ", partition, " }\n"].concat()).unwrap();
        let again = Experiment::parse(&experiment.to_toml(), Path::new("/"), &Overrides::default()).unwrap();
        assert_eq!(experiment, again, "{partition}");
    }
    let shards = parse(&[IDX, "partition = { kind = \"shards\", clients = 9 }\n"].concat()).unwrap();
    let expected = PartitionSettings::Shards {
        clients: 9,
        shards_per_client: 2,
    };
    assert_eq!(shards.data.partition, expected);
}

#[test]
fn early_stopping_reads_back_to_itself() {
    let text = [IDX, IID, "validation = { examples = \"e\", labels = \"f\" }\n"].concat();
    let text = format!("name = \"it\"\n[data]\n{text}{REST}");
    for stopping in ["{ patience = 3 }", "{ patience = 1, monitor = \"accuracy\" }"] {
        let text = text.replace(
            "rounds = 1\n",
            &format!("rounds = 1\nearly_stopping = {stopping}\n"),
        );
        let experiment = Experiment::parse(&text, Path::new("/data"), &Overrides::default()).unwrap();
        let again = Experiment::parse(&experiment.to_toml(), Path::new("/"), &Overrides::default()).unwrap();
        assert!(
            experiment == again && again.federation.early_stopping.is_some(),
            "{stopping}"
        );
    }
}

#[test]
fn defaults_are_the_plain_ones() {
    let FormatSettings::Csv(csv) = parse(&[CSV, AGE, IID].concat()).unwrap().data.format else {
        panic!("a table");
    };
    assert_eq!((csv.delimiter, csv.missing), (',', vec![String::new()]));
    let data = parse(&[TEXT, IID, "class_names = [\"bad\", \"good\"]\n"].concat())
        .unwrap()
        .data;
    assert_eq!(data.classes, Some(2));
    assert_eq!(data.train.examples, Path::new("/data/a.tsv"));
}

#[test]
fn settings_of_another_format_are_unknown() {
    check_refused(
        &[TEXT, IID, "pool = 2\n"],
        "unknown setting `data.pool`: did you mean `data.vocabulary`?",
    );
    check_refused(
        &[TEXT, IID, "max_lenght = 2\n"],
        "unknown setting `data.max_lenght`: did you mean `data.max_length`?",
    );
    check_refused(
        &[&TEXT.replace("a.tsv\"", "a.tsv\", labels = \"b\""), IID],
        "unknown setting `data.train.labels`: did you mean `data.train.clients`?",
    );
    check_refused(
        &["format = \"parquet\"\n"],
        "`data.format` must be \"csv\" or \"idx\" or \"text\", got \"parquet\"",
    );
    check_refused(
        &[IDX, IID, "augmentation = { word_dropout = 0.1 }\n"],
        "unknown setting `data.augmentation.word_dropout`: did you mean `data.augmentation.flip`?",
    );
    check_refused(
        &[CSV, AGE, IID, "augmentation = { flip = true }\n"],
        "`data.augmentation` must be absent: there is none for rows of a table, got one",
    );
}

#[test]
fn schemas_that_cannot_be_are_refused() {
    let check = |columns: &str, expected: &str| check_refused(&[CSV, IID, columns, "\n"], expected);
    check(
        "",
        "`data.columns` is missing: expected a list of the columns that are features, each with `name` and `kind`",
    );
    check(
        "columns = [{ name = \"age\", kind = \"numeric\", values = [\"1\"] }]",
        "unknown setting `data.columns[0].values`: did you mean `data.columns[0].name`?",
    );
    check(
        "columns = [{ name = \"age\", kind = \"number\" }]",
        "`data.columns[0].kind` must be \"categorical\" or \"numeric\", got \"number\"",
    );
    check(
        "columns = [{ name = \"ill\", kind = \"numeric\" }]",
        "`data.columns` must be columns without the one of labels, which the model is to predict, got `ill`",
    );
    check(
        "columns = [{ name = \"a\", kind = \"numeric\" }, { name = \"a\", kind = \"numeric\" }]",
        "`data.columns` must be columns of different names, got `a` twice",
    );
    check(
        "columns = [{ name = \"a\", kind = \"numeric\", std_dev = 0 }]",
        "`data.columns[0].std_dev` must be a finite number above 0, got 0.0",
    );
    check(
        "columns = [{ name = \"a\", kind = \"categorical\", values = [\"x\", \"x\"] }]",
        "`data.columns[0].values` must be a list of different texts, one for each category, got [\"x\", \"x\"]",
    );
    check(
        "columns = [{ name = \"a\", kind = \"categorical\", values = [\"x\"], missing = \"y\" }]",
        "`data.columns[0].missing` must be one of `values`, got \"y\"",
    );
    check_refused(
        &[CSV, AGE, IID, "delimiter = \"ab\"\n"],
        "`data.delimiter` must be one ASCII character that is no quote and no line end, got \"ab\"",
    );
}

#[test]
fn numbers_of_classes_must_agree() {
    check_refused(
        &[TEXT, IID, "classes = 3\nlabel_values = [\"a\", \"b\"]\n"],
        "`data.classes` and `data.label_values` exclude each other: the one speaks of 3 classes, the other of 2",
    );
    check_refused(
        &[IDX, IID, "class_names = [\"a\"]\n"],
        "`data.class_names` must be at least 2 classes, got 1",
    );
    let expected = "`data.label_values` must be a list with the text of each class, or with the list of texts that mean it; no \
                    text twice, got [[\"a\"], [\"b\", \"a\"]]";
    check_refused(&[TEXT, IID, "label_values = [\"a\", [\"b\", \"a\"]]\n"], expected);
}

#[test]
fn client_keys_come_from_a_file_or_from_a_column() {
    let by_key = "partition = { kind = \"by-key\" }\n";
    check_refused(
        &[IDX, by_key],
        "`data.train.clients` is missing: expected a table that names the client of each example, which partition \"by-key\" needs",
    );
    check_refused(
        &[TEXT, by_key],
        "`data.train.clients` is missing: expected a table that names the client of each example, or `data.train.client_column`, \
         which partition \"by-key\" needs",
    );
    check_refused(
        &[
            &IDX.replace("labels = \"b\"", "labels = \"b\", client_column = \"x\""),
            IID,
        ],
        "`data.train.clients` is missing: expected the table that has the column `client_column`, as for partition \"by-key\"",
    );
    let column = TEXT.replace("a.tsv\"", "a.tsv\", client_column = \"movie\"");
    assert!(parse(&[&column, by_key].concat()).unwrap().data.has_client_keys());
    check_refused(
        &[
            IDX,
            "partition = { kind = \"quantity\", skew = \"linear\", alpha = 1, clients = 2 }\n",
        ],
        "`data.partition.alpha` and `data.partition.skew` exclude each other: only skew \"dirichlet\" has one; remove it",
    );
}

/// Whether their data are there or not.
#[test]
fn every_experiment_of_the_examples_is_read() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut n_experiments = 0;
    for folder in std::fs::read_dir(&examples).unwrap() {
        let folder = folder.unwrap().path();
        for file in std::fs::read_dir(&folder).into_iter().flatten() {
            let file = file.unwrap().path();
            let is_settings = file.extension().is_some_and(|extension| extension == "toml");
            let text = is_settings.then(|| std::fs::read_to_string(&file).unwrap());
            // Servers and clients have files of another kind.
            if let Some(text) = text.filter(|text| text.contains("[privacy]")) {
                let read = Experiment::parse(&text, &folder, &Overrides::default());
                let again = read.map(|experiment| {
                    Experiment::parse(&experiment.to_toml(), Path::new("/"), &Overrides::default())
                        == Ok(experiment)
                });
                assert_eq!(again, Ok(true), "{}", file.display());
                n_experiments += 1;
            }
        }
    }
    assert!(n_experiments >= 10, "{n_experiments}");
}
