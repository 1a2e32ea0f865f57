//! Secure aggregation between real processes over mutual TLS, whose server is killed with SIGKILL in every step of an attempt and started
//! again: what was charged stays charged, once, and no attempt is gone on with or played again.
//!
//! The step in which a server died is the last one in its log: it says that a step has begun once it has.
#![cfg(unix)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Folder, Running};

const ROUNDS: u64 = 9;
const N_CLIENTS: usize = 8;

/// How long the steps of a run are waited for before the test has failed: far longer than a run takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// How many kills in each step are asked for: 1, unless this variable says more.
const TIMES: &str = "UMBEL_KILLED_RUNS";

/// The steps, in their order, as the server's log has them.
const STEPS: [&str; 5] = ["advertising", "sharing", "masking", "confirming", "opening"];

/// What is said when an attempt begins, and when its sum is known.
const BEGUN: &str = "round open for secure aggregation";
const OPENED: &str = "sum opened";

#[test]
fn kills_in_all_steps_of_an_attempt_charge_once_and_play_nothing_again() {
    let times: usize = std::env::var(TIMES).map_or(1, |times| times.parse().expect("a whole number"));
    let deadline = Instant::now() + PATIENCE * u32::try_from(times).unwrap();
    let mut kills: BTreeMap<String, usize> = BTreeMap::new();
    let mut federation = Federation::new();
    while let Some(step) = STEPS
        .into_iter()
        .find(|step| kills.get(*step).is_none_or(|count| *count < times))
    {
        assert!(Instant::now() < deadline, "no kill in `{step}`: {kills:?}");
        match federation.kill_server_in(step) {
            Some(fell) => *kills.entry(fell).or_default() += 1,
            // The run is over before every step has come.
            None => {
                federation.check();
                federation = Federation::new();
            }
        }
    }
    federation.check();
    for (step, count) in &kills {
        eprintln!("{count:>4} kills: {step}");
    }
}

struct Federation {
    server: Option<Running>,
    clients: Vec<Running>,
    /// What all the servers have logged that have ended.
    logs: Vec<String>,
    folder: Folder,
}

