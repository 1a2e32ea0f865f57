//! Going on after an interruption.

use super::collecting::Collecting;
use super::header::header;
use super::{Next, Run, Sources, parameters_sha256};
use crate::{Checkpoint, OpenRound, PlanError, RoundId, RunPlan, Sampling};
use umbel_accounting::ledger::{Body, Digest, Header, Order, Resume, VerifiedLedger, from_hex, to_hex};

/// Where an interrupted run goes on: what its ledger says, and its last checkpoint.
#[derive(Debug)]
pub struct Resumed {
    charged: u64,
    checkpoint: Option<Checkpoint>,
    /// The last charge's commitment to who was invited and who reported.
    counts_commitment: String,
    header: Header,
    open_round: Option<OpenRound>,
    order: Order,
    /// Hash of the model of each released round.
    releases: Vec<(u64, Digest)>,
    /// Of each round with secure aggregation, which attempt was charged.
    attempts: Vec<(u64, u64)>,
    /// The round that was reserved last, and how often it was: each reservation is an attempt.
    reserved: (u64, u64),
}

/// Rounds that the ledger already holds, so that they are not charged again.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The last round that is charged.
    charged: u64,
    releases: Vec<(u64, Digest)>,
}

/// A round that was done again gave another model than the ledger holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{round} was done again and gave another model than the ledger holds: expected {recorded}, got {got}; data or program \
     have changed, so the run cannot go on"
)]
pub struct ReplayMismatch {
    /// The round.
    pub round: RoundId,
    /// Hash of the model on the ledger.
    pub recorded: String,
    /// Hash of the model that came.
    pub got: String,
}

/// Why a run cannot go on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The checkpoint does not fit the plan or the ledger.
    #[error("the checkpoint does not fit: expected {expected}, got {got}")]
    Checkpoint {
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// The run is over.
    #[error("the run is closed: there is nothing to resume")]
    Closed,
    /// The clients' data, their split, or the test set differ from what the ledger is bound to.
    #[error(
        "the data are not those that the run began with: their hash does not fit the ledger's `data_commitment`"
    )]
    OtherData,
    /// The plan is not the one that the ledger's header promises.
    #[error("the plan is not the one on the ledger: `{field}` was {expected}, got {got}")]
    OtherPlan {
        /// Name of the header's field.
        field: &'static str,
        /// Its value on the ledger.
        expected: String,
        /// Its value now.
        got: String,
    },
    /// The plan itself is refused.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A live run whose clients take turns.
    #[error(
        "a live run whose clients take turns cannot go on: the coins that said whose turn it is are gone"
    )]
    Turns,
}

impl Resumed {
    /// Reads from a verified ledger where the run stands.
    pub fn new(ledger: &VerifiedLedger, checkpoint: Option<Checkpoint>) -> Self {
        let mut charged = 0;
        let mut counts_commitment = String::new();
        let mut reserved = (0, 0);
        let (mut releases, mut attempts) = (Vec::new(), Vec::new());
        for record in ledger.records() {
            match record {
                Body::Charge(charge) => {
                    charged = charge.round;
                    if let Some(survivors) = &charge.survivors {
                        attempts.push((charge.round, survivors.attempt));
                    }
                    counts_commitment.clone_from(&charge.counts_commitment);
                }
                // A text that is no hash becomes zeros, which no model has.
                Body::Release(release) => {
                    releases.push((release.round, from_hex(&release.model_sha256).unwrap_or_default()));
                }
                Body::Reserve(reserve) if reserve.round == reserved.0 => reserved.1 += 1,
                Body::Reserve(reserve) => reserved = (reserve.round, 1),
                Body::Close(_) | Body::Header(_) | Body::Resume(_) | Body::Void(_) => {}
            }
        }
        Self {
            charged,
            checkpoint,
            counts_commitment,
            header: ledger.header().clone(),
            open_round: None,
            order: ledger.order(),
            releases,
            attempts,
            reserved,
        }
    }
}

