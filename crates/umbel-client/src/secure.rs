//! One attempt of secure aggregation: the messages of `umbel-secagg` over the wire.
//!
//! Before anything is agreed the client computes the round's terms by itself, from what the server has signed and the model that it
//! was given, and refuses any others. Its keys are advertised once the attempt stands on its own record, its input leaves once it has
//! charged itself. Secrets are in memory only: whoever stops has dropped out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tonic::{Code, Status};
use tracing::{debug, error, info, warn};
use umbel_accounting::ledger;
use umbel_experiment::SettingError;
use umbel_mechanisms::Mechanism;
use umbel_protocol::{ClientMessage, ClientRound, Invitation, RunPlan, SecureAggregation};
use umbel_secagg::{Client, Entropy, Expected, Mark, MessageKind, Policy, RoundConfig, federation_of};
use umbel_sim::{ClientTask, ServedRound, served_round_config};
use umbel_wire::aggregation::{self, FetchError, Fetched, Place};
use umbel_wire::identity::{ClientIdentity, read_authority, read_identity};
use umbel_wire::proto::{self, FetchRequest};

use crate::round::{Played, Player, TRANSFER_TRIES, explain, may_pass, missed, now, pause};
use crate::settings::IdentityFiles;
use crate::{ClientError, ClientSources, History, Refusal, Terms};

/// How long a server is asked to hold a call for a message that is not there yet.
const HOLD: Duration = Duration::from_secs(5);

/// What a client brings to secure aggregation.
pub(crate) struct SecureSide {
    plan: RunPlan,
    secure: SecureAggregation,
    me: ClientIdentity,
    authority: [u8; 32],
    /// The key that signs the run's ledger, and what the server says.
    run: [u8; 32],
}

impl fmt::Debug for SecureSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecureSide")
            .field("name", &self.me.name)
            .finish_non_exhaustive()
    }
}

/// How an attempt ended before its time.
enum Left {
    /// The server says so.
    Over(String),
    /// The connection, or what came over it.
    Failed(&'static str, Status),
    /// The protocol's own judgement.
    Refused(umbel_secagg::Refusal),
    /// Something of this client.
    Own(ClientError),
}

impl From<ClientError> for Left {
    fn from(error: ClientError) -> Self {
        Self::Own(error)
    }
}

impl SecureSide {
    /// Reads the identity of the client that has this task.
    pub(crate) fn new(
        terms: &Terms,
        files: Option<&IdentityFiles>,
        task: &ClientTask,
    ) -> Result<Self, ClientError> {
        let files = files.ok_or_else(|| SettingError::Missing {
            key: "secure_aggregation.identity".to_owned(),
            expected: "this client's identity, since the run uses secure aggregation".to_owned(),
        })?;
        let authority = read_authority(&files.authority)?;
        let me = read_identity(&files.identity, &authority)?;
        let plan = task.plan().cloned();
        let secure = plan.as_ref().and_then(|plan| plan.settings().secure_aggregation);
        let (Some(plan), Some(secure)) = (plan, secure) else {
            return Err(ClientError::System(
                "a run with secure aggregation has a plan for it".to_owned(),
            ));
        };
        let run = ledger::from_hex(&terms.header.public_key)
            .ok_or_else(|| ClientError::Protocol("signs with a key that is none".to_owned()))?;
        Ok(Self {
            secure,
            me,
            authority,
            run,
            plan,
        })
    }

    /// The terms of an attempt on this model, as they must be.
    fn terms(&self, invitation: &Invitation, attempt: u32, duration: Duration) -> RoundConfig {
        let indicator = usize::from(invitation.clip_indicator.is_some());
        let served = ServedRound {
            federation: federation_of(&self.authority),
            run: self.run,
            round: invitation.round,
            attempt,
            model: &invitation.model,
            dimension: invitation.model.len() + indicator,
            duration,
        };
        served_round_config(self.plan.settings(), &self.secure, &served)
    }

    /// Reads and judges an offer.
    fn accept(&self, offer: &[u8], invitation: &Invitation, last: Option<Mark>) -> Result<Client, Left> {
        let own = self.terms(invitation, 0, Duration::ZERO);
        let policy = Policy {
            federation: own.federation,
            authority: self.authority,
            server: self.run,
            clients_min: own.clients_min,
            survivors_min: own.survivors_min,
            colluding: own.colluding,
            colluding_permille: own.colluding_permille,
            noise_target_variance: own.noise_target_variance,
        };
        let expected = Expected {
            model: own.model,
            mechanism: own.mechanism,
        };
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| ClientError::System(error.to_string()))?;
        let entropy = Entropy::new(secret);
        let (certificate, identity) = (self.me.certificate, self.me.identity.clone());
        let client = Client::new(offer, policy, expected, last, certificate, identity, entropy)
            .map_err(Left::Refused)?;
        let (attempt, duration) = (client.config().attempt, client.config().duration_ms);
        if *client.config() != self.terms(invitation, attempt, Duration::from_millis(duration)) {
            let reason = "the terms of the round are not those that follow from what the server has signed";
            return Err(ClientError::Refusal(Refusal(reason.to_owned())).into());
        }
        Ok(client)
    }

