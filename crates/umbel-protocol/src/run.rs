//! The server's half of all rounds of a run.

mod collecting;
mod header;
mod participations;
mod resume;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use umbel_accounting::ledger::{
    Body, Charge, Claim, Close, CloseStatus, Digest, Release, Reserve, Survivors, Void, to_hex,
};
use umbel_accounting::{ClipNorm, EpsilonBounds};
use umbel_mechanisms::{CohortSource, IntegerSum, Mechanism, MechanismState, NoiseSource};

use self::collecting::Collecting;
use self::header::header;
use self::participations::Participations;
use self::resume::Replay;
pub use self::resume::{ReplayMismatch, ResumeError, Resumed};
use crate::budget::{ReserveError, Spending};
use crate::{
    ApiMisuse, BudgetExhausted, Checkpoint, ClientFault, ClientId, ClientMessage, CommitmentKey, Event,
    HandleError, Input, Invitation, OpenRound, Opening, Outgoing, PlanError, RoundCounts, RoundId, RunPlan,
    ServerMessage, StoreToken, Strategy, Timestamp,
};

/// Everything random that a server needs, each from its own source.
#[derive(Debug)]
pub struct Sources {
    /// Tosses the coins of who takes part.
    pub cohort: CohortSource,
    /// Draws the noise.
    pub noise: NoiseSource,
    /// Salts the ledger's commitments.
    pub commitment: CommitmentKey,
}

/// The server of one run: rounds in order, one budget, one ledger. See the [crate's documentation](crate) for a round's
/// steps.
///
/// After every `handle_…` call the driver empties [`poll_event`](Self::poll_event) and
/// [`poll_outgoing`](Self::poll_outgoing). With a simulated noise source every record says so.
pub struct Run {
    /// Attempts of the coming or open round that fell short; only with secure aggregation.
    attempt: u64,
    events: VecDeque<Event>,
    mechanism: MechanismState,
    /// Threads that may draw noise; the result does not depend on it.
    n_threads: usize,
    next_token: u64,
    parameters: Arc<[f32]>,
    /// Where clients may take part in fewer rounds than there are.
    participations: Option<Participations>,
    phase: Phase,
    plan: RunPlan,
    replay: Replay,
    /// Rounds that are released, or charged and lost.
    rounds: u64,
    /// Of these, how many were charged and lost with a process that ended before their release.
    lost: u64,
    sources: Sources,
    spending: Spending,
    strategy: Box<dyn Strategy>,
}

/// What the run is doing. A state holds only what is valid in it.
#[derive(Debug)]
enum Phase {
    /// The closing record is stored.
    Closed,
    /// A round is open for reports.
    Collecting(Collecting),
    /// No further round will open.
    Ended(CloseStatus),
    /// Between rounds.
    Idle,
    /// Waits for a record to be stored, then goes on with `next`.
    Storing { token: StoreToken, next: Next },
    /// The round is charged, and its securely aggregated sum may be opened.
    Unmasking(Collecting),
}

/// What follows once a record is stored.
#[derive(Debug)]
enum Next {
    Closed,
    Idle,
    /// The reservation of this round is stored: its clients may be invited.
    Open {
        round: RoundId,
        now: Timestamp,
    },
    /// The release is stored: the new model becomes visible.
    Publish {
        round: RoundId,
        counts: RoundCounts,
        clip_norm: ClipNorm,
    },
    /// The charge is stored: the sum may be learnt.
    Release(Collecting),
    /// A run was resumed with a round open, which goes on.
    Reopen(Collecting),
    /// The reservation of an attempt that fell short is given back; another follows.
    Retry {
        round: RoundId,
    },
    /// The charge is stored: secure aggregation may open the sum.
    Unmask(Collecting),
    /// A run was resumed with a reservation open, which is given back.
    Void {
        round: RoundId,
    },
    /// The reservation is given back.
    Voided {
        round: RoundId,
    },
}

