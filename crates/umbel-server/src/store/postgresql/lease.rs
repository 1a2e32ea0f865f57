//! Who writes: one server at a time, which holds the lease.
//!
//! The lease is one row with an epoch, a holder and a time at which it runs out by the database's clock; no other clock matters. Its
//! holder renews it on a connection of its own, so that a long write is not in the way of that.
//!
//! **Why a server that was taken over from can write no more.** Each transaction that writes takes `FOR KEY SHARE` of the row before
//! anything else and compares the epoch with its own. Who takes over takes `FOR UPDATE` of the row, which waits until all such
//! transactions have ended and lets no other begin, and raises the epoch in the same transaction. So whatever an older epoch wrote was
//! there before the new holder read anything, and later it writes nothing. Time decides only when somebody may try, never who may
//! write. (`FOR KEY SHARE` and not `FOR SHARE`: the holder's own renewal changes no key and goes on beside it.)

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use postgres::{Client, Transaction};
use tracing::{info, warn};

use super::Fault;
use super::session::{Session, explain};
use crate::{DatabaseUrl, State, StoreError};

/// How long the lease is valid after it was renewed, by the database's clock, as PostgreSQL reads it.
const VALID: &str = "10 seconds";

/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(2);

/// Settings of PostgreSQL without which something that was committed may be lost.
const DURABLE: [&str; 3] = ["fsync", "full_page_writes", "synchronous_commit"];

/// What another server holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder(pub(super) String);

/// Takes the lease if it is free or has run out.
pub(super) fn take(client: &mut Client) -> Result<Result<i64, Holder>, Fault> {
    let found = client.query_one("SELECT holder, expires <= clock_timestamp() FROM lease", &[])?;
    if !found.get::<_, bool>(1) {
        return Ok(Err(Holder(found.get(0))));
    }
    let mut transaction = client.transaction()?;
    // A transaction of the former holder may be on its way.
    transaction.batch_execute("SET LOCAL lock_timeout = '2s'")?;
    transaction.query_one("SELECT epoch FROM lease FOR UPDATE", &[])?;
    let holder = format!(
        "'process {} at ' || coalesce(host(inet_client_addr()), 'the same machine')",
        std::process::id()
    );
    let sql = format!(
        "UPDATE lease SET epoch = epoch + 1, holder = {holder}, expires = clock_timestamp() + interval '{VALID}'
         WHERE expires <= clock_timestamp() RETURNING epoch"
    );
    let taken = transaction.query_opt(&sql, &[])?;
    let Some(taken) = taken else {
        // Somebody else was faster.
        return Ok(Err(Holder(found.get(0))));
    };
    transaction.commit()?;
    Ok(Ok(taken.get(0)))
}

/// Lets a transaction go on only if the lease is still of this epoch, and what it commits is kept.
pub(super) fn guard(transaction: &mut Transaction<'_>, epoch: i64, url: &DatabaseUrl) -> Result<(), Fault> {
    let settings = DURABLE
        .map(|name| format!("current_setting('{name}')"))
        .join(", ");
    let row = transaction.query_one(&format!("SELECT epoch, {settings} FROM lease FOR KEY SHARE"), &[])?;
    if row.get::<_, i64>(0) != epoch {
        return Err(fenced(url));
    }
    for (column, name) in DURABLE.iter().enumerate() {
        let value: String = row.get(column + 1);
        if value == "off" {
            return Err(Fault::Refused(StoreError::Unsafe {
                state: State::Database(url.clone()),
                setting: (*name).to_owned(),
                got: value,
            }));
        }
    }
    Ok(())
}

pub(super) fn fenced(url: &DatabaseUrl) -> Fault {
    Fault::Refused(StoreError::Fenced {
        state: State::Database(url.clone()),
    })
}

/// Renews the lease as long as it lives, and gives it back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Lease {
    pub(super) fn keep(url: &DatabaseUrl, epoch: i64) -> Result<Self, std::io::Error> {
        let (stop, stopped) = channel();
        let url = url.clone();
        let thread = thread::Builder::new()
            .name("lease".to_owned())
            .spawn(move || renew_until(&stopped, &url, epoch))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn renew_until(stopped: &Receiver<()>, url: &DatabaseUrl, epoch: i64) {
    let mut session = None;
    let mut failed = false;
    while stopped.recv_timeout(RENEW) == Err(RecvTimeoutError::Timeout) {
        match set_expiry(&mut session, url, epoch, VALID) {
            Ok(true) => {
                if failed {
                    info!("the lease is renewed again");
                }
                failed = false;
            }
            // Whoever writes next is told.
            Ok(false) => return,
            Err(error) => {
                if !failed {
                    warn!("{url}: the lease is not renewed: {}", explain(&error));
                }
                failed = true;
            }
        }
    }
    // So that another need not wait. Where this fails, it runs out by itself.
    let _ = set_expiry(&mut session, url, epoch, "0 seconds");
}

/// False if the lease is another's.
fn set_expiry(
    kept: &mut Option<Session>,
    url: &DatabaseUrl,
    epoch: i64,
    valid: &str,
) -> Result<bool, postgres::Error> {
    let mut session = match kept.take() {
        Some(session) => session,
        None => Session::connect(url)?,
    };
    let sql = format!("UPDATE lease SET expires = clock_timestamp() + interval '{valid}' WHERE epoch = $1");
    let changed = session.client().execute(&sql, &[&epoch])?;
    *kept = Some(session);
    Ok(changed == 1)
}
