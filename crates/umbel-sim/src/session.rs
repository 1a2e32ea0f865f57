//! A run's directory, ledger and secrets: everything of a simulation that is on the disk.

use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use umbel_accounting::ledger::{self, Body, LedgerWriter, PopulationLimit, PopulationShare, SigningKey};
use umbel_experiment::{
    Experiment, LedgerFacts, Overrides, RoundMetrics, RunDirectory, RunFile, check_share, take_share,
};
use umbel_protocol::{Checkpoint, CommitmentKey, Opening, ResumeError, Resumed};

use crate::world::Recorder;
use crate::{Prepared, SimulateError, World, checkpoint};

/// A run directory, its ledger, and what is already in them.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) experiment: Experiment,
    /// Absent until everything that can be refused has been checked, so that a refused experiment leaves no directory.
    target: Target,
    ledger: LedgerWriter,
    secret: RunSecret,
    pub(crate) rounds: Vec<RoundMetrics>,
    resumed: Option<Resumed>,
    /// What a new run takes of a budget on its population, together with storing its header.
    share: Option<ShareRequest>,
}

/// A share of a budget, to be taken.
#[derive(Debug)]
struct ShareRequest {
    path: PathBuf,
    limit: PopulationLimit,
    share: PopulationShare,
}

/// What nobody but this run may know while it lasts: its signing key and the salt of its commitments. It comes from the system
/// in a simulation too, and is removed when the run is closed.
struct RunSecret([u8; 32]);

#[derive(Debug)]
enum Target {
    Open(RunDirectory),
    Planned(PathBuf),
}

impl Session {
    pub(crate) fn create(mut experiment: Experiment, out: Option<&Path>) -> Result<Self, SimulateError> {
        choose_seed(&mut experiment)?;
        let secret = RunSecret::draw()?;
        let path = match out {
            Some(path) => path.to_owned(),
            None => default_directory(&experiment.name),
        };
        let ledger = LedgerWriter::new(secret.signing_key());
        let target = Target::Planned(path);
        Ok(Self {
            experiment,
            target,
            ledger,
            secret,
            rounds: Vec::new(),
            resumed: None,
            share: None,
        })
    }

