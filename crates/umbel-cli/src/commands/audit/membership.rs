//! `umbel audit membership`.

use std::process::ExitCode;

use anyhow::Context as _;
use umbel_attack::{Membership, MembershipSettings, membership};
use umbel_sim::Prepared;

use super::attack::{circumstances, epsilon, exit_code, judged, leave, n_threads, read};
use crate::args::audit::MembershipArgs;
use crate::commands::stop;
use crate::output::Bar;

pub(crate) fn run(args: &MembershipArgs) -> anyhow::Result<ExitCode> {
    let attacked = &args.attacked;
    let stop = stop::on_signals().context("cannot listen for Ctrl-C")?;
    let settings = MembershipSettings {
        shadow_runs: args.shadow_runs,
        targets: args.targets,
        n_threads: n_threads(args.threads),
    };
    let prepared = Prepared::new(read(attacked)?)?;
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
    let roc = &found.roc;
    let mut lines = vec![
        format!(
            "\n{}: whose data was the final model trained on? {} targets, {} shadow runs; seed {}",
            found.name, found.targets, found.shadow_runs, found.seed
        ),
        format!(
            "  claimed        ε = {} at δ = {:e}",
            epsilon(found.epsilon),
            found.delta
        ),
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
            judged(found.exceeds_claim, found.alarm_confidence)
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
    let terms = [found.unit, found.neighbors, found.trust, found.threat_model];
    lines.extend(circumstances(terms, &found.differs, &found.not_covered));
    lines.join("\n")
}
