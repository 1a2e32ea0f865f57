//! Dropout (Srivastava et al. 2014), in the form that leaves expectations as they are.

use super::{Layer, Mode, State, resize};
use crate::rng::TrainingRng;

/// In training each value is set to 0 with probability `rate`, and otherwise divided by 1 - `rate`; in an evaluation
/// nothing is done.
///
/// What is dropped follows from the batch's seed, the place of the layer and that of the example in the batch, so it
/// does not depend on how a batch is cut into parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    pub(crate) n_values: usize,
    /// At least 0 and below 1.
    pub(crate) rate: f32,
    /// Tells the dropout layers of a model apart.
    pub(crate) salt: u64,
}

impl Layer for Dropout {
    fn n_inputs(&self) -> usize {
        self.n_values
    }

    fn n_outputs(&self) -> usize {
        self.n_values
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        Vec::new()
    }

    fn initialize(&self, _parameters: &mut [f32], _rng: &mut TrainingRng) {}

    fn is_random(&self) -> bool {
        true
    }

    fn n_scratch(&self) -> usize {
        self.n_values
    }

    fn forward(&self, _parameters: &[f32], input: &[f32], state: &mut State, mode: Mode) {
        let Mode::Training { seed, first_example } = mode else {
            resize(&mut state.output, input.len()).copy_from_slice(input);
            return;
        };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate below 1 gives a threshold below 2^32"
        )]
        let threshold = (f64::from(self.rate) * 4_294_967_296.0) as u64;
        let kept = 1.0 / (1.0 - self.rate);
        let factors = resize(&mut state.cache, input.len());
        for (index, row) in factors.chunks_exact_mut(self.n_values).enumerate() {
            let mut counter = mix(mix(seed ^ self.salt) ^ (first_example + index) as u64);
            for factor in row {
                counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
                *factor = if mix(counter) >> 32 < threshold { 0.0 } else { kept };
            }
        }
        let output = resize(&mut state.output, input.len());
        for ((output, input), factor) in output.iter_mut().zip(input).zip(factors) {
            *output = input * *factor;
        }
    }

    fn backward(
        &self,
        _parameters: &[f32],
        _input: &[f32],
        state: &mut State,
        input_gradient: Option<&mut [f32]>,
    ) {
        let Some(input_gradient) = input_gradient else {
            return;
        };
        let slopes = state.gradient.iter().zip(&state.cache);
        for (input_slope, (slope, factor)) in input_gradient.iter_mut().zip(slopes) {
            *input_slope = slope * factor;
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(seed: u64, first_example: usize, n: usize) -> Vec<f32> {
        let layer = Dropout {
            n_values: 1000,
            rate: 0.25,
            salt: 1,
        };
        let mut state = State::default();
        let mode = Mode::Training { seed, first_example };
        layer.forward(&[], &vec![3.0; 1000 * n], &mut state, mode);
        state.gradient = vec![1.0; 1000 * n];
        let mut gradient = vec![f32::NAN; 1000 * n];
        layer.backward(&[], &[], &mut state, Some(&mut gradient));
        for (output, slope) in state.output.iter().zip(&gradient) {
            assert!((output - 3.0 * slope).abs() < 1e-6);
        }
        state.output
    }

    /// Of 100,000 values a quarter is dropped, with a standard deviation of 137: 5 of them are exceeded with probability
    /// below 1e-6.
    #[test]
    #[allow(clippy::cast_precision_loss, reason = "a small count")]
    fn a_quarter_is_dropped_and_the_rest_grows() {
        let values = dropped(7, 0, 100);
        let kept = values.iter().filter(|value| **value > 0.0).count();
        assert!((kept as f64 - 75_000.0).abs() < 5.0 * 137.0, "{kept}");
        assert!(
            values
                .iter()
                .all(|value| *value == 0.0 || (value - 4.0).abs() < 1e-6)
        );
    }

    #[test]
    fn what_is_dropped_depends_on_seed_and_place_alone() {
        let whole = dropped(7, 0, 4);
        assert_eq!(whole[2000..], dropped(7, 2, 2));
        assert_ne!(whole[..1000], whole[1000..2000]);
        assert_ne!(whole, dropped(8, 0, 4));
    }

    #[test]
    fn an_evaluation_drops_nothing() {
        let layer = Dropout {
            n_values: 3,
            rate: 0.9,
            salt: 1,
        };
        let mut state = State::default();
        layer.forward(&[], &[1.0, 2.0, 3.0], &mut state, Mode::Evaluation);
        assert_eq!(state.output, [1.0, 2.0, 3.0]);
    }
}
