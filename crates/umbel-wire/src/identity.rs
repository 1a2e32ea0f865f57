//! Files of those who sign messages of secure aggregation: who certifies clients, and what a client was certified with.
//!
//! They are TOML with hexadecimal texts. The public file of the authority goes to the server and to all clients, a client's own file
//! to it alone. The authority's key must not be where the server is: who has it can be as many clients as it likes.

use std::path::{Path, PathBuf};

use toml::Table;
use umbel_accounting::ledger::{from_hex, to_hex};
use umbel_secagg::{Authority, Certificate, Identity, client_number};
use zeroize::Zeroizing;

/// The most bytes of such a file.
const MAX_BYTES: u64 = 4096;

/// A client's name, key and certificate.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientIdentity {
    /// As in its TLS certificate.
    pub name: String,
    /// Its key.
    pub identity: Identity,
    /// The authority's word for it.
    pub certificate: Certificate,
}

/// A file that is not what its name promises.
#[derive(Debug, thiserror::Error)]
#[error("{}: expected {expected}, got {got}", path.display())]
#[non_exhaustive]
pub struct IdentityError {
    /// The file.
    pub path: PathBuf,
    /// What was looked for.
    pub expected: &'static str,
    /// What is there.
    pub got: String,
}

/// The text of the authority's public file.
pub fn authority_text(public: &[u8; 32]) -> String {
    format!(
        "# Whom this key has certified is a client for secure aggregation. Public.\npublic_key = \"{}\"\n",
        to_hex(public)
    )
}

/// The text of the file with the authority's key.
pub fn authority_key_text(secret: &[u8; 32]) -> Zeroizing<String> {
    Zeroizing::new(format!(
        "# Certifies clients for secure aggregation. Keep it away from the server: whoever has it is as many clients as it likes.\n\
         secret_key = \"{}\"\n",
        to_hex(secret)
    ))
}

/// Certifies that the client with this name has the key with this secret, and gives the text of its file.
pub fn identity_text(authority: &Authority, name: &str, secret: &[u8; 32]) -> Zeroizing<String> {
    let identity = Identity::from_secret(secret);
    let federation = umbel_secagg::federation_of(&authority.public());
    let certificate = authority.certify(&federation, client_number(name), identity.public());
    let (first, second) = certificate.signature().split_at(32);
    let half = |bytes: &[u8]| to_hex(bytes.first_chunk::<32>().unwrap_or(&[0; 32]));
    Zeroizing::new(format!(
        "# Signs for this client in secure aggregation. For the client alone.\nname = \"{name}\"\nsecret_key = \"{}\"\n\
         certificate = \"{}{}\"\n",
        to_hex(secret),
        half(first),
        half(second)
    ))
}

/// Reads the authority's public file.
///
/// # Errors
///
/// A file that cannot be read, or is another.
pub fn read_authority(path: &Path) -> Result<[u8; 32], IdentityError> {
    let expected = "the authority's public file, `public_key = \"…\"` with 64 hexadecimal digits";
    let table = read(path, expected, &["public_key"])?;
    key(&table, "public_key").ok_or_else(|| error(path, expected, "another file"))
}

/// Reads the file with the authority's key.
///
/// # Errors
///
/// A file that cannot be read, or is another.
pub fn read_authority_key(path: &Path) -> Result<Authority, IdentityError> {
    let expected = "the authority's key, `secret_key = \"…\"` with 64 hexadecimal digits";
    let table = read(path, expected, &["secret_key"])?;
    let secret = key(&table, "secret_key").map(Zeroizing::new);
    secret
        .map(|secret| Authority::from_secret(&secret))
        .ok_or_else(|| error(path, expected, "another file"))
}

