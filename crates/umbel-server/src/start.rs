//! From settings to a server that runs.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpListener;
use tracing::info;
use umbel_accounting::ledger::{self, Body, LedgerWriter, VerifiedLedger};
use umbel_experiment::{Experiment, RoundMetrics};
use umbel_protocol::{OpenRound, Resumed, Run};
use umbel_sim::{ServerTask, checkpoint, facts};

use crate::driver::{Driver, SecureRounds};
use crate::feed::LedgerFeed;
use crate::listener::TlsState;
use crate::running::{Ended, Running, Sockets};
use crate::secret::RunSecret;
use crate::store::{Opening, Store, StoredRun};
use crate::view::{Facts, Shared, Stage, View};
use crate::{Clock, LiveSources, ServerError, ServerSettings, State, SystemClock, export};

/// How often a standby looks whether the lease is free.
const STANDBY_POLL: Duration = Duration::from_millis(500);

/// How long an address that is in use is tried for once a server has taken over: whoever had it on this machine is about to end.
const BIND_PATIENCE: Duration = Duration::from_secs(15);

/// Starts a server: a new run, or the one that the state holds under the experiment's name. A run that is over is exported again
/// and nothing more.
///
/// Where the state is a PostgreSQL database on which another server runs, this waits as a standby, without listening, until that has
/// ended, and goes on with the run. Dropped while it waits, it takes nothing.
///
/// `clock` is the system's unless a test brings another.
///
/// # Errors
///
/// Whatever keeps it from starting, in one sentence. Nothing was changed then but an empty state.
pub async fn start(
    settings: ServerSettings,
    experiment: Experiment,
    sources: LiveSources,
    clock: Option<Arc<dyn Clock>>,
) -> Result<Running, ServerError> {
    // Certificates and addresses first: a mistake in them should leave no trace.
    let mut tls = TlsState::load(&settings.tls)?;
    let mut sockets = match bind(&settings).await {
        Ok(sockets) => Some(sockets),
        // The one that leads may have them, on this machine.
        Err(ServerError::Bind { source, .. }) if may_wait(&settings.state) && is_in_use(&source) => None,
        Err(error) => return Err(error),
    };
    let state = settings.state.clone();
    let mut opening = blocking(move || Ok(Store::open(&state)?)).await?;
    let mut waited = false;
    let store = loop {
        match opening {
            Opening::Ready(store) => break store,
            Opening::Waiting(standby) => {
                if !waited {
                    info!(state = %settings.state, by = standby.holder(), "standby: another server leads; waiting for its end");
                    // Who waits does not listen.
                    sockets = None;
                }
                waited = true;
                tokio::time::sleep(STANDBY_POLL).await;
                opening = blocking(move || Ok(standby.try_to_lead()?)).await?;
            }
        }
    };
    if waited {
        info!(state = %settings.state, "the lease is free: this server leads now");
        tls = TlsState::load(&settings.tls)?;
    }
    let (listener, admin) = match sockets {
        Some(sockets) => sockets,
        None => bind_in_time(&settings).await?,
    };
    let prepared = blocking({
        let settings = settings.clone();
        move || prepare(&settings, store, experiment, sources, clock)
    });
    let prepared = prepared.await?;
    let sockets = Sockets { listener, admin, tls };
    Running::launch(settings, sockets, prepared)
}

/// Whether a second server on the same state waits for the end of the first.
fn may_wait(state: &State) -> bool {
    matches!(state, State::Database(_))
}

fn is_in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Where clients connect, and where the operator's page is.
async fn bind(settings: &ServerSettings) -> Result<(TcpListener, Option<TcpListener>), ServerError> {
    let bind = async |address| {
        TcpListener::bind(address)
            .await
            .map_err(|source| ServerError::Bind { address, source })
    };
    let listener = bind(settings.listen).await?;
    let admin = match settings.admin {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    Ok((listener, admin))
}

async fn bind_in_time(settings: &ServerSettings) -> Result<(TcpListener, Option<TcpListener>), ServerError> {
    let deadline = Instant::now() + BIND_PATIENCE;
    loop {
        match bind(settings).await {
            Err(ServerError::Bind { source, .. }) if is_in_use(&source) && Instant::now() < deadline => {
                tokio::time::sleep(STANDBY_POLL).await;
            }
            bound => return bound,
        }
    }
}

/// Does `work`, which waits for a disk or a database, on a thread that serves nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    let result = tokio::task::spawn_blocking(work).await;
    result.map_err(|error| ServerError::System(error.to_string()))?
}

