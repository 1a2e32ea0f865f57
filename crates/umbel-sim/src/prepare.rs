//! From the text of an experiment to everything that a run needs.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use umbel_accounting::NoiseMultiplier;
use umbel_accounting::ledger::to_hex;
use umbel_experiment::{
    AdaptiveClipFacts, AggregationFacts, ClipSettings, DataFiles, Experiment, FtrlFacts, LocalFacts,
    NoiseLevel, OptimizerSettings, PartitionSettings, StrategySettings, TrainingSettings, TrustSettings,
    UnitSettings,
};
use umbel_mechanisms::{LayerClip, NoiseLaw, Purpose, SimulationSeed};
use umbel_protocol::{
    ClientId, Description, PlanError, PlanSettings, PrivacyUnit, RunPlan, StrategySpec, Trust,
};
use umbel_train::{
    Adam, Augmentation, Dataset, LocalTraining, Model, Momentum, Optimizer, Partition, Sgd, TrainingRng,
};

use crate::aggregation::secure_aggregation;
use crate::data::{augmentation, taken_for_public};
use crate::facts;
use crate::mechanism::{Setting, mechanism};
use crate::model::build_model;
use crate::{Data, SimulateError};

/// How long a simulated round stays open. The clock is virtual, so the number only orders events.
const ROUND_DURATION: Duration = Duration::from_secs(60);

/// An experiment with its data read, its clients made, and its plan checked.
#[derive(Debug)]
pub struct Prepared {
    /// The settings.
    pub experiment: Experiment,
    /// The seed that everything random is derived from.
    pub seed: u64,
    /// The training examples of all clients.
    pub train: Dataset,
    /// The public test set.
    pub test: Dataset,
    /// The public examples on which early stopping decides.
    pub validation: Option<Dataset>,
    /// Who holds what.
    pub partition: Partition,
    /// The model.
    pub model: Box<dyn Model>,
    /// What a client does.
    pub training: LocalTraining,
    /// How it clips each layer by itself, if it does, before the whole update is clipped.
    pub layer_clip: Option<LayerClip>,
    /// How its examples are varied.
    pub augmentation: Augmentation,
    /// What the server does.
    pub plan: RunPlan,
    /// Parameters that the run begins with.
    pub initial: Vec<f32>,
}

impl Prepared {
    /// Reads the data, splits it, builds the model and calibrates the noise. `experiment.seed` must be set.
    pub fn new(experiment: Experiment) -> Result<Self, SimulateError> {
        let seed = experiment.seed.ok_or_else(|| SimulateError::Setting {
            key: "seed",
            reason: "expected a seed: a simulation without one draws it before it begins".to_owned(),
        })?;
        let seeds = SimulationSeed::new(seed);
        let rng = |purpose| TrainingRng::from_seed(seeds.derive(purpose, 0, 0));

        let Data {
            train,
            test,
            validation,
            partition,
        } = Data::load(&experiment.data, seed)?;
        let model = build_model(&experiment, &train)?;
        let mut initial = vec![0.0; model.n_parameters()];
        model.initialize(&mut initial, &mut rng(Purpose::Initialisation));

        let layer_clip = layer_clip(&experiment, model.as_ref())?;
        let training = training(&experiment)?;
        let augmentation = augmentation(experiment.data.augmentation)?;
        let data_sha256 = data_sha256(&experiment.data.train, &train, &test, &partition);
        let clients = declared_clients(&experiment, &partition)?;
        let examples = declared_examples(&experiment, &partition)?;
        let plan = plan(&experiment, clients, examples, initial.len(), data_sha256)?;
        Ok(Self {
            seed,
            train,
            test,
            validation,
            partition,
            model,
            training,
            augmentation,
            layer_clip,
            plan,
            initial,
            experiment,
        })
    }

    /// Settings that are allowed and still deserve a second look.
    pub fn warnings(&self) -> Vec<String> {
        let settings = self.plan.settings();
        #[allow(clippy::cast_precision_loss, reason = "populations are far below 2^53")]
        let tenth = 0.1 / self.plan.units() as f64;
        let unit = settings.unit.as_str();
        let mut warnings = Vec::new();
        if settings.delta.value() > tenth {
            warnings.push(format!(
                "`privacy.delta` = {:e} is above a tenth of 1 / {} {unit}s: it would be met by a run that publishes one {unit} \
                 outright with a chance of more than one in ten",
                settings.delta.value(),
                self.plan.units()
            ));
        }
        warnings
    }

