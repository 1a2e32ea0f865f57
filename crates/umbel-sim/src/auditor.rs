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
}
