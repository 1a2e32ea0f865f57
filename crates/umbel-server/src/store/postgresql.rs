//! The state in a PostgreSQL database, in the schema that its connections see first.
//!
//! One server writes, the one that holds the lease (`lease.rs`). A database that may lose what it has committed is refused. Every
//! write can be repeated: after a lost connection nobody knows whether its transaction was committed, so each looks at what is there.

mod lease;
mod session;

use std::thread;
use std::time::{Duration, Instant};

use postgres::fallible_iterator::FallibleIterator as _;
use postgres::{Client, GenericClient, Row, Transaction};
use umbel_protocol::ClientId;

pub(crate) use self::lease::Holder;
use self::lease::{Lease, fenced};
use self::session::{Session, is_lost};
pub(super) use self::session::{explain, may_pass};
use super::{
    Opening, Progress, SCHEMA_VERSION, Store as AnyStore, StoreError, StoredRefusal, StoredRun, With, micros,
    whole,
};
use crate::{DatabaseUrl, State};

/// How long a lost connection is made again before the loss is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// The most bytes of a model or a sum in one row. PostgreSQL takes up to a gigabyte, and holds each value a few times in memory.
const PART_BYTES: usize = 16 << 20;

/// Any number, the same for all servers: who makes the tables holds it.
const MAKING: i64 = 0x756d_6265_6c00_0001;

/// The tables are those of SQLite, and besides them the version and the lease. Sums and models do not get
/// smaller by PostgreSQL's compression, so it is not tried on them.
const SCHEMA: &str = "
    CREATE TABLE umbel_state (version BIGINT NOT NULL);
    CREATE TABLE lease (
        one BIGINT PRIMARY KEY CHECK (one = 1),
        epoch BIGINT NOT NULL,
        holder TEXT NOT NULL,
        expires TIMESTAMPTZ NOT NULL          -- by the clock of the database
    );
    CREATE TABLE runs (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        experiment TEXT NOT NULL,
        started_micros BIGINT NOT NULL,
        secret BYTEA,
        status TEXT NOT NULL,
        stop_requested BOOLEAN NOT NULL DEFAULT FALSE,
        summary TEXT
    );
    CREATE TABLE ledger (
        run BIGINT NOT NULL REFERENCES runs,
        sequence BIGINT NOT NULL,
        line BYTEA NOT NULL,
        opening TEXT,
        PRIMARY KEY (run, sequence)
    );
    CREATE TABLE rounds (
        run BIGINT NOT NULL REFERENCES runs,
        round BIGINT NOT NULL,
        metrics TEXT NOT NULL,
        PRIMARY KEY (run, round)
    );
    CREATE TABLE clients (
        run BIGINT NOT NULL REFERENCES runs,
        id BIGINT NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (run, id),
        UNIQUE (run, name)
    );
    CREATE TABLE participation (
        run BIGINT NOT NULL REFERENCES runs,
        round BIGINT NOT NULL,
        client BIGINT NOT NULL,
        PRIMARY KEY (run, round, client)
    );
    CREATE TABLE checkpoints (
        run BIGINT NOT NULL REFERENCES runs,
        part BIGINT NOT NULL,
        content BYTEA NOT NULL,
        PRIMARY KEY (run, part)
    );
    CREATE TABLE open_rounds (
        run BIGINT NOT NULL REFERENCES runs,
        part BIGINT NOT NULL,
        content BYTEA NOT NULL,
        PRIMARY KEY (run, part)
    );
    CREATE TABLE refusals (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        run BIGINT NOT NULL REFERENCES runs,
        at_micros BIGINT NOT NULL,
        client TEXT NOT NULL,
        round BIGINT NOT NULL,
        reason TEXT NOT NULL,
        UNIQUE (run, client, round)
    );
    ALTER TABLE checkpoints ALTER COLUMN content SET STORAGE EXTERNAL;
    ALTER TABLE open_rounds ALTER COLUMN content SET STORAGE EXTERNAL;
