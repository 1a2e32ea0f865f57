//! What a run directory holds that a report needs, and reading it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// One run, as its directory describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// What the run is called where several are compared; the name of its directory.
    pub label: String,
    /// The object in `summary.json`.
    pub summary: Value,
    /// The objects in `metrics.jsonl`, one a round, in the order of the file.
    pub rounds: Vec<Value>,
}

/// Why a run directory could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A line is no JSON, or no JSON object.
    #[error("`{}`, line {line}: expected a JSON object, got {got}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What stands there instead.
        got: String,
    },
    /// A file is missing or cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

impl RunRecord {
    /// Reads `summary.json` and `metrics.jsonl` of a run directory.
    ///
    /// Blank lines are skipped. What the objects hold is not checked here: [`render`](super::render) leaves out
    /// what it does not find.
    ///
    /// # Errors
    /// A file that is missing or unreadable, and a line that is no JSON object (a half-written last line
    /// included), with file and line.
    pub fn read(dir: &Path) -> Result<Self, ReportError> {
        let path = dir.join("summary.json");
        let summary = object(&path, 1, &read_file(&path)?)?;
        let path = dir.join("metrics.jsonl");
        let mut rounds = Vec::new();
        for (index, line) in read_file(&path)?.split(|byte| *byte == b'\n').enumerate() {
            if !line.trim_ascii().is_empty() {
                rounds.push(object(&path, index + 1, line)?);
            }
        }
        Ok(Self {
            label: label(dir, &summary),
            summary,
            rounds,
        })
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, ReportError> {
    fs::read(path).map_err(|source| ReportError::Unreadable {
        path: path.to_path_buf(),
        source,
    })
}

/// Reads one object from text whose first line is line `first_line` of the file.
fn object(path: &Path, first_line: usize, text: &[u8]) -> Result<Value, ReportError> {
    let malformed = |line, got| ReportError::Malformed {
        path: path.to_path_buf(),
        line,
        got,
    };
    match serde_json::from_slice(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(other) => Err(malformed(first_line, kind(&other).to_owned())),
        Err(error) => {
            // The parser's own message ends with a place counted within this text.
            let message = error.to_string();
            let reason = message
                .rsplit_once(" at line ")
                .map_or(message.as_str(), |(reason, _)| reason);
            let got = format!("text that is none (column {}: {reason})", error.column());
            Err(malformed(first_line + error.line().saturating_sub(1), got))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The directory's own name, also where it was given as `.` or `..`.
fn label(dir: &Path, summary: &Value) -> String {
    let resolved = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    match (resolved.file_name(), summary.get("name").and_then(Value::as_str)) {
        (Some(name), _) => name.to_string_lossy().into_owned(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => dir.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What reading a directory with these two files says.
    fn read(summary: &str, metrics: &str) -> Result<RunRecord, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("summary.json"), summary).unwrap();
        fs::write(dir.path().join("metrics.jsonl"), metrics).unwrap();
        RunRecord::read(dir.path()).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check_error(summary: &str, metrics: &str, file: &str, rest: &str) {
        let message = read(summary, metrics).unwrap_err();
        assert!(message.contains(file), "{message}");
        assert!(message.contains(rest), "{message}");
    }

    #[test]
    fn a_run_directory_is_read() {
        let record = read("{\n\"name\": \"digits\"}\n", "{\"round\":1}\n\n{\"round\":2}\n").unwrap();
        assert_eq!(record.summary["name"], "digits");
        assert_eq!(record.rounds.len(), 2);
        assert_eq!(record.rounds[1]["round"], 2);
    }

    #[test]
    fn the_label_is_the_name_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("digits-1");
        fs::create_dir(&run).unwrap();
        fs::write(run.join("summary.json"), "{}").unwrap();
        fs::write(run.join("metrics.jsonl"), "").unwrap();
        assert_eq!(RunRecord::read(&run).unwrap().label, "digits-1");
        assert_eq!(RunRecord::read(&run.join(".")).unwrap().label, "digits-1");
    }

    #[test]
    fn errors_name_file_and_line() {
        check_error(
            "{\n\"name\": }",
            "",
            "summary.json`, line 2: ",
            "column 9: expected value)",
        );
        check_error("[]", "", "summary.json`, line 1: ", "got a list");
        check_error(
            "{}",
            "{}\n{}\n{\"round\":",
            "metrics.jsonl`, line 3: ",
            "EOF while parsing",
        );
        check_error("{}", "{}\n\n7\n", "metrics.jsonl`, line 3: ", "got a number");
        check_error("{}", "{\"loss\":NaN}\n", "metrics.jsonl`, line 1: ", "column 9");
        check_error(
            "{}",
            "{\"loss\":1e999}\n",
            "metrics.jsonl`, line 1: ",
            "number out of range",
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let message = RunRecord::read(dir.path()).unwrap_err().to_string();
        assert!(
            message.starts_with("cannot read `") && message.contains("summary.json"),
            "{message}"
        );
        fs::write(dir.path().join("summary.json"), "{}").unwrap();
        let message = RunRecord::read(dir.path()).unwrap_err().to_string();
        assert!(message.contains("metrics.jsonl"), "{message}");
    }
}