impl Run {
    /// A new run from initial `parameters`. The first event asks to store the ledger's header.
    pub fn new(
        plan: RunPlan,
        sources: Sources,
        parameters: Vec<f32>,
        n_threads: usize,
    ) -> Result<Self, PlanError> {
        let (header, opening) = header(&plan, &sources, &parameters)?;
        let mut run = Self::idle(plan, sources, parameters, n_threads)?;
        run.store(Body::Header(Box::new(header)), Some(opening), Next::Idle);
        Ok(run)
    }

    fn idle(
        plan: RunPlan,
        sources: Sources,
        parameters: Vec<f32>,
        n_threads: usize,
    ) -> Result<Self, PlanError> {
        if sources.noise.provenance() != sources.cohort.provenance() {
            return Err(PlanError::MixedSources);
        }
        let settings = plan.settings();
        let dimension = match &settings.mechanism {
            Mechanism::Distributed(mechanism) => Some(mechanism.terms().dimension),
            Mechanism::Matrix(mechanism) => Some(mechanism.plan().dimension),
            _ => None,
        };
        if let Some(dimension) = dimension.filter(|dimension| *dimension != parameters.len()) {
            return Err(PlanError::Setting {
                key: "model",
                expected: format!("a model of {dimension} parameters, as the mechanism"),
                got: format!("one of {}", parameters.len()),
            });
        }
        let mechanism = settings.mechanism.begin()?;
        // Turns keep the number of participations by themselves.
        let most = match &settings.mechanism {
            Mechanism::Distributed(distributed) => Some(distributed.terms().most_participations),
            Mechanism::Local(local) => Some(local.plan().most_participations),
            _ => None,
        };
        let participations = Participations::new(most, settings.rounds, settings.population);
        let strategy = settings.strategy.build(parameters.len())?;
        let accounted_delta = plan.accounted_delta(parameters.len())?;
        let spending = Spending::new(&plan, accounted_delta)?;
        Ok(Self {
            attempt: 0,
            events: VecDeque::new(),
            mechanism,
            n_threads,
            next_token: 0,
            parameters: parameters.into(),
            participations,
            phase: Phase::Idle,
            plan,
            replay: Replay::default(),
            rounds: 0,
            lost: 0,
            sources,
            spending,
            strategy,
        })
    }

    /// Takes any input: the form in which a run is recorded and replayed.
    pub fn handle(&mut self, input: Input) -> Result<(), HandleError> {
        match input {
            Input::Abandon { reason } => self.handle_abandon(reason)?,
            Input::Message { from, message } => drop(self.handle_message(from, message)?),
            Input::Start { now } => self.handle_start(now)?,
            Input::Stored { token } => self.handle_stored(token)?,
            Input::Timeout { now } => self.handle_timeout(now)?,
        }
        Ok(())
    }

    /// Opens the next round, or ends the run: when all planned rounds are done, or when the next would overspend.
    pub fn handle_start(&mut self, now: Timestamp) -> Result<(), HandleError> {
        if !matches!(self.phase, Phase::Idle) {
            return Err(self.misuse("handle_start", "a run between two rounds"));
        }
        if self.rounds >= self.plan.settings().rounds {
            self.end(CloseStatus::Finished, None);
            return Ok(());
        }
        let round = RoundId(self.rounds + 1);
        if self.replay.is_charged(round) {
            self.open(round, now);
            return Ok(());
        }
        match self.spending.reserve(round) {
            Ok(()) => {
                let reserve = Reserve {
                    round: round.0,
                    event: self.plan.round_event(),
                };
                self.store(Body::Reserve(reserve), None, Next::Open { round, now });
                Ok(())
            }
            Err(ReserveError::Exhausted(exhausted)) => {
                self.end(CloseStatus::BudgetExhausted, Some(exhausted));
                Ok(())
            }
            Err(ReserveError::Accounting(error)) => Err(HandleError::Accounting(error)),
        }
    }

    /// Ends a run that may end early, by a rule on what was released. Its claims are those of all planned rounds already.
    ///
    /// # Errors
    ///
    /// A round is open, or the plan does not say that the run may end early.
    pub fn handle_finish(&mut self) -> Result<(), ApiMisuse> {
        if !matches!(self.phase, Phase::Idle) || !self.plan.settings().may_stop_early {
            return Err(self.misused("handle_finish", "a run that may stop early, between two rounds"));
        }
        self.end(CloseStatus::Finished, None);
        Ok(())
    }

