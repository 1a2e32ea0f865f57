//! Which record may follow which.

use super::record::{Body, CloseStatus};

/// Where a ledger stands: the state machine that every writer and every reader runs through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever resumes a run must handle every state"
)]
pub enum Order {
    /// Nothing is written; a header must come.
    #[default]
    Empty,
    /// No round is open; `released` rounds are done or lost.
    Idle {
        /// The last round that was released, or charged and lost.
        rounds: u64,
    },
    /// Budget is set aside for a round.
    Reserved {
        /// The round.
        round: u64,
    },
    /// A round is charged and its release is not on record.
    Charged {
        /// The round.
        round: u64,
    },
    /// Closed; may be resumed.
    Interrupted {
        /// The state before the close.
        charged: Option<u64>,
        /// The last round that was released, or charged and lost.
        rounds: u64,
    },
    /// Closed for good.
    Closed,
}

/// A record that may not stand where it was put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a `{got}` record may not come here: expected {expected}")]
pub struct OrderError {
    /// What may come.
    pub expected: String,
    /// The kind that came, with its round.
    pub got: String,
}

impl Order {
    /// The state after `body`, or why it may not come now.
    pub fn after(self, body: &Body) -> Result<Self, OrderError> {
        let refuse = |expected: String| {
            let got = match round_of(body) {
                Some(round) => format!("{} of round {round}", body.kind()),
                None => body.kind().to_owned(),
            };
            Err(OrderError { expected, got })
        };
        match (self, body) {
            (Self::Empty, Body::Header(_)) => Ok(Self::Idle { rounds: 0 }),
            (Self::Empty, _) => refuse("a `header`".to_owned()),

            (Self::Idle { rounds }, Body::Reserve(reserve)) if reserve.round == rounds + 1 => {
                Ok(Self::Reserved { round: reserve.round })
            }
            (Self::Idle { rounds }, Body::Close(close)) => Ok(Self::closed(close.status, None, rounds)),
            (Self::Idle { rounds }, Body::Resume(_)) => Ok(Self::Idle { rounds }),
            (Self::Idle { rounds }, _) => {
                refuse(format!("a `reserve` of round {}, or a `close`", rounds + 1))
            }

            (Self::Reserved { round }, Body::Void(void)) if void.round == round => {
                Ok(Self::Idle { rounds: round - 1 })
            }
            (Self::Reserved { round }, Body::Charge(charge)) if charge.round == round => {
                Ok(Self::Charged { round })
            }
            (Self::Reserved { round }, Body::Resume(_)) => Ok(Self::Reserved { round }),
            (Self::Reserved { round }, _) => refuse(format!("a `charge` or a `void` of round {round}")),

            (Self::Charged { round }, Body::Release(release)) if release.round == round => {
                Ok(Self::Idle { rounds: round })
            }
            // The round's result was lost. Its charge stays.
            (Self::Charged { round }, Body::Reserve(reserve)) if reserve.round == round + 1 => {
                Ok(Self::Reserved { round: reserve.round })
            }
            (Self::Charged { round }, Body::Resume(_)) => Ok(Self::Charged { round }),
            (Self::Charged { round }, Body::Close(close)) => {
                Ok(Self::closed(close.status, Some(round), round))
            }
            (Self::Charged { round }, _) => refuse(format!("the `release` of round {round}")),

            (
                Self::Interrupted {
                    charged: None,
                    rounds,
                },
                Body::Resume(_),
            ) => Ok(Self::Idle { rounds }),
            (
                Self::Interrupted {
                    charged: Some(round), ..
                },
                Body::Resume(_),
            ) => Ok(Self::Charged { round }),
            (Self::Interrupted { .. }, _) => refuse("a `resume`".to_owned()),

            (Self::Closed, _) => refuse("nothing, since the run is closed".to_owned()),
        }
    }

    fn closed(status: CloseStatus, charged: Option<u64>, rounds: u64) -> Self {
        match status {
            CloseStatus::Interrupted => Self::Interrupted { charged, rounds },
            CloseStatus::BudgetExhausted | CloseStatus::Finished => Self::Closed,
        }
    }
}

fn round_of(body: &Body) -> Option<u64> {
    match body {
        Body::Charge(body) => Some(body.round),
        Body::Release(body) => Some(body.round),
        Body::Reserve(body) => Some(body.round),
        Body::Void(body) => Some(body.round),
        Body::Close(_) | Body::Header(_) | Body::Resume(_) => None,
    }
}
