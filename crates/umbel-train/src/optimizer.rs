//! How parameters follow a gradient.

use crate::local::SettingError;

/// A rule that turns gradients into steps.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Optimizer {
    /// Adaptive moments.
    Adam(Adam),
    /// Stochastic gradient descent with a velocity.
    Momentum(Momentum),
    /// Plain stochastic gradient descent.
    Sgd(Sgd),
}

/// Settings of plain stochastic gradient descent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    learning_rate: f32,
}

/// Settings of gradient descent with momentum (Polyak 1964): v ← β v + g, θ ← θ - η v.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Momentum {
    learning_rate: f32,
    momentum: f32,
}

/// Settings of Adam (Kingma and Ba 2015, algorithm 1):
///
/// ```text
/// m ← β₁ m + (1 - β₁) g      v ← β₂ v + (1 - β₂) g²      θ ← θ - η m̂ / (√v̂ + ε)
/// ```
///
/// with m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) in step t. With a weight decay λ it is AdamW (Loshchilov and Hutter 2019): each step
/// first multiplies θ by 1 - η λ, beside the gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    learning_rate: f32,
    beta_1: f32,
    beta_2: f32,
    epsilon: f32,
    weight_decay: f32,
}

impl Sgd {
    /// Descent with this step size. A larger one learns faster and diverges sooner.
    pub fn new(learning_rate: f32) -> Result<Self, SettingError> {
        Ok(Self {
            learning_rate: checked_rate(learning_rate)?,
        })
    }

    /// The step size.
    pub fn learning_rate(&self) -> f32 {
        self.learning_rate
    }
}

impl Momentum {
    /// Descent with this step size, and a velocity of which `momentum`, at least 0 and below 1, is kept from step to step.
    pub fn new(learning_rate: f32, momentum: f32) -> Result<Self, SettingError> {
        Ok(Self {
            learning_rate: checked_rate(learning_rate)?,
            momentum: checked_decay("momentum", momentum)?,
        })
    }
}

impl Adam {
    /// Adam with this step size and the paper's other settings: β₁ 0.9, β₂ 0.999, ε 1e-8.
    pub fn new(learning_rate: f32) -> Result<Self, SettingError> {
        Ok(Self {
            learning_rate: checked_rate(learning_rate)?,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        })
    }

    /// The same with these decays of the moments, each at least 0 and below 1.
    pub fn with_betas(self, beta_1: f32, beta_2: f32) -> Result<Self, SettingError> {
        Ok(Self {
            beta_1: checked_decay("beta_1", beta_1)?,
            beta_2: checked_decay("beta_2", beta_2)?,
            ..self
        })
    }

    /// The same with this ε, above 0; Keras has 1e-7.
    pub fn with_epsilon(self, epsilon: f32) -> Result<Self, SettingError> {
        if !(epsilon.is_finite() && epsilon > 0.0) {
            return Err(SettingError::Epsilon { got: epsilon });
        }
        Ok(Self { epsilon, ..self })
    }

    /// The same with this decoupled weight decay, at least 0: AdamW.
    pub fn with_weight_decay(self, weight_decay: f32) -> Result<Self, SettingError> {
        Ok(Self {
            weight_decay: checked_penalty("weight_decay", weight_decay)?,
            ..self
        })
    }
}

fn checked_rate(learning_rate: f32) -> Result<f32, SettingError> {
    if learning_rate.is_finite() && learning_rate > 0.0 {
        Ok(learning_rate)
    } else {
        Err(SettingError::LearningRate { got: learning_rate })
    }
}

fn checked_decay(name: &'static str, decay: f32) -> Result<f32, SettingError> {
    if (0.0..1.0).contains(&decay) {
        Ok(decay)
    } else {
        Err(SettingError::Decay { name, got: decay })
    }
}

/// A weight of at least 0.
pub(crate) fn checked_penalty(name: &'static str, weight: f32) -> Result<f32, SettingError> {
    if weight.is_finite() && weight >= 0.0 {
        Ok(weight)
    } else {
        Err(SettingError::Penalty { name, got: weight })
    }
}

/// What an optimizer remembers from step to step.
#[derive(Debug, Default)]
pub struct OptimizerState {
    first: Vec<f32>,
    second: Vec<f32>,
    /// Steps taken; more than matter to Adam's correction are not counted.
    step: i32,
}

impl OptimizerState {
    /// A state for no model yet; see [`reset`](Self::reset).
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything, for a model of `n_parameters`.
    pub fn reset(&mut self, n_parameters: usize) {
        for moment in [&mut self.first, &mut self.second] {
            moment.clear();
            moment.resize(n_parameters, 0.0);
        }
        self.step = 0;
    }
}

