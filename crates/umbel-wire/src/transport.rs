//! Connections: TLS under gRPC, with the settings that a public listener needs.
//!
//! The accept loop belongs to the server, which counts connections and decides whom to turn away; here is what happens to
//! one connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, PeerIncompatible, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tonic::Request;
use tonic::codegen::http::Uri;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::transport::{Channel, Endpoint, Server};

use crate::limits::{CONNECTION_WINDOW_BYTES, MAX_CONCURRENT_STREAMS, MAX_HEADER_BYTES, STREAM_WINDOW_BYTES};

/// How long a peer may take from its first byte to the end of its TLS handshake.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// How often an idle connection is asked for a sign of life.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long that sign may take.
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(10);

/// How long a connection lives, and with it a certificate that was revoked after it was shown.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(30 * 60);

/// How long calls may then still run.
const MAX_CONNECTION_AGE_GRACE: Duration = Duration::from_secs(60);

/// Why no connection to a server came about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// `host:port` was expected.
    #[error("`{address}`: expected `host:port`, as in `fl.example.org:8443`")]
    Address {
        /// What was given.
        address: String,
    },
    /// The two sides do not accept each other: trying again would not help.
    #[error("cannot connect to `{address}`: {reason}")]
    Refused {
        /// What was given.
        address: String,
        /// What went wrong, in one sentence.
        reason: String,
    },
    /// The server was not reached.
    #[error("cannot connect to `{address}`: {reason}")]
    Unreachable {
        /// What was given.
        address: String,
        /// What went wrong, in one sentence.
        reason: String,
    },
}

/// A gRPC channel to `address` (`host:port`) over TLS; the server's certificate must be for that host.
///
/// Connects once before it returns, so that a wrong address or certificate is an error here; later the channel
/// reconnects by itself.
///
/// # Errors
///
/// An address that is none, or a server that cannot be reached or is not accepted. A server that does not accept the
/// *client* says so only after TLS 1.3 is done for the client, so that the error may come with the first call instead.
pub async fn connect(address: &str, config: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    let bad_address = || ConnectError::Address {
        address: address.to_owned(),
    };
    let origin: Uri = format!("https://{address}").parse().map_err(|_| bad_address())?;
    let host = origin.host().ok_or_else(bad_address)?;
    let port = origin.port_u16().ok_or_else(bad_address)?;
    // Anything else that a URI may hold, such as a user's name or a path, has no meaning here.
    if format!("{host}:{port}") != address {
        return Err(bad_address());
    }
    // A literal IPv6 address stands in brackets in a URI, and without them in a certificate.
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|_| bad_address())?;
    // tonic insists on its own TLS where the endpoint's scheme is `https`; requests carry that of `origin`.
    Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| bad_address())?
        .origin(origin)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_LIMIT)
        .keep_alive_while_idle(true)
        .connect_timeout(HANDSHAKE_LIMIT)
        .connect_with_connector(tower::service_fn(move |_| {
            let (host, name, config) = (host.clone(), name.clone(), Arc::clone(&config));
            async move { io::Result::Ok(TokioIo::new(dial(&host, port, name, config).await?)) }
        }))
        .await
        .map_err(|error| {
            let (address, reason) = (address.to_owned(), explain(&error));
            match is_refusal(&error) {
                true => ConnectError::Refused { address, reason },
                false => ConnectError::Unreachable { address, reason },
            }
        })
}

async fn dial(
    host: &str,
    port: u16,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
) -> io::Result<client::TlsStream<TcpStream>> {
    let tcp = connect_to_any(tokio::net::lookup_host((host, port)).await?.collect()).await?;
    tcp.set_nodelay(true)?;
    TlsConnector::from(config).connect(name, tcp).await
}

/// Connects to the first of a server's addresses that answers. One that does not answer at all, as that of a machine that is down,
/// leaves time for the next.
async fn connect_to_any(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let share = HANDSHAKE_LIMIT / (u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1) + 1);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer")),
        }
    }
    Err(last)
}

/// Does the server's side of a TLS handshake, within [`HANDSHAKE_LIMIT`].
///
/// # Errors
///
/// What the peer did wrong, or [`io::ErrorKind::TimedOut`]. The connection is closed then.
pub async fn handshake(
    tcp: TcpStream,
    config: Arc<ServerConfig>,
) -> io::Result<server::TlsStream<TcpStream>> {
    tcp.set_nodelay(true)?;
    let stream = match tokio::time::timeout(HANDSHAKE_LIMIT, TlsAcceptor::from(config).accept(tcp)).await {
        Ok(accepted) => accepted?,
        Err(_) => {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no TLS handshake within 5 s",
            ));
        }
    };
    // rustls lets a client through that offers no application protocol at all.
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the peer does not offer HTTP/2 (ALPN `h2`)",
        ));
    }
    Ok(stream)
}

/// Tells in words why a certificate was refused.
pub fn explain_certificate(error: &Error) -> String {
    explain_tls(error)
}

