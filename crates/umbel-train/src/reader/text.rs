//! Texts with labels, from a tab-separated file.

use std::path::Path;

use super::keys::{ClientKeys, KeyBuilder, find_column};
use super::label::{LabelValues, label};
use super::lines::{Lines, fields};
use super::{MAX_VALUES, Place, ReadError, ReadFault};
use crate::tokenizer::Tokenizer;

/// No text is longer.
const MAX_LINE_BYTES: usize = 1 << 20;

/// What to read from a file of texts.
#[derive(Debug, Clone, Copy)]
pub struct TextOptions<'a> {
    /// Turns each text into tokens.
    pub tokenizer: &'a Tokenizer,
    /// The classes.
    pub labels: &'a LabelValues,
    /// The column that names each example's client; `None` where no column does.
    pub client_column: Option<&'a str>,
}

/// Texts as tokens, one after the other.
#[derive(Clone, PartialEq, Eq)]
pub struct TextTable {
    /// All tokens, without padding.
    pub tokens: Vec<u32>,
    /// Text i has tokens `offsets[i]..offsets[i + 1]`.
    pub offsets: Vec<usize>,
    /// The class of each text; empty where a file that is only read for prediction has none.
    pub labels: Vec<u32>,
    /// The client of each text, where a column names it.
    pub clients: Option<ClientKeys>,
}

impl std::fmt::Debug for TextTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextTable")
            .field("n_texts", &(self.offsets.len() - 1))
            .finish_non_exhaustive()
    }
}

/// Where the fields of a row stand.
struct Columns {
    count: usize,
    label: Option<usize>,
    text: usize,
    client: Option<usize>,
}

/// Reads labelled texts, gzipped or plain.
///
/// Where the first line names columns `label` and `text`, it is a header, columns may stand in any order, and others are passed over
/// (but for the one of client keys). Otherwise every line is `label<TAB>text`. A text is one line: tabs and line ends in it
/// have to be replaced by spaces, which gives the same tokens.
///
/// # Errors
///
/// An empty file, a row of another number of fields, a label that is none of the classes, an empty client key, text that is
/// not UTF-8, a line above 1 MiB, damaged compression. The error names the line.
pub fn read_text(path: &Path, options: TextOptions<'_>) -> Result<TextTable, ReadError> {
    read(path, options, true)
}

/// Reads texts for prediction: as [`read_text`] does, but where the first line has no tab, every line is a text without a
/// label.
///
/// # Errors
///
/// As for [`read_text`].
pub fn read_unlabelled_text(path: &Path, options: TextOptions<'_>) -> Result<TextTable, ReadError> {
    read(path, options, false)
}

fn read(path: &Path, options: TextOptions<'_>, needs_labels: bool) -> Result<TextTable, ReadError> {
    let mut lines = Lines::open(path, MAX_LINE_BYTES)?;
    let mut table = TextTable {
        tokens: Vec::new(),
        offsets: vec![0],
        labels: Vec::new(),
        clients: None,
    };
    let mut keys = options.client_column.map(KeyBuilder::new);
    let mut columns: Option<Columns> = None;
    while let Some(line) = lines.next_line()? {
        let result = match &columns {
            Some(columns) => table.push(line, columns, options, keys.as_mut()),
            None => {
                let (found, is_header) = find_columns(line, options.client_column, needs_labels)
                    .map_err(|fault| ReadError::new(path, Place::Line(1), fault))?;
                let columns = columns.insert(found);
                if is_header {
                    continue;
                }
                table.push(line, columns, options, keys.as_mut())
            }
        };
        result.map_err(|fault| lines.error(fault))?;
    }
    if columns.is_none() {
        let expected = "rows of `label<TAB>text`";
        return Err(ReadError::new(path, Place::File, ReadFault::Empty { expected }));
    }
    table.clients = keys.map(|keys| keys.finish(path));
    Ok(table)
}

/// Where fields stand, by the first line; and whether that line is a header.
fn find_columns(
    line: &str,
    client_column: Option<&str>,
    needs_labels: bool,
) -> Result<(Columns, bool), ReadFault> {
    let names: Vec<&str> = line.split('\t').collect();
    if names.contains(&"label") && names.contains(&"text") {
        let client = client_column
            .map(|column| find_column(&names, column))
            .transpose()?;
        let columns = Columns {
            count: names.len(),
            label: Some(find_column(&names, "label")?),
            text: find_column(&names, "text")?,
            client,
        };
        return Ok((columns, true));
    }
    if let Some(column) = client_column {
        return Err(ReadFault::NoHeader {
            column: column.to_owned(),
        });
    }
    let is_labelled = needs_labels || names.len() > 1;
    let columns = Columns {
        count: 1 + usize::from(is_labelled),
        label: is_labelled.then_some(0),
        text: usize::from(is_labelled),
        client: None,
    };
    Ok((columns, false))
}

