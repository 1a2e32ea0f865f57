//! Servers and clients as processes of their own.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::database::{Database, Place};
use super::moment::{Moment, has_reported, moment, open_round};
use crate::support::{Folder, Running};

pub(crate) const ROUNDS: u64 = 16;
const N_CLIENTS: usize = 4;

/// How long the write lock is left alone between two looks, so that the server can go on.
const PAUSE: Duration = Duration::from_micros(150);

/// The same for PostgreSQL, where a server that waits for the lock needs longer to get it.
const LONGER_PAUSE: Duration = Duration::from_millis(2);

/// Where in a round a client was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientState {
    /// The open round is not on its record.
    NotOnRecord,
    /// The open round is on its record, and the server has not counted its report.
    OnRecord,
    /// Its report is counted.
    Counted,
}

impl ClientState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotOnRecord => "before the round is on its record",
            Self::OnRecord => "round on its record, report not counted",
            Self::Counted => "report counted",
        }
    }
}

pub(crate) struct Federation {
    /// One that leads, and with PostgreSQL one that waits.
    servers: Vec<Running>,
    n_killed: i64,
    clients: Vec<Client>,
    database: Option<Database>,
    place: Place,
    folder: Folder,
}

struct Client {
    name: String,
    process: Option<Running>,
    /// What all its processes have logged.
    log: String,
}

impl Client {
    fn settings(&self) -> String {
        format!("{}.toml", self.name)
    }

    fn history_file(&self) -> String {
        format!("state-{}/history.jsonl", self.name)
    }

    /// The rounds on its record.
    fn history(&self, folder: &Folder) -> Vec<u64> {
        let text = std::fs::read_to_string(folder.path(&self.history_file())).unwrap_or_default();
        let entries = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        entries
            .filter(|entry| entry["kind"] == "round")
            .filter_map(|entry| entry["round"].as_u64())
            .collect()
    }

    fn start(&mut self, folder: &Folder) {
        let umbel = folder.umbel().args(&["join", &self.settings(), "--verbose"]);
        self.process = Some(umbel.start());
    }

    fn kill(&mut self) {
        let outcome = self.process.take().unwrap().kill();
        self.log += &outcome.stderr;
    }
}