/// tonic's server with limits on everything that a peer can make it hold; the caller adds services and connections.
pub fn server_builder() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_LIMIT))
        .max_connection_age(MAX_CONNECTION_AGE)
        .max_connection_age_grace(MAX_CONNECTION_AGE_GRACE)
}

/// The certificate that the sender of `request` showed, checked by the handshake. `None` without TLS.
pub fn peer_certificate<T>(request: &Request<T>) -> Option<CertificateDer<'static>> {
    let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>()?;
    info.peer_certs()?.first().cloned()
}

/// The certificates that the sender of `request` showed, its own first. `None` without TLS.
pub fn peer_certificates<T>(request: &Request<T>) -> Option<Arc<Vec<CertificateDer<'static>>>> {
    request
        .extensions()
        .get::<TlsConnectInfo<TcpConnectInfo>>()?
        .peer_certs()
}

/// What went wrong, in words for the person who has to set it right.
///
/// Looks through `error` and its causes for a TLS error, because the outermost message is no more than `transport
/// error`.
pub fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let innermost = innermost(error);
    match innermost.downcast_ref::<Error>() {
        Some(error) => explain_tls(error),
        None => {
            let text = innermost.to_string();
            alert_in(&text).map_or(text, str::to_owned)
        }
    }
}

/// Whether `error` is that the two sides do not accept each other, and not one of the network.
pub fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let innermost = innermost(error);
    innermost.downcast_ref::<Error>().is_some() || alert_in(&innermost.to_string()).is_some()
}

/// The cause of all causes.
fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut innermost = error;
    loop {
        // An `io::Error` is transparent to `source`: what it wraps is reached only by `get_ref`.
        let wrapped = innermost
            .downcast_ref::<io::Error>()
            .and_then(|error| error.get_ref())
            .map(|wrapped| wrapped as &(dyn std::error::Error + 'static));
        match wrapped.or_else(|| innermost.source()) {
            Some(cause) => innermost = cause,
            None => return innermost,
        }
    }
}

/// HTTP/2 keeps of an error of its connection only the text. An alert after the handshake, which is how a server of TLS 1.3 refuses
/// a client's certificate, comes that way.
fn alert_in(text: &str) -> Option<&'static str> {
    let alert = ALERTS
        .iter()
        .find(|(alert, _)| text == Error::AlertReceived(*alert).to_string());
    alert.map(|(_, reason)| *reason)
}

/// What a peer's alerts mean here.
const ALERTS: [(AlertDescription, &str); 9] = [
    (
        AlertDescription::AccessDenied,
        "the peer does not let this side in",
    ),
    (
        AlertDescription::BadCertificate,
        "the peer does not accept this side's certificate",
    ),
    (
        AlertDescription::CertificateExpired,
        "the peer says that this side's certificate has expired, or is not valid yet",
    ),
    (
        AlertDescription::CertificateRequired,
        "the server demands a client certificate",
    ),
    (
        AlertDescription::CertificateRevoked,
        "the peer says that this side's certificate is revoked",
    ),
    (
        AlertDescription::DecryptError,
        "the peer does not trust the authority of this side's certificate",
    ),
    (
        AlertDescription::ProtocolVersion,
        "the peer does not speak TLS 1.3",
    ),
    (
        AlertDescription::UnknownCA,
        "the peer does not trust the authority of this side's certificate",
    ),
    (
        AlertDescription::UnsupportedCertificate,
        "the peer says that this side's certificate is for another purpose",
    ),
];

fn explain_tls(error: &Error) -> String {
    let reason = match error {
        Error::AlertReceived(received) => ALERTS
            .iter()
            .find(|(alert, _)| alert == received)
            .map(|(_, reason)| *reason),
        // A bad signature is what another authority of the same name gives.
        Error::InvalidCertificate(CertificateError::BadSignature | CertificateError::UnknownIssuer) => {
            Some("the peer's certificate is not from an authority in this side's `authority` file")
        }
        Error::InvalidCertificate(CertificateError::Revoked) => Some("the peer's certificate is revoked"),
        Error::InvalidCertificate(
            CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. },
        ) => Some("the list of revoked certificates has expired"),
        Error::InvalidCertificate(CertificateError::UnknownRevocationStatus) => {
            Some("no list of revoked certificates covers the peer's certificate")
        }
        Error::NoCertificatesPresented => Some("the peer showed no certificate"),
        Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => Some("the peer does not speak TLS 1.3"),
        // The other errors of certificates (expired, not yet valid, wrong name) state both values themselves.
        _ => None,
    };
    reason.map_or_else(|| error.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_first_address_that_answers_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        // An address for documentation, at which nobody answers.
        let silent = "192.0.2.1:9".parse().unwrap();
        for addresses in [vec![good], vec![closed, good], vec![silent, closed, good]] {
            let tcp = connect_to_any(addresses).await.unwrap();
            assert_eq!(tcp.peer_addr().unwrap(), good);
        }
        assert!(connect_to_any(vec![closed]).await.is_err());
        assert!(connect_to_any(Vec::new()).await.is_err());
    }
}
