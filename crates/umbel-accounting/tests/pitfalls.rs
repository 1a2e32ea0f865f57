//! Mistakes that other accountants made, or make, and that this one must not: each test is named for what it shows.
#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "helpers of tests; exact ends of ranges"
)]

use umbel_accounting::{
    Accountant, AccountantKind, ClipNorm, Delta, DpEvent, Epsilon, NeighboringRelation, NoiseMultiplier,
    NoiseScale, NoiseStdDev, PldAccountant, RdpAccountant, Rho, SamplingRate, Sensitivity, accountant,
    calibrate,
};

const RELATIONS: [NeighboringRelation; 3] = [
    NeighboringRelation::AddOrRemoveOne,
    NeighboringRelation::ReplaceByZero,
    NeighboringRelation::ReplaceOne,
];

fn gaussian(noise: f64) -> DpEvent {
    DpEvent::Gaussian {
        noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
    }
}

fn sampled(rate: f64, event: DpEvent) -> DpEvent {
    DpEvent::PoissonSampled {
        sampling_rate: SamplingRate::new(rate).unwrap(),
        event: Box::new(event),
    }
}

fn fixed_size(population_size: u64, sample_size: u64, event: DpEvent) -> DpEvent {
    DpEvent::FixedSizeSampled {
        event: Box::new(event),
        population_size,
        sample_size,
    }
}

fn truncated(rate: f64, population_size: u64, cap: u64, event: DpEvent) -> DpEvent {
    let sampling_rate = SamplingRate::new(rate).unwrap();
    DpEvent::TruncatedPoissonSampled {
        cap,
        event: Box::new(event),
        population_size,
        sampling_rate,
    }
}

fn delta(value: f64) -> Delta {
    Delta::new(value).unwrap()
}

fn epsilon_of(
    kind: AccountantKind,
    relation: NeighboringRelation,
    events: &[(DpEvent, u64)],
    at: f64,
) -> f64 {
    let mut accountant = accountant(kind, relation);
    for (event, count) in events {
        accountant.compose(event, *count).unwrap();
    }
    accountant.epsilon(delta(at)).unwrap().upper.value()
}

#[test]
fn replace_one_means_the_same_sensitivity_to_every_accountant() {
    // dp-accounting 0.6.0: 4.73 by Rényi and 9.997 by distributions for the same plan.
    for relation in RELATIONS {
        let pld = epsilon_of(AccountantKind::Pld, relation, &[(gaussian(1.0), 1)], 1e-5);
        let rdp = epsilon_of(AccountantKind::Rdp, relation, &[(gaussian(1.0), 1)], 1e-5);
        let exact =
            calibrate::gaussian_noise_multiplier(Epsilon::new(pld).unwrap(), delta(1e-5), relation).unwrap();
        assert!((exact.value() - 1.0).abs() < 1e-9, "{relation:?}: {exact}");
        assert!(rdp > pld && rdp < 1.1 * pld, "{relation:?}: {rdp} {pld}");
        // Sampling at rate almost one is no other thing.
        let almost = epsilon_of(
            AccountantKind::Pld,
            relation,
            &[(sampled(1.0 - 1e-9, gaussian(1.0)), 1)],
            1e-5,
        );
        assert!((almost / pld - 1.0).abs() < 1e-4, "{relation:?}: {almost} {pld}");
    }
}

#[test]
fn replace_by_zero_costs_what_add_or_remove_costs() {
    for kind in [AccountantKind::Pld, AccountantKind::Rdp] {
        let plan = [(sampled(0.01, gaussian(1.0)), 300)];
        let one = epsilon_of(kind, NeighboringRelation::AddOrRemoveOne, &plan, 1e-5);
        let other = epsilon_of(kind, NeighboringRelation::ReplaceByZero, &plan, 1e-5);
        assert!((one - other).abs() < 1e-12);
    }
}

