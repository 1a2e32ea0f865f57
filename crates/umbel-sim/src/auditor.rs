//! The seam at which an auditor enters a simulated run.

use umbel_protocol::{ClientId, ClientMessage, RoundId};

/// Plays some of the clients, and sees what the server sees.
///
/// It takes the place of local training and of nothing else: what it plays is clipped, quantised, summed, noised and charged by
/// the code that every other client goes through, in the same calls. Called from several threads at once.
pub trait Auditor: std::fmt::Debug + Sync {
    /// Writes the raw update of an invited client that the auditor plays and says `true`; leaves any other client, which then
    /// trains, and says `false`. `update` holds what another client left in it.
    fn update(&self, client: ClientId, round: RoundId, update: &mut [f32]) -> bool;

    /// Sees a client's report on its way to the server.
    fn report(&self, client: ClientId, message: &ClientMessage);

    /// How many examples the auditor adds to a client's own, for private steps.
    fn added_examples(&self, _client: ClientId) -> usize {
        0
    }

    /// Writes the raw gradient of one of the examples that it adds, counted from 0, whose coin has come up in a step.
    fn gradient(&self, _step: StepOf, _added: usize, _gradient: &mut [f32]) {}

    /// Sees what an example, added or not, contributes to a step's sum, in clip norms.
    fn contribution(&self, _step: StepOf, _added: Option<usize>, _contribution: &[f64]) {}

    /// Sees a step's noised mean gradient.
    fn noised(&self, _step: StepOf, _gradient: &[f32]) {}
}

/// One step of a client's private gradient descent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a plain record")]
pub struct StepOf {
    /// Whose.
    pub client: ClientId,
    /// In which round.
    pub round: RoundId,
    /// From 0, in that round.
    pub step: u32,
}
