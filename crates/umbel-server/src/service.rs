//! What clients may ask, and what each is told. Nothing here changes the run: what does goes to the driver.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info};
use umbel_protocol::{ClientFault, ClientId};
use umbel_secagg::{client_number, sender_of};
use umbel_wire::aggregation::{self, Place};
use umbel_wire::limits::PART_LIMIT;
use umbel_wire::proto::federation_server::Federation;
use umbel_wire::proto::{
    CheckInRequest, CheckInResponse, DeliverPart, DeliverResponse, DownloadPart, DownloadRequest, FetchPart,
    FetchRequest, LedgerRequest, LedgerResponse, Over, RefuseRequest, RefuseResponse, TermsRequest,
    TermsResponse, UploadPart, UploadResponse, Wait, check_in_response,
};
use umbel_wire::{encode_moment, tls, transfer, transport};

use crate::listener::TlsState;
use crate::metrics::add;
use crate::view::{AttemptStep, Command, OpenStage, Shared, Stage};

/// The longest that a call is held open for a client that waits.
const MAX_HOLD: Duration = Duration::from_secs(30);

/// The least and the most that a client is told to stay away.
const WAIT_MILLIS: std::ops::RangeInclusive<u64> = 50..=60_000;

/// The most bytes of a client's reason for refusing that are kept.
const MAX_REASON_BYTES: usize = 1000;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: Sender<Command>,
    pub(crate) tls: watch::Receiver<Arc<TlsState>>,
    pub(crate) allow: Arc<Vec<String>>,
    pub(crate) uploads: Arc<Semaphore>,
}

impl Service {
    /// Who calls, by the certificate of the connection. It is judged anew at each call, so that one that was revoked or has expired
    /// since the handshake is found out.
    fn certified<T>(&self, request: &Request<T>) -> Result<String, Status> {
        let chain = transport::peer_certificates(request)
            .ok_or_else(|| Status::unauthenticated("the connection shows no certificate"))?;
        let (certificate, between) = chain
            .split_first()
            .ok_or_else(|| Status::unauthenticated("the connection shows no certificate"))?;
        let verifier = Arc::clone(&self.tls.borrow().verifier);
        verifier
            .verify_client_cert(certificate, between, UnixTime::now())
            .map_err(|error| Status::unauthenticated(transport::explain_certificate(&error)))?;
        let name = tls::client_name(certificate).ok_or_else(|| {
            let expected =
                "a name in the certificate: `umbel://client/NAME`, or that of a host, of at most 200 bytes";
            Status::unauthenticated(format!("expected {expected}"))
        })?;
        if !self.allow.is_empty() && !self.allow.contains(&name) {
            return Err(Status::permission_denied(format!(
                "`{name}` is not among the clients that this server allows"
            )));
        }
        Ok(name)
    }

    /// The client that calls. Whoever calls for the first time gets a number.
    async fn caller<T>(&self, request: &Request<T>) -> Result<(String, ClientId), Status> {
        let name = self.certified(request)?;
        let client = match self.shared.client(&name) {
            Some(client) => client,
            None => self.enrol(&name).await?,
        };
        self.shared.saw(&name);
        Ok((name, client))
    }