impl Federation {
    /// Certificates and settings; nothing runs yet.
    pub(crate) fn new(place: Place) -> Self {
        let folder = Folder::new();
        folder.edit(
            "rounds = 5\ncohort = 10",
            &format!("clients = {N_CLIENTS}\nrounds = {ROUNDS}\ncohort = 3"),
        );
        folder.edit("delta = 1e-3", "delta = 1e-3\naccountant = \"rdp\"");
        folder.edit("\n[data.partition]", "classes = 4\n\n[data.partition]");
        let mut init = vec!["certs".to_owned(), "init".to_owned()];
        let names: Vec<_> = (0..N_CLIENTS).map(|client| format!("client-{client}")).collect();
        for name in &names {
            init.extend(["--client".to_owned(), name.clone()]);
        }
        folder.umbel().args(&init).run().success();
        // Free now, and outside what the system gives to connections by itself only with luck: nobody else takes it in a test.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let server = format!(
            r#"
            experiment = "experiment.toml"
            state = "{}"
            out = "out"
            [listen]
            address = "127.0.0.1:{port}"
            [tls]
            certificate = "certs/server.pem"
            key = "certs/server-key.pem"
            authority = "certs/authority.pem"
            [rounds]
            seconds = {}
            first_after_seconds = 0.5
            "#,
            place.setting(),
            place.round_seconds()
        );
        folder.write("server.toml", server.as_bytes());
        let mut clients = Vec::new();
        for name in names {
            let settings = format!(
                r#"
                server = "localhost:{port}"
                state = "state-{name}"
                [tls]
                certificate = "certs/{name}.pem"
                key = "certs/{name}-key.pem"
                authority = "certs/authority.pem"
                [data]
                format = "idx"
                train = {{ examples = "data/train-images.gz", labels = "data/train-labels", clients = "data/clients.tsv", client_column = "owner" }}
                client = "{name}"
                [policy]
                trust = ["central"]
                max_epsilon = 1e6
                "#
            );
            let client = Client {
                name,
                process: None,
                log: String::new(),
            };
            folder.write(&client.settings(), settings.as_bytes());
            clients.push(client);
        }
        Self {
            servers: Vec::new(),
            n_killed: 0,
            clients,
            database: None,
            place,
            folder,
        }
    }

    /// Starts a server and kills it when its run is stored and nothing else is. That comes once in a run, so one that got further is
    /// thrown away.
    pub(crate) fn kill_server_at_begin(&mut self, deadline: Instant) -> Moment {
        loop {
            self.start_one();
            loop {
                assert!(Instant::now() < deadline, "no server begins a run");
                if self.is_over() {
                    self.servers.remove(0).finish().success();
                    panic!("the server ended before it was killed");
                }
                let Self {
                    servers,
                    database,
                    place,
                    folder,
                    ..
                } = self;
                let killed = held(database, place, folder, |_, moment| {
                    if moment.is_some() {
                        drop(servers.remove(0).kill());
                    }
                    moment
                });
                match killed.flatten() {
                    Some(Moment::Begun) => {
                        self.n_killed = 1;
                        return self.look();
                    }
                    Some(_) => break,
                    None => self.pause(),
                }
            }
            self.database = None;
            self.place.remove(&self.folder);
        }
    }

    /// Whether the server has ended by itself: its run is over, or something is wrong, which [`end`](Self::end) finds.
    fn is_over(&mut self) -> bool {
        self.servers.iter_mut().any(Running::has_ended)
    }

    /// The state, where no server writes any more.
    fn look(&mut self) -> Moment {
        moment(self.database.as_mut().unwrap()).unwrap()
    }

    fn pause(&self) {
        thread::sleep(match self.place {
            Place::File => PAUSE,
            Place::Schema(_) => LONGER_PAUSE,
        });
    }

    pub(crate) fn start_clients(&mut self) {
        for client in &mut self.clients {
            client.start(&self.folder);
        }
    }

    /// Starts the servers that do not run.
    pub(crate) fn start_server(&mut self) {
        while self.servers.len() < self.place.n_servers() {
            self.start_one();
        }
    }

    fn start_one(&mut self) {
        let mut umbel = self.folder.umbel().args(&["serve", "server.toml"]);
        if let Some(url) = self.place.url() {
            umbel = umbel.env("STATE_OF_THE_SERVER", &url);
        }
        self.servers.push(umbel.start());
    }

    /// Kills the server that leads in this state, and says in which it was; nothing if the run is over before.
    pub(crate) fn kill_server_at(&mut self, wanted: Moment, deadline: Instant) -> Option<Moment> {
        loop {
            assert!(Instant::now() < deadline, "{wanted:?} does not come");
            if self.is_over() {
                return None;
            }
            let Self {
                servers,
                database,
                place,
                folder,
                ..
            } = self;
            let killed = held(database, place, folder, |database, moment| {
                if moment != Some(wanted) {
                    return false;
                }
                // After a kill nobody leads until the lease has run out.
                let leader = database.leader(servers);
                if let Some(leader) = leader {
                    drop(servers.remove(leader).kill());
                }
                leader.is_some()
            });
            if killed == Some(true) {
                self.n_killed += 1;
                return Some(self.look());
            }
            self.pause();
        }
    }

    /// Kills a client in this state, and starts it again; nothing if the run is over before.
    pub(crate) fn kill_client(&mut self, wanted: ClientState, deadline: Instant) -> Option<ClientState> {
        // A round in which nobody came into the state (its cohort may be empty) must be let go on.
        let mut tried = None;
        loop {
            assert!(Instant::now() < deadline, "{wanted:?} does not come");
            if self.is_over() {
                return None;
            }
            let Self {
                clients,
                database,
                place,
                folder,
                ..
            } = self;
            let killed = held(database, place, folder, |database, moment| {
                if moment != Some(Moment::Open) {
                    return None;
                }
                let round = open_round(database).unwrap();
                if tried.replace(round) == Some(round) {
                    return None;
                }
                // While the lock is held no report can be counted.
                let patience = Instant::now() + Duration::from_secs(1);
                while Instant::now() < patience {
                    for client in clients.iter_mut() {
                        if state(client, folder, database, round) == wanted {
                            client.kill();
                            let fell = state(client, folder, database, round);
                            client.start(folder);
                            return Some(fell);
                        }
                    }
                    thread::sleep(PAUSE);
                }
                None
            });
            if let Some(Some(fell)) = killed {
                return Some(fell);
            }
            self.pause();
        }
    }

    /// Waits for the end of the run, and collects what it left.
    pub(crate) fn end(mut self) -> Ended {
        for server in self.servers.drain(..) {
            server.finish().success();
        }
        let mut clients = Vec::new();
        for client in &mut self.clients {
            // It may not have been told that the run is over: the server was killed when it was. It may have just been started, too.
            client.kill();
            let thanked = client
                .log
                .lines()
                .filter(|line| line.contains("report counted"))
                .filter_map(|line| line.rsplit("round=").next()?.trim().parse().ok());
            clients.push(EndedClient {
                history: client.history(&self.folder),
                thanked: thanked.collect(),
                history_file: client.history_file(),
                name: client.name.clone(),
            });
        }
        let text = |name: &str| String::from_utf8(self.folder.read(name)).unwrap();
        let openings = text("out/ledger.openings").lines().map(str::to_owned).collect();
        let database = self.database.as_mut().unwrap();
        if let Some(epoch) = database.epoch() {
            // Whoever was killed led, and somebody led after it.
            assert!(epoch > self.n_killed, "{epoch} leaders, {} killed", self.n_killed);
        }
        Ended {
            ledger: text("out/ledger"),
            openings,
            participation: database.participation(),
            clients,
            folder: self.folder,
        }
    }
}

