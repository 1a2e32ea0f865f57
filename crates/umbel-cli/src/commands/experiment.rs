//! Reads an experiment as a command is given it.

use std::path::Path;
use std::{env, fs};

use anyhow::Context as _;
use umbel_experiment::{Experiment, Overrides};

/// The experiment in the file at `path`, changed by the environment, by `settings` (each `section.key=value`) and by `seed`.
pub(super) fn read(path: &Path, settings: &[String], seed: Option<u64>) -> anyhow::Result<Experiment> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let overrides = Overrides {
        environment: env_settings(),
        settings: settings.to_vec(),
        seed,
    };
    let directory = path.parent().unwrap_or_else(|| Path::new(""));
    Experiment::parse(&text, directory, &overrides).with_context(|| path.display().to_string())
}

/// Environment variables that are text; others can be no settings.
fn env_settings() -> Vec<(String, String)> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
