//! Federated averaging.

use super::{StateVector, Strategy, StrategyStateError, restore_into};

/// McMahan et al. 2017 ("Communication-efficient learning of deep networks from decentralized data"), Algorithm 1, with
/// equal weights and server learning rate 1: new model = old model + release.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FedAvg;

impl Strategy for FedAvg {
    fn step(&mut self, parameters: &mut [f32], release: &[f32]) {
        for (parameter, change) in parameters.iter_mut().zip(release) {
            *parameter += change;
        }
    }

    fn state(&self) -> Vec<StateVector> {
        Vec::new()
    }

    fn restore(&mut self, state: &[StateVector]) -> Result<(), StrategyStateError> {
        restore_into(&mut [], state)
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "numbers that must be the very same")]
mod tests {
    use super::*;

    #[test]
    fn the_model_moves_by_the_release() {
        let mut parameters = [1.0, -2.0, 0.5];
        FedAvg.step(&mut parameters, &[0.25, 0.5, -0.5]);
        assert_eq!(parameters, [1.25, -1.5, 0.0]);
    }
}
