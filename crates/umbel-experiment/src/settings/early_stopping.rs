//! `[federation.early_stopping]`: when a run ends before its last round.

use toml::{Table, Value};

use super::section::{Section, SettingError};
use super::{DataSettings, whole};

/// `[federation.early_stopping]`: the run ends once so many rounds have gone by without a better value on `data.validation`, which is
/// public. What it costs is the ε of all planned rounds: where a run ends by what it released is an outcome like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlyStopping {
    /// Rounds without a better value after which the run ends, at least 1.
    pub patience: u64,
    /// Which value.
    pub monitor: Monitor,
}

/// What early stopping looks at, on the validation set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_enums, reason = "whoever watches a run must handle all")]
pub enum Monitor {
    /// The share of examples that is classified rightly, of which more is better.
    Accuracy,
    /// The mean loss, of which less is better.
    #[default]
    Loss,
}

impl EarlyStopping {
    pub(super) fn to_value(self) -> Value {
        let monitor = match self.monitor {
            Monitor::Accuracy => "accuracy",
            Monitor::Loss => "loss",
        };
        let pairs = [("patience", whole(self.patience)), ("monitor", monitor.into())];
        Value::Table(
            pairs
                .map(|(key, value)| (key.to_owned(), value))
                .into_iter()
                .collect::<Table>(),
        )
    }

    /// Whether a run ends after rounds with these values of `(loss, accuracy)` on the validation set, in order. A value that is no
    /// number is never better.
    pub fn ends(&self, rounds: impl IntoIterator<Item = (f64, f64)>) -> bool {
        let mut best = f64::NEG_INFINITY;
        let mut without = 0;
        for (loss, accuracy) in rounds {
            let value = match self.monitor {
                Monitor::Accuracy => accuracy,
                Monitor::Loss => -loss,
            };
            if value > best {
                (best, without) = (value, 0);
            } else {
                without += 1;
            }
        }
        without >= self.patience
    }
}

/// Reads `early_stopping` of `[federation]`.
pub(super) fn read(federation: &mut Section) -> Result<Option<EarlyStopping>, SettingError> {
    let Some(mut section) = federation.section("early_stopping", &["monitor", "patience"])? else {
        return Ok(None);
    };
    let patience = section.count("patience", 1)?;
    let patience = section.require(
        "patience",
        "the number of rounds without a better value after which the run ends",
        patience,
    )?;
    let expected = "\"loss\" or \"accuracy\", on the public `data.validation`";
    let monitor = match section.text("monitor", expected)?.as_deref() {
        None | Some("loss") => Monitor::Loss,
        Some("accuracy") => Monitor::Accuracy,
        Some(other) => return section.refuse("monitor", expected, format!("\"{other}\"")),
    };
    Ok(Some(EarlyStopping { patience, monitor }))
}

/// Whether to stop must be decided on public examples, and only there.
pub(super) fn check(early_stopping: Option<EarlyStopping>, data: &DataSettings) -> Result<(), SettingError> {
    let conflict =
        |second: &str, reason: &str| Err(SettingError::conflict("data.validation.examples", second, reason));
    match (early_stopping, &data.validation) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(SettingError::Missing {
            key: "data.validation".to_owned(),
            expected: "public examples on which early stopping decides: on clients' data it would tell of them outside of every ε, and \
                       on the test set that would no longer test"
                .to_owned(),
        }),
        (None, Some(_)) => Err(SettingError::Missing {
            key: "federation.early_stopping".to_owned(),
            expected: "a table with `patience`: nothing else uses `data.validation`".to_owned(),
        }),
        (Some(_), Some(validation)) if same_file(&validation.examples, &data.train.examples) => conflict(
            "data.train.examples",
            "early stopping on clients' data would tell of them outside of every ε; name public examples",
        ),
        (Some(_), Some(validation)) if same_file(&validation.examples, &data.test.examples) => conflict(
            "data.test.examples",
            "a test set on which something was chosen no longer tests; name other public examples",
        ),
        _ => Ok(()),
    }
}

/// Whether two paths lead to one file, links followed where the files are there.
fn same_file(left: &std::path::Path, right: &std::path::Path) -> bool {
    let resolved = |path: &std::path::Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    resolved(left) == resolved(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_after_so_many_rounds_without_a_better_value() {
        let ends = |monitor, values: &[f64]| {
            let stopping = EarlyStopping { patience: 2, monitor };
            stopping.ends(values.iter().map(|&value| (value, value)))
        };
        assert!(!ends(Monitor::Loss, &[]));
        assert!(!ends(Monitor::Loss, &[3.0, 2.0, 2.5]));
        assert!(
            ends(Monitor::Loss, &[3.0, 2.0, 2.5, 2.0]),
            "as good is not better"
        );
        assert!(!ends(Monitor::Loss, &[3.0, 2.0, 2.5, 1.9]));
        assert!(ends(Monitor::Accuracy, &[0.5, 0.6, 0.6, 0.5]));
        assert!(!ends(Monitor::Accuracy, &[0.5, 0.6, 0.5, 0.7]));
        assert!(
            ends(Monitor::Loss, &[f64::NAN, f64::NAN]),
            "a model that diverged is not waited for"
        );
    }
}
