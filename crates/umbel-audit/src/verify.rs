//! Everything that can be checked of a run without running it.

use serde::Serialize;
use umbel_accounting::EpsilonBounds;
use umbel_accounting::ledger::{
    self, Body, Close, CloseStatus, Order, PopulationLedger, VerifiedLedger, fingerprint, to_hex,
};

use crate::claims::{Recount, Recounted, checkpoints};
use crate::files::{self, Finding, charges, sha256};
use crate::{CohortTest, distributed, experiment, held, plan, test_cohorts, test_turns};

/// The content of a run directory's files. Of what is absent nothing is checked, and the result says so.
#[derive(Debug, Default)]
pub struct RunFiles {
    /// `ledger`.
    pub ledger: Vec<u8>,
    /// `experiment.toml`.
    pub experiment: Option<Vec<u8>>,
    /// `ledger.openings`.
    pub openings: Option<Vec<u8>>,
    /// `metrics.jsonl`.
    pub metrics: Option<Vec<u8>>,
    /// `model.safetensors`.
    pub model: Option<Vec<u8>>,
    /// `summary.json`.
    pub summary: Option<Vec<u8>>,
    /// The file of the budget that the run shares with others.
    pub shared_budget: Option<Vec<u8>>,
}

/// What somebody brings who does not take the run directory's word.
#[derive(Debug, Default)]
pub struct Anchors {
    /// The signer's key: its fingerprint, or all 64 digits.
    pub key: Option<String>,
    /// SHA-256 of the plan that was agreed on.
    pub plan: Option<String>,
    /// Files of receipts, of ledger lines that somebody kept, or clients' histories, with their names.
    pub receipts: Vec<(String, Vec<u8>)>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where: `record 5` (from 0), or a file.
    pub place: String,
    /// What, with what was expected and what came.
    pub reason: String,
}

impl Fault {
    pub(crate) fn new(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            reason: reason.into(),
        }
    }
}

/// How the signer of a ledger is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Signer {
    /// Its key is the one that was asked for.
    Key,
    /// Receipts that were brought are of this key and this history.
    Receipts,
    /// It is not: whoever holds the folder may have written all of it.
    NotPinned,
}

/// ε as it was claimed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Claimed {
    /// Upper bound; null means infinite.
    pub epsilon: Option<f64>,
    /// Of which accountant.
    pub accountant: String,
}

/// ε as it follows from the recorded events.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spent {
    /// Certified upper bound by privacy-loss distributions; null means infinite, or that the accountant does not know the event.
    pub pld: Option<f64>,
    /// Certified lower bound, where there is one.
    pub pld_lower: Option<f64>,
    /// Certified upper bound by Rényi divergences; null alike.
    pub rdp: Option<f64>,
}

/// What a ledger whose chain holds says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Facts {
    /// Name of the run.
    pub run: String,
    /// Program that wrote it.
    pub software: String,
    /// What one neighbour differs by.
    pub unit: String,
    /// Who adds the noise.
    pub trust: String,
    /// The neighbouring relation.
    pub neighbors: String,
    /// Whether coins and noise come from a seed.
    pub simulated: bool,
    /// δ of every ε here.
    pub delta: f64,
    /// What the last charge claims.
    pub claimed: Claimed,
    /// ε of everything charged.
    pub spent: Spent,
    /// ε of all planned rounds: it holds however the number of rounds was chosen.
    pub planned: Spent,
    /// Rounds planned.
    pub rounds: u64,
    /// Rounds charged.
    pub charged: u64,
    /// Rounds released.
    pub released: u64,
    /// Rounds abandoned before anything was learnt.
    pub voided: u64,
    /// How often the run was resumed.
    pub resumed: u64,
    /// `finished`, `budget-exhausted`, `interrupted`, or null without a closing record.
    pub status: Option<CloseStatus>,
    /// Number of records.
    pub records: u64,
    /// Bytes after the last record: a torn write that was never stored.
    pub torn_bytes: u64,
    /// SHA-256 of the last line.
    pub head: String,
    /// SHA-256 of the plan.
    pub plan_sha256: String,
    /// Short name of the signer's key.
    pub fingerprint: String,
    /// How the signer is known.
    pub signer: Signer,
    /// Number of receipts that agree.
    pub receipts: u64,
    /// How many claims were recomputed; those between follow, since claims never fall.
    pub claims_recomputed: u64,
    /// Realised cohort sizes against the sampling rate, where they were opened.
    pub cohorts: Option<CohortTest>,
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    /// Whether nothing is wrong.
    pub consistent: bool,
    /// Everything that is wrong, in the order of the records.
    pub faults: Vec<Fault>,
    /// What could not be checked, or deserves a second look.
    pub remarks: Vec<String>,
    /// Absent where the ledger itself does not hold.
    pub facts: Option<Facts>,
}

