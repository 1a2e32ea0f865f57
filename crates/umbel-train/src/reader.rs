//! Readers of data files, and what can be wrong with a file.

mod csv;
mod idx;
mod input;
mod keys;
mod label;
mod lines;
mod text;
mod vocabulary;
mod word_weights;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use self::csv::{Column, ColumnKind, CsvSchema, CsvTable, read_csv, read_unlabelled_csv};
pub use self::idx::{IdxArray, MAX_IDX_BYTES, read_idx};
pub use self::keys::{ClientKeys, read_client_keys};
pub use self::label::LabelValues;
pub use self::text::{TextOptions, TextTable, read_text, read_unlabelled_text};
pub use self::vocabulary::{Vocabulary, read_vocabulary};
pub use self::word_weights::{WordWeights, read_word_weights};

/// The most values, of four bytes each, that are kept of one file of texts or rows.
const MAX_VALUES: usize = 1 << 30;

/// A file that could not be read: which, where, and why.
#[derive(Debug, thiserror::Error)]
#[error("`{}`{place}: {fault}", path.display())]
pub struct ReadError {
    /// The file.
    pub path: PathBuf,
    /// Where in the file.
    pub place: Place,
    /// What is wrong there.
    #[source]
    pub fault: ReadFault,
}

impl ReadError {
    fn new(path: &Path, place: Place, fault: ReadFault) -> Self {
        Self {
            path: path.to_owned(),
            place,
            fault,
        }
    }
}

