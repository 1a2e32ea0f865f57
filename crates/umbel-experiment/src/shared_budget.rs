//! The file of a budget that several runs on one population share.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use umbel_accounting::ledger::{
    PopulationError, PopulationLedger, PopulationLimit, PopulationShare, SharedBudgetShare,
};

use crate::FileError;

/// Why no share was taken. The file is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedBudgetError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file does not hold, is of another budget, or the share does not fit in it.
    #[error("{}: {fault}", path.display())]
    Population {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: Box<PopulationError>,
    },
}

/// Takes a run's share of the budget in `path`, which is made with `limit` if it is not there, and returns once that is on the disk.
///
/// The file is locked while it is read and written, so of runs that start at once each sees the shares of those before. A run that is
/// killed between taking its share and beginning has spent it.
pub fn take_share(
    path: &Path,
    limit: &PopulationLimit,
    share: PopulationShare,
) -> Result<SharedBudgetShare, SharedBudgetError> {
    let open = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path)?;
        file.lock()?;
        Ok(file)
    };
    let mut file = open().map_err(|source| error("cannot open", path, source))?;
    let (ledger, mut lines) = match read(&mut file, path)? {
        Some(ledger) => (ledger, String::new()),
        None => PopulationLedger::create(limit).map_err(|fault| refusal(path, fault))?,
    };
    let mut ledger = ledger;
    let stored = ledger.stored_bytes() - lines.len();
    ledger.check_limit(limit).map_err(|fault| refusal(path, fault))?;
    let (line, taken) = ledger.reserve(share).map_err(|fault| refusal(path, fault))?;
    lines += &line;
    append(&mut file, stored as u64, lines.as_bytes())
        .map_err(|source| error("cannot write", path, source))?;
    sync_name(path).map_err(|source| error("cannot write", path, source))?;
    Ok(taken)
}

/// Says whether a share would fit, without taking it: for refusing a run before anything is written.
pub fn check_share(
    path: &Path,
    limit: &PopulationLimit,
    share: PopulationShare,
) -> Result<(), SharedBudgetError> {
    let ledger = match File::open(path) {
        Ok(mut file) => read(&mut file, path)?,
        Err(source) if source.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(error("cannot open", path, source).into()),
    };
    let ledger = match ledger {
        Some(ledger) => ledger,
        None => {
            PopulationLedger::create(limit)
                .map_err(|fault| refusal(path, fault))?
                .0
        }
    };
    let mut ledger = ledger;
    ledger.check_limit(limit).map_err(|fault| refusal(path, fault))?;
    ledger.reserve(share).map_err(|fault| refusal(path, fault))?;
    Ok(())
}

fn read(file: &mut File, path: &Path) -> Result<Option<PopulationLedger>, SharedBudgetError> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)
        .map_err(|source| error("cannot read", path, source))?;
    PopulationLedger::read(&text).map_err(|fault| refusal(path, fault))
}

/// Writes after what was stored; a torn write from before is cut off, and one of now is taken back.
fn append(file: &mut File, stored: u64, lines: &[u8]) -> io::Result<()> {
    file.set_len(stored)?;
    let written = file
        .seek(SeekFrom::Start(stored))
        .and_then(|_| file.write_all(lines))
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // If this fails too, the torn piece has no line feed, and readers drop it.
        let _ = file.set_len(stored);
    }
    written
}

/// Makes a new name durable, where the system has a way to.
fn sync_name(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        Ok(())
    }
}

fn error(what: &'static str, path: &Path, source: io::Error) -> FileError {
    FileError {
        what,
        path: path.to_owned(),
        source,
    }
}

fn refusal(path: &Path, fault: PopulationError) -> SharedBudgetError {
    SharedBudgetError::Population {
        path: path.to_owned(),
        fault: Box::new(fault),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    fn limit() -> PopulationLimit {
        PopulationLimit {
            delta: 1e-3,
            epsilon: 5.0,
            neighbors: "add-remove".into(),
            unit: "client".into(),
            version: 1,
        }
    }

    fn share(run: usize) -> PopulationShare {
        PopulationShare {
            delta: 1e-5,
            epsilon: 1.0,
            public_key: format!("{run:064x}"),
            run: format!("run-{run}"),
        }
    }

    #[test]
    fn of_runs_that_start_at_once_no_more_get_a_share_than_there_is_budget_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("budget");
        let taken: Vec<_> = thread::scope(|scope| {
            let runs: Vec<_> = (0..12)
                .map(|run| {
                    let path = &path;
                    scope.spawn(move || take_share(path, &limit(), share(run)).is_ok())
                })
                .collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        assert_eq!(taken.iter().filter(|taken| **taken).count(), 5);
        let ledger = PopulationLedger::read(&fs::read(&path).unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(ledger.shares().len(), 5);
        let error = check_share(&path, &limit(), share(99)).unwrap_err().to_string();
        assert!(error.contains("budget exhausted"), "{error}");
    }

    #[test]
    fn a_torn_write_is_cut_off_and_a_check_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("budget");
        check_share(&path, &limit(), share(1)).unwrap();
        assert!(!path.exists());
        take_share(&path, &limit(), share(1)).unwrap();
        let before = fs::read(&path).unwrap();
        fs::write(&path, [before.as_slice(), b"{\"body\":"].concat()).unwrap();
        let taken = take_share(&path, &limit(), share(2)).unwrap();
        let ledger = PopulationLedger::read(&fs::read(&path).unwrap())
            .unwrap()
            .unwrap();
        ledger.check_share(&taken, &share(2).public_key).unwrap();
        assert!(fs::read(&path).unwrap().starts_with(&before));
    }
}
