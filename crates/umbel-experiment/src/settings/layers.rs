//! Merges the layers of settings: the file, then the environment, then the command line.

use toml::{Table, Value};

use super::section::SettingError;

/// Settings of which one replaces the others when it comes from a higher layer.
const ALTERNATIVES: [(&str, &[&str]); 11] = [
    ("data.hash_buckets", &["data.vocabulary", "data.words"]),
    ("data.vocabulary", &["data.hash_buckets"]),
    ("data.words", &["data.hash_buckets"]),
    (
        "privacy.dangerous_no_noise",
        &[
            "privacy.epsilon",
            "privacy.noise_multiplier",
            "privacy.max_epsilon",
        ],
    ),
    (
        "privacy.epsilon",
        &[
            "privacy.noise_multiplier",
            "privacy.dangerous_no_noise",
            "privacy.max_epsilon",
        ],
    ),
    (
        "privacy.noise_multiplier",
        &["privacy.epsilon", "privacy.dangerous_no_noise"],
    ),
    ("training.batch_size", PRIVATE_STEPS),
    ("training.divisor", EPOCHS),
    ("training.epochs", PRIVATE_STEPS),
    ("training.sampling_rate", EPOCHS),
    ("training.steps", EPOCHS),
];

/// How a client goes through its examples: in epochs, or in steps with batches by coins.
const EPOCHS: &[&str] = &["training.batch_size", "training.epochs"];
const PRIVATE_STEPS: &[&str] = &["training.divisor", "training.sampling_rate", "training.steps"];