/// Where in a file something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A byte, counted from 0.
    Byte(u64),
    /// The file as a whole.
    File,
    /// A line of the text (unpacked, where it is compressed), counted from 1.
    Line(u64),
    /// A byte of what the gzip file unpacks to, counted from 0.
    UnpackedByte(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte(offset) => write!(f, ", byte {offset}"),
            Self::File => Ok(()),
            Self::Line(line) => write!(f, ", line {line}"),
            Self::UnpackedByte(offset) => write!(f, ", byte {offset} unpacked"),
        }
    }
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadFault {
    /// A field is not what its column holds.
    #[error("the column `{column}` must be {expected}, got `{got}`")]
    BadField {
        /// The column.
        column: String,
        /// What it holds.
        expected: String,
        /// What came.
        got: String,
    },
    /// The first bytes are not those of an IDX file.
    #[error(
        "not an IDX file: it begins with {}, expected 00 00, a type code and a number of dimensions",
        hex(got)
    )]
    BadMagic {
        /// The first bytes, at most four.
        got: Vec<u8>,
    },
    /// A rank of a vocabulary is none.
    #[error("the rank of a word must be a whole number of at least 1, got `{got}`")]
    BadRank {
        /// What came.
        got: String,
    },
    /// A weight of a word is none.
    #[error("the weight of a word must be a finite number above 0, got `{got}`")]
    BadWeight {
        /// What came.
        got: String,
    },
    /// The header asks for more than this reader takes, or than the file can hold.
    #[error("the header declares dimensions {dimensions:?}, but {reason}")]
    DimensionsTooLarge {
        /// The dimensions as declared.
        dimensions: Vec<u32>,
        /// Which bound they break.
        reason: String,
    },
    /// A client key is empty.
    #[error("the column `{column}` is empty")]
    EmptyKey {
        /// The column of client keys.
        column: String,
    },
    /// A line of a vocabulary is empty, or begins with a tab.
    #[error("there is no word")]
    EmptyWord,
    /// There is nothing in the file.
    #[error("the file is empty, expected {expected}")]
    Empty {
        /// What should have been there.
        expected: &'static str,
    },
    /// The gzip data is damaged.
    #[error("the gzip data is damaged: {0}")]
    Gzip(#[source] io::Error),
    /// The gzip data stops before its end mark.
    #[error("the gzip data ends too early; the file is incomplete")]
    GzipTruncated,
    /// The operating system refused.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// A line is longer than this reader takes.
    #[error("the line is longer than {limit} bytes")]
    LineTooLong {
        /// The most bytes in a line.
        limit: usize,
    },
    /// The header has no column of that name.
    #[error("no column `{column}` in the header; its columns are {}", quoted(found))]
    MissingColumn {
        /// The name that was looked for.
        column: String,
        /// The names that are there.
        found: Vec<String>,
    },
    /// A field is missing, and nothing is declared to stand in for it.
    #[error("the column `{column}` is missing (`{got}`), and it has no stand-in: declare its `missing`")]
    MissingField {
        /// The column.
        column: String,
        /// What stands there.
        got: String,
    },
    /// Some lines of a vocabulary have ranks, others not.
    #[error("expected {expected} as in line 1, got {got}")]
    MixedVocabulary {
        /// What the first line has.
        expected: &'static str,
        /// What came.
        got: &'static str,
    },
    /// A column is asked for where none are named.
    #[error("expected a header that names the column `{column}`, and `label` and `text`")]
    NoHeader {
        /// The column that was asked for.
        column: String,
    },
    /// The text is not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// The header names a column twice.
    #[error("the header names the column `{column}` more than once")]
    RepeatedColumn {
        /// The name.
        column: String,
    },
    /// A vocabulary gives two words one rank.
    #[error("the rank {rank} stands in line {line_before} already")]
    RepeatedRank {
        /// The rank.
        rank: u32,
        /// Where it stands first.
        line_before: u64,
    },
    /// A vocabulary has a word twice.
    #[error("the word `{word}` stands in line {line_before} already")]
    RepeatedWord {
        /// The word.
        word: String,
        /// Where it stands first.
        line_before: u64,
    },
    /// More values than are kept in memory.
    #[error("the rows up to here have more than {limit} values")]
    TooLarge {
        /// The most values.
        limit: usize,
    },
    /// A row has too many fields.
    #[error("a row has more than {limit} fields")]
    TooManyColumns {
        /// The most.
        limit: usize,
    },
    /// More distinct client keys than can be numbered.
    #[error("more than 2^32 distinct client keys")]
    TooManyKeys,
    /// More words than a vocabulary may have.
    #[error("more than {limit} words")]
    TooManyWords {
        /// The most.
        limit: usize,
    },
    /// Bytes follow where the file should end.
    #[error("the file goes on after its {expected} bytes of values")]
    TrailingBytes {
        /// How many bytes of values the header declares.
        expected: u64,
    },
    /// The file ends before its declared content.
    #[error("the file ends too early: expected {expected} bytes of {part}, got {got}")]
    Truncated {
        /// The header, or the values.
        part: &'static str,
        /// How many bytes should have been there.
        expected: u64,
        /// How many were.
        got: u64,
    },
    /// A quoted field goes on after the end of the line.
    #[error("a quoted field is not closed on its line")]
    UnclosedQuote,
    /// An IDX file of a number of dimensions that this reader does not take.
    #[error("an IDX file with {got} dimensions, expected 1 to 4")]
    UnsupportedDimensions {
        /// The number of dimensions.
        got: u8,
    },
    /// An IDX file of another value type.
    #[error("an IDX file of values of type {code:#04x} ({name}), expected 0x08 (unsigned byte)")]
    UnsupportedType {
        /// The type code.
        code: u8,
        /// Its meaning.
        name: &'static str,
    },
    /// A row has too many or too few fields.
    #[error("expected {expected} {}, got {got}", separated_fields(*separator, *expected))]
    WrongFieldCount {
        /// Fields in the header.
        expected: usize,
        /// Fields in the row.
        got: usize,
        /// What separates them.
        separator: char,
    },
    /// A dimension of an example is zero.
    #[error("the header declares dimensions {dimensions:?}; an example would have no values")]
    ZeroDimension {
        /// The dimensions as declared.
        dimensions: Vec<u32>,
    },
}

fn separated_fields(separator: char, count: usize) -> String {
    let fields = if count == 1 { "field" } else { "fields" };
    match separator {
        '\t' => format!("tab-separated {fields}"),
        ',' => format!("comma-separated {fields}"),
        other => format!("{fields} separated by `{other}`"),
    }
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing".to_owned();
    }
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}

/// The first few names, each cut short: a file that is no table at all can have thousands of them, of any length.
fn quoted(names: &[String]) -> String {
    const MOST: usize = 8;
    let quote = |name: &String| {
        let start: String = name.chars().take(32).collect();
        format!("`{}`", start.escape_debug())
    };
    let mut shown: Vec<String> = names.iter().take(MOST).map(quote).collect();
    if names.len() > MOST {
        shown.push(format!("and {} more", names.len() - MOST));
    }
    shown.join(", ")
}
