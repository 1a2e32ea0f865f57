//! From a verified run to its certificate.

mod words;

use serde_json::Value;
use umbel_accounting::ledger::{
    Body, Header, PopulationLedger, PopulationShare, VerifiedLedger, fingerprint, from_hex,
};
use umbel_accounting::{Accountant, tradeoff};
use umbel_experiment::report::certificate::{
    Accounted, Attacker, Certificate, ErrorRates, Fact, Measured, PopulationRun, PopulationTotal, Promise,
    SpentRound, Success, Verdict,
};

use crate::claims::Recount;
use crate::files::{charges, sha256};
use crate::{Facts, RunFiles, Verification};

/// What a certificate is made from besides the run itself.
#[derive(Debug, Default)]
pub struct CertificateInputs {
    /// The result of an attack on this pipeline, as JSON with at least `epsilon`, `epsilon_lower_bound`, `confidence`, `canaries`
    /// and `methods`.
    pub attack: Option<Vec<u8>>,
    /// Chances beforehand that a unit took part, at which the attacker's best success is given; each between 0 and 1.
    pub base_rates: Vec<f64>,
    /// Other runs on the same population, with what verifying them found.
    pub others: Vec<(RunFiles, Verification)>,
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateError(pub String);

impl std::fmt::Display for CertificateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CertificateError {}

/// The certificate of a run that was verified. What is wrong with the run stands on it in large letters; only a ledger that cannot be
/// read has none.
pub fn certificate(
    files: &RunFiles,
    verification: &Verification,
    inputs: &CertificateInputs,
) -> Result<Certificate, CertificateError> {
    let error = |reason: String| CertificateError(reason);
    let (ledger, facts) = read(files, verification)?;
    let header = ledger.header();
    let claimed = charges(&ledger).count() as u64;
    let mut recount = Recount::new(header).map_err(error)?;
    recount.after(header.charges(claimed)).map_err(error)?;
    let accountant = recount
        .accountant()
        .ok_or_else(|| error("no accountant knows the events".to_owned()))?;
    let (population, population_total) = population(files, &ledger, facts, inputs)?;
    Ok(Certificate {
        run: header.run.clone(),
        verdict: verdict(verification, facts),
        promise: promise(header, facts),
        accountants: accountants(facts),
        attacker: attacker(accountant, facts, &inputs.base_rates)
            .map_err(|fault| error(fault.to_string()))?,
        rounds: rounds(&ledger),
        mechanism: words::mechanism(header),
        assumptions: words::assumptions(header, facts),
        measured: inputs.attack.as_deref().map(measured).transpose()?,
        not_covered: not_covered(files),
        population,
        population_total,
        hashes: hashes(files, facts, header),
        how_to_check: words::how_to_check(facts),
    })
}

fn read<'a>(
    files: &RunFiles,
    verification: &'a Verification,
) -> Result<(VerifiedLedger, &'a Facts), CertificateError> {
    let ledger = umbel_accounting::ledger::read(&files.ledger).map_err(|fault| {
        CertificateError(format!(
            "there is no certificate of a ledger that does not hold: {fault}"
        ))
    })?;
    match &verification.facts {
        Some(facts) => Ok((ledger, facts)),
        None => Err(CertificateError("the run was not verified".to_owned())),
    }
}

fn verdict(verification: &Verification, facts: &Facts) -> Verdict {
    let faults = verification.faults.iter();
    Verdict {
        consistent: verification.consistent,
        signer: words::signer(facts),
        faults: faults
            .map(|fault| format!("{}: {}", fault.place, fault.reason))
            .collect(),
        remarks: verification.remarks.clone(),
    }
}

fn promise(header: &Header, facts: &Facts) -> Promise {
    Promise {
        epsilon: facts.claimed.epsilon,
        epsilon_planned: facts.planned.named(&header.accountant),
        epsilon_budget: header.epsilon_budget,
        delta: header.delta,
        unit: words::unit(&header.unit),
        neighbors: words::neighbors(&header.neighbors),
        trust: words::trust(&header.trust),
        simulated: header.simulated,
    }
}

