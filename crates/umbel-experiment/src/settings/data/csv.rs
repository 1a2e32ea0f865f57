//! The declared schema of a table.

use toml::{Table, Value};

use super::{is_positive, label_values, label_values_to_value, nonempty, texts};
use crate::settings::layers::DATA_COLUMN;
use crate::settings::section::{Section, SettingError};

/// The schema of a table, all of it public.
#[derive(Debug, Clone, PartialEq)]
pub struct CsvSettings {
    /// The features, in the order in which the model gets them.
    pub columns: Vec<ColumnSettings>,
    /// The column of labels.
    pub label_column: String,
    /// How the classes are written in it; empty for numbers from 0 on.
    pub label_values: Vec<Vec<String>>,
    /// Separates fields: one ASCII character, by default a comma.
    pub delimiter: char,
    /// The names of the file's columns, where it has no header line; empty where its first line names them.
    pub column_names: Vec<String>,
    /// Fields that mean "not known", by default the empty one.
    pub missing: Vec<String>,
}

/// One of `data.columns`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ColumnSettings {
    /// One of some texts; a feature for each of them.
    Categorical {
        /// The name in the header.
        name: String,
        /// The texts.
        values: Vec<String>,
        /// Which of them stands in for a missing one; absent to refuse the row.
        missing: Option<String>,
    },
    /// A number x, which becomes (x - `mean`) / `std_dev`.
    Numeric {
        /// The name in the header.
        name: String,
        /// A public constant, 0 if absent.
        mean: f64,
        /// A public constant above 0, 1 if absent.
        std_dev: f64,
        /// The number that stands in for a missing one; absent to refuse the row.
        missing: Option<f64>,
    },
}

impl ColumnSettings {
    /// The name in the header.
    pub fn name(&self) -> &str {
        match self {
            Self::Categorical { name, .. } | Self::Numeric { name, .. } => name,
        }
    }

    fn to_value(&self) -> Value {
        let pairs: Vec<(&str, Value)> = match self {
            Self::Categorical {
                name,
                values,
                missing,
            } => {
                let missing = missing.as_ref().map(|text| ("missing", text.as_str().into()));
                [
                    ("kind", "categorical".into()),
                    ("name", name.as_str().into()),
                    ("values", texts(values)),
                ]
                .into_iter()
                .chain(missing)
                .collect()
            }
            Self::Numeric {
                name,
                mean,
                std_dev,
                missing,
            } => [
                ("kind", "numeric".into()),
                ("name", name.as_str().into()),
                ("mean", (*mean).into()),
                ("std_dev", (*std_dev).into()),
            ]
            .into_iter()
            .chain(missing.map(|number| ("missing", number.into())))
            .collect(),
        };
        let pairs = pairs.into_iter().map(|(key, value)| (key.to_owned(), value));
        Value::Table(pairs.collect::<Table>())
    }
}

impl CsvSettings {
    pub(super) fn to_pairs(&self) -> Vec<(&'static str, Value)> {
        let columns = self.columns.iter().map(ColumnSettings::to_value).collect();
        let mut pairs = vec![
            ("label_column", self.label_column.as_str().into()),
            ("delimiter", self.delimiter.to_string().into()),
            ("missing", texts(&self.missing)),
            ("columns", Value::Array(columns)),
        ];
        if !self.column_names.is_empty() {
            pairs.push(("column_names", texts(&self.column_names)));
        }
        pairs.extend(label_values_to_value(&self.label_values));
        pairs
    }
}

/// Reads the schema out of `[data]`.
pub(super) fn read(section: &mut Section) -> Result<CsvSettings, SettingError> {
    let expected = "the name of the column of labels";
    let label_column = section.text("label_column", expected)?;
    let label_column = section.require("label_column", expected, label_column)?;
    let expected = "a list of the columns that are features, each with `name` and `kind`";
    let columns = section.kind_sections("columns", DATA_COLUMN)?;
    let columns = section.require("columns", expected, columns)?;
    let columns = columns
        .into_iter()
        .map(|(kind, column)| read_column(kind, column));
    let columns: Vec<ColumnSettings> = columns.collect::<Result<_, _>>()?;
    if columns.is_empty() {
        return section.refuse("columns", expected, "[]");
    }
    for (place, column) in columns.iter().enumerate() {
        let name = column.name();
        if name == label_column {
            let expected = "columns without the one of labels, which the model is to predict";
            return section.refuse("columns", expected, format!("`{name}`"));
        }
        if columns[..place].iter().any(|other| other.name() == name) {
            return section.refuse("columns", "columns of different names", format!("`{name}` twice"));
        }
    }
    let expected = "one ASCII character that is no quote and no line end";
    let delimiter = section
        .text("delimiter", expected)?
        .unwrap_or_else(|| ",".to_owned());
    let delimiter = match delimiter.chars().collect::<Vec<_>>()[..] {
        [character] if character.is_ascii() && !"\"\r\n".contains(character) => character,
        _ => return section.refuse("delimiter", expected, format!("{delimiter:?}")),
    };
    let column_names = section.list("column_names", "a list of names", nonempty)?;
    let any_text = |value: &Value| value.as_str().map(str::to_owned);
    let missing = section.list("missing", "a list of texts", any_text)?;
    Ok(CsvSettings {
        columns,
        label_column,
        label_values: label_values(section)?,
        delimiter,
        column_names: column_names.unwrap_or_default(),
        missing: missing.unwrap_or_else(|| vec![String::new()]),
    })
}

fn read_column(kind: &str, mut section: Section) -> Result<ColumnSettings, SettingError> {
    let expected = "the name of a column";
    let name = section.text("name", expected)?;
    let name = section.require("name", expected, name)?;
    if kind == "numeric" {
        let mean = section.number("mean", "a finite number", f64::is_finite)?;
        let std_dev = section.number("std_dev", "a finite number above 0", is_positive)?;
        return Ok(ColumnSettings::Numeric {
            name,
            mean: mean.unwrap_or(0.0),
            std_dev: std_dev.unwrap_or(1.0),
            missing: section.number("missing", "a finite number", f64::is_finite)?,
        });
    }
    let expected = "a list of different texts, one for each category";
    let any_text = |value: &Value| value.as_str().map(str::to_owned);
    let values = section.list("values", expected, any_text)?;
    let values = section.require("values", expected, values)?;
    let repeated = (1..values.len()).find(|&place| values[..place].contains(&values[place]));
    if values.is_empty() || repeated.is_some() {
        return section.refuse("values", expected, texts(&values));
    }
    let missing = section.text("missing", "one of `values`")?;
    if let Some(text) = missing.as_ref().filter(|text| !values.contains(text)) {
        return section.refuse("missing", "one of `values`", format!("\"{text}\""));
    }
    Ok(ColumnSettings::Categorical {
        name,
        values,
        missing,
    })
}
