//! One round of one client: fetch the model, train, send the report.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_stream::Stream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{debug, info, warn};
use umbel_protocol::{ClientRound, Invitation, Trust};
use umbel_sim::ClientTask;
use umbel_wire::proto::federation_client::FederationClient;
use umbel_wire::proto::{self, DownloadRequest};
use umbel_wire::{IncomingInvitation, OutgoingReport, transfer};

use crate::secure::SecureSide;
use crate::{ClientError, ClientSources, History, Policy, Terms};

/// How often a transfer that broke off is taken up again.
pub(crate) const TRANSFER_TRIES: u32 = 5;

/// What a client needs in every round.
pub(crate) struct Player {
    pub(crate) client: FederationClient<Channel>,
    pub(crate) task: Arc<ClientTask>,
    pub(crate) terms: Terms,
    pub(crate) policy: Policy,
    pub(crate) sources: Arc<ClientSources>,
    /// Where the server sees sums only.
    pub(crate) secure: Option<Arc<SecureSide>>,
    pub(crate) stop: Arc<AtomicBool>,
}

/// How a round ended for this client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Played {
    /// The report is counted, and durable.
    Counted,
    /// The report came to nothing; the run goes on.
    Missed,
}

impl Player {
    /// Takes part in the round that `invitation` announces.
    pub(crate) async fn play(
        &mut self,
        invitation: &proto::Invitation,
        history: &mut History,
    ) -> Result<Played, ClientError> {
        let incoming = self.accept(invitation)?;
        let round = incoming.round().0;
        if history.has_round(&self.terms, round) {
            // The client was interrupted while it took part. It may have been heard; a second, different report of one round is
            // never sent.
            info!(round, "sits this round out: it was interrupted in it before");
            return Ok(Played::Missed);
        }
        let participations = history.participations(&self.terms);
        if participations >= self.most_participations() {
            // What this client's noise costs was promised for no more, whoever invites it.
            info!(
                round,
                participations, "sits this round out: its participations are used up"
            );
            return Ok(Played::Missed);
        }
        self.policy.check_round(participations)?;
        let invitation = match self.fetch(incoming).await {
            Ok(invitation) => invitation,
            Err(status) => return missed(round, "download", &status),
        };
        let (task, draws) = (Arc::clone(&self.task), self.sources.draws(round)?);
        let trained = tokio::task::spawn_blocking(move || task.answer(ClientRound::new(invitation), draws));
        let report = trained
            .await
            .map_err(|error| ClientError::System(error.to_string()))??;
        let report = OutgoingReport::new(&report).map_err(|error| ClientError::System(error.to_string()))?;
        // From here on the round counts, whatever becomes of the report.
        history.begin_round(&self.terms, round, now())?;
        match self.send(report).await {
            Ok(()) => {
                debug!(round, "report counted");
                Ok(Played::Counted)
            }
            Err(status) => missed(round, "upload", &status),
        }
    }

    /// Checks an invitation against the terms that were signed.
    pub(crate) fn accept(&self, invitation: &proto::Invitation) -> Result<IncomingInvitation, ClientError> {
        let header = &self.terms.header;
        let dimension = usize::try_from(header.dimension).unwrap_or(usize::MAX);
        let incoming = IncomingInvitation::decode(invitation, dimension)
            .map_err(|error| ClientError::Protocol(format!("sends an invitation that is none: {error}")))?;
        let other = |what: &str| {
            Err(ClientError::Protocol(format!(
                "invites to a round with another {what} than it has signed"
            )))
        };
        if incoming.n_parameters() != dimension || dimension != self.task.model.n_parameters() {
            return other("model");
        }
        if !self.is_promised(incoming.clip_norm().value(), invitation.clip_indicator) {
            return other("clip norm");
        }
        if incoming.round().0 > header.rounds {
            return other("number of rounds");
        }
        if invitation.offer.is_some() != header.secure_aggregation.is_some() {
            return other("way to add updates up");
        }
        Ok(incoming)
    }

