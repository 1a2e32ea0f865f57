//! The ledger of a live server, page by page.
//!
//! From anywhere over mutual TLS, as clients reach it; on the server's machine over plain HTTP, where the operator's page is. Which
//! of the two says nothing about the ledger: it is signed, and whoever reads it checks it.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::Channel;
use umbel_wire::LEDGER_RECORDS_HEADER;
use umbel_wire::limits::MAX_MESSAGE_BYTES;
use umbel_wire::proto::LedgerRequest;
use umbel_wire::proto::federation_client::FederationClient;
use umbel_wire::tls::{TlsError, TlsFiles, client_config};
use umbel_wire::transport;

use crate::round::{explain, may_pass};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a ledger is read from.
#[derive(Debug)]
pub struct LedgerSource(Kind);

#[derive(Debug)]
enum Kind {
    Plain {
        host: String,
        port: u16,
    },
    Secure {
        address: String,
        tls: Box<TlsFiles>,
        channel: Option<Channel>,
    },
}

/// Some lines of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a plain record")]
pub struct LedgerPage {
    /// How many records the server says there are.
    pub records: u64,
    /// The lines from the one that was asked for on, each with its line feed.
    pub lines: Vec<u8>,
}

/// Why no page came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// An address that is none.
    #[error(
        "`{url}`: expected `http://HOST:PORT`, the operator's page, or `https://HOST:PORT`, where clients connect"
    )]
    Address {
        /// What was given.
        url: String,
    },
    /// `https` without a certificate.
    #[error(
        "`{url}`: expected a certificate, its key and the authority, since this server talks to those it knows only"
    )]
    Certificate {
        /// What was given.
        url: String,
    },
    /// The answer is none of a server of this program.
    #[error("{0}")]
    Protocol(String),
    /// The server does not let this reader in.
    #[error("the server refuses: {0}")]
    Rejected(String),
    /// Certificates that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server was not reached; it may be later.
    #[error("{0}")]
    Unreachable(String),
}

impl LedgerSource {
    /// The server at `url`: `http://HOST:PORT` or, with certificates, `https://HOST:PORT`.
    ///
    /// # Errors
    ///
    /// Another kind of address, or `https` without certificates. Nothing is connected yet.
    pub fn new(url: &str, tls: Option<TlsFiles>) -> Result<Self, SourceError> {
        let address = || SourceError::Address { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| address())?;
        let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
            return Err(address());
        };
        if uri.path() != "/" || uri.query().is_some() {
            return Err(address());
        }
        match (uri.scheme_str(), tls) {
            (Some("http"), _) => Ok(Self(Kind::Plain {
                host: host.to_owned(),
                port,
            })),
            (Some("https"), Some(tls)) => Ok(Self(Kind::Secure {
                address: format!("{host}:{port}"),
                tls: Box::new(tls),
                channel: None,
            })),
            (Some("https"), None) => Err(SourceError::Certificate { url: url.to_owned() }),
            _ => Err(address()),
        }
    }

    /// The lines from record `from` on, counted from 0, as many as come at once.
    ///
    /// # Errors
    ///
    /// [`Unreachable`](SourceError::Unreachable) where another try may help.
    pub async fn page(&mut self, from: u64) -> Result<LedgerPage, SourceError> {
        let page = async {
            match &mut self.0 {
                Kind::Plain { host, port } => plain(host, *port, from).await,
                Kind::Secure {
                    address,
                    tls,
                    channel,
                } => secure(address, tls, channel, from).await,
            }
        };
        match tokio::time::timeout(PATIENCE, page).await {
            Ok(page) => page,
            Err(_) => Err(SourceError::Unreachable("no answer within 20 s".to_owned())),
        }
    }
}

async fn plain(host: &str, port: u16, from: u64) -> Result<LedgerPage, SourceError> {
    let unreachable = |error: &dyn std::fmt::Display| {
        SourceError::Unreachable(format!("cannot reach `{host}:{port}`: {error}"))
    };
    // A literal IPv6 address stands in brackets in a URI.
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((name, port))
        .await
        .map_err(|error| unreachable(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
        .await
        .map_err(|error| unreachable(&error))?;
    let driving = tokio::spawn(connection);
    let request = Request::get(format!("/ledger?from={from}"))
        .header("host", format!("{host}:{port}"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| SourceError::Protocol(error.to_string()))?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| unreachable(&error))?;
    let status = answer.status();
    let records = answer
        .headers()
        .get(LEDGER_RECORDS_HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok());
    let body = Limited::new(answer.into_body(), MAX_MESSAGE_BYTES)
        .collect()
        .await
        .map_err(|error| unreachable(&error))?;
    driving.abort();
    match (status, records) {
        (StatusCode::OK, Some(records)) => Ok(LedgerPage {
            records,
            lines: body.to_bytes().to_vec(),
        }),
        (StatusCode::SERVICE_UNAVAILABLE, _) => Err(unreachable(&status)),
        _ => Err(SourceError::Protocol(format!(
            "`{host}:{port}` is not the operator's page of a run: it answers {status} to /ledger"
        ))),
    }
}

async fn secure(
    address: &str,
    tls: &TlsFiles,
    channel: &mut Option<Channel>,
    from: u64,
) -> Result<LedgerPage, SourceError> {
    let connected = match channel {
        Some(channel) => channel.clone(),
        None => {
            let connected = transport::connect(address, client_config(tls)?).await;
            let connected = connected.map_err(|error| match error {
                transport::ConnectError::Unreachable { .. } => SourceError::Unreachable(error.to_string()),
                refused => SourceError::Rejected(refused.to_string()),
            })?;
            channel.insert(connected).clone()
        }
    };
    let mut client = FederationClient::new(connected).max_decoding_message_size(MAX_MESSAGE_BYTES);
    match client.ledger(LedgerRequest { from }).await {
        Ok(response) => {
            let response = response.into_inner();
            Ok(LedgerPage {
                records: response.records,
                lines: response.lines.to_vec(),
            })
        }
        Err(status) if may_pass(&status) && !transport::is_refusal(&status) => {
            *channel = None;
            Err(SourceError::Unreachable(explain(&status)))
        }
        Err(status) => Err(SourceError::Rejected(explain(&status))),
    }
}
