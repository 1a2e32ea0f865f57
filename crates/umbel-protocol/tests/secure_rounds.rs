//! Rounds with secure aggregation: nothing is opened before the charge, and a charge is never taken back.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use umbel_accounting::ledger::Body;
use umbel_accounting::{DpEvent, NeighboringRelation, NoiseMultiplier};
use umbel_mechanisms::{CohortSource, DistributedGaussian, DistributedTerms, NoiseSource};
use umbel_protocol::{
    ClientFault, ClientId, CommitmentKey, HandleError, PlanError, PlanSettings, Resumed, Run, RunPlan,
    SecureAggregation, Sources, Trust,
};

use self::support::{DIMENSION, Store, at, clip_norm, report, settings, sources, update};

const SECURE: SecureAggregation = SecureAggregation {
    ideal: true,
    clients_max: 8,
    survivors_min: 6,
    colluding: 1,
    dropout_permille: 100,
    complete: true,
    modulus_bits: 20,
};

fn terms() -> DistributedTerms {
    DistributedTerms {
        clip_norm: clip_norm(),
        noise_multiplier: NoiseMultiplier::new(2.0).unwrap(),
        dimension: DIMENSION,
        divisor: 8.0,
        clients_max: 8,
        survivors_min: 6,
        colluding: 1,
        modulus_bits: 20,
        most_participations: 2,
    }
}

fn distributed() -> PlanSettings {
    PlanSettings {
        trust: Trust::Distributed,
        mechanism: DistributedGaussian::new(terms()).unwrap().into(),
        secure_aggregation: Some(SECURE),
        ..settings()
    }
}

fn begin() -> (Run, Store) {
    let plan = RunPlan::new(distributed()).unwrap();
    let mut run = Run::new(plan, sources(), vec![0.5; DIMENSION], 1).unwrap();
    let mut store = Store::new();
    store.settle(&mut run);
    (run, store)
}

/// Opens the next round, and says how many were invited.
fn open(run: &mut Run, store: &mut Store) -> usize {
    run.handle_start(at(0)).unwrap();
    store.settle(run);
    std::iter::from_fn(|| run.poll_outgoing()).count()
}

#[test]
fn the_charge_is_stored_before_the_sum_can_be_handed_in() {
    let (mut run, mut store) = begin();
    assert_eq!(open(&mut run, &mut store), 8);
    let sum = || Some(vec![100; DIMENSION]);
    assert!(run.handle_sum(sum()).is_err(), "nothing is confirmed");
    for survivors in [0, 5, 9] {
        assert!(run.handle_confirmed(survivors).is_err(), "{survivors}");
    }
    let single = run.handle_message(ClientId(1), report(1, &update(1, 1)));
    assert!(
        matches!(single, Err(ClientFault::OtherRound { .. })),
        "a single report"
    );
    run.handle_confirmed(7).unwrap();
    store.listen(&mut run);
    assert!(run.handle_sum(sum()).is_err(), "the charge is not stored");
    assert!(run.handle_shortfall("too late".to_owned()).is_err());
    store.settle(&mut run);
    assert!(run.handle_shortfall("too late".to_owned()).is_err());
    assert!(matches!(
        run.handle_sum(Some(vec![1; 3])),
        Err(HandleError::ApiMisuse(_))
    ));
    run.handle_sum(sum()).unwrap();
    assert!(run.handle_sum(sum()).is_err(), "once");
    store.settle(&mut run);
    assert_eq!(run.rounds(), 1);
    assert!(run.parameters().iter().any(|value| (value - 0.5).abs() > 1e-9));
    let ledger = store.ledger();
    let Some(Body::Charge(charge)) = ledger.records().iter().find(|body| body.kind() == "charge") else {
        panic!("a charge")
    };
    let survivors = charge.survivors.as_ref().unwrap();
    assert_eq!((survivors.clients, survivors.attempt), (7, 0));
    let DpEvent::ZeroConcentrated { rho } = charge.event else {
        panic!("{:?}", charge.event)
    };
    let DpEvent::ZeroConcentrated { rho: given } = survivors.event else {
        panic!("{:?}", survivors.event)
    };
    assert!(
        (given.value() * 6.0 / 5.0 / rho.value() - 1.0).abs() < 1e-9,
        "six honest, five charged"
    );
}

