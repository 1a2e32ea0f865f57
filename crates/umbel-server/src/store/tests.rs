//! What must hold of a state, on SQLite and on PostgreSQL.
//!
//! The tests on PostgreSQL need a server: `DATABASE_URL=postgresql://USER@HOST:PORT/DATABASE`. Without it they say that they are left
//! out. Each works in a schema of its own, which is removed at the end.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use postgres::config::Host;
use postgres::{Client, NoTls};
use tempfile::TempDir;
use umbel_protocol::ClientId;

use super::{Opening, Progress, Reader, Store, StoreError, With, postgresql};
use crate::{DatabaseUrl, State};

/// Where a test keeps its state.
enum Place {
    Folder(TempDir),
    Schema(Schema),
}

impl Place {
    fn folder() -> Self {
        Self::Folder(tempfile::tempdir().unwrap())
    }

    /// `None` where no server is known, which is said on standard error itself: the test harness would keep it back.
    fn schema(test: &str) -> Option<Self> {
        let Ok(server) = std::env::var("DATABASE_URL") else {
            let text = format!("{test}: left out on PostgreSQL: DATABASE_URL is not set\n");
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return None;
        };
        Some(Self::Schema(Schema::new(server)))
    }

    fn state(&self) -> State {
        match self {
            Self::Folder(folder) => State::File(folder.path().join("state.db")),
            Self::Schema(schema) => State::Database(schema.url("")),
        }
    }

    fn store(&self) -> Store {
        match Store::open(&self.state()).unwrap() {
            Opening::Ready(store) => store,
            Opening::Waiting(standby) => panic!("{standby:?}"),
        }
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.state()).unwrap()
    }

    /// A store with a run, and the run's number.
    fn opened(&self) -> (Store, i64) {
        let mut store = self.store();
        store
            .create_run("one", "text", &[7; 32], Duration::from_secs(5))
            .unwrap();
        let run = store.run("one").unwrap().unwrap();
        assert_eq!((run.secret, run.started), (Some([7; 32]), Duration::from_secs(5)));
        (store, run.id)
    }
}

/// A schema with a name of its own, removed when dropped, also by a test that fails.
struct Schema {
    server: String,
    name: String,
}

impl Schema {
    fn new(server: String) -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let name = format!("umbel_test_{:016x}", u64::from_le_bytes(random));
        let schema = Self { server, name };
        schema
            .admin()
            .batch_execute(&format!("CREATE SCHEMA {}", schema.name))
            .unwrap();
        schema
    }

    fn admin(&self) -> Client {
        Client::connect(&self.server, NoTls).unwrap()
    }

    /// A connection that sees the schema.
    fn client(&self) -> Client {
        self.url("").config().connect(NoTls).unwrap()
    }

    /// The URL whose connections see the schema, with further settings.
    fn url(&self, settings: &str) -> DatabaseUrl {
        let sign = if self.server.contains('?') { '&' } else { '?' };
        let options = format!("options=-csearch_path%3D{}{settings}", self.name);
        DatabaseUrl::parse(&format!("{}{sign}{options}", self.server), true).unwrap()
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let name = &self.name;
        let _ = self
            .admin()
            .batch_execute(&format!("SET lock_timeout = '20s'; DROP SCHEMA {name} CASCADE"));
    }
}

/// Each test once on SQLite and once on PostgreSQL.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[test] fn $test() { super::$test(&super::Place::folder()); })*
        }
        mod on_postgresql {
            $(#[test] fn $test() {
                if let Some(place) = super::Place::schema(stringify!($test)) {
                    super::$test(&place);
                }
            })*
        }
    };
}

on_both!(
    a_large_value_is_kept_whole_and_a_smaller_one_replaces_it,
    a_refusal_is_kept_once_a_round_and_a_running_run_can_be_asked_to_stop,
    clients_keep_their_number_and_there_are_no_more_than_declared,
    nothing_is_stored_twice_and_half_of_a_transaction_never,
    pages_of_a_ledger_have_whole_lines_and_end_where_they_should,
    what_is_stored_is_there_after_a_restart,
);

