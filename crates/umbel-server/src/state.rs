//! Where a server keeps what must survive: a file, or a database by its URL.

use std::fmt;
use std::path::{Path, PathBuf};

use postgres::Config;
use postgres::config::{Host, SslMode};

/// Where a server keeps what must survive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever handles a state must handle each kind"
)]
pub enum State {
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL database.
    Database(DatabaseUrl),
}

/// A path, or a URL without its password.
impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Database(url) => url.fmt(formatter),
        }
    }
}

impl State {
    /// What a server file says: a path that counts from `directory`, a URL, or `env:NAME` for a URL in the environment variable NAME,
    /// which `variable` looks up. The error says what was expected and what came, without a password.
    pub(crate) fn parse(
        text: &str,
        directory: &Path,
        without_tls: bool,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, (String, String)> {
        if let Some(name) = text.strip_prefix("env:") {
            let value = variable(name).filter(|value| is_url(value)).ok_or_else(|| {
                (
                    format!("`env:` and an environment variable that holds {URL}"),
                    match variable(name) {
                        None => format!("`{name}`, which is not set"),
                        Some(_) => format!("`{name}`, which holds something else"),
                    },
                )
            })?;
            return DatabaseUrl::parse(&value, without_tls).map(Self::Database);
        }
        if is_url(text) {
            return DatabaseUrl::parse(text, without_tls).map(Self::Database);
        }
        if text.contains("://") {
            let kind = text.split("://").next().unwrap_or_default();
            return Err((format!("a path, or {URL}"), format!("a URL of `{kind}`")));
        }
        Ok(Self::File(directory.join(text)))
    }
}

/// The port of PostgreSQL where none is given.
const USUAL_PORT: u16 = 5432;

const URL: &str = "\"postgresql://USER@HOST:PORT/DATABASE\"";

fn is_url(text: &str) -> bool {
    text.starts_with("postgresql://") || text.starts_with("postgres://")
}

/// The URL of a PostgreSQL database. Its password is never shown.
#[derive(Clone)]
pub struct DatabaseUrl {
    /// As it was given.
    text: String,
    config: Box<Config>,
}

impl PartialEq for DatabaseUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for DatabaseUrl {}

impl DatabaseUrl {
    /// Reads a URL. Without TLS only a database on this machine is reached, unless `without_tls` says that the way to it is safe.
    pub(crate) fn parse(text: &str, without_tls: bool) -> Result<Self, (String, String)> {
        // What the parser says may have a part of the password in it.
        let config: Config = text.parse().map_err(|_| {
            (
                URL.to_owned(),
                "a URL that cannot be read (not shown: it may hold a password)".to_owned(),
            )
        })?;
        let url = Self {
            text: text.to_owned(),
            config: Box::new(config),
        };
        if url.config.get_hosts().is_empty() && url.config.get_hostaddrs().is_empty() {
            return Err((URL.to_owned(), format!("{url}, without a host")));
        }
        if url.config.get_ssl_mode() == SslMode::Require {
            let expected = "a URL without `sslmode=require`: TLS to the database is not there yet";
            return Err((expected.to_owned(), url.to_string()));
        }
        if !without_tls && !url.is_local() {
            let expected = "a database on this machine (a loopback address or a Unix socket), since the way to it has no TLS \
                            (`dangerous_database_without_tls = true` overrides)";
            return Err((expected.to_owned(), url.to_string()));
        }
        Ok(url)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Whether nothing that is sent leaves this machine.
    fn is_local(&self) -> bool {
        let addresses = self.config.get_hostaddrs();
        if !addresses.is_empty() {
            // A host's name is not looked up then.
            return addresses.iter().all(|address| address.is_loopback());
        }
        self.config.get_hosts().iter().all(|host| match host {
            #[cfg(unix)]
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost"
                    || name
                        .parse()
                        .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
            }
        })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("postgresql://")?;
        if let Some(user) = self.config.get_user() {
            write!(formatter, "{user}@")?;
        }
        let (hosts, ports) = (self.config.get_hosts(), self.config.get_ports());
        for (place, host) in hosts.iter().enumerate() {
            if place > 0 {
                formatter.write_str(",")?;
            }
            match host {
                #[cfg(unix)]
                Host::Unix(path) => write!(formatter, "{}", path.display())?,
                Host::Tcp(name) => formatter.write_str(name)?,
            }
            // One port stands for all hosts; the usual one may be filled in or not.
            let port = ports.get(place).or_else(|| ports.first());
            if let Some(port) = port.filter(|port| **port != USUAL_PORT) {
                write!(formatter, ":{port}")?;
            }
        }
        for address in self.config.get_hostaddrs().iter().filter(|_| hosts.is_empty()) {
            write!(formatter, "{address}")?;
        }
        match self.config.get_dbname() {
            Some(name) => write!(formatter, "/{name}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, without_tls: bool) -> Result<State, String> {
        let variable = |name: &str| match name {
            "URL" => Some("postgresql://u:hidden@localhost/d".to_owned()),
            "PATH_OF" => Some("/tmp/hidden".to_owned()),
            _ => None,
        };
        State::parse(text, Path::new("/etc"), without_tls, variable)
            .map_err(|(expected, got)| format!("expected {expected}, got {got}"))
    }

    #[test]
    fn a_path_counts_from_the_file_and_a_url_is_a_database() {
        assert_eq!(parse("s.db", false), Ok(State::File("/etc/s.db".into())));
        for (text, shown) in [
            (
                "postgresql://u:hidden@127.0.0.1:5433/d",
                "postgresql://u@127.0.0.1:5433/d",
            ),
            ("postgres://u:hidden@localhost/d", "postgresql://u@localhost/d"),
            ("postgresql://u:hidden@[::1]:5432/d", "postgresql://u@::1/d"),
            ("postgresql://u:hidden@%2Frun%2Fpg/d", "postgresql://u@/run/pg/d"),
            ("env:URL", "postgresql://u@localhost/d"),
        ] {
            let state = parse(text, false).unwrap();
            assert_eq!(state.to_string(), shown);
            assert!(!format!("{state:?}").contains("hidden"), "{state:?}");
        }
    }

    #[test]
    fn a_database_elsewhere_needs_a_dangerous_setting() {
        for text in [
            "postgresql://u:hidden@db.example.org/d",
            "postgresql://u:hidden@10.0.0.3/d",
            "postgresql://u:hidden@localhost,10.0.0.3/d",
            "postgresql://u:hidden@localhost/d?hostaddr=10.0.0.3",
            "postgresql:///d?host=10.0.0.3&password=hidden",
        ] {
            let error = parse(text, false).unwrap_err();
            assert!(error.contains("dangerous_database_without_tls"), "{error}");
            assert!(!error.contains("hidden"), "{error}");
            assert!(parse(text, true).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_state_is_refused_without_a_password() {
        for (text, said) in [
            ("postgresql://u:hidden@localhost:port/d", "cannot be read"),
            (
                "postgresql://u:hidden@localhost/d?sslmode=require",
                "TLS to the database",
            ),
            ("postgresql:///d", "without a host"),
            ("mysql://u:hidden@localhost/d", "a URL of `mysql`"),
            ("env:NONE", "`NONE`, which is not set"),
            ("env:PATH_OF", "`PATH_OF`, which holds something else"),
        ] {
            let error = parse(text, true).unwrap_err();
            assert!(error.contains(said), "{error}");
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
