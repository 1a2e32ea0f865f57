//! A data set in memory: features stored as compactly as they came, and a class for every example.

mod tables;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::reader::{ClientKeys, IdxArray, ReadError, read_idx};
use crate::transform::Transform;

/// Examples with their classes.
///
/// Features stay in the type they were stored in (one byte a pixel for images) and become `f32` only when a batch is
/// [gathered](Self::gather), through the public [`Transform`].
#[derive(Clone)]
pub struct Dataset {
    source: String,
    storage: Storage,
    stored_shape: Vec<usize>,
    shape: Vec<usize>,
    n_features: usize,
    labels: Vec<u32>,
    n_classes: usize,
    transform: Transform,
}

/// Features, example after example. A further kind of data is a further variant.
#[derive(Clone)]
enum Storage {
    /// Bytes that mean 0 to 1 in steps of 1/255.
    U8(Vec<u8>),
    /// Values as they are.
    F32(Vec<f32>),
    /// Words of texts, which end together: padding stands in front.
    Tokens {
        tokens: Vec<u32>,
        /// Text i has tokens `offsets[i]..offsets[i + 1]`, no more than an example has values.
        offsets: Vec<usize>,
        n_tokens: usize,
        /// What an occurrence of each token counts, for models that weight words.
        weights: Option<Arc<[f32]>>,
    },
}

/// What the values of an example are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever builds a model must handle every kind of features"
)]
pub enum Features {
    /// Numbers, as of pixels or columns.
    Dense,
    /// Words: whole numbers below `n_tokens`, held exactly as `f32`. 0 is padding; see [`Tokenizer`](crate::Tokenizer).
    Tokens {
        /// How many distinct ones there are.
        n_tokens: usize,
    },
}

/// Why something is no data set, or why two do not belong together. Sources are file names.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// Two files speak of different numbers of examples.
    #[error("{first} has {n_first} examples, but {second} has {n_second}")]
    CountMismatch {
        /// What was counted first.
        first: String,
        /// Its number of examples.
        n_first: usize,
        /// What was compared with it.
        second: String,
        /// Its number of examples.
        n_second: usize,
    },
    /// Examples of two data sets are of different kinds.
    #[error("examples of {first} are {first_features}, but those of {second} are {second_features}")]
    FeaturesMismatch {
        /// The first data set.
        first: String,
        /// What its examples are.
        first_features: Features,
        /// The second data set.
        second: String,
        /// What its examples are.
        second_features: Features,
    },
    /// A label is not below the number of classes.
    #[error(
        "{source_name}, example {example}: label {label} is not one of the {n_classes} classes of {classes_of}"
    )]
    LabelOutOfRange {
        /// Where the label stands.
        source_name: String,
        /// Which example, counted from 0.
        example: usize,
        /// Its label.
        label: u32,
        /// Classes there are.
        n_classes: usize,
        /// What says so.
        classes_of: String,
    },
    /// The labels are no list.
    #[error("{source_name} has shape {shape:?}; labels are one number an example, in one dimension")]
    LabelShape {
        /// The file of labels.
        source_name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// There is nothing to learn from.
    #[error("{source_name} has no examples")]
    NoExamples {
        /// The file.
        source_name: String,
    },
    /// The file of examples is a list of single numbers, as files of labels are.
    #[error(
        "{source_name} has shape {shape:?}; examples need at least two dimensions. Is it the file of labels?"
    )]
    NoFeatures {
        /// The file of examples.
        source_name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A value is not a finite number.
    #[error("{source_name}, example {example}: a value is not a finite number")]
    NotFinite {
        /// Where the value stands.
        source_name: String,
        /// Which example, counted from 0.
        example: usize,
    },
    /// The pooling window does not divide height and width.
    #[error(
        "{source_name}: examples of shape {shape:?} cannot be pooled {pool} by {pool}; both sides must be multiples of {pool}"
    )]
    Pool {
        /// The data.
        source_name: String,
        /// The shape of one example as stored.
        shape: Vec<usize>,
        /// Side of the window.
        pool: usize,
    },
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Examples of two data sets have different shapes.
    #[error(
        "examples of {first} have shape {first_shape:?}, but those of {second} have shape {second_shape:?}"
    )]
    ShapeMismatch {
        /// The first data set.
        first: String,
        /// Shape of one of its examples.
        first_shape: Vec<usize>,
        /// The second data set.
        second: String,
        /// Shape of one of its examples.
        second_shape: Vec<usize>,
    },
    /// More examples than indices of 32 bits can number.
    #[error("{source_name} has {n_examples} examples, at most {} are supported", u32::MAX)]
    TooManyExamples {
        /// The file.
        source_name: String,
        /// Its number of examples.
        n_examples: usize,
    },
}

