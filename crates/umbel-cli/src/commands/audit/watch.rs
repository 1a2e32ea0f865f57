//! `umbel audit watch`.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use umbel_accounting::ledger::{Body, Digest, to_hex};
use umbel_audit::{Watch, WatchFault};
use umbel_client::{LedgerPage, LedgerSource, SourceError, TlsFiles};

use super::read_if_there;
use super::show::content;
use super::verify::anchors;
use crate::args::audit::WatchArgs;
use crate::commands::stop;
use crate::output::{self, Usage};

pub(super) fn run(args: &WatchArgs) -> anyhow::Result<ExitCode> {
    let tls = match (&args.certificate, &args.private_key, &args.authority) {
        (Some(certificate), Some(key), Some(authority)) => Some(TlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
            authority: authority.clone(),
            revoked: None,
        }),
        _ => None,
    };
    let source = LedgerSource::new(&args.url, tls).map_err(|error| Usage(error.into()))?;
    let mut anchors = anchors(&args.anchors)?;
    let kept = args.keep.as_deref().map(Kept::open).transpose()?;
    if let Some((path, line)) = args
        .keep
        .as_ref()
        .zip(kept.as_ref().and_then(|kept| kept.earlier.last()))
    {
        // The last line stands for all before it: a shorter ledger, or one of another signer, is found at once.
        anchors.receipts.push((path.display().to_string(), line.clone()));
    }
    let is_pinned = anchors.key.is_some() || !anchors.receipts.is_empty();
    let stop = stop::on_signals().context("cannot listen for Ctrl-C")?;
    let mut watching = Watching {
        source,
        watch: Watch::new(anchors),
        kept,
        pause: Duration::from_secs_f64(args.every),
        patience: args.patience.map(Duration::from_secs_f64),
        unreached_since: None,
    };
    let end = Runtime::new()?.block_on(watching.until_over(&stop))?;
    let watch = &watching.watch;
    match end {
        End::Fault(fault) => {
            output::result(&format!(
                "NOT CONSISTENT\n  {}: {}",
                fault.0.place, fault.0.reason
            ))?;
            return Ok(ExitCode::FAILURE);
        }
        End::OutOfReach(reason) => {
            return Err(anyhow!("{reason}; given up after {} records", watch.records()));
        }
        End::Over | End::Stopped => {}
    }
    let (recomputed, receipts) = watch.confirmed();
    let records = watch.records();
    let signer = match (watch.fingerprint(), is_pinned) {
        (None, _) => "no record was seen".to_owned(),
        (Some(fingerprint), true) => format!("signed by {fingerprint}"),
        (Some(fingerprint), false) => format!("signer not pinned: {fingerprint}"),
    };
    let state = match end {
        End::Over => "the run is over",
        _ => "stopped watching; the run goes on",
    };
    let head = watch.head().map_or(String::new(), |head| to_hex(&head));
    output::result(&format!(
        "{state}: {records} records, {recomputed} claims recomputed, {receipts} receipts agree\nhead {head}\nconsistent as far as seen, {signer}"
    ))?;
    Ok(ExitCode::SUCCESS)
}

enum End {
    Fault(WatchFault),
    OutOfReach(SourceError),
    Over,
    Stopped,
}

struct Watching {
    source: LedgerSource,
    watch: Watch,
    kept: Option<Kept>,
    pause: Duration,
    patience: Option<Duration>,
    /// Since when the server has not answered; absent while it does.
    unreached_since: Option<Instant>,
}

impl Watching {
    async fn until_over(&mut self, stop: &AtomicBool) -> anyhow::Result<End> {
        while !stop.load(Ordering::Relaxed) {
            match self.look().await? {
                Ok(()) if self.watch.is_over() => {
                    return match self.look_at_all().await {
                        Ok(()) => Ok(End::Over),
                        Err(Trouble::Fault(fault)) => Ok(End::Fault(fault)),
                        Err(Trouble::Source(error)) => Err(error.into()),
                    };
                }
                Ok(()) => {}
                Err(Trouble::Fault(fault)) => return Ok(End::Fault(fault)),
                Err(Trouble::Source(error @ SourceError::Unreachable(_))) => {
                    let now = Instant::now();
                    if self.unreached_since.is_none() {
                        output::remark(&format!("{error}; trying again"));
                    }
                    let since = *self.unreached_since.get_or_insert(now);
                    if self.patience.is_some_and(|patience| now - since >= patience) {
                        return Ok(End::OutOfReach(error));
                    }
                }
                Err(Trouble::Source(error)) => return Err(error.into()),
            }
            tokio::time::sleep(self.pause).await;
        }
        Ok(End::Stopped)
    }

