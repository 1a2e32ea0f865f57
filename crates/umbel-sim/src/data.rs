//! From `[data]` to data sets and clients.

use std::path::Path;

use umbel_experiment::{
    AugmentationSettings, ColumnSettings, CsvSettings, DataFiles, DataSettings, FormatSettings,
    PartitionFacts, PartitionSettings, QuantitySettings, WordSettings,
};
use umbel_mechanisms::{Purpose, SimulationSeed};
use umbel_train::{
    Augmentation, ClientKeys, Column, ColumnKind, CsvSchema, Dataset, LabelValues, Partition, PartitionSpec,
    QuantitySkew, TextOptions, Tokenizer, TrainingRng, Transform, read_client_keys, read_csv, read_idx,
    read_text, read_unlabelled_csv, read_unlabelled_text, read_vocabulary, read_word_weights,
};

use crate::prepare::to_single;
use crate::{SimulateError, facts};

/// The data of an experiment.
#[derive(Debug)]
pub struct Data {
    /// The training examples of all clients.
    pub train: Dataset,
    /// The public test set.
    pub test: Dataset,
    /// The public examples on which early stopping decides.
    pub validation: Option<Dataset>,
    /// Who holds what.
    pub partition: Partition,
}

impl Data {
    /// Reads the files and splits the training examples; what is random about that comes from the seed.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, data that do not fit each other, or a partition that cannot be.
    pub fn load(settings: &DataSettings, seed: u64) -> Result<Self, SimulateError> {
        let reader = DataReader::new(settings)?;
        let (train, keys) = reader.read(&settings.train)?;
        let (test, _) = reader.read(&settings.test)?;
        train.check_same_task(&test)?;
        let validation = settings
            .validation
            .as_ref()
            .map(|files| reader.read(files))
            .transpose()?
            .map(|(validation, _)| validation);
        if let Some(validation) = &validation {
            train.check_same_task(validation)?;
        }
        let rng_seed = SimulationSeed::new(seed).derive(Purpose::Partition, 0, 0);
        let mut rng = TrainingRng::from_seed(rng_seed);
        let partition = partition_spec(&settings.partition).partition(&train, keys.as_ref(), &mut rng)?;
        Ok(Self {
            train,
            test,
            validation,
            partition,
        })
    }

    /// Who holds what. Computed on the clients' data: what only a simulator may see, and no ε covers.
    pub fn partition_facts(&self, settings: &DataSettings) -> PartitionFacts {
        facts::partition(settings, &self.train, &self.partition)
    }

    /// What each of the clients that the facts have labels of is called.
    pub fn client_names(&self, facts: &PartitionFacts) -> Vec<String> {
        let clients = 0..facts.labels.len();
        clients
            .map(|client| self.partition.name(client).into_owned())
            .collect()
    }
}

/// Reads files of an experiment's format. Holds what preprocessing needs besides, all of it public.
#[derive(Debug)]
pub struct DataReader {
    format: Format,
    labels: LabelValues,
}

#[derive(Debug)]
enum Format {
    Csv(CsvSchema),
    Idx(Transform),
    Text(Tokenizer),
}

impl DataReader {
    /// A reader for what the settings say. Reads the vocabulary, where there is one.
    ///
    /// # Errors
    ///
    /// The vocabulary cannot be read, or a setting is out of range.
    pub fn new(settings: &DataSettings) -> Result<Self, SimulateError> {
        let refuse = |reason: String| SimulateError::Setting { key: "data", reason };
        let labels = match settings.format.label_values() {
            [] => LabelValues::Numbers {
                n_classes: settings.classes,
            },
            classes => LabelValues::Texts(classes.to_vec()),
        };
        let format = match &settings.format {
            FormatSettings::Csv(csv) => Format::Csv(schema(csv, labels.clone())),
            &FormatSettings::Idx { pool, mean, std_dev } => {
                let transform = Transform::new(pool, to_single(mean), to_single(std_dev));
                Format::Idx(transform.map_err(|error| refuse(error.to_string()))?)
            }
            FormatSettings::Text(text) => {
                let tokenizer = match &text.words {
                    WordSettings::Hashed { buckets } => Tokenizer::hashed(*buckets, text.max_length),
                    WordSettings::Ranked { vocabulary, words } => {
                        Tokenizer::new(read_vocabulary(vocabulary)?, *words, text.max_length)
                    }
                    other => unreachable!("the settings know no words {other:?}"),
                };
                let tokenizer = tokenizer.map_err(|error| refuse(error.to_string()))?;
                Format::Text(match &text.idf {
                    Some(idf) => tokenizer.with_weights(&read_word_weights(idf)?),
                    None => tokenizer,
                })
            }
            other => unreachable!("the settings know no format {other:?}"),
        };
        Ok(Self { format, labels })
    }