impl std::fmt::Display for Features {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dense => write!(f, "numbers"),
            Self::Tokens { n_tokens } => write!(f, "words numbered below {n_tokens}"),
        }
    }
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dataset")
            .field("source", &self.source)
            .field("n_examples", &self.n_examples())
            .field("shape", &self.shape)
            .field("n_classes", &self.n_classes)
            .field("transform", &self.transform)
            .finish_non_exhaustive()
    }
}

impl Dataset {
    /// Reads examples and labels from two IDX files of unsigned bytes, gzipped or plain.
    ///
    /// The first dimension of `examples` counts them, the others are the shape of one: `[height, width]`, or
    /// `[channels, height, width]`. The number of classes is the largest label plus one; say it with
    /// [`with_n_classes`](Self::with_n_classes) where that is not what is meant.
    pub fn load_idx(examples: &Path, labels: &Path) -> Result<Self, DataError> {
        let images = Self::from_images(read_idx(examples)?)?;
        let (source, labels_source) = (images.source.clone(), quoted(labels));
        let n_examples = images.n_examples();
        let label_array = read_idx(labels)?;
        let [n_labels] = *label_array.shape() else {
            let shape = label_array.shape().to_vec();
            return Err(DataError::LabelShape {
                source_name: labels_source,
                shape,
            });
        };
        if n_labels != n_examples {
            return Err(DataError::CountMismatch {
                first: source,
                n_first: n_examples,
                second: labels_source,
                n_second: n_labels,
            });
        }
        let labels: Vec<u32> = label_array.values().iter().copied().map(u32::from).collect();
        Self::new(source, images.storage, images.stored_shape, labels, None)
    }

    /// Images without labels, for prediction: every example has class 0.
    ///
    /// # Errors
    ///
    /// An array of one dimension, or without examples.
    pub fn from_images(images: IdxArray) -> Result<Self, DataError> {
        let source = quoted(images.path());
        let (&n_examples, shape) = images
            .shape()
            .split_first()
            .expect("an IDX array has a dimension");
        let shape = shape.to_vec();
        if shape.is_empty() {
            return Err(DataError::NoFeatures {
                source_name: source,
                shape: images.shape().to_vec(),
            });
        }
        Self::new(
            source,
            Storage::U8(images.into_values()),
            shape,
            vec![0; n_examples],
            None,
        )
    }

    /// A data set from values in memory: `values` holds `labels.len()` examples of shape `shape`, one after the other.
    ///
    /// `source` names it in messages. Values are taken as they are: nothing scales them to 0..1.
    pub fn from_values(
        source: &str,
        shape: &[usize],
        values: Vec<f32>,
        labels: Vec<u32>,
        n_classes: usize,
    ) -> Result<Self, DataError> {
        let n_features: usize = shape.iter().product();
        if n_features == 0 {
            return Err(DataError::NoFeatures {
                source_name: source.to_owned(),
                shape: shape.to_vec(),
            });
        }
        if values.len() != labels.len().saturating_mul(n_features) {
            return Err(DataError::CountMismatch {
                first: format!("{source} (values)"),
                n_first: values.len() / n_features,
                second: format!("{source} (labels)"),
                n_second: labels.len(),
            });
        }
        if let Some(position) = values.iter().position(|value| !value.is_finite()) {
            return Err(DataError::NotFinite {
                source_name: source.to_owned(),
                example: position / n_features,
            });
        }
        Self::new(
            source.to_owned(),
            Storage::F32(values),
            shape.to_vec(),
            labels,
            Some(n_classes),
        )
    }

    fn new(
        source: String,
        storage: Storage,
        shape: Vec<usize>,
        labels: Vec<u32>,
        n_classes: Option<usize>,
    ) -> Result<Self, DataError> {
        let Some(&max_label) = labels.iter().max() else {
            return Err(DataError::NoExamples { source_name: source });
        };
        if u32::try_from(labels.len()).is_err() {
            return Err(DataError::TooManyExamples {
                source_name: source,
                n_examples: labels.len(),
            });
        }
        let n_features = shape.iter().product();
        let transform = Transform::default();
        let inferred = max_label as usize + 1;
        let stored_shape = shape.clone();
        let dataset = Self {
            source,
            storage,
            stored_shape,
            shape,
            n_features,
            labels,
            n_classes: inferred,
            transform,
        };
        match n_classes {
            None => Ok(dataset),
            Some(n_classes) => dataset.with_n_classes(n_classes),
        }
    }

