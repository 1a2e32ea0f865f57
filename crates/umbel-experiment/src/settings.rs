//! The experiment file: settings as text, merged from their layers and checked once.

mod budget;
mod data;
mod early_stopping;
mod layers;
mod model;
mod optimizer;
mod partition;
mod privacy;
mod public;
mod section;
mod secure_aggregation;
mod strategy;

use std::path::Path;

use toml::{Table, Value};
use umbel_accounting::SamplingRate;

pub use self::budget::SharedBudgetSettings;
pub use self::data::{
    AugmentationSettings, ColumnSettings, CsvSettings, DataFiles, DataSettings, FormatSettings, TextSettings,
    WordSettings,
};
pub use self::early_stopping::{EarlyStopping, Monitor};
pub use self::model::{ActivationSettings, LossSettings, ModelSettings};
pub use self::optimizer::OptimizerSettings;
pub use self::partition::{PartitionSettings, QuantitySettings};
use self::privacy::privacy;
pub use self::privacy::{
    ClipSettings, FtrlStrategy, MechanismSettings, NoiseLevel, NoiseSampler, PrivacySettings, TrustSettings,
    UnitSettings,
};
pub use self::section::{Section, SettingError};
pub use self::secure_aggregation::{DropoutSettings, GraphSettings, SecureAggregationSettings};
use self::secure_aggregation::{check_aggregation, secure_aggregation};
pub use self::strategy::StrategySettings;
use self::strategy::strategy;

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
    /// Whether the server sees sums only.
    pub secure_aggregation: Option<SecureAggregationSettings>,
}

/// `[training]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingSettings {
    /// Passes over the client's examples in one round.
    pub epochs: usize,
    /// Examples in one step.
    pub batch_size: usize,
    /// Step size.
    pub learning_rate: f64,
    /// How parameters follow gradients.
    pub optimizer: OptimizerSettings,
    /// Weight of the sum of the parameters' absolute values in the loss.
    pub l1: f64,
    /// Half of it is the weight of the sum of their squares.
    pub l2: f64,
    /// Where the unit is an example: how batches are drawn, in place of `epochs` and `batch_size`, which then have no influence.
    pub private_steps: Option<PrivateSteps>,
}

/// Private gradient descent on a client: everything public, the same for all clients and whatever they hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrivateSteps {
    /// Probability with which an example is in a batch.
    pub sampling_rate: SamplingRate,
    /// Steps a round.
    pub steps: u32,
    /// What a batch's noised sum of gradients is divided by; absent means the sampling rate times the declared number of examples
    /// a client.
    pub divisor: Option<f64>,
}

