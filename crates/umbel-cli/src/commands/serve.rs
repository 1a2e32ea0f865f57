//! `umbel serve` and `umbel join`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, io};

use anyhow::Context as _;
use tokio::runtime::Runtime;
use umbel_accounting::ledger::CloseStatus;
use umbel_client::{ClientSettings, ClientSources, Joined, join};
use umbel_experiment::RunFile;
use umbel_server::{Ended, LiveSources, ServerSettings, start};

use crate::args::serve::{JoinArgs, ServeArgs};
use crate::commands::{experiment, stop};
use crate::output;

pub(crate) fn serve(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    log_to_stderr(args.verbose);
    let settings = server_settings(&args.settings)?;
    let experiment = experiment::read(&settings.experiment, &[], None)?;
    let stop = stop::on_signals().context("cannot listen for Ctrl-C")?;
    let out = settings.out.clone();
    let ended = Runtime::new()?.block_on(async {
        let stopped = async move {
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let mut stopped = Box::pin(stopped);
        // A standby waits in `start`, and holds nothing that would have to be given back.
        let running = tokio::select! {
            running = start(settings, experiment, LiveSources::from_system()?, None) => running?,
            () = &mut stopped => return Ok(Ended::ShutDown),
        };
        let shut_down = running.shut_down();
        tokio::spawn(async move {
            stopped.await;
            shut_down.store(true, Ordering::Relaxed);
        });
        running.ended().await
    })?;
    let status = match ended {
        Ended::ShutDown => {
            output::remark("shut down; the run goes on when the server is started again");
            return Ok(ExitCode::SUCCESS);
        }
        Ended::Before(status) => {
            output::remark("this run was over before; its files are written again");
            status
        }
        Ended::Run(status) => status,
    };
    if args.json {
        let summary = fs::read_to_string(out.join(RunFile::Summary.name()))?;
        output::result(summary.trim_end())?;
    } else {
        output::result(&out.display().to_string())?;
    }
    Ok(match status {
        CloseStatus::Finished | CloseStatus::BudgetExhausted => ExitCode::SUCCESS,
        CloseStatus::Interrupted => ExitCode::FAILURE,
    })
}

pub(crate) fn run_join(args: &JoinArgs) -> anyhow::Result<ExitCode> {
    log_to_stderr(args.verbose);
    let text = read(&args.settings)?;
    let settings = ClientSettings::parse(&text, directory(&args.settings))
        .with_context(|| args.settings.display().to_string())?;
    let stop = stop::on_signals().context("cannot listen for Ctrl-C")?;
    let runtime = Runtime::new()?;
    let sources = ClientSources::from_system()?;
    let joined = runtime.block_on(join(settings, sources, Arc::<AtomicBool>::clone(&stop)))?;
    let (end, reports) = match joined {
        Joined::Over { reports } => ("the run is over", reports),
        Joined::Stopped { reports } => ("stopped", reports),
    };
    output::result(&format!("{end}; {reports} reports of this process were counted"))?;
    // What trains or waits in the background is not waited for.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

/// The settings in a `SERVER.toml`.
pub(crate) fn server_settings(path: &Path) -> anyhow::Result<ServerSettings> {
    ServerSettings::parse(&read(path)?, directory(path)).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}

/// One line an event: time, level, what happened, and `key=value` pairs. No update, key or sum has a form that could be logged.
fn log_to_stderr(verbose: bool) {
    let level = if verbose {
        tracing::Level::DEBUG
    } else {
        tracing::Level::INFO
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
}
