//! What stands in a column of labels.

use super::ReadFault;

/// How the classes are written in a file. A public constant of the experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever reads labels must handle every way to write them"
)]
pub enum LabelValues {
    /// As numbers from 0 on.
    Numbers {
        /// How many classes; `None` to take one more than the largest label.
        n_classes: Option<usize>,
    },
    /// As texts: for each class all that stand for it.
    Texts(Vec<Vec<String>>),
}

impl LabelValues {
    /// How many classes there are, where that is said.
    pub fn n_classes(&self) -> Option<usize> {
        match self {
            Self::Numbers { n_classes } => *n_classes,
            Self::Texts(classes) => Some(classes.len()),
        }
    }
}

/// The class that `field` of the column `column` means.
pub(super) fn label(field: &str, column: &str, values: &LabelValues) -> Result<u32, ReadFault> {
    let class = match values {
        LabelValues::Numbers { n_classes } => {
            let number = field.parse::<u32>().ok();
            number.filter(|&number| n_classes.is_none_or(|n_classes| (number as usize) < n_classes))
        }
        LabelValues::Texts(classes) => (0..)
            .zip(classes)
            .find(|(_, texts)| texts.iter().any(|text| text == field))
            .map(|(class, _)| class),
    };
    class.ok_or_else(|| ReadFault::BadField {
        column: column.to_owned(),
        expected: match values {
            LabelValues::Numbers { n_classes: None } => "a whole number from 0 on".to_owned(),
            LabelValues::Numbers {
                n_classes: Some(n_classes),
            } => format!("a whole number from 0 to {}", n_classes.saturating_sub(1)),
            LabelValues::Texts(classes) => one_of(classes.iter().flatten()),
        },
        got: field.to_owned(),
    })
}

/// "`a`, `b` or `c`", at most ten of them.
pub(super) fn one_of<'a>(values: impl Iterator<Item = &'a String>) -> String {
    let mut quoted: Vec<String> = values.map(|value| format!("`{value}`")).collect();
    let n_more = quoted.len().saturating_sub(10);
    if n_more > 0 {
        quoted.truncate(10);
        quoted.push(format!("one of {n_more} others"));
    }
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nothing".to_owned(),
    }
}
