//! A small task, certificates for it, and a server in this process whose clock the test plays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use umbel_audit::{Anchors, RunFiles, verify};
use umbel_client::{ClientError, ClientSettings, ClientSources, Joined, join};
use umbel_experiment::{Experiment, Overrides, RoundMetrics};
use umbel_mechanisms::SimulationSeed;
use umbel_protocol::{BudgetExhausted, Timestamp};
use umbel_server::authority::Authority;
use umbel_server::{Clock, LiveSources, Probe, Running, ServerSettings, start};
use umbel_sim::{Options, Prepared, Progress, simulate};

pub(crate) const SEED: u64 = 11;
pub(crate) const N_CLIENTS: usize = 4;
const EXAMPLES: usize = 6;
const SIDE: usize = 4;

/// Time that passes when the test says so.
#[derive(Debug, Default)]
pub(crate) struct PlayedClock(AtomicU64);

impl Clock for PlayedClock {
    fn now(&self) -> Timestamp {
        Timestamp::new(Duration::from_micros(self.0.load(Ordering::SeqCst)))
    }
}

impl PlayedClock {
    /// Lets time pass until then.
    pub(crate) fn advance(&self, to: Timestamp) {
        let micros = u64::try_from(to.since_start().as_micros()).unwrap();
        self.0.fetch_max(micros, Ordering::SeqCst);
    }
}

/// A folder with a task and certificates, and a server on it.
pub(crate) struct World {
    _folder: TempDir,
    pub(crate) root: PathBuf,
    pub(crate) authority: Authority,
    pub(crate) clock: Arc<PlayedClock>,
    pub(crate) probe: Probe,
    pub(crate) running: Running,
    /// As clients give it.
    pub(crate) address: String,
}

impl World {
    /// Starts a server with the settings that `change` leaves. Certificates `client-0` and on are there.
    pub(crate) async fn start(change: impl FnOnce(&mut ServerSettings)) -> Self {
        let sources = LiveSources::simulated(SimulationSeed::new(SEED));
        Self::start_with(task, sources, change).await
    }

    /// The same with another experiment and other randomness.
    pub(crate) async fn start_with(
        task: impl FnOnce(&Path) -> Experiment,
        sources: LiveSources,
        change: impl FnOnce(&mut ServerSettings),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let experiment = task(&root);
        let authority = Authority::create(&root.join("certs")).unwrap();
        authority
            .mint_server("server", &["localhost".to_owned()])
            .unwrap();
        for client in 0..N_CLIENTS {
            authority.mint_client(&format!("client-{client}")).unwrap();
        }
        let mut settings = server_settings(&root);
        change(&mut settings);
        let clock = Arc::new(PlayedClock::default());
        let running = start(
            settings,
            experiment,
            sources,
            Some(Arc::<PlayedClock>::clone(&clock)),
        )
        .await
        .unwrap();
        Self {
            _folder: folder,
            root,
            authority,
            clock,
            probe: running.probe().unwrap(),
            address: format!("localhost:{}", running.address().port()),
            running,
        }
    }
}

fn idx(shape: &[u32], values: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut file = vec![0, 0, 8, u8::try_from(shape.len()).unwrap()];
    shape.iter().for_each(|size| file.extend(size.to_be_bytes()));
    file.extend(values);
    file
}

/// Small data in `folder`, each client with its own examples, and the experiment on them.
pub(crate) fn task(folder: &Path) -> Experiment {
    let side = u32::try_from(SIDE).unwrap();
    for (name, count) in [("train", N_CLIENTS * EXAMPLES), ("test", 20)] {
        let n = u32::try_from(count).unwrap();
        let pixels = (0..count * SIDE * SIDE).map(|place| u8::try_from(place * 37 % 251).unwrap());
        std::fs::write(
            folder.join(format!("{name}-images")),
            idx(&[n, side, side], pixels),
        )
        .unwrap();
        let labels = (0..count).map(|place| u8::try_from(place * 7 % 3).unwrap());
        std::fs::write(folder.join(format!("{name}-labels")), idx(&[n], labels)).unwrap();
    }
    write_clients(folder, N_CLIENTS);
    let text = format!(
        r#"
        name = "equal"
        seed = {SEED}
        [data]
        format = "idx"
        train = {{ examples = "train-images", labels = "train-labels", clients = "clients.tsv" }}
        test = {{ examples = "test-images", labels = "test-labels" }}
        classes = 3
        [data.partition]
        kind = "by-key"
        [model]
        kind = "mlp"
        hidden = [7]
        [training]
        epochs = 2
        batch_size = 4
        optimizer = {{ kind = "sgd", learning_rate = 0.1 }}
        [federation]
        clients = {N_CLIENTS}
        rounds = 4
        cohort = 2
        strategy = {{ kind = "fedadam", learning_rate = 0.01, beta_1 = 0.9, beta_2 = 0.99, tau = 0.001 }}
        [privacy]
        unit = "client"
        trust = "central"
        clip_norm = 0.5
        noise_multiplier = 0.8
        delta = 1e-3
        accountant = "rdp"
        "#
    );
    Experiment::parse(&text, folder, &Overrides::default()).unwrap()
}

