//! `[data]`: what is trained on. All preprocessing is public: constants and files that are named here, nothing that is computed
//! from the clients' data.

mod csv;

use std::path::{Path, PathBuf};

use toml::{Table, Value};

pub use self::csv::{ColumnSettings, CsvSettings};
use super::layers::DATA;
use super::partition::{self, PartitionSettings};
use super::section::{Section, SettingError};
use super::{to_size, whole};

/// `[data]`.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSettings {
    /// How the files are written, and how what stands in them becomes numbers.
    pub format: FormatSettings,
    /// Training examples, split over the clients.
    pub train: DataFiles,
    /// The public test set.
    pub test: DataFiles,
    /// Further public examples, on which early stopping decides: neither training examples, which would tell of clients, nor test
    /// examples, which would no longer test.
    pub validation: Option<DataFiles>,
    /// Number of classes, a public constant; absent means one more than the largest label of the training data.
    pub classes: Option<usize>,
    /// What the classes are called where predictions are shown; empty for their numbers.
    pub class_names: Vec<String>,
    /// How training examples are varied.
    pub augmentation: AugmentationSettings,
    /// Who holds what.
    pub partition: PartitionSettings,
}

/// A set of examples, gzipped or plain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFiles {
    /// The examples: images, texts with their labels, or rows of a table.
    pub examples: PathBuf,
    /// The labels of images.
    pub labels: Option<PathBuf>,
    /// A table with a row for each example; the column `client_column` names its client.
    pub clients: Option<PathBuf>,
    /// Name of the column in `clients`, or without that in `examples`, that names each example's client.
    pub client_column: Option<String>,
}

/// `data.format`, with the settings that each format has.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FormatSettings {
    /// A table of numbers and categories.
    Csv(CsvSettings),
    /// Images in IDX files.
    Idx {
        /// Side of the squares of pixels that are averaged into one, 1 for none. A public constant.
        pool: usize,
        /// Subtracted from every pixel, on the scale 0 to 1. A public constant, never computed from the clients' data.
        mean: f64,
        /// Every pixel is divided by it after `mean` is subtracted. A public constant, above 0.
        std_dev: f64,
    },
    /// Texts, a line each.
    Text(TextSettings),
}

/// How texts become numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextSettings {
    /// Which token a word has.
    pub words: WordSettings,
    /// A public file of words with their inverse document frequencies, for the model `bag-of-words`. Never counted from the clients'
    /// texts.
    pub idf: Option<PathBuf>,
    /// The most tokens of a text; of a longer one the last are kept.
    pub max_length: usize,
    /// How the classes are written in the column `label`; empty for numbers from 0 on.
    pub label_values: Vec<Vec<String>>,
}

/// How words become tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WordSettings {
    /// By their hash, into so many buckets.
    Hashed {
        /// How many.
        buckets: usize,
    },
    /// By their rank.
    Ranked {
        /// A public file of words: one a line, most frequent first, or `word<TAB>rank`. Never counted from the clients' texts.
        vocabulary: PathBuf,
        /// Number of distinct tokens, at least 5: padding, start, unknown, one that is never used, and the most frequent words.
        words: usize,
    },
}

impl TextSettings {
    /// The file of words, if there is one.
    pub fn vocabulary(&self) -> Option<&Path> {
        match &self.words {
            WordSettings::Hashed { .. } => None,
            WordSettings::Ranked { vocabulary, .. } => Some(vocabulary),
        }
    }

    /// The same with other copies of the public files that it names; what it does not name is left out.
    pub fn with_files(self, own_vocabulary: &Path, own_idf: &Path) -> Self {
        let words = match self.words {
            WordSettings::Ranked { words, .. } => WordSettings::Ranked {
                vocabulary: own_vocabulary.to_owned(),
                words,
            },
            hashed => hashed,
        };
        Self {
            words,
            idf: self.idf.map(|_| own_idf.to_owned()),
            ..self
        }
    }
}

/// `[data.augmentation]`: how training examples are varied each time they are used. Public, like all of training; the variations of a
/// client in a round come from (seed, round, client).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AugmentationSettings {
    /// Whether images are mirrored left to right with probability one half.
    pub flip: bool,
    /// Images are moved by up to so many pixels up or down, and left or right; what comes in is the value of a black pixel.
    pub shift: usize,
    /// The probability with which each word of a text becomes unknown, from 0 on, below 1.
    pub word_dropout: f64,
}

