//! The runs of a state, seen from beside: `umbel runs`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use umbel_accounting::ledger;
use umbel_experiment::RoundMetrics;

use crate::store::{Reader, StoredRun};
use crate::{ServerError, State, export};

/// One run of a state.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunFacts {
    /// Its name.
    pub name: String,
    /// `running`, `finished`, `budget-exhausted` or `interrupted`.
    pub status: String,
    /// When it began, since 1970.
    pub started: Duration,
    /// Released rounds.
    pub rounds: Vec<RoundMetrics>,
    /// Names of the clients that have a number.
    pub clients: Vec<String>,
    /// Records in the ledger.
    pub records: usize,
    /// The signer's short name; absent before the first record.
    pub fingerprint: Option<String>,
    /// Refusals by clients' own policies, newest first.
    pub refusals: Vec<Refusal>,
}

/// A client would not take part.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Refusal {
    /// When, since 1970.
    pub at: Duration,
    /// Who, by the name in its certificate.
    pub client: String,
    /// The round; 0 for the whole run.
    pub round: u64,
    /// Why.
    pub reason: String,
}

/// The most refusals that are told of.
const MOST_REFUSALS: u32 = 100;

/// All runs of a state, oldest first. Like the others here not to be called from within an asynchronous task: it waits for the database.
///
/// # Errors
///
/// A database that is none, or a ledger that does not hold.
pub fn list(state: &State) -> Result<Vec<RunFacts>, ServerError> {
    let mut reader = Reader::open(state)?;
    reader
        .runs()?
        .into_iter()
        .map(|run| facts(&mut reader, run))
        .collect()
}

/// One run.
///
/// # Errors
///
/// As [`list`], and no run of that name.
pub fn show(state: &State, name: &str) -> Result<RunFacts, ServerError> {
    let mut reader = Reader::open(state)?;
    let run = find(&mut reader, state, name)?;
    facts(&mut reader, run)
}

/// Asks a run to stop: its open round is voided, and it is closed for good. False if it is over already.
///
/// # Errors
///
/// As [`show`].
pub fn stop(state: &State, name: &str) -> Result<bool, ServerError> {
    let mut reader = Reader::open(state)?;
    let run = find(&mut reader, state, name)?;
    Ok(reader.request_stop(run.id)?)
}

/// Writes a run's directory, as far as it has come.
///
/// # Errors
///
/// As [`show`], and a directory that holds another run.
pub fn export(state: &State, name: &str, out: &Path) -> Result<PathBuf, ServerError> {
    export::export(state, name, out)?;
    Ok(out.to_owned())
}

fn find(reader: &mut Reader, state: &State, name: &str) -> Result<StoredRun, ServerError> {
    let run = reader.runs()?.into_iter().find(|run| run.name == name);
    run.ok_or_else(|| ServerError::NoSuchRun {
        state: state.clone(),
        run: name.to_owned(),
    })
}

fn facts(reader: &mut Reader, run: StoredRun) -> Result<RunFacts, ServerError> {
    let text = reader.ledger(run.id)?;
    let verified = match text.is_empty() {
        true => None,
        false => Some(ledger::read(&text).map_err(|fault| ServerError::Ledger {
            run: run.name.clone(),
            fault,
        })?),
    };
    let rounds = reader.metrics(run.id)?;
    let refusals = reader.refusals(run.id, MOST_REFUSALS)?;
    Ok(RunFacts {
        status: run.status,
        started: run.started,
        rounds: rounds
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect(),
        clients: reader
            .clients(run.id)?
            .into_iter()
            .map(|(name, _)| name)
            .collect(),
        records: verified.as_ref().map_or(0, |verified| verified.records().len()),
        fingerprint: verified.map(|verified| ledger::fingerprint(&verified.public_key())),
        refusals: refusals
            .into_iter()
            .map(|refusal| Refusal {
                at: refusal.at,
                client: refusal.client,
                round: refusal.round,
                reason: refusal.reason,
            })
            .collect(),
        name: run.name,
    })
}
