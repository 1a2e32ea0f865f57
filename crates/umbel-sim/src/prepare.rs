//! From the text of an experiment to everything that a run needs.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use umbel_accounting::NoiseMultiplier;
use umbel_accounting::ledger::to_hex;
use umbel_experiment::{
    DataFiles, Experiment, FtrlFacts, ModelSettings, PartitionSettings, StrategySettings,
};
use umbel_mechanisms::{NoiseKind, Purpose, SimulationSeed};
use umbel_protocol::{
    ClientId, Description, PlanError, PlanSettings, PrivacyUnit, RunPlan, StrategySpec, Trust,
};
use umbel_train::{
    Augmentation, Dataset, LocalTraining, Model, ModelSpec, Optimizer, Partition, Sgd, TrainingRng,
};

use crate::data::augmentation;
use crate::facts;
use crate::mechanism::{Setting, mechanism};
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
    /// Who holds what.
    pub partition: Partition,
    /// The model.
    pub model: Box<dyn Model>,
    /// What a client does.
    pub training: LocalTraining,
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
            partition,
        } = Data::load(&experiment.data, seed)?;
        let model = build_model(&experiment, &train)?;
        let mut initial = vec![0.0; model.n_parameters()];
        model.initialize(&mut initial, &mut rng(Purpose::Initialisation));

        let training = training(&experiment)?;
        let augmentation = augmentation(experiment.data.augmentation)?;
        let data_sha256 = data_sha256(&experiment.data.train, &train, &test, &partition);
        let clients = declared_clients(&experiment, &partition)?;
        let plan = plan(&experiment, clients, initial.len(), data_sha256)?;
        Ok(Self {
            seed,
            train,
            test,
            partition,
            model,
            training,
            augmentation,
            plan,
            initial,
            experiment,
        })
    }

    /// Settings that are allowed and still deserve a second look.
    pub fn warnings(&self) -> Vec<String> {
        let settings = self.plan.settings();
        #[allow(clippy::cast_precision_loss, reason = "populations are far below 2^53")]
        let tenth = 0.1 / settings.population as f64;
        let mut warnings = Vec::new();
        if settings.delta.value() > tenth {
            warnings.push(format!(
                "`privacy.delta` = {:e} is above a tenth of 1 / {} clients: it would be met by a run that publishes a client \
                 outright with a chance of more than one in ten",
                settings.delta.value(),
                settings.population
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
        let mut list = vec![
            "the server itself, which sees every update",
            "who is contacted in which round, seen from the network",
            "one client slowing another past a round's deadline",
            "the choice of settings: what was learnt by trying them on this data is not charged",
            "numbers marked simulator_only, timing, and ledger.openings: they are computed on clients' data without noise",
            "a person whose data are held by several clients",
        ];
        let by_key = matches!(self.experiment.data.partition, PartitionSettings::ByKey { .. });
        if self.experiment.federation.clients.is_none() && by_key {
            list.push("the number of clients, which was counted: declare it as federation.clients");
        }
        if self.experiment.data.classes.is_none() {
            list.push("the number of classes, which was counted: declare it as data.classes");
        }
        if self.plan.settings().mechanism.noise_kind() == Some(NoiseKind::Continuous) {
            list.push("the gaps of floating-point numbers: continuous noise is for simulation only");
        }
        list
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

/// The model of the experiment, for examples like those of `dataset`.
pub(crate) fn build_model(
    experiment: &Experiment,
    dataset: &Dataset,
) -> Result<Box<dyn Model>, SimulateError> {
    let spec = match &experiment.model {
        ModelSettings::Mlp { hidden } => ModelSpec::mlp(hidden),
        ModelSettings::Softmax => ModelSpec::Softmax,
        other => unreachable!("the settings know no model {other:?}"),
    };
    Ok(spec.build(dataset.shape(), dataset.n_classes())?)
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

fn training(experiment: &Experiment) -> Result<LocalTraining, SimulateError> {
    let settings = &experiment.training;
    let refuse = |key| {
        move |error: umbel_train::SettingError| SimulateError::Setting {
            key,
            reason: error.to_string(),
        }
    };
    let sgd =
        Sgd::new(to_single(settings.learning_rate)).map_err(refuse("training.optimizer.learning_rate"))?;
    LocalTraining::new(settings.epochs, settings.batch_size, Optimizer::Sgd(sgd)).map_err(refuse("training"))
}

/// Training is done in single precision.
#[allow(
    clippy::cast_possible_truncation,
    reason = "that is the point; what becomes infinite or zero is refused later"
)]
pub(crate) fn to_single(value: f64) -> f32 {
    value as f32
}

fn plan(
    experiment: &Experiment,
    clients: u64,
    dimension: usize,
    data_sha256: String,
) -> Result<RunPlan, SimulateError> {
    let (privacy, federation) = (&experiment.privacy, &experiment.federation);
    let (trust, cohort) = (Trust::Central, federation.cohort);
    #[allow(clippy::cast_precision_loss, reason = "numbers of clients are far below 2^53")]
    let least_cohort = clients as f64 / MOST_ROUNDS_APART;
    if cohort < least_cohort {
        return Err(PlanError::Setting {
            key: "federation.cohort",
            expected: format!(
                "at least {least_cohort:e} of {clients} clients, below which nobody ever takes part"
            ),
            got: format!("{cohort:?}"),
        }
        .into());
    }
    let setting = Setting {
        clients,
        dimension,
        trust,
    };
    let (mechanism, epsilon_budget) = mechanism(experiment, setting)?;
    let (noise_std_dev, _) = mechanism.noise_std_devs(federation.rounds);
    if !to_single(noise_std_dev).is_finite() || !to_single(privacy.clip_norm.value()).is_finite() {
        return Err(PlanError::Setting {
            key: "privacy.clip_norm",
            expected: format!(
                "small enough that clip norm and noise stay below {:e}, as models do",
                f32::MAX
            ),
            got: format!("{:?}", privacy.clip_norm.value()),
        }
        .into());
    }
    let strategy = match federation.strategy {
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
        StrategySettings::FedAvg => StrategySpec::FedAvg,
        other => unreachable!("the settings know no strategy {other:?}"),
    };
    let description = Description {
        name: experiment.name.clone(),
        software: format!("umbel {}", env!("CARGO_PKG_VERSION")),
        experiment_sha256: to_hex(&Sha256::digest(experiment.to_toml().as_bytes())),
        data_sha256,
    };
    Ok(RunPlan::new(PlanSettings {
        description,
        unit: PrivacyUnit::Client,
        trust,
        population: clients,
        cohort,
        rounds: federation.rounds,
        mechanism,
        strategy,
        accountant: privacy.accountant,
        delta: privacy.delta,
        epsilon_budget,
        round_duration: ROUND_DURATION,
    })?)
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