    /// The same data with another preprocessing, which replaces the one before.
    pub fn with_transform(mut self, transform: Transform) -> Result<Self, DataError> {
        let Some(shape) = transform.output_shape(&self.stored_shape) else {
            let (shape, pool) = (self.stored_shape, transform.pool());
            return Err(DataError::Pool {
                source_name: self.source,
                shape,
                pool,
            });
        };
        self.n_features = shape.iter().product();
        self.shape = shape;
        self.transform = transform;
        Ok(self)
    }

    /// The same data with a stated number of classes, which must be above every label.
    pub fn with_n_classes(mut self, n_classes: usize) -> Result<Self, DataError> {
        self.check_labels_below(n_classes, &self.source)?;
        self.n_classes = n_classes;
        Ok(self)
    }

    /// How many examples there are; at least 1, and fewer than 2^32.
    pub fn n_examples(&self) -> usize {
        self.labels.len()
    }

    /// Shape of one example, after the transform.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Values of one example, after the transform: the product of [`shape`](Self::shape).
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// How many classes there are; every label is below it.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// The class of every example.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Gives everything that training can see to `sink`, piece by piece, for a hash: shape, transform, labels and features as
    /// stored.
    pub fn visit_content(&self, sink: &mut dyn FnMut(&[u8])) {
        let transform = (
            self.transform.pool(),
            self.transform.mean(),
            self.transform.std_dev(),
        );
        let heading = format!(
            "{:?} {:?} {} {transform:?}\n",
            self.stored_shape, self.shape, self.n_classes
        );
        sink(heading.as_bytes());
        for label in &self.labels {
            sink(&label.to_le_bytes());
        }
        match &self.storage {
            Storage::U8(values) => sink(values),
            Storage::F32(values) => values.iter().for_each(|value| sink(&value.to_le_bytes())),
            Storage::Tokens {
                tokens,
                offsets,
                n_tokens,
                weights,
            } => {
                sink(format!("tokens below {n_tokens}\n").as_bytes());
                for weight in weights.iter().flat_map(|weights| weights.iter()) {
                    sink(&weight.to_le_bytes());
                }
                tokens.iter().for_each(|token| sink(&token.to_le_bytes()));
                offsets
                    .iter()
                    .for_each(|&offset| sink(&(offset as u64).to_le_bytes()));
            }
        }
    }

    /// What the values of an example are.
    pub fn features(&self) -> Features {
        match self.storage {
            Storage::U8(_) | Storage::F32(_) => Features::Dense,
            Storage::Tokens { n_tokens, .. } => Features::Tokens { n_tokens },
        }
    }

    /// What an occurrence of each token counts, `[n_tokens]`; `None` where all count alike, or the examples are no texts.
    pub fn token_weights(&self) -> Option<&Arc<[f32]>> {
        match &self.storage {
            Storage::Tokens { weights, .. } => weights.as_ref(),
            Storage::U8(_) | Storage::F32(_) => None,
        }
    }

    /// What the data is called in messages: the file of its examples in backticks, or the name given to
    /// [`from_values`](Self::from_values).
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The preprocessing.
    pub fn transform(&self) -> Transform {
        self.transform
    }

    /// Checks that `other` can be evaluated with a model trained on this data: examples of the same shape, labels
    /// within the classes of this data.
    pub fn check_same_task(&self, other: &Self) -> Result<(), DataError> {
        if self.features() != other.features() {
            return Err(DataError::FeaturesMismatch {
                first: self.source.clone(),
                first_features: self.features(),
                second: other.source.clone(),
                second_features: other.features(),
            });
        }
        if self.shape != other.shape {
            return Err(DataError::ShapeMismatch {
                first: self.source.clone(),
                first_shape: self.shape.clone(),
                second: other.source.clone(),
                second_shape: other.shape.clone(),
            });
        }
        other.check_labels_below(self.n_classes, &self.source)
    }

    /// Checks that there is one client key for every example.
    pub fn check_keys(&self, keys: &ClientKeys) -> Result<(), DataError> {
        if keys.n_examples() == self.n_examples() {
            return Ok(());
        }
        Err(DataError::CountMismatch {
            first: self.source.clone(),
            n_first: self.n_examples(),
            second: quoted(keys.path()),
            n_second: keys.n_examples(),
        })
    }

