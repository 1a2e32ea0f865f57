//! One file for each command.

pub(crate) mod report;
pub(crate) mod simulate;