/// A run that is ready to be driven, or is over.
#[allow(clippy::large_enum_variant, reason = "one value a process")]
pub(crate) enum Prepared {
    Over(Ended),
    Ready {
        driver: Driver,
        shared: Arc<Shared>,
        commands: mpsc::Sender<crate::view::Command>,
        reopened: Option<OpenRound>,
    },
}

fn prepare(
    settings: &ServerSettings,
    mut store: Store,
    experiment: Experiment,
    sources: LiveSources,
    clock: Option<Arc<dyn Clock>>,
) -> Result<Prepared, ServerError> {
    // Before anything is stored.
    let authority = match experiment.secure_aggregation {
        None => None,
        Some(_) => Some(identity_authority(settings)?),
    };
    let (run, experiment) = match store.run(&experiment.name)? {
        Some(run) => {
            let experiment = same_experiment(&settings.state, &run, experiment)?;
            (run, experiment)
        }
        None => begin(&settings.state, &mut store, experiment)?,
    };
    let Some(secret) = run
        .secret
        .filter(|_| run.status == "running")
        .map(RunSecret::stored)
    else {
        export::export(&settings.state, &run.name, &settings.out)?;
        return Ok(Prepared::Over(Ended::over_before(&run.status)));
    };
    let task = Arc::new(ServerTask::new(experiment, settings.round_duration)?);
    let simulated = sources.is_simulated();
    let secure = authority.map(|authority| SecureRounds::new(authority, secret.server_key()));
    let sources = sources.with_commitment(secret.commitment_key());

    let text = store.ledger(run.id)?;
    let (mut reopened, mut released) = (None, 0);
    let mut released_clip_norm = task.plan.settings().mechanism.clip_norm().value();
    let (engine, ledger) = if text.is_empty() {
        let engine = Run::new(task.plan.clone(), sources, task.initial.clone(), threads())?;
        (engine, LedgerWriter::new(secret.signing_key()))
    } else {
        let verified = read_ledger(&run.name, &text)?;
        let ledger = LedgerWriter::resume(secret.signing_key(), &verified)
            .ok_or_else(|| ServerError::System("the stored key did not sign the stored ledger".to_owned()))?;
        released = last_release(&verified);
        released_clip_norm = clip_norm_of(&verified, released).unwrap_or(released_clip_norm);
        let stored = store.progress(run.id)?;
        let model = stored
            .checkpoint
            .map(|content| checkpoint::decode(&content))
            .transpose()?;
        let mut resumed = Resumed::new(&verified, model);
        if let Some(content) = stored.open_round {
            let open = OpenRound::from_unprotected_bytes(&content, task.report_length()?)?;
            reopened = Some(open.clone());
            resumed = resumed.with_open_round(open);
        }
        let engine = Run::resume(
            task.plan.clone(),
            sources,
            task.initial.clone(),
            resumed,
            threads(),
        )?;
        (engine, ledger)
    };

    let clock = clock.unwrap_or_else(|| Arc::new(SystemClock::since(run.started)));
    // A run that has begun waits for nobody.
    let next_start = match text.is_empty() {
        true => clock.now().after(settings.first_round_after),
        false => clock.now(),
    };
    let header = text
        .split_inclusive(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let last = text
        .split_inclusive(|byte| *byte == b'\n')
        .next_back()
        .unwrap_or_default();
    let rounds = store.metrics(run.id)?;
    let view = View {
        stage: Stage::Waiting { until: next_start },
        ledger_header: Bytes::copy_from_slice(header),
        ledger_line: Bytes::copy_from_slice(last),
        rounds: Arc::new(
            rounds
                .iter()
                .filter_map(|line| serde_json::from_str::<RoundMetrics>(line).ok())
                .collect(),
        ),
        closing: false,
        trouble: None,
    };
    let shared = Arc::new(Shared::new(
        clock,
        facts_of(&run, &task, settings.round_duration, simulated),
        LedgerFeed::new(settings.state.clone(), run.id),
        view,
        store.clients(run.id)?,
    ));
    let (commands, received) = mpsc::channel();
    let mut driver = Driver {
        run: engine,
        run_id: run.id,
        store,
        ledger,
        task,
        shared: Arc::clone(&shared),
        commands: received,
        shut_down: Arc::new(AtomicBool::new(false)),
        state: settings.state.clone(),
        out: settings.out.clone(),
        simulated,
        next_start,
        released,
        released_clip_norm,
        ended: None,
        summary: String::new(),
        asked_to_stop: Instant::now(),
        secure,
    };
    driver.store_header()?;
    Ok(Prepared::Ready {
        driver,
        shared,
        commands,
        reopened,
    })
}

/// The key that certifies clients for secure aggregation.
fn identity_authority(settings: &ServerSettings) -> Result<[u8; 32], ServerError> {
    let path = settings
        .identities
        .as_ref()
        .ok_or_else(|| umbel_experiment::SettingError::Missing {
            key: "secure_aggregation.authority".to_owned(),
            expected: "the public file of the authority that certifies clients, since the experiment asks for secure aggregation"
                .to_owned(),
        })?;
    Ok(umbel_wire::identity::read_authority(path)?)
}

/// A new run in `store`.
fn begin(
    state: &State,
    store: &mut Store,
    mut experiment: Experiment,
) -> Result<(StoredRun, Experiment), ServerError> {
    if let Some(run) = store.unfinished()? {
        let state = state.clone();
        return Err(ServerError::Unfinished { state, run });
    }
    // Everything that can be refused is, before anything is stored.
    if experiment.seed.is_none() {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| ServerError::System(error.to_string()))?;
        // TOML's whole numbers have 63 bits.
        experiment.seed = Some(u64::from_le_bytes(seed) >> 1);
    }
    ServerTask::new(experiment.clone(), Duration::from_secs(1))?;
    let secret = RunSecret::draw().map_err(|error| ServerError::System(error.to_string()))?;
    let started = SystemClock::system_time();
    store.create_run(&experiment.name, &experiment.to_toml(), secret.bytes(), started)?;
    let run = store
        .run(&experiment.name)?
        .ok_or_else(|| ServerError::System("the run that was just stored is not there".to_owned()))?;
    Ok((run, experiment))
}

