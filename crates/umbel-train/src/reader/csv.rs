//! Tables of numbers and categories, with a schema that is declared and public.

use std::path::Path;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::keys::{ClientKeys, KeyBuilder, find_column};
use super::label::{LabelValues, label, one_of};
use super::lines::Lines;
use super::{MAX_VALUES, Place, ReadError, ReadFault};

/// No row is longer.
const MAX_LINE_BYTES: usize = 1 << 20;

/// The most columns of a table.
const MAX_COLUMNS: usize = 1 << 16;

/// What the columns of a table mean. All of it is **public**: declared in the experiment, never found out from the clients' rows.
/// A mean, a most frequent value or a list of categories that was computed from them would be a release of its own,
/// outside every ε.
#[derive(Debug, Clone, PartialEq)]
pub struct CsvSchema {
    /// The features, in the order in which the model gets them.
    pub columns: Vec<Column>,
    /// The column of labels.
    pub label_column: String,
    /// The classes.
    pub labels: LabelValues,
    /// Separates fields: an ASCII character, such as `b','` or `b'\t'`.
    pub delimiter: u8,
    /// Names of the file's columns, where it has no header line; `None` where its first line names them.
    pub column_names: Option<Vec<String>>,
    /// Fields that mean "not known". A text that is declared as a category is never one of them.
    pub missing: Vec<String>,
}

/// One column of features.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name in the header.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
}

/// What a column holds, and how it becomes numbers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ColumnKind {
    /// One of the texts `values`; a feature for each of them, 1 for the one that stands there and 0 for the others.
    Categorical {
        /// The categories.
        values: Vec<String>,
        /// Index of the category that stands in for a missing one; `None` to refuse the row.
        missing: Option<usize>,
    },
    /// A number x, which becomes the one feature (x - `mean`) / `std_dev`.
    Numeric {
        /// A public constant.
        mean: f64,
        /// A public constant, above 0.
        std_dev: f64,
        /// The number that stands in for a missing one; `None` to refuse the row.
        missing: Option<f64>,
    },
}

/// Rows as features.
#[derive(Clone, PartialEq)]
pub struct CsvTable {
    /// Features, row after row.
    pub values: Vec<f32>,
    /// How many features a row has.
    pub n_features: usize,
    /// How many rows there are.
    pub n_rows: usize,
    /// The class of each row; empty where a file that is only read for prediction has none.
    pub labels: Vec<u32>,
    /// The client of each row, where a column names it.
    pub clients: Option<ClientKeys>,
}

impl std::fmt::Debug for CsvTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CsvTable")
            .field("n_rows", &self.n_rows)
            .field("n_features", &self.n_features)
            .finish_non_exhaustive()
    }
}

impl CsvSchema {
    /// Features of a row.
    pub fn n_features(&self) -> usize {
        let width = |column: &Column| match &column.kind {
            ColumnKind::Categorical { values, .. } => values.len(),
            ColumnKind::Numeric { .. } => 1,
        };
        self.columns.iter().map(width).sum()
    }
}

/// Reads a table, gzipped or plain, whose rows are lines (RFC 4180, but for line ends inside quoted fields, which are refused).
/// Spaces around a field are taken away; columns that the schema does not name are passed over.
///
/// `client_column` names each row's client.
///
/// # Errors
///
/// An empty file; a column that is not there, or twice; a row of another number of fields; a field that is no finite
/// number, no declared category or no class; a missing one without a stand-in; a quote that is not closed; text that is not
/// UTF-8; a line above 1 MiB; damaged compression. The error names the line and the column.
pub fn read_csv(path: &Path, schema: &CsvSchema, client_column: Option<&str>) -> Result<CsvTable, ReadError> {
    read(path, schema, client_column, true)
}

/// Reads a table for prediction: as [`read_csv`] does, but the column of labels need not be there.
///
/// # Errors
///
/// As for [`read_csv`].
pub fn read_unlabelled_csv(path: &Path, schema: &CsvSchema) -> Result<CsvTable, ReadError> {
    read(path, schema, None, false)
}

/// Where the fields that are wanted stand.
struct Places {
    n_fields: usize,
    label: Option<usize>,
    client: Option<usize>,
    /// In the order of the schema's columns.
    columns: Vec<usize>,
}

