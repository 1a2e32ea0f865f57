//! `umbel audit membership`.

use std::process::ExitCode;

use anyhow::Context as _;
use umbel_attack::{Membership, MembershipSettings, membership};
use umbel_sim::Prepared;

use super::attack::{exit_code, leave, n_threads};
use crate::args::audit::MembershipArgs;
use crate::commands::{experiment, stop};
use crate::output::Bar;

pub(crate) fn run(args: &MembershipArgs) -> anyhow::Result<ExitCode> {
    let attacked = &args.attacked;
    let mut experiment = experiment::read(
        &attacked.experiment.file,
        &attacked.experiment.settings,
        attacked.seed,
    )?;
    umbel_sim::choose_seed(&mut experiment)?;
    let stop = stop::on_signals().context("cannot listen for Ctrl-C")?;
    let settings = MembershipSettings {
        shadow_runs: args.shadow_runs,
        targets: args.targets,
        n_threads: n_threads(args.threads),
    };
    let prepared = Prepared::new(experiment)?;
    let rounds = prepared.plan.settings().rounds * (u64::from(args.shadow_runs) + 1);
    let bar = Bar::new(rounds, 0, "rounds of all runs");
    let found = membership(&prepared, &settings, |_, _| bar.advance(), &stop)?;
    bar.finish();
    leave(&found, attacked.out.as_deref(), attacked.json, || {
        describe(&found)
    })?;
    Ok(exit_code(found.exceeds_claim))
}

fn describe(found: &Membership) -> String {
    let epsilon = found
        .epsilon
        .map_or_else(|| "infinite".to_owned(), |epsilon| format!("{epsilon:.4}"));
    let roc = &found.roc;
    let mut lines = vec![
        format!(
            "\n{}: whose data was the final model trained on? {} targets, {} shadow runs; seed {}",
            found.name, found.targets, found.shadow_runs, found.seed
        ),
        format!("  claimed        ε = {epsilon} at δ = {:e}", found.delta),
        format!(
            "  measured       ε is at least {:.4}, with confidence {} ({}; {} of {} guesses right); a lower bound, no guarantee",
            found.epsilon_lower_bound,
            found.confidence,
            found.method,
            found.guesses.correct,
            found.guesses.made
        ),
        format!(
            "  verdict        {}",
            if found.exceeds_claim {
                format!("EXCEEDS THE CLAIM, with confidence {}", found.alarm_confidence)
            } else {
                "nothing found that contradicts the claim".to_owned()
            }
        ),
        format!(
            "  told apart     area under the curve {:.4} over {} members and {} others of all runs; an estimate, 0.5 is blind",
            roc.area, roc.members, roc.others
        ),
        format!(
            "  {:>18} {:>18} {:>22}",
            "false positives", "members found", "allowed by the claim"
        ),
    ];
    lines.extend(roc.points.iter().map(|point| {
        let allowed = point
            .allowed
            .map_or_else(|| "everything".to_owned(), |allowed| format!("{allowed:.4}"));
        format!(
            "  {:>18} {:>18.4} {allowed:>22}",
            format!("at most {}", point.false_positive_rate),
            point.true_positive_rate
        )
    }));
    lines.push(format!(
        "  promise        unit {}, {} of one, trust {}, SIMULATED (coins and noise come from the seed)",
        found.unit, found.neighbors, found.trust
    ));
    lines.push(format!("  threat model   {}", found.threat_model));
    lines.push("  differs from the experiment's own run".to_owned());
    lines.extend(found.differs.iter().map(|item| format!("    - {item}")));
    lines.push("  not covered".to_owned());
    lines.extend(found.not_covered.iter().map(|item| format!("    - {item}")));
    lines.join("\n")
}
