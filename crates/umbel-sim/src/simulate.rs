//! `umbel simulate`, from an experiment to a run directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use umbel_accounting::ledger::{self, Body, CloseStatus, LedgerWriter, SigningKey, to_hex};
use umbel_experiment::report::{self, RunRecord};
use umbel_experiment::{
    Evaluation, Experiment, LedgerFacts, Overrides, PartitionOnly, RoundMetrics, RunDirectory, RunFile,
    Status, Summary, Timing,
};
use umbel_protocol::{BudgetExhausted, Checkpoint, Resumed, RoundId};
use umbel_train::to_safetensors;

use crate::world::Recorder;
use crate::{Prepared, SimulateError, Step, World, checkpoint, facts};

/// Where a simulation leaves its results, and on how many threads it runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The run directory; `runs/<name>-<time>` if absent.
    pub out: Option<PathBuf>,
    /// The directory of an interrupted run to go on with.
    pub resume: Option<PathBuf>,
    /// Number of threads, at least 1. The result does not depend on it.
    pub n_threads: usize,
}

/// Told how a simulation gets on.
pub trait Progress {
    /// The data are read and the noise is calibrated; `completed` rounds are there from before an interruption.
    fn begin(&mut self, prepared: &Prepared, directory: &Path, completed: u64);

    /// A round was released.
    fn round(&mut self, metrics: &RoundMetrics);

    /// No further round will open.
    fn end(&mut self, exhausted: Option<&BudgetExhausted>);
}

/// Runs an experiment to its end, or until `stop` is set, and leaves a whole run directory either way.
///
/// With [`Options::resume`] the run goes on as if it had not been interrupted; `experiment` may then be absent, and must
/// otherwise be the one that the directory holds.
pub fn simulate(
    experiment: Option<Experiment>,
    options: &Options,
    progress: &mut dyn Progress,
    stop: &AtomicBool,
) -> Result<Summary, SimulateError> {
    let started = Instant::now();
    let mut session = match &options.resume {
        Some(path) => Session::resume(path, experiment)?,
        None => {
            let experiment = experiment.ok_or_else(|| SimulateError::Setting {
                key: "EXPERIMENT.toml",
                reason: "expected an experiment, or a run to --resume".to_owned(),
            })?;
            Session::create(experiment, options.out.as_deref())?
        }
    };
    let prepared = Prepared::new(session.experiment.clone())?;
    let mut world = session.world(&prepared, options.n_threads)?;
    let completed = session.rounds.len() as u64;
    progress.begin(&prepared, session.directory()?.path(), completed);

    let rounds_started = Instant::now();
    let (status, exhausted) = loop {
        match world.step(&mut session, stop)? {
            Step::Round(metrics) => {
                session.record(&metrics, &world)?;
                progress.round(&metrics);
            }
            Step::Ended { status, exhausted } => break (status, exhausted),
        }
    };
    progress.end(exhausted.as_ref());
    let train_seconds = rounds_started.elapsed().as_secs_f64();
    let timing = timing(&world, session.rounds.len() as u64 - completed, train_seconds);
    session.finish(&prepared, &mut world, status, || Timing {
        total_seconds: started.elapsed().as_secs_f64(),
        ..timing
    })
}

#[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
fn timing(world: &World<'_>, rounds: u64, train_seconds: f64) -> Timing {
    let rate = |count: u64| {
        if train_seconds > 0.0 {
            count as f64 / train_seconds
        } else {
            0.0
        }
    };
    Timing {
        total_seconds: 0.0,
        train_seconds,
        rounds_per_second: rate(rounds),
        clients_per_second: rate(world.clients_trained()),
        examples_per_second: rate(world.examples_seen()),
    }
}

/// A run directory, its ledger, and what is already in them.
#[derive(Debug)]
struct Session {
    experiment: Experiment,
    /// Absent until everything that can be refused has been checked, so that a refused experiment leaves no directory.
    target: Target,
    ledger: LedgerWriter,
    secret: Option<[u8; 32]>,
    rounds: Vec<RoundMetrics>,
    resumed: Option<Resumed>,
}

