//! Deliberately wrong pipelines: each must be exposed by an attack that is not told what is wrong.

#![allow(
    clippy::unwrap_used,
    reason = "a helper that panics is a test that fails, and says where"
)]

mod support;

use std::sync::LazyLock;

use support::{Mistake, Pipeline};
use umbel_accounting::{ClipNorm, Delta, NoiseMultiplier};
use umbel_attack::{
    Aggregation, DIMENSION, GuessPlan, MechanismVerdict, OwnAggregation, attack_mechanism, worst_neighbors,
};
use umbel_mechanisms::{CentralGaussian, IntegerSum, NoiseKind, NoiseSource, Quantizer, SimulationSeed};

/// Everybody takes part in every round; ε = 7.9 at δ = 1e-5.
fn full(mistake: Option<Mistake>) -> Pipeline {
    Pipeline {
        canaries: 1_000,
        dimension: 2_048,
        rounds: 4,
        rate: 1.0,
        noise: 1.25,
        mistake,
    }
}

/// Samples of a fifth; ε = 2.1 at δ = 1e-5.
fn sampled(mistake: Option<Mistake>) -> Pipeline {
    Pipeline {
        canaries: 500,
        dimension: 2_048,
        rounds: 10,
        rate: 0.2,
        noise: 1.4,
        mistake,
    }
}

/// Made once for each kind of pipeline: it follows from the claim, which mistakes do not change.
fn guess_plan(pipeline: Pipeline) -> GuessPlan {
    static FULL: LazyLock<GuessPlan> = LazyLock::new(|| full(None).plan());
    static SAMPLED: LazyLock<GuessPlan> = LazyLock::new(|| sampled(None).plan());
    if pipeline.rate < 1.0 { *SAMPLED } else { *FULL }
}

#[track_caller]
fn exposed(pipeline: Pipeline, exceeds_claim: bool, failed: &[&str]) {
    let verdict = pipeline.attack(1, guess_plan(pipeline));
    let failing: Vec<_> = verdict
        .checks
        .iter()
        .filter(|check| !check.passed)
        .map(|check| check.name)
        .collect();
    assert!(verdict.is_broken(), "{verdict:#?}");
    assert_eq!(verdict.exceeds_claim, exceeds_claim, "{verdict:#?}");
    for name in failed {
        assert!(failing.contains(name), "{name} did not fail: {verdict:#?}");
    }
}

#[test]
fn honest_pipelines_pass() {
    for pipeline in [full(None), sampled(None)] {
        let verdict = pipeline.attack(1, guess_plan(pipeline));
        assert!(!verdict.is_broken(), "{verdict:#?}");
        let claimed = verdict.epsilon.unwrap();
        assert!(
            verdict.epsilon_lower_bound < claimed && verdict.epsilon_lower_bound > 0.6 * claimed,
            "{verdict:#?}"
        );
        assert!(verdict.geometry.norm_min > 0.999_99 && verdict.geometry.norm_max <= 1.0);
        assert!(verdict.geometry.largest_overlap < 1e-5, "{verdict:#?}");
    }
}

#[test]
fn noise_too_small_by_the_root_of_two() {
    exposed(
        full(Some(Mistake::NoiseTooSmall(2.0_f64.sqrt()))),
        true,
        &["noise-size"],
    );
    exposed(
        sampled(Some(Mistake::NoiseTooSmall(2.0_f64.sqrt()))),
        true,
        &["noise-size"],
    );
}

#[test]
fn noise_of_the_mean_on_the_sum() {
    exposed(full(Some(Mistake::NoiseTooSmall(520.0))), true, &["noise-size"]);
    exposed(
        sampled(Some(Mistake::NoiseTooSmall(104.0))),
        true,
        &["noise-size"],
    );
}

#[test]
fn layers_clipped_one_by_one() {
    exposed(full(Some(Mistake::ClipPerLayer)), true, &[]);
    exposed(sampled(Some(Mistake::ClipPerLayer)), true, &[]);
}

#[test]
fn a_layer_that_is_not_clipped() {
    exposed(full(Some(Mistake::LayerNotClipped)), true, &[]);
    exposed(sampled(Some(Mistake::LayerNotClipped)), true, &[]);
}

#[test]
fn noise_used_twice() {
    exposed(full(Some(Mistake::NoiseReused)), true, &["noise-independence"]);
    exposed(
        sampled(Some(Mistake::NoiseReused)),
        false,
        &["noise-independence"],
    );
}

#[test]
fn the_same_seed_for_every_round() {
    exposed(full(Some(Mistake::SeedConstant)), true, &["noise-independence"]);
    exposed(
        sampled(Some(Mistake::SeedConstant)),
        false,
        &["noise-independence"],
    );
}

#[test]
fn a_mean_over_those_who_came() {
    // Half of the canaries stay away, so the cohort is smaller than planned: noise and contributions grow alike, and what a
    // canary leaks stays the same. The size of the noise gives it away; what one client can do shows below.
    exposed(sampled(Some(Mistake::ActualSize)), false, &["noise-size"]);
}

