//! Rounds whose sums the server does not see into: simulated clients play secure aggregation.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use umbel_experiment::DropoutSettings;
use umbel_mechanisms::{Mechanism, NoiseSource, Purpose, RoundingSource, SimulationSeed};
use umbel_protocol::{
    ClientId, ClientMessage, ClientRound, Invitation, Outgoing, SecureAggregation, ServerMessage,
};
use umbel_secagg::{Abort, Confirmed, DropoutRates, LastStep, SimulatedClient, SimulatedFederation};

use super::{Recorder, Step, Worker, World};
use crate::aggregation::round_config;
use crate::tally::Tally;
use crate::{Prepared, SimulateError};

/// After so many attempts of one round that fell short the settings are at fault, not chance.
const MOST_ATTEMPTS: u64 = 50;

/// The simulated clients' keys, and how they vanish.
#[derive(Debug)]
pub(super) struct SecureWorld {
    federation: SimulatedFederation,
    terms: SecureAggregation,
    rates: DropoutRates,
    rounding: RoundingSource,
    noise: NoiseSource,
}

impl SecureWorld {
    /// What is random comes from `seed`, as everything else in the world does. Nothing where the server adds up reports itself.
    pub(super) fn new(prepared: &Prepared, seed: SimulationSeed, n_threads: usize) -> Option<Self> {
        let terms = prepared.plan.settings().secure_aggregation?;
        let dropouts = prepared
            .experiment
            .secure_aggregation
            .map_or_else(DropoutSettings::default, |settings| settings.dropouts);
        Some(Self {
            federation: SimulatedFederation::new(seed.derive(Purpose::Mask, 0, 0), n_threads),
            terms,
            rates: DropoutRates {
                advertising: dropouts.advertising,
                sharing: dropouts.sharing,
                sending: dropouts.sending,
                confirming: dropouts.confirming,
                opening: dropouts.opening,
            },
            rounding: RoundingSource::simulated(seed),
            noise: NoiseSource::simulated(seed),
        })
    }

    /// The last step of a client in one attempt of a round: coins of (seed, round, client), further ones for each attempt.
    fn last_step(&self, seeds: &SimulationSeed, round: u64, attempt: u64, client: u64) -> LastStep {
        let mut coins = seeds.stream(Purpose::Fault, round, client);
        let mut last_step = LastStep::Opens;
        for _ in 0..=attempt {
            #[allow(clippy::cast_precision_loss, reason = "53 bits are exact")]
            let uniform = || (coins.next_word() >> 11) as f64 / (1_u64 << 53) as f64;
            last_step = self.rates.draw(uniform);
        }
        last_step
    }
}