impl TextTable {
    fn push(
        &mut self,
        line: &str,
        columns: &Columns,
        options: TextOptions<'_>,
        keys: Option<&mut KeyBuilder<'_>>,
    ) -> Result<(), ReadFault> {
        let mut client = None;
        for (place, field) in fields(line, columns.count)?.enumerate() {
            if place == columns.text {
                options.tokenizer.encode(field, &mut self.tokens);
            } else if Some(place) == columns.label {
                self.labels.push(label(field, "label", options.labels)?);
            } else if Some(place) == columns.client {
                client = Some(field);
            }
        }
        if let (Some(keys), Some(client)) = (keys, client) {
            keys.push(client)?;
        }
        if self.tokens.len() > MAX_VALUES {
            return Err(ReadFault::TooLarge { limit: MAX_VALUES });
        }
        self.offsets.push(self.tokens.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::read_vocabulary;
    use crate::test_files::{gzip, write};

    fn read(bytes: &[u8], client_column: Option<&str>, is_labelled: bool) -> Result<TextTable, String> {
        let folder = tempfile::tempdir().unwrap();
        let words = write(folder.path(), "words", b"good\nbad\nfilm\n");
        let tokenizer = Tokenizer::new(read_vocabulary(&words).unwrap(), 10, 3).unwrap();
        let path = write(folder.path(), "texts", bytes);
        let labels = LabelValues::Numbers { n_classes: Some(2) };
        let options = TextOptions {
            tokenizer: &tokenizer,
            labels: &labels,
            client_column,
        };
        let result = super::read(&path, options, is_labelled);
        result.map_err(|error| error.to_string().replace(&path.display().to_string(), "texts"))
    }

    #[track_caller]
    fn check_refused(text: &[u8], expected: &str) {
        assert_eq!(read(text, None, true).unwrap_err(), expected);
    }

    #[test]
    fn texts_become_tokens_with_labels() {
        let text = b"1\tGood film!\n0\t\n0\tbad bad film: bad\n";
        let windows = b"\xef\xbb\xbf1\tGood film!\r\n0\t\r\n0\tbad bad film: bad";
        for bytes in [text.to_vec(), gzip(text), windows.to_vec()] {
            let table = read(&bytes, None, true).unwrap();
            assert_eq!(table.labels, [1, 0, 0]);
            assert_eq!(table.offsets, [0, 3, 4, 7]);
            assert_eq!(table.tokens, [1, 4, 6, 1, 5, 6, 5]);
            assert_eq!(table.clients, None);
        }
    }

    #[test]
    fn a_header_names_columns_in_any_order() {
        let text = b"id\ttext\tmovie\tlabel\n7\tgood\tb\t1\n8\tbad\ta\t0\n";
        let table = read(text, Some("movie"), true).unwrap();
        assert_eq!((table.labels, table.tokens), (vec![1, 0], vec![1, 4, 1, 5]));
        let keys = table.clients.unwrap();
        assert_eq!(
            (keys.names(), keys.clients()),
            (&["a".to_owned(), "b".to_owned()][..], &[1, 0][..])
        );
        assert_eq!(
            read(text, Some("user"), true).unwrap_err(),
            "`texts`, line 1: no column `user` in the header; its columns are `id`, `text`, `movie`, `label`"
        );
        assert_eq!(
            read(b"1\tgood\n", Some("user"), true).unwrap_err(),
            "`texts`, line 1: expected a header that names the column `user`, and `label` and `text`"
        );
    }

    #[test]
    fn texts_to_predict_need_no_labels() {
        let table = read(b"good film\n\nbad\n", None, false).unwrap();
        assert_eq!((table.offsets, table.labels), (vec![0, 3, 4, 6], vec![]));
        assert_eq!(read(b"1\tgood\n", None, false).unwrap().labels, [1]);
        assert_eq!(
            read(b"good\nbad\tfilm\n", None, false).unwrap_err(),
            "`texts`, line 2: expected 1 tab-separated field, got 2"
        );
    }

    #[test]
    fn malformed_files_are_refused_with_their_line() {
        check_refused(
            b"",
            "`texts`: the file is empty, expected rows of `label<TAB>text`",
        );
        check_refused(
            b"good film\n",
            "`texts`, line 1: expected 2 tab-separated fields, got 1",
        );
        check_refused(
            b"1\ta\n0\tb\tc\n",
            "`texts`, line 2: expected 2 tab-separated fields, got 3",
        );
        check_refused(
            b"1\ta\n2\tb\n",
            "`texts`, line 2: the column `label` must be a whole number from 0 to 1, got `2`",
        );
        check_refused(
            b"label\ttext\n\tb\n",
            "`texts`, line 2: the column `label` must be a whole number from 0 to 1, got ``",
        );
        check_refused(b"1\ta\n0\t\xff\n", "`texts`, line 2: the text is not UTF-8");
        let long = [b"1\t".as_slice(), &[b'a'; MAX_LINE_BYTES], b"\n"].concat();
        check_refused(&long, "`texts`, line 1: the line is longer than 1048576 bytes");
        let packed = gzip("1\tgood film\n".repeat(500).as_bytes());
        let message = read(&packed[..packed.len() - 10], None, true).unwrap_err();
        assert!(
            message.ends_with("the gzip data ends too early; the file is incomplete"),
            "{message}"
        );
    }
}
