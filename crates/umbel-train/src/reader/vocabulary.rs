//! The public list of words that text is encoded with.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::lines::Lines;
use super::{Place, ReadError, ReadFault};

/// No line of a vocabulary needs more.
const MAX_LINE_BYTES: usize = 1 << 12;

/// The most words in a vocabulary file.
const MAX_WORDS: usize = 1 << 24;

/// Words with their ranks: 1 for the most frequent one.
///
/// A vocabulary is **public**: a list that was made without the clients' data, or released at a price that is charged
/// elsewhere. One that is counted from the clients' texts would tell who used a rare word, outside every ε.
#[derive(Clone, PartialEq, Eq)]
pub struct Vocabulary {
    path: PathBuf,
    // Only looked up, never walked through, so that its order reaches nothing.
    ranks: HashMap<Box<str>, u32>,
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary")
            .field("path", &self.path)
            .field("n_words", &self.ranks.len())
            .finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// The file it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many words it has.
    pub fn n_words(&self) -> usize {
        self.ranks.len()
    }

    /// The rank of a word, from 1; `None` for an unknown one.
    pub fn rank(&self, word: &str) -> Option<u32> {
        self.ranks.get(word).copied()
    }
}

/// Reads a vocabulary, gzipped or plain: one word a line, most frequent first, or `word<TAB>rank` in any order.
///
/// What the first line has decides which of the two it is. With ranks, further columns are passed over, and so is a
/// first line whose second field is `rank`. Words must stand in lower case and without the characters that the
/// [`Tokenizer`](crate::Tokenizer) takes away, else no text ever matches them; that is not checked.
///
/// # Errors
///
/// An empty file or word; a word or a rank that comes twice (with the line of the first); a rank that is no whole number
/// of at least 1; text that is not UTF-8; more than 2^24 words; damaged compression. The error names the line.
pub fn read_vocabulary(path: &Path) -> Result<Vocabulary, ReadError> {
    let mut lines = Lines::open(path, MAX_LINE_BYTES)?;
    let mut ranks: HashMap<Box<str>, u32> = HashMap::new();
    let mut line_of_rank: HashMap<u32, u64> = HashMap::new();
    let mut is_ranked = false;
    while let Some(line) = lines.next_line()? {
        let (word, rest) = match line.split_once('\t') {
            Some((word, rest)) => (word, rest.split('\t').next()),
            None => (line, None),
        };
        // Owned, so that an error can ask for the number of the line.
        let (word, rest) = (Box::<str>::from(word), rest.map(str::to_owned));
        if lines.number() == 1 {
            is_ranked = rest.is_some();
            if rest.as_deref() == Some("rank") {
                continue;
            }
        }
        let next_rank = ranks.len() + 1;
        let rank = rank(&word, rest.as_deref(), is_ranked, next_rank).map_err(|fault| lines.error(fault))?;
        if let Some(line_before) = line_of_rank.insert(rank, lines.number()) {
            return Err(lines.error(ReadFault::RepeatedRank { rank, line_before }));
        }
        if let Some(before) = ranks.get(&word) {
            let (word, line_before) = (word.into(), line_of_rank[before]);
            return Err(lines.error(ReadFault::RepeatedWord { word, line_before }));
        }
        ranks.insert(word, rank);
    }
    if ranks.is_empty() {
        let expected = "one word a line, or `word<TAB>rank`";
        return Err(ReadError::new(path, Place::File, ReadFault::Empty { expected }));
    }
    Ok(Vocabulary {
        path: path.to_owned(),
        ranks,
    })
}

/// The rank of a word, as its line says, or by its place.
fn rank(word: &str, field: Option<&str>, is_ranked: bool, next_rank: usize) -> Result<u32, ReadFault> {
    if word.is_empty() {
        return Err(ReadFault::EmptyWord);
    }
    if next_rank > MAX_WORDS {
        return Err(ReadFault::TooManyWords { limit: MAX_WORDS });
    }
    match (field, is_ranked) {
        (None, false) => u32::try_from(next_rank).map_err(|_| ReadFault::TooManyWords { limit: MAX_WORDS }),
        (Some(field), true) => match field.parse() {
            Ok(rank @ 1..) => Ok(rank),
            _ => Err(ReadFault::BadRank {
                got: field.to_owned(),
            }),
        },
        (Some(_), false) => Err(ReadFault::MixedVocabulary {
            expected: "a word alone",
            got: "a word and a rank",
        }),
        (None, true) => Err(ReadFault::MixedVocabulary {
            expected: "a word and a rank",
            got: "a word alone",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_files::{gzip, write};

    fn read(bytes: &[u8]) -> Result<Vocabulary, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "words", bytes);
        let result = read_vocabulary(&path);
        result.map_err(|error| error.to_string().replace(&path.display().to_string(), "words"))
    }

    #[track_caller]
    fn check_refused(text: &[u8], expected: &str) {
        assert_eq!(read(text).unwrap_err(), expected);
    }

    #[test]
    fn both_forms_give_ranks() {
        let ranked = b"word\trank\tcount\nand\t2\t10\nthe\t1\t20\nbr\t7\t3\n";
        for bytes in [ranked.to_vec(), gzip(ranked), ranked[16..].to_vec()] {
            let words = read(&bytes).unwrap();
            let found = ["the", "and", "br", "The"].map(|word| words.rank(word));
            assert_eq!(found, [Some(1), Some(2), Some(7), None]);
            assert_eq!(words.n_words(), 3);
        }
        let plain = read(b"\xef\xbb\xbfthe\r\nand\r\n").unwrap();
        assert_eq!(
            ["the", "and", "br"].map(|word| plain.rank(word)),
            [Some(1), Some(2), None]
        );
    }

    #[test]
    fn malformed_vocabularies_are_refused_with_their_line() {
        check_refused(
            b"",
            "`words`: the file is empty, expected one word a line, or `word<TAB>rank`",
        );
        check_refused(
            b"word\trank\n",
            "`words`: the file is empty, expected one word a line, or `word<TAB>rank`",
        );
        check_refused(
            b"the\nand\nthe\n",
            "`words`, line 3: the word `the` stands in line 1 already",
        );
        check_refused(
            b"the\t1\nand\t2\nof\t1\n",
            "`words`, line 3: the rank 1 stands in line 1 already",
        );
        check_refused(
            b"the\t1\nthe\t2\n",
            "`words`, line 2: the word `the` stands in line 1 already",
        );
        for rank in ["0", "-1", "x", "1.5", ""] {
            let expected = format!(
                "`words`, line 2: the rank of a word must be a whole number of at least 1, got `{rank}`"
            );
            check_refused(format!("a\t9\nthe\t{rank}\n").as_bytes(), &expected);
        }
        check_refused(b"a\n\nb\n", "`words`, line 2: there is no word");
        check_refused(
            b"a\nb\t2\n",
            "`words`, line 2: expected a word alone as in line 1, got a word and a rank",
        );
        check_refused(
            b"a\t1\nb\n",
            "`words`, line 2: expected a word and a rank as in line 1, got a word alone",
        );
        check_refused(b"a\n\xff\n", "`words`, line 2: the text is not UTF-8");
    }
}