/// Deals the examples to this many clients, each its own.
pub(crate) fn write_clients(folder: &Path, n_clients: usize) {
    let each = N_CLIENTS * EXAMPLES / n_clients;
    let rows = (0..N_CLIENTS * EXAMPLES).map(|row| format!("client-{}\n", row / each));
    let table: String = ["writer\n".to_owned()].into_iter().chain(rows).collect();
    std::fs::write(folder.join("clients.tsv"), table).unwrap();
}

/// The same task where the server sees sums only: everybody takes part in every round.
pub(crate) fn secure_task(folder: &Path, distributed: bool) -> Experiment {
    let settings: &[&str] = if distributed {
        &["privacy.trust=distributed", "privacy.noise=discrete"]
    } else {
        &[]
    };
    secure_task_with(folder, settings)
}

/// The same with other settings.
pub(crate) fn secure_task_with(folder: &Path, others: &[&str]) -> Experiment {
    let mut settings = vec![
        "federation.cohort=4",
        "secure_aggregation.enabled=true",
        "secure_aggregation.survivors_min=4",
        "secure_aggregation.clients_max=4",
        "secure_aggregation.colluding=0.25",
        "secure_aggregation.dropout_allowance=0",
    ];
    settings.extend(others);
    changed_task(folder, &settings)
}

/// The same task with other settings.
pub(crate) fn changed_task(folder: &Path, settings: &[&str]) -> Experiment {
    let text = task(folder).to_toml();
    let overrides = Overrides {
        settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
        ..Overrides::default()
    };
    Experiment::parse(&text, folder, &overrides).unwrap()
}

/// Simulates an experiment in the folder `simulated` beside it.
pub(crate) async fn simulate_in(root: &Path, experiment: Experiment) {
    let options = Options {
        out: Some(root.join("simulated")),
        resume: None,
        n_threads: 2,
    };
    let simulated = tokio::task::spawn_blocking(move || {
        simulate(Some(experiment), &options, &mut Silent, &AtomicBool::new(false))
    });
    simulated.await.unwrap().unwrap();
}

struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: &Prepared, _: &Path, _: u64) {}
    fn round(&mut self, _: &RoundMetrics) {}
    fn end(&mut self, _: Option<&BudgetExhausted>) {}
}

/// Lets all clients join with a simulation's randomness, in the order of their numbers.
pub(crate) async fn join_all(world: &World) -> Vec<JoinHandle<Result<Joined, ClientError>>> {
    let mut clients = Vec::new();
    for client in 0..N_CLIENTS {
        let settings = client_settings(&world.root, &world.address, client);
        let sources = ClientSources::simulated(SimulationSeed::new(SEED), client as u64);
        let stop = Arc::new(AtomicBool::new(false));
        clients.push(tokio::spawn(join(settings, sources, stop)));
        // Numbers are given in the order of arrival.
        while world.probe.n_clients() <= client {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    clients
}

/// The served model has the bytes of the simulated one, and nothing is wrong with its run directory.
pub(crate) fn check_same(root: &Path) {
    let [simulated, served] =
        ["simulated", "served"].map(|name| std::fs::read(root.join(name).join("model.safetensors")).unwrap());
    assert!(simulated == served, "the same bytes");
    check_verified(&root.join("served"));
}

/// `umbel audit verify` finds nothing wrong with a run directory.
pub(crate) fn check_verified(directory: &Path) {
    let file = |name: &str| std::fs::read(directory.join(name)).ok();
    let files = RunFiles {
        ledger: file("ledger").unwrap(),
        experiment: file("experiment.toml"),
        openings: file("ledger.openings"),
        metrics: file("metrics.jsonl"),
        model: file("model.safetensors"),
        summary: file("summary.json"),
        shared_budget: None,
    };
    let verification = verify(&files, &Anchors::default());
    assert!(verification.consistent, "{verification:#?}");
}

pub(crate) fn server_settings(folder: &Path) -> ServerSettings {
    let text = r#"
        experiment = "unused"
        state = "state.db"
        out = "served"
        [listen]
        address = "127.0.0.1:0"
        [tls]
        certificate = "certs/server.pem"
        key = "certs/server-key.pem"
        authority = "certs/authority.pem"
        [secure_aggregation]
        authority = "certs/identities.toml"
        [rounds]
        seconds = 60
        first_after_seconds = 60
    "#;
    ServerSettings::parse(text, folder).unwrap()
}

pub(crate) fn client_settings(folder: &Path, address: &str, client: usize) -> ClientSettings {
    let text = format!(
        r#"
        server = "{address}"
        state = "history-{client}"
        [tls]
        certificate = "certs/client-{client}.pem"
        key = "certs/client-{client}-key.pem"
        authority = "certs/authority.pem"
        [secure_aggregation]
        authority = "certs/identities.toml"
        identity = "certs/client-{client}-identity.toml"
        [data]
        format = "idx"
        train = {{ examples = "train-images", labels = "train-labels", clients = "clients.tsv" }}
        client = "client-{client}"
        [policy]
        trust = ["central", "distributed", "local"]
        max_epsilon = 100000
        dangerous_simulated_noise = true
        "#
    );
    ClientSettings::parse(&text, folder).unwrap()
}
