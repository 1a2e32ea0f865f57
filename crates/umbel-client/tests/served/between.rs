//! Somebody between one client and the server, with the server's own certificate: to the client it is a server that lies.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use umbel_secagg::MessageKind;
use umbel_wire::aggregation::{
    Fetched, Place, deliver_parts, fetch_parts, receive_delivered, receive_fetched,
};
use umbel_wire::proto::federation_client::FederationClient;
use umbel_wire::proto::federation_server::{Federation, FederationServer};
use umbel_wire::proto::{
    BlobHeader, CheckInRequest, CheckInResponse, Chunk, DeliverPart, DeliverResponse, DownloadPart,
    DownloadRequest, FetchPart, FetchRequest, Invitation, LedgerRequest, LedgerResponse, RefuseRequest,
    RefuseResponse, TermsRequest, TermsResponse, UploadPart, UploadResponse, check_in_response,
    download_part, fetch_part,
};
use umbel_wire::tls::{TlsFiles, server_config};
use umbel_wire::{limits, transport};

use crate::hostile::connect;
use crate::support::World;

/// What is done to one message of the first attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lie {
    /// Other bytes.
    Change(MessageKind, fn(&mut [u8])),
    /// Announced with this many bytes.
    Announce(MessageKind, u64),
    /// The client's message of this kind, and all that it says in the attempt afterwards, goes nowhere; it is told that it was taken.
    Swallow(MessageKind),
    /// The client's message of this kind of the first round goes nowhere, the rest passes.
    Miss(MessageKind),
    /// Zeros in place of the model.
    Model,
    /// The same invitation for ever.
    Replay,
}

/// What the client has sent, by round, attempt and kind.
pub(crate) type Sent = Arc<Mutex<BTreeMap<(u64, u32, u8), usize>>>;

#[derive(Debug)]
struct Between {
    upstream: FederationClient<Channel>,
    lie: Lie,
    sent: Sent,
    first: Mutex<Option<Invitation>>,
    model_bytes: Mutex<usize>,
}

/// Stands between `client` and the world's server. Gives the address to connect to, and what will have been sent.
pub(crate) async fn stand_between(world: &World, client: &str, lie: Lie) -> (String, Sent) {
    let file = |name: &str| world.root.join("certs").join(name);
    let files = TlsFiles {
        certificate: file("server.pem"),
        key: file("server-key.pem"),
        authority: file("authority.pem"),
        revoked: None,
    };
    let config = server_config(&files).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("localhost:{}", listener.local_addr().unwrap().port());
    let (accepted, connections) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(stream) = transport::handshake(tcp, Arc::clone(&config)).await {
                let _ = accepted.send(Ok::<_, Infallible>(stream)).await;
            }
        }
    });
    let sent = Sent::default();
    let between = Between {
        upstream: connect(world, client).await.unwrap(),
        lie,
        sent: Arc::clone(&sent),
        first: Mutex::new(None),
        model_bytes: Mutex::new(0),
    };
    let service = FederationServer::new(between)
        .max_decoding_message_size(limits::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(limits::MAX_MESSAGE_BYTES);
    tokio::spawn(transport::server_builder().serve_with_incoming(service, ReceiverStream::new(connections)));
    (address, sent)
}

impl Between {
    fn zeros(&self) -> Vec<u8> {
        vec![0; *self.model_bytes.lock().unwrap()]
    }

    /// Whether a client's message goes on to the server.
    fn passes(&self, place: Place) -> bool {
        match self.lie {
            Lie::Swallow(kind) => place.attempt > 0 || place.kind.code() < kind.code(),
            Lie::Miss(kind) => (place.round, place.attempt) != (1, 0) || place.kind != kind,
            _ => true,
        }
    }
}