    async fn enrol(&self, name: &str) -> Result<ClientId, Status> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Enrol {
            name: name.to_owned(),
            reply,
        })?;
        answer.await.map_err(|_| shutting_down())?.ok_or_else(|| {
            let population = self.shared.facts.population;
            Status::resource_exhausted(format!("all {population} places that the run declares are taken"))
        })
    }

    fn tell(&self, command: Command) -> Result<(), Status> {
        self.commands.send(command).map_err(|_| shutting_down())
    }

    /// The open round, if it is the one that is asked for and this client was invited to it.
    fn open_round(&self, round: u64, client: ClientId) -> Result<Arc<OpenStage>, Status> {
        let Stage::Open(open) = &self.shared.current().stage else {
            return Err(Status::failed_precondition("no round is open"));
        };
        if open.round.0 != round {
            let open = open.round;
            return Err(Status::failed_precondition(format!(
                "round {round} is asked for, but {open} is open"
            )));
        }
        if open.has_reported(client) {
            return Err(Status::already_exists(format!(
                "the report of {} is counted already",
                open.round
            )));
        }
        if !open.waits_for(client) {
            return Err(Status::permission_denied(format!(
                "not invited to {}",
                open.round
            )));
        }
        Ok(Arc::clone(open))
    }

    /// What a client is told that asks whether there is something to do, if it is anything but to wait.
    fn work_for(&self, client: ClientId) -> Option<check_in_response::Answer> {
        match &self.shared.current().stage {
            Stage::Open(open) if open.waits_for(client) => Some(check_in_response::Answer::Invitation(
                open.invitation.message().clone(),
            )),
            Stage::Over(_) => Some(check_in_response::Answer::Over(Over {})),
            _ => None,
        }
    }

    /// How long there will be nothing to do, as far as is known.
    fn wait(&self) -> Wait {
        let wake = match &self.shared.current().stage {
            Stage::Open(open) => open.deadline,
            Stage::Waiting { until } => *until,
            Stage::Over(_) => self.shared.clock.now(),
        };
        let left = wake
            .since_start()
            .saturating_sub(self.shared.clock.now().since_start());
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        Wait {
            retry_after_millis: millis.clamp(*WAIT_MILLIS.start(), *WAIT_MILLIS.end()),
        }
    }

    async fn check_in_of(&self, request: Request<CheckInRequest>) -> Result<CheckInResponse, Status> {
        let (_, client) = self.caller(&request).await?;
        let hold = Duration::from_millis(request.get_ref().hold_millis).min(MAX_HOLD);
        let until = tokio::time::Instant::now() + hold;
        let mut changes = self.shared.view.subscribe();
        let answer = loop {
            if changes.borrow_and_update().closing {
                return Err(shutting_down());
            }
            if let Some(answer) = self.work_for(client) {
                break answer;
            }
            match tokio::time::timeout_at(until, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(shutting_down()),
                Err(_) => break check_in_response::Answer::Wait(self.wait()),
            }
        };
        Ok(CheckInResponse {
            now: Some(encode_moment(self.shared.clock.now())),
            answer: Some(answer),
            ledger_line: self.shared.current().ledger_line.clone(),
        })
    }

    async fn upload_of(&self, request: Request<Streaming<UploadPart>>) -> Result<UploadResponse, Status> {
        let (name, client) = self.caller(&request).await?;
        let permit = tokio::time::timeout(PART_LIMIT, self.uploads.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return Err(Status::resource_exhausted(
                "too many uploads at a time; try again",
            ));
        };
        let parts = request.into_inner();
        let message = transfer::receive_report(parts, |round| {
            let open = self.open_round(round.0, client)?;
            match open.attempt {
                None => Ok(open.expected),
                // A report by itself is what secure aggregation hides.
                Some(_) => Err(Status::failed_precondition(
                    "no reports are taken: this run's updates are summed by secure aggregation",
                )),
            }
        })
        .await?;
        let umbel_protocol::ClientMessage::Report { round, update } = &message else {
            return Err(Status::invalid_argument("expected a report"));
        };
        let (round, bytes) = (round.0, 4 * update.values().len() as u64);
        add(&self.shared.counters.bytes_received, bytes);
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Report {
            client,
            message,
            reply,
        })?;
        answer
            .await
            .map_err(|_| shutting_down())?
            .map_err(|fault| status_of(&fault))?;
        debug!(client = name, round, "report counted");
        Ok(UploadResponse { round })
    }

    /// The open attempt, if it is the one that is asked for and this client was invited to it.
    fn open_attempt(&self, place: Place, client: ClientId) -> Result<Arc<OpenStage>, Status> {
        let over = || Status::failed_precondition("this attempt is over");
        let Stage::Open(open) = &self.shared.current().stage else {
            return Err(over());
        };
        let attempt = open.attempt.as_ref().ok_or_else(over)?;
        if (open.round.0, attempt.terms.attempt) != (place.round, place.attempt) {
            return Err(over());
        }
        if !open.is_invited(client) {
            let round = open.round;
            return Err(Status::permission_denied(format!("not invited to {round}")));
        }
        Ok(Arc::clone(open))
    }

    /// Takes a client's message of secure aggregation in.
    async fn deliver_of(&self, request: Request<Streaming<DeliverPart>>) -> Result<DeliverResponse, Status> {
        let (name, client) = self.caller(&request).await?;
        let permit = tokio::time::timeout(PART_LIMIT, self.uploads.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return Err(Status::resource_exhausted(
                "too many uploads at a time; try again",
            ));
        };
        let expect = |place: Place| {
            let open = self.open_attempt(place, client)?;
            let most = open
                .attempt
                .as_ref()
                .map(|attempt| attempt.terms.most_bytes(place.kind));
            most.ok_or_else(|| Status::failed_precondition("this attempt is over"))
        };
        let (place, message) = aggregation::receive_delivered(request.into_inner(), expect).await?;
        add(&self.shared.counters.bytes_received, message.len() as u64);
        let number = client_number(&name);
        let is_kind = message.first() == Some(&place.kind.code());
        if !is_kind || sender_of(&message) != Some(number) {
            return Err(Status::permission_denied(format!(
                "the message is not `{name}`'s, or not of the kind that was announced"
            )));
        }
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Deliver {
            client,
            place,
            number,
            message,
            reply,
        })?;
        answer.await.map_err(|_| shutting_down())??;
        debug!(client = name, round = place.round, kind = ?place.kind, "message taken");
        Ok(DeliverResponse {})
    }

    /// The server's message of an attempt, or why there is none: `None` if it may still come.
    async fn message_of(
        &self,
        request: Request<FetchRequest>,
    ) -> Result<Result<(Place, bytes::Bytes), Option<String>>, Status> {
        let (name, client) = self.caller(&request).await?;
        let FetchRequest {
            round,
            attempt,
            kind,
            hold_millis,
        } = *request.get_ref();
        let place = Place::decode(round, attempt, kind, false)?;
        let until = tokio::time::Instant::now() + Duration::from_millis(hold_millis).min(MAX_HOLD);
        let over = |reason: &str| Ok(Err(Some(reason.to_owned())));
        let open = match self.open_attempt(place, client) {
            Ok(open) => open,
            Err(status) if status.code() == tonic::Code::FailedPrecondition => return over(status.message()),
            Err(status) => return Err(status),
        };
        let Some(view) = &open.attempt else {
            return over("this attempt is over");
        };
        let (mut steps, mut changes) = (view.step.subscribe(), self.shared.view.subscribe());
        loop {
            if changes.borrow_and_update().closing {
                return Err(shutting_down());
            }
            let step = *steps.borrow_and_update();
            match step.cmp(&AttemptStep::of(place.kind)) {
                std::cmp::Ordering::Equal => break,
                std::cmp::Ordering::Greater if step == AttemptStep::Over => {
                    return over("this attempt is over");
                }
                std::cmp::Ordering::Greater => return over("this attempt went on without the client"),
                std::cmp::Ordering::Less => {}
            }
            tokio::select! {
                changed = steps.changed() => changed.map_err(|_| shutting_down())?,
                changed = changes.changed() => changed.map_err(|_| shutting_down())?,
                () = tokio::time::sleep_until(until) => return Ok(Err(None)),
            }
        }
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Fetch {
            place,
            number: client_number(&name),
            reply,
        })?;
        match answer.await.map_err(|_| shutting_down())? {
            Some(message) => {
                add(&self.shared.counters.bytes_sent, message.len() as u64);
                Ok(Ok((place, message)))
            }
            None => over("the client has no part in this step of the attempt"),
        }
    }

    /// Logs and counts what was refused.
    fn noted<T>(&self, what: &'static str, result: Result<T, Status>) -> Result<Response<T>, Status> {
        result.map(Response::new).inspect_err(|status| {
            add(&self.shared.counters.calls_refused, 1);
            info!(call = what, code = ?status.code(), "refused: {}", status.message());
        })
    }
}