    /// The examples of a client, as places in the training set; none for a declared client without data.
    pub fn examples(&self, client: ClientId) -> &[u32] {
        match usize::try_from(client.0) {
            Ok(client) if client < self.partition.n_clients() => self.partition.examples(client),
            _ => &[],
        }
    }

    /// What the promise does not cover, in words.
    pub fn not_covered(&self) -> Vec<&'static str> {
        let settings = self.plan.settings();
        let mut list = not_covered_by_trust(settings);
        list.extend([
            "the choice of settings: what was learnt by trying them on this data is not charged",
            "numbers marked simulator_only, timing, and ledger.openings: they are computed on clients' data without noise",
        ]);
        list.push(not_covered_by_unit(settings.unit));
        if settings.unit == PrivacyUnit::Example && self.experiment.federation.examples.is_none() {
            list.push("the number of examples, which was counted: declare it as federation.examples");
        }
        let by_key = matches!(
            self.experiment.data.partition,
            PartitionSettings::ByKey { .. } | PartitionSettings::GroupedKeys { .. }
        );
        if self.experiment.federation.clients.is_none() && by_key {
            list.push("the number of clients, which was counted: declare it as federation.clients");
        }
        if self.experiment.data.classes.is_none() {
            list.push("the number of classes, which was counted: declare it as data.classes");
        }
        list.extend(taken_for_public(&self.experiment.data));
        if self.plan.settings().mechanism.noise_law() == Some(NoiseLaw::Continuous) {
            list.push("the gaps of floating-point numbers: continuous noise is for simulation only");
        }
        list
    }

    /// What each client does, if clients add the noise.
    pub fn local(&self) -> Option<LocalFacts> {
        facts::local(&self.plan.settings().mechanism)
    }

    /// Whose sums are opened, if the server sees no single contribution.
    pub fn secure_aggregation(&self) -> Option<AggregationFacts> {
        facts::secure_aggregation(&self.plan)
    }

    /// How the clip norm follows the updates, if it does.
    pub fn adaptive_clip(&self) -> Option<AdaptiveClipFacts> {
        facts::adaptive_clip(&self.plan.settings().mechanism)
    }

    /// How noise is correlated between rounds, if it is.
    pub fn ftrl(&self) -> Option<FtrlFacts> {
        facts::ftrl(&self.plan.settings().mechanism)
    }

    /// The noise multiplier of the plan; none without noise.
    pub fn noise_multiplier(&self) -> Option<NoiseMultiplier> {
        self.plan.settings().mechanism.noise_multiplier()
    }
}

/// What a promise under this trust model does not cover, in words.
pub(crate) fn not_covered_by_trust(settings: &PlanSettings) -> Vec<&'static str> {
    match settings.trust {
        Trust::Distributed => vec![
            "who takes part in which round, and how often: everybody may see it",
            "more clients of a round helping the server than were assumed, or an authority that certifies false ones",
            "whoever could break the key agreement, with a quantum computer for one: what is promised is computational",
        ],
        Trust::Local => vec![
            "who takes part in which round, and how often: everybody may see it",
            "what a client itself keeps, such as the model after a step",
        ],
        _ if settings.secure_aggregation.is_some() => vec![
            "the server itself, which sees the sum without noise, though no single update",
            "who takes part in which round: whether a round has enough clients is seen by everybody",
        ],
        _ => vec![
            "the server itself, which sees every update",
            "who is contacted in which round, seen from the network",
            "one client slowing another past a round's deadline",
        ],
    }
}

/// What a promise for this unit does not cover, in words.
pub(crate) fn not_covered_by_unit(unit: PrivacyUnit) -> &'static str {
    match unit {
        PrivacyUnit::Example => "several examples of one person, and one example that several clients hold",
        _ => "a person whose data are held by several clients",
    }
}

/// The public number of clients. What is declared does not follow the data: clients that are not there have no examples.
fn declared_clients(experiment: &Experiment, partition: &Partition) -> Result<u64, SimulateError> {
    let found = partition.n_clients() as u64;
    match experiment.federation.clients {
        Some(declared) if declared < found => Err(PlanError::Setting {
            key: "federation.clients",
            expected: format!("at least {found}, as many as the data have"),
            got: declared.to_string(),
        }
        .into()),
        declared => Ok(declared.unwrap_or(found)),
    }
}

