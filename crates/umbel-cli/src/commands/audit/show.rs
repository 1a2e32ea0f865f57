//! `umbel audit show`.

use std::process::ExitCode;

use serde_json::Value;
use umbel_accounting::ledger::{self, Body, Claim, Header, VerifiedLedger, fingerprint, to_hex};
use umbel_experiment::RunFile;

use super::read;
use crate::args::audit::ShowArgs;
use crate::output;

pub(super) fn run(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let path = if args.run.is_dir() {
        args.run.join(RunFile::Ledger.name())
    } else {
        args.run.clone()
    };
    let content = read(&path)?;
    let ledger = ledger::read(&content).map_err(|fault| anyhow::anyhow!("{}: {fault}", path.display()))?;
    let shown = if args.json {
        serde_json::to_string_pretty(&records(&content[..ledger.stored_bytes()])?)?
    } else {
        describe(&ledger)
    };
    output::result(&shown)?;
    Ok(ExitCode::SUCCESS)
}

/// The records as they stand in the file.
fn records(content: &[u8]) -> anyhow::Result<Vec<Value>> {
    content
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut line: Value = serde_json::from_slice(line)?;
            Ok(line["record"].take())
        })
        .collect()
}

fn describe(ledger: &VerifiedLedger) -> String {
    let mut lines = header(ledger.header());
    lines.push(format!(
        "  signer         {}, who signed all {} records\n",
        fingerprint(&ledger.public_key()),
        ledger.records().len()
    ));
    lines.extend(
        ledger
            .records()
            .iter()
            .enumerate()
            .map(|(sequence, body)| format!("{sequence:>6}  {:<8} {}", body.kind(), content(body))),
    );
    lines.push(format!("\n  head           {}", to_hex(&ledger.head())));
    lines.join("\n")
}

fn header(header: &Header) -> Vec<String> {
    let budget = header
        .epsilon_budget
        .map_or_else(|| "no limit".to_owned(), |limit| format!("at most ε = {limit}"));
    let simulated = if header.simulated {
        "yes: coins and noise come from a seed"
    } else {
        "no"
    };
    vec![
        format!("{}: written by {}", header.run, header.software),
        format!(
            "  promise        unit {}, {} of one, trust {}, δ = {:e}, {budget}, {} accountant",
            header.unit, header.neighbors, header.trust, header.delta, header.accountant
        ),
        format!("  simulated      {simulated}"),
        format!(
            "  plan           {} rounds, cohort {} of {} clients, {} sampling at rate {}, clip norm {}, {} noise, {} parameters",
            header.rounds,
            header.cohort,
            header.population,
            header.sampling,
            header.sampling_rate,
            header.clip_norm,
            header.noise,
            header.dimension
        ),
        format!("  each round     {:?}", header.round_event),
        format!("  plan's hash    {}", header.plan_sha256),
    ]
}

/// What a record says, for a person.
pub(super) fn content(body: &Body) -> String {
    match body {
        Body::Header(header) => format!(
            "plan {}…",
            &header.plan_sha256[..16.min(header.plan_sha256.len())]
        ),
        Body::Reserve(reserve) => format!("round {}: its cost is set aside", reserve.round),
        Body::Charge(charge) => format!(
            "round {}: {}; noise {:.6e} grid units, divisor {}",
            charge.round,
            claim(&charge.claim),
            charge.noise_std_dev_grid_units,
            charge.divisor
        ),
        Body::Release(release) => format!(
            "round {}: model {}…",
            release.round,
            release.model_sha256.get(..16).unwrap_or(&release.model_sha256)
        ),
        Body::Void(void) => format!(
            "round {}: given back, nothing was learnt: {}",
            void.round, void.reason
        ),
        Body::Resume(resume) => format!("the run goes on after round {}", resume.released),
        Body::Close(close) => format!(
            "{:?} after {} rounds: {}",
            close.status,
            close.rounds,
            claim(&close.claim)
        ),
    }
}

fn claim(claim: &Claim) -> String {
    match claim.epsilon {
        Some(epsilon) => format!("ε ≤ {:.6} so far", (epsilon * 1e6).ceil() / 1e6),
        None => "ε infinite: NOT PRIVATE".to_owned(),
    }
}
