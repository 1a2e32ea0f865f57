//! `[privacy.budget]`: what all runs on one population may spend together.

use std::path::{Path, PathBuf};

use toml::Value;
use umbel_accounting::{Delta, Epsilon, ParamError};

use super::section::{Section, SettingError};

/// `[privacy.budget]`.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedBudgetSettings {
    /// The file that every run takes its share from before it begins; made by the first.
    pub file: PathBuf,
    /// Most ε of all runs together.
    pub epsilon: Epsilon,
    /// Most δ of all runs together.
    pub delta: Delta,
}

impl SharedBudgetSettings {
    pub(super) fn to_value(&self) -> Value {
        let file = self.file.to_string_lossy().into_owned();
        let table = [
            ("file".to_owned(), file.into()),
            ("epsilon".to_owned(), self.epsilon.value().into()),
            ("delta".to_owned(), self.delta.value().into()),
        ];
        Value::Table(table.into_iter().collect())
    }
}

/// Reads it; a relative path counts from `directory`.
pub(super) fn shared_budget(
    privacy: &mut Section,
    directory: &Path,
) -> Result<Option<SharedBudgetSettings>, SettingError> {
    let Some(mut section) = privacy.section("budget", &["delta", "epsilon", "file"])? else {
        return Ok(None);
    };
    let expected = "the path of the file that all runs on the population share";
    let file = section.text("file", expected)?;
    let file = section.require("file", expected, file)?;
    if file.is_empty() {
        return section.refuse("file", expected, "\"\"");
    }
    let joined = directory.join(&file);
    let expected = "a finite number above 0";
    let epsilon = section.number("epsilon", expected, |value| value > 0.0 && value.is_finite())?;
    let epsilon = section.require("epsilon", "what all runs together may spend", epsilon)?;
    let expected = "a number above 0 and below 1";
    let delta = section.number("delta", expected, |value| value > 0.0 && value < 1.0)?;
    let delta = section.require("delta", "what all runs together may spend", delta)?;
    let out_of_range = |error: ParamError| SettingError::Value {
        key: section.name(error.name),
        expected: error.expected.to_owned(),
        got: format!("{:?}", error.got),
    };
    Ok(Some(SharedBudgetSettings {
        file: std::path::absolute(&joined).unwrap_or(joined),
        epsilon: Epsilon::new(epsilon).map_err(out_of_range)?,
        delta: Delta::new(delta).map_err(out_of_range)?,
    }))
}
