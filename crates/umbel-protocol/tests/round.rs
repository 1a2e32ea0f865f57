//! The life of rounds, step by step.
#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "tests, of numbers that must be the very same"
)]

mod support;

use umbel_accounting::ledger::{Body, Order};
use umbel_accounting::{ClipNorm, Delta, Epsilon, NeighboringRelation, NoiseMultiplier, SamplingRate};
use umbel_mechanisms::{
    CentralGaussian, LocalGaussian, LocalPlan, LocalSteps, Mechanism, NoiseKind, Quantizer,
};
use umbel_protocol::{
    ClientFault, ClientId, ClientMessage, ClientRound, Input, PlanSettings, PrivacyUnit, RoundId, Run,
    RunPlan, ServerMessage, StoreToken, Trust,
};

use self::support::{
    DIMENSION, Store, at, limited_plan, plan, play_round, report, settings, sources, update,
};

fn new_run() -> Run {
    Run::new(plan(), sources(), vec![0.0; DIMENSION], 1).unwrap()
}

#[test]
fn a_round_reserves_charges_and_releases_in_this_order() {
    let (mut run, mut store) = (new_run(), Store::new());
    play_round(&mut run, &mut store, 0, false);
    assert_eq!(
        store.told,
        [
            "store header",
            "store reserve",
            "store charge",
            "store release",
            "released 1"
        ]
    );
    let kinds: Vec<_> = store.ledger().records().iter().map(Body::kind).collect();
    assert_eq!(kinds, ["header", "reserve", "charge", "release"]);
}

#[test]
fn nothing_is_released_before_its_charge_is_stored() {
    let (mut run, mut store) = (new_run(), Store::new());
    store.settle(&mut run);
    run.handle_start(at(0)).unwrap();
    store.listen(&mut run);
    // The reservation waits: nobody is invited, and no message, time or start moves the run.
    assert!(run.poll_outgoing().is_none());
    assert!(run.handle_message(ClientId(0), report(1, &update(1, 0))).is_err());
    assert!(run.handle_start(at(9_999)).is_err());
    store.acknowledge(&mut run);
    let invited = run.poll_outgoing().unwrap().to;
    run.handle_message(invited, report(1, &update(1, invited.0)))
        .unwrap();
    run.handle_timeout(at(60)).unwrap();
    store.listen(&mut run);

    // The charge waits. Whatever else is tried, no release and no model comes.
    let before = run.parameters().clone();
    let (token, record) = store.waiting.take().unwrap();
    assert_eq!(record.kind(), "charge");
    run.handle_timeout(at(1_000_000)).unwrap();
    assert!(run.handle_start(at(1_000_000)).is_err());
    assert!(
        run.handle_abandon("impatience".into()).is_err(),
        "a charge that may be durable is not taken back"
    );
    assert!(
        run.handle_stored(StoreToken(token.0 + 1)).is_err(),
        "another token does not count"
    );
    assert!(
        run.handle_stored(StoreToken(token.0 - 1)).is_err(),
        "an old token does not count"
    );
    store.listen(&mut run);
    assert!(store.waiting.is_none() && !store.told.iter().any(|told| told.starts_with("released")));
    assert_eq!(run.parameters(), &before);

    store.waiting = Some((token, record));
    store.settle(&mut run);
    assert_eq!(store.told.last().unwrap(), "released 1");
    assert_ne!(run.parameters(), &before);
    assert!(run.handle_stored(token).is_err(), "a token counts once");
}

#[test]
fn a_round_closes_on_time_only() {
    let (mut run, mut store) = (new_run(), Store::new());
    store.settle(&mut run);
    run.handle_start(at(5)).unwrap();
    store.settle(&mut run);
    assert_eq!(run.poll_timeout(), Some(at(65)));
    while let Some(outgoing) = run.poll_outgoing() {
        run.handle_message(outgoing.to, report(1, &update(1, outgoing.to.0)))
            .unwrap();
    }
    // Everybody has reported, and still nothing happens before the deadline.
    run.handle_timeout(at(64)).unwrap();
    store.listen(&mut run);
    assert!(store.waiting.is_none());
    run.handle_timeout(at(65)).unwrap();
    store.listen(&mut run);
    assert_eq!(store.waiting.as_ref().unwrap().1.kind(), "charge");
}

#[test]
fn an_empty_round_still_releases_noise() {
    let (mut run, mut store) = (new_run(), Store::new());
    store.settle(&mut run);
    run.handle_start(at(0)).unwrap();
    store.settle(&mut run);
    run.handle_timeout(at(60)).unwrap();
    store.settle(&mut run);
    assert_eq!(store.told.last().unwrap(), "released 1");
    assert!(
        run.parameters().iter().all(|value| *value != 0.0),
        "{:?}",
        run.parameters()
    );
}