    pub(crate) fn resume(path: &Path, experiment: Option<Experiment>) -> Result<Self, SimulateError> {
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
            return Err(ResumeError::Closed.into());
        }
        directory.truncate_ledger(verified.stored_bytes())?;
        directory.truncate_openings(u64::MAX)?;
        let secret = <[u8; 32]>::try_from(directory.read(RunFile::SigningKey)?.as_slice())
            .ok()
            .map(RunSecret);
        let resumed = secret.and_then(|secret| {
            let ledger = LedgerWriter::resume(secret.signing_key(), &verified)?;
            Some((secret, ledger))
        });
        let (secret, ledger) = resumed.ok_or_else(|| SimulateError::Setting {
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
            secret,
            rounds,
            resumed,
            share: None,
        })
    }

    /// A run that was interrupted before its first record was stored: nothing was learnt, so it begins anew. A directory that
    /// holds anything of a round has lost its ledger, and with it what was charged: it is refused.
    fn begin(mut directory: RunDirectory, mut experiment: Experiment) -> Result<Self, SimulateError> {
        for file in [
            RunFile::Checkpoint,
            RunFile::Metrics,
            RunFile::Model,
            RunFile::Summary,
        ] {
            let path = directory.file(file);
            if std::fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
                return Err(SimulateError::Setting {
                    key: "ledger",
                    reason: format!(
                        "{} is empty, but {} is not",
                        directory.file(RunFile::Ledger).display(),
                        path.display()
                    ),
                });
            }
        }
        directory.truncate_ledger(0)?;
        directory.truncate_openings(0)?;
        choose_seed(&mut experiment)?;
        let secret = RunSecret::draw()?;
        directory.write(RunFile::Experiment, experiment.to_toml().as_bytes())?;
        directory.write_signing_key(&secret.0)?;
        Ok(Self {
            experiment,
            target: Target::Open(directory),
            ledger: LedgerWriter::new(secret.signing_key()),
            secret,
            rounds: Vec::new(),
            resumed: None,
            share: None,
        })
    }

    /// The world to play in; for a new run this is the moment when its directory is made.
    pub(crate) fn world<'a>(
        &mut self,
        prepared: &'a Prepared,
        n_threads: usize,
    ) -> Result<World<'a>, SimulateError> {
        if let Some(resumed) = self.resumed.take() {
            let world = World::resume(prepared, resumed, self.secret.commitment_key(), n_threads)?;
            // What the interrupted run left is kept until it is certain that the run goes on.
            for file in [RunFile::Summary, RunFile::Report, RunFile::Model] {
                self.directory()?.remove(file)?;
            }
            return Ok(world);
        }
        let world = World::new(prepared, self.secret.commitment_key(), n_threads)?;
        self.share = self.share_request(prepared)?;
        if let Some(ShareRequest { path, limit, share }) = &self.share {
            check_share(path, limit, share.clone())?;
        }
        if let Target::Planned(path) = &self.target {
            let directory = RunDirectory::create(path)?;
            directory.write(RunFile::Experiment, self.experiment.to_toml().as_bytes())?;
            directory.write_signing_key(&self.secret.0)?;
            self.target = Target::Open(directory);
        }
        Ok(world)
    }

    /// The cost of the whole plan, or the run's own limit: what it may spend whatever it gives, so that it holds however it ends.
    fn share_request(&self, prepared: &Prepared) -> Result<Option<ShareRequest>, SimulateError> {
        let Some(budget) = &self.experiment.privacy.budget else {
            return Ok(None);
        };
        let settings = prepared.plan.settings();
        let most = prepared.plan.most_spent(prepared.initial.len())?;
        let limit = PopulationLimit {
            delta: budget.delta.value(),
            epsilon: budget.epsilon.value(),
            neighbors: prepared.plan.relation().as_str().to_owned(),
            unit: settings.unit.as_str().to_owned(),
            version: 1,
        };
        let share = PopulationShare {
            delta: settings.delta.value(),
            epsilon: most.value(),
            public_key: ledger::to_hex(&self.ledger.public_key()),
            run: self.experiment.name.clone(),
        };
        Ok(Some(ShareRequest {
            path: budget.file.clone(),
            limit,
            share,
        }))
    }

    pub(crate) fn directory(&mut self) -> Result<&mut RunDirectory, SimulateError> {
        match &mut self.target {
            Target::Open(directory) => Ok(directory),
            Target::Planned(_) => unreachable!("the directory is made before the first round"),
        }
    }

    /// Writes a round's line, then the state after it: what a checkpoint says is never ahead of the metrics.
    pub(crate) fn record(&mut self, metrics: &RoundMetrics, world: &World<'_>) -> Result<(), SimulateError> {
        let line = serde_json::to_string(metrics).map_err(crate::simulate::json_fault)?;
        let state = world.run().checkpoint();
        let path = self.directory()?.file(RunFile::Checkpoint);
        let content =
            checkpoint::encode(&state).map_err(|fault| SimulateError::Checkpoint { path, fault })?;
        let directory = self.directory()?;
        directory.append_metrics(&line)?;
        directory.write(RunFile::Checkpoint, &content)?;
        self.rounds.push(metrics.clone());
        Ok(())
    }

    /// How the ledger stands.
    pub(crate) fn ledger_facts(&self) -> LedgerFacts {
        LedgerFacts {
            records: self.ledger.records(),
            head: ledger::to_hex(&self.ledger.head()),
            public_key: ledger::to_hex(&self.ledger.public_key()),
            fingerprint: ledger::fingerprint(&self.ledger.public_key()),
        }
    }

    /// Ends the session: the closing record is stored, so nothing may be added any more.
    pub(crate) fn close(&mut self) -> Result<(), SimulateError> {
        self.directory()?.remove(RunFile::Checkpoint)?;
        self.directory()?.remove(RunFile::SigningKey)?;
        Ok(())
    }
}

impl Recorder for Session {
    fn store(&mut self, record: &Body, opening: Option<&Opening>) -> Result<(), SimulateError> {
        let line = match (record, self.share.take()) {
            (Body::Header(header), Some(ShareRequest { path, limit, share })) => {
                let mut header = header.clone();
                header.shared_budget = Some(take_share(&path, &limit, share)?);
                self.ledger.append(&Body::Header(header))?
            }
            (record, _) => self.ledger.append(record)?,
        };
        let directory = self.directory()?;
        // An opening without its record is harmless; a record without its opening could not be audited.
        if let Some(opening) = opening {
            directory.append_opening(opening.as_str())?;
        }
        directory.append_ledger(&line)?;
        Ok(())
    }
}

impl RunSecret {
    fn draw() -> Result<Self, SimulateError> {
        system_random().map(Self)
    }

    fn signing_key(&self) -> SigningKey {
        SigningKey::from_secret(&self.0)
    }

    fn commitment_key(&self) -> CommitmentKey {
        let mut hash = Sha256::new();
        hash.update(b"umbel commitment key v1\n");
        hash.update(self.0);
        CommitmentKey::from_secret(hash.finalize().into())
    }
}

impl fmt::Debug for RunSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunSecret").finish_non_exhaustive()
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

/// Draws a seed for an experiment that has none.
pub fn choose_seed(experiment: &mut Experiment) -> Result<(), SimulateError> {
    if experiment.seed.is_none() {
        // TOML's whole numbers have 63 bits.
        experiment.seed = Some(u64::from_le_bytes(system_random()?) >> 1);
    }
    Ok(())
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