impl Resumed {
    /// Goes on with the round that was open, rather than voiding it or, if it was charged, losing it. For a live run; a
    /// simulation plays rounds again. A round that the ledger does not know as open or charged is passed over.
    #[must_use]
    pub fn with_open_round(mut self, open_round: OpenRound) -> Self {
        self.open_round = (!self.header.simulated).then_some(open_round);
        self
    }

    /// The stored state of `round`, if there is one and its reports have `length` coordinates.
    fn take_open_round(&mut self, round: u64, length: usize) -> Option<Collecting> {
        let open = self.open_round.take()?;
        (open.round.0 == round && open.sum.dimension() == length).then(|| Collecting::reopen(open))
    }

    /// The hash that the ledger holds of the model after `round`.
    fn recorded_model(&self, round: u64) -> String {
        match self.releases.iter().find(|(released, _)| *released == round) {
            Some((_, hash)) => to_hex(hash),
            None => self.header.initial_model_sha256.clone(),
        }
    }
}

impl Replay {
    pub(super) fn is_charged(&self, round: RoundId) -> bool {
        round.0 <= self.charged
    }

    pub(super) fn release_of(&self, round: RoundId) -> Option<Digest> {
        self.releases
            .iter()
            .find(|(released, _)| *released == round.0)
            .map(|(_, hash)| *hash)
    }
}

impl Run {
    /// Goes on with an interrupted run. `initial` are the parameters that it began with.
    ///
    /// A reservation that was not charged is voided, unless its round goes on ([`Resumed::with_open_round`]); with secure aggregation, whose
    /// secrets are in memory only, it always is, and the next attempt has the next number. In a simulation, rounds after the checkpoint that are already charged
    /// are done again without a new charge: the same coins and the same noise give the same release, which is compared with
    /// the ledger's. In a live run, where coins and noise would be drawn afresh, the checkpoint must be the last release on
    /// the ledger, and a round that was charged but not released is released now from its stored sum; without that it is
    /// lost, and its charge stays. Noise drawn before the interruption was never visible, so drawing it afresh releases the
    /// sum once.
    pub fn resume(
        plan: RunPlan,
        sources: Sources,
        initial: Vec<f32>,
        mut resumed: Resumed,
        n_threads: usize,
    ) -> Result<Self, ResumeError> {
        let (now, _) = header(&plan, &sources, &initial)?;
        same_plan(&resumed.header, &now)?;
        if resumed.header.data_commitment != now.data_commitment {
            return Err(ResumeError::OtherData);
        }
        let simulated = resumed.header.simulated;
        if !simulated && matches!(plan.sampling(), Sampling::Turns(_)) {
            // Groups are drawn from the source of coins, which begins anew: a client could come too soon.
            return Err(ResumeError::Turns);
        }
        let n_released = resumed.releases.len() as u64;
        let released = resumed.releases.last().map_or(0, |(round, _)| *round);
        let at = resumed
            .checkpoint
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.round.0);
        if at > released || (!simulated && at < released) {
            let expected = format!("the model of round {released}, the last release on the ledger");
            return Err(ResumeError::Checkpoint {
                expected,
                got: format!("the model of round {at}"),
            });
        }
        if resumed.order == Order::Closed {
            return Err(ResumeError::Closed);
        }
        let resumed_at = if simulated { at } else { resumed.charged };

