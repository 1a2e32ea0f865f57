//! A client and a server over loopback and mutual TLS: invitation, model down, update up.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};
use umbel_accounting::ClipNorm;
use umbel_mechanisms::Quantizer;
use umbel_protocol::{ClientMessage, ClientRound, Invitation, RoundId, Timestamp};
use umbel_wire::proto::federation_client::FederationClient;
use umbel_wire::proto::federation_server::Federation;
use umbel_wire::proto::{
    CheckInRequest, CheckInResponse, DeliverPart, DeliverResponse, DownloadPart, DownloadRequest, FetchPart,
    FetchRequest, LedgerRequest, LedgerResponse, RefuseRequest, RefuseResponse, TermsRequest, TermsResponse,
    UploadPart, UploadResponse, check_in_response,
};
use umbel_wire::tls::{client_config, server_config};
use umbel_wire::{
    ExpectedReport, IncomingInvitation, OutgoingInvitation, OutgoingReport, decode_moment, encode_moment,
    limits, transfer, transport,
};

use crate::support::{Authority, serve};

/// A server with one open round, that hands on the reports it gets.
struct OneRound {
    invitation: OutgoingInvitation,
    expected: ExpectedReport,
    round: RoundId,
    reports: UnboundedSender<ClientMessage>,
}

#[tonic::async_trait]
impl Federation for OneRound {
    type DownloadStream = Pin<Box<dyn Stream<Item = Result<DownloadPart, Status>> + Send>>;
    type FetchStream = Pin<Box<dyn Stream<Item = Result<FetchPart, Status>> + Send>>;

    async fn fetch(&self, _: Request<FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn deliver(&self, _: Request<Streaming<DeliverPart>>) -> Result<Response<DeliverResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn check_in(&self, _: Request<CheckInRequest>) -> Result<Response<CheckInResponse>, Status> {
        let now = Some(encode_moment(Timestamp::new(Duration::from_secs(60))));
        let answer = Some(check_in_response::Answer::Invitation(
            self.invitation.message().clone(),
        ));
        Ok(Response::new(CheckInResponse {
            now,
            answer,
            ledger_line: Default::default(),
        }))
    }

    async fn download(
        &self,
        request: Request<DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let parts = transfer::model_parts(&self.invitation, request.get_ref().offset)?;
        Ok(Response::new(Box::pin(parts.map(Ok))))
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadPart>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let expect = |round| match round {
            round if round == self.round => Ok(self.expected),
            _ => Err(Status::failed_precondition("another round is open")),
        };
        let report = transfer::receive_report(request.into_inner(), expect).await?;
        self.reports
            .send(report)
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(UploadResponse { round: self.round.0 }))
    }

