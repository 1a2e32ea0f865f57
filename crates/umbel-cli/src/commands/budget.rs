//! `umbel budget`.

mod answer;
mod attacker;
mod compare;
mod curve;
mod epsilon;
mod explain;
mod growth;
mod noise;
mod number;
mod plan;
mod plot;
mod scale;
mod statement;
mod steps;
mod svg;
mod sweep;

use std::process::ExitCode;

use crate::args::budget::{BudgetArgs, BudgetCommand};

pub(crate) fn run(args: &BudgetArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        BudgetCommand::Compare(args) => compare::run(args),
        BudgetCommand::Curve(args) => curve::run(args),
        BudgetCommand::Epsilon(args) => epsilon::run(args),
        BudgetCommand::Explain(args) => explain::run(args),
        BudgetCommand::Noise(args) => noise::run(args),
        BudgetCommand::Steps(args) => steps::run(args),
        BudgetCommand::Sweep(args) => sweep::run(args),
    }?;
    Ok(ExitCode::SUCCESS)
}
