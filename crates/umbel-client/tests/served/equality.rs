//! The same engine runs both: a served federation over mutual TLS, with the randomness of a simulation, leaves the same model bytes
//! as the simulation.

use std::sync::Arc;
use std::time::Duration;

use umbel_client::Joined;
use umbel_experiment::RoundMetrics;
use umbel_mechanisms::SimulationSeed;
use umbel_server::{Ended, LiveSources, Probe};

use crate::support::{PlayedClock, SEED, World, changed_task, check_same, join_all, simulate_in};

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
    let root = world.root.clone();
    simulate_in(&root, changed_task(&root, settings)).await;
    let clients = join_all(&world).await;
    play(world.probe.clone(), Arc::clone(&world.clock)).await;
    assert_eq!(
        world.running.ended().await.unwrap(),
        Ended::Run(umbel_accounting::ledger::CloseStatus::Finished)
    );
    let mut joined = Vec::new();
    for client in clients {
        joined.push(client.await.unwrap().unwrap());
    }
    let reports = |end: &Joined| match end {
        Joined::Over { reports } => *reports,
        Joined::Stopped { .. } => panic!("told that the run is over"),
    };
    assert!(joined.iter().map(reports).sum::<u64>() > 0);

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
    check_same(&root);
    // What comes from a seed says so.
    let summary = std::fs::read_to_string(root.join("served/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["privacy"]["simulated"], true);
    assert!(summary.get("simulator_only").is_none() && summary["timing"]["clients_per_second"].is_null());
}