    /// Whether a round may have this bound on reports, and ask for this indicator.
    fn is_promised(&self, clip_norm: f64, indicator: Option<u32>) -> bool {
        let header = &self.terms.header;
        match (&header.adaptive_clip, self.task.report_clip_norm()) {
            (Some(adaptive), _) => {
                // Bounds update and indicator together, which is in proportion to the bound on the update.
                let joint = header.grid_unit * f64::from(1 << 30) / header.clip_norm;
                let moves =
                    adaptive.smallest * joint * (1.0 - 1e-9)..=adaptive.largest * joint * (1.0 + 1e-9);
                moves.contains(&clip_norm) && indicator == Some(adaptive.indicator)
            }
            (None, own) => {
                let expected = own.unwrap_or(header.clip_norm);
                clip_norm.to_bits() == expected.to_bits() && indicator.is_none()
            }
        }
    }

    /// In how many rounds of the run the client may take part, by what was signed.
    pub(crate) fn most_participations(&self) -> u64 {
        let header = &self.terms.header;
        // A voided attempt has taken an input of each client, and its round comes again. Where clients add the noise only their own count bounds
        // what that may cost; a server that is trusted with the noise is trusted not to open the sum.
        if header.secure_aggregation.is_some() && header.trust == Trust::Central.as_str() {
            return u64::MAX;
        }
        header
            .most_charges
            .map_or(header.rounds, |most| most.min(header.rounds))
    }

    /// Fetches the model, going on where a transfer broke off.
    pub(crate) async fn fetch(&mut self, mut incoming: IncomingInvitation) -> Result<Invitation, Status> {
        let mut tries = 0;
        loop {
            let request = DownloadRequest {
                round: incoming.round().0,
                offset: incoming.received(),
            };
            let result = match self.client.download(request).await {
                Ok(response) => transfer::receive_model(&mut incoming, response.into_inner()).await,
                Err(status) => Err(status),
            };
            match result {
                Ok(()) => return transfer::finish_model(incoming).await,
                Err(status) if may_pass(&status) && tries < TRANSFER_TRIES => tries += 1,
                Err(status) => return Err(status),
            }
            tokio::time::sleep(pause(tries)).await;
        }
    }

    /// Sends the report; after a broken connection the very same bytes again. That it is there already is as good.
    async fn send(&mut self, report: OutgoingReport) -> Result<(), Status> {
        let mut tries = 0;
        loop {
            match self.client.upload(parts(&report)).await {
                Ok(_) => return Ok(()),
                Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
                Err(status) if may_pass(&status) && tries < TRANSFER_TRIES => tries += 1,
                Err(status) => return Err(status),
            }
            tokio::time::sleep(pause(tries)).await;
        }
    }
}

fn parts(report: &OutgoingReport) -> impl Stream<Item = proto::UploadPart> + Send + use<> {
    transfer::report_parts(report.clone())
}

/// A round that came to nothing for this client; the run goes on.
pub(crate) fn missed(round: u64, what: &str, status: &Status) -> Result<Played, ClientError> {
    warn!(round, "{what} failed: {}", explain(status));
    match status.code() {
        Code::Unauthenticated => Err(ClientError::Rejected(explain(status))),
        _ => Ok(Played::Missed),
    }
}

/// Whether the same call may succeed a little later.
pub(crate) fn may_pass(status: &Status) -> bool {
    use Code::{Cancelled, DeadlineExceeded, Internal, ResourceExhausted, Unavailable, Unknown};
    matches!(
        status.code(),
        Cancelled | DeadlineExceeded | Internal | ResourceExhausted | Unavailable | Unknown
    )
}

/// A status for a person.
pub(crate) fn explain(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(_) => umbel_wire::transport::explain(status),
        None => status.message().to_owned(),
    }
}

/// How long to wait before the given try, 1 for the first repetition: doubling from a tenth of a second to half a minute, with a part
/// by chance, so that clients that were cut off together do not come back together.
pub(crate) fn pause(tries: u32) -> Duration {
    let longest = Duration::from_millis(100) * 2_u32.saturating_pow(tries.min(9));
    let mut byte = [128];
    // Without randomness the pause is merely not spread.
    let _ = getrandom::fill(&mut byte);
    let share = 0.5 + f64::from(byte[0]) / 512.0;
    longest.min(Duration::from_secs(30)).mul_f64(share)
}

/// Time since 1970.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        for (tries, least, most) in [
            (0, 50, 100),
            (1, 100, 200),
            (5, 1_600, 3_200),
            (30, 15_000, 30_000),
        ] {
            for _ in 0..20 {
                let pause = pause(tries);
                assert!(
                    pause >= Duration::from_millis(least) && pause <= Duration::from_millis(most),
                    "{pause:?}"
                );
            }
        }
    }
}