    /// Takes everything that the server has to show now.
    async fn look(&mut self) -> anyhow::Result<Result<(), Trouble>> {
        loop {
            let page = match self.source.page(self.watch.from()).await {
                Ok(page) => page,
                Err(error) => return Ok(Err(Trouble::Source(error))),
            };
            self.unreached_since = None;
            match self.take(&page)? {
                Err(fault) => return Ok(Err(Trouble::Fault(fault))),
                Ok(0) => return Ok(Ok(())),
                Ok(_) => {}
            }
        }
    }

    /// Checks, keeps and prints what is new; gives how many records that are.
    fn take(&mut self, page: &LedgerPage) -> anyhow::Result<Result<usize, WatchFault>> {
        let first = self.watch.from();
        let seen = match self.watch.page(page.records, &page.lines) {
            Ok(seen) => seen,
            Err(fault) => return Ok(Err(fault)),
        };
        if let Some(kept) = &mut self.kept
            && let Some(fault) = kept.compare_and_keep(first, &page.lines)?
        {
            return Ok(Err(fault));
        }
        for (sequence, body) in &seen {
            output::result(&line(*sequence, body))?;
        }
        Ok(Ok(seen.len()))
    }

    /// Fetches the whole ledger once more: the history that stands at the end must be the one that was watched.
    /// A server may end with its run; any other reason not to show it again is none.
    async fn look_at_all(&mut self) -> Result<(), Trouble> {
        let mut heads: Vec<Digest> = Vec::new();
        while (heads.len() as u64) < self.watch.records() {
            let page = match self.source.page(heads.len() as u64).await {
                Ok(page) => page,
                Err(SourceError::Unreachable(_)) => {
                    output::remark("the server ended before the whole ledger could be fetched once more");
                    return Ok(());
                }
                Err(error) => return Err(Trouble::Source(error)),
            };
            let lines = page.lines.strip_suffix(b"\n").unwrap_or(&page.lines);
            if lines.is_empty() {
                break;
            }
            heads.extend(
                lines
                    .split(|&byte| byte == b'\n')
                    .map(|line| Digest::from(Sha256::digest(line))),
            );
        }
        self.watch.whole(&heads).map_err(Trouble::Fault)
    }
}

enum Trouble {
    Fault(WatchFault),
    Source(SourceError),
}

fn line(sequence: u64, body: &Body) -> String {
    format!("{sequence:>6}  {:<8} {}", body.kind(), content(body))
}

/// The lines that were seen, in a file; those of an earlier watch must be shown again.
struct Kept {
    file: File,
    /// What the file held at the beginning, line by line.
    earlier: Vec<Vec<u8>>,
    /// How many lines it has now.
    lines: usize,
}

impl Kept {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let text = read_if_there(path)?.unwrap_or_default();
        // A torn line was never kept.
        let whole = text
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        file.set_len(whole as u64)?;
        let earlier = text[..whole].split_inclusive(|&byte| byte == b'\n');
        Ok(Self {
            file,
            lines: earlier.clone().count(),
            earlier: earlier.map(<[u8]>::to_vec).collect(),
        })
    }

    /// Compares lines from record `first` on with those of an earlier watch, and keeps what is new.
    fn compare_and_keep(&mut self, first: u64, lines: &[u8]) -> anyhow::Result<Option<WatchFault>> {
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        for (place, line) in (first..).zip(lines.split_inclusive(|&byte| byte == b'\n')) {
            match self.earlier.get(place) {
                Some(earlier) if earlier == line => {}
                Some(_) => return Ok(Some(WatchFault::not_as_kept(place as u64))),
                None if place == self.lines => {
                    self.file.write_all(line)?;
                    self.lines += 1;
                }
                None => {}
            }
        }
        self.file.flush()?;
        Ok(None)
    }
}
