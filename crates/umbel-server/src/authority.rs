//! A development authority: mints and revokes certificates in one folder, so that a federation can be tried without anybody's
//! help. A real federation uses certificates of its own authority, in the same PEM files.
//!
//! The folder holds `authority.pem` and `authority-key.pem`, for each identity `NAME.pem` and `NAME-key.pem`, and
//! `revoked.pem` once something was revoked. For secure aggregation it holds `identities.toml`, which is public, `identities-key.toml`,
//! which must not be where the server is, and for each client `NAME-identity.toml`. Keys are readable by their owner only. Nothing is ever overwritten but
//! `revoked.pem`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SanType, SerialNumber, string::Ia5String,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};
use umbel_accounting::ledger::to_hex;
use umbel_experiment::write_whole;
use umbel_wire::identity;
use umbel_wire::tls::{CLIENT_URI, serial_number};
use zeroize::Zeroizing;

/// How long an authority lives, and how long its list of revoked certificates is good.
const AUTHORITY_DAYS: i64 = 3650;

/// How long a server's or a client's certificate lives.
const IDENTITY_DAYS: i64 = 365;

/// Clocks of two machines may differ by this much before a fresh certificate is not valid yet.
const CLOCK_ALLOWANCE: Duration = Duration::minutes(10);

/// A folder with an authority in it.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
}

/// A certificate in a folder, and how two people compare it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// What it is for: `authority`, or the file's name.
    pub name: String,
    /// The file.
    pub certificate: PathBuf,
    /// SHA-256 of the certificate in groups of four digits, all of them.
    pub fingerprint: String,
    /// Whether the folder's list of revoked certificates names it.
    pub revoked: bool,
}

/// Why certificates were not made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The file is there already.
    #[error("{} exists already, and a key is never overwritten; choose another --dir or name, or remove it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that holds something else.
    #[error("{}: expected {expected}", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// A name that cannot stand in a certificate or be a file's name.
    #[error("`{name}`: expected {expected}")]
    Name {
        /// What was given.
        name: String,
        /// What would do.
        expected: &'static str,
    },
    /// A file of the identities of secure aggregation.
    #[error(transparent)]
    Files(#[from] identity::IdentityError),
    /// The certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Minting(#[from] rcgen::Error),
}

impl Authority {
    /// Makes a new authority in `folder`, which is created if it is absent.
    ///
    /// # Errors
    ///
    /// An authority that is there already, or a folder that cannot be written.
    pub fn create(folder: &Path) -> Result<Self, AuthorityError> {
        fs::create_dir_all(folder).map_err(|source| AuthorityError::File {
            path: folder.to_owned(),
            source,
        })?;
        let authority = Self {
            folder: folder.to_owned(),
        };
        let key = KeyPair::generate()?;
        let mut params = authority_params(&key);
        (params.not_before, params.not_after) = validity(AUTHORITY_DAYS);
        let certificate = params.self_signed(&key)?;
        let secret = authority.draw()?;
        let public = umbel_secagg::Authority::from_secret(&secret).public();
        authority.write_pair("authority", &certificate.pem(), &key)?;
        authority.write_one(
            "identities-key.toml",
            &identity::authority_key_text(&secret),
            0o600,
        )?;
        authority.write_one("identities.toml", &identity::authority_text(&public), 0o644)?;
        Ok(authority)
    }

