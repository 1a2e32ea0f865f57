//! Federated averaging with momentum on the server.

use super::{StateVector, Strategy, StrategyStateError, checked, restore_into};
use crate::PlanError;

/// Hsu, Qi and Brown 2019 ("Measuring the effects of non-identical data distribution for federated visual classification",
/// arXiv 1909.06335), section 4, FedAvgM: with the release Δ, v ← β v + Δ, x ← x + η v.
#[derive(Debug, Clone)]
pub(super) struct FedAvgM {
    learning_rate: f32,
    momentum: f32,
    velocity: Vec<f32>,
}

impl FedAvgM {
    /// For a model of `dimension` parameters. Learning rate above 0, momentum in [0, 1).
    pub(super) fn new(dimension: usize, learning_rate: f64, momentum: f64) -> Result<Self, PlanError> {
        let key = "federation.strategy.learning_rate";
        let learning_rate = checked(key, learning_rate, learning_rate > 0.0, "a finite number above 0")?;
        let holds = (0.0..1.0).contains(&momentum);
        let expected = "a number of at least 0 and below 1";
        Ok(Self {
            learning_rate,
            momentum: checked("federation.strategy.momentum", momentum, holds, expected)?,
            velocity: vec![0.0; dimension],
        })
    }
}

impl Strategy for FedAvgM {
    fn step(&mut self, parameters: &mut [f32], release: &[f32]) {
        for ((parameter, change), velocity) in parameters.iter_mut().zip(release).zip(&mut self.velocity) {
            *velocity = self.momentum * *velocity + change;
            *parameter += self.learning_rate * *velocity;
        }
    }

    fn state(&self) -> Vec<StateVector> {
        vec![StateVector {
            name: "velocity".to_owned(),
            values: self.velocity.clone(),
        }]
    }

    fn restore(&mut self, state: &[StateVector]) -> Result<(), StrategyStateError> {
        restore_into(&mut [("velocity", &mut self.velocity)], state)
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "numbers that must be the very same")]
mod tests {
    use super::*;

    /// By hand, β = 0.5, η = 0.25: v = 1, x = 0.25; v = 0.5 − 2 = −1.5, x = −0.125; v = −0.75, x = −0.3125.
    #[test]
    fn three_steps_by_hand() {
        let mut strategy = FedAvgM::new(1, 0.25, 0.5).unwrap();
        let mut parameters = [0.0];
        for (release, expected) in [(1.0, 0.25), (-2.0, -0.125), (0.0, -0.3125)] {
            strategy.step(&mut parameters, &[release]);
            assert_eq!(parameters, [expected]);
        }
        let mut other = FedAvgM::new(1, 0.25, 0.5).unwrap();
        other.restore(&strategy.state()).unwrap();
        let mut copy = parameters;
        strategy.step(&mut parameters, &[1.0]);
        other.step(&mut copy, &[1.0]);
        assert_eq!(parameters, copy);
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        for (rate, momentum, key) in [
            (0.0, 0.5, "learning_rate"),
            (1.0, 1.0, "momentum"),
            (1.0, f64::NAN, "momentum"),
        ] {
            let error = FedAvgM::new(1, rate, momentum).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
