//! The run directory that a served run leaves: the same files as a simulation's.

use std::fs;
use std::io;
use std::path::Path;

use umbel_accounting::EpsilonBounds;
use umbel_accounting::ledger::{self, CloseStatus, Digest, LedgerWriter, to_hex};
use umbel_experiment::report::{self, RunRecord};
use umbel_experiment::{
    Evaluation, Experiment, FileError, FormatSettings, LedgerFacts, ModelFacts, Overrides, RoundMetrics,
    RunFile, Status, Summary, Timing, read_file, write_whole,
};
use umbel_protocol::RoundId;
use umbel_sim::{ServerTask, checkpoint, facts};

use crate::store::Reader;
use crate::{ServerError, State};

/// What a summary is made of.
pub(crate) struct Ending<'a> {
    pub(crate) task: &'a ServerTask,
    pub(crate) status: CloseStatus,
    pub(crate) rounds: &'a [RoundMetrics],
    pub(crate) spent: EpsilonBounds,
    pub(crate) simulated: bool,
    pub(crate) seconds: f64,
    pub(crate) model_sha256: Digest,
    pub(crate) ledger: &'a LedgerWriter,
}

/// The bytes of `model.safetensors`.
pub(crate) fn model_file(task: &ServerTask, parameters: &[f32], round: RoundId) -> Vec<u8> {
    let name = &task.experiment.name;
    umbel_sim::model_file(name, task.model.as_ref(), &task.test, parameters, round.0)
}

/// The text of `summary.json`.
pub(crate) fn summary(ending: &Ending<'_>) -> Result<String, ServerError> {
    let Ending { task, rounds, .. } = ending;
    let settings = task.plan.settings();
    let evaluation = |line: &RoundMetrics| Evaluation {
        round: line.round,
        loss: line.loss,
        accuracy: line.accuracy,
    };
    let best = rounds.iter().reduce(
        |best, line| {
            if line.accuracy > best.accuracy { line } else { best }
        },
    );
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    let rounds_per_second = rounds.len() as f64 / ending.seconds.max(f64::MIN_POSITIVE);
    let mut not_covered = task.not_covered();
    not_covered.extend(facts::not_covered_by_end(ending.status));
    let summary = Summary {
        name: task.experiment.name.clone(),
        seed: task.seed,
        status: match ending.status {
            CloseStatus::BudgetExhausted => Status::BudgetExhausted,
            CloseStatus::Finished => Status::Finished,
            CloseStatus::Interrupted => Status::Interrupted,
        },
        rounds: settings.rounds,
        rounds_completed: rounds.len() as u64,
        clients: settings.population,
        cohort: settings.cohort,
        last: rounds.last().map(evaluation),
        best: best.map(evaluation),
        privacy: facts::privacy(&task.plan, ending.simulated, &not_covered, ending.spent),
        timing: Timing {
            total_seconds: ending.seconds,
            train_seconds: ending.seconds,
            rounds_per_second,
            // Rates times seconds are counts of who took part, which nobody has paid for.
            clients_per_second: None,
            examples_per_second: None,
        },
        peak_rss_bytes: Summary::peak_rss_bytes(),
        model_sha256: to_hex(&ending.model_sha256),
        model: ModelFacts {
            kind: task.experiment.model.kind().to_owned(),
            parameters: task.initial.len() as u64,
        },
        ledger: LedgerFacts {
            records: ending.ledger.records(),
            head: to_hex(&ending.ledger.head()),
            public_key: to_hex(&ending.ledger.public_key()),
            fingerprint: ledger::fingerprint(&ending.ledger.public_key()),
        },
        simulator_only: None,
    };
    let text =
        serde_json::to_string_pretty(&summary).map_err(|error| ServerError::System(error.to_string()))?;
    Ok(text + "\n")
}

/// Writes the run directory of the run `name` in `state` to `out`. It may be there already from a try that was
/// interrupted; a directory of another run is refused. A run that is not over has no summary and no report yet.
pub(crate) fn export(state: &State, name: &str, out: &Path) -> Result<(), ServerError> {
    let mut reader = Reader::open(state)?;
    let run = reader
        .runs()?
        .into_iter()
        .find(|run| run.name == name)
        .ok_or_else(|| ServerError::NoSuchRun {
            state: state.clone(),
            run: name.to_owned(),
        })?;
    let ledger = reader.ledger(run.id)?;
    prepare(out, &ledger)?;
    let write = |file: RunFile, content: &[u8]| write_whole(&out.join(file.name()), content);
    let experiment = Experiment::parse(&run.experiment, Path::new("/"), &Overrides::default())?;
    // The text whose hash stands in the ledger.
    write(RunFile::Experiment, experiment.to_public_toml().as_bytes())?;
    write(RunFile::Ledger, &ledger)?;
    write(
        RunFile::LedgerOpenings,
        lines(&reader.openings(run.id)?).as_bytes(),
    )?;
    write(RunFile::Metrics, lines(&reader.metrics(run.id)?).as_bytes())?;
    let task = ServerTask::new(experiment, std::time::Duration::from_secs(1))?;
    let model = match reader.checkpoint(run.id)? {
        Some(content) => {
            let stored = checkpoint::decode(&content)?;
            model_file(&task, &stored.parameters, stored.round)
        }
        None => model_file(&task, &task.initial, RoundId(0)),
    };
    write(RunFile::Model, &model)?;
    if let FormatSettings::Text(text) = &task.experiment.data.format {
        for (file, path) in [
            (RunFile::Vocabulary, text.vocabulary()),
            (RunFile::Idf, text.idf.as_deref()),
        ] {
            if let Some(path) = path {
                write(file, &read_file(path)?)?;
            }
        }
    }
    if let Some(summary) = &run.summary {
        write(RunFile::Summary, summary.as_bytes())?;
        let record = RunRecord::read(out).map_err(|error| ServerError::System(error.to_string()))?;
        write(RunFile::Report, report::render(&[record]).as_bytes())?;
    }
    Ok(())
}

/// Makes the directory, or finds that what is in it is an earlier state of the same run.
fn prepare(out: &Path, ledger: &[u8]) -> Result<(), ServerError> {
    fs::create_dir_all(out).map_err(|source| FileError {
        what: "cannot create",
        path: out.to_owned(),
        source,
    })?;
    let other = || ServerError::OtherOut { path: out.to_owned() };
    match fs::read(out.join(RunFile::Ledger.name())) {
        Ok(found) if ledger.starts_with(&found) => Ok(()),
        Ok(_) => Err(other()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut entries = fs::read_dir(out).map_err(|source| FileError {
                what: "cannot read",
                path: out.to_owned(),
                source,
            })?;
            // An interrupted try has written the experiment, and a temporary file beside what it was at.
            let known = [RunFile::Experiment.name(), "experiment.toml.tmp", "ledger.tmp"];
            if entries
                .any(|entry| entry.is_ok_and(|entry| !known.iter().any(|name| entry.file_name() == *name)))
            {
                return Err(other());
            }
            Ok(())
        }
        Err(source) => Err(FileError {
            what: "cannot read",
            path: out.join(RunFile::Ledger.name()),
            source,
        }
        .into()),
    }
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}
