use super::*;
use crate::{NoiseMultiplier, SamplingRate};

fn sampled_gaussian(rate: f64, noise: f64) -> DpEvent {
    let event = DpEvent::Gaussian { noise_multiplier: NoiseMultiplier::new(noise).unwrap() };
    DpEvent::PoissonSampled { sampling_rate: SamplingRate::new(rate).unwrap(), event: Box::new(event) }
}

fn bounds(relation: NeighboringRelation, event: &DpEvent, count: u64, delta: f64) -> (f64, f64) {
    let mut accountant = PldAccountant::new(relation);
    accountant.compose(event, count).unwrap();
    let bounds = accountant.epsilon(Delta::new(delta).unwrap()).unwrap();
    (bounds.lower.map_or(0.0, Epsilon::value), bounds.upper.value())
}

#[test]
fn small_deltas_are_not_under_reported() {
    // dp-accounting 0.6.0 returns 10.3197 here; the rigorous interval of prv-accountant 0.2.0 is [10.3415, 10.3519].
    let (lower, upper) = bounds(NeighboringRelation::AddOrRemoveOne, &sampled_gaussian(0.01, 1.0), 10_000, 1e-12);
    assert!(lower < 10.346_69 && upper > 10.346_69 && upper < 10.347_5, "{lower} {upper}");
}
