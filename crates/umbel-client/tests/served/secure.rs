//! Secure aggregation over mutual TLS: the same model as the simulation, and what becomes of a round when somebody vanishes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tonic::Code;
use umbel_accounting::ledger::{self, Body, CloseStatus};
use umbel_client::{ClientError, ClientSources, Joined, join};
use umbel_experiment::{Experiment, Overrides};
use umbel_mechanisms::SimulationSeed;
use umbel_secagg::MessageKind;
use umbel_server::authority::Authority;
use umbel_server::{Ended, LiveSources, start};
use umbel_wire::aggregation::{Place, deliver_parts};
use umbel_wire::proto::{CheckInRequest, FetchRequest, LedgerRequest};

use crate::hostile::{N_PARAMETERS, connect, report, upload};
use crate::support::{
    SEED, World, check_same, client_settings, join_all, secure_task, secure_task_with, server_settings,
    simulate_in,
};

/// Lets the next round open whenever none is open; an open one ends by itself.
async fn play(world: &World) {
    while let Some(wake) = world.probe.wakes_at() {
        if world.probe.attempt().is_none() {
            world.clock.advance(wake);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn check_same_as_simulated(settings: &[&str]) {
    let sources = LiveSources::simulated(SimulationSeed::new(SEED));
    let world = World::start_with(|folder| secure_task_with(folder, settings), sources, |_| {}).await;
    let root = world.root.clone();
    simulate_in(&root, secure_task_with(&root, settings)).await;
    let clients = join_all(&world).await;
    play(&world).await;
    for client in clients {
        assert_eq!(client.await.unwrap().unwrap(), Joined::Over { reports: 4 });
    }
    assert_eq!(
        world.running.ended().await.unwrap(),
        Ended::Run(CloseStatus::Finished)
    );
    check_same(&root);
    // Each client has charged itself before each input, and holds the server's word for each charge.
    let text = std::fs::read_to_string(root.join("history-0/history.jsonl")).unwrap();
    for kind in ["attempt", "input", "charged"] {
        let lines = text
            .lines()
            .filter(|line| line.contains(&format!("{{\"kind\":\"{kind}\"")));
        assert_eq!(lines.count(), 4, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_trusted_server_the_model_is_the_simulations() {
    check_same_as_simulated(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_noise_from_the_clients_the_model_is_the_simulations() {
    check_same_as_simulated(&["privacy.trust=distributed", "privacy.noise=discrete"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_steps_are_summed_by_secure_aggregation() {
    check_same_as_simulated(&[
        "privacy.unit=example",
        "privacy.trust=local",
        "federation.examples=24",
        "training.sampling_rate=0.5",
        "training.steps=3",
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clip_norm_follows_updates_that_the_server_does_not_see() {
    check_same_as_simulated(&[r#"privacy.clip_norm={ kind = "adaptive", initial = 0.5, quantile = 0.5 }"#])
        .await;
}

/// Too few clients: each attempt is voided when its time is over, and costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_without_enough_clients_is_voided_and_has_another_number_afterwards() {
    let sources = LiveSources::from_system().unwrap();
    let world = World::start_with(|folder| secure_task(folder, true), sources, |_| {}).await;
    let mut early = connect(&world, "client-0").await.unwrap();
    let request = FetchRequest {
        round: 1,
        attempt: 0,
        kind: 3,
        hold_millis: 0,
    };
    early.terms(umbel_wire::proto::TermsRequest {}).await.unwrap();
    for attempt in 0..2 {
        while world.probe.attempt() != Some((attempt, "Advertising".to_owned())) {
            if world.probe.attempt().is_none() {
                world.clock.advance(world.probe.wakes_at().unwrap());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if attempt == 0 {
            hostile_messages(&mut early, request).await;
        }
        // Nobody advertises, and the step's time passes.
        let deadline = world.probe.wakes_at().unwrap();
        world.clock.advance(deadline);
        while world.probe.attempt().is_some_and(|(open, _)| open == attempt) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let request = LedgerRequest { from: 0 };
    let page = early.ledger(request).await.unwrap().into_inner();
    let records = ledger::read(&page.lines).unwrap();
    let count = |kind: &str| {
        records
            .records()
            .iter()
            .filter(|body| body.kind() == kind)
            .count()
    };
    assert_eq!((count("void"), count("charge")), (2, 0));
    assert!(matches!(records.records()[0], Body::Header(_)));
}

/// Messages that are malformed, too long, another's or not waited for: each is refused, and nothing changes.
async fn hostile_messages(
    client: &mut umbel_wire::proto::federation_client::FederationClient<tonic::transport::Channel>,
    request: FetchRequest,
) {
    let place = |kind| Place {
        round: 1,
        attempt: 0,
        kind,
    };
    let own = umbel_secagg::client_number("client-0").to_le_bytes();
    let message =
        |kind: u8, number: [u8; 8], length: usize| [&[kind][..], &number, &vec![7; length]].concat();
    for (kind, bytes, code) in [
        (
            MessageKind::Advertisement,
            message(2, own, 3),
            Code::InvalidArgument,
        ),
        (
            MessageKind::Advertisement,
            message(2, [0; 8], 224),
            Code::PermissionDenied,
        ),
        (
            MessageKind::Advertisement,
            message(4, own, 224),
            Code::PermissionDenied,
        ),
        (
            MessageKind::Advertisement,
            message(2, own, 224),
            Code::PermissionDenied,
        ),
        (
            MessageKind::Advertisement,
            message(2, own, 300_000),
            Code::ResourceExhausted,
        ),
        (
            MessageKind::MaskedInput,
            message(6, own, 200),
            Code::FailedPrecondition,
        ),
        (
            MessageKind::MaskedInput,
            message(6, own, 300_000),
            Code::ResourceExhausted,
        ),
        (
            MessageKind::OpenedShares,
            message(10, own, 64),
            Code::FailedPrecondition,
        ),
    ] {
        let parts = deliver_parts(place(kind), bytes.into());
        let status = client.deliver(parts).await.unwrap_err();
        assert_eq!(status.code(), code, "{kind:?}: {status}");
    }
    for kind in [0, 1, 2, 11] {
        let status = client.fetch(FetchRequest { kind, ..request }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    // There is no roster yet; an attempt that is not open is over.
    for attempt in [0, 1] {
        let answer = client.fetch(FetchRequest { attempt, ..request }).await.unwrap();
        let part = answer
            .into_inner()
            .message()
            .await
            .unwrap()
            .unwrap()
            .part
            .unwrap();
        use umbel_wire::proto::fetch_part::Part;
        match attempt {
            0 => assert!(matches!(part, Part::NotYet(_)), "{part:?}"),
            _ => assert!(matches!(part, Part::Over(_)), "{part:?}"),
        }
    }
}

/// Plain sums against a policy that requires secure ones, or larger ones.
#[tokio::test(flavor = "multi_thread")]
async fn weaker_terms_than_the_policy_says_are_refused_before_anything_else() {
    let plain = World::start(|_| {}).await;
    let sources = LiveSources::simulated(SimulationSeed::new(SEED));
    let secure = World::start_with(|folder| secure_task(folder, true), sources, |_| {}).await;
    for (world, change, said) in [
        (&plain, "required", "secure aggregation is required"),
        (
            &secure,
            "sum",
            "a sum may have 4 clients, the fewest accepted are 5",
        ),
        (&secure, "colluding", "1 of 4 clients are assumed to help"),
        (&secure, "noise", "the noise multiplier is 0.8"),
    ] {
        let mut settings = client_settings(&world.root, &world.address, 0);
        match change {
            "required" => settings.policy.secure_aggregation = true,
            "sum" => settings.policy.smallest_sum = 5,
            "colluding" => settings.policy.least_colluding = 0.3,
            _ => settings.policy.least_noise_multiplier = 0.9,
        }
        let result = join(
            settings,
            ClientSources::from_system().unwrap(),
            Arc::new(AtomicBool::new(false)),
        )
        .await;
        match result {
            Err(ClientError::Refusal(refusal)) => assert!(refusal.0.contains(said), "{refusal}"),
            other => panic!("{change}: {other:?}"),
        }
    }
}

/// A report by itself is what secure aggregation hides, so none is taken, of the right shape and by an invited client though it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_plain_report_is_refused_and_nothing_is_counted() {
    for distributed in [false, true] {
        let sources = LiveSources::simulated(SimulationSeed::new(SEED));
        let world = World::start_with(|folder| secure_task(folder, distributed), sources, |_| {}).await;
        let mut client = connect(&world, "client-0").await.unwrap();
        client.check_in(CheckInRequest { hold_millis: 0 }).await.unwrap();
        let advertising = Some((0, "Advertising".to_owned()));
        while world.probe.attempt() != advertising {
            if world.probe.attempt().is_none() {
                world.clock.advance(world.probe.wakes_at().unwrap());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let missing = world.probe.missing();
        assert!(missing.is_some_and(|missing| missing > 0));
        for _ in 0..2 {
            let status = upload(&mut client, report(1, N_PARAMETERS)).await.unwrap_err();
            assert_eq!(
                (status.code(), status.message()),
                (
                    Code::FailedPrecondition,
                    "no reports are taken: this run's updates are summed by secure aggregation"
                )
            );
        }
        assert_eq!(
            (world.probe.attempt(), world.probe.missing()),
            (advertising, missing)
        );
        // The attempt ends as if nothing had come: short of clients, and free.
        world.clock.advance(world.probe.wakes_at().unwrap());
        while world.probe.attempt().is_some_and(|(open, _)| open == 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let page = client
            .ledger(LedgerRequest { from: 0 })
            .await
            .unwrap()
            .into_inner();
        let records = ledger::read(&page.lines).unwrap();
        assert!(records.records().iter().any(|body| matches!(body, Body::Void(_))));
        assert!(
            !records
                .records()
                .iter()
                .any(|body| matches!(body, Body::Charge(_) | Body::Release(_)))
        );
    }
}

/// Sums without the cryptography are for simulations: a server would see every update and say that it does not.
#[tokio::test(flavor = "multi_thread")]
async fn serve_refuses_the_ideal() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let authority = Authority::create(&root.join("certs")).unwrap();
    authority
        .mint_server("server", &["localhost".to_owned()])
        .unwrap();
    for distributed in [false, true] {
        let mut overrides = Overrides::default();
        let text = secure_task(root, distributed).to_toml();
        overrides.settings = vec!["secure_aggregation.enabled=ideal".to_owned()];
        let experiment = Experiment::parse(&text, root, &overrides).unwrap();
        let sources = LiveSources::from_system().unwrap();
        let error = start(server_settings(root), experiment, sources, None)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`secure_aggregation.enabled`") && error.contains("for simulation only"),
            "{error}"
        );
        assert!(!root.join("served").exists(), "no run has begun");
    }
}
