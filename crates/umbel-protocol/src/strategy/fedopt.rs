//! Adaptive steps on the server: FedAdagrad, FedAdam and FedYogi.

use super::{StateVector, Strategy, StrategyStateError, checked, restore_into};
use crate::PlanError;

/// How the second moment v takes in the square of a release.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum SecondMoment {
    /// v ← v + Δ².
    Adagrad,
    /// v ← β₂ v + (1 − β₂) Δ².
    Adam {
        /// β₂.
        decay: f64,
    },
    /// v ← v − (1 − β₂) Δ² sign(v − Δ²): as Adam, but v falls by no more than a share of Δ² at a time.
    Yogi {
        /// β₂.
        decay: f64,
    },
}

/// Reddi et al. 2021 ("Adaptive federated optimization", arXiv 2003.00295), Algorithm 2: with the release Δ,
/// m ← β₁ m + (1 − β₁) Δ, v by the rule of the strategy, x ← x + η m / (√v + τ). As in the paper v begins at τ² and there is no bias
/// correction.
#[derive(Debug, Clone)]
pub(super) struct FedOpt {
    beta_1: f32,
    /// β₂; without influence for Adagrad.
    beta_2: f32,
    rule: SecondMoment,
    learning_rate: f32,
    tau: f32,
    first_moment: Vec<f32>,
    second_moment: Vec<f32>,
}

impl FedOpt {
    /// For a model of `dimension` parameters. Rates above 0, decays in [0, 1).
    pub(super) fn new(
        dimension: usize,
        rule: SecondMoment,
        learning_rate: f64,
        beta_1: f64,
        tau: f64,
    ) -> Result<Self, PlanError> {
        let positive = "a finite number above 0";
        let decay = "a number of at least 0 and below 1";
        let beta_2 = match rule {
            SecondMoment::Adagrad => 0.0,
            SecondMoment::Adam { decay } | SecondMoment::Yogi { decay } => decay,
        };
        let tau = checked("federation.strategy.tau", tau, tau > 0.0, positive)?;
        let is_decay = |value| (0.0..1.0).contains(&value);
        Ok(Self {
            beta_1: checked("federation.strategy.beta_1", beta_1, is_decay(beta_1), decay)?,
            beta_2: checked("federation.strategy.beta_2", beta_2, is_decay(beta_2), decay)?,
            rule,
            learning_rate: checked(
                "federation.strategy.learning_rate",
                learning_rate,
                learning_rate > 0.0,
                positive,
            )?,
            tau,
            first_moment: vec![0.0; dimension],
            second_moment: vec![tau * tau; dimension],
        })
    }
}

impl Strategy for FedOpt {
    fn step(&mut self, parameters: &mut [f32], release: &[f32]) {
        let moments = self.first_moment.iter_mut().zip(&mut self.second_moment);
        for ((parameter, change), (first, second)) in parameters.iter_mut().zip(release).zip(moments) {
            let square = change * change;
            *first = self.beta_1 * *first + (1.0 - self.beta_1) * change;
            *second = match self.rule {
                SecondMoment::Adagrad => *second + square,
                SecondMoment::Adam { .. } => self.beta_2 * *second + (1.0 - self.beta_2) * square,
                SecondMoment::Yogi { .. } => {
                    let step = (1.0 - self.beta_2) * square;
                    // Where both are equal the paper's sign is 0.
                    match (*second).total_cmp(&square) {
                        std::cmp::Ordering::Less => *second + step,
                        std::cmp::Ordering::Equal => *second,
                        std::cmp::Ordering::Greater => *second - step,
                    }
                }
            };
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

    const ADAM: SecondMoment = SecondMoment::Adam { decay: 0.75 };

    /// Values from the recursions worked by hand: β₁ = 0.5, β₂ = 0.75, η = 0.1, τ = 0.5, releases 1 and −1.
    #[test]
    fn two_steps_by_hand() {
        // The first moment is 0.5, then 0.25 − 0.5 = −0.25, under each rule; v begins at 0.25.
        for (rule, after) in [
            // v = 0.75·0.25 + 0.25 = 0.4375; step 0.1·0.5/(0.661438 + 0.5) = 0.043050
            // v = 0.328125 + 0.25 = 0.578125; step −0.025/(0.760345 + 0.5) = −0.019836
            (ADAM, [0.043_050, 0.023_214]),
            // v = 1.25; step 0.05/(1.118034 + 0.5) = 0.030902; v = 2.25; step −0.025/(1.5 + 0.5) = −0.0125
            (SecondMoment::Adagrad, [0.030_902, 0.018_402]),
            // v = 0.25 + 0.25 = 0.5; step 0.05/(0.707107 + 0.5) = 0.041421
            // v = 0.75; step −0.025/(0.866025 + 0.5) = −0.018301
            (SecondMoment::Yogi { decay: 0.75 }, [0.041_421, 0.023_120]),
        ] {
            let mut strategy = FedOpt::new(1, rule, 0.1, 0.5, 0.5).unwrap();
            let mut parameters = [0.0];
            for (release, expected) in [1.0, -1.0].into_iter().zip(after) {
                strategy.step(&mut parameters, &[release]);
                assert!(
                    (parameters[0] - expected).abs() < 1e-6,
                    "{rule:?}: {parameters:?}"
                );
            }
        }
    }

    /// β₂ = 0.75: from v = 4, Δ = 1 takes Yogi's v to 4 − 0.25 and Adam's to 3.25; Δ = 2 leaves Yogi's where it is.
    #[test]
    fn yogi_lets_the_second_moment_fall_slowly() {
        for (rule, release, expected) in [
            (SecondMoment::Yogi { decay: 0.75 }, 1.0, 3.75),
            (ADAM, 1.0, 3.25),
            (SecondMoment::Yogi { decay: 0.75 }, 2.0, 4.0),
            (SecondMoment::Yogi { decay: 0.75 }, 3.0, 6.25),
        ] {
            let mut strategy = FedOpt::new(1, rule, 0.1, 0.5, 2.0).unwrap();
            strategy.step(&mut [0.0], &[release]);
            assert_eq!(strategy.second_moment, [expected], "{rule:?}, {release}");
        }
    }

    #[test]
    fn state_goes_out_and_in() {
        for rule in [ADAM, SecondMoment::Adagrad, SecondMoment::Yogi { decay: 0.9 }] {
            let mut one = FedOpt::new(2, rule, 0.1, 0.9, 1e-3).unwrap();
            let mut parameters = [0.0, 1.0];
            one.step(&mut parameters, &[0.5, -0.25]);
            let mut other = FedOpt::new(2, rule, 0.1, 0.9, 1e-3).unwrap();
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
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        for (settings, key) in [
            ([0.0, 0.9, 0.99, 1e-3], "learning_rate"),
            ([0.1, 1.0, 0.99, 1e-3], "beta_1"),
            ([0.1, 0.9, f64::NAN, 1e-3], "beta_2"),
            ([0.1, 0.9, 0.99, -1.0], "tau"),
        ] {
            let [rate, beta_1, decay, tau] = settings;
            let error = FedOpt::new(1, SecondMoment::Adam { decay }, rate, beta_1, tau).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
