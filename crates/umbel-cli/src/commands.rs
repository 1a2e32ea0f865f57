//! One file for each command.

pub(crate) mod budget;
mod experiment;
pub(crate) mod report;
pub(crate) mod simulate;
