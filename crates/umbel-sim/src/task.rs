//! What an experiment means to the two sides of a served federation: a server holds the test set and no training data, a client
//! its own training data and no test set.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use umbel_accounting::ledger::to_hex;
use umbel_experiment::{DataFiles, Experiment, FormatSettings};
use umbel_mechanisms::{Mechanism, NoiseLaw, Purpose, SimulationSeed};
use umbel_protocol::{PlanSettings, RunPlan};
use umbel_train::{
    Augmentation, Dataset, LocalTrainer, LocalTraining, Model, Partition, PartitionSpec, TrainingRng,
};

use crate::data::{augmentation, refuse_augmentation};
use crate::model::build_model;
use crate::prepare::{plan, training};
use crate::{DataReader, SimulateError};

/// A server's half of an experiment.
#[derive(Debug)]
pub struct ServerTask {
    /// The settings.
    pub experiment: Experiment,
    /// The seed of the initial model, which is public.
    pub seed: u64,
    /// The public test set.
    pub test: Dataset,
    /// The model, to evaluate and to write.
    pub model: Box<dyn Model>,
    /// What the server does.
    pub plan: RunPlan,
    /// Parameters that the run begins with.
    pub initial: Vec<f32>,
}

impl ServerTask {
    /// Reads the test set, builds the model and calibrates the noise. `[data.train]` and `[data.partition]` are the clients'
    /// business and not looked at; so `data.classes` and `federation.clients` must be declared, and `seed` be set.
    pub fn new(experiment: Experiment, round_duration: Duration) -> Result<Self, SimulateError> {
        let declared = |key: &'static str, what: &str| SimulateError::Setting {
            key,
            reason: format!("expected {what}: a server has no training data to count it in"),
        };
        let clients = experiment
            .federation
            .clients
            .ok_or_else(|| declared("federation.clients", "the number of clients, a public number"))?;
        if experiment.data.classes.is_none() {
            return Err(declared("data.classes", "the number of classes, a public number"));
        }
        let seed = experiment
            .seed
            .ok_or_else(|| declared("seed", "a seed for the initial model"))?;
        let (test, _) = DataReader::new(&experiment.data)?.read(&experiment.data.test)?;
        let model = build_model(&experiment, &test)?;
        let key = SimulationSeed::new(seed).derive(Purpose::Initialisation, 0, 0);
        let mut initial = vec![0.0; model.n_parameters()];
        model.initialize(&mut initial, &mut TrainingRng::from_seed(key));

        let mut hash = Sha256::new();
        hash.update(b"umbel server data v1\n");
        test.visit_content(&mut |bytes| hash.update(bytes));
        let examples = experiment.federation.examples.unwrap_or(0);
        let plan = plan(
            &experiment,
            clients,
            examples,
            initial.len(),
            to_hex(&hash.finalize()),
        )?;
        let refuse = |key, reason: &str| {
            let reason = reason.to_owned();
            Err(SimulateError::Setting { key, reason })
        };
        if plan
            .settings()
            .secure_aggregation
            .is_some_and(|secure| secure.ideal)
        {
            let reason =
                "expected true or false: \"ideal\" leaves the cryptography away, for simulation only";
            return refuse("secure_aggregation.enabled", reason);
        }
        if !matches!(
            plan.settings().mechanism,
            Mechanism::Distributed(_) | Mechanism::Gaussian(_)
        ) {
            let reason = "expected independent noise in each round: this version serves no other mechanism";
            return refuse("privacy.mechanism", reason);
        }
        if experiment.federation.early_stopping.is_some() {
            return refuse(
                "federation.early_stopping",
                "expected none: a served run goes on to its last round in this version",
            );
        }
        if experiment.privacy.budget.is_some() {
            return refuse(
                "privacy.budget",
                "expected none: a served run cannot share a budget in this version",
            );
        }
        if plan.settings().mechanism.noise_law() == Some(NoiseLaw::Continuous) {
            return refuse(
                "privacy.noise",
                "expected \"rounded\": continuous noise is for simulation only",
            );
        }
        let mut settings: PlanSettings = plan.settings().clone();
        settings.round_duration = round_duration;
        // What clients are shown is what the ledger is bound to.
        settings.description.experiment_sha256 =
            to_hex(&Sha256::digest(experiment.to_public_toml().as_bytes()));
        let plan = RunPlan::new(settings)?;
        Ok(Self {
            experiment,
            seed,
            test,
            model,
            plan,
            initial,
        })
    }

    /// What the promise does not cover, in words.
    pub fn not_covered(&self) -> Vec<&'static str> {
        let mut list = crate::prepare::not_covered_by_trust(self.plan.settings());
        list.extend([
            "the choice of settings: what was learnt by trying them on this data is not charged",
            "the server's state, its log and ledger.openings: they tell who took part",
            "a person whose data are held by several clients",
        ]);
        list
    }
}

