//! What can go wrong, by whose fault.

use umbel_accounting::{AccountingError, Unsupported};
use umbel_mechanisms::{MechanismError, StateError};

use crate::{ClientId, ReplayMismatch, RoundId};

/// One client misbehaved or is too late. Its message is dropped; the round goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientFault {
    /// The client has reported in this round before. The first report stands.
    #[error("{client} has already reported in {round}")]
    AlreadyReported {
        /// Who.
        client: ClientId,
        /// When.
        round: RoundId,
    },
    /// The update has another length than the model.
    #[error("{client} sent an update of another length: expected {expected} parameters, got {got}")]
    Dimension {
        /// Who.
        client: ClientId,
        /// Parameters of the model.
        expected: usize,
        /// Parameters of the update.
        got: usize,
    },
    /// The client was not invited to this round.
    #[error("{client} was not invited to {round}")]
    NotInvited {
        /// Who.
        client: ClientId,
        /// When.
        round: RoundId,
    },
    /// No round is open that this report could belong to: it is late, early or repeated.
    #[error("{client} sent a report for {got}, but {}", match open { Some(open) => format!("{open} is open"), None => "no round is open".to_owned() })]
    OtherRound {
        /// Who.
        client: ClientId,
        /// The round that is open.
        open: Option<RoundId>,
        /// The round of the report.
        got: RoundId,
    },
    /// The update was quantised for another clip norm.
    #[error("{client} sent an update that was quantised for another clip norm than the round's")]
    OtherQuantization {
        /// Who.
        client: ClientId,
    },
}

/// The driver called something that is not possible now. Never caused by data from outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call} is not possible now: expected {expected}, the run is {state}")]
pub struct ApiMisuse {
    /// The call.
    pub call: &'static str,
    /// When it is possible.
    pub expected: &'static str,
    /// What the run is doing.
    pub state: &'static str,
}

/// Why an input was not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// The cost of a round could not be computed.
    #[error(transparent)]
    Accounting(AccountingError),
    /// The driver's mistake.
    #[error(transparent)]
    ApiMisuse(#[from] ApiMisuse),
    /// A client's mistake; the round goes on.
    #[error(transparent)]
    ClientFault(#[from] ClientFault),
    /// The mechanism refused: it is paid for so many rounds and no more.
    #[error(transparent)]
    Mechanism(#[from] StateError),
    /// A resumed simulation differs from what its ledger holds.
    #[error(transparent)]
    ReplayMismatch(#[from] ReplayMismatch),
}

/// The next round would spend more than the run may.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "the privacy budget is exhausted: spent epsilon {spent:.4}, {round} would make it {asked:.4}, the limit is {limit:.4} \
     at delta {delta:e}"
)]
pub struct BudgetExhausted {
    /// The round that was refused.
    pub round: RoundId,
    /// ε spent before it.
    pub spent: f64,
    /// ε that would be spent after it.
    pub asked: f64,
    /// The most that may be spent.
    pub limit: f64,
    /// δ of all three.
    pub delta: f64,
}

/// Why a plan was refused. The key is the setting's name in the experiment file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The cost of the plan could not be computed.
    #[error(transparent)]
    Accounting(#[from] AccountingError),
    /// The mechanism could not be built.
    #[error(transparent)]
    Mechanism(#[from] MechanismError),
    /// Coins from a seed with noise from the system, or the reverse.
    #[error("cohorts and noise must both come from the system, or both from the seed of a simulation")]
    MixedSources,
    /// The mechanism could not begin.
    #[error(transparent)]
    State(#[from] StateError),
    /// A setting is out of range.
    #[error("`{key}` must be {expected}, got {got}")]
    Setting {
        /// Name of the setting.
        key: &'static str,
        /// The range, with its reason.
        expected: String,
        /// The value that came.
        got: String,
    },
    /// The accountant cannot charge for the plan.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
}
