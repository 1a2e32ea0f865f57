//! Private gradient descent on one client, for unit `example`.

use umbel_mechanisms::{BlockStreams, GradientPart, LocalGaussian, LocalSteps, RandomStream, poisson_batch};
use umbel_protocol::{ClientId, RoundId};
use umbel_train::{GradientParts, LocalReport, LocalTrainer, TrainingWorkspace};

use crate::{Auditor, StepOf};

/// What is secret on a client in one round.
pub(crate) struct Secrets {
    /// Coins that choose batches.
    pub(crate) coins: RandomStream,
    /// Noise, a part for each step.
    pub(crate) noise: BlockStreams,
    /// Where values are dropped, different for each step and example.
    pub(crate) dropout_seed: u64,
}

impl Secrets {
    /// `dropout` is a key of which 64 bits are used.
    pub(crate) fn new(coins: RandomStream, noise: BlockStreams, dropout: &[u8; 32]) -> Self {
        let words = dropout.as_chunks::<8>().0;
        Self {
            coins,
            noise,
            dropout_seed: words.first().map_or(0, |first| u64::from_le_bytes(*first)),
        }
    }
}

/// Whose steps they are, for an auditor who adds examples to them.
pub(crate) struct Audited<'a> {
    pub(crate) auditor: &'a dyn Auditor,
    pub(crate) client: ClientId,
    pub(crate) round: RoundId,
}

impl Audited<'_> {
    fn step(&self, step: u32) -> StepOf {
        StepOf {
            client: self.client,
            round: self.round,
            step,
        }
    }
}

/// DP-SGD (Abadi et al. 2016, arXiv 1607.00133, algorithm 1) from the parameters `global` on `examples`; writes local minus global
/// parameters to `update`, which is private as it is.
///
/// In each step the gradient of every example of the batch is computed and quantised by itself, so the sum is exact and what an
/// example adds to it depends on that example and the parameters only. (Computed together, the rounding of one example's gradient
/// might hang on the others.) Parameters move by noised sums and nothing else; how many steps there
/// are, and what a sum is divided by, does not hang on the examples. A client without any takes the same steps.
pub(crate) fn private_steps(
    trainer: &LocalTrainer<'_>,
    mechanism: &LocalGaussian,
    steps: LocalSteps,
    (global, examples): (&[f32], &[u32]),
    mut secrets: Secrets,
    (workspace, update): (&mut TrainingWorkspace, &mut Vec<f32>),
    audited: Option<&Audited<'_>>,
) -> LocalReport {
    let n_added = audited.map_or(0, |audited| audited.auditor.added_examples(audited.client));
    let mut parameters = global.to_vec();
    let mut gradient = vec![0.0; global.len()];
    let mut parts = GradientParts::new();
    let mut sum = mechanism.gradient_sum();
    let mut report = LocalReport {
        n_examples: examples.len(),
        ..LocalReport::default()
    };
    let mut loss_sum = 0.0;
    for step in 0..steps.steps {
        let audited = audited.map(|audited| (audited.auditor, audited.step(step)));
        for place in poisson_batch(&mut secrets.coins, examples.len() + n_added, steps.sampling_rate) {
            let added = place.checked_sub(examples.len());
            match (audited, added) {
                (Some((auditor, step)), Some(added)) => {
                    auditor.gradient(step, added, &mut gradient);
                    parts.clear();
                    parts.push_values(0, &gradient);
                }
                _ => {
                    let example = examples[place];
                    let dropout_seed = secrets.dropout_seed ^ (u64::from(step) << 32 | u64::from(example));
                    loss_sum +=
                        trainer.example_gradient(&parameters, example, dropout_seed, workspace, &mut parts);
                }
            }
            let parts = parts.iter().map(to_mechanism);
            if let Some((auditor, step)) = audited {
                auditor.contribution(step, added, &mechanism.contribution(parts.clone()));
            }
            sum.add(parts);
            report.n_examples_seen += 1;
        }
        mechanism.noised_gradient(&mut sum, &secrets.noise, step, &mut gradient);
        if let Some((auditor, step)) = audited {
            auditor.noised(step, &gradient);
        }
        for (parameter, slope) in parameters.iter_mut().zip(&gradient) {
            *parameter -= to_single(steps.learning_rate) * slope;
        }
        report.n_steps += 1;
    }
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    if report.n_examples_seen > 0 {
        report.mean_loss = loss_sum / report.n_examples_seen as f64;
    }
    update.clear();
    update.extend(
        parameters
            .iter()
            .zip(global)
            .map(|(local, global)| local - global),
    );
    report
}

