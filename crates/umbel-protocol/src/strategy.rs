//! What the server does with a release: post-processing, free of privacy cost.

mod fedadam;
mod fedavg;

use std::fmt;

use fedadam::FedAdam;
use fedavg::FedAvg;

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
}

impl StrategySpec {
    /// Builds the strategy for a model of `dimension` parameters.
    pub fn build(self, dimension: usize) -> Result<Box<dyn Strategy>, PlanError> {
        match self {
            Self::FedAdam {
                learning_rate,
                beta_1,
                beta_2,
                tau,
            } => Ok(Box::new(FedAdam::new(
                dimension,
                learning_rate,
                beta_1,
                beta_2,
                tau,
            )?)),
            Self::FedAvg => Ok(Box::new(FedAvg)),
        }
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