/// How a client clips each layer by itself, if it does.
pub(crate) fn layer_clip(
    experiment: &Experiment,
    model: &dyn Model,
) -> Result<Option<LayerClip>, SimulateError> {
    let ClipSettings::PerLayer(norm) = experiment.privacy.clip_norm else {
        return Ok(None);
    };
    let clip = LayerClip::equal(norm, &layer_lengths(model)).map_err(|error| SimulateError::Setting {
        key: "privacy.clip_norm",
        reason: error.to_string(),
    })?;
    Ok(Some(clip))
}

/// Lengths of a model's layers: parameters whose names are the same up to the last point.
fn layer_lengths(model: &dyn Model) -> Vec<usize> {
    let mut lengths = Vec::new();
    let mut last = None;
    for view in model.parameters() {
        let name = view
            .name
            .rsplit_once('.')
            .map_or(view.name.as_str(), |(layer, _)| layer);
        match lengths.last_mut() {
            Some(length) if last == Some(name) => *length += view.n_values(),
            _ => lengths.push(view.n_values()),
        }
        last = Some(name);
    }
    lengths
}

/// The public number of examples over all clients.
fn declared_examples(experiment: &Experiment, partition: &Partition) -> Result<u64, SimulateError> {
    let found: usize = (0..partition.n_clients())
        .map(|client| partition.examples(client).len())
        .sum();
    let found = found as u64;
    match experiment.federation.examples {
        Some(declared) if declared < found => Err(PlanError::Setting {
            key: "federation.examples",
            expected: format!("at least {found}, as many as the data have"),
            got: declared.to_string(),
        }
        .into()),
        declared => Ok(declared.unwrap_or(found)),
    }
}

pub(crate) fn training(experiment: &Experiment) -> Result<LocalTraining, SimulateError> {
    let settings = &experiment.training;
    let refuse = |key| {
        move |error: umbel_train::SettingError| SimulateError::Setting {
            key,
            reason: error.to_string(),
        }
    };
    let optimizer = optimizer(settings).map_err(refuse("training.optimizer"))?;
    let training = LocalTraining::new(settings.epochs, settings.batch_size, optimizer)
        .and_then(|training| training.with_penalties(to_single(settings.l1), to_single(settings.l2)))
        .map_err(refuse("training"))?;
    match experiment.federation.strategy {
        StrategySettings::FedProx { mu } => training
            .with_proximal(to_single(mu))
            .map_err(refuse("federation.strategy.mu")),
        _ => Ok(training),
    }
}

fn optimizer(settings: &TrainingSettings) -> Result<Optimizer, umbel_train::SettingError> {
    let learning_rate = to_single(settings.learning_rate);
    Ok(match settings.optimizer {
        OptimizerSettings::Adam {
            beta_1,
            beta_2,
            epsilon,
            weight_decay,
        } => {
            let adam = Adam::new(learning_rate)?
                .with_betas(to_single(beta_1), to_single(beta_2))?
                .with_epsilon(to_single(epsilon))?
                .with_weight_decay(to_single(weight_decay.unwrap_or(0.0)))?;
            Optimizer::Adam(adam)
        }
        OptimizerSettings::Sgd { momentum } if momentum > 0.0 => {
            Optimizer::Momentum(Momentum::new(learning_rate, to_single(momentum))?)
        }
        OptimizerSettings::Sgd { .. } => Optimizer::Sgd(Sgd::new(learning_rate)?),
        other => unreachable!("the settings know no optimizer {other:?}"),
    })
}

/// Training is done in single precision.
#[allow(
    clippy::cast_possible_truncation,
    reason = "that is the point; what becomes infinite or zero is refused later"
)]
pub(crate) fn to_single(value: f64) -> f32 {
    value as f32
}