fn header_of(bytes: &[u8]) -> BlobHeader {
    BlobHeader {
        size_bytes: bytes.len() as u64,
        sha256: Sha256::digest(bytes).to_vec().into(),
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Federation for Between {
    type DownloadStream = Answers<DownloadPart>;
    type FetchStream = Answers<FetchPart>;

    async fn check_in(&self, request: Request<CheckInRequest>) -> Result<Response<CheckInResponse>, Status> {
        let mut answer = self
            .upstream
            .clone()
            .check_in(request.into_inner())
            .await?
            .into_inner();
        if let Lie::Replay = self.lie {
            let first = self.first.lock().unwrap().clone();
            if let (Some(first), Some(check_in_response::Answer::Wait(_))) = (first, &answer.answer) {
                answer.answer = Some(check_in_response::Answer::Invitation(first));
            }
        }
        if let Some(check_in_response::Answer::Invitation(invitation)) = &mut answer.answer {
            match (self.lie, &mut invitation.offer, &mut invitation.model) {
                (Lie::Change(MessageKind::Offer, change), Some(offer), _) => {
                    let mut bytes = offer.to_vec();
                    change(&mut bytes);
                    *offer = bytes.into();
                }
                (Lie::Model, _, Some(model)) => {
                    let size = model.blob.as_ref().map_or(0, |blob| blob.size_bytes);
                    *self.model_bytes.lock().unwrap() = usize::try_from(size).unwrap();
                    model.blob = Some(header_of(&self.zeros()));
                }
                _ => {}
            }
            self.first
                .lock()
                .unwrap()
                .get_or_insert_with(|| invitation.clone());
        }
        Ok(Response::new(answer))
    }

    async fn download(
        &self,
        request: Request<DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        if let Lie::Model = self.lie {
            let header = download_part::Part::Header(header_of(&self.zeros()));
            let chunk = download_part::Part::Chunk(Chunk {
                offset: 0,
                data: self.zeros().into(),
            });
            let parts = [header, chunk].map(|part| Ok(DownloadPart { part: Some(part) }));
            return Ok(Response::new(Box::pin(tokio_stream::iter(parts))));
        }
        let answer = self.upstream.clone().download(request.into_inner()).await?;
        Ok(Response::new(Box::pin(answer.into_inner())))
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let FetchRequest {
            round, attempt, kind, ..
        } = *request.get_ref();
        let place = Place {
            round,
            attempt,
            kind: MessageKind::from_code(kind).unwrap(),
        };
        let answer = self
            .upstream
            .clone()
            .fetch(request.into_inner())
            .await?
            .into_inner();
        let is_lied_about = attempt == 0;
        match self.lie {
            Lie::Change(kind, change) if kind == place.kind && is_lied_about => {
                let fetched = receive_fetched(answer, place, u64::MAX).await;
                let Ok(Fetched::Message(mut message)) = fetched else {
                    let part = umbel_wire::aggregation::no_message(match fetched {
                        Ok(Fetched::Over(reason)) => Some(reason),
                        _ => None,
                    });
                    return Ok(Response::new(Box::pin(tokio_stream::once(Ok(part)))));
                };
                change(&mut message);
                Ok(Response::new(Box::pin(
                    fetch_parts(place, message.into()).map(Ok),
                )))
            }
            Lie::Announce(kind, size) if kind == place.kind && is_lied_about => {
                let parts = answer.map(move |part| {
                    part.map(|mut part| {
                        if let Some(fetch_part::Part::Header(header)) = &mut part.part {
                            header.blob.as_mut().unwrap().size_bytes = size;
                        }
                        part
                    })
                });
                Ok(Response::new(Box::pin(parts)))
            }
            _ => Ok(Response::new(Box::pin(answer))),
        }
    }

    async fn deliver(
        &self,
        request: Request<Streaming<DeliverPart>>,
    ) -> Result<Response<DeliverResponse>, Status> {
        let (place, message) = receive_delivered(request.into_inner(), |_| Ok(u64::MAX)).await?;
        let key = (place.round, place.attempt, place.kind.code());
        *self.sent.lock().unwrap().entry(key).or_default() += 1;
        if !self.passes(place) {
            return Ok(Response::new(DeliverResponse {}));
        }
        self.upstream
            .clone()
            .deliver(deliver_parts(place, message.into()))
            .await
    }

    async fn terms(&self, request: Request<TermsRequest>) -> Result<Response<TermsResponse>, Status> {
        self.upstream.clone().terms(request.into_inner()).await
    }

    async fn ledger(&self, request: Request<LedgerRequest>) -> Result<Response<LedgerResponse>, Status> {
        self.upstream.clone().ledger(request.into_inner()).await
    }

    async fn refuse(&self, request: Request<RefuseRequest>) -> Result<Response<RefuseResponse>, Status> {
        self.upstream.clone().refuse(request.into_inner()).await
    }

    async fn upload(&self, _: Request<Streaming<UploadPart>>) -> Result<Response<UploadResponse>, Status> {
        Err(Status::unimplemented("no reports where sums are secure"))
    }
}
