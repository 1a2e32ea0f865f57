//! Adaptive moments on the server.

use super::{StateVector, Strategy, StrategyStateError, restore_into};
use crate::PlanError;

/// Reddi et al. 2021 ("Adaptive federated optimization"), Algorithm 2, FedAdam: with the release Δ,
/// m ← β₁ m + (1 − β₁) Δ, v ← β₂ v + (1 − β₂) Δ², x ← x + η m / (√v + τ). As in the paper v begins at τ² and there is no
/// bias correction.
#[derive(Debug, Clone)]
pub(super) struct FedAdam {
    beta_1: f32,
    beta_2: f32,
    learning_rate: f32,
    tau: f32,
    first_moment: Vec<f32>,
    second_moment: Vec<f32>,
}

impl FedAdam {
    /// For a model of `dimension` parameters. Rates above 0, decays in [0, 1).
    pub(super) fn new(
        dimension: usize,
        learning_rate: f64,
        beta_1: f64,
        beta_2: f64,
        tau: f64,
    ) -> Result<Self, PlanError> {
        let check = |key: &'static str, value: f64, holds: bool, expected: &str| {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "a step size needs no more than f32"
            )]
            let single = value as f32;
            if holds && single.is_finite() {
                Ok(single)
            } else {
                Err(PlanError::Setting {
                    key,
                    expected: expected.to_owned(),
                    got: value.to_string(),
                })
            }
        };
        let positive = "a finite number above 0";
        let decay = "a number of at least 0 and below 1";
        let rate = check(
            "federation.strategy.learning_rate",
            learning_rate,
            learning_rate > 0.0,
            positive,
        )?;
        let tau = check("federation.strategy.tau", tau, tau > 0.0, positive)?;
        Ok(Self {
            beta_1: check(
                "federation.strategy.beta_1",
                beta_1,
                (0.0..1.0).contains(&beta_1),
                decay,
            )?,
            beta_2: check(
                "federation.strategy.beta_2",
                beta_2,
                (0.0..1.0).contains(&beta_2),
                decay,
            )?,
            learning_rate: rate,
            tau,
            first_moment: vec![0.0; dimension],
            second_moment: vec![tau * tau; dimension],
        })
    }
}

impl Strategy for FedAdam {
    fn step(&mut self, parameters: &mut [f32], release: &[f32]) {
        let moments = self.first_moment.iter_mut().zip(&mut self.second_moment);
        for ((parameter, change), (first, second)) in parameters.iter_mut().zip(release).zip(moments) {
            *first = self.beta_1 * *first + (1.0 - self.beta_1) * change;
            *second = self.beta_2 * *second + (1.0 - self.beta_2) * change * change;
            *parameter += self.learning_rate * *first / (second.sqrt() + self.tau);
        }
    }

    fn state(&self) -> Vec<StateVector> {
        vec![
            StateVector {
                name: "first_moment".to_owned(),
                values: self.first_moment.clone(),
            },
            StateVector {
                name: "second_moment".to_owned(),
                values: self.second_moment.clone(),
            },
        ]
    }

    fn restore(&mut self, state: &[StateVector]) -> Result<(), StrategyStateError> {
        let mut targets = [
            ("first_moment", &mut self.first_moment),
            ("second_moment", &mut self.second_moment),
        ];
        restore_into(&mut targets, state)
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "numbers that must be the very same")]
mod tests {
    use super::*;

    /// Values from the recursion worked by hand: β₁ = 0.5, β₂ = 0.75, η = 0.1, τ = 0.5, releases 1 and −1.
    #[test]
    fn two_steps_by_hand() {
        let mut strategy = FedAdam::new(1, 0.1, 0.5, 0.75, 0.5).unwrap();
        let mut parameters = [0.0];
        strategy.step(&mut parameters, &[1.0]);
        // m = 0.5, v = 0.75·0.25 + 0.25 = 0.4375; step 0.1·0.5/(0.661438 + 0.5) = 0.043050
        assert!((parameters[0] - 0.043_050).abs() < 1e-6, "{parameters:?}");
        strategy.step(&mut parameters, &[-1.0]);
        // m = 0.25 − 0.5 = −0.25, v = 0.328125 + 0.25 = 0.578125; step −0.025/(0.760345 + 0.5) = −0.019836
        assert!((parameters[0] - 0.023_214).abs() < 1e-6, "{parameters:?}");
    }

    #[test]
    fn state_goes_out_and_in() {
        let mut one = FedAdam::new(2, 0.1, 0.9, 0.99, 1e-3).unwrap();
        let mut parameters = [0.0, 1.0];
        one.step(&mut parameters, &[0.5, -0.25]);
        let mut other = FedAdam::new(2, 0.1, 0.9, 0.99, 1e-3).unwrap();
        other.restore(&one.state()).unwrap();
        let mut copy = parameters;
        one.step(&mut parameters, &[0.1, 0.1]);
        other.step(&mut copy, &[0.1, 0.1]);
        assert_eq!(parameters, copy);
        let error = other.restore(&one.state()[..1]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the strategy's state does not fit: expected first_moment (2), second_moment (2), got first_moment (2)"
        );
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        for (settings, key) in [
            ([0.0, 0.9, 0.99, 1e-3], "learning_rate"),
            ([0.1, 1.0, 0.99, 1e-3], "beta_1"),
            ([0.1, 0.9, f64::NAN, 1e-3], "beta_2"),
            ([0.1, 0.9, 0.99, -1.0], "tau"),
        ] {
            let [rate, beta_1, beta_2, tau] = settings;
            let error = FedAdam::new(1, rate, beta_1, beta_2, tau).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