    /// The authority in `folder`.
    pub fn open(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Mints a server's certificate for `hosts`: names or addresses, as clients will give them. The files are called `name`.
    ///
    /// # Errors
    ///
    /// A host that is none, files that are there already, no authority in the folder.
    pub fn mint_server(&self, name: &str, hosts: &[String]) -> Result<Identity, AuthorityError> {
        for host in hosts {
            let plausible = |character: char| character.is_ascii_alphanumeric() || "-.:*".contains(character);
            if host.is_empty() || !host.chars().all(plausible) {
                return Err(AuthorityError::Name {
                    name: host.clone(),
                    expected: "a host name or an IP address, without a port",
                });
            }
        }
        let mut params = CertificateParams::new(hosts.to_vec())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.mint(name, params)
    }

    /// Mints a client's certificate, and its identity for secure aggregation. Its name is what the server knows it by.
    ///
    /// # Errors
    ///
    /// A name of other characters than letters, digits, `-`, `_` and `.`, files that are there already, no authority in the
    /// folder.
    pub fn mint_client(&self, name: &str) -> Result<Identity, AuthorityError> {
        check_name(name)?;
        let mut params = CertificateParams::default();
        let uri = Ia5String::try_from(format!("{CLIENT_URI}{name}"))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let own = format!("{name}-identity.toml");
        if self.file(&own).exists() {
            return Err(AuthorityError::Exists {
                path: self.file(&own),
            });
        }
        // Whatever can fail does before a file is written.
        drop(self.issuer()?);
        let authority = identity::read_authority_key(&self.file("identities-key.toml"))?;
        let text = identity::identity_text(&authority, name, &*self.draw()?);
        let minted = self.mint(name, params)?;
        self.write_one(&own, &text, 0o600)?;
        Ok(minted)
    }

    /// Adds the certificate called `name` to the list of revoked ones, `revoked.pem`, and gives the list's path.
    ///
    /// # Errors
    ///
    /// No such certificate, or no authority in the folder.
    pub fn revoke(&self, name: &str) -> Result<PathBuf, AuthorityError> {
        check_name(name)?;
        let mut serials = self.revoked_serials()?;
        serials.push(self.serial(&self.file(&format!("{name}.pem")))?);
        serials.sort();
        serials.dedup();
        let now = OffsetDateTime::now_utc();
        let revoked_certs = serials
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial),
                revocation_time: now,
                reason_code: Some(RevocationReason::Unspecified),
                invalidity_date: None,
            })
            .collect();
        let (this_update, next_update) = validity(AUTHORITY_DAYS);
        let list = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(u64::try_from(now.unix_timestamp()).unwrap_or(0)),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.file("revoked.pem");
        let pem = list.signed_by(&self.issuer()?)?.pem()?;
        write_whole(&path, pem.as_bytes()).map_err(|error| AuthorityError::File {
            path: path.clone(),
            source: error.source,
        })?;
        Ok(path)
    }

    /// All certificates of the folder, the authority first, the others by name.
    ///
    /// # Errors
    ///
    /// A folder that cannot be read, or has no authority.
    pub fn identities(&self) -> Result<Vec<Identity>, AuthorityError> {
        let read = fs::read_dir(&self.folder).map_err(|source| self.file_error(&self.folder, source))?;
        let mut names = Vec::new();
        for entry in read {
            let entry = entry.map_err(|source| self.file_error(&self.folder, source))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(name) = name.strip_suffix(".pem")
                && !name.ends_with("-key")
                && !["authority", "revoked"].contains(&name)
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        names.insert(0, "authority".to_owned());
        names.into_iter().map(|name| self.identity(name)).collect()
    }

    fn mint(&self, name: &str, mut params: CertificateParams) -> Result<Identity, AuthorityError> {
        check_name(name)?;
        let issuer = self.issuer()?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        (params.not_before, params.not_after) = validity(IDENTITY_DAYS);
        let mut serial = [0; 16];
        getrandom::fill(&mut serial).map_err(|error| AuthorityError::File {
            path: self.folder.clone(),
            source: io::Error::other(error),
        })?;
        // A serial number is positive.
        serial[0] &= 0x7f;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        self.write_pair(name, &certificate.pem(), &key)?;
        self.identity(name.to_owned())
    }

    /// A new secret key.
    fn draw(&self) -> Result<Zeroizing<[u8; 32]>, AuthorityError> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(secret.as_mut_slice())
            .map_err(|error| self.file_error(&self.folder, io::Error::other(error)))?;
        Ok(secret)
    }

    /// Writes a file that may not exist.
    fn write_one(&self, name: &str, text: &str, mode: u32) -> Result<(), AuthorityError> {
        let path = self.file(name);
        write_new(&path, text, mode).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => AuthorityError::Exists { path: path.clone() },
            _ => self.file_error(&path, source),
        })
    }

    fn identity(&self, name: String) -> Result<Identity, AuthorityError> {
        let path = self.file(&format!("{name}.pem"));
        let certificate = read_certificate(&path)?;
        let revoked = name != "authority" && self.revoked_serials()?.contains(&self.serial(&path)?);
        Ok(Identity {
            name,
            fingerprint: fingerprint(&certificate),
            certificate: path,
            revoked,
        })
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
        let key_path = self.file("authority-key.pem");
        let key = fs::read_to_string(&key_path).map_err(|source| self.file_error(&key_path, source))?;
        let key = KeyPair::from_pem(&key)?;
        Ok(Issuer::new(authority_params(&key), key))
    }

    fn serial(&self, path: &Path) -> Result<Vec<u8>, AuthorityError> {
        serial_number(&read_certificate(path)?).ok_or_else(|| AuthorityError::Contents {
            path: path.to_owned(),
            expected: "a certificate with a serial number",
        })
    }

    fn revoked_serials(&self) -> Result<Vec<Vec<u8>>, AuthorityError> {
        let path = self.file("revoked.pem");
        if !path.exists() {
            return Ok(Vec::new());
        }
        let damaged = || AuthorityError::Contents {
            path: path.clone(),
            expected: "a list of revoked certificates in PEM",
        };
        let list = CertificateRevocationListDer::from_pem_file(&path).map_err(|_| damaged())?;
        umbel_wire::tls::revoked_serial_numbers(&list).ok_or_else(damaged)
    }

    /// Writes a certificate and its key, neither of which may exist. The key is there first, so that a certificate without its
    /// key is never left.
    fn write_pair(&self, name: &str, certificate: &str, key: &KeyPair) -> Result<(), AuthorityError> {
        let paths = [
            self.file(&format!("{name}-key.pem")),
            self.file(&format!("{name}.pem")),
        ];
        if let Some(path) = paths.iter().find(|path| path.exists()) {
            return Err(AuthorityError::Exists { path: path.clone() });
        }
        let key = key.serialize_pem();
        for (path, text, mode) in [(&paths[0], key.as_str(), 0o600), (&paths[1], certificate, 0o644)] {
            write_new(path, text, mode).map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => AuthorityError::Exists { path: path.clone() },
                _ => self.file_error(path, source),
            })?;
        }
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn file_error(&self, path: &Path, source: io::Error) -> AuthorityError {
        let path = path.to_owned();
        let missing = source.kind() == io::ErrorKind::NotFound && path.starts_with(&self.folder);
        if missing
            && ["authority.pem", "authority-key.pem"]
                .iter()
                .any(|name| path.ends_with(name))
        {
            let source = io::Error::new(
                io::ErrorKind::NotFound,
                "there is no authority in this folder; `umbel certs init` makes one",
            );
            return AuthorityError::File { path, source };
        }
        AuthorityError::File { path, source }
    }
}

