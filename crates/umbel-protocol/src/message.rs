//! What server and client say to each other.

use std::fmt;
use std::sync::Arc;

use umbel_accounting::ClipNorm;
use umbel_mechanisms::QuantizedUpdate;

use crate::{ClientId, RoundId, Timestamp};

/// From the server to one client.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ServerMessage {
    /// Take part in this round.
    Invite(Invitation),
}

/// Everything that a client needs for one round.
#[derive(Clone)]
pub struct Invitation {
    /// The round.
    pub round: RoundId,
    /// Bound on the L2 norm of what the client reports: its whole update and, if there is one, the indicator.
    pub clip_norm: ClipNorm,
    /// Weight in grid units of the indicator that says whether the update was clipped; absent if it is not asked for.
    pub clip_indicator: Option<u32>,
    /// Reports that arrive later are not added.
    pub deadline: Timestamp,
    /// The global model, one flat vector.
    pub model: Arc<[f32]>,
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation")
            .field("round", &self.round)
            .field("clip_norm", &self.clip_norm)
            .field("deadline", &self.deadline)
            .field("parameters", &self.model.len())
            .finish()
    }
}

/// From one client to the server.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientMessage {
    /// The client's clipped, quantised update, with the indicator last if it was asked for.
    Report {
        /// The round that it was invited to.
        round: RoundId,
        /// The update. A client without examples sends zeros.
        update: QuantizedUpdate,
    },
}

/// A message on its way out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// To whom.
    pub to: ClientId,
    /// What.
    pub message: ServerMessage,
}
