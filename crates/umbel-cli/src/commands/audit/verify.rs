//! `umbel audit verify`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use umbel_accounting::ledger::{CloseStatus, from_hex};
use umbel_audit::{Anchors, Facts, LEVEL, RunFiles, Signer, Spent, Verification, verify};
use umbel_experiment::{Experiment, Overrides, RunFile};

use super::{read, read_if_there};
use crate::args::audit::{AnchorArgs, VerifyArgs};
use crate::output::{self, Usage};

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let files = run_files(&args.run, args.budget.as_deref())?;
    let verification = verify(&files, &anchors(&args.anchors)?);
    let shown = if args.json {
        serde_json::to_string_pretty(&verification)?
    } else {
        describe(&verification)
    };
    output::result(&shown)?;
    Ok(if verification.consistent {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Key, plan and receipts from the command line.
pub(super) fn anchors(args: &AnchorArgs) -> anyhow::Result<Anchors> {
    let receipts = args
        .receipts
        .iter()
        .map(|path| Ok((path.display().to_string(), read(path)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Anchors {
        key: args.key.as_deref().map(key).transpose()?,
        plan: args.plan.as_deref().map(plan).transpose()?,
        receipts,
    })
}

/// The content of a run directory.
pub(super) fn run_files(run: &Path, budget: Option<&Path>) -> anyhow::Result<RunFiles> {
    let file = |file: RunFile| read_if_there(&run.join(file.name()));
    let experiment = file(RunFile::Experiment)?;
    let shared_budget = match (budget, experiment.as_deref().and_then(budget_of)) {
        (Some(path), _) => Some(read(path)?),
        (None, Some(path)) => read_if_there(&path)?,
        (None, None) => None,
    };
    Ok(RunFiles {
        ledger: read(&run.join(RunFile::Ledger.name()))?,
        experiment,
        shared_budget,
        openings: file(RunFile::LedgerOpenings)?,
        metrics: file(RunFile::Metrics)?,
        model: file(RunFile::Model)?,
        summary: file(RunFile::Summary)?,
    })
}

/// Where an experiment says that the budget is which it shares with others.
fn budget_of(experiment: &[u8]) -> Option<PathBuf> {
    let text = std::str::from_utf8(experiment).ok()?;
    let experiment = Experiment::parse(text, Path::new(""), &Overrides::default()).ok()?;
    experiment.privacy.budget.map(|budget| budget.file)
}

/// A key as fingerprints are printed, or whole.
fn key(text: &str) -> anyhow::Result<String> {
    let digits = text.replace('-', "").to_lowercase();
    if from_hex::<32>(&digits).is_some() {
        return Ok(digits);
    }
    if from_hex::<16>(&digits).is_none() {
        let reason = format!(
            "--key: expected a fingerprint of eight groups of four hexadecimal digits, or 64 digits, got `{text}`"
        );
        return Err(Usage(anyhow::anyhow!(reason)).into());
    }
    let groups: Vec<&str> = (0..8).map(|group| &digits[4 * group..4 * group + 4]).collect();
    Ok(groups.join("-"))
}

/// The hash of a plan from the command line.
fn plan(text: &str) -> anyhow::Result<String> {
    let digits = text.to_lowercase();
    match from_hex::<32>(&digits) {
        Some(_) => Ok(digits),
        None => {
            let reason = format!("--plan: expected 64 hexadecimal digits, got `{text}`");
            Err(Usage(anyhow::anyhow!(reason)).into())
        }
    }
}

fn describe(verification: &Verification) -> String {
    let mut lines = Vec::new();
    if let Some(facts) = &verification.facts {
        lines.extend(facts_lines(facts));
    }
    lines.extend(
        verification
            .remarks
            .iter()
            .map(|remark| format!("  remark         {remark}")),
    );
    if verification.faults.is_empty() {
        let facts = verification.facts.as_ref();
        lines.push(match facts.map(|facts| (facts.signer, &facts.fingerprint)) {
            Some((Signer::Key, fingerprint)) => format!("consistent, signed by the given key: {fingerprint}"),
            Some((Signer::Receipts, fingerprint)) => {
                format!("consistent, signer pinned by receipts: {fingerprint}")
            }
            Some((_, fingerprint)) => format!("consistent, signer not pinned: {fingerprint}"),
            None => "consistent".to_owned(),
        });
    } else {
        lines.push("NOT CONSISTENT".to_owned());
        lines.extend(
            verification
                .faults
                .iter()
                .map(|fault| format!("  {}: {}", fault.place, fault.reason)),
        );
    }
    lines.join("\n")
}

fn facts_lines(facts: &Facts) -> Vec<String> {
    let status = match facts.status {
        Some(CloseStatus::Finished) => "finished",
        Some(CloseStatus::BudgetExhausted) => "stopped, since the budget is exhausted",
        Some(CloseStatus::Interrupted) => "interrupted",
        None => "not closed",
    };
    let mut lines = vec![
        format!("{}: {status}; written by {}", facts.run, facts.software),
        format!(
            "  promise        unit {}, {} of one, trust {}, {}",
            facts.unit,
            facts.neighbors,
            facts.trust,
            if facts.simulated {
                "SIMULATED: coins and noise come from a seed"
            } else {
                "not simulated"
            }
        ),
        format!(
            "  rounds         {} charged, {} released, {} voided of {} planned; resumed {} times",
            facts.charged, facts.released, facts.voided, facts.rounds, facts.resumed
        ),
        format!(
            "  claimed        ε = {} at δ = {:e} ({})",
            shown(facts.claimed.epsilon),
            facts.delta,
            facts.claimed.accountant
        ),
        format!("  recomputed     {}", spent(&facts.spent)),
        format!("  whole plan     {}", spent(&facts.planned)),
    ];
    if let Some(test) = facts.cohorts {
        lines.push(format!(
            "  cohorts        {} clients in {} rounds, {:.1} expected: p = {:.3} (tested at level {LEVEL:e})",
            test.realised, test.rounds, test.expected, test.p_value
        ));
    }
    lines.push(format!(
        "  ledger         {} records, head {}…, plan {}…",
        facts.records,
        &facts.head[..16],
        &facts.plan_sha256[..16]
    ));
    if facts.receipts > 0 {
        lines.push(format!("  receipts       {} agree", facts.receipts));
    }
    if facts.torn_bytes > 0 {
        lines.push(format!(
            "  torn write     {} bytes after the last record, which were never stored",
            facts.torn_bytes
        ));
    }
    lines
}

fn spent(spent: &Spent) -> String {
    let lower = spent
        .pld_lower
        .map_or_else(String::new, |lower| format!(", at least {lower:.4}"));
    match (spent.pld, spent.rdp) {
        // Discrete noise of clients is nothing that one-dimensional privacy losses account for.
        (None, Some(_)) => format!("ε at most {} (rdp); pld has no bound", shown(spent.rdp)),
        (pld, rdp) => format!(
            "ε at most {} (pld){lower}; at most {} (rdp)",
            shown(pld),
            shown(rdp)
        ),
    }
}

/// A bound with four digits after the point, rounded up.
fn shown(epsilon: Option<f64>) -> String {
    match epsilon {
        Some(epsilon) => format!("{:.4}", (epsilon * 1e4).ceil() / 1e4),
        None => "infinity: NOT PRIVATE".to_owned(),
    }
}