/// What the authority's certificate says, but for its dates: it follows from the key, so that certificates signed later name the
/// same authority.
fn authority_params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Without a number an authority that was made anew would look like the old one to whoever reads an error.
    let number = to_hex(&Sha256::digest(key.public_key_raw())[..4]);
    let name = format!("Umbel development authority {number}");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A short name of a certificate that two people can compare over the telephone: all of its SHA-256.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digits = to_hex(&Sha256::digest(certificate));
    let groups: Vec<_> = (0..digits.len())
        .step_by(4)
        .map(|start| &digits[start..start + 4])
        .collect();
    groups.join("-")
}

fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, AuthorityError> {
    let bytes = fs::read(path).map_err(|source| AuthorityError::File {
        path: path.to_owned(),
        source,
    })?;
    CertificateDer::from_pem_slice(&bytes).map_err(|_| AuthorityError::Contents {
        path: path.to_owned(),
        expected: "a certificate in PEM",
    })
}

/// A name that is safe as a file's, and cannot be taken for another file of the folder.
fn check_name(name: &str) -> Result<(), AuthorityError> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    let reserved = ["authority", "revoked"].contains(&name) || name.ends_with("-key");
    if name.is_empty() || name.len() > 100 || name.starts_with('.') || reserved || !name.chars().all(allowed)
    {
        return Err(AuthorityError::Name {
            name: name.to_owned(),
            expected: "a name of letters, digits, `-`, `_` and `.`, at most 100 long, not `authority`, `revoked` or `…-key`",
        });
    }
    Ok(())
}