#[test]
fn what_a_client_does_wrong_is_refused_and_changes_nothing() {
    let (mut run, mut store) = (new_run(), Store::new());
    let mut reference = Store::new();
    let mut honest = new_run();
    play_round(&mut honest, &mut reference, 0, false);

    store.settle(&mut run);
    let early = run
        .handle_message(ClientId(0), report(1, &update(1, 0)))
        .unwrap_err();
    assert!(
        matches!(early, ClientFault::OtherRound { open: None, .. }),
        "{early}"
    );
    run.handle_start(at(0)).unwrap();
    store.settle(&mut run);
    let mut invited = Vec::new();
    while let Some(outgoing) = run.poll_outgoing() {
        invited.push(outgoing.to);
    }
    let first = invited[0];
    let other = |message: ClientMessage, run: &mut Run| run.handle_message(first, message).unwrap_err();
    let fault = other(report(2, &update(1, 0)), &mut run);
    assert_eq!(
        fault.to_string(),
        format!("{first} sent a report for round 2, but round 1 is open")
    );
    let fault = other(report(1, &[0.0; 3]), &mut run);
    assert_eq!(
        fault,
        ClientFault::Dimension {
            client: first,
            expected: DIMENSION,
            got: 3
        }
    );
    let stranger = run
        .handle_message(ClientId(99), report(1, &update(1, 0)))
        .unwrap_err();
    assert_eq!(
        stranger,
        ClientFault::NotInvited {
            client: ClientId(99),
            round: RoundId(1)
        }
    );
    for ClientId(id) in &invited {
        run.handle_message(ClientId(*id), report(1, &update(1, *id)))
            .unwrap();
        let again = run
            .handle_message(ClientId(*id), report(1, &[1.0; DIMENSION]))
            .unwrap_err();
        assert!(
            matches!(again, ClientFault::AlreadyReported { .. }),
            "the first report stands"
        );
    }
    run.handle_timeout(at(60)).unwrap();
    let late = run.handle_message(first, report(1, &update(1, 0))).unwrap_err();
    assert!(
        matches!(late, ClientFault::OtherRound { open: None, .. }),
        "{late}"
    );
    store.settle(&mut run);
    assert_eq!(run.parameters(), honest.parameters());
}

#[test]
fn the_order_of_reports_does_not_matter() {
    let models = [false, true].map(|reverse| {
        let (mut run, mut store) = (new_run(), Store::new());
        for round in 0..3 {
            play_round(&mut run, &mut store, 60 * round, reverse);
        }
        (run.parameters().clone(), store.text)
    });
    assert_eq!(models[0], models[1]);
}

#[test]
fn a_client_round_clips_whatever_it_is_given() {
    let (mut run, mut store) = (new_run(), Store::new());
    store.settle(&mut run);
    run.handle_start(at(0)).unwrap();
    store.settle(&mut run);
    let ServerMessage::Invite(invitation) = run.poll_outgoing().unwrap().message else {
        panic!("an invitation")
    };
    let bound = u128::from(1_u64 << 60);
    for update in [
        [1e30_f32; DIMENSION],
        [f32::NAN; DIMENSION],
        [f32::INFINITY; DIMENSION],
        [1e-40; DIMENSION],
    ] {
        let (
            ClientMessage::Report {
                update: quantized, ..
            },
            outcome,
        ) = ClientRound::new(invitation.clone()).report(&update, Vec::new())
        else {
            panic!("a report")
        };
        let squares: u128 = quantized
            .values()
            .iter()
            .map(|value| u128::from(value.unsigned_abs()).pow(2))
            .sum();
        assert!(squares <= bound, "{squares}");
        assert_eq!(outcome.non_finite, !update[0].is_finite());
        assert!(
            update[0].is_finite() || squares == 0,
            "a non-finite update counts as zero"
        );
    }
}

#[test]
fn a_run_stops_before_it_overspends() {
    let one_round = {
        let (mut run, mut store) = (new_run(), Store::new());
        play_round(&mut run, &mut store, 0, false);
        run.spent().upper.value()
    };
    let (mut run, mut store) = (
        Run::new(limited_plan(one_round), sources(), vec![0.0; DIMENSION], 1).unwrap(),
        Store::new(),
    );
    play_round(&mut run, &mut store, 0, false);
    store.told.clear();
    run.handle_start(at(60)).unwrap();
    store.settle(&mut run);
    let told = store.told.join("\n");
    assert!(
        told.starts_with("ended BudgetExhausted: the privacy budget is exhausted: spent epsilon"),
        "{told}"
    );
    assert!(told.contains(&format!("the limit is {one_round:.4}")), "{told}");
    assert_eq!(run.spent().upper.value(), one_round, "the refusal spent nothing");
    run.handle_close([1; 32], [2; 32]).unwrap();
    store.settle(&mut run);
    assert_eq!(store.ledger().order(), Order::Closed);
}

