//! A text file line by line, gzipped or plain, in memory that one line bounds.

use std::io::{BufRead, Read};
use std::path::Path;

use super::input::Input;
use super::{Place, ReadError, ReadFault};

/// The lines of a file. A byte order mark at its beginning is passed over.
pub(super) struct Lines<'a> {
    input: Input,
    path: &'a Path,
    number: u64,
    limit: usize,
    buffer: Vec<u8>,
}

impl<'a> Lines<'a> {
    /// Opens `path`; a line of more than `limit` bytes is refused, so that a file without line ends cannot fill the memory.
    pub(super) fn open(path: &'a Path, limit: usize) -> Result<Self, ReadError> {
        Ok(Self {
            input: Input::open(path)?,
            path,
            number: 0,
            limit,
            buffer: Vec::new(),
        })
    }

    /// The number of the line that was read last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// An error about the line that was read last.
    pub(super) fn error(&self, fault: ReadFault) -> ReadError {
        ReadError::new(self.path, Place::Line(self.number), fault)
    }

    /// The next line without its end, or `None` after the last.
    pub(super) fn next_line(&mut self) -> Result<Option<&str>, ReadError> {
        self.buffer.clear();
        self.number += 1;
        let place = Place::Line(self.number);
        let read = (&mut self.input)
            .take(self.limit as u64 + 2)
            .read_until(b'\n', &mut self.buffer);
        if let Err(error) = read {
            return Err(ReadError::new(self.path, place, self.input.fault(error)));
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > self.limit {
            let fault = ReadFault::LineTooLong { limit: self.limit };
            return Err(ReadError::new(self.path, place, fault));
        }
        match std::str::from_utf8(line) {
            Ok(line) if self.number == 1 => Ok(Some(line.strip_prefix('\u{feff}').unwrap_or(line))),
            Ok(line) => Ok(Some(line)),
            Err(_) => Err(ReadError::new(self.path, place, ReadFault::NotUtf8)),
        }
    }
}

/// The fields of a tab-separated line that must have `expected` of them.
pub(super) fn fields(line: &str, expected: usize) -> Result<std::str::Split<'_, char>, ReadFault> {
    let got = line.split('\t').count();
    if got != expected {
        return Err(ReadFault::WrongFieldCount {
            expected,
            got,
            separator: '\t',
        });
    }
    Ok(line.split('\t'))
}