pub(crate) fn plan(
    experiment: &Experiment,
    clients: u64,
    examples: u64,
    dimension: usize,
    data_sha256: String,
) -> Result<RunPlan, SimulateError> {
    let (privacy, federation) = (&experiment.privacy, &experiment.federation);
    let is_augmented = augmentation(experiment.data.augmentation)? != Augmentation::default();
    if experiment.training.private_steps.is_some() && is_augmented {
        return Err(SimulateError::Setting {
            key: "data.augmentation",
            reason: "expected none with unit \"example\": private steps see each example as it is".to_owned(),
        });
    }
    let unit = match privacy.unit {
        UnitSettings::Client => PrivacyUnit::Client,
        UnitSettings::Example => PrivacyUnit::Example,
    };
    let trust = match privacy.trust {
        TrustSettings::Central => Trust::Central,
        TrustSettings::Distributed => Trust::Distributed,
        TrustSettings::Local => Trust::Local,
        other => unreachable!("the settings know no trust model {other:?}"),
    };
    #[allow(clippy::cast_precision_loss, reason = "numbers of clients are far below 2^53")]
    let least_cohort = clients as f64 / MOST_ROUNDS_APART;
    if federation.cohort < least_cohort {
        return Err(PlanError::Setting {
            key: "federation.cohort",
            expected: format!(
                "at least {least_cohort:e} of {clients} clients, below which nobody ever takes part"
            ),
            got: format!("{:?}", federation.cohort),
        }
        .into());
    }
    // Without noise nothing of the clients' own mechanism is left, whatever the trust.
    let has_shares = trust == Trust::Distributed && privacy.noise_level != NoiseLevel::DangerousNone;
    let secure_aggregation = secure_aggregation(experiment, clients, has_shares)?;
    let setting = Setting {
        clients,
        examples,
        dimension,
        unit,
        trust,
        secure_aggregation,
    };
    let (mechanism, epsilon_budget) = mechanism(experiment, setting)?;
    let (noise_std_dev, _) = mechanism.noise_std_devs(federation.rounds);
    if !to_single(noise_std_dev).is_finite() || !to_single(privacy.clip_norm.initial().value()).is_finite() {
        return Err(PlanError::Setting {
            key: "privacy.clip_norm",
            expected: format!(
                "small enough that clip norm and noise stay below {:e}, as models do",
                f32::MAX
            ),
            got: format!("{:?}", privacy.clip_norm.initial().value()),
        }
        .into());
    }
    let strategy = strategy(federation.strategy);
    let mut public_metrics = vec!["accuracy".to_owned(), "loss".to_owned()];
    if federation.early_stopping.is_some() {
        public_metrics.push("validation".to_owned());
    }
    let description = Description {
        name: experiment.name.clone(),
        software: format!("umbel {}", env!("CARGO_PKG_VERSION")),
        experiment_sha256: to_hex(&Sha256::digest(experiment.to_toml().as_bytes())),
        data_sha256,
        public_metrics,
    };
    Ok(RunPlan::new(PlanSettings {
        description,
        unit,
        trust,
        population: clients,
        examples: (unit == PrivacyUnit::Example).then_some(examples),
        cohort: federation.cohort,
        rounds: federation.rounds,
        may_stop_early: federation.early_stopping.is_some(),
        mechanism,
        secure_aggregation,
        strategy,
        accountant: privacy.accountant,
        delta: privacy.delta,
        epsilon_budget,
        round_duration: ROUND_DURATION,
    })?)
}

/// What the server does. The proximal term of FedProx is the clients' business.
fn strategy(settings: StrategySettings) -> StrategySpec {
    match settings {
        StrategySettings::FedAdagrad {
            learning_rate,
            beta_1,
            tau,
        } => StrategySpec::FedAdagrad {
            learning_rate,
            beta_1,
            tau,
        },
        StrategySettings::FedAdam {
            learning_rate,
            beta_1,
            beta_2,
            tau,
        } => StrategySpec::FedAdam {
            learning_rate,
            beta_1,
            beta_2,
            tau,
        },
        StrategySettings::FedAvg | StrategySettings::FedProx { .. } => StrategySpec::FedAvg,
        StrategySettings::FedAvgM {
            learning_rate,
            momentum,
        } => StrategySpec::FedAvgM {
            learning_rate,
            momentum,
        },
        StrategySettings::FedYogi {
            learning_rate,
            beta_1,
            beta_2,
            tau,
        } => StrategySpec::FedYogi {
            learning_rate,
            beta_1,
            beta_2,
            tau,
        },
        other => unreachable!("the settings know no strategy {other:?}"),
    }
}

/// A client that takes part in fewer than one of a billion rounds never does; accountants are tested down to here.
const MOST_ROUNDS_APART: f64 = 1e9;

/// A hash over all data as they are read and over who holds what, so that a resumed run is known to see the same.
fn data_sha256(files: &DataFiles, train: &Dataset, test: &Dataset, partition: &Partition) -> String {
    let mut hash = Sha256::new();
    hash.update(b"umbel data v1\n");
    hash.update(files.client_column.as_deref().unwrap_or("writer").as_bytes());
    for data in [train, test] {
        data.visit_content(&mut |bytes| hash.update(bytes));
    }
    hash.update((partition.n_clients() as u64).to_le_bytes());
    for client in 0..partition.n_clients() {
        let examples = partition.examples(client);
        hash.update((examples.len() as u64).to_le_bytes());
        for example in examples {
            hash.update(example.to_le_bytes());
        }
    }
    to_hex(&hash.finalize())
}