    /// Writes the transformed features and the labels of the examples `indices` to two buffers: row-major
    /// `[indices.len(), n_features]`, and `[indices.len()]`.
    ///
    /// # Panics
    ///
    /// Where a buffer has another length, or an index is not below [`n_examples`](Self::n_examples).
    pub fn gather(&self, indices: &[u32], features: &mut [f32], labels: &mut [u32]) {
        assert_eq!(labels.len(), indices.len(), "one label an index");
        self.gather_each(indices.iter().map(|&index| index as usize), features, labels);
    }

    /// Like [`gather`](Self::gather), for examples that follow each other.
    ///
    /// # Panics
    ///
    /// Where a buffer has another length, or the range ends after the last example.
    pub fn gather_range(&self, range: Range<usize>, features: &mut [f32], labels: &mut [u32]) {
        assert_eq!(labels.len(), range.len(), "one label an example");
        self.gather_each(range, features, labels);
    }

    fn gather_each(&self, indices: impl Iterator<Item = usize>, features: &mut [f32], labels: &mut [u32]) {
        assert_eq!(
            features.len(),
            labels.len() * self.n_features,
            "one row of features an example"
        );
        let width: usize = self.stored_shape.iter().product();
        let rows = features.chunks_exact_mut(self.n_features);
        let stored = |index: usize| index * width..(index + 1) * width;
        for ((index, row), label) in indices.zip(rows).zip(labels) {
            match &self.storage {
                Storage::U8(values) => {
                    self.transform
                        .apply(&self.stored_shape, 1.0 / 255.0, &values[stored(index)], row);
                }
                Storage::F32(values) => {
                    self.transform
                        .apply(&self.stored_shape, 1.0, &values[stored(index)], row);
                }
                Storage::Tokens { tokens, offsets, .. } => {
                    tables::pad_in_front(&tokens[offsets[index]..offsets[index + 1]], row);
                }
            }
            *label = self.labels[index];
        }
    }

    fn check_labels_below(&self, n_classes: usize, classes_of: &str) -> Result<(), DataError> {
        match self.labels.iter().position(|&label| label as usize >= n_classes) {
            None => Ok(()),
            Some(example) => Err(DataError::LabelOutOfRange {
                source_name: self.source.clone(),
                example,
                label: self.labels[example],
                n_classes,
                classes_of: classes_of.to_owned(),
            }),
        }
    }
}