/// Checks `files` against each other and against `anchors`.
pub fn verify(files: &RunFiles, anchors: &Anchors) -> Verification {
    let ledger = match ledger::read(&files.ledger) {
        Ok(ledger) => ledger,
        Err(fault) => {
            let place = format!("record {}", fault.record);
            return Verification {
                consistent: false,
                faults: vec![Fault {
                    place,
                    reason: fault.reason,
                }],
                remarks: Vec::new(),
                facts: None,
            };
        }
    };
    let mut check = Check {
        ledger: &ledger,
        faults: Vec::new(),
        remarks: Vec::new(),
    };
    let (receipts, signer) = check.anchors(anchors);
    check.plan();
    let (recomputed, spent, planned) = check.claims();
    check.files(files);
    check.shared_budget(files.shared_budget.as_deref());
    let cohorts = check.openings(files.openings.as_deref());
    let facts = facts(&ledger, files, signer, receipts);
    let facts = Facts {
        claims_recomputed: recomputed,
        spent: Spent::new(spent),
        planned: Spent::new(planned),
        cohorts,
        ..facts
    };
    if ledger.order() != Order::Closed && facts.status.is_none() {
        check.remarks.push(
            "the run is not closed: it goes on, or was cut off, and records may be missing at the end"
                .to_owned(),
        );
    }
    Verification {
        consistent: check.faults.is_empty(),
        faults: check.faults,
        remarks: check.remarks,
        facts: Some(facts),
    }
}

struct Check<'a> {
    ledger: &'a VerifiedLedger,
    faults: Vec<Fault>,
    remarks: Vec<String>,
}

