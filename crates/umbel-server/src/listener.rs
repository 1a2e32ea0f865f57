//! Accepts connections, within limits, and does their TLS handshakes.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tracing::{debug, info, warn};
use umbel_wire::tls::{TlsError, TlsFiles, client_verifier, server_config};
use umbel_wire::transport;

use crate::metrics::add;
use crate::settings::Limits;
use crate::view::Shared;

/// How often the certificate files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// How long accepting pauses after the system could not open a connection, so that a lack of file descriptors does not become a
/// busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The certificates in use.
#[derive(Debug)]
pub(crate) struct TlsState {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) verifier: Arc<dyn ClientCertVerifier>,
}

impl TlsState {
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            config: server_config(files)?,
            verifier: client_verifier(files)?,
        })
    }
}

/// Reads the certificate files again when one has changed. Files that cannot be used are logged, and the old ones stay.
pub(crate) async fn reload(files: TlsFiles, state: watch::Sender<Arc<TlsState>>) {
    let mut last = stamps(&files);
    loop {
        tokio::time::sleep(RELOAD_INTERVAL).await;
        let now = stamps(&files);
        if now == last {
            continue;
        }
        last = now;
        match TlsState::load(&files) {
            Ok(new) => {
                state.send_replace(Arc::new(new));
                info!("certificates read again");
            }
            Err(error) => warn!("{error}; the certificates read before stay in use"),
        }
    }
}

/// What tells that a file has changed.
fn stamps(files: &TlsFiles) -> Vec<Option<(SystemTime, u64)>> {
    let paths = [&files.certificate, &files.key, &files.authority]
        .into_iter()
        .chain(&files.revoked);
    let stamp = |path: &std::path::PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    paths.map(stamp).collect()
}

/// Accepts connections until the receiver is gone.
pub(crate) async fn accept(
    listener: TcpListener,
    tls: watch::Receiver<Arc<TlsState>>,
    limits: Limits,
    shared: Arc<Shared>,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    let open = Arc::new(OpenConnections::default());
    while !accepted.is_closed() {
        let (tcp, peer) = tokio::select! {
            () = accepted.closed() => return,
            connection = listener.accept() => match connection {
                Ok(connection) => connection,
                Err(error) => {
                    warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let Some(place) = Place::take(&open, &shared, peer.ip(), limits) else {
            add(&shared.counters.connections_turned_away, 1);
            debug!(%peer, "turned away: too many connections");
            continue;
        };
        add(&shared.counters.connections_total, 1);
        let (config, shared, accepted) = (
            Arc::clone(&tls.borrow().config),
            Arc::clone(&shared),
            accepted.clone(),
        );
        tokio::spawn(handshake(tcp, peer, config, place, shared, accepted));
    }
}

async fn handshake(
    tcp: TcpStream,
    peer: SocketAddr,
    config: Arc<ServerConfig>,
    place: Place,
    shared: Arc<Shared>,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    match transport::handshake(tcp, config).await {
        Ok(stream) => {
            // The server that takes connections may have ended.
            let _ = accepted
                .send(Ok(Connection {
                    stream,
                    _place: place,
                }))
                .await;
        }
        Err(error) => {
            add(&shared.counters.handshakes_refused, 1);
            info!(%peer, "connection refused: {}", transport::explain(&error));
        }
    }
}

/// How many connections are open, in all and from each address.
#[derive(Debug, Default)]
struct OpenConnections(Mutex<(usize, BTreeMap<IpAddr, usize>)>);

/// The place of one connection among those that are allowed; given back when it is dropped.
#[derive(Debug)]
struct Place {
    open: Arc<OpenConnections>,
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Place {
    fn take(
        open: &Arc<OpenConnections>,
        shared: &Arc<Shared>,
        address: IpAddr,
        limits: Limits,
    ) -> Option<Self> {
        let mut counts = open.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = counts.1.get(&address).copied().unwrap_or(0);
        if counts.0 >= limits.connections || of_address >= limits.connections_per_address {
            return None;
        }
        counts.0 += 1;
        counts.1.insert(address, of_address + 1);
        shared.counters.connections.fetch_add(1, Ordering::Relaxed);
        Some(Self {
            open: Arc::clone(open),
            shared: Arc::clone(shared),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.0 -= 1;
        if let Some(of_address) = counts.1.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                counts.1.remove(&self.address);
            }
        }
        self.shared.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that has passed its handshake, and its place.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    _place: Place,
}

impl Connected for Connection {
    type ConnectInfo = <TlsStream<TcpStream> as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