";

/// What stops a piece of work: the database, or what was found in it.
pub(super) enum Fault {
    Database(postgres::Error),
    Refused(StoreError),
}

impl From<postgres::Error> for Fault {
    fn from(error: postgres::Error) -> Self {
        Self::Database(error)
    }
}

/// A database and a connection to it, which is made again when it is lost.
#[derive(Debug)]
struct Link {
    url: DatabaseUrl,
    session: Option<Session>,
}

impl Link {
    fn new(url: &DatabaseUrl) -> Self {
        Self {
            url: url.clone(),
            session: None,
        }
    }

    fn state(&self) -> State {
        State::Database(self.url.clone())
    }

    /// Does `work`, again and again for a bounded time if the connection is lost. It may have been done before, so it must look.
    fn with<T>(&mut self, mut work: impl FnMut(&mut Client) -> Result<T, Fault>) -> Result<T, StoreError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let source = match self.once(&mut work) {
                Ok(value) => return Ok(value),
                Err(Fault::Refused(error)) => return Err(error),
                Err(Fault::Database(error)) => error,
            };
            if !is_lost(&source) || Instant::now() >= deadline {
                let state = self.state();
                return Err(StoreError::Database { state, source });
            }
            thread::sleep(PAUSE);
        }
    }

    fn once<T>(&mut self, work: &mut impl FnMut(&mut Client) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => Session::connect(&self.url)?,
        };
        let result = work(session.client());
        if !matches!(&result, Err(Fault::Database(error)) if is_lost(error)) {
            self.session = Some(session);
        }
        result
    }
}

/// A server that would write, and waits while another does.
#[derive(Debug)]
pub(crate) struct Standby {
    link: Link,
    holder: Option<Holder>,
}

impl Standby {
    /// Connects to the database, and makes its tables if it has none.
    pub(super) fn new(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let mut link = Link::new(url);
        link.with(|client| prepare(client, url))?;
        Ok(Self { link, holder: None })
    }

    /// Who writes, as far as it has said.
    pub(crate) fn holder(&self) -> &str {
        self.holder.as_ref().map_or("another server", |holder| &holder.0)
    }

    /// Becomes the one that writes, if nobody does. The database may be away for a while: then this waits as well.
    pub(crate) fn try_to_lead(mut self) -> Result<Opening, StoreError> {
        let taken = self.link.with(|client| match lease::take(client) {
            Err(Fault::Database(error)) if !is_lost(&error) && may_pass(&error) => Ok(None),
            taken => taken.map(Some),
        });
        match taken {
            Ok(Some(Ok(epoch))) => {
                let url = self.link.url.clone();
                let lease = Lease::keep(&url, epoch).map_err(|source| StoreError::File {
                    path: "lease".into(),
                    source,
                })?;
                let mut store = Store {
                    link: self.link,
                    epoch,
                    _lease: lease,
                };
                // Refused now, not at the first write.
                store.write(|_| Ok(()))?;
                Ok(Opening::Ready(AnyStore::Postgresql(store)))
            }
            Ok(Some(Err(holder))) => {
                self.holder = Some(holder);
                Ok(Opening::Waiting(self))
            }
            Ok(None) => Ok(Opening::Waiting(self)),
            // Who has waited goes on to wait.
            Err(error) if error.may_pass() && self.holder.is_some() => Ok(Opening::Waiting(self)),
            Err(error) => Err(error),
        }
    }
}

