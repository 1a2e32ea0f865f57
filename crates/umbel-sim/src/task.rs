//! What an experiment means to the server of a federation, which holds the test set and no training data.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use umbel_accounting::ledger::to_hex;
use umbel_experiment::{Experiment, UnitSettings};
use umbel_mechanisms::{Mechanism, NoiseLaw, Purpose, SimulationSeed};
use umbel_protocol::{PlanError, PlanSettings, RunPlan, Trust};
use umbel_train::{Dataset, Model, TrainingRng};

use crate::model::build_model;
use crate::prepare::{not_covered_by_trust, not_covered_by_unit, plan};
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
        let examples = match (experiment.privacy.unit, experiment.federation.examples) {
            (UnitSettings::Example, None) => {
                let what = "the number of examples of all clients, a public number";
                return Err(declared("federation.examples", what));
            }
            (_, examples) => examples.unwrap_or(0),
        };
        let plan = plan(
            &experiment,
            clients,
            examples,
            initial.len(),
            to_hex(&hash.finalize()),
        )?;
        check_served(&experiment, &plan)?;
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

    /// How many numbers a report has.
    ///
    /// # Errors
    ///
    /// A mechanism that cannot begin.
    pub fn report_length(&self) -> Result<usize, SimulateError> {
        let state = self.plan.settings().mechanism.begin().map_err(PlanError::from)?;
        Ok(state.quantizer().report_length(self.initial.len()))
    }

    /// Whether the clip norm follows the updates, so that each round has its own.
    pub fn clip_norm_moves(&self) -> bool {
        matches!(self.plan.settings().mechanism, Mechanism::Adaptive(_))
    }

    /// What the promise does not cover, in words.
    pub fn not_covered(&self) -> Vec<&'static str> {
        let settings = self.plan.settings();
        let mut list = not_covered_by_trust(settings);
        list.push("the choice of settings: what was learnt by trying them on this data is not charged");
        if settings.trust == Trust::Central && settings.secure_aggregation.is_none() {
            list.push("the server's state, its log and ledger.openings: they tell who took part");
        }
        list.push(not_covered_by_unit(settings.unit));
        list
    }
}

/// What a simulation may do and a federation may not: asked of a server's plan by the server, and again by each client.
pub(crate) fn check_served(experiment: &Experiment, plan: &RunPlan) -> Result<(), SimulateError> {
    let refuse = |key, reason: &str| {
        let reason = reason.to_owned();
        Err(SimulateError::Setting { key, reason })
    };
    if plan
        .settings()
        .secure_aggregation
        .is_some_and(|secure| secure.ideal)
    {
        let reason = "expected true or false: \"ideal\" leaves the cryptography away, for simulation only";
        return refuse("secure_aggregation.enabled", reason);
    }
    if matches!(plan.settings().mechanism, Mechanism::Matrix(_)) {
        let reason = "expected independent noise in each round: DP-FTRL is for simulation only, since a server that starts again would \
                      give clients other turns";
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use umbel_experiment::Overrides;

    use super::*;

    /// What a server of the shipped digits says with these settings changed.
    fn refusal(settings: &[&str]) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits");
        let text = std::fs::read_to_string(folder.join("experiment.toml")).unwrap();
        let mut overrides = Overrides::default();
        overrides.settings.push("data.classes=10".to_owned());
        overrides.settings.push("federation.clients=539".to_owned());
        overrides
            .settings
            .extend(settings.iter().map(|setting| (*setting).to_owned()));
        let experiment = Experiment::parse(&text, &folder, &overrides).unwrap();
        let task = ServerTask::new(experiment, Duration::from_secs(60));
        task.map_or_else(|error| error.to_string(), |_| "served".to_owned())
    }

    #[test]
    fn what_cannot_be_served_is_refused_by_the_name_of_its_key() {
        assert_eq!(refusal(&[]), "served");
        for (settings, expected) in [
            (
                &["privacy.mechanism={ kind = \"dp-ftrl\", strategy = \"tree\" }"][..],
                "`privacy.mechanism`: expected independent noise in each round: DP-FTRL is for simulation only",
            ),
            (
                &["privacy.noise=continuous"],
                "`privacy.noise`: expected \"rounded\"",
            ),
            (
                &[
                    "privacy.unit=example",
                    "privacy.trust=local",
                    "training.sampling_rate=0.1",
                    "training.steps=2",
                ],
                "`federation.examples`: expected the number of examples of all clients",
            ),
        ] {
            let refusal = refusal(settings);
            assert!(refusal.starts_with(expected), "{refusal}");
        }
    }
}
