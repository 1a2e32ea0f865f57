//! `training.optimizer`: how a client's parameters follow its gradients.

use toml::{Table, Value};

use super::layers::OPTIMIZER;
use super::section::{Section, SettingError};

/// `[training.optimizer]`, without its learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum OptimizerSettings {
    /// Adaptive moments; with a decoupled weight decay, of kind `adamw`.
    Adam {
        /// Decay of the first moment; 0.9 if absent.
        beta_1: f64,
        /// Decay of the second moment; 0.999 if absent.
        beta_2: f64,
        /// Added to the root of the second moment; 1e-8 if absent.
        epsilon: f64,
        /// Of kind `adamw`, 0.01 if absent; none of kind `adam`.
        weight_decay: Option<f64>,
    },
    /// Stochastic gradient descent.
    Sgd {
        /// Share of the velocity that is kept from step to step; 0 if absent.
        momentum: f64,
    },
}

impl OptimizerSettings {
    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Adam {
                weight_decay: None, ..
            } => "adam",
            Self::Adam { .. } => "adamw",
            Self::Sgd { .. } => "sgd",
        }
    }

    pub(super) fn to_value(self, learning_rate: f64) -> Value {
        let mut pairs: Vec<(&str, Value)> = vec![
            ("kind", self.kind().into()),
            ("learning_rate", learning_rate.into()),
        ];
        match self {
            Self::Adam {
                beta_1,
                beta_2,
                epsilon,
                weight_decay,
            } => {
                pairs.extend([
                    ("beta_1", beta_1.into()),
                    ("beta_2", beta_2.into()),
                    ("epsilon", epsilon.into()),
                ]);
                pairs.extend(weight_decay.map(|decay| ("weight_decay", decay.into())));
            }
            // As it was written before there was momentum, byte for byte.
            Self::Sgd { momentum } if momentum > 0.0 => pairs.push(("momentum", momentum.into())),
            Self::Sgd { .. } => {}
        }
        let pairs = pairs.into_iter().map(|(key, value)| (key.to_owned(), value));
        Value::Table(pairs.collect::<Table>())
    }
}

/// Reads `optimizer` of `training`: the learning rate, and the rest.
pub(super) fn read(training: &mut Section) -> Result<(f64, OptimizerSettings), SettingError> {
    let section = training.kind_section("optimizer", OPTIMIZER)?;
    let (kind, mut section) = training.require("optimizer", "a table with a `kind`", section)?;
    let expected = "a finite number above 0";
    let positive = |value: f64| value > 0.0 && value.is_finite();
    let decay = |value: f64| (0.0..1.0).contains(&value);
    let expected_decay = "a number of at least 0 and below 1";
    let rate = section.number("learning_rate", expected, positive)?;
    let learning_rate = section.require("learning_rate", expected, rate)?;
    let settings = match kind {
        "sgd" => OptimizerSettings::Sgd {
            momentum: section.number("momentum", expected_decay, decay)?.unwrap_or(0.0),
        },
        _ => OptimizerSettings::Adam {
            beta_1: section.number("beta_1", expected_decay, decay)?.unwrap_or(0.9),
            beta_2: section.number("beta_2", expected_decay, decay)?.unwrap_or(0.999),
            epsilon: section.number("epsilon", expected, positive)?.unwrap_or(1e-8),
            weight_decay: match kind {
                "adamw" => Some(penalty(&mut section, "weight_decay")?.unwrap_or(0.01)),
                _ => None,
            },
        },
    };
    Ok((learning_rate, settings))
}

/// The weight of a penalty.
pub(super) fn penalty(section: &mut Section, key: &str) -> Result<Option<f64>, SettingError> {
    let allowed = |value: f64| value >= 0.0 && value.is_finite();
    section.number(key, "a finite number of at least 0", allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(f64, OptimizerSettings), SettingError> {
        let table: Table = format!("optimizer = {{ {text} }}").parse().unwrap();
        read(&mut Section::new("training", table, &["optimizer"]).unwrap())
    }

    #[test]
    fn every_kind_reads_back_what_it_writes() {
        for text in [
            "kind = \"sgd\", learning_rate = 0.1",
            "kind = \"sgd\", learning_rate = 0.1, momentum = 0.9",
            "kind = \"adam\", learning_rate = 0.001",
            "kind = \"adam\", learning_rate = 0.001, beta_1 = 0.8, beta_2 = 0.9, epsilon = 1e-7",
            "kind = \"adamw\", learning_rate = 0.001",
            "kind = \"adamw\", learning_rate = 0.001, weight_decay = 0",
        ] {
            let (learning_rate, settings) = parse(text).unwrap();
            let Value::Table(table) = settings.to_value(learning_rate) else {
                panic!("a table");
            };
            let written: Vec<_> = table
                .iter()
                .map(|(key, value)| format!("{key} = {value}"))
                .collect();
            assert_eq!(
                parse(&written.join(", ")).unwrap(),
                (learning_rate, settings),
                "{text}"
            );
        }
    }

    #[test]
    fn what_a_kind_does_not_know_is_refused_by_name() {
        for (text, part) in [
            ("kind = \"sgd\"", "`training.optimizer.learning_rate` is missing"),
            (
                "kind = \"sgd\", learning_rate = 1, beta_1 = 0.9",
                "unknown setting `training.optimizer.beta_1`",
            ),
            (
                "kind = \"adam\", learning_rate = 1, weight_decay = 0.1",
                "unknown setting",
            ),
            (
                "kind = \"adam\", learning_rate = 1, beta_2 = 1.0",
                "at least 0 and below 1",
            ),
            (
                "kind = \"lion\", learning_rate = 1",
                "`training.optimizer.kind` must be",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
