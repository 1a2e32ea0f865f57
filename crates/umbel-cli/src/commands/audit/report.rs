//! `umbel audit report`.

use std::fs;
use std::process::ExitCode;

use anyhow::Context as _;
use umbel_audit::{Anchors, CertificateInputs, certificate, verify};
use umbel_experiment::report::certificate::render;
use umbel_experiment::write_whole;

use super::verify::{anchors, run_files};
use super::{read, read_if_there};
use crate::args::audit::ReportArgs;
use crate::output::{self, Usage};

pub(super) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    if let Some(rate) = args.base_rate.iter().find(|rate| !(0.0..=1.0).contains(*rate)) {
        let reason = format!("--base-rate: expected a number between 0 and 1, got {rate}");
        return Err(Usage(anyhow::anyhow!(reason)).into());
    }
    let files = run_files(&args.run, args.budget.as_deref())?;
    let verification = verify(&files, &anchors(&args.anchors)?);
    let attack = match &args.attack {
        Some(path) => Some(read(path)?),
        None => read_if_there(&args.run.join("attack.json"))?,
    };
    let others = args
        .also
        .iter()
        .map(|run| {
            let files = run_files(run, args.budget.as_deref())?;
            let verification = verify(&files, &Anchors::default());
            Ok((files, verification))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let inputs = CertificateInputs {
        attack,
        base_rates: args.base_rate.clone(),
        others,
    };
    let certificate = certificate(&files, &verification, &inputs)
        .with_context(|| format!("no certificate of {}", args.run.display()))?;
    fs::create_dir_all(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;
    let page = args.out.join("certificate.html");
    write_whole(&page, render(&certificate).as_bytes())?;
    let json = serde_json::to_string_pretty(&certificate)? + "\n";
    write_whole(&args.out.join("certificate.json"), json.as_bytes())?;
    output::result(&page.display().to_string())?;
    for fault in &certificate.verdict.faults {
        output::remark(&format!("NOT CONSISTENT: {fault}"));
    }
    let sound = verification.consistent && inputs.others.iter().all(|(_, other)| other.consistent);
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
