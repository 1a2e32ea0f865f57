//! The files of a run, written so that a crash or a full disk leaves each of them whole or absent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The content of a file.
///
/// # Errors
///
/// The system cannot read it; the error names it.
pub fn read_file(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|source| FileError {
        what: "cannot read",
        path: path.to_owned(),
        source,
    })
}

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried, such as `cannot write`.
    pub what: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The files of a run directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunFile {
    /// State from which an interrupted run goes on; removed when the run is closed.
    Checkpoint,
    /// The experiment as resolved.
    Experiment,
    /// The public weights of words, where the data have them.
    Idf,
    /// The ledger.
    Ledger,
    /// Openings of the ledger's commitments, one JSON object a line.
    LedgerOpenings,
    /// One JSON object a round.
    Metrics,
    /// The model.
    Model,
    /// One page with plots.
    Report,
    /// The key that signs the ledger, while the run lasts; removed when it is closed, so that nobody can add to it.
    SigningKey,
    /// What came out.
    Summary,
    /// The public list of words, where the data are texts: what a prediction needs besides settings and model.
    Vocabulary,
}

impl RunFile {
    /// Its name in the directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint.safetensors",
            Self::Experiment => "experiment.toml",
            Self::Idf => "idf",
            Self::Ledger => "ledger",
            Self::LedgerOpenings => "ledger.openings",
            Self::Metrics => "metrics.jsonl",
            Self::Model => "model.safetensors",
            Self::Report => "report.html",
            Self::SigningKey => "signing.key",
            Self::Summary => "summary.json",
            Self::Vocabulary => "vocabulary",
        }
    }
}

/// A run directory that this process owns: its ledger is locked against a second writer.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    ledger: AppendFile,
    openings: AppendFile,
    metrics: AppendFile,
}

impl RunDirectory {
    /// Makes the directory `path`, which must be absent or empty.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        fs::create_dir_all(path).map_err(|source| FileError {
            what: "cannot create",
            path: path.to_owned(),
            source,
        })?;
        let mut entries = fs::read_dir(path).map_err(|source| FileError {
            what: "cannot read",
            path: path.to_owned(),
            source,
        })?;
        if entries.next().is_some() {
            let source = io::Error::other("it is not empty; choose another --out, or --resume it");
            return Err(FileError {
                what: "cannot start a run in",
                path: path.to_owned(),
                source,
            });
        }
        Self::open(path)
    }

    /// Opens the directory of an interrupted run.
    pub fn resume(path: &Path) -> Result<Self, FileError> {
        let ledger = path.join(RunFile::Ledger.name());
        if !ledger.is_file() {
            let source = io::Error::new(io::ErrorKind::NotFound, "there is no `ledger` in it");
            return Err(FileError {
                what: "cannot resume",
                path: path.to_owned(),
                source,
            });
        }
        Self::open(path)
    }

    fn open(path: &Path) -> Result<Self, FileError> {
        let mut ledger = AppendFile::open(path.join(RunFile::Ledger.name()))?;
        ledger.lock()?;
        let openings = AppendFile::open(path.join(RunFile::LedgerOpenings.name()))?;
        let metrics = AppendFile::open(path.join(RunFile::Metrics.name()))?;
        sync_directory(path).map_err(|source| FileError {
            what: "cannot write",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            ledger,
            openings,
            metrics,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where one of its files is.
    pub fn file(&self, file: RunFile) -> PathBuf {
        self.path.join(file.name())
    }

    /// Appends a line to the ledger and waits until it is on the disk.
    pub fn append_ledger(&mut self, line: &str) -> Result<(), FileError> {
        self.ledger.append(line.as_bytes())
    }

    /// Appends the opening of a commitment and waits until it is on the disk.
    pub fn append_opening(&mut self, opening: &str) -> Result<(), FileError> {
        self.openings.append(format!("{opening}\n").as_bytes())
    }

    /// Appends the metrics of one round and waits until they are on the disk.
    pub fn append_metrics(&mut self, line: &str) -> Result<(), FileError> {
        self.metrics.append(format!("{line}\n").as_bytes())
    }

    /// The ledger's bytes, a torn last line included.
    pub fn read_ledger(&self) -> Result<Vec<u8>, FileError> {
        self.read(RunFile::Ledger)
    }

    /// Cuts the ledger off after `length` bytes, to drop a torn last line.
    pub fn truncate_ledger(&mut self, length: usize) -> Result<(), FileError> {
        self.ledger.truncate(length as u64)
    }

    /// Keeps only the first `lines` whole lines of metrics, and gives them.
    pub fn truncate_metrics(&mut self, lines: u64) -> Result<Vec<String>, FileError> {
        let kept = whole_lines(&self.read(RunFile::Metrics)?, lines);
        self.metrics
            .truncate(kept.iter().map(|line| line.len() as u64 + 1).sum())?;
        Ok(kept)
    }

    /// Keeps only the first `lines` whole lines of the openings, so that no torn line is left.
    pub fn truncate_openings(&mut self, lines: u64) -> Result<(), FileError> {
        let kept = whole_lines(&self.read(RunFile::LedgerOpenings)?, lines);
        self.openings
            .truncate(kept.iter().map(|line| line.len() as u64 + 1).sum())
    }

    /// The content of one of its files.
    pub fn read(&self, file: RunFile) -> Result<Vec<u8>, FileError> {
        read_file(&self.file(file))
    }

    /// Writes one of its files whole, in place of what was there.
    pub fn write(&self, file: RunFile, content: &[u8]) -> Result<(), FileError> {
        write_whole(&self.file(file), content)
    }

    /// Writes the signing key, readable by its owner only.
    pub fn write_signing_key(&self, secret: &[u8; 32]) -> Result<(), FileError> {
        write_with(&self.file(RunFile::SigningKey), secret, true)
    }

    /// Removes one of its files, if it is there.
    pub fn remove(&self, file: RunFile) -> Result<(), FileError> {
        let path = self.file(file);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FileError {
                what: "cannot remove",
                path,
                source,
            }),
            _ => Ok(()),
        }
    }
}

