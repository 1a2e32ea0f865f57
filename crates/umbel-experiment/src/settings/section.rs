//! Reads one table of an experiment: every key is known by name, every error says key, expectation and what came.

use toml::{Table, Value};

/// A setting that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// Two settings that exclude each other.
    #[error("`{first}` and `{second}` exclude each other: {reason}")]
    Conflict {
        /// One of them.
        first: String,
        /// The other.
        second: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A required setting is not there.
    #[error("`{key}` is missing: expected {expected}")]
    Missing {
        /// The full name of the setting.
        key: String,
        /// What it should be.
        expected: String,
    },
    /// The text is no TOML.
    #[error("{0}")]
    Syntax(String),
    /// A key that no setting has.
    #[error("unknown setting `{key}`{}", suggestion.as_ref().map_or_else(String::new, |name| format!(": did you mean `{name}`?")))]
    Unknown {
        /// The key.
        key: String,
        /// The nearest known one.
        suggestion: Option<String>,
    },
    /// A value that is not possible.
    #[error("`{key}` must be {expected}, got {got}")]
    Value {
        /// The full name of the setting.
        key: String,
        /// What was expected, with units and range.
        expected: String,
        /// What came.
        got: String,
    },
}

/// One table, whose keys have been checked against those that are known.
#[derive(Debug)]
pub(super) struct Section {
    path: String,
    table: Table,
}

impl Section {
    /// Takes `table`, named `path`, whose keys must all be among `known`.
    pub(super) fn new(path: &str, table: Table, known: &[&str]) -> Result<Self, SettingError> {
        for key in table.keys() {
            if !known.contains(&key.as_str()) {
                let nearest = known.iter().max_by(|left, right| {
                    let similarity = |name: &str| strsim::jaro_winkler(key, name);
                    similarity(left).total_cmp(&similarity(right))
                });
                let suggestion = nearest.map(|name| join(path, name));
                return Err(SettingError::Unknown {
                    key: join(path, key),
                    suggestion,
                });
            }
        }
        Ok(Self {
            path: path.to_owned(),
            table,
        })
    }

    /// The full name of `key`.
    pub(super) fn name(&self, key: &str) -> String {
        join(&self.path, key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// An error about `key`.
    pub(super) fn refuse<T>(
        &self,
        key: &str,
        expected: impl Into<String>,
        got: impl ToString,
    ) -> Result<T, SettingError> {
        Err(SettingError::Value {
            key: self.name(key),
            expected: expected.into(),
            got: got.to_string(),
        })
    }

    /// The value of `key`, or an error that it is missing.
    pub(super) fn require<T>(&self, key: &str, expected: &str, value: Option<T>) -> Result<T, SettingError> {
        value.ok_or_else(|| SettingError::Missing {
            key: self.name(key),
            expected: expected.to_owned(),
        })
    }

    pub(super) fn text(&mut self, key: &str, expected: &str) -> Result<Option<String>, SettingError> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => self.refuse(key, expected, other),
        }
    }

    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>, SettingError> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Boolean(flag)) => Ok(Some(flag)),
            Some(other) => self.refuse(key, "true or false", other),
        }
    }

    /// A number that passes `check`; whole numbers are taken for real ones.
    pub(super) fn number(
        &mut self,
        key: &str,
        expected: &str,
        check: impl Fn(f64) -> bool,
    ) -> Result<Option<f64>, SettingError> {
        let number = match self.table.remove(key) {
            None => return Ok(None),
            Some(Value::Float(number)) => number,
            #[allow(
                clippy::cast_precision_loss,
                reason = "settings that large are refused by their ranges"
            )]
            Some(Value::Integer(number)) => number as f64,
            Some(other) => return self.refuse(key, expected, other),
        };
        if check(number) {
            Ok(Some(number))
        } else {
            self.refuse(key, expected, format!("{number:?}"))
        }
    }

    /// A whole number of at least `least`.
    pub(super) fn count(&mut self, key: &str, least: u64) -> Result<Option<u64>, SettingError> {
        let expected = format!("a whole number of at least {least}");
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Integer(number)) => match u64::try_from(number) {
                Ok(count) if count >= least => Ok(Some(count)),
                _ => self.refuse(key, expected, number),
            },
            Some(other) => self.refuse(key, expected, other),
        }
    }

    /// A list of whole numbers of at least 1.
    pub(super) fn counts(&mut self, key: &str) -> Result<Option<Vec<usize>>, SettingError> {
        let expected = "a list of whole numbers of at least 1";
        let Some(value) = self.table.remove(key) else {
            return Ok(None);
        };
        let Value::Array(items) = &value else {
            return self.refuse(key, expected, value);
        };
        let counts: Option<Vec<_>> = items
            .iter()
            .map(|item| {
                item.as_integer()
                    .and_then(|number| usize::try_from(number).ok())
                    .filter(|count| *count >= 1)
            })
            .collect();
        match counts {
            Some(counts) if !counts.is_empty() => Ok(Some(counts)),
            _ => self.refuse(key, expected, value),
        }
    }

    /// The table under `key`, with its keys checked.
    pub(super) fn section(&mut self, key: &str, known: &[&str]) -> Result<Option<Self>, SettingError> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Table(table)) => Self::new(&self.name(key), table, known).map(Some),
            Some(other) => self.refuse(key, "a table", other),
        }
    }

    /// The table under `key` with its `kind`, which must be one of `kinds` and says which other keys are known.
    pub(super) fn kind_section(
        &mut self,
        key: &str,
        kinds: &[(&'static str, &[&str])],
    ) -> Result<Option<(&'static str, Self)>, SettingError> {
        let path = self.name(key);
        let table = match self.table.remove(key) {
            None => return Ok(None),
            Some(Value::Table(table)) => table,
            Some(other) => return self.refuse(key, "a table with a `kind`", other),
        };
        let names: Vec<_> = kinds.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let expected = names.join(" or ");
        let kind_key = join(&path, "kind");
        let kind = match table.get("kind") {
            None => {
                return Err(SettingError::Missing {
                    key: kind_key,
                    expected,
                });
            }
            Some(Value::String(kind)) => kinds.iter().find(|(name, _)| name == kind),
            Some(_) => None,
        };
        let Some((name, keys)) = kind else {
            let got = table["kind"].to_string();
            return Err(SettingError::Value {
                key: kind_key,
                expected,
                got,
            });
        };
        let known = [&["kind"], *keys].concat();
        Ok(Some((name, Self::new(&path, table, &known)?)))
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
