//! `umbel audit mechanism`.

use std::process::ExitCode;

use umbel_attack::{MechanismVerdict, OwnAggregation, attack_mechanism, gaussian, worst_neighbors};
use umbel_mechanisms::SimulationSeed;
use umbel_sim::Prepared;

use super::attack::{epsilon, exit_code, judged, leave, read};
use crate::args::audit::MechanismArgs;
use crate::output::Bar;

pub(crate) fn run(args: &MechanismArgs) -> anyhow::Result<ExitCode> {
    let attacked = &args.attacked;
    let prepared = Prepared::new(read(attacked)?)?;
    let settings = prepared.plan.settings();
    let mechanism = gaussian(&settings.mechanism)?;
    let pairs = worst_neighbors(mechanism.quantizer().clip_norm().value());
    let bar = Bar::new(pairs.len() as u64, 0, "pairs of neighbours");
    let found = attack_mechanism(
        &OwnAggregation::new(mechanism.clone(), SimulationSeed::new(prepared.seed)),
        &pairs,
        mechanism.noise_multiplier().map(|multiplier| multiplier.value()),
        settings.delta,
        args.trials,
        |_, _| bar.advance(),
    )?;
    bar.finish();
    leave(&found, attacked.out.as_deref(), attacked.json, || {
        describe(&found)
    })?;
    Ok(exit_code(found.exceeds_claim))
}

fn describe(found: &MechanismVerdict) -> String {
    let mut lines = vec![
        format!(
            "one application of clip, sum, noise and division, {} times with and without a target for each pair",
            found.trials
        ),
        format!(
            "  claimed        ε = {} at δ = {:e}, one round, everybody takes part",
            epsilon(found.epsilon),
            found.delta
        ),
        format!(
            "  measured       ε is at least {:.4}, with confidence {} over all pairs; a lower bound, no guarantee",
            found.epsilon_lower_bound, found.confidence
        ),
        format!(
            "  verdict        {}",
            judged(found.exceeds_claim, found.alarm_confidence)
        ),
        format!(
            "  {:<34} {:>14} {:>16} {:>24}",
            "neighbours", "gaussian-score", "clopper-pearson", "clopper-pearson gaussian"
        ),
    ];
    lines.extend(found.pairs.iter().map(|pair| {
        format!(
            "    {:<32} {:>14.4} {:>16.4} {:>24.4}",
            pair.name, pair.gaussian_score, pair.clopper_pearson, pair.clopper_pearson_gaussian
        )
    }));
    lines.join("\n")
}
