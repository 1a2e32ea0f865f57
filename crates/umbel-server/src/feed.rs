//! The run's ledger for whoever watches it: lines as they are stored, never before.

use std::path::PathBuf;

use crate::store::{Reader, StoreError};

/// The most bytes of a page but for its last line: with one more line it still fits into a message.
const PAGE_BYTES: usize = 192 << 10;

/// Where a run's ledger is read from.
#[derive(Debug, Clone)]
pub(crate) struct LedgerFeed {
    pub(crate) state: PathBuf,
    pub(crate) run: i64,
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
    /// The lines from record `from` on, counted from 0, as far as they go on one page.
    pub(crate) async fn page(&self, from: u64) -> Result<Page, StoreError> {
        let feed = self.clone();
        // The database is on a disk: not on a thread that serves clients.
        let read = tokio::task::spawn_blocking(move || {
            let (records, lines) = Reader::open(&feed.state)?.ledger_page(feed.run, from, PAGE_BYTES)?;
            Ok(Page { records, lines })
        });
        match read.await {
            Ok(page) => page,
            Err(error) => Err(StoreError::File {
                path: self.state.clone(),
                source: std::io::Error::other(error),
            }),
        }
    }
}