impl Check<'_> {
    fn fault(&mut self, place: impl Into<String>, reason: impl Into<String>) {
        self.faults.push(Fault::new(place, reason));
    }

    fn findings(&mut self, findings: Vec<Finding>) {
        for (place, reason) in findings {
            self.fault(place, reason);
        }
    }

    /// The number of receipts that agree, and how the signer is known.
    fn anchors(&mut self, anchors: &Anchors) -> (u64, Signer) {
        let (key, header) = (self.ledger.public_key(), self.ledger.header());
        let mut signer = Signer::NotPinned;
        let mut agreed = 0;
        for (name, content) in &anchors.receipts {
            match held::read(content, &key) {
                Ok(held) => {
                    for (line, receipt) in &held.receipts {
                        match receipt.check(self.ledger) {
                            Ok(()) => agreed += 1,
                            Err(reason) => self.fault(format!("{name}, line {line}"), reason),
                        }
                    }
                    if held.of_others > 0 {
                        let others = held.of_others;
                        self.remarks
                            .push(format!("{name}: {others} lines of other runs were passed over"));
                    }
                }
                Err(reason) => self.fault(name.as_str(), reason),
            }
        }
        if agreed > 0 {
            signer = Signer::Receipts;
        }
        if let Some(wanted) = &anchors.key {
            let (short, long) = (fingerprint(&key), to_hex(&key));
            if *wanted == short || *wanted == long {
                signer = Signer::Key;
            } else {
                let reason = format!("signed by another key: expected {wanted}, got {short}");
                self.fault("record 0", reason);
            }
        }
        if let Some(plan) = anchors.plan.as_ref().filter(|plan| **plan != header.plan_sha256) {
            let got = &header.plan_sha256;
            let reason = format!("another plan than the one agreed on: expected {plan}, got {got}");
            self.fault("record 0", reason);
        }
        (agreed, signer)
    }

    /// What the plan in the header rests on, and a clip norm that moves, computed again.
    fn plan(&mut self) {
        for reason in plan::faults(self.ledger.header()) {
            self.fault("record 0", reason);
        }
        for (record, reason) in plan::replay_clip_norm(self.ledger) {
            self.fault(format!("record {record}"), reason);
        }
    }

    /// Recomputes ε of the claims; gives how many, and ε of what is charged and of what is planned.
    fn claims(&mut self) -> (u64, Option<Recounted>, Option<Recounted>) {
        let header = self.ledger.header();
        let mut recount = match Recount::new(header) {
            Ok(recount) => recount,
            Err(reason) => {
                self.fault("record 0", reason);
                return (0, None, None);
            }
        };
        if ["rounded", "discrete"].contains(&header.noise.as_str()) && header.accounted_delta >= header.delta
        {
            let reason = "expected `accounted_delta` below `delta`, since noise is drawn to within a distance that is charged";
            self.fault("record 0", reason);
        }
        self.distributed();
        let charges: Vec<_> = charges(self.ledger).collect();
        let claims: Vec<f64> = charges
            .iter()
            .map(|(_, charge)| charge.claim.epsilon.unwrap_or(f64::INFINITY))
            .collect();
        let mut spent = recount.after(0).ok();
        let mut recomputed = 0;
        for place in checkpoints(&claims) {
            let (record, charge) = charges[place];
            let applications = header.charges(place as u64 + 1);
            let counted = if place + 1 == charges.len() {
                recount.after(applications)
            } else {
                recount.named_after(applications)
            };
            match counted {
                Ok(counted) => {
                    recomputed += 1;
                    if let Err(reason) = counted.check(&charge.claim) {
                        self.fault(format!("record {record}"), reason);
                    }
                    spent = Some(counted);
                }
                Err(reason) => self.fault(format!("record {record}"), reason),
            }
        }
        let planned = match recount.after(header.charges(header.rounds.max(charges.len() as u64))) {
            Ok(planned) => Some(planned),
            Err(reason) => {
                self.remarks
                    .push(format!("ε of all planned rounds could not be computed: {reason}"));
                None
            }
        };
        (recomputed, spent, planned)
    }

    /// Where clients add the noise, what a round costs at the floor and with those who survived, from the terms in the header.
    fn distributed(&mut self) {
        let header = self.ledger.header();
        if header.trust != "distributed" || header.noise == "none" {
            return;
        }
        let mechanism = match distributed::mechanism(header) {
            Ok(mechanism) => mechanism,
            Err(reason) => return self.fault("record 0", reason),
        };
        if let Err(reason) = distributed::same_cost("round_event", &mechanism.event(), &header.round_event) {
            self.fault("record 0", reason);
        }
        let grid_unit = mechanism.grid_unit();
        if (header.grid_unit / grid_unit - 1.0).abs() > 1e-9 {
            let reason = format!(
                "`grid_unit` is {}, and the terms give {grid_unit}",
                header.grid_unit
            );
            self.fault("record 0", reason);
        }
        for (record, charge) in charges(self.ledger) {
            // Reading the ledger has compared their number with the header's.
            let Some(survivors) = &charge.survivors else {
                continue;
            };
            let count = u32::try_from(survivors.clients).unwrap_or(u32::MAX);
            let expected = mechanism.event_with(count);
            if let Err(reason) = distributed::same_cost("survivors.event", &expected, &survivors.event) {
                self.fault(format!("record {record}"), reason);
            }
        }
    }

    fn files(&mut self, files: &RunFiles) {
        let close = closing(self.ledger);
        match &files.experiment {
            Some(experiment) => self.experiment(experiment),
            None => self.absent("experiment.toml"),
        }
        if let Some(summary) = &files.summary {
            self.findings(files::summary(summary, close, self.ledger));
        } else if close.is_some() {
            self.fault("summary.json", "the run is closed, and its summary is missing");
        }
        if let Some(model) = &files.model {
            // Before the closing record a model file may be of any moment.
            if close.is_some() {
                self.findings(files::model(model, close, self.ledger));
            }
        } else if close.is_some() {
            self.fault("model.safetensors", "the run is closed, and its model is missing");
        }
        match &files.metrics {
            Some(metrics) => self.findings(files::metrics(metrics, self.ledger)),
            None => self.absent("metrics.jsonl"),
        }
    }

    fn absent(&mut self, name: &str) {
        self.remarks
            .push(format!("{name} is not there, so it was not compared"));
    }

    fn experiment(&mut self, file: &[u8]) {
        let header = self.ledger.header();
        let digest = sha256(file);
        if digest != header.experiment_sha256 {
            let recorded = &header.experiment_sha256;
            self.fault(
                "experiment.toml",
                format!(
                    "not the experiment that was recorded: the header has SHA-256 {recorded}, the file has {digest}"
                ),
            );
        }
        match experiment::deviations(&String::from_utf8_lossy(file), header) {
            Ok(deviations) => {
                for reason in deviations {
                    self.fault("experiment.toml", reason);
                }
            }
            Err(reason) => self.fault("experiment.toml", reason),
        }
    }

    /// The run's share of a budget against the budget's file, and what it spent against its share.
    fn shared_budget(&mut self, file: Option<&[u8]>) {
        const PLACE: &str = "shared budget";
        let header = self.ledger.header();
        let Some(share) = &header.shared_budget else {
            return;
        };
        let claimed = charges(self.ledger)
            .last()
            .map_or(Some(0.0), |(_, charge)| charge.claim.epsilon);
        if claimed.is_none_or(|claimed| claimed > share.epsilon * (1.0 + 1e-6)) || header.delta > share.delta
        {
            let reason = format!(
                "the run claims more than its share of ε = {} at δ = {:e}",
                share.epsilon, share.delta
            );
            self.fault("record 0", reason);
        }
        let budget = match file.map(PopulationLedger::read) {
            None => {
                self.remarks.push(
                    "the run shares a budget with others, whose file is not there, so its share was not compared"
                        .to_owned(),
                );
                return;
            }
            Some(Ok(Some(budget))) => budget,
            Some(Ok(None)) => return self.fault(PLACE, "the file is empty"),
            Some(Err(error)) => return self.fault(PLACE, error.to_string()),
        };
        if let Err(reason) = budget.check_share(share, &header.public_key) {
            self.fault(PLACE, reason);
        }
        let limit = budget.limit();
        if (&limit.unit, &limit.neighbors) != (&header.unit, &header.neighbors) {
            let reason = format!("the budget is for unit {}, {}", limit.unit, limit.neighbors);
            self.fault(PLACE, reason);
        }
    }

    fn openings(&mut self, file: Option<&[u8]>) -> Option<CohortTest> {
        let Some(file) = file else {
            self.remarks.push(
                "ledger.openings is not there, so realised cohort sizes were not tested against the sampling rate"
                    .to_owned(),
            );
            return None;
        };
        let (sizes, findings) = files::openings(file, self.ledger);
        let whole = findings.is_empty();
        self.findings(findings);
        let header = self.ledger.header();
        // Only where something is gained from independent coins; elsewhere caps and minima move the sizes.
        let is_capped =
            header.unit == "client" && header.most_charges.is_some_and(|most| most < header.rounds);
        if !whole || header.secure_aggregation.is_some() || is_capped {
            return None;
        }
        let clients = header.clients.unwrap_or(header.population);
        #[allow(clippy::cast_precision_loss, reason = "populations are far below 2^53")]
        let test = match header.sampling.as_str() {
            "poisson" => test_cohorts(&sizes, clients, header.sampling_rate),
            "turns" => test_turns(&sizes, clients, header.cohort / clients as f64),
            _ => return None,
        };
        if !test.passes() {
            let what = match header.sampling.as_str() {
                "turns" => "turns",
                _ => "independent coins",
            };
            self.fault(
                "ledger.openings",
                format!(
                    "realised cohort sizes are not those of {what} at rate {}: {} clients in {} rounds where {:.1} \
                     are expected, p = {:.1e}",
                    header.sampling_rate, test.realised, test.rounds, test.expected, test.p_value
                ),
            );
        }
        Some(test)
    }
}

