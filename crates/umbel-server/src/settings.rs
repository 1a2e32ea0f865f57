//! `SERVER.toml`: where to listen, what to run, what to allow.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Table;
use umbel_experiment::{Section, SettingError};
use umbel_wire::tls::TlsFiles;

use crate::State;

/// A server's settings, checked.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "tests and tools fill it in")]
pub struct ServerSettings {
    /// The experiment file.
    pub experiment: PathBuf,
    /// The database that holds everything that must survive.
    pub state: State,
    /// Where the run directory is left when the run is over.
    pub out: PathBuf,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where the page for the operator is served, without TLS and without a password: loopback only, unless
    /// `dangerous_admin_anywhere` is set.
    pub admin: Option<SocketAddr>,
    /// Certificates.
    pub tls: TlsFiles,
    /// The public file of the authority that certifies clients for secure aggregation.
    pub identities: Option<PathBuf>,
    /// How long a round stays open.
    pub round_duration: Duration,
    /// How long after its start the server opens the first round, so that clients can connect.
    pub first_round_after: Duration,
    /// Names of the clients that may take part; empty means everybody with a certificate of the authority.
    pub allow: Vec<String>,
    /// What clients may take of this machine.
    pub limits: Limits,
}

/// What clients may take of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "tests and tools fill it in")]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Open connections from one address.
    pub connections_per_address: usize,
    /// Uploads at a time: each takes up to twice the bytes of the model.
    pub uploads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2000,
            connections_per_address: 500,
            uploads: 32,
        }
    }
}

impl ServerSettings {
    /// Reads the text of a `SERVER.toml`; relative paths count from `directory`.
    ///
    /// # Errors
    ///
    /// A setting that is missing, unknown or out of range.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, SettingError> {
        Self::parse_with(text, directory, |name| std::env::var(name).ok())
    }

    /// The same with other environment variables.
    fn parse_with(
        text: &str,
        directory: &Path,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingError> {
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| SettingError::Syntax(syntax(text, &error)))?;
        let known = [
            "allow",
            "dangerous_database_without_tls",
            "experiment",
            "limits",
            "listen",
            "out",
            "rounds",
            "secure_aggregation",
            "state",
            "tls",
        ];
        let mut root = Section::new("", table, &known)?;
        let experiment = path(
            &mut root,
            "experiment",
            directory,
            "the path of an experiment file",
        )?;
        let state = state(&mut root, directory, variable)?;
        let out = path(
            &mut root,
            "out",
            directory,
            "the path of the run directory to leave",
        )?;
        let allow = root.texts("allow")?.unwrap_or_default();
        let (listen, admin) = listen(&mut root)?;
        let tls = tls(&mut root, directory, true)?;
        let (round_duration, first_round_after) = rounds(&mut root)?;
        let limits = limits(&mut root)?;
        let identities = match root.section("secure_aggregation", &["authority"])? {
            None => None,
            Some(mut section) => {
                let expected = "the path of the public file of the authority that certifies clients, as in \"certs/identities.toml\"";
                Some(path(&mut section, "authority", directory, expected)?)
            }
        };
        Ok(Self {
            experiment,
            state,
            out,
            listen,
            admin,
            tls,
            identities,
            round_duration,
            first_round_after,
            allow,
            limits,
        })
    }
}

/// The path under `key`, counted from `directory`.
fn path(section: &mut Section, key: &str, directory: &Path, expected: &str) -> Result<PathBuf, SettingError> {
    let text = section.text(key, expected)?;
    Ok(directory.join(section.require(key, expected, text)?))
}

/// What is wrong with the text. The line itself may hold the password of a database, so that one is not shown.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    if !text.contains("postgres") {
        return error.to_string();
    }
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    format!("TOML parse error at line {line}: {}", error.message())
}