#[test]
fn a_calibrated_multiplier_never_exceeds_its_target() {
    let relation = NeighboringRelation::AddOrRemoveOne;
    for (target, at, rate, count) in [
        (0.5, 1e-6, 0.01, 200),
        (8.0, 1e-5, 0.1, 100),
        (2.0, 1e-9, 1e-3, 5000),
    ] {
        let plan = |noise: f64| DpEvent::Repeated {
            event: Box::new(sampled(rate, gaussian(noise))),
            count,
        };
        for kind in [AccountantKind::Pld, AccountantKind::Rdp] {
            let make = |noise: NoiseMultiplier| plan(noise.value());
            let target_epsilon = Epsilon::new(target).unwrap();
            let noise =
                calibrate::noise_multiplier(target_epsilon, delta(at), kind, relation, &make).unwrap();
            assert!(epsilon_of(kind, relation, &[(plan(noise.value()), 1)], at) <= target);
            assert!(epsilon_of(kind, relation, &[(plan(0.999 * noise.value()), 1)], at) > target - 1e-2);
            let rate_found = calibrate::sampling_rate(target_epsilon, delta(at), kind, relation, &|rate| {
                DpEvent::Repeated {
                    event: Box::new(sampled(rate.value(), gaussian(noise.value()))),
                    count,
                }
            });
            assert!((rate_found.unwrap().value() / rate - 1.0).abs() < 1e-3);
            let steps = calibrate::steps(target_epsilon, delta(at), kind, relation, &plan(noise.value()));
            assert_eq!(steps.unwrap(), 1);
        }
    }
}

#[test]
fn renyi_epsilon_is_not_zero_by_an_order_next_to_one() {
    for (noise, at) in [(100.0, 1e-6), (1e4, 1e-9), (30.0, 1e-3)] {
        let exact = epsilon_of(
            AccountantKind::Pld,
            NeighboringRelation::ReplaceByZero,
            &[(gaussian(noise), 1)],
            at,
        );
        let renyi = epsilon_of(
            AccountantKind::Rdp,
            NeighboringRelation::ReplaceByZero,
            &[(gaussian(noise), 1)],
            at,
        );
        assert!(exact > 0.0 && renyi >= exact, "{noise} {at}: {exact} {renyi}");
    }
}

#[test]
fn the_order_is_found_wherever_it_is() {
    for (rate, noise, count, at) in [
        (1e-5, 20.0, 100, 1e-9),
        (0.01, 0.4, 50, 1e-5),
        (0.3, 2.0, 3000, 1e-3),
        (1e-4, 1.0, 1_000_000, 1e-12),
    ] {
        let mut accountant = RdpAccountant::new(NeighboringRelation::AddOrRemoveOne);
        accountant
            .compose(&sampled(rate, gaussian(noise)), count)
            .unwrap();
        let found = accountant.epsilon(delta(at)).unwrap().upper.value();
        let scanned = (0..3000)
            .map(|i| {
                let excess = (f64::from(i) * 0.01 - 10.0).exp();
                let order = 1.0 + excess;
                accountant.renyi_divergence(order) + (excess / order).ln() - (at.ln() + order.ln()) / excess
            })
            .fold(f64::INFINITY, f64::min)
            .max(0.0);
        // Where a second peak of the integrand takes over, the optimum is a kink that a scan misses by its step.
        assert!(
            found <= scanned * (1.0 + 1e-8) && found > 0.98 * scanned,
            "{rate} {noise}: {found} {scanned}"
        );
    }
}

#[test]
fn edges_of_every_range_are_defined() {
    for relation in RELATIONS {
        for kind in [AccountantKind::Pld, AccountantKind::Rdp] {
            assert_eq!(epsilon_of(kind, relation, &[], 1e-300), 0.0);
            assert_eq!(
                epsilon_of(kind, relation, &[(sampled(0.1, gaussian(1.0)), 0)], 1e-9),
                0.0
            );
            assert_eq!(
                epsilon_of(kind, relation, &[(DpEvent::NonPrivate, 1)], 0.5),
                f64::INFINITY
            );
            let at_one = epsilon_of(kind, relation, &[(sampled(1.0, gaussian(2.0)), 10)], 1e-6);
            let unsampled = epsilon_of(kind, relation, &[(gaussian(2.0), 10)], 1e-6);
            assert!((at_one - unsampled).abs() < 1e-12);
            let everybody = fixed_size(50, 50, gaussian(2.0));
            if relation == NeighboringRelation::ReplaceOne {
                assert!((epsilon_of(kind, relation, &[(everybody, 10)], 1e-6) - unsampled).abs() < 1e-12);
            }
            let accountant = accountant(kind, relation);
            assert_eq!(accountant.delta(Epsilon::ZERO).unwrap(), 0.0);
        }
    }
}