fn progress(checkpoint: Option<&str>, open_round: Option<&str>) -> Progress {
    let bytes = |text: &str| text.as_bytes().to_vec();
    Progress {
        checkpoint: checkpoint.map(bytes),
        open_round: open_round.map(bytes),
    }
}

fn what_is_stored_is_there_after_a_restart(place: &Place) {
    let (mut store, run) = place.opened();
    store.append(run, 0, "header\n", &With::default()).unwrap();
    store.save_open_round(run, 1, b"empty", &[]).unwrap();
    store
        .save_open_round(run, 1, b"two", &[ClientId(0), ClientId(3)])
        .unwrap();
    let charge = With {
        opening: Some("counts"),
        open_round: Some(b"charged".to_vec()),
        ..With::default()
    };
    store.append(run, 1, "charge\n", &charge).unwrap();
    assert_eq!(store.unfinished().unwrap().as_deref(), Some("one"));
    drop(store);

    let mut store = place.store();
    assert_eq!(store.ledger(run).unwrap(), b"header\ncharge\n");
    assert_eq!(store.progress(run).unwrap(), progress(None, Some("charged")));
    let release = With {
        checkpoint: Some(b"model".to_vec()),
        ..With::default()
    };
    store.append(run, 2, "release\n", &release).unwrap();
    assert_eq!(store.progress(run).unwrap(), progress(Some("model"), None));
    for metrics in ["{}", "{\"round\":1}"] {
        store.save_metrics(run, 1, metrics).unwrap();
    }
    assert_eq!(store.metrics(run).unwrap(), ["{\"round\":1}"]);
    let end = With {
        end: Some(("finished", "{}")),
        ..With::default()
    };
    store.append(run, 3, "close\n", &end).unwrap();
    let stored = store.run("one").unwrap().unwrap();
    assert_eq!((stored.secret, stored.status.as_str()), (None, "finished"));
    assert_eq!(stored.summary.as_deref(), Some("{}"));
    assert_eq!(store.unfinished().unwrap(), None);
    let mut reader = place.reader();
    assert_eq!(reader.openings(run).unwrap(), ["counts"]);
    assert_eq!(
        reader.checkpoint(run).unwrap().as_deref(),
        Some(b"model".as_slice())
    );
    assert_eq!(reader.metrics(run).unwrap(), ["{\"round\":1}"]);
    let runs = reader.runs().unwrap();
    assert_eq!((runs.len(), runs[0].name.as_str(), runs[0].id), (1, "one", run));
    assert!(!reader.request_stop(run).unwrap());
}

fn nothing_is_stored_twice_and_half_of_a_transaction_never(place: &Place) {
    let (mut store, run) = place.opened();
    store.append(run, 0, "header\n", &With::default()).unwrap();
    let with = With {
        open_round: Some(b"x".to_vec()),
        ..With::default()
    };
    assert!(store.append(run, 0, "other\n", &with).is_err());
    assert_eq!(store.ledger(run).unwrap(), b"header\n");
    assert_eq!(store.progress(run).unwrap(), progress(None, None));
    // What is the same was stored by an earlier try whose outcome nobody knew.
    store.append(run, 0, "header\n", &With::default()).unwrap();
    store.save_open_round(run, 1, b"a", &[ClientId(4)]).unwrap();
    assert!(
        store
            .save_open_round(run, 1, b"b", &[ClientId(5), ClientId(4)])
            .is_err()
    );
    assert_eq!(store.progress(run).unwrap(), progress(None, Some("a")));
    // Client 5 was not stored either.
    store.save_open_round(run, 1, b"c", &[ClientId(5)]).unwrap();
    assert!(store.create_run("one", "", &[0; 32], Duration::ZERO).is_err());
}

