//! A run to test, and a driver that stores records in memory.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test file uses its part"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_debug_implementations,
    reason = "only tests come here"
)]

use std::time::Duration;

use umbel_accounting::ledger::{Body, LedgerWriter, SigningKey, VerifiedLedger, read};
use umbel_accounting::{AccountantKind, ClipNorm, Delta, Epsilon, NoiseMultiplier};
use umbel_mechanisms::{CentralGaussian, CohortSource, NoiseKind, NoiseSource, Quantizer, SimulationSeed};
use umbel_protocol::{
    ClientId, ClientMessage, CommitmentKey, Description, Event, PlanSettings, PrivacyUnit, RoundId, Run,
    RunPlan, Sources, StoreToken, StrategySpec, Timestamp, Trust,
};

pub const DIMENSION: usize = 5;
pub const MINUTE: Duration = Duration::from_secs(60);

pub fn settings() -> PlanSettings {
    let multiplier = NoiseMultiplier::new(2.0).unwrap();
    PlanSettings {
        description: Description {
            name: "test".into(),
            software: "test".into(),
            experiment_sha256: "00".into(),
            data_sha256: "11".into(),
            public_metrics: Vec::new(),
        },
        unit: PrivacyUnit::Client,
        trust: Trust::Central,
        population: 8,
        examples: None,
        cohort: 8.0,
        rounds: 3,
        may_stop_early: false,
        mechanism: CentralGaussian::new(clip_norm(), multiplier, NoiseKind::Rounded, 8.0)
            .unwrap()
            .into(),
        secure_aggregation: None,
        strategy: StrategySpec::FedAvg,
        accountant: AccountantKind::Rdp,
        delta: Delta::new(1e-3).unwrap(),
        epsilon_budget: None,
        round_duration: MINUTE,
    }
}

pub fn clip_norm() -> ClipNorm {
    ClipNorm::new(1.0).unwrap()
}

pub fn plan() -> RunPlan {
    RunPlan::new(settings()).unwrap()
}

pub fn limited_plan(epsilon: f64) -> RunPlan {
    RunPlan::new(PlanSettings {
        epsilon_budget: Some(Epsilon::new(epsilon).unwrap()),
        ..settings()
    })
    .unwrap()
}

pub fn sources() -> Sources {
    let seed = || SimulationSeed::new(42);
    Sources {
        cohort: CohortSource::simulated(seed()),
        noise: NoiseSource::simulated(seed()),
        commitment: CommitmentKey::from_secret([9; 32]),
    }
}

pub fn report(round: u64, update: &[f32]) -> ClientMessage {
    let (update, _) = Quantizer::new(clip_norm()).clip_and_quantize(update, Vec::new());
    ClientMessage::Report {
        round: RoundId(round),
        update,
    }
}

/// What client `id` sends in `round`.
pub fn update(round: u64, id: u64) -> Vec<f32> {
    (0..DIMENSION)
        .map(|place| ((round * 31 + id * 7 + place as u64) % 11) as f32 / 20.0 - 0.25)
        .collect()
}

pub fn at(seconds: u64) -> Timestamp {
    Timestamp::new(Duration::from_secs(seconds))
}

/// A ledger in memory, and everything that the run told.
pub struct Store {
    pub writer: LedgerWriter,
    pub text: String,
    pub told: Vec<String>,
    pub waiting: Option<(StoreToken, Body)>,
}

impl Store {
    pub fn new() -> Self {
        Self {
            writer: LedgerWriter::new(SigningKey::from_secret(&[3; 32])),
            text: String::new(),
            told: Vec::new(),
            waiting: None,
        }
    }

    pub fn reopen(&self) -> Self {
        let writer = LedgerWriter::resume(SigningKey::from_secret(&[3; 32]), &self.ledger()).unwrap();
        Self {
            writer,
            text: self.text.clone(),
            told: Vec::new(),
            waiting: None,
        }
    }

    pub fn ledger(&self) -> VerifiedLedger {
        read(self.text.as_bytes()).unwrap()
    }

    /// Takes events without storing anything: a record stays waiting.
    pub fn listen(&mut self, run: &mut Run) {
        while let Some(event) = run.poll_event() {
            match event {
                Event::Store { token, record, .. } => {
                    assert!(self.waiting.is_none(), "one record waits at a time");
                    self.told.push(format!("store {}", record.kind()));
                    self.waiting = Some((token, record));
                }
                Event::Released { round, .. } => self.told.push(format!("released {}", round.0)),
                Event::Ended { status, exhausted } => {
                    let exhausted = exhausted.map_or(String::new(), |refusal| format!(": {refusal}"));
                    self.told.push(format!("ended {status:?}{exhausted}"));
                }
                Event::Voided { round } => self.told.push(format!("voided {}", round.0)),
            }
        }
    }

    /// Stores the record that waits.
    pub fn acknowledge(&mut self, run: &mut Run) {
        let (token, record) = self.waiting.take().expect("a record waits");
        self.text += &self
            .writer
            .append(&record)
            .expect("the engine keeps the ledger's order");
        run.handle_stored(token).unwrap();
        self.listen(run);
    }

    /// Stores everything, until the run wants something else.
    pub fn settle(&mut self, run: &mut Run) {
        self.listen(run);
        while self.waiting.is_some() {
            self.acknowledge(run);
        }
    }
}

/// Plays one whole round in which everybody who is invited reports, in the given order.
pub fn play_round(run: &mut Run, store: &mut Store, now: u64, reverse: bool) {
    store.settle(run);
    run.handle_start(at(now)).unwrap();
    store.settle(run);
    let mut invited = Vec::new();
    while let Some(outgoing) = run.poll_outgoing() {
        invited.push(outgoing.to);
    }
    if reverse {
        invited.reverse();
    }
    let round = run.rounds() + 1;
    for ClientId(id) in invited {
        run.handle_message(ClientId(id), report(round, &update(round, id)))
            .unwrap();
    }
    if let Some(deadline) = run.poll_timeout() {
        run.handle_timeout(deadline).unwrap();
    }
    store.settle(run);
}