impl DataSettings {
    /// Whether a file or a column names each training example's client.
    pub fn has_client_keys(&self) -> bool {
        self.train.clients.is_some() || self.train.client_column.is_some()
    }

    pub(super) fn to_pairs(&self) -> Vec<(&'static str, Value)> {
        let mut pairs = vec![("format", self.format.name().into())];
        pairs.extend(self.classes.map(|classes| ("classes", whole(classes as u64))));
        if !self.class_names.is_empty() {
            pairs.push(("class_names", texts(&self.class_names)));
        }
        pairs.extend([("train", self.train.to_value()), ("test", self.test.to_value())]);
        pairs.extend(
            self.validation
                .as_ref()
                .map(|files| ("validation", files.to_value())),
        );
        match &self.format {
            FormatSettings::Csv(csv) => pairs.extend(csv.to_pairs()),
            FormatSettings::Idx { pool, mean, std_dev } => pairs.extend([
                ("pool", whole(*pool as u64)),
                ("mean", (*mean).into()),
                ("std_dev", (*std_dev).into()),
            ]),
            FormatSettings::Text(text) => {
                match &text.words {
                    WordSettings::Hashed { buckets } => pairs.push(("hash_buckets", whole(*buckets as u64))),
                    WordSettings::Ranked { vocabulary, words } => {
                        pairs.extend([("vocabulary", path(vocabulary)), ("words", whole(*words as u64))])
                    }
                }
                pairs.extend(text.idf.as_deref().map(|idf| ("idf", path(idf))));
                pairs.push(("max_length", whole(text.max_length as u64)));
                pairs.extend(label_values_to_value(&text.label_values));
            }
        }
        if self.augmentation != AugmentationSettings::default() {
            pairs.push(("augmentation", self.augmentation.to_value(&self.format)));
        }
        pairs
    }
}

impl FormatSettings {
    /// Its name in files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Csv(_) => "csv",
            Self::Idx { .. } => "idx",
            Self::Text(_) => "text",
        }
    }

    /// How the classes are written in a column of labels; empty for numbers.
    pub fn label_values(&self) -> &[Vec<String>] {
        match self {
            Self::Csv(csv) => &csv.label_values,
            Self::Idx { .. } => &[],
            Self::Text(text) => &text.label_values,
        }
    }
}

impl DataFiles {
    /// Reads the table under `key`, `train` or `test`, of a section of data in the given format; relative paths count from
    /// `directory`.
    ///
    /// # Errors
    ///
    /// A setting that is missing, unknown or out of range.
    pub fn read(data: &mut Section, key: &str, format: &str, directory: &Path) -> Result<Self, SettingError> {
        files(data, key, format, directory)
    }

    fn to_value(&self) -> Value {
        let mut table = Table::new();
        table.insert("examples".to_owned(), path(&self.examples));
        if let Some(labels) = &self.labels {
            table.insert("labels".to_owned(), path(labels));
        }
        if let Some(clients) = &self.clients {
            table.insert("clients".to_owned(), path(clients));
        }
        if let Some(column) = &self.client_column {
            table.insert("client_column".to_owned(), column.as_str().into());
        }
        Value::Table(table)
    }
}

impl AugmentationSettings {
    fn to_value(self, format: &FormatSettings) -> Value {
        let mut table = Table::new();
        match format {
            FormatSettings::Csv(_) => {}
            FormatSettings::Idx { .. } => {
                table.insert("flip".to_owned(), self.flip.into());
                table.insert("shift".to_owned(), whole(self.shift as u64));
            }
            FormatSettings::Text(_) => {
                table.insert("word_dropout".to_owned(), self.word_dropout.into());
            }
        }
        Value::Table(table)
    }
}

fn path(path: &Path) -> Value {
    Value::String(path.to_string_lossy().into_owned())
}

fn texts(list: &[String]) -> Value {
    Value::Array(list.iter().map(|text| text.as_str().into()).collect())
}