fn clients_keep_their_number_and_there_are_no_more_than_declared(place: &Place) {
    let (mut store, run) = place.opened();
    for (name, id) in [
        ("b", Some(0)),
        ("a", Some(1)),
        ("b", Some(0)),
        ("c", None),
        ("a", Some(1)),
    ] {
        assert_eq!(store.enrol(run, name, 2).unwrap(), id.map(ClientId), "{name}");
    }
    let clients = [("b".to_owned(), ClientId(0)), ("a".to_owned(), ClientId(1))];
    assert_eq!(store.clients(run).unwrap(), clients);
    assert_eq!(place.reader().clients(run).unwrap(), clients);
}

fn a_refusal_is_kept_once_a_round_and_a_running_run_can_be_asked_to_stop(place: &Place) {
    let (mut store, run) = place.opened();
    for reason in ["too little noise", "again"] {
        store.refuse(run, Duration::from_secs(1), "a", 0, reason).unwrap();
    }
    store
        .refuse(run, Duration::from_secs(2), "b", 0, "later")
        .unwrap();
    let mut reader = place.reader();
    let refusals = reader.refusals(run, 10).unwrap();
    let clients: Vec<_> = refusals.iter().map(|refusal| refusal.client.as_str()).collect();
    assert_eq!(clients, ["b", "a"]);
    let first = &refusals[1];
    assert_eq!(
        (first.reason.as_str(), first.at, first.round),
        ("too little noise", Duration::from_secs(1), 0)
    );
    assert_eq!(reader.refusals(run, 1).unwrap().len(), 1);
    assert!(!store.stop_requested(run).unwrap());
    assert!(reader.request_stop(run).unwrap());
    assert!(store.stop_requested(run).unwrap());
}

fn pages_of_a_ledger_have_whole_lines_and_end_where_they_should(place: &Place) {
    let (mut store, run) = place.opened();
    let lines: Vec<_> = (0..150).map(|sequence| format!("line {sequence:03}\n")).collect();
    for (sequence, line) in (0..).zip(&lines) {
        store.append(run, sequence, line, &With::default()).unwrap();
    }
    let mut reader = place.reader();
    for (from, most_bytes, expected) in [
        (0, 1 << 20, 0..150),
        (70, 1 << 20, 70..150),
        // The line that reaches the limit is the last.
        (3, 1, 3..4),
        (3, 9, 3..4),
        (3, 10, 3..5),
        (60, 720, 60..140),
        (150, 1 << 20, 150..150),
        (u64::MAX, 1 << 20, 150..150),
    ] {
        let page = reader.ledger_page(run, from, most_bytes).unwrap();
        assert_eq!(
            page,
            (150, lines[expected].concat().into_bytes()),
            "{from} {most_bytes}"
        );
    }
}

fn a_large_value_is_kept_whole_and_a_smaller_one_replaces_it(place: &Place) {
    let (mut store, run) = place.opened();
    // Two parts and a bit, with no two parts alike; then fewer, and nothing.
    let large: Vec<u8> = (0..u32::try_from((32 << 20) + 5).unwrap())
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for length in [large.len(), 16 << 20, 3, 0] {
        store.save_open_round(run, 1, &large[..length], &[]).unwrap();
        let stored = store.progress(run).unwrap().open_round.unwrap();
        assert!(stored == large[..length], "{length} bytes");
    }
}

#[test]
fn a_second_writer_and_other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder);
    let (store, _) = place.opened();
    let State::File(path) = place.state() else {
        unreachable!("a folder");
    };
    assert!(matches!(
        Store::open(&place.state()),
        Err(StoreError::Locked { .. })
    ));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    drop(store);
    let open = |path: &Path| Store::open(&State::File(path.to_owned()));
    let other = path.with_file_name("other.db");
    rusqlite::Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE x (y)")
        .unwrap();
    let error = open(&other).unwrap_err().to_string();
    assert!(error.contains("another program's database"), "{error}");
    std::fs::write(
        &other,
        "no database at all, but long enough to be looked at as one",
    )
    .unwrap();
    assert!(open(&other).is_err());
}

/// The tests below are about what only PostgreSQL has.
fn schema(test: &str) -> Option<(Place, DatabaseUrl)> {
    let place = Place::schema(test)?;
    match &place {
        Place::Schema(schema) => {
            let url = schema.url("");
            Some((place, url))
        }
        Place::Folder(_) => None,
    }
}

