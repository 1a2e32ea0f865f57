//! Opens a file, gzipped or plain, recognised by its first bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::{Place, ReadError, ReadFault};

/// First bytes of a gzip member (RFC 1952, section 2.3.1), with the only compression method there is.
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 0x08];

/// No deflate stream expands by more than this (a block of repeated 258-byte matches).
const MAX_EXPANSION: u64 = 1032;

/// The content of a file, unpacked as it is read.
pub(super) struct Input {
    content: Content,
    max_bytes: Option<u64>,
}

enum Content {
    Gzip(Box<BufReader<MultiGzDecoder<BufReader<File>>>>),
    Plain(BufReader<File>),
}

impl Input {
    /// Opens `path` and looks at its first bytes.
    pub(super) fn open(path: &Path) -> Result<Self, ReadError> {
        let io_error = |error| ReadError::new(path, Place::File, ReadFault::Io(error));
        let file = File::open(path).map_err(io_error)?;
        let metadata = file.metadata().map_err(io_error)?;
        if metadata.is_dir() {
            return Err(io_error(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let file_bytes = metadata.is_file().then_some(metadata.len());
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let is_gzip = reader.fill_buf().map_err(io_error)?.starts_with(&GZIP_MAGIC);
        Ok(if is_gzip {
            let decoder = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(reader));
            let max_bytes = file_bytes.map(|bytes| bytes.saturating_mul(MAX_EXPANSION));
            Self {
                content: Content::Gzip(Box::new(decoder)),
                max_bytes,
            }
        } else {
            Self {
                content: Content::Plain(reader),
                max_bytes: file_bytes,
            }
        })
    }

    /// The most bytes that the content can have, where the file's length is known.
    pub(super) fn max_bytes(&self) -> Option<u64> {
        self.max_bytes
    }

    /// Whether the file is compressed.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.content, Content::Gzip(_))
    }

    /// The place of a byte of the content.
    pub(super) fn place(&self, offset: u64) -> Place {
        match self.content {
            Content::Gzip(_) => Place::UnpackedByte(offset),
            Content::Plain(_) => Place::Byte(offset),
        }
    }

    /// What an error of the reader means for the file.
    pub(super) fn fault(&self, error: io::Error) -> ReadFault {
        match (&self.content, error.kind()) {
            (Content::Plain(_), _) => ReadFault::Io(error),
            (Content::Gzip(_), io::ErrorKind::UnexpectedEof) => ReadFault::GzipTruncated,
            (Content::Gzip(_), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => {
                ReadFault::Gzip(error)
            }
            // miniz and zlib report a broken deflate stream as an error without an operating system code.
            (Content::Gzip(_), _) if error.raw_os_error().is_none() => ReadFault::Gzip(error),
            (Content::Gzip(_), _) => ReadFault::Io(error),
        }
    }
}

impl Read for Input {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.content {
            Content::Gzip(reader) => reader.read(buf),
            Content::Plain(reader) => reader.read(buf),
        }
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match &mut self.content {
            Content::Gzip(reader) => reader.fill_buf(),
            Content::Plain(reader) => reader.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        match &mut self.content {
            Content::Gzip(reader) => reader.consume(amount),
            Content::Plain(reader) => reader.consume(amount),
        }
    }
}
