//! `umbel report`.

use std::path::PathBuf;
use std::process::ExitCode;

use umbel_experiment::report::{RunRecord, render};
use umbel_experiment::write_whole;

use crate::args::ReportArgs;
use crate::output;

pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let records: Vec<_> = args
        .runs
        .iter()
        .map(|directory| RunRecord::read(directory))
        .collect::<Result<_, _>>()?;
    let target = args.out.clone().unwrap_or_else(|| match args.runs.as_slice() {
        [only] => only.join("report.html"),
        _ => PathBuf::from("comparison.html"),
    });
    write_whole(&target, render(&records).as_bytes())?;
    output::result(&target.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
