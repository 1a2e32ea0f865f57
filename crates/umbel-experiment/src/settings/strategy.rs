//! `[federation.strategy]`: what the server does with releases, and what the clients do for it.

use toml::Value;

use super::layers::STRATEGY;
use super::section::{Section, SettingError};

/// `[federation.strategy]`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum StrategySettings {
    /// Adaptive steps whose sizes only fall.
    FedAdagrad {
        /// Server step size.
        learning_rate: f64,
        /// Decay of the first moment.
        beta_1: f64,
        /// Degree of adaptivity.
        tau: f64,
    },
    /// Adaptive moments.
    FedAdam {
        /// Server step size.
        learning_rate: f64,
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Degree of adaptivity.
        tau: f64,
    },
    /// The plain mean.
    FedAvg,
    /// The mean with momentum.
    FedAvgM {
        /// Server step size.
        learning_rate: f64,
        /// Share of the last step that is kept.
        momentum: f64,
    },
    /// The plain mean of clients that are held near the global model (Li et al. 2020).
    FedProx {
        /// Weight μ of the proximal term.
        mu: f64,
    },
    /// Adaptive moments of which the second falls slowly.
    FedYogi {
        /// Server step size.
        learning_rate: f64,
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Degree of adaptivity.
        tau: f64,
    },
}

impl StrategySettings {
    /// The name of its kind.
    pub fn kind(self) -> &'static str {
        match self {
            Self::FedAdagrad { .. } => "fedadagrad",
            Self::FedAdam { .. } => "fedadam",
            Self::FedAvg => "fedavg",
            Self::FedAvgM { .. } => "fedavgm",
            Self::FedProx { .. } => "fedprox",
            Self::FedYogi { .. } => "fedyogi",
        }
    }

    pub(super) fn to_value(self) -> Value {
        let numbers = match self {
            Self::FedAdagrad {
                learning_rate,
                beta_1,
                tau,
            } => vec![("learning_rate", learning_rate), ("beta_1", beta_1), ("tau", tau)],
            Self::FedAdam {
                learning_rate,
                beta_1,
                beta_2,
                tau,
            }
            | Self::FedYogi {
                learning_rate,
                beta_1,
                beta_2,
                tau,
            } => vec![
                ("learning_rate", learning_rate),
                ("beta_1", beta_1),
                ("beta_2", beta_2),
                ("tau", tau),
            ],
            Self::FedAvg => Vec::new(),
            Self::FedAvgM {
                learning_rate,
                momentum,
            } => vec![("learning_rate", learning_rate), ("momentum", momentum)],
            Self::FedProx { mu } => vec![("mu", mu)],
        };
        let kind = ("kind".to_owned(), self.kind().into());
        let numbers = numbers
            .into_iter()
            .map(|(key, number)| (key.to_owned(), number.into()));
        Value::Table(std::iter::once(kind).chain(numbers).collect())
    }
}

/// Reads `strategy`; the plain mean where it is absent.
pub(super) fn strategy(section: &mut Section) -> Result<StrategySettings, SettingError> {
    let Some((kind, mut strategy)) = section.kind_section("strategy", STRATEGY)? else {
        return Ok(StrategySettings::FedAvg);
    };
    let expected = "a finite number above 0";
    let positive = |value: f64| value > 0.0 && value.is_finite();
    let decay = |strategy: &mut Section, key: &str, default: f64| -> Result<f64, SettingError> {
        let expected = "a number of at least 0 and below 1";
        Ok(strategy
            .number(key, expected, |value| (0.0..1.0).contains(&value))?
            .unwrap_or(default))
    };
    let rate = |strategy: &mut Section| {
        let rate = strategy.number("learning_rate", expected, positive)?;
        strategy.require("learning_rate", expected, rate)
    };
    let tau = |strategy: &mut Section| Ok(strategy.number("tau", expected, positive)?.unwrap_or(1e-3));
    Ok(match kind {
        "fedadagrad" => StrategySettings::FedAdagrad {
            learning_rate: rate(&mut strategy)?,
            beta_1: decay(&mut strategy, "beta_1", 0.0)?,
            tau: tau(&mut strategy)?,
        },
        "fedadam" => StrategySettings::FedAdam {
            learning_rate: rate(&mut strategy)?,
            beta_1: decay(&mut strategy, "beta_1", 0.9)?,
            beta_2: decay(&mut strategy, "beta_2", 0.99)?,
            tau: tau(&mut strategy)?,
        },
        "fedavgm" => StrategySettings::FedAvgM {
            learning_rate: strategy
                .number("learning_rate", expected, positive)?
                .unwrap_or(1.0),
            momentum: decay(&mut strategy, "momentum", 0.9)?,
        },
        "fedprox" => {
            let mu = strategy.number("mu", expected, positive)?;
            StrategySettings::FedProx {
                mu: strategy.require("mu", expected, mu)?,
            }
        }
        "fedyogi" => StrategySettings::FedYogi {
            learning_rate: rate(&mut strategy)?,
            beta_1: decay(&mut strategy, "beta_1", 0.9)?,
            beta_2: decay(&mut strategy, "beta_2", 0.99)?,
            tau: tau(&mut strategy)?,
        },
        _ => StrategySettings::FedAvg,
    })
}