fn admin(place: &Place) -> Client {
    match place {
        Place::Schema(schema) => schema.client(),
        Place::Folder(_) => unreachable!("a schema"),
    }
}

/// As a server finds it whose lease has run out: killed, or cut off for long.
fn let_the_lease_run_out(place: &Place) {
    let sql = "UPDATE lease SET expires = clock_timestamp() - interval '1 second'";
    assert_eq!(admin(place).execute(sql, &[]).unwrap(), 1);
}

fn waits(opening: Result<Opening, StoreError>) -> postgresql::Standby {
    match opening.unwrap() {
        Opening::Waiting(standby) => standby,
        Opening::Ready(store) => panic!("{store:?}"),
    }
}

fn leads(opening: Result<Opening, StoreError>) -> Store {
    match opening.unwrap() {
        Opening::Ready(store) => store,
        Opening::Waiting(standby) => panic!("{standby:?}"),
    }
}

#[test]
fn a_second_server_waits_until_the_first_ends() {
    let Some((place, _)) = schema("a_second_server_waits_until_the_first_ends") else {
        return;
    };
    let (mut store, run) = place.opened();
    let standby = waits(Store::open(&place.state()));
    let us = format!("process {} at ", std::process::id());
    assert!(standby.holder().starts_with(&us), "{}", standby.holder());
    let standby = waits(standby.try_to_lead());
    store.append(run, 0, "header\n", &With::default()).unwrap();
    drop(store);
    let mut store = leads(standby.try_to_lead());
    assert_eq!(store.ledger(run).unwrap(), b"header\n");
    store.append(run, 1, "reserve\n", &With::default()).unwrap();
}

#[test]
fn a_server_that_was_taken_over_from_writes_nothing_more() {
    let Some((place, _)) = schema("a_server_that_was_taken_over_from_writes_nothing_more") else {
        return;
    };
    let (mut first, run) = place.opened();
    first.append(run, 0, "header\n", &With::default()).unwrap();
    let standby = waits(Store::open(&place.state()));
    let_the_lease_run_out(&place);
    // It may have been renewed in between.
    let mut opening = standby.try_to_lead();
    let mut second = loop {
        match opening.unwrap() {
            Opening::Ready(store) => break store,
            Opening::Waiting(standby) => {
                let_the_lease_run_out(&place);
                opening = standby.try_to_lead();
            }
        }
    };
    let with = With {
        checkpoint: Some(b"never".to_vec()),
        ..With::default()
    };
    let tries = [
        first.append(run, 1, "release\n", &with),
        first.append(run, 0, "header\n", &With::default()),
        first.save_open_round(run, 1, b"never", &[ClientId(1)]),
        first.save_metrics(run, 1, "{}"),
        first.enrol(run, "a", 10).map(drop),
        first.refuse(run, Duration::ZERO, "a", 0, "why"),
        first.create_run("two", "", &[1; 32], Duration::ZERO),
        // A server that only waits hears of it, too.
        first.stop_requested(run).map(drop),
    ];
    for result in tries {
        let error = result.unwrap_err();
        assert!(matches!(error, StoreError::Fenced { .. }), "{error}");
        assert!(!error.may_pass(), "not tried again");
    }
    // It gives back nothing that is not its own.
    drop(first);
    second.append(run, 1, "other\n", &With::default()).unwrap();
    assert_eq!(second.ledger(run).unwrap(), b"header\nother\n");
    assert_eq!(second.progress(run).unwrap(), progress(None, None));
    assert_eq!(second.clients(run).unwrap(), []);
    drop(waits(Store::open(&place.state())));
}

#[test]
fn a_takeover_waits_for_a_write_that_is_on_its_way() {
    let Some((place, _)) = schema("a_takeover_waits_for_a_write_that_is_on_its_way") else {
        return;
    };
    let (store, _) = place.opened();
    let standby = waits(Store::open(&place.state()));
    // What a write does first.
    let mut other = admin(&place);
    let mut writing = other.transaction().unwrap();
    writing
        .query_one("SELECT epoch FROM lease FOR KEY SHARE", &[])
        .unwrap();
    drop(store);
    let standby = waits(standby.try_to_lead());
    writing.commit().unwrap();
    drop(leads(standby.try_to_lead()));
}