fn read(
    path: &Path,
    schema: &CsvSchema,
    client_column: Option<&str>,
    needs_labels: bool,
) -> Result<CsvTable, ReadError> {
    let mut lines = Lines::open(path, MAX_LINE_BYTES)?;
    let mut row = Row::new(schema.delimiter);
    let first_place = |fault| ReadError::new(path, Place::Line(1), fault);
    let find = |names: &[&str]| Places::find(names, schema, client_column, needs_labels);
    let places = match &schema.column_names {
        Some(names) => find(&names.iter().map(String::as_str).collect::<Vec<_>>()),
        None => {
            let expected = "a header line of column names";
            let header = lines.next_line()?;
            let header =
                header.ok_or_else(|| ReadError::new(path, Place::File, ReadFault::Empty { expected }))?;
            row.split(header).map_err(first_place)?;
            find(&row.fields().collect::<Vec<_>>())
        }
    };
    let places = places.map_err(first_place)?;
    let mut table = CsvTable {
        values: Vec::new(),
        n_features: schema.n_features(),
        n_rows: 0,
        labels: Vec::new(),
        clients: None,
    };
    let mut keys = client_column.map(KeyBuilder::new);
    while let Some(line) = lines.next_line()? {
        let result = row
            .split(line)
            .and_then(|()| table.push(&row, &places, schema, keys.as_mut()));
        result.map_err(|fault| lines.error(fault))?;
    }
    table.clients = keys.map(|keys| keys.finish(path));
    Ok(table)
}

impl Places {
    fn find(
        names: &[&str],
        schema: &CsvSchema,
        client_column: Option<&str>,
        needs_labels: bool,
    ) -> Result<Self, ReadFault> {
        let has_label = needs_labels || names.contains(&schema.label_column.as_str());
        let columns = schema
            .columns
            .iter()
            .map(|column| find_column(names, &column.name));
        Ok(Self {
            n_fields: names.len(),
            label: has_label
                .then(|| find_column(names, &schema.label_column))
                .transpose()?,
            client: client_column
                .map(|column| find_column(names, column))
                .transpose()?,
            columns: columns.collect::<Result<_, _>>()?,
        })
    }
}

impl CsvTable {
    fn push(
        &mut self,
        row: &Row,
        places: &Places,
        schema: &CsvSchema,
        keys: Option<&mut KeyBuilder<'_>>,
    ) -> Result<(), ReadFault> {
        if row.n_fields() != places.n_fields {
            return Err(ReadFault::WrongFieldCount {
                expected: places.n_fields,
                got: row.n_fields(),
                separator: schema.delimiter.into(),
            });
        }
        for (column, &place) in schema.columns.iter().zip(&places.columns) {
            column.push_features(row.field(place), &schema.missing, &mut self.values)?;
        }
        if let Some(place) = places.label {
            self.labels
                .push(label(row.field(place), &schema.label_column, &schema.labels)?);
        }
        if let (Some(keys), Some(place)) = (keys, places.client) {
            keys.push(row.field(place))?;
        }
        if self.values.len() > MAX_VALUES {
            return Err(ReadFault::TooLarge { limit: MAX_VALUES });
        }
        self.n_rows += 1;
        Ok(())
    }
}

impl Column {
    fn push_features(&self, field: &str, missing: &[String], values: &mut Vec<f32>) -> Result<(), ReadFault> {
        let is_missing = missing.iter().any(|text| text == field);
        let no_stand_in = || ReadFault::MissingField {
            column: self.name.clone(),
            got: field.to_owned(),
        };
        match &self.kind {
            ColumnKind::Numeric {
                mean,
                std_dev,
                missing,
            } => {
                let number = if is_missing {
                    missing.ok_or_else(no_stand_in)?
                } else {
                    field.parse().unwrap_or(f64::NAN)
                };
                #[allow(clippy::cast_possible_truncation, reason = "what becomes infinite is refused")]
                let value = ((number - mean) / std_dev) as f32;
                if !value.is_finite() {
                    return Err(ReadFault::BadField {
                        column: self.name.clone(),
                        expected: "a finite number".to_owned(),
                        got: field.to_owned(),
                    });
                }
                values.push(value);
            }
            ColumnKind::Categorical {
                values: categories,
                missing,
            } => {
                let found = match categories.iter().position(|category| category == field) {
                    Some(found) => found,
                    None if is_missing => missing.ok_or_else(no_stand_in)?,
                    None => {
                        return Err(ReadFault::BadField {
                            column: self.name.clone(),
                            expected: one_of(categories.iter()),
                            got: field.to_owned(),
                        });
                    }
                };
                values.extend((0..categories.len()).map(|category| f32::from(u8::from(category == found))));
            }
        }
        Ok(())
    }
}

