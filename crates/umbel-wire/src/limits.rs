//! What a peer may send, and what this side sends.

use std::time::Duration;

/// Bytes in a chunk that this side sends, and the most it accepts.
///
/// Large enough that the cost of a message (headers, a digest update, a wake-up) does not matter; small enough that many
/// connections can each have one in memory, and that one comes within [`PART_LIMIT`] over a slow line.
pub const CHUNK_BYTES: usize = 256 << 10;

/// The least bytes in a chunk other than the last of its blob.
///
/// It bounds the number of messages that a blob can be cut into, and with it what a sender of single bytes costs.
pub const MIN_CHUNK_BYTES: usize = 16 << 10;

/// The most bytes in one encoded gRPC message, in both directions: a chunk and its envelope, with room.
///
/// Set on every generated client and server with `max_decoding_message_size` and `max_encoding_message_size`; tonic
/// applies it before it reserves memory. It is never raised to the size of a model: what is long travels in chunks.
pub const MAX_MESSAGE_BYTES: usize = 512 << 10;

/// Bytes that HTTP/2 lets a peer send on one stream before it is acknowledged.
///
/// The default of 64 KiB to 1 MiB would cap an upload at one window per round trip.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// As [`STREAM_WINDOW_BYTES`], over all streams of a connection: the most that a connection can make this side buffer.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// The most concurrent calls on one connection; a client needs two (one transfer, one check-in).
pub const MAX_CONCURRENT_STREAMS: u32 = 16;

/// The most bytes of headers in a call.
pub const MAX_HEADER_BYTES: u32 = 16 << 10;

/// How long the next part of a stream may take: a peer that sends less than a chunk in this time, some 9 KiB a second, is
/// given up, since its connection and its half of an update take memory.
pub const PART_LIMIT: Duration = Duration::from_secs(30);