#[derive(Debug)]
enum Target {
    Open(RunDirectory),
    Planned(PathBuf),
}

impl Session {
    fn create(mut experiment: Experiment, out: Option<&Path>) -> Result<Self, SimulateError> {
        let secret = choose_secrets(&mut experiment)?;
        let path = match out {
            Some(path) => path.to_owned(),
            None => default_directory(&experiment.name),
        };
        let ledger = LedgerWriter::new(SigningKey::from_secret(&secret));
        let target = Target::Planned(path);
        Ok(Self {
            experiment,
            target,
            ledger,
            secret: Some(secret),
            rounds: Vec::new(),
            resumed: None,
        })
    }

    fn resume(path: &Path, experiment: Option<Experiment>) -> Result<Self, SimulateError> {
        let mut directory = RunDirectory::resume(path)?;
        let kept = kept_experiment(&directory, experiment)?;
        let ledger_file = directory.file(RunFile::Ledger);
        let text = directory.read_ledger()?;
        if !text.contains(&b'\n') {
            return Self::begin(directory, kept);
        }
        let verified = ledger::read(&text).map_err(|fault| SimulateError::Ledger {
            path: ledger_file.clone(),
            fault,
        })?;
        if verified.order() == ledger::Order::Closed {
            // Killed after its last record, the run may not have come to that.
            directory.remove(RunFile::Checkpoint)?;
            directory.remove(RunFile::SigningKey)?;
            return Err(umbel_protocol::ResumeError::Closed.into());
        }
        directory.truncate_ledger(verified.stored_bytes())?;
        directory.mend_openings()?;
        let secret = directory.read(RunFile::SigningKey)?;
        let key = <[u8; 32]>::try_from(secret.as_slice())
            .ok()
            .map(|secret| SigningKey::from_secret(&secret));
        let ledger = key.and_then(|key| LedgerWriter::resume(key, &verified).ok());
        let ledger = ledger.ok_or_else(|| SimulateError::Setting {
            key: "signing.key",
            reason: format!(
                "{} does not hold the key that signed the ledger",
                directory.file(RunFile::SigningKey).display()
            ),
        })?;

        let checkpoint = read_checkpoint(&directory)?;
        let released = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.round.0);
        let lines = directory.truncate_metrics(released)?;
        let rounds: Vec<RoundMetrics> = lines
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        if rounds.len() as u64 != released || rounds.iter().zip(1..).any(|(line, round)| line.round != round)
        {
            return Err(SimulateError::Setting {
                key: "metrics.jsonl",
                reason: format!(
                    "expected a line for each of rounds 1 to {released}, which the checkpoint stands after"
                ),
            });
        }
        let resumed = Some(Resumed::new(&verified, checkpoint));
        Ok(Self {
            experiment: kept,
            target: Target::Open(directory),
            ledger,
            secret: None,
            rounds,
            resumed,
        })
    }

    /// A run that was interrupted before its first record was stored: nothing was learnt, so it begins anew.
    fn begin(mut directory: RunDirectory, mut experiment: Experiment) -> Result<Self, SimulateError> {
        directory.truncate_ledger(0)?;
        directory.truncate_metrics(0)?;
        let secret = choose_secrets(&mut experiment)?;
        directory.write(RunFile::Experiment, experiment.to_toml().as_bytes())?;
        directory.write_signing_key(&secret)?;
        Ok(Self {
            experiment,
            target: Target::Open(directory),
            ledger: LedgerWriter::new(SigningKey::from_secret(&secret)),
            secret: None,
            rounds: Vec::new(),
            resumed: None,
        })
    }

    /// The world to play in; for a new run this is the moment when its directory is made.
    fn world<'a>(&mut self, prepared: &'a Prepared, n_threads: usize) -> Result<World<'a>, SimulateError> {
        if let Some(resumed) = self.resumed.take() {
            let world = World::resume(prepared, resumed, n_threads)?;
            // What the interrupted run left is kept until it is certain that the run goes on.
            for file in [RunFile::Summary, RunFile::Report, RunFile::Model] {
                self.directory()?.remove(file)?;
            }
            return Ok(world);
        }
        let world = World::new(prepared, n_threads)?;
        if let Target::Planned(path) = &self.target {
            let directory = RunDirectory::create(path)?;
            directory.write(RunFile::Experiment, self.experiment.to_toml().as_bytes())?;
            if let Some(secret) = self.secret.take() {
                directory.write_signing_key(&secret)?;
            }
            self.target = Target::Open(directory);
        }
        Ok(world)
    }

    fn directory(&mut self) -> Result<&mut RunDirectory, SimulateError> {
        match &mut self.target {
            Target::Open(directory) => Ok(directory),
            Target::Planned(_) => unreachable!("the directory is made before the first round"),
        }
    }

    /// Writes a round's line, then the state after it: what a checkpoint says is never ahead of the metrics.
    fn record(&mut self, metrics: &RoundMetrics, world: &World<'_>) -> Result<(), SimulateError> {
        let line = serde_json::to_string(metrics).map_err(json_fault)?;
        let state = world.run().checkpoint(RoundId(metrics.round));
        let path = self.directory()?.file(RunFile::Checkpoint);
        let content =
            checkpoint::encode(&state).map_err(|fault| SimulateError::Checkpoint { path, fault })?;
        let directory = self.directory()?;
        directory.append_metrics(&line)?;
        directory.write(RunFile::Checkpoint, &content)?;
        self.rounds.push(metrics.clone());
        Ok(())
    }

    /// Leaves model, summary, report and the closing record.
    fn finish(
        mut self,
        prepared: &Prepared,
        world: &mut World<'_>,
        status: CloseStatus,
        timing: impl Fn() -> Timing,
    ) -> Result<Summary, SimulateError> {
        let settings = prepared.plan.settings();
        let metadata = BTreeMap::from([
            ("format".to_owned(), "umbel-model-v1".to_owned()),
            ("name".to_owned(), prepared.experiment.name.clone()),
            ("rounds".to_owned(), self.rounds.len().to_string()),
        ]);
        let model = to_safetensors(prepared.model.as_ref(), world.run().parameters(), &metadata);
        let model_sha256: ledger::Digest = Sha256::digest(&model).into();
        self.directory()?.write(RunFile::Model, &model)?;
        drop(model);

        let evaluation = |line: &RoundMetrics| Evaluation {
            round: line.round,
            loss: line.loss,
            accuracy: line.accuracy,
        };
        let best = self
            .rounds
            .iter()
            .fold(None, |best: Option<&RoundMetrics>, line| match best {
                Some(best) if best.accuracy >= line.accuracy => Some(best),
                _ => Some(line),
            });
        let summary = Summary {
            name: prepared.experiment.name.clone(),
            seed: prepared.seed,
            status: match status {
                CloseStatus::BudgetExhausted => Status::BudgetExhausted,
                CloseStatus::Finished => Status::Finished,
                CloseStatus::Interrupted => Status::Interrupted,
            },
            rounds: settings.rounds,
            rounds_completed: self.rounds.len() as u64,
            clients: settings.population,
            cohort: settings.cohort,
            last: self.rounds.last().map(evaluation),
            best: best.map(evaluation),
            privacy: facts::privacy(prepared, world.run().spent()),
            timing: timing(),
            peak_rss_bytes: Summary::peak_rss_bytes(),
            model_sha256: to_hex(&model_sha256),
            model: facts::model(prepared),
            ledger: LedgerFacts {
                records: self.ledger.records(),
                head: to_hex(&self.ledger.head()),
                public_key: to_hex(&self.ledger.public_key()),
                fingerprint: ledger::fingerprint(&self.ledger.public_key()),
            },
            simulator_only: PartitionOnly {
                covered_by_epsilon: false,
                partition: facts::partition(prepared),
            },
        };
        let mut text = serde_json::to_string_pretty(&summary).map_err(json_fault)?;
        text.push('\n');
        self.directory()?.write(RunFile::Summary, text.as_bytes())?;
        let record = RunRecord::read(self.directory()?.path())?;
        self.directory()?
            .write(RunFile::Report, report::render(&[record]).as_bytes())?;

        world
            .run_mut()
            .handle_close(model_sha256, Sha256::digest(text.as_bytes()).into())?;
        world.drain_records(&mut self)?;
        if status != CloseStatus::Interrupted {
            self.directory()?.remove(RunFile::Checkpoint)?;
            self.directory()?.remove(RunFile::SigningKey)?;
        }
        Ok(summary)
    }
}