/// Reads `[data]` out of the experiment.
pub(super) fn read(root: &mut Section, directory: &Path) -> Result<DataSettings, SettingError> {
    let section = root.tagged_section("data", "format", DATA)?;
    let (name, mut section) = root.require("data", "a table", section)?;
    let train = files(&mut section, "train", name, directory)?;
    let test = files(&mut section, "test", name, directory)?;
    let validation = match section.has("validation") {
        true => Some(files(&mut section, "validation", name, directory)?),
        false => None,
    };
    let format = match name {
        "csv" => FormatSettings::Csv(csv::read(&mut section)?),
        "text" => FormatSettings::Text(text(&mut section, directory)?),
        _ => idx(&mut section)?,
    };
    let partition = partition::read(&mut section)?;
    let class_names = section.list("class_names", "a list of names", nonempty)?;
    let settings = DataSettings {
        classes: section.count("classes", 2)?.map(to_size).transpose()?,
        class_names: class_names.unwrap_or_default(),
        augmentation: augmentation(&mut section, name)?,
        format,
        train,
        test,
        validation,
        partition,
    };
    if settings.partition.needs_keys() && !settings.has_client_keys() {
        let or_column = if name == "idx" {
            ""
        } else {
            ", or `data.train.client_column`"
        };
        let expected = format!(
            "a table that names the client of each example{or_column}, which partition \"{}\" needs",
            settings.partition.kind()
        );
        return Err(SettingError::Missing {
            key: "data.train.clients".to_owned(),
            expected,
        });
    }
    with_one_number_of_classes(settings)
}

/// The number of classes may be said by itself, by their names and by how they are written; all must agree.
fn with_one_number_of_classes(settings: DataSettings) -> Result<DataSettings, SettingError> {
    let said = [
        ("data.classes", settings.classes),
        ("data.label_values", Some(settings.format.label_values().len())),
        ("data.class_names", Some(settings.class_names.len())),
    ];
    let mut said = said
        .into_iter()
        .filter_map(|(key, count)| count.filter(|&count| count > 0).map(|count| (key, count)));
    let Some((first, classes)) = said.next() else {
        return Ok(settings);
    };
    for (second, count) in said {
        if count != classes {
            return Err(SettingError::Conflict {
                first: first.to_owned(),
                second: second.to_owned(),
                reason: format!("the one speaks of {classes} classes, the other of {count}"),
            });
        }
    }
    if classes < 2 {
        return Err(SettingError::Value {
            key: first.to_owned(),
            expected: "at least 2 classes".to_owned(),
            got: classes.to_string(),
        });
    }
    Ok(DataSettings {
        classes: Some(classes),
        ..settings
    })
}

fn files(data: &mut Section, key: &str, format: &str, directory: &Path) -> Result<DataFiles, SettingError> {
    let has_labels = format == "idx";
    let expected = if has_labels {
        "a table with `examples` and `labels`"
    } else {
        "a table with `examples`"
    };
    let known: &[&str] = match (key, has_labels) {
        ("train", true) => &["client_column", "clients", "examples", "labels"],
        ("train", false) => &["client_column", "clients", "examples"],
        (_, true) => &["examples", "labels"],
        (_, false) => &["examples"],
    };
    let section = data.section(key, known)?;
    let mut section = data.require(key, expected, section)?;
    let what = match format {
        "csv" => "the path of a table of comma-separated values",
        "text" => "the path of a file of `label<TAB>text`",
        _ => "the path of an IDX file of images",
    };
    let examples = section.path("examples", what, directory)?;
    let examples = section.require("examples", what, examples)?;
    let labels = if has_labels {
        let what = "the path of an IDX file of labels";
        let labels = section.path("labels", what, directory)?;
        Some(section.require("labels", what, labels)?)
    } else {
        None
    };
    let clients = section.path(
        "clients",
        "the path of a table with a row for each example",
        directory,
    )?;
    let mut client_column = section.text("client_column", "the name of a column")?;
    if clients.is_some() {
        client_column.get_or_insert_with(|| "writer".to_owned());
    } else if has_labels && client_column.is_some() {
        return Err(SettingError::Missing {
            key: section.name("clients"),
            expected: "the table that has the column `client_column`, as for partition \"by-key\"".to_owned(),
        });
    }
    Ok(DataFiles {
        examples,
        labels,
        clients,
        client_column,
    })
}

