//! `umbel budget steps`.

use umbel_accounting::calibrate;

use super::number::{text, upper};
use super::{answer, plan::Terms};
use crate::args::budget::StepsArgs;

pub(super) fn run(args: &StepsArgs) -> anyhow::Result<()> {
    let terms = Terms::new(&args.terms)?;
    let (target, noise) = (args.epsilon.epsilon, args.noise.noise_multiplier);
    let step = terms.step(noise);
    let steps = calibrate::steps(target, terms.delta, terms.accountant, terms.relation, &step)?;
    if steps == 0 {
        let one = terms.bounds(&step, 1)?;
        anyhow::bail!(
            "not even one step fits: it costs epsilon {} at delta {}, above {}",
            upper(one.upper.value()),
            text(terms.delta.value()),
            text(target.value())
        );
    }
    let bounds = terms.bounds(&step, steps)?;
    let noun = if steps == 1 { "step keeps" } else { "steps keep" };
    let heading = format!("{steps} {noun} ε within {}", text(target.value()));
    answer::print(Some(heading), &terms, noise, steps, bounds, args.json)
}