fn state(
    root: &mut Section,
    directory: &Path,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<State, SettingError> {
    let expected = "the path of a SQLite file, or the URL of a PostgreSQL database";
    let text = root.text("state", expected)?;
    let text = root.require("state", expected, text)?;
    let without_tls = root.flag("dangerous_database_without_tls")?.unwrap_or(false);
    match State::parse(&text, directory, without_tls, variable) {
        Ok(state) => Ok(state),
        Err((expected, got)) => root.refuse("state", expected, got),
    }
}

fn tls(root: &mut Section, directory: &Path, server: bool) -> Result<TlsFiles, SettingError> {
    let known: &[&str] = if server {
        &["authority", "certificate", "key", "revoked"]
    } else {
        &["authority", "certificate", "key"]
    };
    let section = root.section("tls", known)?;
    let mut section = root.require(
        "tls",
        "a table with `certificate`, `key` and `authority`",
        section,
    )?;
    let pem = "the path of a PEM file";
    Ok(TlsFiles {
        certificate: path(&mut section, "certificate", directory, pem)?,
        key: path(&mut section, "key", directory, pem)?,
        authority: path(&mut section, "authority", directory, pem)?,
        revoked: section.text("revoked", pem)?.map(|text| directory.join(text)),
    })
}

fn listen(root: &mut Section) -> Result<(SocketAddr, Option<SocketAddr>), SettingError> {
    let section = root.section("listen", &["address", "admin", "dangerous_admin_anywhere"])?;
    let mut section = root.require("listen", "a table with an `address`", section)?;
    let expected = "an IP address and a port, as in \"0.0.0.0:8443\"";
    let parse = |section: &mut Section, key: &str| match section.text(key, expected)? {
        None => Ok(None),
        Some(text) => match text.parse::<SocketAddr>() {
            Ok(address) => Ok(Some(address)),
            Err(_) => section.refuse(key, expected, format!("\"{text}\"")),
        },
    };
    let address = parse(&mut section, "address")?;
    let address = section.require("address", expected, address)?;
    let admin = parse(&mut section, "admin")?;
    let anywhere = section.flag("dangerous_admin_anywhere")?.unwrap_or(false);
    if let Some(admin) = admin.filter(|admin| !admin.ip().is_loopback() && !anywhere) {
        let expected = "an address of this machine alone, such as \"127.0.0.1:8080\": the page has no password \
                        (`dangerous_admin_anywhere = true` overrides)";
        return section.refuse("admin", expected, admin);
    }
    Ok((address, admin))
}

fn rounds(root: &mut Section) -> Result<(Duration, Duration), SettingError> {
    let section = root.section("rounds", &["first_after_seconds", "seconds"])?;
    let mut section = root.require("rounds", "a table with `seconds`", section)?;
    let expected = "a number of seconds from 0.05 to 31,536,000";
    let seconds = section.number("seconds", expected, |seconds| {
        (0.05..=31_536_000.0).contains(&seconds)
    })?;
    let seconds = section.require("seconds", expected, seconds)?;
    let expected = "a number of seconds from 0 to 31,536,000";
    let first = section.number("first_after_seconds", expected, |seconds| {
        (0.0..=31_536_000.0).contains(&seconds)
    })?;
    Ok((
        Duration::from_secs_f64(seconds),
        Duration::from_secs_f64(first.unwrap_or(0.0)),
    ))
}

fn limits(root: &mut Section) -> Result<Limits, SettingError> {
    let defaults = Limits::default();
    let keys = ["connections", "connections_per_address", "uploads"];
    let Some(mut section) = root.section("limits", &keys)? else {
        return Ok(defaults);
    };
    let mut count = |key: &str, default: usize| {
        let found = section.count(key, 1)?;
        Ok::<_, SettingError>(found.map_or(default, |count| usize::try_from(count).unwrap_or(usize::MAX)))
    };
    Ok(Limits {
        connections: count("connections", defaults.connections)?,
        connections_per_address: count("connections_per_address", defaults.connections_per_address)?,
        uploads: count("uploads", defaults.uploads)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        experiment = "e.toml"
        state = "/var/umbel.db"
        out = "out"
        [listen]
        address = "0.0.0.0:8443"
        admin = "127.0.0.1:8080"
        [tls]
        certificate = "s.pem"
        key = "k.pem"
        authority = "a.pem"
        [rounds]
        seconds = 1.5
    "#;

    #[test]
    fn settings_are_read_and_paths_count_from_the_file() {
        let settings = ServerSettings::parse(GOOD, Path::new("/etc/umbel")).unwrap();
        assert_eq!(settings.experiment, Path::new("/etc/umbel/e.toml"));
        assert_eq!(settings.state, State::File("/var/umbel.db".into()));
        assert_eq!(settings.round_duration, Duration::from_millis(1500));
        assert_eq!((settings.limits, settings.tls.revoked), (Limits::default(), None));
    }

    #[test]
    fn a_database_is_named_by_a_url_or_by_a_variable_and_its_password_is_not_shown() {
        let url = "postgresql://u:hidden@127.0.0.1/d";
        let variable = |name: &str| (name == "THE_STATE").then(|| url.to_owned());
        for text in [url, "env:THE_STATE"] {
            let text = GOOD.replace("/var/umbel.db", text);
            let settings = ServerSettings::parse_with(&text, Path::new("/etc"), variable).unwrap();
            assert_eq!(settings.state.to_string(), "postgresql://u@127.0.0.1/d");
            assert!(!format!("{settings:?}").contains("hidden"), "{settings:?}");
        }
        for wrong in [
            "postgresql://u:hidden@10.0.0.1/d\"",
            // No closing quotation mark.
            "postgresql://u:hidden@127.0.0.1/d",
        ] {
            let text = GOOD.replace("/var/umbel.db\"", wrong);
            let error = ServerSettings::parse(&text, Path::new(""))
                .unwrap_err()
                .to_string();
            assert!(!error.contains("hidden"), "{error}");
        }
        let text = GOOD.replace(
            "/var/umbel.db\"",
            "postgresql://u:hidden@10.0.0.1/d\"\ndangerous_database_without_tls = true",
        );
        assert!(ServerSettings::parse(&text, Path::new("")).is_ok());
    }

    /// Each row: a change to good settings, and what is said of it.
    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, said) in [
            ("state = \"/var/umbel.db\"", "", "`state` is missing"),
            ("seconds = 1.5", "seconds = 0", "`rounds.seconds` must be"),
            ("seconds = 1.5", "second = 1", "did you mean `rounds.seconds`?"),
            (
                "0.0.0.0:8443",
                "0.0.0.0",
                "`listen.address` must be an IP address and a port",
            ),
            (
                "127.0.0.1:8080",
                "0.0.0.0:8080",
                "`listen.admin` must be an address of this machine alone",
            ),
            ("key = \"k.pem\"", "", "`tls.key` is missing"),
            (
                "out = \"out\"",
                "out = \"out\"\nallow = [1]",
                "`allow` must be a list of texts",
            ),
        ] {
            let error = ServerSettings::parse(&GOOD.replace(from, to), Path::new(""))
                .unwrap_err()
                .to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
