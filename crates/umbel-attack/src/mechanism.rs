//! The attack on one application of the mechanism: clip, sum, noise, divide, on neighbours made to be told apart.

use serde::Serialize;
use umbel_accounting::{AccountingError, Delta, SamplingRate};
use umbel_mechanisms::{CentralGaussian, IntegerSum, NoiseSource, SimulationSeed};

use crate::estimate::{
    Confidence, ErrorCounts, clopper_pearson_epsilon, clopper_pearson_strength, gaussian_score_strength,
};
use crate::family::{Family, gaussian_epsilon};

/// What turns the raw updates of one round into what is released.
pub trait Aggregation: Sync {
    /// The released mean of these clients' updates. `trial` numbers independent applications.
    fn release(&self, updates: &[Vec<f32>], trial: u64) -> Vec<f32>;
}

/// Umbel's own: the quantiser, the integer sum and the mechanism that a run uses.
#[derive(Debug)]
pub struct OwnAggregation {
    mechanism: CentralGaussian,
    noise: NoiseSource,
}

impl OwnAggregation {
    /// The mechanism of a plan, with noise from a seed.
    pub fn new(mechanism: CentralGaussian, seed: SimulationSeed) -> Self {
        Self {
            mechanism,
            noise: NoiseSource::simulated(seed),
        }
    }
}

impl Aggregation for OwnAggregation {
    fn release(&self, updates: &[Vec<f32>], trial: u64) -> Vec<f32> {
        let mut sum = IntegerSum::new(DIMENSION);
        let mut buffer = Vec::new();
        for update in updates {
            let (quantized, _) = self.mechanism.quantizer().clip_and_quantize(update, buffer);
            // All updates have the sum's dimension and the quantiser's clip norm.
            let added = sum.add(&quantized);
            debug_assert!(added.is_ok(), "{added:?}");
            buffer = quantized.into_buffer();
        }
        self.mechanism.release(sum, &self.noise, trial, 1).values
    }
}

/// Coordinates of the updates: few, so that many trials cost little. The mechanism treats all alike.
pub const DIMENSION: usize = 16;

/// Two neighbouring sets of updates: the others, and the others with a target.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Neighbors {
    /// What the pair tries.
    pub name: &'static str,
    /// The updates of all other clients.
    pub others: Vec<Vec<f32>>,
    /// The target's update.
    pub target: Vec<f32>,
    /// The direction in which the release is looked at.
    pub direction: Vec<f32>,
}

/// The pairs that are tried: each is worst for some mistake.
pub fn worst_neighbors(clip_norm: f64) -> Vec<Neighbors> {
    #[allow(clippy::cast_possible_truncation, reason = "updates are single precision")]
    let far = (64.0 * clip_norm) as f32;
    let spike = |place: usize, size: f32| {
        let mut update = vec![0.0; DIMENSION];
        update[place] = size;
        update
    };
    let level = |size: f32| vec![size; DIMENSION];
    let pair = |name, others: usize, other: Vec<f32>, target: Vec<f32>, direction: Vec<f32>| Neighbors {
        name,
        others: vec![other; others],
        target,
        direction,
    };
    vec![
        pair(
            "alone, far above the clip norm",
            0,
            Vec::new(),
            spike(0, far),
            spike(0, 1.0),
        ),
        pair(
            "alone, every coordinate far above",
            0,
            Vec::new(),
            level(far),
            level(1.0),
        ),
        pair(
            "alone, the last layer only",
            0,
            Vec::new(),
            spike(DIMENSION - 1, far),
            spike(DIMENSION - 1, 1.0),
        ),
        pair(
            "against ten others",
            10,
            spike(0, far),
            spike(0, -far),
            spike(0, -1.0),
        ),
        pair("not a number", 3, level(far), spike(0, f32::NAN), level(1.0)),
        pair("infinite", 3, level(far), spike(0, f32::INFINITY), level(1.0)),
    ]
}

/// What was found for one pair.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PairFinding {
    /// The pair.
    pub name: &'static str,
    /// Distance of the mean scores in standard deviations, as ε: assumes Gaussian noise.
    pub gaussian_score: f64,
    /// From error rates, assuming nothing of the mechanism; at most about the logarithm of the number of trials.
    pub clopper_pearson: f64,
    /// From error rates, for Gaussian noise.
    pub clopper_pearson_gaussian: f64,
}

/// What was found about one application of the mechanism.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MechanismVerdict {
    /// The claimed ε of one application on everybody; `None` if it is infinite.
    pub epsilon: Option<f64>,
    /// The δ of every ε here.
    pub delta: f64,
    /// The largest lower bound over all pairs, by Gaussian score. No guarantee.
    pub epsilon_lower_bound: f64,
    /// How it was found.
    pub method: &'static str,
    /// Confidence with which all bounds hold together.
    pub confidence: f64,
    /// Confidence at which the claim is compared.
    pub alarm_confidence: f64,
    /// Whether a bound at the alarm's confidence is above the claim.
    pub exceeds_claim: bool,
    /// Applications with the target, and as many without, for each pair.
    pub trials: u32,
    /// All pairs.
    pub pairs: Vec<PairFinding>,
}

