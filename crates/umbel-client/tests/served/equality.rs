//! The same engine runs both: a served federation over mutual TLS, with the randomness of a simulation, leaves the same model bytes
//! as the simulation.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use umbel_client::{ClientSources, Joined, join};
use umbel_experiment::RoundMetrics;
use umbel_mechanisms::SimulationSeed;
use umbel_protocol::BudgetExhausted;
use umbel_server::{Ended, LiveSources, Probe};
use umbel_sim::{Options, Prepared, Progress, simulate};

use crate::support::{N_CLIENTS, PlayedClock, SEED, World, changed_task, check_verified, client_settings};

pub(crate) struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: &Prepared, _: &Path, _: u64) {}
    fn round(&mut self, _: &RoundMetrics) {}
    fn end(&mut self, _: Option<&BudgetExhausted>) {}
}

/// Lets time pass whenever nothing else is waited for, until the run is over.
async fn play(probe: Probe, clock: Arc<PlayedClock>) {
    while let Some(wake) = probe.wakes_at() {
        if probe.missing().is_none_or(|missing| missing == 0) {
            clock.advance(wake);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_run_with_a_simulations_randomness_leaves_the_simulations_model() {
    check_equal(&[]).await;
}

/// Each hospital protects its patients by itself.
#[tokio::test(flavor = "multi_thread")]
async fn private_steps_on_clients_are_those_of_the_simulation() {
    check_equal(&[
        "privacy.unit=example",
        "privacy.trust=local",
        "federation.examples=24",
        "federation.max_participations=2",
        "training.sampling_rate=0.5",
        "training.steps=3",
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_of_the_clients_own_is_that_of_the_simulation() {
    check_equal(&["privacy.trust=local"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clip_norm_that_follows_the_updates_does_so_in_a_served_run() {
    check_equal(&[r#"privacy.clip_norm={ kind = "adaptive", initial = 0.5, quantile = 0.5 }"#]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_clipped_by_themselves_are_so_in_a_served_run() {
    check_equal(&[r#"privacy.clip_norm={ kind = "per-layer", norm = 0.1 }"#]).await;
}

/// Serves and simulates the task with these settings, and compares all that both leave.
async fn check_equal(settings: &[&str]) {
    let sources = LiveSources::simulated(SimulationSeed::new(SEED));
    let world = World::start_with(|folder| changed_task(folder, settings), sources, |_| {}).await;
    let World {
        root, probe, address, ..
    } = &world;
    let simulated = changed_task(root, settings);
    let options = Options {
        out: Some(root.join("simulated")),
        resume: None,
        n_threads: 2,
    };
    tokio::task::spawn_blocking(move || {
        simulate(Some(simulated), &options, &mut Silent, &AtomicBool::new(false))
    })
    .await
    .unwrap()
    .unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let joined = Arc::new(Mutex::new(Vec::new()));
    let mut clients = Vec::new();
    for client in 0..N_CLIENTS {
        let settings = client_settings(root, address, client);
        let sources = ClientSources::simulated(SimulationSeed::new(SEED), client as u64);
        let (stop, joined) = (Arc::clone(&stop), Arc::clone(&joined));
        clients.push(tokio::spawn(async move {
            let result = join(settings, sources, stop).await.unwrap();
            joined.lock().unwrap().push(result);
        }));
        // Numbers are given in the order of arrival.
        while probe.n_clients() <= client {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    play(probe.clone(), Arc::clone(&world.clock)).await;
    let root = root.clone();
    assert_eq!(
        world.running.ended().await.unwrap(),
        Ended::Run(umbel_accounting::ledger::CloseStatus::Finished)
    );
    for client in clients {
        client.await.unwrap();
    }
    let reports = |end: &Joined| match end {
        Joined::Over { reports } => *reports,
        Joined::Stopped { .. } => panic!("told that the run is over"),
    };
    assert!(joined.lock().unwrap().iter().map(reports).sum::<u64>() > 0);

    let metrics = |name: &str| -> Vec<RoundMetrics> {
        let text = std::fs::read_to_string(root.join(name).join("metrics.jsonl")).unwrap();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<RoundMetrics>(line).unwrap());
        lines
            .map(|line| RoundMetrics {
                simulator_only: None,
                ..line
            })
            .collect()
    };
    assert_eq!(metrics("simulated"), metrics("served"));
    let [simulated, served] =
        ["simulated", "served"].map(|name| std::fs::read(root.join(name).join("model.safetensors")).unwrap());
    assert!(simulated == served, "the same bytes");
    check_verified(&root.join("served"));
    // What comes from a seed says so.
    let summary = std::fs::read_to_string(root.join("served/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["privacy"]["simulated"], true);
    assert!(summary.get("simulator_only").is_none() && summary["timing"]["clients_per_second"].is_null());
}