/// The kinds that a table may have, each with the keys that it knows.
type Kinds = [(&'static str, &'static [&'static str])];

/// Tables with a `kind`, and the keys that each kind has.
pub(super) const DATA_PARTITION: &Kinds = &[
    ("by-key", &["max_examples"]),
    ("continuous", &["clients", "strictness"]),
    ("dirichlet", &["alpha", "clients"]),
    ("distribution", &["shares"]),
    ("grouped-keys", &["keys_per_client"]),
    ("iid", &["clients"]),
    ("inner-dirichlet", &["alpha", "clients"]),
    ("pathological", &["clients", "labels"]),
    ("quantity", &["alpha", "clients", "skew"]),
    ("shards", &["clients", "shards_per_client"]),
    ("sizes", &["sizes"]),
];
/// The formats of `data`.
pub(super) const DATA: &Kinds = &[
    (
        "csv",
        &[
            "augmentation",
            "class_names",
            "classes",
            "column_names",
            "columns",
            "delimiter",
            "label_column",
            "label_values",
            "missing",
            "partition",
            "test",
            "train",
            "validation",
        ],
    ),
    (
        "idx",
        &[
            "augmentation",
            "class_names",
            "classes",
            "mean",
            "partition",
            "pool",
            "std_dev",
            "test",
            "train",
            "validation",
        ],
    ),
    (
        "text",
        &[
            "augmentation",
            "class_names",
            "classes",
            "hash_buckets",
            "idf",
            "label_values",
            "max_length",
            "partition",
            "test",
            "train",
            "validation",
            "vocabulary",
            "words",
        ],
    ),
];
/// The kinds of `data.columns`.
pub(super) const DATA_COLUMN: &Kinds = &[
    ("categorical", &["missing", "name", "values"]),
    ("numeric", &["mean", "missing", "name", "std_dev"]),
];
pub(super) const MODEL: &Kinds = &[
    ("bag-of-words", &[]),
    ("cnn", &["activation", "dropout", "filters", "hidden", "kernel"]),
    ("lstm", &["embedding", "units"]),
    ("mlp", &["activation", "dropout", "hidden", "loss"]),
    ("softmax", &[]),
    ("text-pool", &["dropout", "embedding", "hidden"]),
    ("transformer", &["heads", "hidden", "layers", "width"]),
];
pub(super) const OPTIMIZER: &Kinds = &[
    ("adam", &["beta_1", "beta_2", "epsilon", "learning_rate"]),
    (
        "adamw",
        &["beta_1", "beta_2", "epsilon", "learning_rate", "weight_decay"],
    ),
    ("sgd", &["learning_rate", "momentum"]),
];
pub(super) const STRATEGY: &Kinds = &[
    ("fedadagrad", &["beta_1", "learning_rate", "tau"]),
    ("fedadam", &["beta_1", "beta_2", "learning_rate", "tau"]),
    ("fedavg", &[]),
    ("fedavgm", &["learning_rate", "momentum"]),
    ("fedprox", &["mu"]),
    ("fedyogi", &["beta_1", "beta_2", "learning_rate", "tau"]),
];
pub(super) const CLIP_NORM: &Kinds = &[
    (
        "adaptive",
        &[
            "count_std_dev",
            "initial",
            "largest",
            "learning_rate",
            "quantile",
            "smallest",
        ],
    ),
    ("per-layer", &["norm"]),
];
pub(super) const MECHANISM: &Kinds = &[
    (
        "dp-ftrl",
        &[
            "amplified",
            "bands",
            "buffers",
            "participations",
            "separation",
            "strategy",
        ],
    ),
    ("gaussian", &[]),
];
const KINDS: [(&str, &Kinds); 6] = [
    ("data.partition", DATA_PARTITION),
    ("federation.strategy", STRATEGY),
    ("model", MODEL),
    ("privacy.clip_norm", CLIP_NORM),
    ("privacy.mechanism", MECHANISM),
    ("training.optimizer", OPTIMIZER),
];

/// Sections whose settings the environment may hold.
const SECTIONS: [&str; 6] = [
    "data",
    "federation",
    "model",
    "privacy",
    "secure_aggregation",
    "training",
];

/// Puts one setting of a higher layer into `table`. It replaces its alternative; a new `kind` drops the keys that only the
/// old kind had.
pub(super) fn override_setting(table: &mut Table, path: &str, value: Value) -> Result<(), SettingError> {
    if path.is_empty() || path.split('.').any(str::is_empty) {
        return Err(SettingError::Value {
            key: "--set".to_owned(),
            expected: "a name such as `privacy.epsilon`".to_owned(),
            got: format!("`{path}`"),
        });
    }
    if value != Value::Boolean(false) {
        for (_, replaced) in ALTERNATIVES.iter().filter(|(name, _)| *name == path) {
            replaced.iter().for_each(|other| remove(table, other));
        }
    }
    if let Some(owner) = path.strip_suffix(".kind") {
        let kinds = KINDS
            .iter()
            .find(|(name, _)| *name == owner)
            .map_or(&[][..], |(_, kinds)| kinds);
        let keys = |kind: Option<&Value>| {
            let kind = kind.and_then(Value::as_str).unwrap_or_default();
            kinds
                .iter()
                .find(|(name, _)| *name == kind)
                .map_or(&[][..], |(_, keys)| keys)
        };
        let old = find(table, owner).and_then(|value| value.get("kind"));
        let (old, new) = (keys(old), keys(Some(&value)));
        for key in old.iter().filter(|key| !new.contains(key)) {
            remove(table, &format!("{owner}.{key}"));
        }
    }
    let (parents, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut place = table;
    for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
        let next = place.entry(parent).or_insert_with(|| Value::Table(Table::new()));
        place = match next {
            Value::Table(next) => next,
            other => {
                return Err(SettingError::Value {
                    key: path.to_owned(),
                    expected: format!("a setting inside a table, but `{parent}` is none"),
                    got: other.to_string(),
                });
            }
        };
    }
    place.insert(key.to_owned(), value);
    Ok(())
}

/// The settings that the environment holds, in a fixed order: `UMBEL_NAME`, `UMBEL_SEED`, and for a section
/// `UMBEL_PRIVACY_EPSILON`; deeper keys after two underscores, as in `UMBEL_TRAINING_OPTIMIZER__LEARNING_RATE`.
/// Other variables that begin with `UMBEL_` are no settings.
/// Of two alternatives neither is higher than the other here, so both are an error.
pub(super) fn environment(
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Vec<(String, String)>, SettingError> {
    let mut settings: Vec<_> = variables
        .filter_map(|(variable, value)| {
            let name = variable.strip_prefix("UMBEL_")?.to_ascii_lowercase();
            if name == "name" || name == "seed" {
                return Some((name, value));
            }
            let section = SECTIONS.iter().find(|section| {
                name.strip_prefix(**section)
                    .is_some_and(|rest| rest.starts_with('_'))
            })?;
            let key = name[section.len()..].trim_start_matches('_').replace("__", ".");
            Some((format!("{section}.{key}"), value))
        })
        .collect();
    settings.sort();
    let has = |path: &str| settings.iter().any(|(name, _)| name == path);
    for (name, replaced) in ALTERNATIVES {
        if let Some(other) = replaced.iter().find(|other| has(name) && has(other)) {
            return Err(SettingError::Conflict {
                first: name.to_owned(),
                second: (*other).to_owned(),
                reason: "both are in the environment; remove one".to_owned(),
            });
        }
    }
    Ok(settings)
}

/// A value from the environment or the command line: a TOML value, else a string.
pub(super) fn parse_value(text: &str) -> Value {
    let document = format!("value = {text}");
    match document.parse::<Table>() {
        Ok(mut table) if table.len() == 1 => table
            .remove("value")
            .unwrap_or_else(|| Value::String(text.to_owned())),
        _ => Value::String(text.to_owned()),
    }
}

fn find<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let mut names = path.split('.');
    let first = table.get(names.next()?)?;
    names.try_fold(first, |value, name| value.get(name))
}

fn remove(table: &mut Table, path: &str) {
    match path.split_once('.') {
        None => drop(table.remove(path)),
        Some((parent, rest)) => {
            if let Some(Value::Table(inner)) = table.get_mut(parent) {
                remove(inner, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, overrides: &[(&str, &str)], expected: &str) {
        let mut table: Table = file.parse().unwrap();
        for (path, value) in overrides {
            override_setting(&mut table, path, parse_value(value)).unwrap();
        }
        assert_eq!(table, expected.parse().unwrap());
    }

    #[test]
    fn a_higher_layer_replaces_the_alternative() {
        let file = "[privacy]\nepsilon = 8.0\ndelta = 1e-5";
        check(
            file,
            &[("privacy.noise_multiplier", "1.5")],
            "[privacy]\nnoise_multiplier = 1.5\ndelta = 1e-5",
        );
        check(
            file,
            &[("privacy.dangerous_no_noise", "true")],
            "[privacy]\ndangerous_no_noise = true\ndelta = 1e-5",
        );
        check(
            file,
            &[("privacy.dangerous_no_noise", "false")],
            "[privacy]\ndangerous_no_noise = false\nepsilon = 8.0\ndelta = 1e-5",
        );
        let file = "[privacy]\nnoise_multiplier = 1\nmax_epsilon = 3";
        check(file, &[("privacy.epsilon", "2")], "[privacy]\nepsilon = 2");
    }

    #[test]
    fn a_new_kind_drops_what_only_the_old_one_had() {
        let file = "[data.partition]\nkind = \"dirichlet\"\nalpha = 0.5\nclients = 10";
        check(
            file,
            &[("data.partition.kind", "iid")],
            "[data.partition]\nkind = \"iid\"\nclients = 10",
        );
        check(
            "model = { kind = \"mlp\", hidden = [3] }",
            &[("model.kind", "\"softmax\"")],
            "model.kind = \"softmax\"",
        );
    }

    #[test]
    fn values_are_toml_or_else_text() {
        for (text, value) in [
            ("1.5", Value::Float(1.5)),
            ("7", Value::Integer(7)),
            ("true", Value::Boolean(true)),
            ("\"a b\"", Value::String("a b".into())),
            ("by-key", Value::String("by-key".into())),
            ("1\nname = 2", Value::String("1\nname = 2".into())),
            ("", Value::String(String::new())),
        ] {
            assert_eq!(parse_value(text), value, "{text}");
        }
        assert!(matches!(parse_value("[1, 2]"), Value::Array(_)));
        assert!(parse_value("nan").as_float().unwrap().is_nan());
    }

    #[test]
    fn the_environment_names_settings() {
        let variables = [
            ("UMBEL_SEED", "3"),
            ("UMBEL_PRIVACY_NOISE_MULTIPLIER", "1.1"),
            ("UMBEL_TRAINING_OPTIMIZER__LEARNING_RATE", "0.1"),
            ("UMBEL_SECURE_AGGREGATION_ENABLED", "false"),
            ("UMBEL_HOME", "x"),
            ("HOME", "y"),
        ];
        let found = environment(
            variables
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        )
        .unwrap();
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "privacy.noise_multiplier",
            "secure_aggregation.enabled",
            "seed",
            "training.optimizer.learning_rate",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn alternatives_in_the_environment_are_refused() {
        let check =
            |names: [&str; 2]| environment(names.into_iter().map(|name| (name.to_owned(), "1".to_owned())));
        let error = check(["UMBEL_PRIVACY_EPSILON", "UMBEL_PRIVACY_NOISE_MULTIPLIER"]).unwrap_err();
        assert!(
            error.to_string().contains("both are in the environment"),
            "{error}"
        );
        assert!(check(["UMBEL_PRIVACY_MAX_EPSILON", "UMBEL_PRIVACY_NOISE_MULTIPLIER"]).is_ok());
    }

    #[test]
    fn a_setting_inside_a_number_is_refused() {
        let mut table: Table = "[privacy]\nclip_norm = 1.0".parse().unwrap();
        let error =
            override_setting(&mut table, "privacy.clip_norm.kind", Value::String("x".into())).unwrap_err();
        assert!(error.to_string().contains("`clip_norm` is none"), "{error}");
    }
}
