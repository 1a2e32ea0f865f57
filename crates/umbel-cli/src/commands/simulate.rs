//! `umbel simulate`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;
use umbel_experiment::{RoundMetrics, Status, Summary};
use umbel_sim::{BudgetExhausted, Options, Prepared, Progress, simulate};

use crate::args::SimulateArgs;
use crate::commands::{experiment, stop};
use crate::output::{self, Bar, Usage};

pub(crate) fn run(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let experiment = match &args.experiment {
        Some(path) => Some(experiment::read(path, &args.settings, args.seed)?),
        None if !args.settings.is_empty() || args.seed.is_some() => {
            let reason = "a resumed run keeps its settings; leave --set and --seed away";
            return Err(Usage(anyhow::anyhow!(reason)).into());
        }
        None => None,
    };
    let n_threads = match args.threads {
        Some(count) => usize::from(count),
        None => thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
    };
    let stop = stop::on_signals().context("cannot listen for Ctrl-C")?;
    let options = Options {
        out: args.out.clone(),
        resume: args.resume.clone(),
        n_threads,
    };
    let mut shown = Shown::default();
    let summary = simulate(experiment, &options, &mut shown, &stop)?;
    if args.json {
        output::result(&serde_json::to_string_pretty(&summary)?)?;
    } else {
        output::result(&describe(&summary, &shown.directory))?;
    }
    Ok(match summary.status {
        Status::Finished | Status::BudgetExhausted | Status::StoppedEarly => ExitCode::SUCCESS,
        Status::Interrupted => ExitCode::FAILURE,
    })
}

/// Shows a run as it goes.
#[derive(Default)]
struct Shown {
    bar: Option<Bar>,
    directory: PathBuf,
    rounds: u64,
}

impl Progress for Shown {
    fn begin(&mut self, prepared: &Prepared, directory: &Path, completed: u64) {
        self.directory = directory.to_owned();
        let settings = prepared.plan.settings();
        self.rounds = settings.rounds;
        let noise = match prepared.noise_multiplier() {
            Some(multiplier) => format!("noise multiplier {:.4}", multiplier.value()),
            None => "NO NOISE: NOT PRIVATE".to_owned(),
        };
        output::remark(&format!(
            "{}: {} clients, {} parameters; {} rounds of about {} clients; {noise}",
            settings.description.name,
            settings.population,
            prepared.initial.len(),
            settings.rounds,
            settings.cohort,
        ));
        output::remark(&format!(
            "every ε below: unit {}, {} of one, trust {}, SIMULATED (coins and noise come from the seed); what is not covered \
             stands in the summary",
            settings.unit.as_str(),
            prepared.plan.relation().as_str(),
            settings.trust.as_str(),
        ));
        for warning in prepared.warnings() {
            output::remark(&format!("warning: {warning}"));
        }
        if completed > 0 {
            output::remark(&format!("going on after round {completed}"));
        }
        self.bar = Some(Bar::new(settings.rounds, completed, "rounds"));
    }

    fn round(&mut self, metrics: &RoundMetrics) {
        let width = self.rounds.to_string().len();
        let epsilon = match metrics.epsilon {
            Some(epsilon) => format!("ε {epsilon:.4} at δ {:e}", metrics.delta),
            None => "ε infinite: NOT PRIVATE".to_owned(),
        };
        let line = format!(
            "round {:>width$}/{}  loss {:.4}  accuracy {:.4}  {epsilon}",
            metrics.round, self.rounds, metrics.loss, metrics.accuracy
        );
        if let Some(bar) = &self.bar {
            bar.line(&line);
            bar.advance();
        }
    }

    fn end(&mut self, exhausted: Option<&BudgetExhausted>) {
        if let Some(bar) = self.bar.take() {
            bar.finish();
        }
        if let Some(exhausted) = exhausted {
            output::remark(&format!("stopped: {exhausted}"));
        }
    }
}