/// Where a run ends by what it released is an outcome like any other: the ε of the rounds that were played would not hold for the
/// runs that go on.
#[test]
fn a_run_that_may_stop_early_claims_all_its_rounds_from_the_first() {
    let whole = {
        let (mut run, mut store) = (new_run(), Store::new());
        (0..3).for_each(|round| play_round(&mut run, &mut store, 60 * round, false));
        run.spent()
    };
    let stopping = |limit: Option<f64>| {
        let plan = RunPlan::new(PlanSettings {
            may_stop_early: true,
            epsilon_budget: limit.map(|limit| Epsilon::new(limit).unwrap()),
            ..settings()
        });
        Run::new(plan.unwrap(), sources(), vec![0.0; DIMENSION], 1).unwrap()
    };
    let (mut run, mut store) = (stopping(None), Store::new());
    play_round(&mut run, &mut store, 0, false);
    assert_eq!(run.spent(), whole);
    run.handle_finish().unwrap();
    store.settle(&mut run);
    assert_eq!(store.told.last().unwrap(), "ended Finished");
    assert!(run.handle_finish().is_err(), "it ends once");
    run.handle_close([1; 32], [2; 32]).unwrap();
    store.settle(&mut run);
    assert_eq!(store.ledger().order(), Order::Closed);
    assert_eq!(run.spent(), whole);

    // A limit below the cost of all rounds lets none begin.
    let (mut run, mut store) = (stopping(Some(0.9 * whole.upper.value())), Store::new());
    store.settle(&mut run);
    run.handle_start(at(0)).unwrap();
    store.settle(&mut run);
    assert!(store.told.last().unwrap().starts_with("ended BudgetExhausted"));

    // And a run whose plan says nothing of it goes on to its end.
    let (mut run, mut store) = (new_run(), Store::new());
    play_round(&mut run, &mut store, 0, false);
    assert!(run.handle_finish().is_err());
}

#[test]
fn a_voided_round_costs_nothing_and_a_charged_one_keeps_its_charge() {
    let (mut run, mut store) = (new_run(), Store::new());
    play_round(&mut run, &mut store, 0, false);
    let spent = run.spent();
    run.handle_start(at(60)).unwrap();
    store.settle(&mut run);
    assert!(run.spent().upper > spent.upper, "a reservation counts");
    run.handle_abandon("stopped on request".into()).unwrap();
    store.settle(&mut run);
    assert_eq!(run.spent(), spent);
    assert_eq!(
        store.told[5..],
        ["store reserve", "store void", "voided 2", "ended Interrupted"]
    );
    run.handle_close([1; 32], [2; 32]).unwrap();
    store.settle(&mut run);
    assert!(matches!(
        store.ledger().order(),
        Order::Interrupted {
            charged: None,
            rounds: 1
        }
    ));
}

/// The recording is a list of inputs; played again it gives the same ledger, byte for byte.
#[test]
fn a_recorded_list_of_inputs_replays() {
    let recording = || {
        let everyone = |round: u64| {
            (0..8).map(move |id| Input::Message {
                from: ClientId(id),
                message: report(round, &update(round, id)),
            })
        };
        let mut inputs = vec![Input::Stored { token: StoreToken(0) }];
        for round in 1..=3 {
            let token = |offset| Input::Stored {
                token: StoreToken(3 * round - 2 + offset),
            };
            inputs.push(Input::Start {
                now: at(60 * (round - 1)),
            });
            inputs.push(token(0));
            inputs.extend(everyone(round));
            inputs.push(Input::Timeout {
                now: at(60 * round - 1),
            });
            inputs.push(Input::Timeout { now: at(60 * round) });
            inputs.push(token(1));
            inputs.push(token(2));
        }
        inputs
    };
    let play = |inputs: Vec<Input>| {
        let (mut run, mut store) = (new_run(), Store::new());
        for input in inputs {
            store.listen(&mut run);
            if let (Input::Stored { .. }, Some((_, record))) = (&input, store.waiting.take()) {
                store.text += &store.writer.append(&record).unwrap();
            }
            run.handle(input).unwrap();
        }
        store.listen(&mut run);
        (store.text, run.parameters().to_vec(), store.told)
    };
    let (text, parameters, told) = play(recording());
    assert_eq!(told.last().unwrap(), "released 3");
    let (again, same, _) = play(recording());
    assert_eq!((text, &parameters), (again, &same));

    let (mut run, mut store) = (new_run(), Store::new());
    for round in 0..3 {
        play_round(&mut run, &mut store, 60 * round, true);
    }
    assert_eq!(
        run.parameters().to_vec(),
        parameters,
        "the recording gives what a driver gets"
    );
}

