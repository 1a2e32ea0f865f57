//! The terms of a served round of secure aggregation: the server offers them, and each client computes them again from what was signed.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use umbel_accounting::ledger::Header;
use umbel_experiment::Experiment;
use umbel_mechanisms::{Mechanism, NoiseLaw};
use umbel_protocol::{PlanSettings, RoundId, RunPlan, SecureAggregation};
use umbel_secagg::RoundConfig;

use crate::SimulateError;
use crate::aggregation::round_config;
use crate::prepare::plan;
use crate::task::check_served;

/// What the terms of a served round depend on beside the plan.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::exhaustive_structs, reason = "both sides fill it in")]
pub struct ServedRound<'a> {
    /// What clients' certificates hold within.
    pub federation: [u8; 32],
    /// The key that signs the run's ledger: keys and signatures of one run mean nothing in another.
    pub run: [u8; 32],
    /// The round.
    pub round: RoundId,
    /// Its attempt, from 0.
    pub attempt: u32,
    /// The model that clients train from.
    pub model: &'a [f32],
    /// Length of what clients contribute.
    pub dimension: usize,
    /// How long after the offer clients may open shares.
    pub duration: Duration,
}

/// The terms of an attempt.
pub fn served_round_config(
    settings: &PlanSettings,
    secure: &SecureAggregation,
    served: &ServedRound<'_>,
) -> RoundConfig {
    let terms = round_config(
        settings,
        secure,
        served.round,
        served.attempt.into(),
        served.model,
        served.dimension,
    );
    let mut mechanism = Sha256::new();
    mechanism.update(b"umbel served round\0");
    mechanism.update(served.run);
    mechanism.update(terms.mechanism);
    RoundConfig {
        federation: served.federation,
        mechanism: mechanism.finalize().into(),
        duration_ms: u64::try_from(served.duration.as_millis()).unwrap_or(u64::MAX),
        ..terms
    }
}

/// The plan of a server's experiment as its clients compute it: everything but what the server knows of its own data. `promised` is the
/// signed header of the run's ledger, which must say the same: by it a client judges what the run costs.
///
/// # Errors
///
/// An experiment that no server may run, and a header that promises anything else than follows from it.
pub fn promised_plan(
    promised: &Header,
    experiment: &Experiment,
    dimension: usize,
) -> Result<RunPlan, SimulateError> {
    let clients = experiment
        .federation
        .clients
        .ok_or_else(|| SimulateError::Setting {
            key: "federation.clients",
            reason: "expected the number of clients from the server".to_owned(),
        })?;
    let examples = experiment.federation.examples.unwrap_or(0);
    let plan = plan(experiment, clients, examples, dimension, String::new())?;
    check_served(experiment, &plan)?;
    let mut settings = plan.settings().clone();
    promised
        .experiment_sha256
        .clone_into(&mut settings.description.experiment_sha256);
    let plan = RunPlan::new(settings)?;
    check_promise(promised, &plan, dimension)?;
    Ok(plan)
}

