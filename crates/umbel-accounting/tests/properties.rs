//! What must hold for every plan: monotone in every setting, bounds in order, composition in any order, and no input that
//! gives NaN, a panic or a wrong number.
#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "helpers of tests; exact ends of ranges"
)]

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use umbel_accounting::{
    Accountant, AccountantKind, ClipNorm, Delta, DpEvent, Epsilon, NeighboringRelation, NoiseMultiplier,
    NoiseScale, NoiseStdDev, Rho, SamplingRate, accountant,
};

/// The same cases every time, unless `PROPTEST_RNG_SEED` or `PROPTEST_CASES` asks for others.
fn config(cases: u32) -> ProptestConfig {
    let asked_for = |name| std::env::var_os(name).is_some();
    let mut config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    if !asked_for("PROPTEST_CASES") {
        config.cases = cases;
    }
    if !asked_for("PROPTEST_RNG_SEED") {
        config.rng_seed = RngSeed::Fixed(1);
    }
    config
}

fn gaussian(noise: f64) -> DpEvent {
    DpEvent::Gaussian {
        noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
    }
}

fn sampled(rate: f64, noise: f64) -> DpEvent {
    DpEvent::PoissonSampled {
        sampling_rate: SamplingRate::new(rate).unwrap(),
        event: Box::new(gaussian(noise)),
    }
}

fn composed(
    kind: AccountantKind,
    relation: NeighboringRelation,
    parts: &[(DpEvent, u64)],
) -> Box<dyn Accountant> {
    let mut accountant = accountant(kind, relation);
    for (event, count) in parts {
        accountant.compose(event, *count).unwrap();
    }
    accountant
}

fn bounds(accountant: &dyn Accountant, delta: f64) -> (f64, f64) {
    let bounds = accountant.epsilon(Delta::new(delta).unwrap()).unwrap();
    (bounds.lower.map_or(0.0, Epsilon::value), bounds.upper.value())
}

fn upper(
    kind: AccountantKind,
    relation: NeighboringRelation,
    event: &DpEvent,
    count: u64,
    delta: f64,
) -> f64 {
    bounds(
        composed(kind, relation, &[(event.clone(), count)]).as_ref(),
        delta,
    )
    .1
}

fn relations() -> impl Strategy<Value = NeighboringRelation> {
    prop_oneof![
        Just(NeighboringRelation::AddOrRemoveOne),
        Just(NeighboringRelation::ReplaceByZero),
        Just(NeighboringRelation::ReplaceOne)
    ]
}

fn kinds() -> impl Strategy<Value = AccountantKind> {
    prop_oneof![4 => Just(AccountantKind::Pld), 1 => Just(AccountantKind::Rdp)]
}

/// e^x for x between the logarithms of the ends.
fn log_uniform(low: f64, high: f64) -> impl Strategy<Value = f64> {
    (low.ln()..high.ln()).prop_map(f64::exp)
}

fn counts(most: f64) -> impl Strategy<Value = u64> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and the largest count"
    )]
    log_uniform(1.0, most).prop_map(|count| count as u64)
}

/// A plan that costs no more must not be reported to cost more, up to what the grid may add.
fn assert_at_most(less: f64, more: f64) -> Result<(), TestCaseError> {
    prop_assert!(less <= more * (1.0 + 1e-4) + 1e-9, "{less} > {more}");
    Ok(())
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn more_private_settings_never_cost_more(
        kind in kinds(), relation in relations(), rate in log_uniform(1e-8, 0.9), noise in log_uniform(0.05, 1e3),
        count in counts(1e6), log_delta in -300.0..-0.5_f64, factor in 1.0..1.5_f64,
    ) {
        let delta = log_delta.exp();
        let base = upper(kind, relation, &sampled(rate, noise), count, delta);
        prop_assert!(base.is_finite());
        assert_at_most(upper(kind, relation, &sampled(rate, noise * factor), count, delta), base)?;
        assert_at_most(upper(kind, relation, &sampled(rate / factor, noise), count, delta), base)?;
        assert_at_most(upper(kind, relation, &sampled(rate, noise), count - count / 3, delta), base)?;
        assert_at_most(upper(kind, relation, &sampled(rate, noise), count, delta * factor), base)?;
    }

    #[test]
    fn bounds_are_in_order_and_below_renyi(
        relation in relations(), rate in log_uniform(1e-7, 1.0), noise in log_uniform(0.1, 200.0),
        count in counts(1e5), log_delta in -90.0..-0.5_f64,
    ) {
        let delta = log_delta.exp();
        let parts = [(sampled(rate, noise), count)];
        let pld = composed(AccountantKind::Pld, relation, &parts);
        let (lower, upper) = bounds(pld.as_ref(), delta);
        let (_, renyi) = bounds(composed(AccountantKind::Rdp, relation, &parts).as_ref(), delta);
        prop_assert!(lower <= upper);
        prop_assert!(upper <= renyi * (1.0 + 1e-4) + 1e-9, "{upper} {renyi}");
        prop_assert!(renyi >= lower);
        prop_assert!(upper - lower <= (0.01 * upper).max(0.002), "{lower} {upper}");
    }

    #[test]
    fn delta_of_epsilon_of_delta_is_at_most_delta(
        kind in kinds(), relation in relations(), rate in log_uniform(1e-4, 0.9), noise in log_uniform(0.4, 10.0),
        count in counts(1e4), log_delta in -50.0..-2.0_f64,
    ) {
        let delta = log_delta.exp();
        let accountant = composed(kind, relation, &[(sampled(rate, noise), count)]);
        let (lower, upper) = bounds(accountant.as_ref(), delta);
        let at = accountant.delta(Epsilon::new(upper).unwrap()).unwrap();
        prop_assert!(at <= delta * (1.0 + 1e-9), "{at} {delta}");
        if lower > 1e-6 {
            let below = accountant.delta(Epsilon::new(lower * (1.0 - 1e-9)).unwrap()).unwrap();
            prop_assert!(below >= delta * (1.0 - 1e-9), "{below} {delta}");
        }
    }

    #[test]
    fn the_order_of_composition_does_not_matter(
        kind in kinds(), noises in prop::array::uniform3(log_uniform(0.5, 5.0)), count in counts(300.0),
    ) {
        let relation = NeighboringRelation::AddOrRemoveOne;
        let mut parts: Vec<(DpEvent, u64)> = noises.iter().map(|&noise| (sampled(0.03, noise), count)).collect();
        parts.push((gaussian(8.0), 2));
        let one = bounds(composed(kind, relation, &parts).as_ref(), 1e-6).1;
        parts.reverse();
        parts.push((gaussian(8.0), 0));
        let other = bounds(composed(kind, relation, &parts).as_ref(), 1e-6).1;
        let nested = DpEvent::Composed(
            parts.iter().map(|(event, count)| DpEvent::Repeated { event: Box::new(event.clone()), count: *count }).collect(),
        );
        let third = upper(kind, relation, &nested, 1, 1e-6);
        prop_assert!((one / other - 1.0).abs() < 1e-9 && (one / third - 1.0).abs() < 1e-9, "{one} {other} {third}");
    }
}