    /// The integers that this client contributes: its update clipped and rounded, with its own noise where clients add it.
    fn contribution(
        &self,
        task: &ClientTask,
        invitation: Invitation,
        sources: &ClientSources,
    ) -> Result<Vec<i64>, ClientError> {
        let mut draws = sources.draws(invitation.round.0)?;
        if let Mechanism::Distributed(mechanism) = &self.plan.settings().mechanism {
            let update = task.raw_update(&invitation.model, &mut draws)?;
            let (round, client) = (invitation.round.0, sources.client());
            let made = mechanism.contribution(&update, round, client, &sources.rounding, &sources.noise);
            let (integers, _) = made.map_err(|error| ClientError::System(error.to_string()))?;
            return Ok(integers);
        }
        let ClientMessage::Report { update, .. } = task.answer(ClientRound::new(invitation), draws)? else {
            return Err(ClientError::System("a client answers with a report".to_owned()));
        };
        Ok(update.values().iter().copied().map(i64::from).collect())
    }
}

impl Player {
    /// Takes part in the attempt that `invitation` offers.
    pub(crate) async fn play_secure(
        &mut self,
        invitation: &proto::Invitation,
        secure: &Arc<SecureSide>,
        history: &mut History,
    ) -> Result<Played, ClientError> {
        let began = Instant::now();
        let incoming = self.accept(invitation)?;
        let round = incoming.round().0;
        let inputs = history.participations(&self.terms);
        if inputs >= self.most_participations() {
            info!(
                round,
                inputs, "sits this round out: its inputs of this run are used up"
            );
            return Ok(Played::Missed);
        }
        self.policy.check_round(inputs)?;
        let offer = invitation.offer.clone().unwrap_or_default();
        let fetched = match self.fetch(incoming).await {
            Ok(fetched) => fetched,
            Err(status) => return missed(round, "download", &status),
        };
        let left = match self.attempt(&offer, fetched, secure, history, began).await {
            Ok(()) => return Ok(Played::Counted),
            Err(left) => left,
        };
        match left {
            Left::Over(reason) => info!(round, "left the attempt: {reason}"),
            Left::Failed(what, status) => return missed(round, what, &status),
            Left::Own(error) => return Err(error),
            Left::Refused(umbel_secagg::Refusal::Replayed { attempt, .. }) => {
                info!(
                    round,
                    attempt, "sits this attempt out: it has begun it, or a later one, before"
                );
            }
            // What dropouts by chance explain.
            Left::Refused(
                refusal @ (umbel_secagg::Refusal::TooFew { .. } | umbel_secagg::Refusal::TooLate),
            ) => warn!(round, "left the attempt: {refusal}"),
            Left::Refused(refusal) => {
                // An honest server has checked this before it sends anything.
                error!(round, "the server's message does not hold: {refusal}");
                return Err(Refusal(refusal.to_string()).into());
            }
        }
        Ok(Played::Missed)
    }

