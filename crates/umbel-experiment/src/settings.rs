//! The experiment file: settings as text, merged from their layers and checked once.

mod data;
mod layers;
mod partition;
mod privacy;
mod section;

use std::path::Path;

use toml::{Table, Value};

pub use self::data::{
    AugmentationSettings, ColumnSettings, CsvSettings, DataFiles, DataSettings, FormatSettings, TextSettings,
};
use self::layers::{MODEL, OPTIMIZER, STRATEGY};
pub use self::partition::{PartitionSettings, QuantitySettings};
use self::privacy::privacy;
pub use self::privacy::{FtrlStrategy, MechanismSettings, NoiseLevel, NoiseSampler, PrivacySettings};
use self::section::Section;
pub use self::section::SettingError;

/// A checked experiment: everything that a run depends on, besides the data files' content.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// Name of the run: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Seed of the simulation; drawn by the system where the file has none.
    pub seed: Option<u64>,
    /// What is trained on.
    pub data: DataSettings,
    /// What is trained.
    pub model: ModelSettings,
    /// What a client does with its own data.
    pub training: TrainingSettings,
    /// Rounds and cohorts.
    pub federation: FederationSettings,
    /// What is promised.
    pub privacy: PrivacySettings,
}

/// `[model]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelSettings {
    /// Layers of rectified linear units.
    Mlp {
        /// Width of each hidden layer.
        hidden: Vec<usize>,
    },
    /// Multinomial logistic regression.
    Softmax,
}

/// `[training]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingSettings {
    /// Passes over the client's examples in one round.
    pub epochs: usize,
    /// Examples in one step.
    pub batch_size: usize,
    /// Step size of stochastic gradient descent.
    pub learning_rate: f64,
}

/// `[federation]`.
#[derive(Debug, Clone, PartialEq)]
pub struct FederationSettings {
    /// Declared number of clients, a public planning number that does not follow who is there; absent means as many as the
    /// partition has.
    pub clients: Option<u64>,
    /// How many rounds.
    pub rounds: u64,
    /// Expected cohort size, public; the divisor.
    pub cohort: f64,
    /// What the server does with releases.
    pub strategy: StrategySettings,
}

/// `[federation.strategy]`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum StrategySettings {
    /// Adaptive moments.
    FedAdam {
        /// Server step size.
        learning_rate: f64,
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Degree of adaptivity.
        tau: f64,
    },
    /// The plain mean.
    FedAvg,
}

/// Settings of a higher layer than the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Environment variables, as name and value; those that name no setting are passed over.
    pub environment: Vec<(String, String)>,
    /// `section.key=value` as given on the command line.
    pub settings: Vec<String>,
    /// `--seed`.
    pub seed: Option<u64>,
}

impl Experiment {
    /// Reads an experiment: `text` is the file's content, `directory` the folder that relative paths count from.
    pub fn parse(text: &str, directory: &Path, overrides: &Overrides) -> Result<Self, SettingError> {
        let mut table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| SettingError::Syntax(error.to_string()))?;
        for (path, value) in layers::environment(overrides.environment.iter().cloned())? {
            layers::override_setting(&mut table, &path, layers::parse_value(&value))?;
        }
        for setting in &overrides.settings {
            let Some((path, value)) = setting.split_once('=') else {
                return Err(SettingError::Value {
                    key: "--set".to_owned(),
                    expected: "section.key=value".to_owned(),
                    got: format!("`{setting}`"),
                });
            };
            layers::override_setting(&mut table, path.trim(), layers::parse_value(value.trim()))?;
        }
        let known = [
            "data",
            "federation",
            "model",
            "name",
            "privacy",
            "secure_aggregation",
            "seed",
            "training",
        ];
        let mut root = Section::new("", table, &known)?;
        let name = name(&mut root)?;
        let seed = root.count("seed", 0)?;
        let data = data::read(&mut root, directory)?;
        let model = model(&mut root)?;
        let training = training(&mut root)?;
        let federation = federation(&mut root)?;
        let privacy = privacy(&mut root)?;
        secure_aggregation(&mut root)?;
        Ok(Self {
            name,
            seed: overrides.seed.or(seed),
            data,
            model,
            training,
            federation,
            privacy,
        })
    }

    /// The experiment as resolved: every setting written out, with absolute paths. Reads back to itself.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: Value| text.push_str(&format!("{key} = {value}\n"));
        line("name", self.name.as_str().into());
        if let Some(seed) = self.seed {
            line("seed", whole(seed));
        }
        let mut section = |heading: &str, pairs: Vec<(&str, Value)>| {
            text.push_str(&format!("\n[{heading}]\n"));
            for (key, value) in pairs {
                text.push_str(&format!("{key} = {value}\n"));
            }
        };
        section("data", self.data.to_pairs());
        section("data.partition", self.data.partition.to_pairs());
        section("model", self.model.to_pairs());
        let sgd = [
            ("kind".to_owned(), "sgd".into()),
            ("learning_rate".to_owned(), self.training.learning_rate.into()),
        ];
        section(
            "training",
            vec![
                ("epochs", whole(self.training.epochs as u64)),
                ("batch_size", whole(self.training.batch_size as u64)),
                ("optimizer", Value::Table(sgd.into_iter().collect())),
            ],
        );
        let mut federation: Vec<_> = self
            .federation
            .clients
            .map(|clients| ("clients", whole(clients)))
            .into_iter()
            .collect();
        federation.extend([
            ("rounds", whole(self.federation.rounds)),
            ("cohort", self.federation.cohort.into()),
            ("strategy", self.federation.strategy.to_value()),
        ]);
        section("federation", federation);
        section("privacy", self.privacy.to_pairs());
        section("secure_aggregation", vec![("enabled", false.into())]);
        text
    }
}

