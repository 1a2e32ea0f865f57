//! Honest attempts with dropouts at every step.

use proptest::prelude::*;

use super::*;

/// After which step each client vanishes: 0 before it advertised, 5 never.
fn run(config: RoundConfig, vanishes: &[u8]) -> (World, Result<Sum, Abort>) {
    let mut world = World::new(config);
    let stays = |step: u8| move |i: usize| vanishes[i] > step;
    let result = (|| {
        let roster = world.advertise(stays(0))?;
        world.share(&roster, stays(1))?;
        let refused = world.mask(stays(2))?;
        if !refused.is_empty() {
            return Err(Abort::TooFew {
                what: "refused",
                least: 0,
                got: 0,
            });
        }
        world.confirm(stays(3))?;
        world.open(stays(4))
    })();
    (world, result)
}

/// Whether the protocol's own rules, written down once more for a complete graph, let this attempt succeed.
fn succeeds(config: &RoundConfig, vanishes: &[u8]) -> bool {
    let at_least = |step: u8| u32::try_from(vanishes.iter().filter(|last| **last >= step).count()).unwrap();
    let [advertised, shared, masked, confirmed, opened] = [1, 2, 3, 4, 5].map(at_least);
    let Ok(parameters) = config.check_roster(advertised) else {
        return false;
    };
    let (threshold, floor) = (parameters.threshold, config.survivors_min);
    // The dealer holds no share of its own, so one more than the threshold must open if the sum holds an opener.
    shared >= floor.max(threshold + 1)
        && masked >= floor.max(threshold + 1)
        && confirmed >= floor
        && opened > threshold
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn any_dropouts_that_leave_enough_give_the_exact_sum_and_others_nothing(
        vanishes in prop::collection::vec(prop::sample::select(vec![0_u8, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5]), 9),
    ) {
        let config = config(9, Topology::Complete);
        let expected = succeeds(&config, &vanishes);
        let (world, result) = run(config, &vanishes);
        match result {
            Ok(sum) => {
                prop_assert!(expected);
                prop_assert_eq!(&sum.values, &world.expected(|i| vanishes[i] >= 3));
                let survivors: Vec<u64> = (0..9).filter(|i| vanishes[*i] >= 3).map(number).collect();
                let dropped: Vec<u64> = (0..9).filter(|i| vanishes[*i] == 2).map(number).collect();
                prop_assert_eq!(sum.survivors, survivors);
                prop_assert_eq!(sum.dropped, dropped);
                prop_assert!(sum.wrong_holders.is_empty());
            }
            Err(abort) => {
                prop_assert!(!expected, "{abort}");
                // Short of the last step nobody has opened anything.
                if !matches!(abort, Abort::Unrecoverable { .. }) {
                    for client in &world.clients {
                        prop_assert!(client.receipt().is_none());
                    }
                }
            }
        }
    }
}

#[test]
fn exactly_the_threshold_is_enough() {
    // 9 clients, 1 colluding: t = 6. A secret has 8 holders, of whom the survivors among the openers give shares.
    let config = config(9, Topology::Complete);
    assert_eq!(config.check_roster(9).unwrap().threshold, 6);
    let (world, result) = run(config.clone(), &[5, 5, 5, 5, 5, 5, 5, 4, 4]);
    assert_eq!(result.unwrap().values, world.expected(|_| true));
    let (_, result) = run(config, &[5, 5, 5, 5, 5, 5, 4, 4, 4]);
    assert!(
        matches!(result, Err(Abort::Unrecoverable { least: 6, got: 5, .. })),
        "{result:?}"
    );
}

#[test]
fn late_shares_still_finish_an_attempt() {
    let mut world = World::confirmed(config(9, Topology::Complete));
    let request = world.server.charge([9; 32]).unwrap();
    let mut messages = world
        .clients
        .iter_mut()
        .map(|client| client.handle_unmask_request(&request, Duration::ZERO).unwrap());
    for message in messages.by_ref().take(5) {
        world.server.handle_opened_shares(&message).unwrap();
    }
    assert!(matches!(world.server.finish(1), Err(Abort::Unrecoverable { .. })));
    for message in messages {
        world.server.handle_opened_shares(&message).unwrap();
    }
    assert_eq!(world.server.finish(1).unwrap().values, world.expected(|_| true));
    assert!(matches!(world.server.finish(1), Err(Abort::ApiMisuse { .. })));
}

#[test]
fn a_regular_graph_gives_the_exact_sum_too() {
    let config = RoundConfig {
        dimension: 5_000,
        modulus_bits: 37,
        colluding_permille: 50,
        dropout_permille: 50,
        survivors_min: 40,
        ..config(60, Topology::Regular)
    };
    let parameters = config.check_roster(60).unwrap();
    assert!(parameters.degree < 59, "{parameters:?}");
    let mut vanishes = vec![5; 60];
    (vanishes[7], vanishes[30], vanishes[59]) = (2, 3, 1);
    let (world, result) = run(config, &vanishes);
    let sum = result.unwrap();
    assert_eq!(sum.values, world.expected(|i| vanishes[i] >= 3));
    assert_eq!(sum.dropped, [number(7)]);
}

#[test]
fn every_modulus_wraps_around_as_two_complement_does() {
    for bits in [1, 2, 15, 16, 17, 32, 33, 62] {
        let config = RoundConfig {
            modulus_bits: bits,
            ..config(4, Topology::Complete)
        };
        let mut world = World::new(config);
        world.inputs = vec![vec![i64::MAX, i64::MIN, -1, 0]; 4];
        let roster = world.advertise(|_| true).unwrap();
        world.share(&roster, |_| true).unwrap();
        world.mask(|_| true).unwrap();
        world.confirm(|_| true).unwrap();
        let sum = world.open(|_| true).unwrap();
        let wrapped = |value: i64| value << (64 - bits) >> (64 - bits);
        assert_eq!(sum.values, [-4, 0, -4, 0].map(wrapped), "{bits} bits");
    }
}

#[test]
fn a_masked_input_is_uniform() {
    // Chi-square of the bytes of masked zeros against uniform; 255 degrees of freedom, false-alarm rate 1e-6.
    let config = RoundConfig {
        dimension: 40_000,
        modulus_bits: 16,
        ..config(5, Topology::Complete)
    };
    let mut world = World::new(config);
    world.inputs = vec![vec![0; 40_000]; 5];
    let roster = world.advertise(|_| true).unwrap();
    world.share(&roster, |_| true).unwrap();
    for i in 0..5 {
        let message = world.masked_input(i).unwrap();
        let packed = &message[message.len() - 80_000..];
        let mut counts = [0_f64; 256];
        packed.iter().for_each(|byte| counts[usize::from(*byte)] += 1.0);
        let expected = 80_000.0 / 256.0;
        let statistic: f64 = counts
            .iter()
            .map(|count| (count - expected).powi(2) / expected)
            .sum();
        assert!(statistic < 377.0, "{statistic}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let mut world = World::confirmed(config(5, Topology::Complete));
    let sum = world.open(|_| true).unwrap();
    let shown = format!("{:?} {:?} {sum:?}", world.clients[0], world.server);
    for secret in ["[", "values", "seed", "key"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
