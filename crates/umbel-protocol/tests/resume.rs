//! Interruption at every record: the run goes on as if nothing had happened.
#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "tests, of numbers that must be the very same"
)]

mod support;

use umbel_accounting::ledger::{Body, read};
use umbel_protocol::{Checkpoint, PlanSettings, ResumeError, Resumed, RoundId, Run, RunPlan};

use self::support::{DIMENSION, Store, plan, play_round, settings, sources};

fn initial() -> Vec<f32> {
    vec![0.5; DIMENSION]
}

/// The whole run, with the checkpoint after each round.
fn uninterrupted() -> (Store, Vec<Checkpoint>) {
    let (mut run, mut store) = (Run::new(plan(), sources(), initial(), 1).unwrap(), Store::new());
    let mut checkpoints = Vec::new();
    for _ in 0..3 {
        play_round(&mut run, &mut store, 0, false);
        checkpoints.push(run.checkpoint());
    }
    (store, checkpoints)
}

/// Rounds of a certain kind of record, in order.
fn rounds_of(store: &Store, kind: &str) -> Vec<u64> {
    let round = |body: &Body| match body {
        Body::Charge(charge) if kind == "charge" => Some(charge.round),
        Body::Release(release) if kind == "release" => Some(release.round),
        _ => None,
    };
    store.ledger().records().iter().filter_map(round).collect()
}

#[test]
fn a_run_cut_off_after_any_record_ends_with_the_same_model_and_one_charge_a_round() {
    let (whole, checkpoints) = uninterrupted();
    let lines: Vec<&str> = whole.text.split_inclusive('\n').collect();
    for cut in 1..=lines.len() {
        let text = lines[..cut].concat();
        let ledger = read(text.as_bytes()).unwrap();
        let released = ledger
            .records()
            .iter()
            .filter(|body| body.kind() == "release")
            .count();
        // The checkpoint may be as new as the last release, or older.
        for at in 0..=released {
            let mut store = Store {
                text: text.clone(),
                ..Store::new()
            };
            store = store.reopen();
            let checkpoint = at.checked_sub(1).map(|place| checkpoints[place].clone());
            let resumed = Resumed::new(&ledger, checkpoint);
            let mut run = Run::resume(plan(), sources(), initial(), resumed, 1).unwrap();
            for _ in at..3 {
                play_round(&mut run, &mut store, 0, true);
            }
            assert_eq!(
                run.parameters(),
                &checkpoints[2].parameters,
                "cut after record {cut}, checkpoint {at}"
            );
            assert_eq!(
                rounds_of(&store, "charge"),
                [1, 2, 3],
                "cut after record {cut}, checkpoint {at}"
            );
            assert_eq!(
                rounds_of(&store, "release"),
                [1, 2, 3],
                "cut after record {cut}, checkpoint {at}"
            );
            let claims = |store: &Store| {
                let claim = |body: &Body| match body {
                    Body::Charge(charge) => charge.claim.epsilon,
                    _ => None,
                };
                store
                    .ledger()
                    .records()
                    .iter()
                    .filter_map(claim)
                    .collect::<Vec<_>>()
            };
            assert_eq!(claims(&store), claims(&whole));
        }
    }
}

#[test]
fn another_plan_is_refused_by_the_field_that_differs() {
    let (store, checkpoints) = uninterrupted();
    let check = |settings: PlanSettings, initial: Vec<f32>, expected: &str| {
        let resumed = Resumed::new(&store.ledger(), Some(checkpoints[2].clone()));
        let error = Run::resume(RunPlan::new(settings).unwrap(), sources(), initial, resumed, 1).unwrap_err();
        assert!(
            matches!(&error, ResumeError::OtherPlan { field, .. } if *field == expected),
            "{error}"
        );
    };
    check(
        PlanSettings {
            rounds: 4,
            ..settings()
        },
        initial(),
        "rounds",
    );
    check(settings(), vec![0.25; DIMENSION], "initial_model_sha256");
}