/// One row, cut into fields.
struct Row {
    reader: Reader,
    content: Vec<u8>,
    ends: Vec<usize>,
    n_fields: usize,
}

impl Row {
    fn new(delimiter: u8) -> Self {
        Self {
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            content: Vec::new(),
            ends: Vec::new(),
            n_fields: 0,
        }
    }

    /// Cuts a line into fields.
    fn split(&mut self, line: &str) -> Result<(), ReadFault> {
        // Unquoted fields are no longer than the line, and there is at most one more field than characters.
        self.content.resize(line.len(), 0);
        self.ends.resize((line.len() + 1).min(MAX_COLUMNS), 0);
        self.reader.reset();
        if line.is_empty() {
            // To the parser an empty line is no row; here it is one with a single empty field.
            self.ends[0] = 0;
            self.n_fields = 1;
            return Ok(());
        }
        let (result, n_read, n_written, n_ends) =
            self.reader
                .read_record(line.as_bytes(), &mut self.content, &mut self.ends);
        let ended = match result {
            ReadRecordResult::InputEmpty if n_read == line.len() => {
                self.reader
                    .read_record(b"\n", &mut self.content[n_written..], &mut self.ends[n_ends..])
            }
            other => (other, 0, 0, 0),
        };
        match ended {
            (ReadRecordResult::Record, _, _, n_more) => {
                self.n_fields = n_ends + n_more;
                Ok(())
            }
            (ReadRecordResult::OutputEndsFull, ..) => Err(ReadFault::TooManyColumns { limit: MAX_COLUMNS }),
            _ => Err(ReadFault::UnclosedQuote),
        }
    }

    fn n_fields(&self) -> usize {
        self.n_fields
    }

    /// A field without the spaces around it.
    fn field(&self, place: usize) -> &str {
        let begin = if place == 0 { 0 } else { self.ends[place - 1] };
        // The line was UTF-8, and fields are cut at ASCII characters.
        let field = std::str::from_utf8(&self.content[begin..self.ends[place]]).unwrap_or_default();
        field.trim()
    }