fn accountants(facts: &Facts) -> Vec<Accounted> {
    let version = || format!("umbel {}", env!("CARGO_PKG_VERSION"));
    vec![
        Accounted {
            accountant: "Privacy-loss distributions".to_owned(),
            version: version(),
            epsilon: facts.spent.pld,
            epsilon_lower: facts.spent.pld_lower,
        },
        Accounted {
            accountant: "Rényi differential privacy".to_owned(),
            version: version(),
            epsilon: facts.spent.rdp,
            epsilon_lower: None,
        },
    ]
}

/// Points of the trade-off curve, one a percent.
const CURVE_POINTS: u32 = 100;

fn attacker(
    accountant: &dyn Accountant,
    facts: &Facts,
    base_rates: &[f64],
) -> Result<Attacker, umbel_accounting::AccountingError> {
    if facts.claimed.epsilon.is_none() || facts.charged == 0 {
        return Ok(Attacker {
            advantage: None,
            success: Vec::new(),
            trade_off: Vec::new(),
        });
    }
    let curve = tradeoff::TradeOff::new(accountant, 128)?;
    let success = base_rates
        .iter()
        .map(|&base_rate| {
            Ok(Success {
                base_rate,
                best: tradeoff::best_success(accountant, base_rate)?,
                blind: base_rate.max(1.0 - base_rate),
            })
        })
        .collect::<Result<_, umbel_accounting::AccountingError>>()?;
    Ok(Attacker {
        advantage: Some(tradeoff::advantage(accountant)?),
        success,
        trade_off: (0..=CURVE_POINTS)
            .map(|point| {
                let false_positive = f64::from(point) / f64::from(CURVE_POINTS);
                ErrorRates {
                    false_positive,
                    false_negative: curve.false_negative_rate(false_positive),
                }
            })
            .collect(),
    })
}

fn rounds(ledger: &VerifiedLedger) -> Vec<SpentRound> {
    let released: std::collections::BTreeSet<u64> = ledger
        .records()
        .iter()
        .filter_map(|body| match body {
            Body::Release(release) => Some(release.round),
            _ => None,
        })
        .collect();
    charges(ledger)
        .map(|(record, charge)| SpentRound {
            round: charge.round,
            epsilon: charge.claim.epsilon,
            released: released.contains(&charge.round),
            record: record as u64,
        })
        .collect()
}

/// Reads the result of an attack; its other fields are passed over.
fn measured(content: &[u8]) -> Result<Measured, CertificateError> {
    let error = |reason: String| CertificateError(format!("the attack's result: {reason}"));
    let value: Value =
        serde_json::from_slice(content).map_err(|fault| error(format!("expected JSON: {fault}")))?;
    let number = |name: &str| {
        let number = value.get(name).and_then(Value::as_f64);
        number.ok_or_else(|| error(format!("expected a number as `{name}`")))
    };
    let methods = match value.get("methods") {
        Some(Value::Object(methods)) => methods.keys().cloned().collect(),
        Some(Value::Array(methods)) => methods.iter().filter_map(method_name).collect(),
        _ => return Err(error("expected an object or a list as `methods`".to_owned())),
    };
    Ok(Measured {
        epsilon: value.get("epsilon").and_then(Value::as_f64),
        epsilon_lower_bound: number("epsilon_lower_bound")?,
        confidence: number("confidence")?,
        canaries: value
            .get("canaries")
            .and_then(Value::as_u64)
            .ok_or_else(|| error("expected a whole number as `canaries`".to_owned()))?,
        methods,
    })
}

fn method_name(method: &Value) -> Option<String> {
    let name = method.as_str().or_else(|| {
        let name = method.get("method").or_else(|| method.get("name"));
        name.and_then(Value::as_str)
    });
    name.map(str::to_owned)
}

