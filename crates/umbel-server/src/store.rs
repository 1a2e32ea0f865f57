//! What must survive: in one SQLite file, or in a PostgreSQL database.
//!
//! Both hold the same tables and do the same, and one set of tests runs on both (`store/tests.rs`). One process writes at a time. With
//! SQLite a lock on a file keeps a second one out; with PostgreSQL a second one waits until the first has gone (`postgresql/lease.rs`).
//! Others may read.
//!
//! The ledger's lines are stored byte for byte as a ledger file holds them.

mod postgresql;
mod sqlite;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use umbel_protocol::ClientId;

pub(crate) use self::postgresql::Standby;
use crate::State;

/// The layout of the database. A state of another layout is refused.
const SCHEMA_VERSION: i64 = 1;

/// Why something was not stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// PostgreSQL refused, or is not there.
    #[error("{state}: {}", postgresql::explain(source))]
    Database {
        /// The database, without its password.
        state: State,
        /// What PostgreSQL says.
        source: postgres::Error,
    },
    /// Another server has taken over this state. Whatever this one would still write is refused.
    #[error(
        "{state}: another server has taken over; this one has stopped, and nothing that it stored is lost. Start it again to let it \
         wait as a standby"
    )]
    Fenced {
        /// The database.
        state: State,
    },
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process writes.
    #[error("{}: another server runs on this state", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// Not a database of this program, or of another version of it.
    #[error("{state}: expected {expected}, got {got}")]
    Other {
        /// The database.
        state: State,
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// SQLite refused.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// Something is stored under the same key that is not the same.
    #[error("{state}: {what} is stored already, with another content")]
    Twice {
        /// The database.
        state: State,
        /// What was to be stored.
        what: String,
    },
    /// The database may lose what it said was stored.
    #[error(
        "{state}: expected a database that keeps what it has committed, got `{setting} = {got}`; a server may tell nobody of what a \
         power cut can take back"
    )]
    Unsafe {
        /// The database.
        state: State,
        /// The setting of PostgreSQL.
        setting: String,
        /// Its value.
        got: String,
    },
}

impl StoreError {
    /// Whether the same may succeed a little later: the disk is full, the database is away, or somebody else holds it for a moment.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Database { source, .. } => postgresql::may_pass(source),
            Self::Sqlite { source, .. } => sqlite::may_pass(source),
            _ => false,
        }
    }
}

/// A run as it is stored.
#[derive(Clone)]
pub(crate) struct StoredRun {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) experiment: String,
    pub(crate) started: Duration,
    pub(crate) secret: Option<[u8; 32]>,
    pub(crate) status: String,
    pub(crate) summary: Option<String>,
}

/// How far a run has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The model after the last release, as a safetensors file.
    pub(crate) checkpoint: Option<Vec<u8>>,
    /// The round that is open, or charged and not released.
    pub(crate) open_round: Option<Vec<u8>>,
}

/// What is stored together with a ledger line, in one transaction.
#[derive(Debug, Default)]
pub(crate) struct With<'a> {
    pub(crate) opening: Option<&'a str>,
    /// The round as it is charged: its running sum.
    pub(crate) open_round: Option<Vec<u8>>,
    /// The model that is released. The open round is over then.
    pub(crate) checkpoint: Option<Vec<u8>>,
    /// The end of the run: status and summary. The run's secret is removed.
    pub(crate) end: Option<(&'a str, &'a str)>,
    /// The open round is given up.
    pub(crate) void: bool,
}

/// A refusal as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredRefusal {
    pub(crate) at: Duration,
    pub(crate) client: String,
    pub(crate) round: u64,
    pub(crate) reason: String,
}

/// What comes of the wish to write.
#[derive(Debug)]
pub(crate) enum Opening {
    Ready(Store),
    /// Another server writes, and this one may wait for its end.
    Waiting(Standby),
}

/// The database, for writing.
#[derive(Debug)]
pub(crate) enum Store {
    Postgresql(postgresql::Store),
    Sqlite(sqlite::Store),
}

/// The same call on whichever it is.
macro_rules! either {
    ($self:expr, $one:ident => $call:expr) => {
        match $self {
            Self::Postgresql($one) => $call,
            Self::Sqlite($one) => $call,
        }
    };
}

impl Store {
    /// Opens the state, or makes it. Not from within an asynchronous task.
    pub(crate) fn open(state: &State) -> Result<Opening, StoreError> {
        match state {
            State::File(path) => sqlite::Store::open(path).map(|store| Opening::Ready(Self::Sqlite(store))),
            State::Database(url) => Standby::new(url)?.try_to_lead(),
        }
    }

    /// Begins a run, unless one of that name is there.
    pub(crate) fn create_run(
        &mut self,
        name: &str,
        experiment: &str,
        secret: &[u8; 32],
        started: Duration,
    ) -> Result<(), StoreError> {
        either!(self, store => store.create_run(name, experiment, secret, started))
    }

    pub(crate) fn run(&mut self, name: &str) -> Result<Option<StoredRun>, StoreError> {
        either!(self, store => store.run(name))
    }