#[test]
fn what_cannot_be_charged_is_refused_before_anything_changes() {
    let vector = DpEvent::DiscreteGaussian {
        clip_norm: ClipNorm::new(4.0).unwrap(),
        dimension: 1000,
        noise_std_dev: NoiseStdDev::new(8.0).unwrap(),
    };
    let skellam = DpEvent::Skellam {
        l1_clip_norm: ClipNorm::new(100.0).unwrap(),
        l2_clip_norm: ClipNorm::new(10.0).unwrap(),
        noise_std_dev: NoiseStdDev::new(40.0).unwrap(),
    };
    let mut pld = PldAccountant::new(NeighboringRelation::AddOrRemoveOne);
    pld.compose(&gaussian(1.0), 1).unwrap();
    let before = pld.epsilon(delta(1e-5)).unwrap();
    let mut renyi = RdpAccountant::new(NeighboringRelation::AddOrRemoveOne);
    for event in [vector, skellam] {
        assert!(pld.supports(&event).is_err());
        assert!(
            pld.compose(&DpEvent::Composed(vec![gaussian(1.0), event.clone()]), 1)
                .is_err()
        );
        assert!(pld.compose(&event, 1).unwrap_err().to_string().contains("rdp"));
        renyi.compose(&event, 10).unwrap();
        renyi.compose(&sampled(0.01, event), 10).unwrap();
    }
    assert_eq!(pld.epsilon(delta(1e-5)).unwrap(), before);
    let found = renyi.epsilon(delta(1e-6)).unwrap().upper.value();
    assert!(found > 0.5 && found < 20.0, "{found}");

    for event in [
        fixed_size(100, 10, gaussian(1.0)),
        sampled(0.5, fixed_size(100, 10, gaussian(1.0))),
    ] {
        for relation in [
            NeighboringRelation::AddOrRemoveOne,
            NeighboringRelation::ReplaceByZero,
        ] {
            for kind in [AccountantKind::Pld, AccountantKind::Rdp] {
                assert!(accountant(kind, relation).supports(&event).is_err());
            }
        }
    }
    let laplace = DpEvent::Laplace {
        noise_multiplier: NoiseMultiplier::new(3.0).unwrap(),
    };
    assert!(
        PldAccountant::new(NeighboringRelation::ReplaceOne)
            .supports(&sampled(0.5, laplace))
            .is_err()
    );
    let capped = truncated(0.1, 1000, 120, gaussian(1.0));
    assert!(
        PldAccountant::new(NeighboringRelation::ReplaceOne)
            .supports(&capped)
            .is_err()
    );
}

#[test]
fn a_sample_of_fixed_size_is_not_accounted_as_poisson() {
    // The certified pair is costlier than either direction composed with itself (0.622), and far below Rényi at 1.445.
    let event = fixed_size(10_000, 100, gaussian(4.0));
    let mut pld = PldAccountant::new(NeighboringRelation::ReplaceOne);
    pld.compose(&event, 1000).unwrap();
    let bounds = pld.epsilon(delta(1e-5)).unwrap();
    assert!((bounds.upper.value() / 0.719 - 1.0).abs() < 1e-3, "{bounds:?}");
    assert!(
        (bounds.lower.unwrap().value() / 0.622_03 - 1.0).abs() < 1e-3,
        "{bounds:?}"
    );
    let renyi = epsilon_of(
        AccountantKind::Rdp,
        NeighboringRelation::ReplaceOne,
        &[(event, 1000)],
        1e-5,
    );
    assert!(renyi > bounds.upper.value() && renyi < 1.445, "{renyi}");
}