/// A client's half of an experiment.
#[derive(Debug)]
pub struct ClientTask {
    /// All examples in the client's files.
    pub train: Dataset,
    /// Those that are the client's, as places in `train`.
    pub examples: Vec<u32>,
    /// The model.
    pub model: Box<dyn Model>,
    training: LocalTraining,
    augmentation: Augmentation,
}

impl ClientTask {
    /// Reads the client's own files, as `experiment` preprocesses them. With `client` only the rows of that name in the
    /// files' table or column of clients are the client's. `vocabulary` and `idf` are its copies of the public files that the
    /// experiment may name.
    pub fn new(
        experiment: &Experiment,
        files: &DataFiles,
        client: Option<&str>,
        vocabulary: Option<&Path>,
        idf: Option<&Path>,
    ) -> Result<Self, SimulateError> {
        let missing = |key: &'static str, reason: String| SimulateError::Setting { key, reason };
        let mut settings = experiment.data.clone();
        if settings.classes.is_none() {
            return Err(missing(
                "data.classes",
                "expected a number from the server".to_owned(),
            ));
        }
        if let FormatSettings::Text(text) = &mut settings.format {
            let own = |key, named: Option<&Path>, own: Option<&Path>| match (named, own) {
                (None, _) => Ok(PathBuf::new()),
                (Some(_), Some(own)) => Ok(own.to_owned()),
                (Some(_), None) => {
                    let reason = "expected the path of the public file that the server's experiment names";
                    Err(missing(key, reason.to_owned()))
                }
            };
            let own_vocabulary = own("data.vocabulary", text.vocabulary(), vocabulary)?;
            let own_idf = own("data.idf", text.idf.as_deref(), idf)?;
            *text = text.clone().with_files(&own_vocabulary, &own_idf);
        }
        let (train, keys) = DataReader::new(&settings)?.read(files)?;
        let examples = match (client, keys) {
            (None, _) => (0..train.n_examples())
                .map(|place| u32::try_from(place).unwrap_or(u32::MAX))
                .collect(),
            (Some(_), None) => {
                let reason = "expected `data.train.clients`, the table in which the client is looked up";
                return Err(missing("data.client", reason.to_owned()));
            }
            (Some(client), Some(keys)) => {
                let by_key = PartitionSpec::ByKey { max_examples: None };
                // No coin is tossed where the keys decide.
                let partition =
                    by_key.partition(&train, Some(&keys), &mut TrainingRng::from_seed([0; 32]))?;
                let place = place_of(&partition, client).ok_or_else(|| {
                    missing(
                        "data.client",
                        format!("expected a client of the data's table, got \"{client}\""),
                    )
                })?;
                partition.examples(place).to_vec()
            }
        };
        let model = build_model(experiment, &train)?;
        Ok(Self {
            train,
            examples,
            model,
            training: training(experiment)?,
            augmentation: augmentation(settings.augmentation)?,
        })
    }

    /// What trains on the client's examples.
    pub fn trainer(&self) -> Result<LocalTrainer<'_>, SimulateError> {
        let trainer = LocalTrainer::new(self.model.as_ref(), &self.train, self.training);
        trainer
            .map_err(|error| SimulateError::Setting {
                key: "training",
                reason: error.to_string(),
            })?
            .with_augmentation(self.augmentation)
            .map_err(refuse_augmentation)
    }
}

fn place_of(partition: &Partition, client: &str) -> Option<usize> {
    (0..partition.n_clients()).find(|place| partition.name(*place) == client)
}
