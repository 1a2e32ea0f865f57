//! The state in one SQLite file.
//!
//! Write-ahead log with `synchronous = FULL`: a transaction that was committed is on the disk, also after a power cut. One process
//! writes, and a lock on a file beside the database keeps a second one out; others may read.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params};
use umbel_protocol::ClientId;

use super::{Progress, SCHEMA_VERSION, StoreError, StoredRefusal, StoredRun, With, micros, whole};
use crate::State;

/// Marks the file as Umbel's (`PRAGMA application_id`): "Umbl".
const APPLICATION_ID: i64 = 0x556d_626c;

/// How often a lock is tried, each time a twentieth of a second apart.
const LOCK_TRIES: u32 = 40;

const SCHEMA: &str = "
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        experiment TEXT NOT NULL,
        started_micros INTEGER NOT NULL,      -- since 1970: what time in the run counts from
        secret BLOB,                          -- signs the ledger and salts its commitments; removed when the run is closed
        status TEXT NOT NULL,                 -- running | finished | budget-exhausted | interrupted
        stop_requested INTEGER NOT NULL DEFAULT 0,
        summary TEXT                          -- as it is hashed into the closing record
    ) STRICT;
    CREATE TABLE ledger (
        run INTEGER NOT NULL REFERENCES runs,
        sequence INTEGER NOT NULL,
        line BLOB NOT NULL,                   -- with its line feed
        opening TEXT,                         -- of the record's commitment, for an auditor
        PRIMARY KEY (run, sequence)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE rounds (
        run INTEGER NOT NULL REFERENCES runs,
        round INTEGER NOT NULL,
        metrics TEXT NOT NULL,                -- the line of metrics.jsonl
        PRIMARY KEY (run, round)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE clients (
        run INTEGER NOT NULL REFERENCES runs,
        id INTEGER NOT NULL,
        name TEXT NOT NULL,                   -- from its certificate
        PRIMARY KEY (run, id),
        UNIQUE (run, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE participation (
        run INTEGER NOT NULL REFERENCES runs,
        round INTEGER NOT NULL,
        client INTEGER NOT NULL,
        PRIMARY KEY (run, round, client)      -- nobody is counted twice
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE checkpoints (
        run INTEGER PRIMARY KEY REFERENCES runs,
        content BLOB NOT NULL                 -- model and strategy after the last release, as safetensors
    ) STRICT;
    CREATE TABLE open_rounds (
        run INTEGER PRIMARY KEY REFERENCES runs,
        content BLOB NOT NULL                 -- cohort, reports and running sum: as secret as the updates
    ) STRICT;
    CREATE TABLE refusals (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs,
        at_micros INTEGER NOT NULL,
        client TEXT NOT NULL,
        round INTEGER NOT NULL,               -- 0: the whole run
        reason TEXT NOT NULL,
        UNIQUE (run, client, round)
    ) STRICT;
";

/// Whether the same may succeed a little later.
pub(super) fn may_pass(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory, SystemIoFailure,
    };
    let passing = [
        CannotOpen,
        DatabaseBusy,
        DatabaseLocked,
        DiskFull,
        OutOfMemory,
        SystemIoFailure,
    ];
    error
        .sqlite_error_code()
        .is_some_and(|code| passing.contains(&code))
}

/// The database, for writing.
#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
    path: PathBuf,
    /// Held as long as the store lives.
    _lock: File,
}

impl Store {
    /// Opens the database at `path`, or makes it, readable by its owner only.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| StoreError::File {
                path: folder.to_owned(),
                source,
            })?;
        }
        let lock = lock(path)?;
        let file_error = |source| StoreError::File {
            path: path.to_owned(),
            source,
        };
        owner_only(path).map_err(file_error)?;
        let database = |source| StoreError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(database)?;
        configure(&connection).map_err(database)?;
        let store = Self {
            connection,
            path: path.to_owned(),
            _lock: lock,
        };
        store.prepare()?;
        Ok(store)
    }

    /// Makes the tables of a new file, and checks those of an old one.
    fn prepare(&self) -> Result<(), StoreError> {
        let number = |pragma: &str| {
            self.connection
                .query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0))
                .map_err(|source| self.error(source))
        };
        let (application, version) = (number("application_id")?, number("user_version")?);
        let tables: i64 = self
            .connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(|source| self.error(source))?;
        if tables == 0 {
            let script = format!(
                "BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; \
                 COMMIT;"
            );
            return self
                .connection
                .execute_batch(&script)
                .map_err(|source| self.error(source));
        }
        if (application, version) != (APPLICATION_ID, SCHEMA_VERSION) {
            return Err(StoreError::Other {
                state: State::File(self.path.clone()),
                expected: format!("a state of umbel, version {SCHEMA_VERSION}"),
                got: match application {
                    APPLICATION_ID => format!("version {version}"),
                    _ => "another program's database".to_owned(),
                },
            });
        }
        let check: String = self
            .connection
            .query_row("PRAGMA quick_check", [], |row| row.get(0))
            .map_err(|source| self.error(source))?;
        match check.as_str() {
            "ok" => Ok(()),
            damage => Err(StoreError::Other {
                state: State::File(self.path.clone()),
                expected: "a whole database".to_owned(),
                got: damage.to_owned(),
            }),
        }
    }

    pub(super) fn create_run(
        &mut self,
        name: &str,
        experiment: &str,
        secret: &[u8; 32],
        started: Duration,
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO runs (name, experiment, started_micros, secret, status) VALUES (?1, ?2, ?3, ?4, 'running')",
                params![name, experiment, micros(started), secret.as_slice()],
            )?;
            Ok(())
        })
    }

    pub(super) fn run(&self, name: &str) -> Result<Option<StoredRun>, StoreError> {
        find_run(&self.connection, name).map_err(|source| self.error(source))
    }

    pub(super) fn unfinished(&self) -> Result<Option<String>, StoreError> {
        self.connection
            .query_row(
                "SELECT name FROM runs WHERE status = 'running' LIMIT 1",
                [],
                |row| row.get(0),
            )
            .optional()
            .map_err(|source| self.error(source))
    }

    pub(super) fn ledger(&self, run: i64) -> Result<Vec<u8>, StoreError> {
        ledger_of(&self.connection, run).map_err(|source| self.error(source))
    }

    pub(super) fn progress(&self, run: i64) -> Result<Progress, StoreError> {
        let blob = |table: &str| {
            self.connection
                .query_row(
                    &format!("SELECT content FROM {table} WHERE run = ?1"),
                    params![run],
                    |row| row.get(0),
                )
                .optional()
                .map_err(|source| self.error(source))
        };
        Ok(Progress {
            checkpoint: blob("checkpoints")?,
            open_round: blob("open_rounds")?,
        })
    }

    pub(super) fn append(
        &mut self,
        run: i64,
        sequence: u64,
        line: &str,
        with: &With<'_>,
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            // Whether an earlier try was committed may have been left open by an error; then all of it is there.
            let stored: Option<Vec<u8>> = transaction
                .query_row(
                    "SELECT line FROM ledger WHERE run = ?1 AND sequence = ?2",
                    params![run, whole(sequence)],
                    |row| row.get(0),
                )
                .optional()?;
            if stored.as_deref() == Some(line.as_bytes()) {
                return Ok(());
            }
            transaction.execute(
                "INSERT INTO ledger (run, sequence, line, opening) VALUES (?1, ?2, ?3, ?4)",
                params![run, whole(sequence), line.as_bytes(), with.opening],
            )?;
            if let Some(content) = &with.open_round {
                put(transaction, "open_rounds", run, content)?;
            }
            if let Some(content) = &with.checkpoint {
                put(transaction, "checkpoints", run, content)?;
            }
            if with.checkpoint.is_some() || with.void {
                transaction.execute("DELETE FROM open_rounds WHERE run = ?1", params![run])?;
            }
            if let Some((status, summary)) = with.end {
                transaction.execute(
                    "UPDATE runs SET status = ?2, summary = ?3, secret = NULL WHERE id = ?1",
                    params![run, status, summary],
                )?;
            }
            Ok(())
        })
    }

    pub(super) fn save_open_round(
        &mut self,
        run: i64,
        round: u64,
        content: &[u8],
        reported: &[ClientId],
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            put(transaction, "open_rounds", run, content)?;
            let mut insert =
                transaction.prepare("INSERT INTO participation (run, round, client) VALUES (?1, ?2, ?3)")?;
            for client in reported {
                insert.execute(params![run, whole(round), whole(client.0)])?;
            }
            Ok(())
        })
    }

    pub(super) fn save_metrics(&mut self, run: i64, round: u64, line: &str) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO rounds (run, round, metrics) VALUES (?1, ?2, ?3)",
                params![run, whole(round), line],
            )?;
            Ok(())
        })
    }

    pub(super) fn metrics(&self, run: i64) -> Result<Vec<String>, StoreError> {
        metrics_of(&self.connection, run).map_err(|source| self.error(source))
    }

    pub(super) fn clients(&self, run: i64) -> Result<Vec<(String, ClientId)>, StoreError> {
        clients_of(&self.connection, run).map_err(|source| self.error(source))
    }

    pub(super) fn enrol(
        &mut self,
        run: i64,
        name: &str,
        population: u64,
    ) -> Result<Option<ClientId>, StoreError> {
        self.write(|transaction| {
            let known: Option<i64> = transaction
                .query_row(
                    "SELECT id FROM clients WHERE run = ?1 AND name = ?2",
                    params![run, name],
                    |row| row.get(0),
                )
                .optional()?;
            if let Some(known) = known {
                return Ok(Some(ClientId(known.cast_unsigned())));
            }
            let next: i64 = transaction.query_row(
                "SELECT coalesce(max(id) + 1, 0) FROM clients WHERE run = ?1",
                params![run],
                |row| row.get(0),
            )?;
            if next >= whole(population) {
                return Ok(None);
            }
            transaction.execute(
                "INSERT INTO clients (run, id, name) VALUES (?1, ?2, ?3)",
                params![run, next, name],
            )?;
            Ok(Some(ClientId(next.cast_unsigned())))
        })
    }

    pub(super) fn refuse(
        &mut self,
        run: i64,
        at: Duration,
        client: &str,
        round: u64,
        reason: &str,
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT OR IGNORE INTO refusals (run, at_micros, client, round, reason) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![run, micros(at), client, whole(round), reason],
            )?;
            Ok(())
        })
    }

    pub(super) fn stop_requested(&self, run: i64) -> Result<bool, StoreError> {
        self.connection
            .query_row(
                "SELECT stop_requested FROM runs WHERE id = ?1",
                params![run],
                |row| row.get(0),
            )
            .map_err(|source| self.error(source))
    }

    fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let path = &self.path;
        let result = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                let value = work(&transaction)?;
                transaction.commit()?;
                Ok(value)
            });
        result.map_err(|source| StoreError::Sqlite {
            path: path.clone(),
            source,
        })
    }

    fn error(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Sqlite {
            path: self.path.clone(),
            source,
        }
    }
}