impl Federation {
    /// A server and clients that have been started.
    fn new() -> Self {
        let folder = Folder::new();
        folder.edit(
            "rounds = 5\ncohort = 10",
            &format!("clients = {N_CLIENTS}\nrounds = {ROUNDS}\ncohort = {N_CLIENTS}"),
        );
        folder.edit(
            "delta = 1e-3",
            "delta = 1e-3\naccountant = \"rdp\"\n[secure_aggregation]\nenabled = true\ncolluding = 0.125\ndropout_allowance = 0.125\nsurvivors_min = 7\nclients_max = 8",
        );
        folder.edit("\n[data.partition]", "classes = 4\n\n[data.partition]");
        let names: Vec<_> = (0..N_CLIENTS).map(|client| format!("client-{client}")).collect();
        let mut init = vec!["certs", "init"];
        for name in &names {
            init.extend(["--client", name]);
        }
        folder.umbel().args(&init).run().success();
        // Free now, and outside what the system gives to connections by itself only with luck: nobody else takes it in a test.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let server = format!(
            r#"
            experiment = "experiment.toml"
            state = "state/server.db"
            out = "out"
            [listen]
            address = "127.0.0.1:{port}"
            [tls]
            certificate = "certs/server.pem"
            key = "certs/server-key.pem"
            authority = "certs/authority.pem"
            [secure_aggregation]
            authority = "certs/identities.toml"
            [rounds]
            seconds = 2
            first_after_seconds = 0.5
            "#
        );
        folder.write("server.toml", server.as_bytes());
        let mut federation = Self {
            server: None,
            clients: Vec::new(),
            logs: Vec::new(),
            folder,
        };
        federation.start_server();
        for name in names {
            federation.start_client(&name, port);
        }
        federation
    }

    fn start_client(&mut self, name: &str, port: u16) {
        let settings = format!(
            r#"
            server = "localhost:{port}"
            state = "state-{name}"
            [tls]
            certificate = "certs/{name}.pem"
            key = "certs/{name}-key.pem"
            authority = "certs/authority.pem"
            [secure_aggregation]
            authority = "certs/identities.toml"
            identity = "certs/{name}-identity.toml"
            [data]
            format = "idx"
            train = {{ examples = "data/train-images.gz", labels = "data/train-labels", clients = "data/clients.tsv", client_column = "owner" }}
            client = "{name}"
            [policy]
            trust = ["central"]
            max_epsilon = 1e6
            "#
        );
        let file = format!("{name}.toml");
        self.folder.write(&file, settings.as_bytes());
        self.clients
            .push(self.folder.umbel().args(&["join", &file]).start());
    }

    fn start_server(&mut self) {
        let umbel = self.folder.umbel().args(&["serve", "server.toml", "--verbose"]);
        self.server = Some(umbel.start());
    }

    /// Kills the server as soon as it says that it is in `step`, and starts another. Gives the step in which it died, which may be a later
    /// one; nothing if the run is over before.
    fn kill_server_in(&mut self, step: &str) -> Option<String> {
        let mut server = self.server.take().unwrap();
        let said = if step == STEPS[0] {
            BEGUN.to_owned()
        } else {
            format!("step=\"{step}\"")
        };
        if !server.wait_for(&said) {
            self.server = Some(server);
            return None;
        }
        let log = server.kill().stderr;
        let fell = log.lines().rev().find_map(|line| match line {
            line if line.contains(BEGUN) => Some(STEPS[0].to_owned()),
            line if line.contains(OPENED) => Some("sum opened".to_owned()),
            line => Some(line.split_once("step=\"")?.1.split_once('"')?.0.to_owned()),
        });
        self.logs.push(log);
        self.start_server();
        fell
    }

    /// Waits for the end of the run, and checks all that it has left.
    fn check(mut self) {
        let last = self.server.take().unwrap().finish();
        // Clients may not have been told that the run is over, if the server was killed then.
        let clients: Vec<_> = self.clients.drain(..).map(Running::kill).collect();
        let error = last.stderr.lines().rfind(|line| line.starts_with("error: "));
        assert_eq!(
            last.code,
            Some(0),
            "{error:?}; a client's log:\n{}",
            clients[0].stderr
        );
        self.logs.push(last.stderr);
        let mut verify = vec!["audit".to_owned(), "verify".to_owned(), "out".to_owned()];
        for client in 0..N_CLIENTS {
            let receipts = format!("state-client-{client}/history.jsonl");
            verify.extend(["--receipts".to_owned(), receipts]);
        }
        let verified = self.folder.umbel().args(&verify).run();
        assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);

        let begun: Vec<(u64, u64)> = self.logged(BEGUN);
        let distinct: BTreeSet<_> = begun.iter().collect();
        assert_eq!(
            distinct.len(),
            begun.len(),
            "no attempt is played again: {begun:?}"
        );

        let mut records: BTreeMap<(String, u64), usize> = BTreeMap::new();
        for line in String::from_utf8(self.folder.read("out/ledger")).unwrap().lines() {
            let record = &serde_json::from_str::<Value>(line).unwrap()["record"];
            if let Some(round) = record["body"]["round"].as_u64() {
                let kind = record["kind"].as_str().unwrap().to_owned();
                *records.entry((kind, round)).or_default() += 1;
            }
        }
        let of = |kind: &str, round| records.get(&(kind.to_owned(), round)).copied().unwrap_or(0);
        // An attempt is voided, or charged; a charge is made once, and pays for one model at most.
        let opening: BTreeSet<u64> = self
            .logged("step=\"opening\"")
            .into_iter()
            .map(|(round, _)| round)
            .collect();
        for round in 1..=ROUNDS {
            assert_eq!(of("charge", round), 1, "charges of round {round}");
            assert!(of("release", round) <= 1, "releases of round {round}");
            assert_eq!(of("reserve", round), of("void", round) + 1, "round {round}");
            assert!(
                opening.contains(&round) || of("release", round) == 0,
                "round {round} was released from shares that were asked for"
            );
        }
        let lost = (1..=ROUNDS).filter(|round| of("release", *round) == 0).count();
        let killed_after_the_charge = self
            .logs
            .iter()
            .filter(|log| {
                log.lines()
                    .rev()
                    .find(|line| line.contains("attempt="))
                    .is_some_and(|line| line.contains("opening"))
            })
            .count();
        assert!(
            lost <= killed_after_the_charge,
            "{lost} charged sums are lost, {killed_after_the_charge} servers died on one"
        );
    }

    /// Round and attempt of all lines of the servers' logs with this text.
    fn logged(&self, text: &str) -> Vec<(u64, u64)> {
        let number = |line: &str, name: &str| -> Option<u64> {
            let rest = line.split_once(name)?.1;
            let digits = rest.split(|other: char| !other.is_ascii_digit()).next()?;
            digits.parse().ok()
        };
        self.logs
            .iter()
            .flat_map(|log| log.lines())
            .filter(|line| line.contains(text))
            .map(|line| number(line, "round=").zip(number(line, "attempt=")).unwrap())
            .collect()
    }
}
