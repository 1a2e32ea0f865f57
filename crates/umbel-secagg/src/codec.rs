//! The bytes of messages: a tag, then fields of fixed sizes, little endian, and lists whose length the reader knows or reads.
//!
//! A reader takes slices of what it was given and never makes memory for a number that it merely read.

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first byte is another message's.
    #[error("expected a message of kind {expected}, got {got}")]
    Kind {
        /// The tag that was expected.
        expected: u8,
        /// The tag that came.
        got: u8,
    },
    /// A field has a value that it cannot have.
    #[error("`{field}` must be {expected}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// The bytes end too early.
    #[error("the message ends before `{field}`")]
    TooShort {
        /// The field that is missing.
        field: &'static str,
    },
    /// Bytes are left over.
    #[error("{0} bytes follow the end of the message")]
    TooLong(usize),
}

/// Puts a message together.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(kind: u8) -> Self {
        Self(vec![kind])
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes a message apart.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8], expected: u8) -> Result<Self, DecodeError> {
        match message.split_first() {
            Some((kind, rest)) if *kind == expected => Ok(Self(rest)),
            Some((kind, _)) => Err(DecodeError::Kind { expected, got: *kind }),
            None => Err(DecodeError::TooShort { field: "kind" }),
        }
    }

    pub(crate) fn slice(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(DecodeError::TooShort { field })?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self
            .0
            .split_first_chunk()
            .ok_or(DecodeError::TooShort { field })?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Whether everything was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TooLong(self.0.len()))
        }
    }
}

/// A set of places on a roster of `n` clients, one bit each, the first in the lowest bit of the first byte.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Places(Vec<u8>);

impl Places {
    pub(crate) fn none(n: usize) -> Self {
        Self(vec![0; n.div_ceil(8)])
    }

    pub(crate) fn insert(&mut self, place: usize) {
        self.0[place / 8] |= 1 << (place % 8);
    }

    pub(crate) fn contains(&self, place: usize) -> bool {
        self.0
            .get(place / 8)
            .is_some_and(|byte| byte >> (place % 8) & 1 == 1)
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|byte| byte.count_ones()).sum()
    }

    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(own, other)| own & !other == 0)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads a set; bits beyond `n` must be zero.
    pub(crate) fn read(reader: &mut Reader<'_>, n: usize, field: &'static str) -> Result<Self, DecodeError> {
        let bytes = reader.slice(n.div_ceil(8), field)?.to_vec();
        let padding = n.div_ceil(8) * 8 - n;
        if bytes
            .last()
            .is_some_and(|last| padding > 0 && last >> (8 - padding) != 0)
        {
            return Err(DecodeError::Field {
                field,
                expected: "without bits beyond the roster",
            });
        }
        Ok(Self(bytes))
    }
}
