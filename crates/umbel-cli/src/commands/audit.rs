//! `umbel audit`.

mod attack;
mod mechanism;
mod membership;
mod report;
mod show;
mod verify;
mod watch;

use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

use anyhow::Context as _;

use crate::args::audit::{AuditArgs, AuditCommand};

pub(crate) fn run(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        AuditCommand::Attack(args) => attack::run(args),
        AuditCommand::Mechanism(args) => mechanism::run(args),
        AuditCommand::Membership(args) => membership::run(args),
        AuditCommand::Report(args) => report::run(args),
        AuditCommand::Show(args) => show::run(args),
        AuditCommand::Verify(args) => verify::run(args),
        AuditCommand::Watch(args) => watch::run(args),
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The content of a file that need not be there.
fn read_if_there(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other
            .map(Some)
            .with_context(|| format!("cannot read {}", path.display())),
    }
}
