//! `umbel runs`.

use std::process::ExitCode;

use serde_json::{Value, json};
use umbel_server::runs::{self, RunFacts};

use crate::args::serve::{ExportArgs, ListArgs, RunArgs, RunsArgs, RunsCommand};
use crate::commands::serve::server_settings;
use crate::output;

pub(crate) fn run(args: &RunsArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        RunsCommand::Export(args) => export(args)?,
        RunsCommand::List(args) => list(args)?,
        RunsCommand::Show(args) => show(args)?,
        RunsCommand::Stop(args) => return stop(args),
    }
    Ok(ExitCode::SUCCESS)
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let runs = runs::list(&server_settings(&args.settings)?.state)?;
    if args.json {
        let list: Vec<_> = runs.iter().map(brief).collect();
        return output::result(&serde_json::to_string_pretty(&list)?);
    }
    runs.iter().try_for_each(|run| output::result(&line(run)))
}

fn show(args: &RunArgs) -> anyhow::Result<()> {
    let run = runs::show(&server_settings(&args.list.settings)?.state, &args.run)?;
    if args.list.json {
        let mut object = brief(&run);
        object["rounds"] = json!(run.rounds);
        object["clients"] = json!(run.clients);
        object["refusals"] = run
            .refusals
            .iter()
            .map(|refusal| {
                json!({
                    "at": refusal.at.as_secs(),
                    "client": refusal.client,
                    "round": refusal.round,
                    "reason": refusal.reason,
                })
            })
            .collect();
        return output::result(&serde_json::to_string_pretty(&object)?);
    }
    output::result(&line(&run))?;
    for round in &run.rounds {
        let epsilon = round
            .epsilon
            .map_or_else(|| "infinite".to_owned(), |epsilon| format!("{epsilon:.4}"));
        let (loss, accuracy) = (round.loss, round.accuracy);
        output::result(&format!(
            "  round {:>4}  loss {loss:.4}  accuracy {accuracy:.4}  ε {epsilon}",
            round.round
        ))?;
    }
    output::result(&format!("  clients: {}", run.clients.join(", ")))?;
    for refusal in &run.refusals {
        let round = match refusal.round {
            0 => "the run".to_owned(),
            round => format!("round {round}"),
        };
        output::result(&format!(
            "  {} refused {round}: {}",
            refusal.client, refusal.reason
        ))?;
    }
    Ok(())
}

fn stop(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let asked = runs::stop(&server_settings(&args.list.settings)?.state, &args.run)?;
    output::remark(if asked {
        "asked; a server that runs stops within a second or two, one that does not when it is started"
    } else {
        "this run is over already"
    });
    Ok(if asked {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let state = server_settings(&args.run.list.settings)?.state;
    let out = runs::export(&state, &args.run.run, &args.out)?;
    output::result(&out.display().to_string())
}

fn brief(run: &RunFacts) -> Value {
    let last = run.rounds.last();
    json!({
        "name": run.name,
        "status": run.status,
        "started": run.started.as_secs(),
        "rounds_released": run.rounds.len(),
        "accuracy": last.map(|last| last.accuracy),
        "epsilon": last.and_then(|last| last.epsilon),
        "ledger_records": run.records,
        "fingerprint": run.fingerprint,
    })
}

fn line(run: &RunFacts) -> String {
    let last = run.rounds.last().map_or(String::new(), |last| {
        let epsilon = last
            .epsilon
            .map_or_else(|| "infinite".to_owned(), |epsilon| format!("{epsilon:.4}"));
        format!(
            ", accuracy {:.4}, ε {epsilon} at δ {:e}",
            last.accuracy, last.delta
        )
    });
    let signer = run.fingerprint.as_deref().unwrap_or("nobody yet");
    format!(
        "{}: {}, {} rounds released{last}, {} clients, ledger of {} records signed by {signer}",
        run.name,
        run.status,
        run.rounds.len(),
        run.clients.len(),
        run.records
    )
}
