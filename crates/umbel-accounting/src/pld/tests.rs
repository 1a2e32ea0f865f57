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

fn bounds(relation: NeighboringRelation, event: &DpEvent, count: u64, delta: f64) -> (f64, f64) {
    let mut accountant = PldAccountant::new(relation);
    accountant.compose(event, count).unwrap();
    let bounds = accountant.epsilon(Delta::new(delta).unwrap()).unwrap();
    (bounds.lower.map_or(0.0, Epsilon::value), bounds.upper.value())
}

#[test]
fn small_deltas_are_not_under_reported() {
    // dp-accounting 0.6.0 returns 10.3197 here; the rigorous interval of prv-accountant 0.2.0 is [10.3415, 10.3519].
    let (lower, upper) = bounds(
        NeighboringRelation::AddOrRemoveOne,
        &sampled_gaussian(0.01, 1.0),
        10_000,
        1e-12,
    );
    assert!(
        lower < 10.346_69 && upper > 10.346_69 && upper < 10.347_5,
        "{lower} {upper}"
    );
}

#[test]
fn gaussians_on_the_transform_path_match_the_closed_form() {
    // dp-accounting 0.6.0, self-composed: 15.68 for 16.28 at 1e5 and 1e-13; 39.3 for 16.89 at 1e6 and 1e-14.
    for mu in [0.3_f64, 2.0, 6.0] {
        for count in [1, 1_000, 100_000, 1_000_000] {
            for delta in [1e-5, 1e-13, 1e-30] {
                #[allow(clippy::cast_precision_loss, reason = "small numbers")]
                let each = Primitive::Gaussian {
                    mu: mu / (count as f64).sqrt(),
                };
                let (lower, upper) = numeric::epsilon_to(1e-5, &vec![(each, count)], delta).unwrap();
                let (_, exact) = gaussian::epsilon(mu, delta);
                let precision = 1e-5 * exact;
                assert!(
                    lower <= exact * (1.0 + 1e-12) && exact <= upper * (1.0 + 1e-12),
                    "{mu} {count} {delta}"
                );
                assert!(
                    exact - lower <= 50.0 * precision,
                    "{mu} {count} {delta}: lower {lower} {exact}"
                );
                assert!(
                    upper - exact <= precision,
                    "{mu} {count} {delta}: upper {upper} {exact} {}",
                    upper / exact - 1.0
                );
            }
        }
    }
}

#[test]
fn a_finer_grid_never_gives_a_larger_epsilon() {
    // dp-accounting 0.6.0 goes from 91.3207 to 91.3457 when its grid is ten times finer.
    for (rate, noise, count, delta) in [
        (1e-4, 0.3, 1_000_000, 1e-8),
        (0.01, 1.0, 3_000, 1e-12),
        (0.2, 2.0, 50, 1e-5),
    ] {
        let plan = vec![(Primitive::SampledGaussian { rate, noise }, count)];
        let mut before = f64::INFINITY;
        for precision in [1e-3, 1e-4, 1e-5] {
            let (lower, upper) = numeric::epsilon_to(precision, &plan, delta).unwrap();
            assert!(
                upper <= before * (1.0 + 1e-9),
                "{rate} {noise} {precision}: {upper} {before}"
            );
            assert!(lower <= upper);
            before = upper;
        }
    }
}

#[test]
fn more_is_never_reported_than_renyi_allows() {
    // prv-accountant 0.2.0 answers 3.8 at a tiny δ where Rényi shows 0.67.
    for (rate, noise, count, delta) in [
        (1e-3, 2.0, 1_000, 1e-18),
        (1e-6, 0.5, 10, 1e-30),
        (1e-5, 1.0, 127, 1e-35),
    ] {
        let event = sampled_gaussian(rate, noise);
        let (_, upper) = bounds(NeighboringRelation::AddOrRemoveOne, &event, count, delta);
        let by_order = rdp::epsilon(&vec![(Primitive::SampledGaussian { rate, noise }, count)], delta);
        assert!(upper <= by_order, "{rate} {noise}: {upper} {by_order}");
    }
}

#[test]
fn a_unit_that_is_hardly_ever_sampled_costs_nothing() {
    // No grid fits so little noise; the chance of a sample bounds δ(0) all the same.
    let event = sampled_gaussian(1e-9, 1e-3);
    for relation in [
        NeighboringRelation::AddOrRemoveOne,
        NeighboringRelation::ReplaceOne,
    ] {
        assert!(bounds(relation, &event, 10, 1e-6).1 <= 0.0);
        assert!(bounds(relation, &event, 10_000, 1e-6).1 > 1e3);
    }
}

#[test]
fn rare_large_losses_at_a_tiny_delta_have_close_bounds() {
    // Plans on which a transform in f64 drowns: a unit is expected in less than one sample, δ is far below 1e-16.
    for (rate, noise, count, delta) in [(1.36e-5, 0.852, 2, 9.9e-30), (1.16e-5, 1.17, 32_730, 7.3e-26)] {
        for relation in [
            NeighboringRelation::AddOrRemoveOne,
            NeighboringRelation::ReplaceOne,
        ] {
            let (lower, upper) = bounds(relation, &sampled_gaussian(rate, noise), count, delta);
            assert!(upper - lower < 0.01 * upper, "{rate} {noise}: {lower} {upper}");
        }
    }
}
