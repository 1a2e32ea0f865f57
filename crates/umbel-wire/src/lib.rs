//! What crosses the network: protobuf messages, their checked conversion, tonic stubs and TLS.
//!
//! The only crate that knows protobuf. Nothing that comes from a peer gets past it unchecked: a decoder never panics,
//! never takes memory beyond a limit that this side stated beforehand, never lets a number through that is not finite,
//! and says of what it refuses which field it was, what was expected and what came.
//!
//! - [`proto`]: messages and stubs as generated from `proto/umbel/v1`.
//! - [`blob`]: models and updates as checked streams of chunks; [`vector`] is their contents.
//! - [`OutgoingInvitation`], [`IncomingInvitation`], [`OutgoingReport`], [`IncomingReport`]: the protocol's messages;
//!   [`transfer`] moves them as streams.
//! - [`aggregation`]: messages of secure aggregation as streams; [`identity`]: the files of those who sign them.
//! - [`recording`]: a run's inputs as a file.
//! - [`tls`] and [`transport`]: mutual TLS 1.3 and the connections over it.
//! - [`limits`]: what a peer may send.

#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::exhaustive_enums,
    clippy::use_self,
    reason = "generated"
)]
#[allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]
pub mod proto {
    //! Messages and stubs of the package `umbel.v1`, as generated from `proto/umbel/v1`. Nothing in them is checked.

    tonic::include_proto!("umbel.v1");
}

mod error;
mod hex;
mod invitation;
mod moment;
mod report;

pub mod aggregation;
pub mod blob;
pub mod identity;
pub mod limits;
pub mod recording;
pub mod tls;
pub mod transfer;
pub mod transport;
pub mod vector;

/// What names the number of a ledger's records beside a page of its lines, where it is served as plain HTTP.
pub const LEDGER_RECORDS_HEADER: &str = "umbel-ledger-records";

pub use error::{DecodeError, EncodeError};
pub use invitation::{IncomingInvitation, OutgoingInvitation};
pub use moment::{decode_moment, encode_moment};
pub use report::{ExpectedReport, IncomingReport, OutgoingReport};