/// Writes a file whole: a temporary file beside it is written, flushed to the disk, and renamed. On an error what was there
/// before is still there, and no temporary file is left.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), FileError> {
    write_with(path, content, false)
}

fn write_with(path: &Path, content: &[u8], owner_only: bool) -> Result<(), FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let written = (|| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        if owner_only {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        #[cfg(not(unix))]
        let _ = owner_only;
        let mut file = options.open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_directory(path.parent().unwrap_or_else(|| Path::new("")))
    })();
    written.map_err(|source| {
        // The write has failed already; a temporary file that cannot be removed either is no further harm.
        let _ = fs::remove_file(&temporary);
        FileError {
            what: "cannot write",
            path: path.to_owned(),
            source,
        }
    })
}

/// Makes new names in a directory durable, where the system has a way to.
fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        File::open(path)?.sync_all()
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        Ok(())
    }
}

/// The first whole lines of `text`, `most` at most, without their line feeds. Bytes that are no UTF-8 end it.
fn whole_lines(text: &[u8], most: u64) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let Some(line) = line
            .strip_suffix(b"\n")
            .and_then(|line| std::str::from_utf8(line).ok())
        else {
            break;
        };
        if lines.len() as u64 >= most {
            break;
        }
        lines.push(line.to_owned());
    }
    lines
}

/// How often a lock is asked for, and how long to wait in between: two seconds in all.
const LOCK_ATTEMPTS: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// A file that grows by whole pieces, each on the disk before the call ends: a piece that cannot be written whole is taken back.
#[derive(Debug)]
struct AppendFile {
    file: File,
    length: u64,
    path: PathBuf,
}

impl AppendFile {
    fn open(path: PathBuf) -> Result<Self, FileError> {
        let open = || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        match open() {
            Ok((file, length)) => Ok(Self { file, length, path }),
            Err(source) => Err(FileError {
                what: "cannot open",
                path,
                source,
            }),
        }
    }

