//! `umbel audit attack`.

use std::path::Path;
use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;
use serde::Serialize;
use umbel_attack::{Attack, AttackSettings, Finding, Method, Stage, attack};
use umbel_experiment::{Experiment, write_whole};

use crate::args::audit::{AttackArgs, AttackedArgs, BoundMethod};
use crate::commands::{experiment, stop};
use crate::output::{self, Bar};

pub(crate) fn run(args: &AttackArgs) -> anyhow::Result<ExitCode> {
    let attacked = &args.attacked;
    let experiment = read(attacked)?;
    let stop = stop::on_signals().context("cannot listen for Ctrl-C")?;
    let settings = AttackSettings {
        canaries: args.canaries,
        rounds: args.rounds,
        is_shadow: args.shadow,
        method: match args.method {
            BoundMethod::GaussianScore => Method::GaussianScore,
            BoundMethod::FDpOneRun => Method::FDpOneRun,
            BoundMethod::OneRun => Method::OneRun,
        },
        n_threads: n_threads(args.threads),
    };
    let mut shown: Option<(Stage, u64, Bar)> = None;
    let found = attack(
        experiment,
        &settings,
        |stage, done, total| {
            if shown
                .as_ref()
                .is_none_or(|(of, steps, _)| (*of, *steps) != (stage, total))
            {
                if let Some((_, _, bar)) = &shown {
                    bar.finish();
                }
                let what = match stage {
                    Stage::Preparing => "steps of preparation",
                    Stage::Rounds => "rounds",
                    Stage::Judging => "curves compared",
                };
                shown = Some((stage, total, Bar::new(total, done.saturating_sub(1), what)));
            }
            if let Some((_, _, bar)) = &shown
                && done > 0
            {
                bar.advance();
            }
        },
        &stop,
    )?;
    if let Some((_, _, bar)) = &shown {
        bar.finish();
    }
    leave(&found, attacked.out.as_deref(), attacked.json, || {
        describe(&found)
    })?;
    Ok(exit_code(found.verdict.is_broken()))
}

/// The experiment that is attacked, with a seed.
pub(super) fn read(attacked: &AttackedArgs) -> anyhow::Result<Experiment> {
    let mut experiment = experiment::read(
        &attacked.experiment.file,
        &attacked.experiment.settings,
        attacked.seed,
    )?;
    umbel_sim::choose_seed(&mut experiment)?;
    Ok(experiment)
}

/// As many threads as were asked for, else as there are cores.
pub(super) fn n_threads(asked: Option<u16>) -> usize {
    match asked {
        Some(count) => usize::from(count),
        None => thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
    }
}

/// Writes and prints a result.
pub(super) fn leave(
    found: &impl Serialize,
    out: Option<&Path>,
    json: bool,
    describe: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(found)?;
    if let Some(path) = out {
        write_whole(path, format!("{text}\n").as_bytes())?;
    }
    output::result(&if json { text } else { describe() })
}

pub(super) fn exit_code(is_broken: bool) -> ExitCode {
    if is_broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn describe(found: &Attack) -> String {
    let verdict = &found.verdict;
    let mut lines = vec![
        format!(
            "\n{}: {} canaries, {} of them in; {} rounds; seed {}",
            found.name, verdict.canaries, verdict.canaries_included, verdict.rounds, found.seed
        ),
        format!(
            "  claimed        ε = {} at δ = {:e}",
            epsilon(verdict.epsilon),
            verdict.delta
        ),
        format!(
            "  measured       ε is at least {:.4}, with confidence {} ({}); a lower bound, no guarantee",
            verdict.epsilon_lower_bound,
            verdict.confidence,
            verdict.method.as_str()
        ),
        format!(
            "  verdict        {}",
            if verdict.is_broken() && !verdict.exceeds_claim {
                "NOT WHAT IS CLAIMED: a check below failed".to_owned()
            } else {
                judged(verdict.exceeds_claim, verdict.alarm_confidence)
            }
        ),
        "  methods".to_owned(),
    ];
    lines.extend(
        verdict
            .methods
            .iter()
            .map(|(method, finding)| describe_finding(*method, finding)),
    );
    lines.push("  checks of the claimed law, each false once in a million honest runs".to_owned());
    lines.extend(verdict.checks.iter().map(|check| {
        let mark = if check.passed { "passed" } else { "FAILED" };
        format!("    {mark} {}: {}", check.name, check.detail)
    }));
    let geometry = verdict.geometry;
    lines.push(format!(
        "  canaries       norms {:.7} to {:.7} clip norms, largest overlap {:.1e} ({} measured)",
        geometry.norm_min, geometry.norm_max, geometry.largest_overlap, geometry.measured
    ));
    let terms = [found.unit, found.neighbors, found.trust, found.threat_model];
    lines.extend(circumstances(terms, &found.differs, &found.not_covered));
    lines.join("\n")
}

/// A claimed ε.
pub(super) fn epsilon(claimed: Option<f64>) -> String {
    claimed.map_or_else(|| "infinite".to_owned(), |epsilon| format!("{epsilon:.4}"))
}

/// What a bound says of the claim; confidence is that of the alarm.
pub(super) fn judged(exceeds_claim: bool, confidence: f64) -> String {
    if exceeds_claim {
        format!("EXCEEDS THE CLAIM, with confidence {confidence}")
    } else {
        "nothing found that contradicts the claim".to_owned()
    }
}

/// What was attacked: whose promise, against whom, and in what it is another run.
pub(super) fn circumstances(
    [unit, neighbors, trust, threat_model]: [&str; 4],
    differs: &[String],
    not_covered: &[String],
) -> Vec<String> {
    let item = |item: &String| format!("    - {item}");
    let mut lines = vec![
        format!(
            "  promise        unit {unit}, {neighbors} of one, trust {trust}, SIMULATED (coins and noise come from the seed)"
        ),
        format!("  threat model   {threat_model}"),
        "  differs from the experiment's own run".to_owned(),
    ];
    lines.extend(differs.iter().map(item));
    lines.push("  not covered".to_owned());
    lines.extend(not_covered.iter().map(item));
    lines
}

fn describe_finding(method: Method, finding: &Finding) -> String {
    let value = finding
        .epsilon
        .map_or_else(|| "none".to_owned(), |value| format!("{value:.4}"));
    let alarm = finding
        .epsilon_at_alarm_confidence
        .map_or(String::new(), |value| {
            format!(" ({value:.4} at confidence 0.9999)")
        });
    let guesses = finding.guesses.map_or(String::new(), |guesses| {
        format!("; {} of {} guesses right", guesses.correct, guesses.made)
    });
    let sign = if finding.is_bound { "at least" } else { "about" };
    format!(
        "    {:<16} {sign} {value}{alarm}{guesses}; assumes {}",
        method.as_str(),
        finding.assumes
    )
}