/// The database, for a look from beside.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    /// Opens an existing database. It can ask a run to stop, and change nothing else.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let error = |source| StoreError::Sqlite {
            path: path.to_owned(),
            source,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(error)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(error)?;
        Ok(Self {
            connection,
            path: path.to_owned(),
        })
    }

    fn ask<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&self.connection).map_err(|source| StoreError::Sqlite {
            path: self.path.clone(),
            source,
        })
    }

    pub(super) fn runs(&self) -> Result<Vec<StoredRun>, StoreError> {
        self.ask(|connection| {
            let mut statement = connection.prepare("SELECT name FROM runs ORDER BY id")?;
            let names = statement.query_map([], |row| row.get::<_, String>(0))?;
            let names = names.collect::<rusqlite::Result<Vec<_>>>()?;
            let runs = names
                .iter()
                .filter_map(|name| find_run(connection, name).transpose());
            runs.collect()
        })
    }

    pub(super) fn ledger(&self, run: i64) -> Result<Vec<u8>, StoreError> {
        self.ask(|connection| ledger_of(connection, run))
    }

    pub(super) fn ledger_page(
        &self,
        run: i64,
        from: u64,
        most_bytes: usize,
    ) -> Result<(u64, Vec<u8>), StoreError> {
        self.ask(|connection| {
            let count = "SELECT COUNT(*) FROM ledger WHERE run = ?1";
            let records: i64 = connection.query_row(count, params![run], |row| row.get(0))?;
            let sql = "SELECT line FROM ledger WHERE run = ?1 AND sequence >= ?2 ORDER BY sequence";
            let mut statement = connection.prepare(sql)?;
            let mut rows = statement.query(params![run, whole(from)])?;
            let mut lines = Vec::new();
            while let Some(row) = rows.next()?
                && lines.len() < most_bytes
            {
                lines.extend(row.get::<_, Vec<u8>>(0)?);
            }
            Ok((records.cast_unsigned(), lines))
        })
    }

    pub(super) fn openings(&self, run: i64) -> Result<Vec<String>, StoreError> {
        self.ask(|connection| {
            let sql = "SELECT opening FROM ledger WHERE run = ?1 AND opening IS NOT NULL ORDER BY sequence";
            column(connection, sql, run)
        })
    }

    pub(super) fn metrics(&self, run: i64) -> Result<Vec<String>, StoreError> {
        self.ask(|connection| metrics_of(connection, run))
    }

    pub(super) fn clients(&self, run: i64) -> Result<Vec<(String, ClientId)>, StoreError> {
        self.ask(|connection| clients_of(connection, run))
    }

    pub(super) fn checkpoint(&self, run: i64) -> Result<Option<Vec<u8>>, StoreError> {
        self.ask(|connection| {
            connection
                .query_row(
                    "SELECT content FROM checkpoints WHERE run = ?1",
                    params![run],
                    |row| row.get(0),
                )
                .optional()
        })
    }

    pub(super) fn refusals(&self, run: i64, most: u32) -> Result<Vec<StoredRefusal>, StoreError> {
        self.ask(|connection| {
            let mut statement = connection.prepare(
                "SELECT at_micros, client, round, reason FROM refusals WHERE run = ?1 ORDER BY id DESC LIMIT ?2",
            )?;
            let rows = statement.query_map(params![run, most], |row| {
                Ok(StoredRefusal {
                    at: Duration::from_micros(row.get::<_, i64>(0)?.cast_unsigned()),
                    client: row.get(1)?,
                    round: row.get::<_, i64>(2)?.cast_unsigned(),
                    reason: row.get(3)?,
                })
            })?;
            rows.collect()
        })
    }

    pub(super) fn request_stop(&self, run: i64) -> Result<bool, StoreError> {
        self.ask(|connection| {
            let sql = "UPDATE runs SET stop_requested = 1 WHERE id = ?1 AND status = 'running'";
            Ok(connection.execute(sql, params![run])? == 1)
        })
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A sum that was summed up is overwritten, not left in free pages.
    connection.pragma_update(None, "secure_delete", true)
}