/// The stored run's experiment, which `given` must be.
fn same_experiment(state: &State, run: &StoredRun, mut given: Experiment) -> Result<Experiment, ServerError> {
    let kept = Experiment::parse(
        &run.experiment,
        Path::new("/"),
        &umbel_experiment::Overrides::default(),
    )?;
    given.seed = given.seed.or(kept.seed);
    let now = given.to_toml();
    if now == run.experiment {
        return Ok(kept);
    }
    let differing = run
        .experiment
        .lines()
        .zip(now.lines())
        .find(|(left, right)| left != right);
    let (recorded, got) = differing.unwrap_or(("another number of lines", "fewer or more"));
    Err(ServerError::OtherExperiment {
        state: state.clone(),
        run: run.name.clone(),
        recorded: recorded.to_owned(),
        got: got.to_owned(),
    })
}

fn read_ledger(run: &str, text: &[u8]) -> Result<VerifiedLedger, ServerError> {
    ledger::read(text).map_err(|fault| ServerError::Ledger {
        run: run.to_owned(),
        fault,
    })
}

/// The last round whose release is on record; 0 if none is.
fn last_release(ledger: &VerifiedLedger) -> u64 {
    let release = |body: &Body| match body {
        Body::Release(release) => Some(release.round),
        _ => None,
    };
    ledger.records().iter().rev().find_map(release).unwrap_or(0)
}

/// The clip norm of a round that was charged, where it moves.
fn clip_norm_of(ledger: &VerifiedLedger, round: u64) -> Option<f64> {
    ledger.records().iter().rev().find_map(|body| match body {
        Body::Charge(charge) if charge.round == round => charge.clip_norm,
        _ => None,
    })
}

fn facts_of(run: &StoredRun, task: &ServerTask, round_duration: Duration, simulated: bool) -> Facts {
    let settings = task.plan.settings();
    let spent = umbel_accounting::EpsilonBounds {
        lower: None,
        upper: settings
            .epsilon_budget
            .unwrap_or(umbel_accounting::Epsilon::INFINITE),
    };
    Facts {
        name: run.name.clone(),
        experiment: task.experiment.to_public_toml(),
        planned_rounds: settings.rounds,
        population: settings.population,
        round_millis: u64::try_from(round_duration.as_millis()).unwrap_or(u64::MAX),
        epsilon_budget: settings.epsilon_budget.map(umbel_accounting::Epsilon::value),
        delta: settings.delta.value(),
        promise: facts::privacy(&task.plan, simulated, &task.not_covered(), spent).statement,
        dimension: task.initial.len(),
    }
}

pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}
