//! From settings to the end of the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tonic::Status;
use tonic::transport::Channel;
use tracing::{info, warn};
use umbel_sim::{ClientTask, SimulateError};
use umbel_wire::limits::MAX_MESSAGE_BYTES;
use umbel_wire::proto::federation_client::FederationClient;
use umbel_wire::proto::{CheckInRequest, RefuseRequest, TermsRequest, check_in_response};
use umbel_wire::tls::client_config;
use umbel_wire::transport::{self, ConnectError};

use crate::round::{Played, Player, explain, may_pass, now, pause};
use crate::secure::SecureSide;
use crate::{ClientError, ClientSettings, ClientSources, History, Refusal, Terms};

/// How long a server is asked to hold a call while there is nothing to do. Short enough that a request to stop is soon seen.
const HOLD: Duration = Duration::from_secs(5);

/// How often a stop is looked for while waiting.
const GLANCE: Duration = Duration::from_millis(100);

/// How a client's part in a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "whoever joins must handle every end")]
pub enum Joined {
    /// The server says that the run is over.
    Over {
        /// Reports of this process that were counted.
        reports: u64,
    },
    /// The client was told to stop.
    Stopped {
        /// Reports of this process that were counted.
        reports: u64,
    },
}

/// Joins the server's run and stays until it is over, or `stop` is set. A server that cannot be reached is tried again and again; one
/// that does not accept this client, or whose terms this client's policy refuses, is not.
///
/// # Errors
///
/// Whatever another try would not help against.
pub async fn join(
    settings: ClientSettings,
    sources: ClientSources,
    stop: Arc<AtomicBool>,
) -> Result<Joined, ClientError> {
    let mut history = History::open(&settings.state)?;
    let tls = client_config(&settings.tls)?;
    let mut session = Session {
        settings,
        stop,
        reports: 0,
    };
    let Some(channel) = session.connect(tls).await? else {
        return Ok(Joined::Stopped { reports: 0 });
    };
    let mut client = FederationClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let Some(terms) = session.terms(&mut client).await? else {
        return Ok(Joined::Stopped { reports: 0 });
    };
    info!(
        run = terms.header.run,
        signer = terms.fingerprint(),
        trust = terms.header.trust,
        rounds = terms.header.rounds,
        "joined"
    );
    if let Err(refusal) = session.settings.policy.check(&terms, &history, now()) {
        return Err(session.refuse(&mut client, refusal, 0).await);
    }
    if sources.is_simulated() && !terms.header.simulated {
        return Err(ClientError::System(
            "noise from a seed is for runs only that say so".to_owned(),
        ));
    }
    let data = session.settings.data.clone();
    let (promised, experiment) = (terms.header.clone(), terms.experiment.clone());
    let task = tokio::task::spawn_blocking(move || {
        ClientTask::new(
            &promised,
            &experiment,
            &data.train,
            data.client.as_deref(),
            data.vocabulary.as_deref(),
            data.idf.as_deref(),
        )
    });
    let task = match task
        .await
        .map_err(|error| ClientError::System(error.to_string()))?
    {
        Err(error @ SimulateError::OtherPromise { .. }) => {
            let refusal = Refusal(error.to_string());
            return Err(session.refuse(&mut client, refusal, 0).await);
        }
        task => task?,
    };
    let secure = match terms.header.secure_aggregation {
        None => None,
        Some(_) => {
            let own = session.settings.identity.as_ref();
            Some(Arc::new(SecureSide::new(&terms, own, &task)?))
        }
    };
    info!(
        examples = task.examples.len(),
        parameters = task.model.n_parameters(),
        "data read"
    );
    let player = Player {
        client,
        task: Arc::new(task),
        terms,
        policy: session.settings.policy.clone(),
        sources: Arc::new(sources),
        secure,
        stop: Arc::clone(&session.stop),
    };
    session.stay(player, &mut history).await
}

struct Session {
    settings: ClientSettings,
    stop: Arc<AtomicBool>,
    reports: u64,
}

