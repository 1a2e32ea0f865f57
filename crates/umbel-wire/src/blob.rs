//! Long runs of bytes as checked streams of chunks.
//!
//! The sender announces size and digest ([`Blob::of`]) and cuts the bytes into [`chunks`]; the receiver checks the
//! announcement against what the round's plan says must come ([`Blob::decode`]) and puts the chunks together in an
//! [`Assembler`], which holds as much memory as has arrived and yields nothing before the digest was found right.
//! A transfer that broke off goes on from [`Assembler::received`].

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::error::DecodeError;
use crate::hex::hex_of;
use crate::limits::{CHUNK_BYTES, MIN_CHUNK_BYTES};
use crate::proto;

/// Size and digest of bytes that are to be transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    size_bytes: u64,
    sha256: [u8; 32],
}

impl Blob {
    /// Describes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            size_bytes: bytes.len() as u64,
            sha256: Sha256::digest(bytes).into(),
        }
    }

    /// Checks a peer's announcement of `expected_bytes` bytes.
    ///
    /// That number is the one limit on the memory that the transfer can take, so it comes from what this side knows of
    /// the round and never from the peer alone.
    ///
    /// # Errors
    ///
    /// No header, another size, a digest that is not 32 bytes long.
    pub fn decode(header: Option<&proto::BlobHeader>, expected_bytes: u64) -> Result<Self, DecodeError> {
        let header = header.ok_or(DecodeError::Missing { field: "blob" })?;
        let size_bytes = header.size_bytes;
        if size_bytes > expected_bytes {
            return Err(DecodeError::TooLarge {
                field: "blob.size_bytes",
                limit: expected_bytes,
                got: size_bytes,
            });
        }
        if size_bytes < expected_bytes {
            return Err(DecodeError::invalid(
                "blob.size_bytes",
                expected_bytes,
                size_bytes,
            ));
        }
        let sha256 = <[u8; 32]>::try_from(&header.sha256[..]).map_err(|_| {
            DecodeError::invalid(
                "blob.sha256",
                "32 bytes",
                format_args!("{} bytes", header.sha256.len()),
            )
        })?;
        Ok(Self { size_bytes, sha256 })
    }

    /// Checks a peer's announcement of something whose length is not known beforehand, but that it is at most `most_bytes`.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode), but that fewer bytes, down to one, are taken.
    pub fn decode_up_to(header: Option<&proto::BlobHeader>, most_bytes: u64) -> Result<Self, DecodeError> {
        let announced = header.map_or(most_bytes, |header| header.size_bytes);
        if announced == 0 {
            return Err(DecodeError::invalid("blob.size_bytes", "1 or more", 0));
        }
        Self::decode(header, announced.min(most_bytes))
    }

    /// The announcement to send.
    pub fn encode(&self) -> proto::BlobHeader {
        proto::BlobHeader {
            size_bytes: self.size_bytes,
            sha256: Bytes::copy_from_slice(&self.sha256),
        }
    }

    /// How many bytes there are.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// SHA-256 over the bytes.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }
}

/// Cuts `bytes` from `offset` on into chunks of [`CHUNK_BYTES`] that share their memory.
///
/// An offset at or behind the end gives none.
pub fn chunks(bytes: Bytes, offset: u64) -> impl Iterator<Item = proto::Chunk> + Send {
    let mut next = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    std::iter::from_fn(move || {
        let start = next;
        next = bytes.len().min(start + CHUNK_BYTES);
        (start < next).then(|| proto::Chunk {
            offset: start as u64,
            data: bytes.slice(start..next),
        })
    })
}

/// Puts the chunks of one blob together.
///
/// Memory grows with the bytes that arrived, to at most the announced size: who announces two gigabytes and sends
/// nothing costs nothing.
#[derive(Debug)]
pub struct Assembler {
    blob: Blob,
    bytes: Vec<u8>,
    digest: Sha256,
}