impl Recorder for Session {
    fn store(&mut self, record: &Body, opening: Option<&str>) -> Result<(), SimulateError> {
        let line = self.ledger.append(record)?;
        let directory = self.directory()?;
        // An opening without its record is harmless; a record without its opening could not be audited.
        if let Some(opening) = opening {
            directory.append_opening(opening)?;
        }
        directory.append_ledger(&line)?;
        Ok(())
    }
}

/// The directory's experiment, which `given` must not differ from. Where the run was interrupted before even that was written,
/// `given` itself.
fn kept_experiment(directory: &RunDirectory, given: Option<Experiment>) -> Result<Experiment, SimulateError> {
    let file = directory.file(RunFile::Experiment);
    if !file.exists() {
        return given.ok_or_else(|| SimulateError::Setting {
            key: "EXPERIMENT.toml",
            reason: format!(
                "expected an experiment: {} holds none, since its run was interrupted before it began",
                directory.path().display()
            ),
        });
    }
    let recorded = String::from_utf8_lossy(&directory.read(RunFile::Experiment)?).into_owned();
    let kept = Experiment::parse(&recorded, directory.path(), &Overrides::default())
        .map_err(|source| SimulateError::RunExperiment { path: file, source })?;
    if let Some(mut given) = given {
        given.seed = given.seed.or(kept.seed);
        same_experiment(directory.path(), &kept.to_toml(), &given.to_toml())?;
    }
    Ok(kept)
}