#[test]
fn a_cohort_that_stays_the_same() {
    let pipeline = sampled(Some(Mistake::FixedCohort));
    exposed(pipeline, false, &["sampling-independence"]);
    // Who is in a fixed cohort is told apart by its sum over rounds, so methods that see scores only find more than is claimed.
    let verdict = pipeline.attack(1, guess_plan(pipeline));
    let f_dp = &verdict.methods[&umbel_attack::Method::FDpOneRun];
    assert!(f_dp.epsilon.unwrap() > 0.0, "{verdict:#?}");
}

#[test]
fn a_client_that_counts_twice() {
    exposed(full(Some(Mistake::WeightedByCount)), true, &[]);
    exposed(sampled(Some(Mistake::WeightedByCount)), true, &[]);
}

const CLIP_NORM: f64 = 0.5;
const NOISE: f64 = 1.1;
const DIVISOR: f64 = 10.0;

fn mechanism(noise: f64, divisor: f64) -> CentralGaussian {
    CentralGaussian::new(
        ClipNorm::new(CLIP_NORM).unwrap(),
        NoiseMultiplier::new(noise).unwrap(),
        NoiseKind::Rounded,
        divisor,
    )
    .unwrap()
}

fn verdict(aggregation: &dyn Aggregation) -> MechanismVerdict {
    let pairs = worst_neighbors(CLIP_NORM);
    let delta = Delta::new(1e-5).unwrap();
    attack_mechanism(aggregation, &pairs, Some(NOISE), delta, 5_000, |_, _| {}).unwrap()
}

fn integer_sum(quantizer: &Quantizer, updates: &[Vec<f32>]) -> IntegerSum {
    let mut sum = IntegerSum::new(DIMENSION);
    for update in updates {
        sum.add(&quantizer.clip_and_quantize(update, Vec::new()).0)
            .unwrap();
    }
    sum
}

#[test]
fn the_own_mechanism_keeps_its_claim_nearly_tightly() {
    let own = OwnAggregation::new(mechanism(NOISE, DIVISOR), SimulationSeed::new(1));
    let verdict = verdict(&own);
    assert!(!verdict.exceeds_claim, "{verdict:#?}");
    let claimed = verdict.epsilon.unwrap();
    assert!(verdict.epsilon_lower_bound > 0.85 * claimed, "{verdict:#?}");
    assert!(verdict.epsilon_lower_bound < claimed, "{verdict:#?}");
    let of = |name: &str| verdict.pairs.iter().find(|pair| pair.name == name).unwrap();
    assert!(of("not a number").gaussian_score < 0.1 && of("infinite").clopper_pearson < 0.2);
}

/// Divides by the number of updates that came.
struct ActualSize(NoiseSource);

impl Aggregation for ActualSize {
    fn release(&self, updates: &[Vec<f32>], trial: u64) -> Vec<f32> {
        let mechanism = mechanism(NOISE, updates.len().max(1) as f64);
        let sum = integer_sum(mechanism.quantizer(), updates);
        mechanism.release(sum, &self.0, trial, 1).values
    }
}

#[test]
fn one_client_moves_a_mean_over_those_who_came_by_more_than_the_clip_norm() {
    let verdict = verdict(&ActualSize(NoiseSource::simulated(SimulationSeed::new(2))));
    assert!(verdict.exceeds_claim, "{verdict:#?}");
}

/// The same noise whenever it is asked.
struct SeedConstant(NoiseSource);

impl Aggregation for SeedConstant {
    fn release(&self, updates: &[Vec<f32>], _: u64) -> Vec<f32> {
        let mechanism = mechanism(NOISE, DIVISOR);
        let sum = integer_sum(mechanism.quantizer(), updates);
        mechanism.release(sum, &self.0, 1, 1).values
    }
}

#[test]
fn noise_from_a_known_seed_hides_nothing() {
    let verdict = verdict(&SeedConstant(NoiseSource::simulated(SimulationSeed::new(3))));
    assert!(verdict.exceeds_claim, "{verdict:#?}");
}

/// Adds in floating point and compares norms in a way that lets what is no number through.
struct NanLetThrough(NoiseSource);

impl Aggregation for NanLetThrough {
    fn release(&self, updates: &[Vec<f32>], trial: u64) -> Vec<f32> {
        let mechanism = mechanism(NOISE, DIVISOR);
        let finite: Vec<Vec<f32>> = updates
            .iter()
            .filter(|update| update.iter().all(|value| value.is_finite()))
            .cloned()
            .collect();
        let sum = integer_sum(mechanism.quantizer(), &finite);
        let mut values = mechanism.release(sum, &self.0, trial, 1).values;
        for update in updates
            .iter()
            .filter(|update| !update.iter().all(|value| value.is_finite()))
        {
            for (value, addend) in values.iter_mut().zip(update) {
                *value += addend;
            }
        }
        values
    }
}

#[test]
fn what_is_no_number_gives_its_sender_away() {
    let verdict = verdict(&NanLetThrough(NoiseSource::simulated(SimulationSeed::new(4))));
    assert!(verdict.exceeds_claim, "{verdict:#?}");
}
