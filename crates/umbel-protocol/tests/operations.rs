//! Random lists of operations: whatever a driver and its clients do in whatever order, the invariants hold.

mod support;

use proptest::prelude::*;
use umbel_accounting::ledger::Body;
use umbel_protocol::{ClientId, Event, Run, StoreToken};

use self::support::{DIMENSION, Store, at, limited_plan, report, sources, update};

/// One thing that a driver or a client may do.
#[derive(Debug, Clone)]
enum Operation {
    Abandon,
    Acknowledge,
    AcknowledgeWrongly(u64),
    Report { client: u64, round: u64 },
    Start,
    Wait(u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        1 => Just(Operation::Abandon),
        8 => Just(Operation::Acknowledge),
        1 => (0_u64..20).prop_map(Operation::AcknowledgeWrongly),
        8 => (0_u64..10, 0_u64..5).prop_map(|(client, round)| Operation::Report { client, round }),
        4 => Just(Operation::Start),
        4 => (0_u64..80).prop_map(Operation::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_release_without_a_stored_charge_and_no_overspending(operations in proptest::collection::vec(operation(), 1..120)) {
        const LIMIT: f64 = 3.5;
        let mut run = Run::new(limited_plan(LIMIT), sources(), vec![0.0; DIMENSION], 1).unwrap();
        let mut store = Store::new();
        let mut now = 0;
        let Some(Event::Store { token, record, .. }) = run.poll_event() else { panic!("a header to store") };
        let mut waiting = Some((token, record));
        let mut charged = 0;
        let mut released = 0;
        for operation in operations {
            match operation {
                Operation::Abandon => drop(run.handle_abandon("test".into())),
                Operation::Acknowledge => {
                    if let Some((token, record)) = waiting.take() {
                        // The writer refuses every record that is out of order.
                        store.text += &store.writer.append(&record).unwrap();
                        if let Body::Charge(charge) = &record {
                            prop_assert!(charge.claim.epsilon.unwrap() <= LIMIT);
                            prop_assert_eq!(charge.round, charged + 1);
                            charged = charge.round;
                        }
                        run.handle_stored(token).unwrap();
                    }
                }
                Operation::AcknowledgeWrongly(token) => {
                    if waiting.as_ref().is_none_or(|(expected, _)| *expected != StoreToken(token)) {
                        prop_assert!(run.handle_stored(StoreToken(token)).is_err());
                    }
                }
                Operation::Report { client, round } => {
                    drop(run.handle_message(ClientId(client), report(round, &update(round, client))));
                }
                Operation::Start => drop(run.handle_start(at(now))),
                Operation::Wait(seconds) => {
                    now += seconds;
                    run.handle_timeout(at(now)).unwrap();
                }
            }
            while let Some(event) = run.poll_event() {
                match event {
                    Event::Store { token, record, .. } => {
                        prop_assert!(waiting.is_none());
                        waiting = Some((token, record));
                    }
                    Event::Released { round, .. } => {
                        prop_assert!(round.0 <= charged, "round {} released, {charged} charged", round.0);
                        prop_assert_eq!(round.0, released + 1);
                        released = round.0;
                    }
                    Event::Ended { .. } | Event::Voided { .. } => {}
                }
            }
            prop_assert!(run.spent().upper.value() <= LIMIT);
        }
        if !store.text.is_empty() {
            store.ledger();
        }
    }
}
