//! The protocol and its ideal counterpart give the same, bit for bit.

use proptest::prelude::*;

use super::config;
use crate::{
    Abort, Confirmed, DropoutRates, LastStep, RoundConfig, SimulatedClient, SimulatedFederation, Topology,
};

fn input(dimension: usize) -> impl Fn(u64) -> Vec<i64> + Sync {
    move |client| {
        (0..dimension as i64)
            .map(|j| (client as i64 * 7_919 + j * 104_729) % 5_003 - 2_500)
            .collect()
    }
}

fn clients(last_steps: &[LastStep]) -> Vec<SimulatedClient> {
    let numbered = (5..).step_by(3).zip(last_steps);
    numbered
        .map(|(client, last_step)| SimulatedClient {
            client,
            last_step: *last_step,
        })
        .collect()
}

const STEPS: [LastStep; 6] = [
    LastStep::Nothing,
    LastStep::Advertises,
    LastStep::Shares,
    LastStep::Sends,
    LastStep::Confirms,
    LastStep::Opens,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, rng_seed: proptest::test_runner::RngSeed::Fixed(9), ..ProptestConfig::default() })]

    #[test]
    fn real_and_ideal_attempts_are_equal(
        steps in prop::collection::vec(prop::sample::select(vec![0_usize, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5]), 14),
        n_threads in 1_usize..4,
        is_complete in any::<bool>(),
        bits in 12_u32..40,
    ) {
        let topology = if is_complete { Topology::Complete } else { Topology::Regular };
        let terms = RoundConfig { dimension: 50, modulus_bits: bits, colluding: 0, survivors_min: 8, ..config(14, topology) };
        let last_steps: Vec<LastStep> = steps.iter().map(|step| STEPS[*step]).collect();
        let federation = SimulatedFederation::new([1; 32], n_threads);
        let real = federation.attempt(&terms, &clients(&last_steps), input(50)).and_then(Confirmed::open);
        let one = SimulatedFederation::new([1; 32], 1);
        let ideal = one.ideal(&terms, &clients(&last_steps), input(50)).and_then(Confirmed::open);
        prop_assert_eq!(real, ideal);
    }
}

#[test]
fn a_regular_graph_aborts_where_the_ideal_does() {
    let terms = RoundConfig {
        dimension: 8,
        colluding: 0,
        colluding_permille: 50,
        dropout_permille: 50,
        survivors_min: 38,
        ..config(60, Topology::Regular)
    };
    let federation = SimulatedFederation::new([2; 32], 2);
    let mut outcomes = [0; 2];
    // From few dropouts to as many as some client cannot bear.
    for n_vanishing in [0, 3, 8, 14, 18, 20] {
        let last_steps: Vec<LastStep> = (0..60)
            .map(|i| {
                if i < n_vanishing {
                    STEPS[2 + i % 3]
                } else {
                    LastStep::Opens
                }
            })
            .collect();
        let real = federation.attempt(&terms, &clients(&last_steps), input(8));
        let ideal = federation.ideal(&terms, &clients(&last_steps), input(8));
        let survivors = |confirmed: &Result<Confirmed<'_>, Abort>| {
            confirmed
                .as_ref()
                .map(|confirmed| confirmed.survivors().to_vec())
                .ok()
        };
        assert_eq!(survivors(&real), survivors(&ideal), "known before the charge");
        let (real, ideal) = (real.and_then(Confirmed::open), ideal.and_then(Confirmed::open));
        assert_eq!(real, ideal, "{n_vanishing} vanish");
        outcomes[usize::from(real.is_err())] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
}

#[test]
fn a_sum_of_the_wrong_clients_would_be_seen() {
    let terms = RoundConfig {
        dimension: 50,
        ..config(9, Topology::Complete)
    };
    let mut last_steps = [LastStep::Opens; 9];
    last_steps[3] = LastStep::Shares;
    let sum = SimulatedFederation::new([3; 32], 2)
        .attempt(&terms, &clients(&last_steps), input(50))
        .and_then(Confirmed::open)
        .unwrap();
    let expected: Vec<i64> = (0..50)
        .map(|j| (0..9).filter(|i| *i != 3).map(|i| input(50)(5 + 3 * i)[j]).sum())
        .collect();
    assert_eq!(sum.values, expected);
    assert_eq!(sum.dropped, [14]);
}

#[test]
fn dropouts_have_their_rates() {
    let rates = DropoutRates {
        advertising: 0.1,
        sharing: 0.2,
        sending: 0.3,
        confirming: 0.4,
        opening: 0.5,
    };
    // A sequence that covers [0, 1)^5 evenly enough: each rate is met within a per cent.
    let mut state = 0.5_f64;
    let mut uniform = || {
        state = (state + 0.754_877_666_246_692_8).fract();
        state
    };
    let n = 100_000;
    let mut counts = [0_f64; 6];
    for _ in 0..n {
        // A fresh start for each client keeps the five numbers from being tied to each other.
        let five = [
            uniform(),
            (uniform() * 7.0).fract(),
            (uniform() * 31.0).fract(),
            (uniform() * 127.0).fract(),
            (uniform() * 511.0).fract(),
        ];
        let mut five = five.into_iter();
        counts[rates.draw(|| five.next().unwrap()) as usize] += 1.0;
    }
    let expected = [0.1, 0.18, 0.216, 0.2016, 0.1512, 0.1512];
    for (count, expected) in counts.iter().zip(expected) {
        assert!((count / f64::from(n) - expected).abs() < 0.02, "{counts:?}");
    }
    assert_eq!(DropoutRates::default().draw(|| 0.0), LastStep::Opens);
}

#[test]
fn an_attempt_that_falls_short_names_the_step() {
    let terms = config(9, Topology::Complete);
    let federation = SimulatedFederation::new([4; 32], 1);
    let abort = federation
        .attempt(&terms, &clients(&[LastStep::Sends; 9]), input(9))
        .unwrap_err();
    assert!(
        matches!(
            abort,
            Abort::TooFew {
                what: "confirmations",
                got: 0,
                ..
            }
        ),
        "{abort}"
    );
}
