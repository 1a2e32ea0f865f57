//! Why a server did not start, or did not go on.

use std::net::SocketAddr;
use std::path::PathBuf;

use umbel_accounting::ledger::{AppendError, LedgerFault};
use umbel_experiment::{FileError, SettingError};
use umbel_mechanisms::SourceError;
use umbel_protocol::{HandleError, OpenRoundError, PlanError, ResumeError};
use umbel_sim::SimulateError;
use umbel_sim::checkpoint::CheckpointFault;
use umbel_wire::tls::TlsError;

use crate::State;
use crate::store::StoreError;

/// Why a server did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The stored model cannot be read.
    #[error("the stored model of the run: {0}")]
    Checkpoint(#[from] CheckpointFault),
    /// A file of the run directory.
    #[error(transparent)]
    File(#[from] FileError),
    /// The engine refused an input.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// The stored ledger does not hold.
    #[error("the ledger of run `{run}`: {fault}")]
    Ledger {
        /// The run.
        run: String,
        /// What is wrong with it.
        fault: LedgerFault,
    },
    /// A record that the ledger's order does not allow: a fault of this program.
    #[error(transparent)]
    LedgerOrder(#[from] AppendError),
    /// The stored round cannot be read.
    #[error("the stored open round: {0}")]
    OpenRound(#[from] OpenRoundError),
    /// The file of those who certify clients for secure aggregation.
    #[error(transparent)]
    Identity(#[from] umbel_wire::identity::IdentityError),
    /// Secure aggregation that never has enough clients.
    #[error(
        "{attempts} attempts of round {round} fell short in a row, the last since {reason}; nothing of them is charged. See to it that \
         enough clients come and stay, then start the server again"
    )]
    FellShort {
        /// The round.
        round: u64,
        /// How many.
        attempts: u32,
        /// What was short in the last.
        reason: String,
    },
    /// The state holds another experiment under the same name.
    #[error(
        "{state}: run `{run}` has another experiment: it has `{recorded}`, got `{got}`; give the experiment another `name`, or use \
         another `state`"
    )]
    OtherExperiment {
        /// The database.
        state: State,
        /// The run.
        run: String,
        /// The first line that differs, as recorded.
        recorded: String,
        /// The same line now.
        got: String,
    },
    /// The run directory belongs to another run.
    #[error("{}: holds the files of another run; choose another `out`", path.display())]
    OtherOut {
        /// The directory.
        path: PathBuf,
    },
    /// The plan is refused.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Another run of this state is not over.
    #[error("{state}: run `{run}` is not over: stop it first (`umbel runs stop`), or use another `state`")]
    Unfinished {
        /// The database.
        state: State,
        /// The run.
        run: String,
    },
    /// The run cannot be resumed.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// There is no such run.
    #[error("{state}: there is no run `{run}`")]
    NoSuchRun {
        /// The database.
        state: State,
        /// The name.
        run: String,
    },
    /// A setting is refused.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The system gives no randomness.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system failed.
    #[error("{0}")]
    System(String),
    /// The experiment does not work.
    #[error(transparent)]
    Task(#[from] SimulateError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}
