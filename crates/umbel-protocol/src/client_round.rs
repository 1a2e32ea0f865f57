//! A client's half of a round.

use std::sync::Arc;

use umbel_mechanisms::{ClipOutcome, Quantizer};

use crate::{ClientMessage, Invitation, RoundId};

/// A client that was invited to a round: it gives out the model, takes in the raw update, and answers with a report that is
/// clipped and quantised. There is no other way to make a report.
#[derive(Debug)]
pub struct ClientRound {
    invitation: Invitation,
}

impl ClientRound {
    /// Accepts an invitation.
    pub fn new(invitation: Invitation) -> Self {
        Self { invitation }
    }

    /// The round.
    pub fn round(&self) -> RoundId {
        self.invitation.round
    }

    /// The model to train from.
    pub fn model(&self) -> &Arc<[f32]> {
        &self.invitation.model
    }

    /// Turns the trained model less the global model into a report: clipped over all parameters as one vector, quantised
    /// toward zero. An update with a non-finite entry is reported as zeros.
    ///
    /// `update` must have the model's length; the server refuses any other. `buffer` is memory to reuse.
    pub fn report(self, update: &[f32], buffer: Vec<i32>) -> (ClientMessage, ClipOutcome) {
        let Invitation {
            clip_norm,
            clip_indicator,
            ..
        } = self.invitation;
        // A weight that no indicator has leaves no way to report but without; the server refuses that.
        let quantizer = clip_indicator
            .and_then(|weight| Quantizer::with_indicator(clip_norm, weight))
            .unwrap_or_else(|| Quantizer::new(clip_norm));
        let (update, outcome) = quantizer.clip_and_quantize(update, buffer);
        (
            ClientMessage::Report {
                round: self.invitation.round,
                update,
            },
            outcome,
        )
    }
}
