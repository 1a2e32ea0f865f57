//! Client keys: which client each example belongs to, from a tab-separated file.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use super::input::Input;
use super::{Place, ReadError, ReadFault};

/// The column that is read where none is named.
const DEFAULT_COLUMN: &str = "writer";

/// No line of a key file needs more; a file without line ends must not fill the memory.
const MAX_LINE_BYTES: usize = 1 << 16;

/// The client of every example: row i of the file names the client of example i.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientKeys {
    path: PathBuf,
    names: Vec<String>,
    clients: Vec<u32>,
}

impl ClientKeys {
    /// The file they came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many examples have a key.
    pub fn n_examples(&self) -> usize {
        self.clients.len()
    }

    /// The distinct keys, sorted by their bytes.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// For each example the index of its key in [`names`](Self::names).
    pub fn clients(&self) -> &[u32] {
        &self.clients
    }
}

/// Reads client keys from the column `column` (by default `writer`) of a tab-separated file with a header line,
/// gzipped or plain.
///
/// Every line after the header is one example, in the order of the examples. Keys are compared byte by byte; they
/// need not be numbers.
///
/// # Errors
///
/// No such column, or one named twice; a row with too many or too few fields; an empty key; text that is not UTF-8; a
/// line of more than 64 KiB; damaged compression; no header. The error names the line.
pub fn read_client_keys(path: &Path, column: Option<&str>) -> Result<ClientKeys, ReadError> {
    let column = column.unwrap_or(DEFAULT_COLUMN);
    let mut lines = Lines {
        input: Input::open(path)?,
        path,
        number: 0,
        buffer: Vec::new(),
    };

    let expected = "a header line of tab-separated column names";
    let header = lines.next_line()?;
    let header = header.ok_or_else(|| ReadError::new(path, Place::File, ReadFault::Empty { expected }))?;
    let header: Vec<&str> = header
        .strip_prefix('\u{feff}')
        .unwrap_or(header)
        .split('\t')
        .collect();
    let n_columns = header.len();
    let key_column =
        find_column(&header, column).map_err(|fault| ReadError::new(path, Place::Line(1), fault))?;

    let mut index_of = BTreeMap::<String, u32>::new();
    let mut clients = Vec::new();
    while let Some(line) = lines.next_line()? {
        let client = key_of(line, n_columns, key_column, column).and_then(|key| {
            if let Some(&client) = index_of.get(key) {
                return Ok(client);
            }
            let client = u32::try_from(index_of.len()).map_err(|_| ReadFault::TooManyKeys)?;
            index_of.insert(key.to_owned(), client);
            Ok(client)
        });
        clients.push(client.map_err(|fault| ReadError::new(path, Place::Line(lines.number), fault))?);
    }
    Ok(sorted_by_name(path, &index_of, clients))
}

fn find_column(header: &[&str], column: &str) -> Result<usize, ReadFault> {
    let mut matching = header.iter().enumerate().filter(|(_, name)| **name == column);
    match (matching.next(), matching.next()) {
        (Some((index, _)), None) => Ok(index),
        (Some(_), Some(_)) => Err(ReadFault::RepeatedColumn {
            column: column.to_owned(),
        }),
        (None, _) => Err(ReadFault::MissingColumn {
            column: column.to_owned(),
            found: header.iter().map(|&name| name.to_owned()).collect(),
        }),
    }
}

fn key_of<'a>(
    line: &'a str,
    n_columns: usize,
    key_column: usize,
    column: &str,
) -> Result<&'a str, ReadFault> {
    let got = line.split('\t').count();
    if got != n_columns {
        return Err(ReadFault::WrongFieldCount {
            expected: n_columns,
            got,
        });
    }
    match line.split('\t').nth(key_column) {
        None | Some("") => Err(ReadFault::EmptyKey {
            column: column.to_owned(),
        }),
        Some(key) => Ok(key),
    }
}

/// Renumbers clients from order of appearance to order of name.
fn sorted_by_name(path: &Path, index_of: &BTreeMap<String, u32>, mut clients: Vec<u32>) -> ClientKeys {
    let mut rank = vec![0; index_of.len()];
    for (sorted, &appeared) in (0..).zip(index_of.values()) {
        rank[appeared as usize] = sorted;
    }
    for client in &mut clients {
        *client = rank[*client as usize];
    }
    ClientKeys {
        path: path.to_owned(),
        names: index_of.keys().cloned().collect(),
        clients,
    }
}

struct Lines<'a> {
    input: Input,
    path: &'a Path,
    number: u64,
    buffer: Vec<u8>,
}

impl Lines<'_> {
    /// The next line without its end, or `None` after the last.
    fn next_line(&mut self) -> Result<Option<&str>, ReadError> {
        self.buffer.clear();
        self.number += 1;
        let place = Place::Line(self.number);
        let read = (&mut self.input)
            .take(MAX_LINE_BYTES as u64 + 2)
            .read_until(b'\n', &mut self.buffer);
        if let Err(error) = read {
            return Err(ReadError::new(self.path, place, self.input.fault(error)));
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MAX_LINE_BYTES {
            return Err(ReadError::new(
                self.path,
                place,
                ReadFault::LineTooLong {
                    limit: MAX_LINE_BYTES,
                },
            ));
        }
        match std::str::from_utf8(line) {
            Ok(line) => Ok(Some(line)),
            Err(_) => Err(ReadError::new(self.path, place, ReadFault::NotUtf8)),
        }
    }
}
