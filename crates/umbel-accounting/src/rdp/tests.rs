use super::*;
use crate::{NoiseMultiplier, SamplingRate};

fn sampled_gaussian(rate: f64, noise: f64) -> DpEvent {
    let event = DpEvent::Gaussian {
        noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
    };
    DpEvent::PoissonSampled {
        sampling_rate: SamplingRate::new(rate).unwrap(),
        event: Box::new(event),
    }
}

fn epsilon_of(relation: NeighboringRelation, event: &DpEvent, count: u64, delta: f64) -> f64 {
    let mut accountant = RdpAccountant::new(relation);
    accountant.compose(event, count).unwrap();
    accountant
        .epsilon(Delta::new(delta).unwrap())
        .unwrap()
        .upper
        .value()
}

#[test]
fn never_above_a_list_of_orders_and_close_below() {
    // dp-accounting 0.6.0, default orders.
    for (rate, noise, count, delta, listed) in [
        (1.0, 1.0, 1, 1e-5, 4.7285),
        (0.01, 1.0, 1000, 1e-5, 2.1014),
        (0.001, 0.6, 10_000, 1e-6, 3.9992),
        (0.0001, 1.0, 1_000_000, 1e-12, 1.6360),
        (0.1, 50.0, 100_000, 1e-6, 3.1318),
    ] {
        let got = epsilon_of(
            NeighboringRelation::AddOrRemoveOne,
            &sampled_gaussian(rate, noise),
            count,
            delta,
        );
        assert!(
            got <= listed + 5e-5 && got > 0.97 * listed,
            "{rate} {noise}: {got} {listed}"
        );
    }
}

#[test]
fn replace_one_without_sampling_is_double_the_sensitivity() {
    let one = epsilon_of(
        NeighboringRelation::ReplaceOne,
        &sampled_gaussian(1.0, 2.0),
        3,
        1e-6,
    );
    let other = epsilon_of(
        NeighboringRelation::AddOrRemoveOne,
        &sampled_gaussian(1.0, 1.0),
        3,
        1e-6,
    );
    assert!((one - other).abs() < 1e-9);
}

#[test]
fn a_release_without_a_guarantee_costs_everything() {
    let relation = NeighboringRelation::ReplaceOne;
    assert!(epsilon_of(relation, &DpEvent::NonPrivate, 1, 0.5).is_infinite());
    assert!(epsilon_of(relation, &DpEvent::NonPrivate, 0, 0.5) <= 0.0);
}
