//! Secure aggregation where somebody falls silent, the server stops in the middle of an attempt, or lies: over mutual TLS, with real
//! clients and a real server, and between one of them and the server somebody who changes messages.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use umbel_accounting::ledger::{self, Body, CloseStatus, VerifiedLedger};
use umbel_client::{ClientError, ClientSources, Joined, join};
use umbel_experiment::Experiment;
use umbel_protocol::Timestamp;
use umbel_secagg::MessageKind;
use umbel_server::{Ended, LiveSources, Probe, State, start};
use umbel_wire::aggregation::{Place, deliver_parts};
use umbel_wire::proto::{FetchRequest, LedgerRequest};

use crate::between::{Lie, Sent, stand_between};
use crate::hostile::connect_to;
use crate::support::{
    PlayedClock, World, check_verified, client_settings, secure_task_with, server_settings, write_clients,
};

/// One of six may drop out and one may help the server: five must survive, and four shares open a secret.
const N: usize = 6;
const LIAR_IS_BEFORE: usize = N - 1;

fn six(folder: &Path) -> Experiment {
    six_for(folder, 2)
}

/// As many rounds as inputs that a client gives: those of voided attempts count too.
fn six_for(folder: &Path, rounds: u64) -> Experiment {
    let rounds = format!("federation.rounds={rounds}");
    let experiment = secure_task_with(
        folder,
        &[
            "privacy.trust=distributed",
            "privacy.noise=discrete",
            &rounds,
            "federation.clients=6",
            "federation.cohort=6",
            "secure_aggregation.survivors_min=5",
            "secure_aggregation.clients_max=6",
            "secure_aggregation.colluding=0.16",
            "secure_aggregation.dropout_allowance=0.16",
        ],
    );
    write_clients(folder, N);
    experiment
}

/// A client that has joined, and how it is told to stop.
struct Member {
    end: JoinHandle<Result<Joined, ClientError>>,
    stop: Arc<AtomicBool>,
}