/// Does `work` with the database and the state, which cannot change meanwhile; `None` if somebody is changing it right now, or
/// nothing is there yet.
fn held<T>(
    database: &mut Option<Database>,
    place: &Place,
    folder: &Folder,
    work: impl FnOnce(&mut Database, Option<Moment>) -> T,
) -> Option<T> {
    if database.is_none() {
        *database = place.connect(folder);
    }
    let database = database.as_mut()?;
    if !database.hold() {
        return None;
    }
    let moment = moment(database);
    let result = work(database, moment);
    database.let_go();
    Some(result)
}

fn state(client: &Client, folder: &Folder, database: &mut Database, round: u64) -> ClientState {
    if has_reported(database, round, &client.name) {
        ClientState::Counted
    } else if client.history(folder).contains(&round) {
        ClientState::OnRecord
    } else {
        ClientState::NotOnRecord
    }
}

/// What a run has left.
pub(crate) struct Ended {
    pub(crate) ledger: String,
    pub(crate) openings: Vec<String>,
    /// Round and client of each report that was counted.
    pub(crate) participation: Vec<(u64, String)>,
    pub(crate) clients: Vec<EndedClient>,
    folder: Folder,
}

pub(crate) struct EndedClient {
    pub(crate) name: String,
    /// The rounds on its record, one for each entry.
    pub(crate) history: Vec<u64>,
    /// The rounds for which the server has thanked it.
    pub(crate) thanked: BTreeSet<u64>,
    history_file: String,
}

impl Ended {
    /// `umbel audit verify`, with what the clients were shown as receipts.
    pub(crate) fn audit(&self) {
        let mut args = vec!["audit", "verify", "out"];
        // A client that was never invited has nothing to show.
        for client in self.clients.iter().filter(|client| !client.history.is_empty()) {
            args.extend(["--receipts", &client.history_file]);
        }
        let verified = self.folder.umbel().args(&args).run();
        assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
    }
}