fn check_promise(promised: &Header, plan: &RunPlan, dimension: usize) -> Result<(), SimulateError> {
    let settings = plan.settings();
    let mechanism = &settings.mechanism;
    let noise = mechanism.noise_law().map_or("none", NoiseLaw::as_str);
    let facts = &promised.secure_aggregation;
    let signed = facts.as_ref().map(|facts| {
        (
            facts.protocol.as_str(),
            [facts.clients_max, facts.survivors_min, facts.colluding],
            facts.modulus_bits,
            facts.noise_multiplier.map(f64::to_bits),
        )
    });
    let own = settings.secure_aggregation.as_ref().map(|secure| {
        let multiplier = match mechanism {
            Mechanism::Distributed(distributed) => Some(distributed.terms().noise_multiplier.value()),
            _ => None,
        };
        (
            secure.protocol(),
            [secure.clients_max, secure.survivors_min, secure.colluding].map(u64::from),
            secure.modulus_bits,
            multiplier.map(f64::to_bits),
        )
    });
    let same = |own: f64, signed: f64| own.to_bits() == signed.to_bits();
    let checks = [
        ("trust", settings.trust.as_str() == promised.trust),
        ("unit", settings.unit.as_str() == promised.unit),
        ("relation", plan.relation().as_str() == promised.neighbors),
        ("way to add updates up", own == signed),
        ("cost of a round", plan.round_event() == promised.round_event),
        ("number of charges", plan.most_charges() == promised.most_charges),
        ("number of rounds", settings.rounds == promised.rounds),
        ("delta", same(settings.delta.value(), promised.delta)),
        ("divisor", same(settings.cohort, promised.cohort)),
        (
            "clip norm",
            same(mechanism.clip_norm().value(), promised.clip_norm),
        ),
        ("noise", noise == promised.noise),
        ("model", dimension as u64 == promised.dimension),
    ];
    match checks.iter().find(|(_, agrees)| !agrees) {
        Some((what, _)) => Err(SimulateError::OtherPromise { what }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use umbel_accounting::DpEvent;
    use umbel_accounting::ledger::{Body, SecureAggregationFacts};
    use umbel_experiment::Overrides;
    use umbel_mechanisms::{CohortSource, NoiseSource, SimulationSeed};
    use umbel_protocol::{CommitmentKey, Event, Run, Sources};

    use super::*;
    use crate::ServerTask;

    const SECURE: &[&str] = &[
        "privacy.trust=distributed",
        "privacy.noise=discrete",
        "secure_aggregation.enabled=true",
    ];
    const LOCAL: &[&str] = &["privacy.trust=local"];

    /// A server's experiment, and the header that it signs.
    fn server(settings: &[&str]) -> (Experiment, Header, usize) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/federation/writers");
        let text = std::fs::read_to_string(folder.join("experiment.toml")).unwrap();
        let overrides = Overrides {
            settings: ["federation.cohort=10"]
                .iter()
                .chain(settings)
                .map(|setting| (*setting).to_owned())
                .collect(),
            ..Overrides::default()
        };
        let experiment = Experiment::parse(&text, &folder, &overrides).unwrap();
        let task = ServerTask::new(experiment.clone(), Duration::from_secs(60)).unwrap();
        let seed = SimulationSeed::new(1);
        let sources = Sources {
            cohort: CohortSource::simulated(seed),
            noise: NoiseSource::simulated(seed),
            commitment: CommitmentKey::from_secret([0; 32]),
        };
        let dimension = task.initial.len();
        let mut run = Run::new(task.plan, sources, task.initial, 1).unwrap();
        match run.poll_event() {
            Some(Event::Store { record, .. }) => match record {
                Body::Header(header) => (experiment, *header, dimension),
                other => panic!("a header, not {other:?}"),
            },
            other => panic!("a record, not {other:?}"),
        }
    }

    #[test]
    fn a_header_that_promises_anything_else_is_refused_by_name() {
        type Change = fn(&mut Header);
        let rows: [(&str, Change); 12] = [
            ("trust", |header| header.trust = "central".to_owned()),
            ("unit", |header| header.unit = "example".to_owned()),
            ("relation", |header| header.neighbors = "add-remove".to_owned()),
            ("way to add updates up", |header| {
                header.secure_aggregation = match header.secure_aggregation.take() {
                    None => server(SECURE).1.secure_aggregation,
                    Some(facts) => Some(SecureAggregationFacts {
                        survivors_min: facts.survivors_min - 1,
                        ..facts
                    }),
                }
            }),
            ("cost of a round", |header| {
                header.round_event = DpEvent::Repeated {
                    event: Box::new(header.round_event.clone()),
                    count: 1,
                }
            }),
            ("number of charges", |header| header.most_charges = Some(1)),
            ("number of rounds", |header| header.rounds += 1),
            ("delta", |header| header.delta *= 2.0),
            ("divisor", |header| header.cohort *= 2.0),
            ("clip norm", |header| header.clip_norm *= 2.0),
            ("noise", |header| header.noise = "none".to_owned()),
            ("model", |header| header.dimension += 1),
        ];
        for settings in [LOCAL, SECURE] {
            let (experiment, header, dimension) = server(settings);
            promised_plan(&header, &experiment, dimension).unwrap();
            for (what, change) in rows {
                let mut other = header.clone();
                change(&mut other);
                let error = promised_plan(&other, &experiment, dimension).unwrap_err();
                assert_eq!(
                    error.to_string(),
                    format!("the ledger's header promises another {what} than follows from the experiment")
                );
            }
        }
    }

    /// A client adds no noise of floating-point numbers, whatever a server signs.
    #[test]
    fn what_no_server_may_run_no_client_joins() {
        let (mut experiment, header, dimension) = server(LOCAL);
        experiment.privacy.noise = umbel_experiment::NoiseSampler::Continuous;
        let error = promised_plan(&header, &experiment, dimension).unwrap_err();
        assert!(
            error.to_string().starts_with("`privacy.noise`: expected"),
            "{error}"
        );
    }
}
