//! The public weights of words, such as inverse document frequencies.

use std::collections::HashMap;
use std::path::Path;

use super::lines::Lines;
use super::{Place, ReadError, ReadFault};

/// No line needs more.
const MAX_LINE_BYTES: usize = 1 << 12;

/// The most words in a file.
const MAX_WORDS: usize = 1 << 24;

/// Words with their weights.
///
/// Weights are **public**: like a [`Vocabulary`](crate::Vocabulary) they must come from elsewhere than the clients' texts.
#[derive(Clone, PartialEq)]
pub struct WordWeights {
    // Only looked up, or walked through for what does not hang on the order.
    weights: HashMap<Box<str>, f32>,
    largest: f32,
}

impl std::fmt::Debug for WordWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WordWeights")
            .field("n_words", &self.weights.len())
            .finish_non_exhaustive()
    }
}

impl WordWeights {
    /// The largest of all: that of words which are not listed, taken to be as rare as the rarest.
    pub fn largest(&self) -> f32 {
        self.largest
    }

    /// The words with their weights, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, f32)> {
        self.weights.iter().map(|(word, &weight)| (&**word, weight))
    }
}

/// Reads weights of words, gzipped or plain: `word<TAB>weight` in any order. A first line whose second field is `weight` or `idf`
/// is a header; further columns are passed over.
///
/// # Errors
///
/// An empty file or word; a word that comes twice (with the line of the first); a weight that is no finite number above 0; text
/// that is not UTF-8; more than 2^24 words; damaged compression. The error names the line.
pub fn read_word_weights(path: &Path) -> Result<WordWeights, ReadError> {
    let mut lines = Lines::open(path, MAX_LINE_BYTES)?;
    let mut found: HashMap<Box<str>, (f32, u64)> = HashMap::new();
    while let Some(line) = lines.next_line()? {
        let mut fields = line.split('\t');
        let word = Box::<str>::from(fields.next().unwrap_or_default());
        let field = fields.next().map(str::to_owned);
        let number = lines.number();
        if number == 1 && matches!(field.as_deref(), Some("weight" | "idf")) {
            continue;
        }
        let weight = weight(&word, field.as_deref(), found.len()).map_err(|fault| lines.error(fault))?;
        if let Some((_, line_before)) = found.get(&word) {
            let (word, line_before) = (word.into(), *line_before);
            return Err(lines.error(ReadFault::RepeatedWord { word, line_before }));
        }
        found.insert(word, (weight, number));
    }
    if found.is_empty() {
        let expected = "`word<TAB>weight` a line";
        return Err(ReadError::new(path, Place::File, ReadFault::Empty { expected }));
    }
    let weights: HashMap<_, _> = found
        .into_iter()
        .map(|(word, (weight, _))| (word, weight))
        .collect();
    let largest = weights.values().copied().fold(0.0, f32::max);
    Ok(WordWeights { weights, largest })
}

fn weight(word: &str, field: Option<&str>, n_words: usize) -> Result<f32, ReadFault> {
    if word.is_empty() {
        return Err(ReadFault::EmptyWord);
    }
    if n_words >= MAX_WORDS {
        return Err(ReadFault::TooManyWords { limit: MAX_WORDS });
    }
    let got = field.unwrap_or_default();
    match got.parse::<f32>() {
        Ok(weight) if weight > 0.0 && weight.is_finite() => Ok(weight),
        _ => Err(ReadFault::BadWeight { got: got.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_files::{gzip, write};

    fn read(bytes: &[u8]) -> Result<WordWeights, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "idf", bytes);
        let result = read_word_weights(&path);
        result.map_err(|error| error.to_string().replace(&path.display().to_string(), "idf"))
    }

    #[test]
    fn words_have_weights() {
        let text = b"word\tidf\tcount\nthe\t1.5\t9\nfilm\t3\n";
        for bytes in [text.to_vec(), gzip(text)] {
            let weights = read(&bytes).unwrap();
            let mut all: Vec<_> = weights.iter().collect();
            all.sort_by_key(|(word, _)| word.to_string());
            assert_eq!(all, [("film", 3.0), ("the", 1.5)]);
            assert_eq!(weights.largest().to_bits(), 3.0_f32.to_bits());
        }
    }

    #[test]
    fn malformed_weights_are_refused_with_their_line() {
        for (text, expected) in [
            ("", "`idf`: the file is empty, expected `word<TAB>weight` a line"),
            ("a\t1\n\t2\n", "`idf`, line 2: there is no word"),
            (
                "a\t1\nb\t2\na\t3\n",
                "`idf`, line 3: the word `a` stands in line 1 already",
            ),
            (
                "a\n",
                "`idf`, line 1: the weight of a word must be a finite number above 0, got ``",
            ),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap_err(), expected);
        }
        for weight in ["0", "-1", "x", "nan", "inf"] {
            let expected = format!(
                "`idf`, line 1: the weight of a word must be a finite number above 0, got `{weight}`"
            );
            assert_eq!(read(format!("a\t{weight}\n").as_bytes()).unwrap_err(), expected);
        }
    }
}
