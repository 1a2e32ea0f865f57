//! Reads one table of an experiment: every key is known by name, every error says key, expectation and what came.

use std::path::{Path, PathBuf};

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

impl SettingError {
    /// Two settings, by their full names, that exclude each other, why, and what to do.
    pub(crate) fn conflict(first: impl Into<String>, second: impl Into<String>, reason: &str) -> Self {
        Self::Conflict {
            first: first.into(),
            second: second.into(),
            reason: reason.to_owned(),
        }
    }
}

/// One table, whose keys have been checked against those that are known. Each reading call takes a key out.
#[derive(Debug)]
pub struct Section {
    path: String,
    table: Table,
}

impl Section {
    /// Takes `table`, named `path`, whose keys must all be among `known`.
    pub fn new(path: &str, table: Table, known: &[&str]) -> Result<Self, SettingError> {
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
    pub fn name(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Whether `key` is there and was not taken yet.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether `key` is a table.
    pub fn is_table(&self, key: &str) -> bool {
        matches!(self.table.get(key), Some(Value::Table(_)))
    }

    /// Whether `key` is a text.
    pub fn is_text(&self, key: &str) -> bool {
        matches!(self.table.get(key), Some(Value::String(_)))
    }

    /// An error about `key`.
    pub fn refuse<T>(
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
    pub fn require<T>(&self, key: &str, expected: &str, value: Option<T>) -> Result<T, SettingError> {
        value.ok_or_else(|| SettingError::Missing {
            key: self.name(key),
            expected: expected.to_owned(),
        })
    }

    /// A text.
    pub fn text(&mut self, key: &str, expected: &str) -> Result<Option<String>, SettingError> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => self.refuse(key, expected, other),
        }
    }

    /// True or false.
    pub fn flag(&mut self, key: &str) -> Result<Option<bool>, SettingError> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Boolean(flag)) => Ok(Some(flag)),
            Some(other) => self.refuse(key, "true or false", other),
        }
    }

    /// A number that passes `check`; whole numbers are taken for real ones.
    pub fn number(
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
    pub fn count(&mut self, key: &str, least: u64) -> Result<Option<u64>, SettingError> {
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

    /// A list whose items all pass `item`.
    pub fn list<T>(
        &mut self,
        key: &str,
        expected: &str,
        item: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, SettingError> {
        let Some(value) = self.table.remove(key) else {
            return Ok(None);
        };
        let items = value.as_array().map(|items| items.iter().map(item).collect());
        match items {
            Some(Some(items)) => Ok(Some(items)),
            _ => self.refuse(key, expected, value),
        }
    }

    /// A list of whole numbers of at least 1, which is not empty.
    pub fn counts(&mut self, key: &str) -> Result<Option<Vec<usize>>, SettingError> {
        match self.counts_or_none(key)? {
            Some(counts) if counts.is_empty() => {
                self.refuse(key, "a list of whole numbers of at least 1", "[]")
            }
            counts => Ok(counts),
        }
    }

    /// A list of whole numbers of at least 1, which may be empty.
    pub fn counts_or_none(&mut self, key: &str) -> Result<Option<Vec<usize>>, SettingError> {
        let count = |item: &Value| {
            let number = item.as_integer().and_then(|number| usize::try_from(number).ok());
            number.filter(|&count| count >= 1)
        };
        self.list(key, "a list of whole numbers of at least 1", count)
    }

    /// A path, which counts from `directory` where it is relative, as an absolute one.
    pub fn path(
        &mut self,
        key: &str,
        expected: &str,
        directory: &Path,
    ) -> Result<Option<PathBuf>, SettingError> {
        let Some(text) = self.text(key, expected)? else {
            return Ok(None);
        };
        if text.is_empty() {
            return self.refuse(key, expected, "\"\"");
        }
        let joined = directory.join(&text);
        Ok(Some(std::path::absolute(&joined).unwrap_or(joined)))
    }

    /// A list of texts, none of them empty.
    pub fn texts(&mut self, key: &str) -> Result<Option<Vec<String>>, SettingError> {
        let text = |item: &Value| {
            item.as_str()
                .filter(|text| !text.is_empty())
                .map(ToOwned::to_owned)
        };
        self.list(key, "a list of texts", text)
    }

    /// The table under `key`, with its keys checked.
    pub fn section(&mut self, key: &str, known: &[&str]) -> Result<Option<Self>, SettingError> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Table(table)) => Self::new(&self.name(key), table, known).map(Some),
            Some(other) => self.refuse(key, "a table", other),
        }
    }

    /// The table under `key` with its `kind`, which must be one of `kinds` and says which other keys are known.
    pub fn kind_section(
        &mut self,
        key: &str,
        kinds: &[(&'static str, &[&str])],
    ) -> Result<Option<(&'static str, Self)>, SettingError> {
        self.tagged_section(key, "kind", kinds)
    }

    /// As [`kind_section`](Self::kind_section), where the kind stands under another key, `tag`.
    pub fn tagged_section(
        &mut self,
        key: &str,
        tag: &str,
        kinds: &[(&'static str, &[&str])],
    ) -> Result<Option<(&'static str, Self)>, SettingError> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Table(table)) => Self::tagged(&self.name(key), table, tag, kinds).map(Some),
            Some(other) => self.refuse(key, format!("a table with a `{tag}`"), other),
        }
    }

    /// The list of tables under `key`, each with its `kind`.
    pub fn kind_sections(
        &mut self,
        key: &str,
        kinds: &[(&'static str, &[&str])],
    ) -> Result<Option<Vec<(&'static str, Self)>>, SettingError> {
        let tables = self.list(key, "a list of tables with a `kind`", |item| {
            item.as_table().cloned()
        })?;
        let Some(tables) = tables else {
            return Ok(None);
        };
        let path = self.name(key);
        let sections = tables
            .into_iter()
            .enumerate()
            .map(|(place, table)| Self::tagged(&format!("{path}[{place}]"), table, "kind", kinds));
        sections.collect::<Result<_, _>>().map(Some)
    }

    fn tagged(
        path: &str,
        table: Table,
        tag: &str,
        kinds: &[(&'static str, &[&str])],
    ) -> Result<(&'static str, Self), SettingError> {
        let names: Vec<_> = kinds.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let expected = names.join(" or ");
        let kind_key = join(path, tag);
        let kind = match table.get(tag) {
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
            let got = table[tag].to_string();
            return Err(SettingError::Value {
                key: kind_key,
                expected,
                got,
            });
        };
        let known = [&[tag], *keys].concat();
        Ok((name, Self::new(path, table, &known)?))
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
