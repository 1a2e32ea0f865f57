//! In which state a run is, from its database alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};
use serde_json::Value;

/// A state of a run. Whatever happens between two writes leaves the same state behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The run is stored, its ledger is empty.
    Begun,
    /// Between two rounds.
    Between,
    /// A round is reserved and not open yet.
    Reserved,
    /// A round is open and nobody has reported.
    Open,
    /// A round is open and somebody has reported.
    Reports,
    /// A round is charged and not released.
    Charged,
    /// A round is released and its model not evaluated.
    Released,
    /// The ledger is closed; the run directory may not be there yet.
    Closed,
}

impl Moment {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Begun => "run stored, ledger empty",
            Self::Between => "between two rounds",
            Self::Reserved => "round reserved, not open",
            Self::Open => "round open, no report",
            Self::Reports => "round open, some reports",
            Self::Charged => "charged, not released",
            Self::Released => "released, not evaluated",
            Self::Closed => "ledger closed",
        }
    }
}

/// The server's database, seen from beside.
pub(crate) struct Observer {
    path: PathBuf,
    connection: Option<Connection>,
}

impl Observer {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            connection: None,
        }
    }

    /// The connection, once the server has made its tables: looked at earlier, it would be in the way of that.
    pub(crate) fn connection(&mut self) -> Option<&Connection> {
        if self.connection.is_none() {
            let log = Path::new(&self.path).with_extension("db-wal");
            if std::fs::metadata(log).map_or(0, |file| file.len()) == 0 {
                return None;
            }
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.path, flags).unwrap();
            connection.busy_timeout(Duration::ZERO).unwrap();
            self.connection = Some(connection);
        }
        self.connection.as_ref()
    }

    /// Does `work` with the state, which cannot change meanwhile; `None` if somebody is changing it right now.
    pub(crate) fn held<T>(&mut self, work: impl FnOnce(&Connection, Option<Moment>) -> T) -> Option<T> {
        let connection = self.connection()?;
        connection.execute_batch("BEGIN IMMEDIATE").ok()?;
        let result = work(connection, moment(connection));
        connection.execute_batch("ROLLBACK").unwrap();
        Some(result)
    }

    /// The state, of a server that is dead or does not matter.
    pub(crate) fn look(&mut self) -> Option<Moment> {
        moment(self.connection()?)
    }
}

/// The round that was reserved last and is open.
pub(crate) fn open_round(connection: &Connection) -> Option<u64> {
    let (kind, round) = last_record(connection)?;
    (kind == "reserve").then_some(round)
}

pub(crate) fn has_reported(connection: &Connection, round: u64, client: &str) -> bool {
    let sql = "SELECT count(*) FROM participation JOIN clients ON client = id WHERE round = ?1 AND name = ?2";
    let count: i64 = connection
        .query_row(sql, params![round.cast_signed(), client], |row| row.get(0))
        .unwrap();
    count > 0
}

/// Kind and round of the last record that is no `resume`; the round is 0 where the record has none.
fn last_record(connection: &Connection) -> Option<(String, u64)> {
    let sql = "SELECT line FROM ledger ORDER BY sequence DESC";
    let mut statement = connection.prepare(sql).ok()?;
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let line: Vec<u8> = row.get(0).unwrap();
        let record = serde_json::from_slice::<Value>(&line).unwrap()["record"].take();
        let kind = record["kind"].as_str().unwrap();
        if kind != "resume" {
            return Some((kind.to_owned(), record["body"]["round"].as_u64().unwrap_or(0)));
        }
    }
    None
}

fn moment(connection: &Connection) -> Option<Moment> {
    let count = |sql: &str| -> i64 { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
    let run: Result<i64, _> = connection.query_row("SELECT id FROM runs", [], |row| row.get(0));
    run.ok()?;
    let Some((kind, round)) = last_record(connection) else {
        return Some(Moment::Begun);
    };
    Some(match kind.as_str() {
        "close" => Moment::Closed,
        "charge" => Moment::Charged,
        "reserve" if count("SELECT count(*) FROM open_rounds") == 0 => Moment::Reserved,
        "reserve"
            if count(&format!(
                "SELECT count(*) FROM participation WHERE round = {round}"
            )) == 0 =>
        {
            Moment::Open
        }
        "reserve" => Moment::Reports,
        "release" if count(&format!("SELECT count(*) FROM rounds WHERE round = {round}")) == 0 => {
            Moment::Released
        }
        _ => Moment::Between,
    })
}
