//! What an experiment means to a client of a federation, which holds its own training data and no test set.

use std::path::{Path, PathBuf};

use umbel_accounting::ledger::Header;
use umbel_experiment::{DataFiles, Experiment, FormatSettings, TrustSettings};
use umbel_mechanisms::{BlockStreams, LayerClip, LocalGaussian, Mechanism, RandomStream};
use umbel_protocol::{ClientMessage, ClientRound, RunPlan, Trust};
use umbel_train::{
    Augmentation, Dataset, LocalTrainer, LocalTraining, Model, Partition, PartitionSpec, TrainingRng,
    TrainingWorkspace,
};

use crate::data::{augmentation, refuse_augmentation};
use crate::model::build_model;
use crate::prepare::{layer_clip, training};
use crate::private_steps::{Secrets, private_steps};
use crate::terms::promised_plan;
use crate::{DataReader, SimulateError};

/// What is random in one client's round; used up by it.
pub struct ClientDraws {
    shuffling: TrainingRng,
    secrets: Secrets,
}

impl ClientDraws {
    /// The order of the examples, the coins that choose the batches of private steps, the client's own noise, and a key for where
    /// values are dropped.
    pub fn new(shuffling: TrainingRng, coins: RandomStream, noise: BlockStreams, dropout: &[u8; 32]) -> Self {
        let secrets = Secrets::new(coins, noise, dropout);
        Self { shuffling, secrets }
    }
}

impl std::fmt::Debug for ClientDraws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientDraws").finish_non_exhaustive()
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
    layer_clip: Option<LayerClip>,
    /// What the server has signed, where the client adds noise or sums are hidden from the server.
    plan: Option<RunPlan>,
}

impl ClientTask {
    /// Reads the client's own files, as `experiment` preprocesses them. With `client` only the rows of that name in the
    /// files' table or column of clients are the client's. `vocabulary` and `idf` are its copies of the public files that the
    /// experiment may name. `promised` is the signed header of the run's ledger: noise that the client adds itself is what it says.
    ///
    /// # Errors
    ///
    /// Files that do not hold what the experiment expects, and a header that does not go with the experiment.
    pub fn new(
        promised: &Header,
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
        let is_own = experiment.privacy.trust != TrustSettings::Central
            || experiment.secure_aggregation.is_some()
            || promised.trust != Trust::Central.as_str()
            || promised.secure_aggregation.is_some();
        let plan = is_own.then(|| promised_plan(promised, experiment, model.n_parameters()));
        Ok(Self {
            train,
            examples,
            layer_clip: layer_clip(experiment, model.as_ref())?,
            plan: plan.transpose()?,
            model,
            training: training(experiment)?,
            augmentation: augmentation(settings.augmentation)?,
        })
    }

    /// The run's plan, computed from the experiment and the same as what the server has signed; where a server is trusted with updates and
    /// noise there is none.
    pub fn plan(&self) -> Option<&RunPlan> {
        self.plan.as_ref()
    }

    /// Noise that the client adds itself, if the run's trust is `local`.
    fn local(&self) -> Option<&LocalGaussian> {
        match &self.plan.as_ref()?.settings().mechanism {
            Mechanism::Local(mechanism) => Some(mechanism),
            _ => None,
        }
    }

    /// The clip norm of reports where the client adds noise itself: far above its noise, for the server's sum only.
    pub fn report_clip_norm(&self) -> Option<f64> {
        self.local().map(|local| local.report_clip_norm().value())
    }

    /// Takes part in a round: trains on the client's examples, and makes the report that may leave it. With trust `local` that is
    /// private already, by the noise in `draws`; else it is clipped and quantised, no more.
    ///
    /// # Errors
    ///
    /// Settings of the training that do not go with the model.
    pub fn answer(&self, round: ClientRound, mut draws: ClientDraws) -> Result<ClientMessage, SimulateError> {
        let private = self.local();
        let update = match private.and_then(|local| Some((local, local.plan().steps?))) {
            Some((local, steps)) => {
                let (mut workspace, mut update) = (TrainingWorkspace::new(), Vec::new());
                private_steps(
                    &self.trainer()?,
                    local,
                    steps,
                    (&round.model()[..], &self.examples),
                    draws.secrets,
                    (&mut workspace, &mut update),
                    None,
                );
                update
            }
            None => {
                let update = self.raw_update(round.model(), &mut draws)?;
                match private {
                    Some(local) => local.privatize(&update, &draws.secrets.noise, Vec::new()).0,
                    None => update,
                }
            }
        };
        Ok(round.report(&update, Vec::new()).0)
    }

    /// What training on the client's examples changes in the `model`, its layers clipped by themselves if that is asked for. It must not
    /// leave the client as it is.
    ///
    /// # Errors
    ///
    /// Settings of the training that do not go with the model.
    pub fn raw_update(&self, model: &[f32], draws: &mut ClientDraws) -> Result<Vec<f32>, SimulateError> {
        let (mut workspace, mut update) = (TrainingWorkspace::new(), vec![0.0; model.len()]);
        self.trainer()?.train(
            model,
            &self.examples,
            &mut draws.shuffling,
            &mut workspace,
            &mut update,
        );
        if let Some(layers) = &self.layer_clip {
            // The layers are those of the model, so their lengths add up to the update's.
            let clipped = layers.clip(&mut update);
            debug_assert!(clipped.is_ok());
        }
        Ok(update)
    }

    /// What trains on the client's examples.
    fn trainer(&self) -> Result<LocalTrainer<'_>, SimulateError> {
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
