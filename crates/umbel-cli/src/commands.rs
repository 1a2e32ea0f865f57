//! One file for each command.

pub(crate) mod audit;
pub(crate) mod budget;
pub(crate) mod certs;
pub(crate) mod data;
mod experiment;
pub(crate) mod predict;
pub(crate) mod report;
pub(crate) mod runs;
pub(crate) mod serve;
pub(crate) mod simulate;
mod stop;