/// Lets all join, the last by way of somebody else.
async fn six_join(world: &World, lie: Option<Lie>) -> (Vec<Member>, Sent) {
    for client in crate::support::N_CLIENTS..N {
        world.authority.mint_client(&format!("client-{client}")).unwrap();
    }
    let (mut members, mut sent) = (Vec::new(), Sent::default());
    for client in 0..N {
        let mut address = world.address.clone();
        if let Some(lie) = lie.filter(|_| client == LIAR_IS_BEFORE) {
            (address, sent) = stand_between(world, &format!("client-{client}"), lie).await;
        }
        members.push(member(&world.root, &address, client));
        while world.probe.n_clients() <= client {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    (members, sent)
}

fn member(root: &Path, address: &str, client: usize) -> Member {
    let mut settings = client_settings(root, address, client);
    settings.policy.smallest_sum = 5;
    let stop = Arc::new(AtomicBool::new(false));
    let sources = ClientSources::from_system().unwrap();
    let end = tokio::spawn(join(settings, sources, Arc::clone(&stop)));
    Member { end, stop }
}

/// The same until the second round is open.
async fn play_first_round(probe: &Probe, clock: &PlayedClock, silent: usize, step: AttemptStep) {
    while probe.round() != Some(2) {
        play_once(probe, clock, silent, step, step);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Lets time pass between rounds, and in the first attempt's `step` once only `silent` clients are missing there. In later rounds
/// these are missing in the step `later`.
async fn play(probe: &Probe, clock: &PlayedClock, silent: usize, step: AttemptStep, later: AttemptStep) {
    while probe.wakes_at().is_some() {
        play_once(probe, clock, silent, step, later);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn play_once(probe: &Probe, clock: &PlayedClock, silent: usize, step: AttemptStep, later: AttemptStep) {
    let Some(wake) = probe.wakes_at() else { return };
    match (probe.round(), probe.attempt()) {
        (Some(round), Some((0, name))) => {
            let step = if round == 1 { step } else { later };
            if name == format!("{step:?}") && probe.missing_in_step() == Some(silent) {
                clock.advance(step.ends(wake));
            }
        }
        (_, None) => clock.advance(wake),
        _ => {}
    }
}

/// The steps of an attempt, as the server names them.
#[derive(Debug, Clone, Copy)]
enum AttemptStep {
    Advertising,
    Sharing,
    Masking,
    Confirming,
    Opening,
}

impl AttemptStep {
    /// The step in which this message is sent, or shown and answered.
    fn of(kind: MessageKind) -> Self {
        match kind.code() {
            1 | 2 => Self::Advertising,
            3 | 4 => Self::Sharing,
            5 | 6 => Self::Masking,
            7 | 8 => Self::Confirming,
            _ => Self::Opening,
        }
    }

    /// When it ends in a round of 60 seconds with this deadline.
    fn ends(self, deadline: Timestamp) -> Timestamp {
        let left = [45, 36, 12, 6, 0][self as usize];
        Timestamp::new(deadline.since_start() - Duration::from_secs(left))
    }
}

/// What the server has written down so far.
async fn current(root: &Path, address: &str) -> VerifiedLedger {
    let mut client = connect_to(root, address, "client-0").await.unwrap();
    let page = client
        .ledger(LedgerRequest { from: 0 })
        .await
        .unwrap()
        .into_inner();
    ledger::read(&page.lines).unwrap()
}

fn ledger_of(root: &Path) -> VerifiedLedger {
    ledger::read(&std::fs::read(root.join("served/ledger")).unwrap()).unwrap()
}

/// Attempt and number of survivors of each charge, and how many attempts were voided and sums released.
fn told(ledger: &VerifiedLedger) -> (Vec<(u64, u64)>, usize, usize) {
    let charges = ledger.records().iter().filter_map(|body| match body {
        Body::Charge(charge) => charge.survivors.as_ref().map(|s| (s.attempt, s.clients)),
        _ => None,
    });
    let count = |kind: &str| ledger.records().iter().filter(|body| body.kind() == kind).count();
    (charges.collect(), count("void"), count("release"))
}

/// Ends clients that were left out of the last round, and gives what each says.
async fn ends(members: Vec<Member>) -> Vec<Result<Joined, ClientError>> {
    let mut ends = Vec::new();
    for Member { end, stop } in members {
        stop.store(true, Ordering::Relaxed);
        ends.push(end.await.unwrap());
    }
    ends
}

/// A client that is heard no more from any one message on: the sum is that of the others, or of all if its input has come.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_falls_silent_at_any_message_stops_no_round() {
    for (kind, survivors) in [
        (MessageKind::Advertisement, 5),
        (MessageKind::Shares, 5),
        (MessageKind::MaskedInput, 5),
        (MessageKind::Confirmation, 6),
        (MessageKind::OpenedShares, 6),
    ] {
        let world = World::start_with(six, LiveSources::from_system().unwrap(), |_| {}).await;
        let (members, sent) = six_join(&world, Some(Lie::Swallow(kind))).await;
        let step = AttemptStep::of(kind);
        play(&world.probe, &world.clock, 1, step, step).await;
        ends(members).await;
        let root = world.root.clone();
        assert_eq!(
            world.running.ended().await.unwrap(),
            Ended::Run(CloseStatus::Finished)
        );
        let (charges, voids, releases) = told(&ledger_of(&root));
        assert_eq!((charges.len(), voids, releases), (2, 0, 2), "{kind:?}");
        assert_eq!(charges[0], (0, survivors), "{kind:?}");
        check_verified(&root.join("served"));
        // It was told that its message was taken, and says no word twice.
        assert!(
            sent.lock().unwrap().contains_key(&(1, 0, kind.code())),
            "{kind:?}"
        );
        assert!(sent.lock().unwrap().values().all(|times| *times == 1), "{kind:?}");
    }
}

/// Two silent ones are one too many: voided, free, and another attempt of the same round follows.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_ends_below_the_floor_costs_nothing_and_another_follows() {
    for kind in [
        MessageKind::Advertisement,
        MessageKind::Shares,
        MessageKind::MaskedInput,
    ] {
        let world = World::start_with(
            |folder| six_for(folder, 4),
            LiveSources::from_system().unwrap(),
            |_| {},
        )
        .await;
        for client in crate::support::N_CLIENTS..N {
            world.authority.mint_client(&format!("client-{client}")).unwrap();
        }
        let mut members = Vec::new();
        for client in 0..N {
            let name = format!("client-{client}");
            let address = match client {
                0 | 1 => stand_between(&world, &name, Lie::Miss(kind)).await.0,
                _ => world.address.clone(),
            };
            members.push(member(&world.root, &address, client));
            while world.probe.n_clients() <= client {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        let step = AttemptStep::of(kind);
        play_first_round(&world.probe, &world.clock, 2, step).await;
        assert_eq!(
            told(&current(&world.root, &world.address).await),
            (vec![(1, 6)], 1, 1),
            "{kind:?}"
        );
        ends(members).await;
    }
}

/// Each row: what one client is shown, and what it says. The others go on without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lies_to_one_client_is_refused_and_told_why() {
    fn flip_last(message: &mut [u8]) {
        *message.last_mut().unwrap() ^= 1;
    }
    fn flip_middle(message: &mut [u8]) {
        let middle = message.len() / 2;
        message[middle] ^= 1;
    }
    /// The set of clients follows the kind: the lowest six bits of a byte.
    fn without_this_client(message: &mut [u8]) {
        let bits = message[1];
        message[1] = bits & (bits - 1);
    }
    use MessageKind::{MaskRequest, Offer, Roster, Survivors, UnmaskRequest};
    for (lie, said) in [
        (Lie::Change(Offer, flip_last), "signature of the offer"),
        (
            Lie::Model,
            "the round's model is not the one that the client was given",
        ),
        (Lie::Change(Roster, flip_middle), "signature of the advertisement"),
        (Lie::Change(MaskRequest, flip_last), "signature of the shares"),
        (Lie::Change(Survivors, without_this_client), ""),
        (Lie::Change(Survivors, flip_last), "signature of the masked input"),
        (
            Lie::Change(UnmaskRequest, flip_last),
            "signature of the confirmation",
        ),
        (Lie::Announce(Roster, 1 << 40), "message 3 of the attempt"),
        (Lie::Announce(UnmaskRequest, 1 << 40), "message 9 of the attempt"),
    ] {
        let world = World::start_with(six, LiveSources::from_system().unwrap(), |_| {}).await;
        let (members, _) = six_join(&world, Some(lie)).await;
        let step = match lie {
            Lie::Change(kind, _) | Lie::Announce(kind, _) => AttemptStep::of(kind),
            _ => AttemptStep::Advertising,
        };
        play(&world.probe, &world.clock, 1, step, AttemptStep::Advertising).await;
        let mut ends = ends(members).await;
        let root = world.root.clone();
        assert_eq!(
            world.running.ended().await.unwrap(),
            Ended::Run(CloseStatus::Finished)
        );
        match ends.pop().unwrap() {
            Err(ClientError::Refusal(refusal)) => {
                assert!(refusal.0.contains(said), "{lie:?}: {refusal}");
                let kept = umbel_server::runs::show(&State::File(root.join("state.db")), "equal")
                    .unwrap()
                    .refusals;
                assert!(
                    kept.iter().any(|kept| kept.reason == refusal.0),
                    "{lie:?}: {kept:?}"
                );
            }
            other => panic!("{lie:?}: {other:?}"),
        }
        assert!(ends.iter().all(Result::is_ok), "{lie:?}: {ends:?}");
        let (charges, voids, releases) = told(&ledger_of(&root));
        assert_eq!((charges.len(), voids, releases), (2, 0, 2), "{lie:?}");
        check_verified(&root.join("served"));
    }
}

/// What has been asked for in an attempt that was voided is over for good: no later word of it opens anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_within_an_attempt_voids_it_and_goes_on_with_another() {
    let world = World::start_with(
        |folder| six_for(folder, 4),
        LiveSources::from_system().unwrap(),
        |_| {},
    )
    .await;
    let (members, _) = six_join(&world, Some(Lie::Miss(MessageKind::MaskedInput))).await;
    // Five inputs have come and one is missing.
    while world.probe.attempt() != Some((0, "Masking".to_owned())) || world.probe.missing_in_step() != Some(1)
    {
        if let (None, Some(wake)) = (world.probe.attempt(), world.probe.wakes_at()) {
            world.clock.advance(wake);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (root, clock, address) = (
        world.root.clone(),
        Arc::clone(&world.clock),
        world.running.address(),
    );
    world.running.shut_down().store(true, Ordering::Relaxed);
    world.running.ended().await.unwrap();

    let mut settings = server_settings(&root);
    settings.listen = address;
    let running = start(
        settings,
        six_for(&root, 4),
        LiveSources::from_system().unwrap(),
        Some(Arc::<PlayedClock>::clone(&clock)),
    )
    .await
    .unwrap();
    let probe = running.probe().unwrap();
    while probe.attempt().is_none() {
        if let Some(wake) = probe.wakes_at() {
            clock.advance(wake);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(probe.round(), Some(1));
    assert_eq!(probe.attempt().map(|(attempt, _)| attempt), Some(1));
    let mut client = connect_to(&root, &world.address, "client-0").await.unwrap();
    for kind in [
        MessageKind::MaskedInput,
        MessageKind::Confirmation,
        MessageKind::OpenedShares,
    ] {
        let place = Place {
            round: 1,
            attempt: 0,
            kind,
        };
        let own = umbel_secagg::client_number("client-0").to_le_bytes();
        let message = [&[kind.code()][..], &own, &[7; 64]].concat();
        let status = client
            .deliver(deliver_parts(place, message.into()))
            .await
            .unwrap_err();
        assert_eq!(status.message(), "this attempt is over", "{kind:?}");
    }
    let request = FetchRequest {
        round: 1,
        attempt: 0,
        kind: MessageKind::UnmaskRequest.code().into(),
        hold_millis: 0,
    };
    let answer = client
        .fetch(request)
        .await
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap();
    let part = answer.and_then(|answer| answer.part).unwrap();
    assert!(
        matches!(part, umbel_wire::proto::fetch_part::Part::Over(_)),
        "{part:?}"
    );

    play_first_round(&probe, &clock, 1, AttemptStep::Masking).await;
    assert_eq!(told(&current(&root, &world.address).await), (vec![(1, 6)], 1, 1));
    ends(members).await;
    // The input of the voided attempt counts as taken part, and only what was charged has a receipt.
    let text = std::fs::read_to_string(root.join("history-0/history.jsonl")).unwrap();
    let count = |kind: &str| {
        let of_kind = text
            .lines()
            .filter(|line| line.contains(&format!("{{\"kind\":\"{kind}\"")));
        of_kind.filter(|line| line.contains("\"round\":1,")).count()
    };
    assert_eq!((count("input"), count("charged")), (2, 1), "{text}");
}

/// An invitation that was answered once is no other attempt, however often it is shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_offer_is_not_answered_again() {
    let world = World::start_with(six, LiveSources::from_system().unwrap(), |_| {}).await;
    let (members, sent) = six_join(&world, Some(Lie::Replay)).await;
    play(
        &world.probe,
        &world.clock,
        7,
        AttemptStep::Opening,
        AttemptStep::Opening,
    )
    .await;
    ends(members).await;
    assert_eq!(
        world.running.ended().await.unwrap(),
        Ended::Run(CloseStatus::Finished)
    );
    assert_eq!(told(&ledger_of(&world.root)), (vec![(0, 6), (0, 6)], 0, 2));
    let sent = sent.lock().unwrap();
    assert!(sent.keys().any(|(round, _, _)| *round == 1));
    assert!(sent.values().all(|times| *times == 1), "{sent:?}");
}