fn idx(section: &mut Section) -> Result<FormatSettings, SettingError> {
    let pool = to_size(section.count("pool", 1)?.unwrap_or(1))?;
    let mean = section.number("mean", "a finite number", f64::is_finite)?;
    let std_dev = section.number("std_dev", "a finite number above 0", is_positive)?;
    Ok(FormatSettings::Idx {
        pool,
        mean: mean.unwrap_or(0.0),
        std_dev: std_dev.unwrap_or(1.0),
    })
}

fn text(section: &mut Section, directory: &Path) -> Result<TextSettings, SettingError> {
    let words = words(section, directory)?;
    let what = "the path of a public list of words with their inverse document frequencies";
    let idf = section.path("idf", what, directory)?;
    let max_length = section.count("max_length", 1)?;
    let max_length = section.require("max_length", "the most tokens of a text", max_length)?;
    Ok(TextSettings {
        words,
        idf,
        max_length: to_size(max_length)?,
        label_values: label_values(section)?,
    })
}

fn words(section: &mut Section, directory: &Path) -> Result<WordSettings, SettingError> {
    if let Some(buckets) = section.count("hash_buckets", 2)? {
        for key in ["vocabulary", "words"] {
            if section.has(key) {
                return Err(SettingError::Conflict {
                    first: section.name("hash_buckets"),
                    second: section.name(key),
                    reason: "a word has a token by its hash or by its rank; remove one".to_owned(),
                });
            }
        }
        return Ok(WordSettings::Hashed {
            buckets: to_size(buckets)?,
        });
    }
    let what = "the path of a public list of words, or `hash_buckets`";
    let vocabulary = section.path("vocabulary", what, directory)?;
    let vocabulary = section.require("vocabulary", what, vocabulary)?;
    let words = section.count("words", 5)?;
    let words = section.require("words", "the number of distinct tokens, at least 5", words)?;
    Ok(WordSettings::Ranked {
        vocabulary,
        words: to_size(words)?,
    })
}

fn augmentation(data: &mut Section, format: &str) -> Result<AugmentationSettings, SettingError> {
    let known: &[&str] = match format {
        "idx" => &["flip", "shift"],
        "text" => &["word_dropout"],
        _ => &[],
    };
    if known.is_empty() && data.has("augmentation") {
        return data.refuse("augmentation", "absent: there is none for rows of a table", "one");
    }
    let Some(mut section) = data.section("augmentation", known)? else {
        return Ok(AugmentationSettings::default());
    };
    let below_1 = |rate: f64| (0.0..1.0).contains(&rate);
    let dropout = section.number("word_dropout", "a number of at least 0 and below 1", below_1)?;
    Ok(AugmentationSettings {
        flip: section.flag("flip")?.unwrap_or(false),
        shift: to_size(section.count("shift", 0)?.unwrap_or(0))?,
        word_dropout: dropout.unwrap_or(0.0),
    })
}

/// `label_values`: for each class a text, or several that all mean it.
fn label_values(section: &mut Section) -> Result<Vec<Vec<String>>, SettingError> {
    let expected =
        "a list with the text of each class, or with the list of texts that mean it; no text twice";
    let class = |value: &Value| match value {
        Value::Array(texts) => texts
            .iter()
            .map(|text| text.as_str().map(str::to_owned))
            .collect(),
        other => other.as_str().map(|text| vec![text.to_owned()]),
    };
    let Some(classes) = section.list::<Vec<String>>("label_values", expected, class)? else {
        return Ok(Vec::new());
    };
    let mut all: Vec<&String> = classes.iter().flatten().collect();
    let n_texts = all.len();
    all.sort();
    all.dedup();
    if all.len() < n_texts || classes.iter().any(Vec::is_empty) {
        return section.refuse("label_values", expected, format!("{classes:?}"));
    }
    Ok(classes)
}

fn label_values_to_value(classes: &[Vec<String>]) -> Option<(&'static str, Value)> {
    let value = Value::Array(classes.iter().map(|class| texts(class)).collect());
    (!classes.is_empty()).then_some(("label_values", value))
}

fn nonempty(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned)
}

fn is_positive(value: f64) -> bool {
    value > 0.0 && value.is_finite()
}

#[cfg(test)]
mod tests;
