//! The server's database, seen from beside: the few questions that SQLite and PostgreSQL understand alike.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postgres::Client;
use rusqlite::{Connection, OpenFlags};

use crate::support::{Folder, Running, Schema};

/// The file within a test's folder.
const FILE: &str = "state/server.db";

/// Where a server keeps its state.
pub(crate) enum Place {
    File,
    Schema(Schema),
}

impl Place {
    /// `state` as the server's file has it.
    pub(crate) fn setting(&self) -> &str {
        match self {
            Self::File => FILE,
            Self::Schema(_) => "env:STATE_OF_THE_SERVER",
        }
    }

    /// What the environment variable must hold that [`setting`](Self::setting) names.
    pub(crate) fn url(&self) -> Option<String> {
        match self {
            Self::File => None,
            Self::Schema(schema) => Some(schema.url()),
        }
    }

    /// How long a round lasts. After a takeover clients come back after pauses that have grown meanwhile.
    pub(crate) fn round_seconds(&self) -> f64 {
        match self {
            Self::File => 0.4,
            Self::Schema(_) => 1.0,
        }
    }

    /// How many servers run at a time.
    pub(crate) fn n_servers(&self) -> usize {
        match self {
            Self::File => 1,
            Self::Schema(_) => 2,
        }
    }

    /// Throws the state away.
    pub(crate) fn remove(&self, folder: &Folder) {
        match self {
            Self::File => std::fs::remove_dir_all(folder.path("state")).unwrap(),
            Self::Schema(schema) => schema.renew(),
        }
    }

    /// A connection, once the server has made its tables: looked at earlier, it would be in the way of that.
    pub(crate) fn connect(&self, folder: &Folder) -> Option<Database> {
        match self {
            Self::File => connect_to_file(&folder.path(FILE)),
            Self::Schema(schema) => {
                let mut client = schema.client();
                let made = client
                    .query_one("SELECT to_regclass('lease') IS NOT NULL", &[])
                    .unwrap();
                made.get::<_, bool>(0)
                    .then(|| Database::Postgresql(Box::new(client)))
            }
        }
    }
}

fn connect_to_file(path: &PathBuf) -> Option<Database> {
    let log = Path::new(path).with_extension("db-wal");
    if std::fs::metadata(log).map_or(0, |file| file.len()) == 0 {
        return None;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).unwrap();
    connection.busy_timeout(Duration::ZERO).unwrap();
    Some(Database::Sqlite(connection))
}

/// A connection to either.
pub(crate) enum Database {
    Postgresql(Box<Client>),
    Sqlite(Connection),
}

impl Database {
    /// Keeps every server from writing; false if one is writing right now.
    pub(crate) fn hold(&mut self) -> bool {
        match self {
            Self::Postgresql(client) => {
                // Each transaction that writes begins with a weaker lock of this row.
                let held = client.batch_execute("BEGIN; SELECT epoch FROM lease FOR UPDATE NOWAIT");
                if held.is_err() {
                    self.let_go();
                }
                held.is_ok()
            }
            Self::Sqlite(connection) => connection.execute_batch("BEGIN IMMEDIATE").is_ok(),
        }
    }

    pub(crate) fn let_go(&mut self) {
        match self {
            Self::Postgresql(client) => client.batch_execute("ROLLBACK").unwrap(),
            Self::Sqlite(connection) => connection.execute_batch("ROLLBACK").unwrap(),
        }
    }

    /// Which of the servers writes.
    pub(crate) fn leader(&mut self, servers: &[Running]) -> Option<usize> {
        match self {
            Self::Postgresql(client) => {
                let sql = "SELECT holder FROM lease WHERE expires > clock_timestamp()";
                let holder: String = client.query_opt(sql, &[]).unwrap()?.get(0);
                servers
                    .iter()
                    .position(|server| holder.starts_with(&format!("process {} ", server.id())))
            }
            Self::Sqlite(_) => (!servers.is_empty()).then_some(0),
        }
    }

    /// How many servers have led so far; `None` where that is not counted.
    pub(crate) fn epoch(&mut self) -> Option<i64> {
        match self {
            Self::Postgresql(_) => Some(self.number("SELECT epoch FROM lease")),
            Self::Sqlite(_) => None,
        }
    }

    /// Whether a run is stored.
    pub(crate) fn has_run(&mut self) -> bool {
        match self {
            Self::Postgresql(_) => self.number("SELECT count(*) FROM runs") > 0,
            // The tables may not be there yet.
            Self::Sqlite(connection) => connection
                .query_row("SELECT id FROM runs", [], |row| row.get::<_, i64>(0))
                .is_ok(),
        }
    }

    pub(crate) fn number(&mut self, sql: &str) -> i64 {
        match self {
            Self::Postgresql(client) => client.query_one(sql, &[]).unwrap().get(0),
            Self::Sqlite(connection) => connection.query_row(sql, [], |row| row.get(0)).unwrap(),
        }
    }

    /// The ledger's lines, the last first.
    pub(crate) fn last_lines(&mut self) -> Vec<Vec<u8>> {
        let sql = "SELECT line FROM ledger ORDER BY sequence DESC";
        match self {
            Self::Postgresql(client) => {
                let rows = client.query(sql, &[]).unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
            Self::Sqlite(connection) => {
                let Ok(mut statement) = connection.prepare(sql) else {
                    return Vec::new();
                };
                let rows = statement.query_map([], |row| row.get(0)).unwrap();
                rows.map(Result::unwrap).collect()
            }
        }
    }

    /// Round and client of each report that was counted.
    pub(crate) fn participation(&mut self) -> Vec<(u64, String)> {
        let sql = "SELECT round, name FROM participation JOIN clients ON client = id";
        let pairs: Vec<(i64, String)> = match self {
            Self::Postgresql(client) => {
                let rows = client.query(sql, &[]).unwrap();
                rows.iter().map(|row| (row.get(0), row.get(1))).collect()
            }
            Self::Sqlite(connection) => {
                let mut statement = connection.prepare(sql).unwrap();
                let rows = statement
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                    .unwrap();
                rows.map(Result::unwrap).collect()
            }
        };
        let pairs = pairs.into_iter();
        pairs.map(|(round, name)| (round.cast_unsigned(), name)).collect()
    }
}