#[test]
fn a_write_goes_on_after_the_connection_was_cut_off() {
    let Some((place, _)) = schema("a_write_goes_on_after_the_connection_was_cut_off") else {
        return;
    };
    let Place::Schema(named) = &place else {
        return;
    };
    let (mut store, run) = {
        // Told apart from the connections of other tests by its name.
        let url = named.url(&format!("&application_name={}", named.name));
        let mut store = leads(Store::open(&State::Database(url)));
        store.create_run("one", "text", &[7; 32], Duration::ZERO).unwrap();
        let run = store.run("one").unwrap().unwrap().id;
        (store, run)
    };
    let mut reader = place.reader();
    let mut admin = admin(&place);
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
    for sequence in 0..5 {
        let ended: i64 = admin.query_one(sql, &[&named.name]).unwrap().get(0);
        assert!(ended >= 1, "a connection was there");
        let line = format!("line {sequence}\n");
        store.append(run, sequence, &line, &With::default()).unwrap();
        // As if nobody knew that it had been committed.
        store.append(run, sequence, &line, &With::default()).unwrap();
        store
            .save_open_round(run, sequence, line.as_bytes(), &[ClientId(3)])
            .unwrap();
        store
            .save_open_round(run, sequence, line.as_bytes(), &[ClientId(3)])
            .unwrap();
    }
    let text: String = (0..5).map(|sequence| format!("line {sequence}\n")).collect();
    assert_eq!(reader.ledger(run).unwrap(), text.as_bytes());
    let count: i64 = admin
        .query_one("SELECT count(*) FROM participation", &[])
        .unwrap()
        .get(0);
    assert_eq!(count, 5, "each once");
}

/// Stands between a store and the database. While `losing` is set it lets the next commit through and cuts the connection in place of
/// the answer.
struct Cutter {
    address: SocketAddr,
    losing: Arc<AtomicBool>,
}

impl Cutter {
    fn before(database: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let losing = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&losing);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(database).unwrap());
                let cut = Arc::new(AtomicBool::new(false));
                let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (to_lose, flag) = (Arc::clone(&cut), Arc::clone(&flag));
                thread::spawn(move || {
                    forward(up, server, |bytes| {
                        let is_commit = bytes.windows(6).any(|text| text == b"COMMIT");
                        if is_commit && flag.swap(false, Ordering::SeqCst) {
                            to_lose.store(true, Ordering::SeqCst);
                        }
                        true
                    })
                });
                thread::spawn(move || forward(down, client, |_| !cut.load(Ordering::SeqCst)));
            }
        });
        Self { address, losing }
    }
}

/// Passes on what comes, as long as `passes` says so; then both ends are closed.
fn forward(mut from: TcpStream, mut to: TcpStream, mut passes: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !passes(&buffer[..length]) || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    for end in [from, to] {
        let _ = end.shutdown(Shutdown::Both);
    }
}