#[test]
fn an_attempt_that_falls_short_costs_nothing_and_another_follows() {
    let (mut run, mut store) = begin();
    let nothing = run.spent();
    for attempt in 1..=2 {
        open(&mut run, &mut store);
        run.handle_shortfall("too few".to_owned()).unwrap();
        store.settle(&mut run);
        assert_eq!((run.spent(), run.attempt()), (nothing, attempt));
    }
    open(&mut run, &mut store);
    // Time alone does not open anything.
    run.handle_timeout(run.poll_timeout().unwrap()).unwrap();
    store.settle(&mut run);
    assert_eq!((run.spent(), run.rounds()), (nothing, 0));
    // Attempts that were not opened are no participations: of two rounds each may have both.
    for round in 1..=2 {
        assert_eq!(open(&mut run, &mut store), 8);
        run.handle_confirmed(6).unwrap();
        store.settle(&mut run);
        run.handle_sum(Some(vec![5; DIMENSION])).unwrap();
        store.settle(&mut run);
        assert_eq!((run.rounds(), run.attempt()), (round, 0));
    }
    assert_eq!(
        open(&mut run, &mut store),
        0,
        "all have used up their participations"
    );
}

#[test]
fn a_sum_that_is_lost_keeps_its_charge_and_the_model() {
    let (mut run, mut store) = begin();
    open(&mut run, &mut store);
    run.handle_confirmed(8).unwrap();
    store.settle(&mut run);
    let spent = run.spent();
    run.handle_sum(None).unwrap();
    store.settle(&mut run);
    assert_eq!((run.rounds(), run.spent()), (1, spent));
    assert!(
        run.parameters()
            .iter()
            .all(|value| value.to_bits() == 0.5_f32.to_bits())
    );
}

#[test]
fn a_simulation_resumes_with_the_participations_that_were_charged() {
    let (mut run, mut store) = begin();
    open(&mut run, &mut store);
    run.handle_shortfall("too few".to_owned()).unwrap();
    store.settle(&mut run);
    open(&mut run, &mut store);
    run.handle_confirmed(7).unwrap();
    store.settle(&mut run);
    run.handle_sum(Some(vec![9; DIMENSION])).unwrap();
    store.settle(&mut run);
    let checkpoint = run.checkpoint();
    let mut reopened = store.reopen();
    let resumed = Resumed::new(&store.ledger(), Some(checkpoint));
    let plan = RunPlan::new(distributed()).unwrap();
    let mut again = Run::resume(plan, sources(), vec![0.5; DIMENSION], resumed, 1).unwrap();
    reopened.settle(&mut again);
    for expected in [8, 0] {
        assert_eq!(open(&mut run, &mut store), expected);
        assert_eq!(open(&mut again, &mut reopened), expected);
        if expected > 0 {
            for (run, store) in [(&mut run, &mut store), (&mut again, &mut reopened)] {
                run.handle_confirmed(6).unwrap();
                store.settle(run);
                run.handle_sum(Some(vec![9; DIMENSION])).unwrap();
                store.settle(run);
            }
        }
    }
    // Before the checkpoint of a charged round its attempts are made again, and recorded once.
    let resumed = Resumed::new(&store.ledger(), None);
    let plan = RunPlan::new(distributed()).unwrap();
    let mut replayed = Run::resume(plan, sources(), vec![0.5; DIMENSION], resumed, 1).unwrap();
    let mut third = store.reopen();
    third.settle(&mut replayed);
    let spent = replayed.spent();
    open(&mut replayed, &mut third);
    replayed.handle_shortfall("too few".to_owned()).unwrap();
    third.settle(&mut replayed);
    open(&mut replayed, &mut third);
    replayed.handle_confirmed(7).unwrap();
    third.settle(&mut replayed);
    replayed.handle_sum(Some(vec![9; DIMENSION])).unwrap();
    third.settle(&mut replayed);
    assert_eq!((replayed.rounds(), replayed.spent()), (1, spent));
}

