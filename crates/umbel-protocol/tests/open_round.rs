//! A live round that is interrupted goes on: no report is lost or counted twice, one charge, one release.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use umbel_mechanisms::{CohortSource, NoiseSource};
use umbel_protocol::{
    ClientFault, ClientId, CommitmentKey, OpenRound, ResumeError, Resumed, RoundId, Run, Sources,
};

use self::support::{DIMENSION, MINUTE, Store, at, plan, report, update};

/// Coins and noise of the system, as a server draws them. The test plan samples everybody.
fn live() -> Sources {
    Sources {
        cohort: CohortSource::from_system().unwrap(),
        noise: NoiseSource::from_system().unwrap(),
        commitment: CommitmentKey::from_secret([9; 32]),
    }
}

fn initial() -> Vec<f32> {
    vec![0.5; DIMENSION]
}

/// A run whose first round is open; clients 0 to `reports` have reported.
fn opened(reports: u64) -> (Run, Store) {
    let (mut run, mut store) = (Run::new(plan(), live(), initial(), 1).unwrap(), Store::new());
    store.settle(&mut run);
    run.handle_start(at(0)).unwrap();
    store.settle(&mut run);
    while run.poll_outgoing().is_some() {}
    for id in 0..reports {
        run.handle_message(ClientId(id), report(1, &update(1, id)))
            .unwrap();
    }
    (run, store)
}

/// What is left of an open round once it has been written and read.
fn stored(run: &Run) -> OpenRound {
    let bytes = run.open_round().unwrap().to_unprotected_bytes();
    OpenRound::from_unprotected_bytes(&bytes, DIMENSION).unwrap()
}

fn resume(store: &Store, open: Option<OpenRound>) -> Result<(Run, Store), ResumeError> {
    let mut store = store.reopen();
    let mut resumed = Resumed::new(&store.ledger(), None);
    if let Some(open) = open {
        resumed = resumed.with_open_round(open);
    }
    let mut run = Run::resume(plan(), live(), initial(), resumed, 1)?;
    store.settle(&mut run);
    Ok((run, store))
}

fn kinds(store: &Store) -> String {
    let ledger = store.ledger();
    let kinds: Vec<_> = ledger.records().iter().map(|body| body.kind()).collect();
    kinds.join(" ")
}

#[test]
fn an_open_round_goes_on_with_every_report_counted_once() {
    let (run, store) = opened(3);
    let open = stored(&run);
    assert_eq!(
        (open.round(), open.deadline()),
        (RoundId(1), at(MINUTE.as_secs()))
    );
    assert_eq!(open.reported().collect::<Vec<_>>(), [0, 1, 2].map(ClientId));
    drop(run);

    let (mut run, mut store) = resume(&store, Some(open)).unwrap();
    let invited: Vec<_> = std::iter::from_fn(|| run.poll_outgoing())
        .map(|outgoing| outgoing.to.0)
        .collect();
    assert_eq!(invited, [3, 4, 5, 6, 7], "who has reported is not asked again");
    assert_eq!(
        run.handle_message(ClientId(1), report(1, &update(1, 1))),
        Err(ClientFault::AlreadyReported {
            client: ClientId(1),
            round: RoundId(1)
        })
    );
    for id in invited {
        run.handle_message(ClientId(id), report(1, &update(1, id)))
            .unwrap();
    }
    assert!(
        run.handle_timeout(at(59)).is_ok() && run.rounds() == 0,
        "time closes it"
    );
    run.handle_timeout(at(60)).unwrap();
    assert_eq!(stored(&run).reported().count(), 8);
    store.settle(&mut run);
    assert_eq!(run.rounds(), 1);
    assert_eq!(kinds(&store), "header reserve resume charge release");
}

#[test]
fn a_charged_round_is_released_once_from_its_stored_sum() {
    let (mut run, mut store) = opened(5);
    run.handle_timeout(at(60)).unwrap();
    let open = stored(&run);
    store.listen(&mut run);
    let (_, charge) = store.waiting.take().unwrap();
    store.text += &store.writer.append(&charge).unwrap();
    drop(run);

    let (run, resumed) = resume(&store, Some(open)).unwrap();
    assert_eq!(kinds(&resumed), "header reserve charge resume release");
    assert_eq!(run.rounds(), 1);
    let spent = run.spent();

    // Without the sum the round is lost, at the same price.
    let (run, resumed) = resume(&store, None).unwrap();
    assert_eq!(kinds(&resumed), "header reserve charge resume");
    assert_eq!((run.rounds(), run.spent()), (1, spent));
}

#[test]
fn a_charge_is_not_released_from_the_sum_of_another_moment() {
    let (mut run, mut store) = opened(5);
    run.handle_timeout(at(60)).unwrap();
    store.listen(&mut run);
    let (_, charge) = store.waiting.take().unwrap();
    store.text += &store.writer.append(&charge).unwrap();
    let (other, _) = opened(4);
    let refused = resume(&store, Some(stored(&other))).map(|_| ()).unwrap_err();
    assert!(
        matches!(&refused, ResumeError::Checkpoint { expected, .. } if expected.contains("charge of round 1")),
        "{refused}"
    );
}

#[test]
fn a_round_of_another_number_or_without_its_state_is_voided() {
    let (run, store) = opened(2);
    let open = stored(&run);
    let (_, resumed) = resume(&store, None).unwrap();
    assert_eq!(kinds(&resumed), "header reserve resume void");

    // The stored state of round 1, and a ledger that has come to round 2.
    let (mut run, mut store) = (run, store);
    run.handle_timeout(at(60)).unwrap();
    store.settle(&mut run);
    let checkpoint = run.checkpoint();
    run.handle_start(at(60)).unwrap();
    store.settle(&mut run);
    let mut resumed_store = store.reopen();
    let resumed = Resumed::new(&store.ledger(), Some(checkpoint)).with_open_round(open);
    let mut run = Run::resume(plan(), live(), initial(), resumed, 1).unwrap();
    resumed_store.settle(&mut run);
    assert!(kinds(&resumed_store).ends_with("release reserve resume void"));
}

#[test]
fn damage_to_a_stored_round_is_found() {
    let bytes = opened(3).0.open_round().unwrap().to_unprotected_bytes();
    let read = |bytes: &[u8]| OpenRound::from_unprotected_bytes(bytes, DIMENSION);
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "{length}");
    }
    assert!(OpenRound::from_unprotected_bytes(&bytes, DIMENSION + 1).is_err());
    let flags = 8 + 4 * 8 + 8 * 8;
    for (at, value) in [
        (0, b'x'),      // the first bytes
        (27, 0xff),     // nanoseconds
        (32, 0xff),     // size of the cohort
        (40, 9),        // order of the cohort
        (flags, 0),     // one report fewer than in the sum
        (flags, 2),     // neither
        (flags + 5, 1), // one report more
    ] {
        let mut damaged = bytes.clone();
        damaged[at] = value;
        assert!(read(&damaged).is_err(), "{at}");
    }
    assert!(read(&bytes).is_ok());
}
