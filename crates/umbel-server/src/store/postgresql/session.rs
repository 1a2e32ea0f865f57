//! One connection to the database.

use std::error::Error as _;
use std::fmt;
use std::thread;
use std::time::Duration;

use postgres::error::SqlState;
use postgres::{Client, NoTls};

use crate::DatabaseUrl;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// How long what was sent may stay unanswered by the other machine's system before the connection counts as lost.
const SILENCE: Duration = Duration::from_secs(10);

/// A connection. It has a runtime of its own inside, which must not end within a task of another: so it ends on a thread of its own.
pub(super) struct Session(Option<Box<Client>>);

impl Session {
    pub(super) fn connect(url: &DatabaseUrl) -> Result<Self, postgres::Error> {
        let mut config = url.config().clone();
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_application_name().is_none() {
            config.application_name("umbel");
        }
        config
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(2))
            .keepalives_retries(3)
            .tcp_user_timeout(SILENCE);
        let mut client = config.connect(NoTls)?;
        // A server that stands still within a transaction must not keep another from taking over. After it has waited for a row a
        // transaction must see what the other left, whatever the database's own default.
        client.batch_execute(
            "SET idle_in_transaction_session_timeout = '10s';
             SET default_transaction_isolation = 'read committed';
             SET client_min_messages = warning",
        )?;
        Ok(Self(Some(Box::new(client))))
    }

    pub(super) fn client(&mut self) -> &mut Client {
        self.0.as_mut().expect("taken only when dropped")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            // Where no thread can be had the operating system closes the connection with the process.
            if let Ok(ended) = thread::Builder::new().spawn(move || drop(client)) {
                let _ = ended.join();
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Session")
    }
}

/// Whether the connection was lost or could not be made: nothing is known of what was asked last.
pub(super) fn is_lost(error: &postgres::Error) -> bool {
    let lost = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::CRASH_SHUTDOWN,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ];
    match error.code() {
        Some(code) => lost.contains(code) || code.code().starts_with("08"),
        None => {
            let is_io = error
                .source()
                .is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
            error.is_closed() || is_io
        }
    }
}

/// Whether the same may succeed a little later.
pub(in crate::store) fn may_pass(error: &postgres::Error) -> bool {
    // 40: a conflict with others; 53: disk full, no memory, too many connections.
    let code = error.code();
    is_lost(error)
        || code.is_some_and(|code| {
            *code == SqlState::LOCK_NOT_AVAILABLE
                || ["40", "53"].iter().any(|class| code.code().starts_with(class))
        })
}

/// The error with its causes, in one line.
pub(in crate::store) fn explain(error: &postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{}: {}", error.severity(), error.message());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