impl Optimizer {
    /// Moves `parameters` one step along `gradient`.
    ///
    /// # Panics
    ///
    /// Where the slices, or the state as it was reset, have different lengths.
    pub fn step(&self, state: &mut OptimizerState, parameters: &mut [f32], gradient: &[f32]) {
        assert_eq!(parameters.len(), gradient.len(), "length of the gradient");
        state.step = state.step.saturating_add(1);
        if !matches!(self, Self::Sgd(_)) {
            assert_eq!(
                parameters.len(),
                state.first.len(),
                "length of the optimizer's state"
            );
        }
        match *self {
            Self::Sgd(Sgd { learning_rate }) => {
                for (parameter, slope) in parameters.iter_mut().zip(gradient) {
                    *parameter -= learning_rate * slope;
                }
            }
            Self::Momentum(Momentum {
                learning_rate,
                momentum,
            }) => {
                let velocities = parameters.iter_mut().zip(&mut state.first);
                for ((parameter, velocity), slope) in velocities.zip(gradient) {
                    *velocity = momentum * *velocity + slope;
                    *parameter -= learning_rate * *velocity;
                }
            }
            Self::Adam(adam) => {
                let keep = 1.0 - adam.learning_rate * adam.weight_decay;
                let rate = adam.learning_rate / (1.0 - adam.beta_1.powi(state.step));
                let correction = 1.0 / (1.0 - adam.beta_2.powi(state.step));
                let moments = state.first.iter_mut().zip(&mut state.second);
                for ((parameter, (first, second)), slope) in parameters.iter_mut().zip(moments).zip(gradient)
                {
                    *first = adam.beta_1 * *first + (1.0 - adam.beta_1) * slope;
                    *second = adam.beta_2 * *second + (1.0 - adam.beta_2) * slope * slope;
                    let scale = (*second * correction).sqrt() + adam.epsilon;
                    *parameter = keep * *parameter - rate * *first / scale;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three steps along (0.5, -1, 2) k - 0.3 θ from θ = (1, -2, 0.5), by PyTorch 2.15.0 in double precision (`optim.SGD`,
    /// `Adam` and `AdamW` with rate 0.1, momentum 0.9, β 0.9 and 0.99, ε 1e-8, weight decay 0.2).
    #[test]
    fn three_steps_are_those_of_another_implementation() {
        let adam = Adam::new(0.1).unwrap().with_betas(0.9, 0.99).unwrap();
        for (optimizer, expected) in [
            (
                Optimizer::Momentum(Momentum::new(0.1, 0.9).unwrap()),
                [0.688_402, -1.376_804, -1.350_656_5],
            ),
            (
                Optimizer::Adam(adam),
                [0.720_598_873, -1.720_222_607, 0.209_079_886],
            ),
            (
                Optimizer::Adam(adam.with_weight_decay(0.2).unwrap()),
                [0.667_681_284, -1.608_509_395, 0.185_568_543],
            ),
        ] {
            let mut parameters = [1.0, -2.0, 0.5];
            let mut state = OptimizerState::new();
            state.reset(3);
            for k in [1.0, 2.0, 3.0] {
                let mut gradient = [0.5 * k, -k, 2.0 * k];
                for (slope, parameter) in gradient.iter_mut().zip(&parameters) {
                    *slope -= 0.3 * parameter;
                }
                optimizer.step(&mut state, &mut parameters, &gradient);
            }
            for (got, expected) in parameters.iter().zip(expected) {
                assert!(
                    (f64::from(*got) - expected).abs() < 1e-6,
                    "{optimizer:?}: {parameters:?}"
                );
            }
        }
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        for rate in [0.0, -0.1, f32::NAN, f32::INFINITY] {
            assert!(Sgd::new(rate).is_err() && Adam::new(rate).is_err() && Momentum::new(rate, 0.5).is_err());
        }
        let adam = Adam::new(0.1).unwrap();
        for decay in [-0.1, 1.0, f32::NAN] {
            assert!(Momentum::new(0.1, decay).is_err() && adam.with_betas(decay, 0.9).is_err());
            let error = adam.with_betas(0.9, decay).unwrap_err().to_string();
            assert!(error.contains("beta_2 must be at least 0 and below 1"), "{error}");
        }
        assert!(adam.with_epsilon(0.0).is_err() && adam.with_weight_decay(-1.0).is_err());
    }
}