/// Any mechanism at any setting, sampled or not.
fn mechanisms() -> impl Strategy<Value = DpEvent> {
    let scale = || log_uniform(1e-3, 1e6);
    let plain = prop_oneof![
        scale().prop_map(gaussian),
        scale().prop_map(|b| DpEvent::Laplace {
            noise_multiplier: NoiseMultiplier::new(b).unwrap()
        }),
        (scale(), log_uniform(1.0, 1e4)).prop_map(|(b, clip)| DpEvent::DiscreteLaplace {
            clip_norm: ClipNorm::new(clip).unwrap(),
            noise_scale: NoiseScale::new(b).unwrap(),
        }),
        (scale(), log_uniform(0.5, 1e4), 1..3_u64).prop_map(|(std, clip, dimension)| {
            DpEvent::DiscreteGaussian {
                clip_norm: ClipNorm::new(clip).unwrap(),
                dimension,
                noise_std_dev: NoiseStdDev::new(std).unwrap(),
            }
        }),
        (scale(), log_uniform(0.5, 1e4)).prop_map(|(std, clip)| DpEvent::Skellam {
            l1_clip_norm: ClipNorm::new(10.0 * clip).unwrap(),
            l2_clip_norm: ClipNorm::new(clip).unwrap(),
            noise_std_dev: NoiseStdDev::new(std).unwrap(),
        }),
        log_uniform(1e-12, 1e6).prop_map(|rho| DpEvent::ZeroConcentrated {
            rho: Rho::new(rho).unwrap()
        }),
    ];
    (plain, log_uniform(1e-9, 1.0), 0..4_u8, 1..5000_u64, 1..5000_u64).prop_map(
        |(event, rate, how, one, other)| {
            let event = Box::new(event);
            let sampling_rate = SamplingRate::new(rate).unwrap();
            match how {
                0 => *event,
                1 => DpEvent::PoissonSampled { sampling_rate, event },
                2 => DpEvent::FixedSizeSampled {
                    event,
                    population_size: one.max(other),
                    sample_size: one.min(other),
                },
                _ => DpEvent::TruncatedPoissonSampled {
                    cap: one,
                    event,
                    population_size: other,
                    sampling_rate,
                },
            }
        },
    )
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn no_plan_gives_nonsense(
        kind in kinds(), relation in relations(), rate in log_uniform(1e-9, 1.0), noise in log_uniform(1e-3, 1e6),
        count in counts(1e9), log_delta in prop_oneof![-690.0..-1.0_f64, (-20.0..-0.7_f64).prop_map(|x| -x.exp())],
    ) {
        let delta = log_delta.exp().clamp(1e-300, 1.0 - 1e-9);
        let accountant = composed(kind, relation, &[(sampled(rate, noise), count)]);
        let (lower, upper) = bounds(accountant.as_ref(), delta);
        prop_assert!(!lower.is_nan() && !upper.is_nan() && lower >= 0.0 && lower <= upper);
        // Never above the plan without sampling, never below one sampled step.
        let (_, unsampled) = bounds(composed(AccountantKind::Pld, relation, &[(gaussian(noise), count)]).as_ref(), delta);
        prop_assert!(upper <= unsampled * 1.2 + 1e-9, "{upper} {unsampled}");
        let at = accountant.delta(Epsilon::new(upper.min(1e300)).unwrap()).unwrap();
        prop_assert!((0.0..=1.0).contains(&at), "{at}");
    }

    #[test]
    fn no_mechanism_gives_nonsense(
        kind in kinds(), relation in relations(), events in prop::collection::vec((mechanisms(), counts(1e9)), 1..3),
        log_delta in -690.0..-0.01_f64,
    ) {
        let mut accountant = accountant(kind, relation);
        for (event, count) in &events {
            let supported = accountant.supports(event).is_ok();
            prop_assert_eq!(accountant.compose(event, *count).is_ok(), supported);
        }
        let (lower, upper) = bounds(accountant.as_ref(), log_delta.exp());
        prop_assert!(!lower.is_nan() && !upper.is_nan() && lower >= 0.0 && lower <= upper);
        let at = accountant.delta(Epsilon::new(upper.min(1e300)).unwrap()).unwrap();
        prop_assert!((0.0..=1.0).contains(&at), "{at}");
    }
}
