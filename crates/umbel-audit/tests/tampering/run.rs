//! A run directory made by hand, and a forger who signs anything.

use std::sync::OnceLock;

use ed25519_dalek::{Signer as _, SigningKey as Forger};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use umbel_accounting::ledger::{
    Body, Charge, Claim, Close, CloseStatus, Header, LedgerWriter, Release, Reserve, Resume, SigningKey,
    Void, to_hex,
};
use umbel_accounting::{
    AccountantKind, Delta, DpEvent, NeighboringRelation, NoiseMultiplier, SamplingRate, accountant,
};
use umbel_audit::{Anchors, RunFiles, Verification, verify};
use umbel_mechanisms::{CohortSource, SimulationSeed, poisson_cohort};

pub(crate) const ROUNDS: u64 = 12;
pub(crate) const SECRET: [u8; 32] = [7; 32];
const POPULATION: u64 = 400;
const COHORT: f64 = 100.0;
const NOISE: f64 = 1.5;
const GRID: f64 = 1.0 / 1_073_741_824.0;

/// A run, with receipts that were given out after each record.
pub(crate) struct Run {
    pub(crate) files: RunFiles,
    pub(crate) receipts: Vec<String>,
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    to_hex(&Sha256::digest(bytes))
}

fn rate() -> SamplingRate {
    SamplingRate::new(0.25).unwrap()
}

pub(crate) fn event() -> DpEvent {
    sampled_gaussian(NoiseMultiplier::new(NOISE).unwrap())
}

pub(crate) fn sampled_gaussian(noise_multiplier: NoiseMultiplier) -> DpEvent {
    DpEvent::PoissonSampled {
        sampling_rate: rate(),
        event: Box::new(DpEvent::Gaussian { noise_multiplier }),
    }
}

const EXPERIMENT: &str = r#"name = "small"
seed = 3
[federation]
rounds = 12
cohort = 100.0
clients = 400
[privacy]
unit = "client"
trust = "central"
clip_norm = 0.5
noise_multiplier = 1.5
delta = 1e-4
noise = "rounded"
accountant = "pld"
"#;

fn parameters(round: u64) -> Vec<u8> {
    [round as f32, 0.5, -1.25]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

pub(crate) fn model(round: u64) -> Vec<u8> {
    let header = r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}  "#;
    [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &parameters(round),
    ]
    .concat()
}

pub(crate) fn header() -> Header {
    Header {
        version: 1,
        run: "small".into(),
        software: "umbel test".into(),
        public_key: String::new(),
        unit: "client".into(),
        trust: "central".into(),
        neighbors: "add-remove".into(),
        simulated: true,
        accountant: "pld".into(),
        sampling: "poisson".into(),
        sampling_rate: 0.25,
        population: POPULATION,
        clients: None,
        cohort: COHORT,
        rounds: ROUNDS,
        round_event: event(),
        most_charges: None,
        matrix: None,
        adaptive_clip: None,
        secure_aggregation: None,
        clip_norm: 0.5,
        grid_unit: 0.5 * GRID,
        noise: "rounded".into(),
        dimension: 3,
        delta: 1e-4,
        accounted_delta: 1e-4_f64.next_down(),
        epsilon_budget: None,
        filter: None,
        public_metrics: vec!["loss".into()],
        shared_budget: None,
        plan_sha256: String::new(),
        experiment_sha256: sha256(EXPERIMENT.as_bytes()),
        data_commitment: sha256(DATA_OPENING.as_bytes()),
        initial_model_sha256: sha256(&parameters(0)),
    }
}

const DATA_OPENING: &str = r#"{"data_sha256":"11","salt":"22"}"#;

/// What an accountant certifies for so many rounds; computed once, since every test needs it.
pub(crate) fn claim(rounds: u64) -> Claim {
    static CLAIMS: OnceLock<Vec<Claim>> = OnceLock::new();
    let claims = CLAIMS.get_or_init(|| {
        let mut accountant = accountant(AccountantKind::Pld, NeighboringRelation::AddOrRemoveOne);
        let accounted = Delta::new(1e-4_f64.next_down()).unwrap();
        (0..ROUNDS)
            .map(|_| {
                accountant.compose(&event(), 1).unwrap();
                let bounds = accountant.epsilon(accounted).unwrap();
                Claim::new(AccountantKind::Pld, Delta::new(1e-4).unwrap(), bounds)
            })
            .collect()
    });
    claims[usize::try_from(rounds).unwrap() - 1].clone()
}

