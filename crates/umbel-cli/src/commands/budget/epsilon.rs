//! `umbel budget epsilon`.

use super::answer;
use super::plan::Terms;
use crate::args::budget::EpsilonArgs;

pub(super) fn run(args: &EpsilonArgs) -> anyhow::Result<()> {
    let terms = Terms::new(&args.terms)?;
    let (noise, steps) = (args.noise.noise_multiplier, args.steps.steps);
    let bounds = terms.bounds(&terms.step(noise), steps)?;
    answer::print(None, &terms, noise, steps, bounds, args.json)
}