    /// Adds a client's report to the sum and gives the memory of its update back for reuse. What is refused changes nothing.
    pub fn handle_message(
        &mut self,
        from: ClientId,
        message: ClientMessage,
    ) -> Result<Vec<i32>, ClientFault> {
        match &mut self.phase {
            // Reports are what secure aggregation hides from the server.
            Phase::Collecting(collecting) if self.plan.settings().secure_aggregation.is_none() => {
                collecting.handle_report(from, message)
            }
            _ => {
                let ClientMessage::Report { round, .. } = message;
                Err(ClientFault::OtherRound {
                    client: from,
                    open: None,
                    got: round,
                })
            }
        }
    }

    /// Tells the time. A round whose deadline has come closes, whoever has reported.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Result<(), HandleError> {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Collecting(collecting) if collecting.closes(now) => {
                if self.plan.settings().secure_aggregation.is_some() {
                    self.phase = Phase::Collecting(collecting);
                    self.handle_shortfall("the deadline came before the survivors were confirmed".to_owned())
                } else {
                    self.close_round(collecting)
                }
            }
            other => {
                self.phase = other;
                Ok(())
            }
        }
    }

    /// Says that the record with this token is durable. Only this moves a run past a record.
    pub fn handle_stored(&mut self, token: StoreToken) -> Result<(), HandleError> {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Storing {
                token: expected,
                next,
            } if expected == token => self.go_on(next),
            other => {
                self.phase = other;
                Err(self.misuse("handle_stored", "the token of the record that waits to be stored"))
            }
        }
    }

    /// Gives up: an open round is voided, since nothing was learnt, and no further round opens. While a record waits to be
    /// stored this is refused; store it first.
    pub fn handle_abandon(&mut self, reason: String) -> Result<(), ApiMisuse> {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Collecting(collecting) => {
                let round = collecting.round();
                drop(collecting);
                if self.replay.is_charged(round) {
                    // Charged before the run was interrupted: there is nothing to void.
                    self.end(CloseStatus::Interrupted, None);
                } else {
                    self.store(
                        Body::Void(Void {
                            round: round.0,
                            reason,
                        }),
                        None,
                        Next::Voided { round },
                    );
                }
                Ok(())
            }
            Phase::Idle => {
                self.end(CloseStatus::Interrupted, None);
                Ok(())
            }
            other => {
                self.phase = other;
                Err(self.misused("handle_abandon", "an open round, or a run between two rounds"))
            }
        }
    }

    /// Hands out the closing record of a run that has ended, with the hashes of the files that it leaves.
    pub fn handle_close(&mut self, model_file: Digest, summary_file: Digest) -> Result<(), ApiMisuse> {
        let Phase::Ended(status) = self.phase else {
            return Err(self.misused("handle_close", "a run that has ended"));
        };
        let close = Close {
            status,
            rounds: self.rounds - self.lost,
            claim: self.spending.claim(),
            model_file_sha256: to_hex(&model_file),
            summary_file_sha256: to_hex(&summary_file),
        };
        self.store(Body::Close(close), None, Next::Closed);
        Ok(())
    }

    /// Secure aggregation: so many clients' contributions are in the round's sum, and enough of them have confirmed that. The round is
    /// charged, and once the charge is stored its sum may be opened.
    pub fn handle_confirmed(&mut self, survivors: u64) -> Result<(), HandleError> {
        let expected = "an open round with secure aggregation, and as many survivors as its plan allows";
        let allowed = self.plan.settings().secure_aggregation.is_some_and(|secure| {
            (u64::from(secure.survivors_min)..=secure.clients_max.into()).contains(&survivors)
        });
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Collecting(collecting) if allowed && survivors <= collecting.counts().cohort => {
                self.close_round(collecting.with_survivors(survivors))
            }
            other => {
                self.phase = other;
                Err(self.misuse("handle_confirmed", expected))
            }
        }
    }

    /// Secure aggregation: the attempt fell short of its minimum before anything was charged. The round is voided, and the next call of
    /// [`handle_start`](Self::handle_start) tries it again with a cohort drawn anew.
    pub fn handle_shortfall(&mut self, reason: String) -> Result<(), HandleError> {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Collecting(collecting) if self.plan.settings().secure_aggregation.is_some() => {
                let round = collecting.round();
                if let Some(participations) = &mut self.participations {
                    participations.withdraw(collecting.cohort());
                }
                self.attempt += 1;
                if self.replay.is_charged(round) {
                    // The ledger knows of it already.
                    self.phase = Phase::Idle;
                    self.events.push_back(Event::Voided { round });
                } else {
                    let void = Void {
                        round: round.0,
                        reason,
                    };
                    self.store(Body::Void(void), None, Next::Retry { round });
                }
                Ok(())
            }
            other => {
                self.phase = other;
                Err(self.misuse("handle_shortfall", "an open round with secure aggregation"))
            }
        }
    }

    /// Secure aggregation: the sum of the charged round, in integers; `None` if too few shares came to open it. Then the charge stays,
    /// and the model with it.
    pub fn handle_sum(&mut self, sum: Option<Vec<i64>>) -> Result<(), HandleError> {
        let length = self.mechanism.quantizer().report_length(self.parameters.len());
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Unmasking(collecting) => match sum {
                Some(sum) if sum.len() != length => {
                    self.phase = Phase::Unmasking(collecting);
                    Err(self.misuse("handle_sum", "a sum as long as contributions"))
                }
                Some(sum) => {
                    // Of the contributions themselves: with an indicator, or with noise of the clients' own, more than of an update.
                    let (n, clip_norm) = (
                        collecting.counts().reports,
                        self.mechanism.quantizer().clip_norm(),
                    );
                    let sum = IntegerSum::from_aggregate(sum, n, clip_norm);
                    self.release(collecting.with_sum(sum))
                }
                None => {
                    let (round, counts, clip_norm) = (
                        collecting.round(),
                        collecting.counts(),
                        self.mechanism.clip_norm(),
                    );
                    let parameters = Arc::clone(&self.parameters);
                    self.record_release(parameters, round, counts, clip_norm, None)
                }
            },
            other => {
                self.phase = other;
                Err(self.misuse("handle_sum", "a charged round with secure aggregation"))
            }
        }
    }

    /// What the driver must do or may tell next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next message to send.
    pub fn poll_outgoing(&mut self) -> Option<Outgoing> {
        let Phase::Collecting(collecting) = &mut self.phase else {
            return None;
        };
        let to = collecting.next_invitation()?;
        let invitation = Invitation {
            round: collecting.round(),
            clip_norm: self.mechanism.quantizer().clip_norm(),
            clip_indicator: self.mechanism.quantizer().indicator(),
            deadline: collecting.deadline(),
            model: Arc::clone(&self.parameters),
        };
        Some(Outgoing {
            to,
            message: ServerMessage::Invite(invitation),
        })
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Collecting(collecting) => Some(collecting.deadline()),
            _ => None,
        }
    }

    /// Attempts of the open or coming round that fell short.
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// The plan.
    pub fn plan(&self) -> &RunPlan {
        &self.plan
    }

    /// The model as of the last release.
    pub fn parameters(&self) -> &Arc<[f32]> {
        &self.parameters
    }

    /// ε of everything reserved or charged so far.
    pub fn spent(&self) -> EpsilonBounds {
        self.spending.spent()
    }

    /// The same as it stands in the ledger.
    pub fn claim(&self) -> Claim {
        self.spending.claim()
    }

    /// How many rounds are released, or charged and lost.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Everything from which the run can go on after its last release. A live server stores it together with the release's
    /// record.
    pub fn checkpoint(&self) -> Checkpoint {
        let round = match &self.phase {
            Phase::Storing {
                next: Next::Publish { round, .. },
                ..
            } => *round,
            _ => RoundId(self.rounds),
        };
        Checkpoint {
            round,
            parameters: Arc::clone(&self.parameters),
            strategy: self.strategy.state(),
            mechanism: self.mechanism.to_unprotected_bytes(),
        }
    }

    /// The round that is open, or whose charge waits to be stored, with its running sum. A live server stores it with each
    /// report before it thanks for it, and with the charge, so that no report is lost or counted twice and a charged round
    /// can still be released after an interruption.
    pub fn open_round(&self) -> Option<OpenRound> {
        match &self.phase {
            Phase::Collecting(collecting)
            | Phase::Storing {
                next: Next::Release(collecting),
                ..
            } => Some(collecting.checkpoint()),
            _ => None,
        }
    }

    fn go_on(&mut self, next: Next) -> Result<(), HandleError> {
        match next {
            Next::Closed => self.phase = Phase::Closed,
            Next::Idle => self.phase = Phase::Idle,
            Next::Open { round, now } => self.open(round, now),
            Next::Publish {
                round,
                counts,
                clip_norm,
            } => self.publish(round, counts, clip_norm)?,
            Next::Release(collecting) => self.release(collecting)?,
            Next::Reopen(collecting) => self.phase = Phase::Collecting(collecting),
            Next::Retry { round } => {
                self.spending.void().map_err(HandleError::Accounting)?;
                self.phase = Phase::Idle;
                self.events.push_back(Event::Voided { round });
            }
            Next::Unmask(collecting) => self.phase = Phase::Unmasking(collecting),
            Next::Void { round } => {
                let reason = "the run was interrupted before the round was charged".to_owned();
                self.store(
                    Body::Void(Void {
                        round: round.0,
                        reason,
                    }),
                    None,
                    Next::Idle,
                );
            }
            Next::Voided { round } => {
                self.spending.void().map_err(HandleError::Accounting)?;
                self.events.push_back(Event::Voided { round });
                self.end(CloseStatus::Interrupted, None);
            }
        }
        Ok(())
    }

    fn open(&mut self, round: RoundId, now: Timestamp) {
        let cohort = self.draw_cohort(round);
        self.phase = Phase::Collecting(Collecting::open(
            round,
            now.after(self.plan.settings().round_duration),
            cohort,
            self.mechanism.quantizer().report_length(self.parameters.len()),
        ));
    }

    /// The clients of a round, each counted as taking part.
    fn draw_cohort(&mut self, round: RoundId) -> Vec<u64> {
        let population = self.plan.settings().population;
        let mut cohort =
            self.plan
                .sampling()
                .cohort(&self.sources.cohort, coins_of(round, self.attempt), population);
        // With secure aggregation who takes part is no secret, so any rule for who is left out will do.
        let secure = &self.plan.settings().secure_aggregation;
        let room = secure
            .as_ref()
            .map_or(usize::MAX, |secure| secure.clients_max as usize);
        match &mut self.participations {
            Some(participations) => participations.admit(&mut cohort, room),
            None => cohort.truncate(room),
        }
        cohort
    }

    /// The deadline has come: charge, and only then learn the sum.
    fn close_round(&mut self, collecting: Collecting) -> Result<(), HandleError> {
        let round = collecting.round();
        let is_secure = self.plan.settings().secure_aggregation.is_some();
        if self.replay.is_charged(round) {
            if is_secure {
                self.phase = Phase::Unmasking(collecting);
                return Ok(());
            }
            return self.release(collecting);
        }
        let settings = self.plan.settings();
        let opening = self.sources.commitment.open_counts(round, collecting.counts());
        let charge = Charge {
            round: round.0,
            event: self.plan.round_event(),
            noise_std_dev_grid_units: settings.mechanism.noise_std_dev_grid_units(),
            divisor: settings.mechanism.divisor(),
            clip_norm: matches!(settings.mechanism, Mechanism::Adaptive(_))
                .then(|| self.mechanism.clip_norm().value()),
            claim: self.spending.claim(),
            counts_commitment: to_hex(&opening.commitment()),
            survivors: is_secure.then(|| {
                let clients = collecting.counts().reports;
                let count = u32::try_from(clients).unwrap_or(u32::MAX);
                Survivors {
                    attempt: self.attempt,
                    clients,
                    event: settings.mechanism.event_with(count),
                }
            }),
        };
        let next = if is_secure {
            Next::Unmask(collecting)
        } else {
            Next::Release(collecting)
        };
        self.store(Body::Charge(charge), Some(opening), next);
        Ok(())
    }

    /// Learns the noised sum, which must be charged. The step of the strategy is post-processing.
    fn release(&mut self, collecting: Collecting) -> Result<(), HandleError> {
        let (round, counts) = (collecting.round(), collecting.counts());
        let clip_norm = self.mechanism.clip_norm();
        let release = self.mechanism.release(
            collecting.into_sum(),
            &self.sources.noise,
            round.0,
            self.n_threads,
        )?;
        let mut parameters = self.parameters.to_vec();
        self.strategy.step(&mut parameters, &release.values);
        self.record_release(parameters.into(), round, counts, clip_norm, release.share_within)
    }

    /// Hands the record of the round's model out, which becomes visible once it is stored.
    fn record_release(
        &mut self,
        parameters: Arc<[f32]>,
        round: RoundId,
        counts: RoundCounts,
        clip_norm: ClipNorm,
        share_within: Option<f64>,
    ) -> Result<(), HandleError> {
        let model_sha256 = parameters_sha256(&parameters);
        let recorded = self.replay.release_of(round);
        if let Some(recorded) = recorded.filter(|recorded| *recorded != model_sha256) {
            let (recorded, got) = (to_hex(&recorded), to_hex(&model_sha256));
            return Err(ReplayMismatch { round, recorded, got }.into());
        }
        self.parameters = parameters;
        match recorded {
            Some(_) => self.publish(round, counts, clip_norm),
            None => {
                let record = Release {
                    round: round.0,
                    model_sha256: to_hex(&model_sha256),
                    share_within,
                };
                self.store(
                    Body::Release(record),
                    None,
                    Next::Publish {
                        round,
                        counts,
                        clip_norm,
                    },
                );
                Ok(())
            }
        }
    }

    fn publish(
        &mut self,
        round: RoundId,
        counts: RoundCounts,
        clip_norm: ClipNorm,
    ) -> Result<(), HandleError> {
        let spent = self.spending.cost_of(round.0).map_err(HandleError::Accounting)?;
        self.phase = Phase::Idle;
        self.rounds = round.0;
        self.attempt = 0;
        let parameters = Arc::clone(&self.parameters);
        self.events.push_back(Event::Released {
            round,
            parameters,
            spent,
            counts,
            clip_norm,
        });
        Ok(())
    }

    fn end(&mut self, status: CloseStatus, exhausted: Option<BudgetExhausted>) {
        self.phase = Phase::Ended(status);
        self.events.push_back(Event::Ended { status, exhausted });
    }

    fn store(&mut self, record: Body, opening: Option<Opening>, next: Next) {
        let token = StoreToken(self.next_token);
        self.next_token += 1;
        self.phase = Phase::Storing { token, next };
        self.events.push_back(Event::Store {
            token,
            record,
            opening,
        });
    }

    fn misuse(&self, call: &'static str, expected: &'static str) -> HandleError {
        self.misused(call, expected).into()
    }

    fn misused(&self, call: &'static str, expected: &'static str) -> ApiMisuse {
        ApiMisuse {
            call,
            expected,
            state: self.phase.name(),
        }
    }
}

/// Who is in a cohort, and everything that is not released yet, stays out of sight.
impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("phase", &self.phase.name())
            .field("spending", &self.spending)
            .finish_non_exhaustive()
    }
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Collecting(_) => "collecting reports",
            Self::Ended(_) => "ended",
            Self::Idle => "between two rounds",
            Self::Storing { .. } => "waiting for a record to be stored",
            Self::Unmasking(_) => "waiting for the sum of a charged round",
        }
    }
}

/// What the coins of a round's cohort belong to: the round, and another number for each further attempt.
fn coins_of(round: RoundId, attempt: u64) -> u64 {
    round.0 | attempt << 48
}

/// SHA-256 of a model: its parameters as little-endian `f32`.
pub fn parameters_sha256(parameters: &[f32]) -> Digest {
    let mut hash = Sha256::new();
    let mut bytes = [0; 4096];
    for block in parameters.chunks(bytes.len() / 4) {
        for (slot, value) in bytes.chunks_exact_mut(4).zip(block) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        hash.update(&bytes[..block.len() * 4]);
    }
    hash.finalize().into()
}