impl Assembler {
    /// Waits for the bytes of `blob`.
    pub fn new(blob: Blob) -> Self {
        Self {
            blob,
            bytes: Vec::new(),
            digest: Sha256::new(),
        }
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    ///
    /// A chunk out of order, empty, too large, needlessly small, or beyond the announced size; or no memory left for
    /// it. Nothing of it is kept then, and the right chunk may still be pushed.
    pub fn push(&mut self, chunk: &proto::Chunk) -> Result<(), DecodeError> {
        let received = self.received();
        if chunk.offset != received {
            return Err(DecodeError::invalid("chunk.offset", received, chunk.offset));
        }
        let length = chunk.data.len();
        if length > CHUNK_BYTES {
            return Err(DecodeError::TooLarge {
                field: "chunk.data",
                limit: CHUNK_BYTES as u64,
                got: length as u64,
            });
        }
        let missing = self.blob.size_bytes - received;
        if length as u64 > missing {
            return Err(DecodeError::TooLarge {
                field: "chunk.data",
                limit: missing,
                got: length as u64,
            });
        }
        if length == 0 || (length < MIN_CHUNK_BYTES && (length as u64) < missing) {
            let expected = format_args!("at least {} bytes", missing.min(MIN_CHUNK_BYTES as u64));
            return Err(DecodeError::invalid(
                "chunk.data",
                expected,
                format_args!("{length} bytes"),
            ));
        }
        self.reserve(length)?;
        self.bytes.extend_from_slice(&chunk.data);
        self.digest.update(&chunk.data);
        Ok(())
    }

    /// The bytes, if all have come and are those that were announced.
    ///
    /// # Errors
    ///
    /// Bytes that are missing, or another digest.
    pub fn finish(self) -> Result<Vec<u8>, DecodeError> {
        if self.received() != self.blob.size_bytes {
            let expected = format_args!("{} bytes", self.blob.size_bytes);
            return Err(DecodeError::invalid(
                "blob",
                expected,
                format_args!("{} bytes", self.received()),
            ));
        }
        let got: [u8; 32] = self.digest.finalize().into();
        if got != self.blob.sha256 {
            return Err(DecodeError::invalid(
                "blob.sha256",
                hex_of(&self.blob.sha256),
                hex_of(&got),
            ));
        }
        Ok(self.bytes)
    }

    /// What is being put together.
    pub fn blob(&self) -> &Blob {
        &self.blob
    }

    /// How many bytes have come: the offset from which an interrupted transfer goes on.
    pub fn received(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Makes room for `more` bytes: doubling, so that each byte is moved a constant number of times, but never beyond
    /// the announced size.
    fn reserve(&mut self, more: usize) -> Result<(), DecodeError> {
        if self.bytes.capacity() - self.bytes.len() >= more {
            return Ok(());
        }
        let announced = usize::try_from(self.blob.size_bytes).unwrap_or(usize::MAX);
        let missing = announced.saturating_sub(self.bytes.len());
        let grow = self.bytes.len().max(more).min(missing);
        self.bytes.try_reserve_exact(grow).map_err(|_| {
            DecodeError::invalid(
                "blob",
                "a blob for which there is memory",
                format_args!("{} bytes", self.blob.size_bytes),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(length: usize) -> Bytes {
        (0..length).map(|i| (i % 251).to_le_bytes()[0]).collect()
    }

    fn refusal(assembler: &mut Assembler, offset: u64, data: Bytes) -> String {
        let before = assembler.received();
        let error = assembler
            .push(&proto::Chunk { offset, data })
            .unwrap_err()
            .to_string();
        assert_eq!(
            assembler.received(),
            before,
            "a refused chunk leaves nothing behind"
        );
        error
    }

    #[test]
    fn an_announcement_must_fit_the_plan() {
        let check = |size_bytes, digest_length, expected: &str| {
            let header = proto::BlobHeader {
                size_bytes,
                sha256: sample(digest_length),
            };
            assert_eq!(Blob::decode(Some(&header), 11).unwrap_err().to_string(), expected);
        };
        check(12, 32, "`blob.size_bytes`: expected at most 11, got 12");
        check(
            u64::MAX,
            32,
            "`blob.size_bytes`: expected at most 11, got 18446744073709551615",
        );
        check(10, 32, "`blob.size_bytes`: expected 11, got 10");
        check(11, 31, "`blob.sha256`: expected 32 bytes, got 31 bytes");
        check(11, 33, "`blob.sha256`: expected 32 bytes, got 33 bytes");
        assert_eq!(
            Blob::decode(None, 11).unwrap_err(),
            DecodeError::Missing { field: "blob" }
        );
        let blob = Blob::of(&sample(11));
        assert_eq!(Blob::decode(Some(&blob.encode()), 11), Ok(blob));
    }

    #[test]
    fn chunks_must_come_whole_and_in_order() {
        let bytes = sample(MIN_CHUNK_BYTES + 5);
        let mut assembler = Assembler::new(Blob::of(&bytes));
        let first = bytes.slice(..MIN_CHUNK_BYTES);
        assert_eq!(
            refusal(&mut assembler, 1, first.clone()),
            "`chunk.offset`: expected 0, got 1",
        );
        assert_eq!(
            refusal(&mut assembler, 0, bytes.slice(..MIN_CHUNK_BYTES - 1)),
            "`chunk.data`: expected at least 16384 bytes, got 16383 bytes",
        );
        assert_eq!(
            refusal(&mut assembler, 0, sample(MIN_CHUNK_BYTES + 6)),
            "`chunk.data`: expected at most 16389, got 16390",
        );
        assembler
            .push(&proto::Chunk {
                offset: 0,
                data: first.clone(),
            })
            .unwrap();
        let repeated = refusal(&mut assembler, 0, first);
        assert_eq!(repeated, "`chunk.offset`: expected 16384, got 0");
        assert_eq!(
            refusal(&mut assembler, 16384, Bytes::new()),
            "`chunk.data`: expected at least 5 bytes, got 0 bytes",
        );
        assembler
            .push(&proto::Chunk {
                offset: 16384,
                data: bytes.slice(16384..),
            })
            .unwrap();
        assert_eq!(
            refusal(&mut assembler, 16389, sample(1)),
            "`chunk.data`: expected at most 0, got 1"
        );
        assert_eq!(assembler.finish().unwrap(), bytes);
    }

    #[test]
    fn a_chunk_above_the_limit_is_refused() {
        let mut assembler = Assembler::new(Blob::of(&sample(3 * CHUNK_BYTES)));
        let error = refusal(&mut assembler, 0, sample(CHUNK_BYTES + 1));
        assert_eq!(error, "`chunk.data`: expected at most 262144, got 262145");
    }

    #[test]
    fn nothing_is_yielded_that_is_not_what_was_announced() {
        let bytes = sample(100);
        let mut changed = bytes.to_vec();
        changed[50] ^= 1;
        let mut assembler = Assembler::new(Blob::of(&bytes));
        assembler
            .push(&proto::Chunk {
                offset: 0,
                data: changed.into(),
            })
            .unwrap();
        assert_eq!(assembler.finish().unwrap_err().field(), "blob.sha256");

        let error = Assembler::new(Blob::of(&bytes)).finish().unwrap_err();
        assert_eq!(error.to_string(), "`blob`: expected 100 bytes, got 0 bytes");
        assert!(Assembler::new(Blob::of(&[])).finish().unwrap().is_empty());
    }

    #[test]
    fn memory_follows_what_arrived_and_not_what_was_announced() {
        let announced = Blob {
            size_bytes: 1 << 40,
            sha256: [0; 32],
        };
        let mut assembler = Assembler::new(announced);
        assert_eq!(assembler.bytes.capacity(), 0);
        for chunk in chunks(sample(5 * CHUNK_BYTES), 0) {
            assembler.push(&chunk).unwrap();
            assert!(assembler.bytes.capacity() <= 2 * assembler.bytes.len());
        }
        let bytes = sample(5 * CHUNK_BYTES / 2);
        let mut assembler = Assembler::new(Blob::of(&bytes));
        chunks(bytes.clone(), 0).for_each(|chunk| assembler.push(&chunk).unwrap());
        assert_eq!(
            assembler.bytes.capacity(),
            bytes.len(),
            "never more than announced"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_blob_arrives_also_when_its_transfer_is_interrupted(
            length in 0..3 * CHUNK_BYTES, broken_off_after in 0usize..4,
        ) {
            let bytes = sample(length);
            let mut assembler = Assembler::new(Blob::of(&bytes));
            for chunk in chunks(bytes.clone(), 0).take(broken_off_after) {
                assembler.push(&chunk).unwrap();
            }
            for chunk in chunks(bytes.clone(), assembler.received()) {
                assembler.push(&chunk).unwrap();
            }
            prop_assert_eq!(assembler.finish().unwrap(), bytes);
        }
    }
}
