//! What the server does with a release: post-processing, free of privacy cost.

mod fedavg;
mod fedavgm;
mod fedopt;

use std::fmt;

use fedavg::FedAvg;
use fedavgm::FedAvgM;
use fedopt::{FedOpt, SecondMoment};

use crate::PlanError;

/// Moves the global model by one release. A strategy sees releases only, never updates.
pub trait Strategy: fmt::Debug + Send {
    /// Takes one step: `release` is the noised sum divided by the planned cohort, of the length of `parameters`.
    fn step(&mut self, parameters: &mut [f32], release: &[f32]);

    /// What the strategy remembers between rounds, for a checkpoint.
    fn state(&self) -> Vec<StateVector>;

    /// Takes back what [`state`](Self::state) gave.
    fn restore(&mut self, state: &[StateVector]) -> Result<(), StrategyStateError>;
}

/// A named vector of a strategy's memory.
#[derive(Debug, Clone, PartialEq)]
pub struct StateVector {
    /// Its name.
    pub name: String,
    /// Its values, of the length of the model.
    pub values: Vec<f32>,
}

/// State that belongs to another strategy or another model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the strategy's state does not fit: expected {expected}, got {got}")]
pub struct StrategyStateError {
    /// Names and lengths that were expected.
    pub expected: String,
    /// Names and lengths that came.
    pub got: String,
}

/// Which strategy, with its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum StrategySpec {
    /// Adaptive steps whose sizes only fall (Reddi et al. 2021).
    FedAdagrad {
        /// Server step size, above 0.
        learning_rate: f64,
        /// Decay of the first moment, in [0, 1).
        beta_1: f64,
        /// Degree of adaptivity τ, above 0; also the root of the initial second moment.
        tau: f64,
    },
    /// Adaptive moments (Reddi et al. 2021).
    FedAdam {
        /// Server step size, above 0.
        learning_rate: f64,
        /// Decay of the first moment, in [0, 1).
        beta_1: f64,
        /// Decay of the second moment, in [0, 1).
        beta_2: f64,
        /// Degree of adaptivity τ, above 0; also the root of the initial second moment.
        tau: f64,
    },
    /// The plain mean (McMahan et al. 2017).
    FedAvg,
    /// The mean with momentum (Hsu et al. 2019).
    FedAvgM {
        /// Server step size, above 0.
        learning_rate: f64,
        /// Share of the last step that is kept, in [0, 1).
        momentum: f64,
    },
    /// Adaptive steps whose second moment falls slowly (Reddi et al. 2021).
    FedYogi {
        /// Server step size, above 0.
        learning_rate: f64,
        /// Decay of the first moment, in [0, 1).
        beta_1: f64,
        /// Decay of the second moment, in [0, 1).
        beta_2: f64,
        /// Degree of adaptivity τ, above 0; also the root of the initial second moment.
        tau: f64,
    },
}

impl StrategySpec {
    /// Builds the strategy for a model of `dimension` parameters.
    pub fn build(self, dimension: usize) -> Result<Box<dyn Strategy>, PlanError> {
        let adaptive = |rule, learning_rate, beta_1, tau| -> Result<Box<dyn Strategy>, PlanError> {
            Ok(Box::new(FedOpt::new(
                dimension,
                rule,
                learning_rate,
                beta_1,
                tau,
            )?))
        };
        match self {
            Self::FedAdagrad {
                learning_rate,
                beta_1,
                tau,
            } => adaptive(SecondMoment::Adagrad, learning_rate, beta_1, tau),
            Self::FedAdam {
                learning_rate,
                beta_1,
                beta_2: decay,
                tau,
            } => adaptive(SecondMoment::Adam { decay }, learning_rate, beta_1, tau),
            Self::FedAvg => Ok(Box::new(FedAvg)),
            Self::FedAvgM {
                learning_rate,
                momentum,
            } => Ok(Box::new(FedAvgM::new(dimension, learning_rate, momentum)?)),
            Self::FedYogi {
                learning_rate,
                beta_1,
                beta_2: decay,
                tau,
            } => adaptive(SecondMoment::Yogi { decay }, learning_rate, beta_1, tau),
        }
    }
}

/// A setting in single precision, if `holds`.
fn checked(key: &'static str, value: f64, holds: bool, expected: &str) -> Result<f32, PlanError> {
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
}

/// Copies state vectors of the given names into `targets`, or says what does not fit.
fn restore_into(
    targets: &mut [(&str, &mut Vec<f32>)],
    state: &[StateVector],
) -> Result<(), StrategyStateError> {
    let fits = state.len() == targets.len()
        && state
            .iter()
            .zip(targets.iter())
            .all(|(came, (name, target))| came.name == *name && came.values.len() == target.len());
    if !fits {
        let describe = |name: &str, length: usize| format!("{name} ({length})");
        let list = |parts: Vec<String>| {
            if parts.is_empty() {
                "nothing".to_owned()
            } else {
                parts.join(", ")
            }
        };
        return Err(StrategyStateError {
            expected: list(
                targets
                    .iter()
                    .map(|(name, target)| describe(name, target.len()))
                    .collect(),
            ),
            got: list(
                state
                    .iter()
                    .map(|came| describe(&came.name, came.values.len()))
                    .collect(),
            ),
        });
    }
    for ((_, target), came) in targets.iter_mut().zip(state) {
        target.copy_from_slice(&came.values);
    }
    Ok(())
}
