//! Everything that is shown: results go to standard output, progress and errors to standard error.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A command line that asks for something impossible, found after it was parsed.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) anyhow::Error);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for Usage {}

/// Prints a result. A reader that has gone away ends the command with success, as for any filter.
pub(crate) fn result(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}

/// Prints a line of progress, a warning or a remark.
pub(crate) fn remark(text: &str) {
    // Nobody is left to be told where this cannot be written.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints why a command failed, with its causes. Errors that speak for their cause already are not made to say it twice.
pub(crate) fn error(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    remark(&text);
}

/// A bar over a known number of rounds, with rate and time left; plain lines where standard error is no terminal.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new(total: u64, done: u64, what: &str) -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template =
            format!("{{bar:32}} {{pos}}/{{len}} {what}  {{elapsed}} elapsed, {{eta}} left ({{per_sec}})");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_position(done);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// Prints a line above the bar.
    pub(crate) fn line(&self, text: &str) {
        if self.0.is_hidden() {
            remark(text);
        } else {
            self.0.println(text);
        }
    }

    pub(crate) fn advance(&self) {
        self.0.inc(1);
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