fn validity(days: i64) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - CLOCK_ALLOWANCE, now + Duration::days(days))
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::UnixTime;
    use umbel_wire::tls::{TlsFiles, client_config, client_name, client_verifier, server_config};

    use super::*;

    fn files(folder: &Path, name: &str, revoked: Option<PathBuf>) -> TlsFiles {
        TlsFiles {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}-key.pem")),
            authority: folder.join("authority.pem"),
            revoked,
        }
    }

    #[test]
    fn minted_files_work_and_a_revoked_client_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let authority = Authority::create(folder).unwrap();
        authority
            .mint_server("server", &["localhost".to_owned(), "127.0.0.1".to_owned()])
            .unwrap();
        for name in ["writer-1", "writer-2"] {
            authority.mint_client(name).unwrap();
            client_config(&files(folder, name, None)).unwrap();
        }
        let judge = |revoked: Option<PathBuf>, name: &str| {
            let certificate = read_certificate(&folder.join(format!("{name}.pem"))).unwrap();
            assert_eq!(
                client_name(&certificate).as_deref(),
                (name != "server").then_some(name).or(Some("localhost"))
            );
            client_verifier(&files(folder, "server", revoked))
                .unwrap()
                .verify_client_cert(&certificate, &[], UnixTime::now())
                .is_ok()
        };
        assert!(judge(None, "writer-1") && judge(None, "writer-2") && !judge(None, "server"));
        authority.revoke("writer-1").unwrap();
        let revoked = authority.revoke("writer-1").unwrap();
        server_config(&files(folder, "server", Some(revoked.clone()))).unwrap();
        assert!(!judge(Some(revoked.clone()), "writer-1") && judge(Some(revoked), "writer-2"));

        let shown = authority.identities().unwrap();
        let names: Vec<_> = shown
            .iter()
            .map(|identity| (identity.name.as_str(), identity.revoked))
            .collect();
        assert_eq!(
            names,
            [
                ("authority", false),
                ("server", false),
                ("writer-1", true),
                ("writer-2", false)
            ]
        );
        assert_eq!(shown[1].fingerprint.len(), 64 + 15);
    }

    #[test]
    fn nothing_is_overwritten_and_keys_are_their_owners() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let authority = Authority::create(folder).unwrap();
        authority.mint_client("a").unwrap();
        let before: Vec<_> = ["authority-key.pem", "a-key.pem", "a.pem"]
            .map(|name| fs::read(folder.join(name)).unwrap())
            .into();
        let refused = [
            Authority::create(folder).map(|_| ()).unwrap_err(),
            authority.mint_client("a").map(|_| ()).unwrap_err(),
            authority
                .mint_server("a", &["localhost".to_owned()])
                .map(|_| ())
                .unwrap_err(),
        ];
        for error in refused {
            assert!(error.to_string().contains("never overwritten"), "{error}");
        }
        let after: Vec<_> = ["authority-key.pem", "a-key.pem", "a.pem"]
            .map(|name| fs::read(folder.join(name)).unwrap())
            .into();
        assert!(before == after);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(folder.join("a-key.pem"))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    /// Each row: a name, which is refused before anything is written.
    #[test]
    fn names_that_could_mean_another_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(folder.path()).unwrap();
        for name in [
            "",
            "authority",
            "revoked",
            "a-key",
            "../a",
            "a/b",
            ".a",
            "ä",
            &"x".repeat(101),
        ] {
            assert!(
                matches!(authority.mint_client(name), Err(AuthorityError::Name { .. })),
                "{name}"
            );
        }
        for host in ["", "a b", "localhost/x"] {
            let hosts = [host.to_owned()];
            assert!(
                matches!(
                    authority.mint_server("s", &hosts),
                    Err(AuthorityError::Name { .. })
                ),
                "{host}"
            );
        }
        let empty = tempfile::tempdir().unwrap();
        let error = Authority::open(empty.path())
            .mint_client("a")
            .unwrap_err()
            .to_string();
        assert!(error.contains("`umbel certs init` makes one"), "{error}");
    }
}
