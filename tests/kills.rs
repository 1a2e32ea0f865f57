//! Real processes over mutual TLS, killed with SIGKILL in every state of a round and started again: nothing is lost, and nothing
//! counts twice.
//!
//! No part of the program knows of this test. It takes the database's write lock for the instant in which it looks, so a state
//! stays as it is until the process is dead, and what it died in is read from the database afterwards.
//!
//! On PostgreSQL (where `DATABASE_URL` names a server) two servers run: the one that leads is killed, the other takes over, and the
//! killed one is started again and waits.
#![cfg(unix)]

mod database;
mod federation;
mod moment;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use database::Place;
use federation::{ClientState, Federation};
use moment::Moment;
use serde_json::Value;

use crate::support::{Numbers, Schema};

/// How long the states of a run are waited for before the test has failed: far longer than a run takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// How many kills fell in which state.
type Counts = BTreeMap<String, usize>;

/// How often the ten kills are played, each time in another order: 1, unless this variable says more.
const TIMES: &str = "UMBEL_KILLED_RUNS";

#[test]
fn kills_in_all_states_of_a_round_lose_nothing() {
    killed_runs(|| Some(Place::File));
}

#[test]
fn kills_in_all_states_of_a_round_lose_nothing_and_a_standby_takes_over() {
    killed_runs(|| Schema::new("kills with a standby").map(Place::Schema));
}

/// `None` of a place: there is none, and nothing to be done.
fn killed_runs(place: fn() -> Option<Place>) {
    if place().is_none() {
        return;
    }
    let place = || place().unwrap();
    let times = std::env::var(TIMES).map_or(1, |times| times.parse().expect("a whole number"));
    let mut counts = Counts::new();
    for seed in 1..=times {
        killed_run(seed, &mut counts, &place);
    }
    for (state, count) in &counts {
        eprintln!("{count:>4} kills: {state}");
    }
    assert!(counts.len() >= 10, "every state was met: {counts:?}");
    assert!(
        counts.values().all(|count| *count as u64 >= times),
        "each time: {counts:?}"
    );
}

#[derive(Clone, Copy)]
enum Step {
    Server(Moment),
    Client(ClientState),
}

fn count(counts: &mut Counts, whom: &str, state: &str) {
    *counts.entry(format!("{whom}, {state}")).or_default() += 1;
}

/// Ten kills: of the server once in every state, of clients twice. Where a run is over before every state has come, what it left is
/// checked and another run has the rest.
fn killed_run(seed: u64, counts: &mut Counts, place: &dyn Fn() -> Place) {
    // A run begins and ends once. What is between comes in any order.
    let mut steps = vec![
        Step::Server(Moment::Between),
        Step::Server(Moment::Reserved),
        Step::Server(Moment::Open),
        Step::Server(Moment::Reports),
        Step::Server(Moment::Charged),
        Step::Server(Moment::Released),
        Step::Client(ClientState::NotOnRecord),
        Step::Client(ClientState::OnRecord),
    ];
    let mut numbers = Numbers(seed);
    for place in (1..steps.len()).rev() {
        steps.swap(
            place,
            usize::from(numbers.below(u8::try_from(place + 1).unwrap())),
        );
    }
    steps.push(Step::Server(Moment::Closed));
    let mut deadline = Instant::now() + PATIENCE;
    let mut federation = Federation::new(place());
    let begun = federation.kill_server_at_begin(deadline);
    count(counts, "server", begun.name());
    federation.start_server();
    federation.start_clients();
    let (mut summed, mut thanked) = (0, 0);
    let mut add = |(reports, thanks): (u64, usize)| {
        summed += reports;
        thanked += thanks;
    };
    for step in steps {
        while !take(step, &mut federation, deadline, counts) {
            add(check(federation));
            deadline = Instant::now() + PATIENCE;
            federation = Federation::new(place());
            federation.start_server();
            federation.start_clients();
        }
    }
    add(check(federation));
    assert!(
        summed > 0 && thanked > 0,
        "clients took part: {summed} reports, {thanked} thanks"
    );
}

/// Kills in the state that is asked for; false if the run is over before it comes. A kill that came too late for its state counts
/// where it fell.
fn take(step: Step, federation: &mut Federation, deadline: Instant, counts: &mut Counts) -> bool {
    match step {
        Step::Server(moment) => {
            while let Some(fell) = federation.kill_server_at(moment, deadline) {
                count(counts, "server", fell.name());
                federation.start_server();
                if fell == moment {
                    return true;
                }
            }
            false
        }
        Step::Client(state) => {
            while let Some(fell) = federation.kill_client(state, deadline) {
                count(counts, "client", fell.name());
                if fell == state {
                    return true;
                }
            }
            false
        }
    }
}

/// Everything that must hold at the end, whatever was killed. How many reports were summed up, and how many clients were thanked for.
fn check(federation: Federation) -> (u64, usize) {
    let ended = federation.end();
    ended.audit();

    let mut rounds: BTreeMap<(String, u64), usize> = BTreeMap::new();
    for line in ended.ledger.lines() {
        let record = &serde_json::from_str::<Value>(line).unwrap()["record"];
        if let Some(round) = record["body"]["round"].as_u64() {
            let kind = record["kind"].as_str().unwrap().to_owned();
            *rounds.entry((kind, round)).or_default() += 1;
        }
    }
    for round in 1..=federation::ROUNDS {
        for kind in ["charge", "release"] {
            let count = rounds.get(&(kind.to_owned(), round));
            assert_eq!(count, Some(&1), "{kind} of round {round}");
        }
    }

    // What was summed up is what was stored of each client, once.
    let mut participants: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for (round, client) in &ended.participation {
        let new = participants.entry(*round).or_default().insert(client);
        assert!(new, "{client} is counted once in round {round}");
    }
    let mut summed = 0;
    for opening in &ended.openings {
        let opening: Value = serde_json::from_str(opening).unwrap();
        if let (Some(round), Some(reports)) = (opening["round"].as_u64(), opening["reports"].as_u64()) {
            let stored = participants.get(&round).map_or(0, BTreeSet::len) as u64;
            assert_eq!(reports, stored, "reports of round {round}");
            summed += reports;
        }
    }
    for client in &ended.clients {
        let begun: BTreeSet<u64> = client.history.iter().copied().collect();
        assert_eq!(
            begun.len(),
            client.history.len(),
            "{}: one report a round",
            client.name
        );
        let counted: BTreeSet<u64> = participants
            .iter()
            .filter(|(_, clients)| clients.contains(client.name.as_str()))
            .map(|(round, _)| *round)
            .collect();
        assert!(
            counted.is_subset(&begun),
            "{}: {counted:?} within {begun:?}",
            client.name
        );
        assert!(
            client.thanked.is_subset(&counted),
            "{}: what was thanked for is counted: {:?} within {counted:?}",
            client.name,
            client.thanked
        );
    }
    let thanked = ended.clients.iter().map(|client| client.thanked.len()).sum();
    (summed, thanked)
}