#[tonic::async_trait]
impl Federation for Service {
    type DownloadStream = Pin<Box<dyn Stream<Item = Result<DownloadPart, Status>> + Send>>;
    type FetchStream = Pin<Box<dyn Stream<Item = Result<FetchPart, Status>> + Send>>;

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let parts = self.message_of(request).await.map(|answer| match answer {
            Ok((place, message)) => {
                Box::pin(aggregation::fetch_parts(place, message).map(Ok)) as Self::FetchStream
            }
            Err(over) => Box::pin(tokio_stream::once(Ok(aggregation::no_message(over)))),
        });
        self.noted("fetch", parts)
    }

    async fn deliver(
        &self,
        request: Request<Streaming<DeliverPart>>,
    ) -> Result<Response<DeliverResponse>, Status> {
        let answer = self.deliver_of(request).await;
        self.noted("deliver", answer)
    }

    async fn terms(&self, request: Request<TermsRequest>) -> Result<Response<TermsResponse>, Status> {
        let facts = &self.shared.facts;
        let terms = self.caller(&request).await.map(|_| TermsResponse {
            ledger_header: self.shared.current().ledger_header.clone(),
            experiment: facts.experiment.clone(),
            round_millis: facts.round_millis,
        });
        self.noted("terms", terms)
    }

    async fn check_in(&self, request: Request<CheckInRequest>) -> Result<Response<CheckInResponse>, Status> {
        let answer = self.check_in_of(request).await;
        self.noted("check-in", answer)
    }

    async fn download(
        &self,
        request: Request<DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let parts = async {
            let (_, client) = self.caller(&request).await?;
            let DownloadRequest { round, offset } = *request.get_ref();
            let open = self.open_round(round, client)?;
            let parts = transfer::model_parts(&open.invitation, offset)?;
            add(
                &self.shared.counters.bytes_sent,
                open.invitation.blob().size_bytes() - offset,
            );
            Ok(Box::pin(parts.map(Ok)) as Self::DownloadStream)
        };
        let parts = parts.await;
        self.noted("download", parts)
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadPart>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let answer = self.upload_of(request).await;
        self.noted("upload", answer)
    }

    async fn ledger(&self, request: Request<LedgerRequest>) -> Result<Response<LedgerResponse>, Status> {
        let answer = async {
            // Whoever only watches takes no client's place.
            self.certified(&request)?;
            let page = self.shared.feed.page(request.get_ref().from).await;
            let page = page.map_err(|error| Status::unavailable(error.to_string()))?;
            Ok(LedgerResponse {
                records: page.records,
                lines: page.lines.into(),
            })
        };
        let answer = answer.await;
        self.noted("ledger", answer)
    }

    async fn refuse(&self, request: Request<RefuseRequest>) -> Result<Response<RefuseResponse>, Status> {
        let answer = async {
            let (client, _) = self.caller(&request).await?;
            let RefuseRequest { round, reason } = request.into_inner();
            let reason = printable(&reason);
            info!(client, round, reason, "a client's own policy refuses");
            add(&self.shared.counters.policy_refusals, 1);
            self.tell(Command::Refusal {
                client,
                round: round.min(self.shared.facts.planned_rounds),
                reason,
            })?;
            Ok(RefuseResponse {})
        };
        let answer = answer.await;
        self.noted("refuse", answer)
    }
}

/// Text of a peer as it may stand in a log and on a page: cut off, and without control characters.
fn printable(text: &str) -> String {
    let mut end = text.len().min(MAX_REASON_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let shown = |character: char| if character.is_control() { ' ' } else { character };
    text[..end].chars().map(shown).collect()
}

fn status_of(fault: &ClientFault) -> Status {
    let text = fault.to_string();
    match fault {
        ClientFault::AlreadyReported { .. } => Status::already_exists(text),
        ClientFault::NotInvited { .. } => Status::permission_denied(text),
        ClientFault::OtherRound { .. } => Status::failed_precondition(text),
        _ => Status::invalid_argument(text),
    }
}

fn shutting_down() -> Status {
    Status::unavailable("shutting down")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_text_is_short_and_has_no_control_characters() {
        assert_eq!(printable("a\u{1b}[31m\nb"), "a [31m b");
        let long = printable(&"ä".repeat(900));
        assert!(long.len() <= MAX_REASON_BYTES && long.chars().all(|character| character == 'ä'));
    }
}