/// A whole number as TOML. Counts come from TOML's own 63 bits, or from a seed that was drawn within them.
fn whole(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

impl ModelSettings {
    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mlp { .. } => "mlp",
            Self::Softmax => "softmax",
        }
    }

    fn to_pairs(&self) -> Vec<(&'static str, Value)> {
        let mut pairs = vec![("kind", self.kind().into())];
        if let Self::Mlp { hidden } = self {
            pairs.push((
                "hidden",
                Value::Array(hidden.iter().map(|width| whole(*width as u64)).collect()),
            ));
        }
        pairs
    }
}

impl StrategySettings {
    fn to_value(self) -> Value {
        let pairs: Vec<(&str, Value)> = match self {
            Self::FedAdam {
                learning_rate,
                beta_1,
                beta_2,
                tau,
            } => vec![
                ("kind", "fedadam".into()),
                ("learning_rate", learning_rate.into()),
                ("beta_1", beta_1.into()),
                ("beta_2", beta_2.into()),
                ("tau", tau.into()),
            ],
            Self::FedAvg => vec![("kind", "fedavg".into())],
        };
        Value::Table(
            pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    }
}

fn name(root: &mut Section) -> Result<String, SettingError> {
    let expected = "a name of letters, digits, `-`, `_` and `.`, at most 100 long";
    let name = root.text("name", expected)?;
    let name = root.require("name", expected, name)?;
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.chars().all(allowed) {
        return root.refuse("name", expected, format!("\"{name}\""));
    }
    Ok(name)
}

fn model(root: &mut Section) -> Result<ModelSettings, SettingError> {
    let section = root.kind_section("model", MODEL)?;
    let (kind, mut section) = root.require("model", "a table with a `kind`", section)?;
    Ok(match kind {
        "mlp" => {
            let hidden = section.counts("hidden")?;
            ModelSettings::Mlp {
                hidden: section.require("hidden", "the width of each hidden layer", hidden)?,
            }
        }
        _ => ModelSettings::Softmax,
    })
}

fn training(root: &mut Section) -> Result<TrainingSettings, SettingError> {
    let section = root.section("training", &["batch_size", "epochs", "optimizer"])?;
    let mut section = root.require("training", "a table", section)?;
    let epochs = to_size(section.count("epochs", 1)?.unwrap_or(1))?;
    let batch_size = section.count("batch_size", 1)?;
    let batch_size = to_size(section.require("batch_size", "a whole number of at least 1", batch_size)?)?;
    let optimizer = section.kind_section("optimizer", OPTIMIZER)?;
    let (_, mut optimizer) = section.require("optimizer", "a table with a `kind`", optimizer)?;
    let expected = "a finite number above 0";
    let rate = optimizer.number("learning_rate", expected, |rate| rate > 0.0 && rate.is_finite())?;
    let learning_rate = optimizer.require("learning_rate", expected, rate)?;
    Ok(TrainingSettings {
        epochs,
        batch_size,
        learning_rate,
    })
}

fn federation(root: &mut Section) -> Result<FederationSettings, SettingError> {
    let section = root.section("federation", &["clients", "cohort", "rounds", "strategy"])?;
    let mut section = root.require("federation", "a table", section)?;
    let rounds = section.count("rounds", 1)?;
    let rounds = section.require("rounds", "a whole number of at least 1", rounds)?;
    let clients = section.count("clients", 1)?;
    let expected = "a finite number above 0, the expected number of clients in a round";
    let cohort = section.number("cohort", expected, |cohort| cohort > 0.0 && cohort.is_finite())?;
    let cohort = section.require("cohort", expected, cohort)?;
    let strategy = match section.kind_section("strategy", STRATEGY)? {
        Some(("fedadam", mut strategy)) => {
            let expected = "a finite number above 0";
            let positive = |value: f64| value > 0.0 && value.is_finite();
            let decay = |value: f64| (0.0..1.0).contains(&value);
            let rate = strategy.number("learning_rate", expected, positive)?;
            let expected_decay = "a number of at least 0 and below 1";
            StrategySettings::FedAdam {
                learning_rate: strategy.require("learning_rate", expected, rate)?,
                beta_1: strategy.number("beta_1", expected_decay, decay)?.unwrap_or(0.9),
                beta_2: strategy.number("beta_2", expected_decay, decay)?.unwrap_or(0.99),
                tau: strategy.number("tau", expected, positive)?.unwrap_or(1e-3),
            }
        }
        _ => StrategySettings::FedAvg,
    };
    Ok(FederationSettings {
        clients,
        rounds,
        cohort,
        strategy,
    })
}

fn secure_aggregation(root: &mut Section) -> Result<(), SettingError> {
    let Some(mut section) = root.section("secure_aggregation", &["enabled"])? else {
        return Ok(());
    };
    let expected = "false: secure aggregation is not part of this version";
    match section.flag("enabled") {
        Ok(None | Some(false)) => Ok(()),
        Ok(Some(true)) => section.refuse("enabled", expected, "true"),
        Err(SettingError::Value { got, .. }) => section.refuse("enabled", expected, got),
        Err(other) => Err(other),
    }
}

fn to_size(count: u64) -> Result<usize, SettingError> {
    usize::try_from(count).map_err(|_| SettingError::Value {
        key: "a count".to_owned(),
        expected: "a number that this machine can address".to_owned(),
        got: count.to_string(),
    })
}