#[test]
fn a_capped_sample_costs_more_than_an_open_one() {
    // dp-accounting 0.6.0, from_truncated_subsampled_gaussian_mechanism.
    for (population, rate, cap, noise, count, at, expected) in [
        (10_000, 0.01, 120, 1.0, 500, 1e-6, 5.841_709_271_5),
        (1_000, 0.05, 60, 0.8, 100, 1e-5, 14.617_687_576),
        (500, 0.1, 40, 2.0, 200, 1e-6, 12.805_370_459),
    ] {
        let capped = [(truncated(rate, population, cap, gaussian(noise)), count)];
        let open = [(sampled(rate, gaussian(noise)), count)];
        let relation = NeighboringRelation::AddOrRemoveOne;
        let got = epsilon_of(AccountantKind::Pld, relation, &capped, at);
        assert!(
            (got / expected - 1.0).abs() < 2e-4,
            "{population}: {got} {expected}"
        );
        assert!(got > epsilon_of(AccountantKind::Pld, relation, &open, at));
        assert!(epsilon_of(AccountantKind::Rdp, relation, &capped, at) > got);
        // A cap that is never reached changes nothing.
        let roomy = [(truncated(rate, population, population, gaussian(noise)), count)];
        let unchanged = epsilon_of(AccountantKind::Pld, relation, &roomy, at);
        assert!((unchanged / epsilon_of(AccountantKind::Pld, relation, &open, at) - 1.0).abs() < 1e-12);
    }
}

#[test]
fn different_mechanisms_compose_in_one_transform() {
    // dp-accounting 0.6.0: 500 sampled Gaussians, 50 others, and ten Laplace releases, or one Gaussian release.
    let mut parts = vec![
        (sampled(0.01, gaussian(1.0)), 500),
        (sampled(0.1, gaussian(2.0)), 50),
    ];
    parts.push((
        DpEvent::Laplace {
            noise_multiplier: NoiseMultiplier::new(10.0).unwrap(),
        },
        10,
    ));
    let got = epsilon_of(
        AccountantKind::Pld,
        NeighboringRelation::AddOrRemoveOne,
        &parts,
        1e-6,
    );
    assert!((got / 2.771_772_166 - 1.0).abs() < 1e-4, "{got}");
    parts[2] = (gaussian(8.0), 1);
    let got = epsilon_of(
        AccountantKind::Pld,
        NeighboringRelation::AddOrRemoveOne,
        &parts,
        1e-6,
    );
    assert!((got / 2.473_700_363 - 1.0).abs() < 1e-4, "{got}");
}

#[test]
fn the_classical_gaussian_formula_is_not_used() {
    // sqrt(2 ln(1.25/δ))/ε claims 20 where the truth is 25.4: it gives less noise than needed at large ε.
    let target = Epsilon::new(20.0).unwrap();
    let noise = calibrate::gaussian_noise_multiplier(target, delta(1e-5), NeighboringRelation::ReplaceByZero)
        .unwrap();
    let classical = (2.0 * (1.25_f64 / 1e-5).ln()).sqrt() / 20.0;
    assert!(noise.value() > 1.1 * classical);
    assert!(
        epsilon_of(
            AccountantKind::Pld,
            NeighboringRelation::ReplaceByZero,
            &[(gaussian(noise.value()), 1)],
            1e-5
        ) <= 20.0
    );
}

#[test]
fn correlated_releases_of_one_sample_are_one_event() {
    // Two releases from one sample of rate q are not two samples: their joint cost is that of one sharper Gaussian.
    let joint = sampled(0.01, DpEvent::Composed(vec![gaussian(2.0), gaussian(2.0)]));
    let sharper = sampled(0.01, gaussian(2.0_f64.sqrt()));
    let relation = NeighboringRelation::AddOrRemoveOne;
    let one = epsilon_of(AccountantKind::Pld, relation, &[(joint, 100)], 1e-6);
    let other = epsilon_of(AccountantKind::Pld, relation, &[(sharper, 100)], 1e-6);
    let separate = epsilon_of(
        AccountantKind::Pld,
        relation,
        &[(sampled(0.01, gaussian(2.0)), 200)],
        1e-6,
    );
    assert!(
        (one / other - 1.0).abs() < 1e-9 && one > separate,
        "{one} {other} {separate}"
    );
}

#[test]
fn tree_and_matrix_mechanisms_are_single_gaussian_releases() {
    let noise_multiplier = NoiseMultiplier::new(8.0).unwrap();
    let tree = DpEvent::Tree {
        epochs: 3,
        noise_multiplier,
        steps: 1000,
    };
    let matrix = DpEvent::MatrixMechanism {
        noise_multiplier,
        sensitivity: Sensitivity::new(30.0_f64.sqrt()).unwrap(),
    };
    for relation in RELATIONS {
        let one = epsilon_of(AccountantKind::Pld, relation, &[(tree.clone(), 1)], 1e-6);
        let other = epsilon_of(AccountantKind::Pld, relation, &[(matrix.clone(), 1)], 1e-6);
        let plain = epsilon_of(AccountantKind::Pld, relation, &[(gaussian(8.0), 30)], 1e-6);
        assert!((one / other - 1.0).abs() < 1e-12 && (one / plain - 1.0).abs() < 1e-12);
    }
}