/// Draws the key that signs the ledger, and a seed for an experiment that has none.
fn choose_secrets(experiment: &mut Experiment) -> Result<[u8; 32], SimulateError> {
    if experiment.seed.is_none() {
        // TOML's whole numbers have 63 bits.
        experiment.seed = Some(u64::from_le_bytes(system_random()?) >> 1);
    }
    system_random()
}

fn read_checkpoint(directory: &RunDirectory) -> Result<Option<Checkpoint>, SimulateError> {
    let path = directory.file(RunFile::Checkpoint);
    if !path.exists() {
        return Ok(None);
    }
    let content = directory.read(RunFile::Checkpoint)?;
    checkpoint::decode(&content)
        .map(Some)
        .map_err(|fault| SimulateError::Checkpoint { path, fault })
}

fn same_experiment(path: &Path, recorded: &str, now: &str) -> Result<(), SimulateError> {
    let mut lines = recorded
        .lines()
        .zip(now.lines())
        .filter(|(recorded, now)| recorded != now);
    let differing = match lines.next() {
        Some((recorded, now)) => Some((recorded, now)),
        None if recorded != now => Some(("fewer or more lines", "another number of lines")),
        None => None,
    };
    match differing {
        None => Ok(()),
        Some((recorded, now)) => Err(SimulateError::OtherExperiment {
            path: path.to_owned(),
            recorded: recorded.to_owned(),
            got: now.to_owned(),
        }),
    }
}

/// `runs/<name>-<time>`, in universal time; a number is added if that is taken.
fn default_directory(name: &str) -> PathBuf {
    let now = time::OffsetDateTime::now_utc();
    let (date, clock) = (now.date(), now.time());
    let stamp = format!(
        "{:04}{:02}{:02}-{:02}{:02}{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    );
    let first = Path::new("runs").join(format!("{name}-{stamp}"));
    let mut path = first.clone();
    let mut number = 1;
    while path.exists() {
        number += 1;
        path = first.with_file_name(format!("{name}-{stamp}-{number}"));
    }
    path
}

fn system_random<const N: usize>() -> Result<[u8; N], SimulateError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| SimulateError::System(error.to_string()))?;
    Ok(bytes)
}

fn json_fault(error: serde_json::Error) -> SimulateError {
    SimulateError::Setting {
        key: "summary",
        reason: error.to_string(),
    }
}
