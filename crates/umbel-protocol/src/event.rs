//! What a run takes in and gives out.

use std::fmt;
use std::sync::Arc;

use umbel_accounting::ledger::{Body, CloseStatus};
use umbel_accounting::{ClipNorm, EpsilonBounds};
use zeroize::Zeroizing;

use crate::strategy::StateVector;
use crate::{BudgetExhausted, ClientId, ClientMessage, Opening, RoundId, Timestamp};

/// One input of a [`Run`](crate::Run), so that a run can be recorded as a list and replayed.
#[derive(Debug)]
#[allow(
    clippy::exhaustive_enums,
    reason = "a recording must have a form for every input"
)]
pub enum Input {
    /// The driver gives the round up.
    Abandon {
        /// Why, for the ledger.
        reason: String,
    },
    /// A client's message arrived.
    Message {
        /// From whom.
        from: ClientId,
        /// What.
        message: ClientMessage,
    },
    /// The next round may open.
    Start {
        /// When.
        now: Timestamp,
    },
    /// A record is durable.
    Stored {
        /// Which.
        token: StoreToken,
    },
    /// Time has passed.
    Timeout {
        /// When it is now.
        now: Timestamp,
    },
}

/// Names one [`Event::Store`], to be given back when it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreToken(pub u64);

/// What a [`Run`](crate::Run) wants done, or tells.
#[derive(Debug)]
#[allow(
    clippy::exhaustive_enums,
    reason = "a driver that overlooked an event would hang or lose a record"
)]
pub enum Event {
    /// The run is over: no further round will open. The driver may now close it.
    Ended {
        /// How it ended.
        status: CloseStatus,
        /// The refusal, where the budget is what ended it.
        exhausted: Option<BudgetExhausted>,
    },
    /// A new model is visible.
    Released {
        /// The round that made it.
        round: RoundId,
        /// The model.
        parameters: Arc<[f32]>,
        /// ε of everything charged so far.
        spent: EpsilonBounds,
        /// How many took part. Not covered by ε under add-or-remove: for a simulator's eyes only.
        counts: RoundCounts,
        /// The round's bound on the norm of an update: public, also where it follows earlier releases.
        clip_norm: ClipNorm,
    },
    /// Make this durable, then call [`Run::handle_stored`](crate::Run::handle_stored) with the token.
    Store {
        /// To be given back.
        token: StoreToken,
        /// The record to append to the ledger.
        record: Body,
        /// The opening of the record's commitment, to be kept apart from the ledger.
        opening: Option<Opening>,
    },
    /// The round was abandoned before anything was learnt.
    Voided {
        /// The round.
        round: RoundId,
    },
}

/// How many clients a round had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoundCounts {
    /// Clients invited: the realised cohort.
    pub cohort: u64,
    /// Clients whose report was added.
    pub reports: u64,
}

/// Everything from which a run can go on after a release. As secret as the updates if the mechanism remembers sums.
#[derive(Clone)]
pub struct Checkpoint {
    /// The last round that was released; 0 before the first.
    pub round: RoundId,
    /// The model.
    pub parameters: Arc<[f32]>,
    /// What the strategy remembers.
    pub strategy: Vec<StateVector>,
    /// What the mechanism remembers; empty if that is nothing.
    pub mechanism: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("round", &self.round)
            .finish_non_exhaustive()
    }
}