#[test]
fn other_data_are_refused() {
    let (store, checkpoints) = uninterrupted();
    let mut other = settings();
    other.description.data_sha256 = "22".into();
    let resumed = Resumed::new(&store.ledger(), Some(checkpoints[2].clone()));
    let error = Run::resume(RunPlan::new(other).unwrap(), sources(), initial(), resumed, 1).unwrap_err();
    assert_eq!(error, ResumeError::OtherData);
}

#[test]
fn a_checkpoint_from_elsewhere_is_refused() {
    let (store, checkpoints) = uninterrupted();
    let lines: Vec<&str> = store.text.split_inclusive('\n').collect();
    let ledger = read(lines[..4].concat().as_bytes()).unwrap();
    let error = Run::resume(
        plan(),
        sources(),
        initial(),
        Resumed::new(&ledger, Some(checkpoints[1].clone())),
        1,
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the model of round 1, the last release on the ledger"),
        "{error}"
    );
    let short = Checkpoint {
        parameters: vec![0.0; 2].into(),
        ..checkpoints[0].clone()
    };
    let error = Run::resume(
        plan(),
        sources(),
        initial(),
        Resumed::new(&ledger, Some(short)),
        1,
    )
    .unwrap_err();
    assert!(error.to_string().contains("a model of 5 parameters"), "{error}");
}

#[test]
fn a_checkpoint_whose_model_is_not_on_the_ledger_is_refused() {
    let (store, checkpoints) = uninterrupted();
    for round in 0..3 {
        let mut forged = Checkpoint {
            round: RoundId(round),
            ..checkpoints[2].clone()
        };
        let mut parameters = forged.parameters.to_vec();
        parameters[1] += 0.25;
        forged.parameters = parameters.into();
        let resumed = Resumed::new(&store.ledger(), Some(forged));
        let error = Run::resume(plan(), sources(), initial(), resumed, 1).unwrap_err();
        assert!(error.to_string().contains("a model with SHA-256"), "{error}");
    }
}

#[test]
fn a_replay_that_differs_from_the_ledger_stops() {
    let (store, _) = uninterrupted();
    let lines: Vec<&str> = store.text.split_inclusive('\n').collect();
    let text = lines[..4].concat();
    let ledger = read(text.as_bytes()).unwrap();
    let mut run = Run::resume(plan(), sources(), initial(), Resumed::new(&ledger, None), 1).unwrap();
    let mut store = Store { text, ..Store::new() }.reopen();
    store.settle(&mut run);
    run.handle_start(support::at(0)).unwrap();
    store.settle(&mut run);
    // Nobody reports this time: the data have changed, or the clients have.
    let error = run.handle_timeout(support::at(60)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("gave another model than the ledger holds"),
        "{error}"
    );
    assert_eq!(
        run.parameters().to_vec(),
        initial(),
        "what was refused is not shown"
    );
}

#[test]
fn a_run_that_is_stopped_before_it_caught_up_closes_with_all_that_is_charged() {
    let (whole, _) = uninterrupted();
    let charged = whole.ledger().records().iter().find_map(|body| match body {
        Body::Charge(charge) if charge.round == 2 => charge.claim.epsilon,
        _ => None,
    });
    let lines: Vec<&str> = whole.text.split_inclusive('\n').collect();
    let text = lines[..7].concat();
    let ledger = read(text.as_bytes()).unwrap();
    let mut run = Run::resume(plan(), sources(), initial(), Resumed::new(&ledger, None), 1).unwrap();
    let mut store = Store { text, ..Store::new() }.reopen();
    play_round(&mut run, &mut store, 0, false);
    run.handle_abandon("stopped on request".into()).unwrap();
    run.handle_close([1; 32], [2; 32]).unwrap();
    store.settle(&mut run);
    let ledger = store.ledger();
    let Some(Body::Close(close)) = ledger.records().last() else {
        panic!("a closing record")
    };
    assert_eq!((close.rounds, close.claim.epsilon), (1, charged));
}