/// Reads a client's file, and checks that this authority has certified it.
///
/// # Errors
///
/// A file that cannot be read or is another; a key, name or authority that the certificate is not for.
pub fn read_identity(path: &Path, authority: &[u8; 32]) -> Result<ClientIdentity, IdentityError> {
    let expected = "a client's identity: `name`, `secret_key` and `certificate`";
    let table = read(path, expected, &["certificate", "name", "secret_key"])?;
    let other = || error(path, expected, "another file");
    let name = table
        .get("name")
        .and_then(toml::Value::as_str)
        .ok_or_else(other)?;
    let secret = Zeroizing::new(key(&table, "secret_key").ok_or_else(other)?);
    let text = table
        .get("certificate")
        .and_then(toml::Value::as_str)
        .filter(|text| text.len() == 128 && text.is_ascii())
        .ok_or_else(other)?;
    let mut signature = [0; 64];
    for (half, text) in signature
        .as_chunks_mut::<32>()
        .0
        .iter_mut()
        .zip([&text[..64], &text[64..]])
    {
        *half = from_hex(text).ok_or_else(other)?;
    }
    let identity = Identity::from_secret(&secret);
    let certificate = Certificate::from_parts(client_number(name), identity.public(), signature);
    if !certificate.is_of(authority) {
        let expected = "an identity that the given authority has certified for this name";
        return Err(error(path, expected, "one that it has not"));
    }
    Ok(ClientIdentity {
        name: name.to_owned(),
        identity,
        certificate,
    })
}

fn key(table: &Table, name: &str) -> Option<[u8; 32]> {
    table.get(name).and_then(toml::Value::as_str).and_then(from_hex)
}

fn read(path: &Path, expected: &'static str, known: &[&str]) -> Result<Table, IdentityError> {
    let failed = |got: std::io::Error| error(path, expected, &got.to_string());
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_BYTES {
        return Err(error(path, expected, "a larger file"));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
    // What the parser says of a file of keys may hold a part of one.
    let table: Table = text.parse().map_err(|_| error(path, expected, "another file"))?;
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        Some(_) => Err(error(path, expected, "another file")),
        None => Ok(table),
    }
}

fn error(path: &Path, expected: &'static str, got: &str) -> IdentityError {
    IdentityError {
        path: path.to_owned(),
        expected,
        got: got.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_by_those_they_are_for_and_by_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let authority = Authority::from_secret(&[7; 32]);
        let public = write("public", &authority_text(&authority.public()));
        let secret = write("secret", &authority_key_text(&[7; 32]));
        let text = identity_text(&authority, "writer-0", &[9; 32]);
        let own = write("own", &text);
        assert_eq!(read_authority(&public).unwrap(), authority.public());
        assert_eq!(read_authority_key(&secret).unwrap().public(), authority.public());
        let read = read_identity(&own, &authority.public()).unwrap();
        assert_eq!(
            (read.name.as_str(), read.certificate.client),
            ("writer-0", client_number("writer-0"))
        );
        assert!(!format!("{read:?}").contains(&to_hex(&[9; 32])));
        // Another authority, name, key or certificate; other files; damage.
        assert!(read_identity(&own, &[1; 32]).is_err());
        for (from, to) in [
            ("writer-0", "writer-1"),
            ("0909", "0908"),
            ("certificate = \"", "certificate = \"0"),
            ("name", "names"),
            ("name =", "name = ["),
        ] {
            let changed = write("changed", &text.replacen(from, to, 1));
            let error = read_identity(&changed, &authority.public())
                .unwrap_err()
                .to_string();
            assert!(!error.contains("0909"), "{error}");
        }
        for (path, is_key) in [(&secret, false), (&own, false), (&public, true), (&own, true)] {
            let refused = if is_key {
                read_authority_key(path).is_err()
            } else {
                read_authority(path).is_err()
            };
            assert!(refused, "{}", path.display());
        }
        let large = write("large", &"# \n".repeat(3000));
        assert!(read_authority(&large).is_err() && read_authority(Path::new("/nowhere")).is_err());
    }
}
