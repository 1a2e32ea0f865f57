//! Readers of data files, and what can be wrong with a file.

mod idx;
mod input;
mod keys;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use self::idx::{IdxArray, MAX_IDX_BYTES, read_idx};
pub use self::keys::{ClientKeys, read_client_keys};

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
    /// The first bytes are not those of an IDX file.
    #[error(
        "not an IDX file: it begins with {}, expected 00 00, a type code and a number of dimensions",
        hex(got)
    )]
    BadMagic {
        /// The first bytes, at most four.
        got: Vec<u8>,
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
    /// The text is not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// The header names a column twice.
    #[error("the header names the column `{column}` more than once")]
    RepeatedColumn {
        /// The name.
        column: String,
    },
    /// More distinct client keys than can be numbered.
    #[error("more than 2^32 distinct client keys")]
    TooManyKeys,
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
    #[error("expected {expected} tab-separated fields, got {got}")]
    WrongFieldCount {
        /// Fields in the header.
        expected: usize,
        /// Fields in the row.
        got: usize,
    },
    /// A dimension of an example is zero.
    #[error("the header declares dimensions {dimensions:?}; an example would have no values")]
    ZeroDimension {
        /// The dimensions as declared.
        dimensions: Vec<u32>,
    },
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
