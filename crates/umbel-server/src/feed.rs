//! The run's ledger for whoever watches it: lines as they are stored, never before.

use std::sync::{Arc, Mutex, PoisonError};

use crate::State;
use crate::store::{Reader, StoreError};

/// The most bytes of a page but for its last line: with one more line it still fits into a message.
const PAGE_BYTES: usize = 192 << 10;

/// Where a run's ledger is read from.
#[derive(Debug, Clone)]
pub(crate) struct LedgerFeed {
    state: State,
    run: i64,
    /// One connection to the database, however many watch: a page is soon read.
    reader: Arc<Mutex<Option<Reader>>>,
}

/// Some lines of a ledger, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// How many records the ledger has.
    pub(crate) records: u64,
    /// The lines from the one that was asked for on, each with its line feed.
    pub(crate) lines: Vec<u8>,
}

impl LedgerFeed {
    pub(crate) fn new(state: State, run: i64) -> Self {
        Self {
            state,
            run,
            reader: Arc::default(),
        }
    }

    /// The lines from record `from` on, counted from 0, as far as they go on one page.
    pub(crate) async fn page(&self, from: u64) -> Result<Page, StoreError> {
        let feed = self.clone();
        // The database is on a disk: not on a thread that serves clients.
        let read = tokio::task::spawn_blocking(move || {
            // A page that could not be read has left no reader behind.
            let mut kept = feed.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let mut reader = match kept.take() {
                Some(reader) => reader,
                None => Reader::open(&feed.state)?,
            };
            let (records, lines) = reader.ledger_page(feed.run, from, PAGE_BYTES)?;
            *kept = Some(reader);
            Ok(Page { records, lines })
        });
        match read.await {
            Ok(page) => page,
            Err(error) => Err(StoreError::File {
                path: self.state.to_string().into(),
                source: std::io::Error::other(error),
            }),
        }
    }
}
