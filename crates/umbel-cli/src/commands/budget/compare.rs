//! `umbel budget compare`.

use serde::Serialize;
use umbel_accounting::{AccountantKind, Epsilon};

use super::number::{finite, text, upper};
use super::plan::Terms;
use super::{answer, statement};
use crate::args::budget::{CompareArgs, Neighbors, Sampling};
use crate::output::{self, Bar};

const SAMPLINGS: [Sampling; 3] = [Sampling::Poisson, Sampling::Fixed, Sampling::None];
const NEIGHBORS: [Neighbors; 3] = [
    Neighbors::AddRemove,
    Neighbors::ReplaceByZero,
    Neighbors::ReplaceOne,
];
const ACCOUNTANTS: [AccountantKind; 2] = [AccountantKind::Pld, AccountantKind::Rdp];

/// One plan under all assumptions.
#[derive(Debug, Serialize)]
struct Comparison {
    noise_multiplier: f64,
    sampling_rate: f64,
    steps: u64,
    delta: f64,
    /// By sampling, then relation, then accountant.
    rows: Vec<Cell>,
}

/// The plan under one set of assumptions.
#[derive(Debug, Serialize)]
struct Cell {
    sampling: &'static str,
    neighbors: &'static str,
    accountant: &'static str,
    /// Certified upper bound; null where it is infinite or refused.
    epsilon: Option<f64>,
    epsilon_lower: Option<f64>,
    /// Why there is no ε; null where there is one.
    refused: Option<String>,
}

pub(super) fn run(args: &CompareArgs) -> anyhow::Result<()> {
    let bar = Bar::new(
        (SAMPLINGS.len() * NEIGHBORS.len() * ACCOUNTANTS.len()) as u64,
        0,
        "assumptions",
    );
    let mut rows = Vec::new();
    for sampling in SAMPLINGS {
        for neighbors in NEIGHBORS {
            for accountant in ACCOUNTANTS {
                rows.push(cell(args, sampling, neighbors, accountant));
                bar.advance();
            }
        }
    }
    bar.finish();
    let comparison = Comparison {
        noise_multiplier: args.noise.noise_multiplier.value(),
        sampling_rate: args.sampling_rate.value(),
        steps: args.steps.steps,
        delta: args.delta.delta.value(),
        rows,
    };
    let shown = if args.json {
        serde_json::to_string_pretty(&comparison)?
    } else {
        comparison.describe(args)?
    };
    output::result(&shown)
}

fn cell(args: &CompareArgs, sampling: Sampling, neighbors: Neighbors, accountant: AccountantKind) -> Cell {
    let relation = neighbors.relation();
    let bounds = Terms::of(
        accountant,
        args.delta.delta,
        relation,
        sampling,
        Some(args.sampling_rate),
    )
    .and_then(|terms| Ok(terms.bounds(&terms.step(args.noise.noise_multiplier), args.steps.steps)?));
    let (epsilon, epsilon_lower, refused) = match bounds {
        Ok(bounds) => (
            finite(bounds.upper.value()),
            bounds.lower.map(Epsilon::value).and_then(finite),
            None,
        ),
        Err(error) => (None, None, Some(reason(&error))),
    };
    let (sampling, neighbors) = (sampling.as_str(), relation.as_str());
    Cell {
        sampling,
        neighbors,
        accountant: accountant.as_str(),
        epsilon,
        epsilon_lower,
        refused,
    }
}

/// Why, without repeating under which assumptions.
fn reason(error: &anyhow::Error) -> String {
    match error.downcast_ref() {
        Some(umbel_accounting::AccountingError::Unsupported(unsupported)) => unsupported.reason.clone(),
        _ => error.to_string(),
    }
}

impl Comparison {
    fn describe(&self, args: &CompareArgs) -> anyhow::Result<String> {
        let (relation, sampling) = (Neighbors::AddRemove.relation(), Sampling::Poisson);
        let terms = Terms::of(
            AccountantKind::Pld,
            args.delta.delta,
            relation,
            sampling,
            Some(args.sampling_rate),
        )?;
        let plan = answer::plan(&terms, args.noise.noise_multiplier, self.steps);
        let mut lines = vec![
            format!(
                "ε at δ = {} of one plan under every assumption: {plan}",
                text(self.delta)
            ),
            "Each ε is right for different facts; at most one of them is a fact about a given system.\n"
                .to_owned(),
        ];
        let header = ACCOUNTANTS
            .map(|kind| format!("  {:>10}", kind.as_str()))
            .concat();
        lines.push(format!("  {:<8}  {:<15}{header}", "sampling", "relation"));
        let mut reasons: Vec<&str> = Vec::new();
        for row in self.rows.chunks(ACCOUNTANTS.len()) {
            let mut line = format!("  {:<8}  {:<15}", row[0].sampling, row[0].neighbors);
            for cell in row {
                line.push_str(&format!("  {:>10}", cell.text(&mut reasons)));
            }
            lines.push(line);
        }
        lines.push(String::new());
        lines.extend(
            reasons
                .iter()
                .zip(1..)
                .map(|(reason, number)| format!("  [{number}] refused: {reason}")),
        );

        lines.push("\nwhat each asks for".to_owned());
        for sampling in SAMPLINGS {
            let words = statement::sampling(sampling, Some(self.sampling_rate));
            lines.push(format!("  {:<15}  {words}", sampling.as_str()));
        }
        for neighbors in NEIGHBORS {
            let relation = neighbors.relation();
            lines.push(format!(
                "  {:<15}  {}",
                relation.as_str(),
                statement::relation(relation)
            ));
        }
        for kind in ACCOUNTANTS {
            lines.push(format!(
                "  {:<15}  {}",
                kind.as_str(),
                statement::accountant(kind)
            ));
        }
        lines.push("\nin every cell".to_owned());
        lines.push(format!("  unit         {}", statement::UNIT));
        lines.push(format!("  trust        {}", statement::trust(Sampling::None)));
        lines.push(format!("               {}", statement::SAMPLED_TRUST));
        lines.push(format!("  simulated    {}", statement::SIMULATED));
        lines.push("  not covered".to_owned());
        lines.extend(statement::NEVER_COVERED.map(|item| format!("    - {item}")));
        Ok(lines.join("\n"))
    }
}

impl Cell {
    /// The ε, or the number of the footnote that says why there is none.
    fn text<'a>(&'a self, reasons: &mut Vec<&'a str>) -> String {
        let Some(reason) = &self.refused else {
            return upper(self.epsilon.unwrap_or(f64::INFINITY));
        };
        let known = reasons
            .iter()
            .position(|other| other == reason)
            .unwrap_or_else(|| {
                reasons.push(reason);
                reasons.len() - 1
            });
        format!("[{}]", known + 1)
    }
}
