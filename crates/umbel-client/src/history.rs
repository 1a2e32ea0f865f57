//! What this client has taken part in, by its own record. A server cannot shorten it: a round stands in it before the first byte of
//! its update leaves, and nothing is ever taken out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use umbel_accounting::ledger::{self, Header, SignedLine};
use umbel_secagg::{Mark, Receipt};

use crate::Terms;

/// How often a lock is tried, each time a twentieth of a second apart.
const LOCK_TRIES: u32 = 40;

/// The client's own ledger: `history.jsonl` in its folder, one entry a line, each on the disk before the call that wrote it ends.
#[derive(Debug)]
pub struct History {
    file: File,
    path: PathBuf,
    runs: BTreeMap<String, RunEntry>,
    rounds: BTreeMap<String, BTreeSet<u64>>,
    /// Of each run the latest attempt of secure aggregation that was begun.
    marks: BTreeMap<String, Mark>,
    /// Of each run the attempts in which an input was masked, to be sent.
    inputs: BTreeMap<String, BTreeSet<Mark>>,
    /// When the client last took part in each run, since 1970.
    latest: BTreeMap<String, Duration>,
    /// The last line that each run's server showed.
    receipts: BTreeMap<String, SignedLine>,
    _lock: File,
}

/// Why the history cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// A line that is damaged: what was spent is not known, so nothing more may be.
    #[error("{} line {line}: {reason}; what this client has spent cannot be told any more", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The server's ledger is not a continuation of the one it showed before.
    #[error(
        "the server shows another record {record} of its ledger, or before it, than it has shown: the history was forked; what it \
         has shown stands in {}",
        path.display()
    )]
    Forked {
        /// The record.
        record: u64,
        /// The file that holds the evidence.
        path: PathBuf,
    },
    /// The server shows what is no line of the run's ledger.
    #[error("the server shows a ledger line that does not hold: {reason}")]
    Forged {
        /// What is wrong.
        reason: String,
    },
    /// Another process uses the folder.
    #[error("{}: another client runs in this folder", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The server's ledger is not the one it showed before.
    #[error(
        "the server shows record {got} of its ledger after it has shown record {seen}: its ledger was set back"
    )]
    SetBack {
        /// The last record seen.
        seen: u64,
        /// The record shown now.
        got: u64,
    },
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Entry {
    /// The first time that a run is taken part in: its signed header.
    Run { key: String, header: String },
    /// A round that a report is about to be sent for.
    Round { key: String, round: u64, at: u64 },
    /// An attempt of secure aggregation that is about to be begun.
    Attempt { key: String, round: u64, attempt: u32 },
    /// A masked input that is about to be sent. Each counts, also of one round: a server's word that it opened nothing is no proof.
    Input {
        key: String,
        round: u64,
        attempt: u32,
        at: u64,
    },
    /// The server's signed word that it charged the sum that this client helped to open.
    Charged {
        key: String,
        round: u64,
        attempt: u32,
        /// Hash of the ledger's record.
        charge: String,
        /// Hash of terms, roster and both sets of clients.
        view: String,
        /// Of both, by the run's key.
        signature: String,
    },
    /// A ledger line that the server showed.
    Receipt {
        key: String,
        sequence: u64,
        line: String,
    },
}

#[derive(Debug)]
struct RunEntry {
    header: Header,
}

impl History {
    /// Opens the history in `folder`, or begins one.
    ///
    /// # Errors
    ///
    /// A folder that cannot be used, that another process uses, or whose file is damaged. A last line without a line feed is a
    /// write that was torn, and cut off.
    pub fn open(folder: &Path) -> Result<Self, HistoryError> {
        let failed = |path: &Path, source| HistoryError::File {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
        let lock_path = folder.join("lock");
        let lock = File::create(&lock_path).map_err(|source| failed(&lock_path, source))?;
        take(&lock, &lock_path)?;
        let path = folder.join("history.jsonl");
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(|source| failed(&path, source))?;
        let text = fs::read(&path).map_err(|source| failed(&path, source))?;
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        if whole < text.len() {
            file.set_len(whole as u64)
                .map_err(|source| failed(&path, source))?;
        }
        #[cfg(unix)]
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| failed(folder, source))?;
        let mut history = Self {
            file,
            path,
            runs: BTreeMap::new(),
            rounds: BTreeMap::new(),
            marks: BTreeMap::new(),
            inputs: BTreeMap::new(),
            latest: BTreeMap::new(),
            receipts: BTreeMap::new(),
            _lock: lock,
        };
        for (place, line) in text[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
            let damaged = |reason: String| HistoryError::Damaged {
                path: history.path.clone(),
                line: place + 1,
                reason,
            };
            let entry = serde_json::from_slice(line).map_err(|error| damaged(error.to_string()))?;
            let reason = history.take(&entry).err();
            if let Some(reason) = reason {
                return Err(HistoryError::Damaged {
                    path: history.path.clone(),
                    line: place + 1,
                    reason,
                });
            }
        }
        Ok(history)
    }