/// Makes the tables of a new database, and checks those of an old one.
fn prepare(client: &mut Client, url: &DatabaseUrl) -> Result<(), Fault> {
    let mut transaction = client.transaction()?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MAKING])?;
    if !is_state(&mut transaction)? {
        let found: i64 = transaction
            .query_one(
                "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()
                 AND tablename IN ('lease', 'runs', 'ledger', 'rounds', 'clients', 'participation', 'checkpoints', 'open_rounds',
                 'refusals')",
                &[],
            )?
            .get(0);
        if found > 0 {
            return Err(other(url, "tables of another program, in the same schema"));
        }
        transaction.batch_execute(SCHEMA)?;
        transaction.execute(
            "INSERT INTO umbel_state (version) VALUES ($1)",
            &[&SCHEMA_VERSION],
        )?;
        transaction.execute("INSERT INTO lease VALUES (1, 0, 'nobody', '-infinity')", &[])?;
    }
    check_version(&mut transaction, url)?;
    transaction.commit()?;
    Ok(())
}

fn is_state(client: &mut impl GenericClient) -> Result<bool, postgres::Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'umbel_state')";
    Ok(client.query_one(sql, &[])?.get(0))
}

fn check_version(client: &mut impl GenericClient, url: &DatabaseUrl) -> Result<(), Fault> {
    let version: i64 = client.query_one("SELECT version FROM umbel_state", &[])?.get(0);
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    Err(other(url, &format!("version {version}")))
}

fn other(url: &DatabaseUrl, got: &str) -> Fault {
    Fault::Refused(StoreError::Other {
        state: State::Database(url.clone()),
        expected: format!("a state of umbel, version {SCHEMA_VERSION}"),
        got: got.to_owned(),
    })
}

/// The database, for writing, as long as nobody takes over.
#[derive(Debug)]
pub(crate) struct Store {
    link: Link,
    epoch: i64,
    _lease: Lease,
}