    /// Reads labelled examples, and their client keys where a file or a column has them.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or files that do not belong together.
    pub fn read(&self, files: &DataFiles) -> Result<(Dataset, Option<ClientKeys>), SimulateError> {
        let path = files.examples.as_path();
        // A column of the examples' own file, where no other file has the keys.
        let own_column = files.client_column.as_deref().filter(|_| files.clients.is_none());
        let (dataset, own_keys) = match &self.format {
            Format::Csv(schema) => {
                let mut table = read_csv(path, schema, own_column)?;
                let keys = table.clients.take();
                (Dataset::from_rows(&quoted(path), table, &self.labels)?, keys)
            }
            Format::Idx(transform) => {
                let labels = files.labels.as_deref().unwrap_or(path);
                let dataset = Dataset::load_idx(path, labels)?.with_transform(*transform)?;
                (self.with_classes(dataset)?, None)
            }
            Format::Text(tokenizer) => {
                let options = TextOptions {
                    tokenizer,
                    labels: &self.labels,
                    client_column: own_column,
                };
                let mut table = read_text(path, options)?;
                let keys = table.clients.take();
                (
                    Dataset::from_texts(&quoted(path), table, tokenizer, &self.labels)?,
                    keys,
                )
            }
        };
        let keys = match &files.clients {
            Some(clients) => Some(read_client_keys(clients, files.client_column.as_deref())?),
            None => own_keys,
        };
        Ok((dataset, keys))
    }

    /// Reads examples for prediction, and their labels where the file has them.
    ///
    /// Images come without labels. Texts and rows may have them, as in training.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn read_for_prediction(&self, path: &Path) -> Result<(Dataset, Option<Vec<u32>>), SimulateError> {
        let known = |labels: &[u32]| (!labels.is_empty()).then(|| labels.to_vec());
        match &self.format {
            Format::Csv(schema) => {
                let table = read_unlabelled_csv(path, schema)?;
                let labels = known(&table.labels);
                Ok((Dataset::from_rows(&quoted(path), table, &self.labels)?, labels))
            }
            Format::Idx(transform) => {
                let dataset = Dataset::from_images(read_idx(path)?)?.with_transform(*transform)?;
                Ok((self.with_classes(dataset)?, None))
            }
            Format::Text(tokenizer) => {
                let options = TextOptions {
                    tokenizer,
                    labels: &self.labels,
                    client_column: None,
                };
                let table = read_unlabelled_text(path, options)?;
                let labels = known(&table.labels);
                let dataset = Dataset::from_texts(&quoted(path), table, tokenizer, &self.labels)?;
                Ok((dataset, labels))
            }
        }
    }

    fn with_classes(&self, dataset: Dataset) -> Result<Dataset, SimulateError> {
        Ok(match self.labels.n_classes() {
            Some(classes) => dataset.with_n_classes(classes)?,
            None => dataset,
        })
    }
}

/// What the preprocessing takes for public, in words.
pub(crate) fn taken_for_public(settings: &DataSettings) -> Option<&'static str> {
    match settings.format {
        FormatSettings::Csv(_) => Some("the constants of data.columns, which are taken for public"),
        FormatSettings::Text(ref text) if text.idf.is_some() => {
            Some("the words and their inverse document frequencies, which are taken for public")
        }
        FormatSettings::Text(ref text) if text.vocabulary().is_some() => {
            Some("the vocabulary, which is taken for public")
        }
        _ => None,
    }
}