        let mut run = Self::idle(plan, sources, initial, n_threads)?;
        let length = run.mechanism.quantizer().report_length(run.parameters.len());
        let open = match resumed.order {
            Order::Charged { round } | Order::Reserved { round } => resumed.take_open_round(round, length),
            _ => None,
        };
        run.spending.restore(resumed.charged).map_err(PlanError::from)?;
        if let Some(checkpoint) = resumed.checkpoint.take() {
            run.take_checkpoint(checkpoint, &resumed.recorded_model(at))?;
        }
        run.replay = Replay {
            charged: if simulated { resumed.charged } else { 0 },
            releases: if simulated { resumed.releases } else { Vec::new() },
        };
        run.rounds = resumed_at;
        if !simulated
            && run.plan.settings().secure_aggregation.is_some()
            && resumed.reserved.0 == resumed_at + 1
        {
            // Clients never see an attempt twice, so those before the interruption count. A simulation makes the same ones again.
            run.attempt = resumed.reserved.1;
        }
        if simulated && run.participations.is_some() {
            // The same coins count the same participations again.
            for round in 1..=resumed_at {
                let charged = resumed.attempts.iter().find(|(other, _)| *other == round);
                run.attempt = charged.map_or(0, |(_, attempt)| *attempt);
                drop(run.draw_cohort(RoundId(round)));
            }
            run.attempt = 0;
        }
        let next = match resumed.order {
            Order::Reserved { round } => match open {
                Some(collecting) => {
                    run.spending
                        .restore(resumed.charged + 1)
                        .map_err(PlanError::from)?;
                    Next::Reopen(collecting)
                }
                None => Next::Void {
                    round: RoundId(round),
                },
            },
            Order::Charged { round } => match open {
                Some(collecting) => {
                    let opening = run
                        .sources
                        .commitment
                        .open_counts(collecting.round(), collecting.counts());
                    if to_hex(&opening.commitment()) != resumed.counts_commitment {
                        return Err(ResumeError::Checkpoint {
                            expected: format!("the sum that the charge of round {round} is for"),
                            got: "the sum of another moment".to_owned(),
                        });
                    }
                    run.rounds = round - 1;
                    Next::Release(collecting)
                }
                None => Next::Idle,
            },
            Order::Closed | Order::Empty | Order::Idle { .. } | Order::Interrupted { .. } => Next::Idle,
        };
        run.lost = run.rounds.saturating_sub(n_released);
        run.store(Body::Resume(Resume { released }), None, next);
        Ok(run)
    }

    fn take_checkpoint(&mut self, checkpoint: Checkpoint, recorded: &str) -> Result<(), ResumeError> {
        if checkpoint.parameters.len() != self.parameters.len() {
            return Err(ResumeError::Checkpoint {
                expected: format!("a model of {} parameters", self.parameters.len()),
                got: format!("one of {}", checkpoint.parameters.len()),
            });
        }
        let got = to_hex(&parameters_sha256(&checkpoint.parameters));
        if got != recorded {
            let expected = format!("a model with SHA-256 {recorded}, as on the ledger");
            return Err(ResumeError::Checkpoint { expected, got });
        }
        self.strategy
            .restore(&checkpoint.strategy)
            .map_err(|error| ResumeError::Checkpoint {
                expected: error.expected,
                got: error.got,
            })?;
        self.mechanism
            .restore(&checkpoint.mechanism, checkpoint.round.0)
            .map_err(|error| ResumeError::Checkpoint {
                expected: "the state of this run's mechanism".to_owned(),
                got: error.to_string(),
            })?;
        self.parameters = checkpoint.parameters;
        Ok(())
    }
}

/// Compares what a ledger promises with what would be run now, field by field; the signer's key is not part of the plan.
#[allow(clippy::float_cmp, reason = "the same plan has the very same numbers")]
fn same_plan(recorded: &Header, now: &Header) -> Result<(), ResumeError> {
    macro_rules! compare {
        ($($field:ident),* $(,)?) => {
            $(if recorded.$field != now.$field {
                return Err(ResumeError::OtherPlan {
                    field: stringify!($field),
                    expected: format!("{:?}", recorded.$field),
                    got: format!("{:?}", now.$field),
                });
            })*
        };
    }
    compare!(
        version,
        run,
        unit,
        trust,
        neighbors,
        simulated,
        accountant,
        sampling,
        sampling_rate,
        population,
        clients,
        cohort,
        rounds,
        round_event,
        most_charges,
        matrix,
        adaptive_clip,
        secure_aggregation,
        clip_norm,
        grid_unit,
        noise,
        dimension,
        delta,
        accounted_delta,
        epsilon_budget,
        filter,
        public_metrics,
        experiment_sha256,
        initial_model_sha256,
    );
    Ok(())
}