    fn fields(&self) -> impl Iterator<Item = &str> {
        (0..self.n_fields).map(|place| self.field(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_files::{gzip, write};

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    fn schema() -> CsvSchema {
        let age = ColumnKind::Numeric {
            mean: 50.0,
            std_dev: 10.0,
            missing: None,
        };
        let pressure = ColumnKind::Numeric {
            mean: 130.0,
            std_dev: 20.0,
            missing: Some(150.0),
        };
        let pain = ColumnKind::Categorical {
            values: texts(&["none", "some", "much"]),
            missing: Some(1),
        };
        let column = |name: &str, kind| Column {
            name: name.to_owned(),
            kind,
        };
        CsvSchema {
            columns: vec![
                column("age", age),
                column("pain", pain),
                column("pressure", pressure),
            ],
            label_column: "ill".to_owned(),
            labels: LabelValues::Texts(vec![texts(&["0"]), texts(&["1", "2"])]),
            delimiter: b',',
            column_names: None,
            missing: texts(&["?", ""]),
        }
    }

    fn read(bytes: &[u8], schema: &CsvSchema, client_column: Option<&str>) -> Result<CsvTable, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "rows", bytes);
        let result = read_csv(&path, schema, client_column);
        result.map_err(|error| error.to_string().replace(&path.display().to_string(), "rows"))
    }

    #[track_caller]
    fn check_refused(rows: &str, expected: &str) {
        let text = format!("age,pain,pressure,ill\n{rows}");
        assert_eq!(read(text.as_bytes(), &schema(), None).unwrap_err(), expected);
    }

    #[test]
    fn rows_become_features_in_the_order_of_the_schema() {
        let text = "site,ill,pressure,pain,age,other\nb,2,110,much,60,x\na, 0 ,?, some,4e1,\n\"a, b\",1,130,,50,\"\"\"q\"\"\"\n";
        for bytes in [
            text.as_bytes().to_vec(),
            gzip(text.as_bytes()),
            text.replace('\n', "\r\n").into_bytes(),
        ] {
            let table = read(&bytes, &schema(), Some("site")).unwrap();
            assert_eq!((table.n_features, table.n_rows), (5, 3));
            let rows: Vec<&[f32]> = table.values.chunks(5).collect();
            assert_eq!(
                rows,
                [
                    &[1.0, 0.0, 0.0, 1.0, -1.0],
                    &[-1.0, 0.0, 1.0, 0.0, 1.0],
                    &[0.0, 0.0, 1.0, 0.0, 0.0]
                ]
            );
            assert_eq!(table.labels, [1, 0, 1]);
            let keys = table.clients.unwrap();
            assert_eq!(
                (keys.names(), keys.clients()),
                (&texts(&["a", "a, b", "b"])[..], &[2, 0, 1][..])
            );
        }
    }

    #[test]
    fn a_file_without_header_has_its_columns_named() {
        let named = CsvSchema {
            column_names: Some(texts(&["age", "pressure", "pain", "ill"])),
            delimiter: b';',
            ..schema()
        };
        let table = read(b"60;110;much;0\n", &named, None).unwrap();
        assert_eq!(
            (table.values, table.labels),
            (vec![1.0, 0.0, 0.0, 1.0, -1.0], vec![0])
        );
        assert_eq!(
            read(b"60;110;0\n", &named, None).unwrap_err(),
            "`rows`, line 1: expected 4 fields separated by `;`, got 3"
        );
    }

    #[test]
    fn a_table_to_predict_needs_no_labels() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "rows", b"age,pain,pressure\n60,much,110\n");
        let table = read_unlabelled_csv(&path, &schema()).unwrap();
        assert_eq!((table.n_rows, table.labels), (1, vec![]));
    }

    #[test]
    fn malformed_files_are_refused_with_line_and_column() {
        let message = |bytes: &[u8]| read(bytes, &schema(), None).unwrap_err();
        assert_eq!(
            message(b""),
            "`rows`: the file is empty, expected a header line of column names"
        );
        assert_eq!(
            message(b"age,pain,ill\n1,none,0\n"),
            "`rows`, line 1: no column `pressure` in the header; its columns are `age`, `pain`, `ill`"
        );
        assert_eq!(
            message(b"age,pain,pressure,ill,age\n"),
            "`rows`, line 1: the header names the column `age` more than once"
        );
        check_refused(
            "50,none,130\n",
            "`rows`, line 2: expected 4 comma-separated fields, got 3",
        );
        check_refused(
            "50,none,130,1\n50,none,130,1,7\n",
            "`rows`, line 3: expected 4 comma-separated fields, got 5",
        );
        check_refused(
            "50,none,130,1\n\n",
            "`rows`, line 3: expected 4 comma-separated fields, got 1",
        );
        check_refused(
            "50,little,130,1\n",
            "`rows`, line 2: the column `pain` must be `none`, `some` or `much`, got `little`",
        );
        check_refused(
            "50,none,130,3\n",
            "`rows`, line 2: the column `ill` must be `0`, `1` or `2`, got `3`",
        );
        for number in ["fifty", "nan", "inf", "1e999", "1e300"] {
            let expected =
                format!("`rows`, line 2: the column `pressure` must be a finite number, got `{number}`");
            check_refused(&format!("50,none,{number},1\n"), &expected);
        }
        check_refused(
            "?,none,130,1\n",
            "`rows`, line 2: the column `age` is missing (`?`), and it has no stand-in: declare its `missing`",
        );
        check_refused(
            "50,\"none,130,1\n",
            "`rows`, line 2: a quoted field is not closed on its line",
        );
        assert_eq!(
            message(b"age,pain,pressure,ill\n50,n\xffne,130,1\n"),
            "`rows`, line 2: the text is not UTF-8"
        );
        let many = format!("age{}\n", ",x".repeat(MAX_COLUMNS));
        assert_eq!(
            message(many.as_bytes()),
            "`rows`, line 1: a row has more than 65536 fields"
        );
        let packed = gzip(format!("age,pain,pressure,ill\n{}", "50,none,130,1\n".repeat(500)).as_bytes());
        let truncated = message(&packed[..packed.len() - 10]);
        assert!(
            truncated.ends_with("the gzip data ends too early; the file is incomplete"),
            "{truncated}"
        );
    }

    #[test]
    fn a_declared_category_is_never_missing() {
        let kind = ColumnKind::Categorical {
            values: texts(&["?", "x"]),
            missing: None,
        };
        let column = Column {
            name: "it".to_owned(),
            kind,
        };
        let mut values = Vec::new();
        column.push_features("?", &texts(&["?"]), &mut values).unwrap();
        assert_eq!(values, [1.0, 0.0]);
    }
}