/// The augmentation of the settings.
pub(crate) fn augmentation(settings: AugmentationSettings) -> Result<Augmentation, SimulateError> {
    let augmentation = Augmentation::default()
        .with_shift(settings.shift)
        .with_word_dropout(settings.word_dropout)
        .map_err(refuse_augmentation)?;
    Ok(if settings.flip {
        augmentation.with_flip()
    } else {
        augmentation
    })
}

pub(crate) fn refuse_augmentation(error: umbel_train::AugmentationError) -> SimulateError {
    SimulateError::Setting {
        key: "data.augmentation",
        reason: error.to_string(),
    }
}

fn schema(settings: &CsvSettings, labels: LabelValues) -> CsvSchema {
    let columns = settings.columns.iter().map(|column| match column {
        ColumnSettings::Categorical {
            name,
            values,
            missing,
        } => Column {
            name: name.clone(),
            kind: ColumnKind::Categorical {
                values: values.clone(),
                missing: missing
                    .as_ref()
                    .and_then(|text| values.iter().position(|value| value == text)),
            },
        },
        ColumnSettings::Numeric {
            name,
            mean,
            std_dev,
            missing,
        } => Column {
            name: name.clone(),
            kind: ColumnKind::Numeric {
                mean: *mean,
                std_dev: *std_dev,
                missing: *missing,
            },
        },
        other => unreachable!("the settings know no column {other:?}"),
    });
    CsvSchema {
        columns: columns.collect(),
        label_column: settings.label_column.clone(),
        labels,
        // The settings take ASCII characters only.
        delimiter: u8::try_from(settings.delimiter).unwrap_or(b','),
        column_names: (!settings.column_names.is_empty()).then(|| settings.column_names.clone()),
        missing: settings.missing.clone(),
    }
}

fn partition_spec(settings: &PartitionSettings) -> PartitionSpec {
    match settings {
        &PartitionSettings::ByKey { max_examples } => PartitionSpec::ByKey { max_examples },
        &PartitionSettings::Continuous { clients, strictness } => {
            PartitionSpec::Continuous { clients, strictness }
        }
        PartitionSettings::Distribution { shares } => PartitionSpec::Distribution {
            shares: shares.clone(),
        },
        &PartitionSettings::GroupedKeys { keys_per_client } => PartitionSpec::GroupedKeys { keys_per_client },
        &PartitionSettings::Dirichlet { alpha, clients } => PartitionSpec::Dirichlet { alpha, clients },
        &PartitionSettings::Iid { clients } => PartitionSpec::Iid { clients },
        &PartitionSettings::InnerDirichlet { alpha, clients } => {
            PartitionSpec::InnerDirichlet { alpha, clients }
        }
        &PartitionSettings::Pathological { clients, labels } => {
            PartitionSpec::Pathological { clients, labels }
        }
        &PartitionSettings::Quantity { clients, skew } => {
            let skew = match skew {
                QuantitySettings::Dirichlet { alpha } => QuantitySkew::Dirichlet { alpha },
                QuantitySettings::Exponential => QuantitySkew::Exponential,
                QuantitySettings::Linear => QuantitySkew::Linear,
                QuantitySettings::Square => QuantitySkew::Square,
                other => unreachable!("the settings know no skew {other:?}"),
            };
            PartitionSpec::Quantity { clients, skew }
        }
        &PartitionSettings::Shards {
            clients,
            shards_per_client,
        } => PartitionSpec::Shards {
            clients,
            shards_per_client,
        },
        PartitionSettings::Sizes { sizes } => PartitionSpec::Sizes { sizes: sizes.clone() },
        other => unreachable!("the settings know no partition {other:?}"),
    }
}

fn quoted(path: &Path) -> String {
    format!("`{}`", path.display())
}