fn not_covered(files: &RunFiles) -> Vec<String> {
    let summary: Option<Value> = files
        .summary
        .as_deref()
        .and_then(|summary| serde_json::from_slice(summary).ok());
    let listed = summary
        .as_ref()
        .and_then(|summary| summary.pointer("/privacy/not_covered"))
        .and_then(Value::as_array);
    match listed {
        Some(items) => items
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        None => vec!["the run left no summary that says so: assume that nothing else is".to_owned()],
    }
}

/// This run and the others, each counted once, and their sum.
fn population(
    files: &RunFiles,
    ledger: &VerifiedLedger,
    facts: &Facts,
    inputs: &CertificateInputs,
) -> Result<(Vec<PopulationRun>, Option<PopulationTotal>), CertificateError> {
    let header = ledger.header();
    let mut runs = vec![(ledger.public_key(), one_of_population(header, facts, true))];
    for (files, verification) in &inputs.others {
        let (other, facts) = read(files, verification)?;
        let theirs = other.header();
        if (&theirs.unit, &theirs.neighbors) != (&header.unit, &header.neighbors) {
            return Err(CertificateError(format!(
                "run `{}` protects another unit or relation, so its ε does not add to this one's: expected {} {}, got {} {}",
                theirs.run, header.unit, header.neighbors, theirs.unit, theirs.neighbors
            )));
        }
        if runs.iter().any(|(key, _)| *key == other.public_key()) {
            return Err(CertificateError(format!(
                "run `{}` of signer {} is given twice",
                theirs.run,
                fingerprint(&other.public_key())
            )));
        }
        runs.push((
            other.public_key(),
            one_of_population(theirs, facts, verification.consistent),
        ));
    }
    for share in shares(files) {
        let key = from_hex(&share.public_key).unwrap_or_default();
        if runs.iter().all(|(known, _)| *known != key) {
            let run = PopulationRun {
                run: share.run,
                fingerprint: fingerprint(&key),
                epsilon: Some(share.epsilon),
                delta: share.delta,
                verified: false,
            };
            runs.push((key, run));
        }
    }
    if runs.len() == 1 {
        return Ok((Vec::new(), None));
    }
    let runs: Vec<PopulationRun> = runs.into_iter().map(|(_, run)| run).collect();
    let epsilon = runs.iter().map(|run| run.epsilon).sum::<Option<f64>>();
    let total = PopulationTotal {
        // A sum may be rounded down.
        epsilon: epsilon.map(f64::next_up),
        delta: runs.iter().map(|run| run.delta).sum::<f64>().next_up(),
    };
    Ok((runs, Some(total)))
}

/// The shares of other runs in a budget's file; what is wrong with the file is in the verdict.
fn shares(files: &RunFiles) -> Vec<PopulationShare> {
    let budget = files.shared_budget.as_deref().map(PopulationLedger::read);
    match budget {
        Some(Ok(Some(budget))) => budget.shares().to_vec(),
        _ => Vec::new(),
    }
}

fn one_of_population(header: &Header, facts: &Facts, verified: bool) -> PopulationRun {
    PopulationRun {
        run: header.run.clone(),
        fingerprint: facts.fingerprint.clone(),
        // The whole plan's: what a run spent may have been decided after looking at its outputs.
        epsilon: facts.planned.named(&header.accountant).or(facts.claimed.epsilon),
        delta: header.delta,
        verified,
    }
}

fn hashes(files: &RunFiles, facts: &Facts, header: &Header) -> Vec<Fact> {
    let fact = |name: &str, value: String| Fact {
        name: name.to_owned(),
        value,
    };
    let mut hashes = vec![
        fact("Signer", facts.fingerprint.clone()),
        fact("Ledger's head", facts.head.clone()),
        fact("Plan", facts.plan_sha256.clone()),
        fact("Experiment", header.experiment_sha256.clone()),
        fact("Data (commitment)", header.data_commitment.clone()),
    ];
    let file = |name: &str, content: &Option<Vec<u8>>| {
        let content = content.as_ref()?;
        Some(fact(name, sha256(content)))
    };
    hashes.extend(file("Model file", &files.model));
    hashes.extend(file("Summary", &files.summary));
    hashes
}
