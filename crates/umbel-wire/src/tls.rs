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
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use webpki::{BorrowedCertRevocationList, EndEntityCert};

/// The most bytes of a PEM file: a thousand certificates, and no device file without end.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// What a client's name follows in its certificate.
pub const CLIENT_URI: &str = "umbel://client/";

/// The most bytes of a client's name.
const MAX_NAME_BYTES: usize = 200;

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
    /// The authorities' lists of revoked certificates, in PEM; for a server. With it a client of an authority without a list,
    /// or with one that has expired, is refused too.
    pub revoked: Option<PathBuf>,
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
    let verifier = client_verifier(files)?;
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

/// What judges the certificates of clients. A server may ask it again, with newer files, about a client whose connection is open
/// already.
///
/// # Errors
///
/// A file that cannot be read or used.
pub fn client_verifier(files: &TlsFiles) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let authorities = Arc::new(authorities(&files.authority)?);
    let mut verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider());
    if let Some(path) = &files.revoked {
        verifier = verifier
            .with_crls(revocation_lists(path)?)
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration();
    }
    verifier.build().map_err(|error| TlsError::Authority {
        path: files.revoked.as_ref().unwrap_or(&files.authority).clone(),
        source: rustls::Error::General(error.to_string()),
    })
}

/// The name that a client's certificate gives it: the last part of the first `umbel://client/NAME` among its alternative names,
/// or else the first name of a host. `None` if there is neither.
pub fn client_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let of_umbel = certificate
        .valid_uri_names()
        .find_map(|uri| uri.strip_prefix(CLIENT_URI));
    let name = of_umbel.or_else(|| certificate.valid_dns_names().next())?;
    (!name.is_empty() && name.len() <= MAX_NAME_BYTES).then(|| name.to_owned())
}

/// The serial number of a certificate, by which it is revoked.
pub fn serial_number(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    Some(EndEntityCert::try_from(certificate).ok()?.serial().to_vec())
}

/// The serial numbers on a list of revoked certificates.
pub fn revoked_serial_numbers(list: &CertificateRevocationListDer<'_>) -> Option<Vec<Vec<u8>>> {
    let list = BorrowedCertRevocationList::from_der(list).ok()?;
    let serials = list
        .into_iter()
        .map(|revoked| Some(revoked.ok()?.serial_number.to_vec()));
    serials.collect()
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

/// All lists of revoked certificates of a file, at least one.
fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let expected = "lists of revoked certificates in PEM (`BEGIN X509 CRL`)";
    let lists = CertificateRevocationListDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| contents(path, expected, &error))?;
    if lists.is_empty() {
        return Err(contents(path, expected, &pem::Error::NoItemsFound));
    }
    Ok(lists)
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