impl World<'_> {
    /// Plays attempts of the next round until one is opened, or finds that no round is left.
    pub(super) fn secure_round(
        &mut self,
        recorder: &mut dyn Recorder,
        stop: &AtomicBool,
    ) -> Result<Step, SimulateError> {
        loop {
            if stop.load(Ordering::Relaxed) {
                self.run.handle_abandon("stopped on request".to_owned())?;
            } else {
                self.run.handle_start(self.clock)?;
            }
            if let Some(step) = self.drain(recorder, &Tally::default())? {
                return Ok(step);
            }
            if let Some(step) = self.attempt(recorder, stop)? {
                return Ok(step);
            }
        }
    }

    /// One attempt of the open round; nothing if it fell short.
    fn attempt(
        &mut self,
        recorder: &mut dyn Recorder,
        stop: &AtomicBool,
    ) -> Result<Option<Step>, SimulateError> {
        let Some(secure) = self.secure.take() else {
            return Ok(None);
        };
        let step = self.attempt_with(&secure, recorder, stop);
        self.secure = Some(secure);
        step
    }

    fn attempt_with(
        &mut self,
        secure: &SecureWorld,
        recorder: &mut dyn Recorder,
        stop: &AtomicBool,
    ) -> Result<Option<Step>, SimulateError> {
        let attempt = self.run.attempt();
        let (mut invitation, mut cohort) = (None, Vec::new());
        while let Some(Outgoing {
            to,
            message: ServerMessage::Invite(invited),
        }) = self.run.poll_outgoing()
        {
            cohort.push(to.0);
            invitation = Some(invited);
        }
        let total = Mutex::new(Tally::default());
        let confirmed = match &invitation {
            None => Err("nobody was drawn".to_owned()),
            Some(invitation) => self
                .play(secure, invitation, &cohort, attempt, &total, stop)
                .map_err(|abort| abort.to_string()),
        };
        let tally = total.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.clients_trained += tally.clients();
        self.examples_seen += tally.examples_seen();
        if stop.load(Ordering::Relaxed) {
            self.run.handle_abandon("stopped on request".to_owned())?;
            return self.drain(recorder, &tally);
        }
        match confirmed {
            Err(reason) if attempt + 1 >= MOST_ATTEMPTS => Err(SimulateError::Setting {
                key: "secure_aggregation.survivors_min",
                reason: format!(
                    "expected a number that rounds reach, also once clients have used up `federation.max_participations`: {MOST_ATTEMPTS} attempts of \
                     one round fell short, the last since {reason}"
                ),
            }),
            Err(reason) => {
                self.run.handle_shortfall(reason)?;
                self.drain(recorder, &tally)
            }
            Ok(confirmed) => {
                self.run.handle_confirmed(confirmed.survivors().len() as u64)?;
                // The charge is stored here, before anything is opened.
                self.drain(recorder, &tally)?;
                let sum = confirmed.open().ok();
                self.run.handle_sum(sum.map(|sum| sum.values))?;
                self.drain(recorder, &tally)
            }
        }
    }

    /// The protocol, or its ideal, up to the charge.
    fn play<'b>(
        &mut self,
        secure: &'b SecureWorld,
        invitation: &Invitation,
        cohort: &[u64],
        attempt: u64,
        total: &Mutex<Tally>,
        stop: &AtomicBool,
    ) -> Result<Confirmed<'b>, Abort> {
        let (prepared, trainer, seeds) = (self.prepared, &self.trainer, &self.seeds);
        let round = invitation.round;
        let clients: Vec<SimulatedClient> = cohort
            .iter()
            .map(|client| SimulatedClient {
                client: *client,
                last_step: secure.last_step(seeds, round.0, attempt, *client),
            })
            .collect();
        let settings = prepared.plan.settings();
        let indicator = usize::from(invitation.clip_indicator.is_some());
        let dimension = invitation.model.len() + indicator;
        let terms = round_config(
            settings,
            &secure.terms,
            round,
            attempt,
            &invitation.model,
            dimension,
        );
        let pool: Mutex<Vec<&mut Worker>> = Mutex::new(self.workers.iter_mut().collect());
        let input = |client: u64| {
            let taken = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
            // There are as many workers as threads.
            let Some(worker) = taken.filter(|_| !stop.load(Ordering::Relaxed)) else {
                return Vec::new();
            };
            let asked = ClientRound::new(invitation.clone());
            let to = ClientId(client);
            let (integers, report, outcome) = match &settings.mechanism {
                Mechanism::Distributed(mechanism) => {
                    let (report, by_layer) = worker.train(prepared, None, trainer, seeds, to, &asked);
                    let made = mechanism.contribution(
                        &worker.update,
                        round.0,
                        client,
                        &secure.rounding,
                        &secure.noise,
                    );
                    match made {
                        Ok((integers, outcome)) => (integers, report, by_layer.unwrap_or(outcome)),
                        Err(_) => unreachable!("an update has as many values as the model"),
                    }
                }
                _ => {
                    let (message, report, outcome) = worker.answer(prepared, None, trainer, seeds, to, asked);
                    let ClientMessage::Report { update, .. } = message else {
                        unreachable!("a client answers with a report")
                    };
                    let integers = update.values().iter().copied().map(i64::from).collect();
                    worker.quantized = update.into_buffer();
                    (integers, report, outcome)
                }
            };
            total
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(report, outcome);
            pool.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
            integers
        };
        if secure.terms.ideal {
            secure.federation.ideal(&terms, &clients, input)
        } else {
            secure.federation.attempt(&terms, &clients, input)
        }
    }
}
