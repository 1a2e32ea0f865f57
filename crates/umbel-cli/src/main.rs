//! The `umbel` command. The only place that prints and exits.

mod args;
mod commands;
mod output;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command};

/// Exit codes: 0 success, 1 a check or a run that failed, 2 wrong usage.
fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // A message that cannot be shown changes nothing about how this ends.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let result = match args.command {
        Command::Audit(args) => commands::audit::run(&args),
        Command::Budget(args) => commands::budget::run(&args),
        Command::Data(args) => commands::data::run(&args),
        Command::Predict(args) => commands::predict::run(&args),
        Command::Certs(args) => commands::certs::run(&args),
        Command::Join(args) => commands::serve::run_join(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Runs(args) => commands::runs::run(&args),
        Command::Serve(args) => commands::serve::serve(&args),
        Command::Simulate(args) => commands::simulate::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            if error.is::<output::Usage>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