impl Session {
    /// Connects, with growing pauses; `None` if told to stop.
    async fn connect(&self, tls: Arc<rustls::ClientConfig>) -> Result<Option<Channel>, ClientError> {
        let mut tries = 0;
        loop {
            match transport::connect(&self.settings.server, Arc::clone(&tls)).await {
                Ok(channel) => return Ok(Some(channel)),
                Err(error @ ConnectError::Unreachable { .. }) => {
                    if tries == 0 {
                        warn!("{error}; trying again");
                    }
                    tries += 1;
                }
                Err(error) => return Err(error.into()),
            }
            if !self.sleep(pause(tries)).await {
                return Ok(None);
            }
        }
    }

    async fn terms(&self, client: &mut FederationClient<Channel>) -> Result<Option<Terms>, ClientError> {
        let mut tries = 0;
        loop {
            match client.terms(TermsRequest {}).await {
                Ok(response) => return Ok(Some(Terms::read(response.get_ref())?)),
                Err(status) => self.bear(&status)?,
            }
            tries += 1;
            if !self.sleep(pause(tries)).await {
                return Ok(None);
            }
        }
    }

    /// Takes part in every round that the server invites to.
    async fn stay(&mut self, mut player: Player, history: &mut History) -> Result<Joined, ClientError> {
        let mut tries = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let request = CheckInRequest {
                hold_millis: u64::try_from(HOLD.as_millis()).unwrap_or(u64::MAX),
            };
            let mut client = player.client.clone();
            let answer = tokio::select! {
                answer = client.check_in(request) => answer,
                () = self.stopped() => break,
            };
            let response = match answer {
                Ok(response) => response.into_inner(),
                Err(status) => {
                    self.bear(&status)?;
                    tries += 1;
                    self.sleep(pause(tries)).await;
                    continue;
                }
            };
            tries = 0;
            history.keep_receipt(&player.terms, &response.ledger_line)?;
            match response.answer {
                Some(check_in_response::Answer::Invitation(invitation)) => {
                    let played = match player.secure.clone() {
                        None => player.play(&invitation, history).await,
                        Some(secure) => player.play_secure(&invitation, &secure, history).await,
                    };
                    match played {
                        Ok(Played::Counted) => self.reports += 1,
                        // The server goes on inviting until the round closes.
                        Ok(Played::Missed) => drop(self.sleep(Duration::from_millis(500)).await),
                        Err(ClientError::Refusal(refusal)) => {
                            return Err(self.refuse(&mut player.client, refusal, invitation.round).await);
                        }
                        Err(error) => return Err(error),
                    }
                }
                // The call itself was held: to ask again at once is what waiting means here.
                Some(check_in_response::Answer::Wait(wait)) => {
                    self.sleep(Duration::from_millis(wait.retry_after_millis.min(20)))
                        .await;
                }
                Some(check_in_response::Answer::Over(_)) => {
                    return Ok(Joined::Over {
                        reports: self.reports,
                    });
                }
                None => {
                    return Err(ClientError::Protocol(
                        "answers a check-in with nothing".to_owned(),
                    ));
                }
            }
        }
        Ok(Joined::Stopped {
            reports: self.reports,
        })
    }

    /// Passes over what another try may help against, and gives back the rest as an error.
    fn bear(&self, status: &Status) -> Result<(), ClientError> {
        let why = explain(status);
        if may_pass(status) && !transport::is_refusal(status) {
            warn!("{}: {why}; trying again", self.settings.server);
            return Ok(());
        }
        Err(ClientError::Rejected(why))
    }

    /// Tells the server why, as far as it can be reached, and gives the refusal back as this client's error.
    async fn refuse(
        &self,
        client: &mut FederationClient<Channel>,
        refusal: Refusal,
        round: u64,
    ) -> ClientError {
        let request = RefuseRequest {
            round,
            reason: refusal.0.clone(),
        };
        if let Err(status) = client.refuse(request).await {
            warn!("the server was not told: {}", explain(&status));
        }
        refusal.into()
    }

    /// False if told to stop meanwhile.
    async fn sleep(&self, pause: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.stopped() => false,
        }
    }

    async fn stopped(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(GLANCE).await;
        }
    }
}
