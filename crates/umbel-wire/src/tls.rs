//! Mutual TLS 1.3 by rustls, from PEM files.
//!
//! TLS 1.3 only, and the `ring` provider named explicitly, so that no other crate's features decide about either.
//! tonic's own TLS settings are not used: they leave both to whatever is linked, and take no revocation lists.
//! Session resumption is off on the server. A resumed session is not asked for its certificate again, so that one
//! revoked in the meantime would still open connections; a full handshake for each connection costs a millisecond.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The most bytes of a PEM file: a thousand certificates, and no device file without end.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// The protocol that is spoken inside: gRPC needs HTTP/2.
const ALPN: &[u8] = b"h2";

/// The files of one side of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_structs,
    reason = "callers fill it in; a further file is a breaking change on purpose"
)]
pub struct TlsFiles {
    /// This side's certificate, followed by those between it and its authority, if any.
    pub certificate: PathBuf,
    /// The private key of this side's certificate: PKCS #8, SEC 1 or PKCS #1, not encrypted.
    pub key: PathBuf,
    /// The certificates of the authorities, one of which must have signed for the other side. No other authority, those
    /// of the operating system included, is trusted.
    pub authority: PathBuf,
}

/// Why TLS cannot be set up: always a file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A certificate that rustls cannot use as an authority.
    #[error("{}: cannot be used as an authority: {source}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The file has other contents than its name in the settings promises.
    #[error("{}: expected {expected}, got {got}", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
        /// What is there.
        got: String,
    },
    /// Certificate and key do not belong together, or are of a kind that cannot be used.
    #[error("{} and {}: cannot be used together: {source}", certificate.display(), key.display())]
    Identity {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// The server's side: shows its certificate, and demands one of each client from `files.authority`.
///
/// # Errors
///
/// A file that cannot be read or used.
pub fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let authorities = Arc::new(authorities(&files.authority)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(authorities, Arc::clone(&provider))
        .build()
        .map_err(|error| TlsError::Authority {
            path: files.authority.clone(),
            source: rustls::Error::General(error.to_string()),
        })?;
    let (certificates, key) = identity(files)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the ring provider has cipher suites of TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(|source| identity_error(files, source))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The client's side: shows its certificate, and accepts a server with the expected name from `files.authority`.
///
/// # Errors
///
/// A file that cannot be read or used.
pub fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let authorities = authorities(&files.authority)?;
    let (certificates, key) = identity(files)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the ring provider has cipher suites of TLS 1.3")
        .with_root_certificates(authorities)
        .with_client_auth_cert(certificates, key)
        .map_err(|source| identity_error(files, source))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|source| TlsError::Authority {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(store)
}

fn identity(files: &TlsFiles) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let certificates = certificates(&files.certificate)?;
    let expected = "one private key in PEM, not encrypted";
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|error| contents(&files.key, expected, &error))?;
    Ok((certificates, key))
}

fn identity_error(files: &TlsFiles, source: rustls::Error) -> TlsError {
    TlsError::Identity {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    }
}

/// All certificates of a file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let expected = "certificates in PEM";
    let certificates = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| contents(path, expected, &error))?;
    if certificates.is_empty() {
        return Err(contents(path, expected, &pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn contents(path: &Path, expected: &'static str, error: &pem::Error) -> TlsError {
    let got = match error {
        pem::Error::NoItemsFound => "a file without any".to_owned(),
        other => other.to_string(),
    };
    TlsError::Contents {
        path: path.to_owned(),
        expected,
        got,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(MAX_PEM_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_PEM_BYTES {
        let (path, got) = (path.to_owned(), "a larger file".to_owned());
        return Err(TlsError::Contents {
            path,
            expected: "at most 4 MiB of PEM",
            got,
        });
    }
    Ok(bytes)
}