    async fn attempt(
        &mut self,
        offer: &[u8],
        invitation: Invitation,
        secure: &Arc<SecureSide>,
        history: &mut History,
        began: Instant,
    ) -> Result<(), Left> {
        let client = secure.accept(offer, &invitation, history.mark(&self.terms))?;
        let (mark, terms) = (client.mark(), client.config().clone());
        let place = |kind| Place {
            round: mark.round,
            attempt: mark.attempt,
            kind,
        };
        history
            .begin_attempt(&self.terms, mark)
            .map_err(ClientError::from)?;
        let (client, advertisement) = off_thread(client, Client::handle_mark_stored).await?;
        self.deliver(place(MessageKind::Advertisement), advertisement, "advertisement")
            .await?;
        let training = {
            let (task, side) = (Arc::clone(&self.task), Arc::clone(secure));
            let sources = Arc::clone(&self.sources);
            tokio::task::spawn_blocking(move || side.contribution(&task, invitation, &sources))
        };

        let roster = self.message(place(MessageKind::Roster), &terms, began).await?;
        let (client, shares) = off_thread(client, move |client| client.handle_roster(&roster)).await?;
        self.deliver(place(MessageKind::Shares), shares, "shares").await?;

        let request = self
            .message(place(MessageKind::MaskRequest), &terms, began)
            .await?;
        let (client, ()) = off_thread(client, move |client| client.handle_mask_request(&request)).await?;
        if !client.bad_dealers().is_empty() {
            warn!(round = mark.round, clients = ?client.bad_dealers(), "sent this client shares that do not open");
        }
        let integers = training
            .await
            .map_err(|error| ClientError::System(error.to_string()))??;
        // From here on the input counts, whatever becomes of it.
        history
            .charge_input(&self.terms, mark, now())
            .map_err(ClientError::from)?;
        let (client, input) =
            off_thread(client, move |client| client.handle_charge_stored(&integers)).await?;
        self.deliver(place(MessageKind::MaskedInput), input, "masked input")
            .await?;

        let survivors = self.message(place(MessageKind::Survivors), &terms, began).await?;
        let (client, confirmation) =
            off_thread(client, move |client| client.handle_survivors(&survivors)).await?;
        self.deliver(place(MessageKind::Confirmation), confirmation, "confirmation")
            .await?;

        let request = self
            .message(place(MessageKind::UnmaskRequest), &terms, began)
            .await?;
        let elapsed = began.elapsed();
        let (client, opened) = off_thread(client, move |client| {
            client.handle_unmask_request(&request, elapsed)
        })
        .await?;
        if let Some(receipt) = client.receipt() {
            history
                .keep_charge(&self.terms, mark, receipt)
                .map_err(ClientError::from)?;
        }
        self.deliver(place(MessageKind::OpenedShares), opened, "opened shares")
            .await?;
        debug!(round = mark.round, "took part in a sum");
        Ok(())
    }

    /// The server's message, waited for until the round's time is over.
    async fn message(&mut self, place: Place, terms: &RoundConfig, began: Instant) -> Result<Vec<u8>, Left> {
        let most_bytes = terms.most_bytes(place.kind);
        let request = FetchRequest {
            round: place.round,
            attempt: place.attempt,
            kind: place.kind.code().into(),
            hold_millis: u64::try_from(HOLD.as_millis()).unwrap_or(u64::MAX),
        };
        let mut tries = 0;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Left::Over("told to stop".to_owned()));
            }
            if began.elapsed() > Duration::from_millis(terms.duration_ms) {
                return Err(Left::Refused(umbel_secagg::Refusal::TooLate));
            }
            let result = match self.client.fetch(request).await {
                Ok(response) => aggregation::receive_fetched(response.into_inner(), place, most_bytes).await,
                Err(status) => Err(status.into()),
            };
            match result {
                Ok(Fetched::Message(message)) => return Ok(message),
                Ok(Fetched::NotYet) => {
                    tries = 0;
                    continue;
                }
                Ok(Fetched::Over(reason)) => return Err(Left::Over(reason)),
                Err(FetchError::Unacceptable(error)) => {
                    // No honest server announces what cannot be its message.
                    error!(round = place.round, "the server's message does not hold: {error}");
                    let reason = format!("message {} of the attempt: {error}", place.kind.code());
                    return Err(ClientError::Refusal(Refusal(reason)).into());
                }
                Err(FetchError::Broken(status)) if may_pass(&status) && tries < TRANSFER_TRIES => {
                    debug!("a message did not arrive: {}; trying again", explain(&status));
                    tries += 1;
                }
                Err(FetchError::Broken(status)) => return Err(Left::Failed("fetching a message", status)),
            }
            tokio::time::sleep(pause(tries)).await;
        }
    }

    /// Sends a message; after a broken connection the very same bytes again. That it is there already is as good.
    async fn deliver(&mut self, place: Place, message: Vec<u8>, what: &'static str) -> Result<(), Left> {
        let message = Bytes::from(message);
        let mut tries = 0;
        loop {
            match self
                .client
                .deliver(aggregation::deliver_parts(place, message.clone()))
                .await
            {
                Ok(_) => return Ok(()),
                Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
                Err(status) if may_pass(&status) && tries < TRANSFER_TRIES => tries += 1,
                Err(status) => return Err(Left::Failed(what, status)),
            }
            tokio::time::sleep(pause(tries)).await;
        }
    }
}

/// A step of the protocol, which may verify thousands of signatures or expand masks as long as the model.
async fn off_thread<T: Send + 'static>(
    mut client: Client,
    step: impl FnOnce(&mut Client) -> Result<T, umbel_secagg::Refusal> + Send + 'static,
) -> Result<(Client, T), Left> {
    let done = tokio::task::spawn_blocking(move || {
        let result = step(&mut client);
        (client, result)
    });
    let (client, result) = done
        .await
        .map_err(|error| ClientError::System(error.to_string()))?;
    result.map(|message| (client, message)).map_err(Left::Refused)
}