/// `[federation]`.
#[derive(Debug, Clone, PartialEq)]
pub struct FederationSettings {
    /// Declared number of clients, a public planning number that does not follow who is there; absent means as many as the
    /// partition has.
    pub clients: Option<u64>,
    /// Where the unit is an example, the declared number of examples over all clients, a public planning number; absent means as
    /// many as the data have.
    pub examples: Option<u64>,
    /// Where clients add the noise, the most rounds in which one takes part; absent means all.
    pub max_participations: Option<u64>,
    /// How many rounds.
    pub rounds: u64,
    /// Expected cohort size, public; the divisor.
    pub cohort: f64,
    /// What the server does with releases.
    pub strategy: StrategySettings,
    /// When the run ends before its last round, if it may.
    pub early_stopping: Option<EarlyStopping>,
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
        let model = model::read(&mut root)?;
        let training = training(&mut root)?;
        let federation = federation(&mut root)?;
        let privacy = privacy(&mut root, directory)?;
        check_unit(&privacy, &training, &federation)?;
        early_stopping::check(federation.early_stopping, &data)?;
        let secure_aggregation = secure_aggregation(&mut root)?;
        check_aggregation(&privacy, secure_aggregation.as_ref())?;
        Ok(Self {
            name,
            seed: overrides.seed.or(seed),
            data,
            model,
            training,
            federation,
            privacy,
            secure_aggregation,
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
        section("training", self.training.to_pairs());
        let mut federation: Vec<_> = self
            .federation
            .clients
            .map(|clients| ("clients", whole(clients)))
            .into_iter()
            .collect();
        federation.extend(
            self.federation
                .examples
                .map(|examples| ("examples", whole(examples))),
        );
        let most = self.federation.max_participations;
        federation.extend(most.map(|most| ("max_participations", whole(most))));
        federation.extend([
            ("rounds", whole(self.federation.rounds)),
            ("cohort", self.federation.cohort.into()),
            ("strategy", self.federation.strategy.to_value()),
        ]);
        let early_stopping = self.federation.early_stopping;
        federation.extend(early_stopping.map(|stopping| ("early_stopping", stopping.to_value())));
        section("federation", federation);
        section("privacy", self.privacy.to_pairs());
        let secure = self.secure_aggregation.as_ref();
        section("secure_aggregation", SecureAggregationSettings::to_pairs(secure));
        text
    }
}

/// A whole number as TOML. Counts come from TOML's own 63 bits, or from a seed that was drawn within them.
fn whole(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

impl TrainingSettings {
    fn to_pairs(&self) -> Vec<(&'static str, Value)> {
        let mut pairs = match self.private_steps {
            None => vec![
                ("epochs", whole(self.epochs as u64)),
                ("batch_size", whole(self.batch_size as u64)),
            ],
            Some(private) => {
                let mut pairs = vec![
                    ("sampling_rate", private.sampling_rate.value().into()),
                    ("steps", whole(private.steps.into())),
                ];
                pairs.extend(private.divisor.map(|divisor| ("divisor", divisor.into())));
                pairs
            }
        };
        pairs.push(("optimizer", self.optimizer.to_value(self.learning_rate)));
        let penalties = [("l1", self.l1), ("l2", self.l2)].into_iter();
        let penalties = penalties.filter(|(_, weight)| *weight > 0.0);
        pairs.extend(penalties.map(|(key, weight)| (key, weight.into())));
        pairs
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

fn training(root: &mut Section) -> Result<TrainingSettings, SettingError> {
    let known = [
        "batch_size",
        "divisor",
        "epochs",
        "l1",
        "l2",
        "optimizer",
        "sampling_rate",
        "steps",
    ];
    let section = root.section("training", &known)?;
    let mut section = root.require("training", "a table", section)?;
    let private_steps = private_steps(&mut section)?;
    let epochs = to_size(section.count("epochs", 1)?.unwrap_or(1))?;
    let batch_size = match private_steps {
        Some(_) => Some(1),
        None => section.count("batch_size", 1)?,
    };
    let batch_size = to_size(section.require("batch_size", "a whole number of at least 1", batch_size)?)?;
    let (learning_rate, optimizer) = optimizer::read(&mut section)?;
    let l1 = optimizer::penalty(&mut section, "l1")?.unwrap_or(0.0);
    let l2 = optimizer::penalty(&mut section, "l2")?.unwrap_or(0.0);
    let plain = optimizer == OptimizerSettings::Sgd { momentum: 0.0 } && l1 <= 0.0 && l2 <= 0.0;
    if private_steps.is_some() && !plain {
        let expected =
            "plain stochastic gradient descent without momentum or penalties, where the unit is an example";
        let got = match optimizer {
            OptimizerSettings::Sgd { momentum } if momentum <= 0.0 => "sgd with `l1` or `l2`",
            OptimizerSettings::Sgd { .. } => "sgd with momentum",
            OptimizerSettings::Adam { .. } => optimizer.kind(),
        };
        return section.refuse("optimizer", expected, got);
    }
    Ok(TrainingSettings {
        epochs,
        batch_size,
        learning_rate,
        optimizer,
        l1,
        l2,
        private_steps,
    })
}

/// Poisson-sampled batches, where the settings have any of their keys.
fn private_steps(section: &mut Section) -> Result<Option<PrivateSteps>, SettingError> {
    if !["divisor", "sampling_rate", "steps"]
        .iter()
        .any(|key| section.has(key))
    {
        return Ok(None);
    }
    for key in ["batch_size", "epochs"] {
        if section.has(key) {
            return Err(SettingError::Conflict {
                first: section.name("sampling_rate"),
                second: section.name(key),
                reason: "with unit \"example\" batches are drawn by coins and steps are counted, so that neither tells how many \
                         examples a client has; remove one"
                    .to_owned(),
            });
        }
    }
    let expected = "a number above 0 and at most 1, public and the same for all clients";
    let rate = section.number("sampling_rate", expected, |_| true)?;
    let rate = section.require("sampling_rate", expected, rate)?;
    let Ok(sampling_rate) = SamplingRate::new(rate) else {
        return section.refuse("sampling_rate", expected, format!("{rate:?}"));
    };
    let steps = section.count("steps", 1)?;
    let steps = section.require("steps", "the number of steps in a round", steps)?;
    let Ok(steps) = u32::try_from(steps) else {
        return section.refuse("steps", "at most 4294967295", steps);
    };
    let expected = "a public number above 0: the size of the batch that was drawn, or of the client's data, would tell how many \
                    examples it has";
    let divisor = section.number("divisor", expected, |value| value > 0.0 && value.is_finite())?;
    Ok(Some(PrivateSteps {
        sampling_rate,
        steps,
        divisor,
    }))
}

/// What the unit and the trust model ask of other sections.
fn check_unit(
    privacy: &PrivacySettings,
    training: &TrainingSettings,
    federation: &FederationSettings,
) -> Result<(), SettingError> {
    let conflict =
        |first: &str, second: &str, reason: &str| Err(SettingError::conflict(first, second, reason));
    match (privacy.unit, training.private_steps) {
        (UnitSettings::Example, None) => {
            return Err(SettingError::Missing {
                key: "training.sampling_rate".to_owned(),
                expected: "the probability with which an example is in a batch, and `training.steps`, in place of `epochs` and \
                           `batch_size`: with unit \"example\" each client draws batches by its own coins"
                    .to_owned(),
            });
        }
        (UnitSettings::Client, Some(_)) => {
            let reason = "only with unit \"example\" does a client draw batches by coins; use `epochs` and `batch_size`";
            return conflict("training.sampling_rate", "privacy.unit", reason);
        }
        _ => {}
    }
    if privacy.unit == UnitSettings::Client && federation.examples.is_some() {
        return conflict(
            "federation.examples",
            "privacy.unit",
            "only with unit \"example\" does a number of examples matter",
        );
    }
    if privacy.trust == TrustSettings::Central && federation.max_participations.is_some() {
        let reason = "with \"central\" every round is charged, whoever takes part; limit `federation.rounds`";
        return conflict("federation.max_participations", "privacy.trust", reason);
    }
    if privacy.unit == UnitSettings::Example
        && matches!(federation.strategy, StrategySettings::FedProx { .. })
    {
        let reason =
            "the steps of a client with unit \"example\" follow noised gradients only; use \"fedavg\"";
        return conflict("federation.strategy", "privacy.unit", reason);
    }
    Ok(())
}

fn federation(root: &mut Section) -> Result<FederationSettings, SettingError> {
    let known = [
        "clients",
        "cohort",
        "early_stopping",
        "examples",
        "max_participations",
        "rounds",
        "strategy",
        "weights",
    ];
    let section = root.section("federation", &known)?;
    let mut section = root.require("federation", "a table", section)?;
    let rounds = section.count("rounds", 1)?;
    let rounds = section.require("rounds", "a whole number of at least 1", rounds)?;
    let clients = section.count("clients", 1)?;
    let expected = "a finite number above 0, the expected number of clients in a round";
    let cohort = section.number("cohort", expected, |cohort| cohort > 0.0 && cohort.is_finite())?;
    let cohort = section.require("cohort", expected, cohort)?;
    let strategy = strategy(&mut section)?;
    let expected = "\"uniform\": weights by numbers of examples would tell them, and let one client outweigh the clip norm";
    match section.text("weights", expected)?.as_deref() {
        None | Some("uniform") => {}
        Some(other) => return section.refuse("weights", expected, format!("\"{other}\"")),
    }
    let early_stopping = early_stopping::read(&mut section)?;
    let examples = section.count("examples", 1)?;
    let max_participations = section.count("max_participations", 1)?;
    Ok(FederationSettings {
        clients,
        examples,
        max_participations,
        rounds,
        cohort,
        strategy,
        early_stopping,
    })
}

fn to_size(count: u64) -> Result<usize, SettingError> {
    usize::try_from(count).map_err(|_| SettingError::Value {
        key: "a count".to_owned(),
        expected: "a number that this machine can address".to_owned(),
        got: count.to_string(),
    })
}