    /// Keeps other processes out. One that was killed a moment ago may hold its lock until the system has taken it apart, so
    /// this waits a little before it gives up.
    fn lock(&mut self) -> Result<(), FileError> {
        let mut attempts = LOCK_ATTEMPTS;
        let locked = loop {
            match self.file.try_lock() {
                Err(fs::TryLockError::WouldBlock) if attempts > 1 => {
                    attempts -= 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(fs::TryLockError::WouldBlock) => {
                    let kind = io::ErrorKind::WouldBlock;
                    break Err(io::Error::new(kind, "another process runs here"));
                }
                Err(fs::TryLockError::Error(source)) => break Err(source),
                Ok(()) => break Ok(()),
            }
        };
        // What another process wrote before it let go counts.
        let length = locked.and_then(|()| self.file.metadata());
        let length = length.map_err(|source| FileError {
            what: "cannot lock",
            path: self.path.clone(),
            source,
        })?;
        self.length = length.len();
        Ok(())
    }

    fn append(&mut self, piece: &[u8]) -> Result<(), FileError> {
        let written = self
            .file
            .seek(SeekFrom::Start(self.length))
            .and_then(|_| self.file.write_all(piece));
        if let Err(source) = written {
            // If taking back fails too, the torn piece has no line feed, and readers drop it.
            let _ = self.file.set_len(self.length);
            return Err(self.error("cannot write", source));
        }
        self.length += piece.len() as u64;
        self.file
            .sync_data()
            .map_err(|source| self.error("cannot write", source))
    }

    fn truncate(&mut self, length: u64) -> Result<(), FileError> {
        let length = length.min(self.length);
        self.file
            .set_len(length)
            .map_err(|source| self.error("cannot shorten", source))?;
        self.length = length;
        Ok(())
    }

    fn error(&self, what: &'static str, source: io::Error) -> FileError {
        FileError {
            what,
            path: self.path.clone(),
            source,
        }
    }
}

/// The most memory that this process has held, in bytes, where the system tells.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    let mut status = String::new();
    File::open("/proc/self/status")
        .ok()?
        .read_to_string(&mut status)
        .ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_something_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let directory = RunDirectory::create(&path).unwrap();
        drop(directory);
        let error = RunDirectory::create(&path).unwrap_err();
        assert!(error.to_string().contains("it is not empty"), "{error}");
        assert!(
            RunDirectory::resume(&folder.path().join("none"))
                .unwrap_err()
                .to_string()
                .contains("no `ledger`")
        );
    }

    #[test]
    fn a_second_writer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunDirectory::create(&folder.path().join("run")).unwrap();
        let error = RunDirectory::resume(first.path()).unwrap_err();
        assert!(error.to_string().contains("another process runs here"), "{error}");
    }

    #[test]
    fn a_writer_that_goes_away_is_waited_for_and_nothing_of_it_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let mut first = RunDirectory::create(&path).unwrap();
        let leaving = std::thread::spawn(move || {
            std::thread::sleep(2 * LOCK_PAUSE);
            first.append_ledger("last words\n").unwrap();
        });
        let mut second = RunDirectory::resume(&path).unwrap();
        leaving.join().unwrap();
        second.append_ledger("first words\n").unwrap();
        let ledger = fs::read_to_string(path.join("ledger")).unwrap();
        assert_eq!(ledger, "last words\nfirst words\n");
    }

    #[test]
    fn torn_lines_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        drop(RunDirectory::create(&path).unwrap());
        fs::write(path.join("metrics.jsonl"), "{\"round\":1}\n{\"round\":2}\n{\"rou").unwrap();
        let mut directory = RunDirectory::resume(&path).unwrap();
        assert_eq!(
            directory.truncate_metrics(5).unwrap(),
            ["{\"round\":1}", "{\"round\":2}"]
        );
        directory.append_metrics("{\"round\":3}").unwrap();
        assert_eq!(directory.truncate_metrics(1).unwrap(), ["{\"round\":1}"]);
        assert_eq!(
            fs::read_to_string(path.join("metrics.jsonl")).unwrap(),
            "{\"round\":1}\n"
        );
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        write_whole(&path, b"old").unwrap();
        // A folder in the temporary file's place makes the write fail, whoever runs the test.
        fs::create_dir(folder.path().join("model.tmp")).unwrap();
        assert!(write_whole(&path, b"new").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[cfg(unix)]
    #[test]
    fn the_signing_key_is_its_owners() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let directory = RunDirectory::create(&folder.path().join("run")).unwrap();
        directory.write_signing_key(&[1; 32]).unwrap();
        let mode = fs::metadata(directory.file(RunFile::SigningKey))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        directory.remove(RunFile::SigningKey).unwrap();
        directory.remove(RunFile::SigningKey).unwrap();
    }
}
