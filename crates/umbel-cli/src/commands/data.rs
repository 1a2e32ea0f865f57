//! `umbel data`.

mod catalogue;
mod fetch;
mod list;
mod partition;

use std::process::ExitCode;

use crate::args::data::{DataArgs, DataCommand};

pub(crate) fn run(args: &DataArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        DataCommand::Fetch(args) => fetch::run(args),
        DataCommand::List(args) => list::run(args),
        DataCommand::Partition(args) => partition::run(args),
    }?;
    Ok(ExitCode::SUCCESS)
}