/// The closing record, if it is the last one.
fn closing(ledger: &VerifiedLedger) -> Option<&Close> {
    match ledger.records().last() {
        Some(Body::Close(close)) => Some(close),
        _ => None,
    }
}

fn facts(ledger: &VerifiedLedger, files: &RunFiles, signer: Signer, receipts: u64) -> Facts {
    let header = ledger.header();
    let count = |kind: &str| ledger.records().iter().filter(|body| body.kind() == kind).count() as u64;
    let claim = charges(ledger).last().map(|(_, charge)| &charge.claim);
    let nothing = Spent {
        pld: None,
        pld_lower: None,
        rdp: None,
    };
    Facts {
        run: header.run.clone(),
        software: header.software.clone(),
        unit: header.unit.clone(),
        trust: header.trust.clone(),
        neighbors: header.neighbors.clone(),
        simulated: header.simulated,
        delta: header.delta,
        claimed: Claimed {
            epsilon: claim.map_or(Some(0.0), |claim| claim.epsilon),
            accountant: header.accountant.clone(),
        },
        spent: nothing,
        planned: nothing,
        rounds: header.rounds,
        charged: count("charge"),
        released: count("release"),
        voided: count("void"),
        resumed: count("resume"),
        status: closing(ledger).map(|close| close.status),
        records: ledger.records().len() as u64,
        torn_bytes: (files.ledger.len() - ledger.stored_bytes()) as u64,
        head: to_hex(&ledger.head()),
        plan_sha256: header.plan_sha256.clone(),
        fingerprint: fingerprint(&ledger.public_key()),
        signer,
        receipts,
        claims_recomputed: 0,
        cohorts: None,
    }
}

impl Spent {
    /// What the accountant of this name says.
    pub(crate) fn named(&self, accountant: &str) -> Option<f64> {
        match accountant {
            "pld" => self.pld,
            "rdp" => self.rdp,
            _ => None,
        }
    }

    fn new(recounted: Option<Recounted>) -> Self {
        let upper = |bounds: Option<EpsilonBounds>| {
            let upper = bounds.map(|bounds| bounds.upper.value());
            upper.filter(|value| value.is_finite())
        };
        let pld = recounted.and_then(|counted| counted.pld);
        let lower = pld
            .and_then(|bounds| bounds.lower)
            .map(umbel_accounting::Epsilon::value);
        Self {
            pld: upper(pld),
            pld_lower: lower.filter(|value| value.is_finite()),
            rdp: upper(recounted.and_then(|counted| counted.rdp)),
        }
    }
}
