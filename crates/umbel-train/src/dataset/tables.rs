//! Data sets from texts and from rows of a table.

use super::{DataError, Dataset, Storage};
use crate::reader::{CsvTable, LabelValues, TextTable};
use crate::tokenizer::{PADDING_TOKEN, Tokenizer};

impl Dataset {
    /// A data set of texts, each an example of shape `[max_length]` with padding in front. `tokenizer` and `labels` are those
    /// that the table was read with; `source` names it in messages.
    ///
    /// A table that was read without labels gives every example class 0.
    ///
    /// # Errors
    ///
    /// No texts, or too many.
    pub fn from_texts(
        source: &str,
        table: TextTable,
        tokenizer: &Tokenizer,
        labels: &LabelValues,
    ) -> Result<Self, DataError> {
        let n_examples = table.offsets.len() - 1;
        let classes = known_labels(table.labels, n_examples);
        let storage = Storage::Tokens {
            tokens: table.tokens,
            offsets: table.offsets,
            n_tokens: tokenizer.n_tokens(),
            weights: tokenizer.weights().cloned(),
        };
        let shape = vec![tokenizer.max_length()];
        Self::new(source.to_owned(), storage, shape, classes, labels.n_classes())
    }

    /// A data set of rows, each an example of shape `[n_features]`. `labels` are those that the table was read with; `source`
    /// names it in messages.
    ///
    /// A table that was read without labels gives every example class 0.
    ///
    /// # Errors
    ///
    /// No rows, too many, or no features.
    pub fn from_rows(source: &str, table: CsvTable, labels: &LabelValues) -> Result<Self, DataError> {
        let shape = vec![table.n_features];
        if table.n_features == 0 {
            return Err(DataError::NoFeatures {
                source_name: source.to_owned(),
                shape,
            });
        }
        let classes = known_labels(table.labels, table.n_rows);
        let storage = Storage::F32(table.values);
        Self::new(source.to_owned(), storage, shape, classes, labels.n_classes())
    }
}

fn known_labels(labels: Vec<u32>, n_examples: usize) -> Vec<u32> {
    if labels.is_empty() {
        vec![0; n_examples]
    } else {
        labels
    }
}

/// Writes tokens to the end of `row` and padding before them.
#[allow(clippy::cast_precision_loss, reason = "tokens are below 2^24")]
pub(super) fn pad_in_front(tokens: &[u32], row: &mut [f32]) {
    let (padding, rest) = row.split_at_mut(row.len() - tokens.len());
    padding.fill(PADDING_TOKEN as f32);
    for (value, &token) in rest.iter_mut().zip(tokens) {
        *value = token as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Features;
    use crate::reader::{TextOptions, read_text, read_vocabulary};
    use crate::test_files::write;

    const BINARY: LabelValues = LabelValues::Numbers { n_classes: Some(2) };

    fn texts(rows: &[u8], words: usize) -> Result<Dataset, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let vocabulary = read_vocabulary(&write(folder.path(), "words", b"good\nbad\nfilm\n")).unwrap();
        let tokenizer = Tokenizer::new(vocabulary, words, 4).unwrap();
        let options = TextOptions {
            tokenizer: &tokenizer,
            labels: &BINARY,
            client_column: None,
        };
        let table = read_text(&write(folder.path(), "texts", rows), options).unwrap();
        Dataset::from_texts("texts", table, &tokenizer, &BINARY)
    }

    #[test]
    #[allow(clippy::cast_possible_truncation, reason = "small whole numbers")]
    fn texts_are_padded_in_front() {
        let dataset = texts(b"1\tgood film\n0\tbad bad bad bad bad\n0\t\n", 8).unwrap();
        assert_eq!(dataset.features(), Features::Tokens { n_tokens: 8 });
        assert_eq!(
            (dataset.shape(), dataset.n_examples(), dataset.n_classes()),
            (&[4][..], 3, 2)
        );
        let (mut features, mut labels) = ([9.0; 12], [9; 3]);
        dataset.gather(&[2, 0, 1], &mut features, &mut labels);
        assert_eq!(labels, [0, 1, 0]);
        let whole: Vec<i32> = features.iter().map(|&value| value as i32).collect();
        assert_eq!(whole, [0, 0, 0, 1, 0, 1, 4, 6, 5, 5, 5, 5]);
    }

    #[test]
    fn another_table_of_words_is_another_task() {
        let (first, second) = (texts(b"1\tgood\n", 8).unwrap(), texts(b"1\tgood\n", 9).unwrap());
        assert_eq!(
            first.check_same_task(&second).unwrap_err().to_string(),
            "examples of texts are words numbered below 8, but those of texts are words numbered below 9"
        );
        let mut contents = [Vec::new(), Vec::new()];
        for (dataset, content) in [&first, &second].iter().zip(&mut contents) {
            dataset.visit_content(&mut |bytes| content.extend_from_slice(bytes));
        }
        assert_ne!(contents[0], contents[1]);
    }

    #[test]
    fn rows_without_labels_are_class_0() {
        let table = CsvTable {
            values: vec![0.5, 1.5],
            n_features: 1,
            n_rows: 2,
            labels: Vec::new(),
            clients: None,
        };
        let dataset = Dataset::from_rows("rows", table.clone(), &BINARY).unwrap();
        assert_eq!(
            (dataset.labels(), dataset.features()),
            (&[0, 0][..], Features::Dense)
        );
        let none = CsvTable {
            values: Vec::new(),
            n_rows: 0,
            ..table
        };
        let error = Dataset::from_rows("rows", none, &BINARY).unwrap_err();
        assert_eq!(error.to_string(), "rows has no examples");
    }
}
