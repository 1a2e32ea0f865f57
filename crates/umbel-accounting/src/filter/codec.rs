//! The stored form of filters: a magic, a kind, then numbers little-endian, f64 by their bits.

use super::FilterError;

const MAGIC: &[u8; 4] = b"UFL1";

pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(kind: u8) -> Self {
        let mut bytes = MAGIC.to_vec();
        bytes.push(kind);
        Self(bytes)
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn float(&mut self, number: f64) {
        self.0.extend_from_slice(&number.to_bits().to_le_bytes());
    }

    pub(super) fn count(&mut self, count: usize) {
        self.0.extend_from_slice(&(count as u64).to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], kind: u8) -> Result<Self, FilterError> {
        let mut reader = Self { bytes };
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(FilterError::state("the magic `UFL1`", "other bytes"));
        }
        let found = reader.byte()?;
        if found != kind {
            return Err(FilterError::state(format!("kind {kind}"), found));
        }
        Ok(reader)
    }

    pub(super) fn byte(&mut self) -> Result<u8, FilterError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn float(&mut self) -> Result<f64, FilterError> {
        Ok(f64::from_bits(self.number()?))
    }

    /// A number of things that each take at least one more byte; so nothing large is allocated for a short
    /// input.
    pub(super) fn count(&mut self) -> Result<usize, FilterError> {
        let number = self.number()?;
        let left = self.bytes.len();
        usize::try_from(number)
            .ok()
            .filter(|count| *count <= left)
            .ok_or_else(|| FilterError::state(format!("a number of at most {left}"), number))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, FilterError> {
        let length = self.count()?;
        std::str::from_utf8(self.take(length)?).map_err(|error| FilterError::state("UTF-8", error))
    }

    pub(super) fn finish(self) -> Result<(), FilterError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(FilterError::state("the end", self.bytes.len()))
        }
    }

    fn number(&mut self) -> Result<u64, FilterError> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], FilterError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(count)
            .ok_or_else(|| FilterError::state(format!("{count} more bytes"), self.bytes.len()))?;
        self.bytes = rest;
        Ok(taken)
    }
}