#[test]
fn plans_that_promise_nonsense_are_refused_by_name() {
    let check = |change: &dyn Fn(&mut PlanSettings), expected: &str| {
        let mut settings = settings();
        change(&mut settings);
        let error = RunPlan::new(settings).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(
        &|settings| settings.population = 7,
        "`federation.cohort` must be above 0 and at most the number of clients, 7",
    );
    check(
        &|settings| settings.population = 0,
        "`clients` must be at least 1",
    );
    check(
        &|settings| settings.rounds = 0,
        "`federation.rounds` must be at least 1",
    );
    check(
        &|settings| settings.cohort = 7.0,
        "the divisor of the mechanism, 8",
    );
    check(
        &|settings| settings.delta = Delta::new(0.125).unwrap(),
        "`privacy.delta` must be below 1 / 8",
    );
}

#[test]
fn noise_unit_and_trust_that_do_not_go_together_are_refused() {
    let local = |steps| -> Mechanism {
        LocalGaussian::new(LocalPlan {
            clip_norm: ClipNorm::new(1.0).unwrap(),
            noise_multiplier: NoiseMultiplier::new(2.0).ok(),
            noise: NoiseKind::Rounded,
            divisor: 8.0,
            dimension: DIMENSION,
            most_participations: 2,
            steps,
        })
        .unwrap()
        .into()
    };
    let steps = LocalSteps {
        sampling_rate: SamplingRate::new(0.5).unwrap(),
        steps: 1,
        divisor: 1.0,
        learning_rate: 1.0,
    };
    let plan = |trust, unit, mechanism: Option<Mechanism>| {
        RunPlan::new(PlanSettings {
            trust,
            unit,
            mechanism: mechanism.unwrap_or_else(|| settings().mechanism),
            examples: Some(100),
            ..settings()
        })
    };
    let (client, example) = (PrivacyUnit::Client, PrivacyUnit::Example);
    for (trust, unit, mechanism, key) in [
        (Trust::Central, client, Some(local(None)), "privacy.trust"),
        (Trust::Local, client, None, "privacy.trust"),
        (Trust::Central, example, None, "privacy.trust"),
        (Trust::Local, example, Some(local(None)), "privacy.unit"),
        (Trust::Local, client, Some(local(Some(steps))), "privacy.unit"),
    ] {
        let error = plan(trust, unit, mechanism).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
    let client_plan = plan(Trust::Local, client, Some(local(None))).unwrap();
    let example_plan = plan(Trust::Local, example, Some(local(Some(steps)))).unwrap();
    assert_eq!(client_plan.relation(), NeighboringRelation::ReplaceOne);
    assert_eq!(example_plan.relation(), NeighboringRelation::AddOrRemoveOne);
    assert_eq!((client_plan.units(), example_plan.units()), (8, 100));
    // No amplification by the server's coins, and no more charges than participations.
    assert_eq!(
        client_plan.round_event(),
        client_plan.settings().mechanism.event()
    );
    assert_eq!([1, 2, 3].map(|rounds| client_plan.charges(rounds)), [1, 2, 2]);
}

#[test]
fn a_run_without_noise_says_so_in_every_record() {
    let mechanism = CentralGaussian::dangerous_without_noise(ClipNorm::new(1.0).unwrap(), 8.0).unwrap();
    let plan = RunPlan::new(PlanSettings {
        mechanism: mechanism.into(),
        ..settings()
    })
    .unwrap();
    let (mut run, mut store) = (
        Run::new(plan, sources(), vec![0.0; DIMENSION], 1).unwrap(),
        Store::new(),
    );
    play_round(&mut run, &mut store, 0, false);
    assert!(run.spent().upper.value().is_infinite());
    let ledger = store.ledger();
    assert_eq!(ledger.header().noise, "none");
    let Body::Charge(charge) = &ledger.records()[2] else {
        panic!("a charge")
    };
    assert_eq!(
        (charge.claim.epsilon, charge.noise_std_dev_grid_units),
        (None, 0.0)
    );
    // Still clipped, summed as integers and divided by the planned cohort: equal to the mean of what was quantised.
    let quantizer = Quantizer::new(ClipNorm::new(1.0).unwrap());
    let mut sums = [0_i64; DIMENSION];
    for id in 0..8 {
        let (update, _) = quantizer.clip_and_quantize(&update(1, id), Vec::new());
        sums.iter_mut()
            .zip(update.values())
            .for_each(|(sum, value)| *sum += i64::from(*value));
    }
    for (parameter, sum) in run.parameters().iter().zip(sums) {
        let expected = sum as f64 * quantizer.grid_unit() / 8.0;
        assert!(
            (f64::from(*parameter) - expected).abs() < 1e-7,
            "{parameter} against {expected}"
        );
    }
}
