//! `umbel simulate`, from an experiment to a run directory.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use umbel_accounting::ledger::{self, CloseStatus, to_hex};
use umbel_experiment::report::{self, RunRecord};
use umbel_experiment::{
    Evaluation, Experiment, FormatSettings, PartitionOnly, RoundMetrics, RunFile, Status, Summary, Timing,
    read_file,
};
use umbel_protocol::BudgetExhausted;

use crate::predict::model_file;
use crate::session::Session;
use crate::{Prepared, SimulateError, Step, World, facts};

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
        let step = if ends_early(&prepared, &session.rounds) {
            world.finish(&mut session)?
        } else {
            world.step(&mut session, stop)?
        };
        match step {
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
    finish(&mut session, &prepared, &mut world, status, || Timing {
        total_seconds: started.elapsed().as_secs_f64(),
        ..timing
    })
}

/// Whether the run's own rule ends it after these rounds. It looks at public examples and released models only, and at all rounds
/// from the first, so that a run which was interrupted ends where it would have ended.
fn ends_early(prepared: &Prepared, rounds: &[RoundMetrics]) -> bool {
    let Some(stopping) = prepared.experiment.federation.early_stopping else {
        return false;
    };
    let values = rounds.iter().filter_map(|line| line.validation);
    (rounds.len() as u64) < prepared.plan.settings().rounds
        && stopping.ends(values.map(|quality| (quality.loss, quality.accuracy)))
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
        clients_per_second: Some(rate(world.clients_trained())),
        examples_per_second: Some(rate(world.examples_seen())),
    }
}

/// Leaves model, summary, report and the closing record.
fn finish(
    session: &mut Session,
    prepared: &Prepared,
    world: &mut World<'_>,
    status: CloseStatus,
    timing: impl Fn() -> Timing,
) -> Result<Summary, SimulateError> {
    let settings = prepared.plan.settings();
    let rounds = session.rounds.len() as u64;
    let name = &prepared.experiment.name;
    let model = model_file(
        name,
        prepared.model.as_ref(),
        &prepared.train,
        world.run().parameters(),
        rounds,
    );
    let model_sha256: ledger::Digest = Sha256::digest(&model).into();
    session.directory()?.write(RunFile::Model, &model)?;
    drop(model);
    // What a prediction needs besides the model and the settings lies beside them.
    if let FormatSettings::Text(text) = &prepared.experiment.data.format {
        for (file, path) in [
            (RunFile::Vocabulary, text.vocabulary()),
            (RunFile::Idf, text.idf.as_deref()),
        ] {
            if let Some(path) = path {
                session.directory()?.write(file, &read_file(path)?)?;
            }
        }
    }

    let evaluation = |line: &RoundMetrics| Evaluation {
        round: line.round,
        loss: line.loss,
        accuracy: line.accuracy,
    };
    let best = session
        .rounds
        .iter()
        .fold(None, |best: Option<&RoundMetrics>, line| match best {
            Some(best) if best.accuracy >= line.accuracy => Some(best),
            _ => Some(line),
        });
    let mut not_covered = prepared.not_covered();
    not_covered.extend(facts::not_covered_by_end(status));
    let summary = Summary {
        name: prepared.experiment.name.clone(),
        seed: prepared.seed,
        status: match status {
            CloseStatus::BudgetExhausted => Status::BudgetExhausted,
            CloseStatus::Finished if (session.rounds.len() as u64) < settings.rounds => Status::StoppedEarly,
            CloseStatus::Finished => Status::Finished,
            CloseStatus::Interrupted => Status::Interrupted,
        },
        rounds: settings.rounds,
        rounds_completed: session.rounds.len() as u64,
        clients: settings.population,
        cohort: settings.cohort,
        last: session.rounds.last().map(evaluation),
        best: best.map(evaluation),
        privacy: facts::privacy(&prepared.plan, true, &not_covered, world.run().spent()),
        timing: timing(),
        peak_rss_bytes: Summary::peak_rss_bytes(),
        model_sha256: to_hex(&model_sha256),
        model: facts::model(prepared),
        ledger: session.ledger_facts(),
        simulator_only: Some(PartitionOnly {
            covered_by_epsilon: false,
            partition: facts::partition(&prepared.experiment.data, &prepared.train, &prepared.partition),
        }),
    };
    let mut text = serde_json::to_string_pretty(&summary).map_err(json_fault)?;
    text.push('\n');
    session.directory()?.write(RunFile::Summary, text.as_bytes())?;
    let record = RunRecord::read(session.directory()?.path())?;
    session
        .directory()?
        .write(RunFile::Report, report::render(&[record]).as_bytes())?;

    world
        .run_mut()
        .handle_close(model_sha256, Sha256::digest(text.as_bytes()).into())?;
    world.drain_records(session)?;
    if status != CloseStatus::Interrupted {
        session.close()?;
    }
    Ok(summary)
}

pub(crate) fn json_fault(error: serde_json::Error) -> SimulateError {
    SimulateError::Setting {
        key: "summary",
        reason: error.to_string(),
    }
}