fn to_mechanism(part: umbel_train::GradientPart<'_>) -> GradientPart<'_> {
    match part {
        umbel_train::GradientPart::Outer { offset, left, right } => {
            GradientPart::Outer { offset, left, right }
        }
        umbel_train::GradientPart::Values { offset, values } => GradientPart::Values { offset, values },
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "training is done in single precision"
)]
fn to_single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use umbel_accounting::{ClipNorm, NoiseMultiplier, SamplingRate};
    use umbel_mechanisms::{BatchSource, LocalPlan, NoiseKind, NoiseSource, Purpose, SimulationSeed};
    use umbel_train::{Dataset, LocalTraining, Model, ModelSpec, Optimizer, Sgd};

    use super::*;

    fn steps(steps: u32) -> LocalSteps {
        LocalSteps {
            sampling_rate: SamplingRate::new(1.0).unwrap(),
            steps,
            divisor: 4.0,
            learning_rate: 0.5,
        }
    }

    fn mechanism(clip_norm: f64, noise: Option<f64>, steps: LocalSteps) -> LocalGaussian {
        LocalGaussian::new(LocalPlan {
            clip_norm: ClipNorm::new(clip_norm).unwrap(),
            noise_multiplier: noise.map(|multiplier| NoiseMultiplier::new(multiplier).unwrap()),
            noise: NoiseKind::Rounded,
            divisor: 1.0,
            dimension: 6,
            most_participations: 1,
            steps: Some(steps),
        })
        .unwrap()
    }

    fn secrets() -> Secrets {
        let seed = SimulationSeed::new(9);
        Secrets::new(
            BatchSource::simulated(seed).stream(1, 2),
            NoiseSource::simulated(seed).client_streams(1, 2),
            &seed.derive(Purpose::Training, 1, 2),
        )
    }

    /// Two examples of two values, two classes; softmax from zero parameters.
    fn run(mechanism: &LocalGaussian, steps: LocalSteps, examples: &[u32]) -> (Vec<f32>, LocalReport) {
        let values = vec![3.0, 4.0, 0.1, 0.0];
        let dataset = Dataset::from_values("two", &[2], values, vec![0, 1], 2).unwrap();
        let model: Box<dyn Model> = ModelSpec::Softmax.build(&[2], 2).unwrap();
        let training = LocalTraining::new(1, 1, Optimizer::Sgd(Sgd::new(0.5).unwrap())).unwrap();
        let trainer = LocalTrainer::new(model.as_ref(), &dataset, training).unwrap();
        let mut update = Vec::new();
        let mut workspace = TrainingWorkspace::new();
        let global = vec![0.0; 6];
        let report = private_steps(
            &trainer,
            mechanism,
            steps,
            (&global, examples),
            secrets(),
            (&mut workspace, &mut update),
            None,
        );
        (update, report)
    }

    /// By hand, one step: at zero the gradient by the weights of class c is x (1/2 − [c = label]), by its bias 1/2 − [c = label]. The
    /// first example's has the squared norm (25 + 1) / 2, so it is shortened to 1; the second's (0.01 + 1) / 2, so it stays.
    /// Divided by the public 4, times the learning rate 1/2, downward.
    #[test]
    fn one_step_is_the_one_computed_by_hand() {
        let steps = steps(1);
        let (update, report) = run(&mechanism(1.0, None, steps), steps, &[0, 1]);
        let scale = 1.0 / f64::sqrt(13.0);
        // Weights of both classes for each value, then biases.
        let first = [-1.5, 1.5, -2.0, 2.0, -0.5, 0.5].map(|slope| slope * scale);
        let second = [0.05, -0.05, 0.0, 0.0, 0.5, -0.5];
        for place in 0..6 {
            let expected = -0.5 * (first[place] + second[place]) / 4.0;
            assert!((f64::from(update[place]) - expected).abs() < 1e-6, "{update:?}");
        }
        assert_eq!((report.n_steps, report.n_examples_seen), (1, 2));
    }

    #[test]
    fn a_client_without_examples_takes_the_same_steps_along_noise() {
        let with_noise = mechanism(1.0, Some(3.0), steps(2));
        let (update, report) = run(&with_noise, steps(2), &[]);
        assert!(update.iter().all(|value| *value != 0.0));
        assert_eq!((report.n_steps, report.n_examples_seen), (2, 0));
        // The same noise lies on whatever the client holds: with a tiny clip norm nothing else is left.
        let tiny = mechanism(1e-12, Some(3.0), steps(2));
        let (some, none) = (run(&tiny, steps(2), &[0, 1]).0, run(&tiny, steps(2), &[]).0);
        for (some, none) in some.iter().zip(&none) {
            assert!((some - none).abs() < 1e-11, "{some} {none}");
        }
    }

    #[test]
    fn the_divisor_does_not_follow_the_batch() {
        let steps = steps(1);
        let mechanism = mechanism(100.0, None, steps);
        let [both, one, other] = [&[0, 1][..], &[0], &[1]].map(|examples| run(&mechanism, steps, examples).0);
        for place in 0..6 {
            assert!(
                (both[place] - one[place] - other[place]).abs() < 1e-6,
                "sums add up, means would not"
            );
        }
    }

    /// Microbatches, whose sums are clipped in place of single gradients, would let two equal examples count once, and one example
    /// decide what becomes of its neighbours' gradients.
    #[test]
    fn examples_are_clipped_one_by_one_and_not_together() {
        let steps = steps(1);
        let mechanism = mechanism(0.5, None, steps);
        let [once, twice] = [&[0][..], &[0, 0]].map(|examples| run(&mechanism, steps, examples).0);
        for (once, twice) in once.iter().zip(&twice) {
            assert!((2.0 * once - twice).abs() < 1e-6, "{once} {twice}");
        }
    }

    #[test]
    fn one_example_moves_a_step_by_at_most_the_clip_norm() {
        let steps = steps(1);
        for clip_norm in [0.01, 0.5, 1e6] {
            let mechanism = mechanism(clip_norm, None, steps);
            let (with, without) = (run(&mechanism, steps, &[0, 1]).0, run(&mechanism, steps, &[1]).0);
            let moved = with
                .iter()
                .zip(&without)
                .map(|(a, b)| f64::from(a - b).powi(2))
                .sum::<f64>()
                .sqrt();
            assert!(moved <= 0.5 * clip_norm / 4.0 * (1.0 + 1e-5), "{moved}");
        }
    }
}