    /// Whether a report for this round was begun before, by this process or an earlier one.
    pub fn has_round(&self, terms: &Terms, round: u64) -> bool {
        self.rounds
            .get(&terms.header.public_key)
            .is_some_and(|rounds| rounds.contains(&round))
    }

    /// How many reports of this run were begun, and how many masked inputs.
    pub fn participations(&self, terms: &Terms) -> u64 {
        let key = &terms.header.public_key;
        let rounds = self.rounds.get(key).map_or(0, BTreeSet::len);
        let inputs = self.inputs.get(key).map_or(0, BTreeSet::len);
        (rounds + inputs) as u64
    }

    /// The latest attempt of secure aggregation that was begun in this run, by this process or an earlier one.
    pub fn mark(&self, terms: &Terms) -> Option<Mark> {
        self.marks.get(&terms.header.public_key).copied()
    }

    /// Puts an attempt on record, durably, before its keys may be advertised.
    ///
    /// # Errors
    ///
    /// The file cannot be written. Then nothing may be sent.
    pub fn begin_attempt(&mut self, terms: &Terms, mark: Mark) -> Result<(), HistoryError> {
        self.begin_run(terms)?;
        self.append(Entry::Attempt {
            key: terms.header.public_key.clone(),
            round: mark.round,
            attempt: mark.attempt,
        })
    }

    /// Charges this client for an attempt, durably, before the first byte of its masked input leaves. It is never taken back. `now` is
    /// the time since 1970.
    ///
    /// # Errors
    ///
    /// The file cannot be written. Then nothing may be sent.
    pub fn charge_input(&mut self, terms: &Terms, mark: Mark, now: Duration) -> Result<(), HistoryError> {
        self.begin_run(terms)?;
        self.append(Entry::Input {
            key: terms.header.public_key.clone(),
            round: mark.round,
            attempt: mark.attempt,
            at: now.as_secs(),
        })
    }