/// Applies `aggregation` `trials` times to each side of each pair and bounds ε of one application from below.
///
/// `noise` is the claimed noise multiplier; `None` claims nothing. A release with a value that is not finite tells that the
/// target was there. `progress` is called after each pair with pairs done and planned.
pub fn attack_mechanism(
    aggregation: &dyn Aggregation,
    pairs: &[Neighbors],
    noise: Option<f64>,
    delta: Delta,
    trials: u32,
    mut progress: impl FnMut(usize, usize),
) -> Result<MechanismVerdict, AccountingError> {
    let claimed = match noise {
        Some(noise) => gaussian_epsilon(1.0 / noise, delta)?.upper.value(),
        None => f64::INFINITY,
    };
    let trials = trials.max(1_000);
    #[allow(clippy::cast_precision_loss, reason = "a handful of pairs, two methods each")]
    let together = 2.0 * pairs.len().max(1) as f64;
    let (reported, alarm) = (
        Confidence::REPORTED.split(together),
        Confidence::ALARM.split(together),
    );
    let mut findings = Vec::new();
    let (mut best, mut best_alarm) = (0.0_f64, 0.0_f64);
    for (done, pair) in pairs.iter().enumerate() {
        let scores = Scores::draw(aggregation, pair, trials);
        let finding = scores.bound(pair.name, delta, reported)?;
        let at_alarm = scores.bound(pair.name, delta, alarm)?;
        best = best.max(finding.gaussian_score).max(finding.clopper_pearson);
        best_alarm = best_alarm
            .max(at_alarm.gaussian_score)
            .max(at_alarm.clopper_pearson);
        findings.push(finding);
        progress(done + 1, pairs.len());
    }
    Ok(MechanismVerdict {
        epsilon: Some(claimed).filter(|epsilon| epsilon.is_finite()),
        delta: delta.value(),
        epsilon_lower_bound: best,
        method: "gaussian-score or clopper-pearson, whichever is larger, over all pairs",
        confidence: Confidence::REPORTED.value(),
        alarm_confidence: Confidence::ALARM.value(),
        exceeds_claim: best_alarm > claimed,
        trials,
        pairs: findings,
    })
}

/// Trials that only choose the threshold of a test.
const MOST_PILOTS: u32 = 10_000;

/// Scores with and without the target.
struct Scores {
    with: Vec<f64>,
    without: Vec<f64>,
    n_pilots: usize,
}

impl Scores {
    fn draw(aggregation: &dyn Aggregation, pair: &Neighbors, trials: u32) -> Self {
        let mut with_target = pair.others.clone();
        with_target.push(pair.target.clone());
        let length = pair
            .direction
            .iter()
            .map(|x| f64::from(*x).powi(2))
            .sum::<f64>()
            .sqrt();
        let score = |updates: &[Vec<f32>], trial: u64| -> f64 {
            let release = aggregation.release(updates, trial);
            let products = release
                .iter()
                .zip(&pair.direction)
                .map(|(x, y)| f64::from(*x) * f64::from(*y));
            products.sum::<f64>() / length
        };
        // No two trials share a number, so none shares noise. Two halves, on two threads.
        let trials_of = |updates: &[Vec<f32>], offset: u64| -> Vec<f64> {
            (0..u64::from(trials))
                .map(|trial| score(updates, 2 * trial + offset))
                .collect()
        };
        let (with, without) = std::thread::scope(|scope| {
            let other = scope.spawn(|| trials_of(&pair.others, 0));
            let with = trials_of(&with_target, 1);
            (with, other.join().unwrap_or_default())
        });
        Self {
            with,
            without,
            n_pilots: (trials / 10).min(MOST_PILOTS) as usize,
        }
    }

    fn bound(
        &self,
        name: &'static str,
        delta: Delta,
        confidence: Confidence,
    ) -> Result<PairFinding, AccountingError> {
        let threshold = self.threshold(delta, confidence);
        let counts = self.errors(self.n_pilots..usize::MAX, threshold);
        let lower = |strength: f64| -> Result<f64, AccountingError> {
            let full = SamplingRate::new(1.0).map_err(|error| AccountingError::OutOfReach {
                what: error.to_string(),
            })?;
            let bounds = Family::new(full, 1, delta).epsilon(strength.min(1_400.0))?;
            Ok(bounds.lower.map_or(0.0, |lower| lower.value()))
        };
        Ok(PairFinding {
            name,
            gaussian_score: lower(gaussian_score_strength(&self.with, &self.without, confidence))?,
            clopper_pearson: clopper_pearson_epsilon(counts, delta, confidence),
            clopper_pearson_gaussian: lower(clopper_pearson_strength(counts, confidence))?,
        })
    }

    /// The threshold that does best on the pilots.
    fn threshold(&self, delta: Delta, confidence: Confidence) -> f64 {
        let mut pilots: Vec<f64> = self.with[..self.n_pilots]
            .iter()
            .chain(&self.without[..self.n_pilots])
            .copied()
            .collect();
        pilots.sort_by(f64::total_cmp);
        let step = (pilots.len() / 100).max(1);
        let bound = |threshold: f64| {
            clopper_pearson_epsilon(self.errors(0..self.n_pilots, threshold), delta, confidence)
        };
        let candidates = pilots
            .iter()
            .copied()
            .step_by(step)
            .filter(|score| score.is_finite());
        let best = candidates
            .map(|threshold| (bound(threshold), threshold))
            .fold((0.0, 0.0), |best, next| if next.0 > best.0 { next } else { best });
        best.1
    }

    /// Errors of the test that says "there" above a threshold, and for a score that is no number.
    fn errors(&self, range: std::ops::Range<usize>, threshold: f64) -> ErrorCounts {
        let is_there = |score: &&f64| !score.is_finite() || **score > threshold;
        let count = |scores: &[f64]| {
            let part = &scores[range.start.min(scores.len())..range.end.min(scores.len())];
            let there = part.iter().filter(is_there).count();
            (saturating(part.len()), saturating(there))
        };
        let ((with, right), (without, false_positives)) = (count(&self.with), count(&self.without));
        ErrorCounts {
            without,
            false_positives,
            with,
            false_negatives: with - right,
        }
    }
}

fn saturating(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