fn quoted(path: &Path) -> String {
    format!("`{}`", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::read_client_keys;
    use crate::test_files::{gzip, idx, write};

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            Self {
                folder: tempfile::tempdir().unwrap(),
            }
        }

        fn write(&self, name: &str, dimensions: &[u32], values: &[u8]) -> std::path::PathBuf {
            write(self.folder.path(), name, &gzip(&idx(dimensions, values)))
        }

        /// A message without the folder's name.
        fn message(&self, error: &dyn std::error::Error) -> String {
            error
                .to_string()
                .replace(&format!("{}/", self.folder.path().display()), "")
        }
    }

    #[test]
    fn images_are_gathered_in_the_order_asked_for() {
        let files = Files::new();
        let images = files.write("images", &[3, 1, 2], &[0, 51, 102, 153, 204, 255]);
        let labels = files.write("labels", &[3], &[2, 0, 1]);
        let dataset = Dataset::load_idx(&images, &labels).unwrap();
        assert_eq!(
            (dataset.n_examples(), dataset.n_features(), dataset.n_classes()),
            (3, 2, 3)
        );
        assert_eq!(dataset.shape(), [1, 2]);
        let (mut features, mut labels) = ([0.0; 6], [0; 3]);
        dataset.gather(&[2, 0, 2], &mut features, &mut labels);
        assert_eq!(labels, [1, 2, 1]);
        for (got, expected) in features.iter().zip([0.8, 1.0, 0.0, 0.2, 0.8, 1.0]) {
            assert!((got - expected).abs() < 1e-6, "{features:?}");
        }
        let (mut in_range, mut range_labels) = ([0.0; 4], [0; 2]);
        dataset.gather_range(1..3, &mut in_range, &mut range_labels);
        assert_eq!(range_labels, [0, 1]);
        assert_eq!(in_range[2..], features[..2]);
    }

    #[test]
    fn a_transform_replaces_the_one_before() {
        let files = Files::new();
        let images = files.write("images", &[1, 2, 2], &[0, 255, 255, 255]);
        let labels = files.write("labels", &[1], &[0]);
        let dataset = Dataset::load_idx(&images, &labels).unwrap();
        let pooled = dataset
            .with_transform(Transform::new(2, 0.25, 0.5).unwrap())
            .unwrap();
        assert_eq!((pooled.shape(), pooled.n_features()), (&[1, 1][..], 1));
        let (mut features, mut labels) = ([0.0], [9]);
        pooled.gather(&[0], &mut features, &mut labels);
        assert!((features[0] - 1.0).abs() < 1e-6);
        let back = pooled.with_transform(Transform::default()).unwrap();
        assert_eq!(back.shape(), [2, 2]);
        let error = back
            .with_transform(Transform::new(3, 0.0, 1.0).unwrap())
            .unwrap_err();
        assert_eq!(
            files.message(&error),
            "`images`: examples of shape [2, 2] cannot be pooled 3 by 3; both sides must be multiples of 3"
        );
    }

    #[test]
    fn files_that_do_not_belong_together_are_named() {
        let files = Files::new();
        let images = files.write("images", &[2, 1, 2], &[0; 4]);
        let labels = files.write("labels", &[3], &[2, 0, 1]);
        let check = |images, labels, expected: &str| {
            let error = Dataset::load_idx(images, labels).unwrap_err();
            assert_eq!(files.message(&error), expected);
        };
        check(&images, &labels, "`images` has 2 examples, but `labels` has 3");
        check(
            &images,
            &images,
            "`images` has shape [2, 1, 2]; labels are one number an example, in one dimension",
        );
        check(
            &labels,
            &labels,
            "`labels` has shape [3]; examples need at least two dimensions. Is it the file of labels?",
        );
        let (none, no_labels) = (
            files.write("none", &[0, 2], &[]),
            files.write("no-labels", &[0], &[]),
        );
        check(&none, &no_labels, "`none` has no examples");

        let keys = write(files.folder.path(), "keys", b"writer\na\nb\nc\n");
        let keys = read_client_keys(&keys, None).unwrap();
        let two = Dataset::load_idx(&images, &files.write("two", &[2], &[0, 1])).unwrap();
        let error = two.check_keys(&keys).unwrap_err();
        assert_eq!(files.message(&error), "`images` has 2 examples, but `keys` has 3");
    }

    #[test]
    fn a_test_set_of_another_task_is_refused_with_both_names() {
        let train = Dataset::from_values("train", &[2], vec![0.0; 6], vec![0, 1, 2], 3).unwrap();
        let check = |test: &Dataset, expected: &str| {
            assert_eq!(train.check_same_task(test).unwrap_err().to_string(), expected);
        };
        let other_shape = Dataset::from_values("test", &[1, 2], vec![0.0; 2], vec![0], 3).unwrap();
        check(
            &other_shape,
            "examples of train have shape [2], but those of test have shape [1, 2]",
        );
        let more_classes = Dataset::from_values("test", &[2], vec![0.0; 4], vec![1, 7], 10).unwrap();
        check(
            &more_classes,
            "test, example 1: label 7 is not one of the 3 classes of train",
        );
        let fewer_classes = Dataset::from_values("test", &[2], vec![0.0; 4], vec![1, 1], 2).unwrap();
        train.check_same_task(&fewer_classes).unwrap();
    }

    #[test]
    fn values_in_memory_are_checked() {
        let check = |shape: &[usize], values: Vec<f32>, labels: Vec<u32>, expected: &str| {
            let error = Dataset::from_values("it", shape, values, labels, 2).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(
            &[2],
            vec![0.0; 6],
            vec![0, 1],
            "it (values) has 3 examples, but it (labels) has 2",
        );
        check(
            &[1],
            vec![0.0, f32::NAN],
            vec![0, 1],
            "it, example 1: a value is not a finite number",
        );
        check(
            &[1],
            vec![0.0, 1.0],
            vec![0, 2],
            "it, example 1: label 2 is not one of the 2 classes of it",
        );
        check(&[1], vec![], vec![], "it has no examples");
        let values = Dataset::from_values("it", &[1], vec![3.0, -4.5], vec![0, 1], 2).unwrap();
        let (mut features, mut labels) = ([0.0; 2], [0; 2]);
        values.gather(&[1, 0], &mut features, &mut labels);
        assert!((features[0] + 4.5).abs() < 1e-6 && (features[1] - 3.0).abs() < 1e-6);
    }
}