    async fn terms(&self, _: Request<TermsRequest>) -> Result<Response<TermsResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn ledger(&self, _: Request<LedgerRequest>) -> Result<Response<LedgerResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn refuse(&self, _: Request<RefuseRequest>) -> Result<Response<RefuseResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

/// A model of more than three chunks, and a server that invites to it.
async fn open_round(
    authority: &Authority,
) -> (
    Invitation,
    FederationClient<Channel>,
    UnboundedReceiver<ClientMessage>,
) {
    let invitation = Invitation {
        round: RoundId(7),
        clip_norm: ClipNorm::new(1.5).expect("a norm"),
        clip_indicator: None,
        deadline: Timestamp::new(Duration::from_secs(100)),
        model: (0..250u8)
            .cycle()
            .take(250_000)
            .map(|i| f32::from(i) * 1e-3)
            .collect(),
    };
    let (reports, received) = mpsc::unbounded_channel();
    let service = OneRound {
        expected: ExpectedReport {
            clip_norm: invitation.clip_norm,
            n_parameters: invitation.model.len(),
        },
        invitation: OutgoingInvitation::new(&invitation),
        round: invitation.round,
        reports,
    };
    let server = serve(
        server_config(&authority.server()).expect("a configuration"),
        service,
    )
    .await;
    let config = client_config(&authority.client()).expect("a configuration");
    let channel = transport::connect(&server.address, config)
        .await
        .expect("a connection");
    let client = FederationClient::new(channel)
        .max_decoding_message_size(limits::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(limits::MAX_MESSAGE_BYTES);
    (invitation, client, received)
}

#[tokio::test]
async fn a_round_crosses_the_network_unchanged() {
    let authority = Authority::new("ours");
    let (sent, mut client, mut reports) = open_round(&authority).await;

    let answer = client
        .check_in(CheckInRequest { hold_millis: 0 })
        .await
        .unwrap()
        .into_inner();
    let now = decode_moment("now", answer.now.as_ref()).unwrap();
    let Some(check_in_response::Answer::Invitation(message)) = answer.answer else {
        panic!("an invitation")
    };
    let mut incoming = IncomingInvitation::decode(&message, 1 << 20).unwrap();
    assert_eq!(
        incoming.deadline().since_start() - now.since_start(),
        Duration::from_secs(40)
    );
    let request = DownloadRequest {
        round: incoming.round().0,
        offset: 0,
    };
    let parts = client.download(request).await.unwrap().into_inner();
    transfer::receive_model(&mut incoming, parts).await.unwrap();
    let invitation = transfer::finish_model(incoming).await.unwrap();
    assert_eq!(invitation.model, sent.model);

    let update: Vec<f32> = invitation
        .model
        .iter()
        .map(|parameter| parameter * -0.5)
        .collect();
    let (report, outcome) = ClientRound::new(invitation).report(&update, Vec::new());
    assert!(outcome.clipped);
    let outgoing = OutgoingReport::new(&report).unwrap();
    let response = client.upload(transfer::report_parts(outgoing)).await.unwrap();
    assert_eq!(response.into_inner().round, 7);

    let (Some(ClientMessage::Report { round, update: got }), ClientMessage::Report { update: sent, .. }) =
        (reports.recv().await, report)
    else {
        panic!("two reports")
    };
    assert_eq!((round, got), (RoundId(7), sent));
}

/// Each row: a report, and what its sender is told. None is counted, and the connection serves on.
#[tokio::test]
async fn reports_that_do_not_fit_the_round_are_refused_and_the_connection_stays() {
    let authority = Authority::new("ours");
    let (invitation, mut client, mut reports) = open_round(&authority).await;
    let report = |round, length: usize| {
        let update = Quantizer::new(invitation.clip_norm)
            .accept(vec![1; length])
            .unwrap();
        OutgoingReport::new(&ClientMessage::Report {
            round: RoundId(round),
            update,
        })
        .unwrap()
    };
    let n_parameters = invitation.model.len();
    for (refused, code, message) in [
        (
            report(6, n_parameters),
            Code::FailedPrecondition,
            "another round is open",
        ),
        (
            report(0, n_parameters),
            Code::InvalidArgument,
            "`report.round`: expected a round, counted from 1, got 0",
        ),
        (
            report(7, 1),
            Code::InvalidArgument,
            "`report.coordinates`: expected 250000, as the model has parameters, got 1",
        ),
    ] {
        let status = client.upload(transfer::report_parts(refused)).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, message));
    }
    // One chunk too few, then a message above the limit of the connection.
    let parts: Vec<_> = transfer::report_parts(report(7, n_parameters)).collect().await;
    let torn = parts[..parts.len() - 1].to_vec();
    let status = client.upload(tokio_stream::iter(torn)).await.unwrap_err();
    assert_eq!(
        status.message(),
        "`blob`: expected 1000000 bytes, got 786432 bytes"
    );
    let mut huge = parts[1].clone();
    if let Some(umbel_wire::proto::upload_part::Part::Chunk(chunk)) = &mut huge.part {
        chunk.data = vec![0; limits::MAX_MESSAGE_BYTES].into();
    }
    let mut lax = client.clone().max_encoding_message_size(usize::MAX);
    let status = lax
        .upload(tokio_stream::iter([parts[0].clone(), huge]))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");

    assert!(reports.try_recv().is_err());
    client
        .upload(transfer::report_parts(report(7, n_parameters)))
        .await
        .unwrap();
    assert!(reports.recv().await.is_some());
}
