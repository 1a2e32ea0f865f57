//! `umbel budget noise`.

use umbel_accounting::{DpEvent, EpsilonBounds, NoiseMultiplier, calibrate};

use super::number::{self, text};
use super::{answer, plan::Terms};
use crate::args::budget::NoiseArgs;

/// The answer has so many significant digits, about as many as the search settles.
const DIGITS: i32 = 7;

pub(super) fn run(args: &NoiseArgs) -> anyhow::Result<()> {
    let terms = Terms::new(&args.terms)?;
    let (target, steps) = (args.epsilon.epsilon, args.steps.steps);
    let plan = |noise| DpEvent::Repeated {
        event: Box::new(terms.step(noise)),
        count: steps,
    };
    let found = calibrate::noise_multiplier(target, terms.delta, terms.accountant, terms.relation, &plan)?;
    let certified = |noise| -> anyhow::Result<Option<EpsilonBounds>> {
        let bounds = terms.bounds(&plan(noise), 1)?;
        Ok((bounds.upper <= target).then_some(bounds))
    };
    // A short number, rounded up; the search's own where that should not be within the target.
    let short = NoiseMultiplier::new(number::up(found.value(), DIGITS)).unwrap_or(found);
    let (noise, bounds) = match certified(short)? {
        Some(bounds) => (short, bounds),
        None => match certified(found)? {
            Some(bounds) => (found, bounds),
            None => {
                anyhow::bail!("noise multiplier {found} was found, but does not keep epsilon within {target}")
            }
        },
    };
    let heading = format!(
        "noise multiplier {} keeps ε within {}",
        text(noise.value()),
        text(target.value())
    );
    answer::print(Some(heading), &terms, noise, steps, bounds, args.json)
}
