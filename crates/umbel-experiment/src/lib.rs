//! An experiment as a file of settings, and as the directory that a run leaves behind.
//!
//! * [`Experiment`] is what the file, the environment and the command line say, merged and checked once.
//! * [`RunDirectory`] writes a run's files so that none is ever half-written.
//! * [`report`] draws them.

pub mod report;
mod run_dir;
mod settings;
mod shared_budget;
mod summary;

pub use run_dir::{FileError, RunDirectory, RunFile, read_file, write_whole};
pub use settings::{
    ActivationSettings, AugmentationSettings, ClipSettings, ColumnSettings, CsvSettings, DataFiles,
    DataSettings, DropoutSettings, EarlyStopping, Experiment, FederationSettings, FormatSettings,
    FtrlStrategy, GraphSettings, LossSettings, MechanismSettings, ModelSettings, Monitor, NoiseLevel,
    NoiseSampler, OptimizerSettings, Overrides, PartitionSettings, PrivacySettings, PrivateSteps,
    QuantitySettings, Section, SecureAggregationSettings, SettingError, SharedBudgetSettings,
    StrategySettings, TextSettings, TrainingSettings, TrustSettings, UnitSettings, WordSettings,
};
pub use shared_budget::{SharedBudgetError, check_share, take_share};
pub use summary::{
    AdaptiveClipFacts, AggregationFacts, Evaluation, FtrlFacts, HistogramBin, LedgerFacts, LocalFacts,
    ModelFacts, PartitionFacts, PartitionOnly, PrivacyFacts, Quality, RoundMetrics, SimulatorOnly, Status,
    Summary, Timing,
};
