//! A client of a federation: trains on its own data, and sends nothing but a clipped and quantised update.
//!
//! [`join`] is the whole of `umbel join`; [`ClientSettings`] is its file. Before anything else the client reads the server's signed
//! terms and judges them by its own [`Policy`]; before the first byte of an update leaves, the round stands in its own
//! [history](History), which no server can shorten. [`LedgerSource`] reads a live server's ledger, for whoever only watches.

mod error;
mod history;
mod join;
mod ledger_source;
mod policy;
mod round;
mod secure;
mod settings;
mod sources;
mod terms;

pub use error::ClientError;
pub use history::{History, HistoryError};
pub use join::{Joined, join};
pub use ledger_source::{LedgerPage, LedgerSource, SourceError};
pub use policy::{Policy, Refusal};
pub use settings::{ClientData, ClientSettings, IdentityFiles};
pub use sources::ClientSources;
pub use terms::{Terms, TermsError};
pub use umbel_wire::tls::TlsFiles;
