//! Client keys: which client each example belongs to, from a tab-separated file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::lines::{Lines, fields};
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
    let mut lines = Lines::open(path, MAX_LINE_BYTES)?;
    let expected = "a header line of tab-separated column names";
    let header = lines.next_line()?;
    let header = header.ok_or_else(|| ReadError::new(path, Place::File, ReadFault::Empty { expected }))?;
    let header: Vec<&str> = header.split('\t').collect();
    let n_columns = header.len();
    let key_column =
        find_column(&header, column).map_err(|fault| ReadError::new(path, Place::Line(1), fault))?;

    let mut keys = KeyBuilder::new(column);
    while let Some(line) = lines.next_line()? {
        let result = fields(line, n_columns)
            .and_then(|mut fields| keys.push(fields.nth(key_column).unwrap_or_default()));
        result.map_err(|fault| lines.error(fault))?;
    }
    Ok(keys.finish(path))
}

/// Where the column `column` stands in a header.
pub(super) fn find_column(header: &[&str], column: &str) -> Result<usize, ReadFault> {
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

/// Numbers client keys as they come, row after row.
pub(super) struct KeyBuilder<'a> {
    column: &'a str,
    index_of: BTreeMap<String, u32>,
    clients: Vec<u32>,
}

impl<'a> KeyBuilder<'a> {
    /// A builder for keys that stand in the column `column`.
    pub(super) fn new(column: &'a str) -> Self {
        Self {
            column,
            index_of: BTreeMap::new(),
            clients: Vec::new(),
        }
    }

    /// Takes the key of the next example.
    pub(super) fn push(&mut self, key: &str) -> Result<(), ReadFault> {
        let client = match self.index_of.get(key) {
            Some(&client) => client,
            None if key.is_empty() => {
                return Err(ReadFault::EmptyKey {
                    column: self.column.to_owned(),
                });
            }
            None => {
                let client = u32::try_from(self.index_of.len()).map_err(|_| ReadFault::TooManyKeys)?;
                self.index_of.insert(key.to_owned(), client);
                client
            }
        };
        self.clients.push(client);
        Ok(())
    }

    /// All keys, renumbered from order of appearance to order of name. `path` is where they came from.
    pub(super) fn finish(mut self, path: &Path) -> ClientKeys {
        let mut rank = vec![0; self.index_of.len()];
        for (sorted, &appeared) in (0..).zip(self.index_of.values()) {
            rank[appeared as usize] = sorted;
        }
        for client in &mut self.clients {
            *client = rank[*client as usize];
        }
        ClientKeys {
            path: path.to_owned(),
            names: self.index_of.into_keys().collect(),
            clients: self.clients,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_files::{gzip, write};

    fn read(bytes: &[u8], column: Option<&str>) -> Result<ClientKeys, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "keys", bytes);
        let result = read_client_keys(&path, column);
        result.map_err(|error| error.to_string().replace(&path.display().to_string(), "keys"))
    }

    #[track_caller]
    fn check_refused(text: &[u8], expected: &str) {
        assert_eq!(read(text, None).unwrap_err(), expected);
    }

    #[test]
    fn keys_are_sorted_and_rows_keep_their_order() {
        let text = "index\twriter\n0\tzoe\n1\tann\n2\tzoe\n3\tbob";
        let windows = "\u{feff}".to_owned() + &text.replace('\n', "\r\n") + "\r\n";
        for bytes in [text.as_bytes(), windows.as_bytes(), &gzip(text.as_bytes())] {
            let keys = read(bytes, None).unwrap();
            assert_eq!(keys.names(), ["ann", "bob", "zoe"]);
            assert_eq!(keys.clients(), [2, 0, 2, 1]);
            assert_eq!(keys.n_examples(), 4);
        }
    }

    #[test]
    fn another_column_is_chosen_by_name() {
        let keys = read(b"index\twriter\tsite\n0\ta\tnorth\n1\tb\tsouth\n", Some("site")).unwrap();
        assert_eq!(keys.names(), ["north", "south"]);
    }

    #[test]
    fn a_header_alone_has_no_examples() {
        assert_eq!(read(b"writer\n", None).unwrap().n_examples(), 0);
    }

    #[test]
    fn malformed_files_are_refused_with_their_line() {
        check_refused(
            b"",
            "`keys`: the file is empty, expected a header line of tab-separated column names",
        );
        check_refused(
            b"index\tuser\n0\ta\n",
            "`keys`, line 1: no column `writer` in the header; its columns are `index`, `user`",
        );
        check_refused(
            b"\x07\t\t\t\t\t\t\t\t\t\n",
            "`keys`, line 1: no column `writer` in the header; its columns are `\\u{7}`, ``, ``, ``, ``, ``, ``, ``, and 2 more",
        );
        check_refused(
            b"writer\twriter\n0\ta\n",
            "`keys`, line 1: the header names the column `writer` more than once",
        );
        check_refused(
            b"index\twriter\n0\ta\n1\n",
            "`keys`, line 3: expected 2 tab-separated fields, got 1",
        );
        check_refused(
            b"index\twriter\n0\ta\tb\n",
            "`keys`, line 2: expected 2 tab-separated fields, got 3",
        );
        check_refused(
            b"index\twriter\n0\ta\n\n2\tb\n",
            "`keys`, line 3: expected 2 tab-separated fields, got 1",
        );
        check_refused(
            b"index\twriter\n0\t\n",
            "`keys`, line 2: the column `writer` is empty",
        );
        check_refused(b"writer\na\n\xff\xfe\n", "`keys`, line 3: the text is not UTF-8");
        let long = [b"writer\n".as_slice(), &[b'a'; MAX_LINE_BYTES + 1], b"\n"].concat();
        check_refused(&long, "`keys`, line 2: the line is longer than 65536 bytes");
        let just_right = [b"writer\n".as_slice(), &[b'a'; MAX_LINE_BYTES], b"\r\nb\n"].concat();
        assert_eq!(read(&just_right, None).unwrap().n_examples(), 2);
    }

    #[test]
    fn truncated_compression_is_refused() {
        let text: String = (0..2000).map(|row| format!("{row}\n")).collect();
        let file = gzip(format!("writer\n{text}").as_bytes());
        let message = read(&file[..file.len() - 100], None).unwrap_err();
        assert!(
            message.ends_with("the gzip data ends too early; the file is incomplete"),
            "{message}"
        );
        assert!(message.contains("`keys`, line "), "{message}");
    }
}