/// The summary for a person: what came out, and what is promised with everything without which an ε says nothing.
fn describe(summary: &Summary, directory: &Path) -> String {
    let privacy = &summary.privacy;
    let mut lines = Vec::new();
    let status = match summary.status {
        Status::Finished => "finished",
        Status::BudgetExhausted => "stopped, since the budget is exhausted",
        Status::Interrupted => "interrupted; go on with --resume",
        Status::StoppedEarly => "stopped early, by its rule on public data,",
    };
    lines.push(format!(
        "\n{}: {status} after {} of {} rounds",
        summary.name, summary.rounds_completed, summary.rounds
    ));
    if let (Some(last), Some(best)) = (summary.last, summary.best) {
        lines.push(format!(
            "  accuracy       {:.4} (loss {:.4}); best {:.4} in round {}",
            last.accuracy, last.loss, best.accuracy, best.round
        ));
    }
    lines.push(match privacy.epsilon {
        Some(epsilon) => {
            let lower = privacy.epsilon_lower.map_or(String::new(), |lower| {
                format!(", and no ε below {lower:.4} holds without rounding")
            });
            format!(
                "  privacy        ε = {epsilon:.4} at δ = {:e} ({}{lower})",
                privacy.delta, privacy.accountant
            )
        }
        None => "  privacy        NOT PRIVATE: NO NOISE WAS ADDED, ε IS INFINITE".to_owned(),
    });
    let unit = match privacy.unit.as_str() {
        "example" => "one example of one client",
        _ => "all data of one client",
    };
    lines.push(format!("  unit           {}: {unit}", privacy.unit));
    lines.push(format!("  relation       {}", privacy.neighbors));
    let trust = match privacy.trust.as_str() {
        "distributed" => {
            "the clients add the noise together inside secure aggregation; the server is not trusted"
        }
        "local" => "each client adds noise to what it sends; nobody is trusted",
        _ => "the server adds the noise and is trusted",
    };
    lines.push(format!("  trust          {}: {trust}", privacy.trust));
    lines.push(format!(
        "  simulated      {}: noise is reproducible from the seed; this ε describes the mechanism, not this model file",
        if privacy.simulated { "yes" } else { "no" }
    ));
    lines.push("  not covered".to_owned());
    lines.extend(privacy.not_covered.iter().map(|item| format!("    - {item}")));
    let multiplier = privacy
        .noise_multiplier
        .map_or_else(|| "none".to_owned(), |multiplier| format!("{multiplier:.4}"));
    lines.push(format!(
        "  mechanism      clip norm {}, noise multiplier {multiplier} ({}), {} sampling at rate {:.4}",
        privacy.clip_norm, privacy.noise, privacy.sampling, privacy.sampling_rate
    ));
    if let Some(secure) = &privacy.secure_aggregation {
        let protocol = match secure.protocol.as_str() {
            "ideal" => "its sums without its cryptography",
            protocol => protocol,
        };
        lines.push(format!(
            "  aggregation    secure ({protocol}): sums of {} to {} clients, of whom at most {} may help the server; at least {:.1} % of \
             the fewest are honest",
            secure.survivors_min,
            secure.clients_max,
            secure.colluding,
            100.0 * secure.honest_share
        ));
        if let Some(most) = secure.max_participations {
            lines.push(format!(
                "  participation  each client in at most {most} rounds, which ε is for"
            ));
        }
    }
    if let Some(local) = &privacy.local {
        let steps = match (local.steps, local.batch_sampling_rate) {
            (Some(steps), Some(rate)) => {
                format!("; {steps} steps a round, each example in a batch with probability {rate}")
            }
            _ => String::new(),
        };
        lines.push(format!(
            "  participation  each client in at most {} rounds, which ε is for{steps}",
            local.max_participations
        ));
    }
    if let Some(adaptive) = &privacy.adaptive_clip {
        lines.push(format!(
            "  clipping       adaptive, toward quantile {}; the count of unclipped updates has noise {:.4}, which ε covers",
            adaptive.quantile, adaptive.count_std_dev
        ));
    }
    if let Some(ftrl) = &privacy.ftrl {
        lines.push(format!(
            "  correlation    dp-ftrl, {} strategy: each client at least {} rounds apart and at most {} times{}",
            ftrl.strategy,
            ftrl.separation,
            ftrl.participations,
            if ftrl.amplified { ", in secret" } else { "" }
        ));
    }
    lines.push(format!(
        "  time           {:.1} s; {:.0} clients and {:.0} examples a second in rounds",
        summary.timing.total_seconds,
        summary.timing.clients_per_second.unwrap_or(0.0),
        summary.timing.examples_per_second.unwrap_or(0.0)
    ));
    lines.push(format!(
        "  model          {} (sha256 {}…)",
        directory.join("model.safetensors").display(),
        &summary.model_sha256[..16]
    ));
    lines.push(format!(
        "  report         {}",
        directory.join("report.html").display()
    ));
    lines.push(format!("  ledger signer  {}", summary.ledger.fingerprint));
    lines.join("\n")
}