impl Store {
    /// One transaction, all or nothing. Its outcome may be unknown once, and then it is repeated.
    fn write<T>(
        &mut self,
        mut work: impl FnMut(&mut Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let (epoch, url) = (self.epoch, self.link.url.clone());
        self.link.with(|client| {
            let mut transaction = client.transaction()?;
            lease::guard(&mut transaction, epoch, &url)?;
            let value = work(&mut transaction)?;
            transaction.commit()?;
            Ok(value)
        })
    }

    fn twice(&self, what: String) -> impl Fn() -> Fault + use<> {
        let state = self.link.state();
        move || {
            Fault::Refused(StoreError::Twice {
                state: state.clone(),
                what: what.clone(),
            })
        }
    }

    pub(super) fn create_run(
        &mut self,
        name: &str,
        experiment: &str,
        secret: &[u8; 32],
        started: Duration,
    ) -> Result<(), StoreError> {
        let twice = self.twice(format!("run `{name}`"));
        self.write(|transaction| {
            let sql = "INSERT INTO runs (name, experiment, started_micros, secret, status) VALUES ($1, $2, $3, $4, 'running')
                       ON CONFLICT (name) DO NOTHING";
            let inserted = transaction.execute(sql, &[&name, &experiment, &micros(started), &secret.as_slice()])?;
            // Nobody else draws the same secret: then it is this very run.
            let stored = find_run(transaction, name)?;
            if inserted == 1 || stored.is_some_and(|run| run.secret == Some(*secret)) {
                return Ok(());
            }
            Err(twice())
        })
    }

    pub(super) fn run(&mut self, name: &str) -> Result<Option<StoredRun>, StoreError> {
        self.link.with(|client| Ok(find_run(client, name)?))
    }

    pub(super) fn unfinished(&mut self) -> Result<Option<String>, StoreError> {
        self.link.with(|client| {
            let found = client.query_opt("SELECT name FROM runs WHERE status = 'running' LIMIT 1", &[])?;
            Ok(found.map(|row| row.get(0)))
        })
    }

    pub(super) fn ledger(&mut self, run: i64) -> Result<Vec<u8>, StoreError> {
        self.link.with(|client| Ok(ledger_of(client, run)?))
    }

    pub(super) fn progress(&mut self, run: i64) -> Result<Progress, StoreError> {
        self.link.with(|client| {
            Ok(Progress {
                checkpoint: blob(client, "checkpoints", run)?,
                open_round: blob(client, "open_rounds", run)?,
            })
        })
    }

    pub(super) fn append(
        &mut self,
        run: i64,
        sequence: u64,
        line: &str,
        with: &With<'_>,
    ) -> Result<(), StoreError> {
        let twice = self.twice(format!("ledger record {sequence}"));
        let sequence = whole(sequence);
        self.write(|transaction| {
            let sql = "INSERT INTO ledger (run, sequence, line, opening) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
            let inserted = transaction.execute(sql, &[&run, &sequence, &line.as_bytes(), &with.opening])?;
            if inserted == 0 {
                let sql = "SELECT line FROM ledger WHERE run = $1 AND sequence = $2";
                let stored: Vec<u8> = transaction.query_one(sql, &[&run, &sequence])?.get(0);
                // Where the line is there, all that belongs to it is.
                return if stored == line.as_bytes() { Ok(()) } else { Err(twice()) };
            }
            if let Some(content) = &with.open_round {
                put(transaction, "open_rounds", run, content)?;
            }
            if let Some(content) = &with.checkpoint {
                put(transaction, "checkpoints", run, content)?;
            }
            if with.checkpoint.is_some() || with.void {
                transaction.execute("DELETE FROM open_rounds WHERE run = $1", &[&run])?;
            }
            if let Some((status, summary)) = with.end {
                let sql = "UPDATE runs SET status = $2, summary = $3, secret = NULL WHERE id = $1";
                transaction.execute(sql, &[&run, &status, &summary])?;
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
        let twice = self.twice(format!("the report of a client in round {round}"));
        let round = whole(round);
        self.write(|transaction| {
            let mut inserted = 0;
            let sql =
                "INSERT INTO participation (run, round, client) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            let insert = transaction.prepare(sql)?;
            for client in reported {
                inserted += transaction.execute(&insert, &[&run, &round, &whole(client.0)])?;
            }
            if inserted == reported.len() as u64 {
                return Ok(put(transaction, "open_rounds", run, content)?);
            }
            // Either this very write was committed before, whole, or somebody would be counted twice.
            if inserted == 0 && blob(transaction, "open_rounds", run)?.as_deref() == Some(content) {
                return Ok(());
            }
            Err(twice())
        })
    }

    pub(super) fn save_metrics(&mut self, run: i64, round: u64, line: &str) -> Result<(), StoreError> {
        self.write(|transaction| {
            let sql = "INSERT INTO rounds (run, round, metrics) VALUES ($1, $2, $3)
                       ON CONFLICT (run, round) DO UPDATE SET metrics = $3";
            transaction.execute(sql, &[&run, &whole(round), &line])?;
            Ok(())
        })
    }

    pub(super) fn metrics(&mut self, run: i64) -> Result<Vec<String>, StoreError> {
        self.link.with(|client| Ok(metrics_of(client, run)?))
    }

    pub(super) fn clients(&mut self, run: i64) -> Result<Vec<(String, ClientId)>, StoreError> {
        self.link.with(|client| Ok(clients_of(client, run)?))
    }

    pub(super) fn enrol(
        &mut self,
        run: i64,
        name: &str,
        population: u64,
    ) -> Result<Option<ClientId>, StoreError> {
        self.write(|transaction| {
            let sql = "SELECT id FROM clients WHERE run = $1 AND name = $2";
            if let Some(known) = transaction.query_opt(sql, &[&run, &name])? {
                return Ok(Some(ClientId(known.get::<_, i64>(0).cast_unsigned())));
            }
            let sql = "SELECT coalesce(max(id) + 1, 0) FROM clients WHERE run = $1";
            let next: i64 = transaction.query_one(sql, &[&run])?.get(0);
            if next >= whole(population) {
                return Ok(None);
            }
            let sql = "INSERT INTO clients (run, id, name) VALUES ($1, $2, $3)";
            transaction.execute(sql, &[&run, &next, &name])?;
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
            let sql =
                "INSERT INTO refusals (run, at_micros, client, round, reason) VALUES ($1, $2, $3, $4, $5)
                       ON CONFLICT DO NOTHING";
            transaction.execute(sql, &[&run, &micros(at), &client, &whole(round), &reason])?;
            Ok(())
        })
    }

    pub(super) fn stop_requested(&mut self, run: i64) -> Result<bool, StoreError> {
        let (epoch, url) = (self.epoch, self.link.url.clone());
        self.link.with(|client| {
            let sql = "SELECT stop_requested, (SELECT epoch FROM lease) FROM runs WHERE id = $1";
            let row = client.query_one(sql, &[&run])?;
            if row.get::<_, i64>(1) != epoch {
                return Err(fenced(&url));
            }
            Ok(row.get(0))
        })
    }
}

/// The database, for a look from beside.
#[derive(Debug)]
pub(crate) struct Reader(Link);

impl Reader {
    pub(super) fn open(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let mut link = Link::new(url);
        link.with(|client| {
            if !is_state(client)? {
                return Err(other(url, "a database without one"));
            }
            check_version(client, url)
        })?;
        Ok(Self(link))
    }

    pub(super) fn runs(&mut self) -> Result<Vec<StoredRun>, StoreError> {
        self.0.with(|client| {
            let rows = client.query(&format!("{RUN} ORDER BY id"), &[])?;
            Ok(rows.iter().map(stored_run).collect())
        })
    }

    pub(super) fn ledger(&mut self, run: i64) -> Result<Vec<u8>, StoreError> {
        self.0.with(|client| Ok(ledger_of(client, run)?))
    }

    pub(super) fn ledger_page(
        &mut self,
        run: i64,
        from: u64,
        most_bytes: usize,
    ) -> Result<(u64, Vec<u8>), StoreError> {
        self.0.with(|client| {
            let sql = "SELECT count(*) FROM ledger WHERE run = $1";
            let records: i64 = client.query_one(sql, &[&run])?.get(0);
            let mut lines = Vec::new();
            let mut next = whole(from);
            // A few lines at a time: what does not fit on the page is not asked for.
            while next < records && lines.len() < most_bytes {
                let sql =
                    "SELECT line FROM ledger WHERE run = $1 AND sequence >= $2 ORDER BY sequence LIMIT 64";
                let rows = client.query(sql, &[&run, &next])?;
                for row in &rows {
                    if lines.len() >= most_bytes {
                        break;
                    }
                    lines.extend(row.get::<_, Vec<u8>>(0));
                }
                next += 64;
            }
            Ok((records.cast_unsigned(), lines))
        })
    }

    pub(super) fn openings(&mut self, run: i64) -> Result<Vec<String>, StoreError> {
        self.0.with(|client| {
            let sql = "SELECT opening FROM ledger WHERE run = $1 AND opening IS NOT NULL ORDER BY sequence";
            Ok(texts(client, sql, run)?)
        })
    }

    pub(super) fn metrics(&mut self, run: i64) -> Result<Vec<String>, StoreError> {
        self.0.with(|client| Ok(metrics_of(client, run)?))
    }

    pub(super) fn clients(&mut self, run: i64) -> Result<Vec<(String, ClientId)>, StoreError> {
        self.0.with(|client| Ok(clients_of(client, run)?))
    }

    pub(super) fn checkpoint(&mut self, run: i64) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.with(|client| Ok(blob(client, "checkpoints", run)?))
    }

    pub(super) fn refusals(&mut self, run: i64, most: u32) -> Result<Vec<StoredRefusal>, StoreError> {
        self.0.with(|client| {
            let sql =
                "SELECT at_micros, client, round, reason FROM refusals WHERE run = $1 ORDER BY id DESC LIMIT $2";
            let rows = client.query(sql, &[&run, &i64::from(most)])?;
            let refusal = |row: &Row| StoredRefusal {
                at: Duration::from_micros(row.get::<_, i64>(0).cast_unsigned()),
                client: row.get(1),
                round: row.get::<_, i64>(2).cast_unsigned(),
                reason: row.get(3),
            };
            Ok(rows.iter().map(refusal).collect())
        })
    }

    pub(super) fn request_stop(&mut self, run: i64) -> Result<bool, StoreError> {
        self.0.with(|client| {
            let sql = "UPDATE runs SET stop_requested = TRUE WHERE id = $1 AND status = 'running'";
            Ok(client.execute(sql, &[&run])? == 1)
        })
    }
}

const RUN: &str = "SELECT id, name, experiment, started_micros, secret, status, summary FROM runs";

fn stored_run(row: &Row) -> StoredRun {
    let secret: Option<Vec<u8>> = row.get(4);
    StoredRun {
        id: row.get(0),
        name: row.get(1),
        experiment: row.get(2),
        started: Duration::from_micros(row.get::<_, i64>(3).cast_unsigned()),
        secret: secret.and_then(|secret| secret.try_into().ok()),
        status: row.get(5),
        summary: row.get(6),
    }
}

fn find_run(client: &mut impl GenericClient, name: &str) -> Result<Option<StoredRun>, postgres::Error> {
    let row = client.query_opt(&format!("{RUN} WHERE name = $1"), &[&name])?;
    Ok(row.as_ref().map(stored_run))
}

fn ledger_of(client: &mut impl GenericClient, run: i64) -> Result<Vec<u8>, postgres::Error> {
    let rows = client.query(
        "SELECT line FROM ledger WHERE run = $1 ORDER BY sequence",
        &[&run],
    )?;
    Ok(rows
        .iter()
        .flat_map(|row| row.get::<_, &[u8]>(0))
        .copied()
        .collect())
}

fn metrics_of(client: &mut impl GenericClient, run: i64) -> Result<Vec<String>, postgres::Error> {
    texts(
        client,
        "SELECT metrics FROM rounds WHERE run = $1 ORDER BY round",
        run,
    )
}

fn texts(client: &mut impl GenericClient, sql: &str, run: i64) -> Result<Vec<String>, postgres::Error> {
    let rows = client.query(sql, &[&run])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn clients_of(client: &mut impl GenericClient, run: i64) -> Result<Vec<(String, ClientId)>, postgres::Error> {
    let rows = client.query("SELECT name, id FROM clients WHERE run = $1 ORDER BY id", &[&run])?;
    let client = |row: &Row| (row.get(0), ClientId(row.get::<_, i64>(1).cast_unsigned()));
    Ok(rows.iter().map(client).collect())
}

/// Replaces a large value, in parts.
fn put(
    transaction: &mut Transaction<'_>,
    table: &str,
    run: i64,
    content: &[u8],
) -> Result<(), postgres::Error> {
    let sql = format!(
        "INSERT INTO {table} (run, part, content) VALUES ($1, $2, $3) ON CONFLICT (run, part) DO UPDATE SET content = $3"
    );
    let insert = transaction.prepare(&sql)?;
    let mut parts: i64 = 0;
    // An empty value is one empty part: none would mean that there is no value.
    let empty = content.is_empty().then_some(content);
    for part in content.chunks(PART_BYTES).chain(empty) {
        transaction.execute(&insert, &[&run, &parts, &part])?;
        parts += 1;
    }
    let sql = format!("DELETE FROM {table} WHERE run = $1 AND part >= $2");
    transaction.execute(&sql, &[&run, &parts])?;
    Ok(())
}

/// Reads a large value in one statement, which sees all its parts at one moment; `None` if there is none.
fn blob(client: &mut impl GenericClient, table: &str, run: i64) -> Result<Option<Vec<u8>>, postgres::Error> {
    let sql = format!("SELECT content FROM {table} WHERE run = $1 ORDER BY part");
    let mut rows = client.query_raw(&sql, [run])?;
    let mut content: Option<Vec<u8>> = None;
    while let Some(row) = rows.next()? {
        content.get_or_insert_default().extend_from_slice(row.get(0));
    }
    Ok(content)
}
