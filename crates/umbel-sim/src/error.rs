//! Why a simulation did not run, or did not end.

use std::path::PathBuf;

use umbel_accounting::AccountingError;
use umbel_accounting::ledger::{AppendError, LedgerFault};
use umbel_experiment::report::ReportError;
use umbel_experiment::{FileError, SettingError, SharedBudgetError};
use umbel_mechanisms::MechanismError;
use umbel_protocol::{ApiMisuse, HandleError, PlanError, ResumeError};
use umbel_train::{DataError, ModelError, PartitionError, ReadError};

use crate::checkpoint::CheckpointFault;

/// Why a simulation did not run, or did not end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// The cost of the plan could not be computed.
    #[error("{0}")]
    Accounting(#[from] AccountingError),
    /// The checkpoint cannot be read.
    #[error("{}: {fault}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: CheckpointFault,
    },
    /// The data are not what the experiment says.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The engine refused an input: a fault of this program, or of a run that was changed while it lay.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// The examples to predict are of another shape than those that were trained on.
    #[error(
        "`{}` has examples of {got} values, but the model was trained with {expected}",
        path.display()
    )]
    InputShape {
        /// The file of examples.
        path: PathBuf,
        /// The shape in training.
        expected: String,
        /// The shape that came.
        got: String,
    },
    /// The ledger of the run to resume does not hold.
    #[error("{}: {fault}", path.display())]
    Ledger {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: LedgerFault,
    },
    /// A server has signed something else than follows from its own experiment.
    #[error("the ledger's header promises another {what} than follows from the experiment")]
    OtherPromise {
        /// What differs.
        what: &'static str,
    },
    /// A record that deviates from the plan in the ledger's header, or from the order of records: a fault of this program, for
    /// which the run ends before anything is learnt.
    #[error(transparent)]
    LedgerAppend(#[from] AppendError),
    /// The mechanism could not be built.
    #[error("`privacy`: {0}")]
    Mechanism(#[from] MechanismError),
    /// The engine was driven wrongly: a fault of this program.
    #[error(transparent)]
    Misuse(#[from] ApiMisuse),
    /// The model cannot be built.
    #[error("`model`: {0}")]
    Model(#[from] ModelError),
    /// The run to resume is of another experiment.
    #[error(
        "{} is a run of another experiment: it has `{recorded}`, got `{got}`; to resume it leave the experiment and its \
         settings away",
        path.display()
    )]
    OtherExperiment {
        /// The run directory.
        path: PathBuf,
        /// The first line that differs, as recorded.
        recorded: String,
        /// The same line now.
        got: String,
    },
    /// The data cannot be split so.
    #[error("`data.partition`: {0}")]
    Partition(#[from] PartitionError),
    /// The plan is refused.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A data file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The report could not be drawn.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The run cannot be resumed.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// The run directory's experiment file is damaged.
    #[error("{}: {source}", path.display())]
    RunExperiment {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SettingError,
    },
    /// The model of a run cannot be used.
    #[error("`{}`: {reason}", path.display())]
    RunModel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting of local training is refused.
    #[error("`{key}`: {reason}")]
    Setting {
        /// Name of the setting.
        key: &'static str,
        /// Why.
        reason: String,
    },
    /// The run gets no share of the budget on its population.
    #[error("`privacy.budget`: {0}")]
    SharedBudget(#[from] SharedBudgetError),
    /// The system gave no randomness.
    #[error("the system gives no random numbers: {0}")]
    System(String),
}