fn find_run(connection: &Connection, name: &str) -> rusqlite::Result<Option<StoredRun>> {
    connection
        .query_row(
            "SELECT id, name, experiment, started_micros, secret, status, summary FROM runs WHERE name = ?1",
            params![name],
            |row| {
                let secret: Option<Vec<u8>> = row.get(4)?;
                Ok(StoredRun {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    experiment: row.get(2)?,
                    started: Duration::from_micros(row.get::<_, i64>(3)?.cast_unsigned()),
                    secret: secret.and_then(|secret| secret.try_into().ok()),
                    status: row.get(5)?,
                    summary: row.get(6)?,
                })
            },
        )
        .optional()
}

fn ledger_of(connection: &Connection, run: i64) -> rusqlite::Result<Vec<u8>> {
    let sql = "SELECT line FROM ledger WHERE run = ?1 ORDER BY sequence";
    let lines: Vec<Vec<u8>> = column(connection, sql, run)?;
    Ok(lines.concat())
}

fn metrics_of(connection: &Connection, run: i64) -> rusqlite::Result<Vec<String>> {
    column(
        connection,
        "SELECT metrics FROM rounds WHERE run = ?1 ORDER BY round",
        run,
    )
}

fn clients_of(connection: &Connection, run: i64) -> rusqlite::Result<Vec<(String, ClientId)>> {
    let mut statement = connection.prepare("SELECT name, id FROM clients WHERE run = ?1 ORDER BY id")?;
    let rows = statement.query_map(params![run], |row| {
        Ok((row.get(0)?, ClientId(row.get::<_, i64>(1)?.cast_unsigned())))
    })?;
    rows.collect()
}

fn column<T: rusqlite::types::FromSql>(
    connection: &Connection,
    sql: &str,
    run: i64,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map(params![run], |row| row.get(0))?;
    rows.collect()
}

fn put(transaction: &Transaction<'_>, table: &str, run: i64, content: &[u8]) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT INTO {table} (run, content) VALUES (?1, ?2) ON CONFLICT (run) DO UPDATE SET content = ?2"
    );
    transaction.execute(&sql, params![run, content])?;
    Ok(())
}

/// Keeps a second server off the same state. The system releases the lock when the process ends, however it ends.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = PathBuf::from(name);
    let file = File::create(&lock).map_err(|source| StoreError::File {
        path: lock.clone(),
        source,
    })?;
    // A process that was just killed gives its lock back when the system has cleared it away, which may take a moment.
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::Error(source)) => return Err(StoreError::File { path: lock, source }),
        }
    }
    Err(StoreError::Locked {
        path: path.to_owned(),
    })
}

/// Makes the file if it is absent. SQLite gives its other files the same permissions.
fn owner_only(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}