#[test]
fn a_commit_whose_answer_is_lost_counts_once() {
    let Some((place, url)) = schema("a_commit_whose_answer_is_lost_counts_once") else {
        return;
    };
    let Place::Schema(named) = &place else {
        return;
    };
    let config = url.config();
    let ([Host::Tcp(host)], [port]) = (config.get_hosts(), config.get_ports()) else {
        panic!("DATABASE_URL has a host and a port");
    };
    let database = (host.as_str(), *port).to_socket_addrs().unwrap().next().unwrap();
    let cutter = Cutter::before(database);
    let text = named
        .server
        .replacen(&format!("{host}:{port}"), &cutter.address.to_string(), 1);
    assert_ne!(text, named.server, "DATABASE_URL has `{host}:{port}`");
    let through = Schema {
        server: text,
        name: named.name.clone(),
    };
    let url = through.url("");
    // It is removed once, by the other.
    std::mem::forget(through);

    let mut store = leads(Store::open(&State::Database(url)));
    let lose = || cutter.losing.store(true, Ordering::SeqCst);
    let lost = || assert!(!cutter.losing.load(Ordering::SeqCst), "a commit was lost");
    lose();
    store.create_run("one", "text", &[7; 32], Duration::ZERO).unwrap();
    lost();
    let run = store.run("one").unwrap().unwrap().id;
    let release = With {
        checkpoint: Some(vec![5; 100_000]),
        ..With::default()
    };
    for (sequence, with) in [(0, &With::default()), (1, &release)] {
        lose();
        store
            .append(run, sequence, &format!("line {sequence}\n"), with)
            .unwrap();
        lost();
    }
    for (content, clients) in [("one", 0..3), ("two", 3..4), ("three", 4..9)] {
        let clients: Vec<_> = clients.map(ClientId).collect();
        lose();
        store
            .save_open_round(run, 1, content.as_bytes(), &clients)
            .unwrap();
        lost();
        assert_eq!(
            store.progress(run).unwrap().open_round.unwrap(),
            content.as_bytes()
        );
    }
    for (name, id) in [("a", 0), ("b", 1)] {
        lose();
        assert_eq!(store.enrol(run, name, 2).unwrap(), Some(ClientId(id)));
        lost();
    }
    lose();
    store.save_metrics(run, 1, "{}").unwrap();
    lost();
    lose();
    store.refuse(run, Duration::ZERO, "a", 0, "why").unwrap();
    lost();
    assert_eq!(store.ledger(run).unwrap(), b"line 0\nline 1\n");
    assert!(store.progress(run).unwrap().checkpoint == release.checkpoint);
    let mut admin = admin(&place);
    for (table, count) in [
        ("runs", 1),
        ("ledger", 2),
        ("participation", 9),
        ("clients", 2),
        ("refusals", 1),
        ("rounds", 1),
    ] {
        let found: i64 = admin
            .query_one(&format!("SELECT count(*) FROM {table}"), &[])
            .unwrap()
            .get(0);
        assert_eq!(found, count, "{table}");
    }
}

#[test]
fn a_database_that_may_lose_what_it_committed_is_refused_by_the_setting() {
    let Some((place, url)) = schema("a_database_that_may_lose_what_it_committed_is_refused_by_the_setting")
    else {
        return;
    };
    let Place::Schema(named) = &place else {
        return;
    };
    let unsafe_url = named.url("%20-csynchronous_commit%3Doff");
    let error = Store::open(&State::Database(unsafe_url)).unwrap_err();
    assert!(matches!(error, StoreError::Unsafe { .. }), "{error}");
    assert!(
        error.to_string().contains("got `synchronous_commit = off`"),
        "{error}"
    );
    // Nothing is held by who was refused, and `local` keeps what it has committed on its own disk.
    drop(leads(Store::open(&State::Database(
        named.url("%20-csynchronous_commit%3Dlocal"),
    ))));
    drop(leads(Store::open(&State::Database(url))));
}

#[test]
fn another_programs_tables_and_another_version_are_refused() {
    let Some((place, _)) = schema("another_programs_tables_and_another_version_are_refused") else {
        return;
    };
    let mut admin = admin(&place);
    assert!(matches!(
        Reader::open(&place.state()),
        Err(StoreError::Other { .. })
    ));
    admin.batch_execute("CREATE TABLE runs (x BIGINT)").unwrap();
    let error = Store::open(&place.state()).unwrap_err().to_string();
    assert!(error.contains("tables of another program"), "{error}");
    admin.batch_execute("DROP TABLE runs").unwrap();
    drop(place.opened());
    admin.batch_execute("UPDATE umbel_state SET version = 2").unwrap();
    let error = Store::open(&place.state()).unwrap_err().to_string();
    assert!(error.contains("version 1, got version 2"), "{error}");
    let error = Reader::open(&place.state()).unwrap_err().to_string();
    assert!(error.contains("version 1, got version 2"), "{error}");
}