    /// Keeps the server's word that it charged an attempt.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn keep_charge(&mut self, terms: &Terms, mark: Mark, receipt: &Receipt) -> Result<(), HistoryError> {
        let halves = receipt.signature.as_chunks::<32>().0;
        self.append(Entry::Charged {
            key: terms.header.public_key.clone(),
            round: mark.round,
            attempt: mark.attempt,
            charge: ledger::to_hex(&receipt.charge),
            view: ledger::to_hex(&receipt.view),
            signature: halves.iter().map(|half| ledger::to_hex(half)).collect(),
        })
    }

    /// Puts a round on record, durably, before its report may leave. `now` is the time since 1970.
    ///
    /// # Errors
    ///
    /// The file cannot be written. Then nothing may be sent.
    pub fn begin_round(&mut self, terms: &Terms, round: u64, now: Duration) -> Result<(), HistoryError> {
        self.begin_run(terms)?;
        self.append(Entry::Round {
            key: terms.header.public_key.clone(),
            round,
            at: now.as_secs(),
        })
    }

    /// What a run promises stands before anything that was done in it.
    fn begin_run(&mut self, terms: &Terms) -> Result<(), HistoryError> {
        let key = terms.header.public_key.clone();
        if self.runs.contains_key(&key) {
            return Ok(());
        }
        self.append(Entry::Run {
            key,
            header: terms.line.clone(),
        })
    }

    /// Keeps a line of the server's ledger, if it is newer than those that were seen: a receipt, which `umbel audit verify
    /// --receipts` compares with the ledger that others are shown.
    ///
    /// # Errors
    ///
    /// A line that the run's key did not sign, with a smaller number than one that was shown before, or that contradicts it; or a
    /// file that cannot be written.
    pub fn keep_receipt(&mut self, terms: &Terms, line: &[u8]) -> Result<(), HistoryError> {
        let forged = |reason: &str| HistoryError::Forged {
            reason: reason.to_owned(),
        };
        let key = terms.header.public_key.clone();
        let signer = ledger::from_hex(&key).ok_or_else(|| forged("the run has no key"))?;
        let shown = SignedLine::read(line, &signer).map_err(|reason| forged(&reason))?;
        let forked = |record| HistoryError::Forked {
            record,
            path: self.path.clone(),
        };
        match self.receipts.get(&key) {
            Some(seen) if shown.sequence < seen.sequence => {
                return Err(HistoryError::SetBack {
                    seen: seen.sequence,
                    got: shown.sequence,
                });
            }
            Some(seen) if shown.sequence == seen.sequence && shown != *seen => {
                return Err(forked(shown.sequence));
            }
            Some(seen) if shown.sequence == seen.sequence => return Ok(()),
            Some(seen) if shown.sequence == seen.sequence + 1 && shown.previous != seen.head => {
                return Err(forked(shown.sequence));
            }
            _ => {}
        }
        let line = String::from_utf8(line.to_vec()).map_err(|_| forged("expected text"))?;
        self.append(Entry::Receipt {
            key,
            sequence: shown.sequence,
            line,
        })
    }

    /// Headers of the runs that were taken part in since a moment, but for the run that `but` signs.
    pub(crate) fn headers_since(&self, moment: Duration, but: &str) -> Vec<Header> {
        self.runs
            .iter()
            .filter(|(key, _)| key.as_str() != but && self.latest.get(*key).is_some_and(|at| *at >= moment))
            .map(|(_, entry)| entry.header.clone())
            .collect()
    }

    fn append(&mut self, entry: Entry) -> Result<(), HistoryError> {
        let failed = |source| HistoryError::File {
            path: self.path.clone(),
            source,
        };
        let mut line = serde_json::to_vec(&entry).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(failed)?;
        self.file.sync_data().map_err(failed)?;
        // What was just written is well formed.
        self.take(&entry).map_err(|reason| HistoryError::Damaged {
            path: self.path.clone(),
            line: 0,
            reason,
        })
    }

    fn take(&mut self, entry: &Entry) -> Result<(), String> {
        match entry {
            Entry::Run { key, header } => {
                let verified = ledger::read(header.as_bytes()).map_err(|fault| fault.to_string())?;
                let header = verified.header().clone();
                if header.public_key != *key {
                    return Err("the header is of another run".to_owned());
                }
                self.runs.insert(key.clone(), RunEntry { header });
            }
            Entry::Round { key, round, at } => {
                self.took_part(key, *at)?;
                self.rounds.entry(key.clone()).or_default().insert(*round);
            }
            Entry::Attempt { key, round, attempt } => {
                self.is_known(key)?;
                let (round, attempt) = (*round, *attempt);
                let mark = Mark { round, attempt };
                let latest = self.marks.entry(key.clone()).or_insert(mark);
                *latest = mark.max(*latest);
            }
            Entry::Input {
                key,
                round,
                attempt,
                at,
            } => {
                self.took_part(key, *at)?;
                let (round, attempt) = (*round, *attempt);
                let inputs = self.inputs.entry(key.clone()).or_default();
                inputs.insert(Mark { round, attempt });
            }
            Entry::Charged { key, .. } => self.is_known(key)?,
            Entry::Receipt { key, line, .. } => {
                let signer = ledger::from_hex(key).ok_or("expected `key` to be 64 hexadecimal digits")?;
                self.receipts
                    .insert(key.clone(), SignedLine::read(line.as_bytes(), &signer)?);
            }
        }
        Ok(())
    }
}

impl History {
    fn is_known(&self, key: &str) -> Result<(), String> {
        match self.runs.contains_key(key) {
            true => Ok(()),
            false => Err("a round of a run that is not on record".to_owned()),
        }
    }

    fn took_part(&mut self, key: &str, at: u64) -> Result<(), String> {
        self.is_known(key)?;
        let at = Duration::from_secs(at);
        let latest = self.latest.entry(key.to_owned()).or_default();
        *latest = at.max(*latest);
        Ok(())
    }
}

/// Locks the folder. A process that was just killed gives its lock back when the system has cleared it away, which may take a moment.
fn take(lock: &File, path: &Path) -> Result<(), HistoryError> {
    for _ in 0..LOCK_TRIES {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::Error(source)) => {
                let path = path.to_owned();
                return Err(HistoryError::File { path, source });
            }
        }
    }
    Err(HistoryError::Locked {
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_kept_out_and_a_torn_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        assert!(matches!(
            History::open(folder.path()),
            Err(HistoryError::Locked { .. })
        ));
        drop(history);
        let path = folder.path().join("history.jsonl");
        fs::write(&path, "{\"kind\":\"round\",\"key\":").unwrap();
        drop(History::open(folder.path()).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    /// Each row: a damaged line, after which nothing may be spent any more.
    #[test]
    fn a_damaged_record_is_not_passed_over() {
        for line in [
            "nonsense",
            r#"{"kind":"round","key":"00","round":1,"at":5}"#,
            r#"{"kind":"run","key":"00","header":"no ledger"}"#,
            r#"{"kind":"rounds","key":"00","round":1,"at":5}"#,
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("history.jsonl"), format!("{line}\n")).unwrap();
            let error = History::open(folder.path()).unwrap_err().to_string();
            assert!(
                error.contains("line 1") && error.contains("cannot be told any more"),
                "{error}"
            );
        }
    }
}
