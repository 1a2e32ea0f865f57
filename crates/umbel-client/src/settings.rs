//! `CLIENT.toml`: the server, this client's own data, and its policy.

use std::path::{Path, PathBuf};

use toml::Table;
use umbel_experiment::{DataFiles, Section, SettingError};
use umbel_wire::tls::TlsFiles;

use crate::Policy;

/// A client's settings, checked.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "tests and tools fill it in")]
pub struct ClientSettings {
    /// The server, as `host:port`.
    pub server: String,
    /// The folder of the client's history.
    pub state: PathBuf,
    /// Certificates.
    pub tls: TlsFiles,
    /// The client's own data.
    pub data: ClientData,
    /// Who this client is in secure aggregation, and who says so of the others.
    pub identity: Option<IdentityFiles>,
    /// What the client takes part in.
    pub policy: Policy,
}

/// `[secure_aggregation]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "tests and tools fill it in")]
pub struct IdentityFiles {
    /// The public file of the authority that certifies clients.
    pub authority: PathBuf,
    /// This client's own file.
    pub identity: PathBuf,
}

/// The client's own data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "tests and tools fill it in")]
pub struct ClientData {
    /// The files.
    pub train: DataFiles,
    /// Whose rows of them, by the table `train.clients`; all rows if absent.
    pub client: Option<String>,
    /// The client's copy of the public file of words, where the experiment is about texts.
    pub vocabulary: Option<PathBuf>,
    /// The client's copy of the public file of inverse document frequencies, where the experiment names one.
    pub idf: Option<PathBuf>,
}

impl ClientSettings {
    /// Reads the text of a `CLIENT.toml`; relative paths count from `directory`.
    ///
    /// # Errors
    ///
    /// A setting that is missing, unknown or out of range.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, SettingError> {
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| SettingError::Syntax(error.to_string()))?;
        let mut root = Section::new(
            "",
            table,
            &["data", "policy", "secure_aggregation", "server", "state", "tls"],
        )?;
        let expected = "host and port, as in \"fl.example.org:8443\"";
        let server = root.text("server", expected)?;
        let server = root.require("server", expected, server)?;
        let expected = "the path of a folder for the client's own records";
        let state = root.text("state", expected)?;
        let state = directory.join(root.require("state", expected, state)?);
        let tls = tls(&mut root, directory)?;
        let data = data(&mut root, directory)?;
        let policy = Policy::read(&mut root)?;
        let identity = identity(&mut root, directory)?;
        Ok(Self {
            server,
            state,
            tls,
            data,
            identity,
            policy,
        })
    }
}

fn tls(root: &mut Section, directory: &Path) -> Result<TlsFiles, SettingError> {
    let section = root.section("tls", &["authority", "certificate", "key"])?;
    let mut section = root.require(
        "tls",
        "a table with `certificate`, `key` and `authority`",
        section,
    )?;
    let mut path = |key: &str| {
        let expected = "the path of a PEM file";
        let text = section.text(key, expected)?;
        Ok::<_, SettingError>(directory.join(section.require(key, expected, text)?))
    };
    Ok(TlsFiles {
        certificate: path("certificate")?,
        key: path("key")?,
        authority: path("authority")?,
        revoked: None,
    })
}

fn identity(root: &mut Section, directory: &Path) -> Result<Option<IdentityFiles>, SettingError> {
    let Some(mut section) = root.section("secure_aggregation", &["authority", "identity"])? else {
        return Ok(None);
    };
    let mut path = |key: &str, expected: &str| {
        let text = section.text(key, expected)?;
        Ok::<_, SettingError>(directory.join(section.require(key, expected, text)?))
    };
    Ok(Some(IdentityFiles {
        authority: path(
            "authority",
            "the path of the public file of the authority that certifies clients",
        )?,
        identity: path("identity", "the path of this client's identity")?,
    }))
}

fn data(root: &mut Section, directory: &Path) -> Result<ClientData, SettingError> {
    let section = root.section("data", &["client", "format", "idf", "train", "vocabulary"])?;
    let mut section = root.require("data", "a table with `format` and `train`", section)?;
    let expected = "\"csv\", \"idx\" or \"text\", as the server's experiment says";
    let format = section.text("format", expected)?;
    let format = section.require("format", expected, format)?;
    if !["csv", "idx", "text"].contains(&format.as_str()) {
        return section.refuse("format", expected, format!("\"{format}\""));
    }
    let client = section.text("client", "the client's name in the table `train.clients`")?;
    let vocabulary = section.path("vocabulary", "the path of a file of words", directory)?;
    let idf = section.path(
        "idf",
        "the path of a file of words with their inverse document frequencies",
        directory,
    )?;
    let train = DataFiles::read(&mut section, "train", &format, directory)?;
    if client.is_some() && train.clients.is_none() && train.client_column.is_none() {
        return Err(SettingError::Missing {
            key: "data.train.clients".to_owned(),
            expected: "the table in which `data.client` is looked up".to_owned(),
        });
    }
    Ok(ClientData {
        train,
        client,
        vocabulary,
        idf,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        server = "localhost:8443"
        state = "state"
        [tls]
        certificate = "c.pem"
        key = "k.pem"
        authority = "a.pem"
        [data]
        format = "idx"
        train = { examples = "x", labels = "y", clients = "w.tsv" }
        client = "12"
        [policy]
        trust = ["central"]
        max_epsilon = 8
    "#;

    #[test]
    fn settings_are_read_and_paths_count_from_the_file() {
        let settings = ClientSettings::parse(GOOD, Path::new("/etc/umbel")).unwrap();
        assert_eq!(settings.state, Path::new("/etc/umbel/state"));
        assert_eq!(settings.data.client.as_deref(), Some("12"));
        assert_eq!(settings.tls.authority, Path::new("/etc/umbel/a.pem"));
    }

    /// Each row: a change to good settings, and what is said of it.
    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, said) in [
            ("server = \"localhost:8443\"", "", "`server` is missing"),
            ("max_epsilon = 8", "", "`policy.max_epsilon` is missing"),
            (
                "max_epsilon = 8",
                "max_epsilon = 0",
                "`policy.max_epsilon` must be",
            ),
            (
                "max_epsilon = 8",
                "max_epsilon = 8\nmin_noise = 1",
                "unknown setting `policy.min_noise`",
            ),
            ("[\"central\"]", "[\"nobody\"]", "`policy.trust` must be"),
            (
                "[policy]",
                "[secure_aggregation]\nauthority = \"a\"\n[policy]",
                "`secure_aggregation.identity` is missing",
            ),
            (
                "max_epsilon = 8",
                "max_epsilon = 8\nleast_colluding = 1.5",
                "`policy.least_colluding` must be",
            ),
            ("trust = [\"central\"]", "", "`policy.trust` is missing"),
            (", clients = \"w.tsv\"", "", "`data.train.clients` is missing"),
            ("\"idx\"", "\"wav\"", "`data.format` must be"),
        ] {
            let error = ClientSettings::parse(&GOOD.replace(from, to), Path::new(""))
                .unwrap_err()
                .to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
