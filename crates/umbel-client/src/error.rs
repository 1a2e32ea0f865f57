//! Why a client did not join, or did not stay.

use umbel_experiment::SettingError;
use umbel_sim::SimulateError;
use umbel_wire::tls::TlsError;
use umbel_wire::transport::ConnectError;

use crate::history::HistoryError;
use crate::policy::Refusal;
use crate::terms::TermsError;

/// Why a client did not join, or did not stay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server was not reached, or the two sides did not accept each other.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The client's own record.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The files of this client's identity for secure aggregation.
    #[error(transparent)]
    Identity(#[from] umbel_wire::identity::IdentityError),
    /// The server answers with something that it should not.
    #[error("the server {0}")]
    Protocol(String),
    /// The server does not let this client take part.
    #[error("the server refuses: {0}")]
    Rejected(String),
    /// The client's own policy.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// A setting is refused.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The system failed.
    #[error("{0}")]
    System(String),
    /// Data, model or training.
    #[error(transparent)]
    Task(#[from] SimulateError),
    /// The server's terms mean nothing.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}