    /// A run that is not over.
    pub(crate) fn unfinished(&mut self) -> Result<Option<String>, StoreError> {
        either!(self, store => store.unfinished())
    }

    /// All lines of a run's ledger.
    pub(crate) fn ledger(&mut self, run: i64) -> Result<Vec<u8>, StoreError> {
        either!(self, store => store.ledger(run))
    }

    /// The model after the last release, and the round that is open, as they are stored.
    pub(crate) fn progress(&mut self, run: i64) -> Result<Progress, StoreError> {
        either!(self, store => store.progress(run))
    }

    /// Stores a ledger line and what belongs to it, all or nothing. Storing the same again changes nothing.
    pub(crate) fn append(
        &mut self,
        run: i64,
        sequence: u64,
        line: &str,
        with: &With<'_>,
    ) -> Result<(), StoreError> {
        either!(self, store => store.append(run, sequence, line, with))
    }

    /// Stores the open round, with the clients whose reports were added since it was last stored.
    pub(crate) fn save_open_round(
        &mut self,
        run: i64,
        round: u64,
        content: &[u8],
        reported: &[ClientId],
    ) -> Result<(), StoreError> {
        either!(self, store => store.save_open_round(run, round, content, reported))
    }

    /// Keeps what a released model is worth.
    pub(crate) fn save_metrics(&mut self, run: i64, round: u64, line: &str) -> Result<(), StoreError> {
        either!(self, store => store.save_metrics(run, round, line))
    }

    pub(crate) fn metrics(&mut self, run: i64) -> Result<Vec<String>, StoreError> {
        either!(self, store => store.metrics(run))
    }

    /// The clients of a run, by name.
    pub(crate) fn clients(&mut self, run: i64) -> Result<Vec<(String, ClientId)>, StoreError> {
        either!(self, store => store.clients(run))
    }

    /// Gives a client the next free number below `population`; `None` if all are taken.
    pub(crate) fn enrol(
        &mut self,
        run: i64,
        name: &str,
        population: u64,
    ) -> Result<Option<ClientId>, StoreError> {
        either!(self, store => store.enrol(run, name, population))
    }

    /// Keeps a client's refusal: the first for each round.
    pub(crate) fn refuse(
        &mut self,
        run: i64,
        at: Duration,
        client: &str,
        round: u64,
        reason: &str,
    ) -> Result<(), StoreError> {
        either!(self, store => store.refuse(run, at, client, round, reason))
    }

    /// Whether somebody asked the run to stop. Asked now and then, it also tells a server that does nothing else of another that has
    /// taken over.
    pub(crate) fn stop_requested(&mut self, run: i64) -> Result<bool, StoreError> {
        either!(self, store => store.stop_requested(run))
    }
}

/// The database, for a look from beside.
#[derive(Debug)]
pub(crate) enum Reader {
    Postgresql(postgresql::Reader),
    Sqlite(sqlite::Reader),
}

impl Reader {
    /// Opens an existing state. It can ask a run to stop, and change nothing else. Not from within an asynchronous task.
    pub(crate) fn open(state: &State) -> Result<Self, StoreError> {
        match state {
            State::File(path) => sqlite::Reader::open(path).map(Self::Sqlite),
            State::Database(url) => postgresql::Reader::open(url).map(Self::Postgresql),
        }
    }

    /// All runs, oldest first.
    pub(crate) fn runs(&mut self) -> Result<Vec<StoredRun>, StoreError> {
        either!(self, reader => reader.runs())
    }

    /// All lines of a run's ledger.
    pub(crate) fn ledger(&mut self, run: i64) -> Result<Vec<u8>, StoreError> {
        either!(self, reader => reader.ledger(run))
    }

    /// How many records a ledger has, and its lines from record `from` on until they are `most_bytes` long.
    pub(crate) fn ledger_page(
        &mut self,
        run: i64,
        from: u64,
        most_bytes: usize,
    ) -> Result<(u64, Vec<u8>), StoreError> {
        either!(self, reader => reader.ledger_page(run, from, most_bytes))
    }

    pub(crate) fn openings(&mut self, run: i64) -> Result<Vec<String>, StoreError> {
        either!(self, reader => reader.openings(run))
    }

    pub(crate) fn metrics(&mut self, run: i64) -> Result<Vec<String>, StoreError> {
        either!(self, reader => reader.metrics(run))
    }

    pub(crate) fn clients(&mut self, run: i64) -> Result<Vec<(String, ClientId)>, StoreError> {
        either!(self, reader => reader.clients(run))
    }

    pub(crate) fn checkpoint(&mut self, run: i64) -> Result<Option<Vec<u8>>, StoreError> {
        either!(self, reader => reader.checkpoint(run))
    }

    /// The latest refusals, newest first.
    pub(crate) fn refusals(&mut self, run: i64, most: u32) -> Result<Vec<StoredRefusal>, StoreError> {
        either!(self, reader => reader.refusals(run, most))
    }

    /// Asks a run to stop; false if it is over.
    pub(crate) fn request_stop(&mut self, run: i64) -> Result<bool, StoreError> {
        either!(self, reader => reader.request_stop(run))
    }
}

/// The databases' whole numbers have a sign. What is counted here stays far below the half of them.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