/// A finished run: with an abandoned first attempt at round 2, and a kill between charge and release of round 4.
pub(crate) fn run() -> Run {
    let mut bodies = vec![Body::Header(Box::new(header()))];
    let mut openings = format!("{DATA_OPENING}\n");
    let mut metrics = String::new();
    let source = CohortSource::simulated(SimulationSeed::new(3));
    for round in 1..=ROUNDS {
        let reserve = Body::Reserve(Reserve {
            round,
            event: event(),
        });
        if round == 2 {
            bodies.extend([
                reserve.clone(),
                Body::Void(Void {
                    round,
                    reason: "stopped".into(),
                }),
                Body::Resume(Resume { released: 1 }),
            ]);
        }
        let cohort = poisson_cohort(&source, round, POPULATION, rate()).len();
        let opening = format!(r#"{{"cohort":{cohort},"reports":{cohort},"round":{round},"salt":"{round}"}}"#);
        let claim = claim(round);
        metrics += &format!(
            "{}\n",
            json!({
                "round": round, "loss": 0.5, "epsilon": claim.epsilon, "epsilon_lower": claim.epsilon_lower,
                "delta": 1e-4, "simulator_only": { "covered_by_epsilon": false },
            })
        );
        bodies.push(reserve);
        bodies.push(Body::Charge(Charge {
            round,
            event: event(),
            noise_std_dev_grid_units: NOISE / GRID,
            divisor: COHORT,
            clip_norm: None,
            claim,
            counts_commitment: sha256(opening.as_bytes()),
            survivors: None,
        }));
        openings += &format!("{opening}\n");
        if round == 4 {
            bodies.push(Body::Resume(Resume { released: 3 }));
        }
        bodies.push(Body::Release(Release {
            round,
            model_sha256: sha256(&parameters(round)),
            share_within: None,
        }));
    }
    let key = SigningKey::from_secret(&SECRET);
    let model = model(ROUNDS);
    let claim = claim(ROUNDS);
    let summary = json!({
        "name": "small", "rounds": ROUNDS, "rounds_completed": ROUNDS, "model_sha256": sha256(&model),
        "privacy": {
            "unit": "client", "trust": "central", "neighbors": "add-remove", "simulated": true, "delta": 1e-4,
            "accountant": "pld", "epsilon": claim.epsilon,
        },
        "ledger": { "public_key": to_hex(&key.public_key()) },
    })
    .to_string();
    bodies.push(Body::Close(Close {
        status: CloseStatus::Finished,
        rounds: ROUNDS,
        claim,
        model_file_sha256: sha256(&model),
        summary_file_sha256: sha256(summary.as_bytes()),
    }));

    let mut writer = LedgerWriter::new(key);
    let (mut ledger, mut receipts) = (String::new(), Vec::new());
    for body in &bodies {
        ledger += &writer.append(body).unwrap();
        receipts.push(writer.receipt("small"));
    }
    Run {
        files: RunFiles {
            ledger: ledger.into_bytes(),
            experiment: Some(EXPERIMENT.as_bytes().to_vec()),
            openings: Some(openings.into_bytes()),
            metrics: Some(metrics.into_bytes()),
            model: Some(model),
            summary: Some(summary.into_bytes()),
            shared_budget: None,
        },
        receipts,
    }
}

impl Run {
    pub(crate) fn lines(&self) -> Vec<String> {
        std::str::from_utf8(&self.files.ledger)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// The records, to be changed and signed again.
    pub(crate) fn records(&self) -> Vec<Value> {
        self.lines()
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["record"].take())
            .collect()
    }

    pub(crate) fn set_lines(&mut self, lines: &[impl AsRef<str>]) {
        self.files.ledger = lines
            .iter()
            .flat_map(|line| [line.as_ref(), "\n"].concat().into_bytes())
            .collect();
    }

    pub(crate) fn verify(&self) -> Verification {
        verify(&self.files, &Anchors::default())
    }

    pub(crate) fn with_receipts(&self, receipts: &[String]) -> Verification {
        let content = receipts.join("\n").into_bytes();
        let anchors = Anchors {
            receipts: vec![("receipts".into(), content)],
            ..Anchors::default()
        };
        verify(&self.files, &anchors)
    }

    pub(crate) fn with_key(&self, key: &str) -> Verification {
        let anchors = Anchors {
            key: Some(key.into()),
            ..Anchors::default()
        };
        verify(&self.files, &anchors)
    }

    /// That something is wrong, and first of all this, there.
    #[track_caller]
    pub(crate) fn check_found(&self, place: &str, reason: &str) {
        check_found(&self.verify(), place, reason);
    }
}

#[track_caller]
pub(crate) fn check_found(verification: &Verification, place: &str, reason: &str) {
    let fault = verification.faults.first().expect("a fault");
    assert!(!verification.consistent);
    assert!(
        fault.place == place && fault.reason.contains(reason),
        "{place}: {reason}\ngot {}: {}",
        fault.place,
        fault.reason
    );
}

/// A whole chain over `records`, signed with `secret`, written without the program's own writer.
pub(crate) fn forge(records: &[Value], secret: [u8; 32]) -> Vec<String> {
    let key = Forger::from_bytes(&secret);
    let mut previous = to_hex(&[0; 32]);
    let mut lines = Vec::new();
    for (sequence, record) in records.iter().enumerate() {
        let mut record = record.clone();
        record["previous"] = previous.into();
        record["sequence"] = sequence.into();
        if record["kind"] == "header" {
            record["body"]["public_key"] = to_hex(&key.verifying_key().to_bytes()).into();
            let mut plan = record["body"].clone();
            for name in Header::NOT_PLAN {
                plan.as_object_mut().unwrap().remove(name);
            }
            record["body"]["plan_sha256"] = sha256(plan.to_string().as_bytes()).into();
        }
        let text = record.to_string();
        let signature = key.sign(format!("umbel-ledger-v1\n{text}").as_bytes());
        let line = format!(
            r#"{{"record":{text},"signature":"{}"}}"#,
            to_hex(&signature.to_bytes())
        );
        previous = sha256(line.as_bytes());
        lines.push(line);
    }
    lines
}