#[test]
fn plans_say_what_goes_together() {
    let refused = |settings: PlanSettings, expected: &str| match RunPlan::new(settings) {
        Err(PlanError::Setting { key, .. }) => assert_eq!(key, expected),
        other => panic!("{expected}: {other:?}"),
    };
    let change = |change: fn(&mut SecureAggregation)| {
        let mut secure = SECURE;
        change(&mut secure);
        Some(secure)
    };
    let mut central = PlanSettings {
        secure_aggregation: change(|secure| secure.modulus_bits = 40),
        ..settings()
    };
    let plan = RunPlan::new(central.clone()).unwrap();
    assert_eq!(plan.relation(), NeighboringRelation::ReplaceByZero);
    assert!(
        matches!(plan.round_event(), DpEvent::Gaussian { .. }),
        "no amplification"
    );
    central.secure_aggregation = change(|secure| secure.modulus_bits = 34);
    refused(central.clone(), "secure_aggregation.modulus_bits");
    central.trust = Trust::Distributed;
    refused(central, "privacy.trust");
    refused(
        PlanSettings {
            trust: Trust::Central,
            ..distributed()
        },
        "privacy.trust",
    );
    refused(
        PlanSettings {
            secure_aggregation: None,
            ..distributed()
        },
        "secure_aggregation.enabled",
    );
    for (secure, key) in [
        (change(|secure| secure.survivors_min = 7), "secure_aggregation"),
        (change(|secure| secure.colluding = 2), "secure_aggregation"),
        (
            change(|secure| secure.survivors_min = 4),
            "secure_aggregation.survivors_min",
        ),
        (
            change(|secure| secure.survivors_min = 9),
            "secure_aggregation.survivors_min",
        ),
        (
            change(|secure| secure.clients_max = 9),
            "secure_aggregation.clients_max",
        ),
        (
            change(|secure| secure.clients_max = 7),
            "secure_aggregation.clients_max",
        ),
    ] {
        refused(
            PlanSettings {
                secure_aggregation: secure,
                ..distributed()
            },
            key,
        );
    }
    let other_model = Run::new(
        RunPlan::new(distributed()).unwrap(),
        sources(),
        vec![0.0; DIMENSION + 1],
        1,
    );
    assert!(matches!(
        other_model,
        Err(PlanError::Setting { key: "model", .. })
    ));
}

/// A live run that is interrupted in an attempt voids it, and goes on with a number that no client has seen.
#[test]
fn a_live_run_never_gives_an_attempt_its_number_again() {
    let live = || Sources {
        cohort: CohortSource::from_system().unwrap(),
        noise: NoiseSource::from_system().unwrap(),
        commitment: CommitmentKey::from_secret([9; 32]),
    };
    let plan = || RunPlan::new(distributed()).unwrap();
    let mut run = Run::new(plan(), live(), vec![0.5; DIMENSION], 1).unwrap();
    let mut store = Store::new();
    store.settle(&mut run);
    open(&mut run, &mut store);
    run.handle_shortfall("too few".to_owned()).unwrap();
    store.settle(&mut run);
    open(&mut run, &mut store);
    assert_eq!(run.attempt(), 1);
    let mut store = store.reopen();
    let resumed = Resumed::new(&store.ledger(), None);
    let mut run = Run::resume(plan(), live(), vec![0.5; DIMENSION], resumed, 1).unwrap();
    store.settle(&mut run);
    let nothing = run.spent();
    open(&mut run, &mut store);
    assert_eq!(run.attempt(), 2);
    // Charged, and interrupted before the sum was opened: the charge stays, the model too, and the next round begins anew.
    run.handle_confirmed(7).unwrap();
    store.settle(&mut run);
    let mut store = store.reopen();
    let resumed = Resumed::new(&store.ledger(), None);
    let mut run = Run::resume(plan(), live(), vec![0.5; DIMENSION], resumed, 1).unwrap();
    store.settle(&mut run);
    assert_eq!((run.rounds(), run.attempt()), (1, 0));
    assert!(run.spent() != nothing);
    open(&mut run, &mut store);
    run.handle_confirmed(6).unwrap();
    store.settle(&mut run);
    run.handle_sum(Some(vec![9; DIMENSION])).unwrap();
    store.settle(&mut run);
    assert_eq!(run.rounds(), 2);
}