#[test]
fn zero_concentration_without_bound_is_no_privacy() {
    let event = |rho: f64| DpEvent::ZeroConcentrated {
        rho: Rho::new(rho).unwrap(),
    };
    let relation = NeighboringRelation::AddOrRemoveOne;
    assert_eq!(
        epsilon_of(AccountantKind::Rdp, relation, &[(event(f64::INFINITY), 1)], 1e-5),
        f64::INFINITY
    );
    // ρ = 1/2σ² is the Gaussian's; replace-one costs four times as much.
    let gaussian_cost = epsilon_of(AccountantKind::Rdp, relation, &[(gaussian(1.0), 1)], 1e-5);
    assert!(
        (epsilon_of(AccountantKind::Rdp, relation, &[(event(0.5), 1)], 1e-5) - gaussian_cost).abs() < 1e-9
    );
    let replaced = epsilon_of(
        AccountantKind::Rdp,
        NeighboringRelation::ReplaceOne,
        &[(gaussian(1.0), 1)],
        1e-5,
    );
    let group = epsilon_of(
        AccountantKind::Rdp,
        NeighboringRelation::ReplaceOne,
        &[(event(0.5), 1)],
        1e-5,
    );
    assert!((group - replaced).abs() < 1e-9);
}

#[test]
fn pure_privacy_is_counted_to_the_last_digit() {
    // Randomised response and its kin: the sum of the largest losses is never exceeded, and reached as δ vanishes.
    let event = DpEvent::DiscreteLaplace {
        clip_norm: ClipNorm::new(2.0).unwrap(),
        noise_scale: NoiseScale::new(8.0).unwrap(),
    };
    let at = epsilon_of(
        AccountantKind::Pld,
        NeighboringRelation::AddOrRemoveOne,
        &[(event.clone(), 4)],
        1e-60,
    );
    assert!(at <= 1.0 + 1e-12 && at > 1.0 - 1e-3, "{at}");
    let mut pld = PldAccountant::new(NeighboringRelation::AddOrRemoveOne);
    pld.compose(&event, 4).unwrap();
    assert!(pld.delta(Epsilon::new(1.000_001).unwrap()).unwrap() <= 1e-15);
}

#[test]
fn a_growing_run_is_charged_more_each_round() {
    let mut pld = PldAccountant::new(NeighboringRelation::AddOrRemoveOne);
    let event = sampled(0.05, gaussian(0.8));
    let mut before = 0.0;
    for round in 1..=300 {
        pld.compose(&event, 1).unwrap();
        let bounds = pld.epsilon(delta(1e-6)).unwrap();
        assert!(
            bounds.upper.value() >= before,
            "{round}: {} {before}",
            bounds.upper
        );
        assert!(
            bounds.upper.value() <= 1.01 * bounds.lower.unwrap().value(),
            "{round}: {bounds:?}"
        );
        before = bounds.upper.value();
    }
}

#[test]
fn a_direction_whose_losses_are_tiny_does_not_spoil_the_other() {
    // Removing a unit that is hardly ever sampled loses at most −T ln(1 − q), so little that it needs no grid; adding it
    // loses as much as one unlucky sample. More rounds cost more, and both bounds are close.
    let event = sampled(2e-6, gaussian(0.5));
    let mut before = 0.0;
    for count in [2, 5, 13, 19, 25, 100] {
        let mut accountant = accountant(AccountantKind::Pld, NeighboringRelation::AddOrRemoveOne);
        accountant.compose(&event, count).unwrap();
        let bounds = accountant.epsilon(delta(1e-100)).unwrap();
        let (lower, upper) = (bounds.lower.unwrap().value(), bounds.upper.value());
        assert!(
            before < lower && upper < 1.0001 * lower,
            "{count}: {lower} {upper}"
        );
        before = upper;
    }
}
