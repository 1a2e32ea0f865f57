//! Which experiment a command reads.

use std::path::PathBuf;

use clap::Args;

/// An experiment, and how its settings are changed.
#[derive(Debug, Args)]
pub(crate) struct ExperimentArgs {
    /// The experiment file.
    #[arg(value_name = "EXPERIMENT.toml")]
    pub(crate) file: PathBuf,

    /// Change a setting; a TOML value, else a string. May be given several times.
    #[arg(long = "set", value_name = "section.key=value")]
    pub(crate) settings: Vec<String>,
}
