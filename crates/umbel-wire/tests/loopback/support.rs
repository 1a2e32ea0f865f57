//! Certificates of a throw-away authority, and a listener that serves one service over mutual TLS.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio_stream::wrappers::ReceiverStream;
use umbel_wire::proto::federation_server::{Federation, FederationServer};
use umbel_wire::tls::TlsFiles;
use umbel_wire::{limits, transport};

/// An authority that signs for servers and clients, with a folder for what it makes.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let folder = TempDir::new().expect("a folder");
        let certificate = params.self_signed(&key).expect("a certificate");
        write(folder.path().join("authority.pem"), &certificate.pem());
        Self {
            folder,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for `localhost`, valid in this century.
    pub(crate) fn server(&self) -> TlsFiles {
        self.sign(
            "server",
            "localhost",
            ExtendedKeyUsagePurpose::ServerAuth,
            (2000, 2100),
        )
    }

    /// A client's certificate, valid in this century.
    pub(crate) fn client(&self) -> TlsFiles {
        self.sign(
            "client",
            "client-1",
            ExtendedKeyUsagePurpose::ClientAuth,
            (2000, 2100),
        )
    }

    /// Any certificate: for `name`, for one purpose, valid from the beginning of one year to that of another.
    pub(crate) fn sign(
        &self,
        file: &str,
        name: &str,
        purpose: ExtendedKeyUsagePurpose,
        years: (i32, i32),
    ) -> TlsFiles {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.extended_key_usages = vec![purpose];
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        TlsFiles {
            certificate: write(self.file(&format!("{file}.pem")), &certificate.pem()),
            key: write(self.file(&format!("{file}-key.pem")), &key.serialize_pem()),
            authority: self.file("authority.pem"),
            revoked: None,
        }
    }

    /// A list of revoked certificates that names the one in `certificate`.
    pub(crate) fn revoke(&self, certificate: &Path) -> PathBuf {
        let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
        let serial = umbel_wire::tls::serial_number(&certificate).expect("a serial number");
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from_slice(&serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        self.list(vec![revoked], 2100)
    }

    /// An empty list that is good until a year begins.
    pub(crate) fn revoke_nobody_until(&self, year: i32) -> PathBuf {
        self.list(Vec::new(), year)
    }

    fn list(&self, revoked_certs: Vec<RevokedCertParams>, until: i32) -> PathBuf {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2000, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("a list");
        write(self.file("revoked.pem"), &list.pem().expect("PEM"))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Writes `contents` and gives the path back.
pub(crate) fn write(path: impl AsRef<Path>, contents: &str) -> PathBuf {
    std::fs::write(&path, contents).expect("a file");
    path.as_ref().to_owned()
}

/// A server on a port of the loopback interface.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) port: u16,
    /// Why handshakes failed, in order.
    pub(crate) refusals: UnboundedReceiver<String>,
}

/// Serves `service` until the runtime ends.
pub(crate) async fn serve(config: Arc<ServerConfig>, service: impl Federation) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (refused, refusals) = mpsc::unbounded_channel();
    let (accepted, connections) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (config, accepted, refused) = (Arc::clone(&config), accepted.clone(), refused.clone());
            tokio::spawn(async move {
                // A test that has ended listens to neither.
                let _ = match transport::handshake(tcp, config).await {
                    Ok(stream) => accepted.send(Ok::<_, Infallible>(stream)).await.map_err(|_| ()),
                    Err(error) => refused.send(transport::explain(&error)).map_err(|_| ()),
                };
            });
        }
    });
    let service = FederationServer::new(service)
        .max_decoding_message_size(limits::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(limits::MAX_MESSAGE_BYTES);
    tokio::spawn(transport::server_builder().serve_with_incoming(service, ReceiverStream::new(connections)));
    Server {
        address: format!("localhost:{port}"),
        port,
        refusals,
    }
}
